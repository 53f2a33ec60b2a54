//! The core against a model of the contract that is too simple to be wrong:
//! nothing takes time, nothing fails but what the step says, one `match` a rule.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use tank::core::event::{Incarnation, Request, StartError};
use tank::core::failure::{Code, Failure};
use tank::core::reconciler::Config;
use tank::core::spec::{Name, PodSpec, RestartPolicy};
use tank::core::status::{Exit, Status};

use crate::fixtures;
use crate::prompt::Prompt;

const BASE_MS: u64 = 1_000;
const CAP_MS: u64 = 6_000;
const STABLE_MS: u64 = 20_000;
const DEBOUNCE_MS: u64 = 100;
const NAMES: [&str; 3] = ["a", "b", "c"];

/// One thing that happens, by number of the pod.
#[derive(Debug, Clone)]
enum Step {
    Apply(usize, RestartPolicy, &'static str, Option<u64>),
    Reapply(usize),
    Delete(usize),
    Restart(usize),
    Kill(usize),
    Exit(usize, i32),
    /// From now on its starts go like this.
    Starts(usize, Starts),
    Sync,
    Wait(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Starts {
    Work,
    Fail,
    FailToDownload,
}

/// What the contract says of one pod.
#[derive(Debug, Clone)]
struct Pod {
    spec: Arc<PodSpec>,
    state: State,
    retries: u32,
    /// When a delete takes effect.
    gone_at: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Running { since: u64 },
    BackingOff { until: u64 },
    Terminal,
}

impl Pod {
    /// Limits and the policy change in place, and nothing else does.
    fn goes_on_by(&self, spec: &PodSpec) -> bool {
        let is_running = matches!(self.state, State::Running { .. });
        is_running && self.spec.containers[0].image == spec.containers[0].image
    }
}

#[derive(Debug, Default)]
struct Model {
    now: u64,
    pods: BTreeMap<Name, Pod>,
    starts: BTreeMap<Name, Starts>,
}

impl Model {
    fn apply(&mut self, spec: Arc<PodSpec>) {
        let name = spec.name.clone();
        if let Some(pod) = self.pods.get_mut(&name).filter(|pod| pod.spec == spec) {
            pod.gone_at = None;
            // A wait may have ended while the delete was held.
            return self.start_due();
        }
        if let Some(pod) = self.pods.get_mut(&name).filter(|pod| pod.goes_on_by(&spec)) {
            (pod.spec, pod.gone_at) = (spec, None);
            return;
        }
        let state = State::Terminal;
        self.pods.insert(name.clone(), Pod { spec, state, retries: 0, gone_at: None });
        self.start(&name);
    }

    fn delete(&mut self, name: &Name) {
        let now = self.now;
        if let Some(pod) = self.pods.get_mut(name) {
            pod.gone_at.get_or_insert(now + DEBOUNCE_MS);
        }
    }

    fn restart(&mut self, name: &Name) {
        if let Some(pod) = self.pods.get_mut(name).filter(|pod| pod.gone_at.is_none()) {
            pod.retries = 0;
            self.start(name);
        }
    }

    fn start(&mut self, name: &Name) {
        let starts = self.starts.get(name).copied().unwrap_or(Starts::Work);
        match starts {
            Starts::Work => {
                let since = self.now;
                self.pods.get_mut(name).expect("a pod").state = State::Running { since };
            }
            Starts::Fail => self.ended(name, false, 0, false),
            Starts::FailToDownload => self.ended(name, false, 0, true),
        }
    }

    fn exit(&mut self, name: &Name, is_clean: bool) {
        let Some(pod) = self.pods.get(name) else { return };
        if let State::Running { since } = pod.state {
            self.ended(name, is_clean, self.now - since, false);
        }
    }

    fn ended(&mut self, name: &Name, is_clean: bool, ran_ms: u64, is_download: bool) {
        let pod = self.pods.get_mut(name).expect("a pod");
        let restarts = match pod.spec.restart {
            _ if is_download => true,
            RestartPolicy::Always => true,
            RestartPolicy::OnFailure => !is_clean,
            RestartPolicy::Never => false,
        };
        if !restarts {
            pod.state = State::Terminal;
            return;
        }
        let before = if ran_ms >= STABLE_MS { 0 } else { pod.retries };
        let wait_ms = (BASE_MS * 2_u64.pow(before.min(10))).min(CAP_MS);
        pod.retries = before + 1;
        pod.state = State::BackingOff { until: self.now + wait_ms };
    }

    fn sync(&mut self) {
        self.pods.retain(|_, pod| pod.gone_at.is_none());
    }

    fn wait(&mut self, delay_ms: u64) {
        let end = self.now + delay_ms;
        while self.now < end {
            self.now += 1;
            let now = self.now;
            self.pods.retain(|_, pod| pod.gone_at.is_none_or(|at| at > now));
            self.start_due();
        }
    }

    fn start_due(&mut self) {
        let now = self.now;
        let is_due = |pod: &Pod| {
            let is_held = pod.gone_at.is_some();
            !is_held && matches!(pod.state, State::BackingOff { until } if until <= now)
        };
        let due = self.pods.iter().filter(|(_, pod)| is_due(pod));
        let due: Vec<Name> = due.map(|(name, _)| name.clone()).collect();
        for name in due {
            self.start(&name);
        }
    }
}

/// Model and core, side by side.
struct Both {
    model: Model,
    core: Prompt,
}

impl Both {
    fn new() -> Self {
        let config = Config {
            interval_ms: 3_600_000,
            debounce_ms: DEBOUNCE_MS,
            backoff_base_ms: BASE_MS,
            backoff_cap_ms: CAP_MS,
            stable_window_ms: STABLE_MS,
            ..Config::default()
        };
        Self { model: Model::default(), core: Prompt::new(config) }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Apply(pod, restart, image, memory) => {
                self.apply(fixtures::pod(name(pod), restart, image, memory));
            }
            Step::Reapply(pod) => {
                let spec = self.model.pods.get(&name(pod)).map(|pod| Arc::clone(&pod.spec));
                spec.into_iter().for_each(|spec| self.apply(spec));
            }
            Step::Delete(pod) => {
                self.model.delete(&name(pod));
                self.core.request(Request::Delete(name(pod))).expect("always ok");
            }
            Step::Restart(pod) => {
                let is_there =
                    self.model.pods.get(&name(pod)).is_some_and(|pod| pod.gone_at.is_none());
                self.model.restart(&name(pod));
                let answer = self.core.request(Request::Restart(name(pod)));
                assert_eq!(answer.is_ok(), is_there, "restart: {answer:?}");
            }
            Step::Kill(pod) => self.kill(&name(pod)),
            Step::Exit(pod, status) => {
                self.model.exit(&name(pod), status == 0);
                let notice = self.core.end_run(&name(pod), Exit::Exited(status));
                notice.into_iter().for_each(|notice| self.core.tell(notice));
            }
            Step::Starts(pod, starts) => self.let_starts(name(pod), starts),
            Step::Sync => {
                self.model.sync();
                self.core.request(Request::Sync).expect("a sync settles");
            }
            Step::Wait(delay_ms) => {
                self.model.wait(delay_ms);
                self.core.wait(delay_ms);
            }
        }
    }

    fn apply(&mut self, spec: Arc<PodSpec>) {
        self.model.apply(Arc::clone(&spec));
        self.core.request(Request::Apply(spec)).expect("the store works");
    }

    fn kill(&mut self, name: &Name) {
        let run = self.core.statuses().get(name).map_or(0, |status| status.incarnation);
        let pod = self.model.pods.get(name);
        let is_live = pod.is_some_and(|pod| matches!(pod.state, State::Running { .. }));
        self.model.exit(name, false);
        let answer = self.core.request(Request::Kill(name.clone(), Incarnation(run)));
        assert_eq!(answer.is_ok(), is_live, "kill: {answer:?}");
    }

    fn let_starts(&mut self, name: Name, starts: Starts) {
        let failure = Failure::new(Code::StartFailed, "as the step says");
        let is_download = starts == Starts::FailToDownload;
        self.model.starts.insert(name.clone(), starts);
        match starts {
            Starts::Work => drop(self.core.failing.remove(&name)),
            _ => drop(self.core.failing.insert(name, StartError { failure, is_download })),
        }
    }

    fn compare(&mut self) {
        let now = self.model.now;
        let modelled: BTreeMap<Name, _> = self
            .model
            .pods
            .iter()
            .map(|(name, pod)| {
                let (status, retry_in) = match pod.state {
                    State::Running { .. } => (Status::Running, None),
                    State::BackingOff { until } => {
                        (Status::BackingOff, Some(until.saturating_sub(now)))
                    }
                    State::Terminal => (Status::Terminal, None),
                };
                (name.clone(), (status, pod.retries, retry_in))
            })
            .collect();
        let told = self.core.statuses().into_iter();
        let told: BTreeMap<Name, _> = told
            .map(|(name, status)| (name, (status.status, status.retries, status.retry_in_ms)))
            .collect();
        assert_eq!(told, modelled, "the core on the left, the contract on the right");
    }
}

fn name(pod: usize) -> Name {
    fixtures::name(NAMES[pod])
}

fn any_step() -> impl Strategy<Value = Step> {
    let pod = 0..NAMES.len();
    let policy = prop::sample::select(vec![
        RestartPolicy::Always,
        RestartPolicy::OnFailure,
        RestartPolicy::Never,
    ]);
    let image = prop::sample::select(vec!["v1", "v2"]);
    let memory = prop::sample::select(vec![None, Some(1)]);
    let starts = prop::sample::select(vec![
        Starts::Work,
        Starts::Work,
        Starts::Fail,
        Starts::FailToDownload,
    ]);
    let delay = prop::sample::select(vec![1, 50, 99, 100, 999, 1_000, 2_000, 6_000, 20_000]);
    prop_oneof![
        4 => (pod.clone(), policy, image, memory).prop_map(|(pod, policy, image, memory)| {
            Step::Apply(pod, policy, image, memory)
        }),
        2 => pod.clone().prop_map(Step::Reapply),
        2 => pod.clone().prop_map(Step::Delete),
        2 => pod.clone().prop_map(Step::Restart),
        2 => pod.clone().prop_map(Step::Kill),
        6 => (pod.clone(), 0..3).prop_map(|(pod, status)| Step::Exit(pod, status)),
        2 => (pod, starts).prop_map(|(pod, starts)| Step::Starts(pod, starts)),
        1 => Just(Step::Sync),
        6 => delay.prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 500,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn core_says_what_the_contract_says(steps in prop::collection::vec(any_step(), 1..60)) {
        let mut both = Both::new();
        for step in &steps {
            both.step(step);
            both.compare();
        }
    }
}

#[test]
fn a_wait_that_ended_during_a_held_delete_ends_at_the_reapply() {
    let mut both = Both::new();
    for step in [
        Step::Starts(1, Starts::FailToDownload),
        Step::Apply(1, RestartPolicy::Always, "v1", None),
        Step::Wait(BASE_MS - 1),
        Step::Delete(1),
        Step::Wait(1),
        Step::Reapply(1),
    ] {
        both.step(&step);
        both.compare();
    }
}
