//! One bucket on one directory: objects, and what every change to them has to do, in its order.
//!
//! `objects/…#` are objects, `uploads/<id>/` uploads in progress, `parts/<id>/` the bytes of objects that were
//! uploaded in parts, `tmp/` what is being written or removed. Files are flushed before they are placed and
//! directories after it: what was acknowledged is there after a crash, and nothing half-written is.

use std::collections::HashMap;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use chrono::{DateTime, Utc};
use s3s::{S3Result, s3_error};

use super::open::{self, OpenError};
use super::path;
use super::read::{Held, Parts};
use super::record::Record;
use super::staging::Finished;
use super::tree::Tree;
use super::walk::Objects;
use crate::conditions::WriteCondition;
use crate::failure::{bad_key, no_room, no_such_bucket, no_such_key, storage_failure};
use crate::listing::{self, Page, Query};
use crate::object::ObjectInfo;

/// Bodies up to this size are taken on a volume that is nearly full: the records that a removal begins with are
/// small, and a full repository must be able to shrink.
const SMALL: u64 = 64 << 10;
/// Most room that is kept for them, in bytes; on small volumes it is a hundredth.
const RESERVE: u64 = 256 << 20;
/// Locks for keys and uploads: what shares one waits for its turn.
const STRIPES: usize = 64;

/// How long leftovers stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// An upload to which nothing came for so long was abandoned.
    pub uploads: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self { uploads: Duration::from_secs(7 * 24 * 3600) }
    }
}

/// One lock for each of some names.
#[derive(Debug)]
struct Stripes([Mutex<()>; STRIPES]);

impl Stripes {
    fn new() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }

    fn lock(&self, name: &str) -> MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        // Below STRIPES.
        let index = (hasher.finish() % STRIPES as u64) as usize;
        self.0[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A bucket.
#[derive(Debug)]
pub(super) struct Volume {
    pub name: String,
    pub created: DateTime<Utc>,
    pub top: PathBuf,
    pub tree: Tree,
    keys: Stripes,
    uploads: Stripes,
    /// Parts that are being read.
    held: Mutex<HashMap<String, Weak<Parts>>>,
    /// Keeps other processes away.
    _lock: File,
}

impl Volume {
    /// Opens the directory `top` as bucket `name`, making it when it is empty, and sweeps what a crash left.
    pub fn open(name: &str, top: PathBuf, retention: Retention) -> Result<Self, OpenError> {
        let opened = open::prepare(name, &top)?;
        let volume = Self {
            name: name.to_owned(),
            created: opened.created,
            top,
            tree: Tree::default(),
            keys: Stripes::new(),
            uploads: Stripes::new(),
            held: Mutex::default(),
            _lock: opened.lock,
        };
        volume.sweep(retention, true).map_err(OpenError::io("sweep", &volume.top))?;
        Ok(volume)
    }

    pub fn objects(&self) -> PathBuf {
        self.top.join("objects")
    }

    pub fn tmp(&self) -> PathBuf {
        self.top.join("tmp")
    }

    pub fn object_path(&self, key: &str) -> S3Result<PathBuf> {
        Ok(self.objects().join(path::of_key(key).map_err(bad_key)?))
    }

    pub fn lock_upload(&self, id: &str) -> MutexGuard<'_, ()> {
        self.uploads.lock(id)
    }

    /// Fails when a body of `length` bytes would not leave room enough.
    pub fn require_room(&self, length: Option<u64>) -> S3Result<()> {
        let space = rustix::fs::statvfs(&self.top).map_err(|error| storage_failure(error.into()))?;
        let (free, total) = (space.f_bavail * space.f_frsize, space.f_blocks * space.f_frsize);
        let reserve = RESERVE.min(total / 100);
        let wanted = length.unwrap_or(0);
        if wanted <= SMALL && length.is_some() || wanted.saturating_add(reserve) <= free {
            return Ok(());
        }
        Err(no_room(format!(
            "the volume of repository {} is full ({free} of {total} bytes are free, {wanted} were to come): enlarge \
             it or expire backups",
            self.name
        )))
    }

    /// Places a finished file under its key, over what is there. Returns with everything on the disk.
    pub fn place(&self, record: &Record, file: Finished, condition: &WriteCondition) -> S3Result<()> {
        let path = self.object_path(&record.info.key)?;
        let _key = self.keys.lock(&record.info.key);
        let present = Record::at(&path).map_err(storage_failure)?;
        condition.check(present.as_ref().map(|present| &present.info))?;
        self.tree.place(&file.path, &path).map_err(storage_failure)?;
        // The name is gone from where it was written; there is nothing left to clean up.
        let _ = file.path.keep();
        self.retire(present);
        Ok(())
    }

    pub fn delete(&self, key: &str) -> S3Result<()> {
        let path = self.object_path(key)?;
        let _key = self.keys.lock(key);
        let present = match Record::at(&path) {
            Ok(None) => return Ok(()),
            Ok(present) => present,
            // What cannot be read can be removed all the same; the next sweep finds its parts.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => None,
            Err(error) => return Err(storage_failure(error)),
        };
        self.tree.remove(&path, &self.objects()).map_err(storage_failure)?;
        self.retire(present);
        Ok(())
    }

    pub fn head(&self, key: &str) -> S3Result<ObjectInfo> {
        let found = Record::at(&self.object_path(key)?).map_err(storage_failure)?;
        found.map(|record| record.info).ok_or_else(|| no_such_key(key))
    }

    /// Opens an object: its description, and its bytes of the same version.
    pub fn open_object(&self, key: &str) -> S3Result<(ObjectInfo, Held)> {
        let path = self.object_path(key)?;
        // Parts may go between two steps, when the object is replaced; then the next look finds the new one.
        for _ in 0..8 {
            let file = match File::open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(no_such_key(key)),
                other => other.map_err(storage_failure)?,
            };
            let record = Record::read(&file, &path).map_err(storage_failure)?;
            let Some(assembled) = record.assembled else {
                return Ok((record.info, Held::File(file)));
            };
            if let Some(parts) = self.hold(&assembled.upload) {
                return Ok((record.info, Held::Parts { parts, numbers: assembled.numbers }));
            }
        }
        tracing::error!(bucket = self.name, key, "the parts of an object are missing");
        Err(s3_error!(InternalError, "the parts of the object are missing on the volume: {}", key))
    }

    /// The page that `query` asks for.
    pub fn list(&self, query: &Query) -> S3Result<Page<Arc<ObjectInfo>>> {
        let objects = self.objects();
        let found = listing::page(&Objects(&objects), query).map_err(storage_failure)?;
        let mut infos = Vec::with_capacity(found.objects.len());
        for key in &found.objects {
            // What was removed meanwhile is left out. What cannot be read is not: whoever lists would take it for
            // missing and act on that.
            if let Some(record) = Record::at(&self.object_path(key)?).map_err(storage_failure)? {
                infos.push(Arc::new(record.info));
            }
        }
        Ok(Page { objects: infos, prefixes: found.prefixes, next: found.next })
    }

    pub fn is_empty(&self) -> io::Result<bool> {
        Ok(listing::page(&Objects(&self.objects()), &Query { limit: 1, ..Query::default() })?
            .objects
            .is_empty())
    }

    /// Where the parts of an upload are: with the objects once it is complete.
    pub fn parts_dir(&self, upload: &str) -> Option<PathBuf> {
        ["parts", "uploads", "parts"].iter().map(|at| self.top.join(at).join(upload)).find(|dir| dir.is_dir())
    }

    fn held(&self) -> MutexGuard<'_, HashMap<String, Weak<Parts>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the parts of an upload for as long as somebody reads them; `None` when they are gone.
    fn hold(&self, upload: &str) -> Option<Arc<Parts>> {
        let mut held = self.held();
        if let Some(parts) = held.get(upload).and_then(Weak::upgrade) {
            return Some(parts);
        }
        self.parts_dir(upload)?;
        held.retain(|_, parts| parts.strong_count() > 0);
        let parts = Arc::new(Parts::new(&self.top, upload));
        held.insert(upload.to_owned(), Arc::downgrade(&parts));
        Some(parts)
    }

    /// Frees the parts of an object that is no longer there, at once or when its last reader ends.
    fn retire(&self, gone: Option<Record>) {
        let Some(assembled) = gone.and_then(|record| record.assembled) else { return };
        let mut held = self.held();
        let reader = held.remove(&assembled.upload).and_then(|parts| parts.upgrade());
        match reader {
            Some(parts) => parts.doomed.store(true, Ordering::Release),
            None => self.bury(&assembled.upload),
        }
    }

    /// Removes the parts of an upload. What is left of them after a crash is swept.
    pub fn bury(&self, upload: &str) {
        if let Err(error) = open::bury(&self.top, upload) {
            tracing::warn!(bucket = self.name, upload, %error, "parts could not be removed; the next start tries again");
        }
    }

    /// Whether the object under `key` is made of the parts of this upload.
    pub fn consists_of(&self, key: &str, upload: &str) -> S3Result<bool> {
        let record = Record::at(&self.object_path(key)?).map_err(storage_failure)?;
        Ok(record.and_then(|record| record.assembled).is_some_and(|assembled| assembled.upload == upload))
    }
}

/// The bucket, or that there is none.
pub(super) fn require<'a>(found: Option<&'a Arc<Volume>>, bucket: &str) -> S3Result<&'a Arc<Volume>> {
    found.ok_or_else(|| no_such_bucket(bucket))
}

/// Removes a directory with all that is in it; one that is gone is fine.
pub(super) fn remove_all(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
