//! Where the content of a WAL file is, and whether it can be one.

use crate::error::{Error, ErrorKind, Result};
use crate::wal_name::{SegmentSize, WalName};
use bytes::Bytes;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// One file among those that bear its name one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// Where the content of a WAL file is.
#[derive(Debug, Clone)]
pub enum WalSource {
    /// A local file that nobody changes.
    File(PathBuf),
    /// A file of `pg_wal`, see [`WalSource::pinned`].
    Pinned(PathBuf, FileId),
    /// Memory.
    Bytes(Bytes),
}

impl WalSource {
    /// A file of `pg_wal`. Once PostgreSQL was told that a segment is archived, it may give the file the name of a later
    /// one and write over it, while a second archive still reads: what was read is good only if the name leads to the
    /// same file afterwards.
    pub fn pinned(path: &Path) -> Result<Self> {
        let metadata = std::fs::metadata(path)
            .map_err(|error| Error::io(format!("{} cannot be read", path.display()), error))?;
        Ok(Self::Pinned(path.to_owned(), FileId::of(&metadata)))
    }

    /// Fails when what was read so far may not be the file of that name.
    pub fn check(&self) -> Result<()> {
        let Self::Pinned(path, id) = self else { return Ok(()) };
        match std::fs::metadata(path) {
            Ok(metadata) if FileId::of(&metadata) == *id => Ok(()),
            Ok(_) => Err(reused(path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(reused(path)),
            Err(error) => Err(Error::io(format!("{} cannot be read", path.display()), error)),
        }
    }

    pub(super) fn open(&self) -> Result<Box<dyn Read + Send>> {
        match self {
            Self::Bytes(bytes) => Ok(Box::new(io::Cursor::new(bytes.clone()))),
            Self::File(path) | Self::Pinned(path, _) => {
                let file = File::open(path)
                    .map_err(|error| Error::io(format!("{} cannot be opened", path.display()), error))?;
                Ok(Box::new(file))
            }
        }
    }

    /// Bytes of the file that is to be archived as `name`. A segment has one of few sizes; anything else would make
    /// the archive unusable and is refused before upload.
    pub(super) fn size(&self, name: WalName) -> Result<u64> {
        let size = match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(path) | Self::Pinned(path, _) => {
                let metadata = std::fs::metadata(path)
                    .map_err(|error| Error::io(format!("{} cannot be read", path.display()), error))?;
                metadata.len()
            }
        };
        if name.has_segment_size() {
            SegmentSize::new(size).map_err(|error| {
                Error::invalid(format!("{name} is not a whole segment"))
                    .with_source(error)
                    .with_remedy("give the complete file from pg_wal")
            })?;
        } else if size > super::MAX_TEXT || size == 0 {
            return Err(Error::invalid(format!("{name} has {size} bytes, which cannot be")));
        }
        Ok(size)
    }
}

fn reused(path: &Path) -> Error {
    Error::new(ErrorKind::Io, format!("PostgreSQL has used {} for another segment meanwhile", path.display()))
        .with_remedy("nothing is lost: another repository has the file, and this one gets it from there")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_renamed_or_replaced_is_noticed() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("000000010000000000000001");
        std::fs::write(&path, [1; 10]).expect("a file");
        let source = WalSource::pinned(&path).expect("there");
        source.check().expect("the same");
        std::fs::write(&path, [2; 10]).expect("in place");
        source.check().expect("the same file still");
        std::fs::rename(&path, dir.path().join("000000010000000000000009")).expect("recycled");
        assert!(source.check().expect_err("gone").report().contains("for another segment"));
        std::fs::write(&path, [1; 10]).expect("another file of the name");
        assert!(source.check().is_err());
    }
}
