//! The per-pod supervisor.
