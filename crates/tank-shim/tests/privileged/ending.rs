//! Every way in which a pod ends, and what is left of it: nothing.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tank_shim::protocol::{Container, Exit, FromShim, Join, Role, RunUntil, Step, Stop, ToShim};
use tank_shim::record;

use crate::scene::{
    Scene, boot_clock_ms_in, eventually, is_dead, open_process, scene, wait_for_end,
};

/// A minute from now: a test that waits for it fails.
fn far() -> u64 {
    boot_clock_ms_in(60_000)
}

fn wait_until_ready(scene: &Scene) {
    eventually("the workload is ready", || scene.logged("stdout").contains("ready"));
}

/// Host pids of processes with this argument.
fn processes_with(argument: &str) -> Vec<String> {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|pid| pid.bytes().all(|byte| byte.is_ascii_digit()))
        .filter(|pid| {
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            command.split(|&byte| byte == 0).any(|word| word == argument.as_bytes())
        })
        .collect()
}

#[test]
fn a_workload_that_listens_ends_by_itself() {
    let scene = scene!("a_workload_that_listens_ends_by_itself");
    let script = "trap 'echo bye; exit 5' TERM; echo ready; sleep 1000 & wait";
    let (mut shim, _) = scene.launched(&scene.script(script));
    wait_until_ready(&scene);
    shim.stop();
    assert_eq!(shim.expect_exited().exit, Exit::Exited(5));
    assert_eq!(scene.logged("stdout"), "ready\nbye\n");
}

#[test]
fn a_workload_may_listen_to_a_real_time_signal() {
    let scene = scene!("a_workload_may_listen_to_a_real_time_signal");
    let signal = libc::SIGRTMIN() + 3;
    let script = format!("trap 'exit 5' {signal}; echo ready; sleep 1000 & wait");
    let mut pod = scene.script(&script);
    pod.containers[0].stop.signal = signal;
    let (mut shim, _) = scene.launched(&pod);
    wait_until_ready(&scene);
    shim.stop();
    assert_eq!(shim.expect_exited().exit, Exit::Exited(5));
}

#[test]
fn a_workload_that_does_not_listen_is_killed_at_once() {
    let scene = scene!("a_workload_that_does_not_listen_is_killed_at_once");
    for script in ["echo ready; exec sleep 1000", "trap '' TERM; echo ready; exec sleep 1000"] {
        let (mut shim, _) = scene.launched(&scene.script(script));
        wait_until_ready(&scene);
        let begin = Instant::now();
        shim.stop();
        assert_eq!(shim.expect_exited().exit, Exit::Signaled(9));
        assert!(begin.elapsed() < Duration::from_secs(30));
        fs::remove_file(scene.log_path()).unwrap();
    }
}

#[test]
fn a_workload_that_listens_and_goes_on_is_killed_at_the_deadline() {
    let scene = scene!("a_workload_that_listens_and_goes_on_is_killed_at_the_deadline");
    let script = "trap 'echo no' TERM; echo ready; while :; do sleep 1000 & wait; done";
    let mut pod = scene.script(script);
    pod.containers[0].stop.grace_ms = 300;
    let (mut shim, _) = scene.launched(&pod);
    wait_until_ready(&scene);
    let kill_at_ms = boot_clock_ms_in(300);
    shim.stop();
    assert_eq!(shim.expect_exited().exit, Exit::Signaled(9));
    assert!(boot_clock_ms_in(0) >= kill_at_ms);
    assert!(scene.logged("stdout").contains("no"));
}

#[test]
fn a_second_stop_can_only_bring_the_deadline_forward() {
    let scene = scene!("a_second_stop_can_only_bring_the_deadline_forward");
    let script = "trap : TERM; echo ready; while :; do sleep 1000 & wait; done";
    let (mut shim, _) = scene.launched(&scene.script(script));
    wait_until_ready(&scene);
    // Asked for long ago, its time is over.
    for asked_at_ms in [far(), boot_clock_ms_in(0).saturating_sub(70_000), far()] {
        shim.send(&ToShim::Stop(Stop { asked_at_ms }));
    }
    assert_eq!(shim.expect_exited().exit, Exit::Signaled(9));
}

#[test]
fn it_stops_by_itself_when_told_to_run_until_then() {
    let scene = scene!("it_stops_by_itself_when_told_to_run_until_then");
    let script = "trap 'exit 4' TERM; echo ready; sleep 1000 & wait";
    let (mut shim, _) = scene.launched(&scene.script(script));
    wait_until_ready(&scene);
    let at_ms = boot_clock_ms_in(100);
    let run_until = RunUntil { at_ms };
    shim.send(&ToShim::RunUntil(Some(run_until)));
    assert_eq!(shim.expect_exited().exit, Exit::Exited(4));
    assert!(boot_clock_ms_in(0) >= at_ms);
}

#[test]
fn run_until_can_be_taken_back() {
    let scene = scene!("run_until_can_be_taken_back");
    let script = "trap 'exit 4' TERM; echo ready; sleep 1000 & wait";
    let (mut shim, _) = scene.launched(&scene.script(script));
    wait_until_ready(&scene);
    let at_ms = boot_clock_ms_in(100);
    let run_until = RunUntil { at_ms };
    shim.send(&ToShim::RunUntil(Some(run_until)));
    shim.send(&ToShim::RunUntil(None));
    eventually("the time has come", || boot_clock_ms_in(0) > at_ms);
    shim.send(&ToShim::Kill);
    assert_eq!(shim.expect_exited().exit, Exit::Signaled(9));
}

#[test]
fn daemons_die_with_the_first_process() {
    let mut scene = scene!("daemons_die_with_the_first_process");
    let mark = format!("100{}", std::process::id());
    let mut pod = scene.script(&format!(
        "trap 'exit 6' TERM
         for i in $(seq 40); do (setsid sleep {mark} &); done
         sleep 1000 & wait"
    ));
    pod.containers[0].cgroups = vec![scene.cgroup("pids", Join::Tasks, &[("pids.max", "100")])];
    let (mut shim, _) = scene.launched(&pod);
    eventually("all daemons sleep", || processes_with(&mark).len() == 40);
    shim.stop();
    assert_eq!(shim.expect_exited().exit, Exit::Exited(6));
    assert_eq!(processes_with(&mark), Vec::<String>::new());
}

#[test]
fn a_fork_bomb_dies_when_killed() {
    let mut scene = scene!("a_fork_bomb_dies_when_killed");
    let mark = format!("200{}", std::process::id());
    let bomb =
        format!("bomb() {{ : {mark}; (bomb &); (bomb &); }}; bomb; echo ready; sleep {mark}");
    let mut pod = scene.script(&bomb);
    pod.containers[0].cgroups = vec![scene.cgroup("pids", Join::Tasks, &[("pids.max", "64")])];
    let (mut shim, _) = scene.launched(&pod);
    wait_until_ready(&scene);
    shim.send(&ToShim::Kill);
    assert_eq!(shim.expect_exited().exit, Exit::Signaled(9));
    assert_eq!(processes_with(&mark), Vec::<String>::new());
}

#[test]
fn a_killed_shim_takes_all_with_it() {
    let scene = scene!("a_killed_shim_takes_all_with_it");
    let mark = format!("300{}", std::process::id());
    fs::create_dir(scene.rootfs().join("etc")).unwrap();
    fs::write(scene.rootfs().join("etc/passwd"), "user:x:1000:1000::/:/bin/sh\n").unwrap();
    // A change of user would undo a parent death signal.
    let script =
        format!("(setsid sleep {mark} &); exec su user -c 'echo ready; exec sleep {mark}'");
    let (shim, host_pid) = scene.launched(&scene.script(&script));
    let workload = open_process(host_pid);
    wait_until_ready(&scene);
    eventually("both sleep", || processes_with(&mark).len() == 2);
    shim.signal(Signal::KILL);
    shim.wait_for_end();
    // The shim's end is the proof that all the others have ended before.
    assert!(is_dead(&workload, Duration::ZERO));
    assert_eq!(processes_with(&mark), Vec::<String>::new());
    assert_eq!(record::read(&scene.run_dir()).unwrap(), None);
}

#[test]
fn after_a_killed_shim_another_can_begin_in_its_place() {
    let mut scene = scene!("after_a_killed_shim_another_can_begin_in_its_place");
    let mut pod = scene.script("test -e /old && exit 1; touch /old; exec sleep 1000");
    pod.containers[0].cgroups = vec![
        scene.cgroup("memory", Join::Tasks, &[("memory.limit_in_bytes", "67108864")]),
        scene.cgroup("unified", Join::Clone, &[]),
    ];
    let (shim, _) = scene.launched(&pod);
    assert_eq!(
        tank_shim::spawn::lock(&scene.run_dir()).unwrap_err().kind(),
        std::io::ErrorKind::WouldBlock
    );
    shim.signal(Signal::KILL);
    shim.wait_for_end();
    let (mut shim, _) = scene.launched(&pod);
    shim.send(&ToShim::Kill);
    assert_eq!(shim.expect_exited().exit, Exit::Signaled(9));
}

#[test]
fn a_shim_ends_by_nothing_but_a_kill() {
    let scene = scene!("a_shim_ends_by_nothing_but_a_kill");
    let (mut shim, host_pid) = scene.launched(&scene.pod(&["/bin/sleep", "1000"]));
    let workload = open_process(host_pid);
    for signal in [Signal::TERM, Signal::HUP, Signal::INT, Signal::PIPE, Signal::USR1] {
        shim.signal(signal);
    }
    let mut other = scene.connect();
    assert!(!is_dead(&workload, Duration::ZERO));
    other.send(&ToShim::Kill);
    other.expect_exited();
    shim.expect_end();
}

#[test]
fn an_exit_that_nobody_watches_is_recorded() {
    let scene = scene!("an_exit_that_nobody_watches_is_recorded");
    let (shim, _) = scene.launched(&scene.script("sleep 0.2; echo late; exit 9"));
    shim.stream.shutdown(std::net::Shutdown::Both).unwrap();
    shim.wait_for_end();
    let record = scene.recorded_exit();
    assert_eq!((record.incarnation, record.exit), (7, Exit::Exited(9)));
    assert!(!record.is_asked, "{record:?}");
    assert_eq!(scene.logged("stdout"), "late\n");
}

#[test]
fn an_end_that_was_asked_for_is_recorded_as_such() {
    let scene = scene!("an_end_that_was_asked_for_is_recorded_as_such");
    let (mut shim, _) = scene.launched(&scene.pod(&["/bin/sleep", "1000"]));
    shim.send(&ToShim::Stop(Stop { asked_at_ms: 0 }));
    shim.stream.shutdown(std::net::Shutdown::Both).unwrap();
    eventually("it is recorded", || record::read(&scene.run_dir()).unwrap().is_some());
    let record = scene.recorded_exit();
    assert!(record.is_asked && record.launched_at_ms.is_some(), "{record:?}");
}

#[test]
fn a_failed_launch_that_nobody_hears_of_is_recorded() {
    let scene = scene!("a_failed_launch_that_nobody_hears_of_is_recorded");
    let mut pod = scene.script("sleep 0.2");
    pod.containers[0].role = Role::Init;
    let last = Container { name: "last".to_owned(), role: Role::Main, ..pod.containers[0].clone() };
    pod.containers.push(Container { argv: vec!["/bin/none".to_owned()], ..last });
    let mut shim = scene.shim();
    shim.send(&ToShim::Launch(Box::new(pod)));
    shim.stream.shutdown(std::net::Shutdown::Both).unwrap();
    eventually("it is recorded", || record::read(&scene.run_dir()).unwrap().is_some());
    let words = record::read(&scene.run_dir()).unwrap();
    let Some(FromShim::Failed(failure)) = words else { panic!("{words:?}") };
    assert_eq!((failure.step, failure.container.as_deref()), (Step::Exec, Some("last")));
}

#[test]
fn an_exit_that_cannot_be_recorded_waits_to_be_heard() {
    let scene = scene!("an_exit_that_cannot_be_recorded_waits_to_be_heard");
    // A directory in the way: the record can be written and not renamed.
    fs::create_dir(scene.run_dir().join("exit")).unwrap();
    let (shim, host_pid) = scene.launched(&scene.script("sleep 0.1; exit 8"));
    let workload = open_process(host_pid);
    shim.stream.shutdown(std::net::Shutdown::Both).unwrap();
    wait_for_end(&workload);
    let mut other = scene.connect();
    assert_eq!(other.expect_exited().exit, Exit::Exited(8));
    shim.wait_for_end();
}

#[test]
fn a_launch_can_be_killed_at_any_moment() {
    let mut scene = scene!("a_launch_can_be_killed_at_any_moment");
    let mut pod = scene.pod(&["/bin/sleep", "1000"]);
    pod.containers[0].cgroups =
        vec![scene.cgroup("pids", Join::Tasks, &[]), scene.cgroup("unified", Join::Clone, &[])];
    for delay_us in (0..6000).step_by(200) {
        let mut shim = scene.shim();
        shim.send(&ToShim::Launch(Box::new(pod.clone())));
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_micros(delay_us) {}
        shim.send(&ToShim::Kill);
        let mut message = shim.receive();
        if matches!(message, FromShim::Launched(_)) {
            message = shim.receive();
        }
        let FromShim::Exited(record) = message else { panic!("{message:?}") };
        assert_eq!(record.exit, Exit::Signaled(9));
        shim.expect_end();
        assert!(pod.containers[0].cgroups.iter().all(|cgroup| !Path::new(&cgroup.path).exists()));
    }
}
