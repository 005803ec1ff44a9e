//! Uploads that were begun and never completed: what killed runs leave, invisible and billed.

use super::raw::{Raw, RawRequest, encoded, refusal};
use super::{Inner, Store};
use crate::error::{Error, ErrorKind, Result};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use http::StatusCode;
use serde::Deserialize;

/// An upload under way, or abandoned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingUpload {
    /// Key relative to the destination path.
    pub key: String,
    /// The store's id.
    pub id: String,
    /// When it was begun, by the store's clock.
    pub begun: DateTime<Utc>,
}

/// An upload as a store lists it, by its full key.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) key: String,
    pub(super) id: String,
    pub(super) begun: DateTime<Utc>,
}

/// Stores that list uploads in a way of their own.
#[async_trait]
pub(super) trait Pending: Send + Sync {
    /// All uploads under way below a prefix, which ends at a slash.
    async fn pending(&self, prefix: &str) -> object_store::Result<Vec<Begun>>;
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Page {
    #[serde(default)]
    is_truncated: bool,
    next_key_marker: Option<String>,
    next_upload_id_marker: Option<String>,
    #[serde(default, rename = "Upload")]
    uploads: Vec<Listed>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    key: String,
    upload_id: String,
    initiated: DateTime<Utc>,
}

impl Page {
    /// Takes its uploads; gives the marker of the next page, if there is one.
    pub(super) fn read(self, found: &mut Vec<Begun>) -> Option<(String, String)> {
        found.extend(self.uploads.into_iter().map(|upload| Begun {
            key: upload.key,
            id: upload.upload_id,
            begun: upload.initiated,
        }));
        let next = (self.next_key_marker.unwrap_or_default(), self.next_upload_id_marker.unwrap_or_default());
        // A store that promises more but does not say from where would be asked for ever.
        (self.is_truncated && !next.0.is_empty()).then_some(next)
    }
}

impl Store {
    /// Uploads below a directory that were begun and neither completed nor aborted; a store in memory has none.
    /// Azure keeps no uploads, only blocks: they are found when there is no blob under their key, and have no id.
    /// [`ErrorKind::Unsupported`] on stores that do not list uploads.
    pub async fn list_uploads(&self, dir: &str) -> Result<Vec<PendingUpload>> {
        let prefix = format!("{}/", self.path(dir)?);
        let found = match (&self.inner.pending, &self.inner.raw) {
            (Some(own), _) => {
                let listed = own.pending(&prefix).await;
                listed.map_err(|error| self.error("listing the uploads of", dir, error))?
            }
            (None, Some(raw)) => self.s3_uploads(raw, &prefix).await?,
            (None, None) => Vec::new(),
        };
        let relative = found.into_iter().filter_map(|upload| {
            let key = self.relative(&upload.key)?.to_owned();
            Some(PendingUpload { key, id: upload.id, begun: upload.begun })
        });
        Ok(relative.collect())
    }

    async fn s3_uploads(&self, raw: &Raw, prefix: &str) -> Result<Vec<Begun>> {
        let (mut found, mut marker) = (Vec::new(), None);
        loop {
            let page = self.retrying(|| page(&self.inner, raw, prefix, marker.as_ref())).await?;
            let next = page.read(&mut found);
            if next.is_none() || next == marker {
                return Ok(found);
            }
            marker = next;
        }
    }

    /// Aborts uploads below a directory that were begun before a time; gives their number. The caller makes sure
    /// that none of them is its own. Stores that do not list uploads have none for this purpose.
    pub async fn abort_uploads(&self, dir: &str, begun_before: DateTime<Utc>) -> Result<usize> {
        let pending = match self.list_uploads(dir).await {
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                tracing::debug!(store = self.url(), "uploads cannot be listed here");
                return Ok(0);
            }
            other => other?,
        };
        let mut count = 0;
        for upload in pending.iter().filter(|upload| upload.begun < begun_before) {
            self.resume_upload(&upload.key, &upload.id)?.abort().await?;
            count += 1;
        }
        Ok(count)
    }
}

async fn page(inner: &Inner, raw: &Raw, prefix: &str, marker: Option<&(String, String)>) -> Result<Page> {
    let below = prefix.strip_prefix(inner.prefix.as_str()).unwrap_or(prefix).trim_start_matches('/');
    let url = format!("{}/{below}", inner.url);
    let failed = |error| super::classify::classify("listing the uploads of", &url, error);
    let broken = |error: Box<dyn std::error::Error + Send + Sync>| {
        Error::new(ErrorKind::Unavailable, "the list of uploads cannot be read")
            .with_key(&url)
            .with_source(error)
    };
    let mut query = format!("max-uploads=1000&prefix={}&uploads=", encoded(prefix));
    if let Some((key, id)) = marker {
        query = format!("key-marker={}&{query}&upload-id-marker={}", encoded(key), encoded(id));
    }
    let (status, body) = raw.send(RawRequest::get(format!("?{query}"))).await.map_err(failed)?;
    if status != StatusCode::OK {
        return Err(failed(refusal(status, &body)));
    }
    let body = String::from_utf8_lossy(&body);
    quick_xml::de::from_str(&body).map_err(|error| broken(Box::new(error)))
}

#[cfg(test)]
#[path = "../../tests/fuzz/mutate.rs"]
#[allow(dead_code, reason = "shared with the tests of other parsers")]
mod mutate;

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "<?xml version=\"1.0\"?><ListMultipartUploadsResult><Bucket>b</Bucket>\
        <IsTruncated>true</IsTruncated><NextKeyMarker>k</NextKeyMarker><NextUploadIdMarker>i</NextUploadIdMarker>\
        <Upload><Key>a &amp; b</Key><UploadId>1</UploadId><Initiated>2026-11-21T01:02:03.000Z</Initiated></Upload>\
        <Upload><Key>c</Key><UploadId>2</UploadId><Initiated>2026-11-21T01:02:03Z</Initiated></Upload>\
        </ListMultipartUploadsResult>";

    #[test]
    fn a_page_is_read() {
        let page: Page = quick_xml::de::from_str(PAGE).expect("valid");
        assert!(page.is_truncated);
        assert_eq!(page.uploads.iter().map(|u| u.key.as_str()).collect::<Vec<_>>(), ["a & b", "c"]);
    }

    proptest::proptest! {
        #[test]
        fn a_damaged_page_is_read_or_refused(text in super::mutate::mutated_text(&[PAGE])) {
            if let Ok(page) = quick_xml::de::from_str::<Page>(&text) {
                assert!(page.uploads.len() <= text.len());
            }
        }
    }
}
