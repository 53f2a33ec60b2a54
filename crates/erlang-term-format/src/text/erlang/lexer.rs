//! Erlang source text into tokens.

use alloc::borrow::ToOwned;
use alloc::string::String;

use super::is_reserved;
use crate::text::cursor::{Cursor, Result};
use crate::text::number::Number;
use crate::text::token::Token;
use crate::text::{Fault, Shown};

/// What starts a comment.
pub(crate) const COMMENT: char = '%';

/// Longer marks before their own beginnings.
const MARKS: [&str; 17] =
    ["<<", ">>", "=>", "#{", "{", "}", "[", "]", "(", ")", ",", "|", ":", "/", "-", "+", "#"];

/// The next token, and where it starts.
pub(crate) fn token(cursor: &mut Cursor<'_>) -> Result<(usize, Token)> {
    skip_blanks(cursor);
    let start = cursor.offset();
    let Some(first) = cursor.peek() else {
        return Ok((start, Token::End));
    };
    let token = match first {
        '0'..='9' => Token::Number(number(cursor)?),
        '$' => Token::Number(character(cursor)?),
        '"' => Token::Characters(quoted(cursor, '"')?),
        '\'' => Token::Atom(quoted(cursor, '\'')?),
        '.' => stop(cursor)?,
        first if starts_atom(first) => word(cursor),
        first if first == '_' || first.is_uppercase() => {
            Token::Variable(cursor.take_while(continues_word).to_owned())
        }
        _ => mark(cursor)?,
    };
    Ok((start, token))
}

fn skip_blanks(cursor: &mut Cursor<'_>) {
    cursor.take_while(char::is_whitespace);
    while cursor.peek() == Some(COMMENT) {
        cursor.take_while(|each| each != '\n');
        cursor.take_while(char::is_whitespace);
    }
}

fn word(cursor: &mut Cursor<'_>) -> Token {
    let word = cursor.take_while(continues_word).to_owned();
    // Reserved only where a feature is on, before OTP 27.
    let young = matches!(&*word, "maybe" | "else");
    if is_reserved(&word) && !young { Token::Reserved(word) } else { Token::Atom(word) }
}

fn mark(cursor: &mut Cursor<'_>) -> Result<Token> {
    let start = cursor.offset();
    if let Some(mark) = cursor.accept_any(&MARKS) {
        let opaque = mark == "#" && cursor.rest().starts_with(|each: char| each.is_alphabetic());
        return if opaque { Err(Fault::opaque(start)) } else { Ok(Token::Mark(mark)) };
    }
    match cursor.peek().map(Shown) {
        Some(found) => Err(Fault::new(start, format_args!("unexpected {found}"))),
        None => Ok(Token::End),
    }
}

/// A dot ends a term when a blank, a comment or nothing follows.
fn stop(cursor: &mut Cursor<'_>) -> Result<Token> {
    let start = cursor.offset();
    cursor.advance();
    match cursor.peek() {
        None | Some(COMMENT) => Ok(Token::Stop),
        Some(next) if next.is_whitespace() => Ok(Token::Stop),
        Some(_) => Err(Fault::new(start, "unexpected `.`")),
    }
}

/// `1_000`, `16#ff`, `1.5e-3`.
fn number(cursor: &mut Cursor<'_>) -> Result<Number> {
    let start = cursor.offset();
    let number = cursor.decimal()?;
    let based = cursor.peek() == Some('#') && !cursor.rest().starts_with("#{");
    let number = match number {
        Number::Integer(_) if based => {
            let base = number.term(false).as_u64().and_then(|base| u32::try_from(base).ok());
            let base = base.filter(|base| (2..=36).contains(base));
            let base = base.ok_or_else(|| Fault::new(start, "a base is 2 to 36"))?;
            cursor.advance();
            cursor.integer(base)?
        }
        number => number,
    };
    cursor.number_ends(continues_word)?;
    Ok(number)
}

/// `$a`: the character's number.
fn character(cursor: &mut Cursor<'_>) -> Result<Number> {
    let start = cursor.offset();
    cursor.advance();
    let character = match cursor.advance() {
        Some('\\') => escape(cursor)?,
        Some(character) => character,
        None => return Err(cursor.short(start, "`$` without a character")),
    };
    Ok(Number::character(character))
}

fn quoted(cursor: &mut Cursor<'_>, quote: char) -> Result<String> {
    let start = cursor.offset();
    if cursor.rest().starts_with("\"\"\"") {
        return Err(Fault::new(start, "a triple-quoted string; write it as one string"));
    }
    cursor.advance();
    let mut content = String::new();
    loop {
        match cursor.advance() {
            Some('\\') => content.push(escape(cursor)?),
            Some(end) if end == quote => return Ok(content),
            Some(character) => content.push(character),
            None => return Err(Fault::unclosed(start, quote)),
        }
    }
}

/// What follows a backslash.
fn escape(cursor: &mut Cursor<'_>) -> Result<char> {
    let start = cursor.offset();
    let Some(first) = cursor.peek() else {
        return Err(cursor.short(start, "`\\` without a character"));
    };
    if first.is_digit(8) {
        return cursor.coded(8, 3, start);
    }
    cursor.advance();
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
        'x' => hexadecimal(cursor, start)?,
        '^' => control(cursor, start)?,
        other => other,
    })
}

fn hexadecimal(cursor: &mut Cursor<'_>, start: usize) -> Result<char> {
    if cursor.accept("{") {
        return cursor.braced(start);
    }
    let mut digits = cursor.rest().chars().take(2);
    match (digits.next(), digits.next()) {
        (Some(high), Some(low)) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
            cursor.coded(16, 2, start)
        }
        _ => Err(Fault::new(start, "expected two hexadecimal digits after `\\x`")),
    }
}

fn control(cursor: &mut Cursor<'_>, start: usize) -> Result<char> {
    let letter = cursor.advance().filter(|each| matches!(each, '@'..='_' | 'a'..='z'));
    match letter {
        Some(letter) => Ok(char::from_u32(u32::from(letter) & 31).expect("below 32")),
        None => Err(Fault::new(start, "expected a control character after `\\^`")),
    }
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
