//! The core in a world of trouble, by seed. `scripts/simulate` runs more seeds,
//! or one of them with its log.

mod coverage;
mod judge;
pub(crate) mod random;
mod runs;
mod world;

use std::cell::RefCell;
use std::env;
use std::fmt::Write as _;
use std::panic::{self, AssertUnwindSafe};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use coverage::Coverage;
use tank::core::trail::Trail;
use world::{Log, World};

/// Seeds in one run of the tests.
const SEEDS: u64 = 2_000;
/// Lines of a failed seed's log that are shown.
const LINES_SHOWN: usize = 60;

#[test]
fn every_seed_keeps_the_invariants_and_ends_as_desired() {
    if let Some(seed) = number("TANK_SIM_SEED") {
        let (log, trail) = simulate(seed);
        println!("{}", log.borrow());
        assert!(trail.is_some(), "seed {seed} fails");
        return;
    }
    let first = number("TANK_SIM_FIRST").unwrap_or(1);
    let count = number("TANK_SIM_SEEDS").unwrap_or(SEEDS);
    let mut coverage = Coverage::listed();
    let rare = coverage.seeds_beyond(first + count);
    let seeds: Vec<u64> = (first..first + count).chain(rare).collect();
    for (seed, trail) in play_all(&seeds) {
        coverage.add(seed, &trail);
    }
    coverage.judge(seeds.len());
}

/// Plays seeds on all CPUs. What each has taken, in order.
fn play_all(seeds: &[u64]) -> Vec<(u64, Trail)> {
    let next = AtomicU64::new(0);
    let play = || {
        let mut played = Vec::new();
        let take = || usize::try_from(next.fetch_add(1, Ordering::Relaxed)).expect("few seeds");
        while let Some(&seed) = seeds.get(take()) {
            let (log, trail) = simulate(seed);
            played.push((seed, trail.unwrap_or_else(|| panic!("{}", report(seed, &log)))));
        }
        played
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut played: Vec<_> = thread::scope(|scope| {
        let players: Vec<_> = (0..threads).map(|_| scope.spawn(play)).collect();
        let played = players.into_iter().map(|player| match player.join() {
            Ok(played) => played,
            Err(failure) => panic::resume_unwind(failure),
        });
        played.flatten().collect()
    });
    played.sort_by_key(|(seed, _)| *seed);
    played
}

/// Plays one seed. The log tells all; what was taken is there if it went well.
fn simulate(seed: u64) -> (Log, Option<Trail>) {
    let log: Log = Rc::new(RefCell::new(String::new()));
    let play = || World::new(seed, Rc::clone(&log)).run();
    let result = panic::catch_unwind(AssertUnwindSafe(play));
    if let Err(reason) = &result {
        let reason = reason.downcast_ref::<String>().map(String::as_str);
        writeln!(log.borrow_mut(), "FAILED: {}", reason.unwrap_or_default()).expect("memory");
    }
    (log, result.ok())
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
