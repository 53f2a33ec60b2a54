//! Digits into numbers.

use alloc::vec::Vec;

use super::Fault;
use crate::integer::BigInteger;
use crate::term::Term;

/// Longest integer in a base that is no power of two, in digits: converting takes time in
/// proportion to the square of the length. No longer one is printed.
const DIGITS_MAX: usize = 10_000;

/// The integer that `digits` (underscores allowed) are in `base`, as a magnitude.
pub(super) fn magnitude(digits: &str, base: u32, offset: usize) -> Result<Vec<u8>, Fault> {
    let digits = digits.chars().filter(|each| *each != '_');
    let digits: Vec<u32> = digits.map_while(|each| each.to_digit(base)).collect();
    if base == 16 {
        return Ok(hexadecimal(&digits));
    }
    if digits.len() > DIGITS_MAX {
        return Err(Fault::new(
            offset,
            format_args!("more than {DIGITS_MAX} digits; base 16 may have more"),
        ));
    }
    Ok(general(&digits, base))
}

fn hexadecimal(digits: &[u32]) -> Vec<u8> {
    digits
        .rchunks(2)
        .map(|pair| {
            let value = pair.iter().fold(0, |value, digit| value * 16 + digit);
            u8::try_from(value).expect("two hexadecimal digits")
        })
        .collect()
}

/// As many digits at a time as 32 bits hold.
fn general(digits: &[u32], base: u32) -> Vec<u8> {
    let at_once = (1..).take_while(|count| base.checked_pow(*count).is_some()).count();
    let mut limbs: Vec<u32> = Vec::new();
    for chunk in digits.chunks(at_once) {
        let (scale, value) = chunk.iter().fold((1_u64, 0_u64), |(scale, value), digit| {
            (scale * u64::from(base), value * u64::from(base) + u64::from(*digit))
        });
        let mut carry = value;
        for limb in &mut limbs {
            carry += u64::from(*limb) * scale;
            *limb = low(carry);
            carry >>= 32;
        }
        if carry > 0 {
            limbs.push(low(carry));
        }
    }
    limbs.iter().flat_map(|limb| limb.to_le_bytes()).collect()
}

fn low(value: u64) -> u32 {
    u32::try_from(value & u64::from(u32::MAX)).expect("32 bits are left")
}

/// A number as it was written, without its sign.
#[derive(Debug)]
pub(super) enum Number {
    /// Little-endian.
    Integer(Vec<u8>),
    Float(f64),
}

impl Number {
    /// The number of a character.
    pub(super) fn character(character: char) -> Self {
        Self::Integer(u32::from(character).to_le_bytes().to_vec())
    }

    /// The number, negated or not, as a term.
    pub(super) fn term(self, negative: bool) -> Term<'static> {
        match self {
            Self::Integer(magnitude) => BigInteger::term_from_magnitude(negative, magnitude),
            Self::Float(value) if negative => Term::Float(-value),
            Self::Float(value) => Term::Float(value),
        }
    }
}
