//! What is done to the machine in a round, and when: all of it from the seed.

use crate::model::Kind;
use crate::random::Random;

/// How long faults last.
pub(crate) const ROUND_MS: u64 = 5_000;
/// Things done in a round beside those that every round has.
const EXTRAS: usize = 45;
/// Frozen for longer, a shim may be taken for stuck and killed.
pub(crate) const FREEZE_MS_MAX: u64 = 1_000;
/// Frozen for so long, it is: nobody waits for it as long.
const STUCK_MS: u64 = 6_500;
/// How often a port program that has just started is killed again.
const STORM: u64 = 6;

/// What is frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Victim {
    Beam,
    Port,
    Shim,
    /// An OCI runtime, while it launches a container.
    Runtime,
    Workload,
}

/// Something that is done to the machine, or asked of the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deed {
    /// `kill -9`; of a BEAM, which starts again after so many milliseconds.
    Kill(Victim, u64),
    /// `kill -STOP`, and `-CONT` after so many milliseconds.
    Freeze(Victim, u64),
    /// The disk of the data directory is full for so many milliseconds.
    Fill(u64),
    /// A pod gets another spec.
    Change,
    /// A pod gets the spec that it has.
    Repeat,
    /// A pod comes.
    Create(Kind),
    /// A pod goes.
    Delete,
    /// A pod is started anew.
    Restart,
    /// What is stored is compared with what was acknowledged.
    List,
}

/// A round's deeds, with the milliseconds from its start, in order.
pub(crate) fn round(random: &mut Random) -> Vec<(u64, Deed)> {
    let mut deeds = always(random);
    deeds.extend((0..EXTRAS).map(|_| sometimes(random)));
    let mut plan: Vec<(u64, Deed)> =
        deeds.into_iter().map(|deed| (random.below(ROUND_MS), deed)).collect();
    plan.extend(storm(random));
    plan.sort_by_key(|(at_ms, _)| *at_ms);
    plan
}

/// One port program after the other is killed before it has done much.
fn storm(random: &mut Random) -> Vec<(u64, Deed)> {
    let begins_ms = random.below(ROUND_MS);
    let at_ms = |random: &mut Random| begins_ms + random.below(STORM * 150);
    (0..STORM).map(|_| (at_ms(random), Deed::Kill(Victim::Port, 0))).collect()
}

/// What every round has at least.
fn always(random: &mut Random) -> Vec<Deed> {
    let mut deeds = vec![
        kill(Victim::Beam, random),
        kill(Victim::Port, random),
        kill(Victim::Shim, random),
        kill(Victim::Shim, random),
        kill(Victim::Runtime, random),
        kill(Victim::Runtime, random),
        kill(Victim::Workload, random),
        Deed::Create(Kind::Once),
        Deed::Create(Kind::Once),
        Deed::Create(Kind::OciOnce),
        Deed::List,
    ];
    let victims = [Victim::Beam, Victim::Port, Victim::Shim, Victim::Runtime, Victim::Workload];
    for victim in victims {
        deeds.push(freeze(victim, random));
    }
    for _ in 0..2 {
        deeds.push(fill(random));
    }
    deeds
}

fn sometimes(random: &mut Random) -> Deed {
    match random.below(100) {
        0..3 => kill(Victim::Beam, random),
        3..9 => kill(Victim::Port, random),
        9..17 => kill(Victim::Shim, random),
        17..22 => kill(Victim::Workload, random),
        22..24 => freeze(Victim::Beam, random),
        24..25 => Deed::Freeze(Victim::Shim, STUCK_MS),
        25..30 => freeze(Victim::Port, random),
        30..37 => freeze(Victim::Shim, random),
        37..43 => freeze(Victim::Workload, random),
        43..46 => fill(random),
        46..62 => Deed::Change,
        62..68 => Deed::Repeat,
        68..78 => Deed::Create(*random.pick(&Kind::ALL)),
        78..88 => Deed::Delete,
        88..94 => Deed::Restart,
        _ => Deed::List,
    }
}

fn kill(victim: Victim, random: &mut Random) -> Deed {
    Deed::Kill(victim, random.below(400))
}

fn freeze(victim: Victim, random: &mut Random) -> Deed {
    Deed::Freeze(victim, random.between(50, FREEZE_MS_MAX))
}

fn fill(random: &mut Random) -> Deed {
    Deed::Fill(random.between(300, 1_200))
}
