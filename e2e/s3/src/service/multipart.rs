//! Multipart uploads.

use std::sync::Arc;

use s3s::crypto::{Checksum as _, Md5};
use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::objects::{content_encoding, etag, sse};
use super::{LoseWrite, Reply, Service, checksum_headers, signed, timestamp};
use crate::body;
use crate::conditions::WriteCondition;
use crate::object::{ObjectInfo, parse_tagging};
use crate::store::{Staged, Stored, Upload, no_such_bucket, no_such_upload};

/// A part number within S3's bounds.
pub(super) fn part_number(number: i32) -> S3Result<u32> {
    u32::try_from(number)
        .ok()
        .filter(|number| (1..=10_000).contains(number))
        .ok_or_else(|| s3_error!(InvalidArgument, "Part number must be an integer between 1 and 10000"))
}

impl Service {
    /// Looks an upload up, by both of its names.
    pub(super) fn with_upload<T>(
        &self,
        bucket: &str,
        key: &str,
        id: &str,
        read: impl FnOnce(&Upload) -> T,
    ) -> S3Result<T> {
        let buckets = self.store.buckets();
        let state = buckets.get(bucket).ok_or_else(|| no_such_bucket(bucket))?;
        let upload = state.uploads.get(id).filter(|upload| upload.template.key == key);
        upload.map(read).ok_or_else(|| no_such_upload(id))
    }

    pub(super) fn require_upload(&self, bucket: &str, key: &str, id: &str) -> S3Result<()> {
        self.with_upload(bucket, key, id, |_| ())
    }

    pub(super) async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> Reply<CreateMultipartUploadOutput> {
        let input = request.input;
        let template = ObjectInfo {
            tags: input.tagging.as_deref().map(parse_tagging).unwrap_or_default(),
            sse: input.server_side_encryption.map(|value| value.as_str().to_owned()),
            sse_kms_key_id: input.ssekms_key_id,
            content_type: input.content_type,
            content_encoding: content_encoding(input.content_encoding),
            storage_class: input.storage_class.map(|value| value.as_str().to_owned()),
            metadata: input.metadata.unwrap_or_default().into_iter().collect(),
            ..ObjectInfo::new(&input.key)
        };
        let id = uuid::Uuid::new_v4().simple().to_string();
        let output = CreateMultipartUploadOutput {
            bucket: Some(input.bucket.clone()),
            key: Some(input.key),
            upload_id: Some(id.clone()),
            server_side_encryption: sse(&template),
            ssekms_key_id: template.sse_kms_key_id.clone(),
            ..Default::default()
        };
        let upload = Upload { initiated: template.modified, template, parts: Default::default() };
        self.store.create_upload(&input.bucket, &id, upload)?;
        Ok(S3Response::new(output))
    }

    pub(super) async fn upload_part(&self, request: S3Request<UploadPartInput>) -> Reply<UploadPartOutput> {
        let headers = checksum_headers(&request);
        let (input, lose) = (request.input, request.extensions.get::<LoseWrite>().is_some());
        let number = part_number(input.part_number)?;
        self.require_upload(&input.bucket, &input.key, &input.upload_id)?;
        let received = body::receive(
            self.store.backend(),
            input.body,
            &headers,
            request.trailing_headers,
            input.content_md5.as_deref(),
            self.md5_etags,
        )
        .await?;
        let info = ObjectInfo {
            size: received.size,
            etag: hex::encode(received.tag),
            checksums: received.checksums,
            ..ObjectInfo::new(&number.to_string())
        };
        let staged = received.staging.finish(&info).await.map_err(body::disk_error)?;
        let sum = |name: &str| info.checksums.get(name).cloned();
        let output = UploadPartOutput {
            e_tag: etag(&info.etag),
            checksum_crc32: sum("crc32"),
            checksum_crc32c: sum("crc32c"),
            checksum_crc64nvme: sum("crc64nvme"),
            checksum_sha1: sum("sha1"),
            checksum_sha256: sum("sha256"),
            ..Default::default()
        };
        if !lose {
            self.store.put_part(&input.bucket, &input.upload_id, number, info, staged).await?;
        }
        Ok(S3Response::new(output))
    }

    pub(super) async fn list_parts(&self, request: S3Request<ListPartsInput>) -> Reply<ListPartsOutput> {
        let input = request.input;
        let limit = usize::try_from(input.max_parts.unwrap_or(1000)).unwrap_or(0).min(1000);
        let after = u32::try_from(input.part_number_marker.unwrap_or(0)).unwrap_or(0);
        let (parts, more) = self.with_upload(&input.bucket, &input.key, &input.upload_id, |upload| {
            let mut rest = upload.parts.range(after + 1..);
            let parts: Vec<Part> = rest
                .by_ref()
                .take(limit)
                .map(|(number, stored)| Part {
                    part_number: i32::try_from(*number).ok(),
                    size: Some(signed(stored.info.size)),
                    e_tag: etag(&stored.info.etag),
                    last_modified: Some(timestamp(stored.info.modified)),
                    ..Default::default()
                })
                .collect();
            (parts, rest.next().is_some())
        })?;
        Ok(S3Response::new(ListPartsOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(input.upload_id),
            max_parts: i32::try_from(limit).ok(),
            part_number_marker: i32::try_from(after).ok(),
            is_truncated: Some(more),
            next_part_number_marker: parts.last().filter(|_| more).and_then(|part| part.part_number),
            parts: Some(parts),
            ..Default::default()
        }))
    }

    /// The stored parts that a completion names, in order and complete.
    fn chosen_parts(&self, input: &CompleteMultipartUploadInput) -> S3Result<(ObjectInfo, Vec<Arc<Stored>>)> {
        let listed =
            input.multipart_upload.as_ref().and_then(|upload| upload.parts.as_deref()).unwrap_or_default();
        if listed.is_empty() {
            return Err(s3_error!(MalformedXML, "a multipart upload needs at least one part"));
        }
        self.with_upload(&input.bucket, &input.key, &input.upload_id, |upload| {
            let mut chosen: Vec<Arc<Stored>> = Vec::with_capacity(listed.len());
            let mut previous = 0;
            for (index, part) in listed.iter().enumerate() {
                let number = part_number(part.part_number.unwrap_or(0))?;
                if number <= previous {
                    return Err(s3_error!(InvalidPartOrder, "The list of parts was not in ascending order"));
                }
                previous = number;
                let same = |stored: &&Arc<Stored>| {
                    part.e_tag.as_ref().is_none_or(|tag| tag.value() == stored.info.etag)
                };
                let Some(stored) = upload.parts.get(&number).filter(same) else {
                    return Err(s3_error!(
                        InvalidPart,
                        "One or more of the specified parts could not be found: part {}",
                        number
                    ));
                };
                if index + 1 < listed.len() && stored.info.size < self.min_part_size {
                    return Err(s3_error!(
                        EntityTooSmall,
                        "Your proposed upload is smaller than the minimum allowed size: part {}",
                        number
                    ));
                }
                chosen.push(stored.clone());
            }
            Ok((upload.template.clone(), chosen))
        })?
    }

    pub(super) async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> Reply<CompleteMultipartUploadOutput> {
        let (input, lose) = (request.input, request.extensions.get::<LoseWrite>().is_some());
        let (template, parts) = self.chosen_parts(&input)?;
        let mut md5 = Md5::new();
        for part in &parts {
            let digest = hex::decode(&part.info.etag)
                .map_err(|error| s3_error!(error, InternalError, "a part's digest is unreadable"))?;
            md5.update(&digest);
        }
        let info = ObjectInfo {
            size: parts.iter().map(|part| part.info.size).sum(),
            etag: format!("{}-{}", hex::encode(md5.finalize()), parts.len()),
            modified: chrono::Utc::now(),
            parts: parts.iter().map(|part| part.info.size).collect(),
            ..template
        };
        let staged = Staged::join(self.store.backend(), parts, &info).await.map_err(body::disk_error)?;
        let output = CompleteMultipartUploadOutput {
            location: Some(format!("/{}/{}", input.bucket, input.key)),
            bucket: Some(input.bucket.clone()),
            key: Some(input.key),
            e_tag: etag(&info.etag),
            server_side_encryption: sse(&info),
            ssekms_key_id: info.sse_kms_key_id.clone(),
            ..Default::default()
        };
        if !lose {
            let condition = WriteCondition { if_match: input.if_match, if_none_match: input.if_none_match };
            self.store.put(&input.bucket, info, staged, &condition).await?;
        }
        self.store.remove_upload(&input.bucket, &input.upload_id)?;
        Ok(S3Response::new(output))
    }

    pub(super) async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> Reply<AbortMultipartUploadOutput> {
        let input = request.input;
        self.require_upload(&input.bucket, &input.key, &input.upload_id)?;
        self.store.remove_upload(&input.bucket, &input.upload_id)?;
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }

    pub(super) async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> Reply<ListMultipartUploadsOutput> {
        let input = request.input;
        let limit = usize::try_from(input.max_uploads.unwrap_or(1000)).unwrap_or(0).min(1000);
        let prefix = input.prefix.clone().unwrap_or_default();
        let after = (input.key_marker.clone().unwrap_or_default(), input.upload_id_marker.clone());
        let mut uploads: Vec<(String, String, Timestamp)> = {
            let buckets = self.store.buckets();
            let state = buckets.get(&input.bucket).ok_or_else(|| no_such_bucket(&input.bucket))?;
            state
                .uploads
                .iter()
                .filter(|(_, upload)| upload.template.key.starts_with(&prefix))
                .map(|(id, upload)| (upload.template.key.clone(), id.clone(), timestamp(upload.initiated)))
                .filter(|(key, id, _)| match &after.1 {
                    None => after.0.is_empty() || *key > after.0,
                    Some(marker) => (key, id) > (&after.0, marker),
                })
                .collect()
        };
        uploads.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        let more = uploads.len() > limit;
        uploads.truncate(limit);
        let last = uploads.last().filter(|_| more).cloned();
        Ok(S3Response::new(ListMultipartUploadsOutput {
            bucket: Some(input.bucket),
            prefix: input.prefix,
            key_marker: input.key_marker,
            upload_id_marker: input.upload_id_marker,
            max_uploads: i32::try_from(limit).ok(),
            is_truncated: Some(more),
            next_key_marker: last.as_ref().map(|(key, ..)| key.clone()),
            next_upload_id_marker: last.map(|(_, id, _)| id),
            uploads: Some(
                uploads
                    .into_iter()
                    .map(|(key, id, initiated)| MultipartUpload {
                        key: Some(key),
                        upload_id: Some(id),
                        initiated: Some(initiated),
                        ..Default::default()
                    })
                    .collect(),
            ),
            ..Default::default()
        }))
    }
}
