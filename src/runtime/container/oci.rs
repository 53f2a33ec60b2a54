//! What an OCI runtime is told of a container: the `config.json` of its bundle
//! (OCI runtime specification 1.0.2), by which the inside becomes what the shim's
//! own launcher makes of the same container. Pure, but for looking for the program.
//!
//! What is outside stays the shim's: the pod's own namespaces, in which the runtime
//! is run, limits, which it inherits, and the overlay.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::StatVfsMountFlags;
use serde_json::{Value, json};
use tank_seccomp::Profile;
use tank_shim::protocol::{
    Container, Mount, OCI_CGROUP, OCI_ROOT_DIR, OwnedDir, TMPFS_DIR, Volume, VolumeSource,
};

use crate::core::spec::{CapabilityName, capability_names};

/// Bound from the host: nodes of a container's own would need a `/dev` on which
/// any device can be opened.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// The shim's list, which is docker's.
const MASKED: [&str; 11] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// The shim's list, which is docker's.
const PROTECTED: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The absolute path of a runtime that is named by one or is looked for in `path`.
///
/// # Errors
/// That there is none, in a line.
pub(super) fn program(name: &str, path: &OsStr) -> Result<String, String> {
    if name.starts_with('/') {
        let is_one = is_program(Path::new(name));
        return is_one.then(|| name.to_owned()).ok_or(format!("oci_runtime {name}: no program"));
    }
    std::env::split_paths(path)
        .map(|dir| dir.join(name))
        .find(|path| path.is_absolute() && is_program(path))
        .map(|path| path.display().to_string())
        .ok_or(format!("oci_runtime {name}: no such program in PATH"))
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
}

/// A volume as the host has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    volume: String,
    path: String,
    is_file: bool,
    /// What is so on the host, and would not be in a container: some runtimes mount
    /// with the options that they are given and no others.
    kept: Vec<&'static str>,
}

/// Looks at the volumes of a pod whose run directory this is. A file system may
/// take its time.
pub(super) fn sources(volumes: &[Volume], run_dir: &Path) -> Vec<Source> {
    let source = |volume: &Volume| match &volume.source {
        VolumeSource::Path(path) | VolumeSource::Owned(OwnedDir { path, .. }) => Source {
            volume: volume.name.clone(),
            path: path.clone(),
            is_file: Path::new(path).is_file(),
            kept: kept(Path::new(path)),
        },
        VolumeSource::Tmpfs(_) => Source {
            volume: volume.name.clone(),
            path: run_dir.join(TMPFS_DIR).join(&volume.name).display().to_string(),
            is_file: false,
            kept: vec!["noexec"],
        },
    };
    volumes.iter().map(source).collect()
}

/// Of a path that is yet to be made, what its parents have.
fn kept(path: &Path) -> Vec<&'static str> {
    let flags = path.ancestors().find_map(|path| rustix::fs::statvfs(path).ok());
    let flags = flags.map_or(StatVfsMountFlags::empty(), |about| about.f_flag);
    let known = [
        (StatVfsMountFlags::RDONLY, "ro"),
        (StatVfsMountFlags::NODEV, "nodev"),
        (StatVfsMountFlags::NOEXEC, "noexec"),
    ];
    known.into_iter().filter(|(flag, _)| flags.contains(*flag)).map(|(_, option)| option).collect()
}

/// What a runtime is run in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setting<'a> {
    /// The pod's volumes.
    pub(super) sources: &'a [Source],
    /// The profile for this container.
    pub(super) seccomp: Option<&'a Profile>,
    /// The capabilities that runtimes have.
    pub(super) available: u64,
}

impl Setting<'_> {
    /// Whether a runtime can keep a container from devices. For that it lifts a
    /// limit of its own (`RLIMIT_MEMLOCK`), as kernels before 5.11 have wanted it.
    fn can_deny_devices(&self) -> bool {
        self.available & capability("SYS_RESOURCE") != 0
    }

    /// What a container may have: not MKNOD where devices cannot be denied, since
    /// crun drops the flag from the root by which no device is opened in it.
    pub(super) fn capabilities(&self, container: &Container) -> u64 {
        let is_safe = container.privileged || self.can_deny_devices();
        let dropped = if is_safe { 0 } else { capability("MKNOD") };
        container.capabilities & !dropped
    }
}

fn capability(name: &str) -> u64 {
    CapabilityName::new(name).map_or(0, CapabilityName::bits)
}

/// The configuration for a container.
pub(super) fn config(container: &Container, setting: &Setting<'_>) -> Value {
    json!({
        "ociVersion": "1.0.2",
        "root": {"path": OCI_ROOT_DIR, "readonly": container.read_only},
        "process": process(container, setting),
        "mounts": mounts(container, setting),
        "linux": linux(container, setting),
    })
}

fn process(container: &Container, setting: &Setting<'_>) -> Value {
    let capabilities: Vec<String> = capability_names(setting.capabilities(container)).collect();
    let mut process = json!({
        "terminal": false,
        "user": {
            "uid": container.uid,
            "gid": container.gid,
            "additionalGids": container.groups,
        },
        "args": container.argv,
        "env": container.env,
        "cwd": container.working_dir,
        "noNewPrivileges": true,
        // Of a user who is not root, exec leaves those that bound it.
        "capabilities": {
            "bounding": capabilities,
            "effective": capabilities,
            "permitted": capabilities,
        },
    });
    if let Some(nofile) = container.nofile {
        process["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "hard": nofile, "soft": nofile}]);
    }
    if let Some(adj) = container.oom_score_adj {
        process["oomScoreAdj"] = json!(adj);
    }
    process
}

/// In the order in which they are made.
fn mounts(container: &Container, setting: &Setting<'_>) -> Vec<Value> {
    let bind = |name: &str| {
        let path = format!("/dev/{name}");
        mount(&path, "bind", &path, &["bind", "nosuid", "noexec"])
    };
    let devices = DEVICES.iter().map(|name| bind(name));
    let volumes = container.mounts.iter().filter_map(|mount| {
        let source = setting.sources.iter().find(|source| source.volume == mount.volume)?;
        Some(volume_mount(container, mount, source))
    });
    kernel_mounts(container).into_iter().chain(devices).chain(dev_mounts()).chain(volumes).collect()
}

fn kernel_mounts(container: &Container) -> [Value; 3] {
    let (writable, no_devices) = if container.privileged { ("rw", "dev") } else { ("ro", "nodev") };
    [
        mount("/proc", "proc", "proc", &["nosuid", "nodev", "noexec"]),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "nodev", "noexec", writable]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "noexec", no_devices, "mode=755", "size=64k"]),
    ]
}

fn dev_mounts() -> [Value; 3] {
    let pts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"];
    let shm = ["nosuid", "nodev", "noexec", "mode=1777", "size=64m"];
    [
        mount("/dev/pts", "devpts", "devpts", &pts),
        mount("/dev/shm", "tmpfs", "shm", &shm),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "nodev", "noexec"]),
    ]
}

/// What must hold for all that is mounted below has options of its own.
fn volume_mount(container: &Container, wanted: &Mount, source: &Source) -> Value {
    let optional = [
        (true, ["nosuid", "rnosuid"]),
        (!container.privileged, ["nodev", "rnodev"]),
        (wanted.read_only, ["ro", "rro"]),
    ];
    let one_or_both = if source.is_file { 1 } else { 2 };
    let asked = optional.iter().filter(|(is_asked, _)| *is_asked);
    let asked = asked.flat_map(|(_, options)| &options[..one_or_both]).copied();
    let bind = if source.is_file { "bind" } else { "rbind" };
    let options: Vec<&str> =
        [bind, "rprivate"].into_iter().chain(asked).chain(source.kept.iter().copied()).collect();
    mount(&wanted.path, "bind", &source.path, &options)
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Value {
    json!({"destination": destination, "type": kind, "source": source, "options": options})
}

fn linux(container: &Container, setting: &Setting<'_>) -> Value {
    let (masked, protected) =
        if container.privileged { (&[][..], &[][..]) } else { (&MASKED[..], &PROTECTED[..]) };
    let has_devices = container.privileged || !setting.can_deny_devices();
    let mut linux = json!({
        // Those of the pod are there already.
        "namespaces": [{"type": "mount"}, {"type": "pid"}, {"type": "cgroup"}],
        // In the container's own group, which is the root of what the runtime sees; the
        // shim knows it, too.
        "cgroupsPath": format!("/{OCI_CGROUP}"),
        // Runtimes add the devices that every container has.
        "resources": {"devices": [{"allow": has_devices, "access": "rwm"}]},
        "maskedPaths": masked,
        "readonlyPaths": protected,
    });
    if let Some(profile) = setting.seccomp {
        linux["seccomp"] = json!(profile);
    }
    linux
}

#[cfg(test)]
mod tests {
    use super::*;
    use tank_shim::protocol::{DEFAULT_CAPABILITIES, Log};

    fn container() -> Container {
        let log = Log { path: "/log".into(), bytes_max: 1 };
        Container::new("app", "/rootfs", vec!["true".into()], log)
    }

    fn made(container: &Container) -> Value {
        made_with(container, u64::MAX)
    }

    fn made_with(container: &Container, available: u64) -> Value {
        let source = |volume: &str, is_file| Source {
            volume: volume.into(),
            path: format!("/srv/{volume}"),
            is_file,
            kept: vec!["noexec"],
        };
        let sources = [source("data", false), source("file", true)];
        let profile = Profile::default();
        config(container, &Setting { sources: &sources, seccomp: Some(&profile), available })
    }

    fn mounted<'a>(config: &'a Value, at: &str) -> &'a Value {
        let mounts = config["mounts"].as_array().expect("a list");
        mounts.iter().find(|mount| mount["destination"] == at).expect(at)
    }

    #[test]
    fn a_container_has_what_the_shim_would_give_it() {
        let made = made(&container());
        assert_eq!(made["root"], json!({"path": "root", "readonly": false}));
        assert_eq!(made["process"]["noNewPrivileges"], true);
        let bounding = made["process"]["capabilities"]["bounding"].as_array().expect("a list");
        assert_eq!(bounding.len(), 14);
        assert_eq!(bounding[0], "CAP_CHOWN");
        assert_eq!(made["process"].get("rlimits"), None);
        assert_eq!(made["process"].get("oomScoreAdj"), None);
        assert_eq!(made["linux"]["resources"]["devices"][0]["allow"], false);
        assert_eq!(made["linux"]["seccomp"]["defaultAction"], "SCMP_ACT_ERRNO");
        assert_eq!(made["linux"]["maskedPaths"].as_array().expect("a list").len(), 11);
        assert_eq!(mounted(&made, "/sys")["options"], json!(["nosuid", "nodev", "noexec", "ro"]));
    }

    #[test]
    fn who_cannot_be_kept_from_devices_makes_none() {
        let made = made_with(&container(), DEFAULT_CAPABILITIES);
        let bounding = made["process"]["capabilities"]["bounding"].as_array().expect("a list");
        assert_eq!(bounding.len(), 13);
        assert!(!bounding.contains(&json!("CAP_MKNOD")));
        assert_eq!(made["linux"]["resources"]["devices"][0]["allow"], true);
    }

    #[test]
    fn a_pods_own_namespaces_are_not_made_again() {
        let made = made(&container());
        let kinds = made["linux"]["namespaces"].as_array().expect("a list");
        let kinds: Vec<&Value> = kinds.iter().map(|namespace| &namespace["type"]).collect();
        assert_eq!(kinds, ["mount", "pid", "cgroup"]);
        assert_eq!(made.get("hostname"), None);
    }

    #[test]
    fn limits_of_a_process_are_the_runtimes_to_set() {
        let limited = Container { nofile: Some(64), oom_score_adj: Some(-5), ..container() };
        let process = &made(&limited)["process"];
        let nofile = json!([{"type": "RLIMIT_NOFILE", "hard": 64, "soft": 64}]);
        assert_eq!((&process["rlimits"], &process["oomScoreAdj"]), (&nofile, &json!(-5)));
    }

    #[test]
    fn volumes_come_last_and_from_where_they_are() {
        let mount = |volume: &str, path: &str, read_only| Mount {
            volume: volume.into(),
            path: path.into(),
            read_only,
        };
        let mounts = vec![mount("data", "/data", true), mount("file", "/etc/file", false)];
        let made = made(&Container { mounts, ..container() });
        let all = made["mounts"].as_array().expect("a list");
        let [data, file] = &all[all.len() - 2..] else { panic!("too few: {all:?}") };
        assert_eq!((&data["source"], &file["source"]), (&json!("/srv/data"), &json!("/srv/file")));
        let recursive = ["nosuid", "rnosuid", "nodev", "rnodev", "ro", "rro"];
        let options = [&["rbind", "rprivate"][..], &recursive, &["noexec"]].concat();
        assert_eq!(data["options"], json!(options));
        assert_eq!(file["options"], json!(["bind", "rprivate", "nosuid", "nodev", "noexec"]));
    }

    #[test]
    fn what_the_host_has_of_a_volume_is_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("file"), "").expect("ours");
        let path = |name: &str| dir.path().join(name).display().to_string();
        let volume = |name: &str, source| Volume { name: name.into(), source };
        let volumes = [
            volume("file", VolumeSource::Path(path("file"))),
            volume("new", VolumeSource::Path(path("new/deep"))),
            volume("scratch", VolumeSource::Tmpfs(1 << 20)),
        ];
        let sources = sources(&volumes, Path::new("/run/web"));
        let is_file: Vec<bool> = sources.iter().map(|source| source.is_file).collect();
        assert_eq!(is_file, [true, false, false]);
        assert_eq!(sources[0].kept, sources[1].kept);
        assert_eq!(sources[2].path, "/run/web/tmpfs/scratch");
        assert_eq!(sources[2].kept, ["noexec"]);
    }

    #[test]
    fn the_privileged_are_denied_nothing() {
        let made = made(&Container { privileged: true, ..container() });
        assert_eq!(made["linux"]["maskedPaths"], json!([]));
        assert_eq!(made["linux"]["readonlyPaths"], json!([]));
        assert_eq!(made["linux"]["resources"]["devices"][0]["allow"], true);
        assert_eq!(mounted(&made, "/sys")["options"][3], "rw");
        assert_eq!(mounted(&made, "/dev")["options"][2], "dev");
    }

    #[test]
    fn a_runtime_is_found_by_its_name_or_its_path() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = |name: &str| dir.path().join(name).display().to_string();
        let executable = PermissionsExt::from_mode(0o755);
        std::fs::write(path("crun"), "").expect("ours");
        std::fs::set_permissions(path("crun"), executable).expect("ours");
        std::fs::write(path("text"), "").expect("ours");
        let found = |name: &str| program(name, dir.path().as_os_str());
        assert_eq!(found("crun"), Ok(path("crun")));
        assert_eq!(found(&path("crun")), Ok(path("crun")));
        for name in ["text", "runc", ".", &path("text"), &path("runc"), "/"] {
            let what = found(name).expect_err(name);
            assert!(what.starts_with(&format!("oci_runtime {name}: ")), "{what}");
        }
    }
}
