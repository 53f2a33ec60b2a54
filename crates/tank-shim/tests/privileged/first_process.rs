//! What stands before, beside and behind a command: an init, a `pre_stop`, a
//! terminal.

use std::fs;
use std::path::Path;

use tank_shim::protocol::{Exit, FromShim, Join, Launch, Seccomp, Step};

use crate::scene::{Scene, Shim, eventually, path_string, scene};

fn is_ready(scene: &Scene) {
    eventually("the workload is ready", || scene.logged("stdout").contains("ready"));
}

fn with_init(mut pod: Launch) -> Launch {
    pod.containers[0].init = true;
    pod
}

fn with_terminal(mut pod: Launch) -> Launch {
    pod.containers[0].tty = true;
    pod
}

fn with_pre_stop(mut pod: Launch, script: &str) -> Launch {
    pod.containers[0].stop.pre_stop = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    pod
}

/// What a stop complains of, and the end.
fn complaint_and_exit(shim: &mut Shim) -> (String, Exit) {
    let complaint = match shim.receive() {
        FromShim::PreStopFailed(failed) => failed,
        other => panic!("{other:?} instead of a complaint"),
    };
    assert_eq!(complaint.container, "app");
    (complaint.message, shim.expect_exited().exit)
}

#[test]
fn an_init_ends_as_the_workload_does() {
    let scene = scene!("an_init_ends_as_the_workload_does");
    for (script, exit) in [
        ("exit 0", Exit::Exited(0)),
        ("exit 7", Exit::Exited(7)),
        ("kill -KILL $$", Exit::Exited(137)),
        ("kill -TERM $$", Exit::Exited(143)),
    ] {
        assert_eq!(scene.run(&with_init(scene.script(script))), exit, "{script}");
    }
}

#[test]
fn an_init_hands_signals_on_to_a_workload_that_would_not_hear_them_as_the_first_process() {
    let scene = scene!(
        "an_init_hands_signals_on_to_a_workload_that_would_not_hear_them_as_the_first_process"
    );
    let (mut shim, _) = scene.launched(&with_init(scene.script("echo ready; exec sleep 1000")));
    is_ready(&scene);
    shim.stop();
    assert_eq!(shim.expect_exited().exit, Exit::Exited(143));
    fs::remove_file(scene.log_path()).unwrap();
    // Any signal, real-time ones too.
    let script = "trap 'exit 4' USR1; trap 'exit 5' 37; echo ready; sleep 1000 & wait";
    for (signal, code) in [(libc::SIGUSR1, 4), (37, 5)] {
        let mut pod = with_init(scene.script(script));
        pod.containers[0].stop.signal = signal;
        let (mut shim, _) = scene.launched(&pod);
        is_ready(&scene);
        shim.stop();
        assert_eq!(shim.expect_exited().exit, Exit::Exited(code));
        fs::remove_file(scene.log_path()).unwrap();
    }
}

#[test]
fn an_init_reaps_what_nobody_else_does() {
    let scene = scene!("an_init_reaps_what_nobody_else_does");
    // Orphans whose parents do not wait; then nobody is a zombie, and all have
    // been the init's.
    let script = "for i in 1 2 3 4 5 6 7 8; do (sleep 0.01 &); done
                  while ps -o comm,ppid | grep -q '^sleep'; do :; done
                  ps -o stat | grep -c Z; exit 0";
    assert_eq!(
        scene.output_of_pod(&{
            let mut pod = with_init(scene.script(script));
            pod.containers[0].argv[2] = script.replace("grep -c Z; exit 0", "grep Z; echo none");
            pod
        }),
        "none\n"
    );
}

#[test]
fn an_init_is_as_confined_as_the_workload_and_shows_nothing_of_the_host() {
    let scene = scene!("an_init_is_as_confined_as_the_workload_and_shows_nothing_of_the_host");
    let script = "tr '\\0' ' ' </proc/1/cmdline; echo; cat /proc/1/comm
                  grep -E '^(Uid|Cap...|NoNewPrivs|Seccomp):' /proc/1/status >/one
                  grep -E '^(Uid|Cap...|NoNewPrivs|Seccomp):' /proc/self/status >/self
                  cmp /one /self && echo the same
                  ls /proc/1/fd | grep -c .; readlink /proc/1/exe || echo hidden; echo $$";
    let mut pod = with_init(scene.script(script));
    pod.containers[0].seccomp = Some(allow_all());
    let output = scene.output_of_pod(&pod);
    let lines: Vec<&str> = output.lines().map(str::trim).collect();
    assert_eq!(lines, ["init", "init", "the same", "0", "hidden", "2"]);
}

/// A seccomp program that allows all.
fn allow_all() -> Seccomp {
    let program = tank_shim::protocol::Bytes(vec![6, 0, 0, 0, 0, 0, 0xff, 0x7f]);
    Seccomp { flags: 0, program }
}

#[test]
fn a_command_that_cannot_be_executed_is_told_with_an_init_too() {
    let scene = scene!("a_command_that_cannot_be_executed_is_told_with_an_init_too");
    let failure = scene.failure_of(&with_init(scene.pod(&["/bin/none"])));
    assert_eq!((failure.step, failure.object.as_str()), (Step::Exec, "/bin/none"));
}

#[test]
fn a_terminal_is_the_standard_streams_the_console_and_the_sessions_own() {
    let scene = scene!("a_terminal_is_the_standard_streams_the_console_and_the_sessions_own");
    let script = "tty; for fd in 0 1 2; do [ -t $fd ] && echo $fd; done
                  echo to the console >/dev/console; echo to the tty >/dev/tty
                  stty size; ls -l /dev/console | cut -c1-10; echo to stderr >&2
                  set -- $(cat /proc/self/stat); echo $6 $8 | tr ' ' '\\n' | wc -l";
    for pod in [with_terminal(scene.script(script)), with_init(with_terminal(scene.script(script)))]
    {
        let output = scene.output_of_pod(&pod);
        let lines: Vec<&str> = output.lines().collect();
        assert_eq!(
            lines,
            [
                "/dev/pts/0",
                "0",
                "1",
                "2",
                "to the console",
                "to the tty",
                "24 80",
                "crw--w----",
                "to stderr",
                "2"
            ]
        );
        fs::remove_file(scene.log_path()).unwrap();
    }
}

#[test]
fn a_console_that_is_closed_for_a_while_is_there_again() {
    let scene = scene!("a_console_that_is_closed_for_a_while_is_there_again");
    let script = "exec </dev/null >/dev/null 2>&1; sleep 0.05
                  echo once >/dev/console; sleep 0.05; echo again >/dev/console";
    assert_eq!(scene.output_of_pod(&with_terminal(scene.script(script))), "once\nagain\n");
}

#[test]
fn a_terminal_belongs_to_the_user() {
    let scene = scene!("a_terminal_belongs_to_the_user");
    let mut pod = with_terminal(scene.script("stat -c %u /dev/pts/0; : >/dev/console && echo ok"));
    (pod.containers[0].uid, pod.containers[0].gid) = (1000, 1000);
    assert_eq!(scene.output_of_pod(&pod), "1000\nok\n");
}

#[test]
fn a_pre_stop_runs_in_the_container_before_the_signal() {
    let mut scene = scene!("a_pre_stop_runs_in_the_container_before_the_signal");
    let script = "trap 'cat /said; exit 0' TERM; echo ready; sleep 1000 & wait";
    let said = "{ id -u; cat /proc/self/cgroup | grep pids; hostname; echo $A; pwd
                  for ns in pid mnt cgroup net uts ipc; do
                    [ $(readlink /proc/1/ns/$ns) = $(readlink /proc/self/ns/$ns) ] || echo $ns
                  done
                  ls /proc/self/fd | wc -l; ulimit -n
                  grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/self/status
                } >/said; echo prepared";
    let mut pod = with_pre_stop(scene.script(script), said);
    let container = &mut pod.containers[0];
    container.env.push("A=b".into());
    container.working_dir = "/bin".into();
    container.cgroups = vec![scene.cgroup("pids", Join::Tasks, &[])];
    container.nofile = Some(77);
    container.capabilities = 1;
    container.seccomp = Some(allow_all());
    let (mut shim, _) = scene.launched(&pod);
    is_ready(&scene);
    shim.stop();
    assert_eq!(shim.expect_exited().exit, Exit::Exited(0));
    let output = scene.logged("stdout").replace('\t', " ");
    let lines: Vec<&str> = output.lines().filter(|line| !line.contains(":pids:")).collect();
    assert_eq!(
        lines,
        [
            "ready",
            "prepared",
            "0",
            "web",
            "b",
            "/bin",
            "4",
            "77",
            "CapEff: 0000000000000001",
            "NoNewPrivs: 1",
            "Seccomp: 2"
        ]
    );
    assert!(output.contains(":pids:/\n"), "{output}");
}

#[test]
fn a_stop_goes_on_when_its_pre_stop_fails() {
    let scene = scene!("a_stop_goes_on_when_its_pre_stop_fails");
    let script = "trap 'exit 3' TERM; echo ready; sleep 1000 & wait";
    let mut missing = scene.script(script);
    missing.containers[0].stop.pre_stop = vec!["/bin/none".into()];
    for (pod, says) in [
        (with_pre_stop(scene.script(script), "exit 9"), "exited with status 9"),
        (with_pre_stop(scene.script(script), "kill -KILL $$"), "was ended by signal 9"),
        (missing, "exec /bin/none: no such file or directory"),
    ] {
        let (mut shim, _) = scene.launched(&pod);
        is_ready(&scene);
        shim.stop();
        let (complaint, exit) = complaint_and_exit(&mut shim);
        assert_eq!((complaint.as_str(), exit), (says, Exit::Exited(3)));
        fs::remove_file(scene.log_path()).unwrap();
    }
}

#[test]
fn a_pre_stop_that_fails_is_told_of_where_the_workload_cannot_be_asked() {
    let scene = scene!("a_pre_stop_that_fails_is_told_of_where_the_workload_cannot_be_asked");
    let (mut shim, _) =
        scene.launched(&with_pre_stop(scene.pod(&["/bin/sleep", "1000"]), "exit 9"));
    shim.stop();
    let (complaint, exit) = complaint_and_exit(&mut shim);
    assert_eq!((complaint.as_str(), exit), ("exited with status 9", Exit::Signaled(libc::SIGKILL)));
}

#[test]
fn a_pre_stop_that_takes_too_long_is_killed_with_the_rest() {
    let scene = scene!("a_pre_stop_that_takes_too_long_is_killed_with_the_rest");
    let script = "trap 'exit 3' TERM; echo ready; sleep 1000 & wait";
    let mut pod = with_pre_stop(scene.script(script), "exec sleep 1000");
    pod.containers[0].stop.grace_ms = 200;
    let (mut shim, _) = scene.launched(&pod);
    is_ready(&scene);
    shim.stop();
    assert_eq!(shim.expect_exited().exit, Exit::Signaled(9));
}

#[test]
fn an_init_hears_a_stop_however_busy_it_is() {
    let scene = scene!("an_init_hears_a_stop_however_busy_it_is");
    let script = "trap 'exit 42' TERM; echo ready; while :; do (true &); done";
    for _ in 0..20 {
        let (mut shim, _) = scene.launched(&with_init(scene.script(script)));
        is_ready(&scene);
        shim.stop();
        assert_eq!(shim.expect_exited().exit, Exit::Exited(42));
        fs::remove_file(scene.log_path()).unwrap();
    }
}

#[test]
fn an_init_does_not_hide_that_memory_has_run_out() {
    let mut scene = scene!("an_init_does_not_hide_that_memory_has_run_out");
    let mut pod = with_init(scene.pod(&["/bin/tail", "/dev/zero"]));
    let limit = ("memory.limit_in_bytes", "16777216");
    pod.containers[0].cgroups = vec![scene.cgroup("memory", Join::Tasks, &[limit])];
    assert_eq!(scene.run(&pod), Exit::OutOfMemory);
}

/// A seccomp program that answers one system call with `EPERM`.
fn deny(number: i64) -> Seccomp {
    let instruction = |code: u16, jt: u8, jf: u8, k: u32| {
        let [a, b] = code.to_ne_bytes();
        let k = k.to_ne_bytes();
        [a, b, jt, jf, k[0], k[1], k[2], k[3]]
    };
    let number = u32::try_from(number).unwrap();
    let program = [
        instruction(0x20, 0, 0, 0),
        instruction(0x15, 0, 1, number),
        instruction(0x06, 0, 0, 0x0005_0001),
        instruction(0x06, 0, 0, 0x7fff_0000),
    ];
    Seccomp { flags: 0, program: tank_shim::protocol::Bytes(program.concat()) }
}

#[test]
fn an_init_lives_with_what_a_profile_of_ones_own_denies() {
    let scene = scene!("an_init_lives_with_what_a_profile_of_ones_own_denies");
    for (number, exit) in [
        (libc::SYS_close_range, Exit::Exited(3)),
        (libc::SYS_prctl, Exit::Exited(3)),
        // Without this one it is no init.
        (libc::SYS_rt_sigtimedwait, Exit::Exited(127)),
    ] {
        let mut pod = with_init(scene.script("sleep 0.1; exit 3"));
        pod.containers[0].seccomp = Some(deny(number));
        assert_eq!(scene.run(&pod), exit);
    }
}

#[test]
fn cve_2016_9962_what_enters_has_nothing_of_the_hosts_even_for_those_who_may_look() {
    let scene =
        scene!("cve_2016_9962_what_enters_has_nothing_of_the_hosts_even_for_those_who_may_look");
    // With CAP_SYS_PTRACE one may look into any process of the container's.
    let script = "trap 'exit 0' TERM; echo ready; n=3
        while :; do
          [ -d /proc/$n ] && for f in /proc/$n/fd/*; do
            [ -d $f/ ] && { echo a directory; ls $f/; }
          done
          [ -d /proc/$((n + 1)) ] && n=$((n + 1))
        done";
    let mut pod = with_pre_stop(scene.script(script), "sleep 0.02");
    pod.containers[0].capabilities |= 1 << 19;
    pod.containers[0].stop.grace_ms = 5_000;
    for _ in 0..15 {
        let (mut shim, _) = scene.launched(&pod);
        is_ready(&scene);
        shim.stop();
        shim.expect_exited();
        assert_eq!(scene.logged("stdout"), "ready\n");
        fs::remove_file(scene.log_path()).unwrap();
    }
}

#[test]
fn a_pre_stop_reads_from_the_containers_own_dev_null_and_waits_for_nothing_else_there() {
    let scene = scene!(
        "a_pre_stop_reads_from_the_containers_own_dev_null_and_waits_for_nothing_else_there"
    );
    let script = "trap 'exit 3' TERM; rm /dev/null || mount; echo ready; sleep 1000 & wait";
    let mut pod = with_pre_stop(
        scene.script(&script.replace("rm /dev/null || mount; ", "")),
        "[ -c /dev/stdin ] && echo the device; chmod 0 /proc/self/fd/0 || echo not ours",
    );
    pod.containers[0].capabilities |= 0x3f;
    let mode = || fs::metadata("/dev/null").unwrap();
    let before = std::os::unix::fs::PermissionsExt::mode(&mode().permissions());
    let (mut shim, _) = scene.launched(&pod);
    is_ready(&scene);
    shim.stop();
    assert_eq!(shim.expect_exited().exit, Exit::Exited(3));
    assert_eq!(scene.logged("stdout"), "ready\nthe device\nnot ours\n");
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode().permissions()), before);
}

#[test]
fn what_is_in_a_container_cannot_look_into_what_enters_it() {
    // CVE-2016-9962: a process on its way in has descriptors and memory of the
    // host's, and may be caught before it has given them up.
    let scene = scene!("what_is_in_a_container_cannot_look_into_what_enters_it");
    let script = "trap 'exit 0' TERM; echo ready
        while :; do for p in /proc/[0-9]*; do
          case ${p#/proc/} in 1|self) continue;; esac
          [ -e $p/root/host-only ] && echo root of ${p#/proc/}
          for f in $p/fd/*; do l=$(readlink $f 2>/dev/null) && case $l in
            *shim.sock*|*/run*|anon_inode:*|socket:*) echo $l;; esac; done
        done; done";
    fs::write(scene.dir.join("host-only"), "").unwrap();
    let mut pod = with_pre_stop(scene.script(script), "sleep 0.05");
    pod.containers[0].stop.grace_ms = 5_000;
    for _ in 0..10 {
        let (mut shim, _) = scene.launched(&pod);
        is_ready(&scene);
        shim.stop();
        shim.expect_exited();
        let said = scene.logged("stdout");
        assert_eq!(said, "ready\n");
        fs::remove_file(scene.log_path()).unwrap();
    }
    assert!(!Path::new(&path_string(&scene.rootfs())).join("host-only").exists());
}
