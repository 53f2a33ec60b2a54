//! Observed runs against tracked ones. Nearly always each live run is seen
//! alive and there is nothing to say; that case costs one comparison of two
//! numbers a pod, when the runs come in order of their pods' names. Any other
//! order gives the same answer, slower.

use std::collections::BTreeMap;

use super::event::ObservedRun;
use super::pod::Pod;
use super::spec::Name;

/// What was seen of one pod that is not simply as it should be.
#[derive(Debug, Default)]
pub(super) struct Sighting {
    /// Whether the pod's own run was seen alive.
    pub(super) is_alive: bool,
    /// Other runs of the pod, and its own unless seen alive.
    pub(super) runs: Vec<ObservedRun>,
}

/// Every pod that a pass must look at closely, with what was seen of it.
pub(super) fn compare(
    pods: &BTreeMap<Name, Pod>,
    runs: Vec<ObservedRun>,
) -> BTreeMap<Name, Sighting> {
    let mut close = BTreeMap::new();
    let mut others = Vec::new();
    let mut runs = runs.into_iter().peekable();
    for (name, pod) in pods {
        let mut is_alive = runs.next_if(|run| pod.is_own_live_run(run)).is_some();
        if !is_alive {
            while let Some(run) = runs.next_if(|run| run.pod <= *name) {
                if pod.is_own_live_run(&run) && !is_alive {
                    is_alive = true;
                } else {
                    others.push(run);
                }
            }
        }
        if !pod.is_at_rest(is_alive) {
            close.insert(name.clone(), Sighting { is_alive, runs: Vec::new() });
        }
    }
    others.extend(runs);
    for run in others {
        note(&mut close, pods, run);
    }
    close
}

fn note(close: &mut BTreeMap<Name, Sighting>, pods: &BTreeMap<Name, Pod>, run: ObservedRun) {
    // A live run whose pod needed no closer look was seen alive before.
    let was_seen = || Sighting { is_alive: true, runs: Vec::new() };
    let sighting = close.entry(run.pod.clone()).or_insert_with(was_seen);
    if pods.get(&run.pod).is_some_and(|pod| pod.is_own_live_run(&run)) {
        sighting.is_alive = true;
    } else {
        sighting.runs.push(run);
    }
}
