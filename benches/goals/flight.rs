//! Many calls at once: a client that keeps a thousand unanswered.

use std::io;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{ioctl_fionbio, read, write};

use crate::child::FrameChild;

/// Calls that have not been answered, at most.
const WINDOW: usize = 1_000;

/// Calls of one flight.
const CALLS: usize = 50_000;

/// Bytes read at once.
const READ_BYTES: usize = 1 << 20;

/// Sends calls without waiting for answers, as far as the window goes; what one
/// took on average, as a sample of one. One thread writes and reads all that a
/// pipe has room for or holds, whenever it does: it costs the server no more
/// than it must. All calls are the same frame, and so are the answers, each as
/// long as its call: they are counted by their bytes.
pub(crate) fn fly(server: &mut FrameChild, call: &[u8]) -> io::Result<Vec<Duration>> {
    let calls = call.repeat(WINDOW + 1);
    let mut answers = vec![0; READ_BYTES];
    let (to, from) = server.pipes();
    ioctl_fionbio(to, true)?;
    let (mut sent, mut answered) = (0, 0);
    let start = Instant::now();
    while answered < CALLS * call.len() {
        let window = (answered / call.len() + WINDOW).min(CALLS) * call.len() - sent;
        let wanted = if window > 0 { PollFlags::OUT } else { PollFlags::empty() };
        let mut fds = [PollFd::new(&from, PollFlags::IN), PollFd::new(&to, wanted)];
        poll(&mut fds, None)?;
        let [is_readable, is_writable] = fds.map(|fd| !fd.revents().is_empty());
        if is_readable {
            match read(from, &mut answers)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => answered += count,
            }
        }
        if is_writable {
            let next = sent % call.len();
            sent += write(to, &calls[next..next + window])?;
        }
    }
    let took = start.elapsed();
    ioctl_fionbio(to, false)?;
    Ok(vec![took / u32::try_from(CALLS).expect("a small number")])
}
