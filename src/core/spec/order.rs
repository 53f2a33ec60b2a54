//! Erlang's order of terms, in which the Elixir client names unknown keys too.

use std::cmp::Ordering;

use erlang_term_format::Term;

/// Erlang's order of terms. That of [`Term`] is the one of a map's keys, which
/// has all integers before all floats; here a number is what it is worth,
/// wherever people may use one in a key.
pub(super) fn order(a: &Term<'_>, b: &Term<'_>) -> Ordering {
    match (a, b) {
        (Term::Tuple(a), Term::Tuple(b)) => a.len().cmp(&b.len()).then_with(|| each(a, b)),
        (Term::List(a), Term::List(b)) => each(a, b).then_with(|| a.len().cmp(&b.len())),
        (Term::Float(value), _) => by_value(Some(*value), integer(b)).then_with(|| a.cmp(b)),
        (_, Term::Float(value)) => by_value(integer(a), Some(*value)).then_with(|| a.cmp(b)),
        _ => a.cmp(b),
    }
}

fn each(a: &[Term<'_>], b: &[Term<'_>]) -> Ordering {
    let differing = a.iter().zip(b).map(|(a, b)| order(a, b)).find(|order| order.is_ne());
    differing.unwrap_or(Ordering::Equal)
}

fn by_value(a: Option<f64>, b: Option<f64>) -> Ordering {
    a.zip(b).map_or(Ordering::Equal, |(a, b)| a.total_cmp(&b))
}

#[expect(clippy::cast_precision_loss, reason = "only an order is wanted")]
fn integer(term: &Term<'_>) -> Option<f64> {
    term.as_i128().map(|value| value as f64)
}
