//! Tokens into terms.

use alloc::borrow::{Cow, ToOwned};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::lexer::{Lexer, Token};
use super::number::Number;
use super::{DEPTH_MAX, Fault};
use crate::encode::{write_atom, write_integer};
use crate::keys;
use crate::tag;
use crate::term::{Opaque, Term};

type Result<T> = core::result::Result<T, Fault>;

pub(super) struct Parser<'t> {
    lexer: Lexer<'t>,
    /// Read, and not yet used.
    ahead: Option<(usize, Token)>,
    depth_left: usize,
}

impl<'t> Parser<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { lexer: Lexer::new(text), ahead: None, depth_left: DEPTH_MAX }
    }

    /// One term, perhaps a dot, and nothing else.
    pub(super) fn only_term(&mut self) -> Result<Term<'static>> {
        let term = self.term()?;
        let mut after = self.next()?;
        if matches!(after.1, Token::Dot) {
            after = self.next()?;
        }
        match after {
            (_, Token::End) => Ok(term),
            (offset, token) => Err(unexpected(offset, &token, "the end")),
        }
    }

    /// Terms with a dot after each.
    pub(super) fn all_terms(&mut self) -> Result<Vec<Term<'static>>> {
        let mut terms = Vec::new();
        loop {
            match self.next()? {
                (_, Token::End) => return Ok(terms),
                ahead => self.ahead = Some(ahead),
            }
            terms.push(self.term()?);
            match self.next()? {
                (_, Token::Dot) => {}
                (offset, token) => return Err(unexpected(offset, &token, "`.`")),
            }
        }
    }

    fn next(&mut self) -> Result<(usize, Token)> {
        match self.ahead.take() {
            Some(ahead) => Ok(ahead),
            None => self.lexer.next(),
        }
    }

    /// Takes `mark` if it is next.
    fn accept(&mut self, mark: &str) -> Result<bool> {
        match self.next()? {
            (_, Token::Mark(found)) if found == mark => Ok(true),
            ahead => {
                self.ahead = Some(ahead);
                Ok(false)
            }
        }
    }

    fn expect(&mut self, mark: &str) -> Result<()> {
        match self.next()? {
            (_, Token::Mark(found)) if found == mark => Ok(()),
            (offset, token) => Err(unexpected(offset, &token, &format!("`{mark}`"))),
        }
    }

    fn term(&mut self) -> Result<Term<'static>> {
        let (offset, token) = self.next()?;
        match token {
            Token::Atom(text) => atom(text, offset).map(|text| Term::Atom(Cow::Owned(text))),
            Token::Number(number) => Ok(number.term(false)),
            Token::Text(text) => self.string(text),
            Token::Mark("-") => self.number().map(|number| number.term(true)),
            Token::Mark("+") => self.number().map(|number| number.term(false)),
            Token::Mark("{") => self.nested(offset, |parser| parser.until("}").map(Term::Tuple)),
            Token::Mark("[") => self.nested(offset, Self::list),
            Token::Mark("#{") => self.nested(offset, |parser| parser.map(offset)),
            Token::Mark("<<") => self.binary(),
            Token::Reserved(word) if word == "fun" => self.export(),
            token => Err(unexpected(offset, &token, "a term")),
        }
    }

    fn nested(
        &mut self,
        offset: usize,
        read: impl FnOnce(&mut Self) -> Result<Term<'static>>,
    ) -> Result<Term<'static>> {
        let Some(depth_left) = self.depth_left.checked_sub(1) else {
            let message = format_args!("more than {DEPTH_MAX} levels of nesting");
            return Err(Fault::new(offset, message));
        };
        self.depth_left = depth_left;
        let term = read(self)?;
        self.depth_left += 1;
        Ok(term)
    }

    /// Terms and commas up to `close`.
    fn until(&mut self, close: &str) -> Result<Vec<Term<'static>>> {
        let mut elements = Vec::new();
        if self.accept(close)? {
            return Ok(elements);
        }
        loop {
            elements.push(self.term()?);
            if self.accept(close)? {
                return Ok(elements);
            }
            self.comma_or(close)?;
        }
    }

    fn comma_or(&mut self, other: &str) -> Result<()> {
        match self.next()? {
            (_, Token::Mark(",")) => Ok(()),
            (offset, token) => Err(unexpected(offset, &token, &format!("`,` or `{other}`"))),
        }
    }

    fn list(&mut self) -> Result<Term<'static>> {
        let mut elements = Vec::new();
        if self.accept("]")? {
            return Ok(Term::List(elements));
        }
        loop {
            elements.push(self.term()?);
            if self.accept("]")? {
                return Ok(Term::List(elements));
            }
            if self.accept("|")? {
                let tail = self.term()?;
                self.expect("]")?;
                return Ok(Term::from_list(elements, tail));
            }
            self.comma_or("]")?;
        }
    }

    fn map(&mut self, offset: usize) -> Result<Term<'static>> {
        let mut entries = Vec::new();
        let mut closed = self.accept("}")?;
        while !closed {
            let key = self.term()?;
            self.expect("=>")?;
            entries.push((key, self.term()?));
            closed = self.accept("}")?;
            if !closed {
                self.comma_or("}")?;
            }
        }
        match keys::has_duplicates(&entries) {
            (true, _) => Err(Fault::new(offset, "a map has the same key twice")),
            (false, _) => Ok(Term::Map(entries)),
        }
    }

    fn number(&mut self) -> Result<Number> {
        match self.next()? {
            (_, Token::Number(number)) => Ok(number),
            (offset, token) => Err(unexpected(offset, &token, "a number")),
        }
    }

    /// Strings that follow one another are one.
    fn string(&mut self, mut text: String) -> Result<Term<'static>> {
        loop {
            match self.next()? {
                (_, Token::Text(more)) => text.push_str(&more),
                ahead => {
                    self.ahead = Some(ahead);
                    return Ok(Term::list(text.chars().map(u32::from)));
                }
            }
        }
    }

    fn binary(&mut self) -> Result<Term<'static>> {
        let mut bits = Bits::default();
        let mut closed = self.accept(">>")?;
        while !closed {
            self.segment(&mut bits)?;
            closed = self.accept(">>")?;
            if !closed {
                self.comma_or(">>")?;
            }
        }
        Ok(bits.term())
    }

    fn segment(&mut self, bits: &mut Bits) -> Result<()> {
        let (offset, token) = self.next()?;
        match token {
            Token::Text(text) => self.text_segment(offset, &text, bits),
            Token::Number(number) => self.integer_segment(offset, number.term(false), bits),
            Token::Mark("-") => {
                let number = self.number()?;
                self.integer_segment(offset, number.term(true), bits)
            }
            token => Err(unexpected(offset, &token, "an integer or a string")),
        }
    }

    fn text_segment(&mut self, offset: usize, text: &str, bits: &mut Bits) -> Result<()> {
        if self.accept("/")? {
            match self.next()? {
                (_, Token::Atom(kind)) if kind == "utf8" => {}
                (offset, token) => return Err(unexpected(offset, &token, "`utf8`")),
            }
            text.bytes().for_each(|byte| bits.push(byte.into(), 8));
            return Ok(());
        }
        for character in text.chars() {
            let Ok(byte) = u8::try_from(character) else {
                let message = "a character beyond Latin-1 needs `/utf8` after the string";
                return Err(Fault::new(offset, message));
            };
            bits.push(byte.into(), 8);
        }
        Ok(())
    }

    /// The lowest bits of an integer, eight unless a size follows.
    fn integer_segment(&mut self, offset: usize, term: Term<'_>, bits: &mut Bits) -> Result<()> {
        let size = if self.accept(":")? { self.size()? } else { 8 };
        let value = term.as_i128().map(|value| value.cast_unsigned());
        let Some(value) = value else {
            return Err(Fault::new(offset, "expected an integer of at most 128 bits"));
        };
        bits.push(value, size);
        Ok(())
    }

    fn size(&mut self) -> Result<u32> {
        let (offset, token) = self.next()?;
        let size = match token {
            Token::Number(number) => number.term(false).as_i64(),
            token => return Err(unexpected(offset, &token, "a size")),
        };
        let size = size.and_then(|size| u32::try_from(size).ok());
        size.filter(|size| *size <= 128)
            .ok_or_else(|| Fault::new(offset, "a size is 0 to 128 bits"))
    }

    /// `module:function/arity`, after `fun`.
    fn export(&mut self) -> Result<Term<'static>> {
        let mut encoded = vec![tag::EXPORT_EXT];
        self.export_atom(&mut encoded)?;
        self.expect(":")?;
        self.export_atom(&mut encoded)?;
        self.expect("/")?;
        let (offset, token) = self.next()?;
        let arity = match token {
            Token::Number(number) => number.term(false).as_i64(),
            token => return Err(unexpected(offset, &token, "an arity")),
        };
        match arity {
            Some(arity @ 0..=255) => write_integer(arity, &mut encoded),
            _ => return Err(Fault::new(offset, "an arity is 0 to 255")),
        }
        Ok(Term::Opaque(Opaque { encoded: Cow::Owned(encoded) }))
    }

    fn export_atom(&mut self, encoded: &mut Vec<u8>) -> Result<()> {
        match self.next()? {
            (offset, Token::Atom(text)) => {
                write_atom(&text, encoded).map_err(|error| Fault::new(offset, error))
            }
            (offset, token) => Err(unexpected(offset, &token, "an atom")),
        }
    }
}

fn atom(text: String, offset: usize) -> Result<String> {
    if text.chars().count() > tag::ATOM_CHARACTERS_MAX {
        return Err(Fault::new(offset, "an atom of more than 255 characters"));
    }
    Ok(text)
}

fn unexpected(offset: usize, token: &Token, expected: &str) -> Fault {
    let found = match token {
        Token::Atom(text) => format!("atom `{text}`"),
        Token::Reserved(word) => format!("reserved word `{word}`"),
        Token::Variable(name) => format!("variable `{name}`"),
        Token::Number(_) => "a number".to_owned(),
        Token::Text(_) => "a string".to_owned(),
        Token::Mark(mark) => format!("`{mark}`"),
        Token::Dot => "`.`".to_owned(),
        Token::End => "the end of the text".to_owned(),
    };
    Fault::new(offset, format_args!("{found}, expected {expected}"))
}

/// A bit string that grows at its end.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    /// Bits used of the last byte; 0 when it is full.
    used: u32,
}

impl Bits {
    /// Appends the lowest `count` bits of `value`, highest first.
    fn push(&mut self, value: u128, count: u32) {
        if self.used == 0 && count == 8 {
            self.bytes.push(value.to_le_bytes()[0]);
            return;
        }
        for index in (0..count).rev() {
            let bit = (value >> index) & 1 == 1;
            if self.used == 0 {
                self.bytes.push(0);
            }
            if let Some(last) = self.bytes.last_mut() {
                *last |= u8::from(bit) << (7 - self.used);
            }
            self.used = (self.used + 1) % 8;
        }
    }

    fn term(self) -> Term<'static> {
        match u8::try_from(self.used) {
            Ok(used @ 1..=7) => Term::from_bits(Cow::Owned(self.bytes), used),
            _ => Term::Binary(Cow::Owned(self.bytes)),
        }
    }
}
