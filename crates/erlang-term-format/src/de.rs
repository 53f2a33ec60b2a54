//! Terms into the user's own types, straight from the input.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::ToString;
use core::fmt::Display;
use core::str::from_utf8;

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{
    self, Deserialize, DeserializeSeed, EnumAccess, Error as _, Expected, IntoDeserializer,
    MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use crate::byte::Byte;
use crate::error::Error;
use crate::inflate::{Content, open};
use crate::integer::BigInteger;
use crate::limits::Limits;
use crate::list::Piece;
use crate::passthrough::{ATOM_TOKEN, TERM_TOKEN};
use crate::reader::{Head, Reader};
use crate::seen::{SeenKeys, duplicate};
use crate::term::Term;

type Result<T> = core::result::Result<T, Error>;

/// Reads a value from one term, version byte included, within the default [`Limits`].
///
/// `&str` and `&[u8]` borrow from `bytes`, unless the term was compressed: then a type that
/// insists on borrowing is an error.
///
/// ```
/// #[derive(serde::Deserialize, Debug, PartialEq)]
/// struct Mount<'a> {
///     path: &'a str,
///     #[serde(default)]
///     read_only: bool,
/// }
///
/// // term_to_binary(#{path => <<"/data">>})
/// let bytes = b"\x83t\0\0\0\x01w\x04pathm\0\0\0\x05/data";
/// let mount: Mount = erlang_term_format::from_slice(bytes)?;
/// assert_eq!(mount, Mount { path: "/data", read_only: false });
/// # Ok::<(), erlang_term_format::Error>(())
/// ```
///
/// # Errors
///
/// Bytes that are not exactly one well-formed term, and terms that are no `T`.
pub fn from_slice<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T> {
    from_slice_with(bytes, &Limits::default())
}

/// Reads a value from one term, version byte included, within `limits`.
///
/// # Errors
///
/// As [`from_slice`].
pub fn from_slice_with<'de, T: Deserialize<'de>>(bytes: &'de [u8], limits: &Limits) -> Result<T> {
    match open(bytes, limits)? {
        Content::Plain(reader) => read_value(Deserializer { reader, lasting: Lasting::new(bytes) }),
        Content::Inflated(content, budget) => {
            let lasting = Lasting::new(&[]);
            read_value(Deserializer { reader: budget.instead(&content), lasting })
        }
    }
}

fn read_value<'de, T: Deserialize<'de>>(mut deserializer: Deserializer<'de, '_>) -> Result<T> {
    let start = deserializer.reader.position();
    let value = T::deserialize(&mut deserializer).map_err(|error| error.in_term_at(start))?;
    deserializer.reader.finish()?;
    Ok(value)
}

/// The input, of which parts are handed out for as long as it lives. What was inflated lives
/// shorter, so there is nothing to hand out then.
struct Lasting<'de> {
    input: &'de [u8],
    /// What is UTF-8 from `start` on, tags and lengths included: these are mostly ASCII, and one
    /// long check takes less than many short ones.
    checked: &'de str,
    start: usize,
}

impl<'de> Lasting<'de> {
    /// How many bytes are checked at once. More gains little, and may be what nobody reads as
    /// text.
    const AHEAD: usize = 512;

    fn new(input: &'de [u8]) -> Self {
        Self { input, checked: "", start: 0 }
    }

    fn bytes(&self, start: usize, length: usize) -> Option<&'de [u8]> {
        self.input.get(start..start + length)
    }

    /// The text there, if it is text. Never asked for backwards.
    #[inline]
    fn text(&mut self, start: usize, length: usize) -> Option<&'de str> {
        let from = start - self.start;
        self.checked.get(from..from + length).or_else(|| self.check(start, length))
    }

    #[cold]
    fn check(&mut self, start: usize, length: usize) -> Option<&'de str> {
        let rest = self.input.get(start..)?;
        let ahead = &rest[..rest.len().min(length.max(Self::AHEAD))];
        let text = from_utf8(ahead).or_else(|error| from_utf8(&ahead[..error.valid_up_to()]));
        self.checked = text.expect("what comes before an error is text");
        self.start = start;
        self.checked.get(..length)
    }
}

struct Deserializer<'de, 'b> {
    reader: Reader<'b>,
    lasting: Lasting<'de>,
}

impl<'de, 'b> Deserializer<'de, 'b> {
    /// Where the last so many bytes start that were read.
    #[inline]
    fn start(&self, length: usize) -> usize {
        self.reader.position() - length
    }

    /// A binary that was just read, as text; if it is none, `otherwise`.
    #[inline]
    fn visit_binary<V: Visitor<'de>>(
        &mut self,
        bytes: &'b [u8],
        visitor: V,
        otherwise: impl FnOnce(&Self, V) -> Result<V::Value>,
    ) -> Result<V::Value> {
        if let Some(text) = self.lasting.text(self.start(bytes.len()), bytes.len()) {
            return visitor.visit_borrowed_str(text);
        }
        match from_utf8(bytes) {
            Ok(text) => visitor.visit_str(text),
            Err(_) => otherwise(self, visitor),
        }
    }

    /// The text of an atom that was just read.
    fn visit_text<V: Visitor<'de>>(&mut self, text: Cow<'b, str>, visitor: V) -> Result<V::Value> {
        match text {
            Cow::Owned(text) => visitor.visit_string(text),
            Cow::Borrowed(text) => match self.lasting.text(self.start(text.len()), text.len()) {
                Some(text) => visitor.visit_borrowed_str(text),
                None => visitor.visit_str(text),
            },
        }
    }

    /// Bytes that were just read.
    fn visit_bytes<V: Visitor<'de>>(&self, bytes: &'b [u8], visitor: V) -> Result<V::Value> {
        match self.lasting.bytes(self.start(bytes.len()), bytes.len()) {
            Some(bytes) => visitor.visit_borrowed_bytes(bytes),
            None => visitor.visit_bytes(bytes),
        }
    }

    /// Whatever is there, by its own nature.
    fn visit<V: Visitor<'de>>(&mut self, head: Head<'b>, visitor: V) -> Result<V::Value> {
        match head {
            Head::Atom(text) => match &*text {
                "nil" => visitor.visit_unit(),
                "true" => visitor.visit_bool(true),
                "false" => visitor.visit_bool(false),
                _ => self.visit_text(text, visitor),
            },
            Head::Integer(value) => visitor.visit_i64(value),
            Head::Big(negative, magnitude) => {
                visit_big(&BigInteger::new(negative, magnitude.into()), visitor)
            }
            Head::Float(value) => visitor.visit_f64(value),
            Head::Binary(bytes) => {
                self.visit_binary(bytes, visitor, |de, visitor| de.visit_bytes(bytes, visitor))
            }
            Head::Nil | Head::Bytes(_) | Head::List(_) => self.visit_list(head, visitor),
            Head::Tuple(arity) => self.visit_tuple(arity, visitor),
            Head::Map(entries) => self.visit_map(entries, &[], visitor),
            Head::Bits(..) | Head::Opaque(_) => Err(mismatch(&head, &visitor)),
        }
    }

    fn visit_list<V: Visitor<'de>>(&mut self, head: Head<'b>, visitor: V) -> Result<V::Value> {
        let (left, bytes): (usize, &[u8]) = match head {
            Head::List(length) => (length, &[]),
            Head::Bytes(bytes) => (0, bytes),
            _ => (0, &[]),
        };
        let chained = matches!(head, Head::List(_));
        self.reader.enter()?;
        let mut elements = Elements { de: self, left, bytes, chained, index: 0 };
        let value = visitor.visit_seq(&mut elements)?;
        elements.finish()?;
        self.reader.leave();
        Ok(value)
    }

    fn visit_tuple<V: Visitor<'de>>(&mut self, arity: usize, visitor: V) -> Result<V::Value> {
        self.reader.enter()?;
        let mut elements = Elements { de: self, left: arity, bytes: &[], chained: false, index: 0 };
        let value = visitor.visit_seq(&mut elements)?;
        elements.finish()?;
        self.reader.leave();
        Ok(value)
    }

    fn visit_map<V: Visitor<'de>>(
        &mut self,
        entries: usize,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        self.reader.enter()?;
        let mut map = Entries {
            fields: Fields::new(fields),
            seen: SeenKeys::new(entries, &mut self.reader)?,
            key: self.reader.position(),
            de: self,
            left: entries,
        };
        let value = visitor.visit_map(&mut map)?;
        map.finish()?;
        self.reader.leave();
        Ok(value)
    }

    /// A binary that is written as nobody writes it, if it is one at all.
    #[cold]
    fn odd_binary(&mut self, expected: &dyn Expected) -> Result<&'b [u8]> {
        match self.reader.head()? {
            Head::Binary(bytes) => Ok(bytes),
            head => Err(mismatch(&head, expected)),
        }
    }

    /// The elements of a map.
    fn entries(&mut self, expected: &dyn Expected) -> Result<usize> {
        match self.reader.head()? {
            Head::Map(entries) => Ok(entries),
            head => Err(mismatch(&head, expected)),
        }
    }
}

/// The widest integer types that it fits.
pub(crate) fn visit_big<'de, V: Visitor<'de>>(
    big: &BigInteger<'_>,
    visitor: V,
) -> Result<V::Value> {
    if let Some(value) = big.as_i128() {
        return match u64::try_from(value) {
            Ok(value) => visitor.visit_u64(value),
            Err(_) => visitor.visit_i128(value),
        };
    }
    match big.as_u128() {
        Some(value) => visitor.visit_u128(value),
        None => Err(wrong("an integer of more than 128 bits", &visitor)),
    }
}

/// An "invalid type" error that names what was found as Erlang would.
#[cold]
pub(crate) fn mismatch(head: &Head<'_>, expected: &dyn Expected) -> Error {
    match head {
        Head::Atom(text) => {
            let atom = Term::atom(&**text);
            wrong(format_args!("atom `{atom}`"), expected)
        }
        Head::Integer(value) => Error::invalid_type(Unexpected::Signed(*value), expected),
        Head::Float(value) => Error::invalid_type(Unexpected::Float(*value), expected),
        Head::Big(..) => wrong("a big integer", expected),
        Head::Binary(bytes) => match from_utf8(bytes) {
            Ok(text) => Error::invalid_type(Unexpected::Str(text), expected),
            Err(_) => wrong("a binary that is not UTF-8", expected),
        },
        Head::Bits(..) => wrong("a bit string", expected),
        Head::Nil | Head::Bytes(_) | Head::List(_) => wrong("a list", expected),
        Head::Tuple(arity) => wrong(format_args!("a tuple of {arity}"), expected),
        Head::Map(_) => wrong("a map", expected),
        Head::Opaque(_) => wrong("a pid, port, reference or fun", expected),
    }
}

fn wrong(found: impl Display, expected: &dyn Expected) -> Error {
    Error::invalid_type(Unexpected::Other(&found.to_string()), expected)
}

macro_rules! deserialize_integers {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
            match self.reader.short_integer() {
                Some(value) => visitor.visit_i64(value),
                None => self.deserialize_any(visitor),
            }
        }
    )*};
}

impl<'de, 'b> de::Deserializer<'de> for &mut Deserializer<'de, 'b> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let head = self.reader.head()?;
        self.visit(head, visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let bytes = match self.reader.binary() {
            Some(bytes) => bytes,
            None => self.odd_binary(&visitor)?,
        };
        self.visit_binary(bytes, visitor, |_, visitor| {
            Err(mismatch(&Head::Binary(bytes), &visitor))
        })
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.reader.head()? {
            Head::Binary(bytes) => self.visit_bytes(bytes, visitor),
            head => Err(mismatch(&head, &visitor)),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.reader.atom_among(&["false", "true"]) {
            Some(index) => visitor.visit_bool(index == 1),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        if !self.reader.is_at_atom()? {
            return visitor.visit_some(self);
        }
        if self.reader.is_atom("nil") {
            return visitor.visit_none();
        }
        let mut ahead = self.reader.again(self.reader.position());
        match ahead.head()? {
            Head::Atom(text) if text == "nil" => {
                self.reader.skip()?;
                visitor.visit_none()
            }
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.reader.head()? {
            Head::Atom(text) if text == "nil" => visitor.visit_unit(),
            head => Err(mismatch(&head, &visitor)),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value> {
        match name {
            TERM_TOKEN => {
                let start = self.reader.position();
                self.reader.skip()?;
                // It may lie in a collection that has doubled, and is there twice while it moves.
                self.reader.spend_memory(2)?;
                self.visit_bytes(self.reader.since(start), visitor)
            }
            ATOM_TOKEN => match self.reader.head()? {
                Head::Atom(text) => self.visit_text(text, visitor),
                head => Err(mismatch(&head, &visitor)),
            },
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.reader.head()? {
            head @ (Head::Nil | Head::Bytes(_) | Head::List(_)) => self.visit_list(head, visitor),
            head => Err(mismatch(&head, &visitor)),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value> {
        match self.reader.head()? {
            Head::Tuple(arity) if arity == length => self.visit_tuple(arity, visitor),
            Head::Tuple(arity) => Err(Error::invalid_length(arity, &visitor)),
            head => Err(mismatch(&head, &visitor)),
        }
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value> {
        self.deserialize_tuple(length, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let entries = self.entries(&visitor)?;
        self.visit_map(entries, &[], visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        let entries = self.entries(&visitor)?;
        self.visit_map(entries, fields, visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        if let Some(index) = self.reader.atom_among(variants) {
            return visitor.visit_enum(variants[index].into_deserializer());
        }
        match self.reader.head()? {
            Head::Atom(text) => visitor.visit_enum(text.into_deserializer()),
            Head::Tuple(arity @ 1..) => {
                self.reader.enter()?;
                let value = visitor.visit_enum(TaggedTuple { de: self, arity, variants })?;
                self.reader.leave();
                Ok(value)
            }
            head => Err(mismatch(&head, &visitor)),
        }
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.reader.head()? {
            Head::Atom(text) => self.visit_text(text, visitor),
            head => self.visit(head, visitor),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.reader.skip()?;
        visitor.visit_unit()
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.deserialize_str(visitor)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.deserialize_str(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.deserialize_bytes(visitor)
    }

    deserialize_integers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
    }

    forward_to_deserialize_any! { f32 f64 }
}

/// The elements of a list or a tuple.
struct Elements<'x, 'de, 'b> {
    de: &'x mut Deserializer<'de, 'b>,
    left: usize,
    /// Instead of elements, those of a list of bytes.
    bytes: &'b [u8],
    /// Whether a tail follows the elements.
    chained: bool,
    index: usize,
}

impl Elements<'_, '_, '_> {
    /// Whether there is another element. Reads the tail of a list when it comes to it.
    #[inline]
    fn advance(&mut self) -> Result<bool> {
        if self.left == 0 && self.chained {
            if self.de.reader.nil() {
                self.chained = false;
            } else {
                self.follow_tail()?;
            }
        }
        Ok(self.left > 0 || !self.bytes.is_empty())
    }

    #[cold]
    fn follow_tail(&mut self) -> Result<()> {
        match self.de.reader.piece()? {
            Piece::Elements(count) => self.left = count,
            Piece::Bytes(bytes) => {
                self.bytes = bytes;
                self.chained = false;
            }
            Piece::Tail => match self.de.reader.head()? {
                Head::Nil => self.chained = false,
                _ => return Err(improper()),
            },
        }
        Ok(())
    }

    /// Everything must have been taken.
    fn finish(mut self) -> Result<()> {
        if self.advance()? {
            return Err(Error::custom(format_args!(
                "more than the {} elements expected",
                self.index
            )));
        }
        Ok(())
    }
}

impl<'de> SeqAccess<'de> for &mut Elements<'_, 'de, '_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>> {
        if !self.advance()? {
            return Ok(None);
        }
        let index = self.index;
        self.index += 1;
        let start = self.de.reader.position();
        let result = if let [byte, rest @ ..] = self.bytes {
            self.bytes = rest;
            seed.deserialize(Byte { value: *byte, reader: &mut self.de.reader })
        } else {
            self.left -= 1;
            seed.deserialize(&mut *self.de)
        };
        let within = |error: Error| error.in_term_at(start).below_index(index);
        result.map(Some).map_err(within)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left + self.bytes.len())
    }
}

/// The entries of a map.
struct Entries<'x, 'de, 'b> {
    de: &'x mut Deserializer<'de, 'b>,
    left: usize,
    fields: Fields,
    /// The keys that are not fields.
    seen: SeenKeys,
    /// Where the last key starts.
    key: usize,
}

/// The fields that a struct says it has. Atoms that name one are found here, which spares
/// looking at their letters once more; it is also how a field is known that comes twice.
struct Fields {
    names: &'static [&'static str],
    seen: u64,
    /// The one that is next if they are in order.
    next: usize,
}

impl Fields {
    fn new(names: &'static [&'static str]) -> Self {
        // More than there are bits are keys like any other.
        let names = if names.len() <= 64 { names } else { &[] };
        Self { names, seen: 0, next: 0 }
    }

    /// Notes a field. Whether it is new.
    #[inline]
    fn note(&mut self, index: usize) -> bool {
        let bit = 1 << index;
        let new = self.seen & bit == 0;
        self.seen |= bit;
        self.next = index + 1;
        new
    }
}

impl Entries<'_, '_, '_> {
    /// Reads a key, if it is a field; which one.
    #[inline]
    fn field(&mut self) -> Result<Option<usize>> {
        let Fields { names, next, .. } = self.fields;
        match names.get(next) {
            Some(name) if self.de.reader.is_atom(name) => Ok(Some(next)),
            _ if names.is_empty() => Ok(None),
            _ => self.other_field(),
        }
    }

    /// As [`field`](Self::field), for any order and any form of an atom.
    #[inline(never)]
    fn other_field(&mut self) -> Result<Option<usize>> {
        match self.de.reader.atom_among(self.fields.names) {
            None => Ok(self.de.reader.odd_atom_among(self.fields.names)?),
            index => Ok(index),
        }
    }

    fn finish(self) -> Result<()> {
        if self.left > 0 {
            return Err(Error::custom(format_args!("{} entries too many", self.left)));
        }
        self.seen.finish(&mut self.de.reader).map_err(Error::from)
    }

    /// The error at the last key or its value.
    #[cold]
    fn within(&self, error: Error, start: usize) -> Error {
        error.in_term_at(start).below(self.de.reader.key_step(self.key))
    }
}

impl<'de> MapAccess<'de> for &mut Entries<'_, 'de, '_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        self.key = self.de.reader.position();
        if let Some(index) = self.field()? {
            if !self.fields.note(index) {
                return Err(duplicate(&self.de.reader, self.key).into());
            }
            let key = seed.deserialize(BorrowedStrDeserializer::new(self.fields.names[index]));
            return key.map(Some).map_err(|error| self.within(error, self.key));
        }
        let key = seed.deserialize(&mut *self.de).map_err(|error| self.within(error, self.key))?;
        self.seen.add(&mut self.de.reader, self.key)?;
        Ok(Some(key))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value> {
        let start = self.de.reader.position();
        let result = seed.deserialize(&mut *self.de);
        result.map_err(|error| self.within(error, start))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

/// `{tag, ...}`: an enum's variant with content.
struct TaggedTuple<'x, 'de, 'b> {
    de: &'x mut Deserializer<'de, 'b>,
    arity: usize,
    variants: &'static [&'static str],
}

impl<'x, 'de, 'b> EnumAccess<'de> for TaggedTuple<'x, 'de, 'b> {
    type Error = Error;
    type Variant = TaggedContent<'x, 'de, 'b>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self::Variant)> {
        let Self { de, arity, variants } = self;
        let start = de.reader.position();
        let tag = match de.reader.atom_among(variants) {
            Some(index) => Cow::Borrowed(variants[index]),
            None => match de.reader.head()? {
                Head::Atom(text) => text,
                _ => return Err(untagged().in_term_at(start)),
            },
        };
        let variant = seed.deserialize(IntoDeserializer::<Error>::into_deserializer(&*tag));
        let variant = variant.map_err(|error| error.in_term_at(start))?;
        let content = TaggedContent { de, tag, left: arity - 1 };
        Ok((variant, content))
    }
}

/// What follows the tag.
struct TaggedContent<'x, 'de, 'b> {
    de: &'x mut Deserializer<'de, 'b>,
    tag: Cow<'b, str>,
    left: usize,
}

impl TaggedContent<'_, '_, '_> {
    /// The error in what follows the tag.
    #[cold]
    fn within(&self, error: Error, start: usize) -> Error {
        error.in_term_at(start).below_name(&self.tag)
    }
}

/// A variant's tuple must have `expected` elements after its tag.
pub(crate) fn must_have(expected: usize, found: usize, tag: &str) -> Result<()> {
    if found == expected && expected > 0 {
        return Ok(());
    }
    let found = found + 1;
    Err(Error::custom(match expected {
        0 => format!("a tuple of {found}, expected the atom `{tag}` alone"),
        _ => format!("a tuple of {found}, expected {} for `{tag}`", expected + 1),
    }))
}

/// The error about a list with a tail.
pub(crate) fn improper() -> Error {
    Error::custom("an improper list, expected a proper one")
}

/// The error about a tuple that has no tag.
pub(crate) fn untagged() -> Error {
    Error::custom("a tuple without an atom in front, expected a tag")
}

impl<'de> VariantAccess<'de> for TaggedContent<'_, 'de, '_> {
    type Error = Error;

    fn unit_variant(self) -> Result<()> {
        Err(Error::custom(format_args!("a tuple, expected the atom `{}` alone", self.tag)))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value> {
        must_have(1, self.left, &self.tag)?;
        let start = self.de.reader.position();
        let result = seed.deserialize(&mut *self.de);
        result.map_err(|error| self.within(error, start))
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value> {
        must_have(length, self.left, &self.tag)?;
        let start = self.de.reader.position();
        let mut elements =
            Elements { de: &mut *self.de, left: length, bytes: &[], chained: false, index: 0 };
        let result = visitor.visit_seq(&mut elements);
        let result = result.and_then(|value| elements.finish().map(|()| value));
        result.map_err(|error| self.within(error, start))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        must_have(1, self.left, &self.tag)?;
        let start = self.de.reader.position();
        let result = de::Deserializer::deserialize_struct(&mut *self.de, "", fields, visitor);
        result.map_err(|error| self.within(error, start))
    }
}
