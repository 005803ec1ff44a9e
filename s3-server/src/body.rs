//! Receiving bodies, with digests on the way.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures::StreamExt;
use http::HeaderMap;
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Md5};
use s3s::dto::{Checksum, StreamingBlob};
use s3s::{S3Result, TrailingHeaders, s3_error};

use crate::store::Store;

/// Checksum headers and the names their algorithms have in [`crate::ObjectInfo::checksums`].
const HEADERS: [(&str, &str); 5] = [
    ("x-amz-checksum-crc32", "crc32"),
    ("x-amz-checksum-crc32c", "crc32c"),
    ("x-amz-checksum-crc64nvme", "crc64nvme"),
    ("x-amz-checksum-sha1", "sha1"),
    ("x-amz-checksum-sha256", "sha256"),
];

/// Nobody may send nothing for longer than this.
const STALL: Duration = Duration::from_secs(120);

/// What a body turned out to be.
pub(crate) struct Received<T> {
    pub staging: T,
    pub size: u64,
    /// The MD5, or as many random bytes where nobody asked for it.
    pub tag: [u8; 16],
    pub checksums: BTreeMap<String, String>,
}

/// What the client said of a body.
pub(crate) struct Announced<'a> {
    pub headers: &'a HeaderMap,
    pub trailers: Option<TrailingHeaders>,
    pub md5: Option<&'a str>,
    pub length: Option<i64>,
}

/// Receives a whole body and checks it against every digest the client announced. Its MD5, which takes longer than all
/// the rest, is made when `md5` or the client asks for it.
pub(crate) async fn receive<S: Store>(
    store: &S,
    bucket: &str,
    body: Option<StreamingBlob>,
    announced: Announced<'_>,
    md5: bool,
) -> S3Result<Received<S::Staging>> {
    let length = announced.length.and_then(|length| u64::try_from(length).ok());
    let mut staging = store.stage(bucket, length).await;
    let mut hasher = hasher_for(announced.headers);
    let mut md5 = (md5 || announced.md5.is_some()).then(Md5::new);
    let mut size = 0u64;
    if let Some(mut body) = body {
        while let Some(chunk) = tokio::time::timeout(STALL, body.next())
            .await
            .map_err(|_| s3_error!(RequestTimeout, "nothing more of the request's body came"))?
        {
            let chunk = chunk.map_err(|error| {
                tracing::debug!(%error, "a request body ended early");
                s3_error!(IncompleteBody, "the request body ended early")
            })?;
            // A body that cannot be kept is read to its end all the same: a client that is still sending would
            // see a broken connection instead of the answer.
            let Ok(open) = &mut staging else { continue };
            size += chunk.len() as u64;
            if let Some(md5) = &mut md5 {
                md5.update(&chunk);
            }
            hasher.update(&chunk);
            if let Err(error) = store.write(open, chunk).await {
                staging = Err(error);
            }
        }
    }
    let staging = staging?;
    let tag = md5.map_or_else(|| uuid::Uuid::new_v4().into_bytes(), Md5::finalize);
    if announced.md5.is_some_and(|sent| sent != BASE64.encode(tag)) {
        return Err(s3_error!(BadDigest, "the Content-MD5 you specified did not match what was received"));
    }
    let trailers = announced.trailers.and_then(|trailers| trailers.take()).unwrap_or_default();
    let checksums = by_name(hasher.finalize());
    for (header, name) in HEADERS {
        let sent = announced.headers.get(header).or_else(|| trailers.get(header));
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

fn by_name(sums: Checksum) -> BTreeMap<String, String> {
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
