//! What the daemon needs to talk to a shim: the protocol's types, its frames,
//! the record of an exit, how a shim is started, and how cgroups are removed. The shim itself, which
//! supervises one pod and holds no policy, is the binary of this package.
#![forbid(unsafe_code)]

pub mod cgroup_tree;
pub mod frame;
pub mod protocol;
pub mod record;
pub mod spawn;

pub use spawn::spawn;
