//! The corpus through every target, on any toolchain.

use std::panic::catch_unwind;

/// Runs all inputs of a target before it says which ones failed.
fn replay(name: &str) {
    let target = tank_fuzz::target(name).expect("a target");
    assert!(target.corpus.len() > 20, "only {} inputs", target.corpus.len());
    let fails = |input: &&&[u8]| catch_unwind(|| (target.holds)(input)).is_err();
    let failed: Vec<String> = target
        .corpus
        .iter()
        .filter(fails)
        .map(|input| format!("b\"{}\"", input.escape_ascii()))
        .collect();
    assert!(failed.is_empty(), "{name} does not hold for\n{}", failed.join("\n"));
}

#[test]
fn bytes_become_terms_or_errors() {
    replay("terms");
}

#[test]
fn bytes_become_types_or_errors() {
    replay("types");
}

#[test]
fn frames_become_requests_or_errors() {
    replay("requests");
}

#[test]
fn streams_become_frames_however_they_are_cut() {
    replay("frames");
}

#[test]
fn streams_are_answered_however_they_are_cut() {
    replay("session");
}

#[test]
fn text_becomes_terms_or_errors() {
    replay("text");
}

#[test]
fn streams_are_shown_as_text_that_makes_the_same_streams() {
    replay("tools");
}

#[test]
fn every_target_is_replayed() {
    let names: Vec<_> = tank_fuzz::TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(names, ["terms", "types", "requests", "frames", "session", "text", "tools"]);
}
