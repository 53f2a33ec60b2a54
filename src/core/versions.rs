//! Which revisions of the store are known. The core hears of a change twice,
//! from the outcome of its own write and from an observation, in either order;
//! this decides which of the two is news.

use std::collections::BTreeMap;

use super::event::Revision;
use super::spec::Name;

/// What is known of the store's history.
#[derive(Debug, Default)]
pub(super) struct Versions {
    /// Every change up to here is known.
    seen: Revision,
    /// Own writes beyond `seen`: what is known of a pod although others may
    /// have written in between.
    ahead: BTreeMap<Name, Revision>,
}

impl Versions {
    /// The revision to observe from.
    pub(super) fn seen(&self) -> Revision {
        self.seen
    }

    /// A spec became durable at this revision. Whether that is news.
    pub(super) fn put(&mut self, pod: &Name, revision: Revision) -> bool {
        let is_news = self.is_news(pod, revision);
        if revision.0 == self.seen.0 + 1 {
            // The very next commit is this one, so nothing lies in between.
            self.seen = revision;
        } else if is_news {
            self.ahead.insert(pod.clone(), revision);
        }
        is_news
    }

    /// A pod was gone at this revision. Whether that is news. Removing what
    /// is not there makes no revision, so this one may be another's.
    pub(super) fn delete(&mut self, pod: &Name, revision: Revision) -> bool {
        let is_news = self.is_news(pod, revision);
        if is_news {
            self.ahead.insert(pod.clone(), revision);
        }
        is_news
    }

    /// Whether an observation of this revision tells anything new at all.
    pub(super) fn is_current(&self, revision: Revision) -> bool {
        revision >= self.seen
    }

    /// Whether an observation of this revision may speak of this pod.
    pub(super) fn may_tell(&self, pod: &Name, revision: Revision) -> bool {
        self.ahead.get(pod).is_none_or(|own| *own <= revision)
    }

    /// An observation of this revision has been digested.
    pub(super) fn observed(&mut self, revision: Revision) {
        self.seen = self.seen.max(revision);
        let seen = self.seen;
        self.ahead.retain(|_, own| *own > seen);
    }

    fn is_news(&self, pod: &Name, revision: Revision) -> bool {
        revision > self.seen && self.ahead.get(pod).is_none_or(|own| *own < revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str) -> Name {
        Name::new(name).expect("a valid name")
    }

    #[test]
    fn own_writes_in_sequence_need_no_observation() {
        let mut versions = Versions::default();
        assert!(versions.put(&pod("a"), Revision(1)));
        assert!(versions.put(&pod("b"), Revision(2)));
        assert_eq!(versions.seen(), Revision(2));
        assert!(!versions.is_current(Revision(1)));
    }

    #[test]
    fn a_gap_is_left_for_the_next_observation() {
        let mut versions = Versions::default();
        assert!(versions.put(&pod("a"), Revision(3)));
        assert_eq!(versions.seen(), Revision(0));
        assert!(!versions.may_tell(&pod("a"), Revision(2)));
        assert!(versions.may_tell(&pod("b"), Revision(2)));
        versions.observed(Revision(3));
        assert!(versions.may_tell(&pod("a"), Revision(3)));
        assert_eq!(versions.seen(), Revision(3));
    }

    #[test]
    fn an_outcome_overtaken_by_an_observation_is_no_news() {
        let mut versions = Versions::default();
        versions.observed(Revision(5));
        assert!(!versions.put(&pod("a"), Revision(4)));
        assert!(!versions.delete(&pod("a"), Revision(5)));
        assert!(versions.delete(&pod("a"), Revision(6)));
        assert_eq!(versions.seen(), Revision(5));
        assert!(!versions.put(&pod("a"), Revision(6)));
    }
}
