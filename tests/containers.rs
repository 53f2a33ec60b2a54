//! `tank port` with real containers: what becomes of runs when the program or
//! its client dies, and how failures to start are told. Needs root.

#[path = "containers/adoption.rs"]
mod adoption;
#[path = "containers/ends.rs"]
mod ends;
#[path = "containers/first_process.rs"]
mod first_process;
#[path = "containers/foreign.rs"]
mod foreign;
#[path = "containers/foresight.rs"]
mod foresight;
#[path = "containers/independence.rs"]
mod independence;
#[path = "containers/limits.rs"]
mod limits;
#[path = "containers/oci.rs"]
mod oci;
#[path = "containers/pods.rs"]
mod pods;
mod support;
#[path = "containers/unharmed.rs"]
mod unharmed;
#[path = "containers/unkillable.rs"]
mod unkillable;
#[path = "containers/users.rs"]
mod users;
#[path = "containers/volumes.rs"]
mod volumes;

use std::path::Path;

use erlang_term_format::Term;
use rustix::process::{Pid, Signal};
use support::{Port, code, eventually, is_alive, is_root, message, place, refused, rootfs};
use tempfile::TempDir;

/// A machine of its own: data, runs and a root file system.
struct Machine {
    dir: TempDir,
    rootfs: String,
    extra: Vec<String>,
}

impl Machine {
    /// `None`, said aloud, when not root.
    fn new(test: &str) -> Option<Self> {
        if !is_root(test) {
            return None;
        }
        let dir = tempfile::tempdir().expect("a directory");
        let rootfs = rootfs(dir.path()).display().to_string();
        Some(Self { dir, rootfs, extra: Vec::new() })
    }

    fn with(mut self, extra: &[&str]) -> Self {
        self.extra.extend(extra.iter().map(|&arg| arg.to_owned()));
        self
    }

    fn args(&self) -> Vec<String> {
        let path = |name: &str| self.dir.path().join(name).display().to_string();
        let mut args = vec!["--data-dir".to_owned(), path("data"), "--run-dir".to_owned()];
        args.push(path("run"));
        args.extend(self.extra.iter().cloned());
        args
    }

    fn port(&self) -> Port {
        let args = self.args();
        Port::start(&args.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// A program in which the pod `web` runs, and that one's pid.
    fn port_with_web(&self) -> (Port, i32) {
        let mut port = self.port();
        port.ok("apply", &self.pod("web", "sleep 1000", ""));
        port.ok("sync", "nil");
        let pid = host_pid(&mut port, "web");
        (port, pid)
    }

    /// A pod that runs `script` in a shell.
    fn pod(&self, name: &str, script: &str, rest: &str) -> String {
        self.pod_of(name, &format!("[<<\"/bin/sh\">>, <<\"-c\">>, <<\"{script}\">>]"), rest)
    }

    fn pod_of(&self, name: &str, command: &str, rest: &str) -> String {
        format!(
            "#{{name => <<\"{name}\">>, containers => [#{{name => <<\"c\">>, \
             image => {{rootfs, <<\"{}\">>}}, command => {command}{rest}}}]}}",
            self.rootfs
        )
    }

    /// What the container `c` of a pod has written, as it is in its log.
    fn logged(&self, pod: &str) -> String {
        let log = self.dir.path().join(format!("data/logs/{pod}/c.log"));
        std::fs::read_to_string(log).unwrap_or_default()
    }

    /// Nothing is left of a pod's last run but what is on record of it.
    fn assert_only_on_record(&self, pod: &str) {
        let left = std::fs::read_dir(self.run_dir(pod)).expect("it is on record");
        let mut left: Vec<_> = left.map(|entry| entry.expect("an entry").file_name()).collect();
        left.sort();
        assert!(left == ["end", "run"] || left == ["exit", "run"], "{pod}: {left:?}");
    }

    fn run_dir(&self, pod: &str) -> std::path::PathBuf {
        self.dir.path().join("run/pods").join(pod)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Whatever a test did, its pods end with it.
        let mut port = self.port();
        port.ok("shutdown", "#{pods => stop}");
        assert_eq!(port.wait().code(), Some(0));
    }
}

fn status(port: &mut Port, pod: &str) -> Term<'static> {
    let all = port.ok("status", "nil");
    let name = Term::binary(pod.to_owned());
    let found = all.as_map().into_iter().flatten().find(|(key, _)| *key == name);
    found.map_or(Term::nil(), |(_, status)| status.clone())
}

fn is_in(port: &mut Port, pod: &str, state: &str) -> bool {
    status(port, pod).get("status").is_some_and(|found| found.is_atom(state))
}

fn host_pid(port: &mut Port, pod: &str) -> i32 {
    let status = status(port, pod);
    let pid = status.get("host_pid").and_then(Term::as_i64);
    i32::try_from(pid.unwrap_or_else(|| panic!("{pod} has no pid: {status}"))).expect("a pid")
}

#[test]
fn a_run_is_gone_with_all_it_had_once_its_delete_has_settled() {
    let Some(machine) = Machine::new("delete") else { return };
    let mut port = machine.port();
    port.ok("apply", &machine.pod("web", "sleep 1000 & sleep 1000", ""));
    port.ok("sync", "nil");
    let pid = host_pid(&mut port, "web");
    assert!(machine.run_dir("web").exists());
    port.ok("delete", "<<\"web\">>");
    port.ok("sync", "nil");
    assert!(!is_alive(pid));
    assert!(!machine.run_dir("web").exists());
    assert_eq!(port.ok("status", "nil"), Term::Map(Vec::new()));
}

/// What a file of the process's cgroup says, under its name in a tree of version 1
/// or in the one of version 2.
fn cgroup_file(pid: i32, controller: &str, v1: &str, v2: &str) -> String {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it lives");
    let of = |wanted: &str| {
        groups.lines().find_map(|line| {
            let (names, path) = line.split_once(':')?.1.split_once(':')?;
            names.split(',').any(|name| name == wanted).then(|| path.to_owned())
        })
    };
    let path = match of(controller) {
        Some(path) => format!("/sys/fs/cgroup/{controller}{path}/{v1}"),
        None => format!("/sys/fs/cgroup{}/{v2}", of("").expect("a cgroup")),
    };
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    text.trim().to_owned()
}

#[test]
fn limits_and_the_policy_of_a_run_change_in_place() {
    let Some(machine) = Machine::new("limits in place") else { return };
    let mut port = machine.port();
    let limited =
        |limits: &str| machine.pod("web", "sleep 1000", &format!(", limits => #{{{limits}}}"));
    port.ok("apply", &limited("memory => 33554432, pids => 10"));
    port.ok("sync", "nil");
    let pid = host_pid(&mut port, "web");
    let memory = || cgroup_file(pid, "memory", "memory.limit_in_bytes", "memory.max");
    let pids = || cgroup_file(pid, "pids", "pids.max", "pids.max");
    assert_eq!((&*memory(), &*pids()), ("33554432", "10"));
    port.ok("apply", &limited("memory => 67108864"));
    port.ok("sync", "nil");
    assert_eq!((&*memory(), &*pids()), ("67108864", "max"));
    let policy = limited("memory => 67108864")
        .replace("name => <<\"web\">>,", "name => <<\"web\">>, restart => never,");
    assert_ne!(policy, limited("memory => 67108864"));
    port.ok("apply", &policy);
    let status = status(&mut port, "web");
    assert_eq!(status.get("host_pid").and_then(Term::as_i64), Some(i64::from(pid)));
    assert_eq!(status.get("generation").and_then(Term::as_i64), Some(3), "{status}");
    rustix::process::kill_process(Pid::from_raw(pid).expect("a pid"), Signal::KILL)
        .expect("it lives");
    eventually("the new policy is kept to", || is_in(&mut port, "web", "terminal"));
}

#[test]
fn memory_with_swap_and_shares_are_limited_from_the_start_and_in_place() {
    let Some(machine) = Machine::new("swap and shares") else { return };
    let mut port = machine.port();
    let limited =
        |limits: &str| machine.pod("web", "sleep 1000", &format!(", limits => #{{{limits}}}"));
    let mib = |count: u64| count << 20;
    port.ok(
        "apply",
        &limited(&format!("memory => {}, memory_swap => {}, cpu_shares => 2048", mib(32), mib(64))),
    );
    port.ok("sync", "nil");
    let pid = host_pid(&mut port, "web");
    // Version 1 counts both, version 2 swap alone; shares are a weight there.
    let swap = || cgroup_file(pid, "memory", "memory.memsw.limit_in_bytes", "memory.swap.max");
    let shares = || cgroup_file(pid, "cpu", "cpu.shares", "cpu.weight");
    assert!([mib(64), mib(32)].map(|bytes| bytes.to_string()).contains(&swap()), "{}", swap());
    assert!(["2048", "79"].contains(&&*shares()), "{}", shares());
    for (memory, both) in [(128, 256), (16, 16)] {
        let (memory, both) = (mib(memory), mib(both));
        port.ok("apply", &limited(&format!("memory => {memory}, memory_swap => {both}")));
        port.ok("sync", "nil");
        assert_eq!(host_pid(&mut port, "web"), pid, "it is the same run");
        assert!(
            [both, both - memory].map(|bytes| bytes.to_string()).contains(&swap()),
            "{}",
            swap()
        );
        assert!(["1024", "100"].contains(&&*shares()), "{}", shares());
    }
}

#[test]
fn a_pod_is_stopped_by_the_signal_and_the_grace_that_it_has_by_then() {
    let Some(machine) = Machine::new("stop signals") else { return };
    let machine = machine.with(&["--stop-grace-ms", "0"]);
    let mut port = machine.port();
    let script = "trap 'exit 7' USR1; trap 'exit 8' HUP; trap 'exit 9' 37; trap '' TERM; echo ready; \
                  while true; do sleep 1000 & wait; done";
    let log = machine.dir.path().join("data/logs/web/c.log");
    let is_ready = || std::fs::read_to_string(&log).is_ok_and(|said| said.contains("ready"));
    port.ok("subscribe", "#{credits => 100}");
    let patient = ", stop_grace_ms => 60000";
    for (first, then, code) in [
        (format!(", stop_signal => <<\"USR1\">>{patient}"), String::new(), 7),
        (String::new(), format!(", stop_signal => <<\"SIGUSR1\">>{patient}"), 7),
        (format!(", stop_signal => <<\"RTMIN+3\">>{patient}"), String::new(), 9),
        (format!(", stop_signal => 10{patient}"), format!(", stop_signal => 1{patient}"), 8),
    ] {
        port.ok("apply", &machine.pod("web", script, &first));
        port.ok("sync", "nil");
        let pid = host_pid(&mut port, "web");
        eventually("the traps are set", is_ready);
        if !then.is_empty() {
            port.ok("apply", &machine.pod("web", script, &then));
            port.ok("sync", "nil");
            assert_eq!(host_pid(&mut port, "web"), pid, "it is the same run");
        }
        port.ask("delete", "<<\"web\">>");
        assert_eq!(exit_heard(&mut port), format!("{{exited,{code}}}"), "{first} {then}");
        port.ok("sync", "nil");
    }
}

/// Waits for the notice that a run is over, and says how it ended.
fn exit_heard(port: &mut Port) -> String {
    loop {
        let frame = port.recv();
        let Some([_, _, notice]) = frame.as_tuple() else { continue };
        match notice.as_tuple() {
            Some([tag, _, _, exit]) if tag.is_atom("ended") => return exit.to_string(),
            _ => {}
        }
    }
}

#[test]
fn a_limit_that_a_run_cannot_be_given_replaces_the_run() {
    let Some(machine) = Machine::new("limits by a new run") else { return };
    let mut port = machine.port();
    let limited =
        |limits: &str| machine.pod("web", "sleep 1000", &format!(", limits => #{{{limits}}}"));
    port.ok("apply", &limited("pids => 10"));
    port.ok("sync", "nil");
    let before = host_pid(&mut port, "web");
    port.ok("apply", &limited("pids => 9000000000000"));
    port.ok("sync", "nil");
    assert!(!is_alive(before));
    let status = status(&mut port, "web");
    let exit = status.get("last_exit").expect("it says how the last start ended").to_string();
    assert!(exit.contains("write cgroup limit") && exit.contains("pids.max"), "{exit}");
}

#[test]
fn the_kernels_kill_for_lack_of_memory_is_told_from_any_other() {
    let Some(machine) = Machine::new("out of memory") else { return };
    let mut port = machine.port();
    let limits = ", limits => #{memory => 16777216}";
    port.ok("apply", &machine.pod("hungry", "exec tail /dev/zero", limits));
    port.ok("apply", &machine.pod("killed", "sleep 1000", limits));
    port.ok("sync", "nil");
    let pid = host_pid(&mut port, "killed");
    rustix::process::kill_process(Pid::from_raw(pid).expect("a pid"), Signal::KILL)
        .expect("it lives");
    for (pod, reason) in
        [("hungry", "killed by the kernel, out of memory"), ("killed", "ended by signal 9")]
    {
        eventually("the pod backs off", || is_in(&mut port, pod, "backing_off"));
        let status = status(&mut port, pod);
        assert_eq!(status.get("last_exit").map(Term::to_string), Some("{signaled,9}".to_owned()));
        let said = status.get("reason").and_then(Term::as_str).unwrap_or_default().to_owned();
        assert!(said.starts_with(reason), "{said}");
    }
}

#[test]
fn failures_to_start_say_step_object_and_errno() {
    let Some(machine) = Machine::new("failed starts") else { return };
    let mut port = machine.port();
    std::fs::write(Path::new(&machine.rootfs).join("bin/plain"), "no program").expect("ours");
    let missing_rootfs =
        machine.pod("rootless", "true", "").replace(&machine.rootfs, "/nonexistent/rootfs");
    let limit = ", limits => #{pids => 9000000000000}";
    for (pod, spec, step, object, says) in [
        ("rootless", missing_rootfs, "open_rootfs", "/nonexistent/rootfs", "no such file"),
        (
            "missing",
            machine.pod_of("missing", "[<<\"/bin/nope\">>]", ""),
            "exec",
            "/bin/nope",
            "no such file",
        ),
        (
            "plain",
            machine.pod_of("plain", "[<<\"/bin/plain\">>]", ""),
            "exec",
            "/bin/plain",
            "permission denied",
        ),
        (
            "greedy",
            machine.pod("greedy", "true", limit),
            "write_cgroup_limit",
            "pids.max",
            "invalid argument",
        ),
    ] {
        port.ok("apply", &spec);
        eventually("the start has failed", || is_in(&mut port, pod, "backing_off"));
        let status = status(&mut port, pod);
        let exit = status.get("last_exit").and_then(Term::as_tuple).expect("an exit").to_vec();
        let error = &exit[1];
        assert_eq!(code(error), "start_failed", "{error}");
        assert_eq!(place(error, "step"), step, "{error}");
        assert_eq!(place(error, "pod"), pod, "{error}");
        assert_eq!(place(error, "container"), "c", "{error}");
        assert!(place(error, "path").ends_with(object), "{error}");
        assert!(!place(error, "errno").is_empty(), "{error}");
        assert!(error.get("hint").is_some_and(|hint| !hint.is_nil()), "{error}");
        assert!(message(error).contains(says), "{error}");
        machine.assert_only_on_record(pod);
    }
    // None of them disturbs a pod that can start.
    port.ok("apply", &machine.pod("fine", "sleep 1000", ""));
    port.ok("sync", "nil");
    assert!(is_in(&mut port, "fine", "running"));
}

#[test]
fn what_cannot_run_yet_is_refused_by_field() {
    let Some(machine) = Machine::new("unsupported") else { return };
    let mut port = machine.port();
    let spec = machine.pod("web", "true", "");
    let image = spec.replace(&format!("{{rootfs, <<\"{}\">>}}", machine.rootfs), "<<\"nginx\">>");
    let pod = |rest: &str| spec.replacen("#{", &format!("#{{{rest}, "), 1);
    let by_runtime = |rest: &str| {
        machine.pod("web", "true", rest).replacen("#{", "#{oci_runtime => <<\"crun\">>, ", 1)
    };
    let init = "[#{name => <<\"i\">>, image => <<\"a\">>}]";
    for (spec, field) in [
        (image, "containers[0].image"),
        (pod(&format!("init_containers => {init}")), "init_containers[0].image"),
        (pod("userns => auto, oci_runtime => <<\"crun\">>"), "userns"),
        (by_runtime(", tty => true"), "containers[0].tty"),
        (by_runtime(", init => true"), "containers[0].init"),
    ] {
        let error = port.error("apply", &spec);
        assert_eq!(code(&error), "unsupported");
        assert_eq!(place(&error, "field"), field);
    }
    assert_eq!(port.ok("list", "nil"), Term::List(Vec::new()));
}

#[test]
fn a_user_is_who_the_root_file_system_says() {
    let Some(machine) = Machine::new("users by name") else { return };
    let etc = Path::new(&machine.rootfs).join("etc");
    std::fs::create_dir_all(&etc).expect("ours");
    std::fs::write(etc.join("passwd"), "web:x:33:34::/srv/web:/bin/sh\n").expect("ours");
    std::fs::write(etc.join("group"), "www:x:34:\nlogs:x:4:web\n").expect("ours");
    let mut port = machine.port();
    let script = "echo $HOME; id -u; id -g; echo groups $(id -G); exec sleep 1000";
    for (pod, user, says) in [
        ("named", "web", ["/srv/web", "33", "34", "groups 34 4"]),
        ("grouped", "web:www", ["/srv/web", "33", "34", "groups 34"]),
        ("numbered", "1000:1001", ["/", "1000", "1001", "groups 1001"]),
    ] {
        port.ok("apply", &machine.pod(pod, script, &format!(", user => <<\"{user}\">>")));
        let log = machine.dir.path().join(format!("data/logs/{pod}/c.log"));
        let said = || std::fs::read_to_string(&log).unwrap_or_default();
        eventually("the pod has said who it is", || said().contains("groups"));
        // A line of the log is the time, the stream, a flag, and what was said.
        let lines: Vec<String> = said()
            .lines()
            .map(|line| line.splitn(4, ' ').nth(3).unwrap_or_default().to_owned())
            .collect();
        assert_eq!(lines, says, "{user}");
    }
    port.ok("apply", &machine.pod("unknown", "true", ", user => <<\"nobody\">>"));
    eventually("the start has failed", || is_in(&mut port, "unknown", "backing_off"));
    let status = status(&mut port, "unknown");
    let reason = status.get("reason").and_then(Term::as_str).unwrap_or_default().to_owned();
    assert!(reason.starts_with("user: no user nobody in its etc/passwd"), "{reason}");
}

#[test]
fn a_killed_shim_takes_its_containers_along_and_counts_as_a_crash() {
    let Some(machine) = Machine::new("kill -9 of the shim") else { return };
    let (mut port, pid) = machine.port_with_web();
    let shim = parent_of(pid);
    rustix::process::kill_process(Pid::from_raw(shim).expect("a pid"), Signal::KILL)
        .expect("the shim lives");
    eventually("the crash is noticed", || is_in(&mut port, "web", "backing_off"));
    assert!(!is_alive(pid));
    let status = status(&mut port, "web");
    assert!(status.to_string().contains("lost"), "{status}");
    machine.assert_only_on_record("web");
}

#[test]
fn no_dead_process_is_left_unreaped() {
    let Some(machine) = Machine::new("zombies") else { return };
    let mut port = machine.port();
    for round in 0..3 {
        let pod = format!("missing{round}");
        port.ok("apply", &machine.pod_of(&pod, "[<<\"/bin/nope\">>]", ""));
        eventually("the start has failed", || is_in(&mut port, &pod, "backing_off"));
    }
    port.ok("apply", &machine.pod("short", "exit 3", ""));
    eventually("a run has ended", || is_in(&mut port, "short", "backing_off"));
    eventually("all children are reaped", || children_of(port.pid()).is_empty());
}

/// The pids of a process's children, dead ones included.
fn children_of(pid: i32) -> Vec<String> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let children = std::fs::read_to_string(path).expect("it lives");
    children.split_whitespace().map(str::to_owned).collect()
}

fn parent_of(pid: i32) -> i32 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:")).expect("a PPid line");
    line.trim().parse().expect("a number")
}

#[test]
fn the_end_of_stdin_keeps_pods_by_default() {
    let Some(machine) = Machine::new("on_disconnect keep") else { return };
    let (mut port, pid) = machine.port_with_web();
    port.hang_up();
    assert_eq!(port.wait().code(), Some(0));
    assert!(is_alive(pid));
}

#[test]
fn a_client_that_goes_after_it_said_keep_keeps_its_pods() {
    let Some(machine) = Machine::new("keep, then gone") else { return };
    let machine = machine.with(&["--on-disconnect", "stop", "--stop-grace-ms", "300"]);
    let mut port = machine.port();
    port.ok("apply", &machine.pod("web", "sleep 1000", ""));
    port.ok("apply", &machine.pod("slow", "trap '' TERM; sleep 1000 & wait", ""));
    port.ok("sync", "nil");
    let pid = host_pid(&mut port, "web");
    // A stop in flight keeps the answer waiting until the client is gone.
    port.ok("delete", "<<\"slow\">>");
    port.ask("shutdown", "#{pods => keep}");
    port.hang_up();
    assert_eq!(port.wait().code(), Some(0));
    assert!(is_alive(pid));
}

#[test]
fn a_client_of_another_protocol_is_a_client_that_is_gone() {
    let Some(machine) = Machine::new("mismatch") else { return };
    let mut port = machine.port();
    port.ok("apply", &machine.pod("web", "sleep 1000", ""));
    port.ok("sync", "nil");
    port.kill();
    let machine = machine.with(&["--on-disconnect", "stop"]);
    let args = machine.args();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut port = Port::start_without_greeting(&args);
    port.send("{hello, #{protocol => 99}}");
    assert_eq!(port.wait().code(), Some(3));
    assert!(!machine.run_dir("web").exists());
}

#[test]
fn names_that_mean_something_in_a_cgroup_are_names_of_pods_too() {
    let Some(machine) = Machine::new("cgroup names") else { return };
    let mut port = machine.port();
    for pod in ["tasks", "cgroup.procs", "memory.max"] {
        let limits = ", limits => #{memory => 50000000}";
        port.ok("apply", &machine.pod(pod, "sleep 1000", limits));
        port.ok("sync", "nil");
        assert!(is_in(&mut port, pod, "running"), "{}", status(&mut port, pod));
    }
}

#[test]
fn a_pod_that_is_stuck_in_its_start_holds_up_nobody_and_can_be_deleted() {
    let Some(machine) = Machine::new("stuck start") else { return };
    let wrapper = machine.dir.path().join("shim");
    let shim = Path::new(env!("CARGO_BIN_EXE_tank")).with_file_name("tank-shim");
    let script = format!(
        "#!/bin/sh\ncase $1 in */stuck) exec sleep 1000;; esac\nexec {} \"$@\"\n",
        shim.display()
    );
    std::fs::write(&wrapper, script).expect("ours");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&wrapper, mode).expect("ours");
    let wrapper = wrapper.display().to_string();
    let machine = machine.with(&["--shim", &wrapper]);
    let mut port = machine.port();
    port.ok("apply", &machine.pod("stuck", "sleep 1000", ""));
    port.ok("apply", &machine.pod("fine", "sleep 1000", ""));
    eventually("the other one runs", || is_in(&mut port, "fine", "running"));
    assert!(is_in(&mut port, "stuck", "starting"));
    port.ok("delete", "<<\"stuck\">>");
    port.ok("sync", "nil");
    assert!(status(&mut port, "stuck").is_nil());
    assert!(!machine.run_dir("stuck").exists());
}

#[test]
fn shims_go_on_from_the_program_that_there_was_at_the_start() {
    let Some(machine) = Machine::new("a replaced shim") else { return };
    let (shim, other) = (machine.dir.path().join("shim"), machine.dir.path().join("other"));
    let built = Path::new(env!("CARGO_BIN_EXE_tank")).with_file_name("tank-shim");
    std::fs::copy(built, &shim).expect("ours");
    let machine = machine.with(&["--shim", &shim.display().to_string()]);
    let mut port = machine.port();
    std::fs::copy("/bin/false", &other).expect("ours");
    std::fs::rename(&other, &shim).expect("ours");
    port.ok("apply", &machine.pod("web", "sleep 1000", ""));
    port.ok("sync", "nil");
    let status = std::fs::read_to_string(format!("/proc/{}/status", host_pid(&mut port, "web")));
    let status = status.expect("it lives");
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:\t")).expect("a parent");
    let tells = |file: &str| std::fs::read_to_string(format!("/proc/{parent}/{file}"));
    assert_eq!(tells("comm").expect("it lives"), "tank-shim\n");
    let command = format!("tank-shim\0{}\0", machine.run_dir("web").display());
    assert!(tells("cmdline").expect("it lives").starts_with(&command));
    let program = std::fs::read_link(format!("/proc/{parent}/exe")).expect("it lives");
    assert_eq!(program, Path::new("/memfd:tank-shim (deleted)"));
}

#[test]
fn a_shim_that_cannot_be_executed_is_named_at_the_start() {
    if !is_root("wrong shims") {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name).display().to_string();
    std::fs::write(path("data.txt"), "no program").expect("ours");
    for (name, words) in [("none", "no such file or directory"), ("data.txt", "permission denied")]
    {
        let shim = path(name);
        let dirs = ["--data-dir", &path("data"), "--run-dir", &path("run")];
        let (exit, error) = refused(&[&dirs[..], &["--shim", &shim]].concat());
        assert_eq!((exit, code(&error).as_str()), (2, "bad_option"));
        assert_eq!(
            (place(&error, "option"), place(&error, "path")),
            ("shim".to_owned(), shim.clone())
        );
        assert_eq!(message(&error), format!("seal a copy of {shim}: {words}"));
    }
}

#[test]
fn two_programs_cannot_share_a_run_directory() {
    let Some(machine) = Machine::new("shared run directory") else { return };
    let port = machine.port();
    let other = tempfile::tempdir().expect("a directory");
    let mut args = machine.args();
    args[1] = other.path().display().to_string();
    let (exit, error) = refused(&args.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(exit, 4);
    assert_eq!(code(&error), "locked");
    assert_eq!(place(&error, "pid"), port.pid().to_string());
}

#[test]
fn a_program_that_cannot_start_leaves_no_run_directory() {
    if !is_root("no run directory") {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let (data, run) = (dir.path().join("data"), dir.path().join("run"));
    std::fs::create_dir_all(data.join("state.redb")).expect("ours");
    let path = |path: &Path| path.display().to_string();
    let (exit, error) = refused(&["--data-dir", &path(&data), "--run-dir", &path(&run)]);
    assert_eq!(exit, 4);
    assert_eq!(code(&error), "store_failed");
    assert!(!run.exists());
}
