//! The words that the daemon and a shim exchange (`docs/shim-protocol.md`), and
//! the names of the files through which they meet. Types only: framing is
//! [`crate::frame`]'s, and meaning is the supervisor's.

use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The version of this protocol.
pub const PROTOCOL: u32 = 1;

/// The oldest version whose other side this one gets on with.
pub const PROTOCOL_MIN: u32 = 1;

/// The socket in the run directory on which a shim listens.
pub const SOCKET_FILE: &str = "shim.sock";

/// Where in the run directory volumes in memory are mounted, by name.
pub const TMPFS_DIR: &str = "tmpfs";

/// The overlay of a container's root filesystem, as its OCI runtime is to name it:
/// relative to the bundle.
pub const OCI_ROOT_DIR: &str = "root";

/// The cgroup that an OCI runtime is to make in a container's own: no file of the
/// kernel's there has that name.
pub const OCI_CGROUP: &str = "runtime.container";

/// The directory in the run directory in which each container has one.
pub const CONTAINERS_DIR: &str = "containers";

/// What a shim is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToShim {
    /// Launch the pod; once in a shim's life.
    Launch(Box<Launch>),
    /// Stop each container as its `stop` says: sidecars once the others are dead.
    Stop(Stop),
    /// Kill everything now.
    Kill,
    /// Change what can be changed of containers that live. Answered by `adjusted`.
    Adjust(Adjust),
    /// Stop by itself later, with nobody left to ask; `None` takes it back.
    RunUntil(Option<RunUntil>),
    /// What a connection's end means, until another is told; to `None`, nothing.
    OnHangup(Option<OnHangup>),
}

/// What a shim tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromShim {
    /// First on each connection.
    Hello(Hello),
    /// Every container that is to go on has been exec'd.
    Launched(Launched),
    /// The launch failed and everything is undone; the shim exits.
    Failed(Failure),
    /// A stop has begun.
    Stopping(Stopping),
    /// A container's `pre_stop` could not be run to success. Its stop goes on.
    PreStopFailed(PreStopFailed),
    /// All is adjusted; or not all of it, and this is why.
    Adjusted(Option<Failure>),
    /// The pod is over and everything of it is gone; the shim exits. The same
    /// term is in the exit file. Before `launched`, an init container has failed.
    Exited(ExitRecord),
}

/// A pod to launch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Launch {
    /// The pod's name, for the record.
    pub pod: String,
    /// The run's number, for the record.
    pub incarnation: u64,
    /// The hostname inside.
    pub hostname: String,
    /// What network the pod sees.
    pub network: Network,
    /// Cgroups the shim itself moves to. They exist already.
    pub shim_cgroups: Vec<ShimCgroup>,
    /// Cgroups above those of the containers, made in this order and removed at
    /// the end.
    #[serde(default)]
    pub cgroups: Vec<PodCgroup>,
    /// What containers may mount, unique by name.
    #[serde(default)]
    pub volumes: Vec<Volume>,
    /// Whose users the containers' are; the host's own when absent.
    #[serde(default)]
    pub user_namespace: Option<UserNamespace>,
    /// The containers, unique by name.
    pub containers: Vec<Container>,
}

/// A cgroup that only holds others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PodCgroup {
    /// Absolute path of a directory whose parent exists.
    pub path: String,
    /// Files in it and what to write to them, in this order.
    pub files: Vec<(String, String)>,
}

/// What network a pod sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// A namespace of its own in which only the loopback device is up.
    None,
    /// The host's.
    Host,
}

/// Users of the host's that a pod's are: inside they are numbered from 0 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserNamespace {
    /// What is 0 inside, of users and of groups. Never 0 itself.
    pub first_id: u32,
    /// How many there are.
    pub count: u32,
}

impl UserNamespace {
    /// The host's id of one inside. One that is not inside is nobody's: no file
    /// can belong to it.
    #[must_use]
    pub fn host_id(&self, id: u32) -> u32 {
        const NOBODY: u32 = 65_534;
        let last = self.count.saturating_sub(1);
        self.first_id.saturating_add(if id > last { NOBODY.min(last) } else { id })
    }
}

/// What containers may mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// The volume's name.
    pub name: String,
    /// Where it is.
    pub source: VolumeSource,
}

/// Where a volume is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeSource {
    /// At an absolute path of the host, with all that is mounted below it.
    Path(String),
    /// The same, to be a container's user's.
    Owned(OwnedDir),
    /// In memory, this many bytes at most.
    Tmpfs(u64),
}

/// A directory that is given to a user as long as it is root's and empty. For who
/// starts a shim without root, and cannot give it to anybody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnedDir {
    /// Its absolute path on the host.
    pub path: String,
    /// The user, as in the container.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

/// A container to launch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Container {
    /// The container's name: one part of a path.
    pub name: String,
    /// What it is to the others.
    #[serde(default)]
    pub role: Role,
    /// Absolute path of the root filesystem, which is never written to.
    pub rootfs: String,
    /// The command; its first element has a slash or is looked up in `PATH`.
    pub argv: Vec<String>,
    /// The whole environment, each `KEY=value`.
    pub env: Vec<String>,
    /// Absolute path inside; made when missing.
    pub working_dir: String,
    /// The user's id.
    pub uid: u32,
    /// The group's id.
    pub gid: u32,
    /// Further groups' ids.
    #[serde(default)]
    pub groups: Vec<u32>,
    /// Limit of open files, soft and hard; as the shim's when absent, as are the
    /// next two.
    #[serde(default)]
    pub nofile: Option<u64>,
    /// Niceness, -20 to 19.
    #[serde(default)]
    pub nice: Option<i32>,
    /// `oom_score_adj`, -1,000 to 1,000.
    #[serde(default)]
    pub oom_score_adj: Option<i32>,
    /// Files below `/etc` that the container finds there instead of the root
    /// filesystem's: names and contents.
    #[serde(default)]
    pub etc: Vec<(String, String)>,
    /// Volumes to mount, in this order.
    #[serde(default)]
    pub mounts: Vec<Mount>,
    /// Cgroups to make and join, in this order.
    pub cgroups: Vec<Cgroup>,
    /// Where output goes.
    pub log: Log,
    /// How it is stopped.
    #[serde(default)]
    pub stop: StopPlan,
    /// The capabilities that it may have, a bit for each; docker's when absent.
    #[serde(default = "default_capabilities")]
    pub capabilities: u64,
    /// What it may ask of the kernel; anything when absent.
    #[serde(default)]
    pub seccomp: Option<Seccomp>,
    /// Whether an init is its first process, which reaps and hands signals on.
    #[serde(default)]
    pub init: bool,
    /// Whether its standard streams are a terminal.
    #[serde(default)]
    pub tty: bool,
    /// Whether its root is for reading only.
    #[serde(default)]
    pub read_only: bool,
    /// Whether it sees and changes all of the kernel that the namespaces leave:
    /// nothing is masked or protected, and devices can be made and opened.
    #[serde(default)]
    pub privileged: bool,
    /// Who is to launch it instead of the shim. Then all that is inside is as the
    /// runtime's configuration says: the shim makes the overlay and what is outside.
    #[serde(default)]
    pub oci: Option<OciRuntime>,
}

/// An OCI runtime, and what it is to make of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OciRuntime {
    /// Absolute path of a program with the command line of `runc`.
    pub program: String,
    /// The bundle's `config.json`. Its root is [`OCI_ROOT_DIR`], its cgroup
    /// [`OCI_CGROUP`].
    pub config: String,
}

impl Container {
    /// A container with the least that one has: it runs a command as root.
    #[must_use]
    pub fn new(name: &str, rootfs: &str, argv: Vec<String>, log: Log) -> Self {
        Self {
            name: name.to_owned(),
            role: Role::Main,
            rootfs: rootfs.to_owned(),
            argv,
            env: Vec::new(),
            working_dir: "/".to_owned(),
            uid: 0,
            gid: 0,
            groups: Vec::new(),
            nofile: None,
            nice: None,
            oom_score_adj: None,
            etc: Vec::new(),
            mounts: Vec::new(),
            cgroups: Vec::new(),
            log,
            stop: StopPlan::default(),
            capabilities: DEFAULT_CAPABILITIES,
            seccomp: None,
            init: false,
            tty: false,
            read_only: false,
            privileged: false,
            oci: None,
        }
    }
}

/// What a container is to the others of its pod, in the order in which they are
/// launched.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Runs alone, and to success, before the next one is launched.
    Init,
    /// Is there before the main ones, and until they are dead.
    Sidecar,
    /// What the pod is for.
    #[default]
    Main,
}

/// How a container is stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StopPlan {
    /// The signal for the first process.
    pub signal: i32,
    /// How long it may take from when the stop was asked for until it is killed.
    pub grace_ms: u64,
    /// A command to run in the container before the signal; none when empty.
    #[serde(default)]
    pub pre_stop: Vec<String>,
}

/// SIGTERM, and ten seconds.
impl Default for StopPlan {
    fn default() -> Self {
        Self { signal: 15, grace_ms: 10_000, pre_stop: Vec::new() }
    }
}

/// What docker leaves to a container by default: CHOWN, DAC_OVERRIDE, FOWNER,
/// FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, NET_RAW, SYS_CHROOT,
/// MKNOD, AUDIT_WRITE and SETFCAP.
pub const DEFAULT_CAPABILITIES: u64 = 0xa804_25fb;

fn default_capabilities() -> u64 {
    DEFAULT_CAPABILITIES
}

/// A program for seccomp(2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seccomp {
    /// `SECCOMP_FILTER_FLAG_*`.
    pub flags: u32,
    /// Instructions of 8 bytes each, in this machine's byte order.
    pub program: Bytes,
}

/// Bytes that are a binary on the wire.
#[derive(Clone, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

/// How many there are.
impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyBytes;
        impl Visitor<'_> for AnyBytes {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a binary")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }
        }
        deserializer.deserialize_bytes(AnyBytes)
    }
}

/// A volume mounted into a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// The name of a volume of the pod.
    pub volume: String,
    /// Absolute path inside; what is missing of it is made.
    pub path: String,
    /// Whether writes are refused.
    pub read_only: bool,
}

/// A cgroup to make, limit and join. Removed at the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cgroup {
    /// Absolute path of a directory whose parent exists.
    pub path: String,
    /// Files in it and what to write to them, in this order.
    pub files: Vec<(String, String)>,
    /// How the container's first process joins.
    pub join: Join,
}

/// A cgroup that exists, for the shim itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShimCgroup {
    /// Absolute path.
    pub path: String,
    /// How to join; by `clone` it was born there, as its second argument says.
    pub join: Join,
}

/// How a process joins a cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Join {
    /// By writing to `tasks` (version 1 only): at once, for a single thread.
    Tasks,
    /// By writing to `cgroup.procs`: waits 10 to 20 ms for the kernel when the
    /// machine is idle.
    Procs,
    /// By being born in it (version 2 only, one cgroup at most).
    Clone,
}

/// A log file that takes output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// Absolute path; its directory exists.
    pub path: String,
    /// Size at which the file becomes `path.1` and a new one is begun.
    pub bytes_max: u64,
}

/// An orderly stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stop {
    /// When it was asked for, from which graces count: boot clock, milliseconds.
    pub asked_at_ms: u64,
}

/// A stop that has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopping {
    /// When all are dead at the latest, by all their graces: boot clock, milliseconds.
    pub dead_by_ms: u64,
}

/// A `pre_stop` that did not help.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreStopFailed {
    /// The container's name.
    pub container: String,
    /// How: `exited with status 1`.
    pub message: String,
}

/// A stop that is due later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunUntil {
    /// When to begin to stop: boot clock, milliseconds.
    pub at_ms: u64,
}

/// A stop that is due when nobody comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OnHangup {
    /// How long after the connection's end to begin to stop, in milliseconds. A new
    /// connection in that time takes it back.
    pub stop_after_ms: u64,
}

/// What changes of a pod that lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adjust {
    /// Files of the pod's own cgroups, in this order.
    pub cgroups: Vec<PodCgroup>,
    /// What changes of its containers.
    pub containers: Vec<Adjustment>,
}

/// What changes of a container that lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adjustment {
    /// The container's name.
    pub container: String,
    /// Files of cgroups that its launch has made, in this order.
    pub cgroups: Vec<Cgroup>,
    /// How it is stopped from now on.
    pub stop: StopPlan,
}

/// A shim's greeting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// [`PROTOCOL_MIN`]; the same as `protocol` when absent.
    #[serde(default)]
    pub protocol_min: Option<u32>,
    /// The shim's pid on the host.
    pub pid: i32,
    /// What it does.
    pub state: State,
}

/// What a shim does, as it says in its greeting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It waits for a launch.
    Idle,
    /// A launch was asked for; `launched` or `failed` follows.
    Launching(LaunchingRun),
    /// The workload lives; `exited` follows.
    Running(RunningRun),
    /// The workload is over, its record is written; `exited` follows.
    Exited(ExitRecord),
}

/// A run that is being launched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchingRun {
    /// The pod's name.
    pub pod: String,
    /// The run's number.
    pub incarnation: u64,
}

/// A run whose containers live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningRun {
    /// The pod's name.
    pub pod: String,
    /// The run's number.
    pub incarnation: u64,
    /// When the last of them had been exec'd: boot clock, milliseconds.
    pub launched_at_ms: u64,
    /// Its containers but for those that have done their part.
    pub containers: Vec<RunningContainer>,
    /// Whether it has been asked to stop, by whomever, and does.
    #[serde(default)]
    pub is_stopping: bool,
}

/// Containers that have been exec'd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launched {
    /// When the last of them had been: boot clock, milliseconds.
    pub at_ms: u64,
    /// In the order of the launch, but for those that have done their part.
    pub containers: Vec<RunningContainer>,
}

/// A container that has been exec'd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningContainer {
    /// Its name.
    pub name: String,
    /// What it is to the others.
    pub role: Role,
    /// Its first process's pid on the host.
    pub host_pid: i32,
}

/// How a workload ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// With this status.
    Exited(i32),
    /// By this signal.
    Signaled(i32),
    /// By the kernel, which kills for lack of memory: in the container's cgroup, or
    /// on the machine.
    OutOfMemory,
}

/// What remains of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// The pod's name.
    pub pod: String,
    /// The run's number.
    pub incarnation: u64,
    /// The container whose end was the pod's.
    pub container: String,
    /// What it was to the others.
    pub role: Role,
    /// Whether the pod has no other.
    pub is_alone: bool,
    /// How it ended.
    pub exit: Exit,
    /// Whether it had been asked to stop by then: whoever did knows what follows.
    pub is_asked: bool,
    /// When all that were to go on had been exec'd, if they ever were: boot clock,
    /// milliseconds.
    pub launched_at_ms: Option<u64>,
    /// When it ended, on the same clock.
    pub ended_at_ms: u64,
}

/// A launch that failed: step, object and errno.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Whose, where it is one container's.
    #[serde(default)]
    pub container: Option<String>,
    /// What was being done.
    pub step: Step,
    /// To what: a path, most often.
    pub object: String,
    /// The operating system's error number; 0 where another program failed.
    pub errno: i32,
    /// All three for a reader: `mount overlay on /run/web/root: no space left on device`.
    pub message: String,
}

/// Makes the enum, its list and its phrases from one table.
macro_rules! steps {
    ($($(#[$doc:meta])* $name:ident => $phrase:literal,)*) => {
        /// The steps of a launch. The set is closed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[repr(u8)]
        pub enum Step { $($(#[$doc])* $name,)* }

        impl Step {
            /// Every step, in the order of a launch.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// What goes before the object in a message.
            #[must_use]
            pub fn phrase(self) -> &'static str {
                match self { $(Self::$name => $phrase,)* }
            }
        }
    };
}

steps! {
    /// The shim could not begin a user namespace of its own.
    MakeUserNamespace => "make a user namespace",
    /// The shim's user namespace could not be given its ids.
    MapIds => "map ids",
    /// The shim could not begin a pid namespace of its own.
    EnterPidNamespace => "enter a pid namespace",
    /// A string has a NUL byte, a list is empty, or a name is none; or it cannot be known
    /// what there is.
    CheckContainer => "check",
    /// The pod's own namespaces cannot be made.
    MakeNamespaces => "make namespaces for",
    /// The pod's users cannot be those of the host that they are to be.
    MapUsers => "map the users of",
    /// The hostname cannot be set.
    SetHostname => "set hostname",
    /// The loopback device cannot be brought up.
    RaiseLoopback => "bring up",
    /// A setting of the pod's network cannot be written.
    SetUpNetwork => "write network setting",
    /// A tmpfs cannot be made.
    MakeTmpfs => "make tmpfs for",
    /// The root filesystem cannot be opened as a directory.
    OpenRootfs => "open root filesystem",
    /// A directory of the overlay cannot be made in the run directory.
    MakeDirectory => "make directory",
    /// A file of the container's `/etc` cannot be written.
    WriteEtcFile => "write",
    /// The log file cannot be opened.
    OpenLog => "open log",
    /// A pipe cannot be made.
    MakePipe => "make pipe for",
    /// The shim cannot move to its own cgroup.
    JoinShimCgroup => "move the shim to cgroup",
    /// A cgroup cannot be made.
    MakeCgroup => "make cgroup",
    /// The kernel refuses a limit.
    WriteCgroupLimit => "write cgroup limit",
    /// The kernel makes no process, or not in that cgroup.
    Clone => "clone a process into",
    /// The container's first process cannot join a cgroup.
    JoinCgroup => "join cgroup",
    /// The kernel refuses a limit of the first process itself.
    LimitProcess => "set",
    /// The first process cannot begin a session.
    BeginSession => "begin a session for",
    /// The first process cannot leave the host's session keyring.
    LeaveKeyring => "leave the session keyring for",
    /// No cgroup namespace can be made.
    EnterCgroupNamespace => "enter a cgroup namespace for",
    /// Mounts cannot be made private.
    MakeMountsPrivate => "make mounts private below",
    /// What is to be mounted cannot be opened.
    OpenVolume => "open volume",
    /// The files of what is to be mounted cannot belong to the pod's own users.
    MapVolume => "map the users of volume",
    /// The same of the root filesystem's.
    MapRootfs => "map the users of root filesystem",
    /// The overlay cannot be mounted.
    MountOverlay => "mount overlay on",
    /// The OCI runtime's own view of the cgroups cannot be mounted.
    MountCgroups => "mount cgroups on",
    /// The OCI runtime's bundle cannot be written.
    WriteBundle => "write",
    /// The OCI runtime cannot be executed, or it fails.
    RunOciRuntime => "run",
    /// The first process cannot become one of the pod's own users.
    EnterUserNamespace => "enter the user namespace for",
    /// The root cannot be changed to the overlay.
    PivotRoot => "pivot root to",
    /// `/proc` cannot be mounted.
    MountProc => "mount proc on",
    /// `/dev` or something below it cannot be mounted or made.
    MountDev => "set up",
    /// `/sys` cannot be mounted.
    MountSys => "mount sysfs on",
    /// A path cannot be hidden.
    MaskPath => "mask",
    /// A path cannot be made read-only.
    ProtectPath => "make read-only",
    /// The host's root cannot be detached.
    DetachHostRoot => "detach the host's root from",
    /// The place of a mount can be neither found nor made in the root.
    MakeMountTarget => "make mount target",
    /// A volume cannot be mounted.
    MountVolume => "mount volume on",
    /// A further process cannot enter the namespaces of a container that lives.
    EnterContainer => "enter the namespaces of",
    /// The terminal cannot be made.
    SetUpTerminal => "set up the terminal on",
    /// Standard input, output or error cannot be set up.
    SetUpStdio => "set up",
    /// The working directory cannot be made.
    MakeWorkingDir => "make working directory",
    /// The working directory cannot be entered.
    EnterWorkingDir => "enter working directory",
    /// The root cannot be made read-only.
    ProtectRoot => "make read-only",
    /// Capabilities cannot be reduced.
    DropCapabilities => "drop capabilities for",
    /// The user or group cannot be set.
    SetUser => "become user",
    /// No new privileges cannot be promised.
    ForbidNewPrivileges => "forbid new privileges for",
    /// Others in the container cannot be kept from looking into a process of Tank's.
    ForbidLooks => "keep others from looking into",
    /// The signals of an init and its workload cannot be set.
    SetSignals => "set the signals of",
    /// The kernel refuses the seccomp program.
    InstallSeccomp => "install the seccomp program for",
    /// The command's interpreter (a script's `#!` or a program's loader) is missing.
    FindInterpreter => "find the interpreter of",
    /// The command cannot be executed.
    Exec => "exec",
}

impl Failure {
    /// A failure with its message made.
    #[must_use]
    pub fn new(step: Step, object: impl Into<String>, errno: i32) -> Self {
        let object = object.into();
        let message = format!("{} {object}: {}", step.phrase(), os_words(errno));
        Self { container: None, step, object, errno, message }
    }

    /// A failure of which another program tells in its own words.
    #[must_use]
    pub fn in_words(step: Step, object: impl Into<String>, words: &str) -> Self {
        let object = object.into();
        let message = format!("{} {object}: {words}", step.phrase());
        Self { container: None, step, object, errno: 0, message }
    }

    /// The same of a container.
    #[must_use]
    pub fn of(self, container: &str) -> Self {
        Self { container: Some(container.to_owned()), ..self }
    }
}

/// The operating system's own words for an error number, lower case.
fn os_words(errno: i32) -> String {
    let text = std::io::Error::from_raw_os_error(errno).to_string();
    let words = text.split(" (os error").next().unwrap_or_default();
    let mut chars = words.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_speaks_in_the_systems_words() {
        let failure = Failure::new(Step::MountOverlay, "/run/web/root", libc::ENOSPC);
        assert_eq!(failure.message, "mount overlay on /run/web/root: no space left on device");
    }

    /// What a message is on the wire, as Erlang writes it.
    fn on_the_wire<T: Serialize>(message: &T) -> String {
        erlang_term_format::to_term(message).unwrap().to_string()
    }

    #[test]
    fn messages_have_the_shape_that_is_documented() {
        let stop = Stop { asked_at_ms: 9 };
        let run_until = RunUntil { at_ms: 8 };
        let run = || LaunchingRun { pod: "web".into(), incarnation: 7 };
        let state = State::Launching(run());
        let hello = Hello { protocol: 1, protocol_min: Some(1), pid: 5, state };
        let exit = Exit::Signaled(9);
        let record = ExitRecord {
            pod: "web".into(),
            incarnation: 7,
            container: "app".into(),
            role: Role::Main,
            is_alone: true,
            exit,
            is_asked: false,
            launched_at_ms: Some(1),
            ended_at_ms: 2,
        };
        let containers =
            vec![RunningContainer { name: "app".into(), role: Role::Main, host_pid: 3 }];
        let wire = [
            on_the_wire(&ToShim::Kill),
            on_the_wire(&ToShim::Stop(stop)),
            on_the_wire(&ToShim::RunUntil(None)),
            on_the_wire(&ToShim::RunUntil(Some(run_until))),
            on_the_wire(&ToShim::OnHangup(None)),
            on_the_wire(&ToShim::OnHangup(Some(OnHangup { stop_after_ms: 6 }))),
            on_the_wire(&FromShim::Hello(hello)),
            on_the_wire(&State::Idle),
            on_the_wire(&FromShim::Launched(Launched { at_ms: 4, containers })),
            on_the_wire(&FromShim::Exited(record)),
            on_the_wire(&Step::OpenRootfs),
        ];
        assert_eq!(
            wire,
            [
                "kill",
                "{stop,#{asked_at_ms => 9}}",
                "{run_until,nil}",
                "{run_until,#{at_ms => 8}}",
                "{on_hangup,nil}",
                "{on_hangup,#{stop_after_ms => 6}}",
                "{hello,#{protocol => 1,protocol_min => 1,pid => 5,state => {launching,#{pod => <<\"web\">>,incarnation => 7}}}}",
                "idle",
                "{launched,#{at_ms => 4,containers => [#{name => <<\"app\">>,role => main,host_pid => 3}]}}",
                "{exited,#{pod => <<\"web\">>,incarnation => 7,container => <<\"app\">>,role => main,is_alone => true,exit => {signaled,9},is_asked => false,launched_at_ms => 1,ended_at_ms => 2}}",
                "open_rootfs",
            ]
        );
    }

    #[test]
    fn a_seccomp_program_is_a_binary_and_comes_back() {
        let seccomp = Seccomp { flags: 2, program: Bytes(vec![6, 0, 0, 0, 0, 0, 255, 127]) };
        let frame = erlang_term_format::to_vec(&seccomp).unwrap();
        let term = erlang_term_format::decode(&frame).unwrap();
        assert_eq!(
            term.get("program").and_then(|program| program.as_bytes()),
            Some(&*seccomp.program.0)
        );
        assert_eq!(erlang_term_format::from_slice::<Seccomp>(&frame).unwrap(), seccomp);
    }

    #[test]
    fn a_step_is_found_by_its_number() {
        for (number, step) in Step::ALL.iter().enumerate() {
            assert_eq!(*step as usize, number);
        }
    }
}
