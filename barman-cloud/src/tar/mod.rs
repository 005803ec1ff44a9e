//! Tar streams as Barman and PostgreSQL's tools read them.
//!
//! The writer makes POSIX ustar entries, with a pax header only where ustar cannot say it (long names, large ids
//! or sizes, fractions of a second). The reader takes ustar, pax and GNU long names, is strict about truncation,
//! and refuses names that lead out of the target directory.

mod header;
mod reader;
mod writer;

pub use reader::TarReader;
pub use writer::{TarWriter, encode_header, padding};

use std::path::PathBuf;

/// Size of a tar block.
pub const BLOCK: usize = 512;
/// The end of a tar is padded to this.
pub const RECORD: usize = 20 * BLOCK;

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file; its content follows.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink {
        /// Where it leads, as it is.
        target: PathBuf,
    },
    /// Another name of a file that came before in the same tar.
    Hardlink {
        /// Name of that file in the tar.
        target: PathBuf,
    },
    /// A named pipe.
    Fifo,
}

/// Header of one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Name. Written as it is, with a `/` added to directories; read without `./` in front and `/` at the end,
    /// `.` for the root.
    pub path: PathBuf,
    /// What it is.
    pub kind: EntryKind,
    /// Bytes of content; 0 for everything but files.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Owner's name, may be empty.
    pub uname: String,
    /// Group's name, may be empty.
    pub gname: String,
    /// Modification time, seconds since 1970.
    pub mtime: i64,
    /// Fraction of the modification time in nanoseconds; anything but 0 costs a pax header of 1 KiB.
    pub mtime_nanos: u32,
}

impl Entry {
    /// A regular file.
    pub fn file(path: impl Into<PathBuf>, size: u64) -> Self {
        Self { size, ..Self::of(path.into(), EntryKind::File, 0o600) }
    }

    /// A directory.
    pub fn directory(path: impl Into<PathBuf>) -> Self {
        Self::of(path.into(), EntryKind::Directory, 0o700)
    }

    /// A symbolic link.
    pub fn symlink(path: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        Self::of(path.into(), EntryKind::Symlink { target: target.into() }, 0o777)
    }

    /// Another name of an earlier file.
    pub fn hardlink(path: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        Self::of(path.into(), EntryKind::Hardlink { target: target.into() }, 0o600)
    }

    fn of(path: PathBuf, kind: EntryKind, mode: u32) -> Self {
        Self {
            path,
            kind,
            size: 0,
            mode,
            uid: 0,
            gid: 0,
            uname: String::new(),
            gname: String::new(),
            mtime: 0,
            mtime_nanos: 0,
        }
    }
}

#[cfg(test)]
mod tests;
