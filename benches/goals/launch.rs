//! From the request to the workload's first words, against `crun run`.
//!
//! The workload tells the time: busybox's shell prints the clock as soon as it
//! runs, and that is compared with the clock just before `apply` was written, or
//! `crun` spawned. It is the same program on both sides, so what it takes from
//! exec to reading the clock counts for both, and against the smaller of the two.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use erlang_term_format::Term;
use tempfile::TempDir;

use crate::Measured;
use crate::child::{FrameChild, frame, is_tagged};
use crate::crun::Crun;
use crate::interrupt;
use crate::report::Row;
use crate::sample::Sample;

/// What the workload runs: it says when it began.
const WORKLOAD: [&str; 4] = ["/bin/busybox", "sh", "-c", "echo $EPOCHREALTIME"];
/// Tank may take this share of the peer's time.
const GOAL: f64 = 0.3;
/// Pairs of isolated launches.
const PAIRS: usize = 40;
/// Before each isolated launch the machine is left alone for so long: the
/// kernel's grace periods take their full time only on an idle machine.
const GAP: Duration = Duration::from_millis(300);
/// Turns that both sides take at launching back to back.
const BLOCKS: usize = 10;
/// Launches in each turn.
const BLOCK: usize = 10;

/// Measures isolated launches, then launches back to back.
pub(crate) fn measure() -> Measured {
    if !rustix::process::geteuid().is_root() {
        return Err("containers need root".into());
    }
    let mut scene = Scene::new()?;
    let isolated = scene.isolated()?;
    let back_to_back = scene.back_to_back()?;
    let mut rows = isolated.rows("isolated");
    rows.extend(back_to_back.rows("back to back"));
    rows.push(scene.bare_exec()?);
    Ok(rows)
}

/// Both sides, ready to launch.
struct Scene {
    // In the order in which they end: the port needs its directories.
    port: FrameChild,
    crun: Crun,
    rootfs: PathBuf,
    data: PathBuf,
    launched: usize,
    _dirs: [TempDir; 2],
}

/// What one launch takes.
struct Launch {
    /// Until the workload told the time.
    to_exec: Duration,
    /// Until nothing of it was left.
    to_end: Duration,
}

impl Scene {
    fn new() -> Result<Self, Box<dyn std::error::Error>> {
        let (dir, state) = (temp_dir("/var/tmp")?, temp_dir(state_parent()?)?);
        let rootfs = rootfs(dir.path())?;
        let data = dir.path().join("data");
        let crun = Crun::new(dir.path(), &state.path().join("crun"), &rootfs, &WORKLOAD)?;
        let run = state.path().join("tank");
        let options = ["--data-dir", text(&data)?, "--run-dir", text(&run)?];
        let options = [&options[..], &["--on-disconnect", "stop"]].concat();
        let mut port = FrameChild::port(&options)?;
        port.send(&frame("{1, subscribe, #{credits => 1000000000}}"))?;
        wait_for(&mut port, is_reply)?;
        Ok(Self { port, crun, rootfs, data, launched: 0, _dirs: [dir, state] })
    }

    fn isolated(&mut self) -> io::Result<Race> {
        let mut race = Race::default();
        self.tank()?;
        self.peer()?;
        for _ in 0..PAIRS {
            sleep(GAP);
            race.tank.push(self.tank()?);
            sleep(GAP);
            race.peer.push(self.peer()?);
        }
        Ok(race)
    }

    fn back_to_back(&mut self) -> io::Result<Race> {
        let mut race = Race::default();
        for _ in 0..BLOCKS {
            for _ in 0..BLOCK {
                race.tank.push(self.tank()?);
            }
            for _ in 0..BLOCK {
                race.peer.push(self.peer()?);
            }
        }
        Ok(race)
    }

    /// Applies a pod that runs once, and deletes it when it has ended.
    fn tank(&mut self) -> io::Result<Launch> {
        interrupt::check()?;
        self.launched += 1;
        let pod = format!("pod-{}", self.launched);
        let apply = apply(&pod, &self.rootfs);
        let began = now();
        self.port.send(&apply)?;
        wait_for(&mut self.port, |message| is_notice(message, "ended"))?;
        let to_end = now() - began;
        let log = fs::read_to_string(self.data.join("logs").join(&pod).join("app.log"))?;
        self.port.send(&frame(&format!("{{2, delete, <<\"{pod}\">>}}")))?;
        wait_for(&mut self.port, |message| is_notice(message, "gone"))?;
        let words = log.split_whitespace().last().unwrap_or_default();
        Ok(Launch { to_exec: told(words)? - began, to_end })
    }

    fn peer(&mut self) -> io::Result<Launch> {
        interrupt::check()?;
        self.launched += 1;
        let id = format!("tank-bench-{}", self.launched);
        let began = now();
        let said = self.crun.run(&id)?;
        let to_end = now() - began;
        Ok(Launch { to_exec: told(said.trim())? - began, to_end })
    }

    /// The workload as a plain child: nobody can be faster.
    fn bare_exec(&self) -> io::Result<Row> {
        let exec = |_| {
            sleep(GAP);
            let began = now();
            let output = Command::new(WORKLOAD[0]).args(&WORKLOAD[1..]).output()?;
            Ok(told(String::from_utf8_lossy(&output.stdout).trim())? - began)
        };
        let times = (0..PAIRS).map(exec).collect::<io::Result<_>>()?;
        Ok(Row::alone("for scale: a plain spawn, isolated, p50", Sample::new(times).median()))
    }
}

/// Launches of both sides.
#[derive(Default)]
struct Race {
    tank: Vec<Launch>,
    peer: Vec<Launch>,
}

impl Race {
    fn rows(&self, how: &str) -> Vec<Row> {
        let to_exec = |launch: &Launch| launch.to_exec;
        let to_end = |launch: &Launch| launch.to_end;
        vec![
            self.row(&format!("launch to exec, {how}"), 50, to_exec).goal(GOAL),
            self.row(&format!("launch to exec, {how}"), 90, to_exec),
            self.row(&format!("whole life, {how}"), 50, to_end),
        ]
    }

    fn row(&self, what: &str, percent: usize, part: impl Fn(&Launch) -> Duration) -> Row {
        let [tank, peer] = [&self.tank, &self.peer]
            .map(|launches| Sample::new(launches.iter().map(&part).collect()).percentile(percent));
        Row::beside(format!("{what}, p{percent}"), tank, "crun", peer)
    }
}

/// Where runtimes keep what does not outlive a reboot: `/run`, which is in memory
/// on most machines. Where it is on a disk, another place that is in memory.
fn state_parent() -> io::Result<&'static str> {
    let in_memory = rustix::fs::statfs("/run")?.f_type == libc::TMPFS_MAGIC;
    Ok(if in_memory { "/run" } else { "/dev/shm" })
}

fn temp_dir(below: &str) -> io::Result<TempDir> {
    tempfile::Builder::new().prefix("tank-bench-").tempdir_in(below)
}

/// Busybox, and the directories that a runtime mounts on.
fn rootfs(dir: &Path) -> io::Result<PathBuf> {
    let rootfs = dir.join("rootfs");
    for name in ["bin", "proc", "sys", "dev"] {
        fs::create_dir_all(rootfs.join(name))?;
    }
    fs::copy("/bin/busybox", rootfs.join("bin/busybox"))?;
    Ok(rootfs)
}

fn apply(pod: &str, rootfs: &Path) -> Vec<u8> {
    let command: Vec<String> = WORKLOAD.iter().map(|arg| format!("<<{arg:?}>>")).collect();
    frame(&format!(
        "{{2, apply, #{{name => <<\"{pod}\">>, restart => never, containers => [\
         #{{name => <<\"app\">>, image => {{rootfs, <<\"{}\">>}}, command => [{}], \
         limits => #{{memory => 67108864, pids => 50}}}}]}}}}",
        rootfs.display(),
        command.join(", "),
    ))
}

fn wait_for(port: &mut FrameChild, is_it: impl Fn(&Term<'_>) -> bool) -> io::Result<()> {
    loop {
        let message = port.recv()?;
        if is_it(&message) {
            return Ok(());
        }
        if is_notice(&message, "failed") || is_error(&message) {
            return Err(io::Error::other(message.to_string()));
        }
    }
}

fn is_reply(message: &Term<'_>) -> bool {
    matches!(message.as_tuple(), Some([id, result]) if id.as_i64().is_some() && is_tagged(result, "ok"))
}

fn is_error(message: &Term<'_>) -> bool {
    matches!(message.as_tuple(), Some([_, result]) if is_tagged(result, "error"))
}

fn is_notice(message: &Term<'_>, tag: &str) -> bool {
    let Some([notice, _, body]) = message.as_tuple() else { return false };
    notice.is_atom("notice") && is_tagged(body, tag)
}

/// The wall clock: the one that a shell can print.
fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970")
}

/// The clock as the workload printed it: seconds with a fraction.
fn told(words: &str) -> io::Result<Duration> {
    let seconds: Option<f64> = words.parse().ok();
    seconds
        .map(Duration::from_secs_f64)
        .ok_or_else(|| io::Error::other(format!("the workload says {words:?}, not the time")))
}

fn text(path: &Path) -> io::Result<&str> {
    path.to_str().ok_or_else(|| io::Error::other("the temporary directory's name is no text"))
}
