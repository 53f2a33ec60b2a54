//! Every failure names its step, its object and the system's error, and leaves
//! nothing behind.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use tank_shim::protocol::{Bytes, Failure, Join, Launch, OciRuntime, Seccomp, ShimCgroup, Step};

use crate::scene::{Scene, path_string, scene};

/// The launch fails, and the run directory is empty again.
fn fails(scene: &Scene, pod: &Launch) -> Failure {
    let failure = scene.failure_of(pod);
    assert_eq!(fs::read_dir(scene.run_dir()).unwrap().count(), 0);
    failure
}

fn is(failure: &Failure, step: Step, object: &str, errno: i32) {
    let found = (failure.step, failure.object.as_str(), failure.errno);
    assert_eq!(found, (step, object, errno), "{}", failure.message);
}

#[test]
fn a_missing_root_filesystem() {
    let scene = scene!("a_missing_root_filesystem");
    let mut pod = scene.script("exit 0");
    pod.containers[0].rootfs = path_string(&scene.dir.join("none"));
    let failure = fails(&scene, &pod);
    is(&failure, Step::OpenRootfs, &pod.containers[0].rootfs, libc::ENOENT);
    let message =
        format!("open root filesystem {}: no such file or directory", pod.containers[0].rootfs);
    assert_eq!(failure.message, message);
    pod.containers[0].rootfs = path_string(&scene.rootfs().join("bin/busybox"));
    is(&fails(&scene, &pod), Step::OpenRootfs, &pod.containers[0].rootfs, libc::ENOTDIR);
}

#[test]
fn a_limit_of_processes_that_the_kernel_refuses() {
    let scene = scene!("a_limit_of_processes_that_the_kernel_refuses");
    let mut pod = scene.script("exit 0");
    pod.containers[0].nofile = Some(i64::MAX.unsigned_abs());
    is(&fails(&scene, &pod), Step::LimitProcess, "nofile", libc::EPERM);
    (pod.containers[0].nofile, pod.containers[0].oom_score_adj) = (None, Some(1_001));
    is(&fails(&scene, &pod), Step::LimitProcess, "oom_score_adj", libc::EINVAL);
}

#[test]
fn a_file_of_etc_that_is_elsewhere() {
    let scene = scene!("a_file_of_etc_that_is_elsewhere");
    let mut pod = scene.script("exit 0");
    pod.containers[0].etc = vec![("../elsewhere".to_owned(), String::new())];
    is(&fails(&scene, &pod), Step::WriteEtcFile, "/etc/../elsewhere", libc::EINVAL);
}

#[test]
fn a_missing_command() {
    let scene = scene!("a_missing_command");
    for command in ["/bin/none", "none", "./none", "/bin/busybox/none"] {
        let failure = fails(&scene, &scene.pod(&[command]));
        is(&failure, Step::Exec, command, libc::ENOENT);
        assert_eq!(failure.message, format!("exec {command}: no such file or directory"));
    }
}

#[test]
fn a_command_that_is_not_executable() {
    let scene = scene!("a_command_that_is_not_executable");
    let file = scene.rootfs().join("bin/data");
    fs::write(&file, "data").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    is(&fails(&scene, &scene.pod(&["/bin/data"])), Step::Exec, "/bin/data", libc::EACCES);
    is(&fails(&scene, &scene.pod(&["data"])), Step::Exec, "data", libc::EACCES);
    is(&fails(&scene, &scene.pod(&["/bin"])), Step::Exec, "/bin", libc::EACCES);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    is(&fails(&scene, &scene.pod(&["data"])), Step::Exec, "data", libc::ENOEXEC);
}

#[test]
fn a_command_whose_interpreter_is_missing() {
    let scene = scene!("a_command_whose_interpreter_is_missing");
    let file = scene.rootfs().join("bin/script");
    fs::write(&file, "#!/bin/bash\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    let failure = fails(&scene, &scene.pod(&["script"]));
    is(&failure, Step::FindInterpreter, "/bin/script", libc::ENOENT);
}

#[test]
fn a_limit_the_kernel_refuses() {
    let mut scene = scene!("a_limit_the_kernel_refuses");
    let mut pod = scene.script("exit 0");
    let good = scene.cgroup("memory", Join::Tasks, &[]);
    let bad = scene.cgroup("pids", Join::Tasks, &[("pids.max", "many")]);
    let object = format!("{}/pids.max = many", bad.path);
    pod.containers[0].cgroups = vec![good, bad];
    is(&fails(&scene, &pod), Step::WriteCgroupLimit, &object, libc::EINVAL);
    pod.containers[0].cgroups[1].files = vec![("../pids.max".into(), "5".into())];
    assert_eq!(fails(&scene, &pod).step, Step::WriteCgroupLimit);
    pod.containers[0].cgroups[1].files = vec![("pids.none".into(), "5".into())];
    assert_eq!(fails(&scene, &pod).step, Step::WriteCgroupLimit);
}

#[test]
fn a_cgroup_that_cannot_be_made_or_joined() {
    let mut scene = scene!("a_cgroup_that_cannot_be_made_or_joined");
    let mut pod = scene.script("exit 0");
    let mut cgroup = scene.cgroup("pids", Join::Tasks, &[]);
    cgroup.path.push_str("/none/at/all");
    pod.containers[0].cgroups = vec![cgroup.clone()];
    is(&fails(&scene, &pod), Step::MakeCgroup, &cgroup.path, libc::ENOENT);
    // Version 2 has no such file.
    let cgroup = scene.cgroup("unified", Join::Tasks, &[]);
    pod.containers[0].cgroups = vec![cgroup.clone()];
    let object = format!("{}/tasks", cgroup.path);
    assert_eq!(fails(&scene, &pod).object, object);
    // Version 1 has no births.
    let cgroup = scene.cgroup("memory", Join::Clone, &[]);
    pod.containers[0].cgroups = vec![cgroup.clone()];
    let failure = fails(&scene, &pod);
    assert_eq!((failure.step, failure.object), (Step::Clone, cgroup.path));
}

#[test]
fn a_cgroup_that_is_in_use() {
    let mut scene = scene!("a_cgroup_that_is_in_use");
    let cgroup = scene.cgroup("unified", Join::Clone, &[]);
    fs::create_dir(&cgroup.path).unwrap();
    let mut other = std::process::Command::new("/bin/sleep").arg("1000").spawn().unwrap();
    fs::write(format!("{}/cgroup.procs", cgroup.path), other.id().to_string()).unwrap();
    let mut pod = scene.script("exit 0");
    pod.containers[0].cgroups = vec![cgroup.clone()];
    is(&fails(&scene, &pod), Step::MakeCgroup, &cgroup.path, libc::EBUSY);
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn a_cgroup_of_the_shim_that_is_missing() {
    let scene = scene!("a_cgroup_of_the_shim_that_is_missing");
    let mut pod = scene.script("exit 0");
    let path = "/sys/fs/cgroup/pids/no-such-cgroup".to_owned();
    pod.shim_cgroups = vec![ShimCgroup { path: path.clone(), join: Join::Tasks }];
    is(&fails(&scene, &pod), Step::JoinShimCgroup, &format!("{path}/tasks"), libc::ENOENT);
}

#[test]
fn a_log_that_cannot_be_opened() {
    let scene = scene!("a_log_that_cannot_be_opened");
    let mut pod = scene.script("exit 0");
    pod.containers[0].log.path = path_string(&scene.dir.join("none/log"));
    is(&fails(&scene, &pod), Step::OpenLog, &pod.containers[0].log.path, libc::ENOENT);
}

#[test]
fn an_oci_runtime_that_cannot_be_executed_or_could_not_be_killed() {
    let mut scene = scene!("an_oci_runtime_that_cannot_be_executed_or_could_not_be_killed");
    let mut pod = scene.script("exit 0");
    let program = "/nonexistent/runtime".to_owned();
    pod.containers[0].oci = Some(OciRuntime { program, config: "{}".to_owned() });
    is(&fails(&scene, &pod), Step::CheckContainer, "cgroups", libc::EINVAL);
    pod.containers[0].cgroups = vec![scene.cgroup("unified", Join::Clone, &[])];
    is(&fails(&scene, &pod), Step::RunOciRuntime, "/nonexistent/runtime", libc::ENOENT);
}

#[test]
fn a_container_that_makes_no_sense() {
    let scene = scene!("a_container_that_makes_no_sense");
    let with = |change: fn(&mut Launch)| {
        let mut pod = scene.script("exit 0");
        change(&mut pod);
        fails(&scene, &pod)
    };
    let object = |failure: Failure| {
        assert_eq!((failure.step, failure.errno), (Step::CheckContainer, libc::EINVAL));
        failure.object
    };
    assert_eq!(object(with(|pod| pod.containers[0].argv.clear())), "argv");
    assert_eq!(object(with(|pod| pod.containers[0].argv[0].clear())), "argv");
    assert_eq!(object(with(|pod| pod.containers[0].argv[1].push('\0'))), "argv");
    assert_eq!(object(with(|pod| pod.containers[0].env.push("A=\0".into()))), "env");
    assert_eq!(object(with(|pod| pod.containers[0].working_dir.push('\0'))), "working_dir");
    assert_eq!(object(with(|pod| pod.containers[0].working_dir.clear())), "working_dir");
    // The kernel takes the highest id for "as it is", which is root.
    assert_eq!(object(with(|pod| pod.containers[0].uid = u32::MAX)), "uid");
    assert_eq!(object(with(|pod| pod.containers[0].gid = u32::MAX)), "gid");
    assert_eq!(object(with(|pod| pod.containers[0].groups = vec![4, u32::MAX])), "groups");
    assert_eq!(
        object(with(|pod| pod.containers[0].seccomp = Some(half_an_instruction()))),
        "seccomp"
    );
}

fn half_an_instruction() -> Seccomp {
    Seccomp { flags: 0, program: Bytes(vec![6, 0, 0, 0]) }
}

#[test]
fn a_seccomp_program_the_kernel_refuses() {
    let scene = scene!("a_seccomp_program_the_kernel_refuses");
    let mut pod = scene.script("exit 0");
    // It is empty; it comes to no end; there are no such flags.
    let endless = vec![0x20, 0, 0, 0, 0, 0, 0, 0];
    let allow = vec![6, 0, 0, 0, 0, 0, 0xff, 0x7f];
    for (flags, program) in [(0, Vec::new()), (0, endless), (1 << 31, allow)] {
        pod.containers[0].seccomp = Some(Seccomp { flags, program: Bytes(program) });
        is(&fails(&scene, &pod), Step::InstallSeccomp, "/bin/sh", libc::EINVAL);
    }
}

#[test]
fn a_working_directory_that_is_none() {
    let scene = scene!("a_working_directory_that_is_none");
    let mut pod = scene.script("exit 0");
    pod.containers[0].working_dir = "/bin/busybox".into();
    is(&fails(&scene, &pod), Step::EnterWorkingDir, "/bin/busybox", libc::ENOTDIR);
    pod.containers[0].working_dir = "/proc/none/here".into();
    is(&fails(&scene, &pod), Step::MakeWorkingDir, "/proc/none", libc::ENOENT);
}

#[test]
fn a_hostname_the_kernel_refuses() {
    let scene = scene!("a_hostname_the_kernel_refuses");
    let mut pod = scene.script("exit 0");
    pod.hostname = "x".repeat(65);
    is(&fails(&scene, &pod), Step::SetHostname, &pod.hostname, libc::EINVAL);
}

#[test]
fn an_overlay_the_kernel_refuses() {
    let scene = scene!("an_overlay_the_kernel_refuses");
    let mut pod = scene.script("exit 0");
    // The kernel stacks two and no more.
    let stacked = [scene.dir.join("once"), scene.dir.join("twice")];
    let mut lower = scene.rootfs();
    let empty = scene.dir.join("empty");
    fs::create_dir(&empty).unwrap();
    for upper in &stacked {
        let options = format!("lowerdir={}:{}", path_string(&lower), path_string(&empty));
        fs::create_dir(upper).unwrap();
        let options = std::ffi::CString::new(options).unwrap();
        let flags = rustix::mount::MountFlags::RDONLY;
        rustix::mount::mount("overlay", upper, "overlay", flags, Some(&*options)).unwrap();
        lower = upper.clone();
    }
    pod.containers[0].rootfs = path_string(&lower);
    let failure = fails(&scene, &pod);
    for upper in stacked.iter().rev() {
        rustix::mount::unmount(upper, rustix::mount::UnmountFlags::DETACH).unwrap();
    }
    let root = path_string(&scene.run_dir().join("containers/app/root"));
    is(&failure, Step::MountOverlay, &root, libc::EINVAL);
}
