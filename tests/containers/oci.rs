//! Containers that an OCI runtime launches below the shim: what users rely on is
//! the same. Needs crun and runc.

use std::fs;
use std::path::PathBuf;

use rustix::mount::{MountFlags, UnmountFlags};

use super::pods::{container, last_exit, pod_of, text_of};
use super::*;

const RUNTIMES: [&str; 2] = ["crun", "runc"];

/// A machine with a program on which one pod, `web`, is run by one runtime after
/// the other.
struct Stage {
    /// Ended before another on the same directories removes what is left.
    port: Port,
    machine: Machine,
    runtime: &'static str,
    /// Where the pod's cgroups were, since it last ran.
    cgroups: Vec<PathBuf>,
}

/// Does the same with each runtime; whatever it was, nothing is left of it.
fn with_each_runtime(test: &str, mut act: impl FnMut(&mut Stage)) {
    for runtime in RUNTIMES {
        let Some(machine) = Machine::new(&format!("{test}, {runtime}")) else { return };
        let machine = machine.with(&["--backoff-base-ms", "600000"]);
        let port = machine.port();
        let mut stage = Stage { machine, port, runtime, cgroups: Vec::new() };
        act(&mut stage);
        stage.forget();
    }
}

impl Stage {
    /// A pod that runs a script.
    fn pod(&self, script: &str, rest: &str) -> String {
        self.by_runtime(&self.machine.pod("web", script, rest))
    }

    fn by_runtime(&self, pod: &str) -> String {
        self.with(pod, &format!("oci_runtime => <<\"{}\">>, restart => never", self.runtime))
    }

    /// A pod that has these fields besides.
    fn with(&self, pod: &str, fields: &str) -> String {
        pod.replacen("#{", &format!("#{{{fields}, "), 1)
    }

    /// Starts a pod that goes on; its pid.
    fn start(&mut self, pod: &str) -> i32 {
        self.port.ok("apply", pod);
        self.port.ok("sync", "nil");
        let pid = host_pid(&mut self.port, "web");
        self.cgroups = cgroups_of(pid);
        pid
    }

    /// Runs a pod to its end; how it ended.
    fn run(&mut self, pod: &str) -> String {
        self.port.ok("apply", pod);
        let port = &mut self.port;
        eventually("it is over", || is_in(port, "web", "terminal"));
        last_exit(&mut self.port, "web")
    }

    /// Runs a script that must succeed; what it has printed.
    fn output(&mut self, script: &str, rest: &str) -> Vec<String> {
        let exit = self.run(&self.pod(script, rest));
        let said = self.said("stdout");
        assert_eq!(exit, "{exited,0}", "{}: {}", self.runtime, self.log());
        self.forget();
        said
    }

    /// The error of a pod that cannot start.
    fn error(&mut self, pod: &str) -> Term<'static> {
        let exit = self.run(pod);
        let status = status(&mut self.port, "web");
        let exit_term = status.get("last_exit").and_then(Term::as_tuple).expect("an exit");
        assert!(exit_term[0].is_atom("error"), "{}: {exit}", self.runtime);
        let error = exit_term[1].clone();
        assert_eq!(code(&error), "start_failed", "{error}");
        self.forget();
        error
    }

    /// Ends the pod. Nothing of it may be left then.
    fn forget(&mut self) {
        self.port.ok("delete", "<<\"web\">>");
        self.port.ok("sync", "nil");
        let dir = self.machine.dir.path().join("run/pods").display().to_string();
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("proc is mounted");
        assert!(!mounts.contains(&dir), "{}: {mounts}", self.runtime);
        assert_eq!(processes_that_name(&dir), Vec::<String>::new(), "{}", self.runtime);
        assert!(!self.machine.run_dir("web").exists(), "{}", self.runtime);
        for path in self.cgroups.drain(..) {
            assert!(!path.exists(), "{}: {}", self.runtime, path.display());
        }
    }

    fn log(&self) -> String {
        let log = self.machine.dir.path().join("data/logs/web/c.log");
        fs::read_to_string(log).unwrap_or_default()
    }

    /// What was said on a stream, without what is the log's.
    fn said(&self, stream: &str) -> Vec<String> {
        let log = self.log();
        let fields = log.lines().map(|line| line.splitn(4, ' ').collect::<Vec<_>>());
        let of_stream = fields.filter(|fields| fields[1] == stream);
        of_stream.map(|fields| fields[3].to_owned()).collect()
    }

    fn kill(&self, pid: i32) {
        let pid = Pid::from_raw(pid).expect("a pid");
        rustix::process::kill_process(pid, Signal::KILL).expect("it lives");
    }
}

/// The directories of a process's cgroups that are Tank's.
fn cgroups_of(pid: i32) -> Vec<PathBuf> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it lives");
    let mut found = Vec::new();
    for line in groups.lines().filter(|line| line.contains("/web.pod/")) {
        let (names, path) =
            line.split_once(':').and_then(|(_, rest)| rest.split_once(':')).expect("three fields");
        let roots = [names, "unified", ""].map(|name| Path::new("/sys/fs/cgroup").join(name));
        found
            .extend(roots.map(|root| root.join(&path[1..])).into_iter().filter(|dir| dir.exists()));
    }
    assert!(!found.is_empty(), "{groups}");
    found
}

fn processes_that_name(text: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").expect("proc is mounted").flatten();
    let command = |entry: fs::DirEntry| fs::read_to_string(entry.path().join("cmdline")).ok();
    processes.filter_map(command).filter(|line| line.contains(text)).collect()
}

#[test]
fn exits_are_exact_and_output_is_logged_under_oci_runtimes() {
    with_each_runtime("exits under OCI runtimes", |stage| {
        for (script, exit) in [
            ("echo out; echo err >&2", "{exited,0}"),
            ("exit 77", "{exited,77}"),
            ("sleep 1000 & kill -9 $!; wait $!; exit $?", "{exited,137}"),
        ] {
            let found = stage.run(&stage.pod(script, ""));
            assert_eq!(found, exit, "{}: {script}: {}", stage.runtime, stage.log());
            if script.starts_with("echo") {
                assert_eq!(stage.said("stdout"), ["out"], "{}", stage.runtime);
                assert_eq!(stage.said("stderr"), ["err"], "{}", stage.runtime);
            }
            stage.forget();
        }
        let pid = stage.start(&stage.pod("exec sleep 1000", ""));
        stage.kill(pid);
        let port = &mut stage.port;
        eventually("it is over", || is_in(port, "web", "terminal"));
        assert_eq!(last_exit(port, "web"), "{signaled,9}", "{}", stage.runtime);
    });
}

#[test]
fn a_stop_is_heard_and_its_grace_ends_it_under_oci_runtimes() {
    with_each_runtime("stops under OCI runtimes", |stage| {
        stage.port.ok("subscribe", "#{credits => 1000}");
        let hears =
            "trap 'echo bye; exit 7' USR1; echo ready; while true; do sleep 1000 & wait; done";
        let is_deaf = "trap '' USR1; echo ready; while true; do sleep 1000 & wait; done";
        for (script, grace_ms, exit) in
            [(hears, 60_000, "{exited,7}"), (is_deaf, 100, "{signaled,9}")]
        {
            let rest = format!(", stop_signal => <<\"USR1\">>, stop_grace_ms => {grace_ms}");
            stage.start(&stage.pod(script, &rest));
            eventually("it is ready", || stage.said("stdout") == ["ready"]);
            stage.port.ask("delete", "<<\"web\">>");
            assert_eq!(exit_heard(&mut stage.port), exit, "{}", stage.runtime);
            stage.forget();
        }
    });
}

#[test]
fn a_pre_stop_is_under_all_that_the_command_is_under_with_oci_runtimes() {
    with_each_runtime("pre_stop under OCI runtimes", |stage| {
        let facts = "busybox grep -E '^(Umask|Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp)' \
                     /proc/self/status; busybox cat /proc/self/cgroup; \
                     for space in cgroup ipc mnt net pid user uts; do \
                     busybox readlink /proc/self/ns/$space; done; \
                     ulimit -n; busybox cat /proc/self/oom_score_adj; \
                     busybox cut -d' ' -f19 /proc/self/stat; busybox pwd; \
                     if busybox unshare -m true; then echo unshared; fi";
        let script = format!(
            "trap 'exit $(busybox cat /dev/shm/code)' USR1; {facts}; echo ready; \
             while true; do sleep 1000 & wait; done"
        );
        for (user, code) in [("0", 5), ("1000:1001", 6)] {
            let pre_stop = format!("{facts}; echo {code} > /dev/shm/code");
            let rest = format!(
                ", user => <<\"{user}\">>, working_dir => <<\"/made/here\">>, \
                 limits => #{{nofile => 99, oom_score_adj => 500, nice => 5}}, \
                 stop_signal => <<\"USR1\">>, \
                 pre_stop => [<<\"/bin/sh\">>, <<\"-c\">>, <<\"{pre_stop}\">>]"
            );
            stage.start(&stage.pod(&script, &rest));
            eventually("it is ready", || stage.said("stdout").contains(&"ready".into()));
            // Not deleted, so that its end and its output are still there.
            stage.port.ok("restart", "<<\"web\">>");
            stage.port.ok("sync", "nil");
            let exit = last_exit(&mut stage.port, "web");
            assert_eq!(exit, format!("{{exited,{code}}}"), "{}: {}", stage.runtime, stage.log());
            let said = stage.said("stdout");
            let (of_command, rest) =
                said.split_at(said.iter().position(|line| line == "ready").expect("it was ready"));
            let of_pre_stop = &rest[1..=of_command.len()];
            assert_eq!(of_pre_stop, of_command, "{}", stage.runtime);
            assert!(of_command.contains(&"Seccomp:\t2".into()), "{of_command:?}");
            stage.forget();
        }
    });
}

#[test]
fn a_container_is_as_its_spec_says_under_oci_runtimes() {
    with_each_runtime("specs under OCI runtimes", |stage| {
        let etc = Path::new(&stage.machine.rootfs).join("etc");
        fs::create_dir_all(&etc).expect("ours");
        fs::write(etc.join("passwd"), "web:x:33:34::/srv/web:/bin/sh\n").expect("ours");
        fs::write(etc.join("group"), "www:x:34:\nlogs:x:4:web\n").expect("ours");
        let script = "echo $HOME $A; busybox pwd; id -u; id -g; id -G; busybox hostname; \
                      busybox cat /etc/hostname; ulimit -n; cat /proc/self/oom_score_adj; \
                      busybox cut -d' ' -f19 /proc/self/stat; echo $$; busybox ip link | busybox grep -c ': lo'; \
                      busybox ip link | busybox grep -c '^[0-9]'";
        let rest = ", user => <<\"web\">>, working_dir => <<\"/made/here\">>, \
                    env => #{<<\"A\">> => <<\"b c\">>}, \
                    limits => #{nofile => 99, oom_score_adj => 500, nice => 5}";
        let said = stage.output(script, rest);
        let expected = [
            "/srv/web b c",
            "/made/here",
            "33",
            "34",
            "34 4",
            "web",
            "web",
            "99",
            "500",
            "5",
            "1",
            "1",
            "1",
        ];
        assert_eq!(said, expected, "{}", stage.runtime);
    });
}

#[test]
fn a_container_is_confined_under_oci_runtimes() {
    with_each_runtime("confinement under OCI runtimes", |stage| {
        let status = "busybox grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status";
        let said = stage.output(status, "");
        let own = fs::read_to_string(format!("/proc/{}/status", stage.port.pid()));
        let own = own.expect("it lives");
        let own = own.lines().find_map(|line| line.strip_prefix("CapPrm:\t")).expect("a set");
        let has_resource = u64::from_str_radix(own, 16).expect("hexadecimal") >> 24 & 1 == 1;
        // Without CAP_SYS_RESOURCE, CAP_MKNOD is left away.
        let caps = if has_resource { "00000000a80425fb" } else { "00000000a00425fb" };
        let expected = [
            format!("CapEff:\t{caps}"),
            format!("CapBnd:\t{caps}"),
            "NoNewPrivs:\t1".into(),
            "Seccomp:\t2".into(),
        ];
        assert_eq!(said, expected, "{}", stage.runtime);
        let refused = [
            "busybox mknod /zero c 1 1 && busybox head -c 1 /zero",
            "busybox mknod /dev/mem c 1 1 && busybox head -c 1 /dev/mem",
            "echo x > /proc/sys/kernel/hostname",
            "busybox mount -t tmpfs tmpfs /mnt",
            "busybox unshare -m true",
            "test -s /proc/keys",
            "echo x > /sys/kernel/profiling",
            "test -e /sys/fs/cgroup/cgroup.procs",
            "test -e /proc/self/fd/3",
            "busybox test $$ != 1",
        ];
        let script: Vec<String> =
            refused.iter().map(|what| format!("if {what}; then echo \\\"{what}\\\"; fi")).collect();
        let said = stage.output(&script.join("; "), "");
        assert_eq!(said, Vec::<String>::new(), "{}", stage.runtime);
        let said = stage.output(
            "echo x > /new || echo refused; echo x > /dev/shm/new && echo fine",
            ", read_only => true",
        );
        assert_eq!(said, ["refused", "fine"], "{}", stage.runtime);
        let lifted = "busybox grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status; \
                      busybox mknod /zero c 1 5 && busybox head -c 1 /zero | busybox wc -c";
        let said = stage.output(lifted, ", privileged => true");
        assert_eq!(said, ["NoNewPrivs:\t1", "Seccomp:\t0", "1"], "{}", stage.runtime);
    });
}

#[test]
fn limits_bite_and_change_in_place_under_oci_runtimes() {
    with_each_runtime("limits under OCI runtimes", |stage| {
        let exit =
            stage.run(&stage.pod("exec tail /dev/zero", ", limits => #{memory => 33554432}"));
        assert_eq!(exit, "{signaled,9}", "{}", stage.runtime);
        let reason = text_of(&mut stage.port, "web", "reason");
        assert!(reason.starts_with("killed by the kernel, out of memory"), "{reason}");
        stage.forget();
        let forks = "n=0; while busybox test $n -lt 99; do sleep 1000 & n=$((n+1)); done; exit 0";
        let exit = stage.run(&stage.pod(forks, ", limits => #{pids => 50}"));
        assert_ne!(exit, "{exited,0}", "{}", stage.runtime);
        stage.forget();
        let limited = |pids: u32| format!(", limits => #{{memory => 67108864, pids => {pids}}}");
        let pid = stage.start(&stage.pod("exec sleep 1000", &limited(50)));
        stage.port.ok("apply", &stage.pod("exec sleep 1000", &limited(60)));
        stage.port.ok("sync", "nil");
        assert_eq!(host_pid(&mut stage.port, "web"), pid, "it is the same run");
        assert_eq!(cgroup_file(pid, "pids", "pids.max", "../pids.max"), "60");
    });
}

/// A file system that cannot be written to, gone when dropped.
struct ReadOnly(PathBuf);

impl ReadOnly {
    fn mount(at: PathBuf) -> Self {
        rustix::mount::mount("tmpfs", &at, "tmpfs", MountFlags::RDONLY, None).expect("as root");
        Self(at)
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.0, UnmountFlags::DETACH).expect("it is mounted");
    }
}

#[test]
fn volumes_are_mounted_under_oci_runtimes() {
    with_each_runtime("volumes under OCI runtimes", |stage| {
        let host = stage.machine.dir.path().join("host");
        fs::create_dir_all(host.join("below")).expect("ours");
        fs::write(host.join("file"), "of the host\n").expect("ours");
        // What the host has read-only below.
        let _below = ReadOnly::mount(host.join("below"));
        let volumes = format!(
            "volumes => [#{{name => <<\"data\">>}}, #{{name => <<\"tmp\">>, source => {{tmpfs, 1048576}}}}, \
             #{{name => <<\"host\">>, source => {{host, <<\"{0}\">>}}}}, \
             #{{name => <<\"file\">>, source => {{host, <<\"{0}/file\">>}}}}, \
             #{{name => <<\"below\">>, source => {{host, <<\"{0}/below\">>}}}}]",
            host.display()
        );
        let mounts = ", mounts => [#{volume => <<\"data\">>, path => <<\"/data\">>}, \
                      #{volume => <<\"tmp\">>, path => <<\"/made/tmp\">>}, \
                      #{volume => <<\"host\">>, path => <<\"/host\">>}, \
                      #{volume => <<\"host\">>, path => <<\"/host/ro\">>, read_only => true}, \
                      #{volume => <<\"below\">>, path => <<\"/below\">>}, \
                      #{volume => <<\"file\">>, path => <<\"/etc/file\">>}]";
        fs::create_dir_all(host.join("ro")).expect("ours");
        let script = "cat /etc/file; echo x >> /data/runs; busybox wc -l < /data/runs; \
                      echo x > /made/tmp/x && echo tmp; echo x > /host/x && echo host; \
                      echo x > /host/below/x || echo refused; \
                      echo x > /below/x || echo refused; \
                      echo x > /host/ro/x || echo refused; \
                      busybox mknod /data/mem c 1 1; busybox head -c 1 /data/mem || echo refused";
        for round in 1..=2 {
            let pod = stage.with(&stage.pod(script, mounts), &volumes);
            let exit = stage.run(&pod);
            assert_eq!(exit, "{exited,0}", "{}: {}", stage.runtime, stage.log());
            let count = round.to_string();
            let expected =
                ["of the host", &*count, "tmp", "host", "refused", "refused", "refused", "refused"];
            assert_eq!(stage.said("stdout"), expected, "{}", stage.runtime);
            stage.forget();
            let _ = fs::remove_file(stage.machine.dir.path().join("data/volumes/web/data/mem"));
        }
    });
}

#[test]
fn a_pod_of_several_containers_shares_its_namespaces_under_oci_runtimes() {
    with_each_runtime("several containers under OCI runtimes", |stage| {
        let serves = "busybox mkdir /srv; echo it works > /srv/index.html; \
                      exec busybox httpd -f -p 127.0.0.1:80 -h /srv";
        let asks = "until busybox wget -qO /dev/null http://127.0.0.1/; do :; done; exit 7";
        let init = [container(&stage.machine, "first", "exit 0", "")];
        let containers = [
            container(&stage.machine, "server", serves, ", sidecar => true"),
            container(&stage.machine, "client", asks, ""),
        ];
        let exit = stage.run(&stage.by_runtime(&pod_of("web", "", &init, &containers)));
        assert_eq!(exit, "{exited,7}", "{}", stage.runtime);
        assert_eq!(text_of(&mut stage.port, "web", "last_exit_container"), "client");
    });
}

#[test]
fn a_start_that_fails_is_told_in_the_runtimes_words() {
    with_each_runtime("failures under OCI runtimes", |stage| {
        fs::write(Path::new(&stage.machine.rootfs).join("bin/plain"), "no program").expect("ours");
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        let plain = Path::new(&stage.machine.rootfs).join("bin/plain");
        fs::set_permissions(plain, executable).expect("ours");
        for (command, words) in [
            ("/bin/nope", ["/bin/nope", "o such file or directory"]),
            ("/bin/plain", ["the command could not be executed", "log has why"]),
        ] {
            let pod = stage.machine.pod_of("web", &format!("[<<\"{command}\">>]"), "");
            let error = stage.error(&stage.by_runtime(&pod));
            let message = message(&error);
            assert!(message.starts_with("run /"), "{message}");
            assert!(message.contains(stage.runtime), "{message}");
            assert!(words.iter().all(|words| message.contains(words)), "{message}");
            assert_eq!(place(&error, "step"), "run_oci_runtime");
            assert_eq!(place(&error, "container"), "c");
            assert_eq!(place(&error, "field"), "oci_runtime");
        }
    });
}

#[test]
fn a_killed_shim_takes_along_what_oci_runtimes_have_launched() {
    with_each_runtime("kill -9 of the shim under OCI runtimes", |stage| {
        let pid = stage.start(&stage.pod("sleep 1000 & exec sleep 1000", ""));
        stage.kill(parent_of(pid));
        let port = &mut stage.port;
        eventually("the crash is noticed", || is_in(port, "web", "terminal"));
        assert!(!is_alive(pid));
        let status = status(port, "web");
        assert!(status.to_string().contains("lost"), "{status}");
    });
}

/// A runtime that gets no further, in a script of its own.
fn stuck(machine: &Machine) -> String {
    let path = machine.dir.path().join("stuck");
    fs::write(&path, "#!/bin/sh\nsleep 1000 & wait\n").expect("ours");
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&path, executable).expect("ours");
    path.display().to_string()
}

#[test]
fn a_runtime_that_gets_stuck_holds_up_its_own_pod_alone_and_can_be_killed() {
    let Some(machine) = Machine::new("stuck OCI runtime") else { return };
    let mut port = machine.port();
    let program = stuck(&machine);
    let pod = machine.pod("web", "true", "");
    let pod = pod.replacen("#{", &format!("#{{oci_runtime => <<\"{program}\">>, "), 1);
    port.ok("apply", &pod);
    port.ok("apply", &machine.pod("other", "exec sleep 1000", ""));
    eventually("the other runs", || is_in(&mut port, "other", "running"));
    eventually("the runtime is at it", || {
        !processes_that_name(&format!("{program}\0--root=")).is_empty()
    });
    assert!(is_in(&mut port, "web", "starting"));
    port.ok("delete", "<<\"web\">>");
    port.ok("sync", "nil");
    assert_eq!(processes_that_name(&program), Vec::<String>::new());
    assert!(!machine.run_dir("web").exists());
}

#[test]
fn a_runtime_that_is_not_there_or_says_nothing_is_told_by_field() {
    let Some(machine) = Machine::new("missing OCI runtime") else { return };
    let mut port = machine.port();
    for (runtime, says) in [
        ("no-such-runtime", "oci_runtime no-such-runtime: no such program in PATH"),
        ("/nonexistent/crun", "oci_runtime /nonexistent/crun: no program"),
        ("/bin/true", "run /bin/true: it left no pid in its pid file"),
        ("/bin/false", "run /bin/false: it exited with status 1, without a word"),
    ] {
        let pod = machine.pod("web", "true", "");
        let fields = format!("#{{oci_runtime => <<\"{runtime}\">>, restart => never, ");
        port.ok("apply", &pod.replacen("#{", &fields, 1));
        eventually("the start has failed", || is_in(&mut port, "web", "terminal"));
        let status = status(&mut port, "web");
        let exit = status.get("last_exit").and_then(Term::as_tuple).expect("an exit");
        let error = &exit[1];
        assert_eq!(code(error), "start_failed", "{error}");
        assert_eq!(message(error), says);
        assert_eq!(place(error, "field"), "oci_runtime");
        assert!(error.get("hint").is_some_and(|hint| !hint.is_nil()), "{error}");
        port.ok("delete", "<<\"web\">>");
        port.ok("sync", "nil");
    }
}

#[test]
fn a_container_may_be_named_as_a_file_of_the_kernels_under_oci_runtimes() {
    with_each_runtime("names of files under OCI runtimes", |stage| {
        let container = container(&stage.machine, "cgroup.procs", "exit 4", "");
        let pod = stage.by_runtime(&pod_of("web", "", &[], &[container]));
        assert_eq!(stage.run(&pod), "{exited,4}", "{}", stage.runtime);
    });
}
