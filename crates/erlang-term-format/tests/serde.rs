//! Derived types: what they look like as terms, and what they refuse.

use std::collections::BTreeMap;

use erlang_term_format::{
    Atom, Term, decode, encode, from_slice, from_term, map, to_term, to_vec, tuple,
};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Debug, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Restart {
    Always,
    OnFailure,
    After(u32),
    Window(u32, u32),
    Backoff { base: u64, cap: Option<u64> },
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
struct Limits {
    cpu: u32,
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct Container<'a> {
    name: &'a str,
    #[serde(default)]
    env: BTreeMap<String, String>,
    limits: Limits,
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct Pod<'a> {
    #[serde(borrow)]
    containers: Vec<Container<'a>>,
    restart: Restart,
    #[serde(borrow)]
    extra: Term<'a>,
    ports: Vec<u8>,
    ready: bool,
}

fn pod() -> Pod<'static> {
    let container = |name, cpu| Container {
        name,
        env: BTreeMap::from([("HOME".to_owned(), "/".to_owned())]),
        limits: Limits { cpu },
    };
    Pod {
        containers: vec![container("app", 1), container("db", 300)],
        restart: Restart::Backoff { base: 10_000, cap: None },
        extra: tuple![Term::atom("é"), 1.5, vec![1, 2]],
        ports: vec![80, 81],
        ready: true,
    }
}

fn refusal<'de, T: Deserialize<'de> + std::fmt::Debug>(bytes: &'de [u8]) -> String {
    from_slice::<T>(bytes).expect_err("must be refused").to_string()
}

#[test]
fn a_struct_survives_the_round_trip() {
    let bytes = to_vec(&pod()).expect("encodes");
    assert_eq!(from_slice::<Pod>(&bytes).expect("decodes"), pod());
    let term = to_term(&pod()).expect("a term");
    assert_eq!(encode(&term), bytes);
    assert_eq!(decode(&bytes).expect("decodes"), term);
}

#[test]
fn the_shape_is_what_elixir_expects() {
    let term = to_term(&pod()).expect("a term");
    let expected = "#{containers => [#{name => <<\"app\">>,env => #{<<\"HOME\">> => <<\"/\">>},\
         limits => #{cpu => 1}},#{name => <<\"db\">>,env => #{<<\"HOME\">> => <<\"/\">>},\
         limits => #{cpu => 300}}],restart => {backoff,#{base => 10000,cap => nil}},\
         extra => {'é',1.5,[1,2]},ports => \"PQ\",ready => true}";
    assert_eq!(term.to_string(), expected);
}

#[test]
fn each_kind_of_variant_round_trips() {
    for (value, text) in [
        (Restart::Always, "always"),
        (Restart::OnFailure, "on_failure"),
        (Restart::After(1), "{'after',1}"),
        (Restart::Window(1, 2), "{window,1,2}"),
        (Restart::Backoff { base: 1, cap: Some(2) }, "{backoff,#{base => 1,cap => 2}}"),
    ] {
        let term = to_term(&value).expect("a term");
        assert_eq!(term.to_string(), text);
        assert_eq!(from_term::<Restart>(&term).expect("a value"), value);
    }
}

#[test]
fn an_error_carries_the_path() {
    let mut term = to_term(&pod()).expect("a term");
    let Term::Map(entries) = &mut term else { panic!("{term}") };
    let Term::List(containers) = &mut entries[0].1 else { panic!("no list") };
    let Term::Map(container) = &mut containers[1] else { panic!("no map") };
    container[2].1 = map! { "cpu" => "a lot" };
    assert_eq!(
        refusal::<Pod>(&encode(&term)),
        "containers[1].limits.cpu: invalid type: string \"a lot\", expected u32"
    );
}

#[test]
fn an_unknown_field_is_refused_where_the_type_says_so() {
    let bytes = encode(&map! { "cpu" => 1, "gpu" => 2 });
    assert_eq!(refusal::<Limits>(&bytes), "unknown field `gpu`, expected `cpu`");
}

#[test]
fn an_atom_is_not_text() {
    let bytes = encode(&Term::atom("web"));
    assert_eq!(refusal::<String>(&bytes), "invalid type: atom `web`, expected a string");
    assert_eq!(from_slice::<Atom>(&bytes).expect("an atom"), Atom::from("web"));
}

#[test]
fn text_is_not_an_atom() {
    let bytes = encode(&"always".into());
    assert_eq!(refusal::<Atom>(&bytes), "invalid type: string \"always\", expected an atom");
    assert!(refusal::<Restart>(&bytes).contains("expected enum Restart"));
}

#[test]
fn a_key_twice_is_refused_in_every_kind_of_target() {
    let twice = |key: Term<'static>| {
        encode(&Term::Map(vec![
            (key.clone(), 1.into()),
            (Term::atom("cpu"), 2.into()),
            (key, 3.into()),
        ]))
    };
    let text = twice("a".into());
    assert!(refusal::<BTreeMap<Term2, u8>>(&text).contains("same key twice"));
    assert!(refusal::<Loose>(&twice(Term::atom("unknown"))).contains("same key twice"));
    assert!(refusal::<Loose>(&twice(Term::atom("cpu"))).starts_with("cpu: a map has the same key"));
    assert!(refusal::<serde::de::IgnoredAny>(&text).contains("same key twice"));
    assert!(refusal::<Term>(&text).contains("same key twice"));
}

#[derive(Deserialize, Debug)]
struct Loose {
    #[expect(dead_code, reason = "only read")]
    cpu: u8,
}

#[derive(Deserialize, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(untagged)]
enum Term2 {
    Text(String),
}
