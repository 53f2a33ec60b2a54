//! The table that a person reads.

use crate::figure::Figure;

/// One line: a measure of Tank's beside a peer's.
pub(crate) struct Row {
    measure: String,
    tank: Figure,
    peer: Option<(&'static str, Figure)>,
    goal: Option<Goal>,
}

/// What a row must not exceed.
enum Goal {
    Ratio(f64),
    Figure(Figure),
}

impl Row {
    /// A measure without a peer.
    pub(crate) fn alone(measure: impl Into<String>, tank: impl Into<Figure>) -> Self {
        Self { measure: measure.into(), tank: tank.into(), peer: None, goal: None }
    }

    /// A measure beside a peer's.
    pub(crate) fn beside(
        measure: impl Into<String>,
        tank: impl Into<Figure>,
        peer: &'static str,
        figure: impl Into<Figure>,
    ) -> Self {
        let peer = Some((peer, figure.into()));
        Self { measure: measure.into(), tank: tank.into(), peer, goal: None }
    }

    /// The same row with the ratio that it must not exceed.
    pub(crate) fn goal(self, goal: f64) -> Self {
        Self { goal: Some(Goal::Ratio(goal)), ..self }
    }

    /// The same row with what Tank's own figure must not exceed.
    pub(crate) fn at_most(self, figure: impl Into<Figure>) -> Self {
        Self { goal: Some(Goal::Figure(figure.into())), ..self }
    }

    /// Prints it.
    pub(crate) fn print(&self) {
        let ratio = self.peer.map(|(_, figure)| self.tank.over(figure));
        let peer =
            self.peer.map_or_else(|| "-".into(), |(name, figure)| format!("{name} {figure}"));
        let shown = ratio.map_or_else(|| "-".into(), |ratio| format!("{ratio:.3}"));
        let (goal, is_met) = match &self.goal {
            None => ("-".to_owned(), None),
            Some(Goal::Ratio(goal)) => (format!("<= {goal}"), ratio.map(|ratio| ratio <= *goal)),
            Some(Goal::Figure(goal)) => (format!("<= {goal}"), Some(self.tank.over(*goal) <= 1.0)),
        };
        let verdict = is_met.map_or("", |is_met| if is_met { "met" } else { "goal missed" });
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
    let line = format!("{measure:<50} {tank:>10}  {peer:>24} {ratio:>7}  {goal:>9}  {verdict}");
    println!("{}", line.trim_end());
}
