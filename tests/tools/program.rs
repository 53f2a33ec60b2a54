//! `tank` run as a person's shell would run it.

use std::io::Write;
use std::process::{Child, Command, Stdio};

/// What a program that has ended has said.
pub(crate) struct Ended<Text = String> {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Text,
    pub(crate) stderr: String,
}

/// Starts `tank` between pipes. It says no more on stderr than it does unasked.
pub(crate) fn spawn(args: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_tank"))
        .args(args)
        .env_remove("TANK_LOG")
        .env_remove("TANK_TRACE")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program is built")
}

/// Runs `tank` on this input to its end.
pub(crate) fn run(args: &[&str], input: impl AsRef<[u8]>) -> Ended {
    let Ended { code, stdout, stderr } = run_bytes(args, input);
    Ended { code, stdout: String::from_utf8(stdout).expect("text"), stderr }
}

/// As [`run`], of a program that does not write text.
pub(crate) fn run_bytes(args: &[&str], input: impl AsRef<[u8]>) -> Ended<Vec<u8>> {
    let mut child = spawn(args);
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let input = input.as_ref();
    let output = std::thread::scope(|scope| {
        // It may end before it has read everything.
        scope.spawn(move || stdin.write_all(input));
        child.wait_with_output().expect("the program is our child")
    });
    Ended {
        code: output.status.code(),
        stdout: output.stdout,
        stderr: String::from_utf8(output.stderr).expect("text"),
    }
}
