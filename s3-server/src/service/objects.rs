//! Single objects: put, get, head, delete.

use std::collections::BTreeMap;

use s3s::dto::*;
use s3s::{S3Request, S3Response, s3_error};

use super::{Reply, Service, checksum_headers, signed, timestamp};
use crate::body::{self, Announced};
use crate::conditions::{ReadCondition, WriteCondition};
use crate::object::{ObjectInfo, parse_tagging};
use crate::store::Store;

/// `Content-Encoding` without the transfer framing that some clients name in it.
pub(super) fn content_encoding(sent: Option<String>) -> Option<String> {
    let kept: Vec<&str> = sent
        .as_deref()?
        .split(',')
        .map(str::trim)
        .filter(|token| !token.is_empty() && !token.eq_ignore_ascii_case("aws-chunked"))
        .collect();
    (!kept.is_empty()).then(|| kept.join(","))
}

pub(super) fn etag(value: &str) -> Option<ETag> {
    Some(ETag::Strong(value.to_owned()))
}

pub(super) fn sse(info: &ObjectInfo) -> Option<ServerSideEncryption> {
    info.sse.clone().map(ServerSideEncryption::from)
}

fn checksum(info: &ObjectInfo, name: &str, wanted: bool) -> Option<String> {
    info.checksums.get(name).filter(|_| wanted).cloned()
}

fn metadata(info: &ObjectInfo) -> Option<Metadata> {
    (!info.metadata.is_empty()).then(|| info.metadata.clone().into_iter().collect())
}

impl<S: Store> Service<S> {
    pub(super) async fn put_object(&self, request: S3Request<PutObjectInput>) -> Reply<PutObjectOutput> {
        let headers = checksum_headers(&request);
        let input = request.input;
        let announced = Announced {
            headers: &headers,
            trailers: request.trailing_headers,
            md5: input.content_md5.as_deref(),
            length: input.content_length,
        };
        let received =
            body::receive(self.store.as_ref(), &input.bucket, input.body, announced, self.md5_etags).await?;
        let info = ObjectInfo {
            size: received.size,
            etag: hex::encode(received.tag),
            tags: input.tagging.as_deref().map(parse_tagging).unwrap_or_default(),
            sse: input.server_side_encryption.map(|value| value.as_str().to_owned()),
            sse_kms_key_id: input.ssekms_key_id,
            content_type: input.content_type,
            content_encoding: content_encoding(input.content_encoding),
            storage_class: input.storage_class.map(|value| value.as_str().to_owned()),
            metadata: input.metadata.unwrap_or_default().into_iter().collect::<BTreeMap<_, _>>(),
            checksums: received.checksums,
            ..ObjectInfo::new(&input.key)
        };
        let output = PutObjectOutput {
            e_tag: etag(&info.etag),
            server_side_encryption: sse(&info),
            ssekms_key_id: info.sse_kms_key_id.clone(),
            checksum_crc32: checksum(&info, "crc32", true),
            checksum_crc32c: checksum(&info, "crc32c", true),
            checksum_crc64nvme: checksum(&info, "crc64nvme", true),
            checksum_sha1: checksum(&info, "sha1", true),
            checksum_sha256: checksum(&info, "sha256", true),
            ..Default::default()
        };
        let condition = WriteCondition { if_match: input.if_match, if_none_match: input.if_none_match };
        self.store.put(&input.bucket, info, received.staging, &condition).await?;
        Ok(S3Response::new(output))
    }

    pub(super) async fn get_object(&self, request: S3Request<GetObjectInput>) -> Reply<GetObjectOutput> {
        let input = request.input;
        let opened = self.store.open(&input.bucket, &input.key).await?;
        let info = opened.info.clone();
        ReadCondition {
            if_match: input.if_match,
            if_none_match: input.if_none_match,
            if_modified_since: input.if_modified_since,
            if_unmodified_since: input.if_unmodified_since,
        }
        .check(&info)?;
        let range = match input.range {
            None => 0..info.size,
            Some(range) => range.check(info.size)?,
        };
        // A digest of the whole says nothing about a part of it.
        let sums = input.checksum_mode.is_some() && input.range.is_none();
        let content_range =
            input.range.map(|_| format!("bytes {}-{}/{}", range.start, range.end - 1, info.size));
        let length = signed(range.end - range.start);
        let body = opened.body.stream(range).await?;
        Ok(S3Response::new(GetObjectOutput {
            body: Some(body),
            content_length: Some(length),
            content_range,
            accept_ranges: Some("bytes".to_owned()),
            content_type: info.content_type.clone(),
            content_encoding: info.content_encoding.clone(),
            e_tag: etag(&info.etag),
            last_modified: Some(timestamp(info.modified)),
            metadata: metadata(&info),
            server_side_encryption: sse(&info),
            ssekms_key_id: info.sse_kms_key_id.clone(),
            storage_class: info.storage_class.clone().map(StorageClass::from),
            tag_count: (!info.tags.is_empty()).then(|| i32::try_from(info.tags.len()).unwrap_or(i32::MAX)),
            checksum_crc32: checksum(&info, "crc32", sums),
            checksum_crc32c: checksum(&info, "crc32c", sums),
            checksum_crc64nvme: checksum(&info, "crc64nvme", sums),
            checksum_sha1: checksum(&info, "sha1", sums),
            checksum_sha256: checksum(&info, "sha256", sums),
            ..Default::default()
        }))
    }

    pub(super) async fn head_object(&self, request: S3Request<HeadObjectInput>) -> Reply<HeadObjectOutput> {
        let input = request.input;
        let info = self.store.head(&input.bucket, &input.key).await?;
        ReadCondition {
            if_match: input.if_match,
            if_none_match: input.if_none_match,
            if_modified_since: input.if_modified_since,
            if_unmodified_since: input.if_unmodified_since,
        }
        .check(&info)?;
        let sums = input.checksum_mode.is_some();
        Ok(S3Response::new(HeadObjectOutput {
            content_length: Some(signed(info.size)),
            accept_ranges: Some("bytes".to_owned()),
            content_type: info.content_type.clone(),
            content_encoding: info.content_encoding.clone(),
            e_tag: etag(&info.etag),
            last_modified: Some(timestamp(info.modified)),
            metadata: metadata(&info),
            server_side_encryption: sse(&info),
            ssekms_key_id: info.sse_kms_key_id.clone(),
            storage_class: info.storage_class.clone().map(StorageClass::from),
            checksum_crc32: checksum(&info, "crc32", sums),
            checksum_crc32c: checksum(&info, "crc32c", sums),
            checksum_crc64nvme: checksum(&info, "crc64nvme", sums),
            checksum_sha1: checksum(&info, "sha1", sums),
            checksum_sha256: checksum(&info, "sha256", sums),
            ..Default::default()
        }))
    }

    pub(super) async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> Reply<DeleteObjectOutput> {
        self.store.delete(&request.input.bucket, &request.input.key).await?;
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    pub(super) async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> Reply<DeleteObjectsOutput> {
        let input = request.input;
        self.store.require_bucket(&input.bucket).await?;
        if input.delete.objects.len() > 1000 {
            return Err(s3_error!(MalformedXML, "at most 1000 keys can be deleted in one request"));
        }
        let mut deleted = Vec::new();
        for object in input.delete.objects {
            self.store.delete(&input.bucket, &object.key).await?;
            deleted.push(DeletedObject { key: Some(object.key), ..Default::default() });
        }
        let quiet = input.delete.quiet.unwrap_or(false);
        Ok(S3Response::new(DeleteObjectsOutput {
            deleted: (!quiet).then_some(deleted),
            ..Default::default()
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::content_encoding;

    #[test]
    fn framing_is_no_encoding() {
        assert_eq!(content_encoding(Some("aws-chunked".into())), None);
        assert_eq!(content_encoding(Some("gzip,aws-chunked".into())).as_deref(), Some("gzip"));
        assert_eq!(content_encoding(Some("gzip".into())).as_deref(), Some("gzip"));
        assert_eq!(content_encoding(None), None);
    }
}
