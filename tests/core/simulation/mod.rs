//! The core in a world of trouble, by seed. `scripts/simulate` runs more seeds,
//! or one of them with its log.

mod judge;
pub(crate) mod random;
mod runs;
mod world;

use std::cell::RefCell;
use std::env;
use std::fmt::Write as _;
use std::panic::{self, AssertUnwindSafe};
use std::rc::Rc;

use world::{Log, World};

/// Seeds in one run of the tests.
const SEEDS: u64 = 1_000;
/// Lines of a failed seed's log that are shown.
const LINES_SHOWN: usize = 60;

#[test]
fn every_seed_keeps_the_invariants_and_ends_as_desired() {
    if let Some(seed) = number("TANK_SIM_SEED") {
        let (log, is_ok) = simulate(seed);
        println!("{}", log.borrow());
        assert!(is_ok, "seed {seed} fails");
        return;
    }
    let first = number("TANK_SIM_FIRST").unwrap_or(1);
    let last = first + number("TANK_SIM_SEEDS").unwrap_or(SEEDS) - 1;
    for seed in first..=last {
        let (log, is_ok) = simulate(seed);
        assert!(is_ok, "{}", report(seed, &log));
    }
}

/// Plays one seed. The log tells all, and whether it went well.
fn simulate(seed: u64) -> (Log, bool) {
    let log: Log = Rc::new(RefCell::new(String::new()));
    let play = || World::new(seed, Rc::clone(&log)).run();
    let result = panic::catch_unwind(AssertUnwindSafe(play));
    if let Err(reason) = &result {
        let reason = reason.downcast_ref::<String>().map(String::as_str);
        writeln!(log.borrow_mut(), "FAILED: {}", reason.unwrap_or_default()).expect("memory");
    }
    (log, result.is_ok())
}

fn report(seed: u64, log: &Log) -> String {
    let log = log.borrow();
    let lines: Vec<&str> = log.lines().collect();
    let shown = &lines[lines.len().saturating_sub(LINES_SHOWN)..];
    let replay = format!("scripts/simulate seed {seed}");
    format!("seed {seed} fails; its last events:\n{}\nall of them: {replay}", shown.join("\n"))
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text:?}")))
}

#[test]
fn a_seed_plays_the_same_each_time() {
    let (first, again) = (simulate(7).0, simulate(7).0);
    assert_eq!(first.borrow().as_str(), again.borrow().as_str());
    assert_ne!(first.borrow().as_str(), simulate(8).0.borrow().as_str());
}
