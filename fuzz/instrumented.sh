#!/bin/bash
# RUSTC_WRAPPER of a build for libFuzzer with the stable compiler: counts the edges of kappa and of the targets, and of nothing
# else, so that what they depend on is built as ever. LLVM's pass needs no nightly compiler; a sanitizer would, and finds little
# where there is no unsafe code.
rustc=$1
shift
for ((at = 1; at < $#; at++)); do
  next=$((at + 1))
  [[ ${!at} == --crate-name ]] && name=${!next}
done
if [[ $name == kappa || ${CARGO_PKG_NAME:-} == kappa-fuzz ]]; then
  set -- "$@" --cfg fuzzing -Cpasses=sancov-module
  for option in level=4 inline-8bit-counters pc-table trace-compares; do
    set -- "$@" "-Cllvm-args=-sanitizer-coverage-$option"
  done
fi
exec "$rustc" "$@"
