//! Tank beside its peers on one machine, in one run: `scripts/bench`, or parts
//! of it with `cargo bench --bench goals -- launch memory resync change wire
//! status codec`.
//!
//! `docs/benchmarks.md` says what is measured, how, and what the goals are.

mod change;
mod child;
mod codec;
mod conmon;
mod cpus;
mod crun;
mod echo;
mod figure;
mod fixture;
mod flight;
mod interrupt;
mod launch;
mod memory;
mod report;
mod resync;
mod sample;
mod status;
mod wire;

use std::error::Error;

use report::Row;

/// What a part of the program comes to.
type Measured = Result<Vec<Row>, Box<dyn Error>>;

/// A part: its name, and what measures it.
type Part = (&'static str, fn() -> Measured);

/// The parts, in the order of the table.
const PARTS: [Part; 7] = [
    ("launch", launch::measure),
    ("memory", memory::measure),
    ("resync", resync::measure),
    ("change", change::measure),
    ("wire", wire::measure),
    ("status", status::measure),
    ("codec", codec::measure),
];

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    interrupt::listen()?;
    report::print_head();
    for (name, measure) in PARTS {
        if args.is_empty() || args.iter().any(|arg| arg == name) {
            for row in measure().map_err(|error| format!("{name}: {error}"))? {
                row.print();
            }
        }
    }
    Ok(())
}
