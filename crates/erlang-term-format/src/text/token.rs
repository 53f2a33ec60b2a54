//! What a text consists of.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::Fault;
use super::number::Number;

/// A token of either syntax; not each occurs in both.
#[derive(Debug)]
pub(super) enum Token {
    Atom(String),
    /// `name:` in Elixir, an atom in front of its value.
    Key(String),
    /// A word that the language keeps for itself.
    Reserved(String),
    Variable(String),
    Number(Number),
    /// A list of characters: `"text"` in Erlang, `'text'` in Elixir.
    Characters(String),
    /// A binary: `"text"` in Elixir.
    Binary(Vec<u8>),
    /// Brackets, separators and signs.
    Mark(&'static str),
    /// `.` in Erlang and `;` in Elixir: the end of a term.
    Stop,
    End,
}

/// The fault of a token at `offset` where `expected` must be.
pub(super) fn unexpected(offset: usize, token: &Token, expected: &str) -> Fault {
    let found = match token {
        Token::Atom(text) => format!("atom `{text}`"),
        Token::Key(text) => format!("key `{text}:`"),
        Token::Reserved(word) => format!("reserved word `{word}`"),
        Token::Variable(name) => format!("variable `{name}`"),
        Token::Number(_) => "a number".to_owned(),
        Token::Characters(_) | Token::Binary(_) => "a string".to_owned(),
        Token::Mark(mark) => format!("`{mark}`"),
        Token::Stop => "the end of the term".to_owned(),
        Token::End => "the end of the text".to_owned(),
    };
    let fault = Fault::new(offset, format_args!("{found}, expected {expected}"));
    if matches!(token, Token::End) { fault.for_want_of_text() } else { fault }
}
