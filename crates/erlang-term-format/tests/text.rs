//! Erlang source text, read and printed.

use erlang_term_format::{Term, map, text, tuple};

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
        ("'abc", "line 1, column 1: no closing `\\'`"),
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
        ("?", "line 1, column 1: unexpected `?`"),
        ("#Pid<00>", "line 1, column 1: `#`, expected a term"),
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
    let decimal = "9".repeat(5_000);
    assert_eq!(parsed(&decimal).to_string(), decimal);
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
