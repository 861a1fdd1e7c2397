#!/usr/bin/env bash
# `tests/classpath.sh FOLDER NAME`: prints a class path with what tests/FOLDER/pom.xml lists, fetched once by Maven and kept outside
# the checkout. Prints nothing, and says why on standard error, where Maven is missing: the tests that need it then say that they
# were skipped.
set -euo pipefail
cd "$(dirname "$0")/$1"
cache="${KAPPA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kappa}/$1"
folder="$cache/$(sha256sum pom.xml | cut -c1-12)"
if [ ! -d "$folder" ]; then
  if ! command -v mvn >/dev/null; then
    echo "SKIPPED: Maven is missing, which fetches $2" >&2
    exit 0
  fi
  echo "fetching $2, once for this machine" >&2
  mkdir -p "$cache"
  work="$(mktemp -d "$cache/fetching.XXXXXX")"
  trap 'rm -rf "$work"' EXIT
  if ! mvn -q -B -f pom.xml dependency:copy-dependencies -DoutputDirectory="$work" >&2; then
    echo "SKIPPED: Maven could not fetch $2" >&2
    exit 0
  fi
  mv -T "$work" "$folder" 2>/dev/null || [ -d "$folder" ] # somebody else was quicker
fi
echo "$folder/*"
