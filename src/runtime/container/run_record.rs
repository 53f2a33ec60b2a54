//! What is on record of a run in its directory, for the program that comes next: what
//! it was made from, written before it is, and how it ended, where its shim cannot
//! tell. Decides nothing.
//!
//! A record is renamed into place, so that it is there as a whole or not at all when
//! this program is killed. It is not synced: a run does not outlive the machine that
//! it runs on, and its record need not.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use erlang_term_format::{Term, decode, encode, tuple};
use tank_shim::record::EXIT_FILE;

use crate::core::event::{EndCause, Ended, Incarnation, LastExit, Origin, Revision};
use crate::core::spec::PodSpec;
use crate::core::time::{Millis, Moment};
use crate::store::{exit_from_term, exit_to_term};

/// The file that says what a run was made from.
const RUN_FILE: &str = "run";

/// The file that says how it ended, unless its shim has said so.
const END_FILE: &str = "end";

/// The environment of a container is a secret.
const FILE_MODE: u32 = 0o600;

/// What a run was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RunRecord {
    /// The boot of the machine that it belongs to.
    pub(super) boot_id: String,
    pub(super) incarnation: Incarnation,
    pub(super) origin: Arc<Origin>,
    /// When it had been exec'd, once that is known.
    pub(super) started_at: Option<Millis>,
    /// Whether its limits are being changed: they may be those of the origin, or others.
    pub(super) is_adjusting: bool,
}

impl RunRecord {
    /// Writes it, over one of an earlier run.
    pub(super) fn write(&self, dir: &Path) -> io::Result<()> {
        let Origin { generation, spec, retries, last } = &*self.origin;
        let term = map([
            ("boot_id", self.boot_id.as_str().into()),
            ("incarnation", Term::from(self.incarnation.0)),
            ("generation", Term::from(generation.0)),
            ("retries", Term::from(*retries)),
            ("last", last.as_ref().map_or(Term::nil(), last_to_term)),
            ("started_at_ms", instant(self.started_at)),
            ("is_adjusting", Term::from(self.is_adjusting)),
            ("spec", spec.to_term()),
        ]);
        replace(dir, RUN_FILE, &term)
    }

    /// Reads it, if there is one.
    ///
    /// # Errors
    /// `InvalidData` for a file that is no record, else what the file system says.
    pub(super) fn read(dir: &Path) -> io::Result<Option<Self>> {
        read(dir, RUN_FILE, |term| {
            let number = |key: &str| term.get(key)?.as_u64();
            let spec = PodSpec::from_term(term.get("spec")?).ok()?;
            Some(Self {
                boot_id: term.get("boot_id")?.as_str()?.to_owned(),
                incarnation: Incarnation(number("incarnation")?),
                origin: Arc::new(Origin {
                    generation: Revision(number("generation")?),
                    spec: Arc::new(spec),
                    retries: u32::try_from(number("retries")?).ok()?,
                    last: term.get("last").and_then(last_from_term),
                }),
                started_at: number("started_at_ms").map(Millis),
                is_adjusting: term.get("is_adjusting").is_some_and(|term| term.is_atom("true")),
            })
        })
    }
}

/// `{Exit, At}` with `{boot, Ms}` or `{unix, Ms}` as the time, or none.
fn last_to_term(last: &LastExit) -> Term<'_> {
    let at = match last.at {
        Some(Moment::Boot(at)) => tuple![Term::atom("boot"), Term::from(at.0)],
        Some(Moment::Wall(at)) => tuple![Term::atom("unix"), Term::Integer(at)],
        None => Term::nil(),
    };
    tuple![exit_to_term(&last.exit), at]
}

fn last_from_term(term: &Term<'_>) -> Option<LastExit> {
    let [exit, at] = term.as_tuple()? else { return None };
    let at = at.as_tuple().and_then(|at| match at {
        [clock, at] if clock.is_atom("boot") => Some(Moment::Boot(Millis(at.as_u64()?))),
        [clock, at] if clock.is_atom("unix") => Some(Moment::Wall(at.as_i64()?)),
        _ => None,
    });
    Some(LastExit { exit: exit_from_term(exit)?, at })
}

/// Writes how a run ended.
pub(super) fn write_end(dir: &Path, incarnation: Incarnation, ended: &Ended) -> io::Result<()> {
    let cause = match ended.cause {
        EndCause::Itself => "itself",
        EndCause::Download => "download",
        EndCause::Request => "request",
    };
    let term = map([
        ("incarnation", Term::from(incarnation.0)),
        ("exit", exit_to_term(&ended.exit)),
        ("at_ms", instant(Some(ended.at))),
        ("cause", Term::atom(cause)),
    ]);
    replace(dir, END_FILE, &term)
}

/// Reads how this run ended, if that was written.
///
/// # Errors
/// As [`RunRecord::read`].
pub(super) fn read_end(dir: &Path, incarnation: Incarnation) -> io::Result<Option<Ended>> {
    let end = read(dir, END_FILE, |term| {
        let cause = match term.get("cause")?.as_atom()? {
            "itself" => EndCause::Itself,
            "download" => EndCause::Download,
            "request" => EndCause::Request,
            _ => return None,
        };
        let at = Millis(term.get("at_ms")?.as_u64()?);
        let ended = Ended { exit: exit_from_term(term.get("exit")?)?, at, cause };
        Some((Incarnation(term.get("incarnation")?.as_u64()?), ended))
    })?;
    Ok(end.filter(|(of, _)| *of == incarnation).map(|(_, ended)| ended))
}

/// Makes a run's directory nobody's, before all else in it is removed: a program that
/// is killed meanwhile must not leave a run without its end, which would look like one
/// whose shim was killed.
pub(super) fn disown(dir: &Path) -> io::Result<()> {
    match fs::remove_file(dir.join(RUN_FILE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes all of a run's directory but what is on record.
pub(super) fn remove_others(dir: &Path) -> io::Result<()> {
    remove_but(dir, &[RUN_FILE, END_FILE, EXIT_FILE])
}

/// Removes all of a run's directory but what the run was made from.
pub(super) fn remove_end_and_others(dir: &Path) -> io::Result<()> {
    remove_but(dir, &[RUN_FILE])
}

fn remove_but(dir: &Path, kept: &[&str]) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if kept.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        match entry.file_type()?.is_dir() {
            true => fs::remove_dir_all(entry.path())?,
            false => fs::remove_file(entry.path())?,
        }
    }
    Ok(())
}

fn replace(dir: &Path, name: &str, term: &Term<'_>) -> io::Result<()> {
    let draft = dir.join(format!("{name}.new"));
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(FILE_MODE);
    options.open(&draft)?.write_all(&encode(term))?;
    fs::rename(draft, dir.join(name))
}

fn read<T>(
    dir: &Path,
    name: &str,
    parse: impl FnOnce(&Term<'_>) -> Option<T>,
) -> io::Result<Option<T>> {
    let bytes = match fs::read(dir.join(name)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let record = decode(&bytes).ok().and_then(|term| parse(&term));
    let invalid = || io::Error::new(io::ErrorKind::InvalidData, format!("{name} is no record"));
    record.map(Some).ok_or_else(invalid)
}

fn instant(at: Option<Millis>) -> Term<'static> {
    at.map_or_else(Term::nil, |at| Term::from(at.0))
}

fn map<'a, const N: usize>(entries: [(&'static str, Term<'a>); N]) -> Term<'a> {
    Term::Map(entries.into_iter().map(|(key, value)| (Term::atom(key), value)).collect())
}

#[cfg(test)]
mod tests {
    use erlang_term_format::text;

    use super::*;
    use crate::core::failure::{Code, Failure};
    use crate::core::spec::Name;
    use crate::core::status::Exit;

    fn record() -> RunRecord {
        let spec = "#{name => <<\"web\">>, containers => [#{name => <<\"app\">>,
                    image => {rootfs, <<\"/r\">>}, env => #{<<\"K\">> => <<\"secret\">>}}]}";
        let spec = PodSpec::from_term(&text::parse(spec).unwrap()).unwrap();
        let (generation, spec) = (Revision(3), Arc::new(spec));
        RunRecord {
            boot_id: "boot".into(),
            incarnation: Incarnation(7),
            origin: Arc::new(Origin { generation, spec, retries: 2, last: None }),
            started_at: None,
            is_adjusting: false,
        }
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(RunRecord::read(dir.path()).unwrap(), None);
        for (started_at, is_adjusting) in [(None, false), (Some(Millis(9)), true)] {
            let record = RunRecord { started_at, is_adjusting, ..record() };
            record.write(dir.path()).unwrap();
            assert_eq!(RunRecord::read(dir.path()).unwrap(), Some(record));
        }
        for at in [None, Some(Moment::Boot(Millis(9))), Some(Moment::Wall(-9))] {
            let last = Some(LastExit { exit: Exit::Signaled(9), at });
            let RunRecord { origin, .. } = record();
            let origin = Arc::new(Origin { last, ..Origin::clone(&origin) });
            let record = RunRecord { origin, ..record() };
            record.write(dir.path()).unwrap();
            assert_eq!(RunRecord::read(dir.path()).unwrap(), Some(record));
        }
    }

    #[test]
    fn an_end_is_of_one_run() {
        let dir = tempfile::tempdir().unwrap();
        let failed = Exit::Failed(Failure::new(Code::StartFailed, "no luck"));
        let in_container =
            Exit::InContainer(Name::new("app").unwrap(), Box::new(Exit::OutOfMemory));
        for exit in [Exit::Exited(3), Exit::Signaled(9), failed, in_container] {
            for cause in [EndCause::Itself, EndCause::Download, EndCause::Request] {
                let ended = Ended { exit: exit.clone(), at: Millis(5), cause };
                write_end(dir.path(), Incarnation(7), &ended).unwrap();
                assert_eq!(read_end(dir.path(), Incarnation(7)).unwrap(), Some(ended));
                assert_eq!(read_end(dir.path(), Incarnation(8)).unwrap(), None);
            }
        }
    }

    #[test]
    fn a_file_that_is_no_record_is_told_from_none() {
        let dir = tempfile::tempdir().unwrap();
        record().write(dir.path()).unwrap();
        let whole = fs::read(dir.path().join(RUN_FILE)).unwrap();
        for length in 0..whole.len() {
            fs::write(dir.path().join(RUN_FILE), &whole[..length]).unwrap();
            let error = RunRecord::read(dir.path()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{length} bytes");
        }
    }

    #[test]
    fn what_is_not_on_record_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        record().write(dir.path()).unwrap();
        write_end(dir.path(), Incarnation(7), &Ended::new(Exit::Exited(0), Millis(1))).unwrap();
        fs::create_dir_all(dir.path().join("containers/app")).unwrap();
        fs::write(dir.path().join("containers/app/file"), "").unwrap();
        fs::write(dir.path().join("run.new"), "").unwrap();
        let names = || {
            let entries = fs::read_dir(dir.path()).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        remove_others(dir.path()).unwrap();
        assert_eq!(names(), ["end", "run"]);
        remove_end_and_others(dir.path()).unwrap();
        assert_eq!(names(), ["run"]);
    }

    #[test]
    fn a_directory_that_is_being_removed_is_of_no_run_while_there_is_an_end_in_it() {
        let dir = tempfile::tempdir().unwrap();
        record().write(dir.path()).unwrap();
        let ended = Ended::new(Exit::Exited(0), Millis(1));
        write_end(dir.path(), Incarnation(7), &ended).unwrap();
        for _ in 0..2 {
            disown(dir.path()).unwrap();
            assert_eq!(RunRecord::read(dir.path()).unwrap(), None);
            assert_eq!(read_end(dir.path(), Incarnation(7)).unwrap(), Some(ended.clone()));
        }
    }

    #[test]
    fn a_record_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        record().write(dir.path()).unwrap();
        let mode = fs::metadata(dir.path().join(RUN_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
