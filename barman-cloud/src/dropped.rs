//! WAL that was let go of on purpose without having been archived: `howdah/dropped/<first segment>.json`.
//!
//! The gap itself shows in the listing, as every gap does. The record says that nobody has to look for the files.

use crate::error::{Error, ErrorKind, Result};
use crate::repository::Repository;
use crate::wal_name::Segment;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// Largest record that is read.
const MAX_SIZE: u64 = 64 << 10;

/// One gap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    /// The first segment.
    pub first: Segment,
    /// The last one, on the same timeline.
    pub last: Segment,
    /// How many they are.
    pub segments: u64,
    /// When the first was let go of.
    pub since: DateTime<Utc>,
    /// When the last was.
    pub until: DateTime<Utc>,
    /// Who did it: an instance.
    pub by: String,
    /// Why.
    pub reason: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    timeline: u32,
    first: String,
    last: String,
    segments: u64,
    since: DateTime<Utc>,
    until: DateTime<Utc>,
    by: String,
    reason: String,
}

impl Repository {
    /// Writes down a gap that was made on purpose, in place of an older record with the same beginning.
    pub async fn put_dropped(&self, dropped: &Dropped) -> Result<()> {
        let record = Record {
            timeline: dropped.first.timeline,
            first: dropped.first.to_string(),
            last: dropped.last.to_string(),
            segments: dropped.segments,
            since: dropped.since,
            until: dropped.until,
            by: dropped.by.clone(),
            reason: dropped.reason.clone(),
        };
        let body = serde_json::to_vec_pretty(&record)
            .map_err(|error| Error::new(ErrorKind::Other, "writing what was let go of").with_source(error))?;
        self.store().put(&self.layout().dropped(&record.first), body.into()).await
    }

    /// All such gaps, oldest first. A record that cannot be read is passed over with a warning: the gap is seen without.
    pub async fn dropped(&self) -> Result<Vec<Dropped>> {
        let mut all = Vec::new();
        for object in self.store().list(&self.layout().dropped_dir()).await? {
            let Some(body) = self.store().get_if_exists(&object.key, MAX_SIZE).await? else { continue };
            match serde_json::from_slice(&body).ok().and_then(read) {
                Some(dropped) => all.push(dropped),
                None => tracing::warn!(
                    url = self.store().url_of(&object.key),
                    "this is no record of WAL that was let go of; it is passed over"
                ),
            }
        }
        all.sort_by_key(|dropped| dropped.first);
        Ok(all)
    }
}

fn read(record: Record) -> Option<Dropped> {
    Some(Dropped {
        first: record.first.parse().ok()?,
        last: record.last.parse().ok()?,
        segments: record.segments,
        since: record.since,
        until: record.until,
        by: record.by,
        reason: record.reason,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Destination, Store};

    #[tokio::test]
    async fn a_gap_is_kept_and_grows() {
        let store = Store::memory(&Destination::parse("s3://b/p").expect("valid"));
        let repository = Repository::new(store, "srv").expect("valid");
        let segment = |text: &str| text.parse::<Segment>().expect("a segment");
        let gap = |last: &str, segments| Dropped {
            first: segment("00000001000000000000000A"),
            last: segment(last),
            segments,
            since: DateTime::UNIX_EPOCH,
            until: DateTime::UNIX_EPOCH,
            by: "pg-1".into(),
            reason: "the volume was nearly full".into(),
        };
        repository.put_dropped(&gap("00000001000000000000000A", 1)).await.expect("stored");
        let grown = gap("00000001000000000000000C", 3);
        repository.put_dropped(&grown).await.expect("replaced");
        let damaged = repository.layout().dropped("x");
        repository.store().put(&damaged, "{}".into()).await.expect("stored");
        assert_eq!(repository.dropped().await.expect("read"), [grown]);
    }
}
