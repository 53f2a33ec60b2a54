//! Limits bite, and cgroups come and go with the pod.

use std::fs;
use std::path::Path;

use tank_shim::protocol::{Exit, Join, ShimCgroup, ToShim};

use crate::scene::{eventually, open_process, scene, wait_for_end};

#[test]
fn memory_is_limited() {
    let mut scene = scene!("memory_is_limited");
    let mut pod = scene.pod(&["/bin/tail", "/dev/zero"]);
    let limit = ("memory.limit_in_bytes", "16777216");
    pod.containers[0].cgroups = vec![scene.cgroup("memory", Join::Tasks, &[limit])];
    assert_eq!(scene.run(&pod), Exit::OutOfMemory);
}

#[test]
fn a_kill_is_not_taken_for_the_kernels_own_after_an_oom_kill_of_another_process() {
    let mut scene =
        scene!("a_kill_is_not_taken_for_the_kernels_own_after_an_oom_kill_of_another_process");
    let mut pod = scene.script("tail /dev/zero; echo $?; sleep 1000");
    let limit = ("memory.limit_in_bytes", "16777216");
    pod.containers[0].cgroups = vec![scene.cgroup("memory", Join::Tasks, &[limit])];
    let (mut shim, _) = scene.launched(&pod);
    eventually("the child is killed", || scene.logged("stdout").contains("137"));
    shim.send(&ToShim::Kill);
    assert_eq!(shim.expect_exited().exit, Exit::Signaled(9));
}

#[test]
fn what_processes_inherit_is_set() {
    let scene = scene!("what_processes_inherit_is_set");
    let script = "ulimit -Sn; ulimit -Hn; set -- $(cat /proc/self/stat); echo ${19}; cat /proc/self/oom_score_adj";
    let mut pod = scene.script(script);
    pod.containers[0].nofile = Some(4_321);
    pod.containers[0].nice = Some(-7);
    pod.containers[0].oom_score_adj = Some(123);
    assert_eq!(scene.run(&pod), Exit::Exited(0));
    assert_eq!(scene.logged("stdout"), "4321\n4321\n-7\n123\n");
}

#[test]
fn processes_are_limited() {
    let mut scene = scene!("processes_are_limited");
    let mut pod = scene.script("for i in 1 2 3 4 5 6; do sleep 1000 & done; echo more than enough");
    pod.containers[0].cgroups = vec![scene.cgroup("pids", Join::Tasks, &[("pids.max", "4")])];
    scene.run(&pod);
    assert!(scene.logged("stderr").contains("can't fork"), "{}", scene.logged("stderr"));
    assert_eq!(scene.logged("stdout"), "");
}

#[test]
fn every_way_to_join_leads_in() {
    let mut scene = scene!("every_way_to_join_leads_in");
    let mut pod = scene.pod(&["/bin/sleep", "1000"]);
    pod.containers[0].cgroups = vec![
        scene.cgroup("memory", Join::Tasks, &[]),
        scene.cgroup("pids", Join::Procs, &[]),
        scene.cgroup("unified", Join::Clone, &[]),
    ];
    let (mut shim, host_pid) = scene.launched(&pod);
    for cgroup in &pod.containers[0].cgroups {
        let pids = fs::read_to_string(format!("{}/cgroup.procs", cgroup.path)).unwrap();
        assert_eq!(pids.trim(), host_pid.to_string(), "{}", cgroup.path);
    }
    shim.send(&ToShim::Kill);
    shim.expect_exited();
    assert!(pod.containers[0].cgroups.iter().all(|cgroup| !Path::new(&cgroup.path).exists()));
}

#[test]
fn nested_cgroups_and_strangers_go_too() {
    let mut scene = scene!("nested_cgroups_and_strangers_go_too");
    let mut pod = scene.pod(&["/bin/sleep", "1000"]);
    let cgroup = scene.cgroup("unified", Join::Clone, &[]);
    pod.containers[0].cgroups = vec![cgroup.clone()];
    let (mut shim, _) = scene.launched(&pod);
    fs::create_dir_all(format!("{}/a/b", cgroup.path)).unwrap();
    let mut stranger = std::process::Command::new("/bin/sleep").arg("1000").spawn().unwrap();
    let stranger_process = open_process(stranger.id().cast_signed());
    fs::write(format!("{}/a/b/cgroup.procs", cgroup.path), stranger.id().to_string()).unwrap();
    shim.send(&ToShim::Kill);
    shim.expect_exited();
    wait_for_end(&stranger_process);
    stranger.wait().unwrap();
}

#[test]
fn the_shim_moves_out_of_its_spawners_cgroups() {
    let mut scene = scene!("the_shim_moves_out_of_its_spawners_cgroups");
    let homes = [scene.cgroup("pids", Join::Tasks, &[]), scene.cgroup("unified", Join::Procs, &[])];
    let mut pod = scene.pod(&["/bin/sleep", "1000"]);
    for home in &homes {
        fs::create_dir(&home.path).unwrap();
        pod.shim_cgroups.push(ShimCgroup { path: home.path.clone(), join: home.join });
    }
    let (mut shim, _) = scene.launched(&pod);
    let pid = shim.hello.pid.to_string();
    let has_shim = |path: &str| {
        let pids = fs::read_to_string(format!("{path}/cgroup.procs")).unwrap();
        pids.lines().any(|line| line == pid)
    };
    assert!(has_shim(&homes[0].path));
    eventually("the shim is in its home", || has_shim(&homes[1].path));
    shim.send(&ToShim::Kill);
    shim.expect_exited();
}
