//! Pod specs and writes for the tests.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tank::core::action::Write;
use tank::core::event::Verdict;
use tank::core::spec::{
    Confinement, ContainerSpec, Image, Limits, Name, Network, PodSpec, RestartPolicy, Stop, Userns,
    Volume, VolumeSource,
};
use tank::core::status::Exit;

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).expect("a valid name")
}

/// A pod that differs from another of the same name by its argument.
pub(crate) fn spec(pod: &str, argument: &str) -> Arc<PodSpec> {
    let container = ContainerSpec {
        name: name("app"),
        image: Image::Rootfs("/srv/rootfs".into()),
        command: vec!["/bin/app".into()],
        args: vec![argument.into()],
        env: BTreeMap::from([("LANG".into(), "C.UTF-8".into())]),
        working_dir: None,
        user: Some("1000:1000".into()),
        mounts: Vec::new(),
        limits: Limits { memory: Some(1 << 26), ..Limits::default() },
        tty: false,
        confinement: Confinement::default(),
        sidecar: false,
        stop: Stop::default(),
        init: false,
    };
    Arc::new(PodSpec {
        name: name(pod),
        containers: vec![container],
        init_containers: Vec::new(),
        network: Network::None,
        volumes: vec![Volume { name: name("data"), source: VolumeSource::Managed }],
        restart: RestartPolicy::OnFailure,
        userns: Userns::Host,
        oci_runtime: None,
    })
}

pub(crate) fn put(pod: &str, argument: &str) -> Write {
    Write::Put(spec(pod, argument))
}

pub(crate) fn create(pod: &str, argument: &str) -> Write {
    Write::Create(spec(pod, argument))
}

pub(crate) fn delete(pod: &str) -> Write {
    Write::Delete(name(pod))
}

pub(crate) fn verdict(code: i32) -> Verdict {
    Verdict { exit: Exit::Exited(code), retries: 3 }
}

/// A directory that goes with the test.
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("tank-store-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("a fresh directory");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("{}: {error}", self.0.display());
        }
    }
}
