//! The container's output: drains its pipes into a bounded file, in the format
//! of CRI, one older file kept. A full disk costs lines, never the workload.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use tank_shim::protocol;

/// A line longer than this is split.
const LINE_BYTES_MAX: usize = 16 * 1024;

/// Records are gathered up to this before they are written.
const BATCH_BYTES: usize = 16 * 1024;

/// One of the two output pipes.
#[derive(Debug)]
pub(crate) struct Stream {
    name: &'static str,
    pipe: Option<OwnedFd>,
    /// The line that is not yet ended. No memory while there is none.
    line: Vec<u8>,
}

impl Stream {
    /// A stream that reads a non-blocking pipe.
    pub(crate) fn new(name: &'static str, pipe: OwnedFd) -> Self {
        Self { name, pipe: Some(pipe), line: Vec::new() }
    }

    /// A stream of which there is none.
    pub(crate) fn none(name: &'static str) -> Self {
        Self { name, pipe: None, line: Vec::new() }
    }

    /// The pipe, until its end.
    pub(crate) fn pipe(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Reads once and logs what is whole. False when there was nothing to read.
    pub(crate) fn pump(&mut self, log: &mut Log) -> bool {
        let Some(pipe) = &self.pipe else { return false };
        let room = LINE_BYTES_MAX - self.line.len();
        self.line.reserve_exact(room);
        match rustix::io::read(pipe, spare_capacity(&mut self.line)) {
            Err(Errno::INTR) => true,
            Err(Errno::AGAIN) => {
                self.rest();
                false
            }
            Ok(0) | Err(_) => {
                self.pipe = None;
                false
            }
            Ok(_) => {
                self.take_lines(log);
                true
            }
        }
    }

    /// Logs all that is left, once nobody writes any more.
    pub(crate) fn finish(&mut self, log: &mut Log) {
        while self.pump(log) {}
        self.pipe = None;
        if !self.line.is_empty() {
            // A last line without an end is whole: nothing will follow it.
            log.append(self.name, Tag::Full, &self.line);
            self.line = Vec::new();
        }
        log.flush();
    }

    fn take_lines(&mut self, log: &mut Log) {
        let mut begin = 0;
        while let Some(length) = self.line[begin..].iter().position(|&byte| byte == b'\n') {
            log.append(self.name, Tag::Full, &self.line[begin..begin + length]);
            begin += length + 1;
        }
        if begin == 0 && self.line.len() >= LINE_BYTES_MAX {
            log.append(self.name, Tag::Partial, &self.line);
            begin = self.line.len();
        }
        self.line.drain(..begin);
        log.flush();
    }

    /// Gives memory back when there is no unfinished line.
    fn rest(&mut self) {
        if self.line.is_empty() {
            self.line = Vec::new();
        }
    }
}

/// Whether a record ends its line.
#[derive(Debug, Clone, Copy)]
enum Tag {
    Full,
    Partial,
}

impl Tag {
    fn letter(self) -> char {
        match self {
            Self::Full => 'F',
            Self::Partial => 'P',
        }
    }
}

/// A log file.
#[derive(Debug)]
pub(crate) struct Log {
    path: String,
    bytes_max: u64,
    file: File,
    size: u64,
    /// Records that are not yet written.
    batch: Vec<u8>,
    /// Records lost to a failing disk, and what the system said.
    lost: Option<(u64, String)>,
    /// How many records the batch holds.
    batched: u64,
}

impl Log {
    /// Opens the file, to append.
    pub(crate) fn open(log: &protocol::Log) -> io::Result<Self> {
        let file = open_to_append(&log.path)?;
        Ok(Self {
            path: log.path.clone(),
            bytes_max: log.bytes_max,
            size: file.metadata()?.len(),
            file,
            batch: Vec::new(),
            lost: None,
            batched: 0,
        })
    }

    fn append(&mut self, stream: &str, tag: Tag, line: &[u8]) {
        let mut head = [0; 64];
        let head = format_head(&mut head, SystemTime::now(), stream, tag);
        let length = head.len() + line.len() + 1;
        self.make_room(length);
        self.batch.extend_from_slice(head);
        self.batch.extend_from_slice(line);
        self.batch.push(b'\n');
        self.batched += 1;
    }

    /// Writes the batch if it is large, and turns to a new file if this is full.
    fn make_room(&mut self, length: usize) {
        let is_over = self.size + (self.batch.len() + length) as u64 > self.bytes_max;
        if is_over || self.batch.len() + length > BATCH_BYTES {
            self.flush();
        }
        if self.size > 0 && self.size + length as u64 > self.bytes_max {
            // When it cannot be turned, nothing more may be written.
            if let Err(error) = self.rotate() {
                self.lose(0, &error);
            }
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        fs::rename(&self.path, format!("{}.1", self.path))?;
        self.file = open_to_append(&self.path)?;
        self.size = 0;
        Ok(())
    }

    /// Writes what was gathered. What cannot be written is lost, and counted.
    fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let batch = std::mem::take(&mut self.batch);
        let batched = std::mem::take(&mut self.batched);
        if let Err(error) = self.note_loss().and_then(|()| self.write(&batch)) {
            self.lose(batched, &error);
        }
    }

    /// Says how much was lost, once it can be said.
    fn note_loss(&mut self) -> io::Result<()> {
        let Some((count, words)) = &self.lost else { return Ok(()) };
        let mut note = [0; 64];
        let mut note = format_head(&mut note, SystemTime::now(), "stderr", Tag::Full).to_vec();
        note.extend_from_slice(format!("tank: {count} lines lost: {words}\n").as_bytes());
        self.write(&note)?;
        self.lost = None;
        Ok(())
    }

    /// Counts records as lost; the first cause is the one to tell.
    fn lose(&mut self, count: u64, error: &io::Error) {
        let (lost, _) = self.lost.get_or_insert_with(|| (0, error.to_string()));
        *lost += count;
    }

    /// Appends all or nothing.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let result = self.has_room(bytes.len()).and_then(|()| self.file.write_all(bytes));
        match &result {
            Ok(()) => self.size += bytes.len() as u64,
            Err(_) => drop(self.file.set_len(self.size)),
        }
        result
    }

    /// The bound holds even when the file cannot be turned.
    fn has_room(&self, length: usize) -> io::Result<()> {
        let fits = self.size == 0 || self.size + length as u64 <= self.bytes_max;
        if fits { Ok(()) } else { Err(io::ErrorKind::FileTooLarge.into()) }
    }
}

fn open_to_append(path: &str) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

/// `2026-11-22T21:04:41.123456789Z stdout F `, without allocating.
fn format_head<'a>(buffer: &'a mut [u8; 64], now: SystemTime, stream: &str, tag: Tag) -> &'a [u8] {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs();
    let (year, month, day) = civil_date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let nanos = since.subsec_nanos();
    let mut rest = &mut buffer[..];
    let written = write!(
        rest,
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z {stream} {} ",
        tag.letter()
    );
    debug_assert!(written.is_ok(), "64 bytes are enough until the year 10^20");
    let length = 64 - rest.len();
    &buffer[..length]
}

/// The Gregorian date of a day since 1970: eras of 400 years that begin in March,
/// so that the leap day is the last of its year.
fn civil_date(days_since_1970: u64) -> (u64, u64, u64) {
    const DAYS_TO_1970: u64 = 719_468;
    const ERA: u64 = 146_097;
    let days = days_since_1970 + DAYS_TO_1970;
    let (era, day_of_era) = (days / ERA, days % ERA);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use super::*;

    /// A log in a directory of its own.
    struct Scene(PathBuf);

    impl Scene {
        fn new(test: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("tank-log-{test}-{}", std::process::id()));
            fs::create_dir(&dir).unwrap();
            Self(dir)
        }

        fn log(&self, bytes_max: u64) -> Log {
            let path = self.0.join("log").to_str().unwrap().to_owned();
            Log::open(&protocol::Log { path, bytes_max }).unwrap()
        }

        /// What each record says, without time and stream.
        fn records(&self, name: &str) -> Vec<String> {
            let log = fs::read_to_string(self.0.join(name)).unwrap_or_default();
            log.lines().map(|line| line.splitn(3, ' ').nth(2).unwrap().to_owned()).collect()
        }

        fn size(&self) -> u64 {
            fs::metadata(self.0.join("log")).unwrap().len()
        }
    }

    impl Drop for Scene {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn stream() -> (Stream, OwnedFd) {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        rustix::io::ioctl_fionbio(&reader, true).unwrap();
        (Stream::new("stdout", reader), writer)
    }

    fn head_at(seconds: u64) -> String {
        let mut buffer = [0; 64];
        let time = UNIX_EPOCH + Duration::new(seconds, 123);
        String::from_utf8(format_head(&mut buffer, time, "stderr", Tag::Partial).to_vec()).unwrap()
    }

    #[test]
    fn times_are_told_as_cri_does() {
        assert_eq!(head_at(0), "1970-01-01T00:00:00.000000123Z stderr P ");
        assert_eq!(head_at(951_782_399), "2000-02-28T23:59:59.000000123Z stderr P ");
        assert_eq!(head_at(951_782_400), "2000-02-29T00:00:00.000000123Z stderr P ");
        assert_eq!(head_at(4_107_542_400), "2100-03-01T00:00:00.000000123Z stderr P ");
        assert_eq!(head_at(1_795_381_481), "2026-11-22T21:04:41.000000123Z stderr P ");
    }

    #[test]
    fn a_line_is_logged_once_it_is_whole() {
        let scene = Scene::new("whole");
        let (mut log, (mut stream, pipe)) = (scene.log(1 << 20), stream());
        rustix::io::write(&pipe, b"one\n\ntw").unwrap();
        while stream.pump(&mut log) {}
        assert_eq!(scene.records("log"), ["F one", "F "]);
        rustix::io::write(&pipe, b"o\nthree").unwrap();
        drop(pipe);
        stream.finish(&mut log);
        assert_eq!(scene.records("log"), ["F one", "F ", "F two", "F three"]);
    }

    #[test]
    fn an_idle_stream_holds_no_memory() {
        let scene = Scene::new("idle");
        let (mut log, (mut stream, pipe)) = (scene.log(1 << 20), stream());
        rustix::io::write(&pipe, b"line\n").unwrap();
        while stream.pump(&mut log) {}
        assert_eq!((stream.line.capacity(), log.batch.capacity()), (0, 0));
    }

    #[test]
    fn a_full_file_is_put_aside() {
        let scene = Scene::new("rotate");
        let mut log = scene.log(100);
        for line in ["one", "two", "three", "four", "five"] {
            log.append("stdout", Tag::Full, line.as_bytes());
        }
        log.flush();
        assert_eq!(scene.records("log.1"), ["F three", "F four"]);
        assert_eq!(scene.records("log"), ["F five"]);
    }

    #[test]
    fn the_bound_holds_when_the_file_cannot_be_put_aside() {
        let scene = Scene::new("stuck");
        fs::create_dir(scene.0.join("log.1")).unwrap();
        let mut log = scene.log(200);
        for number in 0..100 {
            log.append("stdout", Tag::Full, format!("line {number}").as_bytes());
        }
        log.flush();
        assert!(scene.size() <= 200);
        let lost = 100 - scene.records("log").len();
        // Once it can be, the loss is told.
        fs::remove_dir(scene.0.join("log.1")).unwrap();
        log.append("stdout", Tag::Full, b"after");
        log.flush();
        let records = scene.records("log");
        let note = format!("F tank: {lost} lines lost: Is a directory (os error 21)");
        assert_eq!(records, [note.as_str(), "F after"]);
    }

    #[test]
    fn a_line_longer_than_the_bound_is_logged_still() {
        let scene = Scene::new("long");
        let mut log = scene.log(10);
        log.append("stdout", Tag::Full, b"more than ten bytes");
        log.flush();
        assert_eq!(scene.records("log"), ["F more than ten bytes"]);
    }
}
