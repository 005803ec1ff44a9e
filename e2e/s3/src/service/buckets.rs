//! Buckets.

use s3s::dto::*;
use s3s::{S3Request, S3Response, s3_error};

use super::{Reply, Service, timestamp};
use crate::store::no_such_bucket;

impl Service {
    pub(super) async fn list_buckets(&self, _: S3Request<ListBucketsInput>) -> Reply<ListBucketsOutput> {
        let buckets = self
            .store
            .buckets()
            .iter()
            .map(|(name, state)| Bucket {
                name: Some(name.clone()),
                creation_date: Some(timestamp(state.created)),
                ..Default::default()
            })
            .collect();
        Ok(S3Response::new(ListBucketsOutput { buckets: Some(buckets), ..Default::default() }))
    }

    pub(super) async fn create_bucket(
        &self,
        request: S3Request<CreateBucketInput>,
    ) -> Reply<CreateBucketOutput> {
        let bucket = request.input.bucket;
        match self.store.create_bucket(&bucket) {
            Ok(true) => Ok(S3Response::new(CreateBucketOutput { location: Some(format!("/{bucket}")) })),
            Ok(false) => Err(s3_error!(
                BucketAlreadyOwnedByYou,
                "Your previous request to create the named bucket succeeded and you already own it."
            )),
            Err(error) => Err(s3_error!(error, InternalError, "the store failed; see the server's log")),
        }
    }

    pub(super) async fn delete_bucket(
        &self,
        request: S3Request<DeleteBucketInput>,
    ) -> Reply<DeleteBucketOutput> {
        self.store.delete_bucket(&request.input.bucket)?;
        Ok(S3Response::new(DeleteBucketOutput::default()))
    }

    pub(super) async fn head_bucket(&self, request: S3Request<HeadBucketInput>) -> Reply<HeadBucketOutput> {
        self.require_bucket(&request.input.bucket)?;
        Ok(S3Response::new(HeadBucketOutput::default()))
    }

    pub(super) async fn get_bucket_location(
        &self,
        request: S3Request<GetBucketLocationInput>,
    ) -> Reply<GetBucketLocationOutput> {
        self.require_bucket(&request.input.bucket)?;
        Ok(S3Response::new(GetBucketLocationOutput::default()))
    }

    pub(super) async fn get_bucket_versioning(
        &self,
        request: S3Request<GetBucketVersioningInput>,
    ) -> Reply<GetBucketVersioningOutput> {
        self.require_bucket(&request.input.bucket)?;
        Ok(S3Response::new(GetBucketVersioningOutput::default()))
    }

    pub(super) fn require_bucket(&self, bucket: &str) -> s3s::S3Result<()> {
        if self.store.buckets().contains_key(bucket) { Ok(()) } else { Err(no_such_bucket(bucket)) }
    }
}
