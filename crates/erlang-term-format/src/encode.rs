//! From terms to bytes, as OTP 26 and later write them.

use alloc::vec::Vec;

use crate::error::EncodeError;
use crate::integer::BigInteger;
use crate::tag;
use crate::term::Term;

type Result<T> = core::result::Result<T, EncodeError>;

/// Room for a small message, so that few have to move while they are written.
pub(crate) const CAPACITY: usize = 2_048;

/// Writes a term, version byte included.
///
/// The bytes are those of `term_to_binary/1` since OTP 26, but for the order of a map's
/// entries, which is kept; after [`Term::sort_maps`] they are those of its option
/// `deterministic`.
///
/// # Panics
///
/// If the term has no Erlang form; see [`try_encode_into`]. No decoded term is such a one.
pub fn encode(term: &Term<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(CAPACITY);
    encode_into(term, &mut out);
    out
}

/// Appends a term, version byte included.
///
/// # Panics
///
/// As [`encode`].
pub fn encode_into(term: &Term<'_>, out: &mut Vec<u8>) {
    if let Err(error) = try_encode_into(term, out) {
        panic!("encode a term: {error}");
    }
}

/// Appends a term, version byte included.
///
/// # Errors
///
/// If the term has no Erlang form: a float that is not finite, an atom of more than 255
/// characters, a length of more than 32 bits. What was appended till then stays.
pub fn try_encode_into(term: &Term<'_>, out: &mut Vec<u8>) -> Result<()> {
    out.push(tag::VERSION);
    write_term(term, out)
}

/// Appends a term without version byte.
pub(crate) fn write_term(term: &Term<'_>, out: &mut Vec<u8>) -> Result<()> {
    match term {
        Term::Atom(text) => write_atom(text, out),
        Term::Integer(value) => {
            write_integer(*value, out);
            Ok(())
        }
        Term::BigInteger(big) => write_big(big, out),
        Term::Float(value) => write_float(*value, out),
        Term::Binary(bytes) => write_binary(bytes, out),
        Term::BitString { bytes, last_bits } => write_bits(bytes, *last_bits, out),
        Term::List(elements) => write_list(elements, out),
        Term::ImproperList(elements, tail) => {
            write_length(tag::LIST_EXT, elements.len(), out)?;
            write_each(elements, out)?;
            write_term(tail, out)
        }
        Term::Tuple(elements) => {
            write_tuple_head(elements.len(), out)?;
            write_each(elements, out)
        }
        Term::Map(entries) => {
            write_length(tag::MAP_EXT, entries.len(), out)?;
            entries.iter().try_for_each(|(key, value)| {
                write_term(key, out)?;
                write_term(value, out)
            })
        }
        Term::Opaque(opaque) => {
            out.extend_from_slice(opaque.encoded());
            Ok(())
        }
    }
}

fn write_each(elements: &[Term<'_>], out: &mut Vec<u8>) -> Result<()> {
    elements.iter().try_for_each(|element| write_term(element, out))
}

/// A tag and a 32-bit length take as many.
const LENGTH_BYTES: usize = 5;

/// A tag and a 32-bit length.
#[inline]
pub(crate) fn write_length(tag: u8, length: usize, out: &mut Vec<u8>) -> Result<()> {
    let [a, b, c, d] = u32_bytes(length)?;
    out.extend_from_slice(&[tag, a, b, c, d]);
    Ok(())
}

pub(crate) fn u32_bytes(length: usize) -> Result<[u8; 4]> {
    let short = u32::try_from(length).map_err(|_| EncodeError::TooLong(length))?;
    Ok(short.to_be_bytes())
}

#[inline(always)]
pub(crate) fn write_atom(text: &str, out: &mut Vec<u8>) -> Result<()> {
    match u8::try_from(text.len()) {
        Ok(length) => {
            out.reserve(2 + text.len());
            out.extend_from_slice(&[tag::SMALL_ATOM_UTF8_EXT, length]);
            out.extend_from_slice(text.as_bytes());
            Ok(())
        }
        Err(_) => write_long_atom(text, out),
    }
}

/// An atom of more than 255 bytes.
#[cold]
fn write_long_atom(text: &str, out: &mut Vec<u8>) -> Result<()> {
    let characters = text.chars().count();
    match u16::try_from(text.len()) {
        Ok(length) if characters <= tag::ATOM_CHARACTERS_MAX => {
            out.push(tag::ATOM_UTF8_EXT);
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(text.as_bytes());
            Ok(())
        }
        _ => Err(EncodeError::AtomTooLong(characters)),
    }
}

#[inline]
pub(crate) fn write_integer(value: i64, out: &mut Vec<u8>) {
    if let Ok(byte) = u8::try_from(value) {
        out.extend_from_slice(&[tag::SMALL_INTEGER_EXT, byte]);
    } else if let Ok(word) = i32::try_from(value) {
        let [a, b, c, d] = word.to_be_bytes();
        out.extend_from_slice(&[tag::INTEGER_EXT, a, b, c, d]);
    } else {
        write_small_big(value < 0, &value.unsigned_abs().to_le_bytes(), out);
    }
}

/// An integer of up to 16 bytes that does not fit 32 bits.
pub(crate) fn write_small_big(negative: bool, magnitude: &[u8], out: &mut Vec<u8>) {
    let zeros = magnitude.iter().rev().take_while(|byte| **byte == 0).count();
    let digits = &magnitude[..magnitude.len() - zeros];
    let length = u8::try_from(digits.len()).expect("the magnitude of a machine integer");
    out.extend_from_slice(&[tag::SMALL_BIG_EXT, length, negative.into()]);
    out.extend_from_slice(digits);
}

fn write_big(big: &BigInteger<'_>, out: &mut Vec<u8>) -> Result<()> {
    let magnitude = big.magnitude();
    match u8::try_from(magnitude.len()) {
        Ok(length) => out.extend_from_slice(&[tag::SMALL_BIG_EXT, length]),
        Err(_) => write_length(tag::LARGE_BIG_EXT, magnitude.len(), out)?,
    }
    out.push(big.is_negative().into());
    out.extend_from_slice(magnitude);
    Ok(())
}

pub(crate) fn write_float(value: f64, out: &mut Vec<u8>) -> Result<()> {
    if !value.is_finite() {
        return Err(EncodeError::Float);
    }
    out.push(tag::NEW_FLOAT_EXT);
    out.extend_from_slice(&value.to_be_bytes());
    Ok(())
}

#[inline]
pub(crate) fn write_binary(bytes: &[u8], out: &mut Vec<u8>) -> Result<()> {
    out.reserve(LENGTH_BYTES + bytes.len());
    write_length(tag::BINARY_EXT, bytes.len(), out)?;
    out.extend_from_slice(bytes);
    Ok(())
}

fn write_bits(bytes: &[u8], last_bits: u8, out: &mut Vec<u8>) -> Result<()> {
    if bytes.is_empty() || !(1..=7).contains(&last_bits) {
        return Err(EncodeError::LastBits(last_bits));
    }
    write_length(tag::BIT_BINARY_EXT, bytes.len(), out)?;
    out.push(last_bits);
    out.extend_from_slice(bytes);
    Ok(())
}

#[inline]
pub(crate) fn write_tuple_head(arity: usize, out: &mut Vec<u8>) -> Result<()> {
    match u8::try_from(arity) {
        Ok(arity) => {
            out.extend_from_slice(&[tag::SMALL_TUPLE_EXT, arity]);
            Ok(())
        }
        Err(_) => write_length(tag::LARGE_TUPLE_EXT, arity, out),
    }
}

fn write_list(elements: &[Term<'_>], out: &mut Vec<u8>) -> Result<()> {
    let mut list = ListWriter::start(out);
    for element in elements {
        let from = out.len();
        write_term(element, out)?;
        list.wrote(from, out);
    }
    list.finish(out)
}

/// A list whose length is not known beforehand, in the form that the BEAM would choose: a list
/// of bytes becomes a STRING_EXT.
pub(crate) struct ListWriter {
    start: usize,
    length: usize,
    all_bytes: bool,
}

impl ListWriter {
    pub(crate) fn start(out: &mut Vec<u8>) -> Self {
        let start = out.len();
        out.extend_from_slice(&[tag::LIST_EXT, 0, 0, 0, 0]);
        Self { start, length: 0, all_bytes: true }
    }

    /// One element has been written, from `from` on.
    pub(crate) fn wrote(&mut self, from: usize, out: &[u8]) {
        self.length += 1;
        self.all_bytes &= matches!(out[from..], [tag::SMALL_INTEGER_EXT, _]);
    }

    /// How many elements have been written.
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    pub(crate) fn finish(self, out: &mut Vec<u8>) -> Result<()> {
        if self.length == 0 {
            out.truncate(self.start);
            out.push(tag::NIL_EXT);
            return Ok(());
        }
        match u16::try_from(self.length) {
            Ok(length) if self.all_bytes => {
                self.shrink(length, out);
                Ok(())
            }
            _ => {
                let length = u32_bytes(self.length)?;
                out[self.start + 1..self.start + LENGTH_BYTES].copy_from_slice(&length);
                out.push(tag::NIL_EXT);
                Ok(())
            }
        }
    }

    fn shrink(&self, length: u16, out: &mut Vec<u8>) {
        let [high, low] = length.to_be_bytes();
        out[self.start..self.start + 3].copy_from_slice(&[tag::STRING_EXT, high, low]);
        for index in 0..self.length {
            out[self.start + 3 + index] = out[self.start + LENGTH_BYTES + 2 * index + 1];
        }
        out.truncate(self.start + 3 + self.length);
    }
}
