//! The tools for a person who looks at the wire, as programs: what goes in,
//! what comes out, and how each ends.

mod decode;
mod encode;
mod program;
mod script;
#[path = "../support/mod.rs"]
mod support;
mod terminal;
