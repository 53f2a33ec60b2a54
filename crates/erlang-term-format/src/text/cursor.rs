//! A place in a text, and the pieces of words and numbers that both syntaxes share.

use super::number::{Number, magnitude};
use super::{Fault, Shown};

pub(super) type Result<T> = core::result::Result<T, Fault>;

#[derive(Debug)]
pub(super) struct Cursor<'t> {
    text: &'t str,
    offset: usize,
}

impl<'t> Cursor<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, offset: 0 }
    }

    pub(super) fn offset(&self) -> usize {
        self.offset
    }

    pub(super) fn rest(&self) -> &'t str {
        &self.text[self.offset..]
    }

    /// What lies between `start` and here.
    pub(super) fn since(&self, start: usize) -> &'t str {
        &self.text[start..self.offset]
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub(super) fn advance(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.offset += next.len_utf8();
        Some(next)
    }

    /// Takes `prefix` if it is next.
    pub(super) fn accept(&mut self, prefix: &str) -> bool {
        let found = self.rest().starts_with(prefix);
        if found {
            self.offset += prefix.len();
        }
        found
    }

    /// Takes the first of `marks` that is next: longer ones must stand before their beginnings.
    pub(super) fn accept_any(&mut self, marks: &[&'static str]) -> Option<&'static str> {
        marks.iter().copied().find(|mark| self.accept(mark))
    }

    pub(super) fn take_while(&mut self, take: impl Fn(char) -> bool) -> &'t str {
        let rest = self.rest();
        let length = rest.find(|each| !take(each)).unwrap_or(rest.len());
        self.offset += length;
        &rest[..length]
    }

    /// Whether nothing but blanks and a comment is left of this line.
    pub(super) fn is_line_done(&self, comment: char) -> bool {
        // To the next word and no further: this is asked at each string of a line.
        let rest =
            self.rest().trim_start_matches(|each: char| each.is_whitespace() && each != '\n');
        rest.is_empty() || rest.starts_with(['\n', comment])
    }

    /// Digits, with single underscores between them.
    pub(super) fn digits(&mut self, base: u32) -> Result<&'t str> {
        let start = self.offset;
        let digits = self.take_while(|each| each == '_' || each.is_digit(base));
        let lonely = digits.is_empty()
            || digits.starts_with('_')
            || digits.ends_with('_')
            || digits.contains("__");
        if lonely {
            return Err(Fault::new(start, format_args!("expected digits of base {base}")));
        }
        Ok(digits)
    }

    pub(super) fn integer(&mut self, base: u32) -> Result<Number> {
        let start = self.offset;
        let digits = self.digits(base)?;
        magnitude(digits, base, start).map(Number::Integer)
    }

    /// A decimal number with a point and digits on both sides of it, or without.
    pub(super) fn decimal(&mut self) -> Result<Number> {
        let start = self.offset;
        let digits = self.digits(10)?;
        let fraction = self.rest().strip_prefix('.');
        if fraction.is_some_and(|rest| rest.starts_with(|each: char| each.is_ascii_digit())) {
            return self.fraction(start).map(Number::Float);
        }
        magnitude(digits, 10, start).map(Number::Integer)
    }

    fn fraction(&mut self, start: usize) -> Result<f64> {
        self.advance();
        self.digits(10)?;
        if matches!(self.peek(), Some('e' | 'E')) {
            self.advance();
            if matches!(self.peek(), Some('+' | '-')) {
                self.advance();
            }
            self.digits(10)?;
        }
        let written = self.since(start).replace('_', "");
        match written.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(value),
            _ => Err(Fault::new(start, "a float beyond the range of a double")),
        }
    }

    /// `12ab` is no number and an atom.
    pub(super) fn number_ends(&self, continues_word: impl Fn(char) -> bool) -> Result<()> {
        match self.peek() {
            Some(next) if continues_word(next) => {
                let found = Shown(next);
                Err(Fault::new(self.offset, format_args!("{found} in a number")))
            }
            _ => Ok(()),
        }
    }

    /// The character of up to `length` digits in `base`, at least one.
    pub(super) fn coded(&mut self, base: u32, length: usize, start: usize) -> Result<char> {
        let rest = self.rest();
        let length = rest.chars().take(length).take_while(|each| each.is_digit(base)).count();
        self.offset += length;
        code_point(&rest[..length], base, start)
    }

    /// The character of hexadecimal digits and a closing brace.
    pub(super) fn braced(&mut self, start: usize) -> Result<char> {
        let digits = self.take_while(|each| each.is_ascii_hexdigit());
        if !self.accept("}") {
            return Err(self.short(start, "expected hexadecimal digits and `}`"));
        }
        code_point(digits, 16, start)
    }

    /// A fault at `start` that more text might mend, if there is none.
    pub(super) fn short(&self, start: usize, message: &str) -> Fault {
        let fault = Fault::new(start, message);
        if self.rest().is_empty() { fault.for_want_of_text() } else { fault }
    }
}

fn code_point(digits: &str, base: u32, start: usize) -> Result<char> {
    let code = u32::from_str_radix(digits, base).ok().and_then(char::from_u32);
    code.ok_or_else(|| Fault::new(start, "not a Unicode code point"))
}
