//! Plays a case file: reads each line, lets it happen, writes down what the
//! core says to it.

use tank::core::event::Event;

use super::world::World;
use crate::text;

/// The file as it reads when its scenarios are played.
pub(crate) fn play(written: &str) -> String {
    let mut played = String::new();
    let mut stage = Stage::new();
    for (index, line) in written.lines().enumerate() {
        if line.trim_start().starts_with('<') {
            continue;
        }
        played.push_str(line);
        played.push('\n');
        let said = stage.step(line.trim(), index + 1);
        for line in said {
            played.push_str(&format!("  < {line}\n"));
        }
    }
    played
}

/// One scenario being played.
struct Stage {
    options: Vec<String>,
    world: Option<World>,
}

impl Stage {
    fn new() -> Self {
        Self { options: Vec::new(), world: None }
    }

    fn step(&mut self, line: &str, number: usize) -> Vec<String> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "" | "#" => return Vec::new(),
            "==" => {
                *self = Self::new();
                return Vec::new();
            }
            "given" => {
                assert!(self.world.is_none(), "line {number}: too late for an option");
                self.options.extend(rest.split_whitespace().map(String::from));
                return Vec::new();
            }
            _ => {}
        }
        let world = self.world.get_or_insert_with(|| World::new(&self.options));
        match word {
            "have" => world.have(rest),
            "wait" => world.wait(text::millis(rest)),
            ">" => world.request(rest),
            "*" => match rest {
                "nudged" => world.tell(Event::Nudged),
                _ => world.happen(rest),
            },
            _ => panic!("line {number}: cannot read {line:?}"),
        }
        world.take_said()
    }
}
