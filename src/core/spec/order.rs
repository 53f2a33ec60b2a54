//! Erlang's order of terms, as far as keys need it.

use std::cmp::Ordering;

use erlang_term_format::Term;

/// Erlang's order of the terms that people use as keys. Those that nobody uses
/// (maps, references) come in the order of their kind and text, which is at
/// least the same every time.
pub(super) fn order(a: &Term<'_>, b: &Term<'_>) -> Ordering {
    match (a, b) {
        (Term::Integer(a), Term::Integer(b)) => a.cmp(b),
        (Term::Atom(a), Term::Atom(b)) => a.cmp(b),
        (Term::Binary(a), Term::Binary(b)) => a.cmp(b),
        (Term::Tuple(a), Term::Tuple(b)) => a.len().cmp(&b.len()).then_with(|| each(a, b)),
        (Term::List(a), Term::List(b)) => each(a, b).then_with(|| a.len().cmp(&b.len())),
        _ => by_kind(a, b),
    }
}

fn each(a: &[Term<'_>], b: &[Term<'_>]) -> Ordering {
    let differing = a.iter().zip(b).map(|(a, b)| order(a, b)).find(|order| order.is_ne());
    differing.unwrap_or(Ordering::Equal)
}

fn by_kind(a: &Term<'_>, b: &Term<'_>) -> Ordering {
    let by_value = || match (number(a), number(b)) {
        (Some(a), Some(b)) => a.total_cmp(&b),
        _ => Ordering::Equal,
    };
    kind(a).cmp(&kind(b)).then_with(by_value).then_with(|| a.to_string().cmp(&b.to_string()))
}

#[expect(clippy::cast_precision_loss, reason = "only an order is wanted")]
fn number(term: &Term<'_>) -> Option<f64> {
    match term {
        Term::Float(value) => Some(*value),
        Term::Integer(_) | Term::BigInteger(_) => term.as_i128().map(|value| value as f64),
        _ => None,
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
