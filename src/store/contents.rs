//! What a store holds, in memory, and what a batch of writes makes of it.
//!
//! Staging a batch changes nothing: a store makes the staged rows durable
//! first, and takes them over only then.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::{Change, StoreError};
use crate::core::action::Write;
use crate::core::event::{DesiredChange, Incarnation, Revision, StoredPod, Verdict};
use crate::core::journal::{Entry, Kind};
use crate::core::spec::{Name, PodSpec};

/// Changes that are remembered one by one. Whoever lags further behind is told
/// everything.
const CHANGES_MAX: usize = 16_384;

/// All pods at one revision.
#[derive(Debug, Default)]
pub(super) struct Contents {
    revision: Revision,
    pods: BTreeMap<Name, StoredPod>,
    /// Every name that was ever seeded.
    seeds: BTreeSet<Name>,
    /// Which pod each revision after `floor` changed, oldest first.
    changes: VecDeque<(Revision, Name)>,
    floor: Revision,
}

/// What a batch of writes changes.
#[derive(Debug, Default)]
pub(super) struct Staged {
    pub(super) revision: Revision,
    /// Each touched pod as it will be; `None` where it will be gone.
    pub(super) rows: BTreeMap<Name, Option<StoredPod>>,
    /// Names that are seeded now.
    pub(super) seeds: BTreeSet<Name>,
    /// Pods whose journals end, though there may be another of the name by now.
    pub(super) wiped: BTreeSet<Name>,
    /// What follows in the journals, oldest first.
    pub(super) entries: Vec<(Name, Entry)>,
    changes: Vec<(Revision, Name)>,
    at_unix_ms: i64,
}

impl Contents {
    /// What a store held when it was opened.
    pub(super) fn loaded(
        revision: Revision,
        pods: BTreeMap<Name, StoredPod>,
        seeds: BTreeSet<Name>,
    ) -> Self {
        Self { revision, pods, seeds, changes: VecDeque::new(), floor: revision }
    }

    pub(super) fn revision(&self) -> Revision {
        self.revision
    }

    pub(super) fn pods(&self) -> &BTreeMap<Name, StoredPod> {
        &self.pods
    }

    pub(super) fn seeds(&self) -> &BTreeSet<Name> {
        &self.seeds
    }

    pub(super) fn list(&self) -> DesiredChange {
        let pods = self.pods.iter().map(|(name, pod)| (name.clone(), Some(pod.clone())));
        DesiredChange { revision: self.revision, is_full: true, pods: pods.collect() }
    }

    pub(super) fn changes_since(&self, since: Revision) -> Option<DesiredChange> {
        if since == self.revision {
            return None;
        }
        if since < self.floor || since > self.revision {
            return Some(self.list());
        }
        let from = self.changes.partition_point(|(revision, _)| *revision <= since);
        let names: BTreeSet<&Name> = self.changes.range(from..).map(|(_, name)| name).collect();
        let pods = names.into_iter().map(|name| (name.clone(), self.pods.get(name).cloned()));
        Some(DesiredChange { revision: self.revision, is_full: false, pods: pods.collect() })
    }

    /// What the writes among the changes of this moment answer, and what they
    /// come to.
    pub(super) fn stage(
        &self,
        at_unix_ms: i64,
        changes: &[Change],
    ) -> (Vec<Result<Revision, StoreError>>, Staged) {
        let mut staged = Staged { revision: self.revision, at_unix_ms, ..Staged::default() };
        let answers = changes.iter().filter_map(|change| staged.add(self, change)).collect();
        (answers, staged)
    }

    /// Takes over what was staged.
    pub(super) fn merge(&mut self, staged: Staged) {
        for (name, row) in staged.rows {
            match row {
                Some(pod) => drop(self.pods.insert(name, pod)),
                None => drop(self.pods.remove(&name)),
            }
        }
        self.seeds.extend(staged.seeds);
        self.revision = staged.revision;
        self.changes.extend(staged.changes);
        let excess = self.changes.len().saturating_sub(CHANGES_MAX);
        if let Some((revision, _)) = self.changes.drain(..excess).next_back() {
            self.floor = revision;
        }
    }
}

impl Staged {
    /// Whether nothing is left to be written.
    pub(super) fn is_empty(&self) -> bool {
        // Where a journal is wiped, a row goes or is another.
        self.rows.is_empty() && self.seeds.is_empty() && self.entries.is_empty()
    }

    fn add(&mut self, base: &Contents, change: &Change) -> Option<Result<Revision, StoreError>> {
        match change {
            Change::Write(write) => Some(self.write(base, write)),
            Change::Note(pod, entry) => {
                if self.pod(base, pod).is_some() {
                    self.entries.push((pod.clone(), entry.clone()));
                }
                None
            }
        }
    }

    fn write(&mut self, base: &Contents, write: &Write) -> Result<Revision, StoreError> {
        match write {
            Write::Put(spec) => Ok(self.put(base, spec)),
            Write::Create(spec) if self.pod(base, &spec.name).is_some() => {
                Err(StoreError::Exists { pod: spec.name.clone() })
            }
            Write::Create(spec) => Ok(self.put(base, spec)),
            Write::Seed(spec) => self.seed(base, spec),
            Write::Delete(name) => Ok(self.delete(base, name)),
            Write::PutVerdict(name, generation, verdict) => {
                Ok(self.put_verdict(base, name, *generation, verdict))
            }
            Write::ClearVerdict(name) => Ok(self.clear_verdict(base, name)),
        }
    }

    /// The pod as this batch has made it so far.
    fn pod<'a>(&'a self, base: &'a Contents, name: &Name) -> Option<&'a StoredPod> {
        self.rows.get(name).map_or_else(|| base.pods.get(name), Option::as_ref)
    }

    fn put(&mut self, base: &Contents, spec: &Arc<PodSpec>) -> Revision {
        if let Some(pod) = self.pod(base, &spec.name).filter(|pod| pod.spec == *spec) {
            return pod.generation;
        }
        let generation = self.advance(&spec.name);
        let pod = StoredPod { generation, spec: Arc::clone(spec), verdict: None };
        self.rows.insert(spec.name.clone(), Some(pod));
        self.entries.push((spec.name.clone(), applied(self.at_unix_ms, generation)));
        generation
    }

    /// The name is marked whatever comes of it: a pod that was there before its
    /// seed, and is deleted, does not come back either.
    fn seed(&mut self, base: &Contents, spec: &Arc<PodSpec>) -> Result<Revision, StoreError> {
        let pod = spec.name.clone();
        let was_seeded = base.seeds.contains(&pod) || !self.seeds.insert(pod.clone());
        match self.pod(base, &pod) {
            Some(_) => Err(StoreError::Exists { pod }),
            None if was_seeded => Err(StoreError::SeededBefore { pod }),
            None => Ok(self.put(base, spec)),
        }
    }

    fn delete(&mut self, base: &Contents, name: &Name) -> Revision {
        if self.pod(base, name).is_some() {
            self.advance(name);
            self.rows.insert(name.clone(), None);
            self.entries.retain(|(pod, _)| pod != name);
            self.wiped.insert(name.clone());
        }
        self.revision
    }

    fn put_verdict(
        &mut self,
        base: &Contents,
        name: &Name,
        generation: Revision,
        verdict: &Verdict,
    ) -> Revision {
        let pod = self.pod(base, name).filter(|pod| pod.generation == generation).cloned();
        if let Some(pod) = pod.filter(|pod| pod.verdict.as_ref() != Some(verdict)) {
            let pod = StoredPod { verdict: Some(verdict.clone()), ..pod };
            self.rows.insert(name.clone(), Some(pod));
        }
        self.revision
    }

    fn clear_verdict(&mut self, base: &Contents, name: &Name) -> Revision {
        if let Some(pod) = self.pod(base, name).filter(|pod| pod.verdict.is_some()).cloned() {
            self.rows.insert(name.clone(), Some(StoredPod { verdict: None, ..pod }));
        }
        self.revision
    }

    fn advance(&mut self, name: &Name) -> Revision {
        self.revision = Revision(self.revision.0 + 1);
        self.changes.push((self.revision, name.clone()));
        self.revision
    }
}

/// That another spec is durable, which the store alone knows exactly.
fn applied(at_unix_ms: i64, generation: Revision) -> Entry {
    Entry {
        at_unix_ms,
        kind: Kind::Applied,
        incarnation: Incarnation::default(),
        generation,
        retries: 0,
    }
}
