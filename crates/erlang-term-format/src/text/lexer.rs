//! Text into tokens.

use alloc::borrow::ToOwned;
use alloc::string::String;

use super::number::{Number, magnitude};
use super::{Fault, Shown};

type Result<T> = core::result::Result<T, Fault>;

#[derive(Debug)]
pub(super) enum Token {
    Atom(String),
    /// An unquoted word that Erlang reserves.
    Reserved(String),
    Variable(String),
    Number(Number),
    Text(String),
    /// Brackets, separators and signs.
    Mark(&'static str),
    /// The end of a term.
    Dot,
    End,
}

/// Longer marks before their own beginnings.
const MARKS: [&str; 17] =
    ["<<", ">>", "=>", "#{", "{", "}", "[", "]", "(", ")", ",", "|", ":", "/", "-", "+", "#"];

#[derive(Debug)]
pub(super) struct Lexer<'t> {
    text: &'t str,
    offset: usize,
}

impl<'t> Lexer<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, offset: 0 }
    }

    fn rest(&self) -> &'t str {
        &self.text[self.offset..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn advance(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.offset += next.len_utf8();
        Some(next)
    }

    fn take_while(&mut self, take: impl Fn(char) -> bool) -> &'t str {
        let rest = self.rest();
        let length = rest.find(|each| !take(each)).unwrap_or(rest.len());
        self.offset += length;
        &rest[..length]
    }

    /// The next token and where it starts.
    pub(super) fn next(&mut self) -> Result<(usize, Token)> {
        self.skip_blanks();
        let start = self.offset;
        let Some(first) = self.peek() else {
            return Ok((start, Token::End));
        };
        let token = match first {
            '0'..='9' => self.number()?,
            '$' => self.character()?,
            '"' => Token::Text(self.quoted('"')?),
            '\'' => Token::Atom(self.quoted('\'')?),
            '.' => self.dot()?,
            first if starts_atom(first) => self.word(),
            first if first == '_' || first.is_uppercase() => {
                Token::Variable(self.take_while(continues_word).to_owned())
            }
            _ => self.mark()?,
        };
        Ok((start, token))
    }

    fn skip_blanks(&mut self) {
        loop {
            self.take_while(char::is_whitespace);
            if self.peek() != Some('%') {
                return;
            }
            self.take_while(|each| each != '\n');
        }
    }

    fn word(&mut self) -> Token {
        let word = self.take_while(continues_word).to_owned();
        // Reserved only where a feature is on, before OTP 27.
        let young = matches!(&*word, "maybe" | "else");
        if super::is_reserved(&word) && !young { Token::Reserved(word) } else { Token::Atom(word) }
    }

    fn mark(&mut self) -> Result<Token> {
        let rest = self.rest();
        let Some(mark) = MARKS.into_iter().find(|mark| rest.starts_with(mark)) else {
            let found = self.peek().map(Shown).expect("the caller has looked");
            return Err(Fault::new(self.offset, format_args!("unexpected {found}")));
        };
        self.offset += mark.len();
        Ok(Token::Mark(mark))
    }

    /// A dot ends a term when a blank, a comment or nothing follows.
    fn dot(&mut self) -> Result<Token> {
        let start = self.offset;
        self.advance();
        match self.peek() {
            None | Some('%') => Ok(Token::Dot),
            Some(next) if next.is_whitespace() => Ok(Token::Dot),
            Some(_) => Err(Fault::new(start, "unexpected `.`")),
        }
    }

    fn number(&mut self) -> Result<Token> {
        let start = self.offset;
        let digits = self.digits(10)?;
        if self.peek() == Some('#') && !self.rest().starts_with("#{") {
            return self.based(start, digits);
        }
        let fraction = self.rest().strip_prefix('.');
        let number =
            if fraction.is_some_and(|rest| rest.starts_with(|each: char| each.is_ascii_digit())) {
                Number::Float(self.fraction(start)?)
            } else {
                Number::Integer(magnitude(digits, 10, start)?)
            };
        self.number_ends()?;
        Ok(Token::Number(number))
    }

    /// Digits, with single underscores between them.
    fn digits(&mut self, base: u32) -> Result<&'t str> {
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

    fn based(&mut self, start: usize, base: &str) -> Result<Token> {
        let base = base.parse().ok().filter(|base| (2..=36).contains(base));
        let Some(base) = base else {
            return Err(Fault::new(start, "a base is 2 to 36"));
        };
        self.advance();
        let digits = self.digits(base)?;
        self.number_ends()?;
        Ok(Token::Number(Number::Integer(magnitude(digits, base, start)?)))
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
        let written = self.text[start..self.offset].replace('_', "");
        match written.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(value),
            _ => Err(Fault::new(start, "a float beyond the range of a double")),
        }
    }

    /// `12ab` is no number and an atom.
    fn number_ends(&self) -> Result<()> {
        match self.peek() {
            Some(next) if continues_word(next) => {
                let found = Shown(next);
                Err(Fault::new(self.offset, format_args!("{found} in a number")))
            }
            _ => Ok(()),
        }
    }

    fn character(&mut self) -> Result<Token> {
        let start = self.offset;
        self.advance();
        let character = match self.advance() {
            Some('\\') => self.escape()?,
            Some(character) => character,
            None => return Err(Fault::new(start, "`$` without a character")),
        };
        let code = u32::from(character).to_le_bytes().to_vec();
        Ok(Token::Number(Number::Integer(code)))
    }

    fn quoted(&mut self, quote: char) -> Result<String> {
        let start = self.offset;
        self.advance();
        let mut content = String::new();
        loop {
            match self.advance() {
                Some('\\') => content.push(self.escape()?),
                Some(end) if end == quote => return Ok(content),
                Some(character) => content.push(character),
                None => {
                    return Err(Fault::new(start, format_args!("no closing {}", Shown(quote))));
                }
            }
        }
    }

    /// What follows a backslash.
    fn escape(&mut self) -> Result<char> {
        let start = self.offset;
        let Some(first) = self.advance() else {
            return Err(Fault::new(start, "`\\` without a character"));
        };
        Ok(match first {
            'b' => '\u{8}',
            'd' => '\u{7f}',
            'e' => '\u{1b}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            's' => ' ',
            't' => '\t',
            'v' => '\u{b}',
            '0'..='7' => self.octal(start)?,
            'x' => self.hexadecimal(start)?,
            '^' => self.control(start)?,
            other => other,
        })
    }

    fn octal(&mut self, start: usize) -> Result<char> {
        self.offset = start;
        let rest = self.rest();
        let length = rest.chars().take(3).take_while(|each| each.is_digit(8)).count();
        self.offset += length;
        code_point(&rest[..length], 8, start)
    }

    fn hexadecimal(&mut self, start: usize) -> Result<char> {
        if self.peek() == Some('{') {
            self.advance();
            let digits = self.take_while(|each| each.is_ascii_hexdigit());
            if self.advance() != Some('}') {
                return Err(Fault::new(start, "expected `\\x{...}`"));
            }
            return code_point(digits, 16, start);
        }
        let rest = self.rest();
        let length = rest.chars().take(2).take_while(char::is_ascii_hexdigit).count();
        if length < 2 {
            return Err(Fault::new(start, "expected two hexadecimal digits after `\\x`"));
        }
        self.offset += length;
        code_point(&rest[..length], 16, start)
    }

    fn control(&mut self, start: usize) -> Result<char> {
        let letter = self.advance().filter(|each| matches!(each, '@'..='_' | 'a'..='z'));
        match letter {
            Some(letter) => Ok(char::from_u32(u32::from(letter) & 31).expect("below 32")),
            None => Err(Fault::new(start, "expected a control character after `\\^`")),
        }
    }
}

fn code_point(digits: &str, base: u32, start: usize) -> Result<char> {
    let code = u32::from_str_radix(digits, base).ok().and_then(char::from_u32);
    code.ok_or_else(|| Fault::new(start, "not a Unicode code point"))
}

/// Erlang's letters are those of Latin-1.
fn starts_atom(character: char) -> bool {
    matches!(character, 'a'..='z' | 'ß'..='ö' | 'ø'..='ÿ')
}

fn continues_word(character: char) -> bool {
    matches!(
        character,
        'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '@' | 'À'..='Ö' | 'Ø'..='ö' | 'ø'..='ÿ'
    )
}
