//! A command that runs in a container before it is asked to end (`pre_stop`): how
//! far its launch came, its output, how it ended.

use std::os::fd::BorrowedFd;

use tank_shim::protocol::{Container, Exit, Failure, Step, UserNamespace};

use crate::launch::{self, Launching, Output, Report};
use crate::log::{Log, Stream};
use crate::process::Process;

/// A command with a process.
pub(crate) struct Hook {
    process: Process,
    /// Until it has been exec'd or has failed to be.
    launching: Option<Launching>,
    failure: Option<Failure>,
    streams: [Stream; 2],
}

/// How a command ended: well, or in these words.
pub(crate) type HookEnd = Result<(), String>;

impl Hook {
    /// Starts the `pre_stop` of a container whose first process is `first`.
    pub(crate) fn begin(
        container: &Container,
        first: &Process,
        ids: Option<UserNamespace>,
    ) -> Result<Self, Failure> {
        let argv = &container.stop.pre_stop;
        let started = launch::start_beside(container, first.pidfd(), ids, argv)?;
        let streams = match started.output {
            Output::Pipes([stdout, stderr]) => {
                [Stream::new("stdout", stdout), Stream::new("stderr", stderr)]
            }
            Output::Terminal(_) => unreachable!("a further process has no terminal"),
        };
        let process = Process::new(started.pidfd)
            .map_err(|errno| launch::failure(Step::EnterContainer, &container.name, errno))?;
        Ok(Self { process, launching: Some(started.launching), failure: None, streams })
    }

    /// What to wait for: a report, a death, output.
    pub(crate) fn sources(&self) -> [Option<BorrowedFd<'_>>; 4] {
        let report = self.launching.as_ref().map(Launching::report);
        let [stdout, stderr] = &self.streams;
        [report, Some(self.process.pidfd()), stdout.pipe(), stderr.pipe()]
    }

    /// Takes what those have to say that are ready. Says how it ended, once it has.
    pub(crate) fn hear(&mut self, ready: [bool; 4], log: &mut Log) -> Option<HookEnd> {
        let [report, is_dead, stdout, stderr] = ready;
        for (stream, is_ready) in self.streams.iter_mut().zip([stdout, stderr]) {
            if is_ready {
                stream.pump(log);
            }
        }
        if report && let Some(launching) = &self.launching {
            match launching.read_report() {
                Report::Pending => {}
                Report::Executed => self.launching = None,
                Report::Failed(failure) => {
                    (self.launching, self.failure) = (None, Some(failure));
                    self.process.kill();
                }
            }
        }
        if !is_dead {
            return None;
        }
        let exit = self.process.reap().ok().flatten()?;
        for stream in &mut self.streams {
            stream.finish(log);
        }
        Some(match (self.failure.take(), exit) {
            (Some(failure), _) => Err(failure.message),
            (None, Exit::Exited(0)) => Ok(()),
            (None, Exit::Exited(code)) => Err(format!("exited with status {code}")),
            (None, Exit::Signaled(signal)) => Err(format!("was ended by signal {signal}")),
            (None, Exit::OutOfMemory) => Err("was killed for lack of memory".to_owned()),
        })
    }
}
