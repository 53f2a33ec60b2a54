//! Another runtime with a bundle to run. Leaves nothing behind: its mounts are in
//! a mount namespace of its own, its cgroup goes with the container, and what it
//! keeps is in the test's directory.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::Pid;
use serde_json::Value;

use crate::support::eventually;

/// Runs `$2 run` of the bundle `$1` under the name `$3`, on a root made as Tank makes
/// its own. Version 1.8 of crun wants nothing to do with a version 2 tree that has
/// one controller, so where both versions are, version 1 is all that is in sight.
const SCRIPT: &str = r#"
    ! mountpoint -q /sys/fs/cgroup/unified || umount -l /sys/fs/cgroup/unified
    cd "$1"
    mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work overlay root
    exec "$2" --root "$1/state" run --bundle "$1" --pid-file "$1/pid" "$3""#;

/// A bundle, and the runtime that runs it.
pub(crate) struct Bundle<'a> {
    pub(crate) runtime: &'static str,
    /// A name that nothing else on the machine has.
    pub(crate) name: &'a str,
    /// A directory that is there for it alone.
    pub(crate) dir: &'a Path,
    pub(crate) rootfs: &'a Path,
    pub(crate) config: &'a Value,
    /// No field of the configuration has it.
    pub(crate) niceness: Option<i32>,
}

/// A run of a bundle.
pub(crate) struct Run {
    runtime: &'static str,
    name: String,
    dir: PathBuf,
    child: Child,
    stdout: BufReader<ChildStdout>,
    is_over: bool,
}

impl Run {
    /// Starts it.
    pub(crate) fn start(bundle: &Bundle<'_>) -> Self {
        let Bundle { runtime, name, dir, rootfs, config, niceness } = *bundle;
        for name in ["root", "upper", "work"] {
            std::fs::create_dir_all(dir.join(name)).expect("ours");
        }
        std::os::unix::fs::symlink(rootfs, dir.join("lower")).expect("ours");
        std::fs::write(dir.join("config.json"), config.to_string()).expect("ours");
        // nice(1) adds to what there is.
        let own = rustix::process::getpriority_process(None).expect("everyone has one");
        let added = niceness.map_or(0, |niceness| niceness - own).to_string();
        let mut child = Command::new("nice")
            .args(["-n", &added, "unshare", "--mount", "sh", "-ec", SCRIPT, "sh"])
            .arg(dir)
            .args([runtime, name])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("nice and unshare are Debian's own");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        Self { runtime, name: name.to_owned(), dir: dir.to_owned(), child, stdout, is_over: false }
    }

    /// What the container prints until it is ready.
    pub(crate) fn lines_until_ready(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while lines.last().is_none_or(|line| line != "ready") {
            let mut line = String::new();
            let count = self.stdout.read_line(&mut line).expect("text");
            assert_ne!(count, 0, "it never got ready: {lines:#?} {}", self.errors());
            lines.push(line.trim_end().to_owned());
        }
        lines
    }

    /// The container's first process.
    pub(crate) fn pid(&self) -> Pid {
        let mut pid = None;
        // It may be ready before it is known by its pid.
        eventually("the runtime has told the pid", || {
            let text = std::fs::read_to_string(self.dir.join("pid")).unwrap_or_default();
            pid = text.parse().ok().and_then(Pid::from_raw);
            pid.is_some()
        });
        pid.expect("the loop ends with one")
    }

    /// Waits for the end: what else was printed, and the runtime's exit code.
    pub(crate) fn ended(&mut self) -> (Vec<String>, i32) {
        let mut text = String::new();
        self.stdout.read_to_string(&mut text).expect("text");
        let status = self.child.wait().expect("our child");
        self.is_over = true;
        (text.lines().map(str::to_owned).collect(), status.code().expect("it exits"))
    }

    fn errors(&mut self) -> String {
        let mut text = String::new();
        self.child.stderr.take().expect("piped").read_to_string(&mut text).expect("text");
        text
    }
}

impl Drop for Run {
    /// Ends what a failed test leaves; the runtime then tidies up.
    fn drop(&mut self) {
        if !self.is_over {
            let mut kill = Command::new(self.runtime);
            kill.arg("--root").arg(self.dir.join("state")).args(["kill", &self.name, "KILL"]);
            let _ = kill.stderr(Stdio::null()).status();
            let _ = self.child.wait();
        }
    }
}
