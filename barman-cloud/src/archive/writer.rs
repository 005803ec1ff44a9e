//! Archiving many files, several at a time.
//!
//! A file takes these steps: is the name free, compress (side by side), write unless something is there, see that
//! the object is there with its size and alone under its name. Segments share the listings for the first and the
//! last step ([`Lookout`]), so that a segment costs one write and at most one listing.

use super::compare::accept_same;
use super::find::WalObject;
use super::lookout::Lookout;
use super::memory::{Budget, Buffers, Share};
use super::pack;
use super::put::{ArchiveOptions, ArchivedWal};
use super::source::WalSource;
use crate::error::{Error, ErrorKind, Result};
use crate::repository::Repository;
use crate::store::{Created, part_size};
use crate::wal_name::WalName;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Files up to this size are compressed in memory and sent in one request; larger ones (segments of 64 MiB and
/// more) go in parts.
const ONE_REQUEST: u64 = 33 << 20;

/// What files that are archived at the same time may use together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriterLimits {
    /// Files compressed at the same time.
    pub packing: usize,
    /// Files sent at the same time.
    pub sending: usize,
    /// Bytes in memory, for files that are archived ahead of a request. One requested file comes on top: up to
    /// 33 MiB, or three parts of a larger one.
    pub memory: u64,
}

impl Default for WriterLimits {
    fn default() -> Self {
        Self { packing: 2, sending: 4, memory: 32 << 20 }
    }
}

/// Who waits for a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Somebody does: it never waits for memory that others use.
    Requested,
    /// Nobody yet.
    Ahead,
}

/// Archives the files of one server.
pub struct WalWriter {
    repository: Repository,
    options: ArchiveOptions,
    lookout: Lookout,
    packing: Semaphore,
    sending: Semaphore,
    ahead: Budget,
    requested: Budget,
    buffers: Buffers,
    written: AtomicU64,
}

impl WalWriter {
    /// A writer that has made no request.
    pub fn new(repository: Repository, options: ArchiveOptions, limits: WriterLimits) -> Self {
        Self {
            repository,
            options,
            lookout: Lookout::default(),
            packing: Semaphore::new(limits.packing.max(1)),
            sending: Semaphore::new(limits.sending.max(1)),
            ahead: Budget::new(limits.memory),
            requested: Budget::new(ONE_REQUEST),
            buffers: Buffers::default(),
            written: AtomicU64::new(0),
        }
    }

    /// Bytes sent to the store so far.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Archives a file under its name; see [`Repository::archive_wal`].
    pub async fn archive(&self, name: WalName, source: &WalSource, lane: Lane) -> Result<ArchivedWal> {
        let outcome = self.put(name, source, lane).await;
        if outcome.is_err() {
            // Other content than the archived one, for example, means nothing when it is that of another segment.
            source.check()?;
        }
        outcome
    }

    async fn put(&self, name: WalName, source: &WalSource, lane: Lane) -> Result<ArchivedWal> {
        self.options.compression.check_level(self.options.level)?;
        let size = source.size(name)?;
        if size > ONE_REQUEST {
            return self.in_parts(name, source, size, lane).await;
        }
        let mut share = self.memory(size, lane).await;
        let key = self.repository.layout().wal(name, self.options.compression);
        // Looking for the name and compressing take about as long, so they go side by side.
        let packing = async {
            let sealer = self.repository.store().sealer(&key).await?;
            let _turn = turn(&self.packing).await?;
            pack::in_memory(source, size, &self.options, &self.buffers, sealer).await
        };
        let (existing, packed) = tokio::try_join!(self.existing(name), packing)?;
        if let Some(archived) = accept_same(&self.repository, &existing, source, size).await? {
            return Ok(archived);
        }
        source.check()?;
        let stored = packed.size();
        share.shrink(stored);
        let created = {
            let _turn = turn(&self.sending).await?;
            self.repository.store().create_sealed(&key, packed).await?
        };
        if created == Created::Exists {
            // Another writer was faster, or our own first try had arrived after all.
            let existing = self.exact(name).await?;
            return accept_same(&self.repository, &existing, source, size).await?.ok_or_else(|| {
                let text = "the store says that the object exists but does not list it";
                Error::new(ErrorKind::Unavailable, text).with_key(self.repository.store().url_of(&key))
            });
        }
        self.written.fetch_add(stored, Ordering::Relaxed);
        let archived = ArchivedWal { created, key, size, stored };
        self.confirm(name, source, archived).await
    }

    async fn memory(&self, bytes: u64, lane: Lane) -> Share {
        match lane {
            Lane::Requested => self.requested.take(bytes).await,
            Lane::Ahead => self.ahead.take(bytes).await,
        }
    }

    /// The objects that have the name, as far as a recent listing tells.
    async fn existing(&self, name: WalName) -> Result<Vec<WalObject>> {
        let (WalName::Segment(segment) | WalName::Partial(segment)) = name else {
            return self.exact(name).await;
        };
        let window = self.lookout.recent(&self.repository, segment).await?;
        Ok(named(window.of(segment), name))
    }

    /// The objects that have the name now.
    async fn exact(&self, name: WalName) -> Result<Vec<WalObject>> {
        Ok(named(Some(&self.repository.find_wal(name).await?), name))
    }

    /// Looks at an object after writing it: it must be there, with its size, and no object of another compression
    /// with other content. A writer that finds that it was not the only one takes its own object back: nobody was
    /// told of it yet.
    async fn confirm(&self, name: WalName, source: &WalSource, archived: ArchivedWal) -> Result<ArchivedWal> {
        if !self.options.confirm {
            return Ok(archived);
        }
        let seen = match name {
            WalName::Segment(segment) | WalName::Partial(segment) => {
                match self.lookout.fresh(&self.repository, segment).await {
                    Ok(window) => named(window.of(segment), name),
                    // The object itself decides.
                    Err(error) if error.is_transient() => Vec::new(),
                    Err(error) => return Err(error),
                }
            }
            _ => Vec::new(),
        };
        let (own, others): (Vec<_>, Vec<_>) =
            seen.into_iter().partition(|object| object.object.key == archived.key);
        match own.first() {
            Some(object) => self.check_stored(&archived, object.object.size)?,
            // Listings may lag behind.
            None => match self.repository.store().head(&archived.key).await {
                Ok(info) => self.check_stored(&archived, info.size)?,
                Err(error) if error.is_not_found() => {
                    return Err(self.lost(&archived.key, "it was written and is not there".to_owned()));
                }
                Err(error) => return Err(error),
            },
        }
        match accept_same(&self.repository, &others, source, archived.size).await {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                if let Err(cleanup) = self.repository.store().delete(&archived.key).await {
                    tracing::warn!(error = %cleanup.report(), "an object beside another of its name stays");
                }
                Err(error)
            }
            Err(error) => Err(error),
            Ok(_) => Ok(archived),
        }
    }

    fn check_stored(&self, archived: &ArchivedWal, found: u64) -> Result<()> {
        if found == archived.stored {
            return Ok(());
        }
        let text = format!("{} bytes were written and {found} are there", archived.stored);
        Err(self.lost(&archived.key, text))
    }

    fn lost(&self, key: &str, what: String) -> Error {
        Error::new(ErrorKind::Unavailable, what)
            .with_key(self.repository.store().url_of(key))
            .with_remedy("the store lost what it had accepted: check the store; archiving is tried again")
    }

    async fn in_parts(
        &self,
        name: WalName,
        source: &WalSource,
        size: u64,
        lane: Lane,
    ) -> Result<ArchivedWal> {
        let existing = self.existing(name).await?;
        if let Some(archived) = accept_same(&self.repository, &existing, source, size).await? {
            return Ok(archived);
        }
        let part = part_size(size, None)?;
        let _share = self.memory(part * pack::PARTS_HELD, lane).await;
        let _turn = turn(&self.sending).await?;
        let key = self.repository.layout().wal(name, self.options.compression);
        let sealer = self.repository.store().sealer(&key).await?;
        let upload = self.repository.store().upload(&key).await?;
        let sending = async {
            let (parts, stored) = pack::in_parts(&upload, source, size, part, &self.options, sealer).await?;
            source.check()?;
            // An upload in parts replaces what is there, so the last look is just before it appears.
            let existing = self.exact(name).await?;
            match accept_same(&self.repository, &existing, source, size).await? {
                Some(archived) => Ok((archived, None)),
                None => {
                    let key = key.clone();
                    Ok((ArchivedWal { created: Created::Yes, key, size, stored }, Some(parts)))
                }
            }
        };
        let abandon = async || {
            if let Err(cleanup) = upload.abort().await {
                tracing::warn!(error = %cleanup, "the parts of a broken upload stay in the store");
            }
        };
        let (archived, parts) = match sending.await {
            Ok(sent) => sent,
            Err(error) => {
                abandon().await;
                return Err(error);
            }
        };
        let Some(parts) = parts else {
            abandon().await;
            return Ok(archived);
        };
        if let Err(error) = upload.complete(parts).await {
            abandon().await;
            return Err(error);
        }
        self.written.fetch_add(archived.stored, Ordering::Relaxed);
        self.confirm(name, source, archived).await
    }
}

fn named(objects: Option<&[WalObject]>, name: WalName) -> Vec<WalObject> {
    objects.unwrap_or_default().iter().filter(|object| object.name == name).cloned().collect()
}

async fn turn(semaphore: &Semaphore) -> Result<SemaphorePermit<'_>> {
    semaphore
        .acquire()
        .await
        .map_err(|error| Error::new(ErrorKind::Other, "archiving ended").with_source(error))
}
