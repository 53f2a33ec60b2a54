//! From bytes to a tree of terms.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use crate::error::{DecodeError, DecodeErrorKind};
use crate::inflate::{Content, open};
use crate::integer::BigInteger;
use crate::keys;
use crate::limits::Limits;
use crate::reader::{Head, Reader, Result};
use crate::term::{Opaque, Term};

/// Reads one term, version byte included, within the default [`Limits`].
///
/// The term borrows its binaries and atoms from `bytes`, unless it was compressed.
///
/// # Errors
///
/// Anything but exactly one well-formed term.
pub fn decode(bytes: &[u8]) -> Result<Term<'_>> {
    decode_with(bytes, &Limits::default())
}

/// Reads one term, version byte included, within `limits`.
///
/// # Errors
///
/// Anything but exactly one well-formed term within `limits`.
pub fn decode_with<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Term<'a>> {
    match open(bytes, limits)? {
        Content::Plain(mut reader) => read_last_term(&mut reader),
        Content::Inflated(content) => {
            let mut reader = Reader::new(&content, limits)?;
            read_last_term(&mut reader).map(Term::into_owned)
        }
    }
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
        Head::Tuple(arity) => {
            reader.enter()?;
            let mut elements = Vec::with_capacity(arity);
            read_elements(reader, arity, &mut elements)?;
            reader.leave();
            Term::Tuple(elements)
        }
        Head::List(length) => read_list(reader, length)?,
        Head::Map(length) => read_map(reader, length)?,
    })
}

fn read_elements<'b>(
    reader: &mut Reader<'b>,
    count: usize,
    elements: &mut Vec<Term<'b>>,
) -> Result<()> {
    for _ in 0..count {
        elements.push(read_term(reader)?);
    }
    Ok(())
}

/// A tail that is a list again continues this one: no recursion, and one `Vec`.
fn read_list<'b>(reader: &mut Reader<'b>, length: usize) -> Result<Term<'b>> {
    reader.enter()?;
    let mut elements = Vec::with_capacity(length);
    let mut more = length;
    let tail = loop {
        read_elements(reader, more, &mut elements)?;
        match reader.tail()? {
            Tail::Elements(count) => more = count,
            Tail::Term => break read_term(reader)?,
        }
    };
    reader.leave();
    Ok(Term::from_list(elements, tail))
}

/// What comes after the elements of a list.
pub(crate) enum Tail {
    /// That many elements more, then another tail.
    Elements(usize),
    /// Something else.
    Term,
}

impl Reader<'_> {
    /// Looks at what follows the elements of a list.
    pub(crate) fn tail(&mut self) -> Result<Tail> {
        if self.peek()? != crate::tag::LIST_EXT {
            return Ok(Tail::Term);
        }
        let before = self.clone();
        match self.head()? {
            Head::List(length) => Ok(Tail::Elements(length)),
            // A list of no elements, whose own tail is something else.
            _ => {
                *self = before;
                Ok(Tail::Term)
            }
        }
    }
}

fn read_map<'b>(reader: &mut Reader<'b>, length: usize) -> Result<Term<'b>> {
    reader.enter()?;
    let start = reader.position();
    let mut entries = Vec::with_capacity(length);
    for _ in 0..length {
        let key = read_term(reader)?;
        entries.push((key, read_term(reader)?));
    }
    let (found, cost) = keys::has_duplicates(&entries);
    if found {
        return Err(DecodeError { kind: DecodeErrorKind::DuplicateKey, offset: start });
    }
    reader.spend(cost)?;
    reader.leave();
    Ok(Term::Map(entries))
}
