//! Erlang source text into terms: what one would type in the shell, or keep in a file for
//! `file:consult/1`.
//!
//! Printing is [`Term`]'s `Display`. Bytes mean what they mean in Erlang: `<<"é">>` is the one
//! byte 233, and `<<"é"/utf8>>` the two bytes of UTF-8.

mod lexer;
mod number;
mod parser;

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::{self, Display};

use crate::term::Term;
use parser::Parser;

/// Text that is no term, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct ParseError {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// What is wrong there.
    pub message: String,
}

/// What is wrong, at a byte of the text.
#[derive(Debug)]
struct Fault {
    offset: usize,
    message: String,
}

impl Fault {
    fn new(offset: usize, message: impl Display) -> Self {
        let message = message.to_string();
        Self { offset, message }
    }

    fn locate(self, text: &str) -> ParseError {
        let before = &text[..self.offset];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        ParseError {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            message: self.message,
        }
    }
}

/// Reads the one term that `text` consists of. A dot at its end is allowed.
///
/// ```
/// use erlang_term_format::{text, Term};
///
/// let pod = text::parse("#{name => <<\"web\">>, ports => [80, 16#1bb]} % a pod")?;
/// assert_eq!(pod.get("name").and_then(Term::as_str), Some("web"));
///
/// let error = text::parse("{ok, Value}").expect_err("variables have no value");
/// assert_eq!(error.to_string(), "line 1, column 6: variable `Value`, expected a term");
/// # Ok::<(), text::ParseError>(())
/// ```
///
/// # Errors
///
/// Anything else, and terms nested deeper than [`DEPTH_MAX`].
pub fn parse(text: &str) -> Result<Term<'static>, ParseError> {
    let mut parser = Parser::new(text);
    parser.only_term().map_err(|fault| fault.locate(text))
}

/// Reads terms that each end with a dot, as `file:consult/1` does.
///
/// ```
/// use erlang_term_format::text;
///
/// let terms = text::parse_all("{a, 1}.\n{b, 2}. % the end\n")?;
/// assert_eq!(terms.len(), 2);
/// # Ok::<(), text::ParseError>(())
/// ```
///
/// # Errors
///
/// As [`parse`], for the first term that is wrong.
pub fn parse_all(text: &str) -> Result<Vec<Term<'static>>, ParseError> {
    let mut parser = Parser::new(text);
    parser.all_terms().map_err(|fault| fault.locate(text))
}

/// How deep containers may be nested in text.
pub const DEPTH_MAX: usize = 128;

/// Whether an atom must be quoted because Erlang uses the word itself.
pub(crate) fn is_reserved(word: &str) -> bool {
    const RESERVED: [&str; 29] = [
        "after", "and", "andalso", "band", "begin", "bnot", "bor", "bsl", "bsr", "bxor", "case",
        "catch", "cond", "div", "else", "end", "fun", "if", "let", "maybe", "not", "of", "or",
        "orelse", "receive", "rem", "try", "when", "xor",
    ];
    RESERVED.binary_search(&word).is_ok()
}

/// A character as an error message shows it.
struct Shown(char);

impl Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.0.escape_debug())
    }
}
