//! What is mounted into a container, and what no image and no neighbour can
//! make of that.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, UnmountFlags};
use tank_shim::protocol::{Exit, Launch, Mount, Step, Volume, VolumeSource};

use crate::scene::{Scene, path_string, scene};

/// A volume, its path, and whether it is read-only there.
type Mounted<'a> = (VolumeSource, &'a str, bool);

/// A script in a pod that mounts these volumes.
fn pod(scene: &Scene, mounts: &[Mounted<'_>], script: &str) -> Launch {
    let mut pod = scene.script(script);
    for (index, (source, path, read_only)) in mounts.iter().enumerate() {
        let name = format!("v{index}");
        pod.volumes.push(Volume { name: name.clone(), source: source.clone() });
        let mount = Mount { volume: name, path: (*path).into(), read_only: *read_only };
        pod.containers[0].mounts.push(mount);
    }
    pod
}

/// A new directory of the host's as a volume.
fn dir(scene: &Scene, name: &str) -> VolumeSource {
    fs::create_dir(scene.dir.join(name)).unwrap();
    VolumeSource::Path(path_string(&scene.dir.join(name)))
}

/// A file of the host's that nothing may change, in a directory in which
/// nothing may be made.
struct Prey {
    dir: PathBuf,
}

impl Prey {
    fn new(scene: &Scene) -> Self {
        let dir = scene.dir.join("etc");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("passwd"), "the host's").unwrap();
        Self { dir }
    }

    fn is_unharmed(&self) {
        let names: Vec<_> =
            fs::read_dir(&self.dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["passwd"]);
        assert_eq!(fs::read_to_string(self.dir.join("passwd")).unwrap(), "the host's");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&path_string(&self.dir)), "{mounts}");
    }
}

/// A tmpfs of the host's, gone when dropped.
struct HostMount(PathBuf);

impl HostMount {
    fn on(path: PathBuf) -> Self {
        fs::create_dir(&path).unwrap();
        rustix::mount::mount("tmpfs", &path, "tmpfs", MountFlags::empty(), None).unwrap();
        Self(path)
    }
}

impl Drop for HostMount {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.0, UnmountFlags::DETACH).unwrap();
    }
}

/// Says so when dropped.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn what_is_written_to_a_path_of_the_hosts_stays() {
    let scene = scene!("what_is_written_to_a_path_of_the_hosts_stays");
    let data = dir(&scene, "data");
    fs::write(scene.dir.join("data/greeting"), "hello").unwrap();
    let mounts = [(data, "/var/lib/data", false)];
    let script = "cat /var/lib/data/greeting; echo kept > /var/lib/data/new";
    assert_eq!(scene.output_of_pod(&pod(&scene, &mounts, script)), "hello\n");
    assert_eq!(fs::read_to_string(scene.dir.join("data/new")).unwrap(), "kept\n");
    assert!(!scene.rootfs().join("var").exists(), "the image is never written to");
}

#[test]
fn read_only_is_read_only_for_all_that_is_below() {
    let scene = scene!("read_only_is_read_only_for_all_that_is_below");
    let data = dir(&scene, "data");
    fs::write(scene.dir.join("data/file"), "").unwrap();
    let below = HostMount::on(scene.dir.join("data/below"));
    fs::write(below.0.join("file"), "below").unwrap();
    let script = "
        cat /data/below/file
        for path in /data/new /data/file /data/below/new /data/below/file; do
            if echo x > $path; then echo \"$path is written to\"; exit 1; fi
        done
        if mount -o remount,rw /data; then exit 2; fi";
    let output = scene.output_of_pod(&pod(&scene, &[(data.clone(), "/data", true)], script));
    assert_eq!(output, "below\n");
    // And without that all of it can be written to.
    let script = "echo x > /data/file && echo x > /data/below/file";
    scene.output_of_pod(&pod(&scene, &[(data, "/data", false)], script));
    assert_eq!(fs::read_to_string(below.0.join("file")).unwrap(), "x\n");
}

#[test]
fn mounts_are_private_and_open_no_device_and_lend_nobodys_rights() {
    let scene = scene!("mounts_are_private_and_open_no_device_and_lend_nobodys_rights");
    let mounts = [
        (dir(&scene, "data"), "/data", false),
        (VolumeSource::Tmpfs(4096), "/memory", false),
        (VolumeSource::Path("/dev".into()), "/host-dev", false),
    ];
    let script = "cat /proc/self/mountinfo; ! head -c 1 /host-dev/zero";
    let output = scene.output_of_pod(&pod(&scene, &mounts, script));
    let mut seen = 0;
    for line in output.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        if ["/data", "/memory", "/host-dev"].iter().any(|path| fields[4].starts_with(path)) {
            let flags: Vec<&str> = fields[5].split(',').collect();
            assert!(flags.contains(&"nosuid") && flags.contains(&"nodev"), "{line}");
            assert_eq!(flags.contains(&"noexec"), fields[4] == "/memory", "{line}");
            // Neither shared:N nor master:N.
            assert_eq!(fields[6], "-", "{line}");
            seen += 1;
        }
    }
    assert!(seen >= 3, "{output}");
}

#[test]
fn a_tmpfs_holds_what_it_may_hold_and_no_more() {
    let scene = scene!("a_tmpfs_holds_what_it_may_hold_and_no_more");
    let script = "
        stat -c %a /memory; ls -A /memory
        dd if=/dev/zero of=/memory/half bs=64k count=8 || exit 1
        if dd if=/dev/zero of=/memory/rest bs=64k count=9 2> /tmp/said; then exit 2; fi
        grep -q 'No space left' /tmp/said";
    let mounts =
        [(VolumeSource::Tmpfs(1 << 20), "/memory", false), (dir(&scene, "tmp"), "/tmp", false)];
    let mut pod = pod(&scene, &mounts, script);
    assert_eq!(scene.output_of_pod(&pod), "1777\n");
    // Nothing is left of one run in the next, and users may write.
    (pod.containers[0].uid, pod.containers[0].gid) = (1000, 1000);
    fs::set_permissions(scene.dir.join("tmp"), PermissionsExt::from_mode(0o1777)).unwrap();
    fs::remove_file(scene.dir.join("tmp/said")).unwrap();
    fs::write(scene.log_path(), "").unwrap();
    assert_eq!(scene.output_of_pod(&pod), "1777\n");
}

#[test]
fn one_tmpfs_in_two_places_is_one() {
    let scene = scene!("one_tmpfs_in_two_places_is_one");
    let mut pod =
        scene.script("echo x > /writable/file && cat /readable/file && ! echo y > /readable/file");
    let source = VolumeSource::Tmpfs(4096);
    pod.volumes = vec![Volume { name: "memory".into(), source }];
    let mount =
        |path: &str, read_only| Mount { volume: "memory".into(), path: path.into(), read_only };
    pod.containers[0].mounts = vec![mount("/readable", true), mount("/writable", false)];
    assert_eq!(scene.output_of_pod(&pod), "x\n");
}

#[test]
fn a_file_is_mounted_on_a_file() {
    let scene = scene!("a_file_is_mounted_on_a_file");
    let file = scene.dir.join("config");
    fs::write(&file, "one\n").unwrap();
    fs::write(scene.rootfs().join("there"), "the image's").unwrap();
    let source = VolumeSource::Path(path_string(&file));
    let mounts = [(source.clone(), "/etc/app/config", false), (source, "/there", true)];
    let script = "cat /etc/app/config /there && echo two > /etc/app/config && ! echo x > /there";
    assert_eq!(scene.output_of_pod(&pod(&scene, &mounts, script)), "one\none\n");
    assert_eq!(fs::read_to_string(&file).unwrap(), "two\n");
    assert_eq!(fs::read_to_string(scene.rootfs().join("there")).unwrap(), "the image's");
}

#[test]
fn mounts_lie_in_mounts() {
    let scene = scene!("mounts_lie_in_mounts");
    let mounts = [
        (dir(&scene, "outer"), "/data", false),
        (VolumeSource::Tmpfs(1 << 20), "/data/cache", false),
        (dir(&scene, "inner"), "/data/cache/deep/inner", false),
        (dir(&scene, "shm"), "/dev/shm", false),
    ];
    let script = "
        echo o > /data/o; echo c > /data/cache/c; echo i > /data/cache/deep/inner/i
        echo s > /dev/shm/s";
    scene.output_of_pod(&pod(&scene, &mounts, script));
    let names = |name: &str| {
        let entries = fs::read_dir(scene.dir.join(name)).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names("outer"), ["cache", "o"]);
    assert_eq!(names("outer/cache"), [""; 0]);
    assert_eq!(names("inner"), ["i"]);
    assert_eq!(names("shm"), ["s"]);
}

#[test]
fn the_working_directory_may_be_in_a_volume() {
    let scene = scene!("the_working_directory_may_be_in_a_volume");
    let mut pod = pod(&scene, &[(dir(&scene, "data"), "/data", false)], "echo x > here");
    pod.containers[0].working_dir = "/data/work".into();
    scene.output_of_pod(&pod);
    assert!(scene.dir.join("data/work/here").exists());
}

#[test]
fn links_in_an_image_stay_in_the_root() {
    let scene = scene!("links_in_an_image_stay_in_the_root");
    let prey = Prey::new(&scene);
    let up = "../".repeat(40);
    let outside = path_string(&prey.dir);
    let data = dir(&scene, "data");
    fs::write(scene.dir.join("data/passwd"), "the volume's").unwrap();
    // What the links name is in the container too, where each may lead.
    fs::create_dir_all(scene.rootfs().join(&outside[1..])).unwrap();
    let links = [
        outside.clone(),
        format!("/..{outside}"),
        format!("{up}{}", &outside[1..]),
        format!("/bin/{up}..{outside}"),
    ];
    for link in &links {
        symlink(link, scene.rootfs().join("link")).unwrap();
        for (path, inside) in [("/link", outside.clone()), ("/link/new", format!("{outside}/new"))]
        {
            let script = format!("cat {inside}/passwd; echo x > {inside}/new-file");
            let pod = pod(&scene, &[(data.clone(), path, false)], &script);
            assert_eq!(scene.output_of_pod(&pod), "the volume's\n", "{link} {path}");
            fs::remove_file(scene.dir.join("data/new-file")).unwrap();
            fs::write(scene.log_path(), "").unwrap();
            prey.is_unharmed();
        }
        fs::remove_file(scene.rootfs().join("link")).unwrap();
    }
}

#[test]
fn links_that_lead_nowhere_in_the_root_make_nothing_outside() {
    let scene = scene!("links_that_lead_nowhere_in_the_root_make_nothing_outside");
    let prey = Prey::new(&scene);
    let outside = path_string(&prey.dir);
    let file = VolumeSource::Path(path_string(&scene.log_path()));
    fs::write(scene.log_path(), "").unwrap();
    let data = dir(&scene, "data");
    for link in [outside.clone(), format!("/..{outside}"), format!("{outside}/passwd")] {
        symlink(&link, scene.rootfs().join("link")).unwrap();
        for source in [&file, &data] {
            for path in ["/link", "/link/new", "/link/new/er"] {
                let mounts = [(source.clone(), path, false)];
                let failure = scene.failure_of(&pod(&scene, &mounts, "exit 0"));
                let found = (failure.step, failure.object.as_str());
                // The first part that is in the way is not told apart from its end.
                assert_eq!(found, (Step::MakeMountTarget, path), "{}", failure.message);
                prey.is_unharmed();
            }
        }
        fs::remove_file(scene.rootfs().join("link")).unwrap();
    }
}

#[test]
fn magic_links_are_not_followed() {
    let scene = scene!("magic_links_are_not_followed");
    let prey = Prey::new(&scene);
    let outside = path_string(&prey.dir);
    let data = dir(&scene, "data");
    let mut links: Vec<String> = ["self/root", "self/cwd", "1/root", "1/cwd", "thread-self/root"]
        .map(|link| format!("/proc/{link}"))
        .into();
    links.extend((0..24).map(|number| format!("/proc/self/fd/{number}")));
    for link in links {
        symlink(&link, scene.rootfs().join("link")).unwrap();
        for path in ["/link", "/link/new", &format!("/link{outside}")] {
            let failure = scene.failure_of(&pod(&scene, &[(data.clone(), path, false)], "exit 0"));
            let is_refused = matches!(failure.step, Step::MakeMountTarget | Step::MountVolume);
            assert!(is_refused, "{link} {path}: {}", failure.message);
            prey.is_unharmed();
        }
        fs::remove_file(scene.rootfs().join("link")).unwrap();
    }
    assert!(!scene.run_dir().join("new").exists());
}

#[test]
fn neither_proc_nor_the_root_is_covered_through_a_link() {
    let scene = scene!("neither_proc_nor_the_root_is_covered_through_a_link");
    let data = dir(&scene, "data");
    for link in ["/proc", "/proc/sys", "/proc/sys/kernel", "/proc/1/attr", "/", "/.."] {
        symlink(link, scene.rootfs().join("link")).unwrap();
        let failure = scene.failure_of(&pod(&scene, &[(data.clone(), "/link", false)], "exit 0"));
        let found = (failure.step, failure.object.as_str(), failure.errno);
        assert_eq!(found, (Step::MountVolume, "/link", libc::EPERM), "{link}");
        fs::remove_file(scene.rootfs().join("link")).unwrap();
    }
}

#[test]
fn a_volume_over_the_devices_gives_the_launch_nothing_to_stumble_over() {
    let scene = scene!("a_volume_over_the_devices_gives_the_launch_nothing_to_stumble_over");
    let devices = dir(&scene, "devices");
    let null = scene.dir.join("devices/null");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &null,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o666),
        0,
    )
    .unwrap();
    symlink("/dev", scene.rootfs().join("link")).unwrap();
    let pod = pod(&scene, &[(devices, "/link", false)], "ls /dev; cat");
    // A pipe without a writer is never opened.
    assert_eq!(scene.output_of_pod(&pod), "null\n");
}

/// CVE-2021-30465: a neighbour that has the same volume swaps a directory for a
/// link while a mount below it is made.
#[test]
fn who_swaps_a_directory_for_a_link_gains_nothing() {
    let scene = scene!("who_swaps_a_directory_for_a_link_gains_nothing");
    let prey = Prey::new(&scene);
    let shared = dir(&scene, "shared");
    let data = dir(&scene, "data");
    fs::write(scene.dir.join("data/passwd"), "the volume's").unwrap();
    let spots = [scene.dir.join("shared/spot"), scene.dir.join("shared/aside")];
    fs::create_dir(&spots[0]).unwrap();
    let up = format!("{}{}", "../".repeat(40), &path_string(&prey.dir)[1..]);
    symlink(up, &spots[1]).unwrap();
    let mounts = [(shared, "/shared", false), (data, "/shared/spot/new", false)];
    let pod = pod(&scene, &mounts, "exit 0");
    let is_over = AtomicBool::new(false);
    let swap = || {
        let exchange = rustix::fs::RenameFlags::EXCHANGE;
        while !is_over.load(Ordering::Relaxed) {
            let (one, other) = (&spots[0], &spots[1]);
            rustix::fs::renameat_with(rustix::fs::CWD, one, rustix::fs::CWD, other, exchange)
                .unwrap();
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(swap);
        // However this ends.
        let _over = Over(&is_over);
        let mut outcomes = [0, 0];
        let is_one_sided = |outcomes: &[u32; 2]| outcomes.contains(&0);
        let deadline = Instant::now() + Duration::from_secs(30);
        // On a busy machine, whoever swaps may not have had a turn for a while.
        while outcomes.iter().sum::<u32>() < 60
            || (is_one_sided(&outcomes) && Instant::now() < deadline)
        {
            let mut shim = scene.shim();
            shim.send(&tank_shim::protocol::ToShim::Launch(Box::new(pod.clone())));
            match shim.receive() {
                tank_shim::protocol::FromShim::Launched(_) => {
                    outcomes[0] += 1;
                    assert_eq!(shim.expect_exited().exit, Exit::Exited(0));
                }
                tank_shim::protocol::FromShim::Failed(failure) => {
                    outcomes[1] += 1;
                    assert_eq!(failure.step, Step::MakeMountTarget, "{}", failure.message);
                    shim.expect_end();
                }
                other => panic!("{other:?}"),
            }
            prey.is_unharmed();
        }
        // Else the swaps were not between the steps of a launch.
        assert!(!is_one_sided(&outcomes), "{outcomes:?}");
    });
}

#[test]
fn a_path_of_the_hosts_that_is_missing_is_named() {
    let scene = scene!("a_path_of_the_hosts_that_is_missing_is_named");
    let missing = path_string(&scene.dir.join("none"));
    let mounts = [
        (dir(&scene, "data"), "/data", false),
        (VolumeSource::Path(missing.clone()), "/none", false),
    ];
    let failure = scene.failure_of(&pod(&scene, &mounts, "exit 0"));
    let found = (failure.step, failure.object.as_str(), failure.errno);
    assert_eq!(found, (Step::OpenVolume, missing.as_str(), libc::ENOENT));
    assert_eq!(failure.message, format!("open volume {missing}: no such file or directory"));
    assert_eq!(fs::read_dir(scene.run_dir()).unwrap().count(), 0);
}

#[test]
fn what_cannot_be_mounted_there_is_told_by_its_path() {
    let scene = scene!("what_cannot_be_mounted_there_is_told_by_its_path");
    let data = dir(&scene, "data");
    let file = scene.dir.join("file");
    fs::write(&file, "").unwrap();
    let file = VolumeSource::Path(path_string(&file));
    let cases: [(&[Mounted<'_>], Step, &str, i32); 5] = [
        (
            &[(data.clone(), "/bin/busybox", false)],
            Step::MountVolume,
            "/bin/busybox",
            libc::ENOTDIR,
        ),
        (&[(file, "/bin", false)], Step::MountVolume, "/bin", libc::EISDIR),
        (
            &[(data.clone(), "/bin/busybox/x", false)],
            Step::MakeMountTarget,
            "/bin/busybox/x",
            libc::ENOTDIR,
        ),
        (
            &[(data.clone(), "/data", true), (data.clone(), "/data/new", false)],
            Step::MakeMountTarget,
            "/data/new",
            libc::EROFS,
        ),
        (&[(data.clone(), "/proc/new", false)], Step::MakeMountTarget, "/proc/new", libc::ENOENT),
    ];
    for (mounts, step, path, errno) in cases {
        let failure = scene.failure_of(&pod(&scene, mounts, "exit 0"));
        let found = (failure.step, failure.object.as_str(), failure.errno);
        assert_eq!(found, (step, path, errno), "{}", failure.message);
    }
    assert_eq!(fs::read_dir(scene.dir.join("data")).unwrap().count(), 0);
}

#[test]
fn mounts_that_make_no_sense_are_refused() {
    let scene = scene!("mounts_that_make_no_sense_are_refused");
    let data = dir(&scene, "data");
    let refused = |pod: &Launch| {
        let failure = scene.failure_of(pod);
        assert_eq!((failure.step, failure.errno), (Step::CheckContainer, libc::EINVAL));
        failure.object
    };
    for path in ["", "/", "data", "/data/../etc", "/da\0ta"] {
        assert_eq!(refused(&pod(&scene, &[(data.clone(), path, false)], "")), "mounts");
    }
    let mut unknown = pod(&scene, &[(data, "/data", false)], "");
    unknown.containers[0].mounts[0].volume = "other".into();
    assert_eq!(refused(&unknown), "mounts");
    let nul = VolumeSource::Path("/da\0ta".into());
    assert_eq!(refused(&pod(&scene, &[(nul, "/data", false)], "")), "volumes");
}

#[test]
fn the_mounts_of_a_run_are_gone_with_it() {
    let scene = scene!("the_mounts_of_a_run_are_gone_with_it");
    let data = dir(&scene, "data");
    let below = HostMount::on(scene.dir.join("data/below"));
    scene.output_of_pod(&pod(&scene, &[(data, "/data", false)], "exit 0"));
    // A mount that something still holds cannot be unmounted at once.
    rustix::mount::unmount(&below.0, UnmountFlags::empty()).unwrap();
    rustix::mount::mount("tmpfs", &below.0, "tmpfs", MountFlags::empty(), None).unwrap();
    assert!(!Path::new(&scene.run_dir()).join("root").exists());
}
