//! What is read and written: a pod's spec as a client would write it by hand, and the status of
//! many pods, in the shapes that `docs/protocol.md` gives them.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::{Serialize, Serializer};

/// A pod, all of its text in the frame.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pod<'a> {
    name: &'a str,
    restart: Restart,
    #[serde(borrow)]
    network: Network<'a>,
    volumes: Vec<Volume<'a>>,
    containers: Vec<Container<'a>>,
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
enum Restart {
    Always,
    OnFailure,
    Never,
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Network<'a> {
    #[serde(borrow)]
    nics: Vec<Nic<'a>>,
    dns: Vec<&'a str>,
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Nic<'a> {
    name: &'a str,
    mode: NicMode,
    parent: &'a str,
    ip: (&'a str, u8),
    gateway: Option<&'a str>,
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
enum NicMode {
    Macvlan,
    Bridge,
    Ipvlan,
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Volume<'a> {
    name: &'a str,
    #[serde(borrow)]
    source: Source<'a>,
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
enum Source<'a> {
    Managed,
    Host(&'a str),
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Container<'a> {
    name: &'a str,
    image: &'a str,
    command: Vec<&'a str>,
    args: Vec<&'a str>,
    #[serde(borrow)]
    env: Entries<&'a str, &'a str>,
    working_dir: Option<&'a str>,
    user: Option<&'a str>,
    tty: bool,
    mounts: Vec<Mount<'a>>,
    limits: Limits,
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Mount<'a> {
    volume: &'a str,
    path: &'a str,
    read_only: bool,
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Limits {
    memory: Option<i64>,
    pids: Option<i64>,
    cpu: Option<(i64, i64)>,
}

/// The status of many pods, by name.
pub(super) type Statuses<'a> = Entries<&'a str, Status<'a>>;

/// The status of one.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Status<'a> {
    status: State,
    retries: i64,
    phase: Phase,
    reason: Option<&'a str>,
    last_exit: Option<Exit>,
    last_exit_at_ms: Option<i64>,
    started_at_ms: Option<i64>,
    retry_in_ms: Option<i64>,
    generation: i64,
    incarnation: i64,
    host_pid: Option<i64>,
    #[serde(borrow)]
    containers: Entries<&'a str, ContainerStatus>,
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Starting,
    Running,
    Stopping,
    BackingOff,
    Terminal,
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
enum Phase {
    Launching,
    Running,
    Restarting,
    Deleting,
    Sweeping,
    Waiting,
    Done,
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
enum Exit {
    Exited(i64),
    Signaled(i64),
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct ContainerStatus {
    host_pid: Option<i64>,
}

/// A map in the order of the frame. Looking entries up is not the codec's work.
pub(super) struct Entries<K, V>(Vec<(K, V)>);

impl<K: Serialize, V: Serialize> Serialize for Entries<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

impl<'de, K: Deserialize<'de>, V: Deserialize<'de>> Deserialize<'de> for Entries<K, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntriesVisitor(PhantomData))
    }
}

struct EntriesVisitor<K, V>(PhantomData<(K, V)>);

impl<'de, K: Deserialize<'de>, V: Deserialize<'de>> Visitor<'de> for EntriesVisitor<K, V> {
    type Value = Entries<K, V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::with_capacity(map.size_hint().unwrap_or_default());
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Entries(entries))
    }
}

/// A spec of some 1.7 kB.
pub(super) fn spec() -> Pod<'static> {
    Pod {
        name: "shop-frontend",
        restart: Restart::Always,
        network: Network {
            nics: vec![Nic {
                name: "eth0",
                mode: NicMode::Macvlan,
                parent: "enp3s0",
                ip: ("10.20.30.40", 24),
                gateway: Some("10.20.30.1"),
            }],
            dns: vec!["10.20.0.53", "10.20.1.53"],
        },
        volumes: vec![
            Volume { name: "data", source: Source::Managed },
            Volume { name: "certificates", source: Source::Host("/etc/ssl/shop") },
        ],
        containers: vec![web(), sidecar()],
    }
}

fn web() -> Container<'static> {
    Container {
        name: "web",
        image: "registry.example.com/shop/frontend:2026.11.3",
        command: vec!["/usr/local/bin/frontend"],
        args: vec!["--listen", "0.0.0.0:8443", "--workers", "8", "--log-format", "json"],
        env: Entries(vec![
            ("DATABASE_URL", "postgres://shop@db.internal:5432/shop?sslmode=verify-full"),
            ("CACHE_URL", "redis://cache.internal:6379/0"),
            ("LOG_LEVEL", "info"),
            ("RELEASE_NODE", "frontend@shop-frontend"),
            ("RELEASE_COOKIE_FILE", "/run/secrets/cookie"),
            ("TLS_CERTIFICATE", "/etc/ssl/shop/tls.crt"),
            ("TLS_KEY", "/etc/ssl/shop/tls.key"),
            ("TZ", "UTC"),
        ]),
        working_dir: Some("/srv/frontend"),
        user: Some("1000:1000"),
        tty: false,
        mounts: vec![
            Mount { volume: "data", path: "/srv/frontend/data", read_only: false },
            Mount { volume: "certificates", path: "/etc/ssl/shop", read_only: true },
        ],
        limits: Limits { memory: Some(512 << 20), pids: Some(256), cpu: Some((150_000, 100_000)) },
    }
}

fn sidecar() -> Container<'static> {
    Container {
        name: "metrics",
        image: "registry.example.com/platform/exporter:0.19.2",
        command: vec!["/bin/exporter"],
        args: vec!["--scrape", "http://127.0.0.1:9100/metrics", "--interval", "15s"],
        env: Entries(vec![
            ("EXPORTER_TARGET", "https://metrics.internal.example.com/api/v1/push"),
            ("EXPORTER_LABELS", "team=shop,service=frontend,zone=eu-1"),
            ("LOG_LEVEL", "warning"),
        ]),
        working_dir: None,
        user: Some("65534:65534"),
        tty: false,
        mounts: vec![Mount { volume: "certificates", path: "/certificates", read_only: true }],
        limits: Limits { memory: Some(64 << 20), pids: Some(32), cpu: None },
    }
}

/// The names of so many pods.
pub(super) fn names(pods: usize) -> Vec<String> {
    (0..pods).map(|pod| format!("shop-frontend-{pod:05}")).collect()
}

/// The status of pods of these names, of which one in eight waits to be restarted.
pub(super) fn statuses(names: &[String]) -> Statuses<'_> {
    let status = |(pod, name): (i64, _)| {
        let crashed = pod % 8 == 0;
        (name, if crashed { backing_off(pod) } else { running(pod) })
    };
    Entries((0..).zip(names.iter().map(String::as_str)).map(status).collect())
}

fn running(pod: i64) -> Status<'static> {
    Status {
        status: State::Running,
        retries: 0,
        phase: Phase::Running,
        reason: None,
        last_exit: None,
        last_exit_at_ms: None,
        started_at_ms: Some(1_795_000_000_000 + pod),
        retry_in_ms: None,
        generation: 1_000 + pod,
        incarnation: 5_000 + pod,
        host_pid: Some(20_000 + 2 * pod),
        containers: Entries(vec![
            ("web", ContainerStatus { host_pid: Some(20_001 + 2 * pod) }),
            ("metrics", ContainerStatus { host_pid: Some(20_002 + 2 * pod) }),
        ]),
    }
}

fn backing_off(pod: i64) -> Status<'static> {
    Status {
        status: State::BackingOff,
        retries: 3,
        phase: Phase::Waiting,
        reason: Some("container web exited with status 1"),
        last_exit: Some(if pod % 16 == 0 { Exit::Exited(1) } else { Exit::Signaled(9) }),
        last_exit_at_ms: Some(1_795_000_100_000 + pod),
        started_at_ms: Some(1_795_000_000_000 + pod),
        retry_in_ms: Some(20_000),
        generation: 1_000 + pod,
        incarnation: 5_000 + pod,
        host_pid: None,
        containers: Entries(vec![
            ("web", ContainerStatus { host_pid: None }),
            ("metrics", ContainerStatus { host_pid: None }),
        ]),
    }
}
