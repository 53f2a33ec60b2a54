//! What an OCI runtime is told of a container: the `config.json` of its bundle
//! (OCI runtime specification 1.0.2), by which the inside becomes what the shim's
//! own launcher makes of the same container. Pure, but for looking for the program.
//!
//! What is outside stays the shim's: the pod's own namespaces, in which the runtime
//! is run, limits, which it inherits, and the overlay.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};
use tank_seccomp::Profile;
use tank_shim::protocol::{Container, OCI_ROOT_DIR, TMPFS_DIR, Volume, VolumeSource};

use crate::core::spec::capability_names;

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

/// The configuration for a container, whose volumes in memory are in `run_dir`.
pub(super) fn config(
    container: &Container,
    volumes: &[Volume],
    run_dir: &Path,
    seccomp: Option<&Profile>,
) -> Value {
    json!({
        "ociVersion": "1.0.2",
        "root": {"path": OCI_ROOT_DIR, "readonly": container.read_only},
        "process": process(container),
        "mounts": mounts(container, volumes, run_dir),
        "linux": linux(container, seccomp),
    })
}

fn process(container: &Container) -> Value {
    let capabilities: Vec<String> = capability_names(container.capabilities).collect();
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
fn mounts(container: &Container, volumes: &[Volume], run_dir: &Path) -> Vec<Value> {
    let bind = |name: &str| {
        let path = format!("/dev/{name}");
        mount(&path, "bind", &path, &["bind", "nosuid", "noexec"])
    };
    let devices = DEVICES.iter().map(|name| bind(name));
    let volumes = container.mounts.iter().filter_map(|mount| {
        let volume = volumes.iter().find(|volume| volume.name == mount.volume)?;
        Some(volume_mount(container, mount, volume, run_dir))
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

/// With flags that are only added, and to all that is mounted below: whatever the
/// host has read-only stays so.
fn volume_mount(
    container: &Container,
    wanted: &tank_shim::protocol::Mount,
    volume: &Volume,
    run_dir: &Path,
) -> Value {
    let source = match &volume.source {
        VolumeSource::Path(path) => path.clone(),
        VolumeSource::Tmpfs(_) => run_dir.join(TMPFS_DIR).join(&volume.name).display().to_string(),
    };
    let optional = [(!container.privileged, "rnodev"), (wanted.read_only, "rro")];
    let optional = optional.iter().filter(|(is_wanted, _)| *is_wanted).map(|(_, option)| *option);
    let options: Vec<&str> = ["rbind", "rprivate", "rnosuid"].into_iter().chain(optional).collect();
    mount(&wanted.path, "bind", &source, &options)
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Value {
    json!({"destination": destination, "type": kind, "source": source, "options": options})
}

fn linux(container: &Container, seccomp: Option<&Profile>) -> Value {
    let (masked, protected) =
        if container.privileged { (&[][..], &[][..]) } else { (&MASKED[..], &PROTECTED[..]) };
    let mut linux = json!({
        // Those of the pod are there already.
        "namespaces": [{"type": "mount"}, {"type": "pid"}, {"type": "cgroup"}],
        // In the container's own group, which is the root of what the runtime sees.
        "cgroupsPath": format!("/{}", container.name),
        // Runtimes add the devices that every container has. Their root need not
        // keep the flag by which none can be opened in it.
        "resources": {"devices": [{"allow": container.privileged, "access": "rwm"}]},
        "maskedPaths": masked,
        "readonlyPaths": protected,
    });
    if let Some(profile) = seccomp {
        linux["seccomp"] = json!(profile);
    }
    linux
}

#[cfg(test)]
mod tests {
    use super::*;
    use tank_shim::protocol::{Log, Mount};

    fn container() -> Container {
        let log = Log { path: "/log".into(), bytes_max: 1 };
        Container::new("app", "/rootfs", vec!["true".into()], log)
    }

    fn made(container: &Container) -> Value {
        let volume = |name: &str, source| Volume { name: name.into(), source };
        let volumes = [
            volume("data", VolumeSource::Path("/srv/data".into())),
            volume("scratch", VolumeSource::Tmpfs(1 << 20)),
        ];
        config(container, &volumes, Path::new("/run/web"), Some(&Profile::default()))
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
        let mounts = vec![mount("data", "/data", true), mount("scratch", "/dev/shm", false)];
        let made = made(&Container { mounts, ..container() });
        let all = made["mounts"].as_array().expect("a list");
        let [data, scratch] = &all[all.len() - 2..] else { panic!("too few: {all:?}") };
        assert_eq!(data["source"], "/srv/data");
        assert_eq!(data["options"], json!(["rbind", "rprivate", "rnosuid", "rnodev", "rro"]));
        assert_eq!(scratch["source"], "/run/web/tmpfs/scratch");
        assert_eq!(scratch["options"], json!(["rbind", "rprivate", "rnosuid", "rnodev"]));
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
