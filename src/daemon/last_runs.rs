//! Which run directory the pods of a data directory were last run in, and of which data
//! directory those in a run directory are. Runs are found by that directory alone: a
//! program that was given another, by mistake or because the environment that names it
//! is another, would run each pod a second time; and one that was given another's would
//! end what is not its own. So it does not start while any lives there. Knows nothing of
//! runs but whether there is one.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::core::failure::{Code, Failure, Place};
use crate::runtime::container::has_live_runs;

/// The file in the data directory that has the run directory's path.
const RUN_DIR_FILE: &str = "run_dir";

/// The file in the run directory that has the data directory's path.
const DATA_DIR_FILE: &str = "data_dir";

/// Whether pods can be run there without running twice, and without ending others.
///
/// # Errors
/// `bad_option` while there are runs in another run directory, or of another data
/// directory in this one.
pub(super) fn check(data_dir: &Path, run_dir: &Path) -> Result<(), Failure> {
    if let Some(last) = read(&data_dir.join(RUN_DIR_FILE))
        && !is_at(&last, run_dir)
        && has_live_runs(&last)
    {
        let (data_dir, shown) = (data_dir.display(), last.display());
        let what = format!("--run-dir: pods of {data_dir} run in {shown}, and would run twice");
        let failure = Failure::new(Code::BadOption, what).at(Place::Option, "run-dir");
        let hint = "start it with that --run-dir, or stop them first";
        return Err(failure.at(Place::Path, shown).hint(hint));
    }
    if let Some(theirs) = read(&run_dir.join(DATA_DIR_FILE))
        && !is_at(&theirs, data_dir)
        && (theirs.exists() || !has_been_moved(data_dir, run_dir))
        && has_live_runs(run_dir)
    {
        let (run_dir, shown) = (run_dir.display(), theirs.display());
        let what = format!("--run-dir: pods of {shown} run in {run_dir}, and would be ended");
        let failure = Failure::new(Code::BadOption, what).at(Place::Option, "run-dir");
        let hint = "give each data directory a run directory of its own";
        return Err(failure.at(Place::Path, shown).hint(hint));
    }
    Ok(())
}

/// Notes that they are run there from now on.
pub(super) fn note(data_dir: &Path, run_dir: &Path) {
    let noted = note_path(&data_dir.join(RUN_DIR_FILE), run_dir)
        .and_then(|()| note_path(&run_dir.join(DATA_DIR_FILE), data_dir));
    // Nothing depends on it but the next program's being told of a mistake.
    if let Err(error) = noted {
        tracing::warn!(%error, "it cannot be noted where the pods of which directory are run");
    }
}

/// Removes the note from a run directory, unless it has anything else than files.
pub(super) fn forget(run_dir: &Path) {
    let mut entries = fs::read_dir(run_dir).into_iter().flatten().flatten();
    let is_in_use = entries.any(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    if !is_in_use {
        let _ = fs::remove_file(run_dir.join(DATA_DIR_FILE));
    }
}

fn note_path(file: &Path, dir: &Path) -> io::Result<()> {
    let dir = fs::canonicalize(dir)?;
    if read(file).as_ref() == Some(&dir) {
        return Ok(());
    }
    let draft = file.with_extension("new");
    fs::write(&draft, dir.as_os_str().as_bytes())?;
    fs::rename(draft, file)
}

fn read(file: &Path) -> Option<PathBuf> {
    Some(PathBuf::from(OsString::from_vec(fs::read(file).ok()?)))
}

/// Whether a data directory that was used with this run directory by another name is this one.
fn has_been_moved(data_dir: &Path, run_dir: &Path) -> bool {
    read(&data_dir.join(RUN_DIR_FILE)).is_some_and(|noted| is_at(&noted, run_dir))
}

/// Whether a directory is the one that was noted.
fn is_at(noted: &Path, dir: &Path) -> bool {
    fs::canonicalize(dir).is_ok_and(|dir| dir == noted)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use rustix::fs::{FlockOperation, flock};

    use super::*;

    #[test]
    fn another_run_directory_is_refused_while_pods_run_in_the_last_one() {
        let scratch = tempfile::tempdir().unwrap();
        let [data, first, second] = ["data", "first", "second"].map(|dir| scratch.path().join(dir));
        for dir in [&data, &first.join("pods/web"), &second] {
            fs::create_dir_all(dir).unwrap();
        }
        check(&data, &first).unwrap();
        note(&data, &first);
        check(&data, &second).unwrap();

        let shim = File::open(first.join("pods/web")).unwrap();
        flock(&shim, FlockOperation::LockExclusive).unwrap();
        check(&data, &first).unwrap();
        let refused = check(&data, &second).unwrap_err();
        assert_eq!(refused.code, Code::BadOption);
        assert!(refused.message.contains("first, and would run twice"), "{}", refused.message);
        assert!(check(&data, &scratch.path().join("none")).is_err(), "one that is not there yet");

        drop(shim);
        check(&data, &second).unwrap();
        note(&data, &second);
        check(&data, &first).unwrap();
    }

    #[test]
    fn the_run_directory_of_another_data_directory_is_refused_while_pods_run_there() {
        let scratch = tempfile::tempdir().unwrap();
        let [data, other, run] = ["data", "other", "run"].map(|dir| scratch.path().join(dir));
        for dir in [&data, &other, &run.join("pods/web")] {
            fs::create_dir_all(dir).unwrap();
        }
        note(&data, &run);
        check(&other, &run).unwrap();

        let shim = File::open(run.join("pods/web")).unwrap();
        flock(&shim, FlockOperation::LockExclusive).unwrap();
        check(&data, &run).unwrap();
        let refused = check(&other, &run).unwrap_err();
        assert_eq!(refused.code, Code::BadOption);
        assert!(refused.message.contains("run, and would be ended"), "{}", refused.message);
        assert!(refused.at.contains(&(Place::Path, data.display().to_string())));

        fs::rename(&data, scratch.path().join("moved")).unwrap();
        check(&other, &run).unwrap_err();
        check(&scratch.path().join("moved"), &run).unwrap();
    }

    #[test]
    fn a_note_goes_with_the_last_run() {
        let scratch = tempfile::tempdir().unwrap();
        let [data, run] = ["data", "run"].map(|dir| scratch.path().join(dir));
        for dir in [&data, &run.join("pods")] {
            fs::create_dir_all(dir).unwrap();
        }
        note(&data, &run);
        forget(&run);
        assert!(run.join(DATA_DIR_FILE).exists());
        fs::remove_dir(run.join("pods")).unwrap();
        forget(&run);
        assert!(!run.join(DATA_DIR_FILE).exists());
    }
}
