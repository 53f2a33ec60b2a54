//! Bytes recorded in `golden/terms.txt`, and whether they still mean what they meant, here and to
//! the installed Erlang.

use std::process::Command;

use erlang_term_format::{Term, decode, encode, from_slice, text, tuple};
use serde::de::IgnoredAny;

/// One record.
#[derive(Default)]
struct Golden<'t> {
    name: &'t str,
    read: Vec<u8>,
    /// The term as text, unless it is refused.
    term: Option<&'t str>,
    /// What is written, if it is not what was read.
    written: Option<Vec<u8>>,
    /// Which releases write it, and with which options.
    emitted: Option<&'t str>,
    /// No release of today reads it.
    unread: bool,
    /// What the refusal says.
    refused: Option<&'t str>,
    /// Which releases read it all the same.
    taken: Option<&'t str>,
}

impl Golden<'_> {
    fn written(&self) -> &[u8] {
        self.written.as_deref().unwrap_or(&self.read)
    }
}

fn goldens() -> Vec<Golden<'static>> {
    let records = include_str!("golden/terms.txt").split("\n\n");
    let records = records.map(str::trim).filter(|each| !each.is_empty() && !each.starts_with('%'));
    records.map(golden).collect()
}

fn golden(record: &str) -> Golden<'_> {
    let (name, fields) = record.split_once('\n').expect("a name and fields");
    let mut golden = Golden { name, ..Golden::default() };
    for line in fields.lines() {
        let (field, value) = line.split_once(' ').expect("a field and its value");
        let value = value.trim();
        match field {
            "read" => golden.read = bytes(value),
            "term" => golden.term = Some(value),
            "written" => golden.written = Some(bytes(value)),
            "emitted" => golden.emitted = Some(value),
            "unread" => golden.unread = true,
            "refused" => golden.refused = Some(value),
            "taken" => golden.taken = Some(value),
            other => panic!("{name}: no field {other}"),
        }
    }
    assert!(golden.term.is_some() != golden.refused.is_some(), "{name}: read or refused");
    golden
}

fn bytes(hexadecimal: &str) -> Vec<u8> {
    let digits = hexadecimal.as_bytes().chunks(2);
    let digits = digits.map(|pair| std::str::from_utf8(pair).expect("ASCII"));
    digits.map(|pair| u8::from_str_radix(pair, 16).expect("hexadecimal digits")).collect()
}

#[test]
fn what_was_recorded_is_read_and_written_as_it_was() {
    let goldens = goldens();
    assert!(goldens.len() > 60, "{} records", goldens.len());
    for golden in goldens {
        let name = golden.name;
        let (Some(source), read) = (golden.term, decode(&golden.read)) else {
            let refusal = decode(&golden.read).expect_err(name).to_string();
            let expected = golden.refused.expect("read or refused");
            assert!(refusal.contains(expected), "{name}: {refusal}");
            continue;
        };
        let term = read.unwrap_or_else(|error| panic!("{name}: {error}"));
        from_slice::<IgnoredAny>(&golden.read).expect(name);
        assert_eq!(term.to_string(), source, "{name}");
        assert_eq!(text::parse(source).expect(name), term, "{name}");
        assert_eq!(encode(&term), golden.written(), "{name}");
        assert_eq!(decode(golden.written()).expect(name), term, "{name}");
    }
}

#[test]
fn the_installed_erlang_agrees_with_what_was_recorded() {
    let records = goldens();
    let records: Vec<Term> = records.iter().map(record).collect();
    let count = records.len();
    let encoded = encode(&Term::List(records));
    let hexadecimal: String = encoded.iter().map(|byte| format!("{byte:02x}")).collect();
    let output = Command::new("erl")
        .args(["-noinput", "-boot", "start_clean", "+pc", "unicode", "-eval", JUDGE])
        .env("ETF_GOLDEN", hexadecimal)
        .env("ERL_CRASH_DUMP_BYTES", "0")
        .output()
        .expect("start `erl`: this test needs Erlang/OTP (Debian: erlang-base)");
    let verdict = String::from_utf8_lossy(&output.stdout);
    assert_eq!(verdict, format!("{count} agreed"), "{}", String::from_utf8_lossy(&output.stderr));
}

/// `{Name, Read, Written, Source, {From, To, Options} | nil}`, or of what is refused on either
/// side `{Name, Read, nil | {From, To}}`, with the releases that take it.
fn record<'t>(golden: &'t Golden<'t>) -> Term<'t> {
    let releases = |range: &str, rest: &str| {
        let (from, to) = range.split_once("..").expect("from..to");
        text::parse(&format!("{{{from}, {to}{rest}}}")).expect("numbers and options")
    };
    if golden.unread || golden.refused.is_some() {
        let taken = golden.taken.map(|range| releases(range, ""));
        return tuple![golden.name, &golden.read[..], taken];
    }
    let emitted = golden.emitted.map(|emitted| {
        let (range, options) = emitted.split_once(' ').expect("releases and options");
        releases(range, &format!(", {options}"))
    });
    tuple![golden.name, &golden.read[..], golden.written(), golden.term, emitted]
}

const JUDGE: &str = r#"
    Records = binary_to_term(binary:decode_hex(list_to_binary(os:getenv("ETF_GOLDEN")))),
    Release = list_to_integer(erlang:system_info(otp_release)),
    Value = fun(Source) ->
        {ok, Tokens, _} = erl_scan:string(unicode:characters_to_list([Source, ". "])),
        {ok, Expressions} = erl_parse:parse_exprs(Tokens),
        {value, Term, _} = erl_eval:exprs(Expressions, []),
        Term
    end,
    Taken = fun(Read) -> try binary_to_term(Read) of _ -> true catch error:badarg -> false end end,
    Faults = fun
    ({Name, Read, nil}) ->
        [{Name, taken} || Taken(Read)];
    ({Name, Read, {From, To}}) ->
        [{Name, refused} || From =< Release, Release =< To, not Taken(Read)];
    ({Name, Read, Written, Source, Emitted}) ->
        Term = binary_to_term(Read),
        [{Name, written} || binary_to_term(Written) =/= Term] ++
        [{Name, source} || Value(Source) =/= Term] ++
        case Emitted of
            {From, To, Options} when From =< Release, Release =< To ->
                [{Name, emitted} || term_to_binary(Term, Options) =/= Read];
            _ -> []
        end
    end,
    case lists:flatmap(Faults, Records) of
        [] -> io:format("~w agreed", [length(Records)]);
        Found -> io:format("~tp", [Found])
    end,
    halt().
"#;
