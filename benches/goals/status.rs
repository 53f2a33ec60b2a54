//! The round trip of a `status` call over the port's pipes.

use std::io;
use std::time::Instant;

use erlang_term_format::Term;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::Measured;
use crate::child::{FrameChild, frame, is_tagged};
use crate::echo;
use crate::interrupt;
use crate::report::Row;
use crate::sample::Sample;

/// Calls before the first that counts.
const WARM_UP: usize = 2_000;
/// Calls that count, in each of the rounds.
const CALLS: usize = 5_000;
/// Turns that Tank and the peer take.
const ROUNDS: usize = 4;

/// Measures with client and server on one CPU, wherever the kernel puts them,
/// which is on one CPU when both are alone, and on two, where each call wakes
/// another CPU twice.
pub(crate) fn measure() -> Measured {
    let all = sched_getaffinity(None)?;
    let mut cpus = (0..CpuSet::MAX_CPU).filter(|cpu| all.is_set(*cpu)).map(only);
    let first = cpus.next().expect("this process runs on a CPU");
    let mut rows = Vec::new();
    {
        let _pin = Pin::to(first, all)?;
        rows.push(row("one CPU", race(None)?));
    }
    rows.push(row("any CPU", race(None)?));
    if let Some(second) = cpus.next() {
        let _pin = Pin::to(first, all)?;
        rows.push(row("two CPUs", race(Some((all, second)))?));
    }
    Ok(rows)
}

fn row(name: &str, [tank, peer]: [Sample; 2]) -> Row {
    let measure = format!("status call, round trip, {name}, p50");
    Row::beside(measure, tank.median(), "echo", peer.median())
}

/// Tank's round trips and the peer's, in turns. `apart` is where servers begin,
/// and to what they are bound once they run.
fn race(apart: Option<(CpuSet, CpuSet)>) -> io::Result<[Sample; 2]> {
    let call = frame("{1, status, <<\"web\">>}");
    let start = |server: &dyn Fn() -> io::Result<FrameChild>| {
        let Some((at_first, then)) = apart else { return server() };
        let own = sched_getaffinity(None)?;
        let _pin = Pin::to(at_first, own)?;
        let server = server()?;
        sched_setaffinity(Some(server.pid()), &then)?;
        Ok(server)
    };
    let mut tank = start(&running_pod)?;
    let reply_bytes = round_trip(&mut tank, &call, &mut Vec::new())?;
    let mut peer = start(&|| echo::spawn(reply_bytes))?;
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (child, times) in [&mut tank, &mut peer].into_iter().zip(&mut times) {
            time_calls(child, &call, times)?;
        }
    }
    Ok(times.map(Sample::new))
}

fn time_calls(
    child: &mut FrameChild,
    call: &[u8],
    times: &mut Vec<std::time::Duration>,
) -> io::Result<()> {
    interrupt::check()?;
    let mut buffer = Vec::new();
    for _ in 0..WARM_UP {
        round_trip(child, call, &mut buffer)?;
    }
    for _ in 0..CALLS {
        let start = Instant::now();
        round_trip(child, call, &mut buffer)?;
        times.push(start.elapsed());
    }
    Ok(())
}

/// One call; how long its answer is.
fn round_trip(child: &mut FrameChild, call: &[u8], buffer: &mut Vec<u8>) -> io::Result<usize> {
    child.send(call)?;
    child.recv_bytes(buffer)?;
    Ok(buffer.len())
}

/// A port program with one pod that runs, as far as it knows.
fn running_pod() -> io::Result<FrameChild> {
    let mut port = FrameChild::port(&["--store", "memory", "--runtime", "client"])?;
    port.send(&frame(
        "{1, apply, #{name => <<\"web\">>, \
         containers => [#{name => <<\"app\">>, image => <<\"nginx:1.27\">>}]}}",
    ))?;
    loop {
        let message = port.recv()?;
        if let Some([id, op, _]) = message.as_tuple()
            && op.is_atom("start")
        {
            port.send(&frame(&format!("{{{id}, {{ok, #{{host_pid => 4711}}}}}}")))?;
            return wait_until_running(port);
        }
    }
}

fn wait_until_running(mut port: FrameChild) -> io::Result<FrameChild> {
    loop {
        port.send(&frame("{1, status, <<\"web\">>}"))?;
        let reply = port.recv()?;
        let [_, result] = reply.as_tuple().unwrap_or_default() else { continue };
        let statuses = result.as_tuple().and_then(<[_]>::last).filter(|_| is_tagged(result, "ok"));
        let status = statuses.and_then(|all| all.get_term(&Term::binary("web")));
        if status.and_then(|s| s.get("status")).is_some_and(|s| s.is_atom("running")) {
            return Ok(port);
        }
        interrupt::check()?;
    }
}

/// The set of this CPU alone.
fn only(cpu: usize) -> CpuSet {
    let mut set = CpuSet::new();
    set.set(cpu);
    set
}

/// This process, and what it starts, on certain CPUs until dropped.
struct Pin(CpuSet);

impl Pin {
    /// Binds it to `cpus`, and later to `then` again.
    fn to(cpus: CpuSet, then: CpuSet) -> io::Result<Self> {
        sched_setaffinity(None, &cpus)?;
        Ok(Self(then))
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        // The set that was there before is allowed again.
        let _ = sched_setaffinity(None, &self.0);
    }
}
