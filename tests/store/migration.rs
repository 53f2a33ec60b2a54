//! Files of older schemas, each written by a program of its time, and what
//! becomes of them.
//!
//! `fixtures/schema1.redb.deflate` is what the last program of schema 1 left
//! after it had been told of four pods, one of which was deleted and two of
//! which had come to an end; `fixtures/schema1.terms` is what it then listed.

use erlang_term_format::{Term, text};
use tank::core::event::{DesiredChange, Incarnation, LastExit, Revision, Verdict};
use tank::core::failure::{Code, Failure, Place};
use tank::core::status::Exit;
use tank::store::{DurableStore, Store};

use crate::disk::Disk;
use crate::specs::{commit_all, journal, name, seed, started};

const CHANCES: [u64; 6] = [0, 1, 2, 3, 5, 8];

fn schema_1() -> Disk {
    let deflated = include_bytes!("fixtures/schema1.redb.deflate");
    Disk::holding(miniz_oxide::inflate::decompress_to_vec(deflated).expect("a whole fixture"))
}

fn open(disk: &Disk) -> DurableStore<Disk> {
    let store = DurableStore::open_on(disk.clone()).expect("an older file opens");
    assert_eq!((store.set_aside(), store.salvage()), (&[][..], None));
    store
}

/// What the program of that time would list.
fn listed(change: &DesiredChange) -> Term<'static> {
    let pods = change.pods.iter().map(|(_, pod)| {
        let pod = pod.as_ref().expect("a list has no pod that is gone");
        let generation = (Term::atom("generation"), Term::from(pod.generation.0));
        Term::Map(vec![generation, (Term::atom("spec"), pod.spec.to_term().into_owned())])
    });
    Term::List(pods.collect())
}

#[test]
fn a_file_of_schema_1_keeps_every_pod_and_verdict() {
    let mut store = open(&schema_1());
    let found = store.list().unwrap();
    assert_eq!(found.revision, Revision(6));
    let expected = text::parse(include_str!("fixtures/schema1.terms")).expect("a list");
    assert_eq!(listed(&found).to_string(), expected.to_string());
    let failure =
        Failure::new(Code::RuntimeFailed, "no such image").at(Place::Pod, "broken".to_owned());
    let verdicts: Vec<Option<Verdict>> =
        found.pods.into_iter().map(|(_, pod)| pod.unwrap().verdict).collect();
    let of = |exit| {
        let last = LastExit { exit, at: None };
        Some(Verdict { last, retries: 0, incarnation: Incarnation::default() })
    };
    assert_eq!(verdicts, [of(Exit::Failed(failure)), of(Exit::Exited(3)), None]);
}

#[test]
fn a_file_of_schema_1_begins_journals_and_seeds() {
    let disk = schema_1();
    let mut store = open(&disk);
    assert_eq!(journal(&mut store, "web").unwrap(), [] as [&str; 0]);
    commit_all(&mut store, &[started("web", 7)]);
    assert!(store.commit(&[seed("web", "a")])[0].is_err(), "it is there");
    assert_eq!(store.commit(&[seed("gone", "a")]), [Ok(Revision(7))]);
    drop(store);
    let mut store = open(&disk);
    assert_eq!(journal(&mut store, "web").unwrap(), ["started #7"]);
    assert_eq!(journal(&mut store, "gone").unwrap(), ["applied 7"]);
    assert!(store.journal(&name("nobody")).unwrap().is_none());
}

#[test]
fn a_migration_that_power_interrupts_at_any_moment_is_made_by_the_next_start() {
    let expected = open(&schema_1()).list().unwrap();
    let mut cuts = 0;
    for operation in 0.. {
        let disk = schema_1();
        disk.lose_power_after(operation);
        drop(DurableStore::open_on(disk.clone()));
        if disk.has_fault_left() {
            break;
        }
        for chance in CHANCES {
            cuts += 1;
            let mut store = open(&disk.after_power_loss(chance));
            assert_eq!(store.list().unwrap(), expected, "cut at {operation}, chance {chance}");
            commit_all(&mut store, &[started("web", 7)]);
            assert_eq!(journal(&mut store, "web").unwrap(), ["started #7"]);
        }
    }
    assert!(cuts > 20, "only {cuts} cuts");
    println!("{cuts} states of the disk after a cut, each migrated");
}
