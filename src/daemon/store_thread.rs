//! The store on a thread of its own.
//!
//! A commit waits for the disk, so the loop never makes one itself. Orders are
//! carried out in the order given; writes that pile up behind a commit go into
//! the next one together.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use tokio::sync::mpsc::UnboundedSender;

use crate::core::action::Write;
use crate::core::event::{ActionId, DesiredChange, Event, Outcome, Revision};
use crate::store::Store;

/// Most writes in one commit.
const BATCH_MAX: usize = 256;

/// What the store has to say.
#[derive(Debug)]
pub(super) enum StoreNews {
    /// An event for the core.
    Event(Event),
    /// The half of an observation that the store knows; the runtime has the
    /// other.
    Looked(ActionId, Option<DesiredChange>),
}

enum Order {
    Persist(ActionId, Write),
    Look(ActionId, Revision),
}

/// The loop's end of the store.
#[derive(Debug)]
pub(super) struct StoreThread {
    orders: Sender<Order>,
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
        thread::Builder::new().name("store".into()).spawn(move || serve(store, &inbox, &news))?;
        Ok(Self { orders })
    }

    /// Makes a write durable; ends in `Persisted`.
    pub(super) fn persist(&self, action: ActionId, write: Write) {
        self.order(Order::Persist(action, write));
    }

    /// Says what changed since a revision.
    pub(super) fn look(&self, action: ActionId, since: Revision) {
        self.order(Order::Look(action, since));
    }

    fn order(&self, order: Order) {
        self.orders.send(order).expect("the store thread lives as long as its orders do");
    }
}

fn serve(mut store: Box<dyn Store>, inbox: &Receiver<Order>, news: &UnboundedSender<StoreNews>) {
    let mut held = None;
    while let Some(order) = held.take().or_else(|| inbox.recv().ok()) {
        match order {
            Order::Persist(action, write) => {
                let mut batch = vec![(action, write)];
                while batch.len() < BATCH_MAX {
                    match inbox.try_recv() {
                        Ok(Order::Persist(action, write)) => batch.push((action, write)),
                        Ok(other) => {
                            held = Some(other);
                            break;
                        }
                        Err(_) => break,
                    }
                }
                commit(&mut *store, batch, news);
            }
            Order::Look(action, since) => {
                let change = store.changes_since(since).unwrap_or_else(|error| {
                    tracing::error!(%error, "the store could not be read; keeping what is known");
                    None
                });
                let _ = news.send(StoreNews::Looked(action, change));
            }
        }
    }
}

fn commit(store: &mut dyn Store, batch: Vec<(ActionId, Write)>, news: &UnboundedSender<StoreNews>) {
    let (actions, writes): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
    let results = store.commit(&writes);
    assert_eq!(results.len(), actions.len(), "a store answers every write");
    for (action, result) in actions.into_iter().zip(results) {
        let outcome = Outcome::Persisted(result.map_err(Into::into));
        let _ = news.send(StoreNews::Event(Event::Finished(action, outcome)));
    }
}
