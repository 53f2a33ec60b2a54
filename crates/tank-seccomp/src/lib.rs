//! Seccomp profiles, and the programs that the kernel runs for them.
//!
//! A [`Profile`] is what docker and the OCI runtime specification write as JSON; [`Profile::default`]
//! is docker's own. [`compile`] makes of it, for a container's [`Circumstances`], a [`Filter`]: the
//! bytes of a classic BPF program that seccomp(2) takes. Nothing here calls the kernel.
#![forbid(unsafe_code)]

mod compile;
mod default;
mod machine;
mod profile;
mod program;

pub use compile::{Circumstances, CompileError, Filter, compile};
pub use machine::Machine;
pub use profile::{
    Action, Argument, Condition, Flag, Operator, ParseError, Profile, Rule, SubArchitectures,
};
pub use program::INSTRUCTIONS_MAX;
