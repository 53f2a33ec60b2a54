//! Level-triggered: whatever becomes of the notices, one resync later the pods
//! are where they would be had every notice arrived.

use std::collections::BTreeMap;
use std::sync::Arc;

use tank::core::event::{Event, Request};
use tank::core::reconciler::Config;
use tank::core::spec::{Name, PodSpec, RestartPolicy};
use tank::core::status::{Exit, PodStatus, Status};

use crate::fixtures;
use crate::prompt::Prompt;
use crate::simulation::random::Random;

const SEEDS: u64 = 500;

/// What a client can see of a pod, but for the numbers that depend on order.
type Seen = (Status, u32, u64, Option<Exit>);

#[test]
fn one_resync_makes_good_whatever_became_of_the_notices() {
    for seed in 1..=SEEDS {
        let all = end_state(seed, |_, notices| notices.to_vec());
        let none = end_state(seed, |_, _| Vec::new());
        let some = end_state(seed, mistreat);
        assert_eq!(none, all, "seed {seed}: without notices on the left");
        assert_eq!(some, all, "seed {seed}: with some, repeated and shuffled, on the left");
    }
}

/// Loses, repeats and reorders.
fn mistreat(random: &mut Random, notices: &[Event]) -> Vec<Event> {
    let mut treated = Vec::new();
    for notice in notices {
        let count = random.below(3);
        treated.extend((0..count).map(|_| notice.clone()));
    }
    random.shuffle(&mut treated);
    treated
}

fn end_state(
    seed: u64,
    treat: impl Fn(&mut Random, &[Event]) -> Vec<Event>,
) -> BTreeMap<Name, Seen> {
    let mut random = Random::new(seed);
    let mut world = Prompt::new(Config::default());
    begin(&mut random, &mut world);
    let notices = disturb(&mut random, &mut world);
    let treated = treat(&mut random, &notices);
    treated.iter().for_each(|notice| world.tell(notice.clone()));
    world.request(Request::Sync).expect("a sync settles");
    let state = seen(world.statuses());
    // What arrives after the resync is stale.
    treated.iter().for_each(|notice| world.tell(notice.clone()));
    assert_eq!(seen(world.statuses()), state, "seed {seed}: a stale notice changed something");
    state
}

/// Some pods, most of which run.
fn begin(random: &mut Random, world: &mut Prompt) {
    for pod in names() {
        if random.percent(80) {
            let spec = any_spec(random, pod);
            world.request(Request::Apply(spec)).expect("the store works");
        }
    }
    world.wait(random.below(10_000));
}

/// Runs end and another program changes the store, all at one instant.
fn disturb(random: &mut Random, world: &mut Prompt) -> Vec<Event> {
    let mut notices = Vec::new();
    for pod in names() {
        if random.percent(50) {
            let exit = Exit::Exited(*random.pick(&[0, 1]));
            notices.extend(world.end_run(&pod, exit));
        }
        if random.percent(30) {
            notices.push(Event::Nudged);
            if random.percent(30) {
                world.store.delete(&pod);
            } else {
                world.store.put(any_spec(random, pod));
            }
        }
    }
    notices
}

fn names() -> impl Iterator<Item = Name> {
    ["a", "b", "c", "d", "e", "f"].into_iter().map(fixtures::name)
}

fn any_spec(random: &mut Random, pod: Name) -> Arc<PodSpec> {
    use RestartPolicy::{Always, Never, OnFailure};
    let restart = *random.pick(&[Always, OnFailure, Never]);
    let image = *random.pick(&["v1", "v2"]);
    let memory = *random.pick(&[None, Some(1), Some(2)]);
    fixtures::pod(pod, restart, image, memory)
}

fn seen(statuses: BTreeMap<Name, PodStatus>) -> BTreeMap<Name, Seen> {
    let seen =
        |status: PodStatus| (status.status, status.retries, status.generation, status.last_exit);
    statuses.into_iter().map(|(name, status)| (name, seen(status))).collect()
}
