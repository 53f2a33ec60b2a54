//! A store with its whole history, so that what was durable at any moment can
//! be asked afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tank::core::action::Write;
use tank::core::event::{DesiredChange, Revision, StoredPod};
use tank::core::failure::{Code, Failure};
use tank::core::spec::{Name, PodSpec};

#[derive(Debug, Default, Clone)]
pub(crate) struct Store {
    pods: BTreeMap<Name, StoredPod>,
    /// The pod that each revision changed; the first is revision 1.
    history: Vec<(Name, Option<Arc<PodSpec>>)>,
    seeds: BTreeSet<Name>,
}

impl Store {
    pub(crate) fn pods(&self) -> &BTreeMap<Name, StoredPod> {
        &self.pods
    }

    pub(crate) fn revision(&self) -> Revision {
        Revision(self.history.len() as u64)
    }

    /// What the pod was made at this revision, if this revision made it.
    pub(crate) fn spec_at(&self, pod: &Name, revision: Revision) -> Option<&Arc<PodSpec>> {
        let index = usize::try_from(revision.0).ok()?.checked_sub(1)?;
        let (changed, spec) = self.history.get(index)?;
        spec.as_ref().filter(|_| changed == pod)
    }

    pub(crate) fn commit(&mut self, write: Write) -> Result<Revision, Failure> {
        match write {
            Write::Put(spec) => Ok(self.put(spec)),
            Write::Create(spec) if self.pods.contains_key(&spec.name) => Err(exists(&spec.name)),
            Write::Create(spec) => Ok(self.put(spec)),
            Write::Seed(spec) => {
                let is_new = self.seeds.insert(spec.name.clone());
                let is_there = self.pods.contains_key(&spec.name);
                if is_new && !is_there { Ok(self.put(spec)) } else { Err(exists(&spec.name)) }
            }
            Write::Delete(pod) => Ok(self.delete(&pod)),
            Write::PutVerdict(pod, generation, verdict) => {
                let stored = self.pods.get_mut(&pod);
                if let Some(stored) = stored.filter(|stored| stored.generation == generation) {
                    stored.verdict = Some(verdict);
                }
                Ok(self.revision())
            }
            Write::ClearVerdict(pod) => {
                if let Some(stored) = self.pods.get_mut(&pod) {
                    stored.verdict = None;
                }
                Ok(self.revision())
            }
        }
    }

    pub(crate) fn put(&mut self, spec: Arc<PodSpec>) -> Revision {
        if let Some(stored) = self.pods.get(&spec.name).filter(|stored| stored.spec == spec) {
            return stored.generation;
        }
        self.history.push((spec.name.clone(), Some(Arc::clone(&spec))));
        let generation = self.revision();
        self.pods.insert(spec.name.clone(), StoredPod { generation, spec, verdict: None });
        generation
    }

    pub(crate) fn delete(&mut self, pod: &Name) -> Revision {
        if self.pods.remove(pod).is_some() {
            self.history.push((pod.clone(), None));
        }
        self.revision()
    }

    /// Everything there is.
    pub(crate) fn full(&self) -> DesiredChange {
        let pods = self.pods.iter().map(|(name, pod)| (name.clone(), Some(pod.clone())));
        DesiredChange { revision: self.revision(), is_full: true, pods: pods.collect() }
    }

    /// What has changed since; `None` when nothing has.
    pub(crate) fn changes(&self, since: Revision) -> Option<DesiredChange> {
        if since > self.revision() {
            return Some(self.full());
        }
        let from = usize::try_from(since.0).expect("a short history");
        let changed = self.history[from..].iter().map(|(name, _)| name);
        let pods: BTreeMap<Name, Option<StoredPod>> =
            changed.map(|name| (name.clone(), self.pods.get(name).cloned())).collect();
        let pods: Vec<_> = pods.into_iter().collect();
        (!pods.is_empty()).then(|| DesiredChange {
            revision: self.revision(),
            is_full: false,
            pods,
        })
    }
}

fn exists(pod: &Name) -> Failure {
    Failure::new(Code::Exists, format!("pod {pod} exists"))
}
