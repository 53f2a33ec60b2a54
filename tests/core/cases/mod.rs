//! The loop's contract as text: each file in `tests/cases/core` is a topic, each
//! `==` in it a scenario, and what the core says is written under what
//! happened. `TANK_UPDATE_CASES=1 cargo test --test core cases` rewrites what
//! it says; the difference is then for a person to judge.
//!
//! | Line | Meaning |
//! |---|---|
//! | `given backoff_base=1s` | an option of the core, before anything happens |
//! | `given observe=by_hand` | observations are shown, and wait for `* observed` |
//! | `have web restart=never` | `web` is applied and runs; nothing is shown |
//! | `> apply web image=b` | a client asks |
//! | `* web exited 1` | something happened in the world |
//! | `wait 10s` | time passes; what it brings is shown with the instant |
//! | `< start web #1` | what the core says to that |

mod stage;
mod world;

use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn every_case_reads_as_written() {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/cases/core");
    let entries = fs::read_dir(&dir).expect("the cases are there");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "no cases in {}", dir.display());
    let differing: Vec<String> = paths.iter().filter_map(|path| check(path)).collect();
    assert!(differing.is_empty(), "\n{}", differing.join("\n"));
}

/// What is different in this file, if anything is.
fn check(path: &Path) -> Option<String> {
    let written = fs::read_to_string(path).expect("a readable case");
    let played = stage::play(&written);
    if written == played {
        return None;
    }
    if std::env::var_os("TANK_UPDATE_CASES").is_some() {
        fs::write(path, played).expect("a writable case");
        return None;
    }
    Some(difference(path, &written, &played))
}

fn difference(path: &Path, written: &str, played: &str) -> String {
    let same = written.lines().zip(played.lines()).take_while(|(a, b)| a == b).count();
    let around = |text: &str| -> String {
        let lines = text.lines().skip(same.saturating_sub(6)).take(12);
        lines.map(|line| format!("    {line}\n")).collect()
    };
    let (path, line) = (path.display(), same + 1);
    format!("{path}:{line}\n  written:\n{}  played:\n{}", around(written), around(played))
}
