//! A pod's containers together: which is launched when, and what the end of one
//! means to the others. It knows no policy: once one container has ended, so has
//! the pod, and the others are stopped.
//!
//! Launched are the init containers, each alone and to its success; then the
//! sidecars; then the main ones. Stopped are the sidecars last.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use tank_shim::protocol::{
    self, Adjust, Exit, ExitRecord, Failure, Launch, LaunchingRun, PreStopFailed, Role,
    RunningContainer, RunningRun, State, Step,
};

use crate::cgroup::{Cgroups, Move};
use crate::container::{self, Container};
use crate::ids;
use crate::launch::{self, failure};
use crate::namespaces;
use crate::pod_volumes::{self, PodVolume};
use crate::user_namespace::UserNamespace;

/// A pod whose life has begun.
pub(crate) struct Pod {
    name: String,
    incarnation: u64,
    /// Whether it has one container in all.
    is_alone: bool,
    user_namespace: Option<UserNamespace>,
    volumes: Vec<PodVolume>,
    cgroups: Cgroups,
    shim_move: Option<Move>,
    /// Not launched yet, in the order in which they are.
    waiting: VecDeque<protocol::Container>,
    /// Alive, in the order of their launch.
    containers: Vec<Container>,
    /// When all that are to go on had been executed: boot clock, milliseconds.
    launched_at_ms: Option<u64>,
    /// Whether a stop was asked for, and not only became due by an end.
    is_asked: bool,
    /// Whether a stop or a kill was asked for, or became due by an end.
    is_stopping: bool,
    are_sidecars_asked: bool,
    end: Option<End>,
    complaints: Vec<PreStopFailed>,
}

/// Why a pod is over. The first reason counts.
pub(crate) enum End {
    /// It could not be launched.
    Failed(Failure),
    /// A container ended.
    Exited(ExitRecord),
}

impl Pod {
    /// Makes what its containers share. Nothing of it outlives the shim but the
    /// cgroups, which are removed again on failure.
    pub(crate) fn begin(launch: Launch) -> Result<Self, Failure> {
        ids::look_up()?;
        let shim_move = Move::begin(&launch.shim_cgroups)?;
        check_names(&launch.containers)?;
        let user_namespace = namespaces::make(&launch)?;
        let volumes = pod_volumes::prepare(&launch)?;
        let cgroups = Cgroups::make_above(&launch.cgroups)?;
        let mut waiting = launch.containers;
        // Stable: within a role they keep their order.
        waiting.sort_by_key(|container| container.role);
        Ok(Self {
            name: launch.pod,
            incarnation: launch.incarnation,
            is_alone: waiting.len() == 1,
            user_namespace,
            volumes,
            cgroups,
            shim_move: Some(shim_move),
            waiting: waiting.into(),
            containers: Vec::new(),
            launched_at_ms: None,
            is_asked: false,
            is_stopping: false,
            are_sidecars_asked: false,
            end: None,
            complaints: Vec::new(),
        })
    }

    /// What to wait for, [`container::SOURCES`] for each container.
    pub(crate) fn sources(&self) -> impl Iterator<Item = Option<BorrowedFd<'_>>> {
        self.containers.iter().flat_map(Container::sources)
    }

    /// Takes what those sources have to say that are ready.
    pub(crate) fn hear(&mut self, ready: &[bool]) {
        let ready = ready.chunks(container::SOURCES);
        let heard = self.containers.iter_mut().zip(ready);
        self.complaints.extend(heard.filter_map(|(container, ready)| container.hear(ready)));
    }

    /// What containers have complained of since the last time.
    pub(crate) fn take_complaints(&mut self) -> Vec<PreStopFailed> {
        std::mem::take(&mut self.complaints)
    }

    /// Buries the dead, by the same sources.
    pub(crate) fn bury(&mut self, ready: &[bool], now_ms: u64) {
        let mut ends = Vec::new();
        let mut ready = ready.chunks(container::SOURCES);
        self.containers.retain_mut(|container| {
            let end = ready.next().and_then(|ready| container.bury(ready));
            let Some(end) = end else { return true };
            self.cgroups.take_over(container.take_cgroups());
            ends.push((container.name().to_owned(), container.role(), end));
            false
        });
        // Of those that are found dead at once, the one counts that has most likely
        // brought the others down.
        ends.sort_by_key(|(_, role, end)| (end.is_clean(), *role == Role::Sidecar));
        for (name, role, end) in ends {
            self.ended(name, role, end, now_ms);
        }
    }

    /// One container's end is the pod's, unless it has done its part.
    fn ended(&mut self, container: String, role: Role, end: container::End, now_ms: u64) {
        let exit = match end {
            container::End::Failed(failure) => return self.fail(failure),
            container::End::Exited(exit) => exit,
        };
        let has_succeeded = role == Role::Init && exit == Exit::Exited(0);
        if has_succeeded && !self.is_stopping {
            return launch::clean(&container);
        }
        let (pod, incarnation) = (self.name.clone(), self.incarnation);
        let record = ExitRecord {
            pod,
            incarnation,
            container,
            role,
            is_alone: self.is_alone,
            exit,
            is_asked: self.is_asked,
            launched_at_ms: self.launched_at_ms,
            ended_at_ms: now_ms,
        };
        self.end.get_or_insert(End::Exited(record));
        if !self.is_stopping {
            self.stop(now_ms);
        }
    }

    fn fail(&mut self, failure: Failure) {
        self.end.get_or_insert(End::Failed(failure));
        self.kill();
    }

    /// Launches what is next, and asks the sidecars to end when it is their turn.
    /// Says since when all that is to go on has come to be, if that is just now.
    pub(crate) fn advance(&mut self, now_ms: u64) -> Option<u64> {
        while self.is_next_due() {
            self.launch_next();
        }
        if self.is_stopping
            && !self.are_sidecars_asked
            && self.containers.iter().all(|container| container.role() == Role::Sidecar)
        {
            self.are_sidecars_asked = true;
            let sidecars = self.containers.iter_mut();
            self.complaints.extend(sidecars.filter_map(|sidecar| sidecar.stop(now_ms)));
        }
        let is_new = self.launched_at_ms.is_none()
            && !self.is_ending()
            && self.waiting.is_empty()
            && self.containers.iter().all(Container::is_executed);
        if is_new {
            self.launched_at_ms = Some(now_ms);
        }
        self.launched_at_ms.filter(|_| is_new)
    }

    /// Does what was put off until nobody waits for it.
    pub(crate) fn settle(&mut self) {
        if let Some(shim_move) = self.shim_move.take() {
            shim_move.finish();
        }
    }

    fn is_ending(&self) -> bool {
        self.end.is_some() || self.is_stopping
    }

    /// Those of one role go together, and each init container by itself.
    fn is_next_due(&self) -> bool {
        let Some(next) = self.waiting.front() else { return false };
        let may_be_beside = |other: &Container| {
            other.role() == next.role && next.role != Role::Init
                || other.role() == Role::Sidecar && other.is_executed()
        };
        !self.is_ending() && self.containers.iter().all(may_be_beside)
    }

    fn launch_next(&mut self) {
        let Some(next) = self.waiting.pop_front() else { return };
        match Container::begin(next, &self.volumes, self.user_namespace.as_ref()) {
            Ok(container) => self.containers.push(container),
            Err(failure) => self.fail(failure),
        }
    }

    /// Stops it as somebody has asked.
    pub(crate) fn ask_stop(&mut self, asked_at_ms: u64) {
        self.is_asked = true;
        self.stop(asked_at_ms);
    }

    /// Stops all but the sidecars, which follow.
    fn stop(&mut self, asked_at_ms: u64) {
        self.is_stopping = true;
        let others = self.containers.iter_mut().filter(|each| each.role() != Role::Sidecar);
        self.complaints.extend(others.filter_map(|container| container.stop(asked_at_ms)));
    }

    /// When all are dead at the latest, by a stop that was asked for then.
    pub(crate) fn dead_by_ms(&self, asked_at_ms: u64) -> u64 {
        let grace_ms = |is_sidecar: bool| {
            let of_kind = |each: &&Container| (each.role() == Role::Sidecar) == is_sidecar;
            self.containers.iter().filter(of_kind).map(Container::grace_ms).max().unwrap_or(0)
        };
        asked_at_ms.saturating_add(grace_ms(false)).saturating_add(grace_ms(true))
    }

    pub(crate) fn kill(&mut self) {
        self.is_stopping = true;
        self.containers.iter_mut().for_each(Container::kill);
        self.cgroups.kill();
    }

    /// When there is something to do that nothing tells of.
    pub(crate) fn deadline_ms(&self, now_ms: u64) -> Option<u64> {
        self.containers.iter().filter_map(|container| container.deadline_ms(now_ms)).min()
    }

    pub(crate) fn kill_if_due(&mut self, now_ms: u64) {
        self.containers.iter_mut().for_each(|container| container.kill_if_due(now_ms));
    }

    /// Changes what can be changed while it lives.
    pub(crate) fn adjust(&mut self, adjust: &Adjust) -> Result<(), Failure> {
        self.cgroups.limit(adjust.cgroups.iter().map(|cgroup| (&*cgroup.path, &*cgroup.files)))?;
        adjust.containers.iter().try_for_each(|adjustment| {
            let is_it = |container: &&mut Container| container.name() == adjustment.container;
            match self.containers.iter_mut().find(is_it) {
                Some(container) => container.adjust(adjustment),
                // Its end is the pod's, and needs no other limits.
                None if self.end.is_some() => Ok(()),
                None => Err(failure(Step::CheckContainer, &adjustment.container, Errno::NOENT)),
            }
        })
    }

    /// Whether nothing lives and nothing is to be launched.
    pub(crate) fn is_over(&self) -> bool {
        self.containers.is_empty() && self.is_ending()
    }

    /// What it does.
    pub(crate) fn state(&self) -> State {
        let (pod, incarnation) = (self.name.clone(), self.incarnation);
        match self.launched_at_ms {
            Some(launched_at_ms) => {
                let containers = self.running();
                let is_stopping = self.is_asked;
                let run = RunningRun { pod, incarnation, launched_at_ms, containers, is_stopping };
                State::Running(run)
            }
            None => State::Launching(LaunchingRun { pod, incarnation }),
        }
    }

    /// Its containers that live.
    pub(crate) fn running(&self) -> Vec<RunningContainer> {
        self.containers.iter().map(Container::running).collect()
    }

    /// What is left of it: why it is over, and what there is to remove.
    pub(crate) fn into_remains(self) -> (End, Cgroups) {
        (self.end.expect("what has been launched has failed or ended"), self.cgroups)
    }
}

/// Names are parts of paths, and each has a directory of its own.
fn check_names(containers: &[protocol::Container]) -> Result<(), Failure> {
    let is_faulty = |(index, container): (usize, &protocol::Container)| {
        let name = container.name.as_str();
        matches!(name, "" | "." | "..")
            || name.contains('/')
            || containers[..index].iter().any(|earlier| earlier.name == name)
    };
    if containers.is_empty() || containers.iter().enumerate().any(is_faulty) {
        return Err(failure(Step::CheckContainer, "name", Errno::INVAL));
    }
    Ok(())
}
