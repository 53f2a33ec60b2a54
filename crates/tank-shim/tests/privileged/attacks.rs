//! Ways out of containers that are known by name, each gone by a container that
//! wants out. What would be proof against anything is tried without its defence
//! too. `docs/confinement.md` lists them, and those that other modules try.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, RenameFlags};
use tank_seccomp::{Circumstances, Machine, Profile};
use tank_shim::Program;
use tank_shim::protocol::{Bytes, Exit, Failure, FromShim, Launch, Network, Seccomp, Step, ToShim};

use crate::scene::{SHIM, Scene, Shim, eventually, path_string, scene, sealed};

/// Docker's default capabilities by name.
const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// The program of the default profile.
pub(crate) fn default_seccomp() -> Seccomp {
    static DEFAULT: LazyLock<Seccomp> = LazyLock::new(|| {
        let machine = Machine::native().unwrap();
        let capabilities = BTreeSet::from(CAPABILITIES);
        let circumstances = Circumstances { machine, kernel: (5, 10), capabilities: &capabilities };
        let filter = tank_seccomp::compile(&Profile::default(), &circumstances).unwrap();
        Seccomp { flags: filter.flags, program: Bytes(filter.program) }
    });
    DEFAULT.clone()
}

/// A pod under all that is in force by default.
fn confined(scene: &Scene, argv: &[&str]) -> Launch {
    let mut pod = scene.pod(argv);
    pod.containers[0].seccomp = Some(default_seccomp());
    pod
}

/// A confined script. `refused` in it is a command that must fail.
fn confined_script(scene: &Scene, script: &str) -> Launch {
    let refused = "refused() { if \"$@\"; then echo \"not refused: $*\" >&2; exit 1; fi; }";
    confined(scene, &["/bin/sh", "-c", &format!("set -e; {refused}\n{script}")])
}

/// The same pod as one that can take over the machine.
fn unconfined(mut pod: Launch) -> Launch {
    pod.containers[0].seccomp = None;
    pod.containers[0].privileged = true;
    pod.containers[0].capabilities = u64::MAX;
    pod
}

/// A program that is a shell script, for a shim to be started through.
fn wrapper(scene: &Scene, script: &str) -> Program {
    let path = scene.dir.join("wrapper");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    executable(&path);
    sealed(&path)
}

fn executable(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Compiles one of the programs beside this file into the root filesystem.
fn compile(scene: &Scene, source: &str, flags: &[&str], to: &str) {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/privileged/attacks");
    let to = scene.rootfs().join(to.trim_start_matches('/'));
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    let mut compiler = Command::new("cc");
    compiler.args(["-static", "-O1"]).args(flags).arg("-o").arg(to).arg(sources.join(source));
    assert!(compiler.status().unwrap().success());
}

/// The failure of a pod under a shim of this program.
fn failure_under(scene: &Scene, program: &Program, pod: &Launch) -> Failure {
    let mut shim = scene.shim_of(program);
    shim.send(&ToShim::Launch(Box::new(pod.clone())));
    match shim.receive() {
        FromShim::Failed(failure) => {
            shim.expect_end();
            failure
        }
        other => panic!("{:?}: {other:?}", pod.containers),
    }
}

/// A directory of the host's with a file in it, which nothing may change.
struct Prey {
    dir: PathBuf,
}

impl Prey {
    fn new(scene: &Scene, file: &str) -> Self {
        let dir = scene.dir.join("prey");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join(file), "the host's").unwrap();
        Self { dir }
    }

    fn is_unharmed(&self) {
        for entry in fs::read_dir(&self.dir).unwrap() {
            assert_eq!(fs::read_to_string(entry.unwrap().path()).unwrap(), "the host's");
        }
        assert_eq!(fs::read_dir(&self.dir).unwrap().count(), 1);
    }
}

/// What came of an attack on a shim's program.
struct Overwriting {
    /// What the container said of it.
    said: String,
    /// Whether an accomplice could write to it when the shim was dead.
    late: io::Result<()>,
}

/// A container becomes its shim's program, keeps the program's file, and tries to
/// change it; then somebody who was given the file tries, when nobody executes
/// it any more, as a container without that limit of life could.
fn overwrite(scene: &Scene, mut shim: Shim) -> Overwriting {
    let rootfs = scene.rootfs();
    let freestanding = ["-nostdlib", "-ffreestanding", "-fno-stack-protector", "-fno-pic"];
    compile(scene, "loader.c", &[&freestanding[..], &["-no-pie"]].concat(), &loader());
    fs::write(
        rootfs.join("hold"),
        "readlink /proc/self/fd/9
         for try in $(seq 200); do
             if echo owned > /proc/self/fd/9; then echo written; break; fi
         done 2> /said
         tail -n 1 /said
         if chmod 4755 /proc/self/fd/9; then echo changed; fi 2>&1
         echo over
         sleep 1000",
    )
    .unwrap();
    fs::write(rootfs.join("attack"), "#!/proc/self/exe\n").unwrap();
    executable(&rootfs.join("attack"));
    shim.send(&ToShim::Launch(Box::new(confined(scene, &["/attack"]))));
    let host_pid = shim.expect_launched();
    eventually("the attack is over", || scene.logged("stdout").ends_with("over\n"));
    let kept = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH)
        .open(format!("/proc/{host_pid}/fd/9"))
        .unwrap();
    shim.send(&ToShim::Kill);
    shim.expect_exited();
    Overwriting { said: scene.logged("stdout"), late: write_to(&kept) }
}

fn write_to(kept: &File) -> io::Result<()> {
    let path = format!("/proc/self/fd/{}", kept.as_raw_fd());
    OpenOptions::new().write(true).open(path)?.write_all(b"owned")
}

/// The dynamic loader that the shim's program names.
fn loader() -> String {
    let program = fs::read(SHIM).unwrap();
    let at = program.windows(4).position(|bytes| bytes == b"/lib").unwrap();
    let name = program[at..].split(|&byte| byte == 0).next().unwrap();
    String::from_utf8(name.to_vec()).unwrap()
}

/// A copy of the shim that may come to harm. Another process writes it: what is
/// open for writing somewhere cannot be executed, and any child of this one
/// would have it open for a moment.
fn copy_of_the_shim(scene: &Scene) -> PathBuf {
    let copy = scene.dir.join("shim");
    assert!(Command::new("cp").arg(SHIM).arg(&copy).status().unwrap().success());
    copy
}

#[test]
fn cve_2019_5736_who_becomes_the_shims_program_can_change_nothing_of_the_hosts() {
    let scene = scene!("cve_2019_5736_who_becomes_the_shims_program");
    let file = copy_of_the_shim(&scene);
    let came = overwrite(&scene, scene.shim_of(&sealed(&file)));
    assert!(came.said.starts_with("/memfd:tank-shim (deleted)\n"), "{}", came.said);
    assert!(!came.said.contains("written") && !came.said.contains("changed"), "{}", came.said);
    assert!(came.said.contains("/proc/self/fd/9: Operation not permitted"), "{}", came.said);
    assert_eq!(came.late.unwrap_err().raw_os_error(), Some(libc::EPERM));
    assert!(fs::read(&file).unwrap() == fs::read(SHIM).unwrap());
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o755);
}

/// The same attack on a shim that is executed from its file.
#[test]
fn cve_2019_5736_is_no_empty_threat() {
    let scene = scene!("cve_2019_5736_is_no_empty_threat");
    let file = copy_of_the_shim(&scene);
    let came = overwrite(&scene, scene.unsealed_shim_of(&file));
    assert!(came.said.contains("changed\n"), "{}", came.said);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o4755);
    came.late.unwrap();
    assert!(fs::read(&file).unwrap().starts_with(b"owned"));
}

#[test]
fn cve_2019_5736_a_command_that_is_the_shims_program_runs_nothing_of_it() {
    let scene = scene!("cve_2019_5736_a_command_that_is_the_shims_program");
    fs::write(scene.rootfs().join("attack"), "#!/proc/self/exe\n").unwrap();
    executable(&scene.rootfs().join("attack"));
    // Its loader is nowhere in the root.
    for command in ["/attack", "/proc/self/exe", "/proc/1/exe", "/proc/thread-self/exe"] {
        let failure = scene.failure_of(&confined(&scene, &[command]));
        assert_eq!((failure.step, failure.errno), (Step::FindInterpreter, libc::ENOENT));
        // And for a user it is not even a program.
        let mut pod = confined(&scene, &[command]);
        (pod.containers[0].uid, pod.containers[0].gid) = (1000, 1000);
        let failure = scene.failure_of(&pod);
        assert_eq!((failure.step, failure.errno), (Step::Exec, libc::EACCES));
    }
}

/// CVE-2024-21626: a descriptor of the host's that a launcher has inherited, or
/// opened itself, is the container's working directory, or the way to it.
#[test]
fn cve_2024_21626_no_descriptor_is_a_working_directory_or_a_way_to_a_command() {
    let scene = scene!("cve_2024_21626_no_descriptor_is_a_working_directory");
    let leak = "exec 7</ 8<. && test -e /proc/self/fd/7/proc/1";
    let program = wrapper(&scene, &format!("{leak} && exec {SHIM} \"$@\""));
    for number in 0..16 {
        let link = format!("/proc/self/fd/{number}");
        for below in ["", "/../../../..", "/new"] {
            let mut pod = confined(&scene, &["/bin/true"]);
            pod.containers[0].working_dir = format!("{link}{below}");
            let failure = failure_under(&scene, &program, &pod);
            let is_refused = matches!(failure.step, Step::EnterWorkingDir | Step::MakeWorkingDir)
                && matches!(failure.errno, libc::ENOENT | libc::ENOTDIR);
            assert!(is_refused, "{link}{below}: {}", failure.message);
        }
        for below in ["", "/bin/sh"] {
            let pod = confined(&scene, &[&format!("{link}{below}"), "-c", "exit 0"]);
            let failure = failure_under(&scene, &program, &pod);
            assert_eq!(failure.step, Step::Exec, "{link}{below}: {}", failure.message);
        }
    }
    let mut shim = scene.shim_of(&program);
    let pod = confined(&scene, &["/bin/ls", "/proc/self/fd"]);
    shim.send(&ToShim::Launch(Box::new(pod)));
    shim.expect_launched();
    assert_eq!(shim.expect_exited().exit, Exit::Exited(0));
    // The last is that of the directory itself.
    assert_eq!(scene.logged("stdout"), "0\n1\n2\n3\n");
}

/// A container's check of its own masks.
const IS_MASKED: &str = "
    is_null() { test \"$(stat -c '%F %t:%T' $1)\" = 'character special file 1:3'; }
    is_null /dev/null
    seen=0
    for path in /proc/keys /proc/kcore /proc/timer_list /proc/sched_debug /sys/firmware; do
        if test -d $path; then test -z \"$(ls -A $path)\"
        elif test -e $path; then is_null $path
        else continue; fi
        seen=$((seen + 1))
    done
    test $seen != 0
    grep -q '^proc /proc proc ' /proc/mounts
    grep -q '^proc /proc/sys proc ro,' /proc/mounts
    test \"$(cut -d ' ' -f 1 /proc/1/stat)\" = 1
    write() { echo x > $1; }
    for path in /proc/sys/kernel/core_pattern /proc/sys/kernel/hostname /proc/sysrq-trigger; do
        refused write $path
    done 2> /dev/null";

/// CVE-2025-31133: an image has something of its own in the place of what
/// masks, which is then mounted over what is to be masked.
#[test]
fn cve_2025_31133_what_is_masked_is_masked_whatever_an_image_has_there() {
    let scene = scene!("cve_2025_31133_what_is_masked_is_masked");
    let prey = Prey::new(&scene, "kcore");
    let core_pattern = fs::read("/proc/sys/kernel/core_pattern").unwrap();
    let (root, outside) = (scene.rootfs(), path_string(&prey.dir));
    let link = |to: &str, name: &str| symlink(to, root.join(name)).unwrap();
    let dir = |name: &str| fs::create_dir_all(root.join(name)).unwrap();
    let hostile: [&dyn Fn(); 7] = [
        &|| link("/proc/sys/kernel/core_pattern", "dev/null"),
        &|| link(&format!("{outside}/kcore"), "dev/null"),
        &|| fs::write(root.join("dev/null"), "the image's").unwrap(),
        &|| dir("dev/null"),
        &|| {
            for name in ["self", "thread-self", "1", "keys", "kcore", "sys", "sysrq-trigger"] {
                link(&outside, &format!("proc/{name}"));
            }
        },
        &|| {
            dir("proc/kcore");
            dir("proc/sys/kernel");
            fs::write(root.join("proc/sys/kernel/core_pattern"), "the image's").unwrap();
        },
        &|| link(&outside, "sys/firmware"),
    ];
    let mounted_on = ["dev", "proc", "sys"];
    for prepare in hostile {
        for name in mounted_on {
            dir(name);
        }
        prepare();
        scene.output_of_pod(&confined_script(&scene, IS_MASKED));
        prey.is_unharmed();
        assert_eq!(fs::read("/proc/sys/kernel/core_pattern").unwrap(), core_pattern);
        for name in mounted_on {
            fs::remove_dir_all(root.join(name)).unwrap();
        }
    }
}

/// CVE-2025-31133 and CVE-2025-52881 as races: whoever has the root filesystem
/// as a volume swaps a directory that is mounted on for a link meanwhile.
#[test]
fn cve_2025_52881_who_swaps_mount_points_for_links_uncovers_nothing() {
    let scene = scene!("cve_2025_52881_who_swaps_mount_points_for_links");
    let root = scene.rootfs();
    fs::create_dir(root.join("other")).unwrap();
    for (name, step) in
        [("proc", Step::MountProc), ("sys", Step::MountSys), ("dev", Step::MountDev)]
    {
        fs::create_dir(root.join(name)).unwrap();
        symlink("/other", root.join("link")).unwrap();
        launch_while_swapping(&scene, &root.join(name), step);
        for left in [root.join(name), root.join("link")] {
            fs::remove_file(&left).or_else(|_| fs::remove_dir(&left)).unwrap();
        }
    }
}

/// Launches until a link in the place of a mount point was met and was not, and
/// often enough for the two to get in each other's way.
fn launch_while_swapping(scene: &Scene, mount_point: &Path, refused_at: Step) {
    let pod = confined_script(scene, &format!("test -z \"$(ls -A /other)\"; {IS_MASKED}"));
    let (is_over, link) = (AtomicBool::new(false), scene.rootfs().join("link"));
    let swap = || {
        while !is_over.load(Ordering::Relaxed) {
            let exchange = RenameFlags::EXCHANGE;
            rustix::fs::renameat_with(CWD, mount_point, CWD, &link, exchange).unwrap();
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(swap);
        // However this ends.
        let _over = Over(&is_over);
        let (mut launched, mut refused) = (0, 0);
        eventually("links were met and were not", || {
            let mut shim = scene.shim();
            shim.send(&ToShim::Launch(Box::new(pod.clone())));
            match shim.receive() {
                FromShim::Launched(_) => {
                    let exit = shim.expect_exited().exit;
                    assert_eq!(exit, Exit::Exited(0), "{}", scene.logged("stderr"));
                    launched += 1;
                }
                FromShim::Failed(failure) => {
                    let found = (failure.step, failure.errno);
                    assert_eq!(found, (refused_at, libc::ELOOP), "{}", failure.message);
                    shim.expect_end();
                    refused += 1;
                }
                other => panic!("{other:?}"),
            }
            launched > 0 && refused > 0 && launched + refused >= 12
        });
    });
}

/// Says so when dropped.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// CVE-2025-52881: what a launcher writes to `/proc` goes elsewhere.
#[test]
fn cve_2025_52881_what_is_written_to_proc_is_written_to_the_kernels() {
    let scene = scene!("cve_2025_52881_what_is_written_to_proc");
    let prey = Prey::new(&scene, "oom_score_adj");
    let own = scene.rootfs().join("proc/thread-self");
    fs::create_dir_all(&own).unwrap();
    fs::write(own.join("oom_score_adj"), "the image's").unwrap();
    symlink(&prey.dir, scene.rootfs().join("proc/self")).unwrap();
    let mut pod = confined(&scene, &["/bin/cat", "/proc/self/oom_score_adj"]);
    pod.containers[0].oom_score_adj = Some(321);
    assert_eq!(scene.output_of_pod(&pod), "321\n");
    prey.is_unharmed();
    assert_eq!(fs::read_to_string(own.join("oom_score_adj")).unwrap(), "the image's");
}

/// CVE-2022-0492: the host's kernel executes what a cgroup's `release_agent`
/// names. CVE-2022-0185: what a namespace of one's own allows is a way into the
/// kernel.
#[test]
fn cve_2022_0492_no_cgroup_can_be_mounted_and_no_namespace_made() {
    let scene = scene!("cve_2022_0492_no_cgroup_can_be_mounted");
    let mount = "mount_any() { mount -t cgroup -o pids none /mnt || mount -t cgroup2 none /mnt; }";
    let attempts = [
        "mount_any",
        "mount -t proc proc /mnt",
        "mount -t tmpfs none /mnt",
        "mount -o bind /bin /mnt",
        "unshare -m true",
        "unshare -U true",
    ];
    let all = |how: &str| {
        let attempts = attempts.map(|attempt| format!("{how} {attempt}"));
        format!("mkdir /mnt; {mount}\n{}", attempts.join("\n"))
    };
    let none = "refused grep cgroup /proc/mounts; test -z \"$(find /sys -name release_agent)\"";
    scene.output_of_pod(&confined_script(&scene, &format!("{none}; {}", all("refused"))));
    let said = scene.logged("stderr");
    let refused = said.matches("not permitted").count() + said.matches("denied").count();
    // The first of them tries two.
    assert_eq!(refused, attempts.len() + 1, "{said}");
    // None of them is refused by chance.
    scene.output_of_pod(&unconfined(confined_script(&scene, &all(""))));
}

/// CVE-2022-24769 and CVE-2022-29162: inheritable capabilities, with which a
/// program that has them in its file is more than its user.
#[test]
fn cve_2022_24769_nothing_is_inherited_of_the_capabilities_of_who_starts_a_shim() {
    let scene = scene!("cve_2022_24769_nothing_is_inherited");
    let generous = "setpriv --inh-caps=+net_raw,+chown --ambient-caps=+net_raw,+chown";
    let program = wrapper(&scene, &format!("exec {generous} {SHIM} \"$@\""));
    for uid in [0, 1000] {
        let mut shim = scene.shim_of(&program);
        let own = fs::read_to_string(format!("/proc/{}/status", shim.hello.pid)).unwrap();
        assert!(own.contains("CapInh:\t0000000000002001"), "{own}");
        let mut pod = confined(&scene, &["/bin/grep", "-E", "Cap(Inh|Amb)", "/proc/self/status"]);
        pod.containers[0].uid = uid;
        shim.send(&ToShim::Launch(Box::new(pod)));
        shim.expect_launched();
        assert_eq!(shim.expect_exited().exit, Exit::Exited(0));
        let none = "CapInh:\t0000000000000000\nCapAmb:\t0000000000000000\n";
        assert_eq!(scene.logged("stdout"), none);
        fs::remove_file(scene.log_path()).unwrap();
    }
}

#[test]
fn what_proc_tells_of_the_first_process_is_the_containers() {
    let scene = scene!("what_proc_tells_of_the_first_process_is_the_containers");
    fs::set_permissions(scene.rootfs(), fs::Permissions::from_mode(0o755)).unwrap();
    let script = "
        for process in 1 self; do
            for link in exe root cwd; do readlink /proc/$process/$link; done
            stat -c %d:%i / /proc/$process/root/ /proc/$process/root/.. /proc/$process/cwd/.. | uniq | wc -l
        done
        tr '\\0' '\\n' < /proc/1/environ
        refused grep -E 'tank|memfd' /proc/1/maps /proc/1/comm
        echo /proc/[0-9]*";
    for uid in [0, 1000] {
        let mut pod = confined_script(&scene, script);
        pod.containers[0].uid = uid;
        let expected = "/bin/busybox\n/\n/\n1\n/bin/busybox\n/\n/\n1\nPATH=/bin\n/proc/1\n";
        assert_eq!(scene.output_of_pod(&pod), expected, "{uid}");
        fs::remove_file(scene.log_path()).unwrap();
    }
}

#[test]
fn who_changes_the_root_directory_again_climbs_no_higher_than_the_containers() {
    let scene = scene!("who_changes_the_root_directory_again");
    compile(&scene, "chroot.c", &[], "/bin/climb");
    let output = scene.output_of_pod(&confined(&scene, &["/bin/climb"]));
    let roots: Vec<&str> = output.lines().collect();
    assert_eq!(roots.len(), 2);
    assert_eq!(roots[0], roots[1]);
}

/// CVE-2020-15257: a supervisor's socket has a name that all of the network
/// namespace can use, and a pod may have the host's.
#[test]
fn cve_2020_15257_a_shims_socket_is_no_abstract_one() {
    let scene = scene!("cve_2020_15257_a_shims_socket_is_no_abstract_one");
    let mut pod = confined(&scene, &["/bin/cat", "/proc/net/unix"]);
    pod.network = Network::Host;
    let sockets = scene.output_of_pod(&pod);
    let shims: Vec<&str> = sockets.lines().filter(|line| line.contains("shim.sock")).collect();
    // They are seen, by a path that is the host's.
    assert!(!shims.is_empty(), "{sockets}");
    assert!(shims.iter().all(|line| !line.contains('@')), "{sockets}");
}
