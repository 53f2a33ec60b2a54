//! Terms as Elixir source text.

use core::fmt::{self, Formatter, Write as _};

use super::{ALIAS_PREFIX, is_alias};
use crate::tag;
use crate::term::{Opaque, OpaqueKind, Term};
use crate::text::parser::ESCAPE;
use crate::text::{is_hidden, printable_binary, printable_list, quoted, separated};

/// Writes `term` as `inspect/2` would, see [`Syntax::print`](crate::text::Syntax::print).
pub(crate) fn print(term: &Term<'_>, f: &mut Formatter<'_>) -> fmt::Result {
    match term {
        Term::Atom(text) => atom(text, f),
        Term::BigInteger(big) => big.print("0x", f),
        Term::Integer(_) | Term::Float(_) => fmt::Display::fmt(term, f),
        Term::Binary(bytes) => match printable_binary(bytes) {
            Some(text) => string(text, '"', f),
            None => enclosed("<<", bytes.iter(), ">>", f, |byte, f| write!(f, "{byte}")),
        },
        Term::BitString { bytes, last_bits } => bit_string(bytes, *last_bits, f),
        Term::List(elements) => list(elements, f),
        Term::ImproperList(elements, tail) => {
            enclosed("[", elements, " | ", f, print)?;
            print(tail, f)?;
            f.write_char(']')
        }
        Term::Tuple(elements) => enclosed("{", elements, "}", f, print),
        Term::Map(entries) => map(entries, f),
        Term::Opaque(opaque) => self::opaque(opaque, f),
    }
}

fn enclosed<T>(
    open: &str,
    elements: impl IntoIterator<Item = T>,
    close: &str,
    f: &mut Formatter<'_>,
    print: impl Fn(T, &mut Formatter<'_>) -> fmt::Result,
) -> fmt::Result {
    f.write_str(open)?;
    separated(elements, ", ", f, print)?;
    f.write_str(close)
}

fn list(elements: &[Term<'_>], f: &mut Formatter<'_>) -> fmt::Result {
    if let Some(text) = printable_list(elements) {
        f.write_str("~c")?;
        return string(&text, '"', f);
    }
    if !elements.is_empty() && elements.iter().all(|element| keyword(element).is_some()) {
        return enclosed("[", elements.iter().filter_map(keyword), "]", f, pair);
    }
    enclosed("[", elements, "]", f, print)
}

/// Key and value of a keyword list's element.
fn keyword<'t, 'a>(element: &'t Term<'a>) -> Option<(&'t str, &'t Term<'a>)> {
    match element.as_tuple()? {
        [key, value] => Some((as_key(key)?, value)),
        _ => None,
    }
}

/// An alias is no key.
fn as_key<'t>(key: &'t Term<'_>) -> Option<&'t str> {
    key.as_atom().filter(|key| !key.starts_with(ALIAS_PREFIX))
}

fn pair((key, value): (&str, &Term<'_>), f: &mut Formatter<'_>) -> fmt::Result {
    if is_bare(key) {
        f.write_str(key)?
    } else {
        string(key, '"', f)?
    }
    f.write_str(": ")?;
    print(value, f)
}

fn map(entries: &[(Term<'_>, Term<'_>)], f: &mut Formatter<'_>) -> fmt::Result {
    if entries.iter().all(|(key, _)| as_key(key).is_some()) {
        let pairs = entries.iter().filter_map(|(key, value)| Some((as_key(key)?, value)));
        return enclosed("%{", pairs, "}", f, pair);
    }
    enclosed("%{", entries, "}", f, |(key, value), f| {
        print(key, f)?;
        f.write_str(" => ")?;
        print(value, f)
    })
}

fn atom(text: &str, f: &mut Formatter<'_>) -> fmt::Result {
    match text {
        "nil" | "true" | "false" => f.write_str(text),
        _ if let Some(alias) = as_alias(text) => f.write_str(alias),
        _ => {
            f.write_char(':')?;
            name(text, f)
        }
    }
}

/// `Tank.Pod` for `:"Elixir.Tank.Pod"`.
fn as_alias(text: &str) -> Option<&str> {
    let parts = text.strip_prefix(ALIAS_PREFIX)?;
    if !parts.split('.').all(is_alias) {
        return None;
    }
    // Without the prefix it would be taken for the prefix.
    let hidden = parts.split('.').next() == Some(ALIAS_PREFIX.trim_end_matches('.'));
    Some(if hidden { text } else { parts })
}

fn name(text: &str, f: &mut Formatter<'_>) -> fmt::Result {
    if is_bare(text) { f.write_str(text) } else { string(text, '"', f) }
}

/// Whether it is a word, and needs no quotes.
fn is_bare(text: &str) -> bool {
    let word = text.strip_suffix(['?', '!']).unwrap_or(text);
    word.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && word.bytes().all(|each| each.is_ascii_alphanumeric() || each == b'_' || each == b'@')
}

fn string(text: &str, quote: char, f: &mut Formatter<'_>) -> fmt::Result {
    quoted(text, quote, f, |each, f| match each {
        // Or `#{` would be computed.
        '#' => f.write_str("\\#"),
        each if is_hidden(each) || is_prepended(each) => {
            write!(f, "\\u{{{:x}}}", u32::from(each))
        }
        each => f.write_char(each),
    })
}

/// Whether what follows belongs to it (`Grapheme_Cluster_Break=Prepend`, Unicode 16): Elixir's tokenizer
/// goes from one grapheme cluster to the next, and would not see the quote or the backslash in one.
fn is_prepended(character: char) -> bool {
    matches!(
        character,
        '\u{600}'..='\u{605}'
            | '\u{6dd}'
            | '\u{70f}'
            | '\u{890}'..='\u{891}'
            | '\u{8e2}'
            | '\u{d4e}'
            | '\u{110bd}'
            | '\u{110cd}'
            | '\u{111c2}'..='\u{111c3}'
            | '\u{113d1}'
            | '\u{1193f}'
            | '\u{11941}'
            | '\u{11a3a}'
            | '\u{11a84}'..='\u{11a89}'
            | '\u{11d46}'
            | '\u{11f02}'
    )
}

fn bit_string(bytes: &[u8], last_bits: u8, f: &mut Formatter<'_>) -> fmt::Result {
    f.write_str("<<")?;
    if let Some((last, whole)) = bytes.split_last() {
        whole.iter().try_for_each(|byte| write!(f, "{byte}, "))?;
        write!(f, "{}::size({last_bits})", last >> 8_u8.saturating_sub(last_bits).min(7))?;
    }
    f.write_str(">>")
}

/// `&:module.function/arity`, or the call that makes the value of its encoding.
fn opaque(opaque: &Opaque<'_>, f: &mut Formatter<'_>) -> fmt::Result {
    if opaque.kind() == OpaqueKind::Export
        && let Some(parts) = opaque.export_parts()
        && let Some([module, Term::Atom(function), arity]) = parts.as_tuple()
    {
        f.write_char('&')?;
        print(module, f)?;
        f.write_char('.')?;
        name(function, f)?;
        return write!(f, "/{arity}");
    }
    write!(f, ":erlang.{ESCAPE}(")?;
    let bytes = [tag::VERSION].into_iter().chain(opaque.encoded().iter().copied());
    enclosed("<<", bytes, ">>", f, |byte, f| write!(f, "{byte}"))?;
    f.write_char(')')
}
