//! Pods that start and end, again and again, in every way there is: nothing of them is
//! left in the kernel, on the disk or in the port program. `scripts/cycles` does
//! it a thousand times. Needs root.
//!
//! All of it happens in pid and mount namespaces of the test's own, so that whatever is
//! seen there is the port program's.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use erlang_term_format::Term;
use rustix::process::{Pid, Signal};
use support::{Port, eventually, is_root, rootfs};
use tempfile::TempDir;

/// Pods that are started and stopped in one run of the tests.
const CYCLES: usize = 50;
/// Set where the namespaces are the test's own.
const INSIDE: &str = "TANK_CYCLES_INSIDE";
/// Memory that the port program may have more at the end than when it was warm.
const GROWTH_KIB_MAX: u64 = 1024;

/// A pod for each way to end: its name, its command, and its exit.
const PODS: [(&str, &str, &str); 5] = [
    ("ends", "sleep 1000 & echo done", "{exited,0}"),
    ("stopped", "trap 'exit 0' TERM; sleep 1000 & wait", ""),
    ("killed", "sleep 1000 & sleep 1000", "{signaled,9}"),
    ("fails", "", "start_failed"),
    ("orphaned", "sleep 1000 & sleep 1000", "lost"),
];

#[test]
fn pods_that_come_and_go_leave_nothing() {
    if !is_root("cycles") {
        return;
    }
    if env::var_os(INSIDE).is_none() {
        return go_inside("pods_that_come_and_go_leave_nothing");
    }
    let rounds = cycles().div_ceil(PODS.len());
    // What is made once has been made by then, and what is kept has been filled.
    let warm = rounds.div_ceil(5);
    let mut machine = Machine::new();
    let began = Instant::now();
    (0..warm).for_each(|round| machine.round(round));
    let (before, warm_kib) = (machine.traces(), machine.port.memory_kib());
    (warm..rounds).for_each(|round| machine.round(round));
    let kib = machine.port.memory_kib();
    eventually("all is as it was before", || machine.traces() == before);
    let (warm, cycles) = (warm * PODS.len(), rounds * PODS.len());
    println!("{cycles} pods came and went in {:.1?}, {warm} of them to warm up", began.elapsed());
    println!("before and after: {}", counted(&before));
    println!("memory of the port program: {warm_kib} KiB before, {kib} KiB after");
    assert!(kib <= warm_kib + GROWTH_KIB_MAX, "{warm_kib} KiB have become {kib} KiB");
    machine.end();
}

/// How many pods are to come and go.
fn cycles() -> usize {
    let Ok(text) = env::var("TANK_CYCLES") else { return CYCLES };
    text.parse().unwrap_or_else(|_| panic!("TANK_CYCLES is no number: {text:?}"))
}

/// Runs the test again in namespaces of its own. The shell reaps shims, which
/// belong to nobody.
fn go_inside(test: &str) {
    let status = Command::new("unshare")
        .args(["--pid", "--fork", "--kill-child", "--mount", "--mount-proc"])
        .args(["/bin/sh", "-c", "\"$0\" --exact \"$1\" --nocapture; exit $?"])
        .arg(env::current_exe().expect("this is a program"))
        .arg(test)
        .env(INSIDE, "1")
        .status()
        .expect("unshare is part of util-linux");
    assert!(status.success(), "{status}");
}

/// How many traces there are of each kind.
fn counted(traces: &BTreeSet<String>) -> String {
    let mut counts = BTreeMap::<&str, usize>::new();
    for kind in traces.iter().filter_map(|trace| trace.split(' ').next()) {
        *counts.entry(kind).or_default() += 1;
    }
    let counts: Vec<_> = counts.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    counts.join(", ")
}

/// A port program with directories and cgroups of its own.
struct Machine {
    dir: TempDir,
    cgroup: String,
    port: Port,
}

impl Machine {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        rootfs(dir.path());
        let cgroup =
            dir.path().file_name().expect("a name").to_string_lossy().replace('.', "tank-");
        let path = |name: &str| dir.path().join(name).display().to_string();
        let port = Port::start(&[
            "--data-dir",
            &path("data"),
            "--run-dir",
            &path("run"),
            "--cgroup-parent",
            &cgroup,
        ]);
        Self { dir, cgroup, port }
    }

    /// Starts each pod, ends each in its way, and deletes all.
    fn round(&mut self, round: usize) {
        for (name, script, _) in PODS {
            let spec = self.pod(name, script, round);
            self.port.ok("apply", &spec);
        }
        self.port.ok("sync", "nil");
        self.kill("killed", |pid| pid);
        self.kill("orphaned", parent_of);
        for (name, _, exit) in PODS.into_iter().filter(|(_, _, exit)| !exit.is_empty()) {
            eventually("it is over", || {
                let status = self.status(name);
                let is_over = status.get("status").is_some_and(|word| word.is_atom("terminal"));
                assert!(!is_over || status.to_string().contains(exit), "{status}");
                is_over
            });
        }
        assert!(self.status("stopped").get("status").is_some_and(|word| word.is_atom("running")));
        for (name, _, _) in PODS {
            self.port.ok("delete", &format!("<<\"{name}\">>"));
        }
        self.port.ok("sync", "nil");
    }

    /// A pod with all that leaves traces. Its spec is another in each round.
    fn pod(&self, name: &str, script: &str, round: usize) -> String {
        let command = if script.is_empty() {
            "[<<\"/bin/nope\">>]".to_owned()
        } else {
            format!("[<<\"/bin/sh\">>, <<\"-c\">>, <<\"{script}\">>]")
        };
        format!(
            "#{{name => <<\"{name}\">>, restart => never,
               volumes => [#{{name => <<\"data\">>}}, #{{name => <<\"scratch\">>, source => tmpfs}}],
               containers => [#{{name => <<\"c\">>, image => {{rootfs, <<\"{}\">>}}, command => {command},
                 env => #{{<<\"ROUND\">> => <<\"{round}\">>}},
                 limits => #{{memory => 67108864, pids => 50, cpu => {{50000, 100000}}}},
                 mounts => [#{{volume => <<\"data\">>, path => <<\"/data\">>}},
                            #{{volume => <<\"scratch\">>, path => <<\"/data/scratch\">>}}]}}]}}",
            self.dir.path().join("rootfs").display()
        )
    }

    fn status(&mut self, pod: &str) -> Term<'static> {
        let all = self.port.ok("status", "nil");
        let name = Term::binary(pod.to_owned());
        let found = all.as_map().into_iter().flatten().find(|(key, _)| *key == name);
        found.expect("it is tracked").1.clone()
    }

    /// Kills the first process of a pod, or another that is found by it.
    fn kill(&mut self, pod: &str, which: fn(i32) -> i32) {
        let status = self.status(pod);
        let pid = status.get("host_pid").and_then(Term::as_i64);
        let pid = pid.and_then(|pid| i32::try_from(pid).ok());
        let pid = which(pid.unwrap_or_else(|| panic!("{pod} has no pid: {status}")));
        rustix::process::kill_process(Pid::from_raw(pid).expect("a pid"), Signal::KILL)
            .expect("it lives");
    }

    /// All that the port program has, a line each.
    fn traces(&self) -> BTreeSet<String> {
        let port = self.port.pid();
        let descriptors = fs::read_dir(format!("/proc/{port}/fd")).expect("it lives");
        let descriptors = descriptors.flatten().map(|entry| {
            let to = fs::read_link(entry.path()).unwrap_or_default();
            format!("descriptor {} {}", entry.file_name().display(), to.display())
        });
        let mut traces: BTreeSet<String> = descriptors.collect();
        traces.extend(processes());
        traces.extend(mounts());
        traces.extend(cgroups(&self.cgroup));
        traces.extend(below(self.dir.path()).into_iter().map(|path| format!("file {path}")));
        traces
    }

    /// Ends the port program, of which nothing is left but its data.
    fn end(mut self) {
        self.port.ok("shutdown", "#{pods => stop}");
        assert_eq!(self.port.wait().code(), Some(0));
        assert_eq!(cgroups(&self.cgroup), Vec::<String>::new());
        assert!(!self.dir.path().join("run").exists());
    }
}

/// Every process of this pid namespace, those that nobody has reaped too, and every
/// network namespace that one of them is in.
fn processes() -> impl Iterator<Item = String> {
    let entries = fs::read_dir("/proc").expect("it is mounted").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.flat_map(|pid| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let network = fs::read_link(format!("/proc/{pid}/ns/net")).unwrap_or_default();
        [format!("process {pid} {}", name.trim_end()), format!("network {}", network.display())]
    })
}

fn mounts() -> Vec<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("it is mounted");
    mounts.lines().map(|line| format!("mount {line}")).collect()
}

/// The cgroups at and below those of a name, in every tree.
fn cgroups(name: &str) -> Vec<String> {
    let mut all = below(Path::new("/sys/fs/cgroup"));
    all.retain(|path| path.split('/').any(|part| part == name) && Path::new(path).is_dir());
    all.into_iter().map(|path| format!("cgroup {path}")).collect()
}

/// All paths below a directory.
fn below(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        // Others may remove what is theirs meanwhile.
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            found.push(entry.path().display().to_string());
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                dirs.push(entry.path());
            }
        }
    }
    found
}

fn parent_of(pid: i32) -> i32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:")).expect("a PPid line");
    line.trim().parse().expect("a number")
}
