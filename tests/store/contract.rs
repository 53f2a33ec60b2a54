//! The promises that hold for every store, each run against all of them.

use tank::core::action::Write;
use tank::core::event::{DesiredChange, Revision, StoredPod, Verdict};
use tank::core::failure::{Code, Failure, Place};
use tank::core::journal::{ENTRIES_MAX, Kind};
use tank::core::status::Exit;
use tank::store::{Change, DurableStore, MemoryStore, Store, StoreError};

use crate::disk::Disk;
use crate::specs::{
    commit_all, create, delete, journal, name, note, put, seed, spec, started, verdict,
};

fn on_every_store(test: impl Fn(&mut dyn Store)) {
    test(&mut MemoryStore::new());
    test(&mut DurableStore::open_on(Disk::default()).expect("an empty disk"));
}

/// Commits one write that must succeed.
fn commit(store: &mut dyn Store, write: Write) -> Revision {
    store.commit(&[write]).remove(0).expect("the write succeeds")
}

fn pod(store: &mut dyn Store, pod: &str) -> Option<StoredPod> {
    let all = store.list().expect("a readable store").pods;
    all.into_iter().find(|(found, _)| found.as_str() == pod).and_then(|(_, stored)| stored)
}

fn verdict_of(store: &mut dyn Store, name: &str) -> Option<Verdict> {
    pod(store, name).and_then(|pod| pod.verdict)
}

fn names(change: &DesiredChange) -> Vec<(String, bool)> {
    change.pods.iter().map(|(name, pod)| (name.to_string(), pod.is_some())).collect()
}

#[test]
fn a_new_store_lists_nothing_and_has_nothing_to_tell() {
    on_every_store(|store| {
        let all = store.list().unwrap();
        assert!(all.is_full && all.pods.is_empty());
        assert_eq!(store.changes_since(all.revision).unwrap(), None);
    });
}

#[test]
fn put_creates_replaces_and_takes_a_new_generation_each_time() {
    on_every_store(|store| {
        let first = commit(store, put("web", "a"));
        let second = commit(store, put("web", "b"));
        assert!(second > first);
        let stored = pod(store, "web").unwrap();
        assert_eq!((stored.generation, stored.spec), (second, spec("web", "b")));
        assert_eq!(store.list().unwrap().revision, second);
    });
}

#[test]
fn an_identical_put_changes_nothing_not_even_a_verdict() {
    on_every_store(|store| {
        let generation = commit(store, put("job", "a"));
        commit(store, Write::PutVerdict(name("job"), generation, verdict(0)));
        let before = store.list().unwrap();
        assert_eq!(commit(store, put("job", "a")), generation);
        assert_eq!(store.list().unwrap(), before);
        assert_eq!(store.changes_since(generation).unwrap(), None);
    });
}

#[test]
fn create_is_refused_where_a_pod_is_and_holds_nothing_back() {
    on_every_store(|store| {
        commit(store, put("web", "a"));
        let answers = store.commit(&[create("web", "b"), create("db", "c"), put("x", "y")]);
        assert_eq!(answers[0], Err(StoreError::Exists { pod: name("web") }));
        assert!(answers[1].is_ok() && answers[2].is_ok());
        assert_eq!(pod(store, "web").unwrap().spec, spec("web", "a"));
        assert_eq!(pod(store, "db").unwrap().spec, spec("db", "c"));
    });
}

#[test]
fn writes_of_one_commit_see_those_before_them() {
    on_every_store(|store| {
        let answers =
            store.commit(&[create("a", "1"), create("a", "2"), delete("a"), create("a", "3")]);
        assert_eq!(answers[1], Err(StoreError::Exists { pod: name("a") }));
        let stored = pod(store, "a").unwrap();
        assert_eq!(stored.spec, spec("a", "3"));
        assert_eq!(answers[3], Ok(stored.generation));
        assert_ne!(answers[0], answers[3]);
    });
}

#[test]
fn deleting_what_is_not_there_succeeds_and_changes_nothing() {
    on_every_store(|store| {
        let revision = commit(store, put("web", "a"));
        assert_eq!(commit(store, delete("none")), revision);
        assert_eq!(store.changes_since(revision).unwrap(), None);
    });
}

#[test]
fn a_deleted_pod_never_gets_an_old_generation_back() {
    on_every_store(|store| {
        let first = commit(store, put("web", "a"));
        let gone = commit(store, delete("web"));
        assert!(gone > first && pod(store, "web").is_none());
        assert!(commit(store, put("web", "a")) > gone);
    });
}

#[test]
fn a_verdict_holds_for_its_generation_only() {
    on_every_store(|store| {
        let old = commit(store, put("job", "a"));
        let new = commit(store, put("job", "b"));
        commit(store, Write::PutVerdict(name("job"), old, verdict(1)));
        assert_eq!(verdict_of(store, "job"), None);
        commit(store, Write::PutVerdict(name("job"), new, verdict(2)));
        assert_eq!(verdict_of(store, "job"), Some(verdict(2)));
        commit(store, Write::PutVerdict(name("none"), new, verdict(2)));
        assert!(pod(store, "none").is_none());
    });
}

#[test]
fn a_verdict_goes_with_a_new_spec_a_delete_or_when_it_is_taken_back() {
    let ends: [&[Write]; 3] = [
        &[put("job", "b")],
        &[delete("job"), put("job", "a")],
        &[Write::ClearVerdict(name("job"))],
    ];
    for end in ends {
        on_every_store(|store| {
            let generation = commit(store, put("job", "a"));
            commit(store, Write::PutVerdict(name("job"), generation, verdict(0)));
            assert!(verdict_of(store, "job").is_some());
            assert!(store.commit(end).iter().all(Result::is_ok));
            assert_eq!(verdict_of(store, "job"), None, "after {end:?}");
        });
    }
}

#[test]
fn a_verdict_is_no_change_of_the_spec() {
    on_every_store(|store| {
        let generation = commit(store, put("job", "a"));
        commit(store, Write::PutVerdict(name("job"), generation, verdict(0)));
        assert_eq!(pod(store, "job").unwrap().generation, generation);
        assert_eq!(store.changes_since(generation).unwrap(), None);
    });
}

#[test]
fn changes_are_told_from_any_revision_deletions_too() {
    on_every_store(|store| {
        commit(store, put("a", "1"));
        let since = commit(store, put("b", "1"));
        commit(store, put("c", "1"));
        commit(store, delete("a"));
        commit(store, put("c", "2"));
        let change = store.changes_since(since).unwrap().unwrap();
        assert!(!change.is_full);
        assert_eq!(names(&change), [("a".into(), false), ("c".into(), true)]);
        assert_eq!(change.revision, store.list().unwrap().revision);
        assert_eq!(change.pods[1].1.as_ref().unwrap().spec, spec("c", "2"));
    });
}

#[test]
fn a_reader_ahead_of_the_store_or_far_behind_is_told_everything() {
    on_every_store(|store| {
        let writes: Vec<Write> =
            (0..20_000).map(|n| put("busy", if n % 2 == 0 { "a" } else { "b" })).collect();
        commit(store, put("still", "a"));
        assert!(store.commit(&writes).iter().all(Result::is_ok));
        let ahead = Revision(store.list().unwrap().revision.0 + 1);
        for since in [Revision(0), Revision(1), ahead] {
            let change = store.changes_since(since).unwrap().unwrap();
            assert!(change.is_full, "since {since:?}");
            assert_eq!(names(&change), [("busy".into(), true), ("still".into(), true)]);
        }
        let near = Revision(store.list().unwrap().revision.0 - 10);
        assert!(!store.changes_since(near).unwrap().unwrap().is_full);
    });
}

#[test]
fn a_seed_creates_a_pod_and_never_again_one_of_that_name() {
    on_every_store(|store| {
        let generation = commit(store, seed("web", "a"));
        assert_eq!(pod(store, "web").unwrap().generation, generation);
        let exists = Err(StoreError::Exists { pod: name("web") });
        assert_eq!(store.commit(&[seed("web", "a"), seed("web", "b")]), [exists.clone(), exists]);
        commit(store, delete("web"));
        let before = Err(StoreError::SeededBefore { pod: name("web") });
        assert_eq!(store.commit(&[seed("web", "a"), seed("web", "a")]), [before.clone(), before]);
        assert!(pod(store, "web").is_none());
        commit(store, put("web", "c"));
        assert_eq!(pod(store, "web").unwrap().spec, spec("web", "c"));
    });
}

#[test]
fn a_pod_that_was_there_before_its_seed_stays_as_it_is_and_stays_deleted() {
    on_every_store(|store| {
        commit(store, put("web", "mine"));
        let answers = store.commit(&[seed("web", "a"), seed("db", "a")]);
        assert_eq!(answers[0], Err(StoreError::Exists { pod: name("web") }));
        assert!(answers[1].is_ok());
        assert_eq!(pod(store, "web").unwrap().spec, spec("web", "mine"));
        commit(store, delete("web"));
        assert!(store.commit(&[seed("web", "a")])[0].is_err());
        assert!(pod(store, "web").is_none());
    });
}

#[test]
fn a_seed_is_refused_as_a_create_is() {
    for error in
        [StoreError::Exists { pod: name("web") }, StoreError::SeededBefore { pod: name("web") }]
    {
        let failure = Failure::from(error);
        assert_eq!(failure.code, Code::Exists);
        assert_eq!(failure.at, [(Place::Pod, "web".to_owned())]);
    }
}

#[test]
fn a_journal_says_in_order_what_was_applied_and_what_happened() {
    on_every_store(|store| {
        commit_all(store, &[Change::Write(put("web", "a")), started("web", 1)]);
        commit_all(store, &[started("web", 2), Change::Write(put("web", "b"))]);
        commit_all(store, &[Change::Write(put("web", "b"))]);
        let said = journal(store, "web").unwrap();
        assert_eq!(said, ["applied 1", "started #1", "started #2", "applied 2"]);
    });
}

#[test]
fn every_kind_of_entry_is_read_as_it_was_written() {
    let failure = Failure::new(Code::StartFailed, "exec /bin/no: no such file")
        .at(Place::Step, "exec")
        .hint("look at the image");
    let in_container = Exit::InContainer(name("app"), Box::new(Exit::OutOfMemory));
    let kinds = [
        Kind::Applied,
        Kind::Started { host_pid: Some(42) },
        Kind::Started { host_pid: None },
        Kind::Adopted { host_pid: Some(42) },
        Kind::Ended { exit: in_container },
        Kind::Ended { exit: Exit::Failed(failure.clone()) },
        Kind::Failed { failure },
        Kind::BackingOff { delay_ms: 10_000, reason: "exited with status 1".into() },
        Kind::Terminal { reason: "exited with status 0, not restarted".into() },
        Kind::Stopping { reason: "shutting down".into() },
    ];
    on_every_store(|store| {
        commit(store, put("web", "a"));
        let runs = 1..;
        let notes: Vec<Change> =
            kinds.iter().zip(runs).map(|(kind, run)| note("web", run, kind.clone())).collect();
        commit_all(store, &notes);
        let entries = store.journal(&name("web")).unwrap().unwrap();
        let noted: Vec<Change> =
            entries[1..].iter().map(|entry| Change::Note(name("web"), entry.clone())).collect();
        assert_eq!(noted, notes);
    });
}

#[test]
fn an_end_that_is_acted_on_again_is_noted_once() {
    let ended = |run| note("web", run, Kind::Ended { exit: Exit::Exited(1) });
    let waits = |run| note("web", run, Kind::BackingOff { delay_ms: 1, reason: "why".into() });
    on_every_store(|store| {
        commit(store, put("web", "a"));
        commit_all(store, &[started("web", 1), ended(1), waits(1)]);
        // By a program that starts, and one that starts after another spec was applied.
        commit_all(store, &[ended(1), waits(1)]);
        commit_all(store, &[Change::Write(put("web", "b")), ended(1)]);
        // Numbers begin anew with the machine.
        commit_all(store, &[started("web", 1), ended(1)]);
        let kinds = store.journal(&name("web")).unwrap().unwrap();
        let kinds: Vec<_> = kinds.iter().map(|entry| entry.kind.name()).collect();
        let once = ["applied", "started", "ended", "backing_off", "applied", "started", "ended"];
        assert_eq!(kinds, once);
    });
}

#[test]
fn a_journal_keeps_the_last_hundred_entries() {
    on_every_store(|store| {
        commit(store, put("web", "a"));
        for batch in [1..=70, 71..=70 + ENTRIES_MAX as u64, 171..=175] {
            let notes: Vec<Change> = batch.map(|run| started("web", run)).collect();
            commit_all(store, &notes);
        }
        let expected: Vec<String> = (76..=175).map(|run| format!("started #{run}")).collect();
        assert_eq!(journal(store, "web").unwrap(), expected);
    });
}

#[test]
fn a_pod_that_is_not_stored_has_no_journal_and_a_delete_ends_it() {
    on_every_store(|store| {
        assert_eq!(journal(store, "web"), None);
        commit_all(store, &[started("web", 1), Change::Write(put("web", "a"))]);
        assert_eq!(journal(store, "web").unwrap(), ["applied 1"]);
        commit_all(store, &[started("web", 2), Change::Write(delete("web")), started("web", 3)]);
        assert_eq!(journal(store, "web"), None);
        let again = [
            Change::Write(put("web", "a")),
            started("web", 4),
            Change::Write(delete("web")),
            Change::Write(put("web", "a")),
            started("web", 5),
        ];
        commit_all(store, &again);
        assert_eq!(journal(store, "web").unwrap(), ["applied 5", "started #5"]);
    });
}

#[test]
fn journals_of_pods_with_like_names_are_apart() {
    on_every_store(|store| {
        for pod in ["a", "a.b", "a-b", "ab", "b"] {
            commit_all(store, &[Change::Write(put(pod, "1")), started(pod, 1)]);
        }
        commit(store, delete("a"));
        commit(store, delete("a-b"));
        for (pod, generation) in [("a.b", 2), ("ab", 4), ("b", 5)] {
            let expected = [format!("applied {generation}"), "started #1".to_owned()];
            assert_eq!(journal(store, pod).unwrap(), expected, "{pod}");
        }
    });
}
