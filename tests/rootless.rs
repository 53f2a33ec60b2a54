//! `tank port` without root: what works in a user namespace, what does not, and
//! how that is told. Needs root all the same, to become users that are not root
//! and to have the machine as they might find it.

mod support;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use erlang_term_format::Term;
use rustix::process::{Pid, Signal};
use support::machine::Machine;
use support::{Port, code, eventually, is_alive, message, place};

/// A user that no machine has.
const USER: u32 = 61_234;

/// The first of its subordinate ids, where it has any.
const SUBORDINATE: u32 = 700_000;

/// What a user with its own id alone finds.
const ALONE: &str = "";

/// The same with others that it may map.
const SUBORDINATES: &str = "tank-test:700000:65536\n";

/// A machine with a program that a user has started who is not root, and who has
/// these subordinate ids.
fn rootless(test: &str, subordinates: &str) -> Option<Machine> {
    rootless_after(test, subordinates, "", &[])
}

/// The same after some shell commands of root's, and with further options.
fn rootless_after(
    test: &str,
    subordinates: &str,
    commands: &str,
    options: &[&str],
) -> Option<Machine> {
    Machine::started_by(test, |dir, args| {
        Port::start_by(port_in(dir, subordinates, commands, "").args(args).args(options))
    })
}

/// The program in a directory, as that user starts it, by way of another program.
fn port_in(dir: &Path, subordinates: &str, commands: &str, by: &str) -> Command {
    // The build directory may be closed to others.
    let built = Path::new(env!("CARGO_BIN_EXE_tank"));
    for program in ["tank", "tank-shim"] {
        std::fs::copy(built.with_file_name(program), dir.join(program)).expect("it is built");
    }
    let etc = dir.join("etc");
    std::fs::create_dir_all(&etc).expect("ours");
    let hosts = std::fs::read_to_string("/etc/passwd").expect("there are accounts");
    let passwd = format!("{hosts}tank-test:x:{USER}:{USER}::/nonexistent:/bin/false\n");
    for (file, text) in [("passwd", &*passwd), ("subuid", subordinates), ("subgid", subordinates)] {
        std::fs::write(etc.join(file), text).expect("ours");
    }
    give(dir);
    let script = format!(
        "mount -t overlay overlay -o lowerdir={}:/etc /etc\n{commands}\n\
         exec setpriv --reuid={USER} --regid={USER} --clear-groups {by} \"$@\"",
        etc.display()
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-ec", &script, "sh"]).arg(dir.join("tank")).arg("port");
    command
}

/// Gives a tree to the user.
fn give(path: &Path) {
    let owner = format!("{USER}:{USER}");
    let given = Command::new("chown").args(["-hR", &owner]).arg(path).status();
    assert!(given.expect("chown is there").success());
}

fn script(text: &str) -> [&str; 3] {
    ["/bin/sh", "-c", text]
}

/// The pod's first process, once it is there.
fn host_pid(machine: &mut Machine) -> i32 {
    machine.port.ok("sync", "nil");
    let status = machine.status();
    let pid = status.get("host_pid").and_then(Term::as_i64);
    i32::try_from(pid.unwrap_or_else(|| panic!("it has no pid: {status}"))).expect("a pid")
}

fn status_of(pid: i32, field: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("a field");
    line.trim_start_matches(':').trim().to_owned()
}

fn namespace(pid: &str, kind: &str) -> PathBuf {
    std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).expect("it lives")
}

/// A second container of the same root file system, as a field of the first.
fn beside(machine: &Machine, text: &str) -> String {
    format!(
        "}}, #{{name => <<\"d\">>, image => {{rootfs, <<\"{}\">>}}, \
         command => [<<\"/bin/sh\">>, <<\"-c\">>, <<\"{text}\">>]",
        machine.rootfs.display()
    )
}

#[test]
fn a_pod_is_root_inside_and_its_user_outside() {
    let Some(mut machine) = rootless("root inside", ALONE) else { return };
    let host = machine.port.hello.get("host").expect("it tells").clone();
    assert!(host.get("root").is_some_and(|root| root.is_atom("false")), "{host}");
    let said = machine.output(&script("id -u; id -g; cat /proc/self/uid_map"), "");
    assert_eq!(said[..2], ["0", "0"]);
    assert_eq!(said[2].split_whitespace().collect::<Vec<_>>(), ["0", "61234", "1"]);
    machine.start(&["/bin/sleep", "1000"], "", "");
    let pid = host_pid(&mut machine);
    assert_eq!(status_of(pid, "Uid"), format!("{USER}\t{USER}\t{USER}\t{USER}"));
    assert_eq!(status_of(pid, "Groups"), "");
    for kind in ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        assert_ne!(namespace(&pid.to_string(), kind), namespace("self", kind), "{kind}");
    }
}

#[test]
fn confinement_is_the_same_as_under_root() {
    for subordinates in [ALONE, SUBORDINATES] {
        let Some(mut machine) = rootless("confinement", subordinates) else { return };
        let said = machine.output(&["/bin/probe"], "");
        assert_eq!(said, include_str!("cases/confinement.txt").lines().collect::<Vec<_>>());
        let masked = "test -c /proc/keys && test ! -s /proc/keys && \
                      ! echo x > /proc/sys/kernel/hostname && ! echo x > /sys/x && \
                      ! /bin/busybox mknod /zero c 1 5";
        machine.output(&script(masked), "");
        machine.output(&script("! echo x > /x && echo x > /dev/shm/x"), ", read_only => true");
    }
}

#[test]
fn devices_and_file_systems_are_there() {
    for subordinates in [ALONE, SUBORDINATES] {
        let Some(mut machine) = rootless("devices", subordinates) else { return };
        let used = "echo x > /dev/null && ! echo x > /dev/full && \
                    test $(/bin/busybox head -c 9 /dev/urandom | /bin/busybox wc -c) = 9 && \
                    /bin/busybox ls /dev/mqueue /dev/shm /sys/class/net/lo && \
                    echo x > /new && /bin/busybox mkdir /made && /bin/busybox mv /bin/id /made/ \
                    && /bin/busybox rm /bin/cat && test ! -e /bin/cat";
        machine.output(&script(used), "");
        let said = machine.output(&script("test -t 0 && /bin/busybox tty"), ", tty => true");
        assert_eq!(said.concat().trim(), "/dev/pts/0");
    }
}

#[test]
fn containers_of_a_pod_talk_over_loopback_and_serve_low_ports() {
    let Some(mut machine) = rootless("loopback", ALONE) else { return };
    // At the end of its input a server says that no more will come, and a client that
    // has sent nothing yet may leave. So its input is one that does not end.
    let served = "/bin/busybox ping -c 1 127.0.0.1 > /dev/null && /bin/busybox mkfifo /open && \
                  exec /bin/busybox nc -l -p 80 127.0.0.1 <> /open";
    let asks = "until echo hello | /bin/busybox nc 127.0.0.1 80; do /bin/busybox usleep 1000; done; \
                exec sleep 1000";
    let other = beside(&machine, asks);
    machine.start(&script(served), &other, "");
    assert_eq!(machine.ended().to_string(), "{exited,0}");
    assert_eq!(machine.printed("stdout"), ["hello"]);
}

#[test]
fn the_hosts_network_comes_with_the_hosts_sys_for_reading() {
    let Some(mut machine) = rootless("network host", ALONE) else { return };
    let text = "grep -q /sys.*ro, /proc/mounts && test -d /sys/class/net/lo && \
                test -z $(/bin/busybox ls /sys/firmware) && exec sleep 1000";
    std::os::unix::fs::symlink("busybox", machine.rootfs.join("bin/grep")).expect("ours");
    machine.start(&script(text), "", ", network => host");
    let pid = host_pid(&mut machine);
    assert_eq!(namespace(&pid.to_string(), "net"), namespace("self", "net"));
    eventually("all is as it should be", || status_of(pid, "Name") == "sleep");
}

#[test]
fn runs_end_are_stopped_killed_and_restarted() {
    let Some(mut machine) = rootless("lives", ALONE) else { return };
    assert_eq!(machine.run(&script("exit 3"), "").to_string(), "{exited,3}");
    machine.forget();
    machine.start(&script("trap 'exit 7' TERM; while true; do sleep 1000 & wait; done"), "", "");
    let first = host_pid(&mut machine);
    machine.port.ok("restart", "<<\"p\">>");
    let second = host_pid(&mut machine);
    assert!(first != second && !is_alive(first));
    let pid = Pid::from_raw(second).expect("a pid");
    rustix::process::kill_process(pid, Signal::KILL).expect("it lives");
    assert_eq!(machine.ended().to_string(), "{signaled,9}");
    machine.forget();
    machine.start(&["/bin/sleep", "1000"], ", pre_stop => [<<\"/bin/id\">>]", "");
    let pid = host_pid(&mut machine);
    machine.port.ok("delete", "<<\"p\">>");
    machine.port.ok("sync", "nil");
    assert!(!is_alive(pid));
}

#[test]
fn a_managed_volume_is_the_users_and_survives() {
    let Some(mut machine) = rootless("volumes", ALONE) else { return };
    std::fs::create_dir(machine.rootfs.join("data")).expect("ours");
    std::fs::write(machine.rootfs.join("data/given"), "by the image\n").expect("ours");
    let mounts = ", mounts => [#{volume => <<\"v\">>, path => <<\"/data\">>}, \
                  #{volume => <<\"t\">>, path => <<\"/tmp\">>}]";
    let volumes = ", volumes => [#{name => <<\"v\">>}, #{name => <<\"t\">>, source => tmpfs}]";
    for (text, says) in [
        ("cat /data/given; echo more > /data/more; echo x > /tmp/x", "by the image"),
        ("cat /data/more; test ! -e /tmp/x", "more"),
    ] {
        machine.start(&script(text), mounts, volumes);
        assert_eq!(machine.ended().to_string(), "{exited,0}");
        assert_eq!(machine.printed("stdout"), [says]);
        machine.forget();
    }
    let dir = machine.path("data/volumes/p/v");
    for path in [dir.clone(), dir.join("given"), dir.join("more")] {
        let about = path.metadata().expect("it is there");
        assert_eq!((about.uid(), about.gid()), (USER, USER), "{}", path.display());
    }
}

#[test]
fn limits_are_refused_by_field_without_a_cgroup_of_the_users() {
    let Some(mut machine) = rootless("limits without cgroups", ALONE) else { return };
    for (limit, field) in [
        ("memory => 16777216", "memory"),
        ("pids => 10", "pids"),
        ("cpu => {50000, 100000}", "cpu"),
    ] {
        let error = machine.failure(&format!(", limits => #{{{limit}}}"));
        assert_eq!(code(&error), "start_failed");
        assert_eq!(place(&error, "field"), format!("containers[0].limits.{field}"));
        assert_eq!(message(&error), format!("limit {field}: this user has no {field} cgroup"));
        assert!(error.to_string().contains("delegated to this user"), "{error}");
    }
    // These need none.
    let said = machine.output(&script("ulimit -n"), ", limits => #{nofile => 77}");
    assert_eq!(said, ["77"]);
    let raised = ", limits => #{nice => 5, oom_score_adj => 500}";
    assert_eq!(machine.output(&script("cat /proc/self/oom_score_adj"), raised), ["500"]);
}

#[test]
fn users_of_its_own_are_refused_by_field() {
    let Some(mut machine) = rootless("userns", ALONE) else { return };
    let pod = format!(
        "#{{name => <<\"p\">>, userns => auto, containers => [#{{name => <<\"c\">>, \
         image => {{rootfs, <<\"{}\">>}}, command => [<<\"true\">>]}}]}}",
        machine.rootfs.display()
    );
    let error = machine.port.error("apply", &pod);
    assert_eq!(code(&error), "unsupported");
    assert_eq!(place(&error, "field"), "userns");
}

#[test]
fn what_only_root_may_lower_is_refused_by_field() {
    let Some(mut machine) = rootless("lowered limits", ALONE) else { return };
    for (limit, field) in [
        ("nice => -5", "nice"),
        ("oom_score_adj => -500", "oom_score_adj"),
        ("nofile => 1000000000", "nofile"),
    ] {
        let error = machine.failure(&format!(", limits => #{{{limit}}}"));
        assert_eq!(place(&error, "step"), "limit_process", "{error}");
        assert_eq!(place(&error, "field"), format!("containers[0].limits.{field}"));
        assert!(error.to_string().contains("takes privileges that it lacks"), "{error}");
    }
}

/// Cgroups in all trees that are given to the user, gone when dropped.
struct Delegated {
    /// Their name below the roots.
    name: String,
    v1: Vec<PathBuf>,
    v2: Option<PathBuf>,
}

impl Delegated {
    fn new(test: &str) -> Self {
        let name = format!("tank-rootless-{test}-{}", std::process::id());
        let mounts = std::fs::read_to_string("/proc/mounts").expect("it is there");
        let of = |kind: &str| {
            let mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
            let roots =
                mounts.filter(|fields| fields[2] == kind).map(|fields| fields[1].to_owned());
            roots.map(|root| Path::new(&root).join(&name)).collect::<Vec<_>>()
        };
        let delegated = Self { v1: of("cgroup"), v2: of("cgroup2").pop(), name };
        if let Some(v2) = &delegated.v2 {
            // Where they are in trees of version 1, there is nothing to hand down.
            let _ =
                std::fs::write(v2.with_file_name("cgroup.subtree_control"), "+memory +pids +cpu");
        }
        for dir in delegated.dirs() {
            // A tree may be there twice.
            let _ = std::fs::create_dir(dir);
            give(dir);
        }
        delegated
    }

    fn dirs(&self) -> impl Iterator<Item = &PathBuf> {
        self.v1.iter().chain(&self.v2)
    }

    /// Shell commands that move the shell into the group of version 2, as a service
    /// manager starts a service that it has delegated a group to.
    fn enter(&self) -> String {
        let Some(v2) = &self.v2 else { return String::new() };
        let own = v2.join("own").display().to_string();
        format!("mkdir {own} && chown -R {USER} {own} && echo 0 > {own}/cgroup.procs")
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        for dir in self.dirs() {
            for dir in [dir.join("own"), dir.clone()] {
                let _ = std::fs::remove_dir(dir);
            }
            assert!(!dir.exists() || std::thread::panicking(), "{} is left", dir.display());
        }
    }
}

#[test]
fn limits_bite_where_a_cgroup_is_the_users() {
    if !support::is_root("delegated limits") {
        return;
    }
    let delegated = Delegated::new("limits");
    let options = ["--cgroup-parent", &delegated.name];
    let machine = rootless_after("delegated limits", ALONE, &delegated.enter(), &options);
    let Some(mut machine) = machine else { return };
    let limits = ", limits => #{memory => 16777216, pids => 9, cpu => {50000, 100000}}";
    machine.run(&["/bin/busybox", "tail", "/dev/zero"], limits);
    let status = machine.status();
    let reason = status.get("reason").and_then(Term::as_str).expect("a reason").to_owned();
    assert!(reason.starts_with("killed by the kernel, out of memory"), "{reason}");
    machine.forget();
    let forks = "for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done";
    assert_ne!(machine.run(&script(forks), limits).to_string(), "{exited,0}");
    let said = machine.printed("stderr").concat();
    assert!(said.contains("fork"), "{said}");
}

#[test]
fn a_program_in_a_cgroup_of_version_2_that_is_its_users_has_its_pods_below() {
    if !support::is_root("a delegated cgroup of version 2") {
        return;
    }
    let delegated = Delegated::new("v2");
    let machine = rootless_after("own cgroup", ALONE, &delegated.enter(), &[]);
    let Some(mut machine) = machine else { return };
    machine.start(&["/bin/sleep", "1000"], "", "");
    let pid = host_pid(&mut machine);
    let group_of = |pid: &str| {
        let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it lives");
        let group = groups.lines().find_map(|line| line.strip_prefix("0::"));
        group.expect("it is in one of version 2").to_owned()
    };
    let below = format!("/{}/own/tank/", delegated.name);
    let group = group_of(&pid.to_string());
    assert!(group.starts_with(&below) && group.ends_with("/p.pod/c.container"), "{group}");
    eventually("the shim has left the program's", || {
        let group = group_of(&status_of(pid, "PPid"));
        group.starts_with(&below) && group.ends_with("/_shims")
    });
}

#[test]
fn other_users_take_subordinate_ids() {
    let Some(mut machine) = rootless("a single id", ALONE) else { return };
    for user in ["1000", "0:1000", "1000:1000"] {
        let error = machine.failure(&format!(", user => <<\"{user}\">>"));
        assert_eq!(code(&error), "start_failed");
        assert_eq!(place(&error, "field"), "containers[0].user");
        assert!(message(&error).starts_with("become user "), "{error}");
        assert!(error.to_string().contains("package uidmap"), "{error}");
    }
    drop(machine);
    let Some(mut machine) = rootless("subordinate ids", SUBORDINATES) else { return };
    let who = "id -u; id -g; echo $(id -G); echo x > /dev/stdout";
    let said = machine.output(&script(who), ", user => <<\"1000:1001\">>");
    assert_eq!(said, ["1000", "1001", "1001", "x"]);
    machine.start(&["/bin/sleep", "1000"], ", user => <<\"1000\">>, tty => true", "");
    let pid = host_pid(&mut machine);
    let outside = SUBORDINATE + 999;
    assert_eq!(status_of(pid, "Uid"), format!("{outside}\t{outside}\t{outside}\t{outside}"));
    machine.forget();
    let error = machine.failure(", user => <<\"70000\">>");
    assert_eq!(message(&error), "become user 70000:0: invalid argument");
}

#[test]
fn a_program_that_may_gain_no_privileges_has_its_own_id_alone() {
    let machine = Machine::started_by("no new privileges", |dir, args| {
        Port::start_by(port_in(dir, SUBORDINATES, "", "setpriv --no-new-privs").args(args))
    });
    let Some(mut machine) = machine else { return };
    let said = machine.output(&script("cat /proc/self/uid_map"), "");
    assert_eq!(said[0].split_whitespace().collect::<Vec<_>>(), ["0", "61234", "1"]);
}

#[test]
fn state_is_where_a_user_has_it_by_default() {
    if !support::is_root("default directories") {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(dir.path(), mode).expect("ours");
    for (variables, data, run) in [
        (&["XDG_DATA_HOME", "XDG_RUNTIME_DIR"][..], "XDG_DATA_HOME/tank", "XDG_RUNTIME_DIR/tank"),
        (&["HOME"][..], "HOME/.local/share/tank", "HOME/.local/share/tank/run"),
    ] {
        let mut command = port_in(dir.path(), ALONE, "", "");
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        for name in variables {
            command.env(name, dir.path().join(name));
        }
        let mut port = Port::start_by(&mut command);
        for path in [data, run] {
            assert!(dir.path().join(path).join("lock").exists(), "{path}");
        }
        port.ok("shutdown", "#{pods => stop}");
        assert_eq!(port.wait().code(), Some(0));
    }
}

#[test]
fn a_new_volume_belongs_to_the_containers_user() {
    let Some(mut machine) = rootless("volumes of other users", SUBORDINATES) else { return };
    let mounts =
        ", user => <<\"1000:1001\">>, mounts => [#{volume => <<\"v\">>, path => <<\"/v\">>}]";
    for text in ["echo x > /v/file", "cat /v/file && echo y > /v/file"] {
        machine.start(&script(text), mounts, ", volumes => [#{name => <<\"v\">>}]");
        assert_eq!(machine.ended().to_string(), "{exited,0}");
        machine.forget();
    }
    for path in ["data/volumes/p/v", "data/volumes/p/v/file"] {
        let about = machine.path(path).metadata().expect("it is there");
        assert_eq!((about.uid(), about.gid()), (SUBORDINATE + 999, SUBORDINATE + 1000), "{path}");
    }
}

#[test]
fn capabilities_are_good_for_what_is_the_pods_own() {
    let Some(mut machine) = rootless("capabilities", ALONE) else { return };
    for fields in [", cap_add => [all], seccomp => unconfined", ", privileged => true"] {
        let own = "/bin/busybox mount -t tmpfs none /mnt && /bin/busybox hostname other && \
                   /bin/busybox ip addr add 10.0.0.1/24 dev lo";
        std::fs::create_dir_all(machine.rootfs.join("mnt")).expect("ours");
        machine.output(&script(own), fields);
        let hosts = "/bin/busybox mknod /zero c 1 5 || /bin/busybox dmesg -c || \
                     echo x > /proc/sys/kernel/core_pattern || /bin/busybox swapoff -a || \
                     /bin/busybox nice -n -5 /bin/true";
        machine.output(&script(&format!("! {{ {hosts}; }}")), fields);
    }
}

/// What is in the directory of the runs.
fn runs(machine: &Machine) -> usize {
    std::fs::read_dir(machine.path("run/pods")).map_or(0, Iterator::count)
}

#[test]
fn nothing_is_left_of_a_run_whose_shim_was_killed() {
    for subordinates in [ALONE, SUBORDINATES] {
        let Some(mut machine) = rootless("kill -9 of the shim", subordinates) else { return };
        // What is written belongs to another user, where there is one.
        let text = "/bin/busybox mkdir -p /made/deep && echo x > /made/deep/file && \
                    { /bin/busybox chown -R 1000 /made; /bin/busybox chmod 700 /made; \
                    exec sleep 1000; }";
        machine.start(&script(text), "", "");
        let pid = host_pid(&mut machine);
        eventually("it has written", || status_of(pid, "Name") == "sleep");
        let shim = Pid::from_raw(status_of(pid, "PPid").parse().expect("a pid")).expect("a pid");
        rustix::process::kill_process(shim, Signal::KILL).expect("it lives");
        let exit = machine.ended().to_string();
        assert!(exit.contains("lost"), "{exit}");
        assert!(!is_alive(pid));
        eventually("nothing is left of it", || runs(&machine) == 0);
    }
}

#[test]
fn the_run_of_a_program_that_was_killed_is_taken_over_and_nothing_is_left_of_it() {
    let test = "kill -9 of the port";
    let dir = tempfile::tempdir().expect("a directory");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(dir.path(), mode).expect("ours");
    if !support::is_root(test) {
        return;
    }
    let rootfs = support::rootfs(dir.path()).display().to_string();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let args = ["--data-dir", &path("data"), "--run-dir", &path("run")];
    let port = || Port::start_by(port_in(dir.path(), ALONE, "", "").args(args));
    let mut first = port();
    let pod = format!(
        "#{{name => <<\"p\">>, containers => [#{{name => <<\"c\">>, \
         image => {{rootfs, <<\"{rootfs}\">>}}, command => [<<\"/bin/sleep\">>, <<\"1000\">>]}}]}}"
    );
    first.ok("apply", &pod);
    first.ok("sync", "nil");
    let host_pid = |port: &mut Port| {
        let all = port.ok("status", "nil");
        let status = &all.as_map().expect("statuses")[0].1;
        status.get("host_pid").and_then(Term::as_i64).expect("it runs")
    };
    let before = host_pid(&mut first);
    first.kill();
    let mut second = port();
    assert_eq!(host_pid(&mut second), before, "it is taken over");
    second.ok("shutdown", "#{pods => stop}");
    assert_eq!(second.wait().code(), Some(0));
    assert!(!dir.path().join("run").exists());
}

#[test]
fn where_user_namespaces_are_forbidden_a_start_says_so() {
    let by = "unshare --user --map-user=1 --map-group=1 --keep-caps \
              sh -c 'echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"' sh";
    let machine = Machine::started_by("forbidden namespaces", |dir, args| {
        Port::start_by(port_in(dir, ALONE, "", by).args(args))
    });
    let Some(mut machine) = machine else { return };
    let error = machine.failure("");
    assert_eq!(place(&error, "step"), "make_user_namespace", "{error}");
    assert!(message(&error).starts_with("make a user namespace of its own"), "{error}");
    assert!(error.to_string().contains("user.max_user_namespaces"), "{error}");
}

#[test]
fn ids_that_are_not_given_are_told() {
    let Some(mut machine) = rootless_after(
        "ids that are refused",
        SUBORDINATES,
        // As if somebody else had them.
        "mount --bind /bin/false /usr/bin/newgidmap",
        &[],
    ) else {
        return;
    };
    let error = machine.failure("");
    assert_eq!(place(&error, "step"), "map_ids", "{error}");
    assert_eq!(message(&error), "map ids by /usr/bin/newgidmap: operation not permitted");
}
