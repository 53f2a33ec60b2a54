//! A peer in a process of its own, which takes tasks line by line and keeps its own time.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

/// Where this program's other parts are.
const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/goals/codec");

/// A peer that waits for tasks. Dropped, it is hung up on and waited for.
pub(super) struct Peer {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Peer {
    /// Compiles the peer that uses `ei` into `dir`, and starts it on the frames there.
    pub(super) fn ei(dir: &Path) -> io::Result<Self> {
        let program = dir.join("ei");
        let mut compiler = Command::new("cc");
        compiler.args(["-O2", "-o"]).arg(&program).arg(format!("{SOURCE}/ei.c"));
        let status = compiler.args(["-lei", "-lpthread"]).status()?;
        if !status.success() {
            return Err(io::Error::other(format!("cc of the peer that uses ei: {status}")));
        }
        Self::start(Command::new(program).arg(dir))
    }

    /// Starts the BEAM on the frames in `dir`.
    pub(super) fn beam(dir: &Path) -> io::Result<Self> {
        Self::start(Command::new("elixir").arg(format!("{SOURCE}/beam.exs")).arg(dir))
    }

    fn start(command: &mut Command) -> io::Result<Self> {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0).spawn()?;
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        Ok(Self { child, stdin, stdout })
    }

    /// How long a task took: `decode`, `encode` or `check` of a frame, so many times; `borrow` is
    /// `ei`'s alone.
    pub(super) fn run(&mut self, task: &str, frame: &str, count: u32) -> io::Result<Duration> {
        let stdin = self.stdin.as_mut().expect("open until dropped");
        writeln!(stdin, "{task} {frame} {count}")?;
        let mut answer = String::new();
        self.stdout.read_line(&mut answer)?;
        let nanos = answer.trim().parse();
        let said = |_| io::Error::other(format!("a peer answered {task} {frame} with {answer:?}"));
        nanos.map(Duration::from_nanos).map_err(said)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.stdin = None;
        // It has been hung up on, and there is nobody to tell.
        let _ = self.child.wait();
    }
}
