//! What the kernel shows: processes, namespaces, mounts, cgroups, descriptors,
//! directories. Reads and never judges; what vanishes meanwhile is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// What every process of a pod is, by its arguments.
pub(crate) const WORKLOAD: &str = "/bin/workload";
/// The pid that a workload has in its container where an init is the first.
const PID_BELOW_INIT: &str = "2";

/// A process, for as long as the machine is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Identity {
    pub(crate) pid: i32,
    /// In ticks since the boot: a pid that is used again has another.
    started: u64,
}

/// What a process of a pod says that it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Workload {
    pub(crate) pod: String,
    pub(crate) container: String,
    pub(crate) version: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct Process {
    pub(crate) identity: Identity,
    pub(crate) parent: i32,
    /// Dead, and not reaped.
    pub(crate) is_zombie: bool,
    pub(crate) name: String,
    arguments: Vec<String>,
}

impl Process {
    pub(crate) fn workload(&self) -> Option<Workload> {
        match self.arguments.as_slice() {
            [program, _kind, pod, container, version] if program == WORKLOAD => {
                let (pod, container) = (pod.clone(), container.clone());
                Some(Workload { pod, container, version: version.parse().ok()? })
            }
            _ => None,
        }
    }

    /// Whether it is a port program.
    pub(crate) fn is_port(&self) -> bool {
        self.name == "tank" && self.arguments.get(1).is_some_and(|argument| argument == "port")
    }

    pub(crate) fn is_shim(&self) -> bool {
        self.name == "tank-shim"
    }

    /// Whether it is an OCI runtime, or about to be what one launches.
    fn is_runtime(&self) -> bool {
        self.name == "crun"
    }

    /// Whether it is Tank's init of a container.
    pub(crate) fn is_init(&self) -> bool {
        self.name == "init"
    }
}

/// All processes of this pid namespace, which is the test's own.
#[derive(Debug, Default)]
pub(crate) struct Processes(pub(crate) BTreeMap<i32, Process>);

impl Processes {
    pub(crate) fn look() -> Self {
        let names = entries(Path::new("/proc"));
        let pids = names.iter().filter_map(|name| name.parse::<i32>().ok());
        Self(pids.filter_map(|pid| Some((pid, process(pid)?))).collect())
    }

    pub(crate) fn live(&self) -> impl Iterator<Item = &Process> {
        self.0.values().filter(|process| !process.is_zombie)
    }

    /// The live processes of pods.
    pub(crate) fn workloads(&self) -> impl Iterator<Item = (&Process, Workload)> {
        self.live().filter_map(|process| Some((process, process.workload()?)))
    }

    /// The live shims, each with the pod in whose run directory it works.
    pub(crate) fn shims(&self) -> impl Iterator<Item = (&Process, String)> {
        self.live().filter_map(|process| Some((process, shim_of(process)?)))
    }

    /// The live OCI runtimes, each with the pod whose container it launches.
    pub(crate) fn runtimes(&self) -> impl Iterator<Item = (&Process, String)> {
        self.live().filter(|process| process.is_runtime()).filter_map(|process| {
            let mut parent = self.0.get(&process.parent)?;
            while parent.is_runtime() {
                parent = self.0.get(&parent.parent)?;
            }
            Some((process, shim_of(parent)?))
        })
    }

    /// The live inits, each with the pod whose shim has launched it.
    pub(crate) fn inits(&self) -> impl Iterator<Item = (&Process, String)> {
        self.live().filter(|process| process.is_init()).filter_map(|process| {
            let shim = self.0.get(&process.parent)?;
            Some((process, shim_of(shim)?))
        })
    }

    /// Whether a process was launched, and is no child of a workload, nor was one
    /// before it became an init's.
    pub(crate) fn is_first(&self, process: &Process) -> bool {
        match self.0.get(&process.parent) {
            Some(parent) if parent.is_init() => is_below_init(process.identity.pid),
            parent => parent.is_none_or(|parent| parent.workload().is_none()),
        }
    }

    /// Whether `ancestor` is above a process.
    pub(crate) fn is_below(&self, process: &Process, ancestor: i32) -> bool {
        let mut parent = process.parent;
        while parent != ancestor {
            match self.0.get(&parent) {
                Some(above) => parent = above.parent,
                None => return false,
            }
        }
        true
    }
}

/// The pod in whose run directory a process works, if it is a shim. One that launches a
/// container is below it for a moment.
fn shim_of(process: &Process) -> Option<String> {
    let pid = Some(process.identity.pid).filter(|_| process.is_shim())?;
    let dir = fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
    let mut parts = dir.iter().skip_while(|part| *part != "pods");
    Some(parts.nth(1)?.to_str()?.to_owned())
}

/// Whether it is what an init was made for, and no orphan.
fn is_below_init(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let pids = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    pids.split_whitespace().last() == Some(PID_BELOW_INIT)
}

fn process(pid: i32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (head, rest) = stat.rsplit_once(") ")?;
    let name = head.split_once(" (")?.1.to_owned();
    let fields: Vec<&str> = rest.split(' ').collect();
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let arguments = String::from_utf8_lossy(&arguments);
    Some(Process {
        // proc_pid_stat(5): state, ppid and starttime are fields 3, 4 and 22.
        identity: Identity { pid, started: fields.get(19)?.parse().ok()? },
        parent: fields.get(1)?.parse().ok()?,
        is_zombie: matches!(*fields.first()?, "Z" | "X"),
        name,
        arguments: arguments.split_terminator('\0').map(str::to_owned).collect(),
    })
}

/// Sends a signal to this very process, if it is there.
pub(crate) fn signal(identity: Identity, signal: Signal) {
    let Some(pid) = Pid::from_raw(identity.pid) else { return };
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    // Looked at after the pidfd was opened: the pid cannot have changed hands since.
    if self::process(identity.pid).is_some_and(|found| found.identity == identity) {
        let _ = pidfd_send_signal(&process, signal);
    }
}

/// A namespace of a process, as `net:[4026531840]`.
pub(crate) fn namespace(pid: i32, kind: &str) -> Option<String> {
    let link = fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok()?;
    Some(link.display().to_string())
}

/// The mounts that a process sees, a line each.
pub(crate) fn mounts(pid: i32) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// The cgroups below all groups of a name, in every tree, as paths from there.
pub(crate) fn cgroups(name: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for tree in entries(Path::new("/sys/fs/cgroup")) {
        for top in [name.to_owned(), format!("{tree}/{name}")] {
            let top = Path::new("/sys/fs/cgroup").join(top);
            found.extend(below(&top).into_iter().filter(|path| top.join(path).is_dir()));
        }
    }
    found
}

/// What the descriptors of a process are, numbers left out.
pub(crate) fn descriptors(pid: i32) -> Vec<String> {
    let dir = format!("/proc/{pid}/fd");
    let links = entries(Path::new(&dir));
    let links = links.iter().filter_map(|fd| fs::read_link(format!("{dir}/{fd}")).ok());
    let named = links.map(|to| {
        let to = to.display().to_string();
        match to.split_once(":[") {
            // But of "anon_inode:[pidfd]".
            Some((kind, number)) if number.starts_with(char::is_numeric) => kind.to_owned(),
            _ => to,
        }
    });
    let mut found: Vec<String> = named.collect();
    found.sort();
    found
}

/// The names in a directory; none where there is no such.
pub(crate) fn entries(dir: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// All paths below a directory, from there.
fn below(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut dirs = vec![String::new()];
    while let Some(at) = dirs.pop() {
        for entry in fs::read_dir(dir.join(&at)).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let name = entry.file_name().to_string_lossy().into_owned();
                let path = if at.is_empty() { name } else { format!("{at}/{name}") };
                dirs.push(path.clone());
                found.push(path);
            }
        }
    }
    found
}

/// The boot clock, which the workloads' words are timed by.
pub(crate) fn boot_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    u64::try_from(now.tv_sec * 1_000_000_000 + now.tv_nsec).expect("after the boot")
}

/// Kills all that is in the groups of a name and removes them; whether none is left.
pub(crate) fn remove_cgroups(name: &str) -> bool {
    let mut is_gone = true;
    for tree in entries(Path::new("/sys/fs/cgroup")) {
        for top in [name.to_owned(), format!("{tree}/{name}")] {
            let top = Path::new("/sys/fs/cgroup").join(top);
            let _ = fs::write(top.join("cgroup.kill"), "1");
            let mut dirs: Vec<_> = below(&top).into_iter().map(|path| top.join(path)).collect();
            dirs.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
            dirs.iter().for_each(|path| drop(fs::remove_dir(path)));
            let _ = fs::remove_dir(&top);
            is_gone &= !top.exists();
        }
    }
    is_gone
}
