//! Terms as Erlang source text.

use alloc::format;
use core::fmt::{self, Display, Formatter, Write as _};

use super::is_reserved;
use crate::tag;
use crate::term::{Opaque, OpaqueKind, Term};
use crate::text::parser::ESCAPE;
use crate::text::{is_hidden, printable_binary, printable_list, quoted, separated};

impl Display for Term<'_> {
    /// Erlang source text, which [`text::parse`](crate::text::parse) and the Erlang parser read
    /// back as an equal term. Pids, ports, references and funs are the call
    /// `binary_to_term(<<131,...>>)`.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Term::Atom(text) => atom(text, f),
            Term::Integer(value) => value.fmt(f),
            Term::BigInteger(big) => big.fmt(f),
            Term::Float(value) => float(*value, f),
            Term::Binary(bytes) => binary(bytes, f),
            Term::BitString { bytes, last_bits } => bit_string(bytes, *last_bits, f),
            Term::List(elements) => match printable_list(elements) {
                Some(text) => string(&text, '"', f),
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
    separated(elements, ",", f, Term::fmt)?;
    f.write_str(close)
}

fn map(entries: &[(Term<'_>, Term<'_>)], f: &mut Formatter<'_>) -> fmt::Result {
    f.write_str("#{")?;
    separated(entries, ",", f, |(key, value), f| write!(f, "{key} => {value}"))?;
    f.write_str("}")
}

fn atom(text: &str, f: &mut Formatter<'_>) -> fmt::Result {
    let mut characters = text.chars();
    let bare = characters.next().is_some_and(|first| first.is_ascii_lowercase())
        && characters.all(|each| each.is_ascii_alphanumeric() || each == '_' || each == '@')
        && !is_reserved(text);
    if bare { f.write_str(text) } else { string(text, '\'', f) }
}

fn string(text: &str, quote: char, f: &mut Formatter<'_>) -> fmt::Result {
    quoted(text, quote, f, |each, f| match each {
        each if is_hidden(each) => write!(f, "\\x{{{:x}}}", u32::from(each)),
        each => f.write_char(each),
    })
}

/// Erlang's floats always have a point with digits on both sides.
fn float(value: f64, f: &mut Formatter<'_>) -> fmt::Result {
    let text = format!("{value:?}");
    match text.split_once('e') {
        Some((digits, exponent)) if !digits.contains('.') => write!(f, "{digits}.0e{exponent}"),
        _ => f.write_str(&text),
    }
}

fn binary(bytes: &[u8], f: &mut Formatter<'_>) -> fmt::Result {
    f.write_str("<<")?;
    match printable_binary(bytes).filter(|text| !text.is_empty()) {
        Some(text) => {
            string(text, '"', f)?;
            if !text.is_ascii() {
                f.write_str("/utf8")?;
            }
        }
        None => separated(bytes, ",", f, u8::fmt)?,
    }
    f.write_str(">>")
}

fn bit_string(bytes: &[u8], last_bits: u8, f: &mut Formatter<'_>) -> fmt::Result {
    f.write_str("<<")?;
    if let Some((last, whole)) = bytes.split_last() {
        whole.iter().try_for_each(|byte| write!(f, "{byte},"))?;
        write!(f, "{}:{last_bits}", last >> 8_u8.saturating_sub(last_bits).min(7))?;
    }
    f.write_str(">>")
}

impl Display for Opaque<'_> {
    /// `fun module:function/arity`, or the call that makes the value of its encoding.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.kind() == OpaqueKind::Export
            && let Some(parts) = self.export_parts()
            && let Some([module, function, arity]) = parts.as_tuple()
        {
            return write!(f, "fun {module}:{function}/{arity}");
        }
        write!(f, "{ESCAPE}(<<{}", tag::VERSION)?;
        self.encoded().iter().try_for_each(|byte| write!(f, ",{byte}"))?;
        f.write_str(">>)")
    }
}
