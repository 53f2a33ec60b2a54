//! Which of the core's transitions the seeds take. All that can be taken are listed, in
//! `tests/cases/transitions.txt`, each with the first seed that takes it: a transition
//! that is not listed is one that nobody has looked at, and one that is and is not taken
//! is no longer tried. `scripts/simulate cover N` writes the list anew.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::{env, fs};

use tank::core::trail::Trail;

#[derive(Debug)]
pub(crate) struct Coverage {
    /// The first seed of each that is listed.
    listed: BTreeMap<String, u64>,
    /// The first seed of each that was taken.
    taken: BTreeMap<String, u64>,
    all: Trail,
}

impl Coverage {
    pub(crate) fn listed() -> Self {
        let text = fs::read_to_string(path()).unwrap_or_default();
        let listed = text.lines().filter(|line| !line.starts_with('#')).map(entry).collect();
        Self { listed, taken: BTreeMap::new(), all: Trail::default() }
    }

    /// Seeds from this one on that the list needs.
    pub(crate) fn seeds_beyond(&self, end: u64) -> Vec<u64> {
        let mut seeds: Vec<u64> =
            self.listed.values().copied().filter(|seed| *seed >= end && !is_written()).collect();
        seeds.sort_unstable();
        seeds.dedup();
        seeds
    }

    /// A seed has taken these. Seeds come in order.
    pub(crate) fn add(&mut self, seed: u64, trail: &Trail) {
        let mut all = self.all.clone();
        all.merge(trail);
        if all != self.all {
            for line in trail.lines() {
                self.taken.entry(line).or_insert(seed);
            }
            self.all = all;
        }
    }

    /// Says how much was covered, which must be all.
    pub(crate) fn judge(&self, seeds: usize) {
        let decisions = self.taken.keys().filter(|line| line.starts_with("decides")).count();
        let transitions = self.taken.len() - decisions;
        println!("{seeds} seeds took {transitions} transitions and {decisions} decisions");
        if is_written() {
            return self.write();
        }
        let missing =
            |have: &BTreeMap<String, u64>, wanted: &BTreeMap<String, u64>| -> Vec<String> {
                let missing = wanted.iter().filter(|(line, _)| !have.contains_key(*line));
                missing.map(|(line, seed)| format!("{line} (seed {seed})")).collect()
            };
        let unlisted = missing(&self.listed, &self.taken);
        assert!(
            unlisted.is_empty(),
            "taken, and not listed in {}: {unlisted:#?}",
            path().display()
        );
        let untaken = missing(&self.taken, &self.listed);
        let advice = "is it still possible? `scripts/simulate cover N` finds other seeds";
        assert!(untaken.is_empty(), "listed, and not taken; {advice}: {untaken:#?}");
        println!("that is all that are listed");
    }

    fn write(&self) {
        let mut text = "# Every transition and decision of the core, with the first seed of the \
                        simulator that\n# takes it. Written by `scripts/simulate cover N`.\n"
            .to_owned();
        for (line, seed) in &self.taken {
            text.push_str(&format!("{line} # {seed}\n"));
        }
        fs::write(path(), text).expect("the list can be written");
    }
}

fn is_written() -> bool {
    env::var_os("TANK_SIM_COVER").is_some()
}

fn entry(line: &str) -> (String, u64) {
    let (line, seed) = line.split_once(" # ").unwrap_or_else(|| panic!("no seed: {line:?}"));
    (line.to_owned(), seed.parse().unwrap_or_else(|_| panic!("no seed: {seed:?}")))
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/cases/transitions.txt")
}
