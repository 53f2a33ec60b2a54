//! Terms and atoms inside of the user's own types.
//!
//! serde knows neither atoms nor pids. So a [`Term`] passes as the bytes of its encoding, and
//! an [`Atom`] as text, each inside a newtype whose private name this crate's serializer and
//! deserializer know. Other formats get what comes nearest, if they are made for people; if
//! not, the bytes.

use alloc::borrow::{Cow, ToOwned};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;
use core::ops::Deref;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::ser::{Error as _, Serialize, SerializeMap, Serializer};

use crate::decode::read_admitted;
use crate::encode::write_term;
use crate::integer::BigInteger;
use crate::term::Term;

pub(crate) const TERM_TOKEN: &str = "$erlang_term_format::Term";
pub(crate) const ATOM_TOKEN: &str = "$erlang_term_format::Atom";

/// An atom as a field or variant of a derived type, where text would be a binary.
///
/// ```
/// use erlang_term_format::{from_slice, to_vec, Atom};
///
/// let bytes = to_vec(&(7, Atom::from("status")))?;
/// let (id, op): (u64, Atom) = from_slice(&bytes)?;
/// assert_eq!((id, &*op), (7, "status"));
/// # Ok::<(), erlang_term_format::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Atom<'a>(pub Cow<'a, str>);

impl Atom<'_> {
    /// The same atom, borrowing nothing.
    pub fn into_owned(self) -> Atom<'static> {
        Atom(Cow::Owned(self.0.into_owned()))
    }
}

impl Deref for Atom<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Atom<'_> {
    /// The bare text, unquoted.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'a> From<&'a str> for Atom<'a> {
    fn from(text: &'a str) -> Self {
        Self(Cow::Borrowed(text))
    }
}

impl From<String> for Atom<'_> {
    fn from(text: String) -> Self {
        Self(Cow::Owned(text))
    }
}

impl<'a> From<Atom<'a>> for Term<'a> {
    fn from(atom: Atom<'a>) -> Self {
        Self::Atom(atom.0)
    }
}

impl Serialize for Atom<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct(ATOM_TOKEN, &*self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Atom<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(ATOM_TOKEN, AtomVisitor(PhantomData))
    }
}

struct AtomVisitor<'a>(PhantomData<&'a ()>);

impl<'de: 'a, 'a> Visitor<'de> for AtomVisitor<'a> {
    type Value = Atom<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an atom")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(text.into())
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(text.to_owned().into())
    }

    fn visit_string<E>(self, text: String) -> Result<Self::Value, E> {
        Ok(text.into())
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

/// The encoded term, for serializers that take bytes.
struct Encoded<'t, 'a>(&'t Term<'a>);

impl Serialize for Encoded<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::new();
        write_term(self.0, &mut bytes).map_err(S::Error::custom)?;
        serializer.serialize_bytes(&bytes)
    }
}

impl Serialize for Term<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return serialize_plainly(self, serializer);
        }
        serializer.serialize_newtype_struct(TERM_TOKEN, &Encoded(self))
    }
}

/// What comes nearest to `term` in a format that knows nothing of Erlang.
fn serialize_plainly<S: Serializer>(term: &Term<'_>, serializer: S) -> Result<S::Ok, S::Error> {
    match term {
        Term::Atom(text) => match &**text {
            "nil" => serializer.serialize_unit(),
            "true" => serializer.serialize_bool(true),
            "false" => serializer.serialize_bool(false),
            text => serializer.serialize_str(text),
        },
        Term::Integer(value) => serializer.serialize_i64(*value),
        Term::BigInteger(big) => match big.as_i128() {
            Some(value) => serializer.serialize_i128(value),
            None => serializer.collect_str(big),
        },
        Term::Float(value) => serializer.serialize_f64(*value),
        Term::Binary(bytes) => match term.as_str() {
            Some(text) => serializer.serialize_str(text),
            None => serializer.serialize_bytes(bytes),
        },
        Term::List(elements) | Term::Tuple(elements) => serializer.collect_seq(elements),
        Term::Map(entries) => {
            let mut map = serializer.serialize_map(Some(entries.len()))?;
            for (key, value) in entries {
                map.serialize_entry(key, value)?;
            }
            map.end()
        }
        Term::BitString { .. } | Term::ImproperList(..) | Term::Opaque(_) => {
            serializer.collect_str(term)
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Term<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            return deserializer.deserialize_any(PlainVisitor(PhantomData));
        }
        deserializer.deserialize_newtype_struct(TERM_TOKEN, EncodedVisitor(PhantomData))
    }
}

/// Takes the bytes of an encoding.
struct EncodedVisitor<'a>(PhantomData<&'a ()>);

impl<'de: 'a, 'a> Visitor<'de> for EncodedVisitor<'a> {
    type Value = Term<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a term")
    }

    fn visit_borrowed_bytes<E: serde::de::Error>(self, bytes: &'de [u8]) -> Result<Term<'a>, E> {
        read_admitted(bytes).map_err(E::custom)
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Term<'a>, E> {
        read_admitted(bytes).map(Term::into_owned).map_err(E::custom)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<Term<'a>, D::Error> {
        deserializer.deserialize_bytes(self)
    }
}

/// Makes a term of what a format without atoms has.
struct PlainVisitor<'a>(PhantomData<&'a ()>);

macro_rules! plainly {
    ($($method:ident($value:ident: $type:ty) => $make:expr;)*) => {$(
        fn $method<E: serde::de::Error>(self, $value: $type) -> Result<Term<'a>, E> {
            Ok($make)
        }
    )*};
}

impl<'de: 'a, 'a> Visitor<'de> for PlainVisitor<'a> {
    type Value = Term<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a term")
    }

    plainly! {
        visit_bool(value: bool) => value.into();
        visit_i64(value: i64) => value.into();
        visit_u64(value: u64) => value.into();
        visit_i128(value: i128) => value.into();
        visit_u128(value: u128) => {
            BigInteger::term_from_magnitude(false, value.to_le_bytes().to_vec())
        };
        visit_borrowed_str(text: &'de str) => text.into();
        visit_str(text: &str) => text.to_owned().into();
        visit_borrowed_bytes(bytes: &'de [u8]) => bytes.into();
        visit_bytes(bytes: &[u8]) => Term::binary(bytes.to_vec());
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Term<'a>, E> {
        if value.is_finite() {
            Ok(Term::Float(value))
        } else {
            Err(E::custom("a float that is not finite has no Erlang form"))
        }
    }

    fn visit_unit<E>(self) -> Result<Term<'a>, E> {
        Ok(Term::nil())
    }

    fn visit_none<E>(self) -> Result<Term<'a>, E> {
        Ok(Term::nil())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Term<'a>, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<Term<'a>, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Term<'a>, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = seq.next_element()? {
            elements.push(element);
        }
        Ok(Term::List(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Term<'a>, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        let (found, _) = crate::keys::has_duplicates(&entries);
        if found {
            return Err(A::Error::custom("a map has the same key twice"));
        }
        Ok(Term::Map(entries))
    }
}
