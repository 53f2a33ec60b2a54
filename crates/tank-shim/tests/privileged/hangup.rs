//! Nobody is connected any more: the pod goes on, or stops by itself, as the last
//! connection has said.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;
use tank_shim::protocol::{Adjust, Adjustment, Exit, OnHangup, Role, RunUntil, StopPlan, ToShim};

use crate::scene::{Scene, Shim, boot_clock_ms_in, eventually, is_dead, open_process, scene};

/// Long enough to be told from no time at all.
const ALONE_MS: u64 = 200;

/// It says goodbye when it is asked to end, and ends with 4.
const LISTENS: &str = "trap 'echo bye; exit 4' TERM; echo ready; sleep 1000 & wait";

fn stop_after(stop_after_ms: u64) -> ToShim {
    ToShim::OnHangup(Some(OnHangup { stop_after_ms }))
}

/// A shim whose workload listens, and who was told so.
fn told(scene: &Scene, policy: &ToShim) -> (Shim, i32) {
    let (mut shim, host_pid) = scene.launched(&scene.script(LISTENS));
    eventually("the workload is ready", || scene.logged("stdout").contains("ready"));
    shim.send(policy);
    (shim, host_pid)
}

fn hang_up(shim: &Shim) {
    shim.stream.shutdown(std::net::Shutdown::Both).unwrap();
}

fn wait_until(at_ms: u64) {
    eventually("the time has come", || boot_clock_ms_in(0) > at_ms);
}

/// The pod lives, and was never asked to end.
fn expect_untouched(scene: &Scene, host_pid: i32) -> Shim {
    let mut shim = scene.connect();
    assert!(!is_dead(&open_process(host_pid), Duration::ZERO));
    shim.send(&ToShim::Kill);
    assert_eq!(shim.expect_exited().exit, Exit::Signaled(9));
    assert_eq!(scene.logged("stdout"), "ready\n");
    shim
}

fn expect_stopped_in_order(scene: &Scene, shim: &Shim) {
    shim.wait_for_end();
    let record = scene.recorded_exit();
    assert_eq!((record.incarnation, record.exit), (7, Exit::Exited(4)));
    assert!(record.is_asked, "whoever comes next begins afresh");
    assert_eq!(scene.logged("stdout"), "ready\nbye\n");
}

#[test]
fn a_pod_stops_in_order_when_its_connection_ends_and_it_was_told_so() {
    let scene = scene!("a_pod_stops_in_order_when_its_connection_ends_and_it_was_told_so");
    let (shim, _) = told(&scene, &stop_after(0));
    hang_up(&shim);
    expect_stopped_in_order(&scene, &shim);
}

#[test]
fn the_time_alone_counts_from_the_end_of_the_connection() {
    let scene = scene!("the_time_alone_counts_from_the_end_of_the_connection");
    let (shim, host_pid) = told(&scene, &stop_after(ALONE_MS));
    let workload = open_process(host_pid);
    wait_until(boot_clock_ms_in(2 * ALONE_MS));
    assert!(!is_dead(&workload, Duration::ZERO));
    let until_ms = boot_clock_ms_in(ALONE_MS);
    hang_up(&shim);
    expect_stopped_in_order(&scene, &shim);
    assert!(boot_clock_ms_in(0) >= until_ms);
}

#[test]
fn a_connection_that_breaks_for_nonsense_has_ended_too() {
    let scene = scene!("a_connection_that_breaks_for_nonsense_has_ended_too");
    let (mut shim, _) = told(&scene, &stop_after(0));
    std::io::Write::write_all(&mut shim.stream, b"GET / HTTP/1.1\r\n\r\n").unwrap();
    expect_stopped_in_order(&scene, &shim);
}

#[test]
fn a_new_connection_takes_back_what_a_hangup_has_begun() {
    let scene = scene!("a_new_connection_takes_back_what_a_hangup_has_begun");
    let (shim, host_pid) = told(&scene, &stop_after(ALONE_MS));
    hang_up(&shim);
    let _here = scene.connect();
    wait_until(boot_clock_ms_in(2 * ALONE_MS));
    expect_untouched(&scene, host_pid);
}

#[test]
fn a_connection_that_says_nothing_of_it_ends_as_the_one_before_would_have() {
    let scene = scene!("a_connection_that_says_nothing_of_it_ends_as_the_one_before_would_have");
    let (shim, _) = told(&scene, &stop_after(0));
    // The old one is replaced, which is no end of the connection.
    let new = scene.connect();
    assert!(!scene.logged("stdout").contains("bye"));
    hang_up(&new);
    expect_stopped_in_order(&scene, &shim);
}

#[test]
fn a_new_connection_has_its_own_policy() {
    let scene = scene!("a_new_connection_has_its_own_policy");
    let (_old, host_pid) = told(&scene, &stop_after(0));
    let mut new = scene.connect();
    new.send(&ToShim::OnHangup(None));
    hang_up(&new);
    drop(new);
    expect_untouched(&scene, host_pid);
}

#[test]
fn a_time_that_was_told_is_not_taken_back_by_a_new_connection() {
    let scene = scene!("a_time_that_was_told_is_not_taken_back_by_a_new_connection");
    let at_ms = boot_clock_ms_in(ALONE_MS);
    let (shim, _) = told(&scene, &ToShim::RunUntil(Some(RunUntil { at_ms })));
    hang_up(&shim);
    let _here = scene.connect();
    expect_stopped_in_order(&scene, &shim);
    assert!(boot_clock_ms_in(0) >= at_ms);
}

#[test]
fn it_holds_during_a_launch() {
    let scene = scene!("it_holds_during_a_launch");
    let mut pod = scene.pod(&["/bin/sleep", "1000"]);
    let mut first = scene.container("first", &["/bin/sh", "-c", LISTENS]);
    first.role = Role::Init;
    pod.containers.push(first);
    let mut shim = scene.shim();
    shim.send(&stop_after(0));
    shim.send(&ToShim::Launch(Box::new(pod)));
    eventually("it is ready", || scene.logged_by("first", "stdout").contains("ready"));
    hang_up(&shim);
    shim.wait_for_end();
    let record = scene.recorded_exit();
    assert_eq!((record.container.as_str(), record.exit), ("first", Exit::Exited(4)));
    assert_eq!(scene.logged_by("first", "stdout"), "ready\nbye\n");
}

/// An answer that finds nobody must not cost the words that were said before.
#[test]
fn the_last_words_are_heard_though_an_answer_finds_nobody() {
    let scene = scene!("the_last_words_are_heard_though_an_answer_finds_nobody");
    let (mut shim, host_pid) = told(&scene, &stop_after(0));
    let pid = shim.hello.pid;
    shim.signal(Signal::STOP);
    eventually("the shim is stopped", || {
        fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") T ")
    });
    // The second is longer than what is read at once: the first one is answered before
    // the last word is read.
    for name in ["none".to_owned(), "n".repeat(8192)] {
        let (cgroups, stop) = (Vec::new(), StopPlan::default());
        let adjustment = Adjustment { container: name, cgroups, stop };
        let adjust = Adjust { cgroups: Vec::new(), containers: vec![adjustment] };
        shim.send(&ToShim::Adjust(adjust));
    }
    shim.send(&ToShim::OnHangup(None));
    hang_up(&shim);
    shim.signal(Signal::CONT);
    // A connection more that says nothing: what was said last holds.
    hang_up(&scene.connect());
    expect_untouched(&scene, host_pid);
}
