//! Tokens into terms. The two syntaxes have different tokens and nearly one grammar.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::bits::Bits;
use super::cursor::{Cursor, Result};
use super::number::Number;
use super::token::{Token, unexpected};
use super::{DEPTH_MAX, Fault, Syntax, elixir, erlang};
use crate::decode::decode_with;
use crate::encode::{write_atom, write_integer};
use crate::keys;
use crate::limits::Limits;
use crate::tag;
use crate::term::{Opaque, Term};

/// The one function that has a value here: how a pid, port, reference or fun is written.
pub(super) const ESCAPE: &str = "binary_to_term";

pub(super) struct Parser<'t> {
    syntax: Syntax,
    cursor: Cursor<'t>,
    /// Read, and not yet used.
    ahead: Option<(usize, Token)>,
    depth_left: usize,
    /// How many terms in keys of maps may still be looked at once more: all of them at each level
    /// of maps in keys of maps.
    work_left: usize,
    /// Whether a term may end with its line.
    by_line: bool,
}

impl<'t> Parser<'t> {
    pub(super) fn new(syntax: Syntax, text: &'t str) -> Self {
        let cursor = Cursor::new(text);
        // As many as are read of bytes, and enough for a text of any length that is nested as
        // people would.
        let work_left = Limits::default().nodes_max.saturating_add(4 * text.len());
        Self { syntax, cursor, ahead: None, depth_left: DEPTH_MAX, work_left, by_line: false }
    }

    /// One term and nothing else, but for what may end it.
    pub(super) fn only_term(&mut self) -> Result<Term<'static>> {
        let term = self.term()?;
        let mut after = self.next()?;
        if matches!(after.1, Token::Stop) {
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
                (_, Token::Stop) => {}
                (offset, token) => return Err(unexpected(offset, &token, "`.`")),
            }
        }
    }

    /// The first term, and where it ends; nothing if there is none.
    pub(super) fn first_term(&mut self) -> Result<Option<(Term<'static>, usize)>> {
        self.by_line = true;
        loop {
            match self.next()? {
                (_, Token::End) => return Ok(None),
                (_, Token::Stop) => {}
                ahead => {
                    self.ahead = Some(ahead);
                    break;
                }
            }
        }
        let term = self.term()?;
        let end = match &self.ahead {
            Some((offset, _)) => *offset,
            None => self.cursor.offset(),
        };
        if self.is_line_done() {
            return Ok(Some((term, end)));
        }
        match self.next() {
            Ok((_, Token::Stop)) => Ok(Some((term, self.cursor.offset()))),
            // Whatever it is, it is not this term's.
            _ => Ok(Some((term, end))),
        }
    }

    /// Whether a term that is complete is at the end of its line.
    fn is_line_done(&self) -> bool {
        self.ahead.is_none() && self.cursor.is_line_done(self.comment())
    }

    fn comment(&self) -> char {
        match self.syntax {
            Syntax::Erlang => erlang::COMMENT,
            Syntax::Elixir => elixir::COMMENT,
        }
    }

    /// The next token and where it starts.
    fn next(&mut self) -> Result<(usize, Token)> {
        if let Some(ahead) = self.ahead.take() {
            return Ok(ahead);
        }
        match self.syntax {
            Syntax::Erlang => erlang::token(&mut self.cursor),
            Syntax::Elixir => elixir::token(&mut self.cursor),
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
            Token::Mark("{") => self.tuple(offset),
            Token::Mark("[") => self.list(offset),
            Token::Mark("#{" | "%{") => self.map(offset),
            // Apart, for the stack's sake: only the others recurse.
            token => self.leaf(offset, token),
        }
    }

    fn leaf(&mut self, offset: usize, token: Token) -> Result<Term<'static>> {
        match token {
            Token::Atom(text) => self.atom(offset, text),
            Token::Number(number) => Ok(number.term(false)),
            Token::Characters(text) => self.characters(text),
            Token::Binary(bytes) => Ok(Term::Binary(Cow::Owned(bytes))),
            Token::Mark("-") => self.number().map(|number| number.term(true)),
            Token::Mark("+") => self.number().map(|number| number.term(false)),
            Token::Mark("<<") => self.binary(),
            Token::Mark("&") => self.capture(),
            Token::Reserved(word) if word == "fun" => self.export(),
            token => Err(unexpected(offset, &token, "a term")),
        }
    }

    /// So many levels down; [`leave`](Self::leave) goes up again.
    fn enter(&mut self, offset: usize, levels: usize) -> Result<()> {
        let Some(depth_left) = self.depth_left.checked_sub(levels) else {
            let message = format_args!("more than {DEPTH_MAX} levels of nesting");
            return Err(Fault::new(offset, message));
        };
        self.depth_left = depth_left;
        Ok(())
    }

    fn leave(&mut self, levels: usize) {
        self.depth_left += levels;
    }

    /// An atom, or the function that has one for a name.
    fn atom(&mut self, offset: usize, text: String) -> Result<Term<'static>> {
        match (self.syntax, &*text) {
            (Syntax::Erlang, ESCAPE) if self.continues_with("(") => self.escaped(offset),
            (Syntax::Erlang, "erlang") if self.continues_with(":") => {
                self.expect(":")?;
                match self.next()? {
                    (_, Token::Atom(function)) if function == ESCAPE => self.escaped(offset),
                    (offset, token) => Err(unexpected(offset, &token, &format!("`{ESCAPE}`"))),
                }
            }
            (Syntax::Elixir, "erlang") if self.continues_with(".") => {
                self.expect(".")?;
                let at = self.cursor.offset();
                match elixir::name(&mut self.cursor)? {
                    function if function == ESCAPE => self.escaped(offset),
                    _ => Err(Fault::new(at, format_args!("expected `{ESCAPE}`"))),
                }
            }
            _ => checked(text, offset).map(|text| Term::Atom(Cow::Owned(text))),
        }
    }

    fn continues_with(&self, mark: &str) -> bool {
        self.ahead.is_none() && self.cursor.rest().starts_with(mark)
    }

    /// `(<<131, ...>>)`, behind the name of the function, which is at `offset`.
    fn escaped(&mut self, offset: usize) -> Result<Term<'static>> {
        self.expect("(")?;
        self.expect("<<")?;
        let encoded = self.binary()?;
        self.expect(")")?;
        let limits = Limits { depth_max: self.depth_left, ..Limits::default() };
        let term = decode_with(encoded.as_bytes().unwrap_or_default(), &limits);
        term.map(Term::into_owned).map_err(|error| Fault::new(offset, error))
    }

    /// Whether there is an element behind the bracket that opened.
    fn has_first(&mut self, close: &str) -> Result<bool> {
        self.accept(close).map(|closed| !closed)
    }

    /// Whether there is an element behind another. Elixir allows a last comma.
    fn has_next(&mut self, close: &str) -> Result<bool> {
        if self.accept(close)? {
            return Ok(false);
        }
        self.comma_or(close)?;
        Ok(self.syntax == Syntax::Erlang || !self.accept(close)?)
    }

    fn comma_or(&mut self, other: &str) -> Result<()> {
        match self.next()? {
            (_, Token::Mark(",")) => Ok(()),
            (offset, token) => Err(unexpected(offset, &token, &format!("`,` or `{other}`"))),
        }
    }

    /// Takes `key: value` if that is next; behind one, nothing else may be. The value lies so
    /// many `levels` deeper.
    fn pair(
        &mut self,
        keyed: &mut bool,
        levels: usize,
    ) -> Result<Option<(Term<'static>, Term<'static>)>> {
        let (offset, key) = match self.next()? {
            (offset, Token::Key(key)) => (offset, checked(key, offset)?),
            (offset, token) if *keyed => {
                return Err(unexpected(offset, &token, "`key: value`"));
            }
            ahead => {
                self.ahead = Some(ahead);
                return Ok(None);
            }
        };
        *keyed = true;
        self.enter(offset, levels)?;
        let value = self.term()?;
        self.leave(levels);
        Ok(Some((Term::Atom(Cow::Owned(key)), value)))
    }

    /// Pairs at its end are one element, a list of them.
    fn tuple(&mut self, offset: usize) -> Result<Term<'static>> {
        self.enter(offset, 1)?;
        let mut keyed = false;
        let mut elements = Vec::new();
        let mut pairs = Vec::new();
        let mut more = self.has_first("}")?;
        while more {
            if elements.is_empty() {
                self.refuse_key()?;
            }
            match self.pair(&mut keyed, 2)? {
                Some((key, value)) => pairs.push(Term::Tuple(vec![key, value])),
                None => elements.push(self.term()?),
            }
            more = self.has_next("}")?;
        }
        if keyed {
            elements.push(Term::List(pairs));
        }
        self.leave(1);
        Ok(Term::Tuple(elements))
    }

    fn refuse_key(&mut self) -> Result<()> {
        let ahead = self.next()?;
        if let (offset, Token::Key(_)) = ahead {
            return Err(Fault::new(offset, "a tuple cannot start with `key: value`"));
        }
        self.ahead = Some(ahead);
        Ok(())
    }

    fn list(&mut self, offset: usize) -> Result<Term<'static>> {
        self.enter(offset, 1)?;
        let mut keyed = false;
        let mut elements = Vec::new();
        let mut tail = Term::List(Vec::new());
        let mut more = self.has_first("]")?;
        while more {
            match self.pair(&mut keyed, 1)? {
                Some((key, value)) => elements.push(Term::Tuple(vec![key, value])),
                None => elements.push(self.term()?),
            }
            if !keyed && self.accept("|")? {
                tail = self.term()?;
                self.must_see("]")?;
            }
            more = self.has_next("]")?;
        }
        self.leave(1);
        Ok(Term::from_list(elements, tail))
    }

    /// Nothing but `mark` may be next; it stays there.
    fn must_see(&mut self, mark: &str) -> Result<()> {
        let ahead = self.next()?;
        match ahead {
            (_, Token::Mark(found)) if found == mark => {
                self.ahead = Some(ahead);
                Ok(())
            }
            (offset, token) => Err(unexpected(offset, &token, &format!("`{mark}`"))),
        }
    }

    fn map(&mut self, offset: usize) -> Result<Term<'static>> {
        self.enter(offset, 1)?;
        let mut keyed = false;
        let mut entries = Vec::new();
        let mut more = self.has_first("}")?;
        while more {
            if let Some(entry) = self.pair(&mut keyed, 0)? {
                entries.push(entry);
            } else {
                let key = self.term()?;
                self.expect("=>")?;
                entries.push((key, self.term()?));
            }
            more = self.has_next("}")?;
        }
        self.leave(1);
        let (found, work) = keys::has_duplicates(&entries);
        if found {
            return Err(Fault::new(offset, "a map has the same key twice"));
        }
        let Some(work_left) = self.work_left.checked_sub(work) else {
            return Err(Fault::new(offset, "too many maps in keys of maps"));
        };
        self.work_left = work_left;
        Ok(Term::Map(entries))
    }

    fn number(&mut self) -> Result<Number> {
        match self.next()? {
            (_, Token::Number(number)) => Ok(number),
            (offset, token) => Err(unexpected(offset, &token, "a number")),
        }
    }

    /// In Erlang, strings that follow one another are one.
    fn characters(&mut self, mut text: String) -> Result<Term<'static>> {
        while self.syntax == Syntax::Erlang && !self.may_end_here() {
            match self.next()? {
                (_, Token::Characters(more)) => text.push_str(&more),
                ahead => {
                    self.ahead = Some(ahead);
                    break;
                }
            }
        }
        Ok(Term::list(text.chars().map(u32::from)))
    }

    fn may_end_here(&self) -> bool {
        self.by_line && self.depth_left == DEPTH_MAX && self.is_line_done()
    }

    fn binary(&mut self) -> Result<Term<'static>> {
        let mut bits = Bits::default();
        let mut more = self.has_first(">>")?;
        while more {
            self.segment(&mut bits)?;
            more = self.has_next(">>")?;
        }
        Ok(bits.term())
    }

    fn segment(&mut self, bits: &mut Bits) -> Result<()> {
        let (offset, token) = self.next()?;
        match (self.syntax, token) {
            (Syntax::Erlang, Token::Characters(text)) => self.text_segment(offset, &text, bits),
            (Syntax::Elixir, Token::Binary(bytes)) => {
                bits.push_bytes(&bytes);
                Ok(())
            }
            (_, Token::Number(number)) => self.integer_segment(offset, number.term(false), bits),
            (_, Token::Mark("-")) => {
                let number = self.number()?;
                self.integer_segment(offset, number.term(true), bits)
            }
            (_, token) => Err(unexpected(offset, &token, "an integer or a string")),
        }
    }

    fn text_segment(&mut self, offset: usize, text: &str, bits: &mut Bits) -> Result<()> {
        if self.accept("/")? {
            match self.next()? {
                (_, Token::Atom(kind)) if kind == "utf8" => {}
                (offset, token) => return Err(unexpected(offset, &token, "`utf8`")),
            }
            bits.push_bytes(text.as_bytes());
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
        let size = if self.accept(":")? {
            self.size()?
        } else if self.accept("::")? {
            self.elixir_size()?
        } else {
            8
        };
        let value = term.as_i128().map(|value| value.cast_unsigned());
        let Some(value) = value else {
            return Err(Fault::new(offset, "expected an integer of at most 128 bits"));
        };
        bits.push(value, size);
        Ok(())
    }

    /// `4` or `size(4)`.
    fn elixir_size(&mut self) -> Result<u32> {
        let ahead = self.next()?;
        if !matches!(&ahead.1, Token::Variable(word) if word == "size") {
            self.ahead = Some(ahead);
            return self.size();
        }
        self.expect("(")?;
        let size = self.size()?;
        self.expect(")")?;
        Ok(size)
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
        let module = self.any_atom()?;
        self.expect(":")?;
        let function = self.any_atom()?;
        self.arity_of(module, function)
    }

    /// `:module.function/arity`, after `&`.
    fn capture(&mut self) -> Result<Term<'static>> {
        let module = self.any_atom()?;
        self.expect(".")?;
        let offset = self.cursor.offset();
        let function = elixir::name(&mut self.cursor)?;
        self.arity_of(module, (offset, function))
    }

    fn any_atom(&mut self) -> Result<(usize, String)> {
        match self.next()? {
            (offset, Token::Atom(text)) => Ok((offset, text)),
            (offset, token) => Err(unexpected(offset, &token, "an atom")),
        }
    }

    fn arity_of(
        &mut self,
        module: (usize, String),
        function: (usize, String),
    ) -> Result<Term<'static>> {
        self.expect("/")?;
        let (offset, token) = self.next()?;
        let arity = match token {
            Token::Number(number) => number.term(false).as_i64(),
            token => return Err(unexpected(offset, &token, "an arity")),
        };
        let mut encoded = vec![tag::EXPORT_EXT];
        for (offset, name) in [module, function] {
            write_atom(&name, &mut encoded).map_err(|error| Fault::new(offset, error))?;
        }
        match arity {
            Some(arity @ 0..=255) => write_integer(arity, &mut encoded),
            _ => return Err(Fault::new(offset, "an arity is 0 to 255")),
        }
        Ok(Term::Opaque(Opaque { encoded: Cow::Owned(encoded) }))
    }
}

fn checked(text: String, offset: usize) -> Result<String> {
    if text.chars().count() > tag::ATOM_CHARACTERS_MAX {
        return Err(Fault::new(offset, "an atom of more than 255 characters"));
    }
    Ok(text)
}
