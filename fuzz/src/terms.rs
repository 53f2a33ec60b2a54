//! Bytes into terms: the codec's laws, and what reading may cost.

use erlang_term_format::{Limits, Term, decode, decode_with, from_slice};
use serde::de::IgnoredAny;

use crate::{laws, memory};

/// Panics if reading `input` panics, costs more memory than it may, or breaks a law.
pub fn holds(input: &[u8]) {
    takes_little(input, |input| drop(decode(input)));
    takes_little(input, |input| drop(from_slice::<Term>(input)));
    takes_little(input, |input| drop(from_slice::<IgnoredAny>(input)));
    holds_within_tight_limits(input);
    laws::hold_for_bytes(input);
}

fn takes_little(input: &[u8], read: impl FnOnce(&[u8])) {
    let ((), peak) = memory::peak_of(|| read(input));
    assert!(peak <= allowed(input), "{peak} bytes to read {}", input.len());
}

/// A limit refuses, and changes nothing else.
fn holds_within_tight_limits(input: &[u8]) {
    let limits = Limits { bytes_max: 256, depth_max: 4, nodes_max: 32 };
    if let Ok(term) = decode_with(input, &limits) {
        assert_eq!(decode(input), Ok(term));
    }
}

/// The most memory that reading `input` may take, as [`Limits`] says.
pub(crate) fn allowed(input: &[u8]) -> usize {
    32 * input.len() + (3 << 20)
}
