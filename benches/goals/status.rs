//! The round trip of a `status` call over the port's pipes.

use std::io;

use erlang_term_format::Term;

use crate::Measured;
use crate::child::{FrameChild, frame, is_tagged};
use crate::cpus::{Cpus, Placement};
use crate::interrupt;
use crate::report::Row;
use crate::sample::Sample;
use crate::wire::round_trips;

/// Calls before the first that counts, and those that count, in each round.
const WARM_UP: usize = 1_000;
const CALLS: usize = 5_000;
/// Turns that the two calls take.
const ROUNDS: usize = 8;

/// Measures what a question of the core costs beyond a bare round trip, which is
/// that of a `ping` to the same server. On one CPU, where none is waited for.
pub(crate) fn measure() -> Measured {
    let cpus = Cpus::take(Placement::One)?.expect("one CPU will do");
    let mut port = cpus.start(running_pod)?;
    let calls = ["{1, status, <<\"web\">>}", "{1, ping, <<\"web\">>}"].map(frame);
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (call, times) in calls.iter().zip(&mut times) {
            interrupt::check()?;
            times.append(&mut round_trips(&mut port, call, WARM_UP, CALLS)?);
        }
    }
    let [status, ping] = times.map(Sample::new);
    let measure = "status of a pod, round trip, one CPU";
    Ok(vec![Row::beside(measure, status.median(), "ping", ping.median())])
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
