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
        "containers[1].limits.cpu: invalid type: string \"a lot\", expected u32 at byte 148"
    );
}

#[test]
fn an_error_tells_path_offset_and_message_apart() {
    let bytes = encode(&map! { "restart" => tuple![Term::atom("window"), 1, "soon"] });
    let error = from_slice::<Restarts>(&bytes).expect_err("no number");
    assert_eq!(error.path(), "restart.window[1]");
    assert_eq!(error.message(), "invalid type: string \"soon\", expected u32");
    let offset = error.offset().expect("bytes were read");
    assert!(bytes[offset..].starts_with(b"m\0\0\0\x04soon"), "{offset}");
    let term = decode(&bytes).expect("well-formed");
    let error = from_term::<Restarts>(&term).expect_err("no number");
    assert_eq!((error.path().as_str(), error.offset()), ("restart.window[1]", None));
}

#[test]
fn a_term_is_refused_for_what_its_bytes_are_refused_for() {
    let pod = |containers: Term<'static>| map! { "containers" => containers };
    let container = |key: Term<'static>| {
        let limits = Term::Map(vec![(key, 1.into()), (Term::atom("gpu"), 2.into())]);
        pod(Term::list([map! { "name" => "app", "limits" => limits }]))
    };
    for (term, path) in [
        (container(Term::atom("cpu")), "containers[0].limits.gpu"),
        (container(5.into()), "containers[0].limits.5"),
        (container(Term::list([1])), "containers[0].limits.[1]"),
        (pod(Term::ImproperList([1.into()].into(), Box::new(1.into()))), "containers[0]"),
        (map! { "ports" => Term::ImproperList([80.into()].into(), Box::new(81.into())) }, "ports"),
        (pod(Term::list([1])), "containers[0]"),
        (pod(Term::list([map! {}])), "containers[0]"),
        (map! { "restart" => tuple![1] }, "restart"),
        (map! { "restart" => tuple![Term::atom("window"), 1] }, "restart"),
        (map! { "ports" => "80" }, "ports"),
    ] {
        let bytes = encode(&term);
        let of_bytes = from_slice::<Pod>(&bytes).expect_err("no pod");
        let of_term = from_term::<Pod>(&term).expect_err("no pod");
        assert_eq!(of_term.path(), path, "{of_term}");
        assert_eq!((of_term.path(), of_term.message()), (of_bytes.path(), of_bytes.message()));
    }
}

#[test]
fn an_error_in_what_is_not_a_term_has_path_and_offset_too() {
    let bytes = encode(&map! { "a" => 1, "b" => vec![tuple![1], tuple![Term::atom("é"), 2.5]] });
    let cut = &bytes[..bytes.len() - 4];
    let error = decode(cut).expect_err("cut off");
    assert_eq!((error.path().as_str(), error.offset), ("b[1][1]", cut.len()));
    assert_eq!(
        error.to_string(),
        format!("b[1][1]: unexpected end of input at byte {}", cut.len())
    );
    let skipped = from_slice::<serde::de::IgnoredAny>(cut).expect_err("cut off");
    assert_eq!(skipped.to_string(), error.to_string());
}

#[test]
fn what_an_error_quotes_of_the_input_is_short() {
    let long = "x".repeat(1 << 20);
    let error = refusal::<u8>(&encode(&long.as_str().into()));
    assert!(error.contains("string of 1048576 bytes") && error.contains("expected u8"), "{error}");
    let key = encode(&Term::Map(vec![(long.as_str().into(), 1.into())]));
    assert!(refusal::<Limits>(&key).len() < 2_000);
    assert!(refusal::<BTreeMap<String, bool>>(&key).len() < 200);
}

#[test]
fn an_unknown_field_is_refused_where_the_type_says_so() {
    let bytes = encode(&map! { "cpu" => 1, "gpu" => 2 });
    assert_eq!(refusal::<Limits>(&bytes), "gpu: unknown field `gpu`, expected `cpu` at byte 13");
}

#[test]
fn an_atom_is_not_text() {
    let bytes = encode(&Term::atom("web"));
    assert_eq!(refusal::<String>(&bytes), "invalid type: atom `web`, expected a string at byte 1");
    assert_eq!(from_slice::<Atom>(&bytes).expect("an atom"), Atom::from("web"));
}

#[test]
fn text_is_not_an_atom() {
    let bytes = encode(&"always".into());
    let refused = refusal::<Atom>(&bytes);
    assert_eq!(refused, "invalid type: string \"always\", expected an atom at byte 1");
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

/// Takes any map, and says whether it could be read.
#[derive(Debug, PartialEq)]
struct IsMap(bool);

impl<'de> Deserialize<'de> for IsMap {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(BTreeMap::<u8, u8>::deserialize(deserializer).is_ok()))
    }
}

#[test]
fn who_gets_over_a_key_twice_reads_on_behind_that_map() {
    let small = |n: u8, value: &[u8]| [&[97, n][..], value].concat();
    let map = |entries: Vec<Vec<u8>>| {
        let length = u32::try_from(entries.len()).expect("few").to_be_bytes();
        [&[116][..], &length, &entries.concat()].concat()
    };
    let twice = map((0..18).map(|n| small(n % 17, &[97, n])).collect());
    for width in [3, 20] {
        let middle = map((0..width).map(|n| small(n, &twice)).collect());
        let bytes = [&[131][..], &map(vec![small(1, &middle), small(2, &middle)])].concat();
        let read = from_slice::<BTreeMap<u8, BTreeMap<u8, IsMap>>>(&bytes);
        let read = read.expect("the maps around it have each key once");
        assert!(read[&2].len() == usize::from(width));
        assert!(read[&2].values().all(|each| *each == IsMap(false)));
    }
}

#[test]
fn small_integers_are_read_alike_in_a_list_and_in_a_string() {
    #[derive(Deserialize, Debug, PartialEq)]
    struct Port(u16);
    #[derive(Deserialize, Debug, PartialEq)]
    struct Lists<'a> {
        newtypes: Vec<Port>,
        options: Vec<Option<u8>>,
        floats: Vec<f64>,
        #[serde(borrow)]
        terms: Vec<Term<'a>>,
        #[serde(borrow)]
        maybe_terms: Vec<Option<Term<'a>>>,
    }
    let expected = Lists {
        newtypes: vec![Port(1), Port(2)],
        options: vec![Some(1), Some(2)],
        floats: vec![1.0, 2.0],
        terms: vec![1.into(), 2.into()],
        maybe_terms: vec![Some(1.into()), Some(2.into())],
    };
    let string = &[107, 0, 2, 1, 2][..];
    let list = &[108, 0, 0, 0, 2, 97, 1, 97, 2, 106][..];
    for written in [string, list] {
        let mut bytes = vec![131, 116, 0, 0, 0, 5];
        for name in ["newtypes", "options", "floats", "terms", "maybe_terms"] {
            bytes.extend([119, u8::try_from(name.len()).expect("short")]);
            bytes.extend(name.bytes());
            bytes.extend(written);
        }
        assert_eq!(from_slice::<Lists>(&bytes).expect("small integers"), expected);
        let bytes = [&[131][..], written].concat();
        assert!(refusal::<Vec<Atom>>(&bytes).contains("[0]: invalid type: integer `1`"));
        assert!(refusal::<Vec<Restart>>(&bytes).contains("expected enum Restart"));
    }
}

#[test]
fn where_serde_buffers_there_are_neither_atoms_nor_tuples() {
    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    struct Open<'a> {
        name: &'a str,
        #[serde(flatten, borrow)]
        rest: BTreeMap<String, Term<'a>>,
    }
    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    #[serde(tag = "type", rename_all = "snake_case")]
    enum Task {
        Once { restart: Restart },
    }
    #[derive(Deserialize, Debug, PartialEq)]
    #[serde(tag = "type", content = "body", rename_all = "snake_case")]
    enum Message {
        Restart(Restart),
    }

    let bytes = encode(&map! { "name" => "web", "x" => tuple![Term::atom("ok"), 1] });
    let open = from_slice::<Open>(&bytes).expect("an open struct");
    assert_eq!(open.rest["x"], Term::list(["ok".into(), Term::from(1)]));
    let written = to_term(&open).expect("a term");
    assert_eq!(written.to_string(), "#{<<\"name\">> => <<\"web\">>,<<\"x\">> => [<<\"ok\">>,1]}");
    for refused in [Term::from(i128::MIN), pid()] {
        let bytes = encode(&map! { "name" => "web", "x" => refused });
        let error = refusal::<Open>(&bytes);
        assert!(error.starts_with("x: invalid type") && error.contains("any value"), "{error}");
    }

    let task = Task::Once { restart: Restart::Always };
    let written = to_term(&task).expect("a term");
    assert_eq!(written.to_string(), "#{type => <<\"once\">>,restart => always}");
    let once = |restart: Term<'static>| {
        encode(&map! { "type" => Term::atom("once"), "restart" => restart })
    };
    assert_eq!(from_slice::<Task>(&once(Term::atom("always"))).expect("a task"), task);
    let after = from_slice::<Task>(&once(map! { "after" => 5 })).expect("a map");
    assert_eq!(after, Task::Once { restart: Restart::After(5) });
    assert!(refusal::<Task>(&once(tuple![Term::atom("after"), 5])).contains("sequence"));

    let (kind, body) = (Term::atom("restart"), tuple![Term::atom("after"), 5]);
    let bytes = encode(&map! { "type" => kind.clone(), "body" => body.clone() });
    let first = from_slice::<Message>(&bytes).expect("the tag first");
    assert_eq!(first, Message::Restart(Restart::After(5)));
    let bytes = encode(&map! { "body" => body, "type" => kind });
    assert!(refusal::<Message>(&bytes).contains("sequence"));
}

fn pid() -> Term<'static> {
    let bytes = [&[131, 88, 119, 1, b'n'][..], &[0; 12]].concat();
    decode(&bytes).expect("a pid").into_owned()
}

#[derive(Deserialize, Debug)]
struct Restarts {
    #[expect(dead_code, reason = "only read")]
    restart: Restart,
}

#[test]
fn a_field_twice_is_refused_however_its_name_is_written() {
    let latin1 = &[100, 0, 3, b'c', b'p', b'u'][..];
    let empty_list = &[108, 0, 0, 0, 0, 119, 3, b'c', b'p', b'u'][..];
    for again in [latin1, empty_list] {
        let name = &[119, 3, b'c', b'p', b'u'][..];
        let bytes = [&[131, 116, 0, 0, 0, 2][..], name, &[97, 1], again, &[97, 2]].concat();
        let error = refusal::<Loose>(&bytes);
        assert!(error.starts_with("cpu: a map has the same key twice at byte 13"), "{error}");
    }
}

#[test]
fn the_bytes_of_a_field_are_no_field_in_latin_1() {
    #[derive(Deserialize, Debug, PartialEq)]
    struct Accented {
        é: u8,
    }
    let bytes = [131, 116, 0, 0, 0, 2, 115, 2, 0xc3, 0xa9, 97, 1, 115, 1, 0xe9, 97, 2];
    assert_eq!(from_slice::<Accented>(&bytes).expect("one é"), Accented { é: 2 });
}

#[test]
fn integers_of_any_size_pass_as_terms() {
    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    struct Numbers<'a> {
        wide: i128,
        #[serde(borrow)]
        huge: Term<'a>,
    }
    let huge = "-1234567890123456789012345678901234567890123456789012345678901234567890";
    let huge = erlang_term_format::text::parse(huge).expect("an integer");
    let numbers = Numbers { wide: i128::MIN, huge };
    let bytes = to_vec(&numbers).expect("encodes");
    assert_eq!(from_slice::<Numbers>(&bytes).expect("decodes"), numbers);
    let term = to_term(&numbers).expect("a term");
    assert_eq!(from_term::<Numbers>(&term).expect("a value"), numbers);
    assert!(matches!(numbers.huge, Term::BigInteger(_)));
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

#[test]
fn an_error_is_one_line_whatever_the_input_says() {
    let bytes = encode(&map! { "a\nb" => map! { "\u{1b}[2J\u{202e}" => 7 } });
    let error = decode(&bytes[..bytes.len() - 1]).expect_err("cut");
    assert_eq!(error.path(), "a\\u{a}b.\\u{1b}[2J\\u{202e}");
    let error = from_slice::<BTreeMap<Atom, Restart>>(&bytes).expect_err("a map");
    let hidden = |each: char| each.is_control() || each == '\u{202e}';
    assert!(!error.to_string().contains(hidden), "{error:?}");
}

#[test]
fn the_private_names_of_terms_and_atoms_stand_for_nothing_else() {
    struct Passed<T>(&'static str, T);
    impl<T: Serialize> Serialize for Passed<T> {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_newtype_struct(self.0, &self.1)
        }
    }
    let (term, atom) = ("$erlang_term_format::Term", "$erlang_term_format::Atom");
    assert_eq!(to_vec(&Passed(atom, "a")).expect("as an atom does"), [131, 119, 1, b'a']);
    for (name, refused) in [
        (term, to_vec(&Passed(term, "a"))),
        (term, to_vec(&Passed(term, 7))),
        (term, to_vec(&Passed(term, Some(7)))),
        (term, to_vec(&Passed(term, [7]))),
        (term, to_vec(&Passed(term, Restart::Always))),
        (atom, to_vec(&Passed(atom, 7))),
        (atom, to_vec(&Passed(atom, Term::nil()))),
        (atom, to_vec(&Passed(atom, Limits { cpu: 1 }))),
    ] {
        let error = refused.expect_err(name).to_string();
        assert!(error.contains("private name"), "{error}");
    }
}

#[test]
fn what_flatten_puts_into_one_map_has_no_key_twice() {
    #[derive(Serialize)]
    struct Labelled {
        name: &'static str,
        #[serde(flatten)]
        labels: BTreeMap<String, u32>,
    }
    #[derive(Serialize)]
    #[serde(tag = "name")]
    enum Tagged {
        Inner(Labelled),
    }
    let labelled = |keys: &[&str]| Labelled {
        name: "web",
        labels: keys.iter().map(|key| ((*key).to_owned(), 1)).collect(),
    };
    let many: Vec<String> = (0..40).map(|n| format!("label {n}")).collect();
    let mut many: Vec<&str> = many.iter().map(String::as_str).collect();
    for good in [&[][..], &["names", "n"], &many] {
        let bytes = to_vec(&labelled(good)).expect("no key twice");
        assert_eq!(decode(&bytes).expect("a term").as_map().map(<[_]>::len), Some(1 + good.len()));
    }
    many.push("name");
    for bad in [&["name"][..], &["n", "name", "x"], &many] {
        for error in [
            to_vec(&[labelled(&[]), labelled(bad)]).expect_err("twice"),
            to_term(&[labelled(&[]), labelled(bad)]).expect_err("twice"),
        ] {
            assert_eq!(error.to_string(), "[1].name: a map has the same key twice");
            assert_eq!(error.offset(), None);
        }
    }
    assert_eq!(to_vec(&Tagged::Inner(labelled(&[]))).expect_err("twice").path(), "name");
}
