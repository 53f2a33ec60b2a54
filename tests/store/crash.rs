//! Power loss, failing and full disks: what was acknowledged is there, and what
//! was refused is not.

use std::path::PathBuf;

use tank::core::action::Write;
use tank::core::event::{DesiredChange, Revision};
use tank::store::{DurableStore, MemoryStore, Store, StoreError};

use crate::disk::Disk;
use crate::specs::{create, delete, name, put, verdict};

/// How much of an unsynced write a power loss keeps: nothing, all, and draws.
const CHANCES: [u64; 6] = [0, 1, 2, 3, 5, 8];

/// Batches that touch every table, grow the file and free pages.
fn batches() -> Vec<Vec<Write>> {
    let long = "x".repeat(3_000);
    vec![
        vec![put("web", "a"), put("db", "a"), create("job", "a")],
        vec![Write::PutVerdict(name("job"), Revision(3), verdict(0))],
        (0..20).map(|n| put(&format!("pod{n}"), &long)).collect(),
        vec![delete("web"), put("db", "b"), create("db", "c")],
        vec![Write::ClearVerdict(name("job")), put("job", "b")],
        (0..20).map(|n| delete(&format!("pod{n}"))).collect(),
        vec![put("web", &long)],
    ]
}

/// What a store holds after none, one, two... of the batches.
fn histories(batches: &[Vec<Write>]) -> Vec<DesiredChange> {
    let mut store = MemoryStore::new();
    let mut states = vec![store.list().unwrap()];
    for batch in batches {
        store.commit(batch);
        states.push(store.list().unwrap());
    }
    states
}

/// Runs the batches until one fails; how many were acknowledged.
fn run(disk: &Disk, batches: &[Vec<Write>]) -> usize {
    let Ok(mut store) = DurableStore::open_on(disk.clone()) else { return 0 };
    let mut is_acknowledged = |batch: &[Write]| {
        let answers = store.commit(batch);
        !answers.iter().any(|answer| matches!(answer, Err(StoreError::Io { .. })))
    };
    batches.iter().take_while(|batch| is_acknowledged(batch)).count()
}

fn contents(disk: &Disk) -> DesiredChange {
    let mut store = DurableStore::open_on(disk.clone()).expect("the store opens");
    assert!(store.set_aside().is_empty(), "{:?}", store.set_aside());
    store.list().unwrap()
}

#[test]
fn after_a_power_loss_at_any_moment_exactly_what_was_acknowledged_is_there() {
    let batches = batches();
    let states = histories(&batches);
    let mut cuts_in_batches = 0;
    for operation in 0.. {
        let disk = Disk::losing_power_at(operation);
        let acknowledged = run(&disk, &batches);
        if disk.has_fault_left() {
            assert_eq!(acknowledged, batches.len());
            break;
        }
        cuts_in_batches += usize::from(acknowledged > 0);
        for chance in CHANCES {
            let found = contents(&disk.after_power_loss(chance));
            // The batch under way may have reached the disk: whole or not at all.
            let next = states.get(acknowledged + 1);
            assert!(
                found == states[acknowledged] || Some(&found) == next,
                "cut at {operation}, chance {chance}, {acknowledged} acknowledged: {found:?}"
            );
        }
    }
    assert!(cuts_in_batches > 20, "only {cuts_in_batches} cuts after the first batch");
}

#[test]
fn a_store_goes_on_after_a_power_loss() {
    let batches = batches();
    for operation in (0..60).step_by(7) {
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
