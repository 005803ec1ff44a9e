//! The end of a backup: what makes it complete, in the order that lets nobody take it for complete too early.

use super::archive_wait::{self, NeededWal};
use super::bad_pages::{BadPagePolicy, BadPages};
use super::commit::{self, PartList, ServerNote};
use super::copying::Copied;
use super::request::BackupResult;
use super::resume::{Sealed, Shelf};
use super::run::{Run, or_cancelled};
use super::session::{ServerFacts, Started, Stopped, label_value};
use crate::control::ControlData;
use crate::error::{Error, ErrorKind, Result};
use crate::progress::Phase;
use barman_cloud::{BackupId, BackupInfo};

impl Run {
    /// All pages were read by now, so that everything that is damaged is named at once.
    pub(super) fn check_pages(&self) -> Result<()> {
        let bad = self.progress.bad_pages();
        if bad.is_empty() {
            return Ok(());
        }
        tracing::warn!(count = bad.count, "the backup holds pages with wrong checksums");
        match self.request.bad_pages {
            BadPagePolicy::Warn => Ok(()),
            BadPagePolicy::Fail => Err(Error::new(
                ErrorKind::BadPages,
                format!("wrong checksums of data pages ({} in all): {}", bad.count, bad.named(10)),
            )),
        }
    }

    /// Stores what makes the data a backup, once PostgreSQL was told the end, and notes that nothing but the archive is
    /// waited for.
    pub(super) async fn seal(
        &self,
        facts: &ServerFacts,
        control: &ControlData,
        started: &Started,
        id: &BackupId,
        copied: Copied,
    ) -> Result<Sealed> {
        let repository = &self.request.repository;
        let stopped = &copied.stopped;
        check_label(started, stopped)?;
        let mut info = self.started_info(facts, control, started);
        info.backup_label = Some(stopped.label.clone());
        info.backup_name.clone_from(&self.request.name);
        info.cluster_size = Some(copied.bytes);
        info.finish(started.timeline, stopped.lsn, control.wal_segment_size, stopped.time.fixed_offset());
        let manifest = super::manifest::render(facts, started, stopped, &copied.records)?;
        let server = ServerNote {
            block_size: control.block_size,
            segment_blocks: control.relation_segment_blocks,
            databases: facts.databases.clone(),
        };
        let list = PartList::new(&copied.parts, &copied.records).with_server(server);
        let manifest_bytes = manifest.len() as u64;
        let sealed = Sealed { info: info.render(), manifest_bytes, bad_pages: self.progress.bad_pages() };
        let store = async {
            repository.store().put(&repository.layout().manifest(id), manifest).await?;
            list.store(repository, id).await?;
            Shelf::new(repository, id).put_sealed(&sealed).await
        };
        or_cancelled(&self.cancel, store).await?;
        Ok(sealed)
    }

    /// Waits for the WAL and sets the commit mark. `closed`: ending the backup closed its last segment.
    pub(super) async fn commit(&self, id: &BackupId, sealed: &Sealed, closed: bool) -> Result<BackupResult> {
        let repository = &self.request.repository;
        let info = BackupInfo::parse(&sealed.info)?;
        let incomplete = || Error::new(ErrorKind::Corrupt, format!("backup {id}: its record names no end"));
        let (begin, end) = info.needed_wal()?;
        let end_lsn = info.end_xlog.ok_or_else(incomplete)?;

        self.progress.enter(Phase::WaitingForWal { end_wal: end, end_lsn });
        let needed = NeededWal { begin, end, end_lsn, size: info.segment_size()?, closed };
        let limit = self.request.wal_timeout;
        match &self.request.borrowed_wal {
            None => {
                archive_wait::wait(&[repository], needed, self.primary.as_ref(), limit, &self.cancel).await?
            }
            Some(borrowed) => {
                let sources: Vec<_> = borrowed.sources.iter().collect();
                archive_wait::wait(&sources, needed, self.primary.as_ref(), limit, &self.cancel).await?;
                borrowed.copy(repository, needed, &self.cancel).await?;
            }
        }
        super::history::ensure(repository, &self.request.pgdata, begin.timeline).await?;

        self.progress.enter(Phase::Committing);
        let look = async {
            let list = PartList::load(repository, id).await?.ok_or_else(|| {
                let url = repository.store().url_of(&repository.layout().parts(id));
                Error::new(ErrorKind::Missing, format!("{url} is missing"))
            })?;
            // A last look: the store may have lost something since it was confirmed.
            let manifest = repository.layout().manifest(id);
            let stored = repository.store().stored_size(&manifest, sealed.manifest_bytes);
            super::part::confirm(repository.store(), &manifest, stored).await?;
            list.compare(id, repository, &commit::stored_parts(repository, id).await?)?;
            Ok(list)
        };
        let list = or_cancelled(&self.cancel, look).await?;
        repository.put_backup_info(id, &info).await?;
        if !repository.backup_info(id).await?.is_done() {
            return Err(Error::new(
                ErrorKind::Corrupt,
                format!(
                    "{}: the store does not give back what was written",
                    repository.layout().backup_info(id)
                ),
            ));
        }
        self.finished(id, &info, &list, sealed.bad_pages.clone()).await
    }

    /// The result of a backup whose commit mark is set.
    pub(super) async fn finished(
        &self,
        id: &BackupId,
        info: &BackupInfo,
        list: &PartList,
        bad_pages: BadPages,
    ) -> Result<BackupResult> {
        if let Err(error) = Shelf::new(&self.request.repository, id).clear().await {
            tracing::warn!(backup = %id, error = %error.report(), "notes of the backup stay in the store; the sweep removes them");
        }
        let chain = self.chain(id).await?;
        let mut result = super::outcome::result(id, info, list, bad_pages)?;
        result.instead = self.instead.as_ref().map(ToString::to_string);
        if let Some(chain) = chain {
            result.set_bytes += self.bytes_below(&chain).await?;
            result.label = barman_cloud::chain::label(chain.kind, id, chain.full());
            (result.kind, result.ancestors) = (chain.kind, chain.ancestors);
        }
        self.progress.enter(Phase::Done);
        Ok(result)
    }
}

fn check_label(started: &Started, stopped: &Stopped) -> Result<()> {
    let timeline = label_value(&stopped.label, "START TIMELINE");
    if timeline.is_some_and(|timeline| timeline.parse() != Ok(started.timeline)) || stopped.lsn < started.lsn
    {
        return Err(Error::new(
            ErrorKind::Postgres,
            format!(
                "the backup started on timeline {} at {} and ended on timeline {} at {}",
                started.timeline,
                started.lsn,
                timeline.unwrap_or("unknown"),
                stopped.lsn
            ),
        )
        .with_remedy("the server was promoted meanwhile: take the backup again"));
    }
    Ok(())
}
