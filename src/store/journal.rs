//! The table of journals: one row an entry, under the pod's name and a number
//! that only grows. Nothing is known of a journal but what a look at its rows
//! tells, so that opening a store does not read them all.

use redb::{ReadableTable, Table};

use super::fault::Fault;
use super::record;
use super::salvage::Row;
use crate::core::journal::{ENTRIES_MAX, Entry, Kind};
use crate::core::spec::Name;

type Events<'a> = Table<'a, &'static [u8], &'static [u8]>;

/// Adds an entry, unless it says nothing new, for which the oldest one makes room.
pub(super) fn append(events: &mut Events<'_>, pod: &Name, entry: &Entry) -> Result<(), Fault> {
    let last = events.range(key(pod, 0).as_slice()..=key(pod, u64::MAX).as_slice())?.next_back();
    let next = last.transpose()?.map_or(0, |(key, _)| number(key.value()) + 1);
    let rows = events.range(key(pod, 0).as_slice()..=key(pod, u64::MAX).as_slice())?.rev();
    let newest_first = rows.map_while(|row| record::decode_entry(row.ok()?.1.value()).ok());
    if entry.is_told_by(newest_first) {
        return Ok(());
    }
    events.insert(key(pod, next).as_slice(), record::encode_entry(entry).as_slice())?;
    if let Some(oldest) = next.checked_sub(ENTRIES_MAX as u64) {
        events.remove(key(pod, oldest).as_slice())?;
    }
    Ok(())
}

/// Removes all entries of a pod but such. What cannot be read goes, too.
pub(super) fn retain(
    events: &mut Events<'_>,
    pod: &Name,
    is_kept: impl Fn(&Entry) -> bool,
) -> Result<(), Fault> {
    let (first, last) = (key(pod, 0), key(pod, u64::MAX));
    let is_kept = |_: &[u8], entry: &[u8]| record::decode_entry(entry).is_ok_and(|e| is_kept(&e));
    Ok(events.retain_in(first.as_slice()..=last.as_slice(), is_kept)?)
}

/// The entries of a pod that can be read, oldest first.
pub(super) fn read(
    events: &impl ReadableTable<&'static [u8], &'static [u8]>,
    pod: &Name,
) -> Result<Vec<Entry>, Fault> {
    let mut entries = Vec::new();
    for row in events.range(key(pod, 0).as_slice()..=key(pod, u64::MAX).as_slice())? {
        entries.extend(record::decode_entry(row?.1.value()).ok());
    }
    Ok(entries)
}

/// Whether the last of these rows that is of this pod says that there is no next
/// start.
pub(super) fn ends_terminal(rows: &[Row], pod: &[u8]) -> bool {
    let is_own =
        |(key, _): &&Row| key.len() == pod.len() + 9 && key.starts_with(pod) && key[pod.len()] == 0;
    let last = rows.iter().filter(is_own).max_by_key(|(key, _)| number(key));
    let last = last.and_then(|(_, record)| record::decode_entry(record).ok());
    last.is_some_and(|entry| matches!(entry.kind, Kind::Terminal { .. }))
}

/// No name holds a NUL, so no journal lies within another.
fn key(pod: &Name, number: u64) -> Vec<u8> {
    let mut key = pod.as_str().as_bytes().to_vec();
    key.push(0);
    key.extend(number.to_be_bytes());
    key
}

/// The number in a key.
fn number(key: &[u8]) -> u64 {
    key.last_chunk().map_or(0, |number| u64::from_be_bytes(*number))
}
