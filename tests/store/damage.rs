//! Damaged state files: the program always starts, keeps every pod that can
//! still be read, and never one that is not as it was acknowledged.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use redb::{Database, ReadableDatabase, TableDefinition};
use tank::core::action::Write::PutVerdict;
use tank::core::event::{DesiredChange, StoredPod};
use tank::core::failure::Code;
use tank::core::journal::{Entry, Kind};
use tank::core::spec::Name;
use tank::core::status::Exit;
use tank::store::{Change, DurableStore, Store, StoreError};

use crate::disk::{Disk, Draw};
use crate::specs::{TempDir, commit_all, delete, journal, name, note, put, seed, started, verdict};

const PAGE: usize = 4_096;

/// A pod and its journal.
type Kept = (StoredPod, Vec<Entry>);

/// Pods of a few hundred bytes to some pages, verdicts, journals, seeds, and
/// what is left of those that are gone.
fn fill(store: &mut dyn Store, pods: usize) {
    for n in 0..pods {
        let argument = "x".repeat(if n % 20 == 7 { 9_000 } else { n * 10 });
        let pod = format!("pod{n:02}");
        commit_all(store, &[Change::Write(put(&pod, "old")), started(&pod, 1)]);
        commit_all(store, &[Change::Write(put(&pod, &argument)), started(&pod, 2)]);
    }
    for n in 0..10 {
        let pod = format!("gone{n}");
        commit_all(store, &[Change::Write(seed(&pod, "a")), started(&pod, 1)]);
        commit_all(store, &[Change::Write(delete(&pod))]);
    }
    let generation = store.list().unwrap().pods[0].1.as_ref().unwrap().generation;
    store.commit(&[PutVerdict(name("pod00"), generation, verdict(3))]);
}

fn kept(store: &mut dyn Store) -> BTreeMap<Name, Kept> {
    let DesiredChange { pods, .. } = store.list().unwrap();
    let with_journal = |(name, pod): (Name, Option<StoredPod>)| {
        let entries = store.journal(&name).unwrap().unwrap();
        (name, (pod.unwrap(), entries))
    };
    pods.into_iter().map(with_journal).collect()
}

/// A file that was closed, and what it holds.
fn closed() -> (Vec<u8>, BTreeMap<Name, Kept>) {
    closed_with(60)
}

fn closed_with(pods: usize) -> (Vec<u8>, BTreeMap<Name, Kept>) {
    let disk = Disk::default();
    let mut store = DurableStore::open_on(disk.clone()).unwrap();
    fill(&mut store, pods);
    let expected = kept(&mut store);
    drop(store);
    (disk.content(), expected)
}

/// How many damages of a kind are tried; `scripts/damage` tries more.
fn damages() -> usize {
    let given = std::env::var("TANK_STORE_DAMAGES").ok();
    given.map_or(200, |count| count.parse().expect("TANK_STORE_DAMAGES is a number"))
}

/// What the next start makes of this file, and whether it was whole.
struct Found {
    kept: BTreeMap<Name, Kept>,
    is_whole: bool,
    disk: Disk,
}

fn start_on(content: Vec<u8>, damage: &str) -> Found {
    let disk = Disk::holding(content.clone());
    let mut store = DurableStore::open_on(disk.clone())
        .unwrap_or_else(|error| panic!("{damage}: the store does not open: {error}"));
    let kept = kept(&mut store);
    let is_whole = store.salvage().is_none();
    if let Some(salvage) = store.salvage() {
        assert_eq!(salvage.pods, kept.len(), "{damage}");
        assert!(!salvage.what.is_empty(), "{damage}");
        assert_eq!(disk.aside(), [content], "{damage}: the file is set aside as it was");
    }
    Found { kept, is_whole, disk }
}

/// Asserts that nothing is kept that was not so. Entries of a journal may be
/// missing, and a verdict that nobody can read stands for one that was there.
fn assert_is_part(found: &BTreeMap<Name, Kept>, expected: &BTreeMap<Name, Kept>, damage: &str) {
    for (name, (pod, entries)) in found {
        let (was, said) = expected.get(name).unwrap_or_else(|| panic!("{damage}: {name} is back"));
        assert_eq!(pod.spec, was.spec, "{damage}: {name}");
        assert_eq!(pod.generation, was.generation, "{damage}: {name}");
        assert!(pod.verdict.is_none() || pod.verdict == was.verdict, "{damage}: {name}");
        assert!(entries.iter().all(|entry| said.contains(entry)), "{damage}: {name}");
    }
}

/// Asserts that a store goes on after a start on what was damaged.
fn assert_goes_on(found: &Found, damage: &str) {
    let mut store = DurableStore::open_on(found.disk.clone()).unwrap();
    assert!(store.salvage().is_none(), "{damage}: the second start finds a file that is whole");
    assert_eq!(kept(&mut store), found.kept, "{damage}");
    let before = store.list().unwrap().revision;
    let generation = store.commit(&[put("after", "a")]).remove(0).unwrap();
    assert!(generation > before, "{damage}");
}

#[test]
fn a_page_that_is_lost_takes_no_more_than_what_was_on_it() {
    let (good, expected) = closed();
    let (mut leaves, mut others) = (0, 0);
    for page in 0..good.len() / PAGE {
        for byte in [0, 0xff] {
            let damage = format!("page {page} is all {byte}");
            let mut content = good.clone();
            content[page * PAGE..(page + 1) * PAGE].fill(byte);
            let found = start_on(content, &damage);
            assert_is_part(&found.kept, &expected, &damage);
            assert_goes_on(&found, &damage);
            let was = &good[page * PAGE..(page + 1) * PAGE];
            if page == 0 || was[0] == 2 || contains(was, b"verdicts") {
                others += 1;
                continue;
            }
            leaves += 1;
            for lost in expected.keys().filter(|name| !found.kept.contains_key(*name)) {
                let is_long = expected[lost].0.spec.containers[0].args[0].len() > PAGE;
                let was_on_it = contains(was, lost.as_str().as_bytes());
                assert!(was_on_it || is_long, "{damage}, and {lost} is lost");
            }
            if found.is_whole {
                assert_eq!(found.kept, expected, "{damage}");
            }
        }
    }
    println!("{} damages: {leaves} of pages with rows, {others} of others", leaves + others);
}

fn contains(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

#[test]
fn a_byte_that_is_another_is_found_or_harmless_and_never_believed() {
    let (good, expected) = closed();
    let head = 0..320;
    let rest = (320..good.len()).step_by(good.len() / damages() + 1);
    let (mut count, mut whole) = (0, 0);
    for offset in head.chain(rest) {
        let damage = format!("byte {offset}");
        let mut content = good.clone();
        content[offset] = !content[offset];
        let found = start_on(content, &damage);
        assert_is_part(&found.kept, &expected, &damage);
        if found.is_whole {
            assert_eq!(found.kept, expected, "{damage}");
            whole += 1;
        }
        count += 1;
    }
    assert!(0 < whole && whole < count, "{whole} of {count}");
    println!("{count} bytes, {whole} of them harmless");
}

#[test]
fn a_file_that_was_cut_short_gives_what_is_left_of_it() {
    let (good, expected) = closed();
    let pages = (0..good.len()).step_by(PAGE);
    let mut most = 0;
    for len in pages.chain([1, 100, 320, good.len() - 1]) {
        let damage = format!("{len} bytes");
        let found = start_on(good[..len].to_vec(), &damage);
        assert_is_part(&found.kept, &expected, &damage);
        assert_goes_on(&found, &damage);
        most = most.max(found.kept.len());
    }
    assert!(most > expected.len() / 2, "never more than {most} pods");
}

#[test]
fn many_damages_at_once_keep_nothing_that_is_wrong() {
    let (good, expected) = closed();
    for seed in 2..2 + damages() as u64 {
        let mut draw = Draw(seed);
        let mut content = good.clone();
        for _ in 0..draw.below(12) + 1 {
            let page = draw.below(content.len() / PAGE) * PAGE;
            match draw.below(4) {
                0 => content[page..page + PAGE].fill(0),
                1 => {
                    // A write that went to the wrong place.
                    let from = draw.below(good.len() / PAGE) * PAGE;
                    content[page..page + PAGE].copy_from_slice(&good[from..from + PAGE]);
                }
                2 => content[page + draw.below(PAGE)] ^= 1 << draw.below(8),
                _ => content.truncate((page + draw.below(PAGE)).max(PAGE)),
            }
            content.resize(content.len().next_multiple_of(PAGE), 0);
        }
        let damage = format!("seed {seed}");
        let found = start_on(content, &damage);
        assert_is_part(&found.kept, &expected, &damage);
        assert_goes_on(&found, &damage);
    }
}

/// The file of a program that was killed has two commits to fall back on, and
/// a damage to the last one cannot be told from one that was never finished.
#[test]
fn a_damaged_file_that_was_never_closed_gives_one_of_its_last_two_commits() {
    let disk = Disk::default();
    let mut store = DurableStore::open_on(disk.clone()).unwrap();
    fill(&mut store, 60);
    let before = kept(&mut store);
    commit_all(&mut store, &[Change::Write(put("pod30", "last")), Change::Write(delete("pod31"))]);
    let last = kept(&mut store);
    let good = disk.content();
    for page in 0..good.len() / PAGE {
        let damage = format!("page {page}");
        let mut content = good.clone();
        content[page * PAGE..(page + 1) * PAGE].fill(0);
        let found = start_on(content, &damage);
        let is_last = found.kept.iter().all(|(name, (pod, _))| {
            last.get(name).is_some_and(|(was, _)| was.generation == pod.generation)
        });
        assert_is_part(&found.kept, if is_last { &last } else { &before }, &damage);
        assert_goes_on(&found, &damage);
    }
}

#[test]
fn a_salvage_that_power_interrupts_is_made_by_the_next_start() {
    let (mut content, expected) = closed_with(12);
    let at = content.windows(5).position(|bytes| bytes == b"pod04").unwrap();
    content[at] = b'q';
    let whole = start_on(content.clone(), "a name").kept;
    assert!(whole.len() < expected.len());
    let mut cuts = 0;
    for operation in 0.. {
        let disk = Disk::holding(content.clone());
        disk.lose_power_after(operation);
        drop(DurableStore::open_on(disk.clone()));
        if disk.has_fault_left() {
            break;
        }
        for chance in [0, 1, 2, 3, 5, 8] {
            cuts += 1;
            let disk = disk.after_power_loss(chance);
            let mut store = DurableStore::open_on(disk.clone()).unwrap();
            assert_eq!(kept(&mut store), whole, "cut at {operation}, chance {chance}");
            assert_eq!(disk.aside(), [content.clone()], "cut at {operation}, chance {chance}");
        }
    }
    assert!(cuts > 20, "only {cuts} cuts");
    println!("{cuts} states of the disk after a cut, each with all that was salvaged");
}

#[test]
fn a_seed_comes_back_only_where_its_pod_may_have_been_lost() {
    let (good, expected) = closed();
    let head = |content: &[u8]| start_on(content.to_vec(), "the head").disk;
    let is_seeded = |content: &[u8]| {
        let mut store = DurableStore::open_on(head(content)).unwrap();
        let is_whole = kept(&mut store).len() == expected.len();
        (is_whole, store.commit(&[seed("gone3", "a")])[0].is_err())
    };
    let mut with_all = good.clone();
    // The database's magic: the file is damaged, and no pod is lost.
    with_all[0] = b'R';
    assert_eq!(is_seeded(&with_all), (true, true));
    let mut with_fewer = good.clone();
    let at = with_fewer.windows(5).position(|bytes| bytes == b"pod40").unwrap();
    with_fewer[at] = b'q';
    assert_eq!(is_seeded(&with_fewer), (false, false));
}

#[test]
fn a_damaged_file_is_set_aside_under_a_name_that_is_free_and_for_its_owner_alone() {
    let dir = TempDir::new();
    let path = dir.path().join("state.redb");
    let contents = [&b""[..], b"not a database", &[0; 4_096], &[0xff; 100_000]];
    for (n, content) in contents.into_iter().enumerate() {
        fs::write(&path, content).unwrap();
        let mut store = DurableStore::open(dir.path()).unwrap();
        let salvage = store.salvage().expect("it was damaged").clone();
        let aside = dir.path().join(format!("state.redb.corrupt-{}", n + 1));
        assert_eq!((&salvage.path, &salvage.aside, salvage.pods), (&path, &aside, 0));
        assert!(store.may_lack_pods());
        store.note_whole().unwrap();
        assert!(store.commit(&[put("web", "a")])[0].is_ok());
        assert_eq!(fs::read(&aside).unwrap(), content);
        assert_eq!(fs::metadata(&aside).unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert_eq!(names(dir.path()).len(), 1 + contents.len());
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_file_that_was_kept_already_is_not_kept_twice() {
    let dir = TempDir::new();
    let path = dir.path().join("state.redb");
    fs::write(&path, "not a database").unwrap();
    fs::write(dir.path().join("state.redb.corrupt-1"), "an older one").unwrap();
    fs::hard_link(&path, dir.path().join("state.redb.corrupt-2")).unwrap();
    let store = DurableStore::open(dir.path()).unwrap();
    assert_eq!(store.salvage().unwrap().aside, dir.path().join("state.redb.corrupt-2"));
    store.note_whole().unwrap();
    assert_eq!(names(dir.path()).len(), 3);
}

#[test]
fn a_file_of_another_program_is_set_aside_whole() {
    let dir = TempDir::new();
    let theirs: TableDefinition<'_, u64, u64> = TableDefinition::new("theirs");
    let database = Database::create(dir.path().join("state.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(theirs).unwrap().insert(1, 2).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let store = DurableStore::open(dir.path()).unwrap();
    let aside = store.salvage().unwrap().aside.clone();
    let database = Database::open(aside).unwrap();
    let table = database.begin_read().unwrap().open_table(theirs).unwrap();
    assert_eq!(table.get(1).unwrap().unwrap().value(), 2);
}

#[test]
fn a_damaged_file_that_cannot_be_set_aside_is_refused_and_left_alone() {
    let dir = TempDir::new();
    let path = dir.path().join("state.redb");
    fs::write(&path, "not a database").unwrap();
    // A directory in the place of the draft.
    fs::create_dir(dir.path().join("state.redb.new")).unwrap();
    let error = DurableStore::open(dir.path()).unwrap_err();
    let StoreError::Corrupt { path: named, what } = &error else { panic!("{error:?}") };
    assert_eq!(*named, path);
    assert!(what.contains("cannot be set aside: is a directory"), "{what}");
    assert_eq!(fs::read(&path).unwrap(), b"not a database");
}

#[test]
fn a_damaged_file_of_a_newer_schema_is_refused_and_left_alone() {
    let disk = Disk::default();
    let mut store = DurableStore::open_on(disk.clone()).unwrap();
    store.commit(&[put("web", "a")]);
    drop(store);
    let meta: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
    let database = disk.database();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(meta).unwrap().insert("schema", 7).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let mut content = disk.content();
    content[0] = b'R';
    let disk = Disk::holding(content.clone());
    let error = DurableStore::open_on(disk.clone()).unwrap_err();
    assert!(matches!(error, StoreError::SchemaTooNew { found: 7, .. }), "{error:?}");
    assert_eq!((disk.content(), disk.aside()), (content, Vec::new()));
}

#[test]
fn revisions_go_on_beyond_all_that_were_given_out_when_the_last_is_lost() {
    let (good, expected) = closed();
    let newest = expected.values().map(|(pod, _)| pod.generation).max().unwrap();
    for page in 0..good.len() / PAGE {
        let mut content = good.clone();
        content[page * PAGE..(page + 1) * PAGE].fill(0);
        let disk = start_on(content, &format!("page {page}")).disk;
        let mut store = DurableStore::open_on(disk).unwrap();
        let next = store.commit(&[put("after", "a")]).remove(0).unwrap();
        assert!(next > newest, "page {page}: {next:?}");
    }
}

#[test]
fn a_job_whose_verdict_is_lost_with_its_page_stays_terminal_by_its_journal() {
    let disk = Disk::default();
    let mut store = DurableStore::open_on(disk.clone()).unwrap();
    for pod in ["job", "other"] {
        let generation = store.commit(&[put(pod, "a")]).remove(0).unwrap();
        store.commit(&[PutVerdict(name(pod), generation, verdict(3))]);
        let terminal = Kind::Terminal { reason: "exited with status 3, not restarted".into() };
        commit_all(&mut store, &[started(pod, 1), note(pod, 1, terminal)]);
    }
    commit_all(&mut store, &[started("other", 2)]);
    drop(store);
    let good = disk.content();
    let mut lost = 0;
    for page in 1..good.len() / PAGE {
        let mut content = good.clone();
        content[page * PAGE..(page + 1) * PAGE].fill(0);
        let mut store = DurableStore::open_on(Disk::holding(content)).unwrap();
        if store.list().unwrap().pods.len() < 2 || journal(&mut store, "job").unwrap().is_empty() {
            continue;
        }
        let pods = store.list().unwrap().pods;
        let verdict = |n: usize| pods[n].1.as_ref().unwrap().verdict.clone();
        let exit = verdict(0).expect("the job is not run again").last.exit;
        if let Exit::Failed(failure) = exit {
            lost += 1;
            assert_eq!(failure.code, Code::StoreCorrupt);
            assert_eq!(verdict(1), None, "it ran again, and its verdict was on what was lost");
        }
    }
    assert!(lost > 0);
}

#[test]
fn a_verdict_and_a_journal_outlive_a_damage_elsewhere() {
    let (mut content, _) = closed();
    content[0] = b'R';
    let mut store = DurableStore::open_on(start_on(content, "the magic").disk).unwrap();
    let pod = store.list().unwrap().pods[0].1.clone().unwrap();
    assert_eq!(pod.verdict, Some(verdict(3)));
    let said = journal(&mut store, "pod00").unwrap();
    assert_eq!(said, ["applied 1", "started #1", "applied 2", "started #2"]);
}
