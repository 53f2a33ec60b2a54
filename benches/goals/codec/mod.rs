//! The codec, against C's `ei`, the BEAM's own, and the `eetf` crate.
//!
//! Everyone reads and writes the same two frames, and nobody's time counts before what they have
//! read has come out again as the same term. Turns are taken in each round.

mod data;
mod peer;

use std::error::Error;
use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use erlang_term_format::{decode, encode, from_slice, to_vec};

use crate::Measured;
use crate::interrupt;
use crate::report::Row;
use crate::sample::{Sample, Time};
use data::{Pod, Statuses};
use peer::Peer;

/// Turns that each takes.
const ROUNDS: usize = 40;
/// How many pods the larger frame tells of.
const PODS: usize = 10_000;

/// Decoding into structs may take this share of `ei`'s time, and of the BEAM's.
const DECODE_GOALS: [f64; 2] = [1.0, 0.4];
/// Encoding from structs may take this share of `ei`'s time.
const ENCODE_GOAL: f64 = 0.25;

/// Measures both frames.
pub(crate) fn measure() -> Measured {
    let names = data::names(PODS);
    let (spec, statuses) = (data::spec(), data::statuses(&names));
    let frames = [to_vec(&spec)?, to_vec(&statuses)?];
    let dir = tempfile::tempdir()?;
    for (name, bytes) in ["spec", "status"].into_iter().zip(&frames) {
        fs::write(dir.path().join(name).with_extension("etf"), bytes)?;
    }
    let mut peers = Peers { ei: Peer::ei(dir.path())?, beam: Peer::beam(dir.path())? };
    let [spec_bytes, status_bytes] = &frames;
    let cases = [
        Case {
            name: "spec",
            count: 1_000,
            bytes: spec_bytes,
            decode: &|| drop(black_box(from_slice::<Pod>(spec_bytes))),
            encode: &|| drop(black_box(to_vec(&spec))),
        },
        Case {
            name: "status",
            count: 1,
            bytes: status_bytes,
            decode: &|| drop(black_box(from_slice::<Statuses>(status_bytes))),
            encode: &|| drop(black_box(to_vec(&statuses))),
        },
    ];
    let mut rows = Vec::new();
    for case in cases {
        peers.check(&case, dir.path())?;
        rows.extend(case.race(&mut peers)?);
    }
    Ok(rows)
}

/// Those who are in processes of their own.
struct Peers {
    ei: Peer,
    beam: Peer,
}

impl Peers {
    /// What each of them reads and writes again must be the same term.
    fn check(&mut self, case: &Case<'_>, dir: &Path) -> Result<(), Box<dyn Error>> {
        let term = decode(case.bytes)?;
        let same = |who: &str, bytes: &[u8]| match decode(bytes) {
            Ok(other) if other == term => Ok(()),
            other => Err(format!("{who} made another {} of it: {:?}", case.name, other.err())),
        };
        for (who, peer) in [("ei", &mut self.ei), ("beam", &mut self.beam)] {
            peer.run("check", case.name, 1)?;
            same(who, &fs::read(dir.join(case.name).with_extension(who))?)?;
        }
        let mut bytes = Vec::new();
        eetf::Term::decode(case.bytes)?.encode(&mut bytes)?;
        Ok(same("eetf", &bytes)?)
    }
}

/// A frame, and what this crate makes of it.
struct Case<'c> {
    name: &'static str,
    /// Times in a turn.
    count: u32,
    bytes: &'c [u8],
    decode: &'c dyn Fn(),
    encode: &'c dyn Fn(),
}

/// How long each took, a turn after the other, or the median of that.
#[derive(Default)]
struct Times<T> {
    structs: T,
    tree: T,
    ei: T,
    beam: T,
    eetf: T,
}

impl Times<Vec<Duration>> {
    fn push(&mut self, turn: Times<Duration>, count: u32) {
        self.structs.push(turn.structs / count);
        self.tree.push(turn.tree / count);
        self.ei.push(turn.ei / count);
        self.beam.push(turn.beam / count);
        self.eetf.push(turn.eetf / count);
    }

    fn medians(self) -> Times<Time> {
        let median = |times| Sample::new(times).median();
        Times {
            structs: median(self.structs),
            tree: median(self.tree),
            ei: median(self.ei),
            beam: median(self.beam),
            eetf: median(self.eetf),
        }
    }
}

impl Case<'_> {
    fn race(&self, peers: &mut Peers) -> Result<Vec<Row>, Box<dyn Error>> {
        let (tree, eetf_tree) = (decode(self.bytes)?, eetf::Term::decode(self.bytes)?);
        let (mut reading, mut writing) = (Times::default(), Times::default());
        let mut ei_borrowed = Vec::new();
        for _ in 0..ROUNDS {
            interrupt::check()?;
            let turn = Times {
                structs: self.timed(self.decode),
                ei: peers.ei.run("decode", self.name, self.count)?,
                beam: peers.beam.run("decode", self.name, self.count)?,
                tree: self.timed(&|| drop(black_box(decode(self.bytes)))),
                eetf: self.timed(&|| drop(black_box(eetf::Term::decode(self.bytes)))),
            };
            reading.push(turn, self.count);
            ei_borrowed.push(peers.ei.run("borrow", self.name, self.count)? / self.count);
            let turn = Times {
                structs: self.timed(self.encode),
                ei: peers.ei.run("encode", self.name, self.count)?,
                beam: peers.beam.run("encode", self.name, self.count)?,
                tree: self.timed(&|| drop(black_box(encode(&tree)))),
                eetf: self.timed(&|| drop(black_box(eetf_tree.encode(&mut Vec::new())))),
            };
            writing.push(turn, self.count);
        }
        let ei_borrowed = Sample::new(ei_borrowed).median();
        Ok(self.rows(&reading.medians(), ei_borrowed, &writing.medians()))
    }

    fn timed(&self, work: &dyn Fn()) -> Duration {
        let start = Instant::now();
        (0..self.count).for_each(|_| work());
        start.elapsed()
    }

    fn rows(&self, reading: &Times<Time>, ei_borrowed: Time, writing: &Times<Time>) -> Vec<Row> {
        let kilobytes = self.bytes.len() as f64 / 1e3;
        let row = |what: &str, tank, peer, time| {
            let measure = format!("{} of {kilobytes:.1} kB, {what}, p50", self.name);
            Row::beside(measure, tank, peer, time)
        };
        let (to, from, tree) = ("decode to structs", "encode structs", "tree of terms");
        vec![
            row(to, reading.structs, "ei, text copied", reading.ei).goal(DECODE_GOALS[0]),
            row(to, reading.structs, "ei, not copied", ei_borrowed).goal(DECODE_GOALS[0]),
            row(to, reading.structs, "BEAM", reading.beam).goal(DECODE_GOALS[1]),
            row(from, writing.structs, "ei", writing.ei).goal(ENCODE_GOAL),
            row(from, writing.structs, "BEAM", writing.beam),
            row(&format!("decode to a {tree}"), reading.tree, "eetf", reading.eetf),
            row(&format!("encode a {tree}"), writing.tree, "eetf", writing.eetf),
        ]
    }
}
