//! One spec of many is changed: from the request to the command to stop the old
//! run. What this costs must not depend on how many pods there are.

use std::io;
use std::time::Instant;

use crate::Measured;
use crate::fixture::{Fixture, name, spec};
use crate::interrupt;
use crate::report::Row;
use crate::sample::Sample;

/// Few pods and many.
const COUNTS: [usize; 2] = [1_000, 100_000];
/// Changes that count.
const CHANGES: usize = 2_000;
/// The step from one changed pod to the next: prime, so that they are all over.
const STRIDE: usize = 7_919;
/// How many times the cost with few pods it may be with many.
const GOAL: f64 = 2.0;

/// Measures both counts.
pub(crate) fn measure() -> Measured {
    let [few, many] = COUNTS.map(changes);
    let measure = format!("one changed pod of {}, p50", COUNTS[1]);
    Ok(vec![Row::beside(measure, many?.median(), "of 1000:", few?.median()).goal(GOAL)])
}

fn changes(count: usize) -> io::Result<Sample> {
    let mut fixture = Fixture::running(count);
    let mut change = |round: usize| {
        interrupt::check()?;
        let spec = spec(name(round * STRIDE % count), round + 1);
        let start = Instant::now();
        let stop = fixture.apply(spec);
        let time = start.elapsed();
        fixture.carry_out(stop);
        Ok(time)
    };
    Ok(Sample::new((0..CHANGES).map(&mut change).collect::<io::Result<_>>()?))
}
