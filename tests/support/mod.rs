//! A port program under test, and a client that speaks frames to it.

#![expect(dead_code, reason = "each test file uses its own part of this")]

pub(crate) mod machine;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use erlang_term_format::{Term, text};

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running `tank port`, ended when dropped.
pub(crate) struct Port {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    next_id: i64,
    notices: Vec<i64>,
    /// The greeting's map.
    pub(crate) hello: Term<'static>,
}

impl Port {
    /// Starts the program and shakes hands.
    pub(crate) fn start(args: &[&str]) -> Self {
        let mut port = Self::start_without_greeting(args);
        port.send("{hello, #{protocol => 1, client => <<\"test\">>}}");
        port
    }

    /// Starts the program and shakes hands as a client that takes chunks.
    pub(crate) fn start_chunked(args: &[&str], chunk_bytes: usize) -> Self {
        let mut port = Self::start_without_greeting(args);
        port.send(&format!("{{hello, #{{protocol => 1, chunk_bytes => {chunk_bytes}}}}}"));
        port
    }

    /// Starts the program by another command and shakes hands.
    pub(crate) fn start_by(command: &mut Command) -> Self {
        let mut port = Self::greeted(spawn_by(command));
        port.send("{hello, #{protocol => 1, client => <<\"test\">>}}");
        port
    }

    /// Starts the program and reads its greeting, without answering it.
    pub(crate) fn start_without_greeting(args: &[&str]) -> Self {
        Self::greeted(spawn(args))
    }

    fn greeted(mut child: Child) -> Self {
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().expect("stdout is piped");
        let mut port =
            Self { child, stdin, stdout, next_id: 0, notices: Vec::new(), hello: Term::nil() };
        let hello = port.recv();
        match hello.as_tuple() {
            Some([tag, about]) if tag.is_atom("hello") => port.hello = about.clone(),
            _ => panic!("expected a greeting, got {hello}"),
        }
        port
    }

    /// The program's pid.
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("pids are small")
    }

    /// The most memory that the program ever had.
    pub(crate) fn peak_memory_kib(&self) -> u64 {
        self.status_kib("VmHWM:")
    }

    /// The memory that the program has.
    pub(crate) fn memory_kib(&self) -> u64 {
        self.status_kib("VmRSS:")
    }

    fn status_kib(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let status = status.expect("the port lives");
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        kib.and_then(|kib| kib.parse().ok()).expect("a number of kB")
    }

    /// Bytes that were sent and that the program has not read.
    pub(crate) fn unread_by_program(&self) -> u64 {
        let stdin = self.stdin.as_ref().expect("stdin is open");
        rustix::io::ioctl_fionread(stdin).expect("a pipe knows")
    }

    /// The program's stdin and stdout, for a client of another kind.
    pub(crate) fn pipes(&self) -> (File, File) {
        let stdin = self.stdin.as_ref().expect("stdin is open").as_fd().try_clone_to_owned();
        let stdout = self.stdout.as_fd().try_clone_to_owned();
        (stdin.expect("a descriptor").into(), stdout.expect("a descriptor").into())
    }

    /// Sends a term in Erlang's text form.
    pub(crate) fn send(&mut self, source: &str) {
        let term = text::parse(source).expect("the test's term is well-formed");
        self.send_bytes(&erlang_term_format::encode(&term));
    }

    /// Sends a frame of any bytes.
    pub(crate) fn send_bytes(&mut self, payload: &[u8]) {
        self.send_raw(&frame(payload));
    }

    /// Sends bytes without a frame around them.
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        self.stdin.as_mut().expect("stdin is open").write_all(bytes).expect("the port reads");
    }

    /// The next frame's term.
    pub(crate) fn recv(&mut self) -> Term<'static> {
        let mut header = [0; 4];
        self.stdout.read_exact(&mut header).expect("the port answers");
        let mut payload = vec![0; u32::from_be_bytes(header) as usize];
        self.stdout.read_exact(&mut payload).expect("the frame is whole");
        let term = erlang_term_format::decode(&payload).expect("the port sends terms").into_owned();
        if let Some([tag, seq, _]) = term.as_tuple()
            && tag.is_atom("notice")
        {
            self.notices.push(seq.as_i64().expect("a number"));
        }
        term
    }

    /// The numbers of all notices that have come so far.
    pub(crate) fn notices_heard(&self) -> &[i64] {
        &self.notices
    }

    /// The pipe to the program, to write to by oneself.
    pub(crate) fn take_stdin(&mut self) -> std::os::fd::OwnedFd {
        self.stdin.take().expect("stdin is open").into()
    }

    /// Whether the program waits for something.
    pub(crate) fn is_asleep(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()));
        let stat = stat.expect("the port lives");
        let (_, state) = stat.rsplit_once(") ").expect("a name in brackets, then the state");
        state.starts_with('S')
    }

    /// Asks and waits for the answer; notices in between are dropped.
    pub(crate) fn call(&mut self, op: &str, args: &str) -> Result<Term<'static>, Term<'static>> {
        let id = self.ask(op, args);
        self.answer(id)
    }

    /// Asks without waiting.
    pub(crate) fn ask(&mut self, op: &str, args: &str) -> i64 {
        self.next_id += 1;
        self.send(&format!("{{{}, {op}, {args}}}", self.next_id));
        self.next_id
    }

    /// Waits for the first answer to any of `ids`, and says to which.
    pub(crate) fn first_answer(
        &mut self,
        ids: &[i64],
    ) -> (i64, Result<Term<'static>, Term<'static>>) {
        loop {
            let frame = self.recv();
            let Some([head, body]) = frame.as_tuple() else { continue };
            if let Some(id) = head.as_i64().filter(|id| ids.contains(id)) {
                return (id, result(body));
            }
        }
    }

    /// Waits for the answer to `id`.
    pub(crate) fn answer(&mut self, id: i64) -> Result<Term<'static>, Term<'static>> {
        self.first_answer(&[id]).1
    }

    /// Waits for the program to ask for `op`; the id to answer under.
    pub(crate) fn asked(&mut self, op: &str) -> i64 {
        loop {
            let frame = self.recv();
            if let Some([id, found, _]) = frame.as_tuple()
                && found.is_atom(op)
            {
                return id.as_i64().expect("a request has an id");
            }
        }
    }

    /// The error that answers a request.
    pub(crate) fn error(&mut self, op: &str, args: &str) -> Term<'static> {
        self.call(op, args).expect_err("the request is refused")
    }

    /// The value that answers a request.
    pub(crate) fn ok(&mut self, op: &str, args: &str) -> Term<'static> {
        self.call(op, args).unwrap_or_else(|error| panic!("{op} {args}: {error}"))
    }

    /// The error that is told under id 0.
    pub(crate) fn told(&mut self) -> Term<'static> {
        let frame = self.recv();
        match frame.as_tuple() {
            Some([head, body]) if head.as_i64() == Some(0) => {
                result(body).expect_err("id 0 carries errors only")
            }
            _ => panic!("expected an error under id 0, got {frame}"),
        }
    }

    /// Closes stdin, as a dying BEAM does.
    pub(crate) fn hang_up(&mut self) {
        self.stdin = None;
    }

    /// Waits for the program to end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the port ends", || {
            status = self.child.try_wait().expect("the port is our child");
            status.is_some()
        });
        status.expect("the loop ends with a status")
    }

    /// Kills the program as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("the port is our child");
        self.child.wait().expect("the port is our child");
    }

    /// Sends a signal to the program.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("the port lives");
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.stdin = None;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A frame of any bytes.
pub(crate) fn frame(payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a small frame");
    [&length.to_be_bytes()[..], payload].concat()
}

fn result(body: &Term<'static>) -> Result<Term<'static>, Term<'static>> {
    match body.as_tuple() {
        Some([tag, value]) if tag.is_atom("ok") => Ok(value.clone()),
        Some([tag, value]) if tag.is_atom("error") => Err(value.clone()),
        _ => panic!("not a result: {body}"),
    }
}

/// Starts the program and nothing more.
pub(crate) fn spawn(args: &[&str]) -> Child {
    spawn_by(Command::new(env!("CARGO_BIN_EXE_tank")).arg("port").args(args))
}

fn spawn_by(command: &mut Command) -> Child {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts")
}

/// Runs the program until it ends by itself; its exit code and only frame.
pub(crate) fn refused(args: &[&str]) -> (i32, Term<'static>) {
    refused_by(Command::new(env!("CARGO_BIN_EXE_tank")).arg("port").args(args))
}

/// The same by another command.
pub(crate) fn refused_by(command: &mut Command) -> (i32, Term<'static>) {
    let mut child = spawn_by(command);
    let mut bytes = Vec::new();
    child.stdout.take().expect("piped").read_to_end(&mut bytes).expect("stdout ends");
    let status = child.wait().expect("the program is our child");
    let term = erlang_term_format::decode(&bytes[4..]).expect("one frame").into_owned();
    match term.as_tuple() {
        Some([tag, error]) if tag.is_atom("error") => {
            (status.code().expect("it exits"), error.clone())
        }
        _ => panic!("expected an error, got {term}"),
    }
}

/// Waits until `check` holds.
pub(crate) fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !check() {
        assert!(Instant::now() < deadline, "never came true: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Whether a process is there and has not ended.
pub(crate) fn is_alive(pid: i32) -> bool {
    let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
    rustix::process::test_kill_process(pid).is_ok()
        && !std::fs::read_to_string(format!("/proc/{pid}/stat"))
            .is_ok_and(|stat| stat.contains(") Z "))
}

/// The code of an error.
pub(crate) fn code(error: &Term<'_>) -> String {
    error.get("code").and_then(Term::as_atom).unwrap_or_default().to_owned()
}

/// The message of an error.
pub(crate) fn message(error: &Term<'_>) -> String {
    error.get("message").and_then(Term::as_str).unwrap_or_default().to_owned()
}

/// A place an error names.
pub(crate) fn place(error: &Term<'_>, place: &str) -> String {
    let place = error.get("where").and_then(|at| at.get(place)).and_then(Term::as_str);
    place.unwrap_or_default().to_owned()
}

/// Whether tests that need root can run; says so when not.
pub(crate) fn is_root(test: &str) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        // Not `eprintln!`, which the test harness would swallow.
        let _ = writeln!(std::io::stderr(), "skipped: needs root: {test}");
    }
    is_root
}

/// A root file system with busybox in it.
pub(crate) fn rootfs(dir: &Path) -> PathBuf {
    let rootfs = dir.join("rootfs");
    std::fs::create_dir_all(rootfs.join("bin")).expect("the directory is ours");
    std::fs::copy("/bin/busybox", rootfs.join("bin/busybox")).expect("busybox is installed");
    for applet in ["sh", "sleep", "true", "false", "cat", "id"] {
        std::os::unix::fs::symlink("busybox", rootfs.join("bin").join(applet)).expect("a new link");
    }
    rootfs
}
