//! Terms as Erlang source text.

use alloc::format;
use alloc::string::String;
use core::fmt::{self, Display, Formatter, Write as _};

use crate::term::{Opaque, OpaqueKind, Term};
use crate::text::is_reserved;

impl Display for Term<'_> {
    /// Erlang source text, which [`text::parse`](crate::text::parse) and the Erlang parser read
    /// back as an equal term. Pids, ports, references and funs have no source text: they look
    /// as in the shell, `#Pid<...>`, with their encoding inside.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Term::Atom(text) => atom(text, f),
            Term::Integer(value) => value.fmt(f),
            Term::BigInteger(big) => big.fmt(f),
            Term::Float(value) => float(*value, f),
            Term::Binary(bytes) => binary(bytes, f),
            Term::BitString { bytes, last_bits } => bit_string(bytes, *last_bits, f),
            Term::List(elements) => match characters(elements) {
                Some(text) => quoted(&text, '"', f),
                None => enclosed("[", elements, "]", f),
            },
            Term::ImproperList(elements, tail) => {
                enclosed("[", elements, "|", f)?;
                write!(f, "{tail}]")
            }
            Term::Tuple(elements) => enclosed("{", elements, "}", f),
            Term::Map(entries) => map(entries, f),
            Term::Opaque(opaque) => opaque.fmt(f),
        }
    }
}

fn enclosed(open: &str, elements: &[Term<'_>], close: &str, f: &mut Formatter<'_>) -> fmt::Result {
    f.write_str(open)?;
    for (index, element) in elements.iter().enumerate() {
        separator(index, f)?;
        element.fmt(f)?;
    }
    f.write_str(close)
}

fn separator(index: usize, f: &mut Formatter<'_>) -> fmt::Result {
    if index > 0 { f.write_str(",") } else { Ok(()) }
}

fn map(entries: &[(Term<'_>, Term<'_>)], f: &mut Formatter<'_>) -> fmt::Result {
    f.write_str("#{")?;
    for (index, (key, value)) in entries.iter().enumerate() {
        separator(index, f)?;
        write!(f, "{key} => {value}")?;
    }
    f.write_str("}")
}

fn atom(text: &str, f: &mut Formatter<'_>) -> fmt::Result {
    let mut characters = text.chars();
    let bare = characters.next().is_some_and(|first| first.is_ascii_lowercase())
        && characters.all(|each| each.is_ascii_alphanumeric() || each == '_' || each == '@')
        && !is_reserved(text);
    if bare { f.write_str(text) } else { quoted(text, '\'', f) }
}

fn quoted(text: &str, quote: char, f: &mut Formatter<'_>) -> fmt::Result {
    f.write_char(quote)?;
    for each in text.chars() {
        match each {
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            '\\' => f.write_str("\\\\")?,
            each if each == quote => write!(f, "\\{quote}")?,
            each if each.is_control() => write!(f, "\\x{{{:x}}}", u32::from(each))?,
            each => f.write_char(each)?,
        }
    }
    f.write_char(quote)
}

/// Erlang's floats always have a point with digits on both sides.
fn float(value: f64, f: &mut Formatter<'_>) -> fmt::Result {
    let text = format!("{value:?}");
    match text.split_once('e') {
        Some((digits, exponent)) if !digits.contains('.') => write!(f, "{digits}.0e{exponent}"),
        _ => f.write_str(&text),
    }
}

/// The text of a list that looks like one.
fn characters(elements: &[Term<'_>]) -> Option<String> {
    let character = |element: &Term<'_>| {
        let code = u32::try_from(element.as_i64()?).ok()?;
        char::from_u32(code).filter(|each| is_plain(*each))
    };
    if elements.is_empty() {
        return None;
    }
    elements.iter().map(character).collect()
}

fn is_plain(character: char) -> bool {
    matches!(character, ' '..='~' | '\n' | '\t' | '\r')
}

fn binary(bytes: &[u8], f: &mut Formatter<'_>) -> fmt::Result {
    f.write_str("<<")?;
    match core::str::from_utf8(bytes) {
        Ok(text) if !text.is_empty() && !text.contains(is_obscure) => {
            quoted(text, '"', f)?;
            if !text.is_ascii() {
                f.write_str("/utf8")?;
            }
        }
        _ => numbers(bytes, f)?,
    }
    f.write_str(">>")
}

fn is_obscure(character: char) -> bool {
    character.is_control() && !is_plain(character)
}

fn numbers(bytes: &[u8], f: &mut Formatter<'_>) -> fmt::Result {
    for (index, byte) in bytes.iter().enumerate() {
        separator(index, f)?;
        byte.fmt(f)?;
    }
    Ok(())
}

fn bit_string(bytes: &[u8], last_bits: u8, f: &mut Formatter<'_>) -> fmt::Result {
    f.write_str("<<")?;
    if let Some((last, whole)) = bytes.split_last() {
        numbers(whole, f)?;
        separator(whole.len(), f)?;
        write!(f, "{}:{last_bits}", last >> 8_u8.saturating_sub(last_bits).min(7))?;
    }
    f.write_str(">>")
}

impl Display for Opaque<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let name = match self.kind() {
            OpaqueKind::Export => return export(self, f),
            OpaqueKind::Pid => "Pid",
            OpaqueKind::Port => "Port",
            OpaqueKind::Reference => "Ref",
            OpaqueKind::Fun => "Fun",
        };
        write!(f, "#{name}<")?;
        self.encoded().iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(">")
    }
}

/// `fun module:function/arity`: this one has source text.
fn export(opaque: &Opaque<'_>, f: &mut Formatter<'_>) -> fmt::Result {
    match opaque.export_parts().as_ref().and_then(Term::as_tuple) {
        Some([module, function, arity]) => write!(f, "fun {module}:{function}/{arity}"),
        _ => f.write_str("fun"),
    }
}
