//! What every store promises, and what the durable one promises beyond.

mod contract;
mod specs;
