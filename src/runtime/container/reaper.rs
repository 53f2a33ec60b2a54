//! Collects every child that has died. The program is a subreaper, so the
//! processes that shims are made by, the shims and whatever outlives its parent
//! below them become its children, whether or not anybody waits for them.

use std::io;

use rustix::process::{WaitId, WaitIdOptions, waitid};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::spawn_local;

/// Collects the dead for as long as the loop lives.
///
/// # Errors
/// When the signal that tells of a death cannot be caught.
pub(crate) fn begin() -> io::Result<()> {
    let mut deaths = signal(SignalKind::child())?;
    spawn_local(async move {
        while deaths.recv().await.is_some() {
            // One signal may stand for several deaths.
            while let Ok(Some(_)) =
                waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
            {}
        }
    });
    Ok(())
}
