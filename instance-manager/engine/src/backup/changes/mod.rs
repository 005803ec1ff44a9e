//! What a differential or incremental backup stores of each file.
//!
//! Only main forks are stored by blocks. Free space maps are not in WAL. Bits of a visibility map are cleared without
//! a record that names its page and without a new position in it, so neither WAL summaries nor positions tell of it,
//! and a map that says too much makes index-only scans wrong. Both are small and always whole.

mod base;
mod summaries;
mod table;

pub use base::{Base, Directory, VERSION_FILE};
pub use summaries::stretches;
pub use table::BlockTable;

use super::pages;
use super::parent::Parent;
use crate::increment::{RelationFile, Shape};
use barman_cloud::{Chain, Lsn};
use chrono::{DateTime, Duration, Utc};
use roaring::RoaringBitmap;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// How far the clocks of server and file system may be apart.
pub const CLOCKS: Duration = Duration::hours(1);

/// How changed blocks are found.
#[derive(Debug)]
pub enum Finder {
    /// By what WAL summaries say.
    Summaries(BlockTable),
    /// By the position of the last change in every page.
    PageLsn(PageRule),
}

/// When a page counts as changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRule {
    /// The parent's begin.
    pub since: Lsn,
    /// The same by the clock.
    pub since_time: DateTime<Utc>,
    /// Where WAL can begin: one segment after 0. What is below is no position.
    pub first: Lsn,
}

/// A backup that builds on another one.
#[derive(Debug)]
pub struct Increment {
    /// The other one.
    pub parent: Parent,
    /// What is stored beside the backup.
    pub chain: Chain,
    /// The parent's files.
    pub base: Base,
    /// How changed blocks are found.
    pub finder: Finder,
    /// How the server lays out relations.
    pub shape: Shape,
    /// Directories of databases that are not what they were in the parent.
    pub fresh: HashSet<PathBuf>,
}

/// What is stored of a file.
#[derive(Debug, PartialEq)]
pub enum Method {
    /// All of it.
    Whole,
    /// These blocks.
    Blocks(RoaringBitmap),
    /// What a look at every page says; blocks from `beyond` on in any case.
    Scan { rule: PageRule, beyond: u32 },
}

impl Increment {
    /// What to store of the file with this path in the manifest, which has `size` bytes.
    pub fn method(&self, path: &Path, size: u64) -> Method {
        let page = u64::from(self.shape.page);
        let length = u32::try_from(size / page).unwrap_or(u32::MAX);
        let odd = size == 0 || !size.is_multiple_of(page) || length > self.shape.segment_blocks;
        let Some(file) = RelationFile::parse(path).filter(|file| file.is_main && !odd) else {
            return Method::Whole;
        };
        // Not in the parent: made since, or after the parent had listed its files.
        let Some(old_size) = self.base.file(path) else { return Method::Whole };
        // The parent has nothing there, so it can be no copy of ours.
        let beyond =
            old_size.map_or(length, |size| u32::try_from(size / page).unwrap_or(u32::MAX).min(length));
        match &self.finder {
            Finder::Summaries(table) => match table.of(&file, length, self.shape.segment_blocks) {
                Some(mut blocks) => {
                    blocks.insert_range(beyond..length);
                    Method::Blocks(blocks)
                }
                None => Method::Whole,
            },
            Finder::PageLsn(_) if path.parent().is_some_and(|dir| self.fresh.contains(dir)) => Method::Whole,
            Finder::PageLsn(rule) => Method::Scan { rule: *rule, beyond },
        }
    }

    /// Whether so many blocks are not worth a file of their own kind. PostgreSQL draws the line at the same place.
    pub fn is_whole(&self, blocks: u64, size: u64) -> bool {
        blocks * u64::from(self.shape.page) * 10 > size * 9
    }

    /// Bytes that will be read of a file, and that will be stored of it; guessed where a look at every page decides.
    pub fn estimate(&self, path: &Path, size: u64) -> (u64, u64) {
        match self.method(path, size) {
            Method::Whole => (size, size),
            Method::Blocks(blocks) if self.is_whole(blocks.len(), size) => (size, size),
            Method::Blocks(blocks) => {
                let bytes = blocks.len() * u64::from(self.shape.page);
                (bytes, bytes)
            }
            Method::Scan { .. } => (size, size / 8),
        }
    }
}

impl PageRule {
    /// Whether a page must be stored, when its checksum is right. `recent`: the file was written to since the parent began.
    ///
    /// A page that is torn while it is read may show its old position. It was changed after this backup began, so WAL
    /// holds all of it, and replay puts it in place whatever a restore had there.
    pub fn is_changed(&self, page: &[u8], recent: bool) -> bool {
        let lsn = pages::lsn(page);
        // Pages of a GiST index that is being built reach the disk with 1 instead of a position. The parent may have
        // copied half of such a build, of which its own WAL brought the rest.
        let no_position = lsn < self.first && recent;
        lsn >= self.since || no_position || pages::is_zero(page)
    }

    /// Whether a file may have been written to since the parent began.
    pub fn is_recent(&self, modified: i64) -> bool {
        modified >= (self.since_time - CLOCKS).timestamp()
    }
}

#[cfg(test)]
mod tests;
