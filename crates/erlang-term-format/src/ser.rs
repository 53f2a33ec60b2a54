//! The user's own types into bytes.

use alloc::vec::Vec;

use serde::ser::{self, Error as _, Serialize};

use crate::decode::read_admitted;
use crate::encode::{
    CAPACITY, ListWriter, u32_bytes, write_atom, write_binary, write_float, write_integer,
    write_length, write_small_big, write_tuple_head,
};
use crate::error::{Error, Step};
use crate::passthrough::{ATOM_TOKEN, TERM_TOKEN};
use crate::seen;
use crate::tag;
use crate::term::Term;

type Result<T> = core::result::Result<T, Error>;

/// Writes a value as one term, version byte included.
///
/// ```
/// #[derive(serde::Serialize)]
/// struct Limits { memory: u64, pids: Option<u32> }
///
/// let bytes = erlang_term_format::to_vec(&Limits { memory: 1 << 20, pids: None })?;
/// let term = erlang_term_format::decode(&bytes)?;
/// assert_eq!(term.to_string(), "#{memory => 1048576,pids => nil}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// That no key of a map is there twice is the care of who implements `Serialize`: Erlang refuses
/// such a map. Only maps that do not say how many entries they have are searched for one, which
/// are those that `flatten` puts together of several.
///
/// # Errors
///
/// If the value has no Erlang form (a float that is not finite, say), or says so itself.
pub fn to_vec<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(CAPACITY);
    to_vec_into(value, &mut out)?;
    Ok(out)
}

/// Appends a value as one term, version byte included.
///
/// # Errors
///
/// As [`to_vec`]. What was appended till then stays.
pub fn to_vec_into<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<()> {
    out.push(tag::VERSION);
    value.serialize(Serializer { out })
}

/// Makes a term of a value.
///
/// # Errors
///
/// As [`to_vec`].
pub fn to_term<T: Serialize + ?Sized>(value: &T) -> Result<Term<'static>> {
    let mut out = Vec::new();
    value.serialize(Serializer { out: &mut out })?;
    Ok(read_admitted(&out)?.into_owned())
}

struct Serializer<'o> {
    out: &'o mut Vec<u8>,
}

impl<'o> Serializer<'o> {
    /// `{tag, ...}` of that many elements after the tag.
    fn tagged(self, tag: &str, elements: usize) -> Result<Self> {
        write_tuple_head(elements + 1, self.out)?;
        write_atom(tag, self.out)?;
        Ok(self)
    }

    fn atom(self, text: &str) -> Result<()> {
        write_atom(text, self.out).map_err(Error::from)
    }

    fn tuple(self) -> TupleWriter<'o> {
        TupleWriter { out: self.out, index: 0 }
    }

    fn fields(self) -> Result<FieldWriter<'o>> {
        let start = self.out.len();
        write_length(tag::MAP_EXT, 0, self.out)?;
        Ok(FieldWriter { out: self.out, start, entries: 0 })
    }
}

impl<'o> ser::Serializer for Serializer<'o> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = SeqWriter<'o>;
    type SerializeTuple = TupleWriter<'o>;
    type SerializeTupleStruct = TupleWriter<'o>;
    type SerializeTupleVariant = TupleWriter<'o>;
    type SerializeMap = MapWriter<'o>;
    type SerializeStruct = FieldWriter<'o>;
    type SerializeStructVariant = FieldWriter<'o>;

    fn is_human_readable(&self) -> bool {
        false
    }

    #[inline]
    fn serialize_bool(self, value: bool) -> Result<()> {
        self.atom(if value { "true" } else { "false" })
    }

    fn serialize_i8(self, value: i8) -> Result<()> {
        self.serialize_i64(value.into())
    }

    fn serialize_i16(self, value: i16) -> Result<()> {
        self.serialize_i64(value.into())
    }

    fn serialize_i32(self, value: i32) -> Result<()> {
        self.serialize_i64(value.into())
    }

    #[inline]
    fn serialize_i64(self, value: i64) -> Result<()> {
        write_integer(value, self.out);
        Ok(())
    }

    fn serialize_u8(self, value: u8) -> Result<()> {
        self.serialize_i64(value.into())
    }

    fn serialize_u16(self, value: u16) -> Result<()> {
        self.serialize_i64(value.into())
    }

    fn serialize_u32(self, value: u32) -> Result<()> {
        self.serialize_i64(value.into())
    }

    fn serialize_u64(self, value: u64) -> Result<()> {
        self.serialize_u128(value.into())
    }

    fn serialize_i128(self, value: i128) -> Result<()> {
        match i64::try_from(value) {
            Ok(value) => write_integer(value, self.out),
            Err(_) => write_small_big(value < 0, &value.unsigned_abs().to_le_bytes(), self.out),
        }
        Ok(())
    }

    fn serialize_u128(self, value: u128) -> Result<()> {
        match i64::try_from(value) {
            Ok(value) => write_integer(value, self.out),
            Err(_) => write_small_big(false, &value.to_le_bytes(), self.out),
        }
        Ok(())
    }

    fn serialize_f32(self, value: f32) -> Result<()> {
        self.serialize_f64(value.into())
    }

    fn serialize_f64(self, value: f64) -> Result<()> {
        write_float(value, self.out).map_err(Error::from)
    }

    fn serialize_char(self, value: char) -> Result<()> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    #[inline]
    fn serialize_str(self, value: &str) -> Result<()> {
        self.serialize_bytes(value.as_bytes())
    }

    #[inline]
    fn serialize_bytes(self, value: &[u8]) -> Result<()> {
        write_binary(value, self.out).map_err(Error::from)
    }

    #[inline]
    fn serialize_none(self) -> Result<()> {
        self.atom("nil")
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<()> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<()> {
        self.atom("nil")
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<()> {
        self.atom("nil")
    }

    #[inline]
    fn serialize_unit_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
    ) -> Result<()> {
        self.atom(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<()> {
        match name {
            TERM_TOKEN | ATOM_TOKEN => value.serialize(Passthrough { out: self.out, token: name }),
            _ => value.serialize(self),
        }
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<()> {
        let result = value.serialize(self.tagged(variant, 1)?);
        result.map_err(|error| error.below_name(variant))
    }

    #[inline]
    fn serialize_seq(self, _length: Option<usize>) -> Result<SeqWriter<'o>> {
        let list = ListWriter::start(self.out);
        Ok(SeqWriter { out: self.out, list })
    }

    fn serialize_tuple(self, length: usize) -> Result<TupleWriter<'o>> {
        write_tuple_head(length, self.out)?;
        Ok(self.tuple())
    }

    fn serialize_tuple_struct(self, _name: &'static str, length: usize) -> Result<TupleWriter<'o>> {
        self.serialize_tuple(length)
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<TupleWriter<'o>> {
        self.tagged(variant, length).map(Self::tuple)
    }

    #[inline]
    fn serialize_map(self, length: Option<usize>) -> Result<MapWriter<'o>> {
        let keys = if length.is_none() { Some(Vec::new()) } else { None };
        Ok(MapWriter { map: self.fields()?, key: 0, keys })
    }

    #[inline]
    fn serialize_struct(self, _name: &'static str, _length: usize) -> Result<FieldWriter<'o>> {
        self.fields()
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _length: usize,
    ) -> Result<FieldWriter<'o>> {
        self.tagged(variant, 1)?.fields()
    }
}

struct SeqWriter<'o> {
    out: &'o mut Vec<u8>,
    list: ListWriter,
}

impl ser::SerializeSeq for SeqWriter<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        let from = self.out.len();
        let result = value.serialize(Serializer { out: self.out });
        result.map_err(|error| error.below_index(self.list.length()))?;
        self.list.wrote(from, self.out);
        Ok(())
    }

    fn end(self) -> Result<()> {
        self.list.finish(self.out).map_err(Error::from)
    }
}

struct TupleWriter<'o> {
    out: &'o mut Vec<u8>,
    index: usize,
}

impl TupleWriter<'_> {
    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        let result = value.serialize(Serializer { out: self.out });
        result.map_err(|error| error.below_index(self.index))?;
        self.index += 1;
        Ok(())
    }
}

macro_rules! tuple_writer {
    ($($method:ident of $trait:ident),*) => {$(
        impl ser::$trait for TupleWriter<'_> {
            type Ok = ();
            type Error = Error;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
                self.element(value)
            }

            fn end(self) -> Result<()> {
                Ok(())
            }
        }
    )*};
}

tuple_writer! {
    serialize_element of SerializeTuple,
    serialize_field of SerializeTupleStruct,
    serialize_field of SerializeTupleVariant
}

struct FieldWriter<'o> {
    out: &'o mut Vec<u8>,
    start: usize,
    entries: usize,
}

impl FieldWriter<'_> {
    /// Inlined, the key's text is known and takes no call to copy.
    #[inline(always)]
    fn field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<()> {
        write_atom(key, self.out)?;
        self.entries += 1;
        let result = value.serialize(Serializer { out: self.out });
        result.map_err(|error| error.below_name(key))
    }

    fn finish(self) -> Result<()> {
        let entries = u32_bytes(self.entries)?;
        self.out[self.start + 1..self.start + 5].copy_from_slice(&entries);
        Ok(())
    }
}

macro_rules! struct_writer {
    ($($trait:ident),*) => {$(
        impl ser::$trait for FieldWriter<'_> {
            type Ok = ();
            type Error = Error;

            #[inline(always)]
            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                key: &'static str,
                value: &T,
            ) -> Result<()> {
                self.field(key, value)
            }

            fn end(self) -> Result<()> {
                self.finish()
            }
        }
    )*};
}

struct_writer! { SerializeStruct, SerializeStructVariant }

struct MapWriter<'o> {
    map: FieldWriter<'o>,
    /// Where the last key starts.
    key: usize,
    /// Where each key starts, if there may be one twice.
    keys: Option<Vec<usize>>,
}

impl MapWriter<'_> {
    fn key_step(&self, value_start: usize) -> Step {
        match read_admitted(&self.map.out[self.key..value_start]) {
            Ok(key) => key.step(),
            Err(_) => Step::key(&"?"),
        }
    }
}

impl ser::SerializeMap for MapWriter<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<()> {
        self.key = self.map.out.len();
        self.map.entries += 1;
        if let Some(keys) = &mut self.keys {
            keys.push(self.key);
        }
        key.serialize(Serializer { out: self.map.out })
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        let start = self.map.out.len();
        let result = value.serialize(Serializer { out: self.map.out });
        result.map_err(|error| error.below(self.key_step(start)))
    }

    fn end(self) -> Result<()> {
        if let Some(step) = self.keys.and_then(|keys| seen::twice(self.map.out, &keys)) {
            return Err(Error::custom("a map has the same key twice").below(step));
        }
        self.map.finish()
    }
}

/// Takes the one call that a term or an atom makes of itself, and no other.
struct Passthrough<'o> {
    out: &'o mut Vec<u8>,
    token: &'static str,
}

/// A table of methods, with what they take and what they would give.
macro_rules! refuse {
    ($($method:ident $(<$T:ident>)? ($($argument:ty),*) -> $given:ty;)*) => {$(
        fn $method $(<$T: Serialize + ?Sized>)? (self, $(_: $argument),*) -> Result<$given> {
            Err(misuse())
        }
    )*};
}

impl ser::Serializer for Passthrough<'_> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = ser::Impossible<(), Error>;
    type SerializeTuple = ser::Impossible<(), Error>;
    type SerializeTupleStruct = ser::Impossible<(), Error>;
    type SerializeTupleVariant = ser::Impossible<(), Error>;
    type SerializeMap = ser::Impossible<(), Error>;
    type SerializeStruct = ser::Impossible<(), Error>;
    type SerializeStructVariant = ser::Impossible<(), Error>;

    /// The bytes of a term, as they stand.
    fn serialize_bytes(self, encoded: &[u8]) -> Result<()> {
        if self.token != TERM_TOKEN {
            return Err(misuse());
        }
        self.out.extend_from_slice(encoded);
        Ok(())
    }

    /// The text of an atom.
    fn serialize_str(self, text: &str) -> Result<()> {
        if self.token != ATOM_TOKEN {
            return Err(misuse());
        }
        write_atom(text, self.out).map_err(Error::from)
    }

    refuse! {
        serialize_bool(bool) -> ();
        serialize_i8(i8) -> ();
        serialize_i16(i16) -> ();
        serialize_i32(i32) -> ();
        serialize_i64(i64) -> ();
        serialize_u8(u8) -> ();
        serialize_u16(u16) -> ();
        serialize_u32(u32) -> ();
        serialize_u64(u64) -> ();
        serialize_f32(f32) -> ();
        serialize_f64(f64) -> ();
        serialize_char(char) -> ();
        serialize_none() -> ();
        serialize_some<T>(&T) -> ();
        serialize_unit() -> ();
        serialize_unit_struct(&'static str) -> ();
        serialize_unit_variant(&'static str, u32, &'static str) -> ();
        serialize_newtype_struct<T>(&'static str, &T) -> ();
        serialize_newtype_variant<T>(&'static str, u32, &'static str, &T) -> ();
        serialize_seq(Option<usize>) -> Self::SerializeSeq;
        serialize_tuple(usize) -> Self::SerializeTuple;
        serialize_tuple_struct(&'static str, usize) -> Self::SerializeTupleStruct;
        serialize_tuple_variant(&'static str, u32, &'static str, usize)
            -> Self::SerializeTupleVariant;
        serialize_map(Option<usize>) -> Self::SerializeMap;
        serialize_struct(&'static str, usize) -> Self::SerializeStruct;
        serialize_struct_variant(&'static str, u32, &'static str, usize)
            -> Self::SerializeStructVariant;
    }
}

fn misuse() -> Error {
    Error::custom("a type uses the private name of a term or an atom")
}
