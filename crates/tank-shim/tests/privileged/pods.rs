//! Several containers: what they share, in which order they come and go, and
//! whose end is the pod's.

use std::fs;

use tank_shim::protocol::{
    Exit, FromShim, Launch, Role, Step, StopPlan, ToShim, Volume, VolumeSource,
};

use crate::scene::{Scene, Shim, eventually, open_process, path_string, scene, wait_for_end};

/// A pod of shell scripts.
fn pod(scene: &Scene, containers: &[(&str, Role, &str)]) -> Launch {
    let mut pod = scene.pod(&[]);
    let container = |&(name, role, script): &(&str, Role, &str)| {
        let mut container = scene.container(name, &["/bin/sh", "-c", script]);
        container.role = role;
        container
    };
    pod.containers = containers.iter().map(container).collect();
    pod
}

fn launch(scene: &Scene, pod: &Launch) -> Shim {
    let mut shim = scene.shim();
    shim.send(&ToShim::Launch(Box::new(pod.clone())));
    shim
}

/// A volume in which containers leave traces, mounted into each.
fn share(scene: &Scene, pod: &mut Launch, source: VolumeSource) {
    pod.volumes = vec![Volume { name: "shared".into(), source }];
    fs::create_dir_all(scene.dir.join("shared")).unwrap();
    for container in &mut pod.containers {
        let (volume, path) = ("shared".into(), "/shared".into());
        container.mounts.push(tank_shim::protocol::Mount { volume, path, read_only: false });
    }
}

fn traces(scene: &Scene) -> String {
    fs::read_to_string(scene.dir.join("shared/traces")).unwrap_or_default()
}

const LISTENS: &str = "trap 'exit 0' TERM";
const LIVES_ON: &str = "sleep 1000 & wait";

#[test]
fn containers_share_network_names_and_ipc_and_nothing_else() {
    let scene = scene!("containers_share_network_names_and_ipc_and_nothing_else");
    let look =
        "for ns in net uts ipc mnt pid cgroup; do readlink /proc/self/ns/$ns; done; hostname;
                touch /mine; ls / | grep -c mine; ls /proc | grep -c '^[0-9]'";
    let other = format!("{LISTENS}; {look}; {LIVES_ON}");
    let pod = pod(&scene, &[("one", Role::Main, &other), ("two", Role::Main, &other)]);
    let mut shim = launch(&scene, &pod);
    shim.expect_launched();
    let lines = |name: &str| {
        let logged = scene.logged_by(name, "stdout");
        logged.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    eventually("both have looked", || ["one", "two"].iter().all(|name| lines(name).len() == 9));
    let (one, two) = (lines("one"), lines("two"));
    assert_eq!(one[..3], two[..3]);
    for private in 3..6 {
        assert_ne!(one[private], two[private]);
    }
    assert_eq!(one[6..8], ["web", "1"]);
    assert_eq!(two[6..8], ["web", "1"]);
    let host = fs::read_link("/proc/self/ns/net").unwrap();
    assert_ne!(one[0], path_string(&host));
    shim.stop();
    assert_eq!(shim.expect_exited().exit, Exit::Exited(0));
}

#[test]
fn containers_talk_over_loopback() {
    let scene = scene!("containers_talk_over_loopback");
    let server = format!(
        "mkdir /srv; echo it works >/srv/index.html; httpd -p 127.0.0.1:80 -h /srv; {LIVES_ON}"
    );
    let client = "until wget -qO- http://127.0.0.1/ 2>/dev/null; do :; done";
    let pod = pod(&scene, &[("server", Role::Main, &server), ("client", Role::Main, client)]);
    let mut shim = launch(&scene, &pod);
    shim.expect_launched();
    let record = shim.expect_exited();
    assert_eq!((record.container.as_str(), record.exit), ("client", Exit::Exited(0)));
    assert_eq!(scene.logged_by("client", "stdout"), "it works\n");
}

#[test]
fn init_containers_run_one_after_the_other_before_all_else() {
    let scene = scene!("init_containers_run_one_after_the_other_before_all_else");
    // In another order than that of the launch.
    let mut pod = pod(
        &scene,
        &[
            ("main", Role::Main, "echo main >>/shared/traces"),
            ("side", Role::Sidecar, &format!("echo side >>/shared/traces; {LIVES_ON}")),
            ("first", Role::Init, "sleep 0.1; echo first >>/shared/traces"),
            ("second", Role::Init, "echo second >>/shared/traces"),
        ],
    );
    share(&scene, &mut pod, VolumeSource::Path(path_string(&scene.dir.join("shared"))));
    pod.containers[0].argv[2] = "until grep side /shared/traces; do :; done; ".to_owned()
        + &std::mem::take(&mut pod.containers[0].argv[2]);
    let mut shim = launch(&scene, &pod);
    match shim.receive() {
        FromShim::Launched(launched) => {
            let names: Vec<_> = launched.containers.iter().map(|each| &*each.name).collect();
            assert_eq!(names, ["side", "main"]);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(shim.expect_exited().container, "main");
    assert_eq!(traces(&scene), "first\nsecond\nside\nmain\n");
}

#[test]
fn a_failing_init_container_is_the_end_and_nothing_follows_it() {
    let scene = scene!("a_failing_init_container_is_the_end_and_nothing_follows_it");
    let mut pod = pod(
        &scene,
        &[
            ("first", Role::Init, "exit 3"),
            ("second", Role::Init, "echo second >>/shared/traces"),
            ("main", Role::Main, "echo main >>/shared/traces"),
        ],
    );
    share(&scene, &mut pod, VolumeSource::Path(path_string(&scene.dir.join("shared"))));
    let record = launch(&scene, &pod).expect_exited();
    assert_eq!((record.container.as_str(), record.exit), ("first", Exit::Exited(3)));
    assert_eq!(traces(&scene), "");
}

#[test]
fn an_init_container_can_be_stopped() {
    let scene = scene!("an_init_container_can_be_stopped");
    let init = format!("{LISTENS}; echo ready; {LIVES_ON}");
    let pod = pod(&scene, &[("init", Role::Init, &init), ("main", Role::Main, "echo main")]);
    let mut shim = launch(&scene, &pod);
    eventually("it is ready", || scene.logged_by("init", "stdout") == "ready\n");
    shim.stop();
    let record = shim.expect_exited();
    assert_eq!((record.container.as_str(), record.exit), ("init", Exit::Exited(0)));
    assert_eq!(scene.logged_by("main", "stdout"), "");
}

#[test]
fn sidecars_are_stopped_last() {
    let scene = scene!("sidecars_are_stopped_last");
    let leave = |name: &str| {
        format!(
            "trap 'sleep 0.1; echo {name} >>/shared/traces; exit 0' TERM; echo ready; sleep 1000 & wait"
        )
    };
    let mut pod = pod(
        &scene,
        &[
            ("side", Role::Sidecar, &leave("side")),
            ("main", Role::Main, &leave("main")),
            ("other", Role::Main, "until [ -e /shared/go ]; do :; done; exit 5"),
        ],
    );
    share(&scene, &mut pod, VolumeSource::Path(path_string(&scene.dir.join("shared"))));
    let mut shim = launch(&scene, &pod);
    shim.expect_launched();
    for name in ["side", "main"] {
        eventually("it is ready", || scene.logged_by(name, "stdout") == "ready\n");
    }
    // The end of one is the end of all, in order.
    fs::write(scene.dir.join("shared/go"), "").unwrap();
    let record = shim.expect_exited();
    assert_eq!((record.container.as_str(), record.exit), ("other", Exit::Exited(5)));
    assert_eq!(traces(&scene), "main\nside\n");
}

/// Stops the shim itself while something happens, so that it finds all of it at
/// once.
fn while_it_sleeps(shim: &Shim, what: impl FnOnce()) {
    shim.signal(rustix::process::Signal::STOP);
    eventually("the shim sleeps", || is_in_state(shim.hello.pid, 'T'));
    what();
    shim.signal(rustix::process::Signal::CONT);
}

fn is_over(host_pid: i32) -> bool {
    is_in_state(host_pid, 'Z')
}

fn is_in_state(host_pid: i32, state: char) -> bool {
    let status = fs::read_to_string(format!("/proc/{host_pid}/status"));
    status.is_ok_and(|status| status.contains(&format!("State:\t{state}")))
}

#[test]
fn a_stop_may_come_at_the_very_end_of_an_init_container() {
    let scene = scene!("a_stop_may_come_at_the_very_end_of_an_init_container");
    let init = "echo $$; until [ -e /shared/go ]; do :; done";
    let mut pod = pod(&scene, &[("init", Role::Init, init), ("main", Role::Main, LIVES_ON)]);
    share(&scene, &mut pod, VolumeSource::Path(path_string(&scene.dir.join("shared"))));
    let mut shim = launch(&scene, &pod);
    eventually("it runs", || !scene.logged_by("init", "stdout").is_empty());
    let children = format!("/proc/{}/task/{}/children", shim.hello.pid, shim.hello.pid);
    let children = fs::read_to_string(children).unwrap();
    let init_pid = children.trim().parse().unwrap();
    shim.signal(rustix::process::Signal::STOP);
    eventually("the shim sleeps", || is_in_state(shim.hello.pid, 'T'));
    fs::write(scene.dir.join("shared/go"), "").unwrap();
    eventually("it is over", || is_over(init_pid));
    shim.stop();
    shim.signal(rustix::process::Signal::CONT);
    let record = shim.expect_exited();
    // The next one was on its way by then, and is what the stop has met.
    assert_eq!((record.container.as_str(), record.exit), ("main", Exit::Signaled(9)));
    assert!(!scene.run_dir().join("containers").exists());
}

#[test]
fn of_those_found_dead_at_once_the_one_counts_that_failed() {
    let scene = scene!("of_those_found_dead_at_once_the_one_counts_that_failed");
    let wait = |code: u8| format!("until [ -e /shared/go ]; do :; done; exit {code}");
    for (side, main, container, exit) in [(0, 3, "main", 3), (0, 0, "main", 0), (4, 0, "side", 4)] {
        let mut pod =
            pod(&scene, &[("side", Role::Sidecar, &wait(side)), ("main", Role::Main, &wait(main))]);
        share(&scene, &mut pod, VolumeSource::Path(path_string(&scene.dir.join("shared"))));
        let mut shim = launch(&scene, &pod);
        let pids = match shim.receive() {
            FromShim::Launched(launched) => launched.containers,
            other => panic!("{other:?}"),
        };
        while_it_sleeps(&shim, || {
            fs::write(scene.dir.join("shared/go"), "").unwrap();
            eventually("both are over", || pids.iter().all(|each| is_over(each.host_pid)));
        });
        let record = shim.expect_exited();
        assert_eq!((record.container.as_str(), record.exit), (container, Exit::Exited(exit)));
        fs::remove_file(scene.dir.join("shared/go")).unwrap();
    }
}

#[test]
fn a_pod_that_is_ending_needs_no_adjustment_of_what_has_ended() {
    let scene = scene!("a_pod_that_is_ending_needs_no_adjustment_of_what_has_ended");
    let stays = "trap : TERM; echo ready; while :; do sleep 1000 & wait; done";
    let ends = "until [ -e /shared/go ]; do :; done";
    let mut pod = pod(&scene, &[("ends", Role::Main, ends), ("stays", Role::Main, stays)]);
    share(&scene, &mut pod, VolumeSource::Path(path_string(&scene.dir.join("shared"))));
    let mut shim = launch(&scene, &pod);
    let ends = format!("/proc/{}", shim.expect_launched());
    eventually("it is ready", || scene.logged_by("stays", "stdout") == "ready\n");
    fs::write(scene.dir.join("shared/go"), "").unwrap();
    eventually("the shim has reaped it", || fs::metadata(&ends).is_err());
    let asked = |shim: &mut Shim, container: &str| {
        let adjustment = tank_shim::protocol::Adjustment {
            container: container.into(),
            cgroups: Vec::new(),
            stop: StopPlan { grace_ms: 0, ..StopPlan::default() },
        };
        let adjust = tank_shim::protocol::Adjust { cgroups: vec![], containers: vec![adjustment] };
        shim.send(&ToShim::Adjust(adjust));
        match shim.receive() {
            FromShim::Adjusted(failure) => failure,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(asked(&mut shim, "ends"), None);
    shim.send(&ToShim::Kill);
    assert_eq!(shim.expect_exited().container, "ends");
}

#[test]
fn a_bad_name_leaves_no_cgroup_behind() {
    let mut scene = scene!("a_bad_name_leaves_no_cgroup_behind");
    let mut pod = pod(&scene, &[("x", Role::Main, "true"), ("x", Role::Main, "true")]);
    let cgroup = scene.cgroup("pids", tank_shim::protocol::Join::Tasks, &[]);
    let path = cgroup.path.clone();
    pod.cgroups = vec![tank_shim::protocol::PodCgroup { path: cgroup.path, files: Vec::new() }];
    assert_eq!(scene.failure_of(&pod).step, Step::CheckContainer);
    assert!(!std::path::Path::new(&path).exists());
}

#[test]
fn each_container_is_stopped_in_its_own_way() {
    let scene = scene!("each_container_is_stopped_in_its_own_way");
    let listen = "trap 'echo TERM' TERM; trap 'echo USR1; exit 0' USR1; echo ready;
                  while :; do sleep 1000 & wait; done";
    let mut pod = pod(&scene, &[("one", Role::Main, listen), ("two", Role::Main, listen)]);
    pod.containers[0].stop =
        StopPlan { signal: libc::SIGUSR1, grace_ms: 60_000, ..StopPlan::default() };
    pod.containers[1].stop = StopPlan { grace_ms: 200, ..StopPlan::default() };
    let mut shim = launch(&scene, &pod);
    shim.expect_launched();
    for name in ["one", "two"] {
        eventually("it is ready", || scene.logged_by(name, "stdout") == "ready\n");
    }
    shim.stop();
    assert_eq!(shim.expect_exited().container, "one");
    assert_eq!(scene.logged_by("one", "stdout"), "ready\nUSR1\n");
    assert_eq!(scene.logged_by("two", "stdout"), "ready\nTERM\n");
}

#[test]
fn a_container_that_cannot_be_launched_takes_the_others_down() {
    let scene = scene!("a_container_that_cannot_be_launched_takes_the_others_down");
    let mut pod =
        pod(&scene, &[("side", Role::Sidecar, "sleep 1000"), ("main", Role::Main, "true")]);
    pod.containers[1].argv = vec!["/bin/none".into()];
    let failure = scene.failure_of(&pod);
    assert_eq!(failure.container.as_deref(), Some("main"));
    assert_eq!((failure.step, failure.object.as_str()), (Step::Exec, "/bin/none"));
    assert!(!scene.run_dir().join("containers").exists());
    assert!(!scene.run_dir().join("exit").exists());
}

#[test]
fn names_that_are_no_part_of_a_path_or_stand_twice_are_refused() {
    let scene = scene!("names_that_are_no_part_of_a_path_or_stand_twice_are_refused");
    for names in [&["", "b"][..], &["..", "b"], &["a/b", "b"], &["a", "a"], &[]] {
        let containers: Vec<_> = names.iter().map(|name| (*name, Role::Main, "true")).collect();
        let failure = scene.failure_of(&pod(&scene, &containers));
        assert_eq!((failure.step, failure.object.as_str()), (Step::CheckContainer, "name"));
    }
}

#[test]
fn memory_volumes_are_one_for_all_containers_and_go_with_them() {
    let scene = scene!("memory_volumes_are_one_for_all_containers_and_go_with_them");
    let writes = format!("echo written >/shared/file; {LIVES_ON}");
    let reads =
        "until [ -s /shared/file ]; do :; done; cat /shared/file; grep -c shared /proc/mounts";
    let mut pod = pod(&scene, &[("one", Role::Main, &writes), ("two", Role::Main, reads)]);
    share(&scene, &mut pod, VolumeSource::Tmpfs(1 << 20));
    let mounts = || fs::read_to_string("/proc/self/mounts").unwrap();
    let before = mounts();
    let mut shim = launch(&scene, &pod);
    shim.expect_launched();
    assert_eq!(shim.expect_exited().container, "two");
    assert_eq!(scene.logged_by("two", "stdout"), "written\n1\n");
    assert!(!mounts().contains(&path_string(&scene.run_dir())), "{before}");
}

#[test]
fn a_killed_shim_takes_all_containers_along() {
    let scene = scene!("a_killed_shim_takes_all_containers_along");
    let sleeps = "exec sleep 1000";
    let pod = pod(&scene, &[("one", Role::Main, sleeps), ("two", Role::Main, sleeps)]);
    let mut shim = launch(&scene, &pod);
    let processes = match shim.receive() {
        FromShim::Launched(launched) => launched.containers,
        other => panic!("{other:?}"),
    };
    let processes = processes.iter().map(|each| open_process(each.host_pid)).collect::<Vec<_>>();
    shim.signal(rustix::process::Signal::KILL);
    shim.wait_for_end();
    assert_eq!(processes.len(), 2);
    processes.iter().for_each(wait_for_end);
}
