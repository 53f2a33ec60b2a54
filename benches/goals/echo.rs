//! The peer of a call over pipes: an echo in C (`echo.c`), compiled when it is
//! needed.

use std::io;
use std::path::Path;
use std::process::Command;

use crate::child::FrameChild;

/// What the table calls it.
pub(crate) const NAME: &str = "C echo";

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/goals/echo.c");

/// Starts the peer: each frame is answered with itself.
pub(crate) fn spawn() -> io::Result<FrameChild> {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("echo");
    let status = Command::new("cc").args(["-O2", "-o"]).arg(&program).arg(SOURCE).status()?;
    if !status.success() {
        return Err(io::Error::other(format!("compile {SOURCE}: cc: {status}")));
    }
    FrameChild::spawn(&mut Command::new(program))
}
