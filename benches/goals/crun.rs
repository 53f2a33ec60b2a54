//! The peer of a launch: `crun run` of a bundle with the same root filesystem,
//! namespaces, mounts, masks, capabilities, seccomp profile and limits as Tank's
//! own containers.
//! It has the root filesystem to itself, without an overlay.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::mount::{MountFlags, UnmountFlags};
use tank_seccomp::{Circumstances, Machine, Profile};

/// Where the bundle's cgroup is, in every tree.
const CGROUP: &str = "/tank-bench-crun";

/// A bundle that `crun` runs.
pub(crate) struct Crun {
    bundle: PathBuf,
    state: PathBuf,
    _hugetlb: Option<Hugetlb>,
}

impl Crun {
    /// Writes the bundle below `dir`, and its state to `state`.
    pub(crate) fn new(dir: &Path, state: &Path, rootfs: &Path, argv: &[&str]) -> io::Result<Self> {
        let bundle = dir.join("bundle");
        write_bundle(&bundle, rootfs, argv, CGROUP)?;
        Ok(Self { bundle, state: state.to_path_buf(), _hugetlb: Hugetlb::mount_if_in_the_way()? })
    }

    /// Runs the bundle to its end; what it says on standard output.
    pub(crate) fn run(&self, id: &str) -> io::Result<String> {
        let mut child = self
            .command()
            .args(["run", "--bundle"])
            .arg(&self.bundle)
            .arg(id)
            .stdout(Stdio::piped())
            .spawn()?;
        let mut said = String::new();
        child.stdout.take().expect("stdout is piped").read_to_string(&mut said)?;
        let status = child.wait()?;
        if status.success() {
            Ok(said)
        } else {
            Err(io::Error::other(format!("crun run: {status}")))
        }
    }

    /// `crun` with its state, in a process group of its own.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new("crun");
        command.arg("--root").arg(&self.state).stdin(Stdio::null()).process_group(0);
        command
    }

    /// Where it keeps its state.
    pub(crate) fn state(&self) -> &Path {
        &self.state
    }
}

/// Makes a bundle.
pub(crate) fn write_bundle(
    bundle: &Path,
    rootfs: &Path,
    argv: &[&str],
    cgroup: &str,
) -> io::Result<()> {
    fs::create_dir(bundle)?;
    fs::write(bundle.join("config.json"), config(rootfs, argv, cgroup))
}

/// `config.json` of the OCI runtime specification.
fn config(rootfs: &Path, argv: &[&str], cgroup: &str) -> String {
    let quoted: Vec<String> = argv.iter().map(|arg| format!("{arg:?}")).collect();
    include_str!("config.json")
        .replace("@ARGS@", &quoted.join(", "))
        .replace("@ROOTFS@", &rootfs.display().to_string())
        .replace("@CGROUP@", cgroup)
        .replace("@SECCOMP@", &seccomp())
}

/// The default profile.
fn seccomp() -> String {
    let machine = Machine::native().expect("a machine with seccomp programs");
    let capabilities = BTreeSet::from(["CAP_SYS_CHROOT"]);
    let circumstances = Circumstances { machine, kernel: (5, 10), capabilities: &capabilities };
    let profile = Profile::default().resolved(&circumstances);
    serde_json::to_string(&profile).expect("profiles are JSON")
}

/// The v1 hugetlb controller, mounted. `crun` 1.8 refuses a machine whose
/// controllers are all in v1 trees but this one.
struct Hugetlb(&'static str);

impl Hugetlb {
    fn mount_if_in_the_way() -> io::Result<Option<Self>> {
        let v2 = fs::read_to_string("/sys/fs/cgroup/unified/cgroup.controllers");
        let point = "/sys/fs/cgroup/hugetlb";
        if v2.map_or(true, |controllers| controllers.trim() != "hugetlb") {
            return Ok(None);
        }
        fs::create_dir(point)?;
        let mounted = Self(point);
        rustix::mount::mount("cgroup", point, "cgroup", MountFlags::empty(), c"hugetlb")?;
        Ok(Some(mounted))
    }
}

impl Drop for Hugetlb {
    fn drop(&mut self) {
        // What cannot be undone shows in the comparison that `scripts/bench` makes.
        let _ = rustix::mount::unmount(self.0, UnmountFlags::empty());
        let _ = fs::remove_dir(self.0);
    }
}
