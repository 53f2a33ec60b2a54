//! What must hold for any term, and for any bytes.

mod laws;

use std::fmt;

use erlang_term_format::{
    BigInteger, Term, decode, encode, from_slice, from_term, text, to_term, to_vec,
};
use proptest::collection::vec;
use proptest::prelude::*;
use serde::de::{IgnoredAny, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

fn leaf() -> impl Strategy<Value = Term<'static>> {
    let bits = (vec(any::<u8>(), 1..6), 1..8_u32);
    prop_oneof![
        "\\PC{0,8}".prop_map(Term::<'static>::atom),
        any::<i64>().prop_map(Term::from),
        any::<i8>().prop_map(Term::from),
        (any::<bool>(), vec(any::<u8>(), 0..300))
            .prop_map(|(negative, digits)| BigInteger::term_from_magnitude(negative, digits)),
        any::<f64>()
            .prop_filter("Erlang has only these", |value| value.is_finite())
            .prop_map(Term::from),
        vec(any::<u8>(), 0..20).prop_map(Term::<'static>::binary),
        "\\PC{0,8}".prop_map(Term::<'static>::binary),
        bits.prop_map(|(bytes, size)| bit_string(&bytes, size)),
    ]
}

/// Made through text, which keeps the one form that bit strings have.
fn bit_string(bytes: &[u8], last_bits: u32) -> Term<'static> {
    let (last, whole) = bytes.split_last().expect("not empty");
    let numbers = whole.iter().map(|byte| format!("{byte},")).collect::<String>();
    text::parse(&format!("<<{numbers}{last}:{last_bits}>>")).expect("a bit string")
}

fn term() -> impl Strategy<Value = Term<'static>> {
    leaf().prop_recursive(5, 60, 6, |inner| {
        let entries = vec((inner.clone(), inner.clone()), 0..6);
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Term::List),
            vec(any::<u8>(), 0..6).prop_map(Term::from),
            vec(inner.clone(), 0..6).prop_map(Term::Tuple),
            (vec(inner, 1..4), leaf())
                .prop_map(|(elements, tail)| Term::ImproperList(elements.into(), Box::new(tail))),
            entries.prop_map(without_duplicates),
        ]
    })
}

fn without_duplicates(entries: Vec<(Term<'static>, Term<'static>)>) -> Term<'static> {
    let mut kept: Vec<(Term, Term)> = Vec::new();
    for (key, value) in entries {
        if kept.iter().all(|(other, _)| *other != key) {
            kept.push((key, value));
        }
    }
    Term::Map(kept)
}

/// The same term with the entries of its maps the other way round.
fn reversed(term: &Term<'static>) -> Term<'static> {
    let each = |elements: &[Term<'static>]| elements.iter().map(reversed).collect();
    match term {
        Term::List(elements) => Term::List(each(elements)),
        Term::Tuple(elements) => Term::Tuple(each(elements)),
        Term::Map(entries) => {
            let entries = entries.iter().rev();
            Term::Map(entries.map(|(key, value)| (reversed(key), reversed(value))).collect())
        }
        other => other.clone(),
    }
}

#[derive(Serialize, Deserialize, Debug, PartialEq, Clone)]
enum Shape {
    Unit,
    Newtype(Option<u64>),
    Tuple(i128, u128),
    Struct { text: String, flag: bool, number: f64 },
    Many(Vec<Shape>),
    Pairs(std::collections::BTreeMap<String, i32>),
    Nothing((), [u8; 3]),
}

fn shape() -> impl Strategy<Value = Shape> {
    let leaf = prop_oneof![
        Just(Shape::Unit),
        any::<Option<u64>>().prop_map(Shape::Newtype),
        any::<(i128, u128)>().prop_map(|(signed, unsigned)| Shape::Tuple(signed, unsigned)),
        ("\\PC{0,6}", any::<bool>(), -1e300..1e300)
            .prop_map(|(text, flag, number)| Shape::Struct { text, flag, number }),
        proptest::collection::btree_map("\\PC{0,6}", any::<i32>(), 0..40).prop_map(Shape::Pairs),
        any::<[u8; 3]>().prop_map(|bytes| Shape::Nothing((), bytes)),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| vec(inner, 0..4).prop_map(Shape::Many))
}

/// What a binary holds, lent by the input.
#[derive(Debug, PartialEq)]
enum Lent<'a> {
    Text(&'a str),
    Bytes(&'a [u8]),
}

impl<'de> Deserialize<'de> for Lent<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct LentVisitor;

        impl<'de> Visitor<'de> for LentVisitor {
            type Value = Lent<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a binary that outlives the decoder")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Lent<'de>, E> {
                Ok(Lent::Text(text))
            }

            fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<Lent<'de>, E> {
                Ok(Lent::Bytes(bytes))
            }
        }

        deserializer.deserialize_any(LentVisitor)
    }
}

/// The content of a binary: text, text that was cut anywhere, and what is none by its first byte
/// alone, be it right behind a length that could be the start of that character.
fn content() -> impl Strategy<Value = Vec<u8>> {
    let cut = ("[aé€🦀]{0,300}", any::<proptest::sample::Index>()).prop_map(|(text, cut)| {
        let cut = cut.index(text.len() + 1);
        text.as_bytes()[cut..].to_vec()
    });
    let torn = (0x80..0xc0_u8, 0xc2..0xe0_usize)
        .prop_map(|(first, length)| [&[first][..], &[b'a'; 0xe0][..length - 1]].concat());
    prop_oneof!["[aé€🦀]{0,300}".prop_map(String::into_bytes), cut, torn]
}

/// Bytes that often mean something: tags in front of small numbers.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        3 => proptest::sample::select(vec![
            70_u8, 77, 80, 88, 90, 97, 98, 99, 100, 103, 104, 105, 106, 107, 108, 109, 110, 111,
            112, 113, 116, 117, 118, 119,
        ]),
        4 => 0..4_u8,
        1 => any::<u8>(),
    ];
    vec(byte, 0..60).prop_map(|bytes| [&[131], &bytes[..]].concat())
}

proptest! {
    #[test]
    fn a_term_survives_bytes_serde_and_text(term in term()) {
        laws::hold_for_term(&term);
    }

    #[test]
    fn the_order_of_entries_makes_no_difference(term in term()) {
        prop_assert_eq!(reversed(&term), term);
    }

    #[test]
    fn the_order_of_terms_is_one(mut terms in vec(term(), 0..8)) {
        let [one, other] = [terms.first(), terms.last()];
        if let (Some(one), Some(other)) = (one, other) {
            prop_assert_eq!(one.cmp(other), other.cmp(one).reverse());
            prop_assert_eq!(one.cmp(other).is_eq(), one == other);
            prop_assert!(reversed(one).cmp(one).is_eq());
        }
        terms.sort();
        for (index, less) in terms.iter().enumerate() {
            prop_assert!(terms[index..].iter().all(|more| less <= more));
        }
    }

    #[test]
    fn sorted_maps_make_equal_terms_equal_bytes(term in term()) {
        let [mut one, mut other] = [reversed(&term), term.clone()];
        one.sort_maps();
        other.sort_maps();
        prop_assert_eq!(encode(&one), encode(&other));
        prop_assert_eq!(one, term);
    }

    #[test]
    fn equal_terms_have_equal_encodings_but_for_the_order_of_maps(one in term(), other in term()) {
        prop_assert_eq!(&one, &one.clone().into_owned());
        let (first, second) = (encode(&one), encode(&other));
        if first == second {
            prop_assert_eq!(&one, &other);
        } else if !first.contains(&116) {
            prop_assert_ne!(&one, &other);
        }
    }

    #[test]
    fn a_truncated_term_is_an_error(term in term(), cut in any::<proptest::sample::Index>()) {
        let bytes = encode(&term);
        let truncated = &bytes[..cut.index(bytes.len())];
        prop_assert!(decode(truncated).is_err());
        prop_assert!(from_slice::<IgnoredAny>(truncated).is_err());
        prop_assert!(from_slice::<Shape>(truncated).is_err());
    }

    #[test]
    fn noise_is_read_alike_by_all_or_refused_by_all(bytes in noise()) {
        laws::hold_for_bytes(&bytes);
        let _ = from_slice::<Shape>(&bytes);
    }

    #[test]
    fn any_text_is_parsed_or_refused(source in "\\PC{0,30}") {
        laws::hold_for_text(&source);
    }

    #[test]
    fn text_of_the_right_letters_is_parsed_or_refused(
        source in "[\\[\\]{}<>#=|,:/a-cA0-3'\"$?~&;\\\\.%é \n-]{0,30}"
    ) {
        laws::hold_for_text(&source);
    }

    #[test]
    fn a_derived_type_survives(shape in shape()) {
        let bytes = to_vec(&shape).expect("encodes");
        prop_assert_eq!(&from_slice::<Shape>(&bytes).expect("its own"), &shape);
        let term = to_term(&shape).expect("a term");
        prop_assert_eq!(encode(&term), bytes);
        prop_assert_eq!(&from_term::<Shape>(&term).expect("its own"), &shape);
    }

    #[test]
    fn binaries_are_lent_as_what_each_is_whatever_lies_around_it(contents in vec(content(), 0..12)) {
        let binaries = contents.iter().map(|content| Term::binary(&content[..])).collect();
        let bytes = encode(&Term::List(binaries));
        let expected = contents.iter().map(|content| match str::from_utf8(content) {
            Ok(text) => Lent::Text(text),
            Err(_) => Lent::Bytes(content),
        });
        let lent = from_slice::<Vec<Lent>>(&bytes).expect("binaries");
        prop_assert_eq!(lent, expected.collect::<Vec<_>>());
        let texts: Option<Vec<_>> =
            contents.iter().map(|content| str::from_utf8(content).ok()).collect();
        prop_assert_eq!(from_slice::<Vec<&str>>(&bytes).ok(), texts);
    }

    #[test]
    fn bytes_and_terms_are_refused_alike(term in term()) {
        let bytes = encode(&term);
        let from_bytes = from_slice::<Shape>(&bytes).map_err(|error| (error.path(), error.message()));
        let from_tree = from_term::<Shape>(&term).map_err(|error| (error.path(), error.message()));
        prop_assert_eq!(from_bytes, from_tree);
    }
}
