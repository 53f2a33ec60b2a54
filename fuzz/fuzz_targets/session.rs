//! See `tank_fuzz::session`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tank_fuzz::session::holds(input));
