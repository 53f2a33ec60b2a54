//! From options to a daemon that is ready to serve, or the reason why not.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use erlang_term_format::Term;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tank_shim::Program;
use tank_shim::protocol::OnHangup;
use tokio::sync::mpsc::unbounded_channel;
use tokio::time::{Instant, sleep};

use crate::core::action::Write as StoreWrite;
use crate::core::failure::{Code, Failure, Place};
use crate::core::reconciler::{Config, Reconciler};
use crate::core::spec::{Name, PodSpec};
use crate::os_words::os_words;
use crate::port::session::Session;
use crate::port::stdio::Pipes;
use crate::port::trace::Trace;
use crate::runtime::client::ClientRuntime;
use crate::runtime::container::cgroup::{Cgroups, Layout, Trees};
use crate::runtime::container::{ContainerRuntime, Surroundings, reaper, specs_of_live_runs};
use crate::runtime::{Events, Runtime};
use crate::store::{Change, DurableStore, MemoryStore, Store, StoreError};

use super::journal::Journal;
use super::lock::DirLock;
use super::options::{OnDisconnect, Options, RuntimeKind, StoreKind};
use super::spin::Spin;
use super::store_thread::StoreThread;
use super::{Client, Daemon, Hangups, clock, last_runs};

/// Milliseconds that a nudge waits for the next one.
const DEBOUNCE_MS: u64 = 100;

/// The file in the data directory that has the wall clock's reading of this boot.
const CLOCK_FILE: &str = "clock";

/// How long one that ends is waited for: not as long as a client waits for a greeting.
const ENDING_WAIT: Duration = Duration::from_secs(25);

/// Between two tries to take a lock.
const LOCK_AGAIN: Duration = Duration::from_millis(10);

/// Takes the locks and opens the store. What an earlier program has left, the first pass
/// finds.
///
/// # Errors
/// Whatever keeps the program from starting: `locked`, `bad_option`, `not_permitted`,
/// `store_corrupt`, `store_failed`, `start_failed`, `internal`.
pub async fn start(options: &Options, pipes: Rc<Pipes>) -> Result<Daemon, Failure> {
    let wait = Duration::from_millis(options.lock_wait_ms);
    let data_dir = lock_data(options, Instant::now() + wait).await?;
    // It may have been waited for by now that another ends.
    let deadline = Instant::now() + wait;
    // Before anything is made of what runs there.
    let has_pods = options.runtime == RuntimeKind::Container;
    if has_pods {
        last_runs::check(&options.data_dir, &options.run_dir)?;
    }
    let mut run_dir = lock_runs(options, deadline).await?;
    // A program that is killed lets go of the directory's lock before the store's.
    let store = once_free(deadline, || open_store(options)).await.inspect_err(|_| {
        if let Some(lock) = run_dir.take() {
            lock.remove();
        }
    })?;
    if has_pods {
        last_runs::note(&options.data_dir, &options.run_dir);
    }
    // Who waits for a lock has nothing to end in order.
    let hangups = Hangups::new().map_err(|error| system("catch signals", &error))?;
    let trees = Trees::detect().map_err(|error| system("read /proc/self/mountinfo", &error))?;
    let host = host(&trees);
    let (events, happened) = unbounded_channel();
    let runtime = match options.runtime {
        RuntimeKind::Container => containers(options, trees, events.clone())?,
        RuntimeKind::Client => Runtime::Client(ClientRuntime::default()),
        RuntimeKind::None => Runtime::None,
    };
    let (looks, looked) = unbounded_channel();
    let (news_sender, news) = unbounded_channel();
    let store = StoreThread::spawn(store, news_sender)
        .map_err(|error| system("start the store's thread", &error))?;
    let mut session = Session::default();
    if options.trace_frames {
        session.trace(Trace::new(write_trace));
    }
    let alarm = clock::Alarm::new().map_err(|error| system("make a timer", &error))?;
    Ok(Daemon {
        core: Reconciler::new(config(options), clock::now()),
        runtime,
        store,
        journal: Journal::default(),
        events,
        happened,
        news,
        looks,
        looked,
        pipes,
        session,
        client: Client::Here,
        hangups: Some(hangups),
        alarm,
        tickets: BTreeMap::new(),
        next_ticket: 0,
        starting: BTreeMap::new(),
        on_disconnect: options.on_disconnect,
        keeps_pods: false,
        last_answers: Vec::new(),
        end: None,
        spin: Spin::default(),
        host: Some(host),
        data_dir,
        run_dir,
    })
}

/// A line on stderr, with the time of day.
fn write_trace(line: &str) {
    // Who has closed stderr does not want to know.
    let _ = writeln!(io::stderr(), "{} {line}", clock::utc_time_of_day());
}

fn open_store(options: &Options) -> Result<Box<dyn Store>, Failure> {
    if options.store == StoreKind::Memory {
        return Ok(Box::new(MemoryStore::new()));
    }
    let mut store = DurableStore::open(&options.data_dir)?;
    if let Some(salvage) = store.salvage() {
        tracing::error!(
            "{} is corrupt: {}; it is kept as {}, and {} that could still be read go on in a new file",
            salvage.path.display(),
            salvage.what,
            salvage.aside.display(),
            pods(salvage.pods),
        );
    }
    for record in store.set_aside() {
        let (table, pod, what) = (&record.table, &record.pod, &record.what);
        tracing::error!(%table, %pod, %what, "a stored record cannot be read and was set aside");
    }
    if options.runtime == RuntimeKind::Container {
        put_back(&mut store, options);
    }
    Ok(Box::new(store))
}

/// Stores the specs of pods that run and that the state file has lost: what they were
/// made from is on record with them. Else they would be ended as what nobody wants.
fn put_back(store: &mut DurableStore, options: &Options) {
    let unreadable = |name: &Name| {
        store.set_aside().iter().any(|row| row.table == "pods" && row.pod == name.as_str())
    };
    let may_lack_any = store.may_lack_pods();
    if !may_lack_any && store.set_aside().is_empty() {
        return;
    }
    let lost = |spec: &Arc<PodSpec>| may_lack_any || unreadable(&spec.name);
    let specs: Vec<_> = specs_of_live_runs(&options.run_dir).into_iter().filter(lost).collect();
    if store.is_new() && !specs.is_empty() {
        let count = pods(specs.len());
        tracing::error!("{} had no state file, but {count} of its run", options.data_dir.display());
    }
    let mut is_whole = true;
    for spec in specs {
        let pod = spec.name.clone();
        let created = Change::Write(StoreWrite::Create(spec));
        let at = clock::unix_ms(clock::now());
        match &store.commit_at(at, &[created]).answers[..] {
            [Ok(_)] => {
                tracing::error!(%pod, "its spec was lost, and is taken from the run that it has");
            }
            [Err(StoreError::Exists { .. })] => {}
            _ => is_whole = false,
        }
    }
    if is_whole && let Err(error) = store.note_whole() {
        tracing::warn!(%error, "the next start takes specs from runs once more");
    }
}

/// `1 pod`, `2 pods`.
fn pods(count: usize) -> String {
    format!("{count} {}", if count == 1 { "pod" } else { "pods" })
}

fn config(options: &Options) -> Config {
    Config {
        interval_ms: options.interval_ms,
        debounce_ms: DEBOUNCE_MS,
        backoff_base_ms: options.backoff_base_ms,
        backoff_cap_ms: options.backoff_cap_ms,
        stable_window_ms: options.stable_window_ms,
        first_incarnation: 1,
        actuate: options.runtime != RuntimeKind::None,
        // What a pod's limits are to the client's processes, it is told at a start.
        adjust: options.runtime == RuntimeKind::Container,
    }
}

/// Locks the data directory, when something in it will be ours alone: the state
/// file or the logs.
async fn lock_data(options: &Options, deadline: Instant) -> Result<Option<DirLock>, Failure> {
    let is_used = options.runtime == RuntimeKind::Container || options.store == StoreKind::Durable;
    if is_used { lock(&options.data_dir, deadline).await.map(Some) } else { Ok(None) }
}

/// Locks the run directory, when runs will be in it.
async fn lock_runs(options: &Options, deadline: Instant) -> Result<Option<DirLock>, Failure> {
    let is_used = options.runtime == RuntimeKind::Container;
    if is_used { lock(&options.run_dir, deadline).await.map(Some) } else { Ok(None) }
}

/// Waits for longer where the holder stops its pods and ends: whoever restarts an app has
/// no other way than to wait.
async fn lock(dir: &Path, deadline: Instant) -> Result<DirLock, Failure> {
    let began = Instant::now();
    loop {
        match once_free(deadline, || DirLock::acquire(dir)).await {
            Err(held)
                if held.code == Code::Locked
                    && DirLock::is_holder_ending(dir)
                    && began.elapsed() < ENDING_WAIT =>
            {
                sleep(LOCK_AGAIN).await;
            }
            taken => return taken,
        }
    }
}

/// Takes what another may hold, once it lets go: a program that was killed, or
/// whose client was, may need a moment for that.
async fn once_free<T>(
    deadline: Instant,
    mut take: impl FnMut() -> Result<T, Failure>,
) -> Result<T, Failure> {
    loop {
        match take() {
            Err(held) if held.code == Code::Locked && Instant::now() < deadline => {
                sleep(LOCK_AGAIN).await;
            }
            taken => return taken,
        }
    }
}

fn containers(options: &Options, trees: Trees, events: Events) -> Result<Runtime, Failure> {
    let shim = Rc::new(seal(&options.shim)?);
    // See `shim`: shims become our children when their makers end.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|errno| system("become a subreaper", &errno.into()))?;
    reaper::begin().map_err(|error| system("watch over children", &error))?;
    let open_files = raise_open_files();
    let is_rootless = !rustix::process::geteuid().is_root();
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let trees = if is_rootless { trees.delegated(&options.cgroup_parent, &own) } else { trees };
    let mut cgroups = Cgroups::new(trees, &options.cgroup_parent, &options.run_dir);
    let mut shim_cgroups = cgroups.of_shims(&own);
    cgroups.prepare(&mut shim_cgroups, &own).map_err(|error| system("make cgroups", &error))?;
    if is_rootless {
        cgroups.forget_what_is_kept_back();
    } else {
        cgroups.take_refuge(&shim_cgroups);
    }
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    let boot_id = boot_id.map_err(|error| system("read the boot's id", &error))?;
    if let Err(error) = clock::keep_in(&options.data_dir.join(CLOCK_FILE), boot_id.trim_end()) {
        tracing::warn!(%error, "times may be told otherwise than an earlier program told them");
    }
    let home_cgroups = (!is_rootless).then_some(own);
    let unused = (cgroups.clone(), home_cgroups.clone());
    let surroundings = Surroundings {
        data_dir: options.data_dir.clone(),
        run_dir: options.run_dir.clone(),
        shim,
        boot_id: boot_id.trim_end().to_owned(),
        cgroups,
        shim_cgroups,
        home_cgroups,
        open_files,
        stop_grace_ms: options.stop_grace_ms,
        on_hangup: on_hangup(options.on_disconnect),
        is_rootless,
    };
    let runtime = ContainerRuntime::new(surroundings, events);
    runtime.map(Runtime::Container).inspect_err(|_| {
        let (cgroups, home) = unused;
        if let Some(home) = home {
            cgroups.leave_refuge(&home);
        }
        cgroups.remove_empty();
    })
}

/// Raises the soft limit of open files to the hard one, as programs may that do not use
/// select(2): each run takes two. Returns what it was, for those that may not.
fn raise_open_files() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    setrlimit(Resource::Nofile, raised).ok().and(limit.current)
}

/// The same to shims, who see only that this program is no more.
fn on_hangup(policy: OnDisconnect) -> Option<OnHangup> {
    match policy {
        OnDisconnect::Keep => None,
        OnDisconnect::Stop => Some(OnHangup { stop_after_ms: 0 }),
        OnDisconnect::StopAfter(stop_after_ms) => Some(OnHangup { stop_after_ms }),
    }
}

/// The shim's program, which no container can change.
fn seal(path: &Path) -> Result<Program, Failure> {
    Program::seal(path).map_err(|error| {
        let what = format!("seal a copy of {}: {}", path.display(), os_words(&error));
        Failure::new(Code::BadOption, what)
            .at(Place::Option, "shim")
            .at(Place::Path, path.display())
            .hint(match error.kind() {
                io::ErrorKind::PermissionDenied => {
                    "it must be a program that may be executed, and vm.memfd_noexec less than 2"
                }
                _ => "build tank-shim beside tank, or name it with --shim",
            })
    })
}

/// What a client is told of this machine in the greeting.
fn host(trees: &Trees) -> Term<'static> {
    let layout = match trees.layout() {
        Layout::V1 => "v1",
        Layout::Hybrid => "hybrid",
        Layout::V2 => "v2",
    };
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    Term::map([
        (Term::atom("cgroup"), Term::atom(layout)),
        (Term::atom("root"), Term::from(rustix::process::geteuid().is_root())),
        (Term::atom("kernel"), Term::binary(kernel)),
    ])
}

fn system(operation: &str, error: &io::Error) -> Failure {
    Failure::new(Code::Internal, format!("{operation}: {}", os_words(error)))
}
