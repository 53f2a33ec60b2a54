//! The driver: carries out a round's plan, keeps the model by the answers that it gets,
//! watches that no pod has two runs at any moment, and then waits until the auditor
//! finds nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::app::{App, Setting};
use crate::audit::{Audit, Status, Unloaded};
use crate::disk::Disk;
use crate::kernel::{self, Identity, Processes};
use crate::model::{Answer, Desired, Kind, Model, Write};
use crate::plan::{self, Deed, Victim};
use crate::random::Random;

/// Pods of each kind at the beginning.
const PODS: [(Kind, usize); 12] = [
    (Kind::Quiet, 2),
    (Kind::Crashing, 8),
    (Kind::Stubborn, 7),
    (Kind::Forking, 6),
    (Kind::Logging, 4),
    (Kind::Once, 6),
    (Kind::Paired, 5),
    (Kind::Terminal, 3),
    (Kind::Init, 3),
    (Kind::Oci, 2),
    (Kind::OciCrashing, 2),
    (Kind::OciOnce, 2),
];
/// Pods that there are at all times, and at most.
const PODS_MIN: usize = 45;
const PODS_MAX: usize = 60;
/// How long a command may take whose answer nothing holds up.
const ANSWER_PATIENCE: Duration = Duration::from_secs(60);
/// How long it may take until all is as it must be, once the faults are over.
const QUIET_PATIENCE: Duration = Duration::from_secs(45);
/// Between two looks at whether a pod has two runs.
const WATCH_EACH: Duration = Duration::from_millis(40);
/// Between two looks at anything else.
const LOOK_EACH: Duration = Duration::from_millis(10);
/// Between two audits of what is not as it must be yet.
const AUDIT_EACH: Duration = Duration::from_millis(100);
/// The figure of what a full disk has refused.
const REFUSED: &str = "answers: refused, store_failed";

/// What was asked of the app and has no answer.
#[derive(Debug)]
enum Asked {
    Ready,
    Write(String, Write),
    /// Which pods had how many writes, and none under way.
    List(BTreeMap<String, u64>),
    Status,
}

/// What comes later.
#[derive(Debug)]
enum Step {
    Do(Deed),
    Thaw(Identity),
    Free,
    StartApp,
}

/// What was done in all, by name.
type Figures = BTreeMap<String, u64>;

pub(crate) struct Driver {
    setting: Setting,
    seed: u64,
    random: Random,
    app: Option<App>,
    disk: Disk,
    model: Model,
    unloaded: Unloaded,
    asked: BTreeMap<u64, Asked>,
    last_id: u64,
    steps: BTreeMap<(Instant, u64), Step>,
    last_step: u64,
    listed: Option<BTreeMap<String, u64>>,
    statuses: BTreeMap<String, Status>,
    watch_at: Instant,
    began: Instant,
    round_began: Instant,
    round_began_ns: u64,
    round: u64,
    history: Vec<String>,
    wrongs: Vec<String>,
    /// What the last audit that found something has found last.
    last_difference: String,
    figures: Figures,
}

impl Driver {
    /// Starts the app and its first pods, and waits until all is as it must be.
    pub(crate) fn start(setting: Setting, seed: u64) -> Self {
        let disk = Disk::mount(&setting.dir.join("data"));
        let now = Instant::now();
        let mut driver = Self {
            setting,
            seed,
            random: Random::new(seed),
            app: None,
            disk,
            model: Model::default(),
            unloaded: Unloaded::default(),
            asked: BTreeMap::new(),
            last_id: 0,
            steps: BTreeMap::new(),
            last_step: 0,
            listed: None,
            statuses: BTreeMap::new(),
            watch_at: now,
            began: now,
            round_began: now,
            round_began_ns: kernel::boot_ns(),
            round: 0,
            history: Vec::new(),
            wrongs: Vec::new(),
            last_difference: String::new(),
            figures: BTreeMap::new(),
        };
        driver.start_app();
        driver.drain();
        driver.unloaded = Unloaded::look(&driver.setting.dir);
        for (kind, count) in PODS {
            (0..count).for_each(|_| driver.create(kind));
        }
        driver.be_quiet();
        driver
    }

    /// Does what the seed has for this round, then waits until all is as it must be.
    pub(crate) fn round(&mut self, round: u64) {
        self.round = round + 1;
        self.round_began = Instant::now();
        self.round_began_ns = kernel::boot_ns();
        self.history.clear();
        // By the round, so that a replay does not depend on how the one before went.
        self.random = Random::new(self.seed + round);
        for (at_ms, deed) in plan::round(&mut self.random) {
            self.later(at_ms, Step::Do(deed));
        }
        while !self.steps.is_empty() {
            self.take_steps();
            self.turn();
        }
        let noise = self.round_began.elapsed();
        self.meet_a_full_disk();
        self.be_quiet();
        println!(
            "round {}: faults for {noise:.1?}, as it must be {:.1?} later; the last to be so: {}",
            self.round,
            self.round_began.elapsed() - noise,
            self.last_difference
        );
    }

    /// Deletes all pods, ends the app in order, and finds nothing left.
    pub(crate) fn end(mut self) {
        self.round_began = Instant::now();
        self.history.clear();
        let names: Vec<String> = self.model.settled().map(|(name, _)| name.clone()).collect();
        names.iter().for_each(|name| self.write(name, Write::Delete));
        self.be_quiet();
        let mut child = self.app.take().expect("it runs").close();
        let mut status = None;
        self.eventually(QUIET_PATIENCE, "the app ends in order", |_| {
            status = child.try_wait().expect("it is our child");
            status.is_some()
        });
        assert!(status.is_some_and(|status| status.success()), "{status:?}");
        let mut left = Vec::new();
        self.eventually(QUIET_PATIENCE, "nothing is left", |driver| {
            left = driver.audit().left();
            left.is_empty()
        });
        println!("{} rounds from seed {} in {:.0?}", self.round, self.seed, self.began.elapsed());
        for (name, count) in &self.figures {
            println!("  {name}: {count}");
        }
    }

    /// A disk that is full and nothing else: what needs room on it is refused. Among other
    /// faults it may be that nobody was there to refuse it.
    fn meet_a_full_disk(&mut self) {
        self.end_faults();
        let refused = |driver: &Self| driver.figures.get(REFUSED).copied().unwrap_or_default();
        let before = refused(self);
        self.eventually(ANSWER_PATIENCE, "a full disk refuses a spec", |driver| {
            if driver.asked.is_empty() && refused(driver) == before {
                // What somebody has given back may just have made room.
                driver.disk.fill();
                driver.create(Kind::Large);
                driver.drain();
                driver.disk.free();
            }
            refused(driver) > before
        });
    }

    /// Whatever is frozen goes on, the disk has room, and the BEAM runs.
    fn end_faults(&mut self) {
        while let Some((_, step)) = self.steps.pop_first() {
            self.take_step(step);
        }
        self.drain();
    }

    /// Lets faults be over, and waits until nothing is other than it must be.
    fn be_quiet(&mut self) {
        self.end_faults();
        self.resolve();
        let large: Vec<String> = self
            .model
            .settled()
            .filter(|(_, pod)| pod.kind == Kind::Large)
            .map(|(name, _)| name.clone())
            .collect();
        large.iter().for_each(|name| self.write(name, Write::Delete));
        self.drain();
        let quiet_from_ns = kernel::boot_ns();
        let deadline = Instant::now() + QUIET_PATIENCE;
        self.last_difference = "all was at once".to_owned();
        loop {
            self.ask(Asked::Status, "status");
            self.drain();
            let audit = self.audit();
            let differences = audit.differences(quiet_from_ns);
            let Some(last) = differences.last() else { break };
            self.last_difference.clone_from(last);
            if Instant::now() > deadline {
                self.wrongs.extend(differences);
                break;
            }
            self.turn_for(AUDIT_EACH);
        }
        if !self.wrongs.is_empty() {
            panic!("{}", self.report());
        }
        let processes = self.audit().first_processes();
        self.model.remember(&processes);
        let starts = self.audit().starts();
        self.figures.insert("runs started".to_owned(), starts);
    }

    fn audit(&self) -> Audit<'_> {
        Audit {
            model: &self.model,
            setting: &self.setting,
            unloaded: &self.unloaded,
            statuses: &self.statuses,
            beam: self.app.as_ref().map(App::pid),
            processes: Processes::look(),
        }
    }

    /// Asks what is stored, and knows what came of writes without an answer.
    fn resolve(&mut self) {
        self.listed = None;
        self.eventually(ANSWER_PATIENCE, "the app lists its pods", |driver| {
            if driver.asked.is_empty() && driver.listed.is_none() {
                driver.list();
            }
            driver.listed.is_some()
        });
        let listed = self.listed.take().unwrap_or_default();
        for (name, pod) in &mut self.model.pods {
            pod.possible = [listed.get(name).copied()].into();
        }
    }

    /// Waits for the answers to all that was asked.
    fn drain(&mut self) {
        self.eventually(ANSWER_PATIENCE, "every command is answered", |driver| {
            driver.asked.is_empty()
        });
    }

    fn eventually(
        &mut self,
        patience: Duration,
        what: &str,
        mut check: impl FnMut(&mut Self) -> bool,
    ) {
        let deadline = Instant::now() + patience;
        while !check(self) {
            if Instant::now() > deadline {
                self.wrongs.push(format!("never came true: {what}; waited for {:?}", self.asked));
                panic!("{}", self.report());
            }
            self.turn();
        }
    }

    fn turn_for(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.turn();
        }
    }

    /// Takes the answers that have come, or waits for one for a moment.
    fn turn(&mut self) {
        match self.app.as_mut() {
            Some(app) => {
                let mut answer = app.answer(LOOK_EACH);
                while let Some((id, text)) = answer {
                    self.take_answer(id, &text);
                    answer = self.app.as_ref().and_then(|app| app.answer(Duration::ZERO));
                }
            }
            None => std::thread::sleep(LOOK_EACH),
        }
        if self.app.as_mut().is_some_and(App::is_over) {
            self.wrong("the BEAM has ended by itself".to_owned());
            self.forget_app();
            self.start_app();
        }
        self.disk.keep_full();
        if Instant::now() >= self.watch_at {
            self.watch();
        }
    }

    /// Looks whether a pod has two runs at this very moment.
    fn watch(&mut self) {
        self.watch_at = Instant::now() + WATCH_EACH;
        self.count("looks for second runs");
        let mut doubles = doubles(&Processes::look());
        if !doubles.is_empty() {
            // A run may have ended, and the next begun, while this looked around.
            let again = self::doubles(&Processes::look());
            doubles.retain(|pod, runs| again.get(pod) == Some(runs));
        }
        for (pod, runs) in doubles {
            self.wrong(format!("{pod} has two runs at once, in {runs:?}"));
        }
    }

    /// Does what is due.
    fn take_steps(&mut self) {
        let now = Instant::now();
        while let Some(entry) = self.steps.first_entry().filter(|entry| entry.key().0 <= now) {
            let step = entry.remove();
            self.take_step(step);
        }
    }

    fn take_step(&mut self, step: Step) {
        match step {
            Step::Do(deed) => self.deed(deed),
            Step::Thaw(identity) => {
                kernel::signal(identity, Signal::CONT);
                self.note(format!("thaw {}", identity.pid));
            }
            Step::Free => {
                self.disk.free();
                self.note("free the disk".to_owned());
            }
            Step::StartApp => self.start_app(),
        }
    }

    fn later(&mut self, after_ms: u64, step: Step) {
        self.last_step += 1;
        let at = Instant::now() + Duration::from_millis(after_ms);
        self.steps.insert((at, self.last_step), step);
    }

    fn deed(&mut self, deed: Deed) {
        match deed {
            // There is one for some hundredths of a second at a time.
            Deed::Kill(Victim::Runtime, _) | Deed::Freeze(Victim::Runtime, _)
                if self.may_be_later() && Processes::look().runtimes().next().is_none() =>
            {
                self.later(0, Step::Do(deed));
            }
            Deed::Kill(Victim::Beam, down_ms) => self.kill_beam(down_ms),
            Deed::Kill(victim, _) => self.kill(victim),
            Deed::Freeze(victim, for_ms) => self.freeze(victim, for_ms),
            Deed::Fill(for_ms) => self.fill(for_ms),
            Deed::Change => self.on_a_pod(|driver, name| {
                let version = driver.model.version();
                driver.write(name, Write::Apply(version));
            }),
            Deed::Repeat => self.on_a_pod(|driver, name| {
                let version = driver.model.pod(name).desired().expect("it is settled");
                driver.write(name, Write::Apply(version));
            }),
            Deed::Create(kind) => {
                if self.model.settled().count() < PODS_MAX {
                    self.create_or_revive(kind);
                }
            }
            Deed::Delete => {
                if self.model.settled().count() > PODS_MIN {
                    self.on_a_pod(|driver, name| driver.write(name, Write::Delete));
                }
            }
            Deed::Restart => self.on_a_pod(|driver, name| {
                // What is to be done once is not done again but by hand.
                if !driver.model.pod(name).kind.is_once() {
                    driver.write(name, Write::Restart);
                }
            }),
            Deed::List => self.list(),
        }
    }

    /// Whether a deed that has nobody to be done to may still have somebody.
    fn may_be_later(&self) -> bool {
        self.round_began.elapsed() < Duration::from_millis(plan::ROUND_MS)
    }

    fn kill_beam(&mut self, down_ms: u64) {
        let Some(mut app) = self.app.take() else { return };
        app.kill();
        self.note(format!("kill -9 the BEAM, {}", app.pid()));
        // What it has said in its last moment.
        while let Some((id, text)) = app.answer(Duration::ZERO) {
            self.take_answer(id, &text);
        }
        self.forget_app();
        self.later(down_ms, Step::StartApp);
        self.count("kill -9 of the BEAM");
    }

    fn forget_app(&mut self) {
        self.app = None;
        for (_, asked) in std::mem::take(&mut self.asked) {
            if let Asked::Write(name, write) = asked {
                self.model.finish(&name, write, Answer::Unknown);
                self.count("answers: none");
            }
        }
    }

    fn start_app(&mut self) {
        self.app = Some(App::start(&self.setting));
        let pid = self.app.as_ref().map(App::pid);
        self.note(format!("start the BEAM, {}", pid.unwrap_or_default()));
        // Its first words, by itself.
        self.asked.insert(0, Asked::Ready);
    }

    fn kill(&mut self, victim: Victim) {
        let Some((identity, pod)) = self.pick(victim) else { return };
        if let Some(pod) = &pod {
            self.model.touch(pod);
        }
        kernel::signal(identity, Signal::KILL);
        self.note(format!("kill -9 {victim:?} {} {}", identity.pid, pod.unwrap_or_default()));
        self.count(&format!("kill -9 of a {victim:?}"));
    }

    fn freeze(&mut self, victim: Victim, for_ms: u64) {
        let Some((identity, pod)) = self.pick(victim) else { return };
        let pod = pod.unwrap_or_default();
        if for_ms > plan::FREEZE_MS_MAX {
            self.model.touch(&pod);
        }
        kernel::signal(identity, Signal::STOP);
        self.note(format!("freeze {victim:?} {} {pod} for {for_ms} ms", identity.pid));
        self.later(for_ms, Step::Thaw(identity));
        self.count(&format!("freeze of a {victim:?}"));
    }

    fn fill(&mut self, for_ms: u64) {
        self.disk.fill();
        self.note(format!("fill the disk for {for_ms} ms"));
        self.later(for_ms, Step::Free);
        self.count("disk filled");
        self.create(Kind::Large);
    }

    /// One of the processes of a kind, and whose pod's it is.
    fn pick(&mut self, victim: Victim) -> Option<(Identity, Option<String>)> {
        let processes = Processes::look();
        let found: Vec<(Identity, Option<String>)> = match victim {
            Victim::Beam => {
                let beam = self.app.as_ref().and_then(|app| processes.0.get(&app.pid()));
                beam.into_iter().map(|process| (process.identity, None)).collect()
            }
            Victim::Port => {
                let ports = processes.live().filter(|process| process.is_port());
                ports.map(|process| (process.identity, None)).collect()
            }
            Victim::Shim => {
                let shims = processes.shims();
                shims.map(|(process, pod)| (process.identity, Some(pod))).collect()
            }
            Victim::Runtime => {
                let runtimes = processes.runtimes();
                runtimes.map(|(process, pod)| (process.identity, Some(pod))).collect()
            }
            Victim::Workload => {
                let all = processes.workloads().filter(|(process, _)| processes.is_first(process));
                let all = all.map(|(process, workload)| (process, workload.pod));
                let all = all.chain(processes.inits());
                all.map(|(process, pod)| (process.identity, Some(pod))).collect()
            }
        };
        if found.is_empty() { None } else { Some(self.random.pick(&found).clone()) }
    }

    fn on_a_pod(&mut self, act: impl FnOnce(&mut Self, &str)) {
        let names: Vec<String> = self.model.settled().map(|(name, _)| name.clone()).collect();
        if !names.is_empty() && self.app.is_some() {
            let name = self.random.pick(&names).clone();
            act(self, &name);
        }
    }

    fn create(&mut self, kind: Kind) {
        if self.app.is_some() {
            let (name, version) = (self.model.name(kind), self.model.version());
            self.write(&name, Write::Apply(version));
        }
    }

    /// A new pod, or one by the name of one that was deleted, whose run may still be
    /// about to end.
    fn create_or_revive(&mut self, kind: Kind) {
        let deleted = self.model.deleted(kind);
        if deleted.is_empty() || self.random.percent(50) || self.app.is_none() {
            return self.create(kind);
        }
        let (name, version) = (self.random.pick(&deleted).clone(), self.model.version());
        self.write(&name, Write::Apply(version));
    }

    fn write(&mut self, name: &str, write: Write) {
        let kind = self.model.pod(name).kind;
        let command = match write {
            Write::Apply(version) => format!("apply {kind} {name} {version}"),
            Write::Delete => format!("delete {name}"),
            Write::Restart => format!("restart {name}"),
        };
        self.model.begin(name, write);
        self.count(&format!("commands: {}", command.split(' ').next().unwrap_or_default()));
        self.ask(Asked::Write(name.to_owned(), write), &command);
    }

    fn list(&mut self) {
        let still = self.model.pods.iter().filter(|(_, pod)| !pod.is_busy);
        let still = still.map(|(name, pod)| (name.clone(), pod.writes)).collect();
        self.ask(Asked::List(still), "list");
    }

    fn ask(&mut self, asked: Asked, command: &str) {
        let Some(app) = self.app.as_mut() else { return };
        self.last_id += 1;
        app.send(self.last_id, command);
        if !matches!(asked, Asked::Status) {
            self.note(format!("> {} {command}", self.last_id));
        }
        self.asked.insert(self.last_id, asked);
    }

    fn take_answer(&mut self, id: u64, text: &str) {
        let Some(asked) = self.asked.remove(&id) else {
            return self.wrong(format!("an answer to nothing that was asked: {id} {text}"));
        };
        match asked {
            Asked::Ready => self.note("the app is ready".to_owned()),
            Asked::Write(name, write) => self.take_outcome(id, text, &name, write),
            Asked::List(still) => self.take_list(text, &still),
            Asked::Status => {
                if let Some(pods) = pairs(text) {
                    self.statuses = pods
                        .filter_map(|(name, is)| Some((name.to_owned(), Status::parse(is)?)))
                        .collect();
                }
            }
        }
    }

    fn take_outcome(&mut self, id: u64, text: &str, name: &str, write: Write) {
        self.note(format!("< {id} {text}"));
        let mut words = text.split(' ');
        let answer = match (words.next(), words.next()) {
            (Some("ok"), _) => {
                self.count("answers: ok");
                Answer::Acknowledged
            }
            (_, Some("store_failed")) => {
                self.count(REFUSED);
                if !text.contains("no space left on device") {
                    self.wrong(format!("a full disk is not named: {text}"));
                }
                Answer::Refused
            }
            (_, code) => {
                self.count(&format!("answers: unknown, {}", code.unwrap_or_default()));
                Answer::Unknown
            }
        };
        self.model.finish(name, write, answer);
    }

    /// What is stored must be what was acknowledged, of pods that nobody has changed
    /// since this was asked.
    fn take_list(&mut self, text: &str, still: &BTreeMap<String, u64>) {
        let Some(pods) = pairs(text) else { return self.note(format!("< {text}")) };
        let listed: BTreeMap<String, u64> = pods
            .filter_map(|(name, version)| Some((name.to_owned(), version.parse().ok()?)))
            .collect();
        self.count("lists compared");
        let mut wrongs = Vec::new();
        for (name, pod) in &self.model.pods {
            let found: Desired = listed.get(name).copied();
            if still.get(name) == Some(&pod.writes)
                && !pod.is_busy
                && !pod.possible.contains(&found)
            {
                wrongs
                    .push(format!("{name} is stored as {found:?}, not one of {:?}", pod.possible));
            }
        }
        let unknown = listed.keys().filter(|name| !self.model.pods.contains_key(*name));
        wrongs.extend(unknown.map(|name| format!("{name} is stored and nobody has asked for it")));
        wrongs.into_iter().for_each(|wrong| self.wrong(wrong));
        self.listed = Some(listed);
    }

    fn note(&mut self, what: String) {
        let at = self.round_began.elapsed().as_millis();
        self.history.push(format!("{at:>6} {what}"));
    }

    fn wrong(&mut self, what: String) {
        self.note(format!("WRONG: {what}"));
        self.wrongs.push(what);
    }

    fn count(&mut self, what: &str) {
        *self.figures.entry(what.to_owned()).or_default() += 1;
    }

    /// What a person needs to find out what went wrong.
    fn report(&self) -> String {
        let mut report = format!("what was done in round {}, with milliseconds:\n", self.round);
        for line in &self.history {
            let _ = writeln!(report, "{line}");
        }
        let stderr = fs::read(self.setting.dir.join("stderr")).unwrap_or_default();
        let stderr = String::from_utf8_lossy(&stderr);
        let pods: BTreeSet<&str> =
            self.wrongs.iter().filter_map(|wrong| wrong.split([' ', ',']).next()).collect();
        let is_of_them = |line: &&str| line.split([' ', '=']).any(|word| pods.contains(word));
        for pod in pods.iter().filter(|pod| self.model.pods.contains_key(**pod)) {
            let _ = writeln!(report, "what {pod} tells by itself, with milliseconds:");
            report.push_str(&self.audit().story(pod, self.round_began_ns));
        }
        let _ = writeln!(report, "what port programs have said of them:");
        for line in stderr.lines().filter(is_of_them) {
            let _ = writeln!(report, "{line}");
        }
        let _ = writeln!(report, "what is other than it must be, after round {}:", self.round);
        for wrong in &self.wrongs {
            let _ = writeln!(report, "  {wrong}");
        }
        let round_seed = (self.seed + self.round).saturating_sub(1);
        let _ = write!(
            report,
            "the round alone: scripts/chaos 1 {round_seed}; all so far: scripts/chaos {} {}",
            self.round, self.seed
        );
        report
    }
}

/// The pods with more than one run: each has a network namespace of its own, which tells
/// them apart whoever the parents of their processes are by then.
fn doubles(processes: &Processes) -> BTreeMap<String, BTreeSet<String>> {
    let mut runs: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (process, workload) in processes.workloads() {
        // One that is about to be gone has none.
        if let Some(run) = kernel::namespace(process.identity.pid, "net") {
            runs.entry(workload.pod).or_default().insert(run);
        }
    }
    runs.retain(|_, runs| runs.len() > 1);
    runs
}

/// The `name=value` words of an answer that went well.
fn pairs(text: &str) -> Option<impl Iterator<Item = (&str, &str)>> {
    let mut words = text.split(' ');
    (words.next() == Some("ok")).then(|| words.filter_map(|word| word.split_once('=')))
}
