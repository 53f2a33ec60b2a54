//! What a program does with runs that an earlier one began: it takes them over as they
//! are, acts on what happened meanwhile, and replaces only what is not as it should be.

use std::fs;
use std::path::PathBuf;

use erlang_term_format::Term;
use rustix::process::{Pid, Signal, kill_process};

use super::support::{Port, code, eventually, is_alive, message, refused};
use super::{Machine, host_pid, is_in, parent_of, status};

/// Longer than any test.
const LONG: [&str; 4] = ["--backoff-base-ms", "600000", "--backoff-cap-ms", "600000"];

pub(super) fn number(status: &Term<'_>, key: &str) -> i64 {
    status.get(key).and_then(Term::as_i64).unwrap_or_else(|| panic!("no {key}: {status}"))
}

fn text(status: &Term<'_>, key: &str) -> String {
    status.get(key).map(ToString::to_string).unwrap_or_default()
}

pub(super) fn signal(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).expect("a pid"), signal).expect("it lives");
}

/// Milliseconds since 1970.
fn unix_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(since.expect("after 1970").as_millis()).expect("before the end of time")
}

impl Machine {
    /// Changes what is desired while no program runs anything.
    fn meanwhile(&self, op: &str, args: &str) {
        let data = self.dir.path().join("data").display().to_string();
        let mut port = Port::start(&["--data-dir", &data, "--runtime", "none"]);
        port.ok(op, args);
        port.ok("shutdown", "#{pods => keep}");
        assert_eq!(port.wait().code(), Some(0));
    }

    /// A pod that leaves a line in this file each time that it starts.
    pub(super) fn counted(&self, name: &str, script: &str, policy: &str) -> (String, PathBuf) {
        let dir = self.dir.path().join(format!("{name}.runs"));
        fs::create_dir_all(&dir).expect("ours");
        let spec = format!(
            "#{{name => <<\"{name}\">>, restart => {policy},
               volumes => [#{{name => <<\"runs\">>, source => {{host, <<\"{}\">>}}}}],
               containers => [#{{name => <<\"c\">>, image => {{rootfs, <<\"{}\">>}},
                 mounts => [#{{volume => <<\"runs\">>, path => <<\"/runs\">>}}],
                 command => [<<\"/bin/sh\">>, <<\"-c\">>, <<\"echo run >> /runs/lines; {script}\">>]}}]}}",
            dir.display(),
            self.rootfs
        );
        (spec, dir.join("lines"))
    }

    pub(super) fn record(&self, pod: &str, file: &str) -> PathBuf {
        self.run_dir(pod).join(file)
    }
}

pub(super) fn lines(path: &PathBuf) -> usize {
    fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

/// Changes a file of a run directory.
fn tamper(path: &PathBuf, change: impl Fn(String) -> String) {
    let text = fs::read(path).expect("it is on record");
    // Latin-1 there and back: it is bytes.
    let text = text.into_iter().map(char::from).collect();
    let bytes: Vec<u8> = change(text).chars().map(|char| char as u8).collect();
    fs::write(path, bytes).expect("ours");
}

/// A record as one of another boot of the machine.
fn of_another_boot(text: &str) -> String {
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("it has booted");
    let other = boot_id.trim_end().replace(|digit: char| digit.is_ascii_digit(), "0");
    text.replace(boot_id.trim_end(), &other)
}

#[test]
fn a_run_is_taken_over_as_it_is_and_nothing_of_its_output_is_missing() {
    let Some(machine) = Machine::new("taken over") else { return };
    let mut port = machine.port();
    let counts = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done";
    port.ok("apply", &machine.pod("web", counts, ""));
    port.ok("sync", "nil");
    let before = status(&mut port, "web");
    for _ in 0..3 {
        port.kill();
        port = machine.port();
        let after = status(&mut port, "web");
        for key in ["status", "host_pid", "incarnation", "retries", "generation", "containers"] {
            assert_eq!(after.get(key), before.get(key), "{key}: {before} {after}");
        }
        // The clocks are read anew, and may differ by what they are read at.
        let since = |status| number(status, "started_at_ms");
        assert!((since(&after) - since(&before)).abs() < 1_000, "{before} {after}");
    }
    let logged = || machine.logged("web");
    let count = logged().lines().count();
    eventually("it goes on writing", || logged().lines().count() > count + 3);
    for (index, line) in logged().lines().enumerate() {
        assert!(line.ends_with(&format!(" {}", index + 1)), "line {index} is {line}");
    }
    // The next run has another number than this one.
    port.ok("restart", "<<\"web\">>");
    port.ok("sync", "nil");
    let restarted = status(&mut port, "web");
    assert!(number(&restarted, "incarnation") > number(&before, "incarnation"));
    assert_ne!(restarted.get("host_pid"), before.get("host_pid"));
}

#[test]
fn a_subscriber_is_told_of_what_was_being_launched_and_the_launch_goes_on() {
    let Some(machine) = Machine::new("taken over in its launch") else { return };
    let mut port = machine.port();
    let gate = machine.dir.path().join("gate");
    fs::create_dir(&gate).expect("ours");
    let container = |name: &str, script: &str| {
        format!(
            "#{{name => <<\"{name}\">>, image => {{rootfs, <<\"{}\">>}},
               mounts => [#{{volume => <<\"gate\">>, path => <<\"/gate\">>}}],
               command => [<<\"/bin/sh\">>, <<\"-c\">>, <<\"{script}\">>]}}",
            machine.rootfs
        )
    };
    let waits = "echo once >> /gate/times; until [ -e /gate/open ]; do sleep 0.01; done";
    port.ok(
        "apply",
        &format!(
            "#{{name => <<\"web\">>, init_containers => [{}], containers => [{}],
               volumes => [#{{name => <<\"gate\">>, source => {{host, <<\"{}\">>}}}}]}}",
            container("i", waits),
            container("c", "sleep 1000"),
            gate.display()
        ),
    );
    eventually("the init container runs", || gate.join("times").exists());
    port.kill();
    let mut port = machine.port();
    assert!(is_in(&mut port, "web", "starting"), "{}", status(&mut port, "web"));
    fs::write(gate.join("open"), "").expect("ours");
    eventually("the pod runs", || is_in(&mut port, "web", "running"));
    assert_eq!(lines(&gate.join("times")), 1);
}

#[test]
fn an_exit_that_nobody_has_seen_is_acted_on_by_policy_with_the_time_that_it_happened() {
    let Some(machine) = Machine::new("exits meanwhile") else { return };
    let machine = machine.with(&LONG);
    let mut port = machine.port();
    let (once, once_runs) = machine.counted("once", "sleep 0.3; exit 7", "never");
    let (clean, clean_runs) = machine.counted("clean", "sleep 0.3", "on_failure");
    let (web, web_runs) = machine.counted("web", "sleep 0.3; exit 3", "always");
    for spec in [&once, &clean, &web] {
        port.ok("apply", spec);
    }
    port.ok("sync", "nil");
    let pods = ["once", "clean", "web"];
    let pids = pods.map(|pod| host_pid(&mut port, pod));
    port.kill();
    eventually("they are over", || !pids.into_iter().any(is_alive));
    eventually("that is on record", || {
        pods.into_iter().all(|pod| machine.record(pod, "exit").exists())
    });
    let ended_by = unix_ms();

    // However often a program comes, it finds the same.
    let mut told = Vec::new();
    for _ in 0..3 {
        let mut port = machine.port();
        assert!(is_in(&mut port, "once", "terminal"));
        assert_eq!(text(&status(&mut port, "once"), "last_exit"), "{exited,7}");
        assert!(is_in(&mut port, "clean", "terminal"), "{}", status(&mut port, "clean"));
        let web = status(&mut port, "web");
        assert_eq!(text(&web, "status"), "backing_off");
        assert_eq!((text(&web, "last_exit"), number(&web, "retries")), ("{exited,3}".into(), 1));
        let ended_at = number(&web, "last_exit_at_ms");
        assert!(ended_at <= ended_by, "{web}");
        // The wait counts from the end, not from now.
        let due = unix_ms() + number(&web, "retry_in_ms");
        assert!((due - ended_at - 600_000).abs() < 1_000, "{web}");
        told.push(pods.map(|pod| {
            let status = status(&mut port, pod);
            ["last_exit_at_ms", "incarnation"].map(|key| number(&status, key))
        }));
        port.kill();
    }
    assert!(told.iter().all(|of_pods| *of_pods == told[0]), "{told:?}");
    assert!(told[0].as_flattened().iter().all(|number| *number > 0), "{told:?}");
    assert_eq!([&once_runs, &clean_runs, &web_runs].map(lines), [1, 1, 1]);
}

#[test]
fn how_the_run_before_has_ended_is_told_of_as_before() {
    let Some(machine) = Machine::new("the run before") else { return };
    let machine = machine.with(&["--backoff-base-ms", "1"]);
    let flag = machine.dir.path().join("volume");
    fs::create_dir(&flag).expect("a directory");
    let spec = machine.pod("web", "[ -e /v/once ] && exec sleep 1000; : >/v/once; exit 7", "");
    let volume = format!(
        "volumes => [#{{name => <<\"v\">>, source => {{host, <<\"{}\">>}}}}]",
        flag.display()
    );
    let mount = "mounts => [#{volume => <<\"v\">>, path => <<\"/v\">>}]";
    let spec = spec.replacen("#{", &format!("#{{{volume}, "), 1);
    let at = spec.rfind("command").expect("a container");
    let spec = format!("{}{mount}, {}", &spec[..at], &spec[at..]);
    let mut port = machine.port();
    port.ok("apply", &spec);
    eventually("it runs again", || {
        let status = status(&mut port, "web");
        text(&status, "status") == "running" && number(&status, "retries") == 1
    });
    let told = |port: &mut Port| status(port, "web").to_string();
    let before = told(&mut port);
    for _ in 0..3 {
        port.kill();
        port = machine.port();
        port.ok("sync", "nil");
        assert_eq!(told(&mut port), before);
    }
}

#[test]
fn a_wait_and_its_count_go_on_and_an_orderly_stop_ends_them() {
    let Some(machine) = Machine::new("waits go on") else { return };
    let machine = machine.with(&["--backoff-base-ms", "1", "--backoff-cap-ms", "600000"]);
    let mut port = machine.port();
    port.ok("apply", &machine.pod("web", "exit 3", ""));
    port.ok("apply", &machine.pod_of("none", "[<<\"/bin/none\">>]", ""));
    let has_waited = |port: &mut Port, pod: &str| {
        let status = status(port, pod);
        text(&status, "status") == "backing_off" && number(&status, "retries") >= 11
    };
    for pod in ["web", "none"] {
        eventually("it has waited often", || has_waited(&mut port, pod));
    }
    let retries =
        |port: &mut Port| ["web", "none"].map(|pod| number(&status(port, pod), "retries"));
    let before = retries(&mut port);
    port.kill();
    let mut port = machine.port();
    assert!(retries(&mut port).into_iter().zip(before).all(|(now, then)| now >= then));
    // In order, all is over with all that follows from it.
    port.ok("shutdown", "#{pods => stop}");
    assert_eq!(port.wait().code(), Some(0));
    assert!(!machine.dir.path().join("run").exists());
    let mut port = machine.port();
    assert!(retries(&mut port).into_iter().zip(before).all(|(now, then)| now < then));
}

#[test]
fn what_was_changed_meanwhile_is_replaced_adjusted_or_gone_and_nothing_else() {
    let Some(machine) = Machine::new("changes meanwhile") else { return };
    let mut port = machine.port();
    let pods = ["same", "other", "limited", "policy", "gone"];
    for pod in pods {
        port.ok("apply", &machine.pod(pod, "sleep 1000", ""));
    }
    port.ok("sync", "nil");
    let before = pods.map(|pod| host_pid(&mut port, pod));
    port.kill();
    machine.meanwhile("apply", &machine.pod("other", "sleep 1001", ""));
    machine.meanwhile("apply", &machine.pod("limited", "sleep 1000", ", limits => #{pids => 9}"));
    let policy = machine.pod("policy", "sleep 1000", "");
    machine.meanwhile("apply", &policy.replacen("#{", "#{restart => never, ", 1));
    machine.meanwhile("delete", "<<\"gone\">>");

    let mut port = machine.port();
    port.ok("sync", "nil");
    let after = ["same", "other", "limited", "policy"].map(|pod| host_pid(&mut port, pod));
    assert_eq!(after[0], before[0], "nothing has changed");
    assert_ne!(after[1], before[1], "another command is another run");
    assert!(!is_alive(before[1]));
    // There is a group for limits of v1 only where the run had one: else it is replaced.
    let limited = status(&mut port, "limited");
    assert_eq!(number(&limited, "generation"), 7, "{limited}");
    assert_eq!(after[3], before[3], "the policy is no run's business");
    assert!(!is_alive(before[4]));
    assert!(status(&mut port, "gone").is_nil());
    assert!(!machine.run_dir("gone").exists());
    assert!(!machine.dir.path().join("data/logs/gone").exists());
    // The policy is in force all the same.
    signal(parent_of(after[3]), Signal::KILL);
    eventually("it is over", || is_in(&mut port, "policy", "terminal"));
}

#[test]
fn shims_that_are_frozen_keep_their_runs_and_hold_up_the_beginning_once() {
    let Some(machine) = Machine::new("frozen shims") else { return };
    let mut port = machine.port();
    let pods = ["one", "two", "three"];
    for pod in pods {
        port.ok("apply", &machine.pod(pod, "sleep 1000", ""));
    }
    port.ok("sync", "nil");
    let pids = pods.map(|pod| host_pid(&mut port, pod));
    let shims = pids.map(parent_of);
    shims.into_iter().for_each(|shim| signal(shim, Signal::STOP));
    port.kill();
    let began = std::time::Instant::now();
    let mut port = machine.port();
    // A frozen shim is waited for three seconds.
    assert!(began.elapsed() < std::time::Duration::from_secs(6), "{:?}", began.elapsed());
    assert!(pids.into_iter().all(is_alive));
    shims.into_iter().for_each(|shim| signal(shim, Signal::CONT));
    eventually("they are taken over", || {
        pods.into_iter().all(|pod| is_in(&mut port, pod, "running"))
    });
    assert_eq!(pods.map(|pod| host_pid(&mut port, pod)), pids);
}

#[test]
fn a_shim_that_was_killed_meanwhile_counts_as_a_crash_and_its_job_is_not_done_twice() {
    let Some(machine) = Machine::new("killed meanwhile") else { return };
    let machine = machine.with(&LONG);
    let mut port = machine.port();
    let (once, runs) = machine.counted("once", "sleep 1000", "never");
    port.ok("apply", &once);
    port.ok("apply", &machine.pod("web", "sleep 1000", ""));
    port.ok("sync", "nil");
    let pids = ["once", "web"].map(|pod| host_pid(&mut port, pod));
    port.kill();
    for pid in pids {
        signal(parent_of(pid), Signal::KILL);
    }
    eventually("nothing outlives its shim", || !pids.into_iter().any(is_alive));
    for _ in 0..2 {
        let mut port = machine.port();
        assert!(is_in(&mut port, "once", "terminal"), "{}", status(&mut port, "once"));
        let web = status(&mut port, "web");
        assert!(text(&web, "last_exit").contains("lost"), "{web}");
        assert_eq!((text(&web, "status"), number(&web, "retries")), ("backing_off".into(), 1));
        port.kill();
    }
    assert_eq!(lines(&runs), 1);
}

#[test]
fn a_stop_that_a_program_did_not_live_to_see_begins_nothing_afresh_but_the_pod() {
    let Some(machine) = Machine::new("stopped meanwhile") else { return };
    let machine = machine.with(&LONG);
    let mut port = machine.port();
    let waits = "trap 'echo > /runs/leaves; sleep 0.3; exit 1' TERM; sleep 1000 & wait";
    let (web, runs) = machine.counted("web", waits, "never");
    port.ok("apply", &web);
    port.ok("sync", "nil");
    let pid = host_pid(&mut port, "web");
    eventually("it listens", || lines(&runs) == 1);
    port.ask("restart", "<<\"web\">>");
    eventually("it is being stopped", || runs.with_file_name("leaves").exists());
    port.kill();
    eventually("it has stopped", || !is_alive(pid));
    let mut port = machine.port();
    eventually("it runs again", || is_in(&mut port, "web", "running"));
    assert_eq!(number(&status(&mut port, "web"), "retries"), 0);
    eventually("it has begun again", || lines(&runs) == 2);
}

#[test]
fn who_is_not_the_process_on_record_is_not_taken_over() {
    let Some(machine) = Machine::new("not who it says") else { return };
    let (mut port, _) = machine.port_with_web();
    let mut try_with = |file: &str, change: &dyn Fn(String) -> String| {
        let before = host_pid(&mut port, "web");
        port.kill();
        tamper(&machine.record("web", file), change);
        port = machine.port();
        eventually("another runs", || {
            let is_running = is_in(&mut port, "web", "running");
            assert!(!is_running || !is_alive(before), "{file}: two runs of one pod");
            is_running
        });
        assert_ne!(host_pid(&mut port, "web"), before, "{file}");
    };
    // The pid has been used again since.
    try_with("process", &|text| text.trim_end().to_owned() + "1\n");
    // The machine has been started again since.
    try_with("run", &|text| of_another_boot(&text));
    // Nothing can be read of it.
    try_with("run", &|text| text[..text.len() / 2].to_owned());
}

#[test]
fn after_a_reboot_a_job_that_was_done_is_done_and_one_that_was_not_begins_afresh() {
    let Some(machine) = Machine::new("rebooted") else { return };
    let machine = machine.with(&LONG);
    let mut port = machine.port();
    let (done, done_runs) = machine.counted("done", "sleep 0.3; exit 7", "never");
    let (begun, begun_runs) = machine.counted("begun", "sleep 1000", "never");
    port.ok("apply", &begun);
    port.ok("sync", "nil");
    let pid = host_pid(&mut port, "begun");
    eventually("it has begun", || lines(&begun_runs) == 1);
    // No program sees the end of the other.
    port.ok("apply", &done);
    port.ok("sync", "nil");
    port.kill();
    eventually("its end is on record", || machine.record("done", "exit").exists());
    signal(parent_of(pid), Signal::KILL);
    eventually("nothing outlives its shim", || !is_alive(pid));
    for pod in ["done", "begun"] {
        tamper(&machine.record(pod, "run"), |text| of_another_boot(&text));
    }
    let mut port = machine.port();
    assert!(is_in(&mut port, "done", "terminal"), "{}", status(&mut port, "done"));
    assert_eq!(text(&status(&mut port, "done"), "last_exit"), "{exited,7}");
    eventually("the other runs", || is_in(&mut port, "begun", "running"));
    assert_eq!(number(&status(&mut port, "begun"), "retries"), 0);
    eventually("it has begun again", || lines(&begun_runs) == 2);
    assert_eq!(lines(&done_runs), 1);
}

#[test]
fn a_program_that_would_not_find_what_runs_does_not_start() {
    let Some(machine) = Machine::new("another run directory") else { return };
    let (mut port, pid) = machine.port_with_web();
    port.kill();
    let path = |name: &str| machine.dir.path().join(name).display().to_string();
    let args = ["--data-dir", &path("data"), "--run-dir", &path("other")];
    let (status, error) = refused(&args);
    assert_eq!((status, &*code(&error)), (2, "bad_option"), "{error}");
    assert!(message(&error).contains(&path("run")), "{error}");
    assert!(!machine.dir.path().join("other").exists());
    assert!(is_alive(pid));
    let mut port = machine.port();
    assert_eq!(host_pid(&mut port, "web"), pid);
    port.ok("shutdown", "#{pods => stop}");
    assert_eq!(port.wait().code(), Some(0));
    let mut port = Port::start(&args);
    eventually("the pod runs there", || is_in(&mut port, "web", "running"));
    port.ok("shutdown", "#{pods => stop}");
    assert_eq!(port.wait().code(), Some(0));
}

#[test]
fn a_program_that_would_end_what_is_not_its_own_does_not_start() {
    let Some(machine) = Machine::new("another data directory") else { return };
    let (mut port, pid) = machine.port_with_web();
    port.kill();
    let path = |name: &str| machine.dir.path().join(name).display().to_string();
    let (status, error) = refused(&["--data-dir", &path("other"), "--run-dir", &path("run")]);
    assert_eq!((status, &*code(&error)), (2, "bad_option"), "{error}");
    assert!(message(&error).contains(&path("data")), "{error}");
    // It has not made them its own either, nor does a program that runs nothing.
    for run_dir_and_runtime in [["elsewhere", "container"], ["run", "none"]] {
        let [run_dir, runtime] = run_dir_and_runtime;
        let args = ["--data-dir", &path("other"), "--run-dir", &path(run_dir)];
        let mut other = Port::start(&[&args[..], &["--runtime", runtime]].concat());
        assert_eq!(other.ok("list", "nil").to_string(), "[]");
        other.ok("shutdown", "#{pods => stop}");
        assert_eq!(other.wait().code(), Some(0));
    }
    assert_eq!(host_pid(&mut machine.port(), "web"), pid);
}

#[test]
fn what_runs_goes_on_where_there_is_no_state_file_any_more() {
    let Some(machine) = Machine::new("no state file") else { return };
    let (mut port, pid) = machine.port_with_web();
    port.kill();
    fs::remove_file(machine.dir.path().join("data/state.redb")).expect("it is there");
    // A program that makes another and does not get to what runs.
    machine.meanwhile("apply", &machine.pod("db", "sleep 1000", ""));
    let mut port = machine.port();
    assert_eq!(host_pid(&mut port, "web"), pid);
    let events = port.ok("events", r#"<<"web">>"#).to_string();
    assert!(!events.contains("at_ms => 0"), "{events}");
    port.ok("delete", r#"<<"web">>"#);
    eventually("it is gone", || !is_alive(pid));
}

#[test]
fn a_shim_that_nobody_can_reach_any_more_is_killed() {
    let Some(machine) = Machine::new("lost run directory") else { return };
    let (mut port, pid) = machine.port_with_web();
    port.kill();
    fs::remove_dir_all(machine.run_dir("web")).expect("ours");
    let mut port = machine.port();
    eventually("another runs", || is_in(&mut port, "web", "running"));
    assert!(!is_alive(pid));
    assert_ne!(host_pid(&mut port, "web"), pid);
}

#[test]
fn what_belongs_to_no_run_is_swept_at_the_start_and_at_each_resync() {
    let Some(machine) = Machine::new("litter") else { return };
    let machine = machine.with(&["--interval-ms", "50"]);
    let (mut port, pid) = machine.port_with_web();
    let cgroups = cgroups_beside(pid);
    assert!(!cgroups.is_empty());
    let run_dir = machine.run_dir("litter");
    let logs = machine.dir.path().join("data/logs/litter");
    let mut litter: Vec<PathBuf> = cgroups.clone();
    litter.extend([run_dir, logs]);
    for round in 0..2 {
        if round == 1 {
            port.kill();
        }
        for dir in &litter {
            fs::create_dir(dir).expect("ours");
        }
        // A process that nobody knows of, in a group that is ours.
        let mut sleeper =
            std::process::Command::new("sleep").arg("1000").spawn().expect("it starts");
        for dir in &cgroups {
            let joined = fs::write(dir.join("cgroup.procs"), sleeper.id().to_string());
            joined.unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
        }
        if round == 1 {
            port = machine.port();
        }
        eventually("all litter is gone", || !litter.iter().any(|dir| dir.exists()));
        assert!(!sleeper.wait().expect("it is ours").success());
    }
    assert_eq!(host_pid(&mut port, "web"), pid, "what is no litter goes on");
}

/// Groups of a pod `litter` beside that of this process's pod, in each tree that has one.
fn cgroups_beside(pid: i32) -> Vec<PathBuf> {
    let own = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it lives");
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    let mounts: Vec<&str> = mounts
        .lines()
        .filter(|line| line.contains(" - cgroup"))
        .filter_map(|line| line.split(' ').nth(4))
        .collect();
    let paths = own.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let groups = paths.filter_map(|path| path.split_once("/web.pod"));
    let mut found: Vec<PathBuf> = groups
        .flat_map(|(above, _)| mounts.iter().map(move |mount| format!("{mount}{above}")))
        .map(PathBuf::from)
        .filter(|above| above.join("web.pod").exists())
        .map(|above| above.join("litter.pod"))
        .collect();
    found.sort();
    found.dedup();
    found
}

#[test]
fn a_state_file_that_is_lost_ends_no_pod_that_runs() {
    let Some(machine) = Machine::new("lost state file") else { return };
    let (mut port, pid) = machine.port_with_web();
    port.kill();
    let data = machine.dir.path().join("data");
    fs::write(data.join("state.redb"), "no state file").expect("ours");
    let mut port = machine.port();
    assert_eq!(host_pid(&mut port, "web"), pid);
    assert!(is_in(&mut port, "web", "running"), "{}", status(&mut port, "web"));
    let list = port.ok("list", "nil");
    assert_eq!(list.as_list().expect("pods").len(), 1, "it is stored again");
    let names = fs::read_dir(&data).expect("ours").map(|entry| entry.expect("ours").file_name());
    let is_aside =
        |name: std::ffi::OsString| name.to_string_lossy().starts_with("state.redb.corrupt");
    assert!(names.into_iter().any(is_aside), "what was found is kept");
}

#[test]
fn a_launch_goes_on_though_its_program_ends_in_order() {
    let Some(machine) = Machine::new("launched by two programs") else { return };
    let mut port = machine.port();
    let (pod, runs) = machine.counted("job", "sleep 1", "never");
    // The same script is the init container's: it is there before the pod is.
    let init = pod
        .replace("containers => [#{name => <<\"c\">>", "init_containers => [#{name => <<\"i\">>");
    let init = init.split_once("init_containers").expect("it has one").1;
    let init = init.strip_suffix("]}").expect("the pod's end");
    let pod = pod.replace("restart =>", &format!("init_containers{init}], restart =>"));
    port.ok("apply", &pod);
    eventually("the launch has executed something", || lines(&runs) == 1);
    port.hang_up();
    assert_eq!(port.wait().code(), Some(0));
    let mut port = machine.port();
    eventually("the pod has done its work", || is_in(&mut port, "job", "terminal"));
    assert_eq!(lines(&runs), 2, "once by each of its containers");
}

#[test]
fn a_frozen_run_is_as_it_was_though_a_program_ends_that_waits_for_it() {
    let Some(machine) = Machine::new("frozen while taken over") else { return };
    let (mut port, pid) = machine.port_with_web();
    let shim = parent_of(pid);
    port.kill();
    signal(shim, Signal::STOP);
    let mut port = machine.port();
    eventually("it is being taken over", || is_in(&mut port, "web", "starting"));
    port.hang_up();
    assert_eq!(port.wait().code(), Some(0));
    signal(shim, Signal::CONT);
    let mut port = machine.port();
    eventually("it is taken over", || is_in(&mut port, "web", "running"));
    assert_eq!(host_pid(&mut port, "web"), pid);
}
