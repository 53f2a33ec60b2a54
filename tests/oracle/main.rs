//! What a container is made of under Tank, crun and runc, told from inside by
//! probes and seen from outside: there is no difference that is not in
//! `tests/cases/oracle.txt`, and none in it that is not so. Needs root, a C
//! compiler, crun and runc.

mod bundle;
mod list;
mod report;
mod runtime;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use erlang_term_format::Term;
use list::{Difference, RUNTIMES};
use report::{Host, Report};
use runtime::{Bundle, Run};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use support::eventually;
use support::machine::{Machine, build_probe};

/// Tells of its surroundings, waits to be looked at, and tries what seccomp knows.
const COMMAND: [&str; 4] = ["/bin/surroundings", "and", "wait", "/bin/probe"];

/// What a spec asks for, and docker's way to ask for the same.
struct Case {
    name: &'static str,
    /// Further fields of the container; `DIR` is the test's directory.
    fields: &'static str,
    /// Further fields of the pod.
    pod_fields: &'static str,
    niceness: Option<i32>,
    change: fn(&mut Value, &Path),
}

const DEFAULT: Case =
    Case { name: "default", fields: "", pod_fields: "", niceness: None, change: |_, _| {} };

const CASES: [Case; 12] = [
    DEFAULT,
    Case {
        name: "a user with groups",
        fields: r#", user => <<"web">>"#,
        change: |config, _| {
            let groups = [1001, 4, 5];
            config["process"]["user"] = json!({"uid": 1000, "gid": 1001, "additionalGids": groups});
        },
        ..DEFAULT
    },
    Case {
        name: "a user without an account",
        fields: r#", user => <<"2000:2001">>"#,
        change: |config, _| {
            config["process"]["user"] = json!({"uid": 2000, "gid": 2001, "additionalGids": [2001]});
        },
        ..DEFAULT
    },
    Case {
        name: "read_only",
        fields: ", read_only => true",
        change: |config, _| config["root"]["readonly"] = json!(true),
        ..DEFAULT
    },
    Case {
        name: "privileged",
        fields: ", privileged => true",
        change: |config, _| bundle::privileged(config),
        ..DEFAULT
    },
    Case {
        name: "cap_add",
        fields: r#", cap_add => [<<"SYS_ADMIN">>, <<"SYS_PTRACE">>, <<"SYS_TIME">>, <<"SYSLOG">>, <<"BPF">>]"#,
        change: |config, _| {
            for name in ["SYS_ADMIN", "SYS_PTRACE", "SYS_TIME", "SYSLOG", "BPF"] {
                let name = json!(format!("CAP_{name}"));
                bundle::push(&mut config["process"]["capabilities"]["bounding"], name);
            }
        },
        ..DEFAULT
    },
    Case {
        name: "cap_drop",
        fields: r#", cap_drop => [all], cap_add => [<<"KILL">>]"#,
        change: |config, _| {
            config["process"]["capabilities"]["bounding"] = json!(["CAP_KILL"]);
        },
        ..DEFAULT
    },
    Case {
        name: "seccomp unconfined",
        fields: ", seccomp => unconfined",
        change: |config, _| {
            config["linux"].as_object_mut().expect("an object").remove("seccomp");
        },
        ..DEFAULT
    },
    Case {
        name: "limits",
        fields: ", limits => #{memory => 67108864, memory_swap => 134217728, pids => 50,
            cpu => {50000, 200000}, cpu_shares => 512, nofile => 512, nice => 5, oom_score_adj => 300}",
        niceness: Some(5),
        change: |config, _| {
            let resources = &mut config["linux"]["resources"];
            resources["memory"] = json!({"limit": 67_108_864, "swap": 134_217_728});
            resources["pids"] = json!({"limit": 50});
            resources["cpu"] = json!({"quota": 50_000, "period": 200_000, "shares": 512});
            config["process"]["rlimits"] =
                json!([{"type": "RLIMIT_NOFILE", "hard": 512, "soft": 512}]);
            config["process"]["oomScoreAdj"] = json!(300);
        },
        ..DEFAULT
    },
    Case {
        name: "volumes",
        fields: r#", mounts => [#{volume => <<"dir">>, path => <<"/rw">>},
            #{volume => <<"dir">>, path => <<"/ro">>, read_only => true},
            #{volume => <<"file">>, path => <<"/etc/file">>, read_only => true},
            #{volume => <<"memory">>, path => <<"/memory">>}]"#,
        pod_fields: r#", volumes => [#{name => <<"dir">>, source => {host, <<"DIR/volume">>}},
            #{name => <<"file">>, source => {host, <<"DIR/volume/file">>}},
            #{name => <<"memory">>, source => {tmpfs, 1048576}}]"#,
        change: |config, dir| {
            let bind = |from: &str, to: &str, access: &str| {
                let options = ["rbind", "rprivate", access];
                json!({"destination": to, "type": "bind", "source": dir.join(from), "options": options})
            };
            let memory = ["noexec", "nosuid", "nodev", "size=1048576"];
            for mount in [
                bind("volume", "/rw", "rw"),
                bind("volume", "/ro", "ro"),
                bind("volume/file", "/etc/file", "ro"),
                json!({"destination": "/memory", "type": "tmpfs", "source": "tmpfs", "options": memory}),
            ] {
                bundle::push(&mut config["mounts"], mount);
            }
        },
        ..DEFAULT
    },
    Case {
        name: "network host",
        pod_fields: ", network => host",
        change: |config, _| {
            let linux = &mut config["linux"];
            bundle::retain(&mut linux["namespaces"], |each| each["type"] != json!("network"));
            linux.as_object_mut().expect("an object").remove("sysctl");
        },
        ..DEFAULT
    },
    Case {
        name: "working_dir and env",
        fields: r#", working_dir => <<"/made/here">>, env => #{<<"PATH">> => <<"/bin">>, <<"HOME">> => <<"/home">>,
            <<"LANG">> => <<"C.UTF-8">>, <<"EMPTY">> => <<>>}"#,
        change: |config, _| {
            config["process"]["cwd"] = json!("/made/here");
            config["process"]["env"] =
                json!(["PATH=/bin", "HOSTNAME=p", "HOME=/home", "LANG=C.UTF-8", "EMPTY="]);
        },
        ..DEFAULT
    },
];

/// A machine with what the cases need in its root file system and beside it.
fn machine(test: &str) -> Option<Machine> {
    let machine = Machine::new(test)?;
    build_probe("surroundings", &machine.rootfs.join("bin/surroundings"));
    let write = |path: &str, text: &str| {
        let path = machine.path(path);
        std::fs::create_dir_all(path.parent().expect("a file")).expect("ours");
        std::fs::write(path, text).expect("ours");
    };
    let users = "root:x:0:0::/root:/bin/sh\nweb:x:1000:1001::/srv/web:/bin/sh\n";
    write("rootfs/etc/passwd", users);
    write("rootfs/etc/group", "root:x:0:\nadm:x:4:web\ntty:x:5:web\nweb:x:1001:\n");
    write("volume/file", "");
    Some(machine)
}

/// What is found under Tank.
fn under_tank(machine: &mut Machine, host: &Host, case: &Case) -> Report {
    let dir = machine.path("").display().to_string();
    let here = |fields: &str| fields.replace("DIR/", &dir);
    machine.start(&COMMAND, &here(case.fields), &here(case.pod_fields));
    let pid = ready(machine);
    let limits = report::limits(pid);
    kill_process(pid, Signal::TERM).expect("it lives");
    assert_eq!(machine.ended().to_string(), "{exited,0}", "{}", case.name);
    // No difference would be seen between limits that are not found.
    assert_eq!(limits.contains_key("limit of pids"), case.fields.contains("pids"), "{limits:?}");
    let mut report = host.report(machine.printed("stdout"));
    report.extend(limits);
    machine.forget();
    report
}

/// Waits until the probe is ready; the container's first process.
fn ready(machine: &mut Machine) -> Pid {
    let mut pid = None;
    eventually("the probe is ready", || {
        // It may be ready before it is known by its pid.
        pid = machine.status().get("host_pid").and_then(Term::as_i64);
        pid.is_some() && machine.printed("stdout").iter().any(|line| line == "ready")
    });
    pid.and_then(|pid| Pid::from_raw(pid.try_into().ok()?)).expect("a pid")
}

/// What is found under another runtime.
fn under(runtime: &'static str, machine: &Machine, host: &Host, case: &Case) -> Report {
    let name = bundle_name(runtime, case.name);
    let config = bundle::config(&COMMAND, &name, |config| (case.change)(config, &machine.path("")));
    let mut run = start(runtime, machine, &name, &config, case.niceness);
    let mut lines = run.lines_until_ready();
    let limits = report::limits(run.pid());
    kill_process(run.pid(), Signal::TERM).expect("it lives");
    let (rest, exit_code) = run.ended();
    assert_eq!(exit_code, 0, "{}: {rest:#?}", case.name);
    lines.extend(rest);
    let mut report = host.report(lines);
    report.extend(limits);
    report
}

/// A name for a bundle, its container and its cgroup.
fn bundle_name(runtime: &str, case: &str) -> String {
    let words: Vec<&str> = case.split(|sign: char| !sign.is_ascii_alphanumeric()).collect();
    format!("tank-test-{}-{runtime}-{}", std::process::id(), words.join("-"))
}

fn start(
    runtime: &'static str,
    machine: &Machine,
    name: &str,
    config: &Value,
    niceness: Option<i32>,
) -> Run {
    let dir = machine.path(name);
    std::fs::create_dir(&dir).expect("it is new");
    Run::start(&Bundle { runtime, name, dir: &dir, rootfs: &machine.rootfs, config, niceness })
}

/// What the ends of commands are called in the list.
const END: &str = "the end of ";

/// The list's lines about the ends of commands, or all the others.
fn listed(are_ends: bool) -> BTreeSet<Difference> {
    let listed = list::read().into_iter();
    listed.filter(|difference| difference.key.starts_with(END) == are_ends).collect()
}

#[test]
fn a_container_is_what_it_is_under_crun_and_runc_but_for_what_is_listed() {
    let Some(mut machine) = machine("the oracle") else { return };
    let host = Host::new();
    let mut found = BTreeSet::new();
    for case in &CASES {
        let ours = under_tank(&mut machine, &host, case);
        for runtime in RUNTIMES {
            let theirs = under(runtime, &machine, &host, case);
            found.extend(report::differences(runtime, &ours, &theirs));
        }
    }
    list::assert_listed(&found, &listed(false));
}

/// Commands, and the signal that each is sent once it is ready.
const ENDS: [(&[&str], Option<Signal>); 11] = [
    (&["/bin/true"], None),
    (&["/bin/sh", "-c", "exit 3"], None),
    (&["/bin/sh", "-c", "exit 255"], None),
    (&["/bin/surroundings", "fault"], None),
    (&COMMAND, Some(Signal::KILL)),
    (&["true"], None),
    (&["/bin/none"], None),
    (&["none"], None),
    (&["/etc/passwd"], None),
    (&["/bin"], None),
    (&["/bin/script"], None),
];

/// How a command ends under Tank, as a shell would say it.
fn end_under_tank(machine: &mut Machine, command: &[&str], signal: Option<Signal>) -> String {
    machine.start(command, "", "");
    if let Some(signal) = signal {
        kill_process(ready(machine), signal).expect("it lives");
    }
    let exit = machine.ended();
    machine.forget();
    match exit.as_tuple() {
        Some([tag, code]) if tag.is_atom("exited") => code.to_string(),
        Some([tag, signal]) if tag.is_atom("signaled") => {
            (128 + signal.as_i64().expect("a number")).to_string()
        }
        Some([_, error]) => support::code(error),
        _ => panic!("no exit: {exit}"),
    }
}

/// How it ends under another runtime.
fn end_under(
    runtime: &'static str,
    machine: &Machine,
    command: &[&str],
    signal: Option<Signal>,
) -> String {
    let name = bundle_name(runtime, &command.join(" "));
    let config = bundle::config(command, &name, |_| {});
    let mut run = start(runtime, machine, &name, &config, None);
    if let Some(signal) = signal {
        run.lines_until_ready();
        kill_process(run.pid(), signal).expect("it lives");
    }
    run.ended().1.to_string()
}

#[test]
fn a_command_ends_as_it_does_under_crun_and_runc_but_for_what_is_listed() {
    let Some(mut machine) = machine("the ends of commands") else { return };
    let script = machine.rootfs.join("bin/script");
    std::fs::write(&script, "#!/none\n").expect("ours");
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).expect("ours");
    let mut found = BTreeSet::new();
    for (command, signal) in ENDS {
        let key = format!("{END}{}", command.join(" "));
        let report = |end: String| Report::from([(key.clone(), end)]);
        let ours = report(end_under_tank(&mut machine, command, signal));
        for runtime in RUNTIMES {
            let theirs = report(end_under(runtime, &machine, command, signal));
            found.extend(report::differences(runtime, &ours, &theirs));
        }
    }
    list::assert_listed(&found, &listed(true));
}
