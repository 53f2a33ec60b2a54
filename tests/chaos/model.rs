//! What must be true: the pods as they were acknowledged, and what was done to
//! each. Knows nothing of how it comes true, and reads nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::kernel::Identity;

/// What a pod does all day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Nothing.
    Quiet,
    /// Ends by itself after a moment, by a status or a signal.
    Crashing,
    /// Ignores SIGTERM.
    Stubborn,
    /// Makes children that end and orphans.
    Forking,
    /// Writes all the time.
    Logging,
    /// Does its work and ends, and must never do it twice.
    Once,
    /// Has a sidecar.
    Paired,
    /// Has a terminal, and writes to it all the time.
    Terminal,
    /// Has Tank's init before it, and makes orphans for it to reap.
    Init,
    /// Is launched by an OCI runtime.
    Oci,
    /// As `Crashing`, launched by an OCI runtime.
    OciCrashing,
    /// As `Once`, launched by an OCI runtime.
    OciOnce,
    /// Is too large for a full disk.
    Large,
}

impl Kind {
    pub(crate) const ALL: [Self; 13] = [
        Self::Quiet,
        Self::Crashing,
        Self::Stubborn,
        Self::Forking,
        Self::Logging,
        Self::Once,
        Self::Paired,
        Self::Terminal,
        Self::Init,
        Self::Oci,
        Self::OciCrashing,
        Self::OciOnce,
        Self::Large,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Quiet => "quiet",
            Self::Crashing => "crashing",
            Self::Stubborn => "stubborn",
            Self::Forking => "forking",
            Self::Logging => "logging",
            Self::Once => "once",
            Self::Paired => "paired",
            Self::Terminal => "terminal",
            Self::Init => "init",
            Self::Oci => "oci",
            Self::OciCrashing => "oci-crashing",
            Self::OciOnce => "oci-once",
            Self::Large => "large",
        }
    }

    pub(crate) fn containers(self) -> &'static [&'static str] {
        match self {
            Self::Paired => &["main", "side"],
            _ => &["main"],
        }
    }

    /// Whether it runs until somebody ends it.
    pub(crate) fn lasts(self) -> bool {
        !self.is_crashing() && !self.is_once()
    }

    /// Whether it ends and is started again all the time.
    pub(crate) fn is_crashing(self) -> bool {
        matches!(self, Self::Crashing | Self::OciCrashing)
    }

    /// Whether it must never do its work twice.
    pub(crate) fn is_once(self) -> bool {
        matches!(self, Self::Once | Self::OciOnce)
    }

    /// Whether an OCI runtime has what it keeps of a container.
    pub(crate) fn is_oci(self) -> bool {
        matches!(self, Self::Oci | Self::OciCrashing | Self::OciOnce)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A version of a pod's spec; `None` where there shall be no such pod.
pub(crate) type Desired = Option<u64>;

/// One pod, since it was first named.
#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) kind: Kind,
    /// What may be desired: one thing, but where a write got no answer.
    pub(crate) possible: BTreeSet<Desired>,
    /// What never was desired, for its write was refused.
    pub(crate) refused: BTreeSet<u64>,
    /// Whether a write is under way.
    pub(crate) is_busy: bool,
    /// How many writes there were.
    pub(crate) writes: u64,
    /// Whether somebody has given its run a reason to end since the last audit.
    pub(crate) is_touched: bool,
    /// Its processes at the last audit, a container each.
    pub(crate) processes: BTreeMap<String, Identity>,
}

/// What a write would make true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Write {
    Apply(u64),
    Delete,
    Restart,
}

impl Write {
    fn desired(self) -> Option<Desired> {
        match self {
            Self::Apply(version) => Some(Some(version)),
            Self::Delete => Some(None),
            Self::Restart => None,
        }
    }
}

/// How a write was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is durable.
    Acknowledged,
    /// It had no effect.
    Refused,
    /// It was done or was not.
    Unknown,
}

/// All pods by name, deleted ones too.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) pods: BTreeMap<String, Pod>,
    named: u64,
    versions: u64,
}

impl Model {
    /// A name that no pod has had.
    pub(crate) fn name(&mut self, kind: Kind) -> String {
        self.named += 1;
        let name = format!("{kind}-{}", self.named);
        let absent = Pod {
            kind,
            possible: BTreeSet::from([None]),
            refused: BTreeSet::new(),
            is_busy: false,
            writes: 0,
            is_touched: true,
            processes: BTreeMap::new(),
        };
        self.pods.insert(name.clone(), absent);
        name
    }

    /// A version that no spec has had.
    pub(crate) fn version(&mut self) -> u64 {
        self.versions += 1;
        self.versions
    }

    /// Pods that are desired for all that is known, and that no write is under way for.
    pub(crate) fn settled(&self) -> impl Iterator<Item = (&String, &Pod)> {
        self.pods.iter().filter(|(_, pod)| !pod.is_busy && pod.desired().is_some())
    }

    /// The names of pods that were deleted for all that is known.
    pub(crate) fn deleted(&self, kind: Kind) -> Vec<String> {
        let is_deleted = |pod: &Pod| !pod.is_busy && pod.possible == BTreeSet::from([None]);
        let deleted = self.pods.iter().filter(|(_, pod)| pod.kind == kind && is_deleted(pod));
        deleted.map(|(name, _)| name.clone()).collect()
    }

    pub(crate) fn pod(&mut self, name: &str) -> &mut Pod {
        self.pods.get_mut(name).expect("it was named by the model")
    }

    pub(crate) fn begin(&mut self, name: &str, write: Write) {
        let pod = self.pod(name);
        assert!(!pod.is_busy, "one write of a pod at a time");
        pod.is_busy = true;
        pod.writes += 1;
        let changes = write.desired().is_none_or(|desired| !pod.possible.contains(&desired));
        pod.is_touched |= changes || pod.possible.len() > 1;
    }

    pub(crate) fn finish(&mut self, name: &str, write: Write, answer: Answer) {
        let pod = self.pod(name);
        pod.is_busy = false;
        let Some(desired) = write.desired() else { return };
        match answer {
            Answer::Acknowledged => pod.possible = BTreeSet::from([desired]),
            Answer::Unknown => {
                pod.possible.insert(desired);
            }
            Answer::Refused => {
                pod.refused.extend(desired.filter(|_| !pod.possible.contains(&desired)))
            }
        }
    }

    /// Takes what runs for the beginning of the next round.
    pub(crate) fn remember(&mut self, processes: &BTreeMap<String, BTreeMap<String, Identity>>) {
        for (name, pod) in &mut self.pods {
            pod.is_touched = false;
            pod.processes = processes.get(name).cloned().unwrap_or_default();
        }
    }

    pub(crate) fn touch(&mut self, name: &str) {
        // Of a pod that the model does not know the audit has more to say.
        if let Some(pod) = self.pods.get_mut(name) {
            pod.is_touched = true;
        }
    }
}

impl Pod {
    /// The version that is desired, where that is known and there is one.
    pub(crate) fn desired(&self) -> Desired {
        match self.possible.iter().collect::<Vec<_>>()[..] {
            [Some(version)] => Some(*version),
            _ => None,
        }
    }
}
