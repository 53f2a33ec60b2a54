//! Integers beyond 64 bits: sign and magnitude, as on the wire.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use crate::term::Term;

/// An integer that does not fit an `i64`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BigInteger<'a> {
    negative: bool,
    /// Little-endian; the last byte is not zero.
    magnitude: Cow<'a, [u8]>,
}

/// Magnitudes longer than this are printed in base 16, which takes time in proportion to the
/// length; base 10 takes its square.
const DECIMAL_BYTES_MAX: usize = 4096;

impl<'a> BigInteger<'a> {
    /// The integer of a sign and a little-endian magnitude that is beyond an `i64`.
    pub(crate) fn new(negative: bool, magnitude: Cow<'a, [u8]>) -> Self {
        let magnitude = without_zeros(magnitude);
        Self { negative, magnitude }
    }

    /// The integer of a sign and a little-endian magnitude, as a term: it may well fit an `i64`.
    pub fn term_from_magnitude(negative: bool, magnitude: impl Into<Cow<'a, [u8]>>) -> Term<'a> {
        let big = Self::new(negative, magnitude.into());
        match big.as_i128().map(i64::try_from) {
            Some(Ok(small)) => Term::Integer(small),
            _ => Term::BigInteger(Box::new(big)),
        }
    }

    /// Any 128-bit integer as a term.
    pub fn term_from_i128(value: i128) -> Term<'a> {
        Self::term_from_magnitude(value < 0, value.unsigned_abs().to_le_bytes().to_vec())
    }

    /// Whether it is below zero.
    pub fn is_negative(&self) -> bool {
        self.negative
    }

    /// The absolute value, little-endian, without zeros at the end.
    pub fn magnitude(&self) -> &[u8] {
        &self.magnitude
    }

    /// The value, if it fits.
    pub fn as_i128(&self) -> Option<i128> {
        let magnitude = self.magnitude_u128()?;
        if self.negative {
            0_i128.checked_sub_unsigned(magnitude)
        } else {
            magnitude.try_into().ok()
        }
    }

    /// The value, if it fits.
    pub fn as_u128(&self) -> Option<u128> {
        self.magnitude_u128().filter(|_| !self.negative)
    }

    fn magnitude_u128(&self) -> Option<u128> {
        let mut bytes = [0; 16];
        bytes.get_mut(..self.magnitude.len())?.copy_from_slice(&self.magnitude);
        Some(u128::from_le_bytes(bytes))
    }

    /// Decimal digits, or `prefix` and hexadecimal ones for a giant.
    pub(crate) fn print(&self, prefix: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.negative {
            f.write_str("-")?;
        }
        if self.magnitude.len() <= DECIMAL_BYTES_MAX {
            return f.write_str(&decimal(&self.magnitude));
        }
        f.write_str(prefix)?;
        self.magnitude.iter().rev().try_for_each(|byte| write!(f, "{byte:02x}"))
    }

    /// The same integer, borrowing nothing.
    pub fn into_owned(self) -> BigInteger<'static> {
        BigInteger { negative: self.negative, magnitude: Cow::Owned(self.magnitude.into_owned()) }
    }
}

fn without_zeros(magnitude: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
    let length = magnitude.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    match magnitude {
        Cow::Borrowed(bytes) => Cow::Borrowed(&bytes[..length]),
        Cow::Owned(mut bytes) => {
            bytes.truncate(length);
            Cow::Owned(bytes)
        }
    }
}

impl fmt::Display for BigInteger<'_> {
    /// Erlang source text: decimal digits, or `16#` and hexadecimal ones for a giant.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.print("16#", f)
    }
}

/// Nineteen decimal digits at a time.
fn decimal(magnitude: &[u8]) -> String {
    const CHUNK: u128 = 10_u128.pow(19);
    let mut limbs: Vec<u64> = limbs(magnitude);
    let mut chunks = Vec::new();
    while !limbs.is_empty() {
        let mut remainder = 0_u128;
        for limb in limbs.iter_mut().rev() {
            let value = (remainder << 64) | u128::from(*limb);
            *limb = u64::try_from(value / CHUNK).expect("the remainder is below the divisor");
            remainder = value % CHUNK;
        }
        chunks.push(remainder);
        while limbs.last() == Some(&0) {
            limbs.pop();
        }
    }
    let mut digits = chunks.pop().unwrap_or(0).to_string();
    for chunk in chunks.iter().rev() {
        digits.push_str(&format!("{chunk:019}"));
    }
    digits
}

fn limbs(magnitude: &[u8]) -> Vec<u64> {
    magnitude
        .chunks(8)
        .map(|chunk| {
            let mut bytes = [0; 8];
            bytes[..chunk.len()].copy_from_slice(chunk);
            u64::from_le_bytes(bytes)
        })
        .collect()
}
