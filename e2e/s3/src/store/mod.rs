//! The index of buckets, objects and uploads, and where bodies live.
//!
//! The index is always in memory and small; bodies are in memory, in files, or nowhere. A write is staged
//! first (outside the lock, as slow as the client), then committed in one step under the lock, so conditional
//! writes are decided and done at once and readers see whole objects only.

mod commit;
mod disk;
mod index;
mod path;
mod staging;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

pub(crate) use index::{BucketState, Snapshot, Stored, Upload};
pub(crate) use staging::{Staged, Staging};

use crate::body::disk_error;
use crate::error::Error;
use crate::object::ObjectInfo;
use disk::Disk;
use s3s::{S3Error, S3Result, s3_error};

/// Bodies up to this size are kept by the sink store, so that small control objects can be read back.
pub(crate) const SINK_KEEPS: u64 = 64 * 1024;

/// Where the bytes of an object are.
#[derive(Debug, Clone)]
pub(crate) enum Data {
    /// In memory, as they arrived.
    Memory(Vec<Bytes>),
    /// At the start of a file.
    File(PathBuf),
    /// Thrown away.
    Dropped,
}

/// A body that stays readable whatever happens to its object.
#[derive(Debug)]
pub(crate) enum OpenBody {
    Memory(Vec<Bytes>),
    File(std::fs::File),
    Dropped,
}

/// An object opened for reading.
#[derive(Debug)]
pub(crate) struct Opened {
    pub info: Arc<ObjectInfo>,
    pub body: OpenBody,
}

/// What kind of store it is.
#[derive(Debug)]
pub(crate) enum Backend {
    Memory,
    Disk(Disk),
    Sink,
}

/// The whole store.
#[derive(Debug)]
pub(crate) struct Store {
    backend: Backend,
    buckets: Mutex<BTreeMap<String, BucketState>>,
}

impl Store {
    pub fn memory() -> Self {
        Self { backend: Backend::Memory, buckets: Mutex::default() }
    }

    pub fn sink() -> Self {
        Self { backend: Backend::Sink, buckets: Mutex::default() }
    }

    /// Opens a directory, taking up the objects and uploads it holds.
    pub async fn disk(root: PathBuf) -> Result<Self, Error> {
        let (disk, buckets) = tokio::task::spawn_blocking(move || Disk::open(root))
            .await
            .map_err(|error| Error::Configuration { what: error.to_string(), remedy: "start again" })??;
        Ok(Self { backend: Backend::Disk(disk), buckets: Mutex::new(buckets) })
    }

    pub fn backend(&self) -> &Backend {
        &self.backend
    }

    /// The index. Never held across an await.
    pub fn buckets(&self) -> MutexGuard<'_, BTreeMap<String, BucketState>> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a bucket; false when it was there.
    pub fn create_bucket(&self, bucket: &str) -> Result<bool, Error> {
        if !s3s::path::check_bucket_name(bucket) {
            return Err(Error::Configuration {
                what: format!("{bucket:?} is no bucket name"),
                remedy: "use 3 to 63 lower-case letters, digits, hyphens and dots",
            });
        }
        let mut buckets = self.buckets();
        if buckets.contains_key(bucket) {
            return Ok(false);
        }
        if let Backend::Disk(disk) = &self.backend {
            disk.create_bucket(bucket)?;
        }
        buckets.insert(bucket.to_owned(), BucketState::new());
        Ok(true)
    }

    /// The objects of a bucket as they are now.
    pub fn snapshot(&self, bucket: &str) -> Option<Snapshot> {
        self.buckets().get(bucket).map(BucketState::snapshot)
    }

    /// Opens an object. Description and bytes belong together because both are taken under the lock.
    pub fn open(&self, bucket: &str, key: &str) -> S3Result<Opened> {
        let buckets = self.buckets();
        let state = buckets.get(bucket).ok_or_else(|| no_such_bucket(bucket))?;
        let stored = state.objects.get(key).ok_or_else(|| no_such_key(key))?;
        let body = match &stored.data {
            Data::Memory(chunks) => OpenBody::Memory(chunks.clone()),
            Data::File(path) => OpenBody::File(std::fs::File::open(path).map_err(disk_error)?),
            Data::Dropped => OpenBody::Dropped,
        };
        Ok(Opened { info: stored.info.clone(), body })
    }
}

pub(crate) fn no_such_bucket(bucket: &str) -> S3Error {
    s3_error!(NoSuchBucket, "The specified bucket does not exist: {}", bucket)
}

pub(crate) fn no_such_key(key: &str) -> S3Error {
    s3_error!(NoSuchKey, "The specified key does not exist: {}", key)
}

pub(crate) fn no_such_upload(id: &str) -> S3Error {
    s3_error!(NoSuchUpload, "The specified multipart upload does not exist: {}", id)
}
