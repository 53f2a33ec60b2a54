//! Terms into the user's own types, straight from the input.

use alloc::borrow::{Cow, ToOwned};
use alloc::format;
use alloc::string::{String, ToString};
use core::fmt::Display;

use serde::de::{
    self, Deserialize, DeserializeSeed, EnumAccess, Error as _, IntoDeserializer, MapAccess,
    SeqAccess, Unexpected, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use crate::decode::{Tail, read_term};
use crate::error::Error;
use crate::inflate::{Content, open};
use crate::integer::BigInteger;
use crate::limits::Limits;
use crate::passthrough::{ATOM_TOKEN, TERM_TOKEN};
use crate::reader::{Head, Reader};
use crate::skip::SeenKeys;
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
        Content::Plain(reader) => {
            let lend = Lend { text: Some, bytes: Some };
            read_value(Deserializer { reader, lend })
        }
        Content::Inflated(content) => {
            let reader = Reader::new(&content, limits)?;
            let lend = Lend { text: |_| None, bytes: |_| None };
            read_value(Deserializer { reader, lend })
        }
    }
}

fn read_value<'de, T: Deserialize<'de>>(mut deserializer: Deserializer<'de, '_>) -> Result<T> {
    let value = T::deserialize(&mut deserializer)?;
    deserializer.reader.finish()?;
    Ok(value)
}

/// How to hand out what was read for as long as the input lives. What was inflated lives
/// shorter, so there is nothing to hand out then.
#[derive(Clone, Copy)]
struct Lend<'de, 'b> {
    text: fn(&'b str) -> Option<&'de str>,
    bytes: fn(&'b [u8]) -> Option<&'de [u8]>,
}

struct Deserializer<'de, 'b> {
    reader: Reader<'b>,
    lend: Lend<'de, 'b>,
}

impl<'de, 'b> Deserializer<'de, 'b> {
    fn visit_text<V: Visitor<'de>>(&self, text: Cow<'b, str>, visitor: V) -> Result<V::Value> {
        match text {
            Cow::Owned(text) => visitor.visit_string(text),
            Cow::Borrowed(text) => match (self.lend.text)(text) {
                Some(text) => visitor.visit_borrowed_str(text),
                None => visitor.visit_str(text),
            },
        }
    }

    fn visit_bytes<V: Visitor<'de>>(&self, bytes: &'b [u8], visitor: V) -> Result<V::Value> {
        match (self.lend.bytes)(bytes) {
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
            Head::Binary(bytes) => match core::str::from_utf8(bytes) {
                Ok(text) => self.visit_text(Cow::Borrowed(text), visitor),
                Err(_) => self.visit_bytes(bytes, visitor),
            },
            Head::Nil | Head::Bytes(_) | Head::List(_) => self.visit_list(head, visitor),
            Head::Tuple(arity) => self.visit_tuple(arity, visitor),
            Head::Map(entries) => self.visit_map(entries, visitor),
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

    fn visit_map<V: Visitor<'de>>(&mut self, entries: usize, visitor: V) -> Result<V::Value> {
        self.reader.enter()?;
        let mut map = Entries {
            seen: SeenKeys::new(entries),
            key: self.reader.position(),
            de: self,
            left: entries,
        };
        let value = visitor.visit_map(&mut map)?;
        map.finish()?;
        self.reader.leave();
        Ok(value)
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
pub(crate) fn mismatch<'de, V: Visitor<'de>>(head: &Head<'_>, visitor: &V) -> Error {
    match head {
        Head::Atom(text) => {
            let atom = Term::atom(&**text);
            wrong(format_args!("atom `{atom}`"), visitor)
        }
        Head::Integer(value) => Error::invalid_type(Unexpected::Signed(*value), visitor),
        Head::Float(value) => Error::invalid_type(Unexpected::Float(*value), visitor),
        Head::Big(..) => wrong("a big integer", visitor),
        Head::Binary(bytes) => match core::str::from_utf8(bytes) {
            Ok(text) => Error::invalid_type(Unexpected::Str(text), visitor),
            Err(_) => wrong("a binary that is not UTF-8", visitor),
        },
        Head::Bits(..) => wrong("a bit string", visitor),
        Head::Nil | Head::Bytes(_) | Head::List(_) => wrong("a list", visitor),
        Head::Tuple(arity) => wrong(format_args!("a tuple of {arity}"), visitor),
        Head::Map(_) => wrong("a map", visitor),
        Head::Opaque(_) => wrong("a pid, port, reference or fun", visitor),
    }
}

fn wrong<'de, V: Visitor<'de>>(found: impl Display, visitor: &V) -> Error {
    Error::invalid_type(Unexpected::Other(&found.to_string()), visitor)
}

impl<'de, 'b> de::Deserializer<'de> for &mut Deserializer<'de, 'b> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let head = self.reader.head()?;
        self.visit(head, visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.reader.head()? {
            Head::Binary(bytes) => match core::str::from_utf8(bytes) {
                Ok(text) => self.visit_text(Cow::Borrowed(text), visitor),
                Err(_) => Err(mismatch(&Head::Binary(bytes), &visitor)),
            },
            head => Err(mismatch(&head, &visitor)),
        }
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.reader.head()? {
            Head::Binary(bytes) => self.visit_bytes(bytes, visitor),
            head => Err(mismatch(&head, &visitor)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        if !self.reader.is_at_atom()? {
            return visitor.visit_some(self);
        }
        let before = self.reader.clone();
        match self.reader.head()? {
            Head::Atom(text) if text == "nil" => visitor.visit_none(),
            _ => {
                self.reader = before;
                visitor.visit_some(self)
            }
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
        match self.reader.head()? {
            Head::Map(entries) => self.visit_map(entries, visitor),
            head => Err(mismatch(&head, &visitor)),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        match self.reader.head()? {
            Head::Atom(text) => visitor.visit_enum(text.into_deserializer()),
            Head::Tuple(arity @ 1..) => {
                self.reader.enter()?;
                let value = visitor.visit_enum(TaggedTuple { de: self, arity })?;
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

    forward_to_deserialize_any! { bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 }
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
    fn advance(&mut self) -> Result<bool> {
        if self.left == 0 && self.chained {
            self.follow_tail()?;
        }
        Ok(self.left > 0 || !self.bytes.is_empty())
    }

    fn follow_tail(&mut self) -> Result<()> {
        if let Tail::Elements(more) = self.de.reader.tail()? {
            self.left = more;
            return Ok(());
        }
        self.chained = false;
        match self.de.reader.head()? {
            Head::Nil => Ok(()),
            Head::Bytes(bytes) => {
                self.bytes = bytes;
                Ok(())
            }
            Head::List(more) => {
                self.left = more;
                self.chained = true;
                Ok(())
            }
            _ => Err(Error::custom("an improper list, expected a proper one")),
        }
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
        let result = if let [byte, rest @ ..] = self.bytes {
            self.bytes = rest;
            seed.deserialize(byte.into_deserializer())
        } else {
            self.left -= 1;
            seed.deserialize(&mut *self.de)
        };
        result.map(Some).map_err(|error: Error| error.below_index(index))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left + self.bytes.len())
    }
}

/// The entries of a map.
struct Entries<'x, 'de, 'b> {
    de: &'x mut Deserializer<'de, 'b>,
    left: usize,
    seen: SeenKeys,
    /// Where the last key starts.
    key: usize,
}

impl Entries<'_, '_, '_> {
    fn finish(mut self) -> Result<()> {
        if self.left > 0 {
            return Err(Error::custom(format_args!("{} entries too many", self.left)));
        }
        self.seen.finish(&self.de.reader).map_err(Error::from)
    }

    /// The key of the value that failed, as a step of a path.
    fn key_text(&self) -> String {
        match read_term(&mut self.de.reader.again(self.key)) {
            Ok(key) => key.step(),
            Err(_) => "?".to_owned(),
        }
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
        let key = seed.deserialize(&mut *self.de)?;
        if let Err(error) = self.seen.add(&mut self.de.reader, self.key) {
            return Err(Error::from(error).below_key(self.key_text()));
        }
        Ok(Some(key))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value> {
        let result = seed.deserialize(&mut *self.de);
        result.map_err(|error| error.below_key(self.key_text()))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

/// `{tag, ...}`: an enum's variant with content.
struct TaggedTuple<'x, 'de, 'b> {
    de: &'x mut Deserializer<'de, 'b>,
    arity: usize,
}

impl<'x, 'de, 'b> EnumAccess<'de> for TaggedTuple<'x, 'de, 'b> {
    type Error = Error;
    type Variant = TaggedContent<'x, 'de, 'b>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self::Variant)> {
        let Self { de, arity } = self;
        let tag = match de.reader.head()? {
            Head::Atom(text) => text,
            _ => return Err(untagged()),
        };
        let variant = seed.deserialize(IntoDeserializer::<Error>::into_deserializer(&*tag))?;
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
        let result = seed.deserialize(&mut *self.de);
        result.map_err(|error| error.below_key(&*self.tag))
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value> {
        must_have(length, self.left, &self.tag)?;
        let mut elements =
            Elements { de: self.de, left: length, bytes: &[], chained: false, index: 0 };
        let value =
            visitor.visit_seq(&mut elements).map_err(|error| error.below_key(&*self.tag))?;
        elements.finish()?;
        Ok(value)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        must_have(1, self.left, &self.tag)?;
        let result = de::Deserializer::deserialize_struct(&mut *self.de, "", fields, visitor);
        result.map_err(|error| error.below_key(&*self.tag))
    }
}

/// The budget is checked again where a term is read from bytes that were admitted before.
pub(crate) fn term_from_admitted(
    bytes: &[u8],
) -> core::result::Result<Term<'_>, crate::DecodeError> {
    let limits = Limits { bytes_max: usize::MAX, depth_max: usize::MAX, nodes_max: usize::MAX };
    let mut reader = Reader::new(bytes, &limits)?;
    let term = read_term(&mut reader)?;
    reader.finish()?;
    Ok(term)
}
