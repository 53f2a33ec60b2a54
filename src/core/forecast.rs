//! What an apply would come to, told without doing it. The pod says what it is
//! doing and what would be wanted of it, exactly as it does before it acts; the
//! table of `plan` is asked for the step, and this names what follows from it.

use super::event::Revision;
use super::plan::{self, Doing, Step, Want};
use super::spec::Name;

/// What an apply of one spec would come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forecast {
    /// The pod.
    pub pod: Name,
    /// What would become of it.
    pub course: Course,
    /// The fields in which the spec differs from the one that it would replace, as
    /// `containers[0].limits.memory`, sorted; none of a pod that is not there.
    pub changes: Vec<String>,
    /// The generation of the spec that it would replace, or keep; none of a pod
    /// that is not there.
    pub generation: Option<Revision>,
}

/// What would become of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Course {
    /// There is no such pod, and it would start.
    Create,
    /// It would go on as it does.
    None,
    /// Its run would go on by other limits or another policy.
    Adjust,
    /// Its run would be ended, and another started.
    Replace,
    /// Nothing of it runs, and it would start now.
    Start,
}

impl Course {
    /// The course's name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::None => "none",
            Self::Adjust => "adjust",
            Self::Replace => "replace",
            Self::Start => "start",
        }
    }
}

/// What follows for a pod that is doing this, when that is wanted of it.
pub(super) fn course(doing: Doing, want: Want, is_there: bool) -> Course {
    let doing = match doing {
        // By then it is taken over.
        Doing::Found | Doing::Adopting => Doing::Running,
        doing => doing,
    };
    match plan::next(doing, want) {
        Step::Adjust => Course::Adjust,
        Step::Stop | Step::Cancel => Course::Replace,
        Step::Start if is_there => Course::Start,
        Step::Start => Course::Create,
        // The run is being ended already, and whatever follows it is new.
        Step::Nothing if matches!(doing, Doing::Ending | Doing::Cancelled) => {
            if is_there {
                Course::Replace
            } else {
                Course::Create
            }
        }
        Step::Nothing => Course::None,
        step @ (Step::Adopt | Step::Sweep | Step::Remove | Step::Retire) => {
            unreachable!("{step:?} of a pod that is wanted, with nothing else in the way")
        }
    }
}
