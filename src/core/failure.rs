//! What went wrong, where, and what to do: one shape on every side.

use super::spec::Name;

/// The closed set of error codes (`docs/protocol.md`, "Errors").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Code {
    /// A frame is not one well-formed term.
    MalformedFrame,
    /// A frame is, or an answer would be, longer than the limit.
    FrameTooLarge,
    /// The two sides speak different protocol versions.
    ProtocolMismatch,
    /// A request came before the handshake.
    HandshakeRequired,
    /// The operation does not exist.
    UnknownOp,
    /// The operation exists and its arguments are of another shape.
    BadArgs,
    /// A pod spec breaks a rule; the reason says which.
    InvalidSpec,
    /// A valid spec asks for what this runtime cannot do.
    Unsupported,
    /// No such pod, or no such run of it.
    NotFound,
    /// A pod of that name is there already.
    Exists,
    /// The store could not commit; nothing changed.
    StoreFailed,
    /// A stored record cannot be read.
    StoreCorrupt,
    /// Another port program holds the data directory.
    Locked,
    /// The operating system refuses for want of privilege.
    NotPermitted,
    /// A pod could not be started; `where` names step and object.
    StartFailed,
    /// A run could not be ended; it is tried again.
    StopFailed,
    /// An image could not be downloaded.
    ImageUnavailable,
    /// An injected runtime failed.
    RuntimeFailed,
    /// A run vanished without an exit status.
    Lost,
    /// What was waited for has not come in time.
    Timeout,
    /// The program is stopping and takes no more work.
    ShuttingDown,
    /// A stated limit on work in flight is reached.
    Busy,
    /// A command line option is wrong.
    BadOption,
    /// A defect in Tank.
    Internal,
}

impl Code {
    /// Every code.
    pub const ALL: [Self; 24] = [
        Self::MalformedFrame,
        Self::FrameTooLarge,
        Self::ProtocolMismatch,
        Self::HandshakeRequired,
        Self::UnknownOp,
        Self::BadArgs,
        Self::InvalidSpec,
        Self::Unsupported,
        Self::NotFound,
        Self::Exists,
        Self::StoreFailed,
        Self::StoreCorrupt,
        Self::Locked,
        Self::NotPermitted,
        Self::StartFailed,
        Self::StopFailed,
        Self::ImageUnavailable,
        Self::RuntimeFailed,
        Self::Lost,
        Self::Timeout,
        Self::ShuttingDown,
        Self::Busy,
        Self::BadOption,
        Self::Internal,
    ];

    /// The code of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.name() == name)
    }

    /// The code's name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::MalformedFrame => "malformed_frame",
            Self::FrameTooLarge => "frame_too_large",
            Self::ProtocolMismatch => "protocol_mismatch",
            Self::HandshakeRequired => "handshake_required",
            Self::UnknownOp => "unknown_op",
            Self::BadArgs => "bad_args",
            Self::InvalidSpec => "invalid_spec",
            Self::Unsupported => "unsupported",
            Self::NotFound => "not_found",
            Self::Exists => "exists",
            Self::StoreFailed => "store_failed",
            Self::StoreCorrupt => "store_corrupt",
            Self::Locked => "locked",
            Self::NotPermitted => "not_permitted",
            Self::StartFailed => "start_failed",
            Self::StopFailed => "stop_failed",
            Self::ImageUnavailable => "image_unavailable",
            Self::RuntimeFailed => "runtime_failed",
            Self::Lost => "lost",
            Self::Timeout => "timeout",
            Self::ShuttingDown => "shutting_down",
            Self::Busy => "busy",
            Self::BadOption => "bad_option",
            Self::Internal => "internal",
        }
    }
}

/// A place an error can name. The set is closed, so that each is an atom the
/// client knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// The pod's name.
    Pod,
    /// The container's name.
    Container,
    /// A path into a spec or a request, as `containers[0].limits.cpu`.
    Field,
    /// A path in the file system.
    Path,
    /// A launch step, as `mount_overlay`.
    Step,
    /// The system's error number.
    Errno,
    /// A process id.
    Pid,
    /// A command line option.
    Option,
    /// A byte offset in a frame.
    Offset,
}

impl Place {
    /// Every place.
    pub const ALL: [Self; 9] = [
        Self::Pod,
        Self::Container,
        Self::Field,
        Self::Path,
        Self::Step,
        Self::Errno,
        Self::Pid,
        Self::Option,
        Self::Offset,
    ];

    /// The place of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|place| place.name() == name)
    }

    /// The place's name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pod => "pod",
            Self::Container => "container",
            Self::Field => "field",
            Self::Path => "path",
            Self::Step => "step",
            Self::Errno => "errno",
            Self::Pid => "pid",
            Self::Option => "option",
            Self::Offset => "offset",
        }
    }
}

/// An operating failure: what, where, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The closed code.
    pub code: Code,
    /// What went wrong, in one line, with the system's own words.
    pub message: String,
    /// Where, from the outside in. Numbers are in decimal.
    pub at: Vec<(Place, String)>,
    /// What to do, when it is known.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure with a code and a message and nothing more.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), at: Vec::new(), hint: None }
    }

    /// That there is no such pod.
    #[must_use]
    pub fn no_pod(pod: &Name) -> Self {
        Self::new(Code::NotFound, format!("no pod {pod}")).at(Place::Pod, pod)
    }

    /// The same failure, saying where.
    #[must_use]
    pub fn at(mut self, place: Place, value: impl ToString) -> Self {
        self.at.push((place, value.to_string()));
        self
    }

    /// The same failure, saying what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_what_they_name() {
        for code in Code::ALL {
            assert_eq!(Code::from_name(code.name()), Some(code));
        }
        for place in Place::ALL {
            assert_eq!(Place::from_name(place.name()), Some(place));
        }
        assert_eq!(Code::from_name("no_such_code"), None);
    }
}
