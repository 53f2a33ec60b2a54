//! What a term may hold that is about to be trusted further.

use erlang_term_format::{OpaqueKind, Rules, Term, decode, text};

fn parsed(source: &str) -> Term<'static> {
    text::parse(source).unwrap_or_else(|error| panic!("{source}: {error}"))
}

#[test]
fn an_atom_that_is_not_listed_is_found_wherever_it_is() {
    let rules = Rules { atoms: Some(&["a", "nil"]), ..Rules::DATA };
    for allowed in ["a", "{a, [a|nil], #{a => a}}", "<<\"b\">>", "\"b\"", "[]", "1.0"] {
        rules.check(&parsed(allowed)).expect(allowed);
    }
    for (refused, path) in [
        ("b", ""),
        ("[a, {a, b}]", "[1][1]: "),
        ("[a | b]", "[1]: "),
        ("#{b => a}", ""),
        ("#{a => #{<<\"k\">> => b}}", "a.k: "),
        ("#{[b] => a}", "[0]: "),
        ("'A'", ""),
    ] {
        let error = rules.check(&parsed(refused)).expect_err(refused).to_string();
        assert!(error.starts_with(path), "{refused}: {error}");
        assert!(error.ends_with(" is not allowed"), "{error}");
    }
}

#[test]
fn an_opaque_value_is_refused_unless_its_kind_is_listed() {
    let pid = decode(b"\x83X\x77\x01n\0\0\0\x07\0\0\0\0\0\0\0\x01").expect("a pid");
    let export = parsed("fun lists:map/2");
    assert!(Rules::DATA.check(&pid).is_err());
    assert!(Rules::DATA.check(&export).is_err());
    Rules::DATA.check(&parsed("{any, 'atom at all'}")).expect("plain data");
    let pids = Rules { opaque: &[OpaqueKind::Pid], ..Rules::DATA };
    pids.check(&pid).expect("listed");
    let error = pids.check(&Term::list([pid, export])).expect_err("one is not");
    assert_eq!(error.to_string(), "[1]: an export is not allowed");
}
