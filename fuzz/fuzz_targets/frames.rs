//! See `tank_fuzz::frames`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tank_fuzz::frames::holds(input));
