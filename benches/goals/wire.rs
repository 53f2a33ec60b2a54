//! Frames over the port's pipes: a `ping` brings back what it took, as the peer
//! does.

use std::io;
use std::time::{Duration, Instant};

use erlang_term_format::{Term, tuple};
use tank::port::frame::HEADER_BYTES;

use crate::Measured;
use crate::child::{FrameChild, framed};
use crate::cpus::{Cpus, Placement};
use crate::echo;
use crate::flight;
use crate::interrupt;
use crate::report::Row;
use crate::sample::Sample;

/// Bytes of a small call's term and of its answer's.
const SMALL_BYTES: usize = 200;
/// Bytes of a large one's.
const LARGE_BYTES: usize = 10_000_000;

/// Round trips that count, in each of the rounds, and those before them.
const SMALL_CALLS: usize = 5_000;
const SMALL_WARM_UP: usize = 1_000;
/// The same of large calls.
const LARGE_CALLS: usize = 4;
const LARGE_WARM_UP: usize = 1;

/// Turns that Tank and the peer take.
const ROUNDS: usize = 8;

/// Measures round trips wherever client and server may run, then how many calls
/// pass that do not wait for one another, then a large one.
pub(crate) fn measure() -> Measured {
    let mut rows = Vec::new();
    for (placement, place, goal) in [
        (Placement::One, "one CPU", Some(1.15)),
        (Placement::Two, "two CPUs", Some(0.2)),
        (Placement::Any, "any CPU", None),
    ] {
        if let Some(cpus) = Cpus::take(placement)? {
            let row = row(&format!("ping of 200 bytes, {place}"), race(&cpus, small_calls)?);
            rows.push(match goal {
                Some(goal) => row.goal(goal),
                None => row,
            });
        }
    }
    let cpus = Cpus::take(Placement::Any)?.expect("any CPU will do");
    let flights = race(&cpus, flights)?;
    rows.push(row("1,000 pings of 200 bytes in flight, each", flights).goal(0.5));
    rows.push(row("ping of 10 MB", race(&cpus, large_calls)?).goal(0.7));
    Ok(rows)
}

fn row(measure: &str, [tank, peer]: [Sample; 2]) -> Row {
    Row::beside(measure, tank.median(), echo::NAME, peer.median())
}

/// Tank's times and the peer's, in turns.
fn race(
    cpus: &Cpus,
    measure: fn(&mut FrameChild) -> io::Result<Vec<Duration>>,
) -> io::Result<[Sample; 2]> {
    let port = || FrameChild::port(&["--store", "memory", "--runtime", "none"]);
    let mut servers = [cpus.start(port)?, cpus.start(echo::spawn)?];
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (server, times) in servers.iter_mut().zip(&mut times) {
            interrupt::check()?;
            times.append(&mut measure(server)?);
        }
    }
    Ok(times.map(Sample::new))
}

fn small_calls(server: &mut FrameChild) -> io::Result<Vec<Duration>> {
    round_trips(server, &ping(SMALL_BYTES), SMALL_WARM_UP, SMALL_CALLS)
}

fn large_calls(server: &mut FrameChild) -> io::Result<Vec<Duration>> {
    round_trips(server, &ping(LARGE_BYTES), LARGE_WARM_UP, LARGE_CALLS)
}

fn flights(server: &mut FrameChild) -> io::Result<Vec<Duration>> {
    flight::fly(server, &ping(SMALL_BYTES))
}

/// Calls that each wait for the answer to the one before.
pub(crate) fn round_trips(
    server: &mut FrameChild,
    call: &[u8],
    warm_up: usize,
    count: usize,
) -> io::Result<Vec<Duration>> {
    let mut answer = Vec::new();
    let mut times = Vec::with_capacity(count);
    for number in 0..warm_up + count {
        let start = Instant::now();
        server.send(call)?;
        server.recv_bytes(&mut answer)?;
        if number >= warm_up {
            times.push(start.elapsed());
        }
    }
    Ok(times)
}

/// The frame of a ping whose term takes this many bytes, as its answer's does.
fn ping(bytes: usize) -> Vec<u8> {
    let ping = |content: &[u8]| framed(&tuple![1, Term::atom("ping"), content]);
    let envelope_bytes = ping(&[]).len() - HEADER_BYTES;
    ping(&vec![0; bytes - envelope_bytes])
}
