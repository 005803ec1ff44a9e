//! What is known about a stored object besides its bytes.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// An object without its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectInfo {
    /// The full key.
    pub key: String,
    /// Length in bytes.
    pub size: u64,
    /// Entity tag without quotes: the MD5, or `<md5 of md5s>-<parts>` after a multipart upload.
    pub etag: String,
    /// When it was stored.
    pub modified: DateTime<Utc>,
    /// Object tags, from the `x-amz-tagging` header or `PutObjectTagging`.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// `x-amz-server-side-encryption` as sent: `AES256` or `aws:kms`.
    #[serde(default)]
    pub sse: Option<String>,
    /// `x-amz-server-side-encryption-aws-kms-key-id` as sent.
    #[serde(default)]
    pub sse_kms_key_id: Option<String>,
    /// `Content-Type` as sent.
    #[serde(default)]
    pub content_type: Option<String>,
    /// `Content-Encoding` as sent, without `aws-chunked`.
    #[serde(default)]
    pub content_encoding: Option<String>,
    /// `x-amz-storage-class` as sent.
    #[serde(default)]
    pub storage_class: Option<String>,
    /// `x-amz-meta-*` headers, names without the prefix.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// Checksums of the whole body by algorithm (`crc32`, `crc32c`, `crc64nvme`, `sha1`, `sha256`), base64.
    #[serde(default)]
    pub checksums: BTreeMap<String, String>,
    /// Sizes of the parts of a multipart upload, empty for a plain one.
    #[serde(default)]
    pub parts: Vec<u64>,
}

impl ObjectInfo {
    /// An object of no bytes that was stored just now.
    #[must_use]
    pub fn new(key: &str) -> Self {
        Self {
            key: key.to_owned(),
            size: 0,
            etag: String::new(),
            modified: Utc::now(),
            tags: BTreeMap::new(),
            sse: None,
            sse_kms_key_id: None,
            content_type: None,
            content_encoding: None,
            storage_class: None,
            metadata: BTreeMap::new(),
            checksums: BTreeMap::new(),
            parts: Vec::new(),
        }
    }
}

/// Reads an `x-amz-tagging` header: `a=b&c=d`, percent-encoded.
pub(crate) fn parse_tagging(header: &str) -> BTreeMap<String, String> {
    url::form_urlencoded::parse(header.as_bytes()).into_owned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tagging_header_is_decoded() {
        let tags = parse_tagging("app=how%20dah&tier=gold&empty=");
        assert_eq!(tags["app"], "how dah");
        assert_eq!(tags["tier"], "gold");
        assert_eq!(tags["empty"], "");
        assert_eq!(tags.len(), 3);
    }
}
