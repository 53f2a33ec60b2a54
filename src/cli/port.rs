//! `tank port`: its options, and the way from them to a loop that serves.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;

use clap::{Args, ValueEnum};
use rustix::termios::isatty;

use super::{EXIT_BAD_OPTION, EXIT_CANNOT_START, EXIT_INTERNAL, EXIT_MISMATCH, LOG_HELP, say};
use crate::core::failure::{Code, Failure};
use crate::daemon::options::{OnDisconnect, Options, RuntimeKind, StoreKind};
use crate::daemon::{End, start};
use crate::port::frame::FrameWriter;
use crate::port::message;
use crate::port::stdio::Pipes;

const TRACE_HELP: &str =
    "TANK_TRACE=frames shows each frame on stderr, either way; values of env are hidden";

/// Serve one client on stdin and stdout, in frames of Erlang terms
#[derive(Debug, Args)]
#[command(after_help = format!("{LOG_HELP}\n{TRACE_HELP}"))]
pub(super) struct PortArgs {
    /// State that outlives a reboot: desired pods, verdicts, logs [default:
    /// /var/lib/tank, without root $XDG_DATA_HOME/tank]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// State that does not: a directory for each run [default: /run/tank, without
    /// root $XDG_RUNTIME_DIR/tank]
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// Where desired pods are kept
    #[arg(long, value_enum, default_value_t = StoreArg::Durable)]
    store: StoreArg,
    /// What carries out starts and stops
    #[arg(long, value_enum, default_value_t = RuntimeArg::Container)]
    runtime: RuntimeArg,
    /// Between the end of a full pass and the next
    #[arg(long, value_name = "MS", default_value_t = 5_000, value_parser = positive())]
    interval_ms: u64,
    /// The first backoff
    #[arg(long, value_name = "MS", default_value_t = 10_000, value_parser = positive())]
    backoff_base_ms: u64,
    /// The longest backoff
    #[arg(long, value_name = "MS", default_value_t = 300_000, value_parser = positive())]
    backoff_cap_ms: u64,
    /// A run of this length resets the backoff
    #[arg(long, value_name = "MS", default_value_t = 600_000)]
    stable_window_ms: u64,
    /// What becomes of pods when the client is gone: keep, stop or
    /// stop-after-ms=N
    #[arg(long, value_name = "POLICY", default_value = "keep", value_parser = on_disconnect)]
    on_disconnect: OnDisconnect,
    /// Between the stop signal and the kill
    #[arg(long, value_name = "MS", default_value_t = 10_000)]
    stop_grace_ms: u64,
    /// How long to wait for directories that another program still holds
    #[arg(long, value_name = "MS", default_value_t = 0)]
    lock_wait_ms: u64,
    /// The shim's program [default: tank-shim beside this one]
    #[arg(long, value_name = "PATH")]
    shim: Option<PathBuf>,
    /// The cgroup below which pods live
    #[arg(long, value_name = "NAME", default_value = "tank", value_parser = cgroup_parent)]
    cgroup_parent: String,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum StoreArg {
    /// In the data directory
    Durable,
    /// In memory, for as long as the program lives
    Memory,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum RuntimeArg {
    /// Containers
    Container,
    /// The client's own processes
    Client,
    /// Nothing is started
    None,
}

fn positive() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(1..)
}

fn on_disconnect(text: &str) -> Result<OnDisconnect, String> {
    match text {
        "keep" => Ok(OnDisconnect::Keep),
        "stop" => Ok(OnDisconnect::Stop),
        _ => text
            .strip_prefix("stop-after-ms=")
            .and_then(|ms| ms.parse().ok())
            .map(OnDisconnect::StopAfter)
            .ok_or_else(|| "must be keep, stop or stop-after-ms=N".to_owned()),
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Of a user, what the XDG base directory specification says.
fn default_data_dir() -> PathBuf {
    if is_root() {
        return "/var/lib/tank".into();
    }
    let of_home = || variable("HOME").unwrap_or_default().join(".local/share");
    variable("XDG_DATA_HOME").unwrap_or_else(of_home).join("tank")
}

fn default_run_dir(data_dir: &Path) -> PathBuf {
    if is_root() {
        return "/run/tank".into();
    }
    // A name in a directory for all could be somebody else's already.
    variable("XDG_RUNTIME_DIR").map_or_else(|| data_dir.join("run"), |dir| dir.join("tank"))
}

fn cgroup_parent(text: &str) -> Result<String, String> {
    let is_safe = !text.trim_matches('/').is_empty()
        && text.split('/').all(|part| part != "." && part != "..");
    if is_safe { Ok(text.to_owned()) } else { Err("must be a path without . and ..".to_owned()) }
}

impl PortArgs {
    fn options(self) -> std::io::Result<Options> {
        let shim = match self.shim {
            Some(path) => path,
            None => std::env::current_exe()?.with_file_name("tank-shim"),
        };
        let data_dir = self.data_dir.unwrap_or_else(default_data_dir);
        let run_dir = self.run_dir.unwrap_or_else(|| default_run_dir(&data_dir));
        Ok(Options {
            data_dir: std::path::absolute(data_dir)?,
            run_dir: std::path::absolute(run_dir)?,
            store: match self.store {
                StoreArg::Durable => StoreKind::Durable,
                StoreArg::Memory => StoreKind::Memory,
            },
            runtime: match self.runtime {
                RuntimeArg::Container => RuntimeKind::Container,
                RuntimeArg::Client => RuntimeKind::Client,
                RuntimeArg::None => RuntimeKind::None,
            },
            interval_ms: self.interval_ms,
            backoff_base_ms: self.backoff_base_ms,
            backoff_cap_ms: self.backoff_cap_ms,
            stable_window_ms: self.stable_window_ms,
            on_disconnect: self.on_disconnect,
            stop_grace_ms: self.stop_grace_ms,
            lock_wait_ms: self.lock_wait_ms,
            trace_frames: trace_frames(),
            shim: std::path::absolute(shim)?,
            cgroup_parent: self.cgroup_parent,
        })
    }
}

/// Serves until the client is gone.
pub(super) fn run(args: PortArgs) -> ExitCode {
    if let Some(terminal) = terminal() {
        let what = format!("{terminal} is a terminal: tank port speaks frames with a client");
        let hint = "{Tank.Reconciler, opts} in a supervision tree starts it, tank repl talks with \
                    it at a terminal, docs/protocol.md is for other clients";
        refuse(&Failure::new(Code::BadOption, what).hint(hint));
        return ExitCode::from(EXIT_BAD_OPTION);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let (options, runtime) = match args.options().and_then(|options| Ok((options, runtime?))) {
        Ok(made) => made,
        Err(error) => return cannot_start(&Failure::new(Code::Internal, error.to_string())),
    };
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, serve(options))
}

/// What `TANK_TRACE` asks for.
fn trace_frames() -> bool {
    let wanted = std::env::var_os("TANK_TRACE").unwrap_or_default();
    if !wanted.is_empty() && wanted != "frames" {
        let wanted = wanted.to_string_lossy();
        tracing::warn!("TANK_TRACE is {wanted}: nothing is traced, for there are only frames");
    }
    wanted == "frames"
}

/// Which of the pipes is a person's, if one is.
fn terminal() -> Option<&'static str> {
    let stdin = isatty(rustix::stdio::stdin()).then_some("stdin");
    stdin.or(isatty(rustix::stdio::stdout()).then_some("stdout"))
}

async fn serve(options: Options) -> ExitCode {
    let pipes = match Pipes::take() {
        Ok(pipes) => Rc::new(pipes),
        Err(error) => {
            let what = format!("stdin and stdout: {error}");
            return cannot_start(&Failure::new(Code::Internal, what));
        }
    };
    let exit = serve_on(&pipes, &options).await;
    // The daemon is gone, and with it whoever else had them.
    if let Some(pipes) = Rc::into_inner(pipes) {
        pipes.close();
    }
    exit
}

async fn serve_on(pipes: &Rc<Pipes>, options: &Options) -> ExitCode {
    let daemon = match start::start(options, Rc::clone(pipes)).await {
        Ok(daemon) => daemon,
        Err(failure) => {
            say(&failure);
            // A client that cannot read it finds the same on stderr.
            let _ = pipes.write_all(&fatal_frame(&failure)).await;
            return ExitCode::from(match failure.code {
                Code::BadOption => EXIT_BAD_OPTION,
                _ => EXIT_CANNOT_START,
            });
        }
    };
    match daemon.run().await {
        Ok(End::Done) => ExitCode::SUCCESS,
        Ok(End::Mismatch) => ExitCode::from(EXIT_MISMATCH),
        Err(error) => {
            tracing::error!(%error, "the loop failed");
            ExitCode::from(EXIT_INTERNAL)
        }
    }
}

fn cannot_start(failure: &Failure) -> ExitCode {
    refuse(failure);
    ExitCode::from(EXIT_CANNOT_START)
}

fn refuse(failure: &Failure) {
    say(failure);
    write_fatal(failure);
}

/// Tells a client in its own words what is wrong with the command line.
pub(super) fn tell_wrong_usage(error: &clap::Error) {
    let text = error.render().to_string();
    let line = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
    write_fatal(&Failure::new(Code::BadOption, line).hint("tank port --help"));
}

fn fatal_frame(failure: &Failure) -> Vec<u8> {
    let mut frame = FrameWriter::default();
    frame.push(|out| erlang_term_format::encode_into(&message::fatal(failure), out));
    frame.pending().to_vec()
}

fn write_fatal(failure: &Failure) {
    if isatty(rustix::stdio::stdout()) {
        return;
    }
    // Nobody may be listening; stderr has it too.
    let _ = std::io::stdout().write_all(&fatal_frame(failure));
}
