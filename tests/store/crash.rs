//! Power loss, failing and full disks: what was acknowledged is there, and what
//! was refused is not.

use std::path::PathBuf;

use tank::core::action::Write;
use tank::core::event::{DesiredChange, Revision};
use tank::core::journal::{ENTRIES_MAX, Entry, Kind};
use tank::core::spec::Name;
use tank::store::{Change, Committed, DurableStore, MemoryStore, Store, StoreError};

use crate::disk::Disk;
use crate::specs::{commit_all, create, delete, journal, name, note, put, seed, started, verdict};

/// How much of an unsynced write a power loss keeps: nothing, all, and draws.
const CHANCES: [u64; 6] = [0, 1, 2, 3, 5, 8];

/// All that a store holds and tells.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct State {
    pub(crate) desired: DesiredChange,
    pub(crate) journals: Vec<(Name, Vec<Entry>)>,
    /// Which of the pods that are seeded in these tests were.
    pub(crate) seeded: Vec<&'static str>,
}

const SEEDED: [&str; 4] = ["web", "kept", "gone", "later"];

impl State {
    pub(crate) fn of(store: &mut dyn Store) -> Self {
        let desired = store.list().unwrap();
        let names: Vec<Name> = desired.pods.iter().map(|(pod, _)| pod.clone()).collect();
        let mut journal = |pod: Name| (pod.clone(), store.journal(&pod).unwrap().unwrap());
        let journals = names.into_iter().map(&mut journal).collect();
        Self { desired, journals, seeded: seeded(store) }
    }
}

/// Asks by deleting and seeding each pod: for the last look at a store.
fn seeded(store: &mut dyn Store) -> Vec<&'static str> {
    let asks = SEEDED.iter().flat_map(|pod| [delete(pod), seed(pod, "again")]);
    let answers = store.commit(&asks.collect::<Vec<Write>>());
    let seeds = SEEDED.into_iter().zip(answers.chunks(2));
    seeds.filter(|(_, answers)| answers[1].is_err()).map(|(pod, _)| pod).collect()
}

/// Batches that touch every table, grow the file and free pages.
pub(crate) fn batches() -> Vec<Vec<Change>> {
    let long = "x".repeat(3_000);
    let writes = |writes: Vec<Write>| writes.into_iter().map(Change::Write).collect();
    vec![
        writes(vec![put("web", "a"), put("db", "a"), create("job", "a")]),
        writes(vec![Write::PutVerdict(name("job"), Revision(3), verdict(0))]),
        writes(vec![seed("web", "b"), seed("kept", "a"), seed("gone", "a")]),
        vec![started("web", 1), Change::Write(delete("gone")), started("gone", 2)],
        writes((0..20).map(|n| put(&format!("pod{n}"), &long)).collect()),
        (0..ENTRIES_MAX as u64).map(|run| started("db", run)).collect(),
        writes(vec![delete("web"), put("db", "b"), create("db", "c")]),
        vec![started("db", 101), started("kept", 102)],
        writes(vec![Write::ClearVerdict(name("job")), put("job", "b"), seed("gone", "b")]),
        writes((0..20).map(|n| delete(&format!("pod{n}"))).collect()),
        vec![Change::Write(put("web", &long)), started("web", 103)],
    ]
}

/// What a store holds after none, one, two... of the batches.
pub(crate) fn histories(batches: &[Vec<Change>]) -> Vec<State> {
    let after = |count: usize| {
        let mut store = MemoryStore::new();
        batches[..count].iter().for_each(|batch| drop(store.commit_at(0, batch)));
        State::of(&mut store)
    };
    (0..=batches.len()).map(after).collect()
}

/// Runs the batches until one fails; how many were acknowledged.
pub(crate) fn run(disk: &Disk, batches: &[Vec<Change>]) -> usize {
    let Ok(mut store) = DurableStore::open_on(disk.clone()) else { return 0 };
    let mut is_acknowledged = |batch: &[Change]| {
        let Committed { answers, journal } = store.commit_at(0, batch);
        let is_io = |answer: &Result<_, _>| matches!(answer, Err(StoreError::Io { .. }));
        assert_eq!(answers.iter().any(is_io), journal.is_err() && !answers.is_empty());
        journal.is_ok()
    };
    batches.iter().take_while(|batch| is_acknowledged(batch)).count()
}

fn open(disk: &Disk) -> DurableStore<Disk> {
    let store = DurableStore::open_on(disk.clone()).expect("the store opens");
    assert!(store.set_aside().is_empty(), "{:?}", store.set_aside());
    assert_eq!(store.salvage(), None, "a power loss damages nothing");
    store
}

fn contents(disk: &Disk) -> DesiredChange {
    open(disk).list().unwrap()
}

#[test]
fn after_a_power_loss_at_any_moment_exactly_what_was_acknowledged_is_there() {
    let batches = batches();
    let states = histories(&batches);
    let (mut cuts, mut cuts_in_batches) = (0, 0);
    for operation in 0.. {
        let disk = Disk::losing_power_at(operation);
        let acknowledged = run(&disk, &batches);
        if disk.has_fault_left() {
            assert_eq!(acknowledged, batches.len());
            break;
        }
        cuts_in_batches += usize::from(acknowledged > 0);
        for chance in CHANCES {
            let found = State::of(&mut open(&disk.after_power_loss(chance)));
            cuts += 1;
            // The batch under way may have reached the disk: whole or not at all.
            let next = states.get(acknowledged + 1);
            assert!(
                found == states[acknowledged] || Some(&found) == next,
                "cut at {operation}, chance {chance}, {acknowledged} acknowledged: {found:?}"
            );
        }
    }
    assert!(cuts_in_batches > 30, "only {cuts_in_batches} cuts after the first batch");
    println!("{cuts} states of the disk after a cut, each with exactly what was acknowledged");
}

#[test]
fn a_store_goes_on_after_a_power_loss() {
    let batches = batches();
    for operation in (0..90).step_by(7) {
        let disk = Disk::losing_power_at(operation);
        run(&disk, &batches);
        let disk = disk.after_power_loss(1);
        let mut store = DurableStore::open_on(disk.clone()).unwrap();
        let before = store.list().unwrap().revision;
        let generation = store.commit(&[put("after", "a")]).remove(0).unwrap();
        assert!(generation > before);
        let expected = store.list().unwrap();
        drop(store);
        assert_eq!(contents(&disk.after_power_loss(0)), expected);
    }
}

#[test]
fn a_write_that_failed_has_no_effect_then_or_later() {
    let writes = [put("web", "b"), delete("db"), create("new", "a")];
    let mut failures = 0;
    for operation in 0.. {
        let disk = Disk::default();
        let mut store = DurableStore::open_on(disk.clone()).unwrap();
        store.commit(&[put("web", "a"), put("db", "a"), put("job", "a")]);
        let before = store.list().unwrap();
        disk.fail_once_after(operation);
        let answers = store.commit(&writes);
        if disk.has_fault_left() {
            break;
        }
        if answers.iter().all(Result::is_ok) {
            continue;
        }
        failures += 1;
        assert_names_the_error(&answers, 5);
        assert_eq!(store.list().unwrap(), before);
        assert_eq!(store.changes_since(before.revision).unwrap(), None);

        // A write that touches none of these pods, then what a restart finds.
        assert!(store.commit(&[put("other", "a")])[0].is_ok());
        let after = store.list().unwrap();
        drop(store);
        assert_eq!(after.pods.len(), before.pods.len() + 1);
        assert_eq!(contents(&disk.after_power_loss(0)), after, "failed at {operation}");
    }
    assert!(failures > 1, "only {failures} of the writes failed");
}

fn assert_names_the_error(answers: &[Result<Revision, StoreError>], number: i32) {
    for answer in answers {
        let Err(StoreError::Io { operation, path, errno, what }) = answer else {
            panic!("not an error of the system: {answer:?}");
        };
        assert_eq!((*operation, *errno), ("commit to", Some(number)), "{what}");
        assert_eq!(*path, PathBuf::from("/disk/state.redb"));
        assert!(!what.contains("os error") && !what.is_empty(), "{what}");
    }
}

#[test]
fn a_full_disk_refuses_writes_loses_nothing_and_serves_again_when_there_is_room() {
    let disk = Disk::default();
    let mut store = DurableStore::open_on(disk.clone()).unwrap();
    store.commit(&[put("web", "a"), put("db", "a")]);
    disk.leave_room(Some(4));
    let long = "x".repeat(100_000);
    let write = |n: usize| [put(&format!("big{n}"), &long)];
    let full = (0..1_000).find(|n| store.commit(&write(*n))[0].is_err());
    let full = full.expect("the disk fills up");
    let before = store.list().unwrap();
    assert_names_the_error(&store.commit(&write(full)), 28);
    assert_eq!(store.list().unwrap(), before);

    // What is stored outlives a restart on the full disk's content.
    let survivor = disk.after_power_loss(1);
    assert_eq!(contents(&survivor), before);

    disk.leave_room(None);
    assert!(store.commit(&write(full))[0].is_ok());
    let after = store.list().unwrap();
    drop(store);
    assert_eq!(contents(&disk.after_power_loss(0)), after);
}

#[test]
fn a_journal_is_not_told_of_what_failed() {
    let mut failures = 0;
    for operation in 0.. {
        let disk = Disk::default();
        let mut store = DurableStore::open_on(disk.clone()).unwrap();
        commit_all(&mut store, &[Change::Write(put("web", "a")), started("web", 1)]);
        disk.fail_once_after(operation);
        let failed = store.commit_at(0, &[Change::Write(put("web", "b"))]);
        if disk.has_fault_left() {
            break;
        }
        if failed.answers[0].is_ok() {
            continue;
        }
        failures += 1;
        assert!(failed.journal.is_err());
        assert_eq!(journal(&mut store, "web").unwrap(), ["applied 1", "started #1"]);
        assert!(store.commit(&[put("web", "c")])[0].is_ok());
        let expected = ["applied 1", "started #1", "applied 2"];
        assert_eq!(journal(&mut store, "web").unwrap(), expected, "failed at {operation}");
        drop(store);
        assert_eq!(journal(&mut open(&disk.after_power_loss(0)), "web").unwrap(), expected);
    }
    assert!(failures > 1, "only {failures} of the writes failed");
}

#[test]
fn a_journal_that_has_no_room_keeps_no_write_from_succeeding() {
    let reason = "r".repeat(3_000);
    let note = |run| note("web", run, Kind::Terminal { reason: reason.clone() });
    let write = [Change::Write(put("web", "b"))];
    let changes: Vec<Change> = write.into_iter().chain((0..50).map(note)).collect();
    let mut went_without = 0;
    for room in 0.. {
        let disk = Disk::default();
        let mut store = DurableStore::open_on(disk.clone()).unwrap();
        commit_all(&mut store, &[Change::Write(put("web", "a"))]);
        disk.leave_room(Some(room));
        let Committed { answers, journal } = store.commit_at(0, &changes);
        match (&answers[0], journal) {
            (Ok(_), Ok(())) => break,
            (Err(_), Ok(())) => panic!("a journal that goes on without its pod"),
            (Ok(_), Err(error)) => {
                went_without += 1;
                assert!(matches!(error, StoreError::Io { errno: Some(28), .. }), "{error:?}");
            }
            (Err(_), Err(_)) => assert_eq!(went_without, 0, "less room was enough"),
        }
        let said = crate::specs::journal(&mut store, "web").unwrap();
        assert_eq!(said, ["applied 1"]);
        let expected = store.list().unwrap();
        drop(store);
        assert_eq!(contents(&disk.after_power_loss(0)), expected);
    }
    assert!(went_without > 0);
}
