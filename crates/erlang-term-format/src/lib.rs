//! Erlang's external term format: what `term_to_binary/1` makes and a port with `{packet, 4}`
//! speaks.
//!
//! Two ways in, over the same bounded reader:
//!
//! - [`from_slice`] and [`to_vec`] read and write your own types through serde, straight from and
//!   to bytes;
//! - [`decode`] and [`encode`] read and write a [`Term`], which borrows from its input. A `Term`
//!   can also be a field of a derived type, for what is passed through.
//!
//! And one for people: [`text`] reads and prints terms in Erlang's and in Elixir's syntax.
//!
//! ```
//! use erlang_term_format::{decode, from_slice, text::Syntax, to_vec, Term};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Start<'a> {
//!     name: &'a str,
//!     #[serde(borrow)]
//!     options: Term<'a>,
//! }
//!
//! let options = Syntax::Elixir.parse("[restart: :always, ports: [8080]]")?;
//! let bytes = to_vec(&Start { name: "web", options })?;
//! assert_eq!(
//!     decode(&bytes)?.to_string(),
//!     r#"#{name => <<"web">>,options => [{restart,always},{ports,[8080]}]}"#
//! );
//! let start: Start = from_slice(&bytes)?;
//! assert!(bytes.as_ptr_range().contains(&start.name.as_ptr())); // nothing is copied
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Input that nobody vouches for
//!
//! No input can make it panic, recurse without end, or allocate more than its [`Limits`] say:
//! every claimed length is checked against the bytes that are left and the nodes that may still
//! be spent before anything is reserved. All in all, terms take at most 32 times the length of
//! the input and 3 MiB, compressed or not; [`Limits`] says how that is counted, and what it means
//! for types of your own. A map that has a key twice is refused, wherever it is, also in what a
//! type skips.
//!
//! An error says where in the value it is, and where in the input, and `expecting` lets a type
//! say what it wants in words of its own:
//!
//! ```
//! use erlang_term_format::{from_term, text};
//! use serde::Deserialize;
//!
//! #[derive(Deserialize)]
//! struct Pod { containers: Vec<Container> }
//!
//! #[derive(Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Container { limits: Limits }
//!
//! #[derive(Deserialize)]
//! struct Limits { cpu: Option<Cpu> }
//!
//! #[derive(Deserialize)]
//! #[serde(expecting = "{quota_us, period_us}")]
//! struct Cpu(u64, u64);
//!
//! let pod = "#{containers => [#{limits => #{cpu => {1, 2}}}, #{limits => #{cpu => <<\"half\">>}}]}";
//! let error = from_term::<Pod>(&text::parse(pod)?).err().expect("half of what?");
//! assert_eq!(error.path(), "containers[1].limits.cpu");
//! assert!(error.to_string().starts_with(
//!     "containers[1].limits.cpu: invalid type: string \"half\", expected {quota_us, period_us}"
//! ));
//! # Ok::<(), text::ParseError>(())
//! ```
//!
//! [`Rules`] check what a term holds before it is passed on, as the option `safe` of
//! `binary_to_term/2` does.
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
//! for an atom, but for the names of fields, which may be either, and where serde buffers. Types
//! that choose by `is_human_readable` get `false`.
//!
//! Some types cannot be told apart at once: those with `flatten` or `untagged`, and enums with
//! `tag`, also those with `content` besides, when the content comes first. Of these serde keeps
//! what it reads in a form of its own, which knows text but no atoms, sequences but no tuples, and
//! nothing like a pid. So in there
//!
//! - an atom is text, but for `true`, `false` and `nil`, and a [`Term`] has binaries for atoms and
//!   lists for tuples;
//! - a variant with content is read from a map, `#{variant => Content}`, not from a tuple;
//! - pids, ports, references, funs, bit strings and integers that are no `i64` or `u64` are errors.
//!
//! And serde writes a struct with `flatten` as a map with text for keys, and the variant of an
//! enum with `tag` alone as text. Enums as in the table, and fields that are terms, need none of
//! it.
//!
//! # What is read and written
//!
//! All that OTP 24 to 28 write for anybody outside, and what nodes before them wrote:
//!
//! | Term | Tags read | Written, as OTP 26 does | Here |
//! |---|---|---|---|
//! | integer | 97, 98, 110, 111 | the shortest | [`Term::Integer`], or [`Term::BigInteger`] beyond 64 bits |
//! | float | 70, 99 | 70 | [`Term::Float`] |
//! | atom | 119, 118, 100, 115 | 119, 118 | [`Term::Atom`] |
//! | list | 106, 107, 108 | the shortest | [`Term::List`], [`Term::ImproperList`] |
//! | tuple | 104, 105 | the shorter | [`Term::Tuple`] |
//! | map | 116 | 116 | [`Term::Map`] |
//! | binary, bit string | 109, 77 | 109, 77 | [`Term::Binary`], [`Term::BitString`] |
//! | pid | 88, 103 | as it was read | [`Term::Opaque`] |
//! | port | 120, 89, 102 | as it was read | [`Term::Opaque`] |
//! | reference | 90, 114, 101 | as it was read | [`Term::Opaque`] |
//! | fun | 112, 117 | as it was read | [`Term::Opaque`] |
//! | export | 113 | 113 | [`Term::Opaque`] |
//! | anything, compressed | 80 | never | what it holds |
//!
//! Refused by name is what has no meaning to anybody else: references into the atom cache of a
//! connection (82), headers of the distribution protocol (68, 69), and what `term_to_binary/2`
//! makes with the option `local` (`LOCAL_EXT`, 121), which is for nobody but who made it. What
//! `binary_to_term/1` refuses is refused here, but for funs as they were before R8 (117), and for
//! pids, ports and references that only the node that they name can refuse, as it has no room for
//! such a number.
//!
//! Entries of maps are written in the order that they have; after [`Term::sort_maps`], bytes are
//! those of the option `deterministic`.
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

mod byte;
mod de;
mod decode;
mod encode;
mod error;
mod from_term;
mod inflate;
mod integer;
mod keys;
mod limits;
mod list;
mod order;
mod passthrough;
mod reader;
mod rules;
mod seen;
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
