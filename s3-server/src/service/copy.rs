//! Copies inside the server.

use std::ops::Range;
use std::sync::Arc;

use futures::StreamExt;
use s3s::crypto::{Checksum as _, Md5};
use s3s::dto::{self, *};
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::objects::{etag, sse};
use super::{Reply, Service, timestamp};
use crate::conditions::{ReadCondition, WriteCondition};
use crate::object::{ObjectInfo, parse_tagging};
use crate::store::{Opened, Store};

impl<S: Store> Service<S> {
    async fn open_source(&self, source: &CopySource, condition: &ReadCondition) -> S3Result<Opened> {
        let CopySource::Bucket { bucket, key, .. } = source else {
            return Err(s3_error!(NotImplemented, "copying is only possible from a bucket"));
        };
        let opened = self.store.open(bucket, key).await?;
        condition.check(&opened.info)?;
        Ok(opened)
    }

    /// Copies a range of an object into staging; returns its MD5.
    pub(super) async fn copy_in(
        &self,
        bucket: &str,
        opened: Opened,
        range: Range<u64>,
    ) -> S3Result<(S::Staging, [u8; 16])> {
        let mut staging = self.store.stage(bucket, Some(range.end - range.start)).await?;
        let mut md5 = Md5::new();
        let mut stream = opened.body.stream(range).await?;
        while let Some(chunk) = stream.next().await {
            let chunk = chunk
                .map_err(|error| s3_error!(InternalError, "the store failed while copying: {}", error))?;
            md5.update(&chunk);
            self.store.write(&mut staging, chunk).await?;
        }
        Ok((staging, md5.finalize()))
    }

    pub(super) async fn copy_object(&self, request: S3Request<CopyObjectInput>) -> Reply<CopyObjectOutput> {
        let input = request.input;
        let condition = ReadCondition {
            if_match: input.copy_source_if_match,
            if_none_match: input.copy_source_if_none_match,
            if_modified_since: input.copy_source_if_modified_since,
            if_unmodified_since: input.copy_source_if_unmodified_since,
        };
        let opened = self.open_source(&input.copy_source, &condition).await?;
        let source: Arc<ObjectInfo> = opened.info.clone();
        let replaced = |directive: Option<&str>| directive == Some("REPLACE");
        let mut info = ObjectInfo { key: input.key, modified: chrono::Utc::now(), ..source.as_ref().clone() };
        if replaced(input.metadata_directive.as_ref().map(MetadataDirective::as_str)) {
            info.metadata = input.metadata.unwrap_or_default().into_iter().collect();
            info.content_type = input.content_type;
            info.content_encoding = super::objects::content_encoding(input.content_encoding);
        }
        if replaced(input.tagging_directive.as_ref().map(TaggingDirective::as_str)) {
            info.tags = input.tagging.as_deref().map(parse_tagging).unwrap_or_default();
        }
        // Encryption is never inherited: it is what this request asks for.
        info.sse = input.server_side_encryption.map(|value| value.as_str().to_owned());
        info.sse_kms_key_id = input.ssekms_key_id;
        info.parts = Vec::new();
        let (staging, md5) = self.copy_in(&input.bucket, opened, 0..source.size).await?;
        info.etag = hex::encode(md5);
        let output = CopyObjectOutput {
            copy_object_result: Some(CopyObjectResult {
                e_tag: etag(&info.etag),
                last_modified: Some(timestamp(info.modified)),
                ..Default::default()
            }),
            server_side_encryption: sse(&info),
            ssekms_key_id: info.sse_kms_key_id.clone(),
            ..Default::default()
        };
        self.store.put(&input.bucket, info, staging, &WriteCondition::default()).await?;
        Ok(S3Response::new(output))
    }

    pub(super) async fn upload_part_copy(
        &self,
        request: S3Request<UploadPartCopyInput>,
    ) -> Reply<UploadPartCopyOutput> {
        let input = request.input;
        let number = super::multipart::part_number(input.part_number)?;
        self.store.require_upload(&input.bucket, &input.key, &input.upload_id).await?;
        let condition = ReadCondition {
            if_match: input.copy_source_if_match,
            if_none_match: input.copy_source_if_none_match,
            if_modified_since: input.copy_source_if_modified_since,
            if_unmodified_since: input.copy_source_if_unmodified_since,
        };
        let opened = self.open_source(&input.copy_source, &condition).await?;
        let range = match &input.copy_source_range {
            None => 0..opened.info.size,
            Some(text) => dto::Range::parse(text)
                .map_err(|error| s3_error!(error, InvalidArgument, "x-amz-copy-source-range is malformed"))?
                .check(opened.info.size)?,
        };
        let size = range.end - range.start;
        let (staging, md5) = self.copy_in(&input.bucket, opened, range).await?;
        let info = ObjectInfo { size, etag: hex::encode(md5), ..ObjectInfo::new(&number.to_string()) };
        let result = CopyPartResult {
            e_tag: etag(&info.etag),
            last_modified: Some(timestamp(info.modified)),
            ..Default::default()
        };
        self.store.put_part(&input.bucket, &input.upload_id, number, info, staging).await?;
        Ok(S3Response::new(UploadPartCopyOutput { copy_part_result: Some(result), ..Default::default() }))
    }
}
