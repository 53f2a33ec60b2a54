//! Text into terms: what can be read is printed as text that means the same.

use erlang_term_format::text;

use crate::laws;

/// Panics if reading `input` panics or breaks a law. What is no UTF-8 is nothing.
pub fn holds(input: &[u8]) {
    let Ok(source) = std::str::from_utf8(input) else { return };
    laws::hold_for_text(source);
    holds_among_others(source);
}

/// A term reads the same when it is one of many.
fn holds_among_others(source: &str) {
    let Ok(terms) = text::parse_all(source) else { return };
    let printed: String = terms.iter().map(|term| format!("{term}.\n")).collect();
    assert_eq!(text::parse_all(&printed), Ok(terms), "{printed}");
}
