#!/usr/bin/env bash
# Prints a class path with Apache Kafka's tools, fetched once by Maven and kept outside the checkout. Prints nothing, and
# says why on standard error, where Java or Maven is missing: the tests that need it then say that they were skipped.
set -euo pipefail
cd "$(dirname "$0")"
cache="${KAPPA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kappa}"
if ! command -v java >/dev/null || ! command -v mvn >/dev/null; then
  echo "SKIPPED: Java or Maven is missing; segments are not checked with Kafka's own tools" >&2
  exit 0
fi
folder="$cache/kafka/$(sha256sum pom.xml | cut -c1-12)"
if [ ! -d "$folder" ]; then
  echo "fetching Apache Kafka's tools, once for this machine" >&2
  mkdir -p "$cache/kafka"
  work="$(mktemp -d "$cache/kafka/fetching.XXXXXX")"
  trap 'rm -rf "$work"' EXIT
  if ! mvn -q -f pom.xml dependency:copy-dependencies -DoutputDirectory="$work" >&2; then
    echo "SKIPPED: Maven could not fetch Apache Kafka's tools" >&2
    exit 0
  fi
  mv "$work" "$folder"
fi
echo "$folder/*"
