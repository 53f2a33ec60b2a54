//! Each limit bites, seen from the kernel's own counters or from what a program
//! can no longer do.

use std::fs;

use super::*;

fn run(machine: &Machine, port: &mut Port, pod: &str, script: &str, limits: &str) {
    port.ok("apply", &machine.pod(pod, script, &format!(", limits => #{{{limits}}}")));
    port.ok("sync", "nil");
}

/// A counter of a file with a name and a number a line; of none of these names, 0.
fn counter(text: &str, names: &[&str]) -> u64 {
    let line = text.lines().find_map(|line| {
        let (name, count) = line.split_once(' ')?;
        names.contains(&name).then(|| count.trim().parse().expect("a number"))
    });
    line.unwrap_or(0)
}

/// Ticks of CPU time that a process has had.
fn cpu_ticks(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives");
    let fields = stat.rsplit_once(") ").expect("a name").1.split(' ');
    fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
}

#[test]
fn a_limit_of_memory_bites() {
    let Some(machine) = Machine::new("memory bites") else { return };
    let mut port = machine.port();
    let limits = ", limits => #{memory => 16777216}";
    port.ok("apply", &machine.pod("web", "exec tail /dev/zero", limits));
    eventually("it is killed", || is_in(&mut port, "web", "backing_off"));
    let status = status(&mut port, "web");
    assert_eq!(status.get("last_exit").expect("an exit").to_string(), "{signaled,9}");
    let reason = status.get("reason").and_then(Term::as_str).expect("a reason");
    assert!(reason.contains("out of memory"), "{reason}");
}

#[test]
fn a_limit_of_memory_and_swap_bites() {
    let Some(machine) = Machine::new("swap bites") else { return };
    let mut port = machine.port();
    // The child is what is killed, so that the counters are still there.
    let script = "tail /dev/zero; echo ended; exec sleep 1000";
    run(&machine, &mut port, "web", script, "memory => 16777216, memory_swap => 16777216");
    eventually("the child is killed", || machine.logged("web").contains("ended"));
    let pid = host_pid(&mut port, "web");
    let events = cgroup_file(pid, "memory", "memory.oom_control", "memory.events");
    assert_eq!(counter(&events, &["oom_kill"]), 1, "{events}");
    let most = cgroup_file(pid, "memory", "memory.memsw.max_usage_in_bytes", "memory.peak");
    let most: u64 = most.parse().expect("bytes");
    assert!((15 << 20..=16 << 20).contains(&most), "{most}");
}

#[test]
fn a_limit_of_processes_bites() {
    let Some(machine) = Machine::new("pids bite") else { return };
    let mut port = machine.port();
    let script = "for i in 1 2 3 4 5 6; do sleep 1000 & done; echo more than enough";
    run(&machine, &mut port, "web", script, "pids => 4");
    eventually("it cannot fork", || machine.logged("web").contains("can't fork"));
    assert!(!machine.logged("web").contains("more than enough"));
}

#[test]
fn a_limit_of_cpu_time_bites() {
    let Some(machine) = Machine::new("cpu bites") else { return };
    let mut port = machine.port();
    run(&machine, &mut port, "web", "while :; do :; done", "cpu => {5000, 100000}");
    let pid = host_pid(&mut port, "web");
    let throttled = || counter(&cgroup_file(pid, "cpu", "cpu.stat", "cpu.stat"), &["nr_throttled"]);
    eventually("it has been made to wait, again and again", || throttled() > 3);
}

#[test]
fn shares_of_cpu_time_bite() {
    let Some(machine) = Machine::new("shares bite") else { return };
    let mut port = machine.port();
    // Both want the same processor.
    let script = "exec taskset 1 sh -c 'while :; do :; done'";
    run(&machine, &mut port, "few", script, "cpu_shares => 64");
    run(&machine, &mut port, "many", script, "cpu_shares => 4096");
    let (few, many) = (host_pid(&mut port, "few"), host_pid(&mut port, "many"));
    let before = cpu_ticks(few);
    let many_before = cpu_ticks(many);
    eventually("one has run for a while", || cpu_ticks(many) > many_before + 100);
    let few_ran = cpu_ticks(few) - before;
    assert!(few_ran < 50, "{few_ran} of 100 ticks, with a sixty-fourth of the shares");
}

#[test]
fn a_limit_of_open_files_bites() {
    let Some(machine) = Machine::new("nofile bites") else { return };
    let mut port = machine.port();
    let script = "(exec 12</dev/null && echo twelve); (exec 20</dev/null) || echo no twenty; \
                  exec sleep 1000";
    run(&machine, &mut port, "web", script, "nofile => 16");
    eventually("it has tried", || machine.logged("web").contains("no twenty"));
    assert!(machine.logged("web").contains("twelve"));
}

#[test]
fn niceness_and_the_oom_killers_choice_are_the_kernels_view_of_it() {
    let Some(machine) = Machine::new("nice and oom_score_adj") else { return };
    let mut port = machine.port();
    run(&machine, &mut port, "web", "exec sleep 1000", "nice => 7, oom_score_adj => 444");
    let pid = host_pid(&mut port, "web");
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).expect("it lives");
    let stat = read("stat");
    assert_eq!(stat.rsplit_once(") ").expect("a name").1.split(' ').nth(16), Some("7"));
    assert_eq!(read("oom_score_adj").trim(), "444");
}
