//! See `tank_fuzz::terms`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tank_fuzz::terms::holds(input));
