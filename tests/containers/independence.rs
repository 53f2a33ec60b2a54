//! Pods belong to nobody but their shims: not to the cgroups, the session or the
//! terminal of whatever has started the program.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, id};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Pid, Signal, getsid, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::ends::{WRITES, assert_untouched};
use crate::support::{Port, eventually};
use crate::{Machine, host_pid, is_in, parent_of};

/// A cgroup of a test's own, in one of the machine's hierarchies.
struct Group {
    dir: PathBuf,
}

impl Group {
    fn new(root: &Path) -> Self {
        static GROUPS: AtomicU32 = AtomicU32::new(0);
        let number = GROUPS.fetch_add(1, Ordering::Relaxed);
        let dir = root.join(format!("service-{}-{number}", id()));
        fs::create_dir(&dir).expect("root may");
        for file in ["cpuset.cpus", "cpuset.mems"] {
            // Without them it lets nobody in.
            if let Ok(all) = fs::read(root.join(file)) {
                fs::write(dir.join(file), all).expect("root may");
            }
        }
        Self { dir }
    }

    /// In every hierarchy that there is.
    fn everywhere() -> Vec<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("proc is mounted");
        let is_cgroup = |line: &&str| line.contains(" - cgroup ") || line.contains(" - cgroup2 ");
        let points = mounts.lines().filter(is_cgroup).filter_map(|line| line.split(' ').nth(4));
        points.map(|point| Self::new(Path::new(point))).collect()
    }

    fn pids(&self) -> Vec<Pid> {
        let pids = fs::read_to_string(self.dir.join("cgroup.procs")).expect("it is there");
        pids.lines().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
    }

    /// Kills all that is in it, as a service manager does.
    fn kill(&self) {
        // Only version 2 does it at once.
        if fs::write(self.dir.join("cgroup.kill"), "1").is_ok() {
            return;
        }
        eventually("nothing is left in the cgroup", || {
            let pids = self.pids();
            for pid in &pids {
                let _ = kill_process(*pid, Signal::KILL);
            }
            pids.is_empty()
        });
    }

    fn name(&self) -> &str {
        self.dir.file_name().and_then(|name| name.to_str()).expect("it has one")
    }

    fn has(&self, pid: i32) -> bool {
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it lives");
        groups.contains(self.name())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        eventually("the cgroup is empty", || fs::remove_dir(&self.dir).is_ok());
    }
}

/// A program that a shell becomes, after something else.
fn started_after(machine: &Machine, script: &str) -> Port {
    let mut command = Command::new("sh");
    command.args([
        "-c",
        &format!("{script}\nexec \"$@\""),
        "sh",
        env!("CARGO_BIN_EXE_tank"),
        "port",
    ]);
    Port::start_by(command.args(machine.args()))
}

/// A program that was started in these.
fn started_in(machine: &Machine, groups: &[Group]) -> Port {
    let join = |group: &Group| format!("echo $$ > {}/cgroup.procs\n", group.dir.display());
    let script = groups.iter().map(join).collect::<String>();
    let is_in_all = |group: &Group| format!("grep -q {} /proc/$$/cgroup || exit 9\n", group.name());
    started_after(machine, &(script + &groups.iter().map(is_in_all).collect::<String>()))
}

/// A pod that writes, and its pid.
fn writing(machine: &Machine, port: &mut Port) -> i32 {
    port.ok("apply", &machine.pod("web", WRITES, ""));
    port.ok("sync", "nil");
    eventually("the pod writes", || machine.logged("web").contains("tick"));
    host_pid(port, "web")
}

#[test]
fn whoever_kills_the_cgroup_that_the_program_was_started_in_kills_no_pod() {
    let Some(machine) = Machine::new("kill a service's cgroup") else { return };
    drop(machine);
    for group in Group::everywhere() {
        let Some(machine) = Machine::new("kill a service's cgroup") else { return };
        let mut port = started_in(&machine, std::slice::from_ref(&group));
        let pid = writing(&machine, &mut port);
        group.kill();
        assert_eq!(host_pid(&mut port, "web"), pid, "{} has killed none", group.dir.display());
        port.kill();
        assert_untouched(&machine, "web", pid);
    }
}

#[test]
fn a_program_leaves_the_cgroups_that_it_was_started_in_and_ends_in_them() {
    let Some(machine) = Machine::new("leave a service's cgroup") else { return };
    let groups = Group::everywhere();
    let mut port = started_in(&machine, &groups);
    port.ok("apply", &machine.pod("web", "sleep 1000", ""));
    port.ok("sync", "nil");
    for group in &groups {
        assert!(group.pids().is_empty(), "it is in {}", group.dir.display());
    }
    let own = fs::read_to_string(format!("/proc/{}/cgroup", port.pid())).expect("it lives");
    let (_, refuge) = own.rsplit_once(":/").expect("a path");
    let refuge = Path::new("/sys/fs/cgroup/unified").join(refuge.trim_end());
    assert!(refuge.ends_with("_shims"), "{refuge:?}");
    port.ok("shutdown", "#{pods => stop}");
    assert_eq!(port.wait().code(), Some(0));
    assert!(!refuge.exists(), "{refuge:?} is left");
}

#[test]
fn a_pod_is_in_none_of_the_programs_cgroups_from_the_first_of_its_processes_on() {
    let Some(machine) = Machine::new("a launch in a service's cgroup") else { return };
    let groups = Group::everywhere();
    let mut port = started_in(&machine, &groups);
    let first = format!(
        "init_containers => [#{{name => <<\"c\">>, image => {{rootfs, <<\"{}\">>}}, command => \
         [<<\"/bin/sh\">>, <<\"-c\">>, <<\"{WRITES}\">>]}}], containers",
        machine.rootfs
    );
    let pod =
        machine.pod("web", "sleep 1000", "").replace("name => <<\"c\">>", "name => <<\"d\">>");
    port.ok("apply", &pod.replacen("containers", &first, 1));
    eventually("the first container writes", || machine.logged("web").contains("tick"));
    assert!(is_in(&mut port, "web", "starting"));
    let shim = shim_of(&machine, "web");
    let [first] = children_of(shim)[..] else { panic!("one container is there") };
    for group in &groups {
        assert!(!group.has(shim), "the shim is in {}", group.dir.display());
        assert!(!group.has(first), "the container is in {}", group.dir.display());
    }
    groups.iter().for_each(Group::kill);
    port.kill();
    assert_untouched(&machine, "web", first);
}

/// The shim that has this run directory.
fn shim_of(machine: &Machine, pod: &str) -> i32 {
    let command = format!("tank-shim\0{}\0", machine.run_dir(pod).display());
    let is_it = |pid: &i32| {
        fs::read_to_string(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|found| found.starts_with(&command))
    };
    let entries = fs::read_dir("/proc").expect("proc is mounted");
    let mut pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.find(is_it).expect("it lives")
}

fn children_of(pid: i32) -> Vec<i32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.expect("it lives");
    children.split(' ').filter_map(|pid| pid.parse().ok()).collect()
}

/// A program whose session has this terminal, while its stdin is a pipe.
fn started_at(machine: &Machine, terminal: &Path) -> Port {
    // A shell starts what is in the background with interrupts ignored.
    let become_leader =
        "exec env --default-signal=INT setsid --ctty sh -c 'exec \"$@\" <&3 3<&-' sh \"$@\"";
    started_after(machine, &format!("exec 3<&0 <{}\n{become_leader}", terminal.display()))
}

/// A terminal's end at which a person sits, and the other one's path.
fn terminal() -> (File, PathBuf) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let here = openpt(flags).expect("a terminal");
    grantpt(&here).expect("it is ours");
    unlockpt(&here).expect("it is ours");
    let there = ptsname(&here, Vec::new()).expect("it has a name");
    (here.into(), there.into_string().expect("it is short").into())
}

#[test]
fn what_a_terminal_does_to_the_program_it_does_to_no_pod() {
    type End = fn(File);
    let interrupt: End = |mut here| {
        here.write_all(b"\x03").expect("it is open");
        // Kept open: nothing but the key has ended the program.
        std::mem::forget(here);
    };
    for (end, code) in [(interrupt, None), (drop, Some(0))] {
        let Some(machine) = Machine::new("a terminal") else { return };
        let (here, there) = terminal();
        let mut port = started_at(&machine, &there);
        let pid = writing(&machine, &mut port);
        let session = |pid| getsid(Pid::from_raw(pid)).expect("it lives");
        assert_eq!(session(port.pid()).as_raw_nonzero().get(), port.pid());
        assert_ne!(session(parent_of(pid)), session(port.pid()));
        end(here);
        assert_eq!(port.wait().code(), code);
        assert_untouched(&machine, "web", pid);
    }
}
