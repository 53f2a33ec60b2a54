//! Tank keeps containers running the way plain data says they should run.
//!
//! [`core`] decides and never acts; everything else acts and never decides.
//! `ARCHITECTURE.md` is the map.

pub mod cli;
pub mod core;
pub mod daemon;
mod os_words;
mod poll;
pub mod port;
pub mod runtime;
pub mod store;
