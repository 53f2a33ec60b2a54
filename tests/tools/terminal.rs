//! `tank repl` with a person at a terminal: keys go in, and what comes out is
//! what they would see.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::{Pid, Signal, kill_process};
use tank::daemon::lock::DirLock;

const IDLE: &str = "--store memory --runtime none";

const CLIENT: &str = "--store memory --runtime client";

const WEB: &str = "%{name: \"web\", containers: [%{name: \"app\", image: \"a\"}]}";

const ENTER: &str = "\r";
const TAB: &str = "\t";
const UP: &str = "\x1b[A";
const CTRL_C: &str = "\x03";
const CTRL_D: &str = "\x04";

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(20);

/// A terminal of its own, in which a repl runs.
struct Terminal {
    child: Child,
    keys: ChildStdin,
    seen: Arc<Seen>,
    /// How much of what was seen a test has looked at.
    looked_at: usize,
}

/// All that was written to the terminal.
#[derive(Default)]
struct Seen {
    bytes: Mutex<Vec<u8>>,
    more: Condvar,
}

impl Terminal {
    /// A repl with these options, its prompt there. What it leaves behind is
    /// below `home`.
    fn open(options: &str, home: &Path, colours: bool) -> Self {
        let mut terminal = Self::start(options, home, colours);
        terminal.sees("lists the commands");
        terminal.sees("tank> ");
        terminal
    }

    fn start(options: &str, home: &Path, colours: bool) -> Self {
        // What becomes of the terminal is asked of it afterwards, by a shell that a
        // Ctrl-C does not end.
        let line = format!(
            "trap : INT; stty rows 40 cols 150; '{}' repl {options}; echo status=$? $(stty -a | grep -o ' icanon')",
            env!("CARGO_BIN_EXE_tank")
        );
        let mut command = Command::new("script");
        command.args(["-qefc", &line, "/dev/null"]);
        command
            .current_dir(home)
            .env("TERM", "xterm")
            .env("SHELL", "/bin/sh")
            .env("HOME", home)
            .env_remove("XDG_STATE_HOME")
            .env_remove("TANK_LOG")
            .env_remove("TANK_TRACE");
        match colours {
            true => command.env_remove("NO_COLOR"),
            false => command.env("NO_COLOR", "1"),
        };
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script is part of every Debian");
        let keys = child.stdin.take().expect("stdin is piped");
        let mut stdout = child.stdout.take().expect("stdout is piped");
        let seen = Arc::new(Seen::default());
        let seeing = Arc::clone(&seen);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = stdout.read(&mut buffer) {
                seeing.bytes.lock().expect("nobody panicked").extend_from_slice(&buffer[..count]);
                seeing.more.notify_all();
            }
        });
        Self { child, keys, seen, looked_at: 0 }
    }

    fn types(&mut self, keys: &[&str]) {
        self.keys.write_all(keys.concat().as_bytes()).expect("the terminal is there");
    }

    /// Waits until this is seen, after all that was seen before. What comes
    /// before it is returned.
    fn sees(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut bytes = self.seen.bytes.lock().expect("nobody panicked");
        loop {
            let plain = without_escapes(&bytes);
            let unseen = plain.get(self.looked_at..).unwrap_or_default();
            if let Some(at) = unseen.find(text) {
                self.looked_at += at + text.len();
                return unseen[..at].to_owned();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{text:?} is not seen in {unseen:?}");
            bytes = self.seen.more.wait_timeout(bytes, left).expect("nobody panicked").0;
        }
    }

    /// Leaves by Ctrl-D, at the next prompt: in the moment before it the key would
    /// be the terminal's, and gone.
    fn leaves(&mut self) -> String {
        self.sees("tank> ");
        self.types(&[CTRL_D]);
        self.ends()
    }

    /// Waits for the repl's end; its exit status and whether lines are edited by
    /// the terminal again.
    fn ends(&mut self) -> String {
        self.sees("status=");
        self.sees("\n")
    }

    /// The port program, as the welcome names it.
    fn port_program(&self) -> Pid {
        let welcome = without_escapes(&self.seen.bytes.lock().expect("nobody panicked"));
        let pid = welcome.split("port program ").nth(1).and_then(|rest| rest.split('.').next());
        pid.and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw).expect("a pid")
    }

    fn has_seen(&self, bytes: &[u8]) -> bool {
        let seen = self.seen.bytes.lock().expect("nobody panicked");
        seen.windows(bytes.len()).any(|window| window == bytes)
    }
}

impl Drop for Terminal {
    /// Takes the terminal away from what a test has left in it.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process that does nothing for as long as this value lives.
struct HeldUp(Pid);

impl HeldUp {
    fn new(process: Pid) -> Self {
        kill_process(process, Signal::STOP).expect("it lives");
        Self(process)
    }
}

impl Drop for HeldUp {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::CONT);
    }
}

/// Text without sequences for the terminal; one that is cut is left out too.
fn without_escapes(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut plain = String::new();
    let mut characters = text.chars().peekable();
    while let Some(each) = characters.next() {
        match each {
            '\x1b' if characters.next_if_eq(&'[').is_some() => {
                characters.by_ref().find(|each| matches!(each, '@'..='~'));
            }
            '\x1b' | '\r' | '\x07' => {}
            each => plain.push(each),
        }
    }
    plain
}

/// Whether a process of this name has this path among its arguments.
fn is_running(name: &[&str], path: &Path) -> bool {
    let processes = std::fs::read_dir("/proc").expect("a directory").flatten();
    processes.into_iter().any(|process| {
        let line = std::fs::read_to_string(process.path().join("cmdline")).unwrap_or_default();
        let words: Vec<&str> = line.split('\0').collect();
        words.starts_with(name) && words.iter().any(|word| Path::new(word) == path)
    })
}

fn home() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

#[test]
fn commands_and_pods_are_completed_and_ctrl_d_leaves() {
    let home = home();
    let mut terminal = Terminal::open(IDLE, home.path(), false);
    terminal.types(&["app", TAB, WEB, ENTER]);
    terminal.sees("web is applied, generation 1");
    terminal.types(&["get w", TAB, ENTER]);
    terminal.sees("get web ");
    terminal.sees("restart: :always");
    terminal.types(&["st", TAB, ENTER]);
    terminal.sees("no pods");
    assert_eq!(terminal.leaves(), "0 icanon");
}

#[test]
fn what_happens_is_shown_above_the_line_that_is_being_typed() {
    let home = home();
    let options = format!("{CLIENT} --backoff-base-ms 300000");
    let mut terminal = Terminal::open(&options, home.path(), false);
    terminal.types(&["apply ", WEB, ENTER]);
    terminal.sees("the loop asks: {");
    // It hears of it once the next line is being typed.
    let held_up = HeldUp::new(terminal.port_program());
    terminal.types(&["send {1, {:error, %{message: \"no\"}}}", ENTER, "status we"]);
    terminal.sees("tank> status we");
    drop(held_up);
    terminal.sees("* web could not be started: run 1: runtime_failed: no");
    terminal.sees("* web is backing_off");
    terminal.sees("tank> status we");
    terminal.types(&["b", ENTER]);
    terminal.sees("web is backing_off\n");
    assert_eq!(terminal.leaves(), "0 icanon");
}

#[test]
fn lines_that_are_typed_ahead_are_all_carried_out() {
    let home = home();
    for pod in 0..60 {
        let spec = WEB.replace("web", &format!("p{pod}"));
        std::fs::write(home.path().join(format!("p{pod}")), spec).expect("the directory is ours");
    }
    let mut terminal = Terminal::open(CLIENT, home.path(), false);
    let keys: String = (0..60).map(|pod| format!("apply @p{pod}{ENTER}")).collect();
    terminal.types(&[&keys, "ping", ENTER]);
    terminal.sees("p59 is applied, generation 60");
    terminal.sees("answered after ");
    assert_eq!(terminal.leaves(), "0 icanon");
}

#[test]
fn ctrl_c_cancels_the_line_and_arrow_up_brings_lines_back() {
    let home = home();
    let mut terminal = Terminal::open(IDLE, home.path(), false);
    terminal.types(&["ping", ENTER]);
    terminal.sees("answered after ");
    terminal.sees("tank> ");
    terminal.types(&["delete everything", CTRL_C]);
    terminal.sees("delete everything");
    terminal.sees("tank> ");
    terminal.types(&["apply %{", ENTER, "name:", CTRL_C]);
    terminal.sees("name:");
    terminal.sees("tank> ");
    terminal.types(&[UP, ENTER]);
    terminal.sees("ping");
    terminal.sees("answered after ");
    terminal.types(&[" list", ENTER]);
    terminal.sees("no pods");
    assert_eq!(terminal.leaves(), "0 icanon");
    let history = home.path().join(".local/state/tank/repl_history");
    let kept = std::fs::read_to_string(&history).expect("lines are kept");
    assert!(kept.contains("ping") && !kept.contains("delete") && !kept.contains("list"), "{kept}");
    let mode = std::os::unix::fs::MetadataExt::mode(&history.metadata().expect("it is there"));
    assert_eq!(mode & 0o777, 0o600);
    let mut next = Terminal::open(IDLE, home.path(), false);
    next.types(&[UP, ENTER]);
    next.sees("answered after ");
    assert_eq!(next.leaves(), "0 icanon");
}

#[test]
fn ctrl_d_that_is_typed_while_a_command_is_carried_out_leaves_after_it() {
    let home = home();
    let mut terminal = Terminal::open(IDLE, home.path(), false);
    let spec = home.path().join("web");
    mknodat(CWD, &spec, FileType::Fifo, Mode::RWXU, 0).expect("the directory is ours");
    terminal.types(&["apply @web", ENTER]);
    // It can be opened once the repl reads it, and so reads no keys.
    let mut writer = File::options().write(true).open(&spec).expect("the repl reads it");
    terminal.types(&[CTRL_D, "x"]);
    terminal.sees("x");
    writer.write_all(WEB.as_bytes()).expect("the repl reads it");
    drop(writer);
    terminal.sees("web is applied");
    assert_eq!(terminal.ends(), "0 icanon");
}

#[test]
fn ctrl_c_ends_the_wait_for_an_answer_which_is_shown_when_it_comes() {
    let home = home();
    let mut terminal = Terminal::open(CLIENT, home.path(), false);
    terminal.types(&["apply ", WEB, ENTER]);
    terminal.sees("web is applied");
    terminal.sees("tank> ");
    terminal.types(&["sync", ENTER]);
    terminal.sees("sync\n");
    terminal.types(&[CTRL_C]);
    terminal.sees("not waiting any more");
    terminal.sees("tank> ");
    terminal.types(&["send {1, {:ok, %{host_pid: nil}}}", ENTER]);
    terminal.sees("sync is answered: nil");
    terminal.types(&["shutdown keep", ENTER]);
    assert_eq!(terminal.ends(), "0 icanon");
}

#[test]
fn ctrl_c_before_the_port_program_is_ready_ends_both() {
    let home = home();
    let data = home.path().join("data");
    let _held = DirLock::acquire(&data).expect("nobody else has it");
    let options = format!("--runtime none --lock-wait-ms 600000 --data-dir {}", data.display());
    let mut terminal = Terminal::start(&options, home.path(), false);
    terminal.sees("waiting for the port program to be ready; Ctrl-C leaves\n");
    terminal.types(&[CTRL_C]);
    assert_eq!(terminal.ends(), "130 icanon");
    assert!(!is_running(&["tank", "port"], &data), "the port program waits for the lock");
}

#[test]
fn the_end_of_the_port_program_ends_a_line_that_is_being_typed() {
    let home = home();
    let mut terminal = Terminal::open(IDLE, home.path(), false);
    terminal.types(&["send {1, :pi"]);
    terminal.sees("send {1, :pi");
    kill_process(terminal.port_program(), Signal::KILL).expect("it lives");
    terminal.sees("tank repl: the port program has ended: killed by signal 9\n");
    assert_eq!(terminal.ends(), "6 icanon");
}

#[test]
fn a_port_program_that_does_not_start_is_told_in_its_own_words() {
    let output = Command::new("script")
        .args([
            "-qec",
            concat!(env!("CARGO_BIN_EXE_tank"), " repl --data-dir /proc/none"),
            "/dev/null",
        ])
        .env("TERM", "xterm")
        .env("SHELL", "/bin/sh")
        .env_remove("TANK_LOG")
        .env_remove("TANK_TRACE")
        .stdin(Stdio::null())
        .output()
        .expect("script is part of every Debian");
    let text = String::from_utf8(output.stdout).expect("text");
    assert_eq!(output.status.code(), Some(4), "{text}");
    assert!(text.starts_with("tank: "), "{text}");
}

#[test]
fn there_are_colours_at_a_terminal_unless_they_are_not_wanted() {
    let home = home();
    for (colours, bold) in [(true, true), (false, false)] {
        let mut terminal = Terminal::open(IDLE, home.path(), colours);
        terminal.types(&["get api", ENTER]);
        terminal.sees("not_found:");
        assert_eq!(terminal.has_seen(b"\x1b[31mnot_found:"), bold);
        assert_eq!(terminal.has_seen(b"\x1b[1mtank> "), bold);
        assert_eq!(terminal.leaves(), "0 icanon");
    }
}
