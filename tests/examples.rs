//! The clients in `examples/`, each in a session with the built program: what
//! they print is what they were told.

mod support;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};

use support::{eventually, is_alive, is_root, rootfs};
use tempfile::TempDir;

/// What a client grants at first: hearing more takes granting more.
const CREDITS: usize = 6;

/// A client's session, line by line; `PID` is the run's, `*` is anything.
struct Dialect {
    calls: &'static [&'static str],
    started: &'static str,
    ended: &'static str,
    gone: &'static str,
}

const ERLANG: Dialect = Dialect {
    calls: &[
        "subscribe {ok,#{seq => 0}}",
        "apply {error,#{code => invalid_spec,*a pod has at least one container*}}",
        "apply {ok,#{changed => true,generation => 1}}",
        "sync {ok,nil}",
        "status {ok,#{<<\"web\">> => #{*host_pid => PID,*,status => running}}}",
        "kill {ok,nil}",
        "restart {ok,nil}",
        "delete {ok,nil}",
        "status {ok,#{}}",
        "exit 0",
    ],
    started: "{started,<<\"web\">>,1,PID}",
    ended: "{ended,<<\"web\">>,1,{signaled,9}}",
    gone: "{gone,<<\"web\">>}",
};

const PYTHON: Dialect = Dialect {
    calls: &[
        "subscribe {'seq': 0}",
        "apply invalid_spec: *a pod has at least one container",
        "apply {'generation': 1, 'changed': True}",
        "sync None",
        "status {b'web': {'status': 'running', *'host_pid': PID, *}}",
        "kill None",
        "restart None",
        "delete None",
        "status {}",
        "exit 0",
    ],
    started: "('started', b'web', 1, PID)",
    ended: "('ended', b'web', 1, ('signaled', 9))",
    gone: "('gone', b'web')",
};

#[test]
fn the_erlang_client_runs_a_container_and_hears_of_it_until_it_is_gone() {
    if !is_root("a container for the Erlang client") {
        return;
    }
    let scene = Scene::new();
    let pid = ERLANG.judge(&scene.session(erlang(), &[]));
    assert!(!is_alive(pid.parse().expect("a container has a pid")));
}

#[test]
fn the_erlang_client_carries_out_runs_of_its_own() {
    let scene = Scene::new();
    let pid = ERLANG.judge(&scene.session(erlang(), &["--runtime", "client"]));
    assert_eq!(pid, "nil", "an Erlang process has no pid of the host's");
}

#[test]
fn the_python_client_runs_a_container_and_hears_of_it_until_it_is_gone() {
    if !is_root("a container for the Python client") {
        return;
    }
    let scene = Scene::new();
    let pid = PYTHON.judge(&scene.session(python(), &[]));
    assert!(!is_alive(pid.parse().expect("a container has a pid")));
}

#[test]
fn a_client_shows_why_the_program_does_not_start() {
    for client in [erlang(), python()] {
        let scene = Scene::new();
        let (status, _, complaint) = scene.run(client, &["--interval-ms", "never"]);
        assert!(!status.success());
        assert!(complaint.contains("bad_option"), "{complaint}");
    }
}

#[test]
fn the_erlang_client_names_every_atom_that_the_protocol_lists() {
    let page = read("docs/protocol.md");
    let (_, listed) = page.split_once("\n## Atoms\n").expect("the page lists them");
    let listed = listed.split("\n## ").next().expect("a section");
    // Four blanks, a column of headings, the atoms.
    let listed: Vec<&str> = listed.lines().filter_map(|line| line.strip_prefix("    ")).collect();
    let listed: BTreeSet<&str> =
        listed.iter().flat_map(|line| line[12..].split_ascii_whitespace()).collect();

    let named = read("examples/tank_atoms.hrl");
    let named: Vec<&str> = named.lines().filter(|line| !line.trim().starts_with('%')).collect();
    let named = named.join(" ");
    let (_, named) = named.split_once('[').expect("a list");
    let (named, _) = named.rsplit_once(']').expect("a whole list");
    let named: BTreeSet<&str> = named.split(',').map(str::trim).collect();

    assert!(listed.len() > 150);
    let differing: Vec<_> = named.symmetric_difference(&listed).collect();
    assert!(differing.is_empty(), "{differing:?}");
}

impl Dialect {
    /// Compares a session with what it should be; the run's pid as printed.
    fn judge(&self, printed: &str) -> String {
        let (notices, calls): (Vec<&str>, Vec<&str>) =
            printed.lines().partition(|line| line.starts_with("notice "));
        let notices: Vec<&str> = notices.iter().enumerate().map(numbered).collect();
        let pid = self.pid(&notices);

        assert!(notices.len() > CREDITS, "{printed}");
        let [started, ended, gone] = [self.started, self.ended, self.gone]
            .map(|notice| notices.iter().position(|told| *told == notice.replace("PID", &pid)));
        assert!(started.is_some() && started < ended && ended < gone, "{printed}");

        assert_eq!(calls.len(), self.calls.len(), "{printed}");
        for (call, expected) in calls.iter().zip(self.calls) {
            let expected = expected.replace("PID", &pid);
            assert!(matches(call, &expected), "expected {expected}, got {call}");
        }
        pid
    }

    fn pid(&self, notices: &[&str]) -> String {
        let (before, after) = self.started.split_once("PID").expect("a pattern with a pid");
        let pid = |told: &&str| told.strip_prefix(before)?.strip_suffix(after).map(str::to_owned);
        notices.iter().find_map(pid).expect("the run is told to have started")
    }
}

/// A notice's text; its number must be the next one.
fn numbered<'a>((before, line): (usize, &&'a str)) -> &'a str {
    let number = format!("notice {} ", before + 1);
    line.strip_prefix(&number).unwrap_or_else(|| panic!("expected {number}, got {line}"))
}

/// Whether `text` is `pattern`, in which each `*` may be anything.
fn matches(text: &str, pattern: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return text == pattern };
    let Some(text) = text.strip_prefix(start) else { return false };
    text.char_indices().any(|(at, _)| matches(&text[at..], rest)) || matches("", rest)
}

/// A directory and a root file system for one session.
struct Scene {
    dir: TempDir,
    rootfs: PathBuf,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let rootfs = rootfs(dir.path());
        Self { dir, rootfs }
    }

    /// What a client prints in a session that goes well.
    fn session(&self, client: Command, options: &[&str]) -> String {
        let (status, printed, complaint) = self.run(client, options);
        assert!(status.success(), "{status}\n{printed}\n{complaint}");
        assert!(!self.dir.path().join("run").exists(), "the program takes its run directory along");
        printed
    }

    /// Runs a client to its end: its status, output and complaints.
    fn run(&self, mut client: Command, options: &[&str]) -> (ExitStatus, String, String) {
        let path = |name: &str| self.dir.path().join(name);
        let create = |name: &str| File::create(path(name)).expect("the directory is ours");
        client.arg(env!("CARGO_BIN_EXE_tank")).arg(&self.rootfs);
        client.args(["--store", "memory", "--on-disconnect", "stop", "--data-dir"]);
        client.arg(path("data")).arg("--run-dir").arg(path("run")).args(options);
        client.stdout(create("printed")).stderr(create("complaint"));
        let status = Running(client.spawn().unwrap_or_else(|error| {
            panic!("{client:?}: {error}: run scripts/setup test, it installs what examples need")
        }))
        .wait();
        let text = |name: &str| fs::read_to_string(path(name)).expect("text");
        (status, text("printed"), text("complaint"))
    }
}

/// A client that does not outlive its test.
struct Running(Child);

impl Running {
    fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the client's session ends", || {
            status = self.0.try_wait().expect("the client is our child");
            status.is_some()
        });
        status.expect("the loop ends with a status")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails when it has ended, which is what we want of it.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn erlang() -> Command {
    let mut client = Command::new("escript");
    client.arg(repository().join("examples/tank_client.erl"));
    client
}

/// The Python that `scripts/setup` gave the packages in `requirements.txt`.
fn python() -> Command {
    let build = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("below the build directory");
    let mut client = Command::new(build.join("python/bin/python"));
    client.arg(repository().join("examples/tank_client.py"));
    client
}

fn read(path: &str) -> String {
    fs::read_to_string(repository().join(path)).expect("a file of the repository")
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
