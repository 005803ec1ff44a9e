//! WAL for a backup in a repository that gets none by itself: the backup's own, from begin to end, copied from where it
//! is archived.

use super::archive_wait::NeededWal;
use crate::error::{Error, ErrorKind, Result};
use barman_cloud::archive::{ArchiveOptions, FetchOptions, WalWriter, WriterLimits};
use barman_cloud::{Repository, SegmentRange, WalName};
use std::path::PathBuf;
use tokio_util::sync::CancellationToken;

/// Where the WAL of a backup comes from when its repository archives none.
#[derive(Debug, Clone)]
pub struct BorrowedWal {
    /// Repositories of the same server that archive WAL, the preferred one first.
    pub sources: Vec<Repository>,
    /// Directory for one segment on its way; it is made when needed.
    pub scratch: PathBuf,
    /// How it is stored.
    pub options: ArchiveOptions,
}

impl BorrowedWal {
    /// Copies what the backup needs into `repository`, with the histories that lead to its timeline.
    pub async fn copy(
        &self,
        repository: &Repository,
        needed: NeededWal,
        cancel: &CancellationToken,
    ) -> Result<()> {
        std::fs::create_dir_all(&self.scratch)
            .map_err(|error| Error::io("cannot make", &self.scratch, error))?;
        let writer = WalWriter::new(repository.clone(), self.options.clone(), WriterLimits::default());
        let range = SegmentRange::new(needed.begin, needed.end, needed.size)?;
        for segment in repository.missing_wal(range).await? {
            if cancel.is_cancelled() {
                return Err(Error::cancelled());
            }
            if !self.one(WalName::Segment(segment), needed, &writer).await? {
                return Err(Error::new(
                    ErrorKind::Missing,
                    format!("no repository has {segment}, which the backup needs, any more"),
                )
                .with_remedy("take the backup again"));
            }
        }
        let known = repository.histories().await?;
        for timeline in (2..=needed.end.timeline).filter(|timeline| !known.contains_key(timeline)) {
            // A timeline whose file is nowhere has no ancestors that are known.
            self.one(WalName::History(timeline), needed, &writer).await?;
        }
        Ok(())
    }

    /// False when nobody has the file.
    async fn one(&self, name: WalName, needed: NeededWal, writer: &WalWriter) -> Result<bool> {
        let check = FetchOptions { segment_size: Some(needed.size), ..FetchOptions::default() };
        let scratch = self.scratch.join(format!("backup-{name}"));
        let mut trouble = None;
        for source in &self.sources {
            let copying = async {
                let found = source.find_wal(name).await?;
                if found.iter().all(|object| object.name != name) {
                    return Ok(false);
                }
                source.copy_wal(name, &found, &scratch, &check, writer).await.map(|_| true)
            };
            match copying.await {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(error) => drop(trouble.get_or_insert(error)),
            }
        }
        trouble.map_or(Ok(false), |error: barman_cloud::Error| Err(error.into()))
    }
}
