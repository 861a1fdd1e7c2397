#![no_main]

#[path = "../../tests/rust/fuzz/targets/mod.rs"]
#[allow(dead_code)]
mod targets;

libfuzzer_sys::fuzz_target!(|input: &[u8]| (targets::named("log").run)(input));
