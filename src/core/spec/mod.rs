//! Pod specs: what a user wants to run, parsed once into types that cannot be
//! wrong.

mod confinement;
mod differences;
mod encode;
mod error;
mod order;
mod parse;
mod signal;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;

pub use confinement::{CapabilityName, Confinement, Seccomp, names_of as capability_names};
pub use error::SpecError;
pub use signal::StopSignal;

/// A name that is safe as a path, a cgroup and a hostname: 1 to 63 bytes of
/// `a-z A-Z 0-9 . _ -`, first and last alphanumeric.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Name(Text);

/// A name's text. A short one, as nearly all are, is in place: comparing and
/// copying names is most of what a pass does, and must not touch other memory.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Text {
    /// Up to `SHORT_BYTES_MAX` bytes, then zeroes.
    Short { length: u8, bytes: [u8; SHORT_BYTES_MAX] },
    /// More than that.
    Long(Arc<str>),
}

/// What makes a name three words long.
const SHORT_BYTES_MAX: usize = 22;

impl Name {
    /// Longest name, in bytes.
    pub const BYTES_MAX: usize = 63;

    /// The name, when it keeps the rule.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let inner = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let ends = bytes.first()?.is_ascii_alphanumeric() && bytes.last()?.is_ascii_alphanumeric();
        (bytes.len() <= Self::BYTES_MAX && ends && bytes.iter().all(inner))
            .then(|| Self(Text::new(text)))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Text::Short { .. } => str::from_utf8(self.0.as_bytes()).expect("names are ASCII"),
            Text::Long(text) => text,
        }
    }
}

impl Text {
    fn new(text: &str) -> Self {
        let mut bytes = [0; SHORT_BYTES_MAX];
        match (bytes.get_mut(..text.len()), u8::try_from(text.len())) {
            (Some(place), Ok(length)) => {
                place.copy_from_slice(text.as_bytes());
                Self::Short { length, bytes }
            }
            _ => Self::Long(text.into()),
        }
    }

    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short { length, bytes } => &bytes[..usize::from(*length)],
            Self::Long(text) => text.as_bytes(),
        }
    }
}

/// By text.
impl Ord for Name {
    fn cmp(&self, other: &Self) -> Ordering {
        match (&self.0, &other.0) {
            // The zeroes after a shorter text are less than any byte of a name.
            (Text::Short { bytes, .. }, Text::Short { bytes: others, .. }) => bytes.cmp(others),
            (one, other) => one.as_bytes().cmp(other.as_bytes()),
        }
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// When a run that ended is followed by another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum RestartPolicy {
    /// After any exit.
    #[default]
    Always,
    /// After an abnormal exit: non-zero, a signal, a failed start.
    OnFailure,
    /// Not at all.
    Never,
}

/// A pod: one or more containers that share a fate and a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodSpec {
    /// The pod's unique name.
    pub name: Name,
    /// At least one that is no sidecar. Names are unique here and in
    /// `init_containers` together.
    pub containers: Vec<ContainerSpec>,
    /// What runs before them, one after the other.
    pub init_containers: Vec<ContainerSpec>,
    /// The pod's network.
    pub network: Network,
    /// What the containers' mounts refer to, unique by name.
    pub volumes: Vec<Volume>,
    /// When a run that ended is followed by another.
    pub restart: RestartPolicy,
    /// Whose users the containers' users are.
    pub userns: Userns,
    /// The OCI runtime that runs the containers, a program's name or its absolute
    /// path; Tank itself when absent.
    pub oci_runtime: Option<String>,
}

/// Whose users a pod's users are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Userns {
    /// The host's.
    #[default]
    Host,
    /// Its own, in a user namespace.
    Auto,
}

impl PodSpec {
    /// Whether a run of this spec can become one of `other` as it is: they differ
    /// in limits of cgroups, in how they are stopped and in the restart policy
    /// alone.
    #[must_use]
    pub fn is_adjustable_to(&self, other: &Self) -> bool {
        let fixed = |spec: &Self| {
            let mut fixed = spec.clone();
            fixed.restart = RestartPolicy::default();
            for container in &mut fixed.containers {
                container.limits = container.limits.of_processes();
                container.stop = Stop::default();
            }
            // They are over by now.
            for container in &mut fixed.init_containers {
                container.limits = Limits::default();
                container.stop = Stop::default();
            }
            fixed
        };
        fixed(self) == fixed(other)
    }

    /// Whether each container has the limits that it has in `other`, a spec of the
    /// same containers, and is stopped as it is there: whoever runs it need not be
    /// told.
    #[must_use]
    pub fn is_run_as(&self, other: &Self) -> bool {
        let told = |container: &ContainerSpec| (container.limits, container.stop.clone());
        self.containers.iter().map(told).eq(other.containers.iter().map(told))
    }

    /// Whether a run by one is a run by the other: all that may differ is what no
    /// runtime hears of, the restart policy.
    #[must_use]
    pub fn is_same_run(&self, other: &Self) -> bool {
        self.is_adjustable_to(other) && self.is_run_as(other)
    }
}

/// One container of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerSpec {
    /// Unique in the pod.
    pub name: Name,
    /// What it runs from.
    pub image: Image,
    /// The program; the image's own when empty.
    pub command: Vec<String>,
    /// Arguments after the command.
    pub args: Vec<String>,
    /// The environment.
    pub env: BTreeMap<String, String>,
    /// Absolute path inside the container.
    pub working_dir: Option<String>,
    /// `user`, `uid`, `user:group` or `uid:gid`.
    pub user: Option<String>,
    /// Volumes, unique by path.
    pub mounts: Vec<Mount>,
    /// Resource limits.
    pub limits: Limits,
    /// Whether the main process has a terminal.
    pub tty: bool,
    /// How far it is kept from the machine.
    pub confinement: Confinement,
    /// Whether it only serves the others: a pod is over when they are.
    pub sidecar: bool,
    /// How it is stopped.
    pub stop: Stop,
    /// Whether a small init is its first process, which reaps and forwards signals.
    pub init: bool,
}

/// How a container is stopped.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stop {
    /// What asks it to end; SIGTERM when absent.
    pub signal: Option<StopSignal>,
    /// Milliseconds from then to the kill, up to a day; the program's own when
    /// absent.
    pub grace_ms: Option<u64>,
    /// A command that runs in it before the signal; none when empty.
    pub pre_stop: Vec<String>,
}

impl Stop {
    /// Longest grace, in milliseconds: a day.
    pub const GRACE_MS_MAX: u64 = 86_400_000;
}

/// Where a container's root file system comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Image {
    /// An OCI image reference.
    Reference(String),
    /// An absolute path to a root file system on the host, never written to.
    Rootfs(String),
}

/// Resource limits; none where absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Memory and swap together; only beside `memory`, and not less.
    pub memory_swap: Option<MemorySwap>,
    /// Number of processes and threads.
    pub pids: Option<u64>,
    /// CPU time.
    pub cpu: Option<CpuLimit>,
    /// The share of CPU time among those that want it, 2 to 262,144; 1,024 is what
    /// a container has without.
    pub cpu_shares: Option<u64>,
    /// Number of open files of a process.
    pub nofile: Option<u64>,
    /// Niceness, -20 to 19.
    pub nice: Option<i32>,
    /// What the kernel adds to its choice of whom to kill for lack of memory, -1,000
    /// to 1,000.
    pub oom_score_adj: Option<i32>,
}

impl Limits {
    /// Those that each process inherits, which nobody can change from outside.
    fn of_processes(self) -> Self {
        let Self { nofile, nice, oom_score_adj, .. } = self;
        Self { nofile, nice, oom_score_adj, ..Self::default() }
    }
}

/// A limit of memory and swap together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemorySwap {
    /// As much swap as there is.
    Unlimited,
    /// Bytes.
    Bytes(u64),
}

/// `quota_us` of CPU time in every `period_us`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuLimit {
    /// Microseconds of CPU time a period.
    pub quota_us: u64,
    /// Length of a period in microseconds.
    pub period_us: u64,
}

/// A volume mounted into a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// A volume of the pod.
    pub volume: Name,
    /// Absolute path inside the container.
    pub path: String,
    /// Whether writes are refused.
    pub read_only: bool,
}

/// What the containers of a pod may mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Unique in the pod.
    pub name: Name,
    /// Where the data lives.
    pub source: VolumeSource,
}

/// Where a volume's data lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeSource {
    /// A directory that Tank owns.
    Managed,
    /// An absolute path on the host: a directory or a file that is there.
    Host(String),
    /// Memory, so many bytes at most, which is gone when the run is.
    Tmpfs(u64),
}

impl VolumeSource {
    /// Bytes of a tmpfs whose size is not given.
    pub const TMPFS_BYTES_DEFAULT: u64 = 64 << 20;
}

/// A pod's network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// A namespace of its own with loopback up.
    None,
    /// The host's.
    Host,
    /// A namespace of its own with these interfaces.
    Interfaces {
        /// Interfaces, unique by name.
        nics: Vec<Nic>,
        /// Name servers.
        dns: Vec<Ipv4Addr>,
    },
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nic {
    /// Unique in the pod.
    pub name: Name,
    /// How it joins the host's network.
    pub mode: NicMode,
    /// The host's interface; `None` chooses one.
    pub parent: Option<String>,
    /// Where its address comes from.
    pub ip: IpSource,
    /// Default route.
    pub gateway: Option<Ipv4Addr>,
}

/// How an interface joins the host's network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NicMode {
    /// Its own MAC address on the parent.
    Macvlan,
    /// A port on a bridge.
    Bridge,
    /// The parent's MAC address.
    Ipvlan,
}

/// Where an interface's address comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IpSource {
    /// A fixed address and prefix length.
    Static(Ipv4Addr, u8),
    /// DHCP.
    Dhcp,
    /// Tank's own allocation from this subnet, in CIDR form.
    Ipam(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pod with an init container, whose containers have these entries besides.
    fn pod(container: &str, init_container: &str) -> PodSpec {
        let text = format!(
            "#{{name => <<\"p\">>, containers => [#{{name => <<\"c\">>, image => <<\"i\">>, \
             {container}}}], init_containers => [#{{name => <<\"b\">>, image => <<\"i\">>, \
             {init_container}}}]}}."
        );
        let terms = erlang_term_format::text::parse_all(&text).expect("a term");
        PodSpec::from_term(&terms[0]).expect("a good pod")
    }

    #[test]
    fn a_run_goes_on_by_other_limits_and_another_way_to_be_stopped() {
        let plain = pod("tty => false", "tty => false");
        for container in [
            "limits => #{memory => 1}",
            "stop_signal => <<\"INT\">>",
            "stop_grace_ms => 1",
            "pre_stop => [<<\"true\">>]",
        ] {
            let other = pod(container, "tty => false");
            assert!(plain.is_adjustable_to(&other), "{container}");
            assert!(!plain.is_run_as(&other), "{container}");
            let over = pod("tty => false", container);
            assert!(plain.is_adjustable_to(&over), "{container}");
            assert!(plain.is_run_as(&over), "an init container is over: {container}");
        }
        for container in ["limits => #{nice => 1}", "init => true", "args => [<<\"a\">>]"] {
            assert!(!plain.is_adjustable_to(&pod(container, "tty => false")), "{container}");
        }
        assert!(!plain.is_adjustable_to(&pod("tty => false", "args => [<<\"a\">>]")));
    }

    #[test]
    fn names_of_any_length_keep_their_text_and_its_order() {
        let texts: Vec<String> = (1..=Name::BYTES_MAX)
            .flat_map(|length| ["0", "a", "aB", "Z9", "a-b"].map(|text| text.repeat(length)))
            .filter(|text| text.len() <= Name::BYTES_MAX)
            .collect();
        let names: Vec<Name> = texts.iter().map(|text| Name::new(text).expect(text)).collect();
        for (text, name) in texts.iter().zip(&names) {
            assert_eq!(name.as_str(), text);
            for (other_text, other) in texts.iter().zip(&names) {
                assert_eq!(name.cmp(other), text.cmp(other_text), "{text} {other_text}");
                assert_eq!(name == other, text == other_text);
            }
        }
    }
}
