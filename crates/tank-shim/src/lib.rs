//! What the daemon needs to talk to a shim: the protocol's types, its frames,
//! the record of an exit, and how a shim is started. The shim itself, which
//! supervises one pod and holds no policy, is the binary of this package.
#![forbid(unsafe_code)]

pub mod frame;
pub mod protocol;
pub mod record;
pub mod spawn;

pub use spawn::spawn;
