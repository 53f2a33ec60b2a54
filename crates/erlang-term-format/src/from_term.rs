//! Terms that are there already, into the user's own types. Says yes and no to the same things
//! as `de` does for bytes.

use alloc::vec::Vec;
use core::slice;

use serde::de::{
    self, Deserialize, DeserializeSeed, EnumAccess, Error as _, IntoDeserializer, MapAccess,
    SeqAccess, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use crate::de::{improper, mismatch, must_have, untagged, visit_big};
use crate::encode::write_term;
use crate::error::Error;
use crate::keys;
use crate::passthrough::{ATOM_TOKEN, TERM_TOKEN};
use crate::reader::Head;
use crate::term::Term;

type Result<T> = core::result::Result<T, Error>;

/// Reads a value from a term that is there already, and borrows from it.
///
/// ```
/// use erlang_term_format::{from_term, text};
///
/// let request = text::parse("{7, status, <<\"web\">>}").expect("a term");
/// let (id, op, name): (u64, erlang_term_format::Atom, &str) = from_term(&request)?;
/// assert_eq!((id, &*op, name), (7, "status", "web"));
/// # Ok::<(), erlang_term_format::Error>(())
/// ```
///
/// # Errors
///
/// If the term is no `T`.
pub fn from_term<'de, T: Deserialize<'de>>(term: &'de Term<'_>) -> Result<T> {
    T::deserialize(Value(term))
}

#[derive(Clone, Copy)]
struct Value<'de>(&'de Term<'de>);

impl<'de> Value<'de> {
    fn mismatch<V: Visitor<'de>>(self, visitor: &V) -> Error {
        let head = match self.0 {
            Term::Atom(text) => Head::Atom((&**text).into()),
            Term::Integer(value) => Head::Integer(*value),
            Term::BigInteger(big) => Head::Big(big.is_negative(), big.magnitude()),
            Term::Float(value) => Head::Float(*value),
            Term::Binary(bytes) => Head::Binary(bytes),
            Term::BitString { bytes, last_bits } => Head::Bits(bytes, *last_bits),
            Term::List(elements) => Head::List(elements.len()),
            Term::ImproperList(elements, _) => Head::List(elements.len()),
            Term::Tuple(elements) => Head::Tuple(elements.len()),
            Term::Map(entries) => Head::Map(entries.len()),
            Term::Opaque(opaque) => Head::Opaque(&opaque.encoded),
        };
        mismatch(&head, visitor)
    }
}

fn visit_seq<'de, V: Visitor<'de>>(elements: &'de [Term<'de>], visitor: V) -> Result<V::Value> {
    let mut seq = Elements { left: elements.iter(), index: 0 };
    let value = visitor.visit_seq(&mut seq)?;
    if seq.left.len() > 0 {
        return Err(Error::custom(format_args!("more than the {} elements expected", seq.index)));
    }
    Ok(value)
}

/// Refuses the elements, or else the tail behind them.
fn visit_improper<'de, V: Visitor<'de>>(
    elements: &'de [Term<'de>],
    visitor: V,
) -> Result<V::Value> {
    visit_seq(elements, visitor)?;
    Err(improper())
}

fn visit_map<'de, V: Visitor<'de>>(
    entries: &'de [(Term<'de>, Term<'de>)],
    visitor: V,
) -> Result<V::Value> {
    if let (true, _) = keys::has_duplicates(entries) {
        return Err(Error::custom("a map has the same key twice"));
    }
    let mut map = Entries { left: entries.iter(), entry: None };
    let value = visitor.visit_map(&mut map)?;
    match map.left.len() {
        0 => Ok(value),
        left => Err(Error::custom(format_args!("{left} entries too many"))),
    }
}

impl<'de> de::Deserializer<'de> for Value<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.0 {
            Term::Atom(text) => match &**text {
                "nil" => visitor.visit_unit(),
                "true" => visitor.visit_bool(true),
                "false" => visitor.visit_bool(false),
                text => visitor.visit_borrowed_str(text),
            },
            Term::Integer(value) => visitor.visit_i64(*value),
            Term::BigInteger(big) => visit_big(big, visitor),
            Term::Float(value) => visitor.visit_f64(*value),
            Term::Binary(bytes) => match self.0.as_str() {
                Some(text) => visitor.visit_borrowed_str(text),
                None => visitor.visit_borrowed_bytes(bytes),
            },
            Term::List(elements) | Term::Tuple(elements) => visit_seq(elements, visitor),
            Term::Map(entries) => visit_map(entries, visitor),
            Term::ImproperList(elements, _) => visit_improper(elements, visitor),
            Term::BitString { .. } | Term::Opaque(_) => Err(self.mismatch(&visitor)),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.0.as_str() {
            Some(text) => visitor.visit_borrowed_str(text),
            None => Err(self.mismatch(&visitor)),
        }
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.0.as_bytes() {
            Some(bytes) => visitor.visit_borrowed_bytes(bytes),
            None => Err(self.mismatch(&visitor)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        if self.0.is_nil() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        if self.0.is_nil() { visitor.visit_unit() } else { Err(self.mismatch(&visitor)) }
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
                let mut bytes = Vec::new();
                write_term(self.0, &mut bytes)?;
                visitor.visit_byte_buf(bytes)
            }
            ATOM_TOKEN => match self.0.as_atom() {
                Some(text) => visitor.visit_borrowed_str(text),
                None => Err(self.mismatch(&visitor)),
            },
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.0 {
            Term::List(elements) => visit_seq(elements, visitor),
            Term::ImproperList(elements, _) => visit_improper(elements, visitor),
            _ => Err(self.mismatch(&visitor)),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value> {
        match self.0 {
            Term::Tuple(elements) if elements.len() == length => visit_seq(elements, visitor),
            Term::Tuple(elements) => Err(Error::invalid_length(elements.len(), &visitor)),
            _ => Err(self.mismatch(&visitor)),
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
        match self.0 {
            Term::Map(entries) => visit_map(entries, visitor),
            _ => Err(self.mismatch(&visitor)),
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
        match self.0 {
            Term::Atom(text) => visitor.visit_enum((&**text).into_deserializer()),
            Term::Tuple(elements) => match elements.split_first() {
                Some((tag, content)) => visitor.visit_enum(Tagged { tag, content }),
                None => Err(self.mismatch(&visitor)),
            },
            _ => Err(self.mismatch(&visitor)),
        }
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.0 {
            Term::Atom(text) => visitor.visit_borrowed_str(text),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
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

struct Elements<'de> {
    left: slice::Iter<'de, Term<'de>>,
    index: usize,
}

impl<'de> SeqAccess<'de> for &mut Elements<'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>> {
        let Some(element) = self.left.next() else {
            return Ok(None);
        };
        let index = self.index;
        self.index += 1;
        let result = seed.deserialize(Value(element));
        result.map(Some).map_err(|error| error.below_index(index))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left.len())
    }
}

struct Entries<'de> {
    left: slice::Iter<'de, (Term<'de>, Term<'de>)>,
    /// Of which the key has been taken.
    entry: Option<&'de (Term<'de>, Term<'de>)>,
}

impl<'de> MapAccess<'de> for &mut Entries<'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>> {
        self.entry = self.left.next();
        let Some((key, _)) = self.entry else { return Ok(None) };
        let result = seed.deserialize(Value(key));
        result.map(Some).map_err(|error| error.below(key.step()))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value> {
        let (key, value) = self.entry.expect("serde asks for a key, then for its value");
        let result = seed.deserialize(Value(value));
        result.map_err(|error| error.below(key.step()))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left.len())
    }
}

/// `{tag, ...}`: an enum's variant with content.
struct Tagged<'de> {
    tag: &'de Term<'de>,
    content: &'de [Term<'de>],
}

impl<'de> Tagged<'de> {
    fn tag(&self) -> &'de str {
        self.tag.as_atom().unwrap_or_default()
    }
}

impl<'de> EnumAccess<'de> for Tagged<'de> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self)> {
        let tag = self.tag.as_atom().ok_or_else(untagged)?;
        let variant = seed.deserialize(IntoDeserializer::<Error>::into_deserializer(tag))?;
        Ok((variant, self))
    }
}

impl<'de> VariantAccess<'de> for Tagged<'de> {
    type Error = Error;

    fn unit_variant(self) -> Result<()> {
        must_have(0, self.content.len(), self.tag())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value> {
        must_have(1, self.content.len(), self.tag())?;
        let result = seed.deserialize(Value(&self.content[0]));
        result.map_err(|error| error.below_name(self.tag()))
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value> {
        must_have(length, self.content.len(), self.tag())?;
        let result = visit_seq(self.content, visitor);
        result.map_err(|error| error.below_name(self.tag()))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        must_have(1, self.content.len(), self.tag())?;
        let content = Value(&self.content[0]);
        let result = de::Deserializer::deserialize_struct(content, "", fields, visitor);
        result.map_err(|error| error.below_name(self.tag()))
    }
}
