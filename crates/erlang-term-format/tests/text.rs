//! Source text, read and printed. Erlang and Elixir themselves judge it in `beam.rs`.

use erlang_term_format::text::Syntax::{self, Elixir, Erlang};
use erlang_term_format::{Limits, Term, decode, decode_with, encode, map, text, tuple};

fn parsed(source: &str) -> Term<'static> {
    text::parse(source).unwrap_or_else(|error| panic!("{source}: {error}"))
}

fn refusal(source: &str) -> String {
    text::parse(source).expect_err("must be refused").to_string()
}

#[test]
fn every_form_of_term_is_read() {
    let cases: Vec<(&str, Term)> = vec![
        ("ok", Term::atom("ok")),
        ("'hello world'", Term::atom("hello world")),
        ("'it\\'s'", Term::atom("it's")),
        ("straße", Term::atom("straße")),
        ("node@host_1A", Term::atom("node@host_1A")),
        ("42", 42.into()),
        ("-42", (-42).into()),
        ("+ 1_000", 1000.into()),
        ("16#fF", 255.into()),
        ("36#zz", 1295.into()),
        ("-16#8000000000000000", i64::MIN.into()),
        ("9223372036854775808", (1_i128 << 63).into()),
        ("$a", 97.into()),
        ("$\\n", 10.into()),
        ("$\\x{1F600}", 0x1f600.into()),
        ("$\\^c", 3.into()),
        ("1.5", 1.5.into()),
        ("-1.0e-3", (-0.001).into()),
        ("\"ab\" \"c\"", Term::list([97, 98, 99])),
        ("\"é\\x{10ffff}\\101\"", Term::list([233, 0x10ffff, 65])),
        ("<<>>", Term::binary("")),
        ("<<\"abc\">>", Term::binary("abc")),
        ("<<\"é\">>", Term::binary(&[233])),
        ("<<\"é\"/utf8>>", Term::binary("é")),
        ("<<1, 2, \"x\", -1, 16#0102:16>>", Term::binary(&[1, 2, 120, 255, 1, 2])),
        ("<<5:3,5:5>>", Term::binary(&[0b1010_0101])),
        ("[]", Term::List(vec![])),
        ("[1,[2]]", Term::list([Term::from(1), Term::list([2])])),
        ("[1|[2|[]]]", Term::list([1, 2])),
        ("{}", tuple![]),
        ("{a,{b}}", tuple![Term::atom("a"), tuple![Term::atom("b")]]),
        ("#{}", map! {}),
        ("#{a => 1, b=>2}", map! { "a" => 1, "b" => 2 }),
        ("% first\n{ % inside\n}. % last", tuple![]),
    ];
    for (source, expected) in cases {
        assert_eq!(parsed(source), expected, "{source}");
    }
}

#[test]
fn a_bit_string_keeps_its_last_bits() {
    let term = parsed("<<1,5:3>>");
    assert!(matches!(&term, Term::BitString { last_bits: 3, .. }), "{term:?}");
    assert_eq!(term.to_string(), "<<1,5:3>>");
}

#[test]
fn an_improper_list_keeps_its_tail() {
    assert_eq!(parsed("[1,2|three]").to_string(), "[1,2|three]");
}

#[test]
fn an_export_has_source_text() {
    assert_eq!(parsed("fun lists:'Map'/2").to_string(), "fun lists:'Map'/2");
}

#[test]
fn what_is_wrong_is_named_with_line_and_column() {
    for (source, expected) in [
        ("", "line 1, column 1: the end of the text, expected a term"),
        ("{a,\n b", "line 2, column 3: the end of the text, expected `,` or `}`"),
        ("[a b]", "line 1, column 4: atom `b`, expected `,` or `]`"),
        ("{é, X}", "line 1, column 5: variable `X`, expected a term"),
        ("end", "line 1, column 1: reserved word `end`, expected a term"),
        ("'abc", "line 1, column 1: no closing `'`"),
        ("37#1", "line 1, column 1: a base is 2 to 36"),
        ("2#12", "line 1, column 4: `2` in a number"),
        ("1__0", "line 1, column 1: expected digits of base 10"),
        ("1e5", "line 1, column 2: `e` in a number"),
        ("1.0e999", "line 1, column 1: a float beyond the range of a double"),
        ("a b", "line 1, column 3: atom `b`, expected the end"),
        ("#{a => 1, a => 2}", "line 1, column 1: a map has the same key twice"),
        (
            "<<\"ሴ\">>",
            "line 1, column 3: a character beyond Latin-1 needs `/utf8` after the string",
        ),
        ("<<a>>", "line 1, column 3: atom `a`, expected an integer or a string"),
        ("- a", "line 1, column 3: atom `a`, expected a number"),
        ("\"\\x{110000}\"", "line 1, column 3: not a Unicode code point"),
        ("\"\\x{D800}\"", "line 1, column 3: not a Unicode code point"),
        ("a.b", "line 1, column 2: unexpected `.`"),
        // Its value depends on the release.
        ("\"\"\"\na\n\"\"\"", "line 1, column 1: a triple-quoted string; write it as one string"),
        ("?", "line 1, column 1: unexpected `?`"),
        (
            "[#Pid<0.1.0>]",
            "line 1, column 2: what a shell prints as `#...<...>` has no value outside of its node",
        ),
    ] {
        assert_eq!(refusal(source), expected, "{source}");
    }
}

#[test]
fn nesting_beyond_the_limit_is_refused_and_does_not_overflow_the_stack() {
    let nested = |depth| "[".repeat(depth) + &"]".repeat(depth);
    parsed(&nested(text::DEPTH_MAX));
    assert!(refusal(&nested(text::DEPTH_MAX + 1)).ends_with("levels of nesting"));
    assert!(refusal(&"{".repeat(10_000_000)).ends_with("levels of nesting"));
    assert!(refusal(&"[a|".repeat(1_000_000)).ends_with("levels of nesting"));
}

#[test]
fn an_atom_of_256_characters_is_refused() {
    parsed(&"a".repeat(255));
    assert!(refusal(&"a".repeat(256)).contains("more than 255 characters"));
}

#[test]
fn giant_integers_take_no_giant_time() {
    let hexadecimal = format!("16#{}", "f".repeat(2_000_000));
    assert_eq!(parsed(&hexadecimal).to_string(), hexadecimal);
    assert!(refusal(&"9".repeat(2_000_000)).contains("digits"));
    // The longest that is printed in decimal digits, and the next.
    let longest = parsed(&format!("16#{}", "f".repeat(8192)));
    let decimal = longest.to_string();
    assert!(decimal.len() == 9865 && !decimal.starts_with("16#"), "{decimal}");
    assert_eq!(parsed(&decimal), longest);
    let beyond = parsed(&format!("16#1{}", "0".repeat(8192))).to_string();
    assert!(beyond.starts_with("16#01"), "{beyond}");
}

#[test]
fn many_strings_on_a_line_take_no_giant_time() {
    let line = "\"a\" ".repeat(300_000);
    let Ok(Some((term, _))) = Erlang.first(&line) else { panic!("one string") };
    assert_eq!(term.as_list().map(<[Term]>::len), Some(300_000));
}

#[test]
fn a_file_has_terms_that_end_with_dots() {
    let terms = text::parse_all("% config\n{a, 1.0}.\n[b].%\n'c'. ").expect("three terms");
    let printed: Vec<String> = terms.iter().map(Term::to_string).collect();
    assert_eq!(printed, ["{a,1.0}", "[b]", "c"]);
    assert!(text::parse_all("").expect("no terms").is_empty());
    let error = text::parse_all("a.\nb").expect_err("the last dot is missing");
    assert_eq!(error.to_string(), "line 2, column 2: the end of the text, expected `.`");
}

#[test]
fn printing_quotes_what_must_be_quoted() {
    for (term, expected) in [
        (Term::atom("ok"), "ok"),
        (Term::atom(""), "''"),
        (Term::atom("Ok"), "'Ok'"),
        (Term::atom("fun"), "'fun'"),
        (Term::atom("maybe"), "'maybe'"),
        (Term::atom("a\n'\\\u{0}"), "'a\\n\\'\\\\\\x{0}'"),
        (Term::Float(1e20), "1.0e20"),
        (Term::Float(-0.0), "-0.0"),
        (Term::Float(5e-324), "5.0e-324"),
        (Term::binary("naïve"), "<<\"naïve\"/utf8>>"),
        (Term::binary(&[0, 255]), "<<0,255>>"),
        (Term::list([104, 105]), "\"hi\""),
        (Term::list([1, 2]), "[1,2]"),
    ] {
        assert_eq!(term.to_string(), expected);
        assert_eq!(parsed(expected), term);
    }
}

#[test]
fn every_form_of_elixir_term_is_read() {
    let keywords = |pairs: &[(&'static str, i64)]| {
        let pairs = pairs.iter().map(|(key, value)| tuple![Term::atom(*key), *value]);
        Term::List(pairs.collect())
    };
    let cases: Vec<(&str, Term)> = vec![
        ("nil", Term::nil()),
        (":ok", Term::atom("ok")),
        (":\"hello world\"", Term::atom("hello world")),
        (":'it\\'s'", Term::atom("it's")),
        (":ok?", Term::atom("ok?")),
        (":<<>>", Term::atom("<<>>")),
        (":..//", Term::atom("..//")),
        (":\"été\"", Term::atom("été")),
        (":日本", Term::atom("日本")),
        ("Tank.Pod", Term::atom("Elixir.Tank.Pod")),
        ("Elixir.Tank", Term::atom("Elixir.Tank")),
        ("Elixir", Term::atom("Elixir")),
        ("-42", (-42).into()),
        ("1_000", 1000.into()),
        ("[0xFF, 0o17, 0b101]", Term::list([255, 15, 5])),
        ("[?a, ?\\n, ?\\s, ?é]", Term::list([97, 10, 32, 233])),
        ("-1_0.5e-3", (-0.0105).into()),
        ("\"é\\u00e9\\u{e9}\\x{e9}\\n\\\"\\#{\"", Term::binary("éééé\n\"#{")),
        ("\"\\xff\\0\"", Term::binary(&[255, 0])),
        ("\"a\\\nb\"", Term::binary("ab")),
        ("'aé'", Term::list([97, 233])),
        ("~c\"a\\\"b\"", Term::list([97, 34, 98])),
        ("<<1, 2, \"é\", 5::3, 5::size(5)>>", Term::binary(&[1, 2, 195, 169, 0b1010_0101])),
        ("<<-1, 258::16>>", Term::binary(&[255, 1, 2])),
        ("[1 | [2 | []]]", Term::list([1, 2])),
        ("[1, 2,]", Term::list([1, 2])),
        ("[a: 1, b?: 2]", keywords(&[("a", 1), ("b?", 2)])),
        (
            "[\"a b\": 1, 'c': 2, +: 3, do: 4]",
            keywords(&[("a b", 1), ("c", 2), ("+", 3), ("do", 4)]),
        ),
        ("{:ok, a: 1}", tuple![Term::atom("ok"), keywords(&[("a", 1)])]),
        ("%{}", map! {}),
        ("%{a: 1, b:\n2}", map! { "a" => 1, "b" => 2 }),
        ("%{\"k\" => 1, a: 2}", Term::map([(Term::binary("k"), 1), (Term::atom("a"), 2)])),
        ("%{:a => %{b: []}}", map! { "a" => map! { "b" => Term::List(vec![]) } }),
        ("# first\n{ # inside\n} # last", tuple![]),
    ];
    for (source, expected) in cases {
        let parsed = Elixir.parse(source).unwrap_or_else(|error| panic!("{source}: {error}"));
        assert_eq!(parsed, expected, "{source}");
    }
}

#[test]
fn what_is_wrong_in_elixir_is_named_with_line_and_column() {
    for (source, expected) in [
        ("", "1, column 1: the end of the text, expected a term"),
        ("%{a: 1,\n b", "2, column 2: variable `b`, expected `key: value`"),
        ("[a:1]", "1, column 3: a blank must follow the key `a:`"),
        ("[a: 1, 2]", "1, column 8: a number, expected `key: value`"),
        ("{a: 1}", "1, column 2: a tuple cannot start with `key: value`"),
        ("%{1 2}", "1, column 5: a number, expected `=>`"),
        ("%{a: 1, a: 2}", "1, column 1: a map has the same key twice"),
        ("%Tank.Pod{}", "1, column 1: a struct; write it as the map `%{__struct__: ...}`"),
        ("[name]", "1, column 2: variable `name`, expected a term"),
        ("Enum.map", "1, column 5: `.`, expected the end"),
        ("fn", "1, column 1: reserved word `fn`, expected a term"),
        ("~r/a/", "1, column 1: a sigil; only `~c\"...\"` has a value here"),
        ("\"a#{b}\"", "1, column 3: `#{` would be computed; plain text has `\\#{`"),
        ("\"\"\"\na\n\"\"\"", "1, column 1: a heredoc; write it as one string"),
        ("'abc", "1, column 1: no closing `'`"),
        ("'\\xff'", "1, column 1: not UTF-8 text"),
        ("\"\\u12\"", "1, column 2: expected four hexadecimal digits after `\\u`"),
        ("0x", "1, column 3: expected digits of base 16"),
        ("1a", "1, column 2: `a` in a number"),
        (
            "[#PID<0.1.0>]",
            "1, column 2: what a shell prints as `#...<...>` has no value outside of its node",
        ),
        ("\"a\" \"b\"", "1, column 5: a string, expected the end"),
        (":erlang.halt()", "1, column 9: expected `binary_to_term`"),
    ] {
        let error = Elixir.parse(source).expect_err(source).to_string();
        assert_eq!(error, format!("line {expected}"), "{source}");
    }
}

#[test]
fn elixir_is_printed_as_it_inspects() {
    for (term, expected) in [
        (Term::nil(), "nil"),
        (Term::atom("ok"), ":ok"),
        (Term::atom("Ok!"), ":Ok!"),
        (Term::atom("a b"), ":\"a b\""),
        (Term::atom(""), ":\"\""),
        (Term::atom("Elixir.Tank.Pod"), "Tank.Pod"),
        (Term::atom("Elixir.Elixir.A"), "Elixir.Elixir.A"),
        (Term::atom("Elixir.a"), ":\"Elixir.a\""),
        (Term::Float(1e20), "1.0e20"),
        (Term::binary(""), "\"\""),
        (Term::binary("naïve #{\"\n"), "\"naïve \\#{\\\"\\n\""),
        (Term::binary("\u{202e}abc"), "\"\\u{202e}abc\""),
        // Elixir takes what follows such a character for a part of it, be it the closing quote.
        (Term::binary("\u{11a89}"), "\"\\u{11a89}\""),
        (Term::atom("\u{600}"), ":\"\\u{600}\""),
        (Term::binary(&[0, 255]), "<<0, 255>>"),
        (Term::list([104, 105]), "~c\"hi\""),
        (Term::list([1, 2]), "[1, 2]"),
        (Term::List(vec![]), "[]"),
        (Term::list([tuple![Term::atom("a b"), 1]]), "[\"a b\": 1]"),
        (Term::list([tuple![Term::atom("Elixir.A"), 1]]), "[{A, 1}]"),
        (map! { "a" => 1, "b" => tuple![] }, "%{a: 1, b: {}}"),
        (Term::map([(Term::binary("a"), 1)]), "%{\"a\" => 1}"),
        (map! {}, "%{}"),
    ] {
        assert_eq!(Elixir.print(&term).to_string(), expected);
        assert_eq!(Elixir.parse(expected).expect(expected), term, "{expected}");
    }
}

#[test]
fn what_a_node_alone_understands_is_printed_as_what_it_was_encoded_to() {
    let pid = b"\x83X\x77\x01n\0\0\0\x07\0\0\0\0\0\0\0\x01";
    let term = tuple![decode(pid).expect("a pid")];
    let bytes = "131,88,119,1,110,0,0,0,7,0,0,0,0,0,0,0,1";
    let erlang = term.to_string();
    assert_eq!(erlang, format!("{{binary_to_term(<<{bytes}>>)}}"));
    assert_eq!(parsed(&erlang), term);
    assert_eq!(parsed(&erlang.replace("binary", "erlang:binary")), term);
    let elixir = Elixir.print(&term).to_string();
    let bytes = bytes.replace(',', ", ");
    assert_eq!(elixir, format!("{{:erlang.binary_to_term(<<{bytes}>>)}}"));
    assert_eq!(Elixir.parse(&elixir).expect("its own"), term);
    assert_eq!(
        refusal("binary_to_term(<<131>>)"),
        "line 1, column 1: unexpected end of input at byte 1"
    );
}

#[test]
fn the_deepest_nesting_of_text_fits_a_small_stack() {
    let check = || {
        for (open, close, levels) in
            [("[", "]", 1), ("#{a =>", "}", 1), ("{", "}", 1), ("[a|", "]", 1)]
        {
            round_trip(Erlang, open, close, levels);
        }
        for (open, close, levels) in
            [("[", "]", 1), ("[a: ", "]", 2), ("%{a: ", "}", 1), ("{1, a: ", "}", 3)]
        {
            round_trip(Elixir, open, close, levels);
        }
    };
    let thread = std::thread::Builder::new().stack_size(1 << 20);
    thread.spawn(check).expect("a thread").join().expect("no overflow");
}

/// As deep as may be, and a level deeper.
fn round_trip(syntax: Syntax, open: &str, close: &str, levels: usize) {
    let nested = |depth| format!("{}1{}", open.repeat(depth), close.repeat(depth));
    let deepest = text::DEPTH_MAX / levels;
    let term = syntax.parse(&nested(deepest)).unwrap_or_else(|error| panic!("{open}: {error}"));
    let limits = Limits { depth_max: text::DEPTH_MAX, ..Limits::default() };
    assert_eq!(decode_with(&encode(&term), &limits).expect("as deep in bytes"), term, "{open}");
    assert_eq!(syntax.parse(&syntax.print(&term).to_string()).expect("its own"), term, "{open}");
    let error = syntax.parse(&nested(deepest + 1)).expect_err("too deep").to_string();
    assert!(error.ends_with("levels of nesting"), "{open}: {error}");
}

#[test]
fn no_text_smuggles_in_more_depth_than_it_may_have() {
    let nested = |outer: usize, inner: usize| {
        let deep = [&[131_u8][..], &[104, 1].repeat(inner), &[106]].concat();
        let bytes: Vec<String> = deep.iter().map(u8::to_string).collect();
        let call = format!("binary_to_term(<<{}>>)", bytes.join(","));
        format!("{}{call}{}", "[".repeat(outer), "]".repeat(outer))
    };
    parsed(&nested(text::DEPTH_MAX - 10, 10));
    assert!(refusal(&nested(text::DEPTH_MAX - 10, 11)).contains("levels of nesting"));
    let keys = "[a: ".repeat(1_000_000);
    let error = Elixir.parse(&keys).expect_err("too deep").to_string();
    assert!(error.ends_with("levels of nesting"), "{error}");
}

fn terms(syntax: Syntax, mut text: &str) -> Vec<String> {
    let mut terms = Vec::new();
    while let Some((term, rest)) = syntax.first(text).expect("terms") {
        terms.push(syntax.print(&term).to_string());
        text = rest;
    }
    terms
}

#[test]
fn terms_follow_one_another_by_line_or_by_what_ends_them() {
    let text = "a\n{b,\n c} % d\n\"x\" \"y\"\n\"z\". 1. 2 .\n\n.\n[]";
    assert_eq!(terms(Erlang, text), ["a", "{b,c}", "\"xy\"", "\"z\"", "1", "2", "[]"]);
    let text = ":a\n{:b,\n :c} # d\n1; 2 ;; %{\na: 1}";
    assert_eq!(terms(Elixir, text), [":a", "{:b, :c}", "1", "2", "%{a: 1}"]);
    assert!(terms(Erlang, " % nothing\n").is_empty());
}

#[test]
fn terms_follow_one_another_on_a_line() {
    let text = "{a} {b,\nc}d \"x\" \"y\" <<1>>[2]";
    assert_eq!(terms(Erlang, text), ["{a}", "{b,c}", "d", "\"xy\"", "<<1>>", "[2]"]);
    assert_eq!(terms(Elixir, ":a %{b: 1} [2]"), [":a", "%{b: 1}", "[2]"]);
    let Ok(Some((term, rest))) = Erlang.first("{a} b)\n") else { panic!("{{a}} is a term") };
    assert_eq!((term.to_string().as_str(), rest), ("{a}", " b)\n"));
    let Ok(Some((_, rest))) = Erlang.first("{a} \"b\n") else { panic!("{{a}} is a term") };
    assert!(Erlang.first(rest).expect_err("no end").is_incomplete());
}

#[test]
fn a_term_is_incomplete_when_more_text_may_mend_it() {
    for (syntax, text) in [
        (Erlang, "{a,"),
        (Erlang, "[1\n"),
        (Erlang, "<<1"),
        (Erlang, "\"abc"),
        (Erlang, "'a\\"),
        (Erlang, "#{a"),
        (Elixir, "%{a:"),
        (Elixir, "[1 |"),
        (Elixir, "\"a\\u{12"),
    ] {
        assert!(syntax.first(text).expect_err(text).is_incomplete(), "{text}");
    }
    for (syntax, text) in [(Erlang, "{a]"), (Erlang, "}"), (Erlang, "#{a,"), (Elixir, "%{a,")] {
        assert!(!syntax.first(text).expect_err(text).is_incomplete(), "{text}");
    }
}

#[test]
fn an_excerpt_of_a_long_line_is_short_and_marks_the_column() {
    let line = format!("[{}\tx y,{}]", "1,".repeat(1000), "1,".repeat(1000));
    let error = text::parse(&line).expect_err("two atoms");
    let excerpt = error.excerpt(&line).to_string();
    let (shown, mark) = excerpt.split_once('\n').expect("two lines");
    assert!(shown.len() <= 120, "{shown}");
    assert_eq!(&shown[mark.len() - 3..mark.len() + 2], "x y,1");
}

#[test]
fn maps_in_keys_of_maps_take_no_time_without_end() {
    let nested = |levels: usize, elements: usize| {
        let list = format!("[{}]", vec!["[]"; elements].join(","));
        format!("{}{list}{}", "#{".repeat(levels), "=>1,1=>1}".repeat(levels))
    };
    for (levels, elements) in [(200, 100), (16, 20_000)] {
        text::parse(&nested(levels, elements)).expect("little work");
    }
    let error = text::parse(&nested(200, 20_000)).expect_err("four million looks");
    assert_eq!(error.message, "too many maps in keys of maps");
    // There is nothing to compare with.
    text::parse(&nested(200, 20_000).replace(",1=>1", "")).expect("no work");
}
