//! Follows a shim and all that comes of it through a launch, numbers their system
//! calls, and makes one of them fail. Knows nothing of what a call is good for, and
//! judges nothing.
//!
//! A call is found again by its process, by what it is about and by how many like it
//! there were before, which are the same in each launch of the same pod: processes are
//! named by the order in which their makers make them. The calls are those of a part of
//! the run: from its launch's, or its stop's, being heard to its outcome's being told;
//! of a process that executes its command, those before.

use std::collections::HashMap;
use std::ffi::c_void;
use std::fmt;
use std::fs;
use std::os::fd::AsFd;
use std::sync::mpsc;

use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustix::process::Signal;
use tank_shim::frame::Decoder;
use tank_shim::protocol::{FromShim, Launch, ToShim};

use super::call::{self, Call, Ending};
use crate::scene::{PATIENCE, Shim, open_process};

/// A system call that is to fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) place: Place,
    pub(super) errno: i32,
}

/// Which system call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// `shim`, its first child `shim.1`, and so on.
    process: String,
    /// What the call is, and about what.
    call: String,
    /// Which of those, from 1 on.
    number: usize,
}

impl Place {
    /// Whether there was none like it before.
    pub(super) fn is_first(&self) -> bool {
        self.number == 1
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} #{}", self.process, self.call, self.number)
    }
}

/// The calls of which part of a run count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Until it is told of as launched, or failed.
    Launch,
    /// From its being stopped, which it is once it has written something, until its end
    /// is told of.
    Stop,
}

/// What came of a run.
#[derive(Debug, Default)]
pub(super) struct Trace {
    /// Every call, in the order in which they began.
    pub(super) calls: Vec<(Place, Call)>,
    /// The one that was made to fail.
    pub(super) failed: Option<Call>,
    /// What the shim has told, up to its end.
    pub(super) told: Vec<FromShim>,
    /// Whether its end had to be made.
    pub(super) hung: bool,
}

/// A process that is followed.
struct Tracee {
    name: String,
    children: usize,
    /// How often it has made which call.
    calls: HashMap<String, usize>,
    /// Whether it has executed a program of the container's.
    is_workload: bool,
    /// How its call is to end.
    faulty: Option<Ending>,
}

impl Tracee {
    fn new(name: String, is_workload: bool) -> Self {
        Self { name, children: 0, calls: HashMap::new(), is_workload, faulty: None }
    }
}

/// Launches a pod by a shim that has said hello, and follows all of it to its end.
pub(super) fn follow(shim: &mut Shim, pod: &Launch, part: Part, fault: Option<&Fault>) -> Trace {
    let (pid, (over, is_over)) = (shim.hello.pid, mpsc::channel::<()>());
    let process = open_process(pid);
    let watch = std::thread::spawn(move || {
        let hangs = is_over.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout);
        if hangs {
            // With it all that it has launched: who follows them learns of their ends.
            let _ = rustix::process::pidfd_send_signal(&process, Signal::KILL);
        }
        hangs
    });
    let mut tracer = Tracer::seize(pid, part, fault);
    shim.send(&ToShim::Launch(Box::new(pod.clone())));
    tracer.follow(shim, &pod.containers[0].log.path);
    drop(over);
    let hung = watch.join().unwrap();
    while tracer.hear(shim, RecvFlags::empty()) {}
    Trace { hung, ..tracer.trace }
}

struct Tracer<'a> {
    part: Part,
    /// Whether calls count by now.
    has_begun: bool,
    fault: Option<&'a Fault>,
    tracees: HashMap<i32, Tracee>,
    /// Stopped before their makers have told of them.
    unknown: Vec<i32>,
    decoder: Decoder,
    trace: Trace,
}

impl<'a> Tracer<'a> {
    fn seize(pid: i32, part: Part, fault: Option<&'a Fault>) -> Self {
        let options = libc::PTRACE_O_TRACESYSGOOD
            | libc::PTRACE_O_TRACEFORK
            | libc::PTRACE_O_TRACEVFORK
            | libc::PTRACE_O_TRACECLONE
            | libc::PTRACE_O_TRACEEXEC
            | libc::PTRACE_O_EXITKILL;
        ptrace(libc::PTRACE_SEIZE, pid, 0, options as usize).unwrap();
        ptrace(libc::PTRACE_INTERRUPT, pid, 0, 0).unwrap();
        let tracees = HashMap::from([(pid, Tracee::new("shim".to_owned(), false))]);
        let (unknown, decoder, trace) = (Vec::new(), Decoder::default(), Trace::default());
        Self { part, has_begun: part == Part::Launch, fault, tracees, unknown, decoder, trace }
    }

    /// Whether they no longer do.
    fn is_over(&self) -> bool {
        match self.part {
            Part::Launch => !self.trace.told.is_empty(),
            Part::Stop => {
                self.has_told(|told| matches!(told, FromShim::Exited(_) | FromShim::Failed(_)))
            }
        }
    }

    fn has_told(&self, is_it: impl Fn(&FromShim) -> bool) -> bool {
        self.trace.told.iter().any(is_it)
    }

    /// Until all are dead and reaped.
    fn follow(&mut self, shim: &mut Shim, log: &str) {
        while let Some((pid, status)) = wait() {
            if !libc::WIFSTOPPED(status) {
                self.tracees.remove(&pid);
                self.unknown.retain(|&unknown| unknown != pid);
                continue;
            }
            if !self.tracees.contains_key(&pid) {
                self.unknown.push(pid);
                continue;
            }
            let signal = self.look(pid, status, shim, log);
            self.go_on(pid, signal);
        }
    }

    /// Takes what a process has stopped for; the signal that it is to be given.
    fn look(&mut self, pid: i32, status: i32, shim: &mut Shim, log: &str) -> i32 {
        const SYSTEM_CALL: i32 = libc::SIGTRAP | 0x80;
        match (libc::WSTOPSIG(status), status >> 16) {
            (SYSTEM_CALL, _) => self.look_at_call(pid, shim, log),
            (_, libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK | libc::PTRACE_EVENT_CLONE) => {
                self.welcome_child(pid)
            }
            (_, libc::PTRACE_EVENT_EXEC) => self.tracee(pid).is_workload = true,
            // Which the first process of a pid namespace would survive only as it is traced.
            (libc::SIGSEGV | libc::SIGBUS | libc::SIGILL | libc::SIGFPE, 0) => {
                return libc::SIGKILL;
            }
            (signal, 0) => return signal,
            _ => {}
        }
        0
    }

    fn tracee(&mut self, pid: i32) -> &mut Tracee {
        self.tracees.get_mut(&pid).expect("a process that is followed")
    }

    fn welcome_child(&mut self, maker: i32) {
        let mut child: libc::c_ulong = 0;
        let told = ptrace(libc::PTRACE_GETEVENTMSG, maker, 0, (&raw mut child).addr());
        // One that has been killed meanwhile does not tell, and takes its child along.
        let (Ok(_), Ok(child)) = (told, i32::try_from(child)) else { return };
        let maker = self.tracee(maker);
        maker.children += 1;
        let tracee = Tracee::new(format!("{}.{}", maker.name, maker.children), maker.is_workload);
        self.tracees.insert(child, tracee);
        if let Some(index) = self.unknown.iter().position(|&pid| pid == child) {
            self.unknown.remove(index);
            self.go_on(child, 0);
        }
    }

    fn look_at_call(&mut self, pid: i32, shim: &mut Shim, log: &str) {
        let Some(stop) = call::stop(pid) else { return };
        if let Some(stop) = stop.entry() {
            return self.begin_call(pid, &Call::read(pid, stop));
        }
        if let Some(ending) = self.tracee(pid).faulty.take() {
            ending.write(pid);
        }
        if pid == shim.hello.pid {
            while self.hear(shim, RecvFlags::DONTWAIT) {}
            let is_ready = || fs::metadata(log).is_ok_and(|log| log.len() > 0);
            if !self.has_begun && !self.trace.told.is_empty() && is_ready() {
                self.has_begun = true;
                shim.stop();
            }
        }
    }

    fn begin_call(&mut self, pid: i32, call: &Call) {
        let counts = self.has_begun && !self.is_over();
        let tracee = self.tracee(pid);
        // It waits for the order, and may have been interrupted in that.
        let is_idle = tracee.name == "shim" && tracee.calls.is_empty() && call.is_wait();
        if !counts || tracee.is_workload || is_idle || call.never_fails() {
            return;
        }
        let number = tracee.calls.entry(call.to_string()).or_default();
        *number += 1;
        let (process, number) = (tracee.name.clone(), *number);
        let place = Place { process, call: call.to_string(), number };
        if let Some(fault) = self.fault.filter(|fault| fault.place == place) {
            self.tracee(pid).faulty = Some(call.prevent(pid, fault.errno));
            self.trace.failed = Some(call.clone());
        }
        self.trace.calls.push((place, call.clone()));
    }

    /// Whether the shim has told something, or has more to tell.
    fn hear(&mut self, shim: &Shim, flags: RecvFlags) -> bool {
        let mut bytes = [0; 4096];
        let count = match rustix::net::recv(shim.stream.as_fd(), &mut bytes, flags) {
            Ok((_, 0)) | Err(Errno::AGAIN | Errno::CONNRESET) => return false,
            Ok((_, count)) => count,
            Err(errno) => panic!("hear from the shim: {errno}"),
        };
        self.decoder.push(&bytes[..count]);
        while let Some(message) = self.decoder.decode().unwrap() {
            self.trace.told.push(message);
        }
        true
    }

    /// Lets a process go on, to its next call as long as calls count. One that has
    /// been killed meanwhile tells of its end.
    fn go_on(&mut self, pid: i32, signal: i32) {
        let is_over = self.is_over();
        let tracee = self.tracee(pid);
        let counts = !tracee.is_workload && !is_over || tracee.faulty.is_some();
        let request = if counts { libc::PTRACE_SYSCALL } else { libc::PTRACE_CONT };
        let _ = ptrace(request, pid, 0, signal.cast_unsigned() as usize);
    }
}

/// The next process of this thread's that has stopped or ended; `None` when there
/// is none left.
fn wait() -> Option<(i32, i32)> {
    let mut status = 0;
    loop {
        // SAFETY: the kernel writes a status to where there is place for one.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL | libc::__WNOTHREAD) };
        match pid {
            -1 if std::io::Error::last_os_error().raw_os_error() == Some(libc::EINTR) => {}
            -1 => return None,
            pid => return Some((pid, status)),
        }
    }
}

/// ptrace(2). What an address or data points to must outlive the call.
pub(super) fn ptrace(
    request: libc::c_uint,
    pid: i32,
    address: usize,
    data: usize,
) -> std::io::Result<i64> {
    // SAFETY: all requests of these tests read and write the other process, or
    // write to where a caller has place for it.
    let result = unsafe { libc::ptrace(request, pid, address as *mut c_void, data as *mut c_void) };
    if result == -1 { Err(std::io::Error::last_os_error()) } else { Ok(result) }
}
