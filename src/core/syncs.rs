//! Who waits for a pass to settle. A sync is first waiting for a pass to begin,
//! then for it to end, then for the pods that had work to do in it.

use std::collections::BTreeSet;
use std::mem;

use super::event::Ticket;
use super::spec::Name;

/// All syncs that have not been answered.
#[derive(Debug, Default)]
pub(super) struct Syncs {
    next: Vec<Ticket>,
    current: Vec<Ticket>,
    settling: Vec<Settling>,
}

#[derive(Debug)]
struct Settling {
    tickets: Vec<Ticket>,
    pods: BTreeSet<Name>,
}

impl Syncs {
    /// A sync waits for the next pass that begins.
    pub(super) fn add(&mut self, ticket: Ticket) {
        self.next.push(ticket);
    }

    /// A pass began: it is the one that all so far have waited for.
    pub(super) fn pass_began(&mut self) {
        self.current.append(&mut self.next);
    }

    /// Whether anybody wants to know which pods have work to do.
    pub(super) fn is_awaiting_pass(&self) -> bool {
        !self.current.is_empty()
    }

    /// The pass is over and left these pods with work to do.
    pub(super) fn pass_ended(&mut self, pods: BTreeSet<Name>) -> Vec<Ticket> {
        self.settling.push(Settling { tickets: mem::take(&mut self.current), pods });
        self.take_settled()
    }

    /// This pod has no more work to do. Returns the syncs that are complete.
    pub(super) fn pod_settled(&mut self, pod: &Name) -> Vec<Ticket> {
        if self.settling.is_empty() {
            return Vec::new();
        }
        for group in &mut self.settling {
            group.pods.remove(pod);
        }
        self.take_settled()
    }

    /// No other pass will begin. Returns the syncs that wait for one.
    pub(super) fn refuse_waiting(&mut self) -> Vec<Ticket> {
        mem::take(&mut self.next)
    }

    /// Nobody waits for this ticket any more.
    pub(super) fn abandon(&mut self, ticket: Ticket) {
        let groups = self.settling.iter_mut().map(|group| &mut group.tickets);
        for tickets in groups.chain([&mut self.next, &mut self.current]) {
            tickets.retain(|waiting| *waiting != ticket);
        }
    }

    fn take_settled(&mut self) -> Vec<Ticket> {
        let is_settled = |group: &mut Settling| group.pods.is_empty();
        self.settling.extract_if(.., is_settled).flat_map(|group| group.tickets).collect()
    }
}
