//! Erlang's order of terms, as far as keys need it.

use std::cmp::Ordering;

use erlang_term_format::Term;

/// Erlang's order of the terms that people use as keys. Anything else comes in
/// the order of its kind and text, which is at least the same every time.
pub(super) fn order(a: &Term<'_>, b: &Term<'_>) -> Ordering {
    match (a, b) {
        (Term::Integer(a), Term::Integer(b)) => a.cmp(b),
        (Term::Atom(a), Term::Atom(b)) => a.cmp(b),
        (Term::Binary(a), Term::Binary(b)) => a.cmp(b),
        _ => kind(a).cmp(&kind(b)).then_with(|| a.to_string().cmp(&b.to_string())),
    }
}

/// number < atom < reference and the like < tuple < map < nil < list < binary
fn kind(term: &Term<'_>) -> u8 {
    match term {
        Term::Integer(_) | Term::BigInteger(_) | Term::Float(_) => 0,
        Term::Atom(_) => 1,
        Term::Opaque(_) => 2,
        Term::Tuple(_) => 3,
        Term::Map(_) => 4,
        Term::List(elements) if elements.is_empty() => 5,
        Term::List(_) | Term::ImproperList(..) => 6,
        Term::Binary(_) | Term::BitString { .. } => 7,
    }
}
