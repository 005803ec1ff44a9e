//! Listings, both versions.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as TOKEN;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::objects::etag;
use super::{Reply, Service, signed, timestamp};
use crate::listing::{Page, Query};
use crate::object::ObjectInfo;
use crate::store::Store;

/// What `encoding-type=url` leaves as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// Keys as the client asked to have them.
#[derive(Clone, Copy)]
struct Spelling {
    url: bool,
}

impl Spelling {
    fn of(requested: Option<&EncodingType>) -> Self {
        Self { url: requested.is_some_and(|value| value.as_str() == EncodingType::URL) }
    }

    fn spell(self, text: &str) -> String {
        if self.url { utf8_percent_encode(text, PLAIN).to_string() } else { text.to_owned() }
    }

    fn answer(self) -> Option<EncodingType> {
        self.url.then(|| EncodingType::from_static(EncodingType::URL))
    }
}

fn limit(requested: Option<i32>) -> S3Result<usize> {
    usize::try_from(requested.unwrap_or(1000))
        .map(|keys| keys.min(1000))
        .map_err(|_| s3_error!(InvalidArgument, "max-keys must not be negative"))
}

fn contents(page: &Page<Arc<ObjectInfo>>, spelling: Spelling) -> Vec<Object> {
    page.objects
        .iter()
        .map(|info| Object {
            key: Some(spelling.spell(&info.key)),
            size: Some(signed(info.size)),
            e_tag: etag(&info.etag),
            last_modified: Some(timestamp(info.modified)),
            storage_class: Some(ObjectStorageClass::from(
                info.storage_class.clone().unwrap_or_else(|| "STANDARD".to_owned()),
            )),
            ..Default::default()
        })
        .collect()
}

fn prefixes(page: &Page<Arc<ObjectInfo>>, spelling: Spelling) -> Vec<CommonPrefix> {
    page.prefixes.iter().map(|prefix| CommonPrefix { prefix: Some(spelling.spell(prefix)) }).collect()
}

impl<S: Store> Service<S> {
    pub(super) async fn list_objects(
        &self,
        request: S3Request<ListObjectsInput>,
    ) -> Reply<ListObjectsOutput> {
        let input = request.input;
        let spelling = Spelling::of(input.encoding_type.as_ref());
        let query = Query {
            prefix: input.prefix.clone().unwrap_or_default(),
            delimiter: input.delimiter.clone(),
            after: input.marker.clone().filter(|marker| !marker.is_empty()),
            limit: limit(input.max_keys)?,
        };
        let page = self.store.list(&input.bucket, &query).await?;
        Ok(S3Response::new(ListObjectsOutput {
            name: Some(input.bucket),
            prefix: Some(spelling.spell(&query.prefix)),
            marker: Some(spelling.spell(&input.marker.unwrap_or_default())),
            max_keys: Some(i32::try_from(query.limit).unwrap_or(1000)),
            is_truncated: Some(page.next.is_some()),
            // Only listings with a delimiter name the next marker; without one it is the last key.
            next_marker: page
                .next
                .as_deref()
                .filter(|_| query.delimiter.is_some())
                .map(|n| spelling.spell(n)),
            contents: Some(contents(&page, spelling)),
            common_prefixes: Some(prefixes(&page, spelling)),
            delimiter: query.delimiter.as_deref().map(|d| spelling.spell(d)),
            encoding_type: spelling.answer(),
            ..Default::default()
        }))
    }

    pub(super) async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> Reply<ListObjectsV2Output> {
        let input = request.input;
        let spelling = Spelling::of(input.encoding_type.as_ref());
        let token =
            input
                .continuation_token
                .as_deref()
                .map(|token| {
                    TOKEN.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(
                        || s3_error!(InvalidArgument, "The continuation token provided is incorrect"),
                    )
                })
                .transpose()?;
        let query = Query {
            prefix: input.prefix.clone().unwrap_or_default(),
            delimiter: input.delimiter.clone(),
            after: token.or_else(|| input.start_after.clone().filter(|after| !after.is_empty())),
            limit: limit(input.max_keys)?,
        };
        let page = self.store.list(&input.bucket, &query).await?;
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: Some(spelling.spell(&query.prefix)),
            max_keys: Some(i32::try_from(query.limit).unwrap_or(1000)),
            key_count: Some(i32::try_from(page.objects.len() + page.prefixes.len()).unwrap_or(1000)),
            continuation_token: input.continuation_token,
            start_after: input.start_after.as_deref().map(|after| spelling.spell(after)),
            is_truncated: Some(page.next.is_some()),
            next_continuation_token: page.next.as_deref().map(|next| TOKEN.encode(next)),
            contents: Some(contents(&page, spelling)),
            common_prefixes: Some(prefixes(&page, spelling)),
            delimiter: query.delimiter.as_deref().map(|d| spelling.spell(d)),
            encoding_type: spelling.answer(),
            ..Default::default()
        }))
    }
}
