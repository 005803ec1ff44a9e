//! The histories of all timelines of an archive.

use super::survey::directory;
use crate::archive::WalObject;
use crate::error::{Error, ErrorKind, Result};
use crate::lsn::Lsn;
use crate::repository::Repository;
use crate::timeline::TimelineHistory;
use std::collections::BTreeMap;

/// Histories by timeline. One that cannot be read is there with its error.
pub type Histories = BTreeMap<u32, Result<TimelineHistory>>;

/// The history of a timeline: what its file says, or none at all for one without a file. `None` when there is a file
/// and it cannot be read.
pub(crate) fn history_of(histories: &Histories, timeline: u32) -> Option<TimelineHistory> {
    match histories.get(&timeline) {
        Some(Ok(history)) => Some(history.clone()),
        Some(Err(_)) => None,
        None => Some(TimelineHistory::root(timeline)),
    }
}

/// The newest timeline that grew out of `timeline` after `end`; `timeline` itself when there is none.
pub fn newest_from(histories: &Histories, timeline: u32, end: Lsn) -> Option<TimelineHistory> {
    histories
        .values()
        .rev()
        .filter_map(|history| history.as_ref().ok())
        .find(|history| history.timeline() > timeline && history.contains(timeline, end))
        .cloned()
        .or_else(|| history_of(histories, timeline))
}

impl Repository {
    /// Reads every history file of the archive; there are few, and they are small. One that is damaged is an entry
    /// with its error; only a store that does not answer fails the whole.
    pub async fn read_histories(&self) -> Result<Histories> {
        let mut histories = Histories::new();
        for timeline in self.histories().await?.into_keys() {
            let history = match self.read_history(timeline).await {
                Ok(Some(history)) => Ok(history),
                // It went away in between.
                Ok(None) => continue,
                Err(error) if error.kind() == ErrorKind::Corrupt => Err(error),
                Err(error) => return Err(error),
            };
            histories.insert(timeline, history);
        }
        Ok(histories)
    }
}

impl Repository {
    /// The highest timeline of which there is WAL or a history file; 0 when there is none. One listing.
    pub async fn highest_timeline(&self) -> Result<u32> {
        let listing = self.store().list_dir(&self.layout().wals_dir()).await?;
        let of_dirs = listing.dirs.iter().filter_map(|dir| Some(directory(dir)?.timeline));
        let objects = listing.objects.into_iter().filter_map(WalObject::recognise);
        Ok(of_dirs.chain(objects.map(|object| object.name.timeline())).max().unwrap_or(0))
    }
}

/// All histories, or the first error among them.
pub fn all_readable(histories: Histories) -> Result<BTreeMap<u32, TimelineHistory>, Error> {
    histories.into_iter().map(|(timeline, history)| Ok((timeline, history?))).collect()
}
