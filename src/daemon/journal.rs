//! From what the core tells of pods to what their journals say. It remembers what
//! was last told of each, so that an entry is one thing that happened and not a
//! status that was told twice. It keeps no journal itself.

use std::collections::BTreeMap;

use crate::core::action::Notice;
use crate::core::event::{Incarnation, Revision};
use crate::core::journal::{Entry, Kind};
use crate::core::spec::Name;
use crate::core::status::{PodStatus, Status};

/// What was told of each pod that is tracked.
#[derive(Debug, Default)]
pub(super) struct Journal {
    told: BTreeMap<Name, Told>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Told {
    status: Status,
    incarnation: Incarnation,
}

impl Journal {
    /// What the journal of a pod says of this, which happened at that time of the
    /// wall clock. That another spec was applied, the store notes itself.
    pub(super) fn entry(&mut self, notice: &Notice, at_unix_ms: i64) -> Option<(Name, Entry)> {
        let of_run = |pod: &Name, incarnation, (generation, retries), kind| {
            Some((pod.clone(), Entry { at_unix_ms, kind, incarnation, generation, retries }))
        };
        match notice {
            Notice::RunStarted { pod, incarnation, origin, host_pid, is_adopted } => {
                let host_pid = *host_pid;
                let kind = match is_adopted {
                    true => Kind::Adopted { host_pid },
                    false => Kind::Started { host_pid },
                };
                of_run(pod, *incarnation, *origin, kind)
            }
            Notice::RunEnded { pod, incarnation, origin, exit, .. } => {
                self.note_run(pod, *incarnation);
                of_run(pod, *incarnation, *origin, Kind::Ended { exit: exit.clone() })
            }
            Notice::StartFailed { pod, incarnation, origin, failure } => {
                self.note_run(pod, *incarnation);
                of_run(pod, *incarnation, *origin, Kind::Failed { failure: failure.clone() })
            }
            Notice::StatusChanged { pod, status } => self.of_status(pod, status, at_unix_ms),
            Notice::PodGone { pod } => {
                self.told.remove(pod);
                None
            }
        }
    }

    /// A run is over, perhaps before anything was told of the pod: then what follows is
    /// new.
    fn note_run(&mut self, pod: &Name, incarnation: Incarnation) {
        let told = Told { status: Status::Running, incarnation };
        self.told.entry(pod.clone()).or_insert(told);
    }

    fn of_status(
        &mut self,
        pod: &Name,
        status: &PodStatus,
        at_unix_ms: i64,
    ) -> Option<(Name, Entry)> {
        let now = Told::of(status);
        let before = self.told.insert(pod.clone(), now);
        if before == Some(now) {
            return None;
        }
        let kind = kind_of(status, before.is_some())?;
        let (incarnation, generation) = (now.incarnation, Revision(status.generation));
        let retries = status.retries;
        Some((pod.clone(), Entry { at_unix_ms, kind, incarnation, generation, retries }))
    }
}

/// What a status says beside what notices of runs do. The first that is told of
/// a pod as terminal is of a verdict that an earlier program passed and noted.
fn kind_of(status: &PodStatus, is_known: bool) -> Option<Kind> {
    let reason = status.reason.clone().unwrap_or_default();
    match status.status {
        Status::BackingOff => {
            Some(Kind::BackingOff { delay_ms: status.retry_in_ms.unwrap_or_default(), reason })
        }
        Status::Terminal if is_known => Some(Kind::Terminal { reason }),
        Status::Stopping => Some(Kind::Stopping { reason }),
        Status::Starting | Status::Running | Status::Terminal => None,
    }
}

impl Told {
    fn of(status: &PodStatus) -> Self {
        Self { status: status.status, incarnation: Incarnation(status.incarnation) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::failure::{Code, Failure};
    use crate::core::status::{Exit, Phase};
    use crate::core::time::Millis;

    fn name() -> Name {
        Name::new("web").expect("a valid name")
    }

    fn status(status: Status, incarnation: u64, retries: u32) -> Notice {
        let status = PodStatus {
            status,
            retries,
            phase: Phase::Running,
            reason: Some("as it is".into()),
            last_exit: None,
            last_exit_at: None,
            started_at: None,
            retry_in_ms: Some(10_000),
            generation: 4,
            incarnation,
            host_pid: None,
            containers: Vec::new(),
        };
        Notice::StatusChanged { pod: name(), status }
    }

    fn started(incarnation: u64, retries: u32) -> Notice {
        let (incarnation, origin) = (Incarnation(incarnation), (Revision(4), retries));
        let is_adopted = false;
        Notice::RunStarted { pod: name(), incarnation, origin, host_pid: Some(42), is_adopted }
    }

    fn ended(incarnation: u64, retries: u32) -> Notice {
        let (incarnation, origin) = (Incarnation(incarnation), (Revision(4), retries));
        let (exit, at) = (Exit::Exited(1), Millis(0));
        Notice::RunEnded { pod: name(), incarnation, origin, exit, at }
    }

    /// Kinds with run, generation and retries.
    fn entries(notices: &[Notice]) -> Vec<(&'static str, u64, u64, u32)> {
        let mut journal = Journal::default();
        let entry = |notice| {
            let (pod, entry) = journal.entry(notice, 7)?;
            assert_eq!((pod, entry.at_unix_ms), (name(), 7));
            let Entry { kind, incarnation, generation, retries, .. } = entry;
            Some((kind.name(), incarnation.0, generation.0, retries))
        };
        notices.iter().filter_map(entry).collect()
    }

    #[test]
    fn a_crash_and_a_restart_are_five_entries() {
        let said = entries(&[
            status(Status::Starting, 1, 0),
            started(1, 0),
            status(Status::Running, 1, 0),
            ended(1, 0),
            status(Status::BackingOff, 1, 1),
            status(Status::Starting, 2, 1),
            started(2, 1),
            status(Status::Running, 2, 1),
            ended(2, 1),
            status(Status::Terminal, 2, 1),
        ]);
        let expected = [
            ("started", 1, 4, 0),
            ("ended", 1, 4, 0),
            ("backing_off", 1, 4, 1),
            ("started", 2, 4, 1),
            ("ended", 2, 4, 1),
            ("terminal", 2, 4, 1),
        ];
        assert_eq!(said, expected);
    }

    #[test]
    fn a_start_that_fails_says_why() {
        let failure = Failure::new(Code::StartFailed, "exec /bin/no: no such file");
        let failed = Notice::StartFailed {
            pod: name(),
            incarnation: Incarnation(1),
            origin: (Revision(4), 0),
            failure: failure.clone(),
        };
        let mut journal = Journal::default();
        let (_, entry) = journal.entry(&failed, 7).expect("an entry");
        assert_eq!(entry.kind, Kind::Failed { failure });
    }

    #[test]
    fn a_state_that_is_told_twice_is_one_entry() {
        let stopping = status(Status::Stopping, 1, 0);
        let said = entries(&[status(Status::Running, 1, 0), stopping.clone(), stopping]);
        assert_eq!(said, [("stopping", 1, 4, 0)]);
    }

    #[test]
    fn a_verdict_of_an_earlier_program_is_not_noted_again() {
        assert_eq!(entries(&[status(Status::Terminal, 0, 0)]), []);
    }

    #[test]
    fn what_follows_from_an_end_that_is_found_is_noted() {
        let said = entries(&[ended(7, 2), status(Status::Terminal, 7, 2)]);
        assert_eq!(said, [("ended", 7, 4, 2), ("terminal", 7, 4, 2)]);
    }

    #[test]
    fn what_is_known_of_a_pod_goes_with_it() {
        let gone = Notice::PodGone { pod: name() };
        let said = entries(&[status(Status::Stopping, 1, 0), gone, status(Status::Stopping, 1, 0)]);
        assert_eq!(said.len(), 2);
    }
}
