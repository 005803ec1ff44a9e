//! The history file of the backup's timeline must be in the archive, or recovery cannot find its way.

use crate::error::{Error, Result};
use crate::wal::local_history;
use barman_cloud::archive::{ArchiveOptions, WalSource};
use barman_cloud::{Repository, TimelineHistory, WalName};
use std::path::Path;

/// The history of the server's timeline: from `pg_wal`, else from the archive. A timeline whose file is nowhere has no
/// ancestors that are known.
pub async fn of(repository: &Repository, pgdata: &Path, timeline: u32) -> Result<TimelineHistory> {
    if let Some(history) = local_history(pgdata, timeline)? {
        return Ok(history);
    }
    Ok(repository.read_history(timeline).await?.unwrap_or_else(|| TimelineHistory::root(timeline)))
}

/// PostgreSQL archives a history file once, at promotion. When archiving was set up later, or to another place, it
/// is still in `pg_wal` and is put into the archive from there. A server without the file has no ancestors to name.
pub async fn ensure(repository: &Repository, pgdata: &Path, timeline: u32) -> Result<()> {
    if timeline < 2 {
        return Ok(());
    }
    let name = WalName::History(timeline);
    if !repository.find_wal(name).await?.is_empty() {
        return Ok(());
    }
    let path = pgdata.join("pg_wal").join(name.to_string());
    match std::fs::metadata(&path) {
        Ok(_) => {
            repository.archive_wal(name, WalSource::File(path), &ArchiveOptions::default()).await?;
            Ok(())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            tracing::warn!(%name, "neither in the archive nor in pg_wal; recovery will know no earlier timelines");
            Ok(())
        }
        Err(error) => Err(Error::io("cannot look at", &path, error)),
    }
}
