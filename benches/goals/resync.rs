//! A full pass over pods of which none has changed: the core digests a list of
//! all runs. The peer is the same diff in plain Elixir, `benches/resync.exs`.

use std::collections::BTreeMap;
use std::io;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::Measured;
use crate::fixture::Fixture;
use crate::interrupt;
use crate::report::Row;
use crate::sample::{Sample, Time};

/// How many pods there are.
const COUNTS: [usize; 3] = [1_000, 10_000, 100_000];
/// Tank may take this share of the peer's time.
const GOAL: f64 = 0.05;

/// Measures each count.
pub(crate) fn measure() -> Measured {
    let peer = peer()?;
    let row = |count: usize| -> io::Result<Row> {
        let measure = format!("resync of {count} unchanged pods, p50");
        let time = *peer.get(&count).ok_or_else(|| io::Error::other("the peer left one out"))?;
        Ok(Row::beside(measure, tank(count)?.median(), "Elixir", time).goal(GOAL))
    };
    Ok(COUNTS.into_iter().map(row).collect::<io::Result<_>>()?)
}

fn tank(count: usize) -> io::Result<Sample> {
    let mut fixture = Fixture::running(count);
    let rounds = (2_000_000 / count).clamp(30, 500);
    let pass = |_| {
        interrupt::check()?;
        let start = Instant::now();
        fixture.pass();
        Ok(start.elapsed())
    };
    Ok(Sample::new((0..rounds).map(pass).collect::<io::Result<_>>()?))
}

/// The peer's medians by count.
fn peer() -> io::Result<BTreeMap<usize, Time>> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/resync.exs");
    let output = Command::new("elixir").arg(script).args(COUNTS.map(|n| n.to_string())).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = |line: &str| {
        let (count, micros) = line.split_once(' ')?;
        Some((count.parse().ok()?, Time(Duration::from_micros(micros.parse().ok()?))))
    };
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(format!("elixir {script}: {words}")));
    }
    Ok(text.lines().filter_map(line).collect())
}
