//! Multipart uploads.

use std::sync::Arc;

use s3s::crypto::{Checksum as _, Md5};
use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::objects::{content_encoding, etag, sse};
use super::{Reply, Service, checksum_headers, signed, timestamp};
use crate::body::{self, Announced};
use crate::conditions::WriteCondition;
use crate::object::{ObjectInfo, parse_tagging};
use crate::store::{Store, Upload};

/// A part number within S3's bounds.
pub(super) fn part_number(number: i32) -> S3Result<u32> {
    u32::try_from(number)
        .ok()
        .filter(|number| (1..=10_000).contains(number))
        .ok_or_else(|| s3_error!(InvalidArgument, "Part number must be an integer between 1 and 10000"))
}

/// Numbers and descriptions of the stored parts that a completion names, in order and complete.
fn chosen_parts(
    upload: &Upload,
    listed: &[CompletedPart],
    min_part_size: u64,
) -> S3Result<(Vec<u32>, Vec<Arc<ObjectInfo>>)> {
    if listed.is_empty() {
        return Err(s3_error!(MalformedXML, "a multipart upload needs at least one part"));
    }
    let (mut numbers, mut chosen) = (Vec::with_capacity(listed.len()), Vec::with_capacity(listed.len()));
    for (index, part) in listed.iter().enumerate() {
        let number = part_number(part.part_number.unwrap_or(0))?;
        if numbers.last().is_some_and(|previous| number <= *previous) {
            return Err(s3_error!(InvalidPartOrder, "The list of parts was not in ascending order"));
        }
        let same = |info: &&Arc<ObjectInfo>| part.e_tag.as_ref().is_none_or(|tag| tag.value() == info.etag);
        let Some(info) = upload.parts.get(&number).filter(same) else {
            return Err(s3_error!(
                InvalidPart,
                "One or more of the specified parts could not be found: part {}",
                number
            ));
        };
        if index + 1 < listed.len() && info.size < min_part_size {
            return Err(s3_error!(
                EntityTooSmall,
                "Your proposed upload is smaller than the minimum allowed size: part {}",
                number
            ));
        }
        numbers.push(number);
        chosen.push(info.clone());
    }
    Ok((numbers, chosen))
}

impl<S: Store> Service<S> {
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
        let mut output = CreateMultipartUploadOutput {
            bucket: Some(input.bucket.clone()),
            key: Some(input.key),
            server_side_encryption: sse(&template),
            ssekms_key_id: template.sse_kms_key_id.clone(),
            ..Default::default()
        };
        output.upload_id = Some(self.store.begin_upload(&input.bucket, template).await?);
        Ok(S3Response::new(output))
    }

    pub(super) async fn upload_part(&self, request: S3Request<UploadPartInput>) -> Reply<UploadPartOutput> {
        let headers = checksum_headers(&request);
        let input = request.input;
        let number = part_number(input.part_number)?;
        self.store.require_upload(&input.bucket, &input.key, &input.upload_id).await?;
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
            checksums: received.checksums,
            ..ObjectInfo::new(&number.to_string())
        };
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
        self.store.put_part(&input.bucket, &input.upload_id, number, info, received.staging).await?;
        Ok(S3Response::new(output))
    }

    pub(super) async fn list_parts(&self, request: S3Request<ListPartsInput>) -> Reply<ListPartsOutput> {
        let input = request.input;
        let limit = usize::try_from(input.max_parts.unwrap_or(1000)).unwrap_or(0).min(1000);
        let after = u32::try_from(input.part_number_marker.unwrap_or(0)).unwrap_or(0);
        let upload = self.store.upload(&input.bucket, &input.key, &input.upload_id).await?;
        let mut rest = upload.parts.range(after + 1..);
        let parts: Vec<Part> = rest
            .by_ref()
            .take(limit)
            .map(|(number, info)| Part {
                part_number: i32::try_from(*number).ok(),
                size: Some(signed(info.size)),
                e_tag: etag(&info.etag),
                last_modified: Some(timestamp(info.modified)),
                ..Default::default()
            })
            .collect();
        let more = rest.next().is_some();
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

    pub(super) async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> Reply<CompleteMultipartUploadOutput> {
        let input = request.input;
        let upload = self.store.upload(&input.bucket, &input.key, &input.upload_id).await?;
        let listed = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
        let (numbers, parts) = chosen_parts(&upload, &listed, self.min_part_size)?;
        let mut md5 = Md5::new();
        for part in &parts {
            let digest = hex::decode(&part.etag)
                .map_err(|error| s3_error!(error, InternalError, "a part's digest is unreadable"))?;
            md5.update(&digest);
        }
        let info = ObjectInfo {
            size: parts.iter().map(|part| part.size).sum(),
            etag: format!("{}-{}", hex::encode(md5.finalize()), parts.len()),
            modified: chrono::Utc::now(),
            parts: parts.iter().map(|part| part.size).collect(),
            ..upload.template
        };
        let output = CompleteMultipartUploadOutput {
            location: Some(format!("/{}/{}", input.bucket, input.key)),
            bucket: Some(input.bucket.clone()),
            key: Some(input.key),
            e_tag: etag(&info.etag),
            server_side_encryption: sse(&info),
            ssekms_key_id: info.sse_kms_key_id.clone(),
            ..Default::default()
        };
        let condition = WriteCondition { if_match: input.if_match, if_none_match: input.if_none_match };
        self.store.complete_upload(&input.bucket, &input.upload_id, info, &numbers, &condition).await?;
        Ok(S3Response::new(output))
    }

    pub(super) async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> Reply<AbortMultipartUploadOutput> {
        let input = request.input;
        self.store.require_upload(&input.bucket, &input.key, &input.upload_id).await?;
        self.store.abort_upload(&input.bucket, &input.upload_id).await?;
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
        let mut uploads = self.store.uploads(&input.bucket, &prefix).await?;
        uploads.retain(|upload| match &after.1 {
            None => after.0.is_empty() || upload.key > after.0,
            Some(marker) => (&upload.key, &upload.id) > (&after.0, marker),
        });
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
            next_key_marker: last.as_ref().map(|upload| upload.key.clone()),
            next_upload_id_marker: last.map(|upload| upload.id),
            uploads: Some(
                uploads
                    .into_iter()
                    .map(|upload| MultipartUpload {
                        key: Some(upload.key),
                        upload_id: Some(upload.id),
                        initiated: Some(timestamp(upload.initiated)),
                        ..Default::default()
                    })
                    .collect(),
            ),
            ..Default::default()
        }))
    }
}
