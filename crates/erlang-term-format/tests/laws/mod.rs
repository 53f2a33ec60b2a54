//! What holds for any bytes, any term and any text. The properties beside this file make terms
//! for these laws; the fuzzer of this repository makes bytes and text for the same ones.

use erlang_term_format::text::{self, Syntax};
use erlang_term_format::{
    Limits, Term, decode, decode_with, encode, from_slice, from_term, to_term, to_vec,
};
use serde::de::IgnoredAny;

/// All readers take the same bytes for a term, and read the same one.
pub(crate) fn hold_for_bytes(bytes: &[u8]) {
    let read = decode(bytes);
    let skipped = from_slice::<IgnoredAny>(bytes);
    let passed = from_slice::<Term>(bytes);
    assert_eq!(skipped.is_ok(), read.is_ok(), "skipping {skipped:?}, reading {read:?}");
    assert_eq!(passed.is_ok(), read.is_ok(), "passing {passed:?}, reading {read:?}");
    match (read, passed) {
        (Ok(term), Ok(passed)) => {
            assert_eq!(passed, term);
            hold_for_term(&term);
        }
        (Err(error), _) => assert!(!error.to_string().is_empty()),
        (Ok(_), Err(_)) => unreachable!("they agree"),
    }
}

/// A term comes back from bytes, from serde and from text.
pub(crate) fn hold_for_term(term: &Term<'_>) {
    let bytes = encode(term);
    let read = decode_with(&bytes, &generous()).expect("its own bytes");
    assert_eq!(read, *term);
    assert_eq!(encode(&read), bytes);
    assert_eq!(to_vec(term).expect("its own bytes"), bytes);
    assert_eq!(to_term(term).expect("itself"), *term);
    assert_eq!(from_term::<Term>(term).expect("itself"), *term);
    assert_eq!(term.clone().into_owned(), *term);
    hold_for_printed(term);
}

/// Text is refused, or what it says is printed as text that says the same.
pub(crate) fn hold_for_text(source: &str) {
    for syntax in [Syntax::Erlang, Syntax::Elixir] {
        if let Ok(term) = syntax.parse(source) {
            hold_for_term(&term);
            hold_for_lines(syntax, source);
        }
        hold_for_all_in(syntax, source);
    }
}

fn hold_for_printed(term: &Term<'_>) {
    for syntax in [Syntax::Erlang, Syntax::Elixir] {
        let printed = syntax.print(term).to_string();
        match syntax.parse(&printed) {
            Ok(parsed) => assert_eq!(parsed, *term, "{printed}"),
            Err(error) => panic!("{error}: {printed}"),
        }
    }
}

/// Whoever types a term line by line is asked for more until it is whole.
fn hold_for_lines(syntax: Syntax, source: &str) {
    for (end, _) in source.match_indices('\n') {
        if let Err(error) = syntax.first(&source[..=end]) {
            assert!(error.is_incomplete(), "{error}: {:?}", &source[..=end]);
        }
    }
}

/// One term after the other can be taken off a text, and each is there when it is printed.
fn hold_for_all_in(syntax: Syntax, mut source: &str) {
    while let Ok(Some((term, rest))) = syntax.first(source) {
        assert!(rest.len() < source.len(), "nothing is taken off {source:?}");
        let printed = format!("{}\n", syntax.print(&term));
        let again = syntax.first(&printed).expect("its own");
        assert_eq!(again, Some((term, "\n")), "{printed}");
        source = rest;
    }
}

/// Text may be nested deeper than a frame.
fn generous() -> Limits {
    Limits { depth_max: text::DEPTH_MAX, ..Limits::default() }
}
