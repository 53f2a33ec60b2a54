//! Erlang's external term format: what `term_to_binary/1` makes and a port with `{packet, 4}`
//! speaks.
//!
//! Two ways in, over the same bounded reader:
//!
//! - [`from_slice`] and [`to_vec`] read and write the user's own types through serde, straight
//!   from and to bytes;
//! - [`decode`] and [`encode`] read and write a [`Term`], which borrows from its input. A `Term`
//!   can also be a field of a derived type, for what is passed through.
//!
//! No input can make it panic, recurse without end, or allocate more than its [`Limits`] say:
//! every claimed length is checked against the bytes that are left and the nodes that may still
//! be spent before anything is reserved. It reads all that OTP 24 to 28 write, and writes what
//! OTP 26 writes.
//!
//! # How serde's types become terms
//!
//! | Rust | Erlang | Elixir |
//! |---|---|---|
//! | `bool` | `true`, `false` | the same |
//! | integers | integers | |
//! | `f32`, `f64` | floats; a whole number is read as well | |
//! | `String`, `&str`, `char` | a binary | `"text"` |
//! | bytes (`serde_bytes`) | a binary | |
//! | `None`, `()`, unit structs | `nil` | `nil` |
//! | `Some(value)`, newtype structs | the value | |
//! | `Vec` and other sequences | a list | |
//! | tuples, arrays, tuple structs | a tuple | |
//! | maps | a map | |
//! | structs | a map with atom keys | `%{name: ...}` |
//! | `Variant` | `'Variant'` | `:Variant` |
//! | `Variant(value)`, `Variant(a, b)` | `{'Variant', Value}`, `{'Variant', A, B}` | |
//! | `Variant { field }` | `{'Variant', #{field => Field}}` | |
//! | [`Atom`], [`Term`] | an atom, any term | |
//!
//! Use `#[serde(rename_all = "snake_case")]` on enums. An atom is never taken for text, nor text
//! for an atom, but for the names of fields, which may be either, and where serde buffers
//! (`untagged`, `flatten`, internally tagged enums), where both are text. Types that choose by
//! `is_human_readable` get `false`.
//!
//! # Without `std`
//!
//! `alloc` is enough: turn the default features off. The feature `std` adds one thing, a source
//! of randomness. Large maps are searched for a key that is there twice by digests of the keys;
//! with randomness nobody can make keys for which digests collide, without it a map with three
//! keys of one digest is refused.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

mod de;
mod decode;
mod encode;
mod error;
mod from_term;
mod inflate;
mod integer;
mod keys;
mod limits;
mod order;
mod passthrough;
mod reader;
mod rules;
mod ser;
mod skip;
mod tag;
mod term;
pub mod text;

pub use de::{from_slice, from_slice_with};
pub use decode::{decode, decode_with};
pub use encode::{encode, encode_into, try_encode_into};
pub use error::{DecodeError, DecodeErrorKind, EncodeError, Error};
pub use from_term::from_term;
pub use integer::BigInteger;
pub use limits::Limits;
pub use passthrough::Atom;
pub use rules::Rules;
pub use ser::{to_term, to_vec, to_vec_into};
pub use term::{BinaryContent, Opaque, OpaqueKind, Term};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
