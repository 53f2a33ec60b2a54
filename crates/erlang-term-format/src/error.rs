//! What can be wrong with bytes, with a value, and where.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write as _};

use serde::de::{Expected, Unexpected};
use thiserror::Error as ThisError;

use crate::text::is_hidden;

/// Input that is not a well-formed term within its limits.
///
/// Its text starts with the path when there is one:
/// `containers[1].env: a map has the same key twice at byte 213`.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[error("{path}{}{kind} at byte {offset}", path.separator())]
#[non_exhaustive]
pub struct DecodeError {
    /// What is wrong.
    pub kind: DecodeErrorKind,
    /// Where, counted from the start of the input. Inside a compressed term it counts from
    /// the start of what was inflated.
    pub offset: usize,
    path: Path,
}

impl DecodeError {
    #[cold]
    pub(crate) fn new(offset: usize, kind: DecodeErrorKind) -> Box<Self> {
        Box::new(Self { kind, offset, path: Path::default() })
    }

    /// The error below `step`.
    pub(crate) fn below(mut self: Box<Self>, step: Step) -> Box<Self> {
        self.path.steps.push(step);
        self
    }

    /// Where in the term, as `containers[1].limits.cpu`; empty at the top.
    pub fn path(&self) -> String {
        self.path.text()
    }
}

/// The ways in which input can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ThisError)]
#[non_exhaustive]
pub enum DecodeErrorKind {
    /// The input, or the content of a compressed term, is longer than `bytes_max`.
    #[error("{bytes} bytes are more than the {max} allowed")]
    TooLarge {
        /// How long it is, or says it is.
        bytes: usize,
        /// `bytes_max`.
        max: usize,
    },
    /// The input ends inside a term.
    #[error("unexpected end of input")]
    UnexpectedEnd,
    /// A length goes beyond the end of the input.
    #[error("a length of {claimed} is more than the {left} bytes left can hold")]
    LengthBeyondEnd {
        /// The elements or bytes that the length promises.
        claimed: usize,
        /// The bytes that follow.
        left: usize,
    },
    /// There are more terms than `nodes_max`.
    #[error("more than {max} terms")]
    TooManyNodes {
        /// `nodes_max`.
        max: usize,
    },
    /// It would take more memory than an input of its length may; see
    /// [`Limits`](crate::Limits).
    #[error("more than the {max} bytes of memory allowed for its length")]
    TooMuchMemory {
        /// The memory that it may take, in bytes.
        max: usize,
    },
    /// Containers are nested deeper than `depth_max`.
    #[error("more than {max} levels of nesting")]
    TooDeep {
        /// `depth_max`.
        max: usize,
    },
    /// The first byte is not the version, 131.
    #[error("version byte {0} instead of 131")]
    Version(u8),
    /// A tag that no term starts with.
    #[error("unknown tag {0}")]
    UnknownTag(u8),
    /// A tag that only means something between connected nodes, or on the node that wrote it.
    #[error("{name} (tag {tag}) cannot be decoded outside of the connection it belongs to")]
    Unsupported {
        /// The tag.
        tag: u8,
        /// Its name in the ERTS User's Guide.
        name: &'static str,
    },
    /// An atom whose text is not UTF-8.
    #[error("an atom is not valid UTF-8")]
    AtomEncoding,
    /// An atom of more than 255 characters.
    #[error("an atom of more than 255 characters")]
    AtomTooLong,
    /// A place that only takes an atom holds something else.
    #[error("tag {0} where an atom must be")]
    AtomExpected(u8),
    /// A float that is infinite, not a number, or not readable as text.
    #[error("a float that is not a finite number")]
    Float,
    /// A big integer whose sign byte is neither 0 nor 1.
    #[error("sign byte {0} in an integer")]
    Sign(u8),
    /// A bit string whose last byte has a number of bits that cannot be.
    #[error("{0} bits in the last byte of a bit string")]
    LastBits(u8),
    /// A map with the same key twice.
    #[error("a map has the same key twice")]
    DuplicateKey,
    /// A fun, pid, port or reference whose parts do not add up.
    #[error("malformed {0}")]
    Malformed(&'static str),
    /// Compressed data that does not inflate.
    #[error("damaged compressed data")]
    Compressed,
    /// A compressed term that is not as long as it says.
    #[error("compressed data does not inflate to the {claimed} bytes that it claims")]
    CompressedSize {
        /// The length that it claims.
        claimed: usize,
    },
    /// More bytes after the term.
    #[error("{0} bytes after the end of the term")]
    TrailingBytes(usize),
}

/// A term that Erlang has no form for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ThisError)]
#[non_exhaustive]
pub enum EncodeError {
    /// Erlang has neither infinities nor NaN.
    #[error("a float that is not finite has no Erlang form")]
    Float,
    /// An atom of more than 255 characters.
    #[error("an atom of {0} characters is longer than 255")]
    AtomTooLong(usize),
    /// More elements or bytes than a 32-bit length can say.
    #[error("a length of {0} does not fit in 32 bits")]
    TooLong(usize),
    /// A bit string whose last byte has a number of bits that cannot be.
    #[error("{0} bits in the last byte of a bit string")]
    LastBits(u8),
}

/// A value that cannot be read from a term or written as one, and where in the value.
///
/// Its text starts with the path when there is one, and ends with the place in the input:
/// `containers[1].limits.cpu: invalid type: string "a", expected u64 at byte 213`.
#[derive(Clone, Debug, ThisError)]
#[error("{}{}{}{}", inner.path, inner.path.separator(), inner.cause, At(inner.offset))]
pub struct Error {
    inner: Box<Inner>,
}

#[derive(Clone, Debug)]
struct Inner {
    cause: Cause,
    /// Where in the input, if there is one.
    offset: Option<usize>,
    path: Path,
}

#[derive(Clone, Debug, ThisError)]
enum Cause {
    #[error(transparent)]
    Decode(DecodeErrorKind),
    #[error(transparent)]
    Encode(EncodeError),
    #[error("{0}")]
    Message(String),
}

impl Error {
    #[cold]
    fn new(cause: Cause) -> Self {
        Self { inner: Box::new(Inner { cause, offset: None, path: Path::default() }) }
    }

    /// The error below `step`.
    #[cold]
    pub(crate) fn below(mut self, step: Step) -> Self {
        self.inner.path.steps.push(step);
        self
    }

    /// The error below `key`, which is a name in the user's own program.
    #[cold]
    pub(crate) fn below_name(self, key: &str) -> Self {
        self.below(Step::Key(key.into()))
    }

    /// The error below element `index`.
    #[cold]
    pub(crate) fn below_index(self, index: usize) -> Self {
        self.below(Step::Index(index))
    }

    /// The error in the term that starts at `offset`, unless a more exact place is known.
    #[cold]
    pub(crate) fn in_term_at(mut self, offset: usize) -> Self {
        self.inner.offset.get_or_insert(offset);
        self
    }

    /// Where in the value, as `containers[1].limits.cpu`; empty at the top.
    pub fn path(&self) -> String {
        self.inner.path.text()
    }

    /// Where in the input, counted from its start, or for a compressed term from the start of
    /// what was inflated. It is where the term starts that is no such value, or the very byte
    /// that no term can have there. `None` if no input was read.
    pub fn offset(&self) -> Option<usize> {
        self.inner.offset
    }

    /// What is wrong, without path and offset.
    pub fn message(&self) -> String {
        let mut message = String::new();
        // Writing to a `String` cannot fail.
        let _ = write!(message, "{}", self.inner.cause);
        message
    }

    /// What is wrong with the input, if it is not well-formed or beyond the limits.
    pub fn decode_error(&self) -> Option<DecodeErrorKind> {
        match self.inner.cause {
            Cause::Decode(kind) => Some(kind),
            _ => None,
        }
    }
}

/// The end of an error's text.
struct At(Option<usize>);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(offset) => write!(f, " at byte {offset}"),
            None => Ok(()),
        }
    }
}

impl From<Box<DecodeError>> for Error {
    #[cold]
    fn from(error: Box<DecodeError>) -> Self {
        let DecodeError { kind, offset, path } = *error;
        let offset = Some(offset);
        Self { inner: Box::new(Inner { cause: Cause::Decode(kind), offset, path }) }
    }
}

impl From<EncodeError> for Error {
    fn from(error: EncodeError) -> Self {
        Self::new(Cause::Encode(error))
    }
}

impl serde::de::Error for Error {
    #[cold]
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(Cause::Message(short(&message, MESSAGE_BYTES_MAX)))
    }

    #[cold]
    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        match found {
            Unexpected::Str(text) if text.len() > QUOTED_BYTES_MAX => {
                let start = &text[..text.floor_char_boundary(QUOTED_BYTES_MAX)];
                let bytes = text.len();
                Self::custom(format_args!(
                    "invalid type: string of {bytes} bytes, {start:?}..., expected {expected}"
                ))
            }
            _ => Self::custom(format_args!("invalid type: {found}, expected {expected}")),
        }
    }
}

impl serde::ser::Error for Error {
    #[cold]
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(Cause::Message(short(&message, MESSAGE_BYTES_MAX)))
    }
}

/// The way from the whole to a part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Path {
    /// Innermost first.
    steps: Vec<Step>,
}

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Key(String),
    Index(usize),
}

impl Step {
    /// The step to what a map holds at `key`.
    pub(crate) fn key(key: &impl fmt::Display) -> Self {
        Self::Key(short(key, KEY_BYTES_MAX))
    }
}

impl Path {
    fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a `String` cannot fail.
        let _ = write!(text, "{self}");
        text
    }

    /// What stands between the path and what is wrong.
    fn separator(&self) -> &'static str {
        if self.steps.is_empty() { "" } else { ": " }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut dot = "";
        for step in self.steps.iter().rev() {
            match step {
                Step::Key(key) => write!(f, "{dot}{key}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
            dot = ".";
        }
        Ok(())
    }
}

/// Longest message that is kept. It may quote the input, which is as long as it likes.
const MESSAGE_BYTES_MAX: usize = 1024;
/// Longest text that is quoted: what was expected comes after it, and matters more.
const QUOTED_BYTES_MAX: usize = 64;
/// Longest key that is kept.
const KEY_BYTES_MAX: usize = 64;

/// The text of `value`, cut off after `bytes_max`.
fn short(value: &impl fmt::Display, bytes_max: usize) -> String {
    let mut short = Short { text: String::new(), bytes_max };
    if write!(short, "{value}").is_err() {
        short.text.push('…');
    }
    short.text
}

/// Takes so many bytes of text, and then is full. What would not be seen is escaped: an error is
/// one line, and whoever sent the input has no say in what a log or a terminal makes of it.
struct Short {
    text: String,
    bytes_max: usize,
}

impl fmt::Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            let before = self.text.len();
            if is_hidden(character) {
                self.text.extend(character.escape_unicode());
            } else {
                self.text.push(character);
            }
            if self.text.len() > self.bytes_max {
                self.text.truncate(before);
                return Err(fmt::Error);
            }
        }
        Ok(())
    }
}
