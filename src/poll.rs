//! Descriptors in tokio's poll set. The only unsafe code of this package, in a
//! module made for it.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

/// Registers a descriptor with the runtime that runs this.
///
/// # Errors
/// Those of epoll_ctl(2); `EPERM` for a regular file.
///
/// # Panics
/// Outside a runtime.
pub(crate) fn register(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open and stays the same descriptor for as long as
    // it lives, and the `AsyncFd` that takes it over lends it out by shared
    // reference only: nobody here calls `get_mut`.
    let registered = unsafe { AsyncFd::register(fd) };
    registered.map_err(Into::into)
}
