//! The table that a person reads.

use crate::sample::Time;

/// One line: a measure of Tank's beside a peer's.
pub(crate) struct Row {
    measure: String,
    tank: Time,
    peer: Option<(&'static str, Time)>,
    goal: Option<f64>,
}

impl Row {
    /// A measure without a peer.
    pub(crate) fn alone(measure: impl Into<String>, tank: Time) -> Self {
        Self { measure: measure.into(), tank, peer: None, goal: None }
    }

    /// A measure beside a peer's.
    pub(crate) fn beside(
        measure: impl Into<String>,
        tank: Time,
        peer: &'static str,
        time: Time,
    ) -> Self {
        Self { measure: measure.into(), tank, peer: Some((peer, time)), goal: None }
    }

    /// The same row with the ratio that it must not exceed.
    pub(crate) fn goal(self, goal: f64) -> Self {
        Self { goal: Some(goal), ..self }
    }

    /// Prints it.
    pub(crate) fn print(&self) {
        let ratio = self.peer.map(|(_, time)| self.tank.over(time));
        let peer = self.peer.map_or_else(|| "-".into(), |(name, time)| format!("{name} {time}"));
        let shown = ratio.map_or_else(|| "-".into(), |ratio| format!("{ratio:.3}"));
        let goal = self.goal.map_or_else(|| "-".into(), |goal| format!("<= {goal}"));
        let verdict = match (ratio, self.goal) {
            (Some(ratio), Some(goal)) if ratio <= goal => "met",
            (Some(_), Some(_)) => "goal missed",
            _ => "",
        };
        print_line(&self.measure, &self.tank.to_string(), &peer, &shown, &goal, verdict);
    }
}

/// Prints the machine and the table's head.
pub(crate) fn print_head() {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let uname = rustix::system::uname();
    println!("{cpus} CPUs, kernel {}\n", uname.release().to_string_lossy());
    print_line("measure", "Tank", "peer", "ratio", "goal", "");
}

fn print_line(measure: &str, tank: &str, peer: &str, ratio: &str, goal: &str, verdict: &str) {
    let line = format!("{measure:<50} {tank:>10}  {peer:>24} {ratio:>7}  {goal:>7}  {verdict}");
    println!("{}", line.trim_end());
}
