//! What can be wrong with bytes, with a value, and where.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use thiserror::Error as ThisError;

/// Input that is not a well-formed term within its limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ThisError)]
#[error("{kind} at byte {offset}")]
pub struct DecodeError {
    /// What is wrong.
    pub kind: DecodeErrorKind,
    /// Where, counted from the start of the input. Inside a compressed term it counts from
    /// the start of what was inflated.
    pub offset: usize,
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
/// Its text starts with the path when there is one:
/// `containers[1].limits.cpu: invalid type: string "a", expected u64`.
#[derive(Clone, Debug, ThisError)]
pub struct Error {
    inner: Box<Inner>,
}

#[derive(Clone, Debug)]
struct Inner {
    cause: Cause,
    /// Innermost step first.
    steps: Vec<Step>,
}

#[derive(Clone, Debug)]
enum Cause {
    Decode(DecodeError),
    Encode(EncodeError),
    Message(String),
}

#[derive(Clone, Debug)]
enum Step {
    Key(String),
    Index(usize),
}

impl Error {
    fn new(cause: Cause) -> Self {
        Self { inner: Box::new(Inner { cause, steps: Vec::new() }) }
    }

    /// The error below `key`.
    pub(crate) fn below_key(mut self, key: impl Into<String>) -> Self {
        self.inner.steps.push(Step::Key(key.into()));
        self
    }

    /// The error below element `index`.
    pub(crate) fn below_index(mut self, index: usize) -> Self {
        self.inner.steps.push(Step::Index(index));
        self
    }

    /// Where in the value, as `containers[1].limits.cpu`; empty at the top.
    pub fn path(&self) -> String {
        let mut path = String::new();
        for step in self.inner.steps.iter().rev() {
            match step {
                Step::Key(key) if path.is_empty() => path.push_str(key),
                Step::Key(key) => path.extend([".", key]),
                Step::Index(index) => path.push_str(&format!("[{index}]")),
            }
        }
        path
    }

    /// What is wrong, without the path.
    pub fn message(&self) -> String {
        match &self.inner.cause {
            Cause::Decode(error) => error.to_string(),
            Cause::Encode(error) => error.to_string(),
            Cause::Message(message) => message.clone(),
        }
    }

    /// The malformed input behind this error, if that is what it is.
    pub fn decode_error(&self) -> Option<DecodeError> {
        match self.inner.cause {
            Cause::Decode(error) => Some(error),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.inner.steps.is_empty() {
            write!(f, "{}: ", self.path())?;
        }
        f.write_str(&self.message())
    }
}

impl From<DecodeError> for Error {
    fn from(error: DecodeError) -> Self {
        Self::new(Cause::Decode(error))
    }
}

impl From<EncodeError> for Error {
    fn from(error: EncodeError) -> Self {
        Self::new(Cause::Encode(error))
    }
}

impl serde::de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(Cause::Message(message.to_string()))
    }
}

impl serde::ser::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(Cause::Message(message.to_string()))
    }
}
