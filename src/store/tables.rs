//! The tables of the state file, and the transactions on them.
//!
//! # Versions
//!
//! A record is written with all its fields, so that a default which changes
//! later does not change what is stored. A field that is missing takes its
//! default: a newer program reads what an older one wrote. Whoever adds a field
//! or changes what one means raises [`SCHEMA`]: an older program then refuses
//! the file, rather than run something other than what the user asked for.
//! [`migrate`] makes a file of an older schema one of this, in one transaction.
//!
//! | Schema | What it brought |
//! |---|---|
//! | 1 | specs with their generations, verdicts, what cannot be read |
//! | 2 | journals, and which pods were seeded |

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use redb::{
    Database, ReadTransaction, ReadableDatabase, ReadableTable, StorageBackend, Table,
    TableDefinition, TableError, WriteTransaction,
};

use super::contents::{Contents, Staged};
use super::fault::Fault;
use super::journal;
use super::record;
use super::salvage::{Row, Wreck};
use crate::core::event::{Incarnation, LastExit, Revision, StoredPod, Verdict};
use crate::core::failure::{Code, Failure, Place};
use crate::core::journal::Entry;
use crate::core::spec::Name;
use crate::core::status::Exit;

/// The version of the tables and records below.
pub(super) const SCHEMA: u64 = 2;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// Pod name to spec and generation.
const PODS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new(PODS_NAME);
/// Pod name to the verdict on the generation that `PODS` has.
const VERDICTS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new(VERDICTS_NAME);
/// Pod name, NUL and number of the entry to the entry.
const EVENTS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new(EVENTS_NAME);
/// Names that were ever seeded, each to nothing.
const SEEDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new(SEEDS_NAME);
const QUARANTINE: TableDefinition<'_, QuarantineKey<'_>, QuarantineValue<'_>> =
    TableDefinition::new("quarantine");

const PODS_NAME: &str = "pods";
const VERDICTS_NAME: &str = "verdicts";
const EVENTS_NAME: &str = "events";
const SEEDS_NAME: &str = "seeds";

/// How far the revision moves on where the last one cannot be read: further than
/// it was ever ahead of the newest spec, so that none is given out twice.
const REVISIONS_SKIPPED: u64 = 1_000_000;

/// Table, key and the revision at which it was found.
type QuarantineKey<'a> = (&'a str, &'a [u8], u64);
/// Why it cannot be read, and the record as it was.
type QuarantineValue<'a> = (&'a str, &'a [u8]);

/// Pods to write and, with `None`, pods to remove.
pub(super) type Rows = BTreeMap<Name, Option<StoredPod>>;

/// A stored record that cannot be read. It stays in the file, out of the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// What it is a record of: `pods` or `verdicts`.
    pub table: String,
    /// The pod's name, as far as it can be read.
    pub pod: String,
    /// Why it cannot be read.
    pub what: String,
}

/// What a file holds.
pub(super) struct Loaded {
    pub(super) contents: Contents,
    pub(super) unreadable: Vec<Unreadable>,
}

/// A record that [`quarantine`] puts aside.
pub(super) struct Unreadable {
    table: &'static str,
    key: Vec<u8>,
    record: Vec<u8>,
    what: String,
}

/// Makes the tables of a new file.
pub(super) fn create(database: &Database) -> Result<(), Fault> {
    let transaction = database.begin_write()?;
    {
        let mut meta = transaction.open_table(META)?;
        meta.insert("schema", SCHEMA)?;
        meta.insert("revision", 0)?;
        transaction.open_table(PODS)?;
        transaction.open_table(VERDICTS)?;
        transaction.open_table(QUARANTINE)?;
        transaction.open_table(EVENTS)?;
        transaction.open_table(SEEDS)?;
    }
    Ok(transaction.commit()?)
}

/// Makes an older file one of this schema. Refuses one that is not ours, or is
/// newer than we are.
pub(super) fn migrate(database: &Database) -> Result<(), Fault> {
    match schema(database)? {
        SCHEMA => Ok(()),
        1 => migrate_from_1(database),
        found if found > SCHEMA => Err(Fault::TooNew { found, supported: SCHEMA }),
        found => Err(Fault::Corrupt(format!("there is no schema version {found}"))),
    }
}

fn migrate_from_1(database: &Database) -> Result<(), Fault> {
    let transaction = database.begin_write()?;
    transaction.open_table(EVENTS)?;
    transaction.open_table(SEEDS)?;
    transaction.open_table(META)?.insert("schema", 2)?;
    Ok(transaction.commit()?)
}

fn schema(database: &Database) -> Result<u64, Fault> {
    let foreign = || Fault::Corrupt("it is a redb file of another program".to_owned());
    match database.begin_read()?.open_table(META) {
        Ok(meta) => Ok(meta.get("schema")?.ok_or_else(foreign)?.value()),
        Err(TableError::Storage(error)) => Err(error.into()),
        Err(_) => Err(foreign()),
    }
}

/// Reads everything, and what cannot be read as it is. `path` is for the
/// failures that stand for verdicts which cannot be read.
pub(super) fn load(database: &Database, path: &Path) -> Result<Loaded, Fault> {
    let transaction = database.begin_read()?;
    let mut unreadable = Vec::new();
    let mut pods = load_pods(&transaction, &mut unreadable)?;
    load_verdicts(&transaction, path, &mut pods, &mut unreadable)?;
    let stored = transaction.open_table(META)?.get("revision")?.map(|revision| revision.value());
    // No generation may be given out twice, whatever the file says.
    let newest = pods.values().map(|pod| pod.generation.0).max();
    let revision = Revision(stored.max(newest).unwrap_or(0));
    let seeds = load_seeds(&transaction)?;
    Ok(Loaded { contents: Contents::loaded(revision, pods, seeds), unreadable })
}

fn load_seeds(transaction: &ReadTransaction) -> Result<BTreeSet<Name>, Fault> {
    let mut seeds = BTreeSet::new();
    for row in transaction.open_table(SEEDS)?.iter()? {
        seeds.extend(name_of(row?.0.value()));
    }
    Ok(seeds)
}

fn name_of(key: &[u8]) -> Option<Name> {
    std::str::from_utf8(key).ok().and_then(Name::new)
}

fn load_pods(
    transaction: &ReadTransaction,
    unreadable: &mut Vec<Unreadable>,
) -> Result<BTreeMap<Name, StoredPod>, Fault> {
    let mut pods = BTreeMap::new();
    for row in transaction.open_table(PODS)?.iter()? {
        let (key, record) = row?;
        match record::decode_pod(key.value(), record.value()) {
            Ok(pod) => drop(pods.insert(pod.spec.name.clone(), pod)),
            Err(what) => {
                unreadable.push(Unreadable::new(PODS_NAME, key.value(), record.value(), what));
            }
        }
    }
    Ok(pods)
}

fn load_verdicts(
    transaction: &ReadTransaction,
    path: &Path,
    pods: &mut BTreeMap<Name, StoredPod>,
    unreadable: &mut Vec<Unreadable>,
) -> Result<(), Fault> {
    for row in transaction.open_table(VERDICTS)?.iter()? {
        let (key, record) = row?;
        let aside = |what| Unreadable::new(VERDICTS_NAME, key.value(), record.value(), what);
        let Some(pod) = name_of(key.value()).and_then(|name| pods.get_mut(&name)) else {
            unreadable.push(aside("it belongs to no pod that can be read".to_owned()));
            continue;
        };
        pod.verdict = Some(match record::decode_verdict(record.value()) {
            Ok(verdict) => verdict,
            Err(what) => {
                unreadable.push(aside(what.clone()));
                unreadable_verdict(&pod.spec.name, path, &what)
            }
        });
    }
    Ok(())
}

/// Stands for a verdict that cannot be read: that there was one is known, and a
/// job that is done must not run again.
fn unreadable_verdict(pod: &Name, path: &Path, what: &str) -> Verdict {
    let message = format!("the verdict on pod {pod} cannot be read: {what}");
    let failure = Failure::new(Code::StoreCorrupt, message)
        .at(Place::Pod, pod)
        .at(Place::Path, path.display())
        .hint("restart the pod, or apply another spec, to run it again");
    let last = LastExit { exit: Exit::Failed(failure), at: None };
    Verdict { last, retries: 0, incarnation: Incarnation::default() }
}

impl Unreadable {
    fn new(table: &'static str, key: &[u8], record: &[u8], what: String) -> Self {
        Self { table, key: key.to_owned(), record: record.to_owned(), what }
    }
}

/// Moves records that cannot be read out of the way, in one transaction.
pub(super) fn quarantine(
    database: &Database,
    contents: &Contents,
    unreadable: &[Unreadable],
) -> Result<(), Fault> {
    if unreadable.is_empty() {
        return Ok(());
    }
    let transaction = database.begin_write()?;
    {
        let mut pods = transaction.open_table(PODS)?;
        let mut verdicts = transaction.open_table(VERDICTS)?;
        let mut quarantine = transaction.open_table(QUARANTINE)?;
        for item in unreadable {
            let key = item.key.as_slice();
            let at = (item.table, key, contents.revision().0);
            quarantine.insert(at, (item.what.as_str(), item.record.as_slice()))?;
            let table = if item.table == PODS_NAME { &mut pods } else { &mut verdicts };
            table.remove(key)?;
        }
        for pod in contents.pods().values() {
            put_verdict(&mut verdicts, pod)?;
        }
    }
    Ok(transaction.commit()?)
}

/// What has been put aside, now or earlier.
pub(super) fn list_quarantine(database: &Database) -> Result<Vec<SetAside>, Fault> {
    let transaction = database.begin_read()?;
    let mut found = Vec::new();
    for row in transaction.open_table(QUARANTINE)?.iter()? {
        let (key, value) = row?;
        let (table, pod, _) = key.value();
        let pod = String::from_utf8_lossy(pod).into_owned();
        found.push(SetAside { table: table.to_owned(), pod, what: value.value().0.to_owned() });
    }
    Ok(found)
}

/// One durable transaction that makes what is staged of `before`.
pub(super) fn write(database: &Database, before: &Contents, staged: &Staged) -> Result<(), Fault> {
    let transaction = database.begin_write()?;
    write_rows(&transaction, before, &staged.rows)?;
    write_journals(&transaction, staged)?;
    if !staged.seeds.is_empty() {
        let mut seeds = transaction.open_table(SEEDS)?;
        for name in &staged.seeds {
            seeds.insert(name.as_str().as_bytes(), [].as_slice())?;
        }
    }
    transaction.open_table(META)?.insert("revision", staged.revision.0)?;
    Ok(transaction.commit()?)
}

/// One durable transaction, where one is needed, that makes what a file was
/// found to hold what it is wanted to hold. Journals lose what they say of
/// changes that are undone; what has left them stays lost.
pub(super) fn put_back(
    database: &Database,
    found: &Contents,
    wanted: &Contents,
) -> Result<(), Fault> {
    let rows = differences(found, wanted);
    let is_same_beside = found.revision() == wanted.revision() && found.seeds() == wanted.seeds();
    if rows.is_empty() && is_same_beside {
        return Ok(());
    }
    let transaction = database.begin_write()?;
    write_rows(&transaction, found, &rows)?;
    {
        let mut events = transaction.open_table(EVENTS)?;
        for (name, row) in &rows {
            let is_kept = |entry: &Entry| row.is_some() && entry.generation <= wanted.revision();
            journal::retain(&mut events, name, is_kept)?;
        }
        let mut seeds = transaction.open_table(SEEDS)?;
        for name in found.seeds().difference(wanted.seeds()) {
            seeds.remove(name.as_str().as_bytes())?;
        }
        transaction.open_table(META)?.insert("revision", wanted.revision().0)?;
    }
    Ok(transaction.commit()?)
}

/// What has to be written to make `found` what is `wanted`.
fn differences(found: &Contents, wanted: &Contents) -> Rows {
    let (found, wanted) = (found.pods(), wanted.pods());
    let gone = found.keys().filter(|name| !wanted.contains_key(*name));
    let other = wanted.iter().filter(|(name, pod)| found.get(*name) != Some(*pod));
    let gone = gone.map(|name| (name.clone(), None));
    gone.chain(other.map(|(name, pod)| (name.clone(), Some(pod.clone())))).collect()
}

/// The journal of a pod, oldest first.
pub(super) fn load_journal(database: &Database, pod: &Name) -> Result<Vec<Entry>, Fault> {
    journal::read(&database.begin_read()?.open_table(EVENTS)?, pod)
}

fn write_journals(transaction: &WriteTransaction, staged: &Staged) -> Result<(), Fault> {
    if staged.wiped.is_empty() && staged.entries.is_empty() {
        return Ok(());
    }
    let mut events = transaction.open_table(EVENTS)?;
    for pod in &staged.wiped {
        journal::retain(&mut events, pod, |_| false)?;
    }
    for (pod, entry) in &staged.entries {
        journal::append(&mut events, pod, entry)?;
    }
    Ok(())
}

fn write_rows(transaction: &WriteTransaction, before: &Contents, rows: &Rows) -> Result<(), Fault> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut pods = transaction.open_table(PODS)?;
    let mut verdicts = transaction.open_table(VERDICTS)?;
    for (name, row) in rows {
        let key = name.as_str().as_bytes();
        let Some(pod) = row else {
            pods.remove(key)?;
            verdicts.remove(key)?;
            continue;
        };
        let is_spec_stored = before
            .pods()
            .get(name)
            .is_some_and(|old| old.generation == pod.generation && old.spec == pod.spec);
        if !is_spec_stored {
            pods.insert(key, record::encode_pod(pod).as_slice())?;
        }
        put_verdict(&mut verdicts, pod)?;
    }
    Ok(())
}

fn put_verdict(table: &mut Table<'_, &[u8], &[u8]>, pod: &StoredPod) -> Result<(), Fault> {
    let key = pod.spec.name.as_str().as_bytes();
    match &pod.verdict {
        Some(verdict) => drop(table.insert(key, record::encode_verdict(verdict).as_slice())?),
        None => drop(table.remove(key)?),
    }
    Ok(())
}

/// Fills a new file with what a damaged one still gives.
///
/// A seed whose pod may have been lost counts as never sown: the pod comes back,
/// though it may be one that was deleted. A verdict may have been lost where the
/// journal ends with one; it then counts as one that cannot be read.
pub(super) fn salvage<B: StorageBackend>(
    database: &Database,
    wreck: &Wreck<'_, B>,
) -> Result<(), Fault> {
    let meta = wreck.table("meta", Some(size_of::<u64>()));
    let meta = |key: &str| number_of(&meta.rows, key);
    if let Some(found) = meta("schema").filter(|found| *found > SCHEMA) {
        return Err(Fault::TooNew { found, supported: SCHEMA });
    }
    let pods = wreck.table(PODS_NAME, None);
    let mut seeds = wreck.table(SEEDS_NAME, None).rows;
    if !pods.is_whole {
        seeds.retain(|(name, _)| pods.rows.iter().any(|(pod, _)| pod == name));
    }
    let revision = meta("revision").unwrap_or_else(|| newest(&pods.rows) + REVISIONS_SKIPPED);
    let transaction = database.begin_write()?;
    fill(&mut transaction.open_table(PODS)?, &pods.rows)?;
    let (mut verdicts, events) = (wreck.table(VERDICTS_NAME, None), wreck.table(EVENTS_NAME, None));
    if !verdicts.is_whole {
        let is_lost = |pod: &&Row| {
            let has_verdict = verdicts.rows.iter().any(|(name, _)| *name == pod.0);
            !has_verdict && journal::ends_terminal(&events.rows, &pod.0)
        };
        let lost = pods.rows.iter().filter(is_lost).map(|(name, _)| (name.clone(), Vec::new()));
        let lost: Vec<Row> = lost.collect();
        verdicts.rows.extend(lost);
    }
    fill(&mut transaction.open_table(VERDICTS)?, &verdicts.rows)?;
    fill(&mut transaction.open_table(EVENTS)?, &events.rows)?;
    fill(&mut transaction.open_table(SEEDS)?, &seeds)?;
    transaction.open_table(META)?.insert("revision", revision)?;
    Ok(transaction.commit()?)
}

fn fill(table: &mut Table<'_, &[u8], &[u8]>, rows: &[Row]) -> Result<(), Fault> {
    for (key, value) in rows {
        table.insert(key.as_slice(), value.as_slice())?;
    }
    Ok(())
}

fn number_of(meta: &[Row], key: &str) -> Option<u64> {
    let (_, value) = meta.iter().find(|(found, _)| found == key.as_bytes())?;
    Some(u64::from_le_bytes(value.as_slice().try_into().ok()?))
}

/// The newest generation among records of pods.
fn newest(pods: &[Row]) -> u64 {
    let decoded = pods.iter().filter_map(|(name, pod)| record::decode_pod(name, pod).ok());
    decoded.map(|pod| pod.generation.0).max().unwrap_or(0)
}
