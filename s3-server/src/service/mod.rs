//! The S3 operations over a [`Store`]: one file for each family, joined to the protocol crate's trait here.

mod buckets;
mod copy;
mod listings;
mod multipart;
mod objects;
mod tagging;

use std::sync::Arc;

use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result};

use crate::store::Store;

/// Set on a request by whoever stands before the service: checksums are neither looked at nor kept.
#[derive(Debug, Clone, Copy)]
pub struct IgnoreChecksums;

/// The headers that announce checksums, unless they are to be ignored.
fn checksum_headers<T>(request: &S3Request<T>) -> http::HeaderMap {
    match request.extensions.get::<IgnoreChecksums>() {
        Some(_) => http::HeaderMap::new(),
        None => request.headers.clone(),
    }
}

/// The implementation behind the protocol.
#[derive(Debug)]
pub struct Service<S> {
    store: Arc<S>,
    min_part_size: u64,
    /// Whether entity tags are MD5 sums; else they are random.
    md5_etags: bool,
}

impl<S> Clone for Service<S> {
    fn clone(&self) -> Self {
        Self { store: Arc::clone(&self.store), min_part_size: self.min_part_size, md5_etags: self.md5_etags }
    }
}

impl<S: Store> Service<S> {
    /// The protocol over `store`; `min_part_size` is the smallest size in bytes of a part that is not the last.
    #[must_use]
    pub fn new(store: Arc<S>, min_part_size: u64) -> Self {
        Self { store, min_part_size, md5_etags: true }
    }

    /// Entity tags are random instead of MD5 sums, as in buckets with KMS keys: the sum costs more than everything
    /// else. A client that sends one has its body checked all the same.
    #[must_use]
    pub fn random_etags(self) -> Self {
        Self { md5_etags: false, ..self }
    }
}

type Reply<T> = S3Result<S3Response<T>>;

fn timestamp(time: chrono::DateTime<chrono::Utc>) -> Timestamp {
    Timestamp::from(std::time::SystemTime::from(time))
}

/// Sizes are far below what an i64 holds.
fn signed(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

macro_rules! operations {
    ($($name:ident: $input:ident => $output:ident;)*) => {
        #[async_trait::async_trait]
        impl<S: Store> S3 for Service<S> {
            $(async fn $name(&self, request: S3Request<$input>) -> Reply<$output> {
                self.$name(request).await
            })*
        }
    };
}

operations! {
    abort_multipart_upload: AbortMultipartUploadInput => AbortMultipartUploadOutput;
    complete_multipart_upload: CompleteMultipartUploadInput => CompleteMultipartUploadOutput;
    copy_object: CopyObjectInput => CopyObjectOutput;
    create_bucket: CreateBucketInput => CreateBucketOutput;
    create_multipart_upload: CreateMultipartUploadInput => CreateMultipartUploadOutput;
    delete_bucket: DeleteBucketInput => DeleteBucketOutput;
    delete_object: DeleteObjectInput => DeleteObjectOutput;
    delete_object_tagging: DeleteObjectTaggingInput => DeleteObjectTaggingOutput;
    delete_objects: DeleteObjectsInput => DeleteObjectsOutput;
    get_bucket_location: GetBucketLocationInput => GetBucketLocationOutput;
    get_bucket_versioning: GetBucketVersioningInput => GetBucketVersioningOutput;
    get_object: GetObjectInput => GetObjectOutput;
    get_object_tagging: GetObjectTaggingInput => GetObjectTaggingOutput;
    head_bucket: HeadBucketInput => HeadBucketOutput;
    head_object: HeadObjectInput => HeadObjectOutput;
    list_buckets: ListBucketsInput => ListBucketsOutput;
    list_multipart_uploads: ListMultipartUploadsInput => ListMultipartUploadsOutput;
    list_objects: ListObjectsInput => ListObjectsOutput;
    list_objects_v2: ListObjectsV2Input => ListObjectsV2Output;
    list_parts: ListPartsInput => ListPartsOutput;
    put_object: PutObjectInput => PutObjectOutput;
    put_object_tagging: PutObjectTaggingInput => PutObjectTaggingOutput;
    upload_part: UploadPartInput => UploadPartOutput;
    upload_part_copy: UploadPartCopyInput => UploadPartCopyOutput;
}
