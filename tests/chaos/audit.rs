//! The auditor: compares what the kernel shows with what the model says must be, and
//! says each difference in a line. Changes nothing and asks Tank nothing; of what
//! Tank says by itself it checks that it is so.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::app::Setting;
use crate::kernel::{self, Identity, Process, Processes};
use crate::model::{Kind, Model, Pod};

/// What there is while no pod is.
#[derive(Debug, Default)]
pub(crate) struct Unloaded {
    mounts: Vec<String>,
    descriptors: Vec<String>,
    data: BTreeSet<String>,
    runs: BTreeSet<String>,
}

impl Unloaded {
    pub(crate) fn look(dir: &Path) -> Self {
        let port = Processes::look().live().find(|process| process.is_port()).cloned();
        Self {
            mounts: kernel::mounts(own_pid()),
            descriptors: port.map_or(Vec::new(), |port| kernel::descriptors(port.identity.pid)),
            data: kernel::entries(&dir.join("data")),
            runs: kernel::entries(&dir.join("run")),
        }
    }
}

/// What Tank says of a pod.
#[derive(Debug)]
pub(crate) struct Status {
    status: String,
    host_pid: i32,
    /// How its last run ended: `exited`, `signaled`, `error` or `none`.
    exit: String,
}

impl Status {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let [status, host_pid, exit] = text.split(',').collect::<Vec<_>>()[..] else { return None };
        Some(Self { status: status.into(), host_pid: host_pid.parse().ok()?, exit: exit.into() })
    }
}

/// How many runs a pod must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Must {
    Run,
    /// It is between two runs half of the time.
    RunOrWait,
    BeGone,
}

/// A word of a workload's.
#[derive(Debug)]
struct Told {
    what: String,
    version: u64,
    at_ns: u64,
}

/// One look at the machine.
pub(crate) struct Audit<'a> {
    pub(crate) model: &'a Model,
    pub(crate) setting: &'a Setting,
    pub(crate) unloaded: &'a Unloaded,
    pub(crate) statuses: &'a BTreeMap<String, Status>,
    pub(crate) beam: Option<i32>,
    pub(crate) processes: Processes,
}

impl Audit<'_> {
    /// All that is other than it must be.
    pub(crate) fn differences(&self, quiet_from_ns: u64) -> Vec<String> {
        let mut found = Vec::new();
        for (name, pod) in &self.model.pods {
            self.check_runs(name, pod, &mut found);
            self.check_status(name, pod, &mut found);
            self.check_journal(name, pod, quiet_from_ns, &mut found);
        }
        self.check_strangers(&mut found);
        self.check_cgroups(&mut found);
        self.check_namespaces(&mut found);
        self.check_directories(&mut found);
        self.check_descriptors(&mut found);
        self.check_shims(&mut found);
        self.check_complaints(&mut found);
        found
    }

    /// All that is there of Tank once it has ended.
    pub(crate) fn left(&self) -> Vec<String> {
        let mut found = Vec::new();
        self.check_strangers(&mut found);
        self.check_namespaces(&mut found);
        let groups = kernel::cgroups(&self.setting.cgroup_parent);
        found.extend(groups.iter().map(|group| format!("cgroup {group}")));
        let run_dir = self.dir("run");
        found.extend(run_dir.exists().then(|| format!("directory {}", run_dir.display())));
        found
    }

    /// The first process of each container, by pod, and the init where it has one.
    pub(crate) fn first_processes(&self) -> BTreeMap<String, BTreeMap<String, Identity>> {
        let mut found: BTreeMap<String, BTreeMap<String, Identity>> = BTreeMap::new();
        for (process, workload) in self.processes.workloads() {
            if self.processes.is_first(process) {
                let pod = found.entry(workload.pod).or_default();
                pod.insert(workload.container, process.identity);
            }
        }
        for (init, pod) in self.processes.inits() {
            found.entry(pod).or_default().insert("init".to_owned(), init.identity);
        }
        found
    }

    /// Runs of containers that have begun so far.
    pub(crate) fn starts(&self) -> u64 {
        let told = self.model.pods.keys().flat_map(|name| self.journal(name));
        told.filter(|told| told.what == "start").count() as u64
    }

    /// What a pod's runs have written down since an instant, a line each.
    pub(crate) fn story(&self, name: &str, since_ns: u64) -> String {
        let told = self.journal(name).into_iter().filter(|told| told.at_ns > since_ns);
        let line = |told: Told| {
            let at_ms = (told.at_ns - since_ns) / 1_000_000;
            format!("{at_ms:>6} {} of version {}\n", told.what, told.version)
        };
        told.map(line).collect()
    }

    fn must(&self, pod: &Pod) -> Must {
        match (pod.desired(), pod.kind) {
            (None, _) => Must::BeGone,
            (_, kind) if kind.is_once() => Must::BeGone,
            (_, kind) if kind.is_crashing() => Must::RunOrWait,
            _ => Must::Run,
        }
    }

    fn check_runs(&self, name: &str, pod: &Pod, found: &mut Vec<String>) {
        let of_pod: Vec<_> =
            self.processes.workloads().filter(|(_, workload)| workload.pod == name).collect();
        let first: Vec<_> =
            of_pod.iter().filter(|(process, _)| self.processes.is_first(process)).collect();
        let containers: Vec<&str> =
            first.iter().map(|(_, workload)| workload.container.as_str()).collect();
        let mut sorted = containers.clone();
        sorted.sort_unstable();
        let is_right = match self.must(pod) {
            Must::Run => sorted == pod.kind.containers(),
            Must::RunOrWait => containers.len() <= 1,
            Must::BeGone => of_pod.is_empty(),
        };
        if !is_right {
            found.push(format!("{name}, {:?}, runs as {containers:?}", pod.desired()));
        }
        for (process, workload) in &of_pod {
            if Some(workload.version) != pod.desired() && pod.desired().is_some() {
                let (pid, version) = (process.identity.pid, workload.version);
                found.push(format!("{name} runs {version} as {pid}, not {:?}", pod.desired()));
            }
        }
        let shims = self.processes.shims().filter(|(_, of)| of == name).count();
        let is_right = match self.must(pod) {
            Must::Run => shims == 1,
            Must::RunOrWait => shims <= 1,
            Must::BeGone => shims == 0,
        };
        if !is_right {
            found.push(format!("{name} has {shims} shims"));
        }
        let parents = first.iter().filter(|_| pod.kind == Kind::Init);
        let parents: Vec<i32> = parents.map(|(process, _)| process.parent).collect();
        let inits = self.processes.inits().filter(|(_, of)| of == name);
        let inits: Vec<i32> = inits.map(|(init, _)| init.identity.pid).collect();
        if inits != parents {
            found.push(format!("{name} has the inits {inits:?}, not {parents:?}"));
        }
        let now = self.first_processes().remove(name).unwrap_or_default();
        let then = &pod.processes;
        if !pod.is_touched && pod.kind.lasts() && now != *then {
            found.push(format!("{name} was not touched, and is {now:?} where it was {then:?}"));
        }
    }

    /// What Tank says must be what is.
    fn check_status(&self, name: &str, pod: &Pod, found: &mut Vec<String>) {
        let Some(status) = self.statuses.get(name) else {
            if pod.desired().is_some() {
                found.push(format!("{name} has no status"));
            }
            return;
        };
        let is_right = match (self.must(pod), status.status.as_str()) {
            (Must::Run, "running") => self.processes.0.contains_key(&status.host_pid),
            (Must::RunOrWait, _) => true,
            (Must::BeGone, "terminal") => pod.kind.is_once(),
            _ => false,
        };
        if !is_right {
            found.push(format!("{name} has the status {status:?}"));
        }
    }

    /// What its runs themselves have written down.
    fn check_journal(&self, name: &str, pod: &Pod, quiet_from_ns: u64, found: &mut Vec<String>) {
        let told = self.journal(name);
        for overlap in told.iter().filter(|told| told.what == "overlap") {
            found.push(format!("{name} has found another run of itself: {overlap:?}"));
        }
        let mut starts: BTreeMap<u64, usize> = BTreeMap::new();
        for start in told.iter().filter(|told| told.what == "start") {
            *starts.entry(start.version).or_default() += 1;
        }
        for version in starts.keys().filter(|version| pod.refused.contains(version)) {
            found.push(format!("{name} has run {version}, which was refused"));
        }
        match (pod.kind, pod.desired()) {
            (kind, desired) if kind.is_once() => {
                for (version, times) in starts.iter().filter(|(_, times)| **times > 1) {
                    found.push(format!("{name} has run {version} {times} times"));
                }
                let status = self.statuses.get(name);
                // It could not be started, or its shim was killed before it was.
                let is_excused = status.is_some_and(|status| status.exit == "error");
                if desired.is_some_and(|version| !starts.contains_key(&version)) && !is_excused {
                    found.push(format!("{name} has never run {desired:?}: {status:?}"));
                }
            }
            (kind, Some(version)) if kind.is_crashing() => {
                let goes_on = |told: &Told| told.version == version && told.at_ns > quiet_from_ns;
                if !told.iter().any(goes_on) {
                    found.push(format!("{name} has not been started again"));
                }
            }
            _ => {}
        }
    }

    fn journal(&self, name: &str) -> Vec<Told> {
        let journal = self.dir("journal").join(format!("{name}.log"));
        let text = fs::read_to_string(journal).unwrap_or_default();
        let told = text.lines().filter_map(|line| {
            let [what, _container, version, at_ns] = line.split(' ').collect::<Vec<_>>()[..] else {
                return None;
            };
            let (version, at_ns) = (version.parse().ok()?, at_ns.parse().ok()?);
            Some(Told { what: what.to_owned(), version, at_ns })
        });
        told.collect()
    }

    /// Every process is the test's, the BEAM's, or of a pod that is known.
    fn check_strangers(&self, found: &mut Vec<String>) {
        for process in self.processes.0.values() {
            let (pid, name) = (process.identity.pid, &process.name);
            if process.is_zombie {
                // A workload reaps its own when it likes to.
                let parent = self.processes.0.get(&process.parent);
                if parent.is_none_or(|parent| parent.workload().is_none()) {
                    found.push(format!("process {pid} {name} is dead and not reaped"));
                }
            } else if let Some(workload) = process.workload() {
                if !self.model.pods.contains_key(&workload.pod) {
                    found.push(format!("process {pid} is of no pod: {workload:?}"));
                }
            } else if !self.is_known(process) {
                found.push(format!("process {pid} {name} is nobody's"));
            }
        }
        let ports = self.processes.live().filter(|process| process.is_port()).count();
        if ports != usize::from(self.beam.is_some()) {
            found.push(format!("there are {ports} port programs"));
        }
        for (shim, pod) in self.processes.shims() {
            if !self.model.pods.get(&pod).is_some_and(|pod| self.must(pod) != Must::BeGone) {
                found.push(format!("shim {} is of {pod}, which has no run", shim.identity.pid));
            }
        }
    }

    fn is_known(&self, process: &Process) -> bool {
        let pid = process.identity.pid;
        let is_of = |ancestor| pid == ancestor || self.processes.is_below(process, ancestor);
        // The shell that reaps is the first.
        pid == 1
            || pid == own_pid()
            || process.is_shim()
            // Of which pod it may be was looked at with the pod.
            || self.processes.inits().any(|(init, _)| init.identity == process.identity)
            || self.beam.is_some_and(is_of)
    }

    fn check_cgroups(&self, found: &mut Vec<String>) {
        for group in kernel::cgroups(&self.setting.cgroup_parent) {
            let Some(pod) = group.split('/').find_map(|part| part.strip_suffix(".pod")) else {
                continue;
            };
            if !self.may_have_traces(pod) {
                found.push(format!("cgroup {group} is of a pod that has no run"));
            }
        }
    }

    /// Whether a pod may have what only a run has.
    fn may_have_traces(&self, pod: &str) -> bool {
        self.model.pods.get(pod).is_some_and(|pod| self.must(pod) != Must::BeGone)
    }

    fn check_namespaces(&self, found: &mut Vec<String>) {
        let own = own_pid();
        // One that was there at the start may go: somebody else's, copied with all others.
        for mount in kernel::mounts(own) {
            if !self.unloaded.mounts.contains(&mount) {
                found.push(format!("the host has a mount that it had not: {mount}"));
            }
        }
        let [net, mnt] = ["net", "mnt"].map(|kind| kernel::namespace(own, kind));
        let mut pods: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let inits = self.processes.inits().map(|(init, pod)| (init.identity, pod));
        let inits: BTreeMap<Identity, String> = inits.collect();
        for process in self.processes.live() {
            let pid = process.identity.pid;
            let workload = process.workload().map(|workload| workload.pod);
            let pod = workload.or_else(|| inits.get(&process.identity).cloned());
            let in_network =
                kernel::namespace(pid, "net").filter(|found| Some(found) != net.as_ref());
            let in_mounts =
                kernel::namespace(pid, "mnt").filter(|found| Some(found) != mnt.as_ref());
            match &pod {
                Some(pod) => {
                    if let Some(network) = in_network {
                        pods.entry(network).or_default().insert(pod.clone());
                    }
                    if in_mounts.is_some() && self.processes.is_first(process) {
                        self.check_mounts(pid, pod, found);
                        self.check_terminals(pid, pod, found);
                    }
                }
                None if !process.is_shim() && (in_network.is_some() || in_mounts.is_some()) => {
                    found.push(format!("process {pid} {} is in another namespace", process.name));
                }
                None => {}
            }
        }
        let shared = pods.iter().filter(|(_, pods)| pods.len() > 1);
        found.extend(shared.map(|(network, pods)| format!("{network} is of {pods:?}")));
    }

    /// A container sees its own pod's directories and no other's.
    fn check_mounts(&self, pid: i32, pod: &str, found: &mut Vec<String>) {
        let pods = format!("{}/", self.dir("run/pods").display());
        let own = format!("{pods}{pod}/");
        for mount in kernel::mounts(pid) {
            let foreign = mount.match_indices(&pods).any(|(at, _)| !mount[at..].starts_with(&own));
            if foreign || mount.contains(" nsfs ") {
                found.push(format!("{pod} has the mount {mount}"));
            }
        }
    }

    /// A container has as many terminals as it has asked for.
    fn check_terminals(&self, pid: i32, name: &str, found: &mut Vec<String>) {
        let is_terminal = |pod: &Pod| pod.kind == Kind::Terminal;
        let has_one = self.model.pods.get(name).is_some_and(is_terminal);
        let mut terminals = kernel::entries(Path::new(&format!("/proc/{pid}/root/dev/pts")));
        terminals.remove("ptmx");
        if !terminals.iter().eq(has_one.then_some("0")) {
            found.push(format!("{name} has the terminals {terminals:?}"));
        }
    }

    fn check_directories(&self, found: &mut Vec<String>) {
        for name in kernel::entries(&self.dir("run/pods")) {
            if !self.may_have_traces(&name) {
                found.push(format!("the run directory of {name}, which has no run"));
            }
        }
        for (name, pod) in &self.model.pods {
            let dir = self.dir("run/pods").join(name);
            if self.must(pod) == Must::Run && !dir.exists() {
                found.push(format!("{name} has no run directory"));
            }
            for container in pod.kind.containers() {
                let states = kernel::entries(&dir.join("containers").join(container).join("state"));
                let is_there = match self.must(pod) {
                    Must::Run => pod.kind.is_oci(),
                    Must::RunOrWait => pod.kind.is_oci() && !states.is_empty(),
                    Must::BeGone => false,
                };
                if !states.iter().eq(is_there.then_some(container)) {
                    found.push(format!("{name} has in its runtime's state {states:?}"));
                }
            }
        }
        for name in kernel::entries(&self.dir("data/logs")) {
            if self.model.pods.get(&name).is_none_or(|pod| pod.desired().is_none()) {
                found.push(format!("logs of {name}, which is deleted"));
            }
        }
        for (dir, usual) in [("data", &self.unloaded.data), ("run", &self.unloaded.runs)] {
            let now = kernel::entries(&self.dir(dir));
            // Made with the first pod; what is in them was looked at above.
            let strange =
                now.difference(usual).filter(|name| !["logs", "pods"].contains(&name.as_str()));
            found.extend(strange.map(|name| format!("{dir}/{name}")));
        }
    }

    /// A port program has a connection to each shim, and a pidfd of it.
    fn check_descriptors(&self, found: &mut Vec<String>) {
        let Some(port) = self.processes.live().find(|process| process.is_port()) else { return };
        let mut more = kernel::descriptors(port.identity.pid);
        for usual in &self.unloaded.descriptors {
            match more.iter().position(|each| each == usual) {
                Some(at) => drop(more.remove(at)),
                // After a commit that failed it is opened again when it is needed.
                None if usual.ends_with("/state.redb") => {}
                None => found.push(format!("the port program has no descriptor of {usual}")),
            }
        }
        let runs = |must| self.model.pods.values().filter(|pod| self.must(pod) == must).count();
        let expected = runs(Must::Run)..=runs(Must::Run) + runs(Must::RunOrWait);
        for kind in ["socket", "anon_inode:[pidfd]"] {
            let count = more.iter().filter(|descriptor| *descriptor == kind).count();
            if !expected.contains(&count) {
                found.push(format!("the port program has {count} of {kind} for {expected:?} runs"));
            }
            more.retain(|descriptor| descriptor != kind);
        }
        found.extend(more.iter().map(|other| format!("the port program has {other} open")));
    }

    /// A shim has of each container its process, its log and its output, and nothing
    /// of those who have once taken it over.
    fn check_shims(&self, found: &mut Vec<String>) {
        for (shim, name) in self.processes.shims() {
            let Some(pod) = self.model.pods.get(&name) else { continue };
            if self.must(pod) != Must::Run {
                continue;
            }
            let mut expected = vec!["/dev/null".to_owned(); 2];
            // The lock; its deadline, what it listens on, and whom it talks with.
            expected.push(self.dir("run/pods").join(&name).display().to_string());
            expected.extend(["anon_inode:[timerfd]", "socket", "socket"].map(str::to_owned));
            for container in pod.kind.containers() {
                let log = self.dir("data/logs").join(&name).join(format!("{container}.log"));
                let output = match pod.kind {
                    Kind::Terminal => ["/dev/pts/0", "/dev/pts/ptmx"],
                    _ => ["pipe", "pipe"],
                };
                expected.extend([log.display().to_string(), "anon_inode:[pidfd]".to_owned()]);
                expected.extend(output.map(str::to_owned));
            }
            if pod.kind == Kind::Paired {
                expected.extend(["ipc", "net", "user", "uts"].map(str::to_owned));
            }
            expected.sort();
            let descriptors = kernel::descriptors(shim.identity.pid);
            if descriptors != expected {
                found.push(format!("the shim of {name} has open {descriptors:?}"));
            }
        }
    }

    fn check_complaints(&self, found: &mut Vec<String>) {
        let stderr = fs::read(self.dir("stderr")).unwrap_or_default();
        let stderr = String::from_utf8_lossy(&stderr);
        let panics = stderr.lines().filter(|line| line.contains("panicked at"));
        found.extend(panics.map(str::to_owned));
    }

    fn dir(&self, name: &str) -> PathBuf {
        self.setting.dir.join(name)
    }
}

fn own_pid() -> i32 {
    i32::try_from(std::process::id()).expect("pids are small")
}
