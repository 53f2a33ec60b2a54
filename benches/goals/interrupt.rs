//! SIGINT and SIGTERM as an error that unwinds like any other, so that what was
//! mounted and made is removed. Children are in process groups of their own and
//! hear no Ctrl-C.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tokio::signal::unix::{SignalKind, signal};

static IS_INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Begins to listen.
pub(crate) fn listen() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let guard = runtime.enter();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    drop(guard);
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        });
        IS_INTERRUPTED.store(true, Ordering::Relaxed);
    });
    Ok(())
}

/// An error once a signal has come.
pub(crate) fn check() -> io::Result<()> {
    if IS_INTERRUPTED.load(Ordering::Relaxed) {
        return Err(io::Error::other("interrupted"));
    }
    Ok(())
}
