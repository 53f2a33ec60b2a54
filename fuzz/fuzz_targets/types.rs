//! See `tank_fuzz::types`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tank_fuzz::types::holds(input));
