//! What the daemon needs to talk to a shim: the protocol's types, its frames,
//! the record of an exit, the program that is sealed and how a shim is started from it, and how cgroups
//! are removed. The shim itself, which supervises one pod and holds no policy, is the binary of this
//! package.
#![forbid(unsafe_code)]

pub mod cgroup_tree;
pub mod frame;
pub mod program;
pub mod protocol;
pub mod record;
pub mod spawn;

pub use program::Program;
pub use spawn::spawn;
