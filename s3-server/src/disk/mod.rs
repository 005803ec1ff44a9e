//! The durable store: buckets that are directories, worked on by threads that may block.

mod open;
mod path;
mod read;
mod record;
mod staging;
mod sweep;
mod tree;
mod uploads;
mod volume;
mod walk;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use s3s::{S3Result, s3_error};

pub use open::OpenError;
pub use staging::DiskStaging;
pub use volume::Retention;

use crate::conditions::WriteCondition;
use crate::failure::storage_failure;
use crate::listing::{Page, Query};
use crate::object::ObjectInfo;
use crate::store::{Bucket, Opened, Store, Upload, UploadSummary};
use read::Body;
use record::Record;
use volume::{Volume, remove_all, require};

/// Objects on volumes.
#[derive(Debug)]
pub struct DiskStore {
    /// Where further buckets may be made.
    root: Option<PathBuf>,
    buckets: RwLock<BTreeMap<String, Arc<Volume>>>,
    retention: Retention,
}

impl DiskStore {
    /// Buckets of these names, each on the directory of its volume; no others can be made.
    ///
    /// # Errors
    /// When a directory belongs to something else, is in use, or cannot be read and written.
    pub fn volumes(volumes: &[(String, PathBuf)], retention: Retention) -> Result<Self, OpenError> {
        let mut buckets = BTreeMap::new();
        for (name, dir) in volumes {
            buckets.insert(name.clone(), Arc::new(Volume::open(name, dir.clone(), retention)?));
        }
        Ok(Self { root: None, buckets: RwLock::new(buckets), retention })
    }

    /// Every directory below `root` is a bucket; more can be made.
    ///
    /// # Errors
    /// As [`DiskStore::volumes`].
    pub fn root(root: &Path, retention: Retention) -> Result<Self, OpenError> {
        std::fs::create_dir_all(root).map_err(OpenError::io("make", root))?;
        let mut found = Vec::new();
        for entry in std::fs::read_dir(root).map_err(OpenError::io("list", root))? {
            let entry = entry.map_err(OpenError::io("list", root))?;
            if !open::is_volume(&entry.path()) {
                continue;
            }
            found.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
        }
        Ok(Self { root: Some(root.to_owned()), ..Self::volumes(&found, retention)? })
    }

    /// Removes uploads that were abandoned. Blocks.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn sweep(&self) -> std::io::Result<()> {
        for volume in self.all() {
            volume.sweep(self.retention, false)?;
        }
        Ok(())
    }

    /// The names of all buckets.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.all().iter().map(|volume| volume.name.clone()).collect()
    }

    /// All objects of a bucket, in key order. Blocks.
    ///
    /// # Errors
    /// When there is no such bucket, or an object cannot be read.
    pub fn objects(&self, bucket: &str) -> S3Result<Vec<Arc<ObjectInfo>>> {
        let query = Query { limit: usize::MAX, ..Query::default() };
        Ok(self.volume(bucket)?.list(&query)?.objects)
    }

    /// All uploads in progress, by id. Blocks.
    ///
    /// # Errors
    /// When there is no such bucket, or an upload cannot be read.
    pub fn pending(&self, bucket: &str) -> S3Result<Vec<(String, Upload)>> {
        let volume = self.volume(bucket)?;
        let found = volume.uploads("")?;
        found.into_iter().map(|found| Ok((found.id.clone(), volume.upload(&found.key, &found.id)?))).collect()
    }

    fn all(&self) -> Vec<Arc<Volume>> {
        self.buckets.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    fn volume(&self, bucket: &str) -> S3Result<Arc<Volume>> {
        let buckets = self.buckets.read().unwrap_or_else(PoisonError::into_inner);
        require(buckets.get(bucket), bucket).cloned()
    }

    /// Does something that may block with a bucket.
    async fn with<T: Send + 'static>(
        &self,
        bucket: &str,
        work: impl FnOnce(&Volume) -> S3Result<T> + Send + 'static,
    ) -> S3Result<T> {
        let volume = self.volume(bucket)?;
        blocking(move || work(&volume)).await
    }

    /// Makes a bucket; false when it was there. Blocks.
    ///
    /// # Errors
    /// When the name cannot be used, or no more buckets can be made.
    pub fn create(&self, bucket: &str) -> S3Result<bool> {
        let mut buckets = self.buckets.write().unwrap_or_else(PoisonError::into_inner);
        if buckets.contains_key(bucket) {
            return Ok(false);
        }
        let Some(root) = &self.root else {
            return Err(s3_error!(
                AccessDenied,
                "the buckets here are the repositories of the cluster; no others"
            ));
        };
        let volume = Volume::open(bucket, root.join(bucket), self.retention)
            .map_err(|error| s3_error!(error, InvalidBucketName, "the bucket cannot be made"))?;
        buckets.insert(bucket.to_owned(), Arc::new(volume));
        Ok(true)
    }

    fn drop_bucket(&self, bucket: &str) -> S3Result<()> {
        let mut buckets = self.buckets.write().unwrap_or_else(PoisonError::into_inner);
        let volume = require(buckets.get(bucket), bucket)?;
        if self.root.is_none() {
            return Err(s3_error!(AccessDenied, "the buckets here are the repositories of the cluster"));
        }
        if !volume.is_empty().map_err(storage_failure)? {
            return Err(s3_error!(BucketNotEmpty, "The bucket you tried to delete is not empty"));
        }
        remove_all(&volume.top).map_err(storage_failure)?;
        buckets.remove(bucket);
        Ok(())
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> S3Result<T> + Send + 'static) -> S3Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| s3_error!(error, InternalError, "the work on the volume was broken off"))?
}

#[async_trait::async_trait]
impl Store for DiskStore {
    type Staging = DiskStaging;

    async fn buckets(&self) -> S3Result<Vec<Bucket>> {
        let all = self.all();
        Ok(all.iter().map(|volume| Bucket { name: volume.name.clone(), created: volume.created }).collect())
    }

    async fn create_bucket(&self, bucket: &str) -> S3Result<bool> {
        self.create(bucket)
    }

    async fn delete_bucket(&self, bucket: &str) -> S3Result<()> {
        self.drop_bucket(bucket)
    }

    async fn require_bucket(&self, bucket: &str) -> S3Result<()> {
        self.volume(bucket).map(drop)
    }

    async fn stage(&self, bucket: &str, length: Option<u64>) -> S3Result<DiskStaging> {
        self.with(bucket, move |volume| {
            volume.require_room(length)?;
            DiskStaging::new(&volume.tmp()).map_err(storage_failure)
        })
        .await
    }

    async fn write(&self, staging: &mut DiskStaging, bytes: Bytes) -> S3Result<()> {
        if !staging.push(bytes) {
            return Ok(());
        }
        staging.flush_elsewhere().await.map_err(storage_failure)
    }

    async fn put(
        &self,
        bucket: &str,
        info: ObjectInfo,
        staging: DiskStaging,
        condition: &WriteCondition,
    ) -> S3Result<()> {
        let condition = condition.clone();
        self.with(bucket, move |volume| {
            let record = Record::whole(info);
            let file = staging.finish(&record).map_err(storage_failure)?;
            volume.place(&record, file, &condition)
        })
        .await
    }

    async fn head(&self, bucket: &str, key: &str) -> S3Result<Arc<ObjectInfo>> {
        let key = key.to_owned();
        self.with(bucket, move |volume| volume.head(&key).map(Arc::new)).await
    }

    async fn open(&self, bucket: &str, key: &str) -> S3Result<Opened> {
        let key = key.to_owned();
        self.with(bucket, move |volume| {
            let (info, held) = volume.open_object(&key)?;
            let body = Box::new(Body { held, sizes: info.parts.clone() });
            Ok(Opened { info: Arc::new(info), body })
        })
        .await
    }

    async fn delete(&self, bucket: &str, key: &str) -> S3Result<()> {
        let key = key.to_owned();
        self.with(bucket, move |volume| volume.delete(&key)).await
    }

    async fn list(&self, bucket: &str, query: &Query) -> S3Result<Page<Arc<ObjectInfo>>> {
        let query = query.clone();
        self.with(bucket, move |volume| volume.list(&query)).await
    }

    async fn begin_upload(&self, bucket: &str, template: ObjectInfo) -> S3Result<String> {
        self.with(bucket, move |volume| volume.begin_upload(template)).await
    }

    async fn require_upload(&self, bucket: &str, key: &str, id: &str) -> S3Result<()> {
        let (key, id) = (key.to_owned(), id.to_owned());
        self.with(bucket, move |volume| volume.require_upload(&key, &id).map(drop)).await
    }

    async fn upload(&self, bucket: &str, key: &str, id: &str) -> S3Result<Upload> {
        let (key, id) = (key.to_owned(), id.to_owned());
        self.with(bucket, move |volume| volume.upload(&key, &id)).await
    }

    async fn uploads(&self, bucket: &str, prefix: &str) -> S3Result<Vec<UploadSummary>> {
        let prefix = prefix.to_owned();
        self.with(bucket, move |volume| volume.uploads(&prefix)).await
    }

    async fn put_part(
        &self,
        bucket: &str,
        id: &str,
        number: u32,
        info: ObjectInfo,
        staging: DiskStaging,
    ) -> S3Result<()> {
        let id = id.to_owned();
        self.with(bucket, move |volume| {
            let file = staging.finish(&Record::whole(info)).map_err(storage_failure)?;
            volume.place_part(&id, number, file)
        })
        .await
    }

    async fn complete_upload(
        &self,
        bucket: &str,
        id: &str,
        info: ObjectInfo,
        parts: &[u32],
        condition: &WriteCondition,
    ) -> S3Result<()> {
        let (id, parts, condition) = (id.to_owned(), parts.to_vec(), condition.clone());
        self.with(bucket, move |volume| volume.complete_upload(&id, info, &parts, &condition)).await
    }

    async fn abort_upload(&self, bucket: &str, id: &str) -> S3Result<()> {
        let id = id.to_owned();
        self.with(bucket, move |volume| volume.abort_upload(&id)).await
    }
}
