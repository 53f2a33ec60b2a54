//! Every system call of a launch and of a stop fails once, a run each. Then the launch
//! has failed and says at which step, of what and why; or the run has come to the same
//! end with the same inside, and `harmless.txt` has the reason. Nothing is left and
//! nothing hangs, whatever fails.
//!
//! `TANK_INJECT=all` takes every call, and `TANK_INJECT='shim.1 mount *'` those of which
//! the test has such names; without it the first of those that are alike is taken, and
//! none that closes something.

mod call;
mod tracer;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::chown;
use std::path::Path;

use tank_shim::cgroup_tree;
use tank_shim::protocol::{
    Container, Exit, ExitRecord, Failure, FromShim, Join, Launch, Mount, OciRuntime, OnHangup,
    OwnedDir, PodCgroup, Role, Step, StopPlan, ToShim, UserNamespace, Volume, VolumeSource,
};
use tank_shim::record::EXIT_FILE;

use self::call::Call;
use self::tracer::{Fault, Part, Place, Trace};
use crate::attacks::default_seccomp;
use crate::scene::{Scene, path_string, scene};

/// What fails without that the launch fails by it, and why that is right.
const HARMLESS: &str = include_str!("faults/harmless.txt");

/// What calls fail with.
const ERRNO: i32 = libc::EIO;

/// Tells of all that a launch sets up for a process.
const LOOK_AROUND: &str = "
    grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp|Sig[BIC])' /proc/self/status
    ulimit -n; cat /proc/self/oom_score_adj; umask; pwd; hostname; env; tty; cat /etc/hosts
    ls -ln / /etc /dev /volumes /proc/self/fd/ | awk '{ print $1, $3, $4, $NF }' | sed 's/.[0-9]*]$//'
    sed 's/,lowerdir=.*//' /proc/mounts; cat /proc/self/cgroup; ip addr; exit 3";

/// What an OCI runtime makes of a container that looks around.
const OCI_CONFIG: &str = r#"{
    "ociVersion": "1.0.2",
    "root": {"path": "root"},
    "process": {
        "terminal": false,
        "user": {"uid": 0, "gid": 0},
        "args": ["/bin/sh", "/look"],
        "env": ["PATH=/bin"],
        "cwd": "/"
    },
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"}
    ],
    "linux": {
        "namespaces": [{"type": "mount"}, {"type": "pid"}, {"type": "cgroup"}],
        "cgroupsPath": "/runtime.container",
        "resources": {"devices": [{"allow": true, "access": "rwm"}]}
    }
}"#;

/// A pod, and where it is launched again and again.
struct Case {
    scene: Scene,
    pod: Launch,
    /// Which of its calls fail.
    part: Part,
}

/// How a launch has gone.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// It has failed, and says why.
    Failed(Box<Failure>),
    /// It came to this end, with this inside; and its `pre_stop` has failed, if it has.
    Ended(Exit, BTreeSet<String>, Option<String>),
    /// The shim has ended without a word.
    Mute,
    /// None of these: what it has told.
    Otherwise(String),
}

impl Case {
    /// A pod with a container that looks around in all that a container can have.
    fn new(mut scene: Scene) -> Self {
        fs::create_dir(scene.rootfs().join("etc")).unwrap();
        let mut pod = scene.script(LOOK_AROUND);
        let v1 = [("memory", "memory.limit_in_bytes", "268435456"), ("pids", "pids.max", "50")];
        let v1 = v1.map(|(tree, file, limit)| scene.cgroup(tree, Join::Tasks, &[(file, limit)]));
        let v2 = scene.cgroup("unified", Join::Clone, &[("cgroup.max.depth", "9")]);
        let app = &mut pod.containers[0];
        for cgroup in v1.into_iter().chain([v2]) {
            pod.cgroups.push(PodCgroup { path: cgroup.path.clone(), files: cgroup.files.clone() });
            let path = format!("{}/app", cgroup.path);
            app.cgroups.push(tank_shim::protocol::Cgroup { path, ..cgroup });
        }
        (app.uid, app.gid, app.groups) = (1000, 1000, vec![1000, 7]);
        (app.nofile, app.nice, app.oom_score_adj) = (Some(4_321), Some(5), Some(123));
        app.seccomp = Some(default_seccomp());
        app.etc = vec![("hosts".to_owned(), "127.0.0.1 localhost\n".to_owned())];
        app.working_dir = "/made/here".to_owned();
        app.read_only = true;
        let mut case = Self { scene, pod, part: Part::Launch };
        fs::create_dir(case.host_dir("path")).unwrap();
        fs::create_dir(case.host_dir("owned")).unwrap();
        case.mount("path", VolumeSource::Path(path_string(&case.host_dir("path"))), true);
        let path = path_string(&case.host_dir("owned"));
        case.mount("owned", VolumeSource::Owned(OwnedDir { path, uid: 1000, gid: 1000 }), false);
        case.mount("memory", VolumeSource::Tmpfs(1 << 20), false);
        case
    }

    fn host_dir(&self, name: &str) -> std::path::PathBuf {
        self.scene.dir.join(name)
    }

    fn mount(&mut self, name: &str, source: VolumeSource, read_only: bool) {
        self.pod.volumes.push(Volume { name: name.to_owned(), source });
        let (volume, path) = (name.to_owned(), format!("/volumes/{name}"));
        self.pod.containers[0].mounts.push(Mount { volume, path, read_only });
    }

    /// Launches it, in the same circumstances each time.
    fn launch(&self, fault: Option<&Fault>) -> (Trace, Outcome) {
        chown(self.host_dir("owned"), Some(0), Some(0)).unwrap();
        let _ = fs::remove_file(self.scene.log_path());
        let mut shim = self.scene.shim();
        // Where it cannot hear of the stop.
        shim.send(&ToShim::OnHangup(Some(OnHangup { stop_after_ms: 0 })));
        let trace = tracer::follow(&mut shim, &self.pod, self.part, fault);
        let ended = |record: &ExitRecord, complaint| {
            assert_eq!(self.scene.recorded_exit(), *record);
            let said = self.scene.logged("stdout") + &self.scene.logged("stderr");
            Outcome::Ended(record.exit, said.lines().map(str::to_owned).collect(), complaint)
        };
        let told = trace.told.iter().filter(|told| !matches!(told, FromShim::Stopping(_)));
        let outcome = match &told.collect::<Vec<_>>()[..] {
            [FromShim::Failed(failure)] => Outcome::Failed(Box::new(failure.clone())),
            [FromShim::Launched(_), FromShim::Exited(record)] => ended(record, None),
            [FromShim::Launched(_), FromShim::PreStopFailed(failed), FromShim::Exited(record)] => {
                ended(record, Some(failed.message.clone()))
            }
            [] => Outcome::Mute,
            [FromShim::Launched(_)] if self.part == Part::Stop => Outcome::Mute,
            other => Outcome::Otherwise(format!("{other:?}")),
        };
        (trace, outcome)
    }

    /// What a launch has left that it should not have.
    fn leftovers(&self, outcome: &Outcome) -> Vec<String> {
        // What could not be removed at a stop, the port program removes.
        if self.part == Part::Stop || matches!(outcome, Outcome::Mute | Outcome::Otherwise(_)) {
            self.sweep();
        }
        let run_dir = fs::read_dir(self.scene.run_dir()).unwrap();
        let names = run_dir.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut left: Vec<_> = names.collect();
        if !matches!(outcome, Outcome::Failed(_)) {
            let _ = fs::remove_file(self.scene.run_dir().join(EXIT_FILE));
            left.retain(|name| name != EXIT_FILE);
        }
        let cgroups = self.pod.cgroups.iter().map(|cgroup| cgroup.path.clone());
        left.extend(cgroups.filter(|path| Path::new(path).exists()));
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let dir = path_string(&self.scene.dir);
        left.extend(mounts.lines().filter(|mount| mount.contains(&dir)).map(str::to_owned));
        left
    }

    /// What is done where a shim has died, as the port program does it: nothing lives
    /// that would be in the way.
    fn sweep(&self) {
        let idle = self.scene.shim();
        idle.stream.shutdown(std::net::Shutdown::Both).unwrap();
        idle.wait_for_end();
        for cgroup in self.pod.cgroups.iter().map(|cgroup| Path::new(&cgroup.path)) {
            if cgroup.exists() {
                cgroup_tree::remove(cgroup).unwrap();
            }
        }
    }

    /// Whether a run has gone as it should, one call of which has failed.
    fn judge(&self, trace: &Trace, outcome: &Outcome, wanted: &Outcome) -> Result<Verdict, String> {
        if trace.hung {
            return Err(format!("it hangs; told: {:?}", trace.told));
        }
        let Some(call) = &trace.failed else {
            let is_same = outcome == wanted;
            return if is_same { Ok(Verdict::NotMade) } else { Err(difference(outcome, wanted)) };
        };
        match outcome {
            Outcome::Failed(failure) => {
                let errno = call.errno(ERRNO);
                if failure.errno == errno && !failure.object.is_empty() || is_listed("other", call)
                {
                    Ok(Verdict::Named)
                } else {
                    Err(format!("{failure:?}"))
                }
            }
            Outcome::Mute if is_listed("mute", call) => Ok(Verdict::Mute),
            Outcome::Mute => Err("the shim ends without a word".into()),
            Outcome::Otherwise(words) => Err(words.clone()),
            Outcome::Ended(.., Some(complaint)) => {
                let named = Failure::new(Step::Clone, "", call.errno(ERRNO)).message;
                let why = named.rsplit(": ").next();
                if complaint.rsplit(": ").next() == why || is_listed("other", call) {
                    Ok(Verdict::Named)
                } else {
                    Err(complaint.clone())
                }
            }
            Outcome::Ended(..) if is_listed("ends", call) => Ok(Verdict::Harmless),
            Outcome::Ended(..) if !self.is_harmless(call) => {
                Err(format!("nobody is told; {}", difference(outcome, wanted)))
            }
            Outcome::Ended(..) if outcome != wanted => Err(difference(outcome, wanted)),
            Outcome::Ended(..) => Ok(Verdict::Harmless),
        }
    }

    /// Whether a call may fail unseen.
    fn is_harmless(&self, call: &Call) -> bool {
        is_listed("harmless", call) || self.part == Part::Stop && is_listed("stop", call)
    }
}

/// Those calls of a pod's run that are chosen fail, each in a run of its own.
fn every_call_fails_once(name: &str, case: &Case) {
    let (trace, wanted) = case.launch(None);
    assert!(matches!(wanted, Outcome::Ended(Exit::Exited(3), _, None)), "{wanted:?}");
    assert_eq!(case.leftovers(&wanted), [""; 0]);
    let places = chosen(&trace.calls);
    let (mut verdicts, mut problems) = (Vec::new(), Vec::new());
    for place in &places {
        let fault = Fault { place: place.clone(), errno: ERRNO };
        let (trace, outcome) = case.launch(Some(&fault));
        match case.judge(&trace, &outcome, &wanted) {
            Ok(verdict) => verdicts.push(verdict),
            Err(problem) => problems.push(format!("{place}: {problem}")),
        }
        let left = case.leftovers(&outcome);
        problems.extend(left.iter().map(|left| format!("{place}: this is left: {left}")));
    }
    let count = |wanted| verdicts.iter().filter(|&&verdict| verdict == wanted).count();
    let told = format!(
        "{name}: {} of {} calls failed: {} are named, {} harmless, {} mute, {} were not made again",
        places.len(),
        trace.calls.len(),
        count(Verdict::Named),
        count(Verdict::Harmless),
        count(Verdict::Mute),
        count(Verdict::NotMade),
    );
    // Not `println!`, which the test harness keeps to itself.
    let _ = writeln!(std::io::stdout(), "{told}");
    assert!(problems.is_empty(), "{told}\n{}", problems.join("\n"));
}

/// How a launch has gone rightly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It has failed by a step, an object and an error.
    Named,
    /// It has not failed, and the table says why.
    Harmless,
    /// The shim has failed, and the table says why.
    Mute,
    /// The call was not made this time.
    NotMade,
}

fn difference(outcome: &Outcome, wanted: &Outcome) -> String {
    let (Outcome::Ended(exit, said, _), Outcome::Ended(_, wanted, _)) = (outcome, wanted) else {
        return format!("{outcome:?}");
    };
    let gone: Vec<_> = wanted.difference(said).collect();
    let new: Vec<_> = said.difference(wanted).collect();
    format!("{exit:?}, gone: {gone:?}, new: {new:?}")
}

/// The places that are to fail.
fn chosen(calls: &[(Place, Call)]) -> Vec<Place> {
    let wanted = std::env::var("TANK_INJECT").unwrap_or_default();
    let is_chosen = |(place, call): &&(Place, Call)| match wanted.as_str() {
        "all" => true,
        "" => place.is_first() && !call.is_close(),
        some => fits(some, &place.to_string()),
    };
    calls.iter().filter(is_chosen).map(|(place, _)| place.clone()).collect()
}

/// Whether a call is listed under a kind in the table.
fn is_listed(kind: &str, call: &Call) -> bool {
    listed().any(|[listed, pattern, _]| listed == kind && fits(pattern, &call.to_string()))
}

/// The table: kinds, calls and reasons.
fn listed() -> impl Iterator<Item = [&'static str; 3]> {
    let lines = HARMLESS.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.map(|line| {
        let fields: Vec<_> = line.split(" | ").collect();
        fields.try_into().unwrap_or_else(|_| panic!("{line:?} is no kind, call and reason"))
    })
}

/// Whether a text is as a pattern says, in which `*` is anything.
fn fits(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|text| {
            (0..=text.len())
                .filter(|&at| text.is_char_boundary(at))
                .any(|at| fits(rest, &text[at..]))
        }),
    }
}

#[test]
fn what_may_fail_unseen_is_of_a_known_kind_and_has_a_reason() {
    for [kind, call, reason] in listed() {
        assert!(["harmless", "stop", "ends", "other", "mute"].contains(&kind), "{kind}");
        assert!(!call.is_empty() && !reason.is_empty(), "{kind} {call}");
    }
}

#[test]
fn every_system_call_of_a_launch_may_fail() {
    let case = Case::new(scene!("every_system_call_of_a_launch_may_fail"));
    every_call_fails_once("pipes", &case);
}

#[test]
fn every_system_call_of_a_launch_with_an_init_and_a_terminal_may_fail() {
    let mut case =
        Case::new(scene!("every_system_call_of_a_launch_with_an_init_and_a_terminal_may_fail"));
    (case.pod.containers[0].init, case.pod.containers[0].tty) = (true, true);
    every_call_fails_once("terminal", &case);
}

#[test]
fn every_system_call_of_a_launch_with_users_of_its_own_may_fail() {
    let mut case =
        Case::new(scene!("every_system_call_of_a_launch_with_users_of_its_own_may_fail"));
    case.pod.user_namespace = Some(UserNamespace { first_id: 0x7000_0000, count: 65_536 });
    every_call_fails_once("users", &case);
}

#[test]
fn every_system_call_of_a_launch_of_several_containers_may_fail() {
    let scene = scene!("every_system_call_of_a_launch_of_several_containers_may_fail");
    let mut case = Case::new(scene);
    let others = [("first", Role::Init, "exit 0"), ("beside", Role::Sidecar, "exec sleep 1000")];
    for (name, role, script) in others {
        let container = case.scene.container(name, &["/bin/sh", "-c", script]);
        // It need not hear of its end.
        let stop = StopPlan { signal: libc::SIGKILL, ..StopPlan::default() };
        case.pod.containers.push(Container { role, stop, ..container });
    }
    every_call_fails_once("several", &case);
}

#[test]
fn every_system_call_of_a_stop_may_fail() {
    let mut case = Case::new(scene!("every_system_call_of_a_stop_may_fail"));
    case.part = Part::Stop;
    let app = &mut case.pod.containers[0];
    app.argv[2] =
        "trap 'echo asked; exit 3' TERM; echo ready; while :; do sleep 0.01; done".to_owned();
    let look_around = format!("({LOOK_AROUND}) || exit 0");
    app.stop.pre_stop = ["/bin/sh", "-c", &look_around].map(str::to_owned).to_vec();
    every_call_fails_once("stop", &case);
}

#[test]
fn every_system_call_of_a_launch_by_an_oci_runtime_may_fail() {
    let mut case = Case::new(scene!("every_system_call_of_a_launch_by_an_oci_runtime_may_fail"));
    let app = &mut case.pod.containers[0];
    fs::write(case.scene.rootfs().join("look"), &app.argv[2]).unwrap();
    app.oci =
        Some(OciRuntime { program: "/usr/bin/crun".to_owned(), config: OCI_CONFIG.to_owned() });
    every_call_fails_once("OCI", &case);
}
