//! The state file: where it is, who may read it, and that it is still there
//! after a power loss.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use redb::StorageBackend;
use redb::backends::FileBackend;

/// Environment variables in specs are secrets.
const FILE_MODE: u32 = 0o600;
const DIR_MODE: u32 = 0o700;

/// What a durable store is kept on.
pub trait Medium: Send {
    /// What the database reads and writes.
    type Backend: StorageBackend;

    /// What is there; `None` when there is nothing yet.
    ///
    /// # Errors
    /// The system's.
    fn open(&self) -> io::Result<Option<Self::Backend>>;

    /// Something empty to make a new store in. What an interrupted attempt left
    /// behind is gone.
    ///
    /// # Errors
    /// The system's.
    fn draft(&self) -> io::Result<Self::Backend>;

    /// Makes the draft what `open` finds, durably and at once.
    ///
    /// # Errors
    /// The system's.
    fn publish(&self) -> io::Result<()>;

    /// Notes that what is published next may lack what was there before. It need outlive no
    /// more than this program: a run does not outlive the machine's power either.
    ///
    /// # Errors
    /// The system's.
    fn note_incomplete(&self) -> io::Result<()> {
        Ok(())
    }

    /// Whether that was noted, and not taken back since.
    fn is_incomplete(&self) -> bool {
        false
    }

    /// Takes it back.
    ///
    /// # Errors
    /// The system's.
    fn note_whole(&self) -> io::Result<()> {
        Ok(())
    }

    /// Keeps what `open` finds under a name of its own, durably, and says which.
    /// It stays what `open` finds until a draft is published.
    ///
    /// # Errors
    /// The system's.
    fn set_aside(&self) -> io::Result<PathBuf>;

    /// The path that errors name.
    fn path(&self) -> &Path;
}

/// `state.redb` in the data directory. Whoever opens it holds the lock of the
/// directory, if there may be others.
#[derive(Debug, Clone)]
pub struct StateFile {
    path: PathBuf,
    /// redb makes a new file in several steps. A power loss between them leaves
    /// something that is no database, so they are done under another name.
    draft: PathBuf,
    /// Is there while pods may be missing that were never asked to go.
    incomplete: PathBuf,
}

impl StateFile {
    /// The state file of a data directory.
    #[must_use]
    pub fn in_dir(data_dir: &Path) -> Self {
        let [path, draft, incomplete] =
            ["state.redb", "state.redb.new", "state.redb.incomplete"].map(|n| data_dir.join(n));
        Self { path, draft, incomplete }
    }
}

impl Medium for StateFile {
    type Backend = FileBackend;

    fn open(&self) -> io::Result<Option<FileBackend>> {
        let file = match options().open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        if file.metadata()?.permissions().mode() & 0o777 != FILE_MODE {
            file.set_permissions(Permissions::from_mode(FILE_MODE))?;
        }
        backend(file).map(Some)
    }

    fn draft(&self) -> io::Result<FileBackend> {
        create_dir_durably(parent(&self.path))?;
        match fs::remove_file(&self.draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        backend(options().create_new(true).open(&self.draft)?)
    }

    fn publish(&self) -> io::Result<()> {
        File::open(&self.draft)?.sync_all()?;
        fs::rename(&self.draft, &self.path)?;
        sync_dir(parent(&self.path))
    }

    fn note_incomplete(&self) -> io::Result<()> {
        fs::write(&self.incomplete, "")
    }

    fn is_incomplete(&self) -> bool {
        self.incomplete.exists()
    }

    fn note_whole(&self) -> io::Result<()> {
        match fs::remove_file(&self.incomplete) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn set_aside(&self) -> io::Result<PathBuf> {
        for n in 1_u64.. {
            let aside = self.path.with_extension(format!("redb.corrupt-{n}"));
            match fs::hard_link(&self.path, &aside) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    // An attempt that was interrupted may have kept it already.
                    if !is_same_file(&self.path, &aside)? {
                        continue;
                    }
                }
                Err(error) => return Err(error),
            }
            sync_dir(parent(&self.path))?;
            return Ok(aside);
        }
        unreachable!("a directory does not hold that many files")
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

fn is_same_file(one: &Path, other: &Path) -> io::Result<bool> {
    let (one, other) = (fs::metadata(one)?, fs::symlink_metadata(other)?);
    Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
}

fn backend(file: File) -> io::Result<FileBackend> {
    FileBackend::new(file).map_err(io::Error::other)
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(FILE_MODE);
    options
}

/// Creates a directory and those above it, each of which is still there after a
/// power loss.
fn create_dir_durably(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    create_dir_durably(parent(dir))?;
    match DirBuilder::new().mode(DIR_MODE).create(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        Err(error) => Err(error),
        Ok(()) => sync_dir(parent(dir)),
    }
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
