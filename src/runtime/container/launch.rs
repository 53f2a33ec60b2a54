//! From a pod's spec to what a shim is asked to launch.

use std::path::{Path, PathBuf};

use rustix::process::Signal;
use tank_shim::protocol::{
    self as shim_protocol, Adjust, Adjustment, Container, Join, Launch, Log,
    Network as ShimNetwork, OciRuntime, Role, Step, StopPlan,
};

use tokio::task::spawn_blocking;

use crate::core::event::Incarnation;
use crate::core::failure::{Code, Failure, Place};
use crate::core::spec::{
    ContainerSpec, Image, Mount, Name, Network, PodSpec, StopSignal, Userns, Volume, VolumeSource,
};

use crate::os_words::os_words;

use super::confinement::{self, Filters};
use super::user::{Accounts, User};
use super::{Surroundings, etc, hint, oci, run_dir, users, volumes};

/// Bytes of a container's log file before it is put aside.
const LOG_BYTES_MAX: u64 = 4 << 20;

/// Where programs are looked for when the spec sets no `PATH` (what docker and
/// podman set).
const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A container of a pod, with the field of the spec that it is.
pub(super) struct Member<'a> {
    pub(super) field: String,
    pub(super) role: Role,
    pub(super) spec: &'a ContainerSpec,
}

/// All containers of a pod, whatever they are to it.
pub(super) fn members(pod: &PodSpec) -> impl Iterator<Item = Member<'_>> {
    let inits = pod.init_containers.iter().enumerate().map(|(index, spec)| Member {
        field: format!("init_containers[{index}]"),
        role: Role::Init,
        spec,
    });
    let others = pod.containers.iter().enumerate().map(|(index, spec)| Member {
        field: format!("containers[{index}]"),
        role: if spec.sidecar { Role::Sidecar } else { Role::Main },
        spec,
    });
    inits.chain(others)
}

/// Those that go on once all have been launched.
fn lasting(pod: &PodSpec) -> impl Iterator<Item = Member<'_>> {
    members(pod).filter(|member| member.role != Role::Init)
}

/// What changes of a run that goes on by `spec`.
///
/// # Errors
/// The limit's name, when a container has no group to put it on.
pub(super) fn adjust(surroundings: &Surroundings, spec: &PodSpec) -> Result<Adjust, &'static str> {
    let cgroups = &surroundings.cgroups;
    let adjustment = |Member { spec: container, .. }: Member<'_>| {
        let (pod, name, limits) = (spec.name.as_str(), container.name.as_str(), &container.limits);
        Ok(Adjustment {
            container: name.to_owned(),
            cgroups: cgroups.of_live_container(pod, name, limits, |path| path.exists())?,
            stop: stop_plan(surroundings, container),
        })
    };
    let limits = lasting(spec).map(|member| &member.spec.limits);
    Ok(Adjust {
        cgroups: cgroups.of_live_pod(spec.name.as_str(), limits, |path| path.exists()),
        containers: lasting(spec).map(adjustment).collect::<Result<_, _>>()?,
    })
}

/// How a container is stopped.
fn stop_plan(surroundings: &Surroundings, spec: &ContainerSpec) -> StopPlan {
    StopPlan {
        signal: spec.stop.signal.map_or(Signal::TERM.as_raw(), StopSignal::number),
        grace_ms: spec.stop.grace_ms.unwrap_or(surroundings.stop_grace_ms),
        pre_stop: spec.stop.pre_stop.clone(),
    }
}

/// The request that launches `spec`, but for whose users its are.
///
/// # Errors
/// `start_failed` with the field, for what only shows at the start.
pub(super) async fn request(
    surroundings: &Surroundings,
    filters: &Filters,
    spec: &PodSpec,
    incarnation: Incarnation,
) -> Result<Launch, Failure> {
    super::check(spec)?;
    let volumes = volumes::told(&surroundings.data_dir, spec);
    let runtime = oci_runtime(surroundings, spec, &volumes).await?;
    let mut containers = Vec::new();
    for member in members(spec) {
        let mut container = container(surroundings, filters, spec, &member).await?;
        if let Some(runtime) = &runtime {
            by_runtime(runtime, &mut container, spec, &member).await?;
        }
        containers.push(container);
    }
    Ok(Launch {
        pod: spec.name.to_string(),
        incarnation: incarnation.0,
        hostname: spec.name.to_string(),
        network: match spec.network {
            Network::Host => ShimNetwork::Host,
            Network::None | Network::Interfaces { .. } => ShimNetwork::None,
        },
        shim_cgroups: surroundings.shim_cgroups.clone(),
        cgroups: surroundings.cgroups.of_pod(
            spec.name.as_str(),
            members(spec).map(|member| &member.spec.limits),
            lasting(spec).map(|member| &member.spec.limits),
        ),
        volumes: volumes::owned(volumes, spec, &containers),
        user_namespace: None,
        containers,
    })
}

/// Who is to run a pod's containers, where that is not Tank: a program, and the
/// volumes as it is told of them.
async fn oci_runtime(
    surroundings: &Surroundings,
    pod: &PodSpec,
    volumes: &[shim_protocol::Volume],
) -> Result<Option<(String, Vec<oci::Source>)>, Failure> {
    let Some(runtime) = &pod.oci_runtime else { return Ok(None) };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let program = oci::program(runtime, &path).map_err(|what| {
        let hint = "install it on this host, or name it by its absolute path";
        Failure { hint: Some(hint.to_owned()), ..oci_failure(pod, what) }
    })?;
    let volumes = volumes.to_vec();
    let run_dir = run_dir::of_pod(&surroundings.run_dir, pod.name.as_str());
    let looking = spawn_blocking(move || oci::sources(&volumes, &run_dir));
    Ok(Some((program, looking.await.expect("looking at volumes never panics"))))
}

fn oci_failure(pod: &PodSpec, what: String) -> Failure {
    let failure = Failure::new(Code::StartFailed, what).at(Place::Pod, &pod.name);
    failure.at(Place::Field, "oci_runtime")
}

/// Gives a container to a runtime, which makes a seccomp program by itself: what the
/// shim is told of one, and of all that confines, is for a `pre_stop`.
async fn by_runtime(
    (program, sources): &(String, Vec<oci::Source>),
    container: &mut Container,
    pod: &PodSpec,
    Member { field, spec, .. }: &Member<'_>,
) -> Result<(), Failure> {
    if container.cgroups.iter().all(|cgroup| cgroup.join != Join::Clone) {
        let what = "oci_runtime: this machine has no cgroup tree of version 2 mounted".to_owned();
        return Err(oci_failure(pod, what).at(Place::Container, &spec.name));
    }
    let profile = confinement::profile(&spec.confinement, container.capabilities).await;
    let profile = profile.map_err(|what| {
        oci_failure(pod, what)
            .at(Place::Container, &spec.name)
            .at(Place::Field, format!("{field}.seccomp"))
    })?;
    let (seccomp, available) = (profile.as_ref(), confinement::available());
    let setting = oci::Setting { sources, seccomp, available };
    let config = oci::config(container, &setting).to_string();
    container.capabilities = setting.capabilities(container);
    container.oci = Some(OciRuntime { program: program.clone(), config });
    Ok(())
}

async fn container(
    surroundings: &Surroundings,
    filters: &Filters,
    pod: &PodSpec,
    Member { field, role, spec }: &Member<'_>,
) -> Result<Container, Failure> {
    let failed = |part: &str, what: String| {
        Failure::new(Code::StartFailed, what)
            .at(Place::Pod, &pod.name)
            .at(Place::Container, &spec.name)
            .at(Place::Field, format!("{field}.{part}"))
    };
    let Image::Rootfs(rootfs) = &spec.image else {
        unreachable!("check() refuses images that are not a rootfs")
    };
    let argv: Vec<String> = spec.command.iter().chain(&spec.args).cloned().collect();
    if argv.is_empty() {
        let what = "a rootfs has no default command: set command".to_owned();
        return Err(failed("command", what));
    }
    let (pod_name, name) = (pod.name.as_str(), spec.name.as_str());
    let cgroups = surroundings.cgroups.of_container(pod_name, name, &spec.limits);
    let cgroups = cgroups.map_err(|controller| {
        let what = match surroundings.is_rootless {
            true => format!("limit {controller}: this user has no {controller} cgroup"),
            false => {
                format!("limit {controller}: this machine has no {controller} cgroup controller")
            }
        };
        let failure = failed(&format!("limits.{controller}"), what);
        if surroundings.is_rootless { failure.hint(hint::DELEGATE) } else { failure }
    })?;
    let confinement = &spec.confinement;
    let capabilities =
        confinement::capabilities(confinement, confinement::available()).map_err(|capability| {
            let what = format!("capability {capability}: this program does not have it itself");
            failed("cap_add", what)
        })?;
    let seccomp =
        filters.of(confinement, capabilities).await.map_err(|what| failed("seccomp", what))?;
    let user = user(rootfs, spec).map_err(|what| failed("user", what))?;
    check_user(pod, &user).map_err(|what| failed("user", what))?;
    let log = log_dir(surroundings, &pod.name).join(format!("{}.log", spec.name));
    let log = Log { path: text(&log), bytes_max: LOG_BYTES_MAX };
    Ok(Container {
        role: *role,
        env: environment(spec, user.home.as_deref(), pod_name),
        working_dir: spec.working_dir.clone().unwrap_or_else(|| "/".to_owned()),
        uid: user.uid,
        gid: user.gid,
        groups: user.groups,
        nofile: spec.limits.nofile,
        nice: spec.limits.nice,
        oom_score_adj: spec.limits.oom_score_adj,
        mounts: mounts(spec),
        cgroups,
        // The host may have none.
        etc: etc::files(pod.name.as_str(), &pod.network, |name| {
            std::fs::read_to_string(Path::new("/etc").join(name)).unwrap_or_default()
        }),
        stop: stop_plan(surroundings, spec),
        init: spec.init,
        tty: spec.tty,
        capabilities,
        seccomp,
        read_only: confinement.read_only,
        privileged: confinement.privileged,
        ..Container::new(name, rootfs, argv, log)
    })
}

fn user(rootfs: &str, spec: &ContainerSpec) -> Result<User, String> {
    let accounts = Accounts::read(Path::new(rootfs)).or_else(|(file, error)| match &spec.user {
        // Nothing but the home would be known from it.
        None => Ok(Accounts::default()),
        Some(user) => {
            Err(format!("user {user}: read {file} of the root file system: {}", os_words(&error)))
        }
    })?;
    accounts.find(spec.user.as_deref())
}

/// A pod with users of its own has so many.
fn check_user(pod: &PodSpec, user: &User) -> Result<(), String> {
    let mut ids = [user.uid, user.gid].into_iter().chain(user.groups.iter().copied());
    match ids.find(|id| pod.userns == Userns::Auto && *id >= users::COUNT) {
        Some(id) => {
            Err(format!("user {id}: with userns: :auto ids are those below {}", users::COUNT))
        }
        None => Ok(()),
    }
}

/// A container's mounts from the outermost path in, as docker and podman order
/// them, so that one in another is not hidden by it.
fn mounts(spec: &ContainerSpec) -> Vec<shim_protocol::Mount> {
    let mut mounts: Vec<&Mount> = spec.mounts.iter().collect();
    mounts.sort_by_key(|mount| names(&mount.path).count());
    let told = |mount: &Mount| shim_protocol::Mount {
        volume: mount.volume.to_string(),
        path: mount.path.clone(),
        read_only: mount.read_only,
    };
    mounts.into_iter().map(told).collect()
}

/// What in a spec a launch could not do, where one field was in the way.
pub(super) fn field_of(spec: &PodSpec, failure: &shim_protocol::Failure) -> Option<String> {
    let object = failure.object.as_str();
    let of_container = || {
        let container = failure.container.as_deref()?;
        members(spec).find(|member| member.spec.name.as_str() == container)
    };
    match failure.step {
        Step::OpenVolume | Step::MapVolume | Step::MakeTmpfs => {
            let is_it = |volume: &Volume| match &volume.source {
                VolumeSource::Host(path) => path == object,
                VolumeSource::Tmpfs(_) => volume.name.as_str() == object,
                VolumeSource::Managed => false,
            };
            let index = spec.volumes.iter().position(is_it)?;
            Some(format!("volumes[{index}].source"))
        }
        Step::RunOciRuntime => Some("oci_runtime".to_owned()),
        Step::MakeMountTarget | Step::MountVolume => {
            let member = of_container()?;
            let is_it = |mount: &Mount| names(&mount.path).eq(names(object));
            let index = member.spec.mounts.iter().position(is_it)?;
            Some(format!("{}.mounts[{index}].path", member.field))
        }
        Step::SetUser => Some(format!("{}.user", of_container()?.field)),
        Step::LimitProcess => Some(format!("{}.limits.{object}", of_container()?.field)),
        _ => None,
    }
}

/// Why nothing can be mounted at a path, where that is so.
pub(super) fn mount_refusal(path: &str) -> Option<&'static str> {
    let mut names = names(path);
    match (names.next()?, names.next()) {
        ("proc", _) => Some("/proc is the container's own, and so is all below it"),
        ("dev", None) => Some("/dev is the container's own: mount below it"),
        _ => None,
    }
}

fn names(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|name| !matches!(*name, "" | "."))
}

/// The environment from nothing: what docker sets, then the spec's own.
fn environment(spec: &ContainerSpec, home: Option<&str>, hostname: &str) -> Vec<String> {
    let home = home.unwrap_or("/");
    let defaults = [("PATH", PATH_DEFAULT), ("HOSTNAME", hostname), ("HOME", home)];
    let terminal = spec.tty.then_some(("TERM", "xterm"));
    let defaults = defaults.into_iter().chain(terminal);
    let missing = defaults.filter(|(key, _)| !spec.env.contains_key(*key));
    let defaults = missing.map(|(key, value)| format!("{key}={value}"));
    defaults.chain(spec.env.iter().map(|(key, value)| format!("{key}={value}"))).collect()
}

/// Where a pod's containers log.
pub(super) fn log_dir(surroundings: &Surroundings, pod: &Name) -> PathBuf {
    surroundings.data_dir.join("logs").join(pod.as_str())
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_mounted_over_what_is_the_containers_own() {
        for path in ["/proc", "//proc/", "/proc/sys/kernel", "/./proc", "/dev", "/dev/."] {
            assert!(mount_refusal(path).is_some(), "{path}");
        }
        for path in ["/dev/shm", "/sys", "/process", "/data/proc", "/devices"] {
            assert_eq!(mount_refusal(path), None, "{path}");
        }
    }
}
