//! The requests of one client that have not been answered: which ids are taken,
//! and how much they are. It refuses what is too much; it answers nothing.

use std::collections::BTreeMap;

use crate::core::failure::{Code, Failure, Place};

/// How many requests may wait for an answer: a disk that hangs, or a pass that
/// never settles, must not make the program grow for as long as a client asks.
pub const REQUESTS_MAX: usize = 65_536;

/// Bytes that the frames of requests in flight may take together.
pub const REQUEST_BYTES_MAX: usize = 64 << 20;

/// Requests in flight, each with the length of its frame.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    requests: BTreeMap<i64, usize>,
    bytes: usize,
}

impl InFlight {
    pub(super) fn contains(&self, id: i64) -> bool {
        self.requests.contains_key(&id)
    }

    /// Whether there is room for another request.
    ///
    /// # Errors
    /// `busy`.
    pub(super) fn check(&self, bytes: usize) -> Result<(), Failure> {
        let what = if self.requests.len() >= REQUESTS_MAX {
            format!("{REQUESTS_MAX} requests wait for an answer")
        } else if self.bytes + bytes > REQUEST_BYTES_MAX {
            format!("{} bytes of requests wait for an answer", self.bytes)
        } else {
            return Ok(());
        };
        Err(Failure::new(Code::Busy, what).hint("wait for some of the answers, then ask again"))
    }

    pub(super) fn insert(&mut self, id: i64, bytes: usize) {
        let before = self.requests.insert(id, bytes);
        assert!(before.is_none(), "request {id} is in flight already");
        self.bytes += bytes;
    }

    /// Request `id` is answered.
    pub(super) fn remove(&mut self, id: i64) {
        self.bytes -= self.requests.remove(&id).unwrap_or(0);
    }
}

/// Why an id cannot be used. Not told under that id, where it would be taken
/// for the answer to the request that has it.
pub(super) fn in_use(id: i64) -> Failure {
    Failure::new(Code::BadArgs, format!("request {id} has not been answered yet"))
        .at(Place::Field, "id")
        .hint("give each request an id of its own")
}
