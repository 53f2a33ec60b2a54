//! The wire: frames of Erlang terms on a pair of pipes (`docs/protocol.md`).
//!
//! [`stdio`] guards the descriptors, [`frame`] cuts the byte stream,
//! [`message`] knows the envelopes, [`translate`] turns the core's values into
//! terms and requests into the core's events, and [`session`] holds what one
//! client is owed: its unanswered requests ([`in_flight`]) and its [`outbox`].
//! [`trace`] shows what passes. Nothing in here decides about pods.

pub mod frame;
pub mod in_flight;
pub mod message;
pub mod outbox;
pub mod session;
pub mod stdio;
pub mod trace;
pub mod translate;
