//! A disk in memory that loses power, fails and fills up on command.
//!
//! What is written stays in the disk's cache until a sync. A power loss keeps
//! any part of the cache: nothing, all, or some sectors of some writes.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use redb::StorageBackend;
use tank::store::Medium;

const SECTOR: usize = 512;
const BLOCK: usize = 4_096;

#[derive(Debug, Clone, Default)]
pub(crate) struct Disk(Arc<Mutex<State>>);

/// The file of a disk, or the draft of one.
#[derive(Debug)]
pub(crate) struct OpenFile {
    disk: Disk,
    is_draft: bool,
}

#[derive(Debug, Default)]
struct State {
    file: Option<File>,
    draft: Option<File>,
    /// What was set aside, the first one first. Each is there for good.
    aside: Vec<Vec<u8>>,
    blocks_max: Option<usize>,
    operations: usize,
    fault: Option<Fault>,
    is_off: bool,
}

#[derive(Debug, Default, Clone)]
struct File {
    /// What a read sees.
    cached: Vec<u8>,
    /// What a power loss leaves for certain.
    durable: Vec<u8>,
    unsynced: Vec<Change>,
    blocks: BTreeSet<usize>,
}

#[derive(Debug, Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Resize(usize),
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    PowerLoss { at: usize },
    OneError { at: usize },
}

impl Disk {
    /// A disk that loses power during this write, resize or sync.
    pub(crate) fn losing_power_at(operation: usize) -> Self {
        let disk = Self::default();
        disk.state().fault = Some(Fault::PowerLoss { at: operation });
        disk
    }

    /// A disk with this file on it.
    pub(crate) fn holding(content: Vec<u8>) -> Self {
        let disk = Self::default();
        let file = File { durable: content.clone(), cached: content, ..File::default() };
        disk.state().file = Some(file);
        disk
    }

    /// What a read of the whole file finds.
    pub(crate) fn content(&self) -> Vec<u8> {
        self.state().file(false).cached.clone()
    }

    /// The file, past the store.
    pub(crate) fn database(&self) -> redb::Database {
        redb::Builder::new().create_with_backend(self.open_file(false)).expect("a database")
    }

    /// The files that were set aside.
    pub(crate) fn aside(&self) -> Vec<Vec<u8>> {
        self.state().aside.clone()
    }

    /// Loses power during the write, resize or sync after this many more.
    pub(crate) fn lose_power_after(&self, operations: usize) {
        let mut state = self.state();
        state.fault = Some(Fault::PowerLoss { at: state.operations + operations });
    }

    /// The write, resize or sync after this many more fails, once.
    pub(crate) fn fail_once_after(&self, operations: usize) {
        let mut state = self.state();
        state.fault = Some(Fault::OneError { at: state.operations + operations });
    }

    /// Whether a fault that was asked for has not happened yet.
    pub(crate) fn has_fault_left(&self) -> bool {
        self.state().fault.is_some()
    }

    /// Lets the disk grow by this many blocks of 4 KiB and no more.
    pub(crate) fn leave_room(&self, blocks: Option<usize>) {
        let mut state = self.state();
        state.blocks_max = blocks.map(|more| state.blocks() + more);
    }

    /// The disk after a power loss now: chance 0 keeps nothing that was not
    /// synced, 1 keeps all, any other draws what is kept.
    pub(crate) fn after_power_loss(&self, chance: u64) -> Self {
        let state = self.state();
        let mut draw = Draw(chance);
        let mut survive = |file: &File| file.after_power_loss(&mut draw);
        let file = state.file.as_ref().map(&mut survive);
        let draft = state.draft.as_ref().map(survive);
        let aside = state.aside.clone();
        Self(Arc::new(Mutex::new(State { file, draft, aside, ..State::default() })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics while it holds the disk")
    }

    fn open_file(&self, is_draft: bool) -> OpenFile {
        OpenFile { disk: self.clone(), is_draft }
    }
}

impl File {
    fn after_power_loss(&self, draw: &mut Draw) -> Self {
        let mut content = self.durable.clone();
        for change in &self.unsynced {
            match change {
                Change::Resize(len) if draw.keeps() => content.resize(*len, 0),
                Change::Resize(_) => {}
                Change::Write(offset, data) => keep_some(&mut content, *offset, data, draw),
            }
        }
        let blocks = self.blocks.clone();
        Self { durable: content.clone(), cached: content, blocks, unsynced: Vec::new() }
    }

    fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            apply(&mut self.durable, &change);
        }
    }
}

fn apply(content: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Resize(len) => content.resize(*len, 0),
        Change::Write(from, data) => {
            let end = from + data.len();
            content.resize(content.len().max(end), 0);
            content[*from..end].copy_from_slice(data);
        }
    }
}

fn keep_some(content: &mut Vec<u8>, offset: usize, data: &[u8], draw: &mut Draw) {
    for (index, sector) in data.chunks(SECTOR).enumerate() {
        if draw.keeps() {
            let from = offset + index * SECTOR;
            let end = from + sector.len();
            if content.len() < end {
                content.resize(end, 0);
            }
            content[from..end].copy_from_slice(sector);
        }
    }
}

/// Numbers from a seed (xorshift).
pub(crate) struct Draw(pub(crate) u64);

impl Draw {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.advance();
        usize::try_from(self.0 >> 16).expect("48 bits") % bound
    }

    fn keeps(&mut self) -> bool {
        if self.0 < 2 {
            return self.0 == 1;
        }
        self.advance();
        self.0 & 1 == 1
    }

    fn advance(&mut self) {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
    }
}

impl State {
    /// Counts an operation, and fails it when its time has come.
    fn begin(&mut self) -> Result<(), Interrupted> {
        let now = self.operations;
        self.operations += 1;
        match self.fault {
            Some(Fault::PowerLoss { at }) if at == now => {
                self.is_off = true;
                self.fault = None;
                return Err(Interrupted::ByPowerLoss);
            }
            Some(Fault::OneError { at }) if at == now => {
                self.fault = None;
                // EIO
                return Err(Interrupted::By(io::Error::from_raw_os_error(5)));
            }
            _ => {}
        }
        self.check_power().map_err(Interrupted::By)
    }

    fn check_power(&self) -> io::Result<()> {
        if self.is_off { Err(no_power()) } else { Ok(()) }
    }

    fn file(&mut self, is_draft: bool) -> &mut File {
        let file = if is_draft { &mut self.draft } else { &mut self.file };
        file.as_mut().expect("only a file that is there has been opened")
    }

    fn change(&mut self, is_draft: bool, change: Change) -> io::Result<()> {
        match self.begin() {
            Ok(()) => {}
            // What a power loss interrupts may have reached the disk.
            Err(Interrupted::ByPowerLoss) => {
                self.file(is_draft).unsynced.push(change);
                return Err(no_power());
            }
            Err(Interrupted::By(error)) => return Err(error),
        }
        let file = self.file(is_draft);
        apply(&mut file.cached, &change);
        file.unsynced.push(change);
        Ok(())
    }

    fn blocks(&self) -> usize {
        let files = self.file.iter().chain(&self.draft);
        files.map(|file| file.blocks.len()).sum()
    }

    fn allocate(&mut self, is_draft: bool, offset: usize, len: usize) -> io::Result<()> {
        for block in offset / BLOCK..(offset + len).div_ceil(BLOCK) {
            let is_full = self.blocks_max.is_some_and(|max| self.blocks() >= max);
            let blocks = &mut self.file(is_draft).blocks;
            if is_full && !blocks.contains(&block) {
                // ENOSPC
                return Err(io::Error::from_raw_os_error(28));
            }
            blocks.insert(block);
        }
        Ok(())
    }
}

enum Interrupted {
    ByPowerLoss,
    By(io::Error),
}

impl From<Interrupted> for io::Error {
    fn from(interrupted: Interrupted) -> Self {
        match interrupted {
            Interrupted::ByPowerLoss => no_power(),
            Interrupted::By(error) => error,
        }
    }
}

fn no_power() -> io::Error {
    io::Error::other("the power is off")
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).expect("a small disk")
}

impl StorageBackend for OpenFile {
    fn len(&self) -> io::Result<u64> {
        let mut state = self.disk.state();
        state.check_power()?;
        Ok(state.file(self.is_draft).cached.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut state = self.disk.state();
        state.check_power()?;
        let from = index(offset);
        let found = state.file(self.is_draft).cached.get(from..from + out.len());
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.state().change(self.is_draft, Change::Resize(index(len)))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        state.begin()?;
        state.file(self.is_draft).sync();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.disk.state();
        state.allocate(self.is_draft, index(offset), data.len())?;
        state.change(self.is_draft, Change::Write(index(offset), data.to_owned()))
    }
}

impl Medium for Disk {
    type Backend = OpenFile;

    fn open(&self) -> io::Result<Option<OpenFile>> {
        let state = self.state();
        state.check_power()?;
        Ok(state.file.is_some().then(|| self.open_file(false)))
    }

    fn draft(&self) -> io::Result<OpenFile> {
        let mut state = self.state();
        state.begin()?;
        state.draft = Some(File::default());
        Ok(self.open_file(true))
    }

    fn publish(&self) -> io::Result<()> {
        let mut state = self.state();
        state.begin()?;
        state.file(true).sync();
        state.begin()?;
        state.file = state.draft.take();
        Ok(())
    }

    fn set_aside(&self) -> io::Result<PathBuf> {
        let mut state = self.state();
        state.begin()?;
        let content = state.file(false).cached.clone();
        if state.aside.last() != Some(&content) {
            state.aside.push(content);
        }
        Ok(format!("/disk/state.redb.corrupt-{}", state.aside.len()).into())
    }

    fn path(&self) -> &Path {
        Path::new("/disk/state.redb")
    }
}
