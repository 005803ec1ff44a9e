//! Receiving and sending bodies: digests on the way in, ranges on the way out.

use std::io;
use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use futures::StreamExt;
use http::HeaderMap;
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Md5};
use s3s::dto::{Checksum, StreamingBlob};
use s3s::{S3Error, S3Result, TrailingHeaders, s3_error};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use crate::store::{Backend, OpenBody, Opened, Staging};

/// Checksum headers and the names their algorithms have in [`crate::ObjectInfo::checksums`].
const HEADERS: [(&str, &str); 5] = [
    ("x-amz-checksum-crc32", "crc32"),
    ("x-amz-checksum-crc32c", "crc32c"),
    ("x-amz-checksum-crc64nvme", "crc64nvme"),
    ("x-amz-checksum-sha1", "sha1"),
    ("x-amz-checksum-sha256", "sha256"),
];

/// What a body turned out to be.
pub(crate) struct Received {
    pub staging: Staging,
    pub size: u64,
    /// The MD5, or as many random bytes where nobody asked for it.
    pub tag: [u8; 16],
    pub checksums: std::collections::BTreeMap<String, String>,
}

/// Turns a failure of the store's own disk into an answer.
pub(crate) fn disk_error(error: io::Error) -> S3Error {
    tracing::error!(%error, "the S3 store failed");
    s3_error!(error, InternalError, "the store failed; see the server's log")
}

/// Receives a whole body and checks it against every digest the client announced. Its MD5, which takes longer than all
/// the rest, is made when `md5` or the client asks for it.
pub(crate) async fn receive(
    backend: &Backend,
    body: Option<StreamingBlob>,
    headers: &HeaderMap,
    trailers: Option<TrailingHeaders>,
    content_md5: Option<&str>,
    md5: bool,
) -> S3Result<Received> {
    let mut staging = Staging::new(backend).map_err(disk_error)?;
    let mut hasher = hasher_for(headers);
    let mut md5 = (md5 || content_md5.is_some()).then(Md5::new);
    let mut size = 0u64;
    if let Some(mut body) = body {
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|error| {
                tracing::debug!(%error, "a request body ended early");
                s3_error!(IncompleteBody, "the request body ended early")
            })?;
            size += chunk.len() as u64;
            if let Some(md5) = &mut md5 {
                md5.update(&chunk);
            }
            hasher.update(&chunk);
            staging.write(chunk).await.map_err(disk_error)?;
        }
    }
    let tag = md5.map_or_else(rand::random, Md5::finalize);
    if content_md5.is_some_and(|sent| sent != BASE64.encode(tag)) {
        return Err(s3_error!(BadDigest, "the Content-MD5 you specified did not match what was received"));
    }
    let trailers = trailers.and_then(|trailers| trailers.take()).unwrap_or_default();
    let checksums = by_name(hasher.finalize());
    for (header, name) in HEADERS {
        let sent = headers.get(header).or_else(|| trailers.get(header));
        if let Some(sent) = sent
            && checksums.get(name).is_none_or(|computed| computed.as_bytes() != sent.as_bytes())
        {
            return Err(s3_error!(BadDigest, "the {} you specified did not match what was received", name));
        }
    }
    Ok(Received { staging, size, tag, checksums })
}

/// The algorithms that headers or announced trailers will be checked with.
fn hasher_for(headers: &HeaderMap) -> ChecksumHasher {
    let trailer = headers
        .get_all("x-amz-trailer")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect::<Vec<_>>()
        .join(",")
        .to_ascii_lowercase();
    let wanted = |header: &str| {
        headers.contains_key(header) || trailer.split(',').any(|announced| announced.trim() == header)
    };
    let mut hasher = ChecksumHasher::default();
    if wanted("x-amz-checksum-crc32") {
        hasher.crc32 = Some(s3s::crypto::Crc32::new());
    }
    if wanted("x-amz-checksum-crc32c") {
        hasher.crc32c = Some(s3s::crypto::Crc32c::default());
    }
    if wanted("x-amz-checksum-crc64nvme") {
        hasher.crc64nvme = Some(s3s::crypto::Crc64Nvme::default());
    }
    if wanted("x-amz-checksum-sha1") {
        hasher.sha1 = Some(s3s::crypto::Sha1::new());
    }
    if wanted("x-amz-checksum-sha256") {
        hasher.sha256 = Some(s3s::crypto::Sha256::new());
    }
    hasher
}

fn by_name(sums: Checksum) -> std::collections::BTreeMap<String, String> {
    [
        ("crc32", sums.checksum_crc32),
        ("crc32c", sums.checksum_crc32c),
        ("crc64nvme", sums.checksum_crc64nvme),
        ("sha1", sums.checksum_sha1),
        ("sha256", sums.checksum_sha256),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_owned(), value?)))
    .collect()
}

/// Sends a part of a stored body.
pub(crate) async fn send(opened: Opened, range: Range<u64>) -> S3Result<StreamingBlob> {
    match opened.body {
        OpenBody::Memory(chunks) => {
            let pieces = slice(&chunks, range).into_iter().map(Ok::<_, io::Error>);
            Ok(StreamingBlob::wrap(futures::stream::iter(pieces)))
        }
        OpenBody::File(file) => {
            let mut file = tokio::fs::File::from_std(file);
            file.seek(io::SeekFrom::Start(range.start)).await.map_err(disk_error)?;
            let reader = file.take(range.end - range.start);
            Ok(StreamingBlob::wrap(ReaderStream::with_capacity(reader, 256 * 1024)))
        }
        OpenBody::Dropped => {
            Err(s3_error!(InvalidObjectState, "this store drops large bodies; only their sizes are known"))
        }
    }
}

/// The chunks that make up `range`, without copying.
fn slice(chunks: &[Bytes], range: Range<u64>) -> Vec<Bytes> {
    let mut pieces = Vec::new();
    let mut start = 0u64;
    for chunk in chunks {
        let end = start + chunk.len() as u64;
        let (from, to) = (range.start.max(start), range.end.min(end));
        if from < to {
            // Both differences are at most the chunk's length, which is a usize.
            pieces.push(chunk.slice((from - start) as usize..(to - start) as usize));
        }
        start = end;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_span_chunks() {
        let chunks = [Bytes::from_static(b"abc"), Bytes::from_static(b"defg"), Bytes::from_static(b"h")];
        let text = |range| slice(&chunks, range).concat();
        assert_eq!(text(0..8), b"abcdefgh");
        assert_eq!(text(2..5), b"cde");
        assert_eq!(text(3..7), b"defg");
        assert_eq!(text(7..8), b"h");
        assert_eq!(text(4..4), b"");
    }
}
