//! The runs of the simulated world: what really lives, whatever anybody thinks.

use std::collections::BTreeMap;
use std::sync::Arc;

use tank::core::event::{Incarnation, ObservedRun};
use tank::core::spec::{Name, PodSpec};
use tank::core::status::Exit;

#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) pod: Name,
    /// `None` for a run that no core of this simulation ever asked for.
    pub(crate) spec: Option<Arc<PodSpec>>,
    pub(crate) ended: Option<Exit>,
    /// Whether the runtime still lists it.
    pub(crate) is_listed: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Runs(BTreeMap<Incarnation, Run>);

impl Runs {
    pub(crate) fn get(&self, incarnation: Incarnation) -> Option<&Run> {
        self.0.get(&incarnation)
    }

    pub(crate) fn launch(
        &mut self,
        pod: Name,
        incarnation: Incarnation,
        spec: Option<Arc<PodSpec>>,
    ) {
        let run = Run { pod, spec, ended: None, is_listed: true };
        assert!(self.0.insert(incarnation, run).is_none(), "a run number was used twice");
    }

    pub(crate) fn live(&self) -> impl Iterator<Item = (Incarnation, &Run)> {
        let live = self.0.iter().filter(|(_, run)| run.ended.is_none());
        live.map(|(incarnation, run)| (*incarnation, run))
    }

    pub(crate) fn live_of(&self, pod: &Name) -> Vec<Incarnation> {
        self.live().filter(|(_, run)| run.pod == *pod).map(|(incarnation, _)| incarnation).collect()
    }

    /// Ends a run, if it lives. Whether it did.
    pub(crate) fn end(&mut self, incarnation: Incarnation, exit: Exit) -> bool {
        let run = self.0.get_mut(&incarnation).filter(|run| run.ended.is_none());
        run.map(|run| run.ended = Some(exit)).is_some()
    }

    /// A live run goes on by another spec. Whether it lives.
    pub(crate) fn adjust(&mut self, incarnation: Incarnation, spec: Arc<PodSpec>) -> bool {
        let run = self.0.get_mut(&incarnation).filter(|run| run.ended.is_none());
        run.map(|run| run.spec = Some(spec)).is_some()
    }

    /// The runtime forgets a run that has ended.
    pub(crate) fn forget(&mut self, incarnation: Incarnation) {
        if let Some(run) = self.0.get_mut(&incarnation) {
            assert!(run.ended.is_some(), "a live run was forgotten");
            run.is_listed = false;
        }
    }

    pub(crate) fn observed(&self) -> Vec<ObservedRun> {
        let listed = self.0.iter().filter(|(_, run)| run.is_listed);
        let observed = |(incarnation, run): (&Incarnation, &Run)| ObservedRun {
            pod: run.pod.clone(),
            incarnation: *incarnation,
            ended: run.ended.clone(),
        };
        listed.map(observed).collect()
    }
}
