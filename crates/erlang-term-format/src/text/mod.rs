//! Terms as source text, both ways: in Erlang's syntax and in Elixir's.
//!
//! Read is what stands for a value by itself, as one would type it in a shell or keep it in a
//! file for `file:consult/1`: numbers, atoms, strings, binaries, lists, tuples, maps. Nothing is
//! computed: no variables, no calls, no operators, no structs, no sigils but `~c"..."`, no
//! interpolation, no heredocs. Bytes mean what they mean in the language: Erlang's `<<"é">>` is
//! the one byte 233 and `<<"é"/utf8>>` are two, as is Elixir's `"é"`.
//!
//! Printed text is read back as an equal term, by this module and by the language itself. Pids,
//! ports, references and funs have no source text of their own, so they are printed as the call
//! that makes them of their encoding, `binary_to_term(<<131,...>>)` or, in Elixir,
//! `:erlang.binary_to_term(<<131, ...>>)`, and that call alone is read back.
//!
//! ```
//! use erlang_term_format::{map, text::Syntax, Term};
//!
//! let pod = Syntax::Elixir.parse(r#"%{name: "web", args: ["-v"], restart: :always}"#)?;
//! assert_eq!(pod.get("name").and_then(Term::as_str), Some("web"));
//! assert_eq!(pod.to_string(), r#"#{name => <<"web">>,args => [<<"-v">>],restart => always}"#);
//! assert_eq!(Syntax::Elixir.print(&map! { "retries" => 3 }).to_string(), "%{retries: 3}");
//! # Ok::<(), erlang_term_format::text::ParseError>(())
//! ```

mod bits;
mod cursor;
mod elixir;
mod erlang;
mod number;
mod parser;
mod token;

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::{self, Display, Formatter};

use crate::limits::Limits;
use crate::term::Term;
use parser::Parser;

/// How source text is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Syntax {
    /// `#{name => <<"web">>}`, as `Display` prints it.
    #[default]
    Erlang,
    /// `%{name: "web"}`
    Elixir,
}

impl Syntax {
    /// Reads the one term that `text` consists of; what ends a term may follow it.
    ///
    /// # Errors
    ///
    /// Anything else, terms nested deeper than [`DEPTH_MAX`], and maps in keys of maps in keys of
    /// maps that would take longer to compare than to read.
    pub fn parse(self, text: &str) -> Result<Term<'static>, ParseError> {
        Parser::new(self, text).only_term().map_err(|fault| fault.locate(text))
    }

    /// Reads the first term of a text that may have more of them, and gives what follows it;
    /// nothing if there is none.
    ///
    /// A term ends at a dot in Erlang and a semicolon in Elixir, or else where another one begins
    /// or at the end of the line on which it is complete. So give whole lines. A term that is not
    /// complete yet is an error that [says so](ParseError::is_incomplete): whoever reads from a
    /// terminal asks for another line then.
    ///
    /// ```
    /// use erlang_term_format::text::Syntax;
    ///
    /// let text = "{1, status}\n{2,\n";
    /// let Some((term, rest)) = Syntax::Erlang.first(text)? else { panic!("there is one") };
    /// assert_eq!(term.to_string(), "{1,status}");
    /// let error = Syntax::Erlang.first(rest).expect_err("there is half of one");
    /// assert!(error.is_incomplete());
    /// # Ok::<(), erlang_term_format::text::ParseError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse), for the first term.
    pub fn first(self, text: &str) -> Result<Option<(Term<'static>, &str)>, ParseError> {
        let first = Parser::new(self, text).first_term().map_err(|fault| fault.locate(text))?;
        Ok(first.map(|(term, end)| (term, &text[end..])))
    }

    /// The term as source text.
    ///
    /// Elixir's text is what `inspect/2` makes of the term when nothing limits it, but for
    /// lists of printable ASCII, `~c"text"` as since Elixir 1.15, the order of a map's entries,
    /// which is kept, structs, which are maps here, names beyond ASCII, which are quoted, and
    /// characters that Elixir does not read back, which are escaped.
    pub fn print(self, term: &Term<'_>) -> impl Display {
        fmt::from_fn(move |f| match self {
            Self::Erlang => term.fmt(f),
            Self::Elixir => elixir::print(term, f),
        })
    }
}

/// Reads the one term that `text` consists of, in Erlang's syntax. A dot at its end is allowed.
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
/// As [`Syntax::parse`].
pub fn parse(text: &str) -> Result<Term<'static>, ParseError> {
    Syntax::Erlang.parse(text)
}

/// Reads terms in Erlang's syntax that each end with a dot, as `file:consult/1` does.
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
    let mut parser = Parser::new(Syntax::Erlang, text);
    parser.all_terms().map_err(|fault| fault.locate(text))
}

/// How deep containers may be nested in text: as deep as in bytes, at most.
pub const DEPTH_MAX: usize = Limits::DEPTH_CEILING;

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
    offset: usize,
    incomplete: bool,
}

impl ParseError {
    /// Whether the text ends inside a term, so that more of it might mend it.
    pub fn is_incomplete(&self) -> bool {
        self.incomplete
    }

    /// The byte of the text at which it is wrong.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// The line that is wrong, of the text that was parsed, and below it a mark at the column.
    ///
    /// ```
    /// use erlang_term_format::text;
    ///
    /// let text = "#{name =>\n    web server}";
    /// let error = text::parse(text).expect_err("two atoms");
    /// assert_eq!(error.excerpt(text).to_string(), "    web server}\n        ^");
    /// ```
    pub fn excerpt(&self, text: &str) -> impl Display {
        /// Of a longer line, this much is shown before and behind the mark.
        const AROUND: usize = 60;
        let line = text.lines().nth(self.line.saturating_sub(1)).unwrap_or_default();
        let before = self.column.saturating_sub(1);
        let skipped = before.saturating_sub(AROUND);
        let shown = line.chars().skip(skipped).take(2 * AROUND);
        // A tab or a sequence for the terminal would move the mark.
        let shown: String = shown.map(|each| if each.is_control() { ' ' } else { each }).collect();
        let indent = before - skipped;
        fmt::from_fn(move |f| write!(f, "{shown}\n{:indent$}^", ""))
    }
}

/// What is wrong, at a byte of the text.
#[derive(Debug)]
struct Fault {
    offset: usize,
    message: String,
    incomplete: bool,
}

impl Fault {
    fn new(offset: usize, message: impl Display) -> Self {
        Self { offset, message: message.to_string(), incomplete: false }
    }

    /// Quotes that were opened at `offset`.
    fn unclosed(offset: usize, quote: char) -> Self {
        Self::new(offset, format_args!("no closing {}", Shown(quote))).for_want_of_text()
    }

    /// `#PID<0.1.0>`, as a shell shows it.
    fn opaque(offset: usize) -> Self {
        let message = "what a shell prints as `#...<...>` has no value outside of its node";
        Self::new(offset, message)
    }

    /// The same fault, because the text ended.
    fn for_want_of_text(self) -> Self {
        Self { incomplete: true, ..self }
    }

    fn locate(self, text: &str) -> ParseError {
        let before = &text[..self.offset];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        ParseError {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            message: self.message,
            offset: self.offset,
            incomplete: self.incomplete,
        }
    }
}

/// A character as an error message shows it.
struct Shown(char);

impl Display for Shown {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            each if is_hidden(each) => write!(f, "`{}`", each.escape_debug()),
            each => write!(f, "`{each}`"),
        }
    }
}

/// Joins with commas what `print` makes of each.
fn separated<T>(
    elements: impl IntoIterator<Item = T>,
    comma: &str,
    f: &mut Formatter<'_>,
    print: impl Fn(T, &mut Formatter<'_>) -> fmt::Result,
) -> fmt::Result {
    for (index, element) in elements.into_iter().enumerate() {
        if index > 0 {
            f.write_str(comma)?;
        }
        print(element, f)?;
    }
    Ok(())
}

/// Text between quotes: `escapes` names the characters that it writes in its own way.
fn quoted(
    text: &str,
    quote: char,
    f: &mut Formatter<'_>,
    escape: impl Fn(char, &mut Formatter<'_>) -> fmt::Result,
) -> fmt::Result {
    use fmt::Write as _;

    f.write_char(quote)?;
    for each in text.chars() {
        match each {
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            '\\' => f.write_str("\\\\")?,
            each if each == quote => write!(f, "\\{quote}")?,
            each => escape(each, f)?,
        }
    }
    f.write_char(quote)
}

/// The text of a list that looks like one.
fn printable_list(elements: &[Term<'_>]) -> Option<String> {
    let character = |element: &Term<'_>| {
        let code = u32::try_from(element.as_i64()?).ok()?;
        char::from_u32(code).filter(|each| is_plain(*each))
    };
    if elements.is_empty() {
        return None;
    }
    elements.iter().map(character).collect()
}

/// The text of a binary that looks like one.
fn printable_binary(bytes: &[u8]) -> Option<&str> {
    let text = core::str::from_utf8(bytes).ok()?;
    let obscure = text.chars().any(|each| each.is_control() && !is_plain(each));
    (!obscure).then_some(text)
}

fn is_plain(character: char) -> bool {
    matches!(character, ' '..='~' | '\n' | '\t' | '\r')
}

/// What would not be seen, or would change how the text around it is seen.
pub(crate) fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{2069}'
                | '\u{feff}'
        )
}
