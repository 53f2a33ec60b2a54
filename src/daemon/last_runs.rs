//! Which run directory the pods of a data directory were last run in. Runs are found by
//! that directory alone: a program that was given another, by mistake or because the
//! environment that names it is another, would run each pod a second time. So it does
//! not start while any lives there. Knows nothing of runs but whether there is one.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::core::failure::{Code, Failure, Place};
use crate::runtime::container::has_live_runs;

/// The file in the data directory that has the run directory's path.
const FILE_NAME: &str = "run_dir";

/// Whether pods can be run there without running twice.
///
/// # Errors
/// `bad_option` while there are runs in another run directory.
pub(super) fn check(data_dir: &Path, run_dir: &Path) -> Result<(), Failure> {
    let Some(last) = last(data_dir) else { return Ok(()) };
    let is_same = fs::canonicalize(run_dir).is_ok_and(|run_dir| run_dir == last);
    if is_same || !has_live_runs(&last) {
        return Ok(());
    }
    let (data_dir, shown) = (data_dir.display(), last.display());
    let what = format!("--run-dir: pods of {data_dir} run in {shown}, and would run twice");
    let failure = Failure::new(Code::BadOption, what).at(Place::Option, "run-dir");
    Err(failure.at(Place::Path, shown).hint("start it with that --run-dir, or stop them first"))
}

/// Notes that they are run there from now on.
pub(super) fn note(data_dir: &Path, run_dir: &Path) {
    let noted = fs::canonicalize(run_dir).and_then(|run_dir| {
        if last(data_dir).as_ref() == Some(&run_dir) {
            return Ok(());
        }
        replace(&data_dir.join(FILE_NAME), &run_dir)
    });
    // Nothing depends on it but the next program's being told of a mistake.
    if let Err(error) = noted {
        tracing::warn!(%error, "where pods are run cannot be noted in the data directory");
    }
}

fn replace(path: &Path, run_dir: &Path) -> io::Result<()> {
    let draft = path.with_extension("new");
    fs::write(&draft, run_dir.as_os_str().as_bytes())?;
    fs::rename(draft, path)
}

fn last(data_dir: &Path) -> Option<PathBuf> {
    let path = fs::read(data_dir.join(FILE_NAME)).ok()?;
    Some(PathBuf::from(OsString::from_vec(path)))
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
}
