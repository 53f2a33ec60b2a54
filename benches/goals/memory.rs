//! What supervises an idle pod of one container, in memory, against `conmon`.
//!
//! PSS: pages of its own count in full, and pages that several processes share, such
//! as a program's code, for each by its share. So the first one is the dearest.

use std::fs;
use std::io;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use erlang_term_format::Term;
use tempfile::TempDir;

use crate::Measured;
use crate::child::{FrameChild, frame, is_tagged};
use crate::conmon::Conmons;
use crate::figure::Figure;
use crate::interrupt;
use crate::report::Row;

/// What the workload runs: nothing.
const WORKLOAD: [&str; 3] = ["/bin/busybox", "sleep", "1000000"];
/// Pods on the machine.
const PODS: u32 = 20;
/// How long what has been started is left alone before it is looked at.
const SETTLE: Duration = Duration::from_millis(500);
/// A shim may take so many kilobytes.
const GOAL: f64 = 150.0;

/// Measures one pod of each, then many.
pub(crate) fn measure() -> Measured {
    if !rustix::process::geteuid().is_root() {
        return Err("containers need root".into());
    }
    let dir = tempfile::Builder::new().prefix("tank-bench-").tempdir_in("/var/tmp")?;
    let rootfs = dir.path().join("rootfs");
    for name in ["bin", "proc", "sys", "dev"] {
        fs::create_dir_all(rootfs.join(name))?;
    }
    fs::copy("/bin/busybox", rootfs.join("bin/busybox"))?;
    let mut pods = Pods::new(&dir, &rootfs)?;
    let tank = Measure::of(|| pods.start())?;
    drop(pods);
    let mut conmons = Conmons::new(dir.path(), &rootfs, &WORKLOAD)?;
    let conmon = Measure::of(|| conmons.start())?;
    Ok(vec![
        row(format!("memory of a shim, mean of {PODS} (PSS)"), &tank, &conmon, Measure::mean)
            .at_most(Figure::Memory(GOAL)),
        row("memory of a shim that is alone", &tank, &conmon, |measure| measure.alone),
        row("memory of a further shim", &tank, &conmon, Measure::further),
    ])
}

fn row(
    what: impl Into<String>,
    tank: &Measure,
    conmon: &Measure,
    part: fn(&Measure) -> f64,
) -> Row {
    Row::beside(what, Figure::Memory(part(tank)), "conmon", Figure::Memory(part(conmon)))
}

/// Kilobytes of supervisors.
struct Measure {
    /// The first one, before there were others.
    alone: f64,
    /// All together.
    all: f64,
}

impl Measure {
    /// Starts one after the other. What starts them knows the supervisor's pid.
    fn of(mut start: impl FnMut() -> io::Result<i32>) -> io::Result<Self> {
        let mut pids = vec![start()?];
        sleep(SETTLE);
        let alone = pss(pids[0])?;
        for _ in 1..PODS {
            interrupt::check()?;
            pids.push(start()?);
        }
        sleep(SETTLE);
        let all = pids.into_iter().map(pss).sum::<io::Result<f64>>()?;
        Ok(Self { alone, all })
    }

    fn mean(&self) -> f64 {
        self.all / f64::from(PODS)
    }

    fn further(&self) -> f64 {
        (self.all - self.alone) / f64::from(PODS - 1)
    }
}

/// Pods of a port program's.
struct Pods {
    port: FrameChild,
    rootfs: String,
    started: usize,
}

impl Pods {
    fn new(dir: &TempDir, rootfs: &Path) -> io::Result<Self> {
        let path = |name: &str| dir.path().join(name).display().to_string();
        let (data, run) = (path("data"), path("run"));
        let directories = ["--data-dir", &data, "--run-dir", &run];
        let end = ["--on-disconnect", "stop", "--stop-grace-ms", "0"];
        let mut port = FrameChild::port(&[&directories[..], &end].concat())?;
        port.send(&frame("{1, subscribe, #{credits => 1000000000}}"))?;
        Ok(Self { port, rootfs: rootfs.display().to_string(), started: 0 })
    }

    /// Starts another pod; its shim's pid.
    fn start(&mut self) -> io::Result<i32> {
        self.started += 1;
        let command = WORKLOAD.map(|arg| format!("<<{arg:?}>>")).join(", ");
        self.port.send(&frame(&format!(
            "{{2, apply, #{{name => <<\"pod-{}\">>, restart => never, containers => [\
             #{{name => <<\"app\">>, image => {{rootfs, <<\"{}\">>}}, command => [{command}], \
             limits => #{{memory => 67108864, pids => 50}}}}]}}}}",
            self.started, self.rootfs
        )))?;
        loop {
            let message = self.port.recv()?;
            if let Some(host_pid) = started(&message) {
                return parent_of(host_pid);
            }
            let is_error =
                matches!(message.as_tuple(), Some([_, result]) if is_tagged(result, "error"));
            if is_error || notice(&message).is_some_and(|notice| is_tagged(notice, "failed")) {
                return Err(io::Error::other(message.to_string()));
            }
        }
    }
}

fn notice<'t>(message: &'t Term<'_>) -> Option<&'t Term<'t>> {
    match message.as_tuple()? {
        [tag, _, notice] if tag.is_atom("notice") => Some(notice),
        _ => None,
    }
}

/// The pid in a notice that a pod has started.
fn started(message: &Term<'_>) -> Option<i64> {
    match notice(message)?.as_tuple()? {
        [tag, _, _, host_pid] if tag.is_atom("started") => host_pid.as_i64(),
        _ => None,
    }
}

fn parent_of(pid: i64) -> io::Result<i32> {
    number(&format!("/proc/{pid}/status"), "PPid:")
}

fn pss(pid: i32) -> io::Result<f64> {
    number(&format!("/proc/{pid}/smaps_rollup"), "Pss:").map(f64::from)
}

/// The number of a line in a file of the kernel's.
fn number(path: &str, field: &str) -> io::Result<i32> {
    let text = fs::read_to_string(path)?;
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| io::Error::other(format!("{path} has no number {field}")))
}
