//! What a container's processes are left with and what opens or closes more, told
//! from inside by a probe. Needs root and a C compiler.

mod support;

use std::os::unix::fs::PermissionsExt;

use support::machine::Machine;
use support::{Port, code, message, place};

/// Docker's default capabilities, as the kernel shows them.
const DEFAULT: &str = "00000000a80425fb";
const NONE: &str = "0000000000000000";

fn field<'a>(lines: &'a [String], name: &str) -> &'a str {
    let line = lines.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("{name} is not in {lines:#?}")).trim()
}

#[test]
fn the_default_is_what_was_recorded() {
    let Some(mut machine) = Machine::new("the default confinement") else { return };
    let said = machine.output(&["/bin/probe"], "");
    assert_eq!(said, include_str!("cases/confinement.txt").lines().collect::<Vec<_>>());
}

#[test]
fn capabilities_open_what_needs_them() {
    let Some(mut machine) = Machine::new("capabilities") else { return };
    let more = ["SYS_ADMIN", "SYS_PTRACE", "SYS_TIME", "SYSLOG", "BPF"];
    let fields = more.map(|name| format!("<<\"{name}\">>")).join(", ");
    let said = machine.output(&["/bin/probe"], &format!(", cap_add => [{fields}]"));
    assert_eq!(field(&said, "unshare"), "EINVAL", "it got through");
    assert_eq!(field(&said, "i386 mount"), "EFAULT", "it got through");
    assert_eq!(field(&said, "keyctl"), "EPERM", "no capability opens it");

    let said = machine.output(&["/bin/probe"], ", cap_drop => [all], cap_add => [<<\"kill\">>]");
    assert_eq!(field(&said, "CapEff"), "0000000000000020");
    assert_eq!(field(&said, "CapBnd"), "0000000000000020");
    assert_eq!(field(&said, "chroot"), "EPERM");
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
