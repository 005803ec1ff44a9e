//! Where the content of a WAL file is, and whether it can be one.

use crate::error::{Error, Result};
use crate::wal_name::{SegmentSize, WalName};
use bytes::Bytes;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

/// Where the content of a WAL file is.
#[derive(Debug, Clone)]
pub enum WalSource {
    /// A local file.
    File(PathBuf),
    /// Memory.
    Bytes(Bytes),
}

impl WalSource {
    pub(super) fn open(&self) -> Result<Box<dyn Read + Send>> {
        match self {
            Self::Bytes(bytes) => Ok(Box::new(io::Cursor::new(bytes.clone()))),
            Self::File(path) => {
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
            Self::File(path) => {
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
