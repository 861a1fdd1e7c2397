#!/usr/bin/env bash
# Installs the system packages that the build needs and this machine lacks; says what is missing where it cannot.
# With the word `kafka`: those that Apache Kafka's brokers need, in tests and in the demo with Kafka. With the word `catalogs`: those of the
# catalogs' servers.
set -euo pipefail

java_works() { # Kafka needs Java 17
  local version
  version="$(java -version 2>&1 | sed -nE 's/.* version "([0-9]+).*/\1/p')"
  [ "${version:-0}" -ge 17 ]
}
java_package() { # jre or jdk; not Debian's default ones, which are Java 11 in some releases
  local number
  for number in 21 17 25; do
    if [ -n "$(apt-cache pkgnames "openjdk-$number-$1-headless" 2>/dev/null)" ]; then echo "openjdk-$number-$1-headless"; return; fi
  done
  echo "default-$1-headless"
}

missing=()
if [ "${1:-}" = kafka ]; then
  java_works || missing+=(JAVA)
  command -v mvn >/dev/null || missing+=(maven)
  command -v openssl >/dev/null || missing+=(openssl)
elif [ "${1:-}" = catalogs ]; then
  { java_works && command -v javac >/dev/null; } || missing+=(JDK)
  command -v mvn >/dev/null || missing+=(maven)
  # Debian keeps the server off the search path.
  command -v postgres >/dev/null || [ -n "$(compgen -G '/usr/lib/postgresql/*/bin/postgres' || true)" ] || missing+=(postgresql)
else
  command -v g++ >/dev/null || missing+=(g++)
  command -v mold >/dev/null || missing+=(mold)
  command -v cmake >/dev/null || missing+=(cmake)
  # bindgen looks for these names; libclang-cpp is another library.
  libclang=""
  for name in 'libclang.so*' 'libclang-[0-9]*.so*'; do
    libclang+="$(compgen -G "/usr/lib/llvm-*/lib/$name" || compgen -G "/usr/lib*/$name" || compgen -G "/usr/lib/*/$name" || true)"
  done
  [ -n "$libclang" ] || missing+=(libclang-dev)
  pkg-config --exists openssl 2>/dev/null || missing+=(pkg-config libssl-dev)
  pkg-config --exists libcurl 2>/dev/null || missing+=(libcurl4-openssl-dev)
  "${PYTHON:-python3}" -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
fi

if [ "${#missing[@]}" -gt 0 ]; then
  as_root=()
  if [ "$(id -u)" != 0 ]; then as_root=(sudo -n); fi
  if command -v apt-get >/dev/null && { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }; then
    echo "installing system packages: ${missing[*]}" >&2
    "${as_root[@]}" apt-get update -qq
    missing=("${missing[@]/JAVA/$(java_package jre)}")
    missing=("${missing[@]/JDK/$(java_package jdk)}")
    DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq "${missing[@]}" >/dev/null
  else
    missing=("${missing[@]/JDK/a headless Java development kit, 17 or newer}")
    echo "missing system packages (Debian's names): ${missing[*]/JAVA/a headless Java 17 or newer}; install them, then run make again" >&2
    exit 1
  fi
fi

if ! command -v cargo >/dev/null; then
  echo "missing Rust 1.90 or newer: install it with rustup (https://rustup.rs), then run make again" >&2
  exit 1
fi
