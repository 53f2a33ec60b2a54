//! From bytes to a tree of terms.

use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::result::Result as StdResult;

use crate::error::{DecodeError, Step};
use crate::inflate::{Content, open};
use crate::integer::BigInteger;
use crate::limits::Limits;
use crate::list::{Piece, Pieces};
use crate::reader::{Head, Reader, Result};
use crate::seen::SeenKeys;
use crate::term::{Opaque, Term};

/// Reads one term, version byte included, within the default [`Limits`].
///
/// The term borrows its binaries and atoms from `bytes`, unless it was compressed.
///
/// # Errors
///
/// Anything but exactly one well-formed term.
pub fn decode(bytes: &[u8]) -> StdResult<Term<'_>, DecodeError> {
    decode_with(bytes, &Limits::default())
}

/// Reads one term, version byte included, within `limits`.
///
/// # Errors
///
/// Anything but exactly one well-formed term within `limits`.
pub fn decode_with<'a>(bytes: &'a [u8], limits: &Limits) -> StdResult<Term<'a>, DecodeError> {
    read(bytes, limits).map_err(|error| *error)
}

fn read<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Term<'a>> {
    match open(bytes, limits)? {
        Content::Plain(mut reader) => read_last_term(&mut reader),
        Content::Inflated(content, budget) => {
            let term = read_last_term(&mut budget.instead(&content))?;
            Ok(term.into_owned())
        }
    }
}

/// Reads one term that was made or checked by this crate, without version byte.
pub(crate) fn read_admitted(bytes: &[u8]) -> Result<Term<'_>> {
    read_last_term(&mut Reader::admitted(bytes))
}

fn read_last_term<'b>(reader: &mut Reader<'b>) -> Result<Term<'b>> {
    let term = read_term(reader)?;
    reader.finish()?;
    Ok(term)
}

/// Reads one term.
pub(crate) fn read_term<'b>(reader: &mut Reader<'b>) -> Result<Term<'b>> {
    Ok(match reader.head()? {
        Head::Atom(text) => Term::Atom(text),
        Head::Integer(value) => Term::Integer(value),
        Head::Big(negative, magnitude) => BigInteger::term_from_magnitude(negative, magnitude),
        Head::Float(value) => Term::Float(value),
        Head::Binary(bytes) => Term::Binary(Cow::Borrowed(bytes)),
        Head::Bits(bytes, last_bits) => Term::from_bits(Cow::Borrowed(bytes), last_bits),
        Head::Nil => Term::List(Vec::new()),
        Head::Bytes(bytes) => Term::list(bytes.iter().copied()),
        Head::Opaque(encoded) => Term::Opaque(Opaque::new(encoded)),
        Head::Tuple(arity) => read_tuple(reader, arity)?,
        Head::List(length) => read_list(reader, length)?,
        Head::Map(length) => read_map(reader, length)?,
    })
}

fn read_tuple<'b>(reader: &mut Reader<'b>, arity: usize) -> Result<Term<'b>> {
    reader.enter()?;
    let mut elements = Vec::with_capacity(arity);
    read_elements(reader, arity, &mut elements)?;
    reader.leave();
    Ok(Term::Tuple(elements))
}

fn read_elements<'b>(
    reader: &mut Reader<'b>,
    count: usize,
    elements: &mut Vec<Term<'b>>,
) -> Result<()> {
    for _ in 0..count {
        let element = read_term(reader);
        elements.push(element.map_err(|error| error.below(Step::Index(elements.len())))?);
    }
    Ok(())
}

fn read_list<'b>(reader: &mut Reader<'b>, length: usize) -> Result<Term<'b>> {
    reader.enter()?;
    let mut pieces = Pieces::new(length);
    let mut elements = Vec::with_capacity(length);
    read_elements(reader, length, &mut elements)?;
    let list = loop {
        let piece = pieces.next(reader)?;
        elements.reserve_exact(pieces.room() - elements.len());
        match piece {
            Piece::Elements(count) => read_elements(reader, count, &mut elements)?,
            Piece::Bytes(bytes) => {
                elements.extend(bytes.iter().copied().map(Term::from));
                break Term::List(elements);
            }
            Piece::Tail => break Term::from_list(elements, read_term(reader)?),
        }
    };
    reader.leave();
    Ok(list)
}

fn read_map<'b>(reader: &mut Reader<'b>, length: usize) -> Result<Term<'b>> {
    reader.enter()?;
    let mut seen = SeenKeys::new(length, reader)?;
    let mut entries = Vec::with_capacity(length);
    for _ in 0..length {
        let start = reader.position();
        let key = read_term(reader)?;
        seen.add(reader, start)?;
        let value = read_term(reader).map_err(|error| error.below(key.step()))?;
        entries.push((key, value));
    }
    seen.finish(reader)?;
    reader.leave();
    Ok(Term::Map(entries))
}
