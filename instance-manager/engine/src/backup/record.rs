//! What is noted of a file while it is read: its line in the manifest, its part, and its checksum.

use super::request::ManifestChecksum;
use crate::identity::Identity;
use barman_cloud::PartName;
use barman_cloud::manifest::{FileChecksum, ManifestFile};
use crc_fast::{CrcAlgorithm, Digest};
use sha2::{Digest as _, Sha256};

/// A file that was backed up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRecord {
    /// The part that holds it.
    pub part: PartName,
    /// Its line in the manifest.
    pub file: ManifestFile,
    /// What the file system said of it when it was read.
    pub identity: Identity,
}

/// A checksum under way.
pub enum Hasher {
    None,
    Crc32c(Box<Digest>),
    Sha256(Box<Sha256>),
}

impl Hasher {
    /// A hasher that has seen nothing.
    pub fn new(kind: ManifestChecksum) -> Self {
        match kind {
            ManifestChecksum::None => Self::None,
            ManifestChecksum::Crc32c => Self::Crc32c(Box::new(Digest::new(CrcAlgorithm::Crc32Iscsi))),
            ManifestChecksum::Sha256 => Self::Sha256(Box::new(Sha256::new())),
        }
    }

    /// A hasher that computes what a manifest holds; `None` for an algorithm that is not known here.
    pub fn like(checksum: &FileChecksum) -> Option<Self> {
        match checksum {
            FileChecksum::Crc32c(_) => Some(Self::Crc32c(Box::new(Digest::new(CrcAlgorithm::Crc32Iscsi)))),
            FileChecksum::Sha256(_) => Some(Self::Sha256(Box::new(Sha256::new()))),
            FileChecksum::Other(..) => None,
        }
    }

    /// Takes more bytes in.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::None => {}
            Self::Crc32c(crc) => crc.update(bytes),
            Self::Sha256(sha) => sha.update(bytes),
        }
    }

    /// The checksum.
    pub fn finish(self) -> Option<FileChecksum> {
        match self {
            Self::None => None,
            // 32 bits of it are used.
            Self::Crc32c(crc) => Some(FileChecksum::Crc32c(crc.finalize() as u32)),
            Self::Sha256(sha) => Some(FileChecksum::Sha256(sha.finalize().into())),
        }
    }
}
