//! Which S3 operation a request is, read off its method, path and query. Pure.

use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};

/// The operations that fault rules and the request log tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
#[allow(missing_docs)]
pub enum Operation {
    ListBuckets,
    CreateBucket,
    DeleteBucket,
    HeadBucket,
    /// Both versions of the listing.
    ListObjects,
    ListMultipartUploads,
    DeleteObjects,
    PutObject,
    CopyObject,
    GetObject,
    HeadObject,
    DeleteObject,
    CreateMultipartUpload,
    UploadPart,
    CompleteMultipartUpload,
    AbortMultipartUpload,
    ListParts,
    /// Reading or writing object tags.
    ObjectTagging,
    Other,
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub operation: Operation,
    pub method: http::Method,
    pub bucket: String,
    pub key: String,
    pub headers: http::HeaderMap,
}

impl Target {
    /// Whether the request has a header, `name` or `name: value`.
    pub fn has_header(&self, wanted: &str) -> bool {
        match wanted.split_once(':') {
            None => self.headers.contains_key(wanted),
            Some((name, value)) => self.headers.get(name).is_some_and(|found| found == value.trim()),
        }
    }

    /// Reads a path-style request.
    pub fn of<B>(request: &http::Request<B>) -> Self {
        let path = request.uri().path().trim_start_matches('/');
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        let query: Vec<String> = request
            .uri()
            .query()
            .unwrap_or_default()
            .split('&')
            .map(|pair| pair.split('=').next().unwrap_or_default().to_owned())
            .collect();
        let copy = request.headers().contains_key("x-amz-copy-source");
        Self {
            operation: operation(request.method(), !bucket.is_empty(), !key.is_empty(), &query, copy),
            method: request.method().clone(),
            bucket: percent_decode_str(bucket).decode_utf8_lossy().into_owned(),
            key: percent_decode_str(key).decode_utf8_lossy().into_owned(),
            headers: request.headers().clone(),
        }
    }
}

fn operation(method: &http::Method, bucket: bool, key: bool, query: &[String], copy: bool) -> Operation {
    use Operation as O;
    let has = |name: &str| query.iter().any(|n| n == name);
    match (method.as_str(), bucket, key) {
        ("GET", false, _) => O::ListBuckets,
        ("HEAD", true, false) => O::HeadBucket,
        ("PUT", true, false) if query == [""] => O::CreateBucket,
        ("DELETE", true, false) => O::DeleteBucket,
        ("GET", true, false) if has("uploads") => O::ListMultipartUploads,
        ("GET", true, false) if has("location") || has("versioning") => O::Other,
        ("GET", true, false) => O::ListObjects,
        ("POST", true, false) if has("delete") => O::DeleteObjects,
        (_, true, true) if has("tagging") => O::ObjectTagging,
        ("GET", true, true) if has("uploadId") => O::ListParts,
        ("GET", true, true) => O::GetObject,
        ("HEAD", true, true) => O::HeadObject,
        ("PUT", true, true) if has("partNumber") => O::UploadPart,
        ("PUT", true, true) if copy => O::CopyObject,
        ("PUT", true, true) => O::PutObject,
        ("POST", true, true) if has("uploads") => O::CreateMultipartUpload,
        ("POST", true, true) if has("uploadId") => O::CompleteMultipartUpload,
        ("DELETE", true, true) if has("uploadId") => O::AbortMultipartUpload,
        ("DELETE", true, true) => O::DeleteObject,
        _ => O::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_told_apart() {
        use Operation as O;
        for (method, uri, expected) in [
            ("GET", "/", O::ListBuckets),
            ("PUT", "/b", O::CreateBucket),
            ("HEAD", "/b/", O::HeadBucket),
            ("GET", "/b?list-type=2&prefix=x%2F", O::ListObjects),
            ("GET", "/b?uploads", O::ListMultipartUploads),
            ("POST", "/b?delete", O::DeleteObjects),
            ("PUT", "/b/k/1", O::PutObject),
            ("GET", "/b/k", O::GetObject),
            ("HEAD", "/b/k", O::HeadObject),
            ("DELETE", "/b/k", O::DeleteObject),
            ("POST", "/b/k?uploads", O::CreateMultipartUpload),
            ("PUT", "/b/k?partNumber=1&uploadId=u", O::UploadPart),
            ("POST", "/b/k?uploadId=u", O::CompleteMultipartUpload),
            ("DELETE", "/b/k?uploadId=u", O::AbortMultipartUpload),
            ("GET", "/b/k?uploadId=u", O::ListParts),
            ("GET", "/b/k?tagging", O::ObjectTagging),
        ] {
            let request = http::Request::builder().method(method).uri(uri).body(()).unwrap();
            assert_eq!(Target::of(&request).operation, expected, "{method} {uri}");
        }
    }

    #[test]
    fn keys_are_decoded() {
        let request = http::Request::builder().uri("/b/a%20b/c%2Bd").body(()).unwrap();
        let target = Target::of(&request);
        assert_eq!((target.bucket.as_str(), target.key.as_str()), ("b", "a b/c+d"));
    }
}
