//! The table of specs that the Elixir client runs too, and what this side says
//! beyond it: where in the spec, and in words.

use erlang_term_format::{Term, decode, encode, text};
use tank::core::failure::{Code, Failure, Place};
use tank::core::spec::{PodSpec, SpecError};

const TABLE: &str = include_str!("cases/specs.terms");

fn term(source: &str) -> Term<'static> {
    let mut terms = text::parse_all(&format!("{source}.")).expect("a term");
    assert_eq!(terms.len(), 1, "{source}");
    terms.remove(0).into_owned()
}

/// A pod with one good container and these entries besides.
fn error(pod: &str) -> SpecError {
    PodSpec::from_term(&term(pod)).expect_err(pod)
}

/// What the case expects and what came instead, if it did.
fn difference(spec: &Term<'_>, expected: &Term<'_>) -> Option<String> {
    let found = PodSpec::from_term(spec);
    let is_as_expected = match (&found, expected.as_tuple()) {
        (Ok(_), None) => expected.is_atom("ok"),
        (Ok(pod), Some([tag, normal])) => tag.is_atom("ok") && pod.to_term() == *normal,
        (Err(error), Some([tag, reason])) => tag.is_atom("error") && error.reason == *reason,
        _ => false,
    };
    let found = match found {
        Ok(pod) => format!("{{ok,{}}}", pod.to_term()),
        Err(error) => format!("{{error,{}}}", error.reason),
    };
    (!is_as_expected).then(|| format!("  expected {expected}\n  found    {found}"))
}

#[test]
fn every_case_of_the_shared_table_holds() {
    let cases = text::parse_all(TABLE).expect("the table is well-formed");
    let mut failed = Vec::new();
    for case in &cases {
        let Some([sentence, spec, expected]) = case.as_tuple() else {
            panic!("not a case: {case}");
        };
        // As it is, and as it comes in a frame.
        let frame = encode(spec);
        let received = decode(&frame).expect("a frame of ours");
        for spec in [spec, &received] {
            let difference = difference(spec, expected);
            failed.extend(difference.map(|difference| format!("{sentence}\n{difference}")));
        }
    }
    assert!(cases.len() > 300, "only {} cases", cases.len());
    assert!(failed.is_empty(), "{} cases:\n{}", failed.len(), failed.join("\n"));
}

#[test]
fn a_good_case_stays_what_it_is_as_a_term() {
    for case in &text::parse_all(TABLE).expect("the table is well-formed") {
        let Some([_, spec, _]) = case.as_tuple() else { continue };
        let Ok(pod) = PodSpec::from_term(spec) else { continue };
        assert_eq!(PodSpec::from_term(&pod.to_term()), Ok(pod));
    }
}

#[test]
fn an_error_says_where_in_the_spec() {
    let cases = [
        ("#{}", "name"),
        ("#{x => 1}", ""),
        ("7", ""),
        ("#{name => <<\"p\">>}", "containers"),
        ("#{name => <<\"p\">>, containers => [1]}", "containers[0]"),
        ("#{name => <<\"p\">>, containers => [#{name => <<\"c\">>, y => 1}]}", "containers[0]"),
        ("#{name => <<\"p\">>, containers => [#{name => <<\"a/b\">>}]}", "containers[0].name"),
    ];
    for (pod, path) in cases {
        assert_eq!(error(pod).path, path, "{pod}");
    }
}

#[test]
fn an_error_deep_in_the_spec_says_the_whole_way() {
    let pod = |container: &str, rest: &str| {
        format!(
            "#{{name => <<\"p\">>, volumes => [#{{name => <<\"v\">>}}], containers => [\
             #{{name => <<\"a\">>, image => <<\"i\">>}}, \
             #{{name => <<\"b\">>, image => <<\"i\">>, {container}}}] {rest}}}"
        )
    };
    let init = |name: &str, container: &str| {
        format!(
            ", init_containers => [#{{name => <<\"{name}\">>, image => <<\"i\">>, {container}}}]"
        )
    };
    let cases = [
        (pod("limits => #{cpu => 1}", ""), "containers[1].limits.cpu"),
        (pod("limits => #{<<\"cpu\">> => 1}", ""), "containers[1].limits"),
        (
            pod("mounts => [#{volume => <<\"v\">>, path => <<\"/\">>}]", ""),
            "containers[1].mounts[0].path",
        ),
        (pod("tty => perhaps", ""), "containers[1].tty"),
        (pod("tty => true", ", network => #{dns => [<<\"10.0.0.1\">>, x]}"), "network.dns[1]"),
        (
            pod("tty => true", ", network => #{nics => [#{name => <<\"n\">>, ip => x}]}"),
            "network.nics[0].ip",
        ),
        (pod("tty => true", ", restart => x"), "restart"),
        (
            pod("mounts => [#{volume => <<\"w\">>, path => <<\"/w\">>}]", ""),
            "containers[1].mounts[0].volume",
        ),
        (pod("stop_signal => 0", ""), "containers[1].stop_signal"),
        (pod("stop_grace_ms => -1", ""), "containers[1].stop_grace_ms"),
        (pod("tty => true", ", oci_runtime => <<\"./crun\">>"), "oci_runtime"),
        (pod("tty => true", &init("a", "tty => true")), "init_containers"),
        (pod("tty => true", &init("i", "sidecar => true")), "init_containers[0].sidecar"),
        (pod("tty => true", &init("i", "init => 1")), "init_containers[0].init"),
        (
            pod(
                "tty => true",
                &init("i", "mounts => [#{volume => <<\"w\">>, path => <<\"/w\">>}]"),
            ),
            "init_containers[0].mounts[0].volume",
        ),
    ];
    for (pod, path) in cases {
        assert_eq!(error(&pod).path, path, "{pod}");
    }
}

#[test]
fn a_message_is_one_line_that_says_the_value_and_the_rule() {
    let cases = [
        ("#{name => <<\"a/b\">>}", "name: <<\"a/b\">> is not a name"),
        ("#{nmae => 1, zone => 2}", "unknown key nmae, zone (known are name, containers"),
        (
            "#{name => <<\"p\">>, restart => x, containers => [#{name => <<\"c\">>, image => <<\"i\">>}]}",
            "restart: x is not one of always, on_failure, never",
        ),
        ("#{name => <<\"p\">>}", "containers: a pod has at least one container"),
        (
            "#{name => <<\"p\">>, containers => [#{name => <<\"c\">>, image => <<\"i\">>, sidecar => true}]}",
            "containers: a pod has at least one container that is no sidecar",
        ),
    ];
    for (pod, start) in cases {
        let message = error(pod).to_string();
        assert!(message.starts_with(start), "{message}");
        assert!(!message.contains('\n') && !message.ends_with('.'), "{message}");
    }
}

#[test]
fn a_message_does_not_repeat_a_long_value() {
    let pod = format!("#{{name => <<\"{}\">>}}", "x".repeat(10_000));
    let error = error(&pod);
    assert!(error.to_string().len() < 300, "{error}");
    let [_, value] = error.reason.as_tuple().unwrap() else { panic!("{}", error.reason) };
    assert_eq!(value.as_bytes().unwrap().len(), 10_000, "the reason has it whole");
}

#[test]
fn a_failure_names_the_pod_and_the_field() {
    let failure = Failure::from(error("#{name => <<\"web\">>, containers => [1]}"));
    assert_eq!(failure.code, Code::InvalidSpec);
    let places = [(Place::Pod, "web".to_owned()), (Place::Field, "containers[0]".to_owned())];
    assert_eq!(failure.at, places);
    assert_eq!(Failure::from(error("web")).at, []);
}
