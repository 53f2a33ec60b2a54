//! What a container's processes are left with, told from inside by a probe, and
//! under `crun` with the same rules: the two must agree. Needs root, a C compiler
//! and crun.

mod support;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use erlang_term_format::Term;
use support::{Port, code, eventually, is_root, message, place, rootfs};
use tank_seccomp::{Circumstances, Machine as Kind, Profile};
use tempfile::TempDir;

/// Docker's default capabilities, as the kernel shows them.
const DEFAULT: &str = "00000000a80425fb";
const NONE: &str = "0000000000000000";

/// A root file system with a probe in it, and a program to run it with.
struct Machine {
    dir: TempDir,
    rootfs: PathBuf,
    port: Port,
}

impl Machine {
    /// `None`, said aloud, when not root.
    fn new(test: &str) -> Option<Self> {
        if !is_root(test) {
            return None;
        }
        let dir = tempfile::tempdir().expect("a directory");
        // Other users go in, too.
        let mode = PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(dir.path(), mode).expect("ours");
        let rootfs = rootfs(dir.path());
        build_probe(&rootfs.join("bin/probe"));
        let path = |name: &str| dir.path().join(name).display().to_string();
        let port = Port::start(&["--data-dir", &path("data"), "--run-dir", &path("run")]);
        Some(Self { dir, rootfs, port })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Applies a pod that runs a command once, and waits for its end.
    fn run(&mut self, command: &[&str], fields: &str) -> Term<'static> {
        let command: Vec<String> = command.iter().map(|word| format!("<<\"{word}\">>")).collect();
        let pod = format!(
            "#{{name => <<\"p\">>, restart => never, containers => [#{{name => <<\"c\">>, \
             image => {{rootfs, <<\"{}\">>}}, command => [{}]{fields}}}]}}",
            self.rootfs.display(),
            command.join(", ")
        );
        self.port.ok("apply", &pod);
        let mut status = Term::nil();
        eventually("the pod is over", || {
            let all = self.port.ok("status", "nil");
            let name = Term::binary("p".to_owned());
            let mut entries = all.as_map().into_iter().flatten();
            let entry = entries.find(|(key, _)| *key == name).expect("it is tracked");
            status = entry.1.clone();
            status.get("status").is_some_and(|word| word.is_atom("terminal"))
        });
        status.get("last_exit").expect("it is over").clone()
    }

    /// Runs a command that must end well; what it printed.
    fn output(&mut self, command: &[&str], fields: &str) -> Vec<String> {
        let exit = self.run(command, fields);
        let (stdout, stderr) = (self.printed("stdout"), self.printed("stderr"));
        assert_eq!(exit.to_string(), "{exited,0}", "{stdout:#?} {stderr:#?}");
        self.forget();
        stdout
    }

    /// The next run is one of its own, and so is its output.
    fn forget(&mut self) {
        self.port.ok("delete", "<<\"p\">>");
        self.port.ok("sync", "nil");
    }

    fn printed(&self, stream: &str) -> Vec<String> {
        let log = std::fs::read_to_string(self.path("data/logs/p/c.log")).unwrap_or_default();
        let fields = log.lines().map(|line| line.splitn(4, ' ').collect::<Vec<_>>());
        let of_stream = fields.filter(|fields| fields[1] == stream);
        of_stream.map(|fields| fields[3].to_owned()).collect()
    }

    /// The error of a run that could not start.
    fn failure(&mut self, fields: &str) -> Term<'static> {
        let exit = self.run(&["/bin/true"], fields);
        let [tag, error] = exit.as_tuple().expect("an exit") else { panic!("{exit}") };
        assert!(tag.is_atom("error"), "{exit}");
        self.forget();
        error.clone()
    }

    /// What the probe says under crun.
    fn probe_under_crun(&self, capabilities: &[&str]) -> Vec<String> {
        let bundle = self.path("bundle");
        std::fs::create_dir_all(&bundle).expect("ours");
        let config = crun_config(&self.rootfs, capabilities);
        std::fs::write(bundle.join("config.json"), config).expect("ours");
        // Version 1.8 wants nothing to do with a version 2 tree that has one
        // controller, so there is none where it runs; and it makes no cgroup.
        let script = "! mountpoint -q /sys/fs/cgroup/unified || umount -l /sys/fs/cgroup/unified; \
                      exec crun --root \"$1/state\" --cgroup-manager=disabled run --bundle \"$1\" tank-test-$2";
        let output = Command::new("unshare")
            .args(["--mount", "sh", "-c", script, "sh"])
            .arg(&bundle)
            .arg(std::process::id().to_string())
            .stdin(Stdio::null())
            .output()
            .expect("unshare is part of util-linux");
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).expect("text");
        text.lines().map(str::to_owned).collect()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.port.ok("shutdown", "#{pods => stop}");
    }
}

/// Compiles the probe for any root file system.
fn build_probe(to: &Path) {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/probe.c");
    let status = Command::new("cc").args(["-static", "-O1", "-o"]).arg(to).arg(source).status();
    assert!(status.expect("gcc is installed").success());
}

/// A bundle's configuration, with the default profile and these capabilities.
fn crun_config(rootfs: &Path, capabilities: &[&str]) -> String {
    let template = include_str!("../benches/goals/config.json")
        .replace("@ARGS@", "\"/bin/probe\"")
        .replace("@ROOTFS@", &rootfs.display().to_string())
        .replace("@SECCOMP@", "null");
    let mut config: serde_json::Value = serde_json::from_str(&template).expect("JSON");
    for set in ["bounding", "effective", "permitted"] {
        config["process"]["capabilities"][set] = serde_json::json!(capabilities);
    }
    let names: BTreeSet<&str> = capabilities.iter().copied().collect();
    let machine = Kind::native().expect("a machine with seccomp programs");
    let circumstances = Circumstances { machine, kernel: (5, 10), capabilities: &names };
    let mut profile = Profile::default().resolved(&circumstances);
    // Docker serves it, where the kernel does.
    profile.architectures.push("SCMP_ARCH_X32".into());
    config["linux"]["seccomp"] = serde_json::to_value(&profile).expect("JSON");
    config["linux"].as_object_mut().expect("an object").remove("resources");
    config.to_string()
}

/// Docker's default capabilities by name.
const DEFAULT_NAMES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

fn field<'a>(lines: &'a [String], name: &str) -> &'a str {
    let line = lines.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("{name} is not in {lines:#?}")).trim()
}

/// Lines of one that the other has not.
fn difference(ours: &[String], theirs: &[String]) -> Vec<(String, String)> {
    assert_eq!(ours.len(), theirs.len());
    let pairs = ours.iter().zip(theirs).filter(|(ours, theirs)| ours != theirs);
    pairs.map(|(ours, theirs)| (ours.clone(), theirs.clone())).collect()
}

/// Crun has no answer of its own for calls that are newer than a profile; runc,
/// and so docker, has this one.
fn known_differences() -> Vec<(String, String)> {
    vec![("a call to come: ENOSYS".into(), "a call to come: EPERM".into())]
}

#[test]
fn the_default_is_what_was_recorded_and_what_crun_makes_of_the_same_rules() {
    let Some(mut machine) = Machine::new("the default confinement") else { return };
    let ours = machine.output(&["/bin/probe"], "");
    assert_eq!(ours, include_str!("cases/confinement.txt").lines().collect::<Vec<_>>());
    assert_eq!(difference(&ours, &machine.probe_under_crun(&DEFAULT_NAMES)), known_differences());
}

#[test]
fn capabilities_open_what_they_open_under_crun() {
    let Some(mut machine) = Machine::new("capabilities") else { return };
    let more = ["CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_SYS_TIME", "CAP_SYSLOG", "CAP_BPF"];
    let names: Vec<&str> = DEFAULT_NAMES.into_iter().chain(more).collect();
    let fields = more.map(|name| format!("<<\"{name}\">>")).join(", ");
    let ours = machine.output(&["/bin/probe"], &format!(", cap_add => [{fields}]"));
    assert_eq!(field(&ours, "unshare"), "EINVAL", "it got through");
    assert_eq!(field(&ours, "i386 mount"), "EFAULT", "it got through");
    assert_eq!(field(&ours, "keyctl"), "EPERM", "no capability opens it");
    assert_eq!(difference(&ours, &machine.probe_under_crun(&names)), known_differences());

    let ours = machine.output(&["/bin/probe"], ", cap_drop => [all], cap_add => [<<\"kill\">>]");
    assert_eq!(field(&ours, "CapEff"), "0000000000000020");
    assert_eq!(field(&ours, "CapBnd"), "0000000000000020");
    assert_eq!(field(&ours, "chroot"), "EPERM");
    assert_eq!(difference(&ours, &machine.probe_under_crun(&["CAP_KILL"])), known_differences());
}

#[test]
fn what_is_exec_d_is_as_confined() {
    let Some(mut machine) = Machine::new("exec'd confinement") else { return };
    let first = machine.output(&["/bin/probe"], "");
    assert_eq!(machine.output(&["/bin/probe", "again"], ""), first);
    assert_eq!(machine.output(&["/bin/sh", "-c", "/bin/probe again; exit 0"], ""), first);
}

#[test]
fn a_setuid_program_gives_nothing_back() {
    let Some(mut machine) = Machine::new("setuid") else { return };
    let path = machine.rootfs.join("bin/probe");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o4755)).expect("ours");
    for fields in ["", ", cap_add => [all]", ", privileged => true"] {
        let user = format!(", user => <<\"1000:1001\">>{fields}");
        let said = machine.output(&["/bin/probe", "again"], &user);
        assert_eq!(field(&said, "Uid"), "1000\t1000\t1000\t1000", "{fields}");
        assert_eq!(field(&said, "CapEff"), NONE, "{fields}");
        assert_eq!(field(&said, "CapPrm"), NONE, "{fields}");
        assert_eq!(field(&said, "NoNewPrivs"), "1", "{fields}");
    }
}

#[test]
fn an_unconfined_container_keeps_its_capabilities_as_they_are() {
    let Some(mut machine) = Machine::new("unconfined") else { return };
    let said = machine.output(&["/bin/probe"], ", seccomp => unconfined");
    assert_eq!(field(&said, "Seccomp"), "0");
    assert_eq!(field(&said, "CapEff"), DEFAULT);
    assert_eq!(field(&said, "keyctl"), "EOPNOTSUPP");
}

#[test]
fn a_privileged_container_is_left_as_the_program_is() {
    let Some(mut machine) = Machine::new("privileged") else { return };
    let own = std::fs::read_to_string(format!("/proc/{}/status", machine.port.pid()));
    let own: Vec<String> = own.expect("it lives").lines().map(str::to_owned).collect();
    let said = machine.output(&["/bin/probe"], ", privileged => true, cap_drop => [all]");
    assert_eq!(field(&said, "CapEff"), field(&own, "CapPrm"));
    assert_eq!(field(&said, "Seccomp"), "0");
    let script = "/bin/busybox mknod /zero c 1 5 && /bin/busybox head -c 1 /zero && \
                  echo inside > /proc/sys/kernel/hostname && \
                  test ! -c /proc/keys && ! /bin/busybox grep -q sysfs.*ro, /proc/mounts";
    machine.output(&["/bin/sh", "-c", script], ", privileged => true");
    // None of it is so without.
    for part in script.split(" && ") {
        let exit =
            machine.run(&["/bin/sh", "-c", &format!("/bin/busybox mknod /zero c 1 5; {part}")], "");
        let is_made = part.contains("mknod");
        assert!(is_made || exit.to_string() != "{exited,0}", "{part}: {exit}");
    }
}

#[test]
fn a_profile_of_ones_own_is_in_force_even_for_the_privileged() {
    let Some(mut machine) = Machine::new("profiles") else { return };
    let profile = machine.path("profile.json");
    let fields = format!(", seccomp => <<\"{}\">>", profile.display());
    let json = r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["keyctl"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77},
                     {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS"},
                     {"names": ["chroot"], "action": "SCMP_ACT_ERRNO",
                      "includes": {"caps": ["CAP_SYS_ADMIN"]}}]}"#;
    std::fs::write(&profile, json).expect("ours");
    let exit = machine.run(&["/bin/busybox", "mkdir", "/new"], &fields);
    assert_eq!(exit.to_string(), "{signaled,31}");
    let script = "/bin/busybox chroot / /bin/true";
    machine.output(&["/bin/sh", "-c", script], &fields);
    let privileged = format!("{fields}, privileged => true");
    machine.output(&["/bin/sh", "-c", &format!("! {script}")], &privileged);
    // It is read at each start.
    std::fs::write(&profile, r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#).expect("ours");
    machine.output(&["/bin/busybox", "mkdir", "/new"], &fields);
}

#[test]
fn what_is_wrong_with_a_profile_or_a_capability_is_told_by_field() {
    let Some(mut machine) = Machine::new("wrong profiles") else { return };
    let profile = machine.path("profile.json");
    let path = profile.display().to_string();
    let fields = format!(", seccomp => <<\"{path}\">>");
    for (json, says) in [
        (None, "no such file or directory"),
        (Some("{"), "EOF while parsing"),
        (
            Some(r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["read"]}]}"#),
            "syscalls[0]: missing field `action`",
        ),
    ] {
        if let Some(json) = json {
            std::fs::write(&profile, json).expect("ours");
        }
        let error = machine.failure(&fields);
        assert_eq!(code(&error), "start_failed");
        assert_eq!(place(&error, "field"), "containers[0].seccomp");
        assert!(message(&error).contains(&path) && message(&error).contains(says), "{error}");
    }
    let Some(missing) = capability_that_is_missing(&machine.port) else { return };
    let error = machine.failure(&format!(", cap_add => [<<\"{missing}\">>]"));
    assert_eq!(place(&error, "field"), "containers[0].cap_add");
    assert!(message(&error).contains(missing), "{error}");
}

/// One that the program does not have itself; there may be none.
fn capability_that_is_missing(port: &Port) -> Option<&'static str> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", port.pid())).expect("it lives");
    let lines: Vec<String> = status.lines().map(str::to_owned).collect();
    let has = u64::from_str_radix(field(&lines, "CapPrm"), 16).expect("hexadecimal");
    let known = [("SYS_RESOURCE", 24), ("SYS_MODULE", 16), ("SYS_RAWIO", 17), ("MAC_ADMIN", 33)];
    known.into_iter().find(|(_, bit)| has >> bit & 1 == 0).map(|(name, _)| name)
}

#[test]
fn nothing_can_be_written_to_a_read_only_root_but_to_what_is_mounted_in_it() {
    let Some(mut machine) = Machine::new("read-only root") else { return };
    std::fs::write(machine.rootfs.join("file"), "as it was").expect("ours");
    let refused = [
        "echo x > /file",
        "echo x > /new",
        "/bin/busybox rm /file",
        "/bin/busybox mkdir /dir",
        "/bin/busybox chmod 777 /file",
        "/bin/busybox mv /file /other",
        "/bin/busybox ln -s /file /link",
        "/bin/busybox mknod /node p",
        "/bin/busybox touch /made/here/new",
        "/bin/busybox mount -o remount,rw /",
    ];
    let refused = refused.map(|what| format!("if {what}; then exit 1; fi"));
    let allowed = [
        "test $(/bin/busybox pwd) = /made/here",
        "echo x > /dev/null",
        "echo x > /dev/new",
        "echo x > /dev/shm/new",
        "test -w /dev/pts/ptmx",
        "test $(cat /file | /bin/busybox wc -c) = 9",
    ];
    let script = refused.iter().map(String::as_str).chain(allowed).collect::<Vec<_>>().join("; ");
    let script = format!("set -e; {script}");
    let fields = ", working_dir => <<\"/made/here\">>, read_only => true";
    let said = machine.output(&["/bin/sh", "-c", &script], fields);
    assert_eq!(said, Vec::<String>::new());
    let exit = machine.run(&["/bin/sh", "-c", "echo x > /new"], ", read_only => true");
    assert_ne!(exit.to_string(), "{exited,0}");
    let said = machine.printed("stderr").concat();
    assert!(said.contains("Read-only file system"), "{said}");
    machine.output(&["/bin/sh", "-c", "echo x > /new"], "");
}
