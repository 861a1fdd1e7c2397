# Sourced by the Makefile's recipes and by hand: where builds go, and what makes them quick. Overridable by the caller.
export KAPPA_CACHE="${KAPPA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kappa}"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$KAPPA_CACHE/target}"
if [ -z "${ROCKSDB_LIB_DIR:-}" ]; then
  ROCKSDB_LIB_DIR="$(bash tools/rocksdb.sh)" || return 1
  export ROCKSDB_LIB_DIR
fi
export ROCKSDB_STATIC=1
# mold links in a second what bfd links in ten.
if command -v mold >/dev/null; then export RUSTFLAGS="${RUSTFLAGS:--Clink-arg=-fuse-ld=mold}"; fi
