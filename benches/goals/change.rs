//! One spec of many is changed: from the request to the command to stop the old
//! run. What this costs must not depend on how many pods there are.
//!
//! Measured twice. In a loop, few pods are all in the CPU's caches and many are
//! not, so that the difference is that between the caches and the memory. After
//! other work, which is when a change comes in life, nothing is in the caches:
//! then the difference is what the core does more.

use std::hint::black_box;
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
const CHANGES: usize = 1_000;
/// The step from one changed pod to the next: prime, so that they are all over.
const STRIDE: usize = 7_919;
/// How many times the cost with few pods it may be with many.
const GOAL: f64 = 2.0;

/// Words of other work: 32 MiB, more than the caches of a CPU hold for one program.
const OTHER_WORDS: usize = 4 << 20;

/// Measures both counts, after other work and in a loop.
pub(crate) fn measure() -> Measured {
    let mut rows = Vec::new();
    for (how, words) in [("after other work", OTHER_WORDS), ("in a loop", 0)] {
        let mut other_work = vec![1; words];
        let few = changes(COUNTS[0], &mut other_work)?;
        let many = changes(COUNTS[1], &mut other_work)?;
        let measure = format!("one changed pod of {}, {how}, p50", COUNTS[1]);
        rows.push(Row::beside(measure, many.median(), "of 1000:", few.median()).goal(GOAL));
    }
    Ok(rows)
}

fn changes(count: usize, other_work: &mut [u64]) -> io::Result<Sample> {
    let mut fixture = Fixture::running(count);
    let mut change = |round: usize| {
        interrupt::check()?;
        let spec = spec(name(round * STRIDE % count), round + 1);
        other_work.iter_mut().for_each(|word| *word = word.wrapping_mul(3));
        black_box(&*other_work);
        let start = Instant::now();
        let stop = fixture.apply(spec);
        let time = start.elapsed();
        fixture.carry_out(stop);
        Ok(time)
    };
    Ok(Sample::new((0..CHANGES).map(&mut change).collect::<io::Result<_>>()?))
}
