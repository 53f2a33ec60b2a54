//! The durable record of a run's end: the shim's last words, in a file of the run
//! directory that is there as a whole or not at all, whatever dies at whatever moment.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::frame::FrameError;
use crate::protocol::FromShim;

/// The record's file in the run directory.
pub const EXIT_FILE: &str = "exit";

/// Where it is written before it gets its name.
const TEMPORARY_FILE: &str = "exit.new";

/// What of a directory the record needs; a seam for the crash test.
trait Directory {
    /// Makes or replaces a file, its bytes synced.
    fn write_synced(&mut self, name: &str, bytes: &[u8]) -> io::Result<()>;
    /// Renames over whatever is there.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;
    /// Makes names durable.
    fn sync(&mut self) -> io::Result<()>;
}

/// A directory of the file system.
struct OnDisk(PathBuf);

impl Directory for OnDisk {
    fn write_synced(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut file = File::create(self.0.join(name))?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.0.join(from), self.0.join(to))
    }

    fn sync(&mut self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }
}

/// Writes the record: `exited`, or `failed`. Durable when it returns.
///
/// # Errors
///
/// What the file system says; an older record is still whole then.
pub fn write(run_dir: &Path, last_words: &FromShim) -> io::Result<()> {
    write_to(&mut OnDisk(run_dir.to_owned()), last_words)
}

fn write_to(directory: &mut impl Directory, last_words: &FromShim) -> io::Result<()> {
    let term = erlang_term_format::to_vec(last_words).map_err(io::Error::other)?;
    directory.write_synced(TEMPORARY_FILE, &term)?;
    directory.rename(TEMPORARY_FILE, EXIT_FILE)?;
    directory.sync()
}

/// Reads the record, if there is one.
///
/// # Errors
///
/// What the file system says; `InvalidData` for a file that is no record.
pub fn read(run_dir: &Path) -> io::Result<Option<FromShim>> {
    match std::fs::read(run_dir.join(EXIT_FILE)) {
        Ok(term) => parse(&term).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn parse(term: &[u8]) -> io::Result<FromShim> {
    let malformed =
        |words: String| io::Error::new(io::ErrorKind::InvalidData, FrameError::Malformed(words));
    match erlang_term_format::from_slice(term) {
        Ok(words @ (FromShim::Exited(_) | FromShim::Failed(_))) => Ok(words),
        Ok(other) => Err(malformed(format!("{other:?} is no end"))),
        Err(error) => Err(malformed(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::protocol::{Exit, ExitRecord, Role};

    /// A directory that loses power before its nth operation: what was not
    /// synced by then is gone, or there in part, or under its new name already.
    #[derive(Clone, Default)]
    struct Crashing {
        operations_left: usize,
        durable: BTreeMap<String, Vec<u8>>,
        volatile: BTreeMap<String, Vec<u8>>,
    }

    impl Crashing {
        fn step(&mut self) -> io::Result<()> {
            self.operations_left =
                self.operations_left.checked_sub(1).ok_or_else(|| io::Error::other("crash"))?;
            Ok(())
        }

        /// Everything that may be on the disk after the crash.
        fn survivors(&self) -> [&BTreeMap<String, Vec<u8>>; 2] {
            [&self.durable, &self.volatile]
        }
    }

    impl Directory for Crashing {
        fn write_synced(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
            self.volatile.insert(name.to_owned(), bytes[..bytes.len() / 2].to_vec());
            self.step()?;
            self.volatile.insert(name.to_owned(), bytes.to_vec());
            self.durable.insert(name.to_owned(), bytes.to_vec());
            self.step()
        }

        fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
            self.step()?;
            let bytes = self.volatile.remove(from).ok_or(io::ErrorKind::NotFound)?;
            self.volatile.insert(to.to_owned(), bytes);
            Ok(())
        }

        fn sync(&mut self) -> io::Result<()> {
            self.step()?;
            self.durable = self.volatile.clone();
            Ok(())
        }
    }

    fn record(incarnation: u64) -> FromShim {
        FromShim::Exited(ExitRecord {
            pod: "web".into(),
            incarnation,
            container: "app".into(),
            role: Role::Main,
            is_alone: true,
            exit: Exit::Exited(3),
            is_asked: false,
            launched_at_ms: Some(9),
            ended_at_ms: 17,
        })
    }

    fn with_old_record(operations_left: usize) -> Crashing {
        let mut directory = Crashing { operations_left: usize::MAX, ..Crashing::default() };
        write_to(&mut directory, &record(1)).unwrap();
        directory.operations_left = operations_left;
        directory
    }

    #[test]
    fn a_crash_at_any_moment_leaves_a_whole_record() {
        for operations_left in 0..4 {
            let mut directory = with_old_record(operations_left);
            write_to(&mut directory, &record(2)).unwrap_err();
            for files in directory.survivors() {
                let found = parse(&files[EXIT_FILE]).unwrap();
                assert!(found == record(1) || found == record(2), "cut at {operations_left}");
            }
        }
    }

    #[test]
    fn a_written_record_is_durable() {
        let mut directory = with_old_record(4);
        write_to(&mut directory, &record(2)).unwrap();
        for files in directory.survivors() {
            assert_eq!(parse(&files[EXIT_FILE]).unwrap(), record(2));
        }
    }
}
