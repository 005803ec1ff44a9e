//! What WAL there is.

use crate::archive::WalObject;
use crate::error::{Error, ErrorKind, Result};
use crate::repository::Repository;
use crate::wal_name::{Segment, SegmentRange, WalName};
use std::collections::{BTreeMap, BTreeSet};

impl Repository {
    /// The objects in one hash directory of the archive, by key. `segment` may be any of the directory.
    pub async fn list_wal_dir(&self, segment: Segment) -> Result<Vec<WalObject>> {
        let listing = self.store().list_dir(&self.layout().wal_hash_dir(segment)).await?;
        Ok(listing.objects.into_iter().filter_map(WalObject::recognise).collect())
    }

    /// Every object of the archive, by key. Long for a long archive: one request per thousand.
    pub async fn list_wal(&self) -> Result<Vec<WalObject>> {
        let objects = self.store().list(&self.layout().wals_dir()).await?;
        Ok(objects.into_iter().filter_map(WalObject::recognise).collect())
    }

    /// The hash directories of the archive, in order: which timelines and logs it holds.
    pub async fn list_wal_dirs(&self) -> Result<Vec<String>> {
        Ok(self.store().list_dir(&self.layout().wals_dir()).await?.dirs)
    }

    /// The top of the archive, with one listing: the hash directories in order, and the history files.
    pub async fn wal_top(&self) -> Result<(Vec<Segment>, Vec<WalObject>)> {
        let listing = self.store().list_dir(&self.layout().wals_dir()).await?;
        let dirs = listing.dirs.iter().filter_map(|dir| super::directory(dir)).collect();
        let histories = listing.objects.into_iter().filter_map(WalObject::recognise);
        Ok((dirs, histories.filter(|object| matches!(object.name, WalName::History(_))).collect()))
    }

    /// The history files of the archive by timeline.
    pub async fn histories(&self) -> Result<BTreeMap<u32, WalObject>> {
        let listing = self.store().list_dir(&self.layout().wals_dir()).await?;
        Ok(listing
            .objects
            .into_iter()
            .filter_map(WalObject::recognise)
            .filter_map(|object| match object.name {
                WalName::History(timeline) => Some((timeline, object)),
                _ => None,
            })
            .collect())
    }

    /// The segments of a range that have no complete object in the archive, in order.
    pub async fn missing_wal(&self, range: SegmentRange) -> Result<Vec<Segment>> {
        let mut missing = Vec::new();
        let mut dir: Option<(String, BTreeSet<Segment>)> = None;
        for segment in range {
            let name = segment.hash_dir();
            let known = match &dir {
                Some((known, present)) if *known == name => present.contains(&segment),
                _ => {
                    let present = self.present_in(segment).await?;
                    let known = present.contains(&segment);
                    dir = Some((name, present));
                    known
                }
            };
            if !known {
                missing.push(segment);
            }
        }
        Ok(missing)
    }

    /// Fails with [`ErrorKind::NotFound`], naming the first missing segment, unless the whole range is there.
    pub async fn require_wal(&self, range: SegmentRange) -> Result<()> {
        let missing = self.missing_wal(range).await?;
        let Some(first) = missing.first() else { return Ok(()) };
        let more = match missing.len() {
            1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        Err(Error::new(
            ErrorKind::NotFound,
            format!("WAL segment {first}{more} is not in the archive {}", self.url()),
        )
        .with_key(self.store().url_of(&self.layout().wal(WalName::Segment(*first), crate::Compression::None)))
        .with_remedy("check that archiving works; a backup without its WAL cannot be restored"))
    }

    async fn present_in(&self, segment: Segment) -> Result<BTreeSet<Segment>> {
        Ok(self
            .list_wal_dir(segment)
            .await?
            .into_iter()
            // An empty object holds no segment, whatever its name.
            .filter(|object| object.object.size > 0)
            .filter_map(|object| match object.name {
                WalName::Segment(segment) => Some(segment),
                _ => None,
            })
            .collect())
    }
}
