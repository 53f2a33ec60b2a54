//! A store that forgets everything when the program ends.

use super::contents::Contents;
use super::{Store, StoreError};
use crate::core::action::Write;
use crate::core::event::{DesiredChange, Revision};

/// A store in memory: for tests, and for apps that apply their pods anew at
/// each start.
#[derive(Debug, Default)]
pub struct MemoryStore {
    contents: Contents,
}

impl MemoryStore {
    /// An empty store at revision 0.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Store for MemoryStore {
    fn list(&mut self) -> Result<DesiredChange, StoreError> {
        Ok(self.contents.list())
    }

    fn changes_since(&mut self, since: Revision) -> Result<Option<DesiredChange>, StoreError> {
        Ok(self.contents.changes_since(since))
    }

    fn commit(&mut self, writes: &[Write]) -> Vec<Result<Revision, StoreError>> {
        let (answers, staged) = self.contents.stage(writes);
        self.contents.merge(staged);
        answers
    }
}
