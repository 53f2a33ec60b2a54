//! What can still be read of a damaged state file.
//!
//! The database refuses a file of which any part is wrong. This reads the same
//! file page by page, by the database's stable format, and keeps each row whose
//! page is as it was written: every page carries the checksums of those below
//! it, from the commit on, so that nothing stale, torn or altered passes. It
//! never writes, never trusts a number that it has read, and knows rows as bytes
//! only: what they say is for `tables` to read.

use redb::StorageBackend;
use xxhash_rust::xxh3::xxh3_128;

const PAGE_BYTES: usize = 4_096;
/// The two places where a commit is noted, in turn.
const COMMITS_AT: [usize; 2] = [64, 192];
const COMMIT_BYTES: usize = 128;
/// The file format that this knows, which is the database's third.
const FORMAT: u8 = 3;
/// More than a tree of any size is deep.
const DEPTH_MAX: usize = 32;
/// A larger page, of 4 GiB, there is none.
const ORDER_MAX: u64 = 20;

const LEAF: u8 = 1;
const BRANCH: u8 = 2;
/// A table whose keys have one value each.
const PLAIN: u8 = 3;

/// A key and its value.
pub(super) type Row = (Vec<u8>, Vec<u8>);

/// What is left of a table.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Remains {
    pub(super) rows: Vec<Row>,
    /// Whether nothing of it is missing.
    pub(super) is_whole: bool,
}

/// A file of which the newest commit can be read.
#[derive(Debug)]
pub(super) struct Wreck<'a, B> {
    backend: &'a B,
    bytes: u64,
    tables: Vec<Row>,
    knows_tables: bool,
}

/// The top of a tree.
#[derive(Clone, Copy)]
struct Root {
    page: u64,
    checksum: u128,
}

impl<'a, B: StorageBackend> Wreck<'a, B> {
    /// Looks for the newest commit. Without one there are no tables.
    pub(super) fn new(backend: &'a B) -> Self {
        let bytes = backend.len().unwrap_or(0);
        let mut wreck = Self { backend, bytes, tables: Vec::new(), knows_tables: false };
        if let Some(root) = wreck.newest_commit() {
            (wreck.tables, wreck.knows_tables) = wreck.tree(root, None);
        }
        wreck
    }

    /// What is left of the table of this name, whose keys are bytes and whose
    /// values are, too, or are this long.
    pub(super) fn table(&self, name: &str, value_bytes: Option<usize>) -> Remains {
        let Some((_, definition)) = self.tables.iter().find(|(key, _)| key == name.as_bytes())
        else {
            return Remains { rows: Vec::new(), is_whole: self.knows_tables };
        };
        match root_of(definition) {
            Some(Some(root)) => {
                let (rows, is_whole) = self.tree(root, value_bytes);
                Remains { rows, is_whole }
            }
            Some(None) => Remains { rows: Vec::new(), is_whole: true },
            None => Remains::default(),
        }
    }

    /// The tree of tables of the newest commit that was noted whole.
    fn newest_commit(&self) -> Option<Root> {
        let head = self.read(0, COMMITS_AT[1] + COMMIT_BYTES)?;
        let commits = COMMITS_AT.into_iter().filter_map(|at| commit(head.get(at..)?));
        let (_, root) = commits.max_by_key(|(transaction, _)| *transaction)?;
        root
    }

    /// The rows below `root`, and whether those are all.
    fn tree(&self, root: Root, value_bytes: Option<usize>) -> (Vec<Row>, bool) {
        let mut rows = Vec::new();
        // No tree has more pages than the file.
        let mut pages_left = self.bytes / PAGE_BYTES as u64;
        let is_whole = self.walk(root, value_bytes, DEPTH_MAX, &mut pages_left, &mut rows);
        (rows, is_whole)
    }

    fn walk(
        &self,
        root: Root,
        value_bytes: Option<usize>,
        depth_left: usize,
        pages_left: &mut u64,
        rows: &mut Vec<Row>,
    ) -> bool {
        if depth_left == 0 || *pages_left == 0 {
            return false;
        }
        *pages_left -= 1;
        let Some(page) = self.page(root.page) else { return false };
        match page.first() {
            Some(&LEAF) => match leaf(&page, root.checksum, value_bytes) {
                Some(found) => {
                    rows.extend(found);
                    true
                }
                None => false,
            },
            Some(&BRANCH) => {
                let Some(children) = branch(&page, root.checksum) else { return false };
                let mut is_whole = true;
                for child in children {
                    is_whole &= self.walk(child, value_bytes, depth_left - 1, pages_left, rows);
                }
                is_whole
            }
            _ => false,
        }
    }

    /// A page, as far as the file goes. What is beyond the first 4 GiB is not
    /// looked for.
    fn page(&self, number: u64) -> Option<Vec<u8>> {
        let (order, region) = (number >> 59, number >> 20 & 0xf_ffff);
        if order > ORDER_MAX || region != 0 {
            return None;
        }
        let index = (number & 0xf_ffff >> order) << order;
        let offset = (index + 1) * PAGE_BYTES as u64;
        let there = self.bytes.checked_sub(offset)?;
        let bytes = usize::try_from(there.min((PAGE_BYTES as u64) << order)).ok()?;
        self.read(offset, bytes)
    }

    fn read(&self, offset: u64, bytes: usize) -> Option<Vec<u8>> {
        let mut content = vec![0; bytes];
        self.backend.read(offset, &mut content).ok()?;
        Some(content)
    }
}

/// The number of a commit and its tables, none where nothing was ever stored.
fn commit(slot: &[u8]) -> Option<(u64, Option<Root>)> {
    let slot = slot.get(..COMMIT_BYTES)?;
    let (content, checksum) = slot.split_at(COMMIT_BYTES - 16);
    if slot[0] != FORMAT || xxh3_128(content) != u128_at(checksum, 0)? {
        return None;
    }
    let root = if slot[1] != 0 { Some(root_at(slot, 8)?) } else { None };
    Some((u64_at(slot, 104)?, root))
}

/// The top of a table; `Some(None)` when it is empty.
fn root_of(definition: &[u8]) -> Option<Option<Root>> {
    match (definition.first()?, definition.get(9)?) {
        (&PLAIN, 0) => Some(None),
        (&PLAIN, _) => root_at(definition, 10).map(Some),
        _ => None,
    }
}

/// The rows of a leaf that is as it was written: the number of rows, where each
/// key ends, where each value does unless all are as long, keys, values.
fn leaf(page: &[u8], checksum: u128, value_bytes: Option<usize>) -> Option<Vec<Row>> {
    let count = u16_at(page, 2)?;
    let key_end = |row: usize| u32_at(page, 4 + 4 * row);
    let keys_end = key_end(count.checked_sub(1)?)?;
    let value_end = |row: usize| match value_bytes {
        Some(bytes) => Some(keys_end + bytes * (row + 1)),
        None => u32_at(page, 4 + 4 * (count + row)),
    };
    verify(page, value_end(count - 1)?, checksum)?;
    let ends = if value_bytes.is_some() { 1 } else { 2 };
    let (mut key_at, mut value_at) = (4 + 4 * count * ends, keys_end);
    let mut rows = Vec::with_capacity(count);
    for row in 0..count {
        let (key_end, value_end) = (key_end(row)?, value_end(row)?);
        rows.push((page.get(key_at..key_end)?.to_vec(), page.get(value_at..value_end)?.to_vec()));
        (key_at, value_at) = (key_end, value_end);
    }
    Some(rows)
}

/// The children of a branch that is as it was written: the number of keys, the
/// checksums of the children, which are one more, their pages, where each key
/// ends, keys.
fn branch(page: &[u8], checksum: u128) -> Option<Vec<Root>> {
    let keys = u16_at(page, 2)?;
    let children = keys + 1;
    let keys_end = u32_at(page, 8 + 24 * children + 4 * keys.checked_sub(1)?)?;
    verify(page, keys_end, checksum)?;
    let child = |child: usize| {
        let page_number = u64_at(page, 8 + 16 * children + 8 * child)?;
        Some(Root { page: page_number, checksum: u128_at(page, 8 + 16 * child)? })
    };
    (0..children).map(child).collect()
}

fn verify(page: &[u8], end: usize, checksum: u128) -> Option<()> {
    (xxh3_128(page.get(..end)?) == checksum).then_some(())
}

fn root_at(bytes: &[u8], at: usize) -> Option<Root> {
    Some(Root { page: u64_at(bytes, at)?, checksum: u128_at(bytes, at + 8)? })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<usize> {
    Some(usize::from(u16::from_le_bytes(array_at(bytes, at)?)))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(array_at(bytes, at)?)).ok()
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(array_at(bytes, at)?))
}

fn u128_at(bytes: &[u8], at: usize) -> Option<u128> {
    Some(u128::from_le_bytes(array_at(bytes, at)?))
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}
