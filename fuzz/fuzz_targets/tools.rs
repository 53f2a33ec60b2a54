//! See `tank_fuzz::tools`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tank_fuzz::tools::holds(input));
