//! A store that forgets everything when the program ends.

use std::collections::{BTreeMap, VecDeque};

use super::contents::{Contents, Staged};
use super::{Change, Committed, Store, StoreError};
use crate::core::event::{DesiredChange, Revision};
use crate::core::journal::{ENTRIES_MAX, Entry};
use crate::core::spec::Name;

/// A store in memory: for tests, and for apps that apply their pods anew at
/// each start.
#[derive(Debug, Default)]
pub struct MemoryStore {
    contents: Contents,
    journals: BTreeMap<Name, VecDeque<Entry>>,
}

impl MemoryStore {
    /// An empty store at revision 0.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn note(&mut self, staged: &mut Staged) {
        for pod in &staged.wiped {
            self.journals.remove(pod);
        }
        for (pod, entry) in staged.entries.drain(..) {
            let journal = self.journals.entry(pod).or_default();
            if entry.is_told_by(journal.iter().rev().cloned()) {
                continue;
            }
            if journal.len() == ENTRIES_MAX {
                journal.pop_front();
            }
            journal.push_back(entry);
        }
    }
}

impl Store for MemoryStore {
    fn list(&mut self) -> Result<DesiredChange, StoreError> {
        Ok(self.contents.list())
    }

    fn changes_since(&mut self, since: Revision) -> Result<Option<DesiredChange>, StoreError> {
        Ok(self.contents.changes_since(since))
    }

    fn journal(&mut self, pod: &Name) -> Result<Option<Vec<Entry>>, StoreError> {
        if !self.contents.pods().contains_key(pod) {
            return Ok(None);
        }
        Ok(Some(self.journals.get(pod).into_iter().flatten().cloned().collect()))
    }

    fn commit_at(&mut self, at_unix_ms: i64, changes: &[Change]) -> Committed {
        let (answers, mut staged) = self.contents.stage(at_unix_ms, changes);
        self.note(&mut staged);
        self.contents.merge(staged);
        Committed { answers, journal: Ok(()) }
    }
}
