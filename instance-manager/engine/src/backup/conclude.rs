//! The end of a backup: what makes it complete, in the order that lets nobody take it for complete too early.

use super::archive_wait::{self, NeededWal};
use super::bad_pages::BadPagePolicy;
use super::commit::{self, PartList};
use super::copying::Copied;
use super::request::{BackupResult, StoredPart};
use super::run::{Run, or_cancelled};
use super::session::{ServerFacts, Started, Stopped, label_value};
use crate::control::ControlData;
use crate::error::{Error, ErrorKind, Result};
use crate::progress::Phase;
use barman_cloud::BackupId;

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

    pub(super) async fn commit(
        &mut self,
        facts: &ServerFacts,
        control: &ControlData,
        started: &Started,
        id: &BackupId,
        copied: Copied,
    ) -> Result<BackupResult> {
        let repository = self.request.repository.clone();
        let stopped = &copied.stopped;
        check_label(started, stopped)?;
        let mut info = self.started_info(facts, control, started);
        info.backup_label = Some(stopped.label.clone());
        info.backup_name.clone_from(&self.request.name);
        info.cluster_size = Some(copied.bytes);
        info.finish(started.timeline, stopped.lsn, control.wal_segment_size, stopped.time.fixed_offset());
        let (begin_wal, end_wal) = info.needed_wal()?;

        self.progress.enter(Phase::WaitingForWal { end_wal, end_lsn: stopped.lsn });
        let needed = NeededWal {
            begin: begin_wal,
            end: end_wal,
            end_lsn: stopped.lsn,
            size: control.wal_segment_size,
            closed: !facts.in_recovery,
        };
        let limit = self.request.wal_timeout;
        archive_wait::wait(&repository, needed, self.primary.as_ref(), limit, &self.cancel).await?;
        super::history::ensure(&repository, &self.request.pgdata, started.timeline).await?;

        self.progress.enter(Phase::Committing);
        let manifest = super::manifest::render(facts, started, stopped, &copied.records)?;
        let key = repository.layout().manifest(id);
        let list = PartList::new(&copied.parts, &copied.records);
        let store = async {
            repository.store().put(&key, manifest).await?;
            list.store(&repository, id).await?;
            // A last look: the store may have lost something since it was confirmed.
            list.compare(id, &repository, &commit::stored_parts(&repository, id).await?)
        };
        or_cancelled(&self.cancel, store).await?;
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
        self.progress.enter(Phase::Done);
        Ok(BackupResult {
            backup_id: id.clone(),
            name: self.request.name.clone(),
            system_id: facts.system_id,
            server_version: facts.version,
            timeline: started.timeline,
            begin_wal,
            end_wal,
            begin_lsn: started.lsn,
            end_lsn: stopped.lsn,
            started_at: started.time,
            stopped_at: stopped.time,
            database_bytes: copied.bytes,
            stored_bytes: copied.parts.iter().map(|part| part.size).sum(),
            parts: copied
                .parts
                .iter()
                .map(|part| StoredPart { name: part.name.to_string(), size: part.size })
                .collect(),
            compression: self.request.compression,
            tablespaces: facts.tablespaces.clone(),
            data_checksums: control.data_checksums,
            bad_pages: self.progress.bad_pages(),
        })
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
