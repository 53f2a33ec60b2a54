//! Where pods and their containers live in the cgroup trees, and how limits are
//! spelled there.
//!
//! Three layouts are in use: v1 (a tree a controller), v2 (one tree), and
//! hybrid (v1 trees for the controllers and an empty v2 tree beside them). The
//! plan is the same for all: a limit goes to whichever tree has its controller,
//! and where there is a v2 tree the pod has a group in it, because only v2 can
//! kill and freeze a whole group (`cgroup.kill`, `cgroup.freeze`). Each container
//! is in a leaf of its own below its pod's group.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD};
use tank_shim::protocol::{Cgroup, Join, PodCgroup, ShimCgroup};

use crate::core::spec::{Limits, MemorySwap, Name};

/// The group that holds the shims themselves.
const SHIMS: &str = "_shims";

/// What the name of a pod's group ends in.
const POD_SUFFIX: &str = ".pod";

/// Controllers that limits need.
const CONTROLLERS: [&str; 3] = ["memory", "pids", "cpu"];

/// The controller whose new groups let nobody in.
const CPUSET: &str = "cpuset";

/// The limit of memory and swap together, in version 1.
const MEMORY_AND_SWAP: &str = "memory.memsw.limit_in_bytes";

/// The share of CPU time, in either version.
const SHARES: [&str; 2] = ["cpu.shares", "cpu.weight"];

/// The share of a container that asks for none.
const SHARES_DEFAULT: u64 = 1_024;

/// The most that the kernel takes.
const SHARES_MAX: u64 = 262_144;

/// The cgroup trees of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Trees {
    /// Mount point of each v1 controller or named hierarchy (`name=systemd`).
    v1: BTreeMap<String, PathBuf>,
    /// Mount point of the v2 tree and the controllers it has.
    v2: Option<(PathBuf, Vec<String>)>,
}

/// How the machine's trees are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// v1 controllers only.
    V1,
    /// v1 controllers and a v2 tree beside them.
    Hybrid,
    /// v2 only.
    V2,
}

impl Trees {
    /// Reads this machine's trees.
    ///
    /// # Errors
    /// When `/proc/self/mountinfo` cannot be read.
    pub fn detect() -> io::Result<Self> {
        let mut trees = Self::parse(&fs::read_to_string("/proc/self/mountinfo")?);
        if let Some((root, controllers)) = &mut trees.v2 {
            let list = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
            *controllers = list.split_whitespace().map(str::to_owned).collect();
        }
        Ok(trees)
    }

    /// The trees in the text of `/proc/self/mountinfo` (proc_pid_mountinfo(5));
    /// v2 controllers are not known from it.
    fn parse(mountinfo: &str) -> Self {
        let mut trees = Self::default();
        for line in mountinfo.lines() {
            let Some((mount, kind)) = line.split_once(" - ") else { continue };
            let Some(point) = mount.split(' ').nth(4).map(PathBuf::from) else { continue };
            let mut kind = kind.split(' ');
            match kind.next() {
                Some("cgroup2") => trees.v2 = Some((point, Vec::new())),
                Some("cgroup") => {
                    let options = kind.nth(1).unwrap_or_default().split(',');
                    for option in options.filter(|option| !matches!(*option, "rw" | "ro")) {
                        trees.v1.insert(option.to_owned(), point.clone());
                    }
                }
                _ => {}
            }
        }
        trees
    }

    /// The layout.
    #[must_use]
    pub fn layout(&self) -> Layout {
        match (&self.v2, CONTROLLERS.iter().any(|name| self.v1.contains_key(*name))) {
            (Some(_), false) => Layout::V2,
            (Some(_), true) => Layout::Hybrid,
            (None, _) => Layout::V1,
        }
    }

    /// Those of the trees in which this user can make groups below `parent`, and
    /// move processes to. `own` is the text of `/proc/self/cgroup`: on v2, where a
    /// move needs rights to what both groups have in common, it may be below the
    /// program's own group alone that this can be done.
    #[must_use]
    pub fn delegated(self, parent: &str, own: &str) -> Self {
        let parent = Path::new(parent.trim_matches('/'));
        let v1 = self.v1.into_iter().filter(|(_, root)| is_delegated(&root.join(parent)));
        let v2 = self.v2.and_then(|(root, controllers)| {
            let own = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
            let group = root.join(own);
            let is_usable = |root: &PathBuf| {
                is_delegated(&root.join(parent))
                    && is_writable(&common(&group, &root.join(parent)).join("cgroup.procs"))
            };
            let root = [root, group.clone()].into_iter().find(is_usable)?;
            Some((root, controllers))
        });
        Self { v1: v1.collect(), v2 }
    }

    fn root_of(&self, controller: &str) -> Option<(&Path, Layout)> {
        let v1 = self.v1.get(controller).map(|root| (root.as_path(), Layout::V1));
        v1.or_else(|| {
            let (root, controllers) = self.v2.as_ref()?;
            let has = controllers.iter().any(|name| name == controller);
            has.then_some((root.as_path(), Layout::V2))
        })
    }

    /// The trees in which pods have groups.
    fn pod_roots(&self) -> impl Iterator<Item = &Path> {
        let v1 = CONTROLLERS.iter().filter_map(|name| self.v1.get(*name)).map(PathBuf::as_path);
        v1.chain(self.v2.iter().map(|(root, _)| root.as_path()))
    }

    /// Those in which whoever has `own` as its `/proc/PID/cgroup` is not in the root, how one
    /// is joined, and where it is.
    fn left_by<'a>(&'a self, own: &'a str) -> impl Iterator<Item = (&'a Path, Join, &'a str)> {
        groups_of(own).filter(|(_, path)| *path != "/").filter_map(|(names, path)| {
            let (root, join) = match (names, &self.v2) {
                ("", Some((root, _))) => (root, Join::Clone),
                (names, _) => (names.split(',').find_map(|name| self.v1.get(name))?, Join::Tasks),
            };
            Some((root.as_path(), join, path))
        })
    }

    fn all_roots(&self) -> impl Iterator<Item = &Path> {
        let v2 = self.v2.iter().map(|(root, _)| root.as_path());
        self.v1.values().map(PathBuf::as_path).chain(v2)
    }
}

/// One port program's part of the trees:
/// `<parent>/<instance>/<pod>.pod/<container>.container`.
#[derive(Debug, Clone)]
pub struct Cgroups {
    trees: Trees,
    parent: PathBuf,
    instance: String,
}

impl Cgroups {
    /// The part below `parent` that belongs to the run directory `run_dir`.
    #[must_use]
    pub fn new(trees: Trees, parent: &str, run_dir: &Path) -> Self {
        let parent = PathBuf::from(parent.trim_matches('/'));
        Self { trees, parent, instance: instance_of(run_dir) }
    }

    /// Makes the directories above pods and shims, and hands the v2 controllers
    /// down to them. A controller that the parent does not have shows at the
    /// first pod that needs it, by name. Of the shims' groups, those are left that
    /// they can move to; `own` is as for [`Self::of_shims`].
    ///
    /// # Errors
    /// When a directory cannot be made.
    pub fn prepare(&self, shims: &mut Vec<ShimCgroup>, own: &str) -> io::Result<()> {
        let groups = self.trees.pod_roots().map(|root| self.instance_dir(root));
        for dir in groups.chain(shims.iter().map(|group| PathBuf::from(&group.path))) {
            fs::create_dir_all(dir)?;
        }
        if let Some(root) = self.trees.v1.get(CPUSET) {
            let home = self.path(root, SHIMS);
            let is_open = |dir: &Path| fill_cpuset(root, dir, own).is_ok();
            shims.retain(|group| Path::new(&group.path) != home || is_open(&home));
        }
        let Some((root, controllers)) = &self.trees.v2 else { return Ok(()) };
        let wanted = CONTROLLERS.iter().filter(|name| controllers.iter().any(|c| c == *name));
        let wanted: Vec<String> = wanted.map(|name| format!("+{name}")).collect();
        let below = self.parent.join(&self.instance);
        let mut dir = root.clone();
        for part in std::iter::once(Path::new("")).chain(below.iter().map(Path::new)) {
            dir = dir.join(part);
            let _ = fs::write(dir.join("cgroup.subtree_control"), wanted.join(" "));
        }
        Ok(())
    }

    /// Forgets the v2 controllers that were not handed down: whoever is not root is
    /// told at the pod that needs one what it takes to have it.
    pub fn forget_what_is_kept_back(&mut self) {
        let Some(root) = self.trees.v2.as_ref().map(|(root, _)| root) else { return };
        let list = self.instance_dir(root).join("cgroup.controllers");
        let list = fs::read_to_string(list).unwrap_or_default();
        if let Some((_, controllers)) = &mut self.trees.v2 {
            controllers.retain(|name| list.split_whitespace().any(|found| found == name));
        }
    }

    /// The groups of a pod whose containers have these limits, above theirs. On v2
    /// they hand down the controllers that are needed. Among pods, one has the
    /// shares of those that run `together`.
    pub fn of_pod<'a>(
        &self,
        pod: &str,
        limits: impl IntoIterator<Item = &'a Limits>,
        together: impl IntoIterator<Item = &'a Limits>,
    ) -> Vec<PodCgroup> {
        let shares = shares_of(together);
        let limits: Vec<&Limits> = limits.into_iter().collect();
        let is_needed = |controller: &&str| limits.iter().any(|each| is_limited(controller, each));
        let mut groups: BTreeMap<PathBuf, Vec<(String, String)>> = BTreeMap::new();
        if let Some((root, _)) = &self.trees.v2 {
            groups.insert(self.pod_dir(root, pod), Vec::new());
        }
        for controller in CONTROLLERS.into_iter().filter(is_needed) {
            // One that is missing, its container's own groups tell.
            let Some((root, layout)) = self.trees.root_of(controller) else { continue };
            let files = groups.entry(self.pod_dir(root, pod)).or_default();
            if layout == Layout::V2 {
                files.push(("cgroup.subtree_control".to_owned(), format!("+{controller}")));
            }
            if controller == "cpu" {
                files.extend(limited(controller, layout, &shares));
            }
        }
        let group =
            |(path, files): (PathBuf, _)| PodCgroup { path: path.display().to_string(), files };
        groups.into_iter().map(group).collect()
    }

    /// The same for a pod that lives, in those of its groups that are there.
    pub fn of_live_pod<'a>(
        &self,
        pod: &str,
        together: impl IntoIterator<Item = &'a Limits>,
        is_there: impl Fn(&Path) -> bool,
    ) -> Vec<PodCgroup> {
        let found =
            self.trees.root_of("cpu").map(|(root, layout)| (self.pod_dir(root, pod), layout));
        let Some((path, layout)) = found.filter(|(path, _)| is_there(path)) else {
            return Vec::new();
        };
        let all = limit_files("cpu", layout, &shares_of(together)).into_iter();
        let files = all
            .filter(|file| SHARES.contains(&file.name) && is_there(&path.join(file.name)))
            .map(|file| (file.name.to_owned(), file.value.unwrap_or(file.none.to_owned())));
        vec![PodCgroup { path: path.display().to_string(), files: files.collect() }]
    }

    /// The groups of a container with these limits, for the shim to make and join.
    ///
    /// # Errors
    /// The limit's name, when no tree has its controller.
    pub fn of_container(
        &self,
        pod: &str,
        container: &str,
        limits: &Limits,
    ) -> Result<Vec<Cgroup>, &'static str> {
        let mut groups: BTreeMap<PathBuf, Cgroup> = BTreeMap::new();
        if let Some((root, _)) = &self.trees.v2 {
            let path = self.container_dir(root, pod, container);
            groups.insert(path.clone(), group(&path, Join::Clone));
        }
        for controller in CONTROLLERS.into_iter().filter(|each| is_limited(each, limits)) {
            let (root, layout) = self.trees.root_of(controller).ok_or(controller)?;
            let path = self.container_dir(root, pod, container);
            let entry = groups.entry(path.clone()).or_insert_with(|| group(&path, Join::Tasks));
            entry.files.extend(limited(controller, layout, limits));
        }
        Ok(groups.into_values().collect())
    }

    /// The same limits for a container that lives, in those of its groups and their
    /// files that are there; one that it no longer has is taken off.
    ///
    /// # Errors
    /// The limit's name, when the container has no group to put it on.
    pub fn of_live_container(
        &self,
        pod: &str,
        container: &str,
        limits: &Limits,
        is_there: impl Fn(&Path) -> bool,
    ) -> Result<Vec<Cgroup>, &'static str> {
        let mut groups: BTreeMap<PathBuf, Cgroup> = BTreeMap::new();
        for controller in CONTROLLERS {
            let found = self.trees.root_of(controller);
            let found =
                found.map(|(root, layout)| (self.container_dir(root, pod, container), layout));
            let Some((path, layout)) = found.filter(|(path, _)| is_there(path)) else {
                if is_limited(controller, limits) {
                    return Err(controller);
                }
                continue;
            };
            let files = relimited(controller, layout, limits, |file| is_there(&path.join(file)));
            let entry = groups.entry(path.clone()).or_insert_with(|| group(&path, Join::Tasks));
            entry.files.extend(files);
        }
        Ok(groups.into_values().collect())
    }

    /// Groups for a shim to move to, so that whoever started the BEAM cannot
    /// kill pods along with it. `own` is the text of `/proc/self/cgroup`: a
    /// tree in whose root we are holds nothing that could be killed.
    #[must_use]
    pub fn of_shims(&self, own: &str) -> Vec<ShimCgroup> {
        let group = |(root, join, _): (&Path, Join, &str)| {
            let path = self.path(root, SHIMS).display().to_string();
            (path.clone(), ShimCgroup { path, join })
        };
        let groups: BTreeMap<_, _> = self.trees.left_by(own).map(group).collect();
        groups.into_values().collect()
    }

    /// Moves this program where shims move to. A service manager that ends a service sends
    /// SIGTERM to all of its cgroup at once: what becomes of the pods is the client's to
    /// say, which is given the same signal, and that it is gone is told by its pipe.
    pub fn take_refuge(&self, shims: &[ShimCgroup]) {
        for ShimCgroup { path, join } in shims {
            if let Err(error) = move_self(Path::new(path), *join) {
                tracing::warn!(path, %error, "cannot leave the cgroup of who has started this");
            }
        }
    }

    /// Moves it back to where it was, so that what is empty can be removed. `own` is as for
    /// [`Self::of_shims`].
    pub fn leave_refuge(&self, own: &str) {
        for (root, join, path) in self.trees.left_by(own) {
            let home = root.join(path.trim_start_matches('/'));
            // It may be gone by now.
            let _ = move_self(&home, join).or_else(|_| move_self(root, join));
        }
    }

    /// Every directory a pod may have, whatever its limits were.
    pub fn dirs_of_pod(&self, pod: &str) -> Vec<PathBuf> {
        self.trees.pod_roots().map(|root| self.pod_dir(root, pod)).collect()
    }

    /// The pods that have a directory.
    pub(super) fn pods(&self) -> BTreeSet<Name> {
        let groups = self.trees.pod_roots().filter_map(|root| {
            let entries = fs::read_dir(self.instance_dir(root)).ok()?;
            let name = |entry: fs::DirEntry| {
                Name::new(entry.file_name().to_str()?.strip_suffix(POD_SUFFIX)?)
            };
            Some(entries.flatten().filter_map(name).collect::<Vec<_>>())
        });
        groups.flatten().collect()
    }

    /// Removes what is empty of this instance, up to the parent. Whether nothing
    /// of the instance is left.
    pub fn remove_empty(&self) -> bool {
        for root in self.trees.all_roots() {
            for dir in [self.path(root, SHIMS), self.instance_dir(root), root.join(&self.parent)] {
                let _ = fs::remove_dir(dir);
            }
        }
        !self.trees.all_roots().any(|root| self.instance_dir(root).exists())
    }

    /// The kernel's own files lie in the same directory, and some of their
    /// names are names that a pod may have (`tasks`, `memory.max`): none ends so.
    fn pod_dir(&self, root: &Path, pod: &str) -> PathBuf {
        self.path(root, &format!("{pod}{POD_SUFFIX}"))
    }

    fn container_dir(&self, root: &Path, pod: &str, container: &str) -> PathBuf {
        self.pod_dir(root, pod).join(format!("{container}.container"))
    }

    fn path(&self, root: &Path, leaf: &str) -> PathBuf {
        self.instance_dir(root).join(leaf)
    }

    fn instance_dir(&self, root: &Path) -> PathBuf {
        root.join(&self.parent).join(&self.instance)
    }
}

/// Gives a new cpuset what the program's own one has, and those above it what their
/// parents have: without CPUs and memory it would let nobody in.
fn fill_cpuset(root: &Path, group: &Path, own: &str) -> io::Result<()> {
    let left = groups_of(own).find(|(names, _)| names.split(',').any(|name| name == CPUSET));
    let left = left.map(|(_, path)| root.join(path.trim_start_matches('/')));
    let mut above: Vec<&Path> = group.ancestors().take_while(|dir| *dir != root).collect();
    above.reverse();
    for file in ["cpuset.cpus", "cpuset.mems"] {
        for dir in &above {
            let parent = dir.parent().unwrap_or(root);
            let model = left.as_deref().filter(|left| *dir == group && left.exists());
            if fs::read_to_string(dir.join(file))?.trim().is_empty() {
                fs::write(dir.join(file), fs::read(model.unwrap_or(parent).join(file))?)?;
            }
        }
    }
    Ok(())
}

/// Moves all threads of this process. On v1, one by one: a whole process waits for a grace
/// period of the kernel's.
fn move_self(dir: &Path, join: Join) -> io::Result<()> {
    if join == Join::Clone {
        return fs::write(dir.join("cgroup.procs"), "0");
    }
    for thread in fs::read_dir("/proc/self/task")?.flatten() {
        fs::write(dir.join("tasks"), thread.file_name().as_encoded_bytes())?;
    }
    Ok(())
}

/// The controllers, or the name, of each hierarchy and the path of the group in it, in
/// the text of `/proc/PID/cgroup`.
fn groups_of(own: &str) -> impl Iterator<Item = (&str, &str)> {
    own.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'))
}

/// Whether a directory can be made, or made things in, by this user.
fn is_delegated(dir: &Path) -> bool {
    dir.ancestors().find(|dir| dir.exists()).is_some_and(is_writable)
}

fn is_writable(path: &Path) -> bool {
    rustix::fs::accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS).is_ok()
}

/// The deepest directory that two are in or are.
fn common(one: &Path, other: &Path) -> PathBuf {
    let parts = one.components().zip(other.components());
    parts.take_while(|(one, other)| one == other).map(|(part, _)| part).collect()
}

fn group(path: &Path, join: Join) -> Cgroup {
    Cgroup { path: path.display().to_string(), files: Vec::new(), join }
}

/// A file of a cgroup that spells a limit.
struct LimitFile {
    name: &'static str,
    /// What to write, when there is a limit.
    value: Option<String>,
    /// What takes it off.
    none: &'static str,
}

/// The files of a controller, in the order in which they must be written.
fn limit_files(controller: &str, layout: Layout, limits: &Limits) -> Vec<LimitFile> {
    let file = |name, value: Option<String>, none| LimitFile { name, value, none };
    let number = |number: Option<u64>| number.map(|number| number.to_string());
    let (cpu, shares) = (limits.cpu, limits.cpu_shares);
    match (controller, layout == Layout::V2) {
        ("memory", true) => vec![
            file("memory.max", number(limits.memory), "max"),
            file("memory.swap.max", swap_alone(limits), "max"),
        ],
        ("memory", false) => vec![
            file("memory.limit_in_bytes", number(limits.memory), "-1"),
            file(MEMORY_AND_SWAP, memory_and_swap(limits), "-1"),
        ],
        ("pids", _) => vec![file("pids.max", number(limits.pids), "max")],
        ("cpu", true) => {
            let max = cpu.map(|cpu| format!("{} {}", cpu.quota_us, cpu.period_us));
            vec![
                file("cpu.max", max, "max"),
                file("cpu.weight", shares.map(|shares| weight(shares).to_string()), "100"),
            ]
        }
        // The period first: a quota is checked against it.
        ("cpu", false) => vec![
            file("cpu.cfs_period_us", number(cpu.map(|cpu| cpu.period_us)), "100000"),
            file("cpu.cfs_quota_us", number(cpu.map(|cpu| cpu.quota_us)), "-1"),
            file("cpu.shares", number(shares), "1024"),
        ],
        _ => Vec::new(),
    }
}

/// The shares of containers together, if any of them asks for other than all have.
fn shares_of<'a>(together: impl IntoIterator<Item = &'a Limits>) -> Limits {
    let limits: Vec<&Limits> = together.into_iter().collect();
    let is_asked = limits.iter().any(|each| each.cpu_shares.is_some());
    let shares = limits.iter().map(|each| each.cpu_shares.unwrap_or(SHARES_DEFAULT));
    let sum = shares.fold(0, u64::saturating_add).min(SHARES_MAX);
    Limits { cpu_shares: is_asked.then_some(sum), ..Limits::default() }
}

/// Version 2 has no file for both.
fn swap_alone(limits: &Limits) -> Option<String> {
    match (limits.memory_swap?, limits.memory?) {
        (MemorySwap::Unlimited, _) => Some("max".to_owned()),
        (MemorySwap::Bytes(both), memory) => Some(both.saturating_sub(memory).to_string()),
    }
}

fn memory_and_swap(limits: &Limits) -> Option<String> {
    match limits.memory_swap? {
        MemorySwap::Unlimited => Some("-1".to_owned()),
        MemorySwap::Bytes(both) => Some(both.to_string()),
    }
}

/// Shares of version 1 as a weight of version 2, 2 to 262,144 onto 1 to 10,000
/// (the same as OCI runtimes').
fn weight(shares: u64) -> u64 {
    1 + shares.saturating_sub(2) * 9_999 / 262_142
}

fn is_limited(controller: &str, limits: &Limits) -> bool {
    limit_files(controller, Layout::V2, limits).iter().any(|file| file.value.is_some())
}

/// The limits of a run that begins, in a group without any.
fn limited(controller: &str, layout: Layout, limits: &Limits) -> Vec<(String, String)> {
    let files = limit_files(controller, layout, limits).into_iter();
    files.filter_map(|file| Some((file.name.to_owned(), file.value?))).collect()
}

/// The limits of a run that has some, those it no longer has taken off. A limit
/// of memory must never exceed that of memory and swap, not for a moment either.
fn relimited(
    controller: &str,
    layout: Layout,
    limits: &Limits,
    is_there: impl Fn(&str) -> bool,
) -> Vec<(String, String)> {
    let mut files = limit_files(controller, layout, limits);
    // Without swap, the kernel has no files for it.
    files.retain(|file| file.value.is_some() || is_there(file.name));
    let is_both = |file: &LimitFile| file.name == MEMORY_AND_SWAP;
    let off = files.iter().find(|file| is_both(file)).map(|file| (file.name, file.none.to_owned()));
    files.retain(|file| !is_both(file) || file.value.is_some());
    let written =
        files.into_iter().map(|file| (file.name, file.value.unwrap_or(file.none.to_owned())));
    off.into_iter().chain(written).map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Eight hex digits of the run directory's path (FNV-1a): two port programs on
/// one machine never share a group.
fn instance_of(run_dir: &Path) -> String {
    format!("{:08x}", hash_of(run_dir))
}

/// What tells port programs on one machine apart.
pub(super) fn hash_of(run_dir: &Path) -> u32 {
    run_dir
        .as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::spec::CpuLimit;

    const HYBRID: &str = "\
30 23 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
32 30 0:28 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
33 30 0:29 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
34 30 0:30 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
35 30 0:31 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
    const V2: &str = "31 30 0:27 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate";

    fn all_limits() -> Limits {
        let cpu = Some(CpuLimit { quota_us: 50_000, period_us: 100_000 });
        Limits { memory: Some(1 << 20), pids: Some(10), cpu, ..Limits::default() }
    }

    fn cgroups(mountinfo: &str, controllers: &[&str]) -> Cgroups {
        let mut trees = Trees::parse(mountinfo);
        if let Some((_, list)) = &mut trees.v2 {
            *list = controllers.iter().map(|&name| name.to_owned()).collect();
        }
        Cgroups::new(trees, "/tank/", Path::new("/run/tank"))
    }

    fn rendered(groups: &[Cgroup]) -> Vec<String> {
        let line = |g: &Cgroup| {
            let files: Vec<_> = g.files.iter().map(|(f, v)| format!(" {f}={v}")).collect();
            let path = g.path.replace(&instance_of(Path::new("/run/tank")), "I");
            format!("{path} {:?}{}", g.join, files.concat())
        };
        groups.iter().map(line).collect()
    }

    #[test]
    fn on_hybrid_limits_go_to_v1_and_a_leaf_to_v2() {
        let groups =
            cgroups(HYBRID, &["hugetlb"]).of_container("web", "app", &all_limits()).unwrap();
        assert_eq!(
            rendered(&groups),
            [
                "/sys/fs/cgroup/cpu/tank/I/web.pod/app.container Tasks cpu.cfs_period_us=100000 cpu.cfs_quota_us=50000",
                "/sys/fs/cgroup/memory/tank/I/web.pod/app.container Tasks memory.limit_in_bytes=1048576",
                "/sys/fs/cgroup/pids/tank/I/web.pod/app.container Tasks pids.max=10",
                "/sys/fs/cgroup/unified/tank/I/web.pod/app.container Clone",
            ]
        );
    }

    #[test]
    fn a_pod_has_groups_for_what_its_containers_need() {
        let pids = Limits { pids: Some(10), ..Limits::default() };
        let shown = |cgroups: &Cgroups, limits: &[&Limits]| {
            let groups = cgroups.of_pod("web", limits.iter().copied(), limits.iter().copied());
            let as_containers = groups.into_iter().map(|PodCgroup { path, files }| Cgroup {
                path,
                files,
                join: Join::Clone,
            });
            rendered(&as_containers.collect::<Vec<_>>()).join("\n").replace(" Clone", "")
        };
        let none = Limits::default();
        let hybrid = cgroups(HYBRID, &["hugetlb"]);
        let unified = "/sys/fs/cgroup/unified/tank/I/web.pod";
        assert_eq!(shown(&hybrid, &[&none]), unified);
        let with_pids = format!("/sys/fs/cgroup/pids/tank/I/web.pod\n{unified}");
        assert_eq!(shown(&hybrid, &[&none, &pids]), with_pids);
        let v2 = cgroups(V2, &["memory", "pids", "cpu"]);
        let path = "/sys/fs/cgroup/tank/I/web.pod";
        assert_eq!(shown(&v2, &[&none]), path);
        let handed = |names: &[&str]| {
            let each = names.iter().map(|name| format!(" cgroup.subtree_control=+{name}"));
            path.to_owned() + &each.collect::<String>()
        };
        assert_eq!(shown(&v2, &[&pids, &none]), handed(&["pids"]));
        // Among pods, one has what its containers have together.
        let shares = Limits { cpu_shares: Some(512), ..Limits::default() };
        let together = handed(&["cpu"]) + " cpu.weight=59";
        assert_eq!(shown(&v2, &[&shares, &none]), together);
        let live = v2.of_live_pod("web", [&shares, &none], |_| true);
        assert_eq!(live[0].files, [("cpu.weight".to_owned(), "59".to_owned())]);
        let live = v2.of_live_pod("web", [&pids, &none], |_| true);
        assert_eq!(live[0].files, [("cpu.weight".to_owned(), "100".to_owned())]);
        assert_eq!(shown(&v2, &[&pids, &all_limits()]), handed(&["memory", "pids", "cpu"]));
    }

    #[test]
    fn on_v2_one_group_has_it_all() {
        let groups = cgroups(V2, &["memory", "pids", "cpu"])
            .of_container("web", "app", &all_limits())
            .unwrap();
        assert_eq!(
            rendered(&groups),
            [
                "/sys/fs/cgroup/tank/I/web.pod/app.container Clone memory.max=1048576 pids.max=10 cpu.max=50000 100000"
            ]
        );
    }

    #[test]
    fn on_v1_only_what_limits_need_is_made() {
        let v1 = HYBRID.lines().take(4).collect::<Vec<_>>().join("\n");
        let limits = Limits { pids: Some(10), ..Limits::default() };
        let groups = cgroups(&v1, &[]).of_container("web", "app", &limits).unwrap();
        assert_eq!(
            rendered(&groups),
            ["/sys/fs/cgroup/pids/tank/I/web.pod/app.container Tasks pids.max=10"]
        );
    }

    #[test]
    fn a_limit_without_a_controller_is_named() {
        let refused = cgroups(V2, &["memory", "pids"]).of_container("web", "app", &all_limits());
        assert_eq!(refused.unwrap_err(), "cpu");
    }

    #[test]
    fn limits_of_a_live_container_are_set_and_taken_off_where_it_has_groups() {
        let limits = Limits { pids: Some(20), ..Limits::default() };
        let v2 = cgroups(V2, &["memory", "pids", "cpu"]);
        let groups = v2.of_live_container("web", "app", &limits, |_| true).unwrap();
        assert_eq!(
            rendered(&groups),
            [
                "/sys/fs/cgroup/tank/I/web.pod/app.container Tasks memory.max=max memory.swap.max=max pids.max=20 cpu.max=max cpu.weight=100"
            ]
        );
        let hybrid = cgroups(HYBRID, &[]);
        let has_pids = |path: &Path| path.starts_with("/sys/fs/cgroup/pids");
        let groups = hybrid.of_live_container("web", "app", &limits, has_pids).unwrap();
        assert_eq!(
            rendered(&groups),
            ["/sys/fs/cgroup/pids/tank/I/web.pod/app.container Tasks pids.max=20"]
        );
        assert_eq!(
            hybrid.of_live_container("web", "app", &all_limits(), has_pids).unwrap_err(),
            "memory"
        );
    }

    #[test]
    fn swap_and_shares_are_spelled_as_each_version_does() {
        let limits = Limits {
            memory: Some(1 << 20),
            memory_swap: Some(MemorySwap::Bytes(3 << 20)),
            cpu_shares: Some(1_024),
            ..Limits::default()
        };
        let v2 =
            cgroups(V2, &["memory", "pids", "cpu"]).of_container("web", "app", &limits).unwrap();
        assert_eq!(
            rendered(&v2),
            [
                "/sys/fs/cgroup/tank/I/web.pod/app.container Clone memory.max=1048576 memory.swap.max=2097152 cpu.weight=39"
            ]
        );
        let v1 = cgroups(HYBRID, &[]).of_container("web", "app", &limits).unwrap();
        assert_eq!(
            rendered(&v1)[..2],
            [
                "/sys/fs/cgroup/cpu/tank/I/web.pod/app.container Tasks cpu.shares=1024",
                "/sys/fs/cgroup/memory/tank/I/web.pod/app.container Tasks memory.limit_in_bytes=1048576 memory.memsw.limit_in_bytes=3145728",
            ]
        );
        assert_eq!([2, 1_024, 262_144].map(weight), [1, 39, 10_000]);
    }

    #[test]
    fn a_limit_of_memory_never_exceeds_the_one_of_memory_and_swap_while_both_change() {
        let memory_files = |limits: &Limits, is_there: fn(&Path) -> bool| {
            let groups =
                cgroups(HYBRID, &[]).of_live_container("web", "app", limits, is_there).unwrap();
            let group = groups.into_iter().find(|group| group.path.contains("/memory/")).unwrap();
            let files = group.files.iter().map(|(file, value)| format!("{file}={value}"));
            files.collect::<Vec<_>>().join(" ")
        };
        let memory = Some(1 << 20);
        let swap = Some(MemorySwap::Bytes(1 << 20));
        let both = Limits { memory, memory_swap: swap, ..Limits::default() };
        assert_eq!(
            memory_files(&both, |_| true),
            "memory.memsw.limit_in_bytes=-1 memory.limit_in_bytes=1048576 \
             memory.memsw.limit_in_bytes=1048576"
        );
        assert_eq!(
            memory_files(&Limits::default(), |_| true),
            "memory.memsw.limit_in_bytes=-1 memory.limit_in_bytes=-1"
        );
        let alone = Limits { memory, ..Limits::default() };
        let has_no_swap = |path: &Path| !path.ends_with(MEMORY_AND_SWAP);
        assert_eq!(memory_files(&alone, has_no_swap), "memory.limit_in_bytes=1048576");
    }

    #[test]
    fn the_deepest_common_group_is_found() {
        let of = |one, other| common(Path::new(one), Path::new(other));
        assert_eq!(of("/g/user/app", "/g/user/tank"), Path::new("/g/user"));
        assert_eq!(of("/g/user", "/g/user/tank"), Path::new("/g/user"));
        assert_eq!(of("/g/user", "/g/user2"), Path::new("/g"));
    }

    #[test]
    fn layouts_are_told_apart() {
        let v1 = HYBRID.lines().take(4).collect::<Vec<_>>().join("\n");
        assert_eq!(Trees::parse(&v1).layout(), Layout::V1);
        assert_eq!(Trees::parse(HYBRID).layout(), Layout::Hybrid);
        assert_eq!(Trees::parse(V2).layout(), Layout::V2);
    }

    #[test]
    fn a_shim_leaves_only_groups_that_are_not_the_root() {
        let own = "9:name=systemd:/system.slice/app.service\n4:memory:/\n0::/app\n";
        let groups = cgroups(HYBRID, &[]).of_shims(own);
        let joins: Vec<_> = groups.iter().map(|group| (&*group.path, group.join)).collect();
        let instance = instance_of(Path::new("/run/tank"));
        let path = |tree| format!("/sys/fs/cgroup/{tree}/tank/{instance}/_shims");
        let (systemd, unified) = (path("systemd"), path("unified"));
        assert_eq!(joins, [(&*systemd, Join::Tasks), (&*unified, Join::Clone)]);
    }
}
