//! Elixir source text into tokens.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use super::{ALIAS_PREFIX, is_alias};
use crate::text::cursor::{Cursor, Result};
use crate::text::number::Number;
use crate::text::token::Token;
use crate::text::{Fault, Shown};

/// What starts a comment.
pub(crate) const COMMENT: char = '#';

/// Longer marks before their own beginnings.
const MARKS: [&str; 18] =
    ["<<", ">>", "=>", "::", "%{", "{", "}", "[", "]", "(", ")", ",", "|", "/", "-", "+", "&", "."];

/// What is an atom behind a colon, and a key in front of one, although it is no word. Longer ones
/// before their own beginnings.
const OPERATORS: [&str; 52] = [
    "<<>>", "..//", "...", "%{}", "&&&", "|||", "^^^", "~~~", "+++", "---", "<<<", ">>>", "<<~",
    "~>>", "<~>", "<|>", "===", "!==", "==", "!=", "=~", "<=", ">=", "&&", "||", "<>", "++", "--",
    "\\\\", "::", "<-", "->", "|>", "..", "<~", "~>", "**", "{}", "@", ".", "+", "-", "!", "^",
    "&", "*", "/", "|", "<", ">", "=", "%",
];

/// The next token, and where it starts.
pub(crate) fn token(cursor: &mut Cursor<'_>) -> Result<(usize, Token)> {
    skip_blanks(cursor)?;
    let start = cursor.offset();
    let Some(first) = cursor.peek() else {
        return Ok((start, Token::End));
    };
    let token = match first {
        '0'..='9' => Token::Number(number(cursor)?),
        '?' => Token::Number(character(cursor)?),
        '"' => string(cursor)?,
        '\'' => charlist(cursor)?,
        ':' if !cursor.rest().starts_with("::") => {
            cursor.advance();
            Token::Atom(name(cursor)?)
        }
        ';' => {
            cursor.advance();
            Token::Stop
        }
        first if starts_word(first) => word(cursor)?,
        _ => mark(cursor)?,
    };
    Ok((start, token))
}

/// Where `inspect/2` has no source text for a value, it makes a comment of it, which would hide
/// that something is missing.
fn skip_blanks(cursor: &mut Cursor<'_>) -> Result<()> {
    const OPAQUE: [&str; 4] = ["#PID<", "#Port<", "#Reference<", "#Function<"];
    cursor.take_while(char::is_whitespace);
    while cursor.peek() == Some(COMMENT) {
        if OPAQUE.iter().any(|opaque| cursor.rest().starts_with(opaque)) {
            return Err(Fault::opaque(cursor.offset()));
        }
        cursor.take_while(|each| each != '\n');
        cursor.take_while(char::is_whitespace);
    }
    Ok(())
}

/// The name of an atom or function: a word, an operator, or anything in quotes.
pub(crate) fn name(cursor: &mut Cursor<'_>) -> Result<String> {
    let start = cursor.offset();
    match cursor.peek() {
        Some(quote @ ('"' | '\'')) => quoted(cursor, quote).and_then(|bytes| text(start, bytes)),
        Some(first) if starts_word(first) => Ok(identifier(cursor).to_owned()),
        _ => match cursor.accept_any(&OPERATORS) {
            Some(operator) => Ok(operator.to_owned()),
            None => Err(cursor.short(start, "expected a name")),
        },
    }
}

/// A word; a question or exclamation mark may be its end.
fn identifier<'t>(cursor: &mut Cursor<'t>) -> &'t str {
    let start = cursor.offset();
    cursor.take_while(continues_word);
    if matches!(cursor.peek(), Some('?' | '!')) {
        cursor.advance();
    }
    cursor.since(start)
}

fn word(cursor: &mut Cursor<'_>) -> Result<Token> {
    const RESERVED: [&str; 12] =
        ["after", "and", "catch", "do", "else", "end", "fn", "in", "not", "or", "rescue", "when"];
    let word = identifier(cursor);
    if is_key(cursor) {
        return key(cursor, word.to_owned());
    }
    Ok(match word {
        "nil" | "true" | "false" => Token::Atom(word.to_owned()),
        word if is_alias(word) => Token::Atom(alias(cursor, word)),
        word if RESERVED.contains(&word) => Token::Reserved(word.to_owned()),
        word => Token::Variable(word.to_owned()),
    })
}

/// The atom of an alias, of which the cursor is behind the first part.
fn alias(cursor: &mut Cursor<'_>, first: &str) -> String {
    let mut atom = String::new();
    if first != ALIAS_PREFIX.trim_end_matches('.') {
        atom.push_str(ALIAS_PREFIX);
    }
    atom.push_str(first);
    while next_part(cursor).is_some_and(|next| next.is_ascii_uppercase()) {
        cursor.advance();
        atom.push('.');
        atom.push_str(cursor.take_while(continues_word));
    }
    atom
}

/// The character behind a dot.
fn next_part(cursor: &Cursor<'_>) -> Option<char> {
    cursor.rest().strip_prefix('.')?.chars().next()
}

fn is_key(cursor: &Cursor<'_>) -> bool {
    let rest = cursor.rest();
    rest.starts_with(':') && !rest.starts_with("::")
}

/// The colon of a key, and the blank that must follow it.
fn key(cursor: &mut Cursor<'_>, name: String) -> Result<Token> {
    let start = cursor.offset();
    cursor.advance();
    match cursor.peek() {
        Some(next) if !next.is_whitespace() => {
            Err(Fault::new(start, format_args!("a blank must follow the key `{name}:`")))
        }
        _ => Ok(Token::Key(name)),
    }
}

fn mark(cursor: &mut Cursor<'_>) -> Result<Token> {
    let start = cursor.offset();
    let rest = cursor.rest();
    let operator = OPERATORS.into_iter().find(|operator| {
        let behind = rest.strip_prefix(operator).and_then(|rest| rest.strip_prefix(':'));
        behind.is_some_and(|rest| rest.starts_with(char::is_whitespace))
    });
    if let Some(operator) = operator {
        cursor.accept(operator);
        return key(cursor, operator.to_owned());
    }
    if cursor.accept("~c") {
        return sigil(cursor, start);
    }
    if let Some(mark) = cursor.accept_any(&MARKS) {
        return Ok(Token::Mark(mark));
    }
    Err(match cursor.peek() {
        Some('~') => Fault::new(start, "a sigil; only `~c\"...\"` has a value here"),
        Some('%') => Fault::new(start, "a struct; write it as the map `%{__struct__: ...}`"),
        Some('@') => Fault::new(start, "a module attribute has no value here"),
        other => {
            let found = Shown(other.unwrap_or_default());
            Fault::new(start, format_args!("unexpected {found}"))
        }
    })
}

/// `1_000`, `0xff`, `1.5e-3`.
fn number(cursor: &mut Cursor<'_>) -> Result<Number> {
    let based = [("0x", 16), ("0o", 8), ("0b", 2)];
    let number = match based.into_iter().find(|(prefix, _)| cursor.accept(prefix)) {
        Some((_, base)) => cursor.integer(base)?,
        None => cursor.decimal()?,
    };
    cursor.number_ends(continues_word)?;
    Ok(number)
}

/// `?a`: the character's number.
fn character(cursor: &mut Cursor<'_>) -> Result<Number> {
    let start = cursor.offset();
    cursor.advance();
    let character = match cursor.advance() {
        Some('\\') => match cursor.advance() {
            Some('x' | 'u') => {
                return Err(Fault::new(start, "a code behind `?`; write it as a number"));
            }
            Some(letter) => escaped(letter),
            None => return Err(cursor.short(start, "`\\` without a character")),
        },
        Some(character) => character,
        None => return Err(cursor.short(start, "`?` without a character")),
    };
    Ok(Number::character(character))
}

fn string(cursor: &mut Cursor<'_>) -> Result<Token> {
    let start = cursor.offset();
    let bytes = quoted(cursor, '"')?;
    if is_key(cursor) { key(cursor, text(start, bytes)?) } else { Ok(Token::Binary(bytes)) }
}

fn charlist(cursor: &mut Cursor<'_>) -> Result<Token> {
    let start = cursor.offset();
    let content = quoted(cursor, '\'').and_then(|bytes| text(start, bytes))?;
    if is_key(cursor) { key(cursor, content) } else { Ok(Token::Characters(content)) }
}

/// `~c"text"`, behind the letter.
fn sigil(cursor: &mut Cursor<'_>, start: usize) -> Result<Token> {
    if cursor.peek() != Some('"') {
        return Err(cursor.short(start, "expected `~c\"...\"`"));
    }
    let content = quoted(cursor, '"').and_then(|bytes| text(start, bytes))?;
    Ok(Token::Characters(content))
}

fn text(start: usize, bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(|_| Fault::new(start, "not UTF-8 text"))
}

/// What is in quotes: `\xff` is a byte, whatever the others are.
fn quoted(cursor: &mut Cursor<'_>, quote: char) -> Result<Vec<u8>> {
    let start = cursor.offset();
    cursor.advance();
    let mut content = Vec::new();
    if cursor.rest().strip_prefix(quote).is_some_and(|rest| rest.starts_with(quote)) {
        return Err(Fault::new(start, "a heredoc; write it as one string"));
    }
    loop {
        let at = cursor.offset();
        match cursor.advance() {
            Some('\\') => escape(cursor, at, &mut content)?,
            Some(end) if end == quote => return Ok(content),
            Some('#') if cursor.peek() == Some('{') => {
                return Err(Fault::new(at, "`#{` would be computed; plain text has `\\#{`"));
            }
            Some(character) => push(character, &mut content),
            None => return Err(Fault::unclosed(start, quote)),
        }
    }
}

fn push(character: char, content: &mut Vec<u8>) {
    content.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
}

/// What follows a backslash between quotes.
fn escape(cursor: &mut Cursor<'_>, start: usize, content: &mut Vec<u8>) -> Result<()> {
    match cursor.advance() {
        None => return Err(cursor.short(start, "`\\` without a character")),
        // The end of a line that is continued.
        Some('\n') => {}
        Some('x') if !cursor.rest().starts_with('{') => {
            let byte = u32::from(cursor.coded(16, 2, start)?);
            content.push(u8::try_from(byte).expect("two hexadecimal digits"));
        }
        Some('u') if !cursor.rest().starts_with('{') => {
            let digits = cursor.offset();
            push(cursor.coded(16, 4, start)?, content);
            if cursor.offset() - digits < 4 {
                return Err(Fault::new(start, "expected four hexadecimal digits after `\\u`"));
            }
        }
        Some('x' | 'u') => {
            cursor.advance();
            push(cursor.braced(start)?, content);
        }
        Some(letter) => push(escaped(letter), content),
    }
    Ok(())
}

fn escaped(letter: char) -> char {
    match letter {
        '0' => '\0',
        'a' => '\u{7}',
        'b' => '\u{8}',
        'd' => '\u{7f}',
        'e' => '\u{1b}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        's' => ' ',
        't' => '\t',
        'v' => '\u{b}',
        other => other,
    }
}

fn starts_word(character: char) -> bool {
    character.is_alphabetic() || character == '_'
}

/// Beyond ASCII, Elixir has tables of what may be in a word; whatever is no blank may be here.
fn continues_word(character: char) -> bool {
    character.is_ascii_alphanumeric()
        || matches!(character, '_' | '@')
        || !character.is_ascii() && !character.is_whitespace() && !character.is_control()
}
