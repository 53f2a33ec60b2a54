//! The peer of a shim: `conmon`, which podman and CRI-O start for each container,
//! above `crun` and bundles like those of a launch.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use crate::crun::{self, Crun};

/// Containers that run, and what supervises them. Dropped, they are gone.
pub(crate) struct Conmons {
    crun: Crun,
    dir: PathBuf,
    rootfs: PathBuf,
    argv: Vec<&'static str>,
    pids: Vec<i32>,
}

impl Conmons {
    /// None so far; what they need is kept below `dir`.
    pub(crate) fn new(dir: &Path, rootfs: &Path, argv: &[&'static str]) -> io::Result<Self> {
        let crun = Crun::new(dir, &dir.join("crun"), rootfs, argv)?;
        let (dir, rootfs) = (dir.to_owned(), rootfs.to_owned());
        Ok(Self { crun, dir, rootfs, argv: argv.to_vec(), pids: Vec::new() })
    }

    /// Starts another container under a `conmon`; that one's pid.
    pub(crate) fn start(&mut self) -> io::Result<i32> {
        let id = self.id(self.pids.len());
        let dir = self.dir.join(&id);
        crun::write_bundle(&dir, &self.rootfs, &self.argv, &format!("/{id}"))?;
        let log = format!("k8s-file:{}", dir.join("log").display());
        // Told on it when the container is there. Not closed on exec.
        let (told, tell) = rustix::pipe::pipe()?;
        let status = Command::new("conmon")
            .env("_OCI_SYNCPIPE", tell.as_raw_fd().to_string())
            .args(["--cid", &id, "--cuuid", &id, "--name", &id, "--log-path", &log])
            .args(["--runtime", "/usr/bin/crun", "--runtime-arg", "--root", "--runtime-arg"])
            .arg(self.crun.state())
            .arg("--bundle")
            .arg(&dir)
            .arg("--container-pidfile")
            .arg(dir.join("container.pid"))
            .arg("--conmon-pidfile")
            .arg(dir.join("conmon.pid"))
            .args(
                ["--exit-dir", "--socket-dir-path", "--persist-dir"]
                    .into_iter()
                    .flat_map(|option| [option.as_ref(), dir.as_os_str()]),
            )
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .process_group(0)
            .status()?;
        drop(tell);
        ended_well("conmon", status)?;
        let mut words = String::new();
        BufReader::new(File::from(told)).read_line(&mut words)?;
        let container: serde_json::Value = serde_json::from_str(&words)?;
        if container["pid"].as_i64().is_none_or(|pid| pid <= 0) {
            return Err(io::Error::other(format!("conmon: {}", words.trim_end())));
        }
        let pid = fs::read_to_string(dir.join("conmon.pid"))?;
        let pid = pid.trim().parse().map_err(io::Error::other)?;
        self.pids.push(pid);
        ended_well("crun start", self.crun.command().args(["start", &id]).status()?)?;
        Ok(pid)
    }

    fn id(&self, number: usize) -> String {
        format!("tank-bench-conmon-{number}")
    }
}

impl Drop for Conmons {
    fn drop(&mut self) {
        // What cannot be undone shows in the comparison that `scripts/bench` makes.
        for (number, pid) in self.pids.iter().enumerate() {
            let _ = self.crun.command().args(["delete", "--force", &self.id(number)]).status();
            while Path::new(&format!("/proc/{pid}")).exists() {
                sleep(Duration::from_millis(2));
            }
        }
    }
}

fn ended_well(what: &str, status: std::process::ExitStatus) -> io::Result<()> {
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("{what}: {status}"))) }
}
