//! A core with many pods that all run, driven by hand.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tank::core::action::{Action, Command, Write};
use tank::core::event::{
    ActionId, DesiredChange, Event, Incarnation, Observation, ObservedRun, Outcome, Request,
    Revision, Started, StoredPod, Ticket,
};
use tank::core::reconciler::{Config, Reconciler};
use tank::core::spec::{
    Confinement, ContainerSpec, Image, Limits, Name, Network, PodSpec, RestartPolicy, Stop, Userns,
};
use tank::core::status::Exit;
use tank::core::time::Millis;

/// The instant at which everything happens: no alarm ever goes off.
const NOW: Millis = Millis(1_000);

/// A core and the world that it believes in.
pub(crate) struct Fixture {
    core: Reconciler,
    /// What the runtime holds: it answers each pass with all of it, and keeps a
    /// run's spec for as long as the run.
    runs: BTreeMap<Name, (Incarnation, Arc<PodSpec>)>,
    revision: u64,
    ticket: u64,
}

impl Fixture {
    /// A core with this many pods, all started.
    pub(crate) fn running(count: usize) -> Self {
        let core = Reconciler::new(Config::default(), NOW);
        let revision = count as u64;
        let mut fixture = Self { core, runs: BTreeMap::new(), revision, ticket: 0 };
        let stored = |n: usize| StoredPod {
            generation: Revision(n as u64 + 1),
            spec: spec(name(n), 0),
            verdict: None,
        };
        let pods = (0..count).map(|n| (name(n), Some(stored(n)))).collect();
        let desired = DesiredChange { revision: Revision(revision), is_full: true, pods };
        let look = fixture.next_action();
        fixture.observed(look.0, Some(desired));
        fixture.carry_out_all();
        assert_eq!(fixture.runs.len(), count, "every pod has been started");
        fixture
    }

    /// A full pass, from the request for it to its answer.
    pub(crate) fn pass(&mut self) {
        self.request(Request::Sync);
        let (action, _) = self.next_action();
        self.observed(action, None);
        let is_answered = self.core.poll_reply().is_some();
        assert!(is_answered && self.core.poll_command().is_none(), "nothing was to do");
    }

    /// Applies a spec, until the core has commanded what follows from it.
    pub(crate) fn apply(&mut self, spec: Arc<PodSpec>) -> (ActionId, Action) {
        self.request(Request::Apply(spec));
        let (write, action) = self.next_action();
        assert!(matches!(action, Action::Persist(Write::Put(_))), "{action:?}");
        self.revision += 1;
        self.finish(write, Outcome::Persisted(Ok(Revision(self.revision))));
        let next = self.next_action();
        let is_answered = self.core.poll_reply().is_some();
        assert!(is_answered, "what is durable is acknowledged");
        next
    }

    /// Carries out an action and all that follow from it.
    pub(crate) fn carry_out(&mut self, (id, action): (ActionId, Action)) {
        let mut todo = VecDeque::from([(id, action)]);
        while let Some((id, action)) = todo.pop_front() {
            let outcome = self.outcome(action);
            self.finish(id, outcome);
            while let Some(Command::Act(id, action)) = self.core.poll_command() {
                todo.push_back((id, action));
            }
        }
        while self.core.poll_notice().is_some() {}
    }

    fn carry_out_all(&mut self) {
        let mut todo = Vec::new();
        while let Some(Command::Act(id, action)) = self.core.poll_command() {
            todo.push((id, action));
        }
        for action in todo {
            self.carry_out(action);
        }
    }

    fn outcome(&mut self, action: Action) -> Outcome {
        match action {
            Action::Start { pod, incarnation, origin } => {
                self.runs.insert(pod, (incarnation, Arc::clone(&origin.spec)));
                Outcome::Started(Ok(Started::new(NOW, Some(4711))))
            }
            Action::Stop { pod, .. } => {
                self.runs.remove(&pod);
                Outcome::Stopped(Ok(Exit::Signaled(15)))
            }
            action => panic!("no such thing was to be done: {action:?}"),
        }
    }

    fn request(&mut self, request: Request) {
        self.ticket += 1;
        self.core.handle(NOW, Event::Requested(Ticket(self.ticket), request));
    }

    fn next_action(&mut self) -> (ActionId, Action) {
        match self.core.poll_command() {
            Some(Command::Act(id, action)) => (id, action),
            other => panic!("expected an action, got {other:?}"),
        }
    }

    /// Answers an observation as the container runtime does: with a list of
    /// all runs, made for it.
    fn observed(&mut self, action: ActionId, desired: Option<DesiredChange>) {
        let runs = self.runs.iter();
        let live = runs.map(|(pod, (run, _))| ObservedRun::live(pod.clone(), *run));
        let runs = live.collect();
        self.finish(action, Outcome::Observed(Observation { desired, runs }));
    }

    fn finish(&mut self, action: ActionId, outcome: Outcome) {
        self.core.handle(NOW, Event::Finished(action, outcome));
    }
}

/// The name of a pod by its number.
pub(crate) fn name(number: usize) -> Name {
    Name::new(&format!("pod-{number:06}")).expect("a valid name")
}

/// A spec of about a kilobyte.
pub(crate) fn spec(name: Name, version: usize) -> Arc<PodSpec> {
    let env = (0..12).map(|n| (format!("VARIABLE_{n}"), format!("value {n} of {version}")));
    let container = ContainerSpec {
        name: Name::new("app").expect("a valid name"),
        image: Image::Reference("registry.example.com/team/service:1.27".into()),
        command: vec!["/usr/local/bin/service".into()],
        args: (0..8).map(|n| format!("--option-{n}=value")).collect(),
        env: env.collect(),
        working_dir: None,
        user: None,
        mounts: Vec::new(),
        limits: Limits { memory: Some(256 << 20), pids: Some(100), ..Limits::default() },
        tty: false,
        confinement: Confinement::default(),
        sidecar: false,
        stop: Stop::default(),
        init: false,
    };
    Arc::new(PodSpec {
        name,
        containers: vec![container],
        init_containers: Vec::new(),
        network: Network::None,
        volumes: Vec::new(),
        restart: RestartPolicy::Always,
        userns: Userns::Host,
        oci_runtime: None,
    })
}
