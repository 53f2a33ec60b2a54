//! Chaos, for real: a BEAM with Tank in its supervision tree and 50 pods, while a
//! seeded driver kills and freezes processes of every kind, fills the disk of the data
//! directory and changes its mind about what shall run. After each round an auditor
//! that looks at the kernel alone compares what runs with what must. docs/reliability.md
//! has the whole; `scripts/chaos` does it for longer. Needs root and crun.
//!
//! All of it happens in pid and mount namespaces of the test's own, so that whatever is
//! there is Tank's, and goes with them whatever happens.

mod app;
mod audit;
mod disk;
mod driver;
mod kernel;
mod model;
mod plan;
#[expect(dead_code, reason = "the simulator uses all of it")]
#[path = "../core/simulation/random.rs"]
mod random;
#[path = "../support/mod.rs"]
mod support;

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use app::Setting;
use driver::Driver;
use support::{eventually, is_root, rootfs};

const TEST: &str = "chaos_leaves_exactly_one_run_of_each_pod_that_was_acknowledged";
/// Rounds where nobody says how many.
const ROUNDS: u64 = 3;
/// Where the test has everything; set in the namespaces.
const INSIDE: &str = "TANK_CHAOS_INSIDE";

#[test]
fn chaos_leaves_exactly_one_run_of_each_pod_that_was_acknowledged() {
    if !is_root("chaos") {
        return;
    }
    match env::var_os(INSIDE) {
        None => go_inside(),
        Some(dir) => besiege(Path::new(&dir)),
    }
}

/// Runs the test again in namespaces of its own, and removes what these do not take
/// with them.
fn go_inside() {
    let dir = tempfile::tempdir().expect("a directory");
    let scene = Scene { cgroup_parent: cgroup_parent(dir.path()) };
    let status = Command::new("unshare")
        .args(["--pid", "--fork", "--kill-child", "--mount", "--mount-proc"])
        // The shell reaps what belongs to nobody.
        .args(["/bin/sh", "-c", "\"$0\" --exact \"$1\" --nocapture; exit $?"])
        .arg(env::current_exe().expect("this is a program"))
        .arg(TEST)
        .env(INSIDE, dir.path())
        .status()
        .expect("unshare is part of util-linux");
    drop(scene);
    assert!(status.success(), "{status}");
}

/// Cgroups outlive namespaces.
struct Scene {
    cgroup_parent: String,
}

impl Drop for Scene {
    fn drop(&mut self) {
        eventually("no cgroup is left", || kernel::remove_cgroups(&self.cgroup_parent));
    }
}

fn besiege(dir: &Path) {
    let (rounds, seed) = (number("TANK_CHAOS_ROUNDS", ROUNDS), number("TANK_CHAOS_SEED", 1));
    prepare(dir);
    let setting = Setting { dir: dir.to_owned(), cgroup_parent: cgroup_parent(dir) };
    let mut driver = Driver::start(setting, seed);
    for round in 0..rounds {
        driver.round(round);
    }
    driver.end();
}

fn prepare(dir: &Path) {
    let rootfs = rootfs(dir);
    build_workload(&rootfs.join(kernel::WORKLOAD.trim_start_matches('/')));
    app::compile_client(&dir.join("ebin"));
    fs::create_dir(dir.join("journal")).expect("the directory is ours");
}

fn build_workload(to: &Path) {
    let source = repository().join("tests/chaos/workload.c");
    let status = Command::new("cc").args(["-static", "-O1", "-o"]).arg(to).arg(source).status();
    assert!(status.expect("gcc is installed").success());
}

fn number(variable: &str, default: u64) -> u64 {
    let Ok(text) = env::var(variable) else { return default };
    text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text:?}"))
}

fn cgroup_parent(dir: &Path) -> String {
    dir.file_name().expect("a name").to_string_lossy().replace('.', "tank-chaos-")
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
