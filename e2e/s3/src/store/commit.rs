//! The changes a store can undergo, each decided and done in one step under the lock, then made durable.

use std::path::PathBuf;
use std::sync::Arc;

use s3s::{S3Error, S3Result, s3_error};

use super::{Backend, BucketState, Data, Staged, Store, Stored, Upload, no_such_bucket, no_such_upload};
use crate::body::disk_error;
use crate::conditions::WriteCondition;
use crate::object::ObjectInfo;

impl Store {
    /// Puts a staged body in the bucket under its key.
    pub async fn put(
        &self,
        bucket: &str,
        info: ObjectInfo,
        staged: Staged,
        condition: &WriteCondition,
    ) -> S3Result<Arc<ObjectInfo>> {
        let info = Arc::new(info);
        let placed = {
            let mut buckets = self.buckets();
            let state = bucket_of(&mut buckets, bucket)?;
            condition.check(state.objects.get(&info.key).map(|stored| stored.info.as_ref()))?;
            let data = self.place(staged, |disk| disk.object_path(bucket, &info.key))?;
            let placed = file_of(&data);
            state.objects.insert(info.key.clone(), Arc::new(Stored { info: info.clone(), data }));
            placed
        };
        self.settle(placed).await?;
        Ok(info)
    }

    /// Puts a staged body among the parts of an upload.
    pub async fn put_part(
        &self,
        bucket: &str,
        upload: &str,
        number: u32,
        info: ObjectInfo,
        staged: Staged,
    ) -> S3Result<()> {
        let placed = {
            let mut buckets = self.buckets();
            let state = bucket_of(&mut buckets, bucket)?;
            let open = state.uploads.get_mut(upload).ok_or_else(|| no_such_upload(upload))?;
            let data = self.place(staged, |disk| disk.part_path(bucket, upload, number))?;
            let placed = file_of(&data);
            open.parts.insert(number, Arc::new(Stored { info: Arc::new(info), data }));
            placed
        };
        self.settle(placed).await
    }

    /// Removes an object. Removing what is not there is fine, as in S3.
    pub async fn delete(&self, bucket: &str, key: &str) -> S3Result<Option<Arc<ObjectInfo>>> {
        let (info, file) = {
            let mut buckets = self.buckets();
            let state = bucket_of(&mut buckets, bucket)?;
            let Some(stored) = state.objects.remove(key) else { return Ok(None) };
            let file = file_of(&stored.data);
            if let (Backend::Disk(disk), Some(file)) = (self.backend(), &file) {
                disk.remove(bucket, file).map_err(disk_error)?;
            }
            (stored.info.clone(), file)
        };
        self.settle(file).await?;
        Ok(Some(info))
    }

    /// Begins an upload.
    pub fn create_upload(&self, bucket: &str, id: &str, upload: Upload) -> S3Result<()> {
        let mut buckets = self.buckets();
        let state = bucket_of(&mut buckets, bucket)?;
        if let Backend::Disk(disk) = self.backend() {
            disk.create_upload(bucket, id, &upload).map_err(disk_error)?;
        }
        state.uploads.insert(id.to_owned(), upload);
        Ok(())
    }

    /// Ends an upload, giving its parts' space back.
    pub fn remove_upload(&self, bucket: &str, id: &str) -> S3Result<()> {
        let mut buckets = self.buckets();
        let state = bucket_of(&mut buckets, bucket)?;
        state.uploads.remove(id).ok_or_else(|| no_such_upload(id))?;
        if let Backend::Disk(disk) = self.backend() {
            disk.remove_upload(bucket, id).map_err(disk_error)?;
        }
        Ok(())
    }

    /// Removes an empty bucket.
    pub fn delete_bucket(&self, bucket: &str) -> S3Result<()> {
        let mut buckets = self.buckets();
        if !bucket_of(&mut buckets, bucket)?.objects.is_empty() {
            return Err(s3_error!(BucketNotEmpty, "The bucket you tried to delete is not empty"));
        }
        if let Backend::Disk(disk) = self.backend() {
            disk.delete_bucket(bucket).map_err(disk_error)?;
        }
        buckets.remove(bucket);
        Ok(())
    }

    fn place(&self, staged: Staged, to: impl FnOnce(&super::disk::Disk) -> PathBuf) -> S3Result<Data> {
        match (staged, self.backend()) {
            (Staged::File(path), Backend::Disk(disk)) => {
                let target = to(disk);
                disk.place(&path, &target).map_err(disk_error)?;
                // The name is gone from the staging area; there is nothing left to clean up.
                let _ = path.keep();
                Ok(Data::File(target))
            }
            (Staged::Ready(data), _) => Ok(data),
            (Staged::File(_), _) => {
                Err(s3_error!(InternalError, "a file was staged for a store without files"))
            }
        }
    }

    async fn settle(&self, file: Option<PathBuf>) -> S3Result<()> {
        let (Backend::Disk(disk), Some(file)) = (self.backend(), file) else { return Ok(()) };
        let disk = disk.clone();
        tokio::task::spawn_blocking(move || disk.settle(&file))
            .await
            .map_err(|error| disk_error(std::io::Error::other(error)))?
            .map_err(disk_error)
    }
}

fn file_of(data: &Data) -> Option<PathBuf> {
    match data {
        Data::File(path) => Some(path.clone()),
        Data::Memory(_) | Data::Dropped => None,
    }
}

fn bucket_of<'a>(
    buckets: &'a mut std::collections::BTreeMap<String, BucketState>,
    bucket: &str,
) -> Result<&'a mut BucketState, S3Error> {
    buckets.get_mut(bucket).ok_or_else(|| no_such_bucket(bucket))
}
