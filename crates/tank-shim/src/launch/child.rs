//! What a container's first process does between clone and exec. It allocates
//! nothing, never returns, and names each step before it takes it.

use std::convert::Infallible;
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, OpenTreeFlags, UnmountFlags};
use rustix::process::{Resource, Rlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, UnshareFlags};
use tank_shim::protocol::Step;

use super::mapped::{self, Mapped};
use super::plan::Plan;
use super::process_plan::{Output, ProcessPlan};
use super::volumes;
use super::{init, terminal};
use crate::syscall;

/// What in `/dev` is made, in this order; errors name an entry.
const DEVICES: [&CStr; 6] =
    [c"/dev/null", c"/dev/zero", c"/dev/full", c"/dev/random", c"/dev/urandom", c"/dev/tty"];

/// The same devices as seen from the host's root directory.
const HOST_DEVICES: [&CStr; 6] =
    [c"dev/null", c"dev/zero", c"dev/full", c"dev/random", c"dev/urandom", c"dev/tty"];

/// Links in `/dev`: name and target.
const DEV_LINKS: [(&CStr, &CStr); 5] = [
    (c"/dev/ptmx", c"pts/ptmx"),
    (c"/dev/fd", c"/proc/self/fd"),
    (c"/dev/stdin", c"/proc/self/fd/0"),
    (c"/dev/stdout", c"/proc/self/fd/1"),
    (c"/dev/stderr", c"/proc/self/fd/2"),
];

/// A file system below `/dev`.
struct DevMount {
    path: &'static CStr,
    kind: &'static CStr,
    flags: MountFlags,
    options: &'static CStr,
    /// The options where there is no group `tty`.
    without_group: Option<&'static CStr>,
}

impl DevMount {
    fn options(&self, has_tty_group: bool) -> &'static CStr {
        self.without_group.filter(|_| !has_tty_group).unwrap_or(self.options)
    }
}

const DEV_MOUNTS: [DevMount; 3] = [
    DevMount {
        path: c"/dev/pts",
        kind: c"devpts",
        flags: MountFlags::NOSUID.union(MountFlags::NOEXEC),
        options: c"newinstance,ptmxmode=0666,mode=0620,gid=5",
        without_group: Some(c"newinstance,ptmxmode=0666,mode=0620"),
    },
    DevMount {
        path: c"/dev/shm",
        kind: c"tmpfs",
        flags: NO_SUID_DEV_EXEC,
        options: c"mode=1777,size=64m",
        without_group: None,
    },
    DevMount {
        path: c"/dev/mqueue",
        kind: c"mqueue",
        flags: NO_SUID_DEV_EXEC,
        options: c"",
        without_group: None,
    },
];

pub(super) const NO_SUID_DEV_EXEC: MountFlags =
    MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// Hidden: they tell of the host or reach into it. Docker's list.
const MASKED: [&CStr; 11] = [
    c"/proc/asound",
    c"/proc/acpi",
    c"/proc/kcore",
    c"/proc/keys",
    c"/proc/latency_stats",
    c"/proc/timer_list",
    c"/proc/timer_stats",
    c"/proc/sched_debug",
    c"/proc/scsi",
    c"/sys/firmware",
    c"/sys/devices/virtual/powercap",
];

/// Readable only: they set the host's kernel up. Docker's list.
const PROTECTED: [&CStr; 5] =
    [c"/proc/bus", c"/proc/fs", c"/proc/irq", c"/proc/sys", c"/proc/sysrq-trigger"];

/// A step that failed, as it goes through the report pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stumble {
    /// Which step.
    pub(crate) step: Step,
    /// Which of the step's objects, where there are several.
    pub(crate) index: usize,
    /// Why.
    pub(crate) errno: i32,
}

impl Stumble {
    /// How long one is in the pipe.
    pub(crate) const BYTES: usize = 7;

    pub(crate) fn to_bytes(self) -> [u8; Self::BYTES] {
        let [a, b, c, d] = self.errno.to_ne_bytes();
        // A path has at most 2,048 parts, and no other list is as long.
        let [e, f] = u16::try_from(self.index).unwrap_or(u16::MAX).to_ne_bytes();
        [self.step as u8, a, b, c, d, e, f]
    }

    /// Reads one; `None` for bytes that are none.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let &[step, a, b, c, d, e, f] = bytes else { return None };
        let step = *Step::ALL.get(usize::from(step))?;
        let index = u16::from_ne_bytes([e, f]).into();
        Some(Self { step, index, errno: i32::from_ne_bytes([a, b, c, d]) })
    }
}

/// What a step is done to, for the steps whose objects are listed here.
pub(super) fn object(step: Step, index: usize) -> Option<&'static str> {
    let path = match step {
        Step::MakeMountsPrivate | Step::DetachHostRoot | Step::ProtectRoot => c"/",
        Step::MountProc => c"/proc",
        Step::MountCgroups => c"/sys/fs/cgroup",
        Step::MountSys => c"/sys",
        Step::MountDev => dev_object(index)?,
        Step::MaskPath => MASKED.get(index)?,
        Step::ProtectPath => PROTECTED.get(index)?,
        Step::SetUpTerminal => c"/dev/console",
        Step::LimitProcess => *[c"oom_score_adj", c"nice", c"nofile"].get(index)?,
        Step::SetUpStdio => *[c"stdin", c"stdout", c"stderr", c"descriptors"].get(index)?,
        _ => return None,
    };
    path.to_str().ok()
}

/// `/dev` itself, devices, file systems and links are numbered through.
fn dev_object(index: usize) -> Option<&'static CStr> {
    let mounts = DEV_MOUNTS.iter().map(|mount| mount.path);
    let links = DEV_LINKS.iter().map(|(name, _)| *name);
    [c"/dev"].into_iter().chain(DEVICES).chain(mounts).chain(links).nth(index)
}

/// Ends the process if it is about to unwind into its parent's loop.
pub(crate) struct NeverUnwind;

impl Drop for NeverUnwind {
    fn drop(&mut self) {
        syscall::exit_now(126);
    }
}

/// Makes a result of the kernel's say what failed.
pub(crate) trait At<T> {
    /// At this step.
    fn at(self, step: Step) -> Result<T, Stumble>;
    /// At this step, with this one of its objects.
    fn at_nth(self, step: Step, index: usize) -> Result<T, Stumble>;
}

impl<T> At<T> for Result<T, Errno> {
    fn at(self, step: Step) -> Result<T, Stumble> {
        self.at_nth(step, 0)
    }

    fn at_nth(self, step: Step, index: usize) -> Result<T, Stumble> {
        self.map_err(|errno| Stumble { step, index, errno: errno.raw_os_error() })
    }
}

/// Sets the container up and executes the command, or reports why not.
pub(super) fn run(plan: &Plan) -> ! {
    report_failure(&plan.process, || set_up_and_exec(plan))
}

/// Ends the process by what is not to return, or by telling why it has.
pub(super) fn report_failure(
    process: &ProcessPlan,
    steps: impl FnOnce() -> Result<Infallible, Stumble>,
) -> ! {
    let _guard = NeverUnwind;
    let Err(stumble) = steps();
    if let Some(report) = &process.report {
        // Nobody else can be told: a shim that is dead takes this process along.
        let _ = rustix::io::write(report, &stumble.to_bytes());
    }
    syscall::exit_now(127);
}

fn set_up_and_exec(plan: &Plan) -> Result<Infallible, Stumble> {
    join_cgroups(&plan.process)?;
    enter_cgroup_namespace()?;
    match &plan.mapped {
        Some(mapped) => mapped::arrive(plan, mapped)?,
        None => limit_process(&plan.process)?,
    }
    begin_session()?;
    rustix::process::umask(Mode::empty());
    change_root(plan)?;
    mount_kernel_file_systems(plan)?;
    hide_the_host(plan)?;
    // Before the volumes: one may lie over the devices.
    set_up_input(plan)?;
    volumes::mount(&plan.mounts, plan.opens_devices())?;
    redirect_and_close(&plan.process)?;
    make_working_dir(&plan.process)?;
    protect_root(plan).at(Step::ProtectRoot)?;
    become_the_workload(&plan.process)
}

/// The end of it for a process that has entered a container that is set up, and
/// has given up what it is not to have.
pub(super) fn begin_and_exec(process: &ProcessPlan) -> Result<Infallible, Stumble> {
    begin_session()?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    rustix::process::chdir(&*process.working_dir).at(Step::EnterWorkingDir)?;
    install_seccomp(process)?;
    exec(process)
}

fn begin_session() -> Result<(), Stumble> {
    rustix::process::setsid().at(Step::BeginSession)?;
    syscall::leave_keyring().at(Step::LeaveKeyring)
}

/// Gives up what it is not to have, and executes the command. Signals are as new
/// since the shim began: it catches and blocks none.
fn become_the_workload(process: &ProcessPlan) -> Result<Infallible, Stumble> {
    rustix::process::umask(Mode::from_raw_mode(0o022));
    drop_privileges(process)?;
    if process.init {
        init::stand_before(|| install_seccomp(process))?;
    }
    if matches!(process.output, Some(Output::Terminal(_))) {
        terminal::control().at(Step::SetUpTerminal)?;
    }
    install_seccomp(process)?;
    exec(process)
}

pub(super) fn join_cgroups(process: &ProcessPlan) -> Result<(), Stumble> {
    for (index, file) in process.joins.iter().enumerate() {
        rustix::io::write(file, b"0").at_nth(Step::JoinCgroup, index)?;
    }
    Ok(())
}

/// Once it is in the container's cgroups, which are the roots of what it sees then.
pub(super) fn enter_cgroup_namespace() -> Result<(), Stumble> {
    syscall::enter_new(UnshareFlags::NEWCGROUP).at(Step::EnterCgroupNamespace)
}

/// Sets what each process has of its own and its children inherit. The host's
/// `/proc` is still there.
pub(super) fn limit_process(process: &ProcessPlan) -> Result<(), Stumble> {
    if let Some(adj) = &process.oom_score_adj {
        write_own_oom_score(adj).at_nth(Step::LimitProcess, 0)?;
    }
    if let Some(nice) = process.nice {
        rustix::process::setpriority_process(None, nice).at_nth(Step::LimitProcess, 1)?;
    }
    if let Some(nofile) = process.nofile {
        let limit = Rlimit { current: Some(nofile), maximum: Some(nofile) };
        rustix::process::setrlimit(Resource::Nofile, limit).at_nth(Step::LimitProcess, 2)?;
    }
    Ok(())
}

fn write_own_oom_score(adj: &str) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::open(c"/proc/self/oom_score_adj", flags, Mode::empty())?;
    rustix::io::write(&file, adj.as_bytes()).map(drop)
}

/// Makes the overlay the root. The host's root is the current directory from here
/// until it is detached.
fn change_root(plan: &Plan) -> Result<(), Stumble> {
    if plan.mapped.is_none() {
        mount_root(plan)?;
    }
    let path = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let host_root = rustix::fs::open(c"/", path, Mode::empty()).at(Step::PivotRoot)?;
    // The old root lies on top of the new one until it is detached.
    rustix::process::pivot_root(c".", c".").at(Step::PivotRoot)?;
    rustix::process::fchdir(&host_root).at(Step::PivotRoot)
}

/// Mounts the overlay and enters it.
fn mount_root(plan: &Plan) -> Result<(), Stumble> {
    let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
    rustix::mount::mount_change(c"/", private).at(Step::MakeMountsPrivate)?;
    volumes::open(&plan.mounts)?;
    mount_overlay(plan)?;
    rustix::process::chdir(c"root").at(Step::PivotRoot)
}

/// Mounts the overlay, and goes into its directory.
pub(super) fn mount_overlay(plan: &Plan) -> Result<(), Stumble> {
    rustix::process::chdir(&*plan.dir).at(Step::MountOverlay)?;
    open_rootfs_here(plan).at(Step::OpenRootfs)?;
    let flags = no_devices(plan);
    rustix::mount::mount(c"overlay", c"root", c"overlay", flags, Some(&*plan.overlay_options))
        .at(Step::MountOverlay)
}

/// No device node that a container makes may ever open a device, unless it is
/// privileged as the host's root.
fn no_devices(plan: &Plan) -> MountFlags {
    if plan.opens_devices() { MountFlags::empty() } else { MountFlags::NODEV }
}

/// Opens the root filesystem in this mount namespace under the number that the
/// overlay's options name: the kernel takes no layer from another namespace. A
/// number needs no escapes, unlike a path with a colon or a comma.
fn open_rootfs_here(plan: &Plan) -> Result<(), Errno> {
    let Some(number) = plan.rootfs_fd.as_ref().map(AsRawFd::as_raw_fd) else {
        return Err(Errno::BADF);
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let here = rustix::fs::open(&*plan.rootfs, flags, Mode::empty())?;
    syscall::duplicate_to(here.as_fd(), number, false)
}

/// Mounts what programs expect. All absolute paths are the container's by now,
/// so that no link in an image leads to the host.
fn mount_kernel_file_systems(plan: &Plan) -> Result<(), Stumble> {
    mount_point(c"/proc").at(Step::MountProc)?;
    mount(c"proc", c"/proc", NO_SUID_DEV_EXEC, c"").at(Step::MountProc)?;
    mount_point(c"/sys").at(Step::MountSys)?;
    mount_sys(plan).at(Step::MountSys)?;
    mount_dev(plan)
}

/// Of the host's network the kernel lets only its own root mount a sysfs: without
/// that, it is the host's, and for reading even where it could be written to.
fn mount_sys(plan: &Plan) -> Result<(), Errno> {
    if let Some(tree) = plan.mapped.as_ref().and_then(Mapped::sys) {
        return volumes::attach(tree, CWD, c"/sys");
    }
    let read_only = if plan.privileged { MountFlags::empty() } else { MountFlags::RDONLY };
    match mount(c"sysfs", c"/sys", NO_SUID_DEV_EXEC | read_only, c"") {
        Err(Errno::PERM) => {}
        mounted => return mounted,
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    let hosts = rustix::mount::open_tree(CWD, c"sys", flags)?;
    let attributes = libc::MOUNT_ATTR_RDONLY
        | libc::MOUNT_ATTR_NOSUID
        | libc::MOUNT_ATTR_NODEV
        | libc::MOUNT_ATTR_NOEXEC;
    syscall::set_mount_attributes(hosts.as_fd(), attributes)?;
    volumes::attach(hosts.as_fd(), CWD, c"/sys")
}

fn mount_dev(plan: &Plan) -> Result<(), Stumble> {
    mount_point(c"/dev").at(Step::MountDev)?;
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC | no_devices(plan);
    mount(c"tmpfs", c"/dev", flags, c"mode=755,size=64k").at(Step::MountDev)?;
    for (index, (device, host_device)) in DEVICES.iter().zip(HOST_DEVICES).enumerate() {
        bind_device(host_device, device).at_nth(Step::MountDev, 1 + index)?;
    }
    for (index, entry) in DEV_MOUNTS.iter().enumerate() {
        let index = 1 + DEVICES.len() + index;
        let mode = Mode::from_raw_mode(0o755);
        rustix::fs::mkdir(entry.path, mode).at_nth(Step::MountDev, index)?;
        let options = entry.options(plan.process.has_tty_group);
        mount(entry.kind, entry.path, entry.flags, options).at_nth(Step::MountDev, index)?;
    }
    for (index, (name, target)) in DEV_LINKS.iter().enumerate() {
        let index = 1 + DEVICES.len() + DEV_MOUNTS.len() + index;
        rustix::fs::symlink(*target, *name).at_nth(Step::MountDev, index)?;
    }
    Ok(())
}

/// Binds a device of the host's: a node of our own would need a mount on which
/// devices can be opened, and containers may make nodes. What is read-only is the
/// node, the host's own: its mode and its owner, not what is written to the device.
fn bind_device(host_device: &CStr, device: &CStr) -> Result<(), Errno> {
    rustix::fs::mknodat(CWD, device, FileType::RegularFile, Mode::empty(), 0)?;
    rustix::mount::mount_bind(host_device, device)?;
    let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NOEXEC;
    rustix::mount::mount_remount(device, flags, c"")
}

/// Makes sure that a path is a directory and no link.
fn mount_point(path: &CStr) -> Result<(), Errno> {
    match rustix::fs::mkdir(path, Mode::from_raw_mode(0o755)) {
        Ok(()) => return Ok(()),
        Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    let stat = rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Ok(()),
        FileType::Symlink => Err(Errno::LOOP),
        _ => Err(Errno::NOTDIR),
    }
}

pub(super) fn mount(
    kind: &CStr,
    path: &CStr,
    flags: MountFlags,
    options: &CStr,
) -> Result<(), Errno> {
    rustix::mount::mount(kind, path, kind, flags, Some(options))
}

/// Masks, protects, and lets go of the host's root.
fn hide_the_host(plan: &Plan) -> Result<(), Stumble> {
    let (masked, protected) =
        if plan.privileged { (&[][..], &[][..]) } else { (&MASKED[..], &PROTECTED[..]) };
    for (index, path) in masked.iter().enumerate() {
        ignore_missing(mask(path)).at_nth(Step::MaskPath, index)?;
    }
    for (index, path) in protected.iter().enumerate() {
        ignore_missing(protect(path)).at_nth(Step::ProtectPath, index)?;
    }
    rustix::mount::unmount(c".", UnmountFlags::DETACH).at(Step::DetachHostRoot)?;
    rustix::process::chdir(c"/").at(Step::DetachHostRoot)
}

/// Covers a file with `/dev/null`, a directory with an empty one. Looks first:
/// a bind that the kernel refuses costs it a grace period to undo.
fn mask(path: &CStr) -> Result<(), Errno> {
    let stat = rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        let flags = NO_SUID_DEV_EXEC | MountFlags::RDONLY;
        return mount(c"tmpfs", path, flags, c"nr_blocks=1,nr_inodes=1");
    }
    rustix::mount::mount_bind(c"/dev/null", path)
}

fn protect(path: &CStr) -> Result<(), Errno> {
    rustix::mount::mount_bind_recursive(path, path)?;
    let flags = MountFlags::BIND | MountFlags::RDONLY | NO_SUID_DEV_EXEC;
    rustix::mount::mount_remount(path, flags, c"")
}

fn ignore_missing(result: Result<(), Errno>) -> Result<(), Errno> {
    if result == Err(Errno::NOENT) { Ok(()) } else { result }
}

/// Standard input, and all of a terminal.
fn set_up_input(plan: &Plan) -> Result<(), Stumble> {
    match &plan.process.output {
        Some(Output::Terminal(socket)) => {
            terminal::set_up(socket.as_fd(), plan.process.uid).at(Step::SetUpTerminal)
        }
        _ => redirect_stdin().at(Step::SetUpStdio),
    }
}

/// Sets up standard output and error and closes all but them, standard input
/// and the report. After this no link through `/proc/self/fd` can lead out of
/// the container.
pub(super) fn redirect_and_close(process: &ProcessPlan) -> Result<(), Stumble> {
    if let Some(Output::Pipes(pipes)) = &process.output {
        for (index, output) in pipes.iter().enumerate() {
            let number = if index == 0 { 1 } else { 2 };
            let redirected = syscall::duplicate_to(output.as_fd(), number, true);
            redirected.at_nth(Step::SetUpStdio, 1 + index)?;
        }
    }
    let Some(report) = &process.report else { return Err(Errno::BADF).at_nth(Step::SetUpStdio, 3) };
    syscall::close_all_but(report.as_fd()).at_nth(Step::SetUpStdio, 3)
}

/// Whatever else may stand there in a container that has been running is neither
/// followed nor waited for.
pub(super) fn redirect_stdin() -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let null = rustix::fs::open(c"/dev/null", flags, Mode::empty())?;
    rustix::fs::fcntl_setfl(&null, OFlags::empty())?;
    syscall::duplicate_to(null.as_fd(), 0, true)
}

fn make_working_dir(process: &ProcessPlan) -> Result<(), Stumble> {
    match rustix::process::chdir(&*process.working_dir) {
        Err(Errno::NOENT) => {}
        result => return result.at(Step::EnterWorkingDir),
    }
    for (index, part) in process.working_dir_parts.iter().enumerate() {
        match rustix::fs::mkdir(&**part, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno).at_nth(Step::MakeWorkingDir, index),
        }
    }
    rustix::process::chdir(&*process.working_dir).at(Step::EnterWorkingDir)
}

/// Makes the root read-only once all is in it that the launch puts there. What
/// is mounted below it stays as it is.
fn protect_root(plan: &Plan) -> Result<(), Errno> {
    if !plan.read_only {
        return Ok(());
    }
    let flags = MountFlags::BIND | MountFlags::RDONLY | no_devices(plan);
    rustix::mount::mount_remount(c"/", flags, c"")
}

/// Gives up capabilities, becomes the user, and forbids the way back.
pub(super) fn drop_privileges(process: &ProcessPlan) -> Result<(), Stumble> {
    bound_capabilities(process.capabilities).at(Step::DropCapabilities)?;
    if let Some(groups) = &process.groups {
        rustix::thread::set_thread_groups(groups).at(Step::SetUser)?;
    }
    let (uid, gid) = (process.uid, process.gid);
    rustix::thread::set_thread_res_gid(gid, gid, gid).at(Step::SetUser)?;
    // The kernel clears permitted and effective capabilities here, unless root stays root.
    rustix::thread::set_thread_res_uid(uid, uid, uid).at(Step::SetUser)?;
    // Only now: without those that may be dropped, nobody becomes another.
    drop_capabilities(process.capabilities).at(Step::DropCapabilities)?;
    rustix::thread::set_no_new_privs(true).at(Step::ForbidNewPrivileges)
}

/// Last before exec: the program may forbid whatever has been done before.
fn install_seccomp(process: &ProcessPlan) -> Result<(), Stumble> {
    match &process.seccomp {
        Some(seccomp) => {
            syscall::install_seccomp(seccomp.flags, &seccomp.program.0).at(Step::InstallSeccomp)
        }
        None => Ok(()),
    }
}

/// What a program that is executed can have at most.
fn bound_capabilities(kept: CapabilitySet) -> Result<(), Errno> {
    for number in 0..64 {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if kept.contains(capability) {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // The kernel has no more.
            Err(Errno::INVAL) => break,
            Err(errno) => return Err(errno),
        }
    }
    rustix::thread::clear_ambient_capability_set()
}

fn drop_capabilities(kept: CapabilitySet) -> Result<(), Errno> {
    let permitted = rustix::thread::capabilities(None)?.permitted & kept;
    let sets =
        CapabilitySets { effective: permitted, permitted, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets)
}

/// Executes the first candidate that can be, as a shell would look for it.
fn exec(process: &ProcessPlan) -> Result<Infallible, Stumble> {
    let mut failed = Errno::NOENT;
    for (index, path) in process.candidates.iter().enumerate() {
        match syscall::exec(path, &process.argv, &process.env) {
            Errno::NOENT if exists(path) => {
                return Err(Errno::NOENT).at_nth(Step::FindInterpreter, index);
            }
            Errno::NOENT | Errno::NOTDIR => {}
            Errno::ACCESS => failed = Errno::ACCESS,
            errno => return Err(errno).at(Step::Exec),
        }
    }
    Err(failed).at(Step::Exec)
}

fn exists(path: &CStr) -> bool {
    rustix::fs::statat(CWD, path, AtFlags::empty()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stumble_survives_the_pipe() {
        for &step in Step::ALL {
            let stumble = Stumble { step, index: 300, errno: libc::ENOSPC };
            assert_eq!(Stumble::from_bytes(&stumble.to_bytes()), Some(stumble));
        }
    }

    #[test]
    fn bytes_that_are_no_stumble_are_told_apart() {
        assert_eq!(Stumble::from_bytes(&[]), None);
        assert_eq!(Stumble::from_bytes(&[0; 6]), None);
        assert_eq!(Stumble::from_bytes(&[u8::MAX; Stumble::BYTES]), None);
    }

    #[test]
    fn every_object_in_dev_has_its_number() {
        let count = 1 + DEVICES.len() + DEV_MOUNTS.len() + DEV_LINKS.len();
        assert_eq!(object(Step::MountDev, 0), Some("/dev"));
        assert_eq!(object(Step::MountDev, 6), Some("/dev/tty"));
        assert_eq!(object(Step::MountDev, 7), Some("/dev/pts"));
        assert_eq!(object(Step::MountDev, count - 1), Some("/dev/stderr"));
        assert_eq!(object(Step::MountDev, count), None);
    }
}
