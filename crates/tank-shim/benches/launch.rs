//! How long a launch takes from the request until the workload has been exec'd,
//! with the shim's own start; how long a whole life takes; and what an idle
//! shim costs in memory. Workloads are under the default seccomp program, and
//! for comparison under none. Isolated launches, which wait for the machine to be
//! idle, and launches back to back. Needs root and busybox-static.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tank_seccomp::{Circumstances, Machine, Profile};
use tank_shim::Program;
use tank_shim::frame::{self, Decoder};
use tank_shim::protocol::{
    Bytes, Cgroup, Container, FromShim, Join, Launch, Log, Mount, Network, Seccomp, ToShim,
    UserNamespace, Volume, VolumeSource,
};

const LAUNCHES: usize = 60;
const TRUE: [&str; 2] = ["/bin/busybox", "true"];
const PAUSE: Duration = Duration::from_millis(60);

fn main() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root: launch benchmark");
        return;
    }
    let place = Place::new();
    let confined = Some(default_program());
    let pod = |seccomp| place.pod(&TRUE, seccomp);
    for (name, pause, pod) in [
        ("isolated", PAUSE, pod(&confined)),
        ("isolated, without seccomp", PAUSE, pod(&None)),
        (
            "isolated, with a directory, a file and a tmpfs mounted",
            PAUSE,
            place.pod_with_volumes(&confined),
        ),
        ("isolated, in a user namespace", PAUSE, mapped(pod(&confined))),
        ("back to back", Duration::ZERO, pod(&confined)),
        ("back to back, without seccomp", Duration::ZERO, pod(&None)),
    ] {
        let lives: Vec<Life> = (0..LAUNCHES)
            .map(|_| {
                std::thread::sleep(pause);
                place.live(&pod)
            })
            .collect();
        println!("{name}, ms p50 / p90");
        report("  shim started", lives.iter().map(|life| life.hello));
        report("  request to exec, shim's start included", lives.iter().map(|life| life.launched));
        report("  whole life", lives.iter().map(|life| life.exited));
    }
    println!("memory of a shim whose workload sleeps, kB");
    for (name, kilobytes) in place.memory(&confined) {
        println!("  {name}: {kilobytes}");
    }
}

/// The same pod with users of its own.
fn mapped(pod: Launch) -> Launch {
    let ids = UserNamespace { first_id: 0x7000_0000, count: 65_536 };
    Launch { user_namespace: Some(ids), ..pod }
}

/// What nearly every container is under.
fn default_program() -> Seccomp {
    let machine = Machine::native().expect("a machine with seccomp programs");
    let capabilities = BTreeSet::from(["CAP_SYS_CHROOT"]);
    let circumstances = Circumstances { machine, kernel: (5, 10), capabilities: &capabilities };
    let filter = tank_seccomp::compile(&Profile::default(), &circumstances).unwrap();
    println!("the default seccomp program has {} instructions", filter.program.len() / 8);
    Seccomp { flags: filter.flags, program: Bytes(filter.program) }
}

/// Moments of a life, from the request on.
struct Life {
    hello: Duration,
    launched: Duration,
    exited: Duration,
}

struct Place {
    program: Program,
    dir: PathBuf,
    cgroups: Vec<Cgroup>,
}

impl Place {
    fn new() -> Self {
        let name = format!("tank-shim-bench-{}", std::process::id());
        let dir = std::env::temp_dir().join(&name);
        fs::create_dir_all(dir.join("rootfs/bin")).unwrap();
        fs::create_dir_all(dir.join("run")).unwrap();
        fs::copy("/bin/busybox", dir.join("rootfs/bin/busybox")).unwrap();
        let limits = [("memory", "memory.limit_in_bytes", "67108864"), ("pids", "pids.max", "50")];
        let cgroups = limits
            .iter()
            .filter(|(controller, ..)| Path::new("/sys/fs/cgroup").join(controller).exists())
            .map(|(controller, file, value)| Cgroup {
                path: format!("/sys/fs/cgroup/{controller}/{name}"),
                files: vec![((*file).into(), (*value).into())],
                join: Join::Tasks,
            })
            .collect();
        let program = Program::seal(Path::new(env!("CARGO_BIN_EXE_tank-shim"))).unwrap();
        Self { program, dir, cgroups }
    }

    fn pod(&self, argv: &[&str], seccomp: &Option<Seccomp>) -> Launch {
        let path = |name: &str| self.dir.join(name).display().to_string();
        let argv = argv.iter().map(ToString::to_string).collect();
        let log = Log { path: path("log"), bytes_max: 1 << 20 };
        Launch {
            pod: "bench".into(),
            incarnation: 1,
            hostname: "bench".into(),
            network: Network::None,
            shim_cgroups: Vec::new(),
            cgroups: Vec::new(),
            volumes: Vec::new(),
            user_namespace: None,
            containers: vec![Container {
                cgroups: self.cgroups.clone(),
                seccomp: seccomp.clone(),
                ..Container::new("app", &path("rootfs"), argv, log)
            }],
        }
    }

    fn pod_with_volumes(&self, seccomp: &Option<Seccomp>) -> Launch {
        let mut pod = self.pod(&TRUE, seccomp);
        let path = |name: &str| VolumeSource::Path(self.dir.join(name).display().to_string());
        for (name, source) in [
            ("run", path("run")),
            ("busybox", path("rootfs/bin/busybox")),
            ("memory", VolumeSource::Tmpfs(1 << 20)),
        ] {
            pod.volumes.push(Volume { name: name.into(), source });
            let path = format!("/srv/{name}");
            pod.containers[0].mounts.push(Mount { volume: name.into(), path, read_only: false });
        }
        pod
    }

    fn connection(&self) -> Connection {
        let stream = tank_shim::spawn(&self.program, &self.dir.join("run")).unwrap();
        Connection { stream, decoder: Decoder::default() }
    }

    fn live(&self, pod: &Launch) -> Life {
        let begin = Instant::now();
        let mut connection = self.connection();
        let FromShim::Hello(_) = connection.receive() else { panic!("no hello") };
        let hello = begin.elapsed();
        connection.launch(pod.clone());
        let launched = begin.elapsed();
        let FromShim::Exited(_) = connection.receive() else { panic!("no exit") };
        let exited = begin.elapsed();
        connection.wait_for_end();
        Life { hello, launched, exited }
    }

    fn memory(&self, seccomp: &Option<Seccomp>) -> Vec<(String, u64)> {
        let mut connection = self.connection();
        let FromShim::Hello(hello) = connection.receive() else { panic!("no hello") };
        connection.launch(self.pod(&["/bin/busybox", "sleep", "1000"], seccomp));
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", hello.pid)).unwrap();
        connection.send(&ToShim::Kill);
        let FromShim::Exited(_) = connection.receive() else { panic!("no exit") };
        connection.wait_for_end();
        let fields = ["Pss:", "Private_Clean:", "Private_Dirty:", "Rss:"];
        rollup
            .lines()
            .filter(|line| fields.iter().any(|field| line.starts_with(field)))
            .filter_map(|line| {
                let mut words = line.split_whitespace();
                Some((words.next()?.trim_end_matches(':').to_owned(), words.next()?.parse().ok()?))
            })
            .collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

struct Connection {
    stream: UnixStream,
    decoder: Decoder,
}

impl Connection {
    fn send(&mut self, message: &ToShim) {
        self.stream.write_all(&frame::encode(message)).unwrap();
    }

    fn launch(&mut self, pod: Launch) {
        self.send(&ToShim::Launch(Box::new(pod)));
        match self.receive() {
            FromShim::Launched(_) => {}
            other => panic!("{other:?}"),
        }
    }

    /// The directory's lock is free after that.
    fn wait_for_end(mut self) {
        assert_eq!(self.stream.read(&mut [0; 1]).unwrap(), 0);
    }

    fn receive(&mut self) -> FromShim {
        loop {
            if let Some(message) = self.decoder.decode().unwrap() {
                return message;
            }
            let mut bytes = [0; 4096];
            let count = self.stream.read(&mut bytes).unwrap();
            assert!(count > 0, "the shim is gone");
            self.decoder.push(&bytes[..count]);
        }
    }
}

fn report(name: &str, times: impl Iterator<Item = Duration>) {
    let mut times: Vec<f64> = times.map(|time| time.as_secs_f64() * 1000.0).collect();
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[(times.len() as f64 * share) as usize];
    println!("{name}: {:.2} / {:.2}", at(0.5), at(0.9));
}
