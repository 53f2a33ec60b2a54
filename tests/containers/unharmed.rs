//! What a program must not do to runs that it finds, however little it can: what it has
//! no means to look at goes on, and what is no longer wanted ends in order.

use std::fs;
use std::process::Command;

use rustix::process::Signal;

use crate::adoption::signal;
use crate::support::{Port, eventually, message, refused_by};
use crate::{Machine, host_pid, is_in, parent_of, status};

/// A program that may have so many descriptors, and cannot raise that.
fn port_with_descriptors(machine: &Machine, most: usize) -> Command {
    port_after(machine, &format!("ulimit -n {most}"))
}

/// A program that is started by a shell which says this first.
fn port_after(machine: &Machine, words: &str) -> Command {
    let mut command = Command::new("sh");
    let script = format!("{words}\nexec \"$@\"");
    command.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_tank"), "port"]);
    command.args(machine.args());
    command
}

#[test]
fn runs_that_there_are_few_descriptors_to_look_at_with_are_all_taken_over() {
    let Some(machine) = Machine::new("few descriptors") else { return };
    let mut port = machine.port();
    let pods: Vec<String> = (0..12).map(|number| format!("p{number}")).collect();
    for pod in &pods {
        port.ok("apply", &machine.pod(pod, "sleep 1000", ""));
    }
    port.ok("sync", "nil");
    let before: Vec<i32> = pods.iter().map(|pod| host_pid(&mut port, pod)).collect();
    let has = fs::read_dir(format!("/proc/{}/fd", port.pid())).expect("it lives").count();
    // What is frozen is looked at for seconds, all at the same time.
    let shims: Vec<i32> = before.iter().map(|pid| parent_of(*pid)).collect();
    shims.iter().for_each(|shim| signal(*shim, Signal::STOP));
    port.kill();

    // Fewer than the runs alone take: none is begun with.
    let (code, error) = refused_by(&mut port_with_descriptors(&machine, has - 4));
    assert_eq!(code, 4);
    assert!(message(&error).contains("take over 12 runs"), "{error}");

    // As many as they take, and a few to work with.
    let mut port = Port::start_by(&mut port_with_descriptors(&machine, has + 6));
    shims.iter().for_each(|shim| signal(*shim, Signal::CONT));
    eventually("all are taken over", || pods.iter().all(|pod| is_in(&mut port, pod, "running")));
    let after: Vec<i32> = pods.iter().map(|pod| host_pid(&mut port, pod)).collect();
    assert_eq!(after, before);
}

#[test]
fn a_soft_limit_of_descriptors_is_what_workloads_have_and_not_what_there_is_for_runs() {
    let Some(machine) = Machine::new("soft limit") else { return };
    let mut port = Port::start_by(&mut port_after(&machine, "ulimit -Sn 40; ulimit -Hn 1000"));
    let pods: Vec<String> = (0..24).map(|number| format!("p{number}")).collect();
    for pod in &pods {
        port.ok("apply", &machine.pod(pod, "ulimit -Sn; ulimit -Hn; sleep 1000", ""));
    }
    eventually("all run", || pods.iter().all(|pod| is_in(&mut port, pod, "running")));
    eventually("all have said it", || {
        pods.iter().all(|pod| machine.logged(pod).lines().count() == 2)
    });
    for pod in &pods {
        let logged = machine.logged(pod);
        let said = logged.lines().filter_map(|line| line.rsplit(' ').next());
        assert_eq!(said.collect::<Vec<_>>(), ["40", "1000"]);
    }
    let before: Vec<i32> = pods.iter().map(|pod| host_pid(&mut port, pod)).collect();
    port.kill();
    let mut port = Port::start_by(&mut port_after(&machine, "ulimit -Sn 40; ulimit -Hn 1000"));
    let after: Vec<i32> = pods.iter().map(|pod| host_pid(&mut port, pod)).collect();
    assert_eq!(after, before);
}

#[test]
fn a_launch_that_was_taken_over_and_is_no_longer_wanted_ends_in_order() {
    let Some(machine) = Machine::new("taken over and deleted") else { return };
    let mut port = machine.port();
    let says = machine.dir.path().join("says");
    fs::create_dir(&says).expect("ours");
    let init = "trap 'echo > /says/goodbye; exit 1' TERM; echo > /says/hello; sleep 1000 & wait";
    let container = |name: &str, script: &str| {
        format!(
            "[#{{name => <<\"{name}\">>, image => {{rootfs, <<\"{}\">>}},
               mounts => [#{{volume => <<\"says\">>, path => <<\"/says\">>}}],
               command => [<<\"/bin/sh\">>, <<\"-c\">>, <<\"{script}\">>]}}]",
            machine.rootfs
        )
    };
    let pod = format!(
        "#{{name => <<\"web\">>, init_containers => {}, containers => {},
           volumes => [#{{name => <<\"says\">>, source => {{host, <<\"{}\">>}}}}]}}",
        container("i", init),
        container("c", "sleep 1000"),
        says.display()
    );
    port.ok("apply", &pod);
    eventually("the init container runs", || says.join("hello").exists());
    port.kill();
    let mut port = machine.port();
    assert!(is_in(&mut port, "web", "starting"), "{}", status(&mut port, "web"));
    port.ok("delete", "<<\"web\">>");
    port.ok("sync", "nil");
    eventually("it is gone", || status(&mut port, "web").is_nil());
    assert!(says.join("goodbye").exists(), "it was asked to end");
}

#[test]
fn a_run_that_begins_while_the_last_ones_record_goes_is_left_alone() {
    let Some(machine) = Machine::new("begun while forgotten") else { return };
    let machine = machine.with(&["--interval-ms", "20"]);
    let mut port = machine.port();
    let pods: Vec<String> = (0..20).map(|number| format!("p{number}")).collect();
    let once = |pod: &str| machine.pod(pod, "exit 3", "").replacen("#{", "#{restart => never, ", 1);
    for pod in &pods {
        port.ok("apply", &once(pod));
        // The moment that it is over.
        while !is_in(&mut port, pod, "terminal") {}
        port.ask("apply", &machine.pod(pod, "sleep 1000", ""));
    }
    port.ok("sync", "nil");
    let pids: Vec<i32> = pods.iter().map(|pod| host_pid(&mut port, pod)).collect();
    // A run that another connection is made to is given up after five seconds.
    let began = std::time::Instant::now();
    while began.elapsed() < std::time::Duration::from_secs(6) {
        // Each looks at what is nobody's.
        port.ok("sync", "nil");
    }
    let after: Vec<i32> = pods.iter().map(|pod| host_pid(&mut port, pod)).collect();
    assert_eq!(after, pids);
}
