//! `tank` run as a person's shell would run it.

use std::io::Write;
use std::process::{Child, Command, Stdio};

/// What a program that has ended has said.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Starts `tank` between pipes.
pub(crate) fn spawn(args: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_tank"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program is built")
}

/// Runs `tank` on this input to its end.
pub(crate) fn run(args: &[&str], input: impl AsRef<[u8]>) -> Ended {
    let mut child = spawn(args);
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let input = input.as_ref();
    let output = std::thread::scope(|scope| {
        // It may end before it has read everything.
        scope.spawn(move || stdin.write_all(input));
        child.wait_with_output().expect("the program is our child")
    });
    let text = |bytes| String::from_utf8(bytes).expect("text");
    Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}
