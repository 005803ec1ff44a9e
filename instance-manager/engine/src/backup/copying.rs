//! The middle of a backup: files are read into parts, the backup is ended, the last part is closed.

use super::begin::Beginning;
use super::changes::Increment;
use super::copy::{FileNames, PageCheck, READ_BUFFER};
use super::fill::{Filled, Group, Job};
use super::listed::Listed;
use super::part::{FinishedPart, PartContext, PartTask};
use super::plan;
use super::pool::BufferPool;
use super::priority;
use super::record::FileRecord;
use super::request::TablespaceInfo;
use super::resume::{Kept, Origin, PartRecord, Shelf};
use super::run::Run;
use super::session::{ServerFacts, Session, Stopped};
use super::throttle::Limits;
use super::walk::{self, Root, Stat};
use crate::error::{Error, ErrorKind, Result};
use crate::increment::add_origin;
use crate::progress::Phase;
use barman_cloud::exclude::Scope;
use barman_cloud::{Archive, BackupId, PartName};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// What copying left.
pub(super) struct Copied {
    pub(super) parts: Vec<FinishedPart>,
    pub(super) records: Vec<FileRecord>,
    pub(super) bytes: u64,
    pub(super) stopped: Stopped,
}

impl Run {
    pub(super) async fn copy(
        &mut self,
        session: &Session,
        now: Beginning<'_>,
        id: &BackupId,
        leftover: Option<BTreeMap<PartName, PartRecord>>,
        increment: Option<Increment>,
    ) -> Result<Copied> {
        let facts = now.facts;
        // After the begin: what is made from now on, WAL brings back.
        let increment = match increment {
            Some(increment) => Some((increment, session.databases().await?)),
            None => None,
        };
        let job = Arc::new(self.job(now, id, increment).await?);
        let request = &self.request;
        let (codec, level) = (request.compression, request.compression_level);
        let origin = Origin::new(facts.system_id, facts.version, codec, level, request.manifest_checksum);
        let kept = match leftover {
            Some(noted) => self.keep(&job, noted, &origin).await?,
            None => Kept::default(),
        };
        self.note_origin(id, &origin).await?;
        let workers: Vec<_> = (0..self.request.jobs)
            .map(|_| {
                let job = Arc::clone(&job);
                let (cancel, pool) = (job.cancel.clone(), job.context.pool.clone());
                self.thread("a worker of the backup stopped", move || {
                    let filled = job.work();
                    if filled.is_err() {
                        // The others need not go on, and must not wait for buffers.
                        cancel.cancel();
                        pool.close();
                    }
                    filled
                })
            })
            .collect();
        let mut all = Vec::with_capacity(workers.len());
        for worker in workers {
            all.push(worker.await?);
        }
        let rest = async {
            let (mut filled, tasks) = self.gather(&job, all).await?;
            filled.bytes += kept.bytes;
            filled.records.extend(kept.records);
            self.progress.enter(Phase::Stopping);
            self.finish(session, facts, &job, filled, tasks).await
        };
        let mut copied = match rest.await {
            Ok(copied) => copied,
            // A part that could not be written to: its upload says why.
            Err(error) if error.kind() == ErrorKind::Cancelled => {
                let broken = std::mem::take(&mut *job.broken.lock().unwrap_or_else(PoisonError::into_inner));
                return Err(first_failure(broken).await.unwrap_or(error));
            }
            Err(error) => return Err(error),
        };
        copied.parts.extend(kept.parts);
        copied.parts.sort_by_key(|part| part.name);
        Ok(copied)
    }

    async fn job(
        &mut self,
        now: Beginning<'_>,
        id: &BackupId,
        increment: Option<(Increment, BTreeMap<u32, String>)>,
    ) -> Result<Job> {
        let Beginning { facts, control, started } = now;
        let (pgdata, spaces) = (self.request.pgdata.clone(), facts.tablespaces.clone());
        let (jobs, major) = (self.request.jobs, facts.version / 10_000);
        let list = move || {
            let groups = groups(&pgdata, &spaces, major, jobs)?;
            Ok::<_, Error>(Listed::new(groups, increment))
        };
        let listed = self.thread("listing the data directory stopped", list).await??;
        self.progress.set_total(listed.read);
        let sizes = plan::sizes(&self.request.part_size, listed.stored, jobs)?;
        let buffer = usize::try_from(sizes.buffer_bytes).unwrap_or(usize::MAX);
        let pool = BufferPool::new(sizes.buffers, buffer);
        self.pool = Some(pool.clone());
        let check = control.data_checksums.then_some(PageCheck {
            page: control.block_size as usize,
            segment_pages: control.relation_segment_blocks,
            start: started.lsn,
        });
        // Its own, so that a worker's failure stops the others without hiding the failure.
        let cancel = self.cancel.child_token();
        let asked = &self.request.limits;
        Ok(Job {
            context: PartContext {
                store: self.request.repository.store().clone(),
                pool,
                compression: self.request.compression,
                level: self.request.compression_level,
                progress: Arc::clone(&self.progress),
                shelf: Shelf::new(&self.request.repository, id),
                limits: Limits::new(asked, READ_BUFFER as u64, sizes.buffer_bytes, cancel.clone()),
                runtime: tokio::runtime::Handle::current(),
                uploads: self.uploads.clone(),
            },
            layout: self.request.repository.layout().clone(),
            id: id.clone(),
            groups: listed.groups,
            check,
            increment: listed.increment,
            checksum: self.request.manifest_checksum,
            tar_bytes: sizes.tar_bytes,
            cancel,
            broken: Mutex::default(),
        })
    }

    /// Work that reads files or compresses, with the priority of the backup.
    pub(super) fn thread<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = Result<T>> + Send {
        priority::start(self.request.priority, what, work)
    }

    /// Puts the workers' results together. When one failed, the upload that made it fail says why.
    async fn gather(&self, job: &Arc<Job>, all: Vec<Result<Filled>>) -> Result<(Filled, Vec<PartTask>)> {
        let mut sum = Filled::default();
        let mut tasks = Vec::new();
        let mut failure: Option<Error> = None;
        for filled in all {
            match filled {
                Ok(mut filled) => {
                    tasks.append(&mut filled.tasks);
                    sum.records.append(&mut filled.records);
                    sum.bytes += filled.bytes;
                    match filled.open {
                        Some(part) if job.is_last_data(&part) => sum.open = Some(part),
                        Some(part) if failure.is_none() => {
                            let job = Arc::clone(job);
                            let close = move || job.finish(part, &[]);
                            tasks.push(self.thread("closing a part stopped", close).await??);
                        }
                        _ => {}
                    }
                }
                Err(error) => {
                    // Cancelled workers follow the one that failed first.
                    if failure.as_ref().is_none_or(|known| known.kind() == ErrorKind::Cancelled) {
                        failure = Some(error);
                    }
                }
            }
        }
        match failure {
            None => Ok((sum, tasks)),
            Some(error) if error.kind() == ErrorKind::Cancelled => {
                drop(sum);
                Err(first_failure(tasks).await.unwrap_or(error))
            }
            Some(error) => Err(error),
        }
    }

    /// The control file and what must follow it: it is read after everything else and before the stop, because a
    /// standby's backup ends where the control file says.
    async fn finish(
        &mut self,
        session: &Session,
        facts: &ServerFacts,
        job: &Arc<Job>,
        mut filled: Filled,
        mut tasks: Vec<PartTask>,
    ) -> Result<Copied> {
        let (open, blocking_job) = (filled.open.take(), Arc::clone(job));
        let (pgdata, outside) = (self.request.pgdata.clone(), outside_files(&self.request.pgdata, facts));
        let last_files = move || {
            let mut copier = blocking_job.copier();
            let part = match open {
                Some(part) => part,
                None => blocking_job.open_next_data()?,
            };
            let (part, ()) = blocking_job.fill(part, |part| {
                let name = Path::new("global/pg_control");
                let source = pgdata.join(name);
                let names = FileNames { entry: name, manifest: name, source: &source };
                if !copier.file(part, names)? {
                    return Err(Error::new(ErrorKind::Io, format!("{} has vanished", source.display())));
                }
                for source in outside {
                    let Some(file) = source.file_name() else { continue };
                    let entry = Path::new(".").join(file);
                    copier.file(
                        part,
                        FileNames { entry: &entry, manifest: Path::new(file), source: &source },
                    )?;
                }
                Ok(())
            })?;
            Ok::<_, Error>((part, std::mem::take(&mut copier.records)))
        };
        let (part, mut records) = self.thread("the last part stopped", last_files).await??;

        let mut stopped = session.stop().await?;
        if let Some(increment) = &job.increment {
            let parent = &increment.parent;
            if stopped.lsn < parent.end {
                return Err(Error::new(
                    ErrorKind::Postgres,
                    format!(
                        "the backup ended at {}, before the end of backup {} at {}",
                        stopped.lsn, parent.id, parent.end
                    ),
                )
                .with_remedy("take the backup again when the standby has replayed more"));
            }
            stopped.label = add_origin(&stopped.label, parent.begin, parent.timeline);
        }
        let owner = job.data().tree().dirs.first().map(|root| root.stat);
        let owner = Stat {
            mtime: stopped.time.timestamp(),
            ..owner.unwrap_or(Stat { mode: 0o600, uid: 0, gid: 0, mtime: 0 })
        };
        let (blocking_job, label) = (Arc::clone(job), stopped.label.clone());
        let close = move || {
            let mut copier = blocking_job.copier();
            let (part, ()) = blocking_job
                .fill(part, |part| copier.content(part, "backup_label", label.as_bytes(), &owner))?;
            Ok::<_, Error>((blocking_job.finish(part, &[])?, std::mem::take(&mut copier.records)))
        };
        let (task, mut label_records) = self.thread("the last part stopped", close).await??;
        tasks.push(task);
        filled.records.append(&mut records);
        filled.records.append(&mut label_records);

        let mut parts = Vec::with_capacity(tasks.len());
        for task in tasks {
            parts.push(task.await.map_err(|error| {
                Error::new(ErrorKind::Cancelled, "an upload stopped").with_source(error)
            })??);
        }
        // In the order of the parts, so that the files of each are one run in the manifest.
        filled.records.sort_by_key(|record| record.part);
        Ok(Copied { parts, records: filled.records, bytes: filled.bytes, stopped })
    }
}

/// Lists all trees: tablespaces first, the data directory last.
fn groups(pgdata: &Path, spaces: &[TablespaceInfo], major: u32, jobs: usize) -> Result<Vec<Group>> {
    let mut groups = Vec::with_capacity(spaces.len() + 1);
    let mut apart = Vec::with_capacity(spaces.len());
    for space in spaces {
        // As PostgreSQL itself finds it; a standby or a pod may see the location elsewhere.
        let link = pgdata.join(format!("pg_tblspc/{}", space.oid));
        let real =
            link.canonicalize().map_err(|error| Error::io("cannot find the tablespace", &link, error))?;
        let tree = walk::walk(Root { path: &real, scope: Scope::Tablespace { major }, apart: &[] })?;
        groups.push(Group::new(Archive::Tablespace(space.oid), tree, jobs));
        apart.push(real);
    }
    let tree = walk::walk(Root { path: pgdata, scope: Scope::Data, apart: &apart })?;
    groups.push(Group::new(Archive::Data, tree, jobs));
    Ok(groups)
}

/// Configuration files that live outside of the data directory travel at its top, under their own names.
fn outside_files(pgdata: &Path, facts: &ServerFacts) -> Vec<PathBuf> {
    let inside = |path: &Path| path.starts_with(&facts.data_directory) || path.starts_with(pgdata);
    [&facts.config_file, &facts.hba_file, &facts.ident_file]
        .into_iter()
        .filter(|path| !inside(path) && path.is_file())
        .filter(|path| path.file_name().is_some_and(|name| !pgdata.join(name).exists()))
        .cloned()
        .collect()
}

async fn first_failure(tasks: Vec<PartTask>) -> Option<Error> {
    for task in tasks {
        match task.await {
            Ok(Err(error)) if error.kind() != ErrorKind::Cancelled => return Some(error),
            _ => {}
        }
    }
    None
}
