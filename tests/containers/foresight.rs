//! Plans and awaits with real containers: what is asked changes nothing on the
//! machine, and what is waited for is the process that was applied.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::*;

/// Every file below a directory with its bytes; sockets and fifos by name alone.
fn files_below(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        let kind = path.symlink_metadata().expect("it is there").file_type();
        if kind.is_dir() {
            files.extend(files_below(&path));
        } else {
            let bytes =
                if kind.is_file() { fs::read(&path).unwrap_or_default() } else { Vec::new() };
            files.insert(path, bytes);
        }
    }
    files
}

/// The children of a process.
fn children_of(pid: i32) -> String {
    let children = format!("/proc/{pid}/task/{pid}/children");
    fs::read_to_string(children).expect("the kernel tells of children").trim_end().to_owned()
}

#[test]
fn a_plan_changes_no_byte_no_process_and_is_no_news() {
    let Some(machine) = Machine::new("a plan") else { return };
    let (mut port, pid) = machine.port_with_web();
    port.ok("subscribe", "#{credits => 1000}");
    let data = machine.dir.path().join("data");
    // Events are stored behind what they tell of, and read in their turn.
    port.ok("events", "<<\"web\">>");
    let shim = parent_of(pid).to_string();
    eventually("who has made the shim is gone", || children_of(port.pid()) == shim);
    let before = (files_below(&data), files_below(&machine.dir.path().join("run")));
    let other = machine.pod("web", "sleep 2000", "");
    let limited = machine.pod("web", "sleep 1000", ", limits => #{pids => 10}");
    let new = machine.pod("new", "sleep 1000", "");
    for (web, action, changes) in [
        (&other, "replace", "[<<\"containers[0].command\">>]"),
        (&limited, "adjust", "[<<\"containers[0].limits.pids\">>]"),
    ] {
        let plans = port.ok("plan", &format!("[{new}, {web}]"));
        let [create, planned] = plans.as_list().expect("a list") else { panic!("{plans}") };
        assert_eq!(create.get("action").and_then(Term::as_atom), Some("create"));
        assert_eq!(planned.get("action").and_then(Term::as_atom), Some(action));
        assert_eq!(planned.get("changes").map(Term::to_string).as_deref(), Some(changes));
    }
    // Whatever had been set going would have settled with this.
    port.ok("sync", "nil");
    let after = (files_below(&data), files_below(&machine.dir.path().join("run")));
    assert_eq!(before.0.keys().collect::<Vec<_>>(), after.0.keys().collect::<Vec<_>>());
    assert!(before == after, "a file is another than before");
    assert_eq!(children_of(port.pid()), shim, "its only child is the shim");
    assert_eq!(host_pid(&mut port, "web"), pid);
    assert_eq!(port.notices_heard(), []);
}

#[test]
fn an_await_after_an_apply_gives_the_process_of_that_spec() {
    let Some(machine) = Machine::new("an await") else { return };
    let (mut port, mut pid) = machine.port_with_web();
    for seconds in 2_000..2_005 {
        port.ok("apply", &machine.pod("web", &format!("exec sleep {seconds}"), ""));
        let running = "#{pod => <<\"web\">>, state => running, timeout_ms => 20000}";
        let statuses = port.ok("await", running);
        let status = statuses.get_term(&Term::binary("web")).expect("a status of the pod");
        let now = status.get("host_pid").and_then(Term::as_i64).expect("a pid");
        let command = fs::read_to_string(format!("/proc/{now}/cmdline")).expect("it lives");
        assert!(command.contains(&seconds.to_string()), "{command:?}");
        assert!(!is_alive(pid), "the process before it has ended");
        pid = i32::try_from(now).expect("a pid");
    }
    port.ok("delete", "<<\"web\">>");
    let gone = "#{pod => <<\"web\">>, state => gone, timeout_ms => 20000}";
    assert_eq!(port.ok("await", gone), Term::Map(Vec::new()));
    assert!(!is_alive(pid) && !machine.run_dir("web").exists());
}
