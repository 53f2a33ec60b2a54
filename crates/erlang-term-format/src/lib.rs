//! Erlang external term format.
#![forbid(unsafe_code)]
