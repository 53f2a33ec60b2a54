//! The reconcile loop as a pure state machine.
//!
//! Events go in with `now`; actions, replies, notices and the next deadline
//! come out. Nothing in here does IO, reads a clock, starts a thread or draws a
//! random number, and no answer depends on hash order: the same events give the
//! same outputs, under the daemon, the simulator and the text cases alike.
//!
//! # Driving it
//!
//! A driver owns a [`Reconciler`](reconciler::Reconciler), feeds it one event at
//! a time, and after each event drains what came out, in this order, so that no
//! reply overtakes a notice of what happened before it:
//!
//! ```
//! use tank::core::{event::Event, reconciler::{Config, Reconciler}, time::Millis};
//!
//! fn drain(core: &mut Reconciler) -> Option<Millis> {
//!     while let Some(_command) = core.poll_command() { /* hand it to a worker */ }
//!     while let Some(_notice) = core.poll_notice() { /* tell the subscribers */ }
//!     while let Some(_reply) = core.poll_reply() { /* answer the client */ }
//!     core.poll_deadline() // sleep until then, or until the next event
//! }
//!
//! let mut core = Reconciler::new(Config::default(), Millis(0));
//! drain(&mut core); // the first command asks what the store and the runtime hold
//! core.handle(Millis(5), Event::Nudged);
//! assert_eq!(drain(&mut core), None); // still waiting for the first observation
//! ```
//!
//! The driver keeps four promises. Every [`Command::Act`](action::Command::Act)
//! finishes exactly once, with [`Event::Finished`](event::Event::Finished) and
//! its id. Writes are carried out in the order they were given. An observation
//! shows one moment that is not before its command. And `now` is the boot
//! clock. All else may be late, lost, repeated or out of order: a lost notice
//! is made good by the next resync, a repeated or stale one is ignored.
//!
//! # How it decides
//!
//! Each pod is a small state machine of its own (`pod`), and every decision is
//! one line of one table (`plan`): what the pod is doing now against what is
//! wanted of it. An event only records what happened; the table then says what
//! to do, so that it does not matter which event told the core of a change.
//!
//! | Module | Owns |
//! |---|---|
//! | [`reconciler`] | the entry point: requests, outcomes, passes |
//! | `pod` | one pod: its run, its retries, its status |
//! | `plan` | the table of decisions |
//! | `backoff` | how long to wait, and after which exits |
//! | `resync` | when the next full pass is due |
//! | `syncs` | who waits for a pass to settle |
//! | `awaits` | who waits for a pod to reach a state |
//! | [`forecast`] | what an apply would come to |
//! | `versions` | which revision of the store is known |
//! | `sightings` | observed runs against tracked ones, cheaply |
//! | `effects` | what is to go out, and what is in flight |
//! | [`trail`] | which transitions have been taken, for a simulation |

pub mod action;
mod awaits;
mod backoff;
mod effects;
pub mod event;
pub mod failure;
pub mod forecast;
pub mod journal;
mod plan;
mod pod;
pub mod reconciler;
mod resync;
mod sightings;
pub mod spec;
pub mod status;
mod syncs;
pub mod time;
pub mod trail;
mod versions;
