//! The disk of the data directory: a small one in memory, which can be filled.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, mount};

/// Room for what 50 pods log and for the store.
const BYTES: &str = "size=64m,mode=0700";

#[derive(Debug)]
pub(crate) struct Disk {
    ballast: PathBuf,
    /// How many want it full.
    fillers: usize,
}

impl Disk {
    /// Mounts it. The mount goes with the mount namespace, which is the test's own.
    pub(crate) fn mount(at: &Path) -> Self {
        fs::create_dir_all(at).expect("the directory is ours");
        let options = std::ffi::CString::new(BYTES).expect("no zero in it");
        mount("chaos", at, "tmpfs", MountFlags::empty(), options.as_c_str()).expect("we are root");
        Self { ballast: at.join("ballast"), fillers: 0 }
    }

    pub(crate) fn fill(&mut self) {
        self.fillers += 1;
        self.keep_full();
    }

    pub(crate) fn free(&mut self) {
        self.fillers -= 1;
        if self.fillers == 0 {
            fs::remove_file(&self.ballast).expect("it was filled");
        }
    }

    /// Takes what others have given back meanwhile, while it is to be full.
    pub(crate) fn keep_full(&self) {
        if self.fillers == 0 {
            return;
        }
        let ballast = File::options().create(true).append(true).open(&self.ballast);
        let mut ballast = ballast.expect("the directory is ours");
        for size in [1 << 20, 1 << 12] {
            let block = vec![0; size];
            while ballast.write_all(&block).is_ok() {}
        }
    }
}
