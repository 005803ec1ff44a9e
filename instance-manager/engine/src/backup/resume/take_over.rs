//! Takes an interrupted backup over.

use super::super::commit;
use super::super::fill::Job;
use super::super::run::Run;
use super::Resume;
use super::keep::{Kept, Places, Review};
use super::record::{Origin, PartRecord, Sealed, Shelf};
use crate::error::{Error, ErrorKind, Result};
use crate::progress::Phase;
use barman_cloud::{Archive, BackupId, BackupInfo, PartName};
use chrono::{DateTime, Utc};
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What there is to go on from.
#[derive(Debug)]
pub enum Leftover {
    /// Finished parts, perhaps none.
    Parts(BTreeMap<PartName, PartRecord>),
    /// Everything but the archive's confirmation and the commit mark.
    Sealed(Box<Sealed>),
    /// Everything: only the news did not get through.
    Done(Box<BackupInfo>),
}

impl Run {
    /// Looks at what the interrupted backup left.
    pub(in crate::backup) async fn leftover(&self, resume: &Resume) -> Result<Leftover> {
        let repository = &self.request.repository;
        match repository.backup_info(&resume.id).await {
            Ok(info) if info.is_done() => return Ok(Leftover::Done(Box::new(info))),
            Ok(_) => {}
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
        let shelf = Shelf::new(repository, &resume.id);
        if let Some(sealed) = shelf.sealed().await? {
            return Ok(Leftover::Sealed(Box::new(sealed)));
        }
        if resume.finishing {
            return Err(Error::new(
                ErrorKind::Precondition,
                format!("backup {}: what is needed to finish it is not in the store any more", resume.id),
            )
            .with_remedy("take another backup"));
        }
        Ok(Leftover::Parts(shelf.parts().await?))
    }

    /// Keeps the parts whose files are what they were, and removes all others. Runs after PostgreSQL was told the new
    /// beginning: from here on the WAL tells every change.
    pub(in crate::backup) async fn keep(
        &self,
        job: &Arc<Job>,
        noted: BTreeMap<PartName, PartRecord>,
        origin: &Origin,
    ) -> Result<Kept> {
        let repository = &self.request.repository;
        let shelf = Shelf::new(repository, &job.id);
        let dir = repository.layout().backup_dir(&job.id);
        // Whoever began them is dead.
        repository.store().abort_uploads(&dir, DateTime::<Utc>::MAX_UTC).await?;
        let stored = commit::stored_parts(repository, &job.id).await?;
        let found = noted.len();
        let fits = shelf.origin().await?.as_ref() == Some(origin);
        let noted = if fits { noted } else { BTreeMap::new() };
        let places = places(job);
        let places = Arc::new(places);
        let review = Arc::new(Review::new(noted, &places, &stored));
        let threads: Vec<_> = (0..self.request.jobs)
            .map(|_| {
                let (review, places, job) = (Arc::clone(&review), Arc::clone(&places), Arc::clone(job));
                self.thread("looking at stored parts stopped", move || review.work(&places, &job))
            })
            .collect();
        for thread in threads {
            thread.await??;
        }
        let kept = review.take().without_gaps();
        for group in &job.groups {
            let parts = kept.parts.iter().filter(|part| part.name.archive == group.archive());
            let next = parts.map(|part| part.name.index + 1).max().unwrap_or(1);
            group.leave_out(files_of(&kept, &places, job, group.archive()), next);
        }
        let names: HashSet<String> = kept.parts.iter().map(|part| part.name.to_string()).collect();
        let others = stored.keys().filter(|name| !names.contains(*name));
        let keys: Vec<String> =
            others.map(|name| format!("{}/{name}", repository.layout().backup_dir(&job.id))).collect();
        if !keys.is_empty() {
            repository.store().delete_many(&keys).await?;
        }
        shelf.retain(&names).await?;
        tracing::info!(
            backup = %job.id, kept = kept.parts.len(), found, bytes = kept.bytes,
            "{}",
            if kept.parts.is_empty() {
                "no finished part can be kept: the backup starts again from the beginning"
            } else {
                "the backup goes on from its finished parts"
            }
        );
        self.progress.enter(Phase::Resumed { kept: kept.parts.len(), found, bytes: kept.bytes });
        Ok(kept)
    }

    /// Notes where the backup comes from.
    pub(in crate::backup) async fn note_origin(&self, id: &BackupId, origin: &Origin) -> Result<()> {
        Shelf::new(&self.request.repository, id).put_origin(origin).await
    }
}

/// Every file that would be read, by its path in the manifest.
fn places(job: &Job) -> Places {
    let mut places = Places::new();
    for (number, group) in job.groups.iter().enumerate() {
        for (index, file) in group.tree().files.iter().enumerate() {
            let (path, _) = group.tree().paths(file);
            places.insert(manifest_path(group.archive(), path), (number, index as u32));
        }
    }
    places
}

/// A file's path in the manifest.
pub fn manifest_path(archive: Archive, path: PathBuf) -> PathBuf {
    match archive {
        Archive::Data => path,
        Archive::Tablespace(oid) => Path::new("pg_tblspc").join(oid.to_string()).join(path),
    }
}

fn files_of(kept: &Kept, places: &Places, job: &Job, archive: Archive) -> HashSet<u32> {
    let records = kept.records.iter().filter_map(|record| places.get(&record.file.path));
    records.filter(|(group, _)| job.groups[*group].archive() == archive).map(|(_, file)| *file).collect()
}
