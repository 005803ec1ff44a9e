//! Object tags after the fact.

use std::collections::BTreeMap;

use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result};

use super::{Reply, Service};
use crate::body;
use crate::conditions::WriteCondition;
use crate::object::ObjectInfo;
use crate::store::Staging;

impl Service {
    /// Stores the object again with other tags; its date stays.
    async fn retag(&self, bucket: &str, key: &str, tags: BTreeMap<String, String>) -> S3Result<()> {
        use futures::StreamExt;
        let opened = self.store.open(bucket, key)?;
        let info = ObjectInfo { tags, ..opened.info.as_ref().clone() };
        let condition = WriteCondition {
            if_match: Some(ETagCondition::ETag(ETag::Strong(info.etag.clone()))),
            ..Default::default()
        };
        let mut staging = Staging::new(self.store.backend()).map_err(body::disk_error)?;
        let mut stream = body::send(opened, 0..info.size).await?;
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|error| body::disk_error(std::io::Error::other(error)))?;
            staging.write(chunk).await.map_err(body::disk_error)?;
        }
        let staged = staging.finish(&info).await.map_err(body::disk_error)?;
        self.store.put(bucket, info, staged, &condition).await?;
        Ok(())
    }

    pub(super) async fn get_object_tagging(
        &self,
        request: S3Request<GetObjectTaggingInput>,
    ) -> Reply<GetObjectTaggingOutput> {
        let info = self.store.open(&request.input.bucket, &request.input.key)?.info;
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
