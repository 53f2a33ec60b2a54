//! The runs of the simulated world: what really lives, whatever anybody thinks, and
//! what is on record of it for a program that starts.

use std::collections::BTreeMap;
use std::sync::Arc;

use tank::core::event::{Ended, Incarnation, ObservedRun, Origin};
use tank::core::spec::{Name, PodSpec};
use tank::core::time::Millis;

#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) pod: Name,
    /// What it runs by. `None` for a run that no core of this simulation ever asked for.
    pub(crate) spec: Option<Arc<PodSpec>>,
    /// What is on record of it.
    pub(crate) origin: Option<Arc<Origin>>,
    pub(crate) started_at: Option<Millis>,
    /// Whether that is on record.
    pub(crate) is_start_recorded: bool,
    pub(crate) ended: Option<Ended>,
    /// Whether the runtime still lists it.
    pub(crate) is_listed: bool,
    /// Whether what is on record of it is still there.
    pub(crate) is_recorded: bool,
    /// Whether it is on record that it may run by another spec than is on record.
    pub(crate) is_adjusting: bool,
}

impl Run {
    /// What it was made from, as far as that is certain.
    pub(crate) fn origin(&self) -> Option<&Arc<Origin>> {
        let is_certain = self.ended.is_some() || !self.is_adjusting;
        self.origin.as_ref().filter(|_| is_certain)
    }

    /// When it began, as far as that is on record. Of one that ended its shim tells it.
    pub(crate) fn recorded_start(&self) -> Option<Millis> {
        self.started_at.filter(|_| self.is_start_recorded)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Runs(BTreeMap<Incarnation, Run>);

impl Runs {
    pub(crate) fn get(&self, incarnation: Incarnation) -> Option<&Run> {
        self.0.get(&incarnation)
    }

    /// A run begins in place of what is on record of the pod's last one.
    pub(crate) fn launch(
        &mut self,
        pod: Name,
        incarnation: Incarnation,
        origin: Option<Arc<Origin>>,
        started_at: Millis,
    ) {
        if origin.is_some() {
            self.forget_records_of(&pod);
        }
        let run = Run {
            pod,
            spec: origin.as_ref().map(|origin| Arc::clone(&origin.spec)),
            is_recorded: origin.is_some(),
            origin,
            started_at: Some(started_at),
            is_start_recorded: true,
            ended: None,
            is_listed: true,
            is_adjusting: false,
        };
        assert!(self.0.insert(incarnation, run).is_none(), "a run number was used twice");
    }

    /// A run that could not begin is on record all the same.
    pub(crate) fn fail(
        &mut self,
        pod: Name,
        incarnation: Incarnation,
        origin: Arc<Origin>,
        ended: Ended,
    ) {
        self.forget_records_of(&pod);
        let run = Run {
            pod,
            spec: None,
            origin: Some(origin),
            started_at: None,
            is_start_recorded: false,
            ended: Some(ended),
            is_listed: false,
            is_recorded: true,
            is_adjusting: false,
        };
        assert!(self.0.insert(incarnation, run).is_none(), "a run number was used twice");
    }

    fn forget_records_of(&mut self, pod: &Name) {
        let is_its = |run: &&mut Run| run.pod == *pod && run.ended.is_some() && run.is_recorded;
        for run in self.0.values_mut().filter(is_its) {
            (run.is_recorded, run.is_listed) = (false, false);
        }
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (Incarnation, &Run)> {
        self.0.iter().map(|(incarnation, run)| (*incarnation, run))
    }

    pub(crate) fn live(&self) -> impl Iterator<Item = (Incarnation, &Run)> {
        let live = self.0.iter().filter(|(_, run)| run.ended.is_none());
        live.map(|(incarnation, run)| (*incarnation, run))
    }

    pub(crate) fn live_of(&self, pod: &Name) -> Vec<Incarnation> {
        self.live().filter(|(_, run)| run.pod == *pod).map(|(incarnation, _)| incarnation).collect()
    }

    /// Ends a run, if it lives. Whether it did.
    pub(crate) fn end(&mut self, incarnation: Incarnation, ended: Ended) -> bool {
        let run = self.0.get_mut(&incarnation).filter(|run| run.ended.is_none());
        run.map(|run| run.ended = Some(ended)).is_some()
    }

    /// Puts on record that a live run may soon go on by another spec.
    pub(crate) fn begin_adjust(&mut self, incarnation: Incarnation) {
        if let Some(run) = self.0.get_mut(&incarnation) {
            run.is_adjusting = true;
        }
    }

    /// Whether it is on record when a run began.
    pub(crate) fn record_start(&mut self, incarnation: Incarnation, is_recorded: bool) {
        if let Some(run) = self.0.get_mut(&incarnation) {
            run.is_start_recorded = is_recorded;
        }
    }

    /// A live run goes on by another spec. Whether it lives.
    pub(crate) fn adjust(&mut self, incarnation: Incarnation, origin: Arc<Origin>) -> bool {
        let run = self.0.get_mut(&incarnation).filter(|run| run.ended.is_none());
        let Some(run) = run else { return false };
        run.spec = Some(Arc::clone(&origin.spec));
        run.origin = Some(origin);
        run.is_adjusting = false;
        true
    }

    /// The runtime forgets a run that has ended; what is on record of it stays.
    pub(crate) fn unlist(&mut self, incarnation: Incarnation) {
        if let Some(run) = self.0.get_mut(&incarnation) {
            assert!(run.ended.is_some(), "a live run was forgotten");
            run.is_listed = false;
        }
    }

    /// Nothing is left of a run that has ended.
    pub(crate) fn forget(&mut self, incarnation: Incarnation) {
        self.unlist(incarnation);
        if let Some(run) = self.0.get_mut(&incarnation) {
            run.is_recorded = false;
        }
    }

    /// Nothing is left of the pod's runs, which are over.
    pub(crate) fn forget_pod(&mut self, pod: &Name) {
        self.forget_records_of(pod);
    }

    /// A program that starts lists whatever is on record, or lives.
    pub(crate) fn find(&mut self) {
        for run in self.0.values_mut() {
            run.is_listed = run.ended.is_none() || run.is_recorded;
        }
    }

    pub(crate) fn observed(&self) -> Vec<ObservedRun> {
        let listed = self.0.iter().filter(|(_, run)| run.is_listed);
        let observed = |(incarnation, run): (&Incarnation, &Run)| ObservedRun {
            pod: run.pod.clone(),
            incarnation: *incarnation,
            origin: run.origin().cloned(),
            started_at: run.recorded_start(),
            ended: run.ended.clone(),
        };
        listed.map(observed).collect()
    }
}
