//! The cgroups of a pod and of its containers: made and limited before the launch,
//! removed with all below them at the end. Who joins them is the launcher's affair.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use rustix::io::Errno;
use tank_shim::cgroup_tree;
use tank_shim::protocol::{Cgroup, Failure, Join, PodCgroup, ShimCgroup, Step};

use crate::launch::{failure, failure_of};

/// Cgroups that were made and are to be removed.
#[derive(Debug, Default)]
pub(crate) struct Cgroups {
    paths: Vec<String>,
}

impl Cgroups {
    /// Makes and limits all, or none.
    pub(crate) fn make(cgroups: &[Cgroup]) -> Result<Self, Failure> {
        Self::make_all(cgroups.iter().map(|cgroup| (cgroup.path.as_str(), &*cgroup.files)))
    }

    /// Makes all of those that only hold others, or none.
    pub(crate) fn make_above(cgroups: &[PodCgroup]) -> Result<Self, Failure> {
        Self::make_all(cgroups.iter().map(|cgroup| (cgroup.path.as_str(), &*cgroup.files)))
    }

    fn make_all<'a>(
        cgroups: impl Iterator<Item = (&'a str, &'a [(String, String)])>,
    ) -> Result<Self, Failure> {
        let mut made = Self::default();
        for (path, files) in cgroups {
            if let Err(failure) = made.make_one(path, files) {
                made.remove();
                return Err(failure);
            }
        }
        Ok(made)
    }

    fn make_one(&mut self, path: &str, files: &[(String, String)]) -> Result<(), Failure> {
        make_empty(Path::new(path)).map_err(|error| failure_of(Step::MakeCgroup, path, &error))?;
        self.paths.push(path.to_owned());
        files.iter().try_for_each(|(file, value)| write_limit(path, file, value))
    }

    /// Changes limits of those that were made.
    pub(crate) fn limit<'a>(
        &self,
        cgroups: impl Iterator<Item = (&'a str, &'a [(String, String)])>,
    ) -> Result<(), Failure> {
        for (path, files) in cgroups {
            if !self.paths.iter().any(|made| made == path) {
                return Err(failure(Step::WriteCgroupLimit, path, Errno::NOENT));
            }
            files.iter().try_for_each(|(file, value)| write_limit(path, file, value))?;
        }
        Ok(())
    }

    /// Whether the kernel has killed anything in them for lack of memory: its own
    /// count, in a file of either version.
    pub(crate) fn had_oom_kill(&self) -> bool {
        let files = ["memory.events", "memory.oom_control"];
        let paths = self.paths.iter().flat_map(|path| files.map(|file| Path::new(path).join(file)));
        paths.flat_map(fs::read_to_string).any(|text| oom_kills(&text) > 0)
    }

    /// Kills whatever is in them, where the kernel can (version 2). What a pid
    /// namespace holds is dead without that; this is for what was moved in.
    pub(crate) fn kill(&self) {
        for path in &self.paths {
            if let Ok(mut file) = open_existing(&Path::new(path).join("cgroup.kill")) {
                let _ = file.write_all(b"1");
            }
        }
    }

    /// Has others to remove, too.
    pub(crate) fn take_over(&mut self, others: Self) {
        // Before their parents, which are the first to be made.
        self.paths.splice(0..0, others.paths);
    }

    /// Removes what can be removed; true when nothing is left.
    pub(crate) fn remove(&mut self) -> bool {
        self.paths.retain(|path| cgroup_tree::remove(Path::new(path)).is_err());
        self.paths.is_empty()
    }
}

fn oom_kills(text: &str) -> u64 {
    let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

/// Makes a cgroup that nothing of an older run is in.
fn make_empty(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            cgroup_tree::remove(path)?;
            fs::create_dir(path)
        }
        result => result,
    }
}

fn write_limit(dir: &str, file: &str, value: &str) -> Result<(), Failure> {
    let path = format!("{dir}/{file}");
    let refused = |error| failure_of(Step::WriteCgroupLimit, format!("{path} = {value}"), &error);
    if file.is_empty() || file.contains('/') {
        return Err(refused(Errno::INVAL.into()));
    }
    let mut file = open_existing(Path::new(&path)).map_err(refused)?;
    file.write_all(value.as_bytes()).map_err(refused)
}

fn open_existing(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).open(path)
}

/// The shim's own move out of its spawner's cgroups.
#[derive(Debug)]
pub(crate) struct Move {
    later: Vec<File>,
}

impl Move {
    /// Joins what costs nothing to join, and opens the rest.
    pub(crate) fn begin(cgroups: &[ShimCgroup]) -> Result<Self, Failure> {
        let mut later = Vec::new();
        for cgroup in cgroups {
            let name = if cgroup.join == Join::Tasks { "tasks" } else { "cgroup.procs" };
            let path = format!("{}/{name}", cgroup.path);
            let failed = |error| failure_of(Step::JoinShimCgroup, path.as_str(), &error);
            let mut file = open_existing(Path::new(&path)).map_err(failed)?;
            match cgroup.join {
                Join::Tasks => file.write_all(b"0").map_err(failed)?,
                Join::Procs => later.push(file),
                // It was born there, if it was let.
                Join::Clone => {}
            }
        }
        Ok(Self { later })
    }

    /// Joins the rest, which may wait for the kernel's grace period: only when
    /// nobody waits for the shim. A refusal leaves the shim where it is, for the
    /// workload runs already and is the better for it.
    pub(crate) fn finish(self) {
        for mut file in self.later {
            let _ = file.write_all(b"0");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_count_is_read_in_both_versions() {
        assert_eq!(oom_kills("low 0\nhigh 0\nmax 31\noom 2\noom_kill 1\noom_group_kill 0\n"), 1);
        assert_eq!(oom_kills("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"), 3);
        assert_eq!(oom_kills("oom_kill_disable 1\nunder_oom 0\n"), 0);
    }
}
