//! Which transitions a core has taken: what a pod was doing, what happened, and what it
//! does then, and each decision of the table. Bits that no decision depends on: by them a
//! simulation tells what it has not tried.

use super::plan::{Doing, Want};

/// What can happen to a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// Another spec, or the same at another generation, is durable.
    Stored,
    /// It is deleted.
    Deleted,
    /// A verdict on it is durable.
    Judged,
    /// A verdict on it is taken back.
    Pardoned,
    /// A client wants it started anew.
    RestartAsked,
    /// The program begins to end.
    ShutDown,
    /// A start or a takeover is over, and well.
    Started,
    /// A start or a takeover has failed.
    NotStarted,
    /// A stop or a sweep is over, and well.
    Stopped,
    /// A stop or a sweep has failed.
    NotStopped,
    /// An adjustment is over, and well.
    Adjusted,
    /// An adjustment has failed.
    NotAdjusted,
    /// What it left behind is removed.
    Removed,
    /// A run has ended by itself.
    RunEnded,
    /// It was looked at.
    Observed,
    /// It was to be looked at now.
    Alarm,
}

const DOINGS: [(Doing, &str); 12] = [
    (Doing::Fresh, "fresh"),
    (Doing::Waiting, "waiting"),
    (Doing::Due, "due"),
    (Doing::Terminal, "terminal"),
    (Doing::Littered, "littered"),
    (Doing::Found, "found"),
    (Doing::Adopting, "adopting"),
    (Doing::Launching, "launching"),
    (Doing::Cancelled, "cancelled"),
    (Doing::Running, "running"),
    (Doing::Adjusting, "adjusting"),
    (Doing::Ending, "ending"),
];

const WANTS: [(Want, &str); 7] = [
    (Want::Gone, "gone"),
    (Want::Same, "same"),
    (Want::Adjusted, "adjusted"),
    (Want::New, "new"),
    (Want::Finished, "finished"),
    (Want::Hold, "hold"),
    (Want::Halt, "halt"),
];

const CAUSES: [(Cause, &str); 16] = [
    (Cause::Stored, "stored"),
    (Cause::Deleted, "deleted"),
    (Cause::Judged, "judged"),
    (Cause::Pardoned, "pardoned"),
    (Cause::RestartAsked, "restart asked"),
    (Cause::ShutDown, "shut down"),
    (Cause::Started, "started"),
    (Cause::NotStarted, "not started"),
    (Cause::Stopped, "stopped"),
    (Cause::NotStopped, "not stopped"),
    (Cause::Adjusted, "adjusted"),
    (Cause::NotAdjusted, "not adjusted"),
    (Cause::Removed, "removed"),
    (Cause::RunEnded, "run ended"),
    (Cause::Observed, "observed"),
    (Cause::Alarm, "alarm"),
];

const TRANSITIONS: usize = DOINGS.len() * CAUSES.len() * DOINGS.len();
const DECISIONS: usize = DOINGS.len() * WANTS.len();
const WORDS: usize = (TRANSITIONS + DECISIONS).div_ceil(64);

/// What has been taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trail([u64; WORDS]);

impl Default for Trail {
    fn default() -> Self {
        Self([0; WORDS])
    }
}

impl Trail {
    pub(super) fn note_transition(&mut self, from: Doing, cause: Cause, to: Doing) {
        let cause = from as usize * CAUSES.len() + cause as usize;
        self.set(cause * DOINGS.len() + to as usize);
    }

    pub(super) fn note_decision(&mut self, doing: Doing, want: Want) {
        self.set(TRANSITIONS + doing as usize * WANTS.len() + want as usize);
    }

    fn set(&mut self, bit: usize) {
        self.0[bit / 64] |= 1 << (bit % 64);
    }

    fn has(&self, bit: usize) -> bool {
        self.0[bit / 64] & (1 << (bit % 64)) != 0
    }

    /// Adds what another has taken.
    pub fn merge(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(word, other)| *word |= other);
    }

    /// A line for each: `running, run ended: waiting` for a transition, and `decides on
    /// running, wanted new` for a decision.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let transition = |bit: usize| {
            let (before, to) = (bit / DOINGS.len(), bit % DOINGS.len());
            let (from, cause) = (before / CAUSES.len(), before % CAUSES.len());
            format!("{}, {}: {}", DOINGS[from].1, CAUSES[cause].1, DOINGS[to].1)
        };
        let decision = |bit: usize| {
            let (doing, want) = (bit / WANTS.len(), bit % WANTS.len());
            format!("decides on {}, wanted {}", DOINGS[doing].1, WANTS[want].1)
        };
        let taken = (0..TRANSITIONS + DECISIONS).filter(|bit| self.has(*bit));
        taken.map(move |bit| match bit.checked_sub(TRANSITIONS) {
            None => transition(bit),
            Some(bit) => decision(bit),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_table_is_in_the_order_of_its_numbers() {
        assert!(DOINGS.iter().enumerate().all(|(index, (doing, _))| *doing as usize == index));
        assert!(WANTS.iter().enumerate().all(|(index, (want, _))| *want as usize == index));
        assert!(CAUSES.iter().enumerate().all(|(index, (cause, _))| *cause as usize == index));
    }

    #[test]
    fn what_is_taken_is_told() {
        let mut trail = Trail::default();
        trail.note_transition(Doing::Ending, Cause::Alarm, Doing::Ending);
        let mut other = Trail::default();
        other.note_transition(Doing::Running, Cause::RunEnded, Doing::Waiting);
        other.note_decision(Doing::Running, Want::New);
        trail.merge(&other);
        let lines: Vec<String> = trail.lines().collect();
        let expected = [
            "running, run ended: waiting",
            "ending, alarm: ending",
            "decides on running, wanted new",
        ];
        assert_eq!(lines, expected);
    }
}
