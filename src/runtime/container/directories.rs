//! Who works on which pod's run directory, and which of them belong to runs that are
//! known: what is in the others was left by somebody, and is to be looked at.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::core::spec::Name;

/// The run directories of this program.
#[derive(Debug, Default)]
pub(super) struct Directories {
    turns: RefCell<BTreeMap<Name, Arc<Mutex<()>>>>,
    known: RefCell<BTreeSet<Name>>,
    /// Which run was the last to begin in each, counted over all.
    claims: RefCell<BTreeMap<Name, u64>>,
    last_claim: Cell<u64>,
}

impl Directories {
    /// Waits, in order, until nobody else works on a pod's directory.
    pub(super) async fn turn(&self, pod: &Name) -> OwnedMutexGuard<()> {
        let turn = Arc::clone(self.turns.borrow_mut().entry(pod.clone()).or_default());
        turn.lock_owned().await
    }

    /// The directory is of a run that is known from here on.
    pub(super) fn know(&self, pod: &Name) {
        self.known.borrow_mut().insert(pod.clone());
    }

    pub(super) fn is_known(&self, pod: &Name) -> bool {
        self.known.borrow().contains(pod)
    }

    /// A run begins in it. Whoever still had to remove what another has left there leaves
    /// that to this one.
    pub(super) fn claim(&self, pod: &Name) {
        self.last_claim.set(self.last_claim.get() + 1);
        self.claims.borrow_mut().insert(pod.clone(), self.last_claim.get());
    }

    /// By which it is seen whether another has begun there since.
    pub(super) fn last_claim(&self, pod: &Name) -> Option<u64> {
        self.claims.borrow().get(pod).copied()
    }

    /// There is none any more.
    pub(super) fn forget(&self, pod: &Name) {
        self.known.borrow_mut().remove(pod);
        self.claims.borrow_mut().remove(pod);
        self.turns.borrow_mut().retain(|name, turn| name != pod || Arc::strong_count(turn) > 1);
    }
}
