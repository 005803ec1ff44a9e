//! Where everything is in the bucket. No other module spells a key.
//!
//! Keys here are relative to the destination path: they begin with the server name. [`crate::Store`] puts the
//! path of the destination before them.

mod destination;

pub use destination::{Destination, Storage, normalise_endpoint};

use crate::backup_id::BackupId;
use crate::codec::Compression;
use crate::error::{Error, Result};
use crate::wal_name::{Segment, WalName};
use std::fmt;

/// Keys of one server's repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    server: String,
    /// Where backups are, below the server: Barman's place for full ones, a place of ours for those that Barman must
    /// never take for full ones.
    root: &'static str,
}

/// Directory of full backups, Barman's own.
const FULL: &str = "base";
/// Directory of differential and incremental backups.
const INCREMENTAL: &str = "howdah/incremental";

/// What one tar of a backup holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Archive {
    /// The data directory.
    Data,
    /// The tablespace with this oid.
    Tablespace(u32),
}

impl fmt::Display for Archive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data => f.write_str("data"),
            Self::Tablespace(oid) => write!(f, "{oid}"),
        }
    }
}

/// One object of a backup: a part of an archive. Ordered as readers take them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartName {
    /// Which archive.
    pub archive: Archive,
    /// 0 for the first part, which has no number in its name.
    pub index: u32,
    /// How it is compressed.
    pub compression: Compression,
}

impl fmt::Display for PartName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let suffix = self.compression.suffix();
        match self.index {
            0 => write!(f, "{}.tar{suffix}", self.archive),
            index => write!(f, "{}_{index:04}.tar{suffix}", self.archive),
        }
    }
}

impl PartName {
    /// Reads a file name in a backup's directory; `None` for what is no part.
    pub fn parse(file: &str) -> Option<Self> {
        let (stem, compression) = Compression::split(file);
        if !compression.allowed_for_base() {
            return None;
        }
        let stem = stem.strip_suffix(".tar")?;
        let (archive, index) = match stem.split_once('_') {
            None => (stem, 0),
            Some((archive, digits)) => {
                let numeric = digits.len() >= 4 && digits.bytes().all(|b| b.is_ascii_digit());
                let index = if numeric { digits.parse().ok()? } else { return None };
                // `_0000` is never written, and would collide with the first part.
                (archive, Some(index).filter(|index| *index > 0)?)
            }
        };
        let archive = match archive {
            "data" => Archive::Data,
            oid if !oid.starts_with('0') && oid.bytes().all(|b| b.is_ascii_digit()) => {
                Archive::Tablespace(oid.parse().ok()?)
            }
            _ => return None,
        };
        Some(Self { archive, index, compression })
    }
}

impl Layout {
    /// Keys under a server name: one path segment, not empty.
    pub fn new(server: &str) -> Result<Self> {
        let control = server.chars().any(char::is_control);
        if server.is_empty() || server == "." || server == ".." || server.contains('/') || control {
            return Err(Error::invalid(format!("{server:?} cannot be a server name"))
                .with_remedy("use a name without '/', for example the name of the cluster"));
        }
        Ok(Self { server: server.to_owned(), root: FULL })
    }

    /// The same keys for differential and incremental backups: everything of a backup lies elsewhere, WAL and the
    /// rest in the same places.
    #[must_use]
    pub fn increments(&self) -> Self {
        Self { server: self.server.clone(), root: INCREMENTAL }
    }

    /// The server name.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Directory of the base backups, without a slash at the end.
    pub fn base_dir(&self) -> String {
        format!("{}/{}", self.server, self.root)
    }

    /// Directory of one base backup.
    pub fn backup_dir(&self, id: &BackupId) -> String {
        format!("{}/{id}", self.base_dir())
    }

    /// Metadata of a base backup: its commit mark.
    pub fn backup_info(&self, id: &BackupId) -> String {
        format!("{}/{id}/backup.info", self.base_dir())
    }

    /// The annotation that keeps a backup from retention.
    pub fn keep(&self, id: &BackupId) -> String {
        format!("{}/{id}/annotations/keep", self.base_dir())
    }

    /// What a differential or incremental backup builds on.
    pub fn chain(&self, id: &BackupId) -> String {
        format!("{}/{id}/chain.json", self.base_dir())
    }

    /// One tar of a backup.
    pub fn part(&self, id: &BackupId, part: PartName) -> String {
        format!("{}/{id}/{part}", self.base_dir())
    }

    /// Directory of the WAL archive.
    pub fn wals_dir(&self) -> String {
        format!("{}/wals", self.server)
    }

    /// Directory that holds a segment, its partial form and its backup labels.
    pub fn wal_hash_dir(&self, segment: Segment) -> String {
        format!("{}/wals/{}", self.server, segment.hash_dir())
    }

    /// Directory that holds a file of the archive.
    pub fn wal_dir(&self, name: WalName) -> String {
        name.segment().map_or_else(|| self.wals_dir(), |segment| self.wal_hash_dir(segment))
    }

    /// A file of the archive.
    pub fn wal(&self, name: WalName, compression: Compression) -> String {
        format!("{}/{name}{}", self.wal_dir(name), compression.suffix())
    }

    /// Directory of what only Howdah knows.
    pub fn side_dir(&self) -> String {
        format!("{}/howdah", self.server)
    }

    /// The record of whose WAL the archive holds.
    pub fn lineage(&self) -> String {
        format!("{}/howdah/lineage.json", self.server)
    }

    /// Directory of what only Howdah knows about a base backup.
    pub fn manifest_dir(&self, id: &BackupId) -> String {
        format!("{}/howdah/manifests/{id}", self.server)
    }

    /// Names and sizes of all parts of a base backup, so that a lost last part is noticed.
    pub fn parts(&self, id: &BackupId) -> String {
        format!("{}/howdah/manifests/{id}/parts.json", self.server)
    }

    /// PostgreSQL's manifest of a base backup.
    pub fn manifest(&self, id: &BackupId) -> String {
        format!("{}/howdah/manifests/{id}/backup_manifest", self.server)
    }

    /// Directory of what a running backup notes for the one that goes on after it, without a slash at the end.
    pub fn resume_dir(&self, id: &BackupId) -> String {
        format!("{}/howdah/resume/{id}", self.server)
    }

    /// Directory of the words of those who read backups.
    pub fn in_use_dir(&self) -> String {
        format!("{}/howdah/in-use", self.server)
    }

    /// The word of one who reads a backup.
    pub fn in_use(&self, id: &BackupId, reader: &str) -> String {
        format!("{}/howdah/in-use/{id}/{reader}.json", self.server)
    }

    /// Directory of the keys of an encrypted repository.
    pub fn keys_dir(&self) -> String {
        format!("{}/howdah/keys", self.server)
    }

    /// How the repository is encrypted, and which key that takes.
    pub fn repository_key(&self) -> String {
        format!("{}/howdah/keys/repository.json", self.server)
    }

    /// A data key of an encrypted repository, wrapped.
    pub fn data_key(&self, id: &str) -> String {
        format!("{}/howdah/keys/{id}.json", self.server)
    }

    /// Whether an object is never encrypted: what must be read before there is a key, and what a probe writes.
    pub fn is_always_plain(key: &str) -> bool {
        let within = key.split_once('/').map_or("", |(_, within)| within);
        within.starts_with("howdah/probe") || within.starts_with("howdah/keys/")
    }

    /// Directory of what other repositories may lack.
    pub fn arrears_dir(&self) -> String {
        format!("{}/howdah/arrears", self.server)
    }

    /// From where on another repository may lack WAL.
    pub fn arrears(&self, repository: &str) -> String {
        format!("{}/howdah/arrears/{repository}.json", self.server)
    }

    /// Directory of the records of WAL that was let go of on purpose.
    pub fn dropped_dir(&self) -> String {
        format!("{}/howdah/dropped", self.server)
    }

    /// The record of the gap that begins with this segment.
    pub fn dropped(&self, first: &str) -> String {
        format!("{}/howdah/dropped/{first}.json", self.server)
    }

    /// The object that a probe writes and deletes to learn what the store allows.
    pub fn probe(&self) -> String {
        format!("{}/howdah/probe", self.server)
    }

    /// An object that a check of the repository writes and deletes; `token` keeps two checks apart.
    pub fn check(&self, token: &str) -> String {
        format!("{}/howdah/check/{token}", self.server)
    }

    /// Reads a file name in the archive; `None` for what is no WAL.
    pub fn parse_wal(file: &str) -> Option<(WalName, Compression)> {
        let (stem, compression) = Compression::split(file);
        Some((stem.parse().ok()?, compression))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn layout() -> Layout {
        Layout::new("srv").expect("a name")
    }

    fn id() -> BackupId {
        "20261121T012341".parse().expect("an id")
    }

    #[test]
    fn keys_are_barmans() {
        let (layout, id) = (layout(), id());
        let segment: Segment = "000000010000000A00000004".parse().expect("valid");
        let label = WalName::BackupLabel { segment, offset: 0x28 };
        assert_eq!(layout.backup_info(&id), "srv/base/20261121T012341/backup.info");
        assert_eq!(layout.keep(&id), "srv/base/20261121T012341/annotations/keep");
        assert_eq!(
            layout.wal(WalName::Segment(segment), Compression::Zstd),
            "srv/wals/000000010000000A/000000010000000A00000004.zst"
        );
        assert_eq!(
            layout.wal(WalName::Partial(segment), Compression::None),
            "srv/wals/000000010000000A/000000010000000A00000004.partial"
        );
        assert_eq!(
            layout.wal(label, Compression::Gzip),
            "srv/wals/000000010000000A/000000010000000A00000004.00000028.backup.gz"
        );
        assert_eq!(layout.wal(WalName::History(2), Compression::Bzip2), "srv/wals/00000002.history.bz2");
    }

    #[test]
    fn increments_lie_where_barman_does_not_look() {
        let (layout, id) = (layout().increments(), id());
        assert_eq!(layout.backup_info(&id), "srv/howdah/incremental/20261121T012341/backup.info");
        assert_eq!(layout.chain(&id), "srv/howdah/incremental/20261121T012341/chain.json");
        assert_eq!(layout.wals_dir(), "srv/wals");
        assert_eq!(layout.manifest(&id), "srv/howdah/manifests/20261121T012341/backup_manifest");
    }

    #[test]
    fn keys_are_never_encrypted() {
        let layout = layout();
        for key in [layout.repository_key(), layout.data_key("00"), layout.probe()] {
            assert!(Layout::is_always_plain(&key), "{key}");
        }
        for key in [layout.lineage(), layout.backup_info(&id()), "srv/base/howdah/keys/x".to_owned()] {
            assert!(!Layout::is_always_plain(&key), "{key}");
        }
    }

    #[rstest]
    #[case("data.tar", Archive::Data, 0, Compression::None)]
    #[case("data_0001.tar.gz", Archive::Data, 1, Compression::Gzip)]
    #[case("data_12345.tar.lz4", Archive::Data, 12345, Compression::Lz4)]
    #[case("16384.tar.snappy", Archive::Tablespace(16384), 0, Compression::Snappy)]
    #[case("16384_0010.tar.zst", Archive::Tablespace(16384), 10, Compression::Zstd)]
    fn part_names_round_trip(
        #[case] file: &str,
        #[case] archive: Archive,
        #[case] index: u32,
        #[case] compression: Compression,
    ) {
        let part = PartName { archive, index, compression };
        assert_eq!(PartName::parse(file), Some(part));
        assert_eq!(part.to_string(), file);
        assert_eq!(layout().part(&id(), part), format!("srv/base/20261121T012341/{file}"));
    }

    #[rstest]
    #[case("backup.info")]
    #[case("data.tar.xz")]
    #[case("data.tgz")]
    #[case("data_1.tar")]
    #[case("data_0000.tar")]
    #[case("data_+001.tar")]
    #[case("016384.tar")]
    #[case("4294967296.tar")]
    #[case(".tar")]
    #[case("other.tar")]
    fn other_files_are_no_parts(#[case] file: &str) {
        assert_eq!(PartName::parse(file), None);
    }

    #[test]
    fn parts_sort_as_they_are_read() {
        let mut names: Vec<PartName> = ["16384.tar", "data_0010.tar", "data.tar", "data_0002.tar"]
            .iter()
            .filter_map(|name| PartName::parse(name))
            .collect();
        names.sort();
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["data.tar", "data_0002.tar", "data_0010.tar", "16384.tar"]);
    }

    #[rstest]
    #[case("")]
    #[case("a/b")]
    #[case("..")]
    #[case("a\nb")]
    fn server_names_are_one_segment(#[case] name: &str) {
        assert!(Layout::new(name).is_err());
    }
}
