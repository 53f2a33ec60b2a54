//! Tank keeps containers running the way plain data says they should run.
//!
//! [`core`] decides and never acts; everything else acts and never decides.
//! `ARCHITECTURE.md` is the map.
#![deny(unsafe_code)]

pub mod cli;
pub mod core;
pub mod daemon;
mod excerpt;
mod os_words;
#[expect(unsafe_code, reason = "tokio registers descriptors by an unsafe call")]
mod poll;
pub mod port;
pub mod runtime;
pub mod store;
pub mod tools;
