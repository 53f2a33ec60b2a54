//! What every test here needs: a root filesystem, a run directory, cgroups of
//! its own, and a shim to talk to. All of it is gone when the scene is dropped.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};
use tank_shim::Program;
use tank_shim::frame::{self, Decoder};
use tank_shim::protocol::{
    Cgroup, Container, Exit, ExitRecord, Failure, FromShim, Hello, Join, Launch, Launched, Log,
    Network, SOCKET_FILE, Stop, StopPlan, ToShim,
};
use tank_shim::spawn::Birth;

/// Longer than anything here takes on a machine that is busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The program under test.
pub(crate) const SHIM: &str = env!("CARGO_BIN_EXE_tank-shim");

static SCENES: AtomicU32 = AtomicU32::new(0);

/// Returns from a test that needs root when there is none, and says so.
macro_rules! scene {
    ($name:literal) => {
        match crate::scene::Scene::new($name) {
            Some(scene) => scene,
            None => return,
        }
    };
}
pub(crate) use scene;

/// A place for one pod.
pub(crate) struct Scene {
    pub(crate) dir: PathBuf,
    name: String,
    cgroups: Vec<PathBuf>,
}

impl Scene {
    /// A new one; `None` without root.
    pub(crate) fn new(test: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            // Not `println!`, which the test harness keeps to itself.
            let _ = writeln!(std::io::stdout(), "skipped: needs root: {test}");
            return None;
        }
        let number = SCENES.fetch_add(1, Ordering::Relaxed);
        let name = format!("tank-shim-test-{}-{number}", std::process::id());
        let dir = std::env::temp_dir().join(&name);
        fs::create_dir_all(dir.join("run")).unwrap();
        let scene = Self { dir, name, cgroups: Vec::new() };
        scene.make_rootfs();
        Some(scene)
    }

    /// A busybox and nothing else: no `/proc`, `/dev` or `/sys`.
    fn make_rootfs(&self) {
        let bin = self.rootfs().join("bin");
        fs::create_dir_all(&bin).unwrap();
        fs::copy("/bin/busybox", bin.join("busybox")).expect("busybox-static is installed");
        let list = Command::new("/bin/busybox").arg("--list").output().unwrap().stdout;
        for applet in String::from_utf8(list).unwrap().lines().filter(|name| *name != "busybox") {
            symlink("busybox", bin.join(applet)).unwrap();
        }
    }

    pub(crate) fn rootfs(&self) -> PathBuf {
        self.dir.join("rootfs")
    }

    /// How the pod ended, by the record.
    pub(crate) fn recorded_exit(&self) -> ExitRecord {
        match tank_shim::record::read(&self.run_dir()).unwrap() {
            Some(FromShim::Exited(record)) => record,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn run_dir(&self) -> PathBuf {
        self.dir.join("run")
    }

    pub(crate) fn log_path(&self) -> PathBuf {
        self.log_path_of("app")
    }

    fn log_path_of(&self, container: &str) -> PathBuf {
        self.dir.join(format!("{container}.log"))
    }

    /// A pod that executes a command in a container `app`.
    pub(crate) fn pod(&self, argv: &[&str]) -> Launch {
        Launch {
            pod: "web".into(),
            incarnation: 7,
            hostname: "web".into(),
            network: Network::None,
            shim_cgroups: Vec::new(),
            cgroups: Vec::new(),
            volumes: Vec::new(),
            user_namespace: None,
            containers: vec![self.container("app", argv)],
        }
    }

    /// A container that executes a command, and stops only when it wants to.
    pub(crate) fn container(&self, name: &str, argv: &[&str]) -> Container {
        let argv = argv.iter().map(ToString::to_string).collect();
        let log = Log { path: path_string(&self.log_path_of(name)), bytes_max: 1 << 20 };
        let stop = StopPlan { grace_ms: 60_000, ..StopPlan::default() };
        let env = vec!["PATH=/bin".into()];
        let rootfs = path_string(&self.rootfs());
        Container { env, stop, ..Container::new(name, &rootfs, argv, log) }
    }

    /// A pod that runs a shell script.
    pub(crate) fn script(&self, script: &str) -> Launch {
        self.pod(&["/bin/sh", "-c", script])
    }

    /// A cgroup of this scene below a hierarchy, and its directory.
    pub(crate) fn cgroup(&mut self, hierarchy: &str, join: Join, files: &[(&str, &str)]) -> Cgroup {
        let path = Path::new("/sys/fs/cgroup").join(hierarchy).join(&self.name);
        self.cgroups.push(path.clone());
        let files = files.iter().map(|(file, value)| ((*file).into(), (*value).into())).collect();
        Cgroup { path: path_string(&path), files, join }
    }

    /// A shim in the run directory that has said hello.
    pub(crate) fn shim(&self) -> Shim {
        static PROGRAM: LazyLock<Program> = LazyLock::new(|| sealed(Path::new(SHIM)));
        self.shim_of(&PROGRAM)
    }

    /// A shim that is started through some program.
    pub(crate) fn shim_of(&self, program: &Program) -> Shim {
        Shim::greeted(tank_shim::spawn(program, &self.run_dir()).unwrap())
    }

    /// A shim that is executed from a file, as none should be.
    pub(crate) fn unsealed_shim_of(&self, binary: &Path) -> Shim {
        let lock = tank_shim::spawn::lock(&self.run_dir()).unwrap().into();
        let command = Command::new(binary);
        let (control, mut maker) =
            tank_shim::spawn::start(command, &self.run_dir(), &Birth::default(), lock).unwrap();
        assert!(maker.wait().unwrap().success());
        Shim::greeted(control)
    }

    /// One more connection to the shim.
    pub(crate) fn connect(&self) -> Shim {
        Shim::greeted(UnixStream::connect(self.run_dir().join(SOCKET_FILE)).unwrap())
    }

    /// A shim that has launched a pod, and the pod's host pid.
    pub(crate) fn launched(&self, pod: &Launch) -> (Shim, i32) {
        let mut shim = self.shim();
        shim.send(&ToShim::Launch(Box::new(pod.clone())));
        let host_pid = shim.expect_launched();
        (shim, host_pid)
    }

    /// Launches and waits for the end.
    pub(crate) fn run(&self, pod: &Launch) -> Exit {
        let (mut shim, _) = self.launched(pod);
        shim.expect_exited().exit
    }

    /// Runs a script that must succeed, and returns what it printed.
    pub(crate) fn output_of(&self, script: &str) -> String {
        self.output_of_pod(&self.script(script))
    }

    pub(crate) fn output_of_pod(&self, pod: &Launch) -> String {
        let exit = self.run(pod);
        let (stdout, stderr) = (self.logged("stdout"), self.logged("stderr"));
        assert_eq!(exit, Exit::Exited(0), "stdout: {stdout}\nstderr: {stderr}");
        stdout
    }

    /// Launches a pod that fails.
    pub(crate) fn failure_of(&self, pod: &Launch) -> Failure {
        let mut shim = self.shim();
        shim.send(&ToShim::Launch(Box::new(pod.clone())));
        let failure = match shim.receive() {
            FromShim::Failed(failure) => failure,
            other => panic!("{other:?}"),
        };
        shim.expect_end();
        failure
    }

    /// What a stream of the container `app` said, put together from the log.
    pub(crate) fn logged(&self, stream: &str) -> String {
        self.logged_by("app", stream)
    }

    /// The same of any container.
    pub(crate) fn logged_by(&self, container: &str, stream: &str) -> String {
        let log = fs::read_to_string(self.log_path_of(container)).unwrap_or_default();
        let mut text = String::new();
        for line in log.lines() {
            let mut fields = line.splitn(4, ' ');
            let (_, name, tag) = (fields.next(), fields.next(), fields.next());
            if name == Some(stream) {
                text.push_str(fields.next().unwrap());
                text.push_str(if tag == Some("F") { "\n" } else { "" });
            }
        }
        text
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        for cgroup in &self.cgroups {
            let _ = fs::remove_dir(cgroup);
        }
        let removed = fs::remove_dir_all(&self.dir);
        if !std::thread::panicking() {
            removed.unwrap();
            for cgroup in &self.cgroups {
                assert!(!cgroup.exists(), "{} is left", cgroup.display());
            }
        }
    }
}

/// A program as shims are executed from it.
pub(crate) fn sealed(path: &Path) -> Program {
    Program::seal(path).unwrap()
}

/// One control connection.
pub(crate) struct Shim {
    pub(crate) hello: Hello,
    pub(crate) stream: UnixStream,
    decoder: Decoder,
    process: OwnedFd,
}

impl Shim {
    fn greeted(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let (mut decoder, mut stream) = (Decoder::default(), stream);
        match receive(&mut stream, &mut decoder) {
            Some(FromShim::Hello(hello)) => {
                let process = open_process(hello.pid);
                Self { hello, stream, decoder, process }
            }
            other => panic!("{other:?} instead of hello"),
        }
    }

    pub(crate) fn send(&mut self, message: &ToShim) {
        self.stream.write_all(&frame::encode(message)).unwrap();
    }

    /// The next message that tells of the pod itself.
    pub(crate) fn receive(&mut self) -> FromShim {
        loop {
            match receive(&mut self.stream, &mut self.decoder) {
                Some(FromShim::Stopping(_)) => {}
                message => return message.expect("the shim closed the connection"),
            }
        }
    }

    pub(crate) fn expect_launched(&mut self) -> i32 {
        match self.receive() {
            FromShim::Launched(launched) => host_pid(&launched),
            other => panic!("{other:?} instead of launched"),
        }
    }

    /// Asks for an orderly stop.
    pub(crate) fn stop(&mut self) {
        self.send(&ToShim::Stop(Stop { asked_at_ms: boot_clock_ms_in(0) }));
    }

    /// Waits for the end of the workload, then of the shim.
    pub(crate) fn expect_exited(&mut self) -> ExitRecord {
        match self.receive() {
            FromShim::Exited(record) => {
                self.expect_end();
                record
            }
            other => panic!("{other:?} instead of exited"),
        }
    }

    /// The connection closes and the shim dies.
    pub(crate) fn expect_end(&mut self) {
        self.expect_close();
        wait_for_end(&self.process);
    }

    /// The connection closes.
    pub(crate) fn expect_close(&mut self) {
        assert_eq!(receive(&mut self.stream, &mut self.decoder), None);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        rustix::process::pidfd_send_signal(&self.process, signal).unwrap();
    }

    pub(crate) fn wait_for_end(&self) {
        wait_for_end(&self.process);
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = rustix::process::pidfd_send_signal(&self.process, Signal::KILL);
            is_dead(&self.process, PATIENCE);
        }
    }
}

/// The first container's.
pub(crate) fn host_pid(launched: &Launched) -> i32 {
    launched.containers.first().expect("a container").host_pid
}

fn receive(stream: &mut UnixStream, decoder: &mut Decoder) -> Option<FromShim> {
    loop {
        if let Some(message) = decoder.decode().unwrap() {
            return Some(message);
        }
        let mut bytes = [0; 4096];
        match stream.read(&mut bytes) {
            Ok(0) => return None,
            Ok(count) => decoder.push(&bytes[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => panic!("no message from the shim: {error}"),
        }
    }
}

pub(crate) fn open_process(host_pid: i32) -> OwnedFd {
    rustix::process::pidfd_open(Pid::from_raw(host_pid).unwrap(), PidfdFlags::empty()).unwrap()
}

pub(crate) fn is_dead(process: &OwnedFd, timeout: Duration) -> bool {
    let mut fds = [PollFd::new(process, PollFlags::IN)];
    let timeout = Timespec::try_from(timeout).unwrap();
    rustix::event::poll(&mut fds, Some(&timeout)).unwrap() == 1
}

pub(crate) fn wait_for_end(process: &OwnedFd) {
    assert!(is_dead(process, PATIENCE), "the process lives on");
}

/// Waits until something is so.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what} is never so");
        std::thread::yield_now();
    }
}

pub(crate) fn path_string(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// Milliseconds of the boot clock, in so many from now.
pub(crate) fn boot_clock_ms_in(ms: u64) -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000 + ms
}
