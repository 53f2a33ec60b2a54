//! Which users of the host's are a pod's own: a range of ids for each run that has
//! some, which no other run of this program has. Never makes a user: the ids are
//! numbers that nobody else uses.
//!
//! Files that outlive a run are not owned by its range: those of an image and of
//! volumes have the numbers of the inside on the disk. So any range will do, and
//! what is noted of one, in the run's directory, is gone with the run.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use tank_shim::protocol::UserNamespace;

use crate::core::spec::Name;

use super::{cgroup, run_dir};

/// How many ids a range has: as many as a pod's programs expect there to be.
pub(super) const COUNT: u32 = 1 << 16;

/// The first id of all ranges, and the first behind them: systemd's table of ids
/// (<https://systemd.io/UIDS-GIDS>) leaves to nobody what is in between.
const IDS: std::ops::Range<u32> = 0x7000_0000..0x7FFE_0000;

/// How many ranges there are.
const SLOTS: u32 = (IDS.end - IDS.start) / COUNT;

/// The file in a run's directory that has the first id of its range.
const FILE: &str = "users";

/// The ranges of the runs that have one.
#[derive(Debug)]
pub(super) struct Ranges {
    slots: RefCell<BTreeMap<Name, u32>>,
    /// Where to look for a free one: behind the one that was given last, so that
    /// none is soon given again.
    next: Cell<u32>,
}

impl Ranges {
    /// Those that runs of earlier programs have noted. Programs begin at different
    /// ones, that those of one machine hardly ever share any.
    pub(super) fn load(dir: &Path) -> Self {
        let pods = fs::read_dir(run_dir::pods(dir)).into_iter().flatten().flatten();
        let slot = |entry: fs::DirEntry| {
            let name = entry.file_name().to_str().and_then(Name::new)?;
            Some((name, slot_of(&fs::read_to_string(entry.path().join(FILE)).ok()?)?))
        };
        let slots = pods.filter_map(slot).collect();
        Self { slots: RefCell::new(slots), next: Cell::new(cgroup::hash_of(dir) % SLOTS) }
    }

    /// A pod's range, from here until it is released; `None` when all are taken.
    pub(super) fn take(&self, pod: &Name) -> Option<UserNamespace> {
        let mut slots = self.slots.borrow_mut();
        let slot = match slots.get(pod) {
            Some(slot) => *slot,
            None => self.free(&slots)?,
        };
        slots.insert(pod.clone(), slot);
        self.next.set((slot + 1) % SLOTS);
        Some(UserNamespace { first_id: first_id(slot), count: COUNT })
    }

    fn free(&self, slots: &BTreeMap<Name, u32>) -> Option<u32> {
        let mut taken = vec![false; SLOTS as usize];
        slots.values().for_each(|slot| taken[*slot as usize] = true);
        let next = self.next.get();
        (next..SLOTS).chain(0..next).find(|slot| !taken[*slot as usize])
    }

    /// Notes a pod's range, if it has one, in its run's directory.
    pub(super) fn note(&self, pod: &Name, dir: &Path) -> io::Result<()> {
        match self.slots.borrow().get(pod) {
            Some(slot) => fs::write(dir.join(FILE), format!("{}\n", first_id(*slot))),
            None => Ok(()),
        }
    }

    /// Another may have it.
    pub(super) fn release(&self, pod: &Name) {
        self.slots.borrow_mut().remove(pod);
    }
}

fn first_id(slot: u32) -> u32 {
    IDS.start + slot * COUNT
}

fn slot_of(text: &str) -> Option<u32> {
    let first_id = text.trim_end().parse().ok().filter(|first_id| IDS.contains(first_id))?;
    Some((first_id - IDS.start) / COUNT)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn name(number: u32) -> Name {
        Name::new(&format!("p{number}")).expect("a name")
    }

    fn first_ids(ranges: &Ranges, pods: std::ops::Range<u32>) -> BTreeSet<u32> {
        pods.map(|pod| ranges.take(&name(pod)).expect("a range").first_id).collect()
    }

    #[test]
    fn four_thousand_pods_have_ranges_of_their_own() {
        let dir = tempfile::tempdir().expect("a directory");
        let ranges = Ranges::load(dir.path());
        let first_ids = first_ids(&ranges, 0..SLOTS);
        const { assert!(SLOTS > 4_000) };
        assert_eq!(first_ids.len(), SLOTS as usize);
        assert!(first_ids.iter().all(|first_id| first_id.is_multiple_of(COUNT)));
        assert_eq!(first_ids.first(), Some(&0x7000_0000));
        assert_eq!(first_ids.last(), Some(&0x7FFD_0000));
        assert_eq!(ranges.take(&name(SLOTS)), None);
        let free = ranges.take(&name(7));
        ranges.release(&name(7));
        assert_eq!(ranges.take(&name(SLOTS)), free);
    }

    #[test]
    fn a_range_is_kept_until_it_is_released_and_then_not_soon_given_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let ranges = Ranges::load(dir.path());
        let first = ranges.take(&name(1));
        assert_eq!(ranges.take(&name(1)), first);
        ranges.release(&name(1));
        assert_ne!(ranges.take(&name(1)), first);
    }

    #[test]
    fn what_runs_of_an_earlier_program_have_is_not_given() {
        let dir = tempfile::tempdir().expect("a directory");
        let earlier = Ranges::load(dir.path());
        for number in 0..3 {
            let run = run_dir::of_pod(dir.path(), name(number).as_str());
            fs::create_dir_all(&run).expect("ours");
            if number < 2 {
                earlier.take(&name(number)).expect("a range");
            }
            earlier.note(&name(number), &run).expect("ours");
        }
        let taken = first_ids(&earlier, 0..2);
        let ranges = Ranges::load(dir.path());
        assert!(first_ids(&ranges, 3..SLOTS).is_disjoint(&taken));
        assert_eq!(first_ids(&ranges, 0..2), taken);
    }

    #[test]
    fn what_is_no_range_is_none() {
        for text in ["", "x", "0", "65536", "1879048191", "2147352576", "99999999999"] {
            assert_eq!(slot_of(text), None, "{text}");
        }
        assert_eq!(slot_of("1879113728\n"), Some(1));
    }
}
