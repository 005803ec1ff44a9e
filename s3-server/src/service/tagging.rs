//! Object tags after the fact.

use std::collections::BTreeMap;

use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result};

use super::{Reply, Service};
use crate::conditions::WriteCondition;
use crate::object::ObjectInfo;
use crate::store::Store;

impl<S: Store> Service<S> {
    /// Stores the object again with other tags; its date stays.
    async fn retag(&self, bucket: &str, key: &str, tags: BTreeMap<String, String>) -> S3Result<()> {
        let opened = self.store.open(bucket, key).await?;
        let size = opened.info.size;
        let info = ObjectInfo { tags, ..opened.info.as_ref().clone() };
        let condition = WriteCondition {
            if_match: Some(ETagCondition::ETag(ETag::Strong(info.etag.clone()))),
            ..Default::default()
        };
        let (staging, _) = self.copy_in(bucket, opened, 0..size).await?;
        self.store.put(bucket, info, staging, &condition).await
    }

    pub(super) async fn get_object_tagging(
        &self,
        request: S3Request<GetObjectTaggingInput>,
    ) -> Reply<GetObjectTaggingOutput> {
        let info = self.store.head(&request.input.bucket, &request.input.key).await?;
        let tag_set = info
            .tags
            .iter()
            .map(|(key, value)| Tag { key: Some(key.clone()), value: Some(value.clone()) })
            .collect();
        Ok(S3Response::new(GetObjectTaggingOutput { tag_set, version_id: None }))
    }

    pub(super) async fn put_object_tagging(
        &self,
        request: S3Request<PutObjectTaggingInput>,
    ) -> Reply<PutObjectTaggingOutput> {
        let input = request.input;
        let tags = input
            .tagging
            .tag_set
            .into_iter()
            .filter_map(|tag| Some((tag.key?, tag.value.unwrap_or_default())))
            .collect();
        self.retag(&input.bucket, &input.key, tags).await?;
        Ok(S3Response::new(PutObjectTaggingOutput::default()))
    }

    pub(super) async fn delete_object_tagging(
        &self,
        request: S3Request<DeleteObjectTaggingInput>,
    ) -> Reply<DeleteObjectTaggingOutput> {
        self.retag(&request.input.bucket, &request.input.key, BTreeMap::new()).await?;
        Ok(S3Response::new(DeleteObjectTaggingOutput::default()))
    }
}
