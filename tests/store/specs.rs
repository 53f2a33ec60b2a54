//! Pod specs and writes for the tests.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tank::core::action::Write;
use tank::core::event::{Incarnation, LastExit, Revision, Verdict};
use tank::core::journal::{Entry, Kind};
use tank::core::spec::{
    Confinement, ContainerSpec, Image, Limits, Name, Network, PodSpec, RestartPolicy, Stop, Userns,
    Volume, VolumeSource,
};
use tank::core::status::Exit;
use tank::core::time::Moment;
use tank::store::{Change, Store};

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

pub(crate) fn seed(pod: &str, argument: &str) -> Write {
    Write::Seed(spec(pod, argument))
}

pub(crate) fn delete(pod: &str) -> Write {
    Write::Delete(name(pod))
}

pub(crate) fn verdict(code: i32) -> Verdict {
    let last = LastExit { exit: Exit::Exited(code), at: Some(Moment::Wall(-7)) };
    Verdict { last, retries: 3, incarnation: Incarnation(9) }
}

/// That the run of this number was started.
pub(crate) fn started(pod: &str, run: u64) -> Change {
    note(pod, run, Kind::Started { host_pid: None })
}

pub(crate) fn note(pod: &str, run: u64, kind: Kind) -> Change {
    let incarnation = Incarnation(run);
    let generation = Revision(1);
    Change::Note(name(pod), Entry { at_unix_ms: 7, kind, incarnation, generation, retries: 2 })
}

/// Commits changes, each of which must succeed.
pub(crate) fn commit_all(store: &mut dyn Store, changes: &[Change]) {
    let committed = store.commit_at(0, changes);
    assert!(committed.answers.iter().all(Result::is_ok), "{:?}", committed.answers);
    assert_eq!(committed.journal, Ok(()));
}

/// What the journal of a pod says, in short: `applied 1`, `started #2`.
pub(crate) fn journal(store: &mut dyn Store, pod: &str) -> Option<Vec<String>> {
    let entries = store.journal(&name(pod)).expect("a readable journal")?;
    let short = |entry: Entry| match entry.kind {
        Kind::Applied => format!("applied {}", entry.generation.0),
        kind => format!("{} #{}", kind.name(), entry.incarnation.0),
    };
    Some(entries.into_iter().map(short).collect())
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
