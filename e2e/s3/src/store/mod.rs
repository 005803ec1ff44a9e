//! The store of a test server: in memory or on a disk, seen through the faults of the day.
//!
//! A fault that is about the store rather than about the wire is set on the task that carries the request out.

mod inspect;
mod memory;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use howdah_s3_server::{
    Bucket, DiskStaging, DiskStore, Keys, ObjectInfo, Opened, Page, Query, Upload, UploadSummary,
    WriteCondition, no_such_key, storage_failure,
};
use s3s::S3Result;

pub(crate) use inspect::Snapshot;
pub(crate) use memory::Memory;

/// What is wrong with the store while a request is carried out.
#[derive(Clone)]
pub(crate) enum Effect {
    /// A write or removal is acknowledged and forgotten.
    LoseWrite,
    /// Listings show what was there when the rule was made.
    StaleListing(Arc<BTreeMap<String, Snapshot>>),
}

tokio::task_local! {
    pub(crate) static EFFECT: Effect;
}

fn losing() -> bool {
    EFFECT.try_with(|effect| matches!(effect, Effect::LoseWrite)).unwrap_or(false)
}

/// The whole store.
#[derive(Debug)]
pub(crate) enum Store {
    Memory(Memory),
    Disk(DiskStore),
}

/// A body being received.
pub(crate) enum Staging {
    Memory(memory::Staging),
    Disk(DiskStaging),
}

/// Calls the same method of whichever store it is.
macro_rules! either {
    ($self:ident, $store:ident => $call:expr) => {
        match $self {
            Self::Memory($store) => $call,
            Self::Disk($store) => $call,
        }
    };
}

/// The same for calls that take a body.
macro_rules! staged {
    ($self:ident, $staging:ident, $store:ident, $body:ident => $call:expr) => {
        match ($self, $staging) {
            (Self::Memory($store), Staging::Memory($body)) => $call,
            (Self::Disk($store), Staging::Disk($body)) => $call,
            _ => Err(s3s::s3_error!(InternalError, "the body is another store's")),
        }
    };
}

#[async_trait::async_trait]
impl howdah_s3_server::Store for Store {
    type Staging = Staging;

    async fn buckets(&self) -> S3Result<Vec<Bucket>> {
        either!(self, store => store.buckets().await)
    }

    async fn create_bucket(&self, bucket: &str) -> S3Result<bool> {
        either!(self, store => store.create_bucket(bucket).await)
    }

    async fn delete_bucket(&self, bucket: &str) -> S3Result<()> {
        either!(self, store => store.delete_bucket(bucket).await)
    }

    async fn require_bucket(&self, bucket: &str) -> S3Result<()> {
        either!(self, store => store.require_bucket(bucket).await)
    }

    async fn stage(&self, bucket: &str, length: Option<u64>) -> S3Result<Staging> {
        Ok(match self {
            Self::Memory(store) => Staging::Memory(store.stage(bucket, length).await?),
            Self::Disk(store) => Staging::Disk(store.stage(bucket, length).await?),
        })
    }

    async fn write(&self, staging: &mut Staging, bytes: Bytes) -> S3Result<()> {
        staged!(self, staging, store, body => store.write(body, bytes).await)
    }

    async fn put(
        &self,
        bucket: &str,
        info: ObjectInfo,
        staging: Staging,
        condition: &WriteCondition,
    ) -> S3Result<()> {
        if losing() {
            return Ok(());
        }
        staged!(self, staging, store, body => store.put(bucket, info, body, condition).await)
    }

    async fn head(&self, bucket: &str, key: &str) -> S3Result<Arc<ObjectInfo>> {
        either!(self, store => store.head(bucket, key).await)
    }

    async fn open(&self, bucket: &str, key: &str) -> S3Result<Opened> {
        either!(self, store => store.open(bucket, key).await)
    }

    async fn delete(&self, bucket: &str, key: &str) -> S3Result<()> {
        if losing() {
            return Ok(());
        }
        either!(self, store => store.delete(bucket, key).await)
    }

    async fn list(&self, bucket: &str, query: &Query) -> S3Result<Page<Arc<ObjectInfo>>> {
        let stale = EFFECT.try_with(|effect| match effect {
            Effect::StaleListing(past) => past.get(bucket).cloned(),
            Effect::LoseWrite => None,
        });
        if let Ok(Some(past)) = stale {
            return list(&past, query, |key| past.get(key));
        }
        either!(self, store => store.list(bucket, query).await)
    }

    async fn begin_upload(&self, bucket: &str, template: ObjectInfo) -> S3Result<String> {
        either!(self, store => store.begin_upload(bucket, template).await)
    }

    async fn require_upload(&self, bucket: &str, key: &str, id: &str) -> S3Result<()> {
        either!(self, store => store.require_upload(bucket, key, id).await)
    }

    async fn upload(&self, bucket: &str, key: &str, id: &str) -> S3Result<Upload> {
        either!(self, store => store.upload(bucket, key, id).await)
    }

    async fn uploads(&self, bucket: &str, prefix: &str) -> S3Result<Vec<UploadSummary>> {
        either!(self, store => store.uploads(bucket, prefix).await)
    }

    async fn put_part(
        &self,
        bucket: &str,
        id: &str,
        number: u32,
        info: ObjectInfo,
        staging: Staging,
    ) -> S3Result<()> {
        if losing() {
            return Ok(());
        }
        staged!(self, staging, store, body => store.put_part(bucket, id, number, info, body).await)
    }

    async fn complete_upload(
        &self,
        bucket: &str,
        id: &str,
        info: ObjectInfo,
        parts: &[u32],
        condition: &WriteCondition,
    ) -> S3Result<()> {
        if losing() {
            return either!(self, store => store.abort_upload(bucket, id).await);
        }
        either!(self, store => store.complete_upload(bucket, id, info, parts, condition).await)
    }

    async fn abort_upload(&self, bucket: &str, id: &str) -> S3Result<()> {
        either!(self, store => store.abort_upload(bucket, id).await)
    }
}

/// One page of `keys`, whose descriptions `info` gives.
fn list<'a>(
    keys: &dyn Keys,
    query: &Query,
    info: impl Fn(&str) -> Option<&'a Arc<ObjectInfo>>,
) -> S3Result<Page<Arc<ObjectInfo>>> {
    let page = howdah_s3_server::page(keys, query).map_err(storage_failure)?;
    let objects = page
        .objects
        .iter()
        .map(|key| info(key).cloned().ok_or_else(|| no_such_key(key)))
        .collect::<S3Result<_>>()?;
    Ok(Page { objects, prefixes: page.prefixes, next: page.next })
}
