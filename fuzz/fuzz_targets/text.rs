//! See `tank_fuzz::text`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tank_fuzz::text::holds(input));
