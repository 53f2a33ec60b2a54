//! Every way in which the program ends, and what then becomes of its pods: what was
//! said beforehand, also where it can do nothing about it any more.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::adoption::{number, signal};
use crate::support::{Port, eventually, is_alive};
use crate::{Machine, host_pid, is_in, status};

/// Long enough to be told from no time at all.
const ALONE: Duration = Duration::from_millis(250);

/// It writes as long as it lives, and says goodbye when it is asked to end.
pub(crate) const WRITES: &str =
    "trap 'echo bye; exit 0' TERM; while true; do echo tick; sleep 0.02 & wait; done";

/// How the program ends.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// Its client closes its stdin, or dies.
    Eof,
    /// By a signal that it listens to, or not.
    By(Signal),
}

impl Way {
    const ALL: [Self; 5] = [
        Self::Eof,
        Self::By(Signal::TERM),
        Self::By(Signal::HUP),
        // As a defect ends it, or the kernel that has no memory left.
        Self::By(Signal::ABORT),
        Self::By(Signal::KILL),
    ];

    fn is_in_order(self) -> bool {
        !matches!(self, Self::By(Signal::ABORT | Signal::KILL))
    }

    fn end(self, port: &mut Port) {
        match self {
            Self::Eof => port.hang_up(),
            Self::By(signal) => port.signal(signal),
        }
        let code = port.wait().code();
        assert_eq!(code, self.is_in_order().then_some(0), "{self:?}");
    }
}

/// A program by this policy, a pod that it runs, and the pod's pid.
fn running(way: Way, policy: &str) -> Option<(Machine, Port, i32)> {
    let machine = Machine::new(&format!("{way:?}, {policy}"))?;
    let machine = machine.with(&["--on-disconnect", policy, "--stop-grace-ms", "20000"]);
    let mut port = machine.port();
    port.ok("apply", &machine.pod("web", WRITES, ""));
    port.ok("sync", "nil");
    let pid = host_pid(&mut port, "web");
    eventually("the pod writes", || machine.logged("web").contains("tick"));
    Some((machine, port, pid))
}

/// It is the same process, it goes on writing, and nobody has asked it to end.
pub(crate) fn assert_untouched(machine: &Machine, pod: &str, pid: i32) {
    let written = machine.logged(pod).len();
    eventually("the pod writes on", || machine.logged(pod).len() > written);
    assert!(is_alive(pid));
    assert!(!machine.logged(pod).contains("bye"));
}

#[test]
fn pods_that_are_to_be_kept_outlive_every_end_of_the_program() {
    for way in Way::ALL {
        let Some((machine, mut port, pid)) = running(way, "keep") else { return };
        way.end(&mut port);
        assert_untouched(&machine, "web", pid);
    }
}

#[test]
fn pods_that_are_to_stop_are_stopped_in_order_by_every_end_of_the_program() {
    for way in Way::ALL {
        let Some((machine, mut port, pid)) = running(way, "stop") else { return };
        way.end(&mut port);
        if way.is_in_order() {
            assert!(!is_alive(pid), "{way:?}");
            assert!(!machine.run_dir("web").exists(), "{way:?}");
        }
        eventually("the pod has stopped", || !is_alive(pid));
        assert!(machine.logged("web").contains("bye"), "{way:?}");
    }
}

#[test]
fn pods_that_are_to_stop_later_do_so_that_long_after_every_end_of_the_program() {
    for way in Way::ALL {
        let policy = format!("stop-after-ms={}", ALONE.as_millis());
        let told = Instant::now();
        let Some((machine, mut port, pid)) = running(way, &policy) else { return };
        // The time does not count from when it was told.
        eventually("time passes", || told.elapsed() > 2 * ALONE);
        assert_untouched(&machine, "web", pid);
        let ended = Instant::now();
        way.end(&mut port);
        eventually("the pod has stopped with nobody left to ask", || !is_alive(pid));
        assert!(ended.elapsed() >= ALONE, "{way:?}: {:?}", ended.elapsed());
        assert!(machine.logged("web").contains("bye"), "{way:?}");
    }
}

#[test]
fn a_pod_that_is_being_stopped_is_not_said_to_run_and_begins_afresh() {
    let Some(machine) = Machine::new("a stop, then a start") else { return };
    let machine = machine.with(&["--on-disconnect", "stop", "--stop-grace-ms", "60000"]);
    let mut port = machine.port();
    let script = "trap 'echo bye' TERM; echo tick; while true; do sleep 0.02 & wait; done";
    port.ok("apply", &machine.pod("web", script, ""));
    port.ok("sync", "nil");
    let pid = host_pid(&mut port, "web");
    eventually("the pod writes", || machine.logged("web").contains("tick"));
    port.kill();
    eventually("it is asked to end", || machine.logged("web").contains("bye"));
    let mut port = machine.port();
    assert!(is_in(&mut port, "web", "stopping"), "{}", status(&mut port, "web"));
    assert_eq!(host_pid(&mut port, "web"), pid);
    signal(pid, Signal::KILL);
    eventually("another runs", || is_in(&mut port, "web", "running"));
    assert_ne!(host_pid(&mut port, "web"), pid);
    assert_eq!(number(&status(&mut port, "web"), "retries"), 0);
    let events = port.ok("events", "<<\"web\">>").to_string();
    assert!(events.contains("a stop that was under way"), "{events}");
    assert_eq!(machine.logged("web").matches("bye").count(), 1, "it was asked once");
    // Else the end of the test would wait for it.
    signal(host_pid(&mut port, "web"), Signal::KILL);
    eventually("it waits", || is_in(&mut port, "web", "backing_off"));
}

#[test]
fn a_program_waits_for_the_one_before_it_that_stops_its_pods() {
    let Some(machine) = Machine::new("a start while another ends") else { return };
    let machine = machine.with(&["--on-disconnect", "stop", "--stop-grace-ms", "700"]);
    let mut first = machine.port();
    first.ok(
        "apply",
        &machine.pod("web", "trap : TERM; echo tick; while true; do sleep 0.02 & wait; done", ""),
    );
    first.ok("sync", "nil");
    let pid = host_pid(&mut first, "web");
    eventually("the pod writes", || machine.logged("web").contains("tick"));
    first.hang_up();
    let lock = machine.dir.path().join("data/lock");
    let is_ending = || std::fs::read_to_string(&lock).is_ok_and(|said| said.contains("ending"));
    eventually("it ends", is_ending);
    let machine = machine.with(&["--lock-wait-ms", "0"]);
    let mut second = machine.port();
    assert!(!is_alive(pid));
    assert_eq!(first.wait().code(), Some(0));
    eventually("another runs", || is_in(&mut second, "web", "running"));
}

#[test]
fn a_launch_that_is_under_way_is_stopped_too() {
    let Some(machine) = Machine::new("a launch, then kill -9") else { return };
    let machine = machine.with(&["--on-disconnect", "stop"]);
    let mut port = machine.port();
    let first = format!(
        "init_containers => [#{{name => <<\"first\">>, image => {{rootfs, <<\"{}\">>}}, command => \
         [<<\"/bin/sh\">>, <<\"-c\">>, <<\"{WRITES}\">>]}}], containers",
        machine.rootfs
    );
    port.ok("apply", &machine.pod("web", "sleep 1000", "").replacen("containers", &first, 1));
    let log = machine.dir.path().join("data/logs/web/first.log");
    let said = |word| std::fs::read_to_string(&log).is_ok_and(|said| said.contains(word));
    eventually("the first container writes", || said("tick"));
    port.kill();
    eventually("it is asked to end", || said("bye"));
}

#[test]
fn keep_holds_from_its_answer_on_however_the_program_ends() {
    for policy in ["stop", "stop-after-ms=0"] {
        let way = Way::By(Signal::KILL);
        let Some((machine, mut port, pid)) = running(way, policy) else { return };
        port.ok("shutdown", "#{pods => keep}");
        port.kill();
        assert_untouched(&machine, "web", pid);
    }
}

#[test]
fn a_shutdown_that_stops_pods_stops_them_now_though_their_time_would_be_later() {
    let way = Way::Eof;
    let Some((machine, mut port, pid)) = running(way, "stop-after-ms=3600000") else { return };
    port.ok("shutdown", "#{pods => stop}");
    assert_eq!(port.wait().code(), Some(0));
    assert!(!is_alive(pid));
    assert!(machine.logged("web").contains("bye"));
}
