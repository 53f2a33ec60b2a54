//! What every store promises, and what the durable one promises beyond.

mod contract;
mod crash;
mod damage;
mod disk;
mod durable;
mod migration;
mod specs;
