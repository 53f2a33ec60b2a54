//! Shims that speak another version of their protocol than this program. One is a process
//! of this test's own: it holds a run's directory as a shim does, and greets as it is told.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use erlang_term_format::{Term, encode, text};
use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;

use super::support::{Port, eventually, is_alive};
use super::{Machine, host_pid, is_in, parent_of, status};

/// What the process that acts as a shim is told by: its directory, and its words.
const RUN_DIR: &str = "TANK_TEST_SHIM_RUN_DIR";
const WORDS: &str = "TANK_TEST_SHIM_WORDS";

/// Whether it has been asked to stop.
const STOPPED: &str = "stopped";

/// No test by itself: another test runs it as a process of its own.
#[test]
fn acts_as_a_shim() {
    let Some(dir) = std::env::var_os(RUN_DIR).map(PathBuf::from) else { return };
    let lock = fs::File::open(&dir).expect("a run's directory");
    eventually("the directory is free", || {
        flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok()
    });
    let socket = dir.join("shim.sock");
    let _ = fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket).expect("a short path");
    let (mut control, _) = listener.accept().expect("somebody connects");
    let words = std::env::var(WORDS).expect("it is told what to say");
    for word in words.replace("PID", &std::process::id().to_string()).lines() {
        let term = encode(&text::parse(word).expect("a term"));
        let length = u32::try_from(term.len()).expect("a short word").to_be_bytes();
        control.write_all(&[&length[..], &term].concat()).expect("somebody listens");
    }
    let mut heard = Vec::new();
    let mut chunk = [0; 1024];
    while let Ok(count @ 1..) = control.read(&mut chunk) {
        heard.extend_from_slice(&chunk[..count]);
        if heard.windows(b"asked_at_ms".len()).any(|part| part == b"asked_at_ms") {
            fs::write(dir.parent().expect("pods").parent().expect("run").join(STOPPED), "")
                .expect("ours");
            return;
        }
    }
}

/// A shim that says these words takes the place of the one that the pod has.
fn replaced(machine: &Machine, port: &mut Port, words: &str) -> Child {
    let pid = host_pid(port, "web");
    let run = status(port, "web").get("incarnation").and_then(Term::as_u64).expect("a run");
    port.kill();
    super::adoption::signal(parent_of(pid), Signal::KILL);
    eventually("the run is over", || !is_alive(pid));
    let dir = machine.run_dir("web");
    let _ = fs::remove_file(dir.join("shim.sock"));
    let shim = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "foreign::acts_as_a_shim", "--nocapture"])
        .env(RUN_DIR, &dir)
        .env(WORDS, words.replace("RUN", &run.to_string()))
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("it starts");
    eventually("it listens", || Path::exists(&dir.join("shim.sock")));
    shim
}

#[test]
fn a_run_of_a_newer_shim_that_gets_on_with_this_program_is_taken_over() {
    let Some(machine) = Machine::new("a newer shim") else { return };
    let (mut port, _) = machine.port_with_web();
    let words = "{hello, #{protocol => 2, protocol_min => 1, pid => PID, mood => good, state => \
                 {running, #{pod => <<\"web\">>, incarnation => RUN, launched_at_ms => 1, containers => \
                 [#{name => <<\"c\">>, role => main, host_pid => PID}]}}}}\n{weather, #{rain => true}}";
    let mut shim = replaced(&machine, &mut port, words);
    let mut port = machine.port();
    assert!(is_in(&mut port, "web", "running"), "{}", status(&mut port, "web"));
    assert_eq!(host_pid(&mut port, "web"), i32::try_from(shim.id()).expect("a pid"));
    shim.kill().expect("it lives");
    shim.wait().expect("it is ours");
    eventually("its end is a crash", || is_in(&mut port, "web", "backing_off"));
}

#[test]
fn a_run_of_a_shim_that_does_not_get_on_with_this_program_is_replaced_in_order() {
    let Some(machine) = Machine::new("a foreign shim") else { return };
    let (mut port, _) = machine.port_with_web();
    for words in [
        "{hello, #{protocol => 9, protocol_min => 9, greeting => unknown}}",
        "{hello, #{protocol => 2, protocol_min => 1, pid => PID, state => {dreaming, nil}}}",
    ] {
        let stopped = machine.dir.path().join("run").join(STOPPED);
        let _ = fs::remove_file(&stopped);
        let mut shim = replaced(&machine, &mut port, words);
        port = machine.port();
        eventually("another runs", || is_in(&mut port, "web", "running"));
        assert!(stopped.exists(), "it was asked to stop");
        assert!(shim.wait().expect("it is ours").success(), "and was not killed");
        assert_ne!(host_pid(&mut port, "web"), i32::try_from(shim.id()).expect("a pid"));
    }
    let _ = fs::remove_file(machine.dir.path().join("run").join(STOPPED));
}
