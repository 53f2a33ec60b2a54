//! From a pod's spec to what a shim is asked to launch.

use std::path::{Path, PathBuf};

use tank_shim::protocol::{Container, Launch, Log, Network as ShimNetwork};

use crate::core::event::Incarnation;
use crate::core::failure::{Code, Failure, Place};
use crate::core::spec::{ContainerSpec, Image, Name, Network, PodSpec};

use crate::os_words::os_words;

use super::confinement::{self, Filters};
use super::user::{Accounts, User};
use super::{Surroundings, etc};

/// Bytes of a container's log file before it is put aside.
const LOG_BYTES_MAX: u64 = 4 << 20;

/// Where programs are looked for when the spec sets no `PATH` (what docker and
/// podman set).
const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The request that launches `spec`.
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
    let container = &spec.containers[0];
    Ok(Launch {
        pod: spec.name.to_string(),
        incarnation: incarnation.0,
        hostname: spec.name.to_string(),
        network: match spec.network {
            Network::Host => ShimNetwork::Host,
            Network::None | Network::Interfaces { .. } => ShimNetwork::None,
        },
        shim_cgroups: surroundings.shim_cgroups.clone(),
        volumes: Vec::new(),
        container: self::container(surroundings, filters, spec, container).await?,
    })
}

async fn container(
    surroundings: &Surroundings,
    filters: &Filters,
    pod: &PodSpec,
    spec: &ContainerSpec,
) -> Result<Container, Failure> {
    let failed = |field: &str, what: String| {
        Failure::new(Code::StartFailed, what)
            .at(Place::Pod, &pod.name)
            .at(Place::Container, &spec.name)
            .at(Place::Field, field)
    };
    let Image::Rootfs(rootfs) = &spec.image else {
        unreachable!("check() refuses images that are not a rootfs")
    };
    let argv: Vec<String> = spec.command.iter().chain(&spec.args).cloned().collect();
    if argv.is_empty() {
        let what = "a rootfs has no default command: set command".to_owned();
        return Err(failed("containers[0].command", what));
    }
    let cgroups = surroundings.cgroups.of_pod(pod.name.as_str(), &spec.limits).map_err(|name| {
        let what = format!("limit {name}: this machine has no {name} cgroup controller");
        failed(&format!("containers[0].limits.{name}"), what)
    })?;
    let confinement = &spec.confinement;
    let capabilities =
        confinement::capabilities(confinement, confinement::available()).map_err(|capability| {
            let what = format!("capability {capability}: this program does not have it itself");
            failed("containers[0].cap_add", what)
        })?;
    let seccomp = filters
        .of(confinement, capabilities)
        .await
        .map_err(|what| failed("containers[0].seccomp", what))?;
    let user = user(rootfs, spec).map_err(|what| failed("containers[0].user", what))?;
    let log = log_dir(surroundings, &pod.name).join(format!("{}.log", spec.name));
    Ok(Container {
        name: spec.name.to_string(),
        rootfs: rootfs.clone(),
        argv,
        env: environment(spec, user.home.as_deref()),
        working_dir: spec.working_dir.clone().unwrap_or_else(|| "/".to_owned()),
        uid: user.uid,
        gid: user.gid,
        groups: user.groups,
        nofile: spec.limits.nofile,
        nice: spec.limits.nice,
        oom_score_adj: spec.limits.oom_score_adj,
        mounts: Vec::new(),
        cgroups,
        // The host may have none.
        etc: etc::files(pod.name.as_str(), &pod.network, |name| {
            std::fs::read_to_string(Path::new("/etc").join(name)).unwrap_or_default()
        }),
        log: Log { path: text(&log), bytes_max: LOG_BYTES_MAX },
        capabilities,
        seccomp,
        read_only: confinement.read_only,
        privileged: confinement.privileged,
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

/// The environment from nothing: what a login would set, then the spec's own.
fn environment(spec: &ContainerSpec, home: Option<&str>) -> Vec<String> {
    let defaults = [("PATH", PATH_DEFAULT), ("HOME", home.unwrap_or("/"))];
    let missing = defaults.iter().filter(|(key, _)| !spec.env.contains_key(*key));
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
