//! See `tank_fuzz::requests`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tank_fuzz::requests::holds(input));
