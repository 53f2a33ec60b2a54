//! Erlang's order of terms, as it orders the keys of maps.
//!
//! Owns the comparison, and the sorting of maps by it; encoding them is `encode`'s.

use core::cmp::Ordering;

use crate::integer::BigInteger;
use crate::term::{Opaque, OpaqueKind, Term};

impl Term<'_> {
    /// Puts the entries of every map in it, at every level, in the order of their keys.
    ///
    /// [`encode`](crate::encode) then writes the bytes of
    /// `term_to_binary(Term, [{minor_version, 2}, deterministic])`: equal terms become equal
    /// bytes. Only for maps that have several pids, ports, references or funs for keys may OTP
    /// have another order.
    ///
    /// ```
    /// use erlang_term_format::{encode, text};
    ///
    /// let mut one = text::parse("#{b => 1, a => #{2 => x, 1 => y}}")?;
    /// let mut other = text::parse("#{a => #{1 => y, 2 => x}, b => 1}")?;
    /// assert_ne!(encode(&one), encode(&other));
    /// one.sort_maps();
    /// other.sort_maps();
    /// assert_eq!(encode(&one), encode(&other));
    /// assert_eq!(one.to_string(), "#{a => #{1 => y,2 => x},b => 1}");
    /// # Ok::<(), text::ParseError>(())
    /// ```
    pub fn sort_maps(&mut self) {
        match self {
            Term::List(elements) | Term::Tuple(elements) => {
                elements.iter_mut().for_each(Term::sort_maps);
            }
            Term::ImproperList(elements, tail) => {
                elements.iter_mut().for_each(Term::sort_maps);
                tail.sort_maps();
            }
            Term::Map(entries) => {
                // Maps in the keys first: comparing them takes no sorting then.
                for (key, value) in &mut *entries {
                    key.sort_maps();
                    value.sort_maps();
                }
                entries.sort_unstable_by(|(one, _), (other, _)| compare(one, other, Maps::Sorted));
            }
            _ => {}
        }
    }
}

impl Ord for Term<'_> {
    /// The order that maps have their keys in: Erlang's order of terms, but for integers, which
    /// all come before the floats. Of two pids, ports, references or funs it says no more than
    /// which encoding is less.
    ///
    /// ```
    /// use erlang_term_format::text;
    ///
    /// let mut terms = text::parse_all("<<>>. [a]. []. #{}. {b}. {}. b. a. 0.5. 2. 1.")?;
    /// terms.reverse();
    /// assert!(terms.is_sorted());
    /// # Ok::<(), text::ParseError>(())
    /// ```
    fn cmp(&self, other: &Self) -> Ordering {
        compare(self, other, Maps::Unsorted)
    }
}

impl PartialOrd for Term<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// What is known of the maps in the terms that are compared.
#[derive(Clone, Copy)]
enum Maps {
    Sorted,
    Unsorted,
}

fn compare(one: &Term<'_>, other: &Term<'_>, maps: Maps) -> Ordering {
    match (one, other) {
        (Term::Integer(one), Term::Integer(other)) => one.cmp(other),
        (Term::Integer(_), Term::BigInteger(big)) => sign(big).reverse(),
        (Term::BigInteger(big), Term::Integer(_)) => sign(big),
        (Term::BigInteger(one), Term::BigInteger(other)) => compare_big(one, other),
        (Term::Float(one), Term::Float(other)) => one.total_cmp(other),
        (Term::Atom(one), Term::Atom(other)) => one.cmp(other),
        (Term::Opaque(one), Term::Opaque(other)) => compare_opaque(one, other),
        (Term::Tuple(one), Term::Tuple(other)) => {
            one.len().cmp(&other.len()).then_with(|| compare_each(one.iter().zip(other), maps))
        }
        (Term::Map(one), Term::Map(other)) => compare_maps(one, other, maps),
        _ => match (list(one), list(other), bits(one), bits(other)) {
            (Some(one), Some(other), _, _) => compare_lists(one, other, maps),
            // The bits that do not count are zero.
            (_, _, Some(one), Some(other)) => one.cmp(&other),
            _ => rank(one).cmp(&rank(other)),
        },
    }
}

/// What comes before what, among terms of different kinds.
fn rank(term: &Term<'_>) -> u8 {
    match term {
        Term::Integer(_) | Term::BigInteger(_) => 0,
        Term::Float(_) => 1,
        Term::Atom(_) => 2,
        Term::Opaque(opaque) => opaque_rank(opaque),
        Term::Tuple(_) => 8,
        Term::Map(_) => 9,
        Term::List(elements) if elements.is_empty() => NIL_RANK,
        Term::List(_) | Term::ImproperList(..) => LIST_RANK,
        Term::Binary(_) | Term::BitString { .. } => 12,
    }
}

const NIL_RANK: u8 = 10;

/// A list that is not empty.
const LIST_RANK: u8 = 11;

fn opaque_rank(opaque: &Opaque<'_>) -> u8 {
    match opaque.kind() {
        OpaqueKind::Reference => 3,
        OpaqueKind::Fun => 4,
        OpaqueKind::Export => 5,
        OpaqueKind::Port => 6,
        OpaqueKind::Pid => 7,
    }
}

/// How a big integer compares with any that is not big.
fn sign(big: &BigInteger<'_>) -> Ordering {
    if big.is_negative() { Ordering::Less } else { Ordering::Greater }
}

fn compare_big(one: &BigInteger<'_>, other: &BigInteger<'_>) -> Ordering {
    let (low, high) = (one.magnitude(), other.magnitude());
    let absolute = low.len().cmp(&high.len()).then_with(|| low.iter().rev().cmp(high.iter().rev()));
    match (one.is_negative(), other.is_negative()) {
        (false, false) => absolute,
        (true, true) => absolute.reverse(),
        (negative, _) => {
            if negative {
                Ordering::Less
            } else {
                Ordering::Greater
            }
        }
    }
}

/// Exports by what they name, the others by what they are encoded as.
fn compare_opaque(one: &Opaque<'_>, other: &Opaque<'_>) -> Ordering {
    match (one.export_parts(), other.export_parts()) {
        (Some(one), Some(other)) => one.cmp(&other),
        _ => {
            let kinds = opaque_rank(one).cmp(&opaque_rank(other));
            kinds.then_with(|| one.encoded().cmp(other.encoded()))
        }
    }
}

fn compare_each<'t, 'a: 't, 'b: 't>(
    pairs: impl Iterator<Item = (&'t Term<'a>, &'t Term<'b>)>,
    maps: Maps,
) -> Ordering {
    let mut orders = pairs.map(|(one, other)| compare(one, other, maps));
    orders.find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}

type Entry<'a> = (Term<'a>, Term<'a>);

/// The smaller one, or the one with the lesser keys, or with the lesser values.
fn compare_maps(one: &[Entry<'_>], other: &[Entry<'_>], maps: Maps) -> Ordering {
    let sizes = one.len().cmp(&other.len());
    let entries = || one.iter().zip(other);
    match maps {
        _ if sizes.is_ne() => sizes,
        Maps::Sorted => compare_each(entries().map(|(one, other)| (&one.0, &other.0)), maps)
            .then_with(|| compare_each(entries().map(|(one, other)| (&one.1, &other.1)), maps)),
        // Once for all that is inside: sorting again at each level would take time without end.
        Maps::Unsorted => compare(&sorted(one), &sorted(other), Maps::Sorted),
    }
}

fn sorted<'a>(entries: &[Entry<'a>]) -> Term<'a> {
    let mut map = Term::Map(entries.to_vec());
    map.sort_maps();
    map
}

/// The elements of a list, and its tail if it is improper.
type List<'t, 'a> = (&'t [Term<'a>], Option<&'t Term<'a>>);

fn list<'t, 'a>(term: &'t Term<'a>) -> Option<List<'t, 'a>> {
    match term {
        Term::List(elements) => Some((elements, None)),
        Term::ImproperList(elements, tail) => Some((elements, Some(tail))),
        _ => None,
    }
}

fn compare_lists(one: List<'_, '_>, other: List<'_, '_>, maps: Maps) -> Ordering {
    let order = compare_each(one.0.iter().zip(other.0), maps);
    if order.is_ne() {
        return order;
    }
    // What is left is a list, or a tail.
    match one.0.len().cmp(&other.0.len()) {
        Ordering::Less => tail_rank(one).cmp(&LIST_RANK),
        Ordering::Greater => LIST_RANK.cmp(&tail_rank(other)),
        Ordering::Equal => match (one.1, other.1) {
            (Some(one), Some(other)) => compare(one, other, maps),
            _ => tail_rank(one).cmp(&tail_rank(other)),
        },
    }
}

fn tail_rank((_, tail): List<'_, '_>) -> u8 {
    tail.map_or(NIL_RANK, rank)
}

/// The bytes of a binary or bit string, and how many bits of the last one count.
fn bits<'t>(term: &'t Term<'_>) -> Option<(&'t [u8], u8)> {
    match term {
        Term::Binary(bytes) => Some((bytes, 8)),
        Term::BitString { bytes, last_bits } => Some((bytes, *last_bits)),
        _ => None,
    }
}
