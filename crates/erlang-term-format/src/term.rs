//! The term: any Erlang value as a tree that borrows what it can from the input.
//!
//! Owns the type, how to make one and how to look into one. Reading and writing bytes is
//! `decode` and `encode`; Erlang source text is `text` and `display`.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use crate::decode::read_admitted;
use crate::encode::write_term;
use crate::error::Step;
use crate::integer::BigInteger;
use crate::keys;
use crate::tag;

/// Any Erlang value.
///
/// Two terms are equal when Erlang's `=:=` says so: `1` is not `1.0`, and the order of a map's
/// entries does not matter. Floats are compared by their bits, as OTP 27 does (`0.0` is not
/// `-0.0`). Terms are kept in one form: an integer that fits an `i64` is an [`Integer`], a bit
/// string of whole bytes is a [`Binary`], an empty list is `List` with nothing in it. The
/// constructors and the decoder see to that.
///
/// [`Integer`]: Term::Integer
/// [`Binary`]: Term::Binary
///
/// ```
/// use erlang_term_format::{tuple, Term};
///
/// let reply = tuple![Term::atom("ok"), tuple![1, "web"]];
/// match reply.as_tuple() {
///     Some([tag, value]) if *tag == Term::atom("ok") => {
///         assert_eq!(value.to_string(), "{1,<<\"web\">>}");
///     }
///     other => panic!("{other:?}"),
/// }
/// ```
#[derive(Clone, Debug)]
pub enum Term<'a> {
    /// An atom, by its text.
    Atom(Cow<'a, str>),
    /// An integer that fits 64 bits.
    Integer(i64),
    /// An integer that does not.
    BigInteger(Box<BigInteger<'a>>),
    /// A float; Erlang has only finite ones.
    Float(f64),
    /// A binary: whole bytes.
    Binary(Cow<'a, [u8]>),
    /// A bit string whose length is no multiple of eight.
    BitString {
        /// The bits, first bit in the highest place; the unused ones of the last byte are zero.
        bytes: Cow<'a, [u8]>,
        /// How many bits of the last byte count, 1 to 7.
        last_bits: u8,
    },
    /// A proper list.
    List(Vec<Term<'a>>),
    /// A list whose tail is not a list: `[1,2|three]`.
    ImproperList(Box<[Term<'a>]>, Box<Term<'a>>),
    /// A tuple.
    Tuple(Vec<Term<'a>>),
    /// A map, its entries in the order of the input. No key is there twice in a decoded term.
    Map(Vec<(Term<'a>, Term<'a>)>),
    /// A pid, port, reference, fun or export, as it came.
    Opaque(Opaque<'a>),
}

/// A value that only a node can give meaning to: carried, compared and sent back byte for byte
/// (an export in today's form).
///
/// Nodes of different OTP releases encode the same pid in different ways, and such encodings
/// are not equal here.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Opaque<'a> {
    /// One well-formed encoded term, from its tag on.
    pub(crate) encoded: Cow<'a, [u8]>,
}

/// What kind of value an [`Opaque`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpaqueKind {
    /// A process identifier.
    Pid,
    /// A port.
    Port,
    /// A reference.
    Reference,
    /// A fun with an environment.
    Fun,
    /// `fun module:function/arity`.
    Export,
}

impl fmt::Display for OpaqueKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pid => "a pid",
            Self::Port => "a port",
            Self::Reference => "a reference",
            Self::Fun => "a fun",
            Self::Export => "an export",
        })
    }
}

impl<'a> Opaque<'a> {
    /// A value of which the encoding has been checked. The parts of an export have more than
    /// one form, and get the one that this crate writes.
    pub(crate) fn new(encoded: &'a [u8]) -> Self {
        let opaque = Self { encoded: Cow::Borrowed(encoded) };
        let Some(Term::Tuple(parts)) = opaque.export_parts() else {
            return opaque;
        };
        let mut rewritten = vec![tag::EXPORT_EXT];
        let written = parts.iter().try_for_each(|part| write_term(part, &mut rewritten));
        match written {
            Ok(()) if rewritten != encoded => Self { encoded: Cow::Owned(rewritten) },
            _ => opaque,
        }
    }

    /// Module, function and arity of an export, as a tuple.
    pub(crate) fn export_parts(&self) -> Option<Term<'static>> {
        let (&tag::EXPORT_EXT, parts) = self.encoded.split_first()? else {
            return None;
        };
        // A tuple of three has the same content behind another head.
        let tuple = [&[tag::SMALL_TUPLE_EXT, 3], parts].concat();
        read_admitted(&tuple).ok().map(Term::into_owned)
    }

    /// The encoded value, from its tag on, without the version byte.
    pub fn encoded(&self) -> &[u8] {
        &self.encoded
    }

    /// What kind of value it is.
    pub fn kind(&self) -> OpaqueKind {
        match self.encoded.first().copied() {
            Some(tag::PID_EXT | tag::NEW_PID_EXT) => OpaqueKind::Pid,
            Some(tag::PORT_EXT | tag::NEW_PORT_EXT | tag::V4_PORT_EXT) => OpaqueKind::Port,
            Some(tag::EXPORT_EXT) => OpaqueKind::Export,
            Some(tag::FUN_EXT | tag::NEW_FUN_EXT) => OpaqueKind::Fun,
            _ => OpaqueKind::Reference,
        }
    }

    /// The same value, borrowing nothing.
    pub fn into_owned(self) -> Opaque<'static> {
        Opaque { encoded: Cow::Owned(self.encoded.into_owned()) }
    }
}

impl<'a> Term<'a> {
    /// An atom.
    pub fn atom(text: impl Into<Cow<'a, str>>) -> Self {
        Self::Atom(text.into())
    }

    /// A binary, from text or bytes.
    pub fn binary(content: impl Into<BinaryContent<'a>>) -> Self {
        Self::Binary(content.into().0)
    }

    /// A list.
    pub fn list(elements: impl IntoIterator<Item = impl Into<Self>>) -> Self {
        Self::List(elements.into_iter().map(Into::into).collect())
    }

    /// A tuple of elements of one type; [`tuple!`](crate::tuple!) takes different ones.
    pub fn tuple(elements: impl IntoIterator<Item = impl Into<Self>>) -> Self {
        Self::Tuple(elements.into_iter().map(Into::into).collect())
    }

    /// A map. That no key is there twice is the caller's care: Erlang refuses such a map.
    pub fn map(entries: impl IntoIterator<Item = (impl Into<Self>, impl Into<Self>)>) -> Self {
        let entries = entries.into_iter();
        Self::Map(entries.map(|(key, value)| (key.into(), value.into())).collect())
    }

    /// The atom `nil`, Elixir's nothing.
    pub const fn nil() -> Self {
        Self::Atom(Cow::Borrowed("nil"))
    }

    /// The text of an atom.
    pub fn as_atom(&self) -> Option<&str> {
        match self {
            Self::Atom(text) => Some(text),
            _ => None,
        }
    }

    /// Whether this is the atom `text`.
    pub fn is_atom(&self, text: &str) -> bool {
        self.as_atom() == Some(text)
    }

    /// Whether this is the atom `nil`.
    pub fn is_nil(&self) -> bool {
        self.is_atom("nil")
    }

    /// The atoms `true` and `false`.
    pub fn as_bool(&self) -> Option<bool> {
        match self.as_atom()? {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }

    /// The text of a binary that is UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        core::str::from_utf8(self.as_bytes()?).ok()
    }

    /// The bytes of a binary.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Binary(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// An integer of 64 bits.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Integer(value) => Some(*value),
            _ => None,
        }
    }

    /// A non-negative integer of 64 bits.
    pub fn as_u64(&self) -> Option<u64> {
        self.as_i128()?.try_into().ok()
    }

    /// An integer of 128 bits.
    pub fn as_i128(&self) -> Option<i128> {
        match self {
            Self::Integer(value) => Some((*value).into()),
            Self::BigInteger(big) => big.as_i128(),
            _ => None,
        }
    }

    /// A float; an integer is none.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Float(value) => Some(*value),
            _ => None,
        }
    }

    /// The elements of a tuple.
    pub fn as_tuple(&self) -> Option<&[Term<'a>]> {
        match self {
            Self::Tuple(elements) => Some(elements),
            _ => None,
        }
    }

    /// The elements of a proper list.
    pub fn as_list(&self) -> Option<&[Term<'a>]> {
        match self {
            Self::List(elements) => Some(elements),
            _ => None,
        }
    }

    /// The entries of a map.
    pub fn as_map(&self) -> Option<&[(Term<'a>, Term<'a>)]> {
        match self {
            Self::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// What a map holds at an atom.
    pub fn get(&self, key: &str) -> Option<&Term<'a>> {
        let mut entries = self.as_map()?.iter();
        entries.find_map(|(each, value)| each.is_atom(key).then_some(value))
    }

    /// What a map holds at any key.
    pub fn get_term(&self, key: &Term<'_>) -> Option<&Term<'a>> {
        let mut entries = self.as_map()?.iter();
        entries.find_map(|(each, value)| keys::same(each, key).then_some(value))
    }

    /// The same term, borrowing nothing.
    pub fn into_owned(self) -> Term<'static> {
        match self {
            Self::Atom(text) => Term::Atom(Cow::Owned(text.into_owned())),
            Self::Integer(value) => Term::Integer(value),
            Self::BigInteger(big) => Term::BigInteger(Box::new(big.into_owned())),
            Self::Float(value) => Term::Float(value),
            Self::Binary(bytes) => Term::Binary(Cow::Owned(bytes.into_owned())),
            Self::BitString { bytes, last_bits } => {
                Term::BitString { bytes: Cow::Owned(bytes.into_owned()), last_bits }
            }
            Self::List(elements) => Term::List(owned(elements)),
            Self::ImproperList(elements, tail) => {
                Term::ImproperList(owned(elements.into()).into(), Box::new(tail.into_owned()))
            }
            Self::Tuple(elements) => Term::Tuple(owned(elements)),
            Self::Map(entries) => Term::Map(
                entries
                    .into_iter()
                    .map(|(key, value)| (key.into_owned(), value.into_owned()))
                    .collect(),
            ),
            Self::Opaque(opaque) => Term::Opaque(opaque.into_owned()),
        }
    }

    /// The step that this key is in the path of an error.
    pub(crate) fn step(&self) -> Step {
        match self.as_atom().or_else(|| self.as_str()) {
            Some(text) => Step::key(&text),
            None => Step::key(self),
        }
    }

    /// A bit string or, when `last_bits` is 8, a binary. Clears the bits that do not count.
    pub(crate) fn from_bits(bytes: Cow<'a, [u8]>, last_bits: u8) -> Self {
        let Some(last) = bytes.last().copied() else {
            return Self::Binary(bytes);
        };
        if last_bits == 8 {
            return Self::Binary(bytes);
        }
        let kept = last & !(0xff >> last_bits);
        let bytes = if kept == last {
            bytes
        } else {
            let mut cleared = bytes.into_owned();
            let index = cleared.len() - 1;
            cleared[index] = kept;
            Cow::Owned(cleared)
        };
        Self::BitString { bytes, last_bits }
    }

    /// `elements` with `tail` behind them, in the one form that such a list has.
    pub(crate) fn from_list(mut elements: Vec<Self>, tail: Self) -> Self {
        match tail {
            tail if elements.is_empty() => tail,
            Self::List(more) => {
                elements.extend(more);
                Self::List(elements)
            }
            Self::ImproperList(more, tail) => {
                elements.extend(more);
                Self::ImproperList(elements.into(), tail)
            }
            tail => Self::ImproperList(elements.into(), Box::new(tail)),
        }
    }
}

fn owned(elements: Vec<Term<'_>>) -> Vec<Term<'static>> {
    elements.into_iter().map(Term::into_owned).collect()
}

impl<'b> PartialEq<Term<'b>> for Term<'_> {
    fn eq(&self, other: &Term<'b>) -> bool {
        keys::same(self, other)
    }
}

impl Eq for Term<'_> {}

/// What [`Term::binary`] takes: text or bytes, borrowed or not.
#[derive(Clone, Debug)]
pub struct BinaryContent<'a>(Cow<'a, [u8]>);

macro_rules! from {
    ($target:ident: $($source:ty => |$value:ident| $make:expr;)*) => {$(
        impl<'a> From<$source> for $target<'a> {
            fn from($value: $source) -> Self {
                $make
            }
        }
    )*};
}

from! { BinaryContent:
    &'a str => |text| Self(Cow::Borrowed(text.as_bytes()));
    String => |text| Self(Cow::Owned(text.into_bytes()));
    &'a [u8] => |bytes| Self(Cow::Borrowed(bytes));
    Vec<u8> => |bytes| Self(Cow::Owned(bytes));
    Cow<'a, [u8]> => |bytes| Self(bytes);
    Cow<'a, str> => |text| Self(match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    });
}

from! { Term:
    bool => |value| Self::atom(if value { "true" } else { "false" });
    i8 => |value| Self::Integer(value.into());
    i16 => |value| Self::Integer(value.into());
    i32 => |value| Self::Integer(value.into());
    i64 => |value| Self::Integer(value);
    i128 => |value| BigInteger::term_from_i128(value);
    u8 => |value| Self::Integer(value.into());
    u16 => |value| Self::Integer(value.into());
    u32 => |value| Self::Integer(value.into());
    u64 => |value| BigInteger::term_from_i128(value.into());
    f64 => |value| Self::Float(value);
    &'a str => |text| Self::binary(text);
    String => |text| Self::binary(text);
    Cow<'a, str> => |text| Self::binary(text);
    &'a [u8] => |bytes| Self::binary(bytes);
    () => |_nothing| Self::nil();
}

impl<'a, const N: usize> From<&'a [u8; N]> for BinaryContent<'a> {
    fn from(bytes: &'a [u8; N]) -> Self {
        Self(Cow::Borrowed(bytes))
    }
}

impl<'a, T: Into<Term<'a>>> From<Option<T>> for Term<'a> {
    /// Nothing is the atom `nil`.
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::nil(), Into::into)
    }
}

impl<'a, T: Into<Term<'a>>> From<Vec<T>> for Term<'a> {
    /// A list.
    fn from(elements: Vec<T>) -> Self {
        Self::list(elements)
    }
}

/// A tuple term of anything that converts into terms.
///
/// ```
/// use erlang_term_format::{tuple, Term};
///
/// assert_eq!(tuple![Term::atom("exited"), 137].to_string(), "{exited,137}");
/// ```
#[macro_export]
macro_rules! tuple {
    ($($element:expr),* $(,)?) => {
        $crate::Term::Tuple(::core::convert::From::from([$($crate::Term::from($element)),*]))
    };
}

/// A map term with atom keys.
///
/// ```
/// use erlang_term_format::{map, Term};
///
/// let term = map! { "retries" => 3, "status" => Term::atom("backing_off") };
/// assert_eq!(term.get("retries").and_then(Term::as_i64), Some(3));
/// ```
#[macro_export]
macro_rules! map {
    ($($key:expr => $value:expr),* $(,)?) => {
        $crate::Term::Map(::core::convert::From::from([
            $(($crate::Term::atom($key), $crate::Term::from($value))),*
        ]))
    };
}
