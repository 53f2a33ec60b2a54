//! Bytes into terms: the codec's laws, and what reading may cost.

use erlang_term_format::{Limits, decode, decode_with};

use crate::{laws, memory};

/// Panics if reading `input` panics, costs more memory than it may, or breaks a law.
pub fn holds(input: &[u8]) {
    let (read, peak) = memory::peak_of(|| decode(input).is_ok());
    assert!(peak <= allowed(input), "{peak} bytes to read {} (read: {read})", input.len());
    holds_within_tight_limits(input);
    laws::hold_for_bytes(input);
}

/// A limit refuses, and changes nothing else.
fn holds_within_tight_limits(input: &[u8]) {
    let limits = Limits { bytes_max: 256, depth_max: 4, nodes_max: 32 };
    if let Ok(term) = decode_with(input, &limits) {
        assert_eq!(decode(input), Ok(term));
    }
}

/// Times the input, beside a constant.
const BYTES_EACH: usize = 48;
const BYTES: usize = 16 << 10;

/// The most memory that reading `input` may take.
pub(crate) fn allowed(input: &[u8]) -> usize {
    BYTES + BYTES_EACH * (input.len() + inflated(input))
}

/// What a compressed term says that it inflates to, if it is possible.
fn inflated(input: &[u8]) -> usize {
    /// Deflate never makes more of one byte.
    const RATIO_MAX: usize = 1032;
    match input {
        [131, 80, a, b, c, d, stream @ ..] => {
            let claimed = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
            if claimed <= stream.len() * RATIO_MAX { claimed } else { 0 }
        }
        _ => 0,
    }
}
