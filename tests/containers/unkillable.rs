//! A process that the kernel cannot kill now, as one that waits for a disk that has gone.
//! Its pod has a run for as long as it is there. Nobody else waits for that.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use rustix::process::Signal;

use crate::adoption::{lines, signal};
use crate::support::{Port, code, eventually, is_alive, place};
use crate::{Machine, host_pid, is_in, message, parent_of, status};

/// The tree of the freezer of version 1: what is frozen by it, not even SIGKILL ends.
const FREEZER: &str = "/sys/fs/cgroup/freezer";

/// A process that cannot be killed until this is dropped.
struct Unkillable {
    freezer: PathBuf,
    /// What was started for it.
    process: Option<Child>,
}

impl Unkillable {
    /// In the cgroup of a container, beside its process `neighbour`.
    fn beside(neighbour: i32) -> Self {
        let process = Command::new("sleep").arg("1000").spawn().expect("there is a sleep");
        let pid = process.id().to_string();
        let groups = fs::read_to_string(format!("/proc/{neighbour}/cgroup")).expect("it lives");
        let group = groups.lines().find_map(|line| line.strip_prefix("0::/")).expect("hybrid");
        let group = Path::new("/sys/fs/cgroup/unified").join(group);
        fs::write(group.join("cgroup.procs"), &pid).expect("a leaf");
        let mut unkillable = Self::of(&pid);
        unkillable.process = Some(process);
        unkillable
    }

    /// One that is there.
    fn of(pid: &str) -> Self {
        let freezer = Path::new(FREEZER).join(format!("tank-test-{pid}"));
        fs::create_dir(&freezer).expect("ours");
        fs::write(freezer.join("cgroup.procs"), pid).expect("ours");
        fs::write(freezer.join("freezer.state"), "FROZEN").expect("ours");
        let is_frozen = || {
            fs::read_to_string(freezer.join("freezer.state")).is_ok_and(|is| is.trim() == "FROZEN")
        };
        eventually("it is frozen", is_frozen);
        Self { freezer, process: None }
    }
}

impl Drop for Unkillable {
    fn drop(&mut self) {
        fs::write(self.freezer.join("freezer.state"), "THAWED").expect("ours");
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
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

/// What a program does that comes while a job of this policy, which has succeeded, has left
/// what cannot be killed.
fn finds_a_job_that_has_succeeded(policy: &str, is_killed: bool) {
    let Some(machine) = Machine::new(&format!("job beside unkillable, {policy}")) else { return };
    let mut port = machine.port();
    let script = "trap 'exit 0' TERM; echo up; sleep 1000 & wait";
    let (job, runs) = machine.counted("job", script, policy);
    port.ok("apply", &job);
    port.ok("sync", "nil");
    let pid = host_pid(&mut port, "job");
    eventually("it has begun", || machine.logged("job").contains("up"));
    let (shim, unkillable) = (parent_of(pid), Unkillable::beside(pid));
    // No program sees its end.
    if is_killed {
        port.kill();
    } else {
        port.ok("shutdown", "#{pods => keep}");
        assert_eq!(port.wait().code(), Some(0));
    }
    signal(pid, Signal::TERM);
    eventually("it has ended", || machine.record("job", "exit").exists() && !is_alive(shim));
    let mut port = machine.port();
    eventually("it is done", || is_in(&mut port, "job", "terminal"));
    drop(unkillable);
    port.ok("sync", "nil");
    let status = status(&mut port, "job");
    let exit = status.get("last_exit").map(ToString::to_string);
    assert_eq!(exit.as_deref(), Some("{exited,0}"), "{status}");
    assert_eq!(lines(&runs), 1);
}

#[test]
fn a_job_is_done_though_something_of_it_cannot_be_killed_when_a_program_finds_it() {
    finds_a_job_that_has_succeeded("on_failure", true);
    finds_a_job_that_has_succeeded("never", false);
}

/// A program whose pod `web` cannot start, as something of its last run cannot be killed.
fn port_with_hindered(machine: &Machine) -> (Port, Unkillable) {
    let (mut port, pid) = machine.port_with_web();
    let (shim, unkillable) = (parent_of(pid), Unkillable::beside(pid));
    port.kill();
    signal(shim, Signal::KILL);
    let mut port = machine.port();
    eventually("its start has failed twice", || {
        let status = status(&mut port, "web");
        status.to_string().contains("remove what is left of another run")
            && status.get("retries").and_then(erlang_term_format::Term::as_u64) >= Some(3)
    });
    (port, unkillable)
}

#[test]
fn nobody_waits_for_a_pod_whose_start_is_hindered() {
    let Some(machine) = Machine::new("hindered start") else { return };
    let machine = machine.with(&["--backoff-base-ms", "50", "--backoff-cap-ms", "50"]);
    let (mut port, unkillable) = port_with_hindered(&machine);
    let told = status(&mut port, "web").to_string();
    assert!(told.contains("(sleep), in state D, is killed and still there"), "{told}");
    port.ok("delete", "<<\"web\">>");
    port.ok("sync", "nil");
    port.ok("apply", &machine.pod("web", "sleep 1000", ""));
    eventually("it is tried again", || is_in(&mut port, "web", "backing_off"));
    port.hang_up();
    assert_eq!(port.wait().code(), Some(0));
    let mut port = machine.port();
    port.ok("shutdown", "#{pods => stop}");
    assert_eq!(port.wait().code(), Some(0));
    drop(unkillable);
    let mut port = machine.port();
    eventually("it runs", || is_in(&mut port, "web", "running"));
}

#[test]
fn a_shim_that_cannot_be_killed_is_given_up() {
    let Some(machine) = Machine::new("unkillable shim") else { return };
    let machine = machine.with(&["--stop-grace-ms", "100"]);
    let (mut port, pid) = machine.port_with_web();
    let unkillable = Unkillable::of(&parent_of(pid).to_string());
    let error = port.error("shutdown", "#{pods => stop}");
    assert_eq!((code(&error), place(&error, "pod")), ("stop_failed".into(), "web".into()));
    assert!(message(&error).contains(&parent_of(pid).to_string()), "{error}");
    assert_eq!(port.wait().code(), Some(0));
    drop(unkillable);
    eventually("it is dead", || !is_alive(pid));
}

#[test]
fn what_a_shim_leaves_for_the_kernel_to_end_is_waited_for_where_no_cgroup_holds_it() {
    let Some(machine) = Machine::new("v1 alone, unkillable") else { return };
    let args = machine.args();
    let start = || {
        let mut command = Command::new("unshare");
        let script = "umount /sys/fs/cgroup/unified && exec \"$0\" port \"$@\"";
        command.args(["-m", "sh", "-c", script, env!("CARGO_BIN_EXE_tank")]).args(&args);
        Port::start_by(&mut command)
    };
    let mut port = start();
    port.ok("apply", &machine.pod("web", "sleep 1000", ""));
    port.ok("sync", "nil");
    let pid = host_pid(&mut port, "web");
    let shim = parent_of(pid);
    let unkillable = Unkillable::of(&pid.to_string());
    port.kill();
    signal(shim, Signal::KILL);
    let mut port = start();
    eventually("a start is tried", || {
        assert!(!is_in(&mut port, "web", "running"), "while pid {pid} is there");
        status(&mut port, "web").to_string().contains("is killed and still there")
    });
    assert!(is_alive(pid));
    drop(unkillable);
    eventually("it is dead", || !is_alive(pid));
    port.kill();
}
