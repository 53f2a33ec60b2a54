//! What becomes of a pod's volumes: over its runs, its specs and its end, and
//! how those that cannot be mounted are told.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;

use rustix::mount::{MountFlags, UnmountFlags};

use super::*;

impl Machine {
    /// A pod with one volume, mounted at one path, and a script.
    fn pod_with(&self, name: &str, source: &str, path: &str, script: &str) -> String {
        let rest = format!(", mounts => [#{{volume => <<\"data\">>, path => <<\"{path}\">>}}]");
        let volumes = format!("volumes => [#{{name => <<\"data\">>, source => {source}}}], ");
        self.pod(name, script, &rest).replacen("#{", &format!("#{{{volumes}"), 1)
    }

    /// Where a pod's volume is.
    fn volume(&self, pod: &str) -> PathBuf {
        self.dir.path().join("data/volumes").join(pod).join("data")
    }

    fn rootfs_path(&self, path: &str) -> PathBuf {
        Path::new(&self.rootfs).join(path)
    }
}

fn error_of(port: &mut Port, pod: &str) -> Term<'static> {
    eventually("the start has failed", || is_in(port, pod, "backing_off"));
    let status = status(port, pod);
    let exit = status.get("last_exit").and_then(Term::as_tuple).expect("an exit");
    exit[1].clone()
}

/// Runs a command as a user of the host's who is nobody in particular.
fn succeeds_as_nobody(command: &[&str]) -> bool {
    let ids = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    let output = std::process::Command::new("setpriv").args(ids).args(command).output();
    output.expect("setpriv is part of util-linux").status.success()
}

#[test]
fn a_managed_volume_outlives_runs_specs_the_program_and_the_pod() {
    let Some(machine) = Machine::new("managed volume") else { return };
    let script = "echo run >> /data/runs; sleep 1000";
    let spec = machine.pod_with("web", "managed", "/data", script);
    let runs = machine.volume("web").join("runs");
    let lines = || fs::read_to_string(&runs).map_or(0, |text| text.lines().count());

    let mut port = machine.port();
    port.ok("apply", &spec);
    port.ok("sync", "nil");
    eventually("the first run has written", || lines() == 1);
    port.ok("restart", "<<\"web\">>");
    port.ok("sync", "nil");
    eventually("another run has written", || lines() == 2);
    port.ok("apply", &spec.replace("sleep 1000", "sleep 1001"));
    port.ok("sync", "nil");
    eventually("the run of another spec has written", || lines() == 3);
    port.kill();
    let mut port = machine.port();
    port.ok("restart", "<<\"web\">>");
    port.ok("sync", "nil");
    eventually("the next program's run has written", || lines() == 4);
    port.ok("delete", "<<\"web\">>");
    port.ok("sync", "nil");
    assert!(!machine.run_dir("web").exists());
    assert_eq!(lines(), 4, "data is not deleted along with a pod");
    port.ok("apply", &spec);
    eventually("a pod of that name finds it again", || lines() == 5);
}

#[test]
fn volumes_of_one_name_in_two_pods_are_two_and_no_strangers() {
    let Some(machine) = Machine::new("volumes of one name") else { return };
    let mut port = machine.port();
    for pod in ["one", "two"] {
        let script = format!("echo {pod} > /data/who; sleep 1000");
        port.ok("apply", &machine.pod_with(pod, "managed", "/data", &script));
    }
    for pod in ["one", "two"] {
        let who = machine.volume(pod).join("who");
        eventually("it has written", || {
            fs::read_to_string(&who).is_ok_and(|who| who == format!("{pod}\n"))
        });
        assert_eq!(fs::read_dir(machine.volume(pod)).expect("ours").count(), 1);
        assert_eq!(fs::metadata(machine.volume(pod)).expect("ours").mode() & 0o7777, 0o755);
        fs::set_permissions(&who, fs::Permissions::from_mode(0o666)).expect("ours");
    }
    // All above it is open, so that it is the volume's own place that is closed.
    for dir in [machine.dir.path().to_owned(), machine.dir.path().join("data")] {
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).expect("ours");
    }
    let who = machine.volume("one").join("who").display().to_string();
    assert!(!succeeds_as_nobody(&["cat", &who]));
    let pod_dir = machine.dir.path().join("data/volumes/one");
    assert_eq!(fs::metadata(&pod_dir).expect("ours").mode() & 0o7777, 0o700);
    let volumes = machine.dir.path().join("data/volumes");
    assert_eq!(fs::metadata(&volumes).expect("ours").mode() & 0o7777, 0o700);
}

#[test]
fn a_new_volume_has_what_the_image_has_at_its_path_and_is_filled_once() {
    let Some(machine) = Machine::new("volume with content") else { return };
    let image = machine.rootfs_path("var/lib/app");
    fs::create_dir_all(image.join("conf.d")).expect("ours");
    fs::write(image.join("conf.d/a"), "a").expect("ours");
    fs::write(image.join("key"), "secret").expect("ours");
    symlink("conf.d/a", image.join("link")).expect("ours");
    for (path, id) in [("", 70), ("key", 71), ("conf.d", 72)] {
        std::os::unix::fs::chown(image.join(path), Some(id), Some(id + 100)).expect("ours");
    }
    for (path, mode) in [("", 0o2750), ("key", 0o4700)] {
        fs::set_permissions(image.join(path), fs::Permissions::from_mode(mode)).expect("ours");
    }

    let mut port = machine.port();
    // What an earlier program was at when it was killed is begun anew.
    let begun = machine.dir.path().join("data/volumes/web/.data.new");
    fs::create_dir_all(begun.join("half")).expect("ours");
    let spec = machine.pod_with("web", "managed", "/var/lib/app", "sleep 1000");
    port.ok("apply", &spec);
    port.ok("sync", "nil");
    let volume = machine.volume("web");
    let owner = |path: &str| {
        let of = fs::symlink_metadata(volume.join(path)).expect("it is copied");
        (of.uid(), of.gid(), of.mode() & 0o7777)
    };
    assert_eq!(owner(""), (70, 170, 0o2750));
    assert_eq!(owner("key"), (71, 171, 0o4700));
    assert_eq!((owner("conf.d").0, owner("conf.d").1), (72, 172));
    assert_eq!(fs::read_to_string(volume.join("key")).expect("ours"), "secret");
    assert_eq!(fs::read_link(volume.join("link")).expect("a link"), Path::new("conf.d/a"));
    let time = |path: PathBuf| fs::metadata(path).expect("it is there").modified().expect("a time");
    assert_eq!(time(volume.join("key")), time(image.join("key")));
    assert!(!volume.join("half").exists() && !begun.exists());

    // Its own user may write, and an empty volume is not filled again.
    fs::remove_dir_all(volume.join("conf.d")).expect("ours");
    for name in ["key", "link"] {
        fs::remove_file(volume.join(name)).expect("ours");
    }
    let script = "echo x > /var/lib/app/own; sleep 1000";
    let spec = machine.pod_with("web", "managed", "/var/lib/app", script);
    port.ok("apply", &spec.replace(", mounts =>", ", user => <<\"70:170\">>, mounts =>"));
    eventually("the user has written", || volume.join("own").exists());
    assert_eq!(fs::read_dir(&volume).expect("ours").count(), 1);
    assert!(image.join("key").exists(), "the image is never written to");
}

#[test]
fn a_new_volume_where_the_image_has_nothing_is_its_users() {
    let Some(machine) = Machine::new("volume of a user") else { return };
    let mut port = machine.port();
    let spec = machine.pod_with("web", "managed", "/data", "echo x > /data/own; sleep 1000");
    port.ok("apply", &spec.replace(", mounts =>", ", user => <<\"1000:1001\">>, mounts =>"));
    let own = machine.volume("web").join("own");
    eventually("the user has written", || own.exists());
    let of = fs::metadata(machine.volume("web")).expect("ours");
    assert_eq!((of.uid(), of.gid(), of.mode() & 0o7777), (1000, 1001, 0o755));
}

#[test]
fn a_new_volume_is_filled_with_nothing_of_the_hosts() {
    let Some(machine) = Machine::new("volume and links") else { return };
    let secrets = machine.dir.path().join("secrets");
    fs::create_dir(&secrets).expect("ours");
    fs::write(secrets.join("key"), "the host's").expect("ours");
    let up = "../".repeat(40);
    let secret = secrets.display().to_string();
    fs::create_dir(machine.rootfs_path("tree")).expect("ours");
    symlink(&secret, machine.rootfs_path("tree/absolute")).expect("ours");
    symlink(format!("{up}{}", &secret[1..]), machine.rootfs_path("tree/relative")).expect("ours");
    symlink("/proc/self/root", machine.rootfs_path("magic")).expect("ours");
    symlink(&secret, machine.rootfs_path("outside")).expect("ours");
    // In the container the link leads to an empty directory of its own.
    fs::create_dir_all(machine.rootfs_path(&secret[1..])).expect("ours");

    let mut port = machine.port();
    let pods = [("tree", "/tree"), ("outside", "/outside"), ("magic", "/magic")];
    for (pod, path) in pods {
        port.ok("apply", &machine.pod_with(pod, "managed", path, "sleep 1000"));
    }
    port.ok("sync", "nil");
    let tree = machine.volume("tree");
    for name in ["absolute", "relative"] {
        assert!(fs::symlink_metadata(tree.join(name)).expect("copied").is_symlink());
    }
    assert_eq!(fs::read_dir(machine.volume("outside")).expect("ours").count(), 0);
    assert_eq!(fs::read_dir(machine.volume("magic")).expect("ours").count(), 0);
    assert!(is_in(&mut port, "tree", "running") && is_in(&mut port, "outside", "running"));
    // Nothing is mounted through a link of /proc.
    let error = error_of(&mut port, "magic");
    assert_eq!(place(&error, "step"), "make_mount_target", "{error}");
    assert_eq!(fs::read_dir(&secrets).expect("ours").count(), 1);
}

/// A small file system for volumes, gone when dropped.
struct SmallDisk(PathBuf);

impl Drop for SmallDisk {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.0, UnmountFlags::DETACH).expect("it is mounted");
    }
}

#[test]
fn a_disk_too_small_for_a_new_volume_is_told_and_left_as_it_was() {
    let Some(machine) = Machine::new("full disk") else { return };
    fs::create_dir(machine.rootfs_path("big")).expect("ours");
    fs::write(machine.rootfs_path("big/file"), vec![1; 3 << 20]).expect("ours");
    let mut port = machine.port();
    let disk = machine.dir.path().join("data/volumes");
    fs::create_dir(&disk).expect("ours");
    let options = Some(c"size=2m");
    rustix::mount::mount("tmpfs", &disk, "tmpfs", MountFlags::empty(), options).expect("as root");
    let disk = SmallDisk(disk);

    port.ok("apply", &machine.pod_with("web", "managed", "/big", "sleep 1000"));
    let error = error_of(&mut port, "web");
    assert_eq!(place(&error, "step"), "make_volume", "{error}");
    let file = machine.volume("web").join("file").display().to_string();
    assert_eq!(place(&error, "path"), file, "{error}");
    assert!(message(&error).ends_with("no space left on device"), "{error}");
    assert_eq!(fs::read_dir(disk.0.join("web")).expect("ours").count(), 0);
    port.ok("delete", "<<\"web\">>");
    port.ok("sync", "nil");
}

#[test]
fn a_path_of_the_hosts_that_is_missing_is_named_by_path_and_field() {
    let Some(machine) = Machine::new("missing host path") else { return };
    let mut port = machine.port();
    let missing = machine.dir.path().join("srv/data").display().to_string();
    let source = format!("{{host, <<\"{missing}\">>}}");
    port.ok("apply", &machine.pod_with("web", &source, "/data", "sleep 1000"));
    let error = error_of(&mut port, "web");
    assert_eq!(code(&error), "start_failed");
    assert_eq!(place(&error, "step"), "open_volume", "{error}");
    assert_eq!(place(&error, "path"), missing, "{error}");
    assert_eq!(place(&error, "field"), "volumes[0].source", "{error}");
    assert!(error.get("hint").is_some_and(|hint| !hint.is_nil()), "{error}");
    let reason = status(&mut port, "web");
    let reason = reason.get("reason").and_then(Term::as_str).expect("a reason").to_owned();
    assert!(
        reason.contains(&format!("open volume {missing}: no such file or directory")),
        "{reason}"
    );
    assert!(!Path::new(&missing).exists(), "nobody makes it");
    machine.assert_only_on_record("web");
}

#[test]
fn a_mount_that_is_in_the_way_is_named_by_its_field() {
    let Some(machine) = Machine::new("mount in the way") else { return };
    let mut port = machine.port();
    port.ok("apply", &machine.pod_with("web", "tmpfs", "//bin/./busybox/", "sleep 1000"));
    let error = error_of(&mut port, "web");
    assert_eq!(place(&error, "step"), "mount_volume", "{error}");
    assert_eq!(place(&error, "path"), "/bin/busybox", "{error}");
    assert_eq!(place(&error, "field"), "containers[0].mounts[0].path", "{error}");
}

#[test]
fn what_is_the_containers_own_is_not_mounted_over() {
    let Some(machine) = Machine::new("mounts over proc") else { return };
    let mut port = machine.port();
    for path in ["/proc", "/proc/sys", "/dev"] {
        let error = port.error("apply", &machine.pod_with("web", "tmpfs", path, "true"));
        assert_eq!(code(&error), "unsupported");
        assert_eq!(place(&error, "field"), "containers[0].mounts[0].path");
    }
    assert_eq!(port.ok("list", "nil"), Term::List(Vec::new()));
}

#[test]
fn mounts_are_made_from_the_outermost_in_whatever_their_order() {
    let Some(machine) = Machine::new("order of mounts") else { return };
    let mut port = machine.port();
    let host = machine.dir.path().join("host");
    fs::create_dir(&host).expect("ours");
    let mounts = "mounts => [#{volume => <<\"inner\">>, path => <<\"/a/b/c\">>}, \
                  #{volume => <<\"host\">>, path => <<\"/a/b\">>}, \
                  #{volume => <<\"data\">>, path => <<\"/a\">>}]";
    let volumes = format!(
        "volumes => [#{{name => <<\"inner\">>}}, #{{name => <<\"data\">>}}, \
         #{{name => <<\"host\">>, source => {{host, <<\"{}\">>}}}}], ",
        host.display()
    );
    let script = "echo > /a/of-data; echo > /a/b/of-host; echo > /a/b/c/of-inner; sleep 1000";
    let spec = machine.pod("web", script, &format!(", {mounts}"));
    port.ok("apply", &spec.replacen("#{", &format!("#{{{volumes}"), 1));
    let inner = machine.volume("web").with_file_name("inner");
    eventually("all is written", || inner.join("of-inner").exists());
    let names = |dir: PathBuf| {
        let entries = fs::read_dir(dir).expect("ours");
        let mut names: Vec<_> = entries.map(|entry| entry.expect("ours").file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(machine.volume("web")), ["b", "of-data"]);
    assert_eq!(names(host), ["c", "of-host"]);
    assert_eq!(names(inner), ["of-inner"]);
}

#[test]
fn a_tmpfs_is_as_large_as_it_is_said_to_be_and_new_in_each_run() {
    let Some(machine) = Machine::new("tmpfs volume") else { return };
    let mut port = machine.port();
    let report = machine.dir.path().join("report");
    fs::create_dir(&report).expect("ours");
    let script = "ls -A /data > /report/before; head -c 300000 /dev/zero > /data/big \
                  || ls /data > /report/full; mv /report/full /report/done; sleep 1000";
    let spec = machine
        .pod_with("web", "{tmpfs, 262144}", "/data", script)
        .replace(
            "volumes => [",
            &format!(
                "volumes => [#{{name => <<\"report\">>, source => {{host, <<\"{}\">>}}}}, ",
                report.display()
            ),
        )
        .replace(
            "mounts => [",
            "mounts => [#{volume => <<\"report\">>, path => <<\"/report\">>}, ",
        );
    for applet in ["ls", "head", "mv"] {
        symlink("busybox", machine.rootfs_path("bin").join(applet)).expect("ours");
    }
    port.ok("apply", &spec);
    for _ in 0..2 {
        eventually("it is full", || report.join("done").exists());
        assert_eq!(fs::read_to_string(report.join("before")).expect("ours"), "");
        fs::remove_file(report.join("done")).expect("ours");
        port.ok("restart", "<<\"web\">>");
    }
}
