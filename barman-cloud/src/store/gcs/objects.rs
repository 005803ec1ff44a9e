//! Whole objects: written and deleted by the JSON API, read by the XML API.

use super::Gcs;
use crate::store::raw::{RawRequest, encoded, header_value};
use async_trait::async_trait;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use http::{Method, header};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use serde::Deserialize;

/// Deletions at a time.
const PARALLEL: usize = 8;

#[derive(Deserialize)]
struct Written {
    generation: String,
    crc32c: String,
}

/// The checksum that Google keeps of each object, in its form.
pub(super) fn crc32c_of(payload: &PutPayload) -> String {
    let sum = payload.iter().fold(0, |sum, piece| crc32c::crc32c_append(sum, piece));
    BASE64_STANDARD.encode(sum.to_be_bytes())
}

impl Gcs {
    /// Writes an object; its checksum goes along, and what comes back has to be the same.
    pub(super) async fn write(&self, key: &str, payload: PutPayload, mode: &PutMode) -> Result<PutResult> {
        let condition = match mode {
            PutMode::Overwrite => String::new(),
            PutMode::Create => "&ifGenerationMatch=0".to_owned(),
            PutMode::Update(version) => {
                let mark = version.version.as_ref().or(version.e_tag.as_ref());
                format!("&ifGenerationMatch={}", encoded(mark.map_or("0", String::as_str)))
            }
        };
        let crc32c = crc32c_of(&payload);
        let boundary = format!("{:032x}", rand::random::<u128>());
        let metadata = serde_json::json!({
            "name": key, "crc32c": crc32c, "contentType": "application/octet-stream",
        });
        let head = format!(
            "--{boundary}\r\ncontent-type: application/json\r\n\r\n{metadata}\r\n\
             --{boundary}\r\ncontent-type: application/octet-stream\r\n\r\n"
        );
        let tail = format!("\r\n--{boundary}--\r\n");
        let body: PutPayload = std::iter::once(Bytes::from(head))
            .chain(payload)
            .chain(std::iter::once(Bytes::from(tail)))
            .collect();
        let target = format!("/upload/storage/v1/b/{}/o?uploadType=multipart{condition}", self.0.bucket);
        let ask = RawRequest::new(Method::POST, target)
            .with_header(
                header::CONTENT_TYPE,
                header_value(format!("multipart/related; boundary={boundary}"))?,
            )
            .with_body(body);
        let answer = self.0.raw.perform(ask, *mode == PutMode::Overwrite).await;
        let answer = answer.map_err(|error| match (error, mode) {
            (Error::Precondition { path, source }, PutMode::Create) => Error::AlreadyExists { path, source },
            // Nothing but the bucket can be missing for a write.
            (Error::NotFound { source, .. }, _) => super::uploads::no_bucket(source),
            (error, _) => error,
        })?;
        let written: Written = parsed(&answer.body)?;
        if written.crc32c != crc32c {
            return Err(damaged());
        }
        let version = Some(written.generation);
        Ok(PutResult { e_tag: version.clone(), version, extensions: http::Extensions::default() })
    }

    pub(super) async fn remove(&self, key: &str) -> Result<()> {
        self.0.raw.perform(RawRequest::new(Method::DELETE, self.object(key)), true).await?;
        Ok(())
    }
}

/// An answer of the JSON API.
pub(super) fn parsed<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T> {
    serde_json::from_slice(body).map_err(|error| Error::Generic { store: "GCS", source: Box::new(error) })
}

/// In the words that [`crate::store::codes`] knows.
fn damaged() -> Error {
    let text = "<Error><Code>CrcMismatch</Code><Message>The object was changed on its way.</Message></Error>";
    Error::Generic { store: "GCS", source: text.into() }
}

/// Marks are generations, here as in listings.
fn marked(mut meta: ObjectMeta) -> ObjectMeta {
    if meta.version.is_some() {
        meta.e_tag.clone_from(&meta.version);
    }
    meta
}

#[async_trait]
impl ObjectStore for Gcs {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.write(location.as_ref(), payload, &opts.mode).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.0.xml.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, mut options: GetOptions) -> Result<GetResult> {
        let wanted = options.if_match.take();
        let mut found = self.0.xml.get_opts(location, options).await?;
        found.meta = marked(found.meta);
        match (wanted, &found.meta.e_tag) {
            // Compared here: emulators do not look at the condition.
            (Some(wanted), Some(mark)) if wanted != *mark => Err(Error::Precondition {
                path: location.to_string(),
                source: format!(
                    "<Error><Code>conditionNotMet</Code><Message>It is of generation {mark}, not {wanted}.\
                     </Message></Error>"
                )
                .into(),
            }),
            _ => Ok(found),
        }
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        locations
            .map(move |location| {
                let this = this.clone();
                async move {
                    let location = location?;
                    this.remove(location.as_ref()).await.map(|()| location)
                }
            })
            .buffered(PARALLEL)
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let prefix = prefix.filter(|path| !path.as_ref().is_empty()).map(|path| format!("{path}/"));
        self.pages(prefix, None)
            .map_ok(|page| futures::stream::iter(page.objects.into_iter().map(Ok)))
            .try_flatten()
            .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let prefix = prefix.filter(|path| !path.as_ref().is_empty()).map(|path| format!("{path}/"));
        let mut pages = self.pages(prefix, Some("/"));
        let mut whole = ListResult {
            common_prefixes: Vec::new(),
            objects: Vec::new(),
            extensions: http::Extensions::default(),
        };
        while let Some(page) = pages.try_next().await? {
            whole.common_prefixes.extend(page.common_prefixes);
            whole.objects.extend(page.objects);
        }
        Ok(whole)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.xml.copy_opts(from, to, options).await
    }
}
