//! What the protocol asks of a place for objects.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use s3s::S3Result;
use s3s::dto::StreamingBlob;

use crate::conditions::WriteCondition;
use crate::listing::{Page, Query};
use crate::object::ObjectInfo;

/// A bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created: DateTime<Utc>,
}

/// The bytes of an object, readable whatever happens to the object meanwhile.
#[async_trait::async_trait]
pub trait StoredBody: Send {
    /// Sends a part of them; the range lies inside of the object.
    async fn stream(self: Box<Self>, range: Range<u64>) -> S3Result<StreamingBlob>;
}

/// An object opened for reading: description and bytes are of the same version.
pub struct Opened {
    /// What it is.
    pub info: Arc<ObjectInfo>,
    /// Its bytes.
    pub body: Box<dyn StoredBody>,
}

/// A multipart upload in progress.
#[derive(Debug, Clone)]
pub struct Upload {
    /// What the object will be like: key, tags, encryption.
    pub template: ObjectInfo,
    /// When it was begun.
    pub initiated: DateTime<Utc>,
    /// Parts that arrived, by number; their key is their number.
    pub parts: BTreeMap<u32, Arc<ObjectInfo>>,
}

/// A multipart upload as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UploadSummary {
    /// The key it will have.
    pub key: String,
    /// The upload's id.
    pub id: String,
    /// When it was begun.
    pub initiated: DateTime<Utc>,
}

/// A place for buckets, objects and uploads.
///
/// A body is staged first, as slowly as its client sends it, and placed in one step afterwards: readers see whole
/// objects only, and of two writers on a condition one wins. A write or removal that returned is durable as far as
/// the store is. Dropping a staged body leaves nothing.
#[async_trait::async_trait]
pub trait Store: Send + Sync + 'static {
    /// A body being received.
    type Staging: Send;

    /// All buckets, by name.
    async fn buckets(&self) -> S3Result<Vec<Bucket>>;
    /// Makes a bucket; false when it was there.
    async fn create_bucket(&self, bucket: &str) -> S3Result<bool>;
    /// Removes an empty bucket.
    async fn delete_bucket(&self, bucket: &str) -> S3Result<()>;
    /// Fails unless the bucket is there.
    async fn require_bucket(&self, bucket: &str) -> S3Result<()>;

    /// Begins a body for a bucket; `length` is how long the client says it is, in bytes.
    async fn stage(&self, bucket: &str, length: Option<u64>) -> S3Result<Self::Staging>;
    /// Adds bytes to it.
    async fn write(&self, staging: &mut Self::Staging, bytes: Bytes) -> S3Result<()>;

    /// Puts a staged body in the bucket under its key.
    async fn put(
        &self,
        bucket: &str,
        info: ObjectInfo,
        staging: Self::Staging,
        condition: &WriteCondition,
    ) -> S3Result<()>;
    /// What an object is.
    async fn head(&self, bucket: &str, key: &str) -> S3Result<Arc<ObjectInfo>>;
    /// Opens an object.
    async fn open(&self, bucket: &str, key: &str) -> S3Result<Opened>;
    /// Removes an object. Removing what is not there is fine, as in S3.
    async fn delete(&self, bucket: &str, key: &str) -> S3Result<()>;
    /// One page of the bucket's objects in key order.
    async fn list(&self, bucket: &str, query: &Query) -> S3Result<Page<Arc<ObjectInfo>>>;

    /// Begins an upload of what `template` describes; returns its id.
    async fn begin_upload(&self, bucket: &str, template: ObjectInfo) -> S3Result<String>;
    /// Fails unless the upload, by both of its names, is in progress.
    async fn require_upload(&self, bucket: &str, key: &str, id: &str) -> S3Result<()>;
    /// An upload in progress, by both of its names.
    async fn upload(&self, bucket: &str, key: &str, id: &str) -> S3Result<Upload>;
    /// Uploads in progress whose key begins with `prefix`, in order of key and id.
    async fn uploads(&self, bucket: &str, prefix: &str) -> S3Result<Vec<UploadSummary>>;
    /// Puts a staged body among the parts of an upload, replacing an earlier one of the same number.
    async fn put_part(
        &self,
        bucket: &str,
        id: &str,
        number: u32,
        info: ObjectInfo,
        staging: Self::Staging,
    ) -> S3Result<()>;
    /// Makes the object `info` from these parts, in this order, and ends the upload.
    async fn complete_upload(
        &self,
        bucket: &str,
        id: &str,
        info: ObjectInfo,
        parts: &[u32],
        condition: &WriteCondition,
    ) -> S3Result<()>;
    /// Ends an upload, giving its parts' space back.
    async fn abort_upload(&self, bucket: &str, id: &str) -> S3Result<()>;
}
