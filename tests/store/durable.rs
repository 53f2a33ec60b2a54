//! The state file: what survives, who may read it, and what happens when it is
//! not what it should be.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use erlang_term_format::{Term, decode, encode};
use redb::{Database, ReadableTable, TableDefinition};
use tank::core::action::Write;
use tank::core::failure::{Code, Failure};
use tank::core::status::Exit;
use tank::store::{DurableStore, Store, StoreError};

use crate::specs::{TempDir, create, delete, name, put, spec, verdict};

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const PODS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("pods");
const VERDICTS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("verdicts");

fn open(dir: &Path) -> DurableStore {
    DurableStore::open(dir).expect("the store opens")
}

fn state_file(dir: &Path) -> PathBuf {
    dir.join("state.redb")
}

/// Writes behind the store's back.
fn tamper(dir: &Path, change: impl FnOnce(&redb::WriteTransaction)) {
    let database = Database::create(state_file(dir)).unwrap();
    let transaction = database.begin_write().unwrap();
    change(&transaction);
    transaction.commit().unwrap();
}

fn filled(dir: &Path, pods: usize) {
    let writes: Vec<Write> = (0..pods).map(|n| put(&format!("pod{n:05}"), "a")).collect();
    assert!(open(dir).commit(&writes).iter().all(Result::is_ok));
}

#[test]
fn everything_is_there_after_a_restart() {
    let dir = TempDir::new();
    let mut store = open(dir.path());
    let failed = Exit::Failed(
        Failure::new(Code::StartFailed, "exec /bin/no: no such file")
            .at(tank::core::failure::Place::Errno, 2)
            .hint("look at the image"),
    );
    let generation = store.commit(&[create("job", "a")]).remove(0).unwrap();
    let mut verdict = verdict(0);
    let in_container = Exit::InContainer(name("app"), Box::new(Exit::OutOfMemory));
    for exit in [Exit::Signaled(9), Exit::OutOfMemory, Exit::Exited(-1), in_container, failed] {
        verdict.last.exit = exit;
        store.commit(&[
            put("web", "a"),
            put("web", "b"),
            Write::PutVerdict(name("job"), generation, verdict.clone()),
        ]);
        let before = store.list().unwrap();
        assert_eq!(before.pods[0].1.as_ref().unwrap().verdict, Some(verdict.clone()));
        drop(store);
        store = open(dir.path());
        assert_eq!(store.list().unwrap(), before);
    }
}

#[test]
fn no_generation_is_given_twice_over_restarts() {
    let dir = TempDir::new();
    let first = open(dir.path()).commit(&[put("web", "a")]).remove(0).unwrap();
    let gone = open(dir.path()).commit(&[delete("web")]).remove(0).unwrap();
    let second = open(dir.path()).commit(&[put("web", "a")]).remove(0).unwrap();
    assert!(first < gone && gone < second);
}

#[test]
fn the_directory_and_the_file_are_for_their_owner_alone() {
    let dir = TempDir::new();
    let nested = dir.path().join("a/b");
    drop(open(&nested));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir.path().join("a")), 0o700);
    assert_eq!(mode(&nested), 0o700);
    assert_eq!(mode(&state_file(&nested)), 0o600);
    fs::set_permissions(state_file(&nested), fs::Permissions::from_mode(0o644)).unwrap();
    drop(open(&nested));
    assert_eq!(mode(&state_file(&nested)), 0o600, "an open file is closed to others again");
}

#[test]
fn a_second_store_on_one_directory_is_refused() {
    let dir = TempDir::new();
    let first = open(dir.path());
    let error = DurableStore::open(dir.path()).unwrap_err();
    assert_eq!(error, StoreError::Locked { path: state_file(dir.path()) });
    drop(first);
    drop(open(dir.path()));
}

#[test]
fn a_file_in_the_way_of_the_directory_is_named() {
    let dir = TempDir::new();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = DurableStore::open(&file.join("data")).unwrap_err();
    let StoreError::Io { operation: "open", errno: Some(20), path, .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(*path, file.join("data/state.redb"));
}

#[test]
fn a_file_of_a_newer_schema_is_refused_and_left_alone() {
    let dir = TempDir::new();
    filled(dir.path(), 3);
    tamper(dir.path(), |transaction| {
        transaction.open_table(META).unwrap().insert("schema", 7).unwrap();
    });
    let path = state_file(dir.path());
    for _ in 0..2 {
        let error = DurableStore::open(dir.path()).unwrap_err();
        assert_eq!(error, StoreError::SchemaTooNew { path: path.clone(), found: 7, supported: 2 });
    }
    tamper(dir.path(), |transaction| {
        transaction.open_table(META).unwrap().insert("schema", 2).unwrap();
    });
    assert_eq!(open(dir.path()).list().unwrap().pods.len(), 3);
}

#[test]
fn a_new_file_may_lack_pods_until_somebody_says_that_it_does_not() {
    let dir = TempDir::new();
    filled(dir.path(), 1);
    for _ in 0..2 {
        let store = open(dir.path());
        assert!(store.may_lack_pods());
    }
    open(dir.path()).note_whole().unwrap();
    assert!(!open(dir.path()).may_lack_pods());
    fs::remove_file(dir.path().join("state.redb")).unwrap();
    let store = open(dir.path());
    assert!(store.is_new() && store.may_lack_pods());
}

#[test]
fn what_an_interrupted_start_left_behind_does_not_hold_up_the_next() {
    let dir = TempDir::new();
    fs::write(dir.path().join("state.redb.new"), [0; 4096]).unwrap();
    filled(dir.path(), 1);
    open(dir.path()).note_whole().unwrap();
    let left: Vec<_> =
        fs::read_dir(dir.path()).unwrap().map(|item| item.unwrap().file_name()).collect();
    assert_eq!(left, ["state.redb"]);
}

#[test]
fn a_spec_that_cannot_be_read_is_set_aside_and_the_others_are_kept() {
    let dir = TempDir::new();
    filled(dir.path(), 3);
    tamper(dir.path(), |transaction| {
        let mut pods = transaction.open_table(PODS).unwrap();
        pods.insert(b"pod00001".as_slice(), b"garbage".as_slice()).unwrap();
        pods.insert(b"\xff/..".as_slice(), b"".as_slice()).unwrap();
    });
    for _ in 0..2 {
        let mut store = open(dir.path());
        let aside: Vec<&str> = store.set_aside().iter().map(|item| item.pod.as_str()).collect();
        assert_eq!(aside, ["pod00001", "\u{fffd}/.."]);
        assert!(store.set_aside().iter().all(|item| item.table == "pods" && !item.what.is_empty()));
        let kept = store.list().unwrap().pods;
        let kept: Vec<&str> = kept.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(kept, ["pod00000", "pod00002"]);
    }
    let mut store = open(dir.path());
    assert!(store.commit(&[create("pod00001", "b")])[0].is_ok());
    drop(store);
    assert_eq!(open(dir.path()).list().unwrap().pods.len(), 3);
}

#[test]
fn a_record_from_before_a_field_was_there_has_its_default() {
    let dir = TempDir::new();
    filled(dir.path(), 1);
    let stored = || open(dir.path()).list().unwrap().pods.remove(0).1.expect("a pod").spec;
    let whole = stored();
    let mut newer = vec!["init_containers", "userns", "oci_runtime", "sidecar"];
    newer.extend(["stop_signal", "stop_grace_ms", "pre_stop", "init"]);
    tamper(dir.path(), |transaction| {
        let mut pods = transaction.open_table(PODS).unwrap();
        let record = pods.get(b"pod00000".as_slice()).unwrap().unwrap().value().to_owned();
        let older = encode(&without(&decode(&record).unwrap(), &newer));
        assert!(older.len() < record.len(), "fields of new specs are written");
        pods.insert(b"pod00000".as_slice(), older.as_slice()).unwrap();
    });
    assert_eq!(stored(), whole);
}

/// The term without these keys, wherever in it they are.
fn without(term: &Term<'_>, keys: &[&str]) -> Term<'static> {
    let is_kept = |key: &Term<'_>| !key.as_atom().is_some_and(|key| keys.contains(&key));
    match term {
        Term::Map(entries) => {
            let kept = entries.iter().filter(|(key, _)| is_kept(key));
            let entry = |(key, value): &(Term<'_>, Term<'_>)| {
                (key.clone().into_owned(), without(value, keys))
            };
            Term::Map(kept.map(entry).collect())
        }
        Term::List(items) => Term::List(items.iter().map(|item| without(item, keys)).collect()),
        other => other.clone().into_owned(),
    }
}

#[test]
fn a_record_under_another_pods_name_is_set_aside() {
    let dir = TempDir::new();
    filled(dir.path(), 2);
    tamper(dir.path(), |transaction| {
        let mut pods = transaction.open_table(PODS).unwrap();
        let record = pods.get(b"pod00000".as_slice()).unwrap().unwrap().value().to_owned();
        pods.insert(b"pod00001".as_slice(), record.as_slice()).unwrap();
    });
    let mut store = open(dir.path());
    assert_eq!(store.set_aside().len(), 1);
    assert_eq!(store.set_aside()[0].pod, "pod00001");
    assert_eq!(store.list().unwrap().pods.len(), 1);
}

#[test]
fn a_job_whose_verdict_cannot_be_read_stays_terminal_and_says_why() {
    let dir = TempDir::new();
    let mut store = open(dir.path());
    let generation = store.commit(&[put("job", "a")]).remove(0).unwrap();
    store.commit(&[Write::PutVerdict(name("job"), generation, verdict(0))]);
    drop(store);
    tamper(dir.path(), |transaction| {
        let mut verdicts = transaction.open_table(VERDICTS).unwrap();
        verdicts.insert(b"job".as_slice(), b"garbage".as_slice()).unwrap();
        verdicts.insert(b"nobody".as_slice(), b"garbage".as_slice()).unwrap();
    });
    for _ in 0..2 {
        let mut store = open(dir.path());
        let aside: Vec<&str> = store.set_aside().iter().map(|item| item.pod.as_str()).collect();
        assert_eq!(aside, ["job", "nobody"]);
        let pods = store.list().unwrap().pods;
        let stored = pods[0].1.clone().unwrap();
        assert_eq!((stored.generation, stored.spec), (generation, spec("job", "a")));
        let Some(Exit::Failed(failure)) = stored.verdict.map(|verdict| verdict.last.exit) else {
            panic!("the job has lost its verdict");
        };
        assert_eq!(failure.code, Code::StoreCorrupt);
        assert!(failure.message.contains("job"), "{}", failure.message);
    }
}
