//! The reconcile loop as a pure state machine.
//!
//! Events go in with `now`; actions, replies, notices and the next deadline
//! come out. Nothing in here does IO, reads a clock, starts a thread or draws a
//! random number, and no answer depends on hash order: the same events give the
//! same outputs, under the daemon, the simulator and the text cases alike.

pub mod action;
pub mod event;
pub mod failure;
pub mod spec;
pub mod status;
pub mod time;
