//! An element of a list of bytes, which has no encoding of its own.
//!
//! Into the user's own types it goes like any other small integer: `de` reads those that do.

use serde::de::{Deserializer, Visitor};
use serde::forward_to_deserialize_any;

use crate::de::mismatch;
use crate::error::Error;
use crate::passthrough::{ATOM_TOKEN, TERM_TOKEN};
use crate::reader::{Head, Reader};
use crate::tag;

type Result<T> = core::result::Result<T, Error>;

/// An integer of a `STRING_EXT`, and what pays for what is made of it.
pub(crate) struct Byte<'r, 'b> {
    pub(crate) value: u8,
    pub(crate) reader: &'r mut Reader<'b>,
}

impl<'de> Deserializer<'de> for Byte<'_, '_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_u8(self.value)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value> {
        match name {
            TERM_TOKEN => {
                // As for any other term in a collection that grows.
                self.reader.spend_memory(2)?;
                visitor.visit_bytes(&[tag::SMALL_INTEGER_EXT, self.value])
            }
            ATOM_TOKEN => Err(mismatch(&Head::Integer(self.value.into()), &visitor)),
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}
