//! A process that the kernel cannot kill now, as one that waits for a disk that has gone.
//! Its pod has a run for as long as it is there. Nobody else waits for that.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use rustix::process::Signal;

use crate::adoption::signal;
use crate::support::{Port, code, eventually, is_alive, place};
use crate::{Machine, host_pid, is_in, parent_of, status};

/// The tree of the freezer of version 1: what is frozen by it, not even SIGKILL ends.
const FREEZER: &str = "/sys/fs/cgroup/freezer";

/// A process in the cgroup of a container that cannot be killed until this is dropped.
struct Unkillable {
    process: Child,
    freezer: PathBuf,
}

impl Unkillable {
    /// Beside the process `neighbour` of a container.
    fn beside(neighbour: i32) -> Self {
        let process = Command::new("sleep").arg("1000").spawn().expect("there is a sleep");
        let pid = process.id().to_string();
        let groups = fs::read_to_string(format!("/proc/{neighbour}/cgroup")).expect("it lives");
        let group = groups.lines().find_map(|line| line.strip_prefix("0::/")).expect("hybrid");
        let group = Path::new("/sys/fs/cgroup/unified").join(group);
        fs::write(group.join("cgroup.procs"), &pid).expect("a leaf");
        let freezer = Path::new(FREEZER).join(format!("tank-test-{pid}"));
        fs::create_dir(&freezer).expect("ours");
        fs::write(freezer.join("cgroup.procs"), &pid).expect("ours");
        fs::write(freezer.join("freezer.state"), "FROZEN").expect("ours");
        let is_frozen = || {
            fs::read_to_string(freezer.join("freezer.state")).is_ok_and(|is| is.trim() == "FROZEN")
        };
        eventually("it is frozen", is_frozen);
        Self { process, freezer }
    }
}

impl Drop for Unkillable {
    fn drop(&mut self) {
        fs::write(self.freezer.join("freezer.state"), "THAWED").expect("ours");
        let _ = self.process.kill();
        let _ = self.process.wait();
        eventually("its freezer goes", || fs::remove_dir(&self.freezer).is_ok());
    }
}

/// A program, whose pod `web` has a process that cannot be killed, and the pid of its first.
fn port_with_unkillable(machine: &Machine) -> (Port, i32, Unkillable) {
    let (mut port, pid) = machine.port_with_web();
    let unkillable = Unkillable::beside(pid);
    port.ok("sync", "nil");
    (port, pid, unkillable)
}

#[test]
fn an_exit_counts_as_it_was_though_something_of_the_run_cannot_be_killed() {
    let Some(machine) = Machine::new("exit beside unkillable") else { return };
    let machine = machine.with(&["--interval-ms", "10"]);
    let mut port = machine.port();
    let pod = machine.pod("web", "trap 'exit 0' TERM; echo up; sleep 1000 & wait", "");
    port.ok("apply", &pod.replacen("#{", "#{restart => on_failure, ", 1));
    port.ok("sync", "nil");
    let pid = host_pid(&mut port, "web");
    eventually("it listens", || machine.logged("web").contains("up"));
    let (shim, unkillable) = (parent_of(pid), Unkillable::beside(pid));
    signal(pid, Signal::TERM);
    eventually("it has ended", || !is_alive(shim));
    for _ in 0..20 {
        // Each looks at what runs.
        port.ok("sync", "nil");
        assert!(is_in(&mut port, "web", "running"), "{}", status(&mut port, "web"));
    }
    drop(unkillable);
    eventually("it is over", || is_in(&mut port, "web", "terminal"));
    let status = status(&mut port, "web");
    let exit = status.get("last_exit").map(ToString::to_string);
    assert_eq!(exit.as_deref(), Some("{exited,0}"), "{status}");
}

#[test]
fn a_program_that_cannot_stop_a_pod_says_so_and_ends() {
    let Some(machine) = Machine::new("end beside unkillable") else { return };
    let (mut port, pid, unkillable) = port_with_unkillable(&machine);
    port.ok("apply", &machine.pod("db", "sleep 1000", ""));
    port.ok("sync", "nil");
    let db = host_pid(&mut port, "db");
    let error = port.error("shutdown", "#{pods => stop}");
    assert_eq!((code(&error), place(&error, "pod")), ("stop_failed".into(), "web".into()));
    assert_eq!(port.wait().code(), Some(0));
    assert!(!is_alive(pid) && !is_alive(db));

    // The next one begins, and starts the pod when nothing is left of its last run.
    let mut port = machine.port();
    eventually("others run", || is_in(&mut port, "db", "running"));
    assert!(!is_in(&mut port, "web", "running"));
    drop(unkillable);
    eventually("it runs", || is_in(&mut port, "web", "running"));
}

#[test]
fn a_delete_that_cannot_be_carried_out_is_tried_until_it_is() {
    let Some(machine) = Machine::new("delete beside unkillable") else { return };
    let machine = machine.with(&["--interval-ms", "10"]);
    let (mut port, _, unkillable) = port_with_unkillable(&machine);
    port.ok("delete", "<<\"web\">>");
    eventually("it is told", || status(&mut port, "web").to_string().contains("last stop failed"));
    drop(unkillable);
    eventually("it is gone", || status(&mut port, "web").is_nil());
    assert!(!machine.run_dir("web").exists());
}
