//! The app under attack: a BEAM that runs `app.exs`. Sends it commands and takes its
//! answers; knows nothing of what they mean.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use super::repository;

/// What a BEAM is started with.
#[derive(Debug)]
pub(crate) struct Setting {
    /// Where the test has everything.
    pub(crate) dir: PathBuf,
    pub(crate) cgroup_parent: String,
}

/// A BEAM that runs.
#[derive(Debug)]
pub(crate) struct App {
    child: Child,
    stdin: ChildStdin,
    answers: Receiver<String>,
}

impl App {
    pub(crate) fn start(setting: &Setting) -> Self {
        let log = File::options().create(true).append(true).open(setting.dir.join("stderr"));
        let mut child = Command::new("elixir")
            .args(["-pa", &path(&setting.dir.join("ebin"))])
            .arg(repository().join("tests/chaos/app.exs"))
            .args([&path(&setting.dir), env!("CARGO_BIN_EXE_tank"), &setting.cgroup_parent])
            .env("TANK_LOG", "info")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log.expect("the directory is ours"))
            .spawn()
            .expect("elixir is installed");
        let stdin = child.stdin.take().expect("it is piped");
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let (sender, answers) = channel();
        // Ends with the BEAM.
        std::thread::spawn(move || pass_on(stdout, &sender));
        Self { child, stdin, answers }
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("pids are small")
    }

    /// Sends a command. One to a BEAM that is dead gets no answer, as so many do.
    pub(crate) fn send(&mut self, id: u64, command: &str) {
        let _ = writeln!(self.stdin, "{id} {command}");
    }

    /// The next answer, with the id of the command; `None` when none has come in time.
    pub(crate) fn answer(&self, patience: Duration) -> Option<(u64, String)> {
        let line = match self.answers.recv_timeout(patience) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => return None,
            Err(RecvTimeoutError::Disconnected) => {
                // Dead, and its end will be noticed: no reason to spin until then.
                std::thread::sleep(patience);
                return None;
            }
        };
        let (id, answer) = line.split_once(' ')?;
        Some((id.parse().ok()?, answer.to_owned()))
    }

    /// Whether it has ended.
    pub(crate) fn is_over(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_some()
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it is our child");
        self.child.wait().expect("it is our child");
    }

    /// Lets it end in order: the tree stops, and so do the pods.
    pub(crate) fn close(self) -> Child {
        self.child
    }
}

fn pass_on(stdout: impl BufRead, answers: &Sender<String>) {
    for line in stdout.lines().map_while(Result::ok) {
        if answers.send(line).is_err() {
            return;
        }
    }
}

/// Compiles the Elixir client.
pub(crate) fn compile_client(to: &Path) {
    std::fs::create_dir_all(to).expect("the directory is ours");
    let mut sources = Vec::new();
    let mut dirs = vec![repository().join("elixir_client/lib")];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).expect("it is there").flatten() {
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_dir { dirs.push(entry.path()) } else { sources.push(entry.path()) }
        }
    }
    let status = Command::new("elixirc").arg("-o").arg(to).args(sources).status();
    assert!(status.expect("elixir is installed").success());
}

fn path(path: &Path) -> String {
    path.display().to_string()
}
