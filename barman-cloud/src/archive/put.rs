//! Putting a WAL file into the archive.

use super::source::WalSource;
use super::writer::{Lane, WalWriter, WriterLimits};
use crate::codec::Compression;
use crate::error::Result;
use crate::repository::Repository;
use crate::store::Created;
use crate::wal_name::WalName;

/// How to archive.
#[derive(Debug, Clone)]
pub struct ArchiveOptions {
    /// Compression of new objects.
    pub compression: Compression,
    /// Its level, or the usual one for WAL: 3 for gzip, else the codec's.
    pub level: Option<i32>,
    /// Look at the object after writing it, and compare its size: for stores that say yes to what they have not
    /// kept, and for other writers of the same name.
    pub confirm: bool,
}

impl Default for ArchiveOptions {
    fn default() -> Self {
        Self { compression: Compression::None, level: None, confirm: true }
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchivedWal {
    /// Whether the object was written now, or was there with the same content.
    pub created: Created,
    /// Key of the object.
    pub key: String,
    /// Bytes of the file.
    pub size: u64,
    /// Bytes of the object.
    pub stored: u64,
}

impl Repository {
    /// Archives a file under its name. On return it is in the store.
    ///
    /// Repeating it is harmless. When an object of that name is there, in any compression, its content decides:
    /// the same is a success, another is [`crate::ErrorKind::AlreadyExists`] and leaves the object alone. Whoever
    /// archives many files keeps a [`WalWriter`].
    pub async fn archive_wal(
        &self,
        name: WalName,
        source: WalSource,
        options: &ArchiveOptions,
    ) -> Result<ArchivedWal> {
        let writer = WalWriter::new(self.clone(), options.clone(), WriterLimits::default());
        writer.archive(name, &source, Lane::Requested).await
    }
}
