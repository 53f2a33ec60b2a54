//! What the durable store costs: `cargo bench --bench store`.
//!
//! Prints milliseconds on the disk that `TMPDIR` is on, beside those of a bare
//! append and fdatasync on the same disk, so that runs can be compared.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tank::core::action::Write;
use tank::core::spec::{
    Confinement, ContainerSpec, Image, Limits, Name, Network, PodSpec, RestartPolicy, Stop, Userns,
};
use tank::store::{DurableStore, Store};

const COMMITS: usize = 1_000;
const PODS: usize = 10_000;
const BATCH: usize = 100;

/// A spec of about a kilobyte.
fn spec(pod: usize, version: usize) -> Arc<PodSpec> {
    let name = |text: &str| Name::new(text).expect("a valid name");
    let env = (0..12).map(|n| (format!("VARIABLE_{n}"), format!("value {n} of {version}")));
    let container = ContainerSpec {
        name: name("app"),
        image: Image::Reference("registry.example.com/team/service:1.27".into()),
        command: vec!["/usr/local/bin/service".into()],
        args: (0..8).map(|n| format!("--option-{n}=value")).collect(),
        env: env.collect(),
        working_dir: Some("/srv".into()),
        user: Some("1000:1000".into()),
        mounts: Vec::new(),
        limits: Limits { memory: Some(256 << 20), pids: Some(100), ..Limits::default() },
        tty: false,
        confinement: Confinement::default(),
        sidecar: false,
        stop: Stop::default(),
        init: false,
    };
    Arc::new(PodSpec {
        name: name(&format!("pod-{pod:06}")),
        containers: vec![container],
        init_containers: Vec::new(),
        network: Network::None,
        volumes: Vec::new(),
        restart: RestartPolicy::Always,
        userns: Userns::Host,
        oci_runtime: None,
    })
}

fn put(pod: usize, version: usize) -> Write {
    Write::Put(spec(pod, version))
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed())
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1e3;
    println!("{what:<44} p50 {:8.3}  p90 {:8.3}  p99 {:8.3} ms", at(50), at(90), at(99));
}

fn commits(store: &mut DurableStore, batch: usize, rounds: usize) -> Vec<Duration> {
    let round = |round: usize| {
        let writes: Vec<Write> = (0..batch).map(|n| put(round * 7 % PODS + n, round + 1)).collect();
        let (answers, time) = timed(|| store.commit(&writes));
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        time
    };
    (0..rounds).map(round).collect()
}

fn appends(dir: &Path) -> std::io::Result<Vec<Duration>> {
    let mut file = File::create(dir.join("append"))?;
    let record = [7; 1_024];
    let mut append = || -> std::io::Result<Duration> {
        let (result, time) = timed(|| file.write_all(&record).and_then(|()| file.sync_data()));
        result.map(|()| time)
    };
    (0..COMMITS).map(|_| append()).collect()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::temp_dir().join(format!("tank-bench-store-{}", std::process::id()));
    fs::create_dir(&dir)?;
    let result = measure(&dir);
    fs::remove_dir_all(&dir)?;
    result
}

fn measure(dir: &Path) -> Result<(), Box<dyn std::error::Error>> {
    report("append 1 kB and fdatasync", appends(dir)?);
    let mut store = DurableStore::open(dir)?;
    report("commit of one spec, empty store", commits(&mut store, 1, COMMITS));
    let all: Vec<Write> = (0..PODS).map(|pod| put(pod, 0)).collect();
    let (_, time) = timed(|| store.commit(&all));
    report(&format!("commit of {PODS} specs at once"), vec![time]);
    report(&format!("commit of one spec, {PODS} stored"), commits(&mut store, 1, COMMITS));
    report(&format!("commit of {BATCH} specs, {PODS} stored"), commits(&mut store, BATCH, 100));
    drop(store);
    let reopen = || -> Result<Duration, Box<dyn std::error::Error>> {
        let (listed, time) = timed(|| DurableStore::open(dir)?.list());
        assert!(listed?.pods.len() >= PODS);
        Ok(time)
    };
    let times = (0..20).map(|_| reopen()).collect::<Result<_, _>>()?;
    report(&format!("open, check and list {PODS} specs"), times);
    let size = fs::metadata(dir.join("state.redb"))?.len();
    println!("{:<44} {:.1} MiB", "state file", size as f64 / f64::from(1 << 20));
    Ok(())
}
