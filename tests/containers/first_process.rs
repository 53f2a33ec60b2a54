//! What a spec may put before, beside and behind a command: an init, a
//! `pre_stop`, a terminal.

use super::*;

fn is_ready(machine: &Machine) {
    eventually("it is ready", || machine.logged("web").contains("ready"));
}

fn stopped(port: &mut Port, pod: &str) -> String {
    // So that its end is still told: a restart keeps it.
    port.ok("restart", &format!("<<\"{pod}\">>"));
    port.ok("sync", "nil");
    status(port, pod).get("last_exit").expect("an exit").to_string()
}

#[test]
fn an_init_lets_a_command_hear_its_signal_and_reaps_what_it_leaves() {
    let Some(machine) = Machine::new("init") else { return };
    let mut port = machine.port();
    port.ok("apply", &machine.pod("web", "echo ready; exec sleep 1000", ", init => true"));
    port.ok("sync", "nil");
    is_ready(&machine);
    assert_eq!(stopped(&mut port, "web"), "{exited,143}");
}

#[test]
fn a_pre_stop_comes_before_the_signal_and_can_be_changed_in_place() {
    let Some(machine) = Machine::new("pre_stop") else { return };
    let mut port = machine.port();
    let script = "trap 'exit $(cat /code)' TERM; echo ready; sleep 1000 & wait";
    let pre_stop = |code: u8| {
        format!(", pre_stop => [<<\"/bin/sh\">>, <<\"-c\">>, <<\"echo {code} > /code\">>]")
    };
    port.ok("apply", &machine.pod("web", script, &pre_stop(5)));
    port.ok("sync", "nil");
    is_ready(&machine);
    let pid = host_pid(&mut port, "web");
    port.ok("apply", &machine.pod("web", script, &pre_stop(6)));
    port.ok("sync", "nil");
    assert_eq!(host_pid(&mut port, "web"), pid);
    assert_eq!(stopped(&mut port, "web"), "{exited,6}");
}

#[test]
fn a_terminal_is_one_and_its_output_is_logged() {
    let Some(machine) = Machine::new("terminal") else { return };
    let mut port = machine.port();
    let script = "[ -t 0 ] && [ -t 1 ] && tty && echo $TERM ready > /dev/console; sleep 1000";
    port.ok("apply", &machine.pod("web", script, ", tty => true"));
    port.ok("sync", "nil");
    is_ready(&machine);
    assert!(machine.logged("web").contains("/dev/pts/0"));
    assert!(machine.logged("web").contains("xterm ready"));
}
