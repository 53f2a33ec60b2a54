//! `tank repl` with a script: what it prints, what it complains of, and how it
//! ends.

use std::io::{BufRead, BufReader, Read, Write};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::program::{Ended, run, spawn};
use crate::support::{eventually, is_root, rootfs};

const IDLE: [&str; 5] = ["repl", "--store", "memory", "--runtime", "none"];

const CLIENT: [&str; 5] = ["repl", "--store", "memory", "--runtime", "client"];

const WEB: &str =
    "%{name: \"web\", containers: [%{name: \"app\", image: {:rootfs, \"/srv/web\"}}]}";

fn idle(script: &str) -> Ended {
    run(&IDLE, script)
}

#[test]
fn results_are_printed_plainly_one_after_another() {
    let ended = idle(&format!(
        "# a comment\n% another\n\nlist\napply {WEB}\napply {WEB}\nlist # a third\nstatus\n\
         delete web\nsync\nlist\nexit\nno command\n"
    ));
    let expected = "\
no pods
web is applied, generation 1
web is unchanged, generation 1
POD  GENERATION  RESTART  CONTAINERS
web  1           always   app (/srv/web)
no pods
web is deleted
done
no pods
";
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), (expected, ""));
    assert_eq!(ended.code, Some(0));
}

#[test]
fn a_plan_says_what_would_be_done_and_nothing_is() {
    let ended = idle(&format!(
        "plan {WEB}\napply {WEB}\nplan {WEB}\n\
         plan [{WEB}, %{{name: \"db\", containers: [%{{name: \"app\", image: \"a\"}}]}}]\nlist\n"
    ));
    let expected = "\
POD  ACTION  CHANGES
web  create
web is applied, generation 1
POD  ACTION  CHANGES
web  none
POD  ACTION  CHANGES
web  none
db   create
POD  GENERATION  RESTART  CONTAINERS
web  1           always   app (/srv/web)
";
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), (expected, ""));
}

#[test]
fn an_await_says_how_the_pod_is_in_time_or_not() {
    let ended =
        idle(&format!("await web gone\nawait web running\napply {WEB}\nawait web running 1\n"));
    assert_eq!(ended.stdout, "web is gone\nweb is applied, generation 1\n");
    let expected = "\
tank repl: line 2: not_found: no pod web
  where: pod web
tank repl: line 4: timeout: pod web is not running: nothing of it has been started
  where: pod web
tank repl: 2 of 4 commands failed
";
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(1), expected));
}

#[test]
fn a_spec_goes_on_over_lines_in_the_syntax_of_the_moment() {
    let ended = idle(
        "apply %{\n  name: \"web\",\n  # why\n  containers: [%{name: \"app\",\n\
         image: \"nginx\"}]}\nget web\n\
         syntax erlang\napply #{name => <<\"db\">>, containers => [#{\n\
         name => <<\"app\">>, image => <<\"postgres\">>}]}\nget db\n",
    );
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""));
    assert!(ended.stdout.contains("web is applied"), "{}", ended.stdout);
    assert!(ended.stdout.contains("\n      image: \"nginx\",\n"), "{}", ended.stdout);
    assert!(ended.stdout.contains("db is applied"), "{}", ended.stdout);
    assert!(ended.stdout.contains("\n      image => <<\"postgres\">>,\n"), "{}", ended.stdout);
}

#[test]
fn what_is_wrong_is_told_by_line_and_the_script_goes_on() {
    let ended = idle(
        "apply %{name: \"web\", containers: []}\n\
         get api\n\
         explode\n\
         kill web\n\
         apply %{name: \"web\",\n containers: web}\n\
         apply @/nonexistent/web.exs\n\
         list\n\
         send {1, :list\n",
    );
    let expected = "\
tank repl: line 1: invalid_spec: containers: a pod has at least one container
  where: pod web, field containers
   rule: :no_containers
tank repl: line 2: not_found: no pod api
  where: pod api
tank repl: line 3: there is no command explode; help lists them
tank repl: line 4: usage: kill NAME RUN
tank repl: line 6: variable `web`, expected a term
 containers: web}
             ^
tank repl: line 7: read /nonexistent/web.exs: no such file or directory
tank repl: line 9: the term has no end
tank repl: 7 of 8 commands failed
";
    assert_eq!(ended.stderr, expected);
    assert_eq!((ended.code, &*ended.stdout), (Some(1), "no pods\n"));
}

#[test]
fn specs_are_read_from_files_in_the_syntax_that_their_names_say() {
    let dir = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("the directory is ours");
        path.display().to_string()
    };
    let elixir = write("web.exs", &format!("# a pod\n{WEB}\n"));
    let erlang = write(
        "db.config",
        "#{name => <<\"db\">>,\n  containers => [#{name => <<\"app\">>, image => <<\"a\">>}]}.\n",
    );
    let broken = write("broken.exs", "%{name:\n  )}\n");
    let ended = idle(&format!("apply @{elixir}\ncreate @{erlang}\napply @{broken}\n"));
    let expected = "web is applied, generation 1\ndb is applied, generation 2\n";
    assert_eq!(ended.stdout, expected);
    let place = format!("{broken}: line 2, column 3: `)`, expected a term\n  )}}\n  ^\n");
    assert!(ended.stderr.contains(&place), "{}", ended.stderr);
}

#[test]
fn any_frame_can_be_sent_and_its_answer_is_shown_as_it_is() {
    let ended =
        idle("send {7, :ping, [1, 2]}\nsend {0, :nudge, nil}\nsyntax erlang\nsend {9,ping,a}");
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""));
    assert_eq!(ended.stdout, "{7, {:ok, [1, 2]}}\n{9,{ok,a}}\n");
}

#[test]
fn the_last_id_can_be_used_and_one_beyond_is_not_waited_for() {
    let ended = idle(
        "send {9007199254740992, :list, nil}\nlist\nsend {9223372036854775807, :list, nil}\nlist\n",
    );
    assert!(ended.stdout.starts_with("{9007199254740992, {:ok, []}}\nno pods\nbad_args: "));
    assert!(ended.stdout.ends_with("\nno pods\n"), "{}", ended.stdout);
    assert_eq!(ended.code, Some(0));
}

#[test]
fn what_cannot_be_read_is_refused_and_not_waited_for() {
    let deep = format!("{}{}", "[".repeat(70), "]".repeat(70));
    let script =
        format!("apply %{{name: {deep}}}\nlist\nsend {{900, :ping, {deep}}}\nlist\nping\n");
    let ended = idle(&script);
    assert!(ended.stderr.contains("more than 64 levels"), "{}", ended.stderr);
    assert_eq!(ended.stdout.matches("no pods\n").count(), 2, "{}", ended.stdout);
    assert!(ended.stdout.contains("answered after"), "{}", ended.stdout);
}

#[test]
fn an_answer_that_comes_in_chunks_is_shown_whole() {
    let value = "v".repeat(300_000);
    let ended = idle(&format!(
        "apply %{{name: \"web\", containers: [%{{name: \"app\", image: \"a\", \
         env: %{{\"K\" => \"{value}\"}}}}]}}\nget web\n"
    ));
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""));
    assert!(ended.stdout.contains(&format!("\"{value}\"")));
}

#[test]
fn notices_are_shown_when_a_script_asks_for_them() {
    let mut child = spawn(&CLIENT);
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let mut lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
    let mut until = |expected: &str| {
        let found = lines.any(|line| line.expect("text").contains(expected));
        assert!(found, "{expected:?} is not seen");
    };
    write!(stdin, "notices on\napply {WEB}\n").expect("it reads");
    until("* the loop asks: {");
    writeln!(stdin, "send {{1, {{:ok, %{{host_pid: 42}}}}}}").expect("it reads");
    until("* web started: run 1, pid 42");
    until("* web is running");
    writeln!(stdin, "events web").expect("it reads");
    until("AGO");
    until("applied");
    until("started  1    1           0        pid 42");
    writeln!(stdin, "delete web").expect("it reads");
    until("* the loop asks: {2, :stop, {\"web\", 1}}");
    writeln!(stdin, "send {{2, {{:ok, nil}}}}").expect("it reads");
    until("* web is gone");
    write!(stdin, "notices off\napply {WEB}\nlist\n").expect("it reads");
    until("CONTAINERS");
    drop(stdin);
    assert_eq!(child.wait().expect("our child").code(), Some(0));
}

#[test]
fn a_port_program_that_does_not_start_says_why_and_gives_its_status() {
    let data = "/proc/no-such-directory";
    let ended = run(&["repl", "--runtime", "none", "--data-dir", data], "list\n");
    assert_eq!((ended.code, &*ended.stdout), (Some(4), ""));
    assert!(ended.stderr.contains(data), "{}", ended.stderr);
    let ended = run(&["repl", "--interval-ms", "0"], "list\n");
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("--interval-ms"), "{}", ended.stderr);
}

#[test]
fn a_port_program_that_dies_is_told_with_the_line_that_waited() {
    let mut child = spawn(&CLIENT);
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let mut lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
    // No pass settles while the start is not answered.
    write!(stdin, "apply {WEB}\nsync\n").expect("it reads");
    let applied = lines.find(|line| line.as_ref().expect("text").contains("web is applied"));
    assert!(applied.is_some());
    kill_process(only_child(child.id()), Signal::KILL).expect("it lives");
    assert_eq!(child.wait().expect("our child").code(), Some(6));
    let mut stderr = String::new();
    child.stderr.take().expect("stderr is piped").read_to_string(&mut stderr).expect("text");
    let expected = "tank repl: line 2: the port program has ended: killed by signal 9\n";
    assert_eq!(stderr, expected);
}

/// The one child of a process.
pub(crate) fn only_child(pid: u32) -> Pid {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let mut child = None;
    eventually("the port program is there", || {
        let children = std::fs::read_to_string(&path).expect("the kernel tells");
        child = children.trim().parse().ok().and_then(Pid::from_raw);
        child.is_some()
    });
    child.expect("the loop ends with one")
}

#[test]
fn shutdown_ends_the_script_and_the_port_program() {
    let ended = idle("shutdown\nshutdown stop\nlist\n");
    assert_eq!(ended.code, Some(1));
    let expected = "\
tank repl: line 1: usage: shutdown keep | stop
tank repl: 1 of 2 commands failed
";
    assert_eq!(ended.stderr, expected);
}

#[test]
fn a_script_runs_containers() {
    if !is_root("a script runs containers") {
        return;
    }
    let dir: TempDir = tempfile::tempdir().expect("a directory");
    let rootfs = rootfs(dir.path()).display().to_string();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (data, run_dir) = (path("data"), path("run"));
    let args = ["repl", "--data-dir", &data, "--run-dir", &run_dir, "--on-disconnect", "stop"];
    let pod = |name: &str, command: &str| {
        format!(
            "%{{name: \"{name}\", restart: :never, containers: [%{{name: \"app\", \
             image: {{:rootfs, \"{rootfs}\"}}, command: [{command}]}}]}}"
        )
    };
    let ended = run(
        &args,
        format!(
            "apply {}\napply {}\nsync\nstatus\nstatus bad\nstatus web\n",
            pod("web", "\"/bin/sleep\", \"1000\""),
            pod("bad", "\"/bin/nonexistent\"")
        ),
    );
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""), "{}", ended.stdout);
    for expected in [
        "\nweb  running ",
        "bad is terminal\n",
        "step exec, path /bin/nonexistent",
        "web is running\n",
    ] {
        assert!(ended.stdout.contains(expected), "{expected:?} is not in\n{}", ended.stdout);
    }
}
