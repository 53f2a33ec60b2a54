//! The store on a thread of its own.
//!
//! A commit waits for the disk, so the loop never makes one itself. Orders are
//! carried out in the order given; writes and entries of journals that pile up
//! behind a commit go into the next one together.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use tokio::sync::mpsc::UnboundedSender;

use crate::core::action::Write;
use crate::core::event::{ActionId, DesiredChange, Event, Outcome, Revision, Ticket};
use crate::core::failure::Failure;
use crate::core::journal::Entry;
use crate::core::spec::Name;
use crate::core::time::Moment;
use crate::store::{Change, Store, StoreError};

use super::clock;

/// Most changes in one commit.
const BATCH_MAX: usize = 256;

/// What the store has to say.
#[derive(Debug)]
pub(super) enum StoreNews {
    /// An event for the core.
    Event(Event),
    /// The half of an observation that the store knows; the runtime has the
    /// other.
    Looked(ActionId, Option<DesiredChange>),
    /// A pod's journal, for the client that waits under this ticket; none of a
    /// pod that is not stored.
    Journal(Ticket, Name, Result<Option<Vec<Entry>>, Failure>),
}

enum Order {
    Persist(ActionId, Write),
    Note(Name, Entry),
    Look(ActionId, Revision),
    ReadJournal(Ticket, Name),
}

/// The loop's end of the store. Whoever drops it waits until all is carried out.
#[derive(Debug)]
pub(super) struct StoreThread {
    /// Taken by the end.
    orders: Option<Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

impl StoreThread {
    /// Moves `store` to a thread. The thread ends with this value.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub(super) fn spawn(
        store: Box<dyn Store>,
        news: UnboundedSender<StoreNews>,
    ) -> io::Result<Self> {
        let (orders, inbox) = channel();
        let serve = move || Service { store, news, has_warned: false }.serve(&inbox);
        let thread = thread::Builder::new().name("store".into()).spawn(serve)?;
        Ok(Self { orders: Some(orders), thread: Some(thread) })
    }

    /// Makes a write durable; ends in `Persisted`.
    pub(super) fn persist(&self, action: ActionId, mut write: Write) {
        if let Write::PutVerdict(_, _, verdict) = &mut write {
            // The only time that still means something after a reboot.
            verdict.last.at = verdict.last.at.map(|at| Moment::Wall(clock::wall_ms(at)));
        }
        self.order(Order::Persist(action, write));
    }

    /// Adds to a pod's journal. Nobody is told what comes of it.
    pub(super) fn note(&self, pod: Name, entry: Entry) {
        self.order(Order::Note(pod, entry));
    }

    /// Says what changed since a revision.
    pub(super) fn look(&self, action: ActionId, since: Revision) {
        self.order(Order::Look(action, since));
    }

    /// Says what a pod's journal holds.
    pub(super) fn read_journal(&self, ticket: Ticket, pod: Name) {
        self.order(Order::ReadJournal(ticket, pod));
    }

    fn order(&self, order: Order) {
        let orders = self.orders.as_ref().expect("only the end takes them");
        orders.send(order).expect("the store thread lives as long as its orders do");
    }
}

impl Drop for StoreThread {
    fn drop(&mut self) {
        drop(self.orders.take());
        // One that has panicked has said so.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// The thread's end of the store.
struct Service {
    store: Box<dyn Store>,
    news: UnboundedSender<StoreNews>,
    /// Whether it was said that journals are not kept, and they are not yet.
    has_warned: bool,
}

impl Service {
    fn serve(mut self, inbox: &Receiver<Order>) {
        let mut held = None;
        while let Some(order) = held.take().or_else(|| inbox.recv().ok()) {
            match order {
                Order::Persist(..) | Order::Note(..) => held = self.commit(order, inbox),
                Order::Look(action, since) => self.look(action, since),
                Order::ReadJournal(ticket, pod) => {
                    let entries = self.store.journal(&pod).map_err(Into::into);
                    let _ = self.news.send(StoreNews::Journal(ticket, pod, entries));
                }
            }
        }
    }

    /// Commits this and what is to be committed next, up to an order of another
    /// kind, which it hands back.
    fn commit(&mut self, first: Order, inbox: &Receiver<Order>) -> Option<Order> {
        let (mut actions, mut changes) = (Vec::new(), Vec::new());
        let mut next = Some(first);
        while let Some(order) = next.take() {
            match order {
                Order::Persist(action, write) => {
                    actions.push(action);
                    changes.push(Change::Write(write));
                }
                Order::Note(pod, entry) => changes.push(Change::Note(pod, entry)),
                other => {
                    next = Some(other);
                    break;
                }
            }
            if changes.len() < BATCH_MAX {
                next = inbox.try_recv().ok();
            }
        }
        self.commit_all(actions, &changes);
        next
    }

    fn commit_all(&mut self, actions: Vec<ActionId>, changes: &[Change]) {
        let committed = self.store.commit_at(clock::unix_ms(clock::now()), changes);
        assert_eq!(committed.answers.len(), actions.len(), "a store answers every write");
        for (action, result) in actions.into_iter().zip(committed.answers) {
            let outcome = Outcome::Persisted(result.map_err(Into::into));
            let _ = self.news.send(StoreNews::Event(Event::Finished(action, outcome)));
        }
        self.warn_once(committed.journal);
    }

    /// A disk that is full would have this said for each thing that happens.
    fn warn_once(&mut self, journal: Result<(), StoreError>) {
        match journal {
            Err(error) if !self.has_warned => {
                tracing::warn!(%error, "events of pods are not kept until the store can be written again");
                self.has_warned = true;
            }
            Err(_) => {}
            Ok(()) => self.has_warned = false,
        }
    }

    fn look(&mut self, action: ActionId, since: Revision) {
        let change = self.store.changes_since(since).unwrap_or_else(|error| {
            tracing::error!(%error, "the store could not be read; keeping what is known");
            None
        });
        let _ = self.news.send(StoreNews::Looked(action, change));
    }
}
