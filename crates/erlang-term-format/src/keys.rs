//! Equality of terms, and whether a map has a key twice.
//!
//! Maps are equal in any order and may be keys of maps, so comparing naively would take time
//! that doubles with each level. Keys are compared by keyed digests instead, which nobody can
//! make collide from outside, and each digest match is verified.

use alloc::vec::Vec;
use core::hash::{BuildHasher, Hasher};

use crate::term::Term;

/// Makes digests that nobody outside can foresee.
#[cfg(feature = "std")]
pub(crate) type DigestKey = std::hash::RandomState;

/// There is no randomness without an operating system. What was made to collide is refused then,
/// see [`made_to_collide`].
#[cfg(not(feature = "std"))]
#[expect(deprecated, reason = "the one hash function in `core`")]
pub(crate) type DigestKey = core::hash::BuildHasherDefault<core::hash::SipHasher>;

type Entry<'a> = (Term<'a>, Term<'a>);

/// Up to here, comparing each with each is faster than digests.
pub(crate) const FEW: usize = 16;

/// Erlang's `=:=`.
pub(crate) fn same(left: &Term<'_>, right: &Term<'_>) -> bool {
    match (left, right) {
        (Term::Atom(left), Term::Atom(right)) => left == right,
        (Term::Integer(left), Term::Integer(right)) => left == right,
        (Term::BigInteger(left), Term::BigInteger(right)) => left == right,
        (Term::Float(left), Term::Float(right)) => left.to_bits() == right.to_bits(),
        (Term::Binary(left), Term::Binary(right)) => left == right,
        (
            Term::BitString { bytes: left, last_bits: left_bits },
            Term::BitString { bytes: right, last_bits: right_bits },
        ) => left_bits == right_bits && left == right,
        (Term::List(left), Term::List(right)) | (Term::Tuple(left), Term::Tuple(right)) => {
            same_elements(left, right)
        }
        (Term::ImproperList(left, left_tail), Term::ImproperList(right, right_tail)) => {
            same_elements(left, right) && same(left_tail, right_tail)
        }
        (Term::Map(left), Term::Map(right)) => same_entries(left, right),
        (Term::Opaque(left), Term::Opaque(right)) => left == right,
        _ => false,
    }
}

fn same_elements(left: &[Term<'_>], right: &[Term<'_>]) -> bool {
    left.len() == right.len() && left.iter().zip(right).all(|(left, right)| same(left, right))
}

fn same_entries(left: &[Entry<'_>], right: &[Entry<'_>]) -> bool {
    if left.len() != right.len() {
        return false;
    }
    if left.len() <= FEW && all_scalar(left) {
        return left.iter().all(|(key, value)| {
            let found = right.iter().find(|(other, _)| same(key, other));
            found.is_some_and(|(_, other)| same(value, other))
        });
    }
    let index = Index::new(right);
    left.iter().all(|(key, value)| {
        let found = index.find(key);
        found.is_some_and(|(_, other)| same(value, other))
    })
}

fn all_scalar(entries: &[Entry<'_>]) -> bool {
    entries.iter().all(|(key, _)| is_scalar(key))
}

/// Whether comparing it takes no recursion.
pub(crate) fn is_scalar(term: &Term<'_>) -> bool {
    !matches!(term, Term::List(_) | Term::ImproperList(..) | Term::Tuple(_) | Term::Map(_))
}

/// A map's entries, found by the digest of their keys.
struct Index<'m, 'a> {
    entries: &'m [Entry<'a>],
    state: DigestKey,
    /// Digest and position, in order.
    places: Vec<(u64, usize)>,
}

impl<'m, 'a> Index<'m, 'a> {
    fn new(entries: &'m [Entry<'a>]) -> Self {
        let state = DigestKey::default();
        let digests = entries.iter().map(|(key, _)| digest(&state, key).0);
        let mut places: Vec<(u64, usize)> = digests.zip(0..).collect();
        places.sort_unstable();
        Self { entries, state, places }
    }

    fn find(&self, key: &Term<'_>) -> Option<&'m Entry<'a>> {
        let (wanted, _) = digest(&self.state, key);
        let first = self.places.partition_point(|(digest, _)| *digest < wanted);
        self.places[first..]
            .iter()
            .take_while(|(digest, _)| *digest == wanted)
            .map(|(_, place)| &self.entries[*place])
            .find(|(other, _)| same(key, other))
    }
}

/// Whether `entries` has a key twice, and what finding out has cost beyond one look at each
/// key, in nodes. Keys that are containers are paid for, so that maps in keys of maps in keys
/// of maps cannot make the work grow with the square of the input.
pub(crate) fn has_duplicates(entries: &[Entry<'_>]) -> (bool, usize) {
    if entries.len() < 2 {
        return (false, 0);
    }
    if entries.len() <= FEW && all_scalar(entries) {
        let mut rest = entries;
        while let Some(((key, _), others)) = rest.split_first() {
            if others.iter().any(|(other, _)| same(key, other)) {
                return (true, 0);
            }
            rest = others;
        }
        return (false, 0);
    }
    let state = DigestKey::default();
    let mut cost = 0;
    let digests = entries.iter().map(|(key, _)| {
        let (digest, nodes) = digest(&state, key);
        cost += nodes - 1;
        digest
    });
    let mut places: Vec<(u64, usize)> = digests.zip(0..).collect();
    let key = |place: usize| &entries[place].0;
    let found = any_pair(&mut places, |one, other| same(key(one), key(other)));
    (found, cost)
}

/// Whether two places of one digest are the same by `same`.
fn any_pair(places: &mut [(u64, usize)], same: impl Fn(usize, usize) -> bool) -> bool {
    places.sort_unstable();
    let mut pairs = places.windows(2);
    pairs.any(|pair| pair[0].0 == pair[1].0 && same(pair[0].1, pair[1].1))
        || made_to_collide(places).is_some()
}

/// The place of a third key with the same digest. Chance does not bring that about: either keys
/// are the same, or they were made for it where digests can be foreseen, which is refused alike.
/// So looking at neighbours alone misses nothing.
pub(crate) fn made_to_collide(places: &[(u64, usize)]) -> Option<usize> {
    let mut runs = places.windows(3);
    runs.find(|run| run[0].0 == run[2].0).map(|run| run[2].1)
}

/// A keyed digest that equal terms share, and how many nodes went into it.
pub(crate) fn digest(state: &DigestKey, term: &Term<'_>) -> (u64, usize) {
    let mut hasher = state.build_hasher();
    let nodes = feed(state, &mut hasher, term);
    (hasher.finish(), nodes)
}

fn feed(state: &DigestKey, hasher: &mut impl Hasher, term: &Term<'_>) -> usize {
    match term {
        Term::Atom(text) => feed_bytes(hasher, 0, text.as_bytes()),
        Term::Integer(value) => {
            hasher.write_u8(1);
            hasher.write_i64(*value);
            1
        }
        Term::BigInteger(big) => {
            feed_bytes(hasher, 2 + u8::from(big.is_negative()), big.magnitude())
        }
        Term::Float(value) => {
            hasher.write_u8(4);
            hasher.write_u64(value.to_bits());
            1
        }
        Term::Binary(bytes) => feed_bytes(hasher, 5, bytes),
        Term::BitString { bytes, last_bits } => {
            hasher.write_u8(*last_bits);
            feed_bytes(hasher, 6, bytes)
        }
        Term::Opaque(opaque) => feed_bytes(hasher, 7, opaque.encoded()),
        Term::List(elements) => feed_elements(state, hasher, 8, elements),
        Term::Tuple(elements) => feed_elements(state, hasher, 9, elements),
        Term::ImproperList(elements, tail) => {
            feed_elements(state, hasher, 10, elements) + feed(state, hasher, tail)
        }
        Term::Map(entries) => feed_entries(state, hasher, entries),
    }
}

fn feed_bytes(hasher: &mut impl Hasher, kind: u8, bytes: &[u8]) -> usize {
    hasher.write_u8(kind);
    hasher.write_usize(bytes.len());
    hasher.write(bytes);
    1 + bytes.len() / 64
}

fn feed_elements(
    state: &DigestKey,
    hasher: &mut impl Hasher,
    kind: u8,
    elements: &[Term<'_>],
) -> usize {
    hasher.write_u8(kind);
    hasher.write_usize(elements.len());
    let nodes = elements.iter().map(|element| feed(state, hasher, element));
    1 + nodes.sum::<usize>()
}

/// The sum of the entries' digests: the same in any order.
fn feed_entries(state: &DigestKey, hasher: &mut impl Hasher, entries: &[Entry<'_>]) -> usize {
    let mut sum = 0_u64;
    let mut nodes = 1;
    for (key, value) in entries {
        let mut entry = state.build_hasher();
        nodes += feed(state, &mut entry, key) + feed(state, &mut entry, value);
        sum = sum.wrapping_add(entry.finish());
    }
    hasher.write_u8(11);
    hasher.write_usize(entries.len());
    hasher.write_u64(sum);
    nodes
}

#[cfg(test)]
mod tests {
    use super::any_pair;

    #[test]
    fn a_same_key_is_found_among_others_of_its_digest() {
        let differ = |_, _| false;
        assert!(!any_pair(&mut [(7, 0), (9, 1), (7, 2)], differ));
        assert!(any_pair(&mut [(7, 0), (9, 1), (7, 2)], |one, other| one + 2 == other));
        assert!(any_pair(&mut [(7, 0), (7, 1), (9, 2), (7, 3)], differ));
    }
}
