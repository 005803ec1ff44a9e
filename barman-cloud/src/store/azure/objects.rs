//! Whole blobs.

use super::Azure;
use crate::store::raw::{RawRequest, encoded_key, header_value};
use async_trait::async_trait;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use http::{HeaderName, HeaderValue, Method, header};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// Deletions at a time.
const PARALLEL: usize = 8;
const BLOB_TYPE: HeaderName = HeaderName::from_static("x-ms-blob-type");
pub(super) const CRC64: HeaderName = HeaderName::from_static("x-ms-content-crc64");
pub(super) const TAGS: HeaderName = HeaderName::from_static("x-ms-tags");

/// The checksum that Azure compares, in its form: CRC-64/NVME, low byte first.
pub(super) fn crc64_of(payload: &PutPayload) -> Result<HeaderValue> {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme);
    for piece in payload.iter() {
        digest.update(piece);
    }
    header_value(BASE64_STANDARD.encode(digest.finalize().to_le_bytes()))
}

impl Azure {
    /// A key relative to the destination: what tags go by.
    pub(super) fn relative<'a>(&self, key: &'a str) -> &'a str {
        key.strip_prefix(self.prefix.as_str()).unwrap_or(key).trim_start_matches('/')
    }

    /// A write with the tags of its key.
    pub(super) fn tagged(&self, ask: RawRequest, key: &str) -> Result<RawRequest> {
        let tags = self.tags.of(self.relative(key));
        if tags.is_empty() {
            return Ok(ask);
        }
        Ok(ask.with_header(TAGS, header_value(tags.encoded())?))
    }

    pub(super) async fn remove(&self, key: &str, mark: Option<HeaderValue>) -> Result<()> {
        let mut ask = RawRequest::new(Method::DELETE, encoded_key(key));
        if let Some(mark) = mark {
            ask = ask.with_header(header::IF_MATCH, mark);
        }
        self.raw.perform(ask, true).await?;
        Ok(())
    }
}

#[async_trait]
impl ObjectStore for Azure {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let key = location.as_ref();
        let mut ask = RawRequest::new(Method::PUT, encoded_key(key))
            .with_header(BLOB_TYPE, HeaderValue::from_static("BlockBlob"))
            .with_header(CRC64, crc64_of(&payload)?)
            .with_body(payload);
        match &opts.mode {
            PutMode::Overwrite => {}
            PutMode::Create => ask = ask.with_header(header::IF_NONE_MATCH, HeaderValue::from_static("*")),
            PutMode::Update(version) => {
                let mark = version.e_tag.clone().unwrap_or_default();
                ask = ask.with_header(header::IF_MATCH, header_value(mark)?);
            }
        }
        let answer = self.raw.perform(self.tagged(ask, key)?, opts.mode == PutMode::Overwrite).await;
        let answer = answer.map_err(|error| match error {
            Error::Precondition { path, source } if opts.mode == PutMode::Create => {
                Error::AlreadyExists { path, source }
            }
            error => error,
        })?;
        let e_tag = answer.headers.get(header::ETAG).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Ok(PutResult { e_tag, version: None, extensions: http::Extensions::default() })
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.client.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.client.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        if self.batches {
            return self.client.delete_stream(locations);
        }
        let this = self.clone();
        locations
            .map(move |location| {
                let this = this.clone();
                async move {
                    let location = location?;
                    this.remove(location.as_ref(), None).await.map(|()| location)
                }
            })
            .buffered(PARALLEL)
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.client.list(prefix).map_ok(marked).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.client.list_with_delimiter(prefix).await.map(all_marked)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.client.copy_opts(from, to, options).await
    }
}

/// Listings show the mark without the quotes that it has everywhere else.
pub(super) fn marked(mut meta: ObjectMeta) -> ObjectMeta {
    if let Some(mark) = meta.e_tag.as_mut().filter(|mark| !mark.contains('"')) {
        *mark = format!("\"{mark}\"");
    }
    meta
}

fn all_marked(mut result: ListResult) -> ListResult {
    result.objects = result.objects.into_iter().map(marked).collect();
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Azurite computes for the same bytes.
    #[test]
    fn the_checksum_is_azures() {
        assert_eq!(crc64_of(&PutPayload::from_static(b"hello")).expect("text"), "V0JSBnCFdzM=");
    }
}
