//! Uploads in parts: by the XML API where the store has them, else by composing (see [`super::compose`]).

use super::Gcs;
use super::objects::crc32c_of;
use crate::store::pending::{self, Begun, Pending};
use crate::store::raw::{RawRequest, encoded, encoded_key, header_value};
use async_trait::async_trait;
use http::{HeaderName, Method, header};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{Error, MultipartId, PutMultipartOptions, PutPayload, PutResult, Result};
use std::sync::atomic::Ordering;

const HASH: HeaderName = HeaderName::from_static("x-goog-hash");

/// How a store takes large objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Xml = 1,
    Compose = 2,
}

impl Gcs {
    /// Learned with one request, a list of uploads, and remembered.
    async fn way(&self) -> Result<Way> {
        let known = &self.0.known.uploads;
        match known.load(Ordering::Relaxed) {
            1 => return Ok(Way::Xml),
            2 => return Ok(Way::Compose),
            _ => {}
        }
        let way = match self.uploads_page("max-uploads=1&uploads=").await {
            Ok(Some(_)) => Way::Xml,
            Ok(None) => Way::Compose,
            // Who may not list uploads may still make some.
            Err(Error::PermissionDenied { .. }) => Way::Xml,
            Err(error) => return Err(error),
        };
        if way == Way::Compose {
            tracing::info!(store = %self, "no uploads in parts here; composing objects");
        }
        known.store(way as u8, Ordering::Relaxed);
        Ok(way)
    }

    /// A page of the list of uploads; `None` from a store that answers with something else.
    async fn uploads_page(&self, query: &str) -> Result<Option<pending::Page>> {
        let ask = RawRequest::get(format!("/{}?{query}", self.0.bucket));
        match self.0.raw.perform(ask, true).await {
            Ok(answer) => {
                let text = String::from_utf8_lossy(&answer.body);
                if !text.contains("<ListMultipartUploadsResult") {
                    return Ok(None);
                }
                let page = quick_xml::de::from_str(&text);
                page.map(Some).map_err(|error| Error::Generic { store: "GCS", source: Box::new(error) })
            }
            Err(Error::NotFound { source, .. }) => Err(no_bucket(source)),
            Err(Error::Generic { source, .. }) if source.to_string().contains("status code: 40") => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// In the words that [`crate::store::codes`] knows.
pub(super) fn no_bucket(source: Box<dyn std::error::Error + Send + Sync>) -> Error {
    let told = source.to_string();
    let message = told.split_once("<Message>").and_then(|(_, rest)| rest.split_once('<'));
    let message = message.map_or("", |(message, _)| message);
    let text = format!("<Error><Code>NoSuchBucket</Code><Message>{message}</Message></Error>");
    Error::Generic { store: "GCS", source: text.into() }
}

#[async_trait]
impl MultipartStore for Gcs {
    async fn create_multipart(&self, path: &Path) -> Result<MultipartId> {
        match self.way().await? {
            Way::Xml => self.0.xml.create_multipart(path).await,
            Way::Compose => Ok(Self::new_composition()),
        }
    }

    async fn create_multipart_opts(&self, path: &Path, _: PutMultipartOptions) -> Result<MultipartId> {
        self.create_multipart(path).await
    }

    async fn put_part(
        &self,
        path: &Path,
        id: &MultipartId,
        part_idx: usize,
        data: PutPayload,
    ) -> Result<PartId> {
        if Self::is_composition(id) {
            return self.put_composed(path.as_ref(), id, part_idx, data).await;
        }
        let target = format!(
            "/{}{}?partNumber={}&uploadId={}",
            self.0.bucket,
            encoded_key(path.as_ref()),
            part_idx + 1,
            encoded(id)
        );
        let hash = header_value(format!("crc32c={}", crc32c_of(&data)))?;
        let ask = RawRequest::new(Method::PUT, target).with_header(HASH, hash).with_body(data);
        let answer = self.0.raw.perform(ask, true).await?;
        let mark = answer.headers.get(header::ETAG).and_then(|value| value.to_str().ok());
        match mark {
            Some(mark) => Ok(PartId { content_id: mark.to_owned() }),
            None => Err(Error::Generic { store: "GCS", source: "the part got no ETag".into() }),
        }
    }

    async fn complete_multipart(
        &self,
        path: &Path,
        id: &MultipartId,
        parts: Vec<PartId>,
    ) -> Result<PutResult> {
        if Self::is_composition(id) {
            return self.compose(path.as_ref(), id, parts).await;
        }
        self.0.xml.complete_multipart(path, id, parts).await
    }

    async fn abort_multipart(&self, path: &Path, id: &MultipartId) -> Result<()> {
        if Self::is_composition(id) {
            return self.drop_composition(path.as_ref(), id).await;
        }
        self.0.xml.abort_multipart(path, id).await
    }
}

#[async_trait]
impl Pending for Gcs {
    async fn pending(&self, prefix: &str) -> Result<Vec<Begun>> {
        if self.way().await? == Way::Compose {
            return self.compositions(prefix).await;
        }
        let (mut found, mut marker) = (Vec::new(), None::<(String, String)>);
        loop {
            let mut query = format!("max-uploads=1000&prefix={}&uploads=", encoded(prefix));
            if let Some((key, id)) = &marker {
                query = format!("key-marker={}&{query}&upload-id-marker={}", encoded(key), encoded(id));
            }
            let Some(page) = self.uploads_page(&query).await? else { return Ok(found) };
            let next = page.read(&mut found);
            if next.is_none() || next == marker {
                return Ok(found);
            }
            marker = next;
        }
    }
}
