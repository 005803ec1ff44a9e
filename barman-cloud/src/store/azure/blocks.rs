//! Large blobs out of blocks.
//!
//! Azure has no uploads, only blocks that wait under a key until they are committed; their ids carry the upload's.
//! Blocks that nobody commits are removed by Azure a week after the last of them came. Giving an upload up frees
//! them at once where that cannot be seen by anybody who reads: an empty blob is committed in their place, unless
//! there is one, and removed.

use super::Azure;
use super::list::Blob;
use super::objects::{CRC64, crc64_of};
use crate::layout::Layout;
use crate::store::pending::{Begun, Pending};
use crate::store::raw::{RawRequest, encoded, encoded_key};
use async_trait::async_trait;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chrono::Utc;
use http::{HeaderValue, Method, header};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{Error, MultipartId, ObjectStoreExt, PutMultipartOptions, PutPayload, PutResult, Result};

/// Largest block.
const MAX_BLOCK: usize = 4000 << 20;

/// A block list with these ids, newest content first.
fn block_list(ids: &[PartId]) -> PutPayload {
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>");
    for id in ids {
        // `Latest` and not `Uncommitted`: a second try after a lost answer finds them committed.
        xml.push_str(&format!("<Latest>{}</Latest>", BASE64_STANDARD.encode(&id.content_id)));
    }
    xml.push_str("</BlockList>");
    xml.into()
}

impl Azure {
    fn commit(&self, key: &str, ids: &[PartId]) -> Result<RawRequest> {
        let body = block_list(ids);
        Ok(RawRequest::new(Method::PUT, format!("{}?comp=blocklist", encoded_key(key)))
            .with_header(CRC64, crc64_of(&body)?)
            .with_body(body))
    }
}

#[async_trait]
impl MultipartStore for Azure {
    async fn create_multipart(&self, _: &Path) -> Result<MultipartId> {
        Ok(format!("{:032x}", rand::random::<u128>()))
    }

    /// The tags are given at the end: [`Azure`] knows them.
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
        if data.content_length() > MAX_BLOCK {
            let text = format!("a block of {} bytes is larger than {MAX_BLOCK}", data.content_length());
            return Err(Error::NotSupported { source: text.into() });
        }
        // All ids under a key have to be of one length.
        let content_id = format!("{id:0>32.32}{part_idx:05}");
        let target = format!(
            "{}?blockid={}&comp=block",
            encoded_key(path.as_ref()),
            encoded(&BASE64_STANDARD.encode(&content_id))
        );
        let ask = RawRequest::new(Method::PUT, target).with_header(CRC64, crc64_of(&data)?).with_body(data);
        self.raw.perform(ask, true).await?;
        Ok(PartId { content_id })
    }

    async fn complete_multipart(
        &self,
        path: &Path,
        _: &MultipartId,
        parts: Vec<PartId>,
    ) -> Result<PutResult> {
        let key = path.as_ref();
        let answer = self.raw.perform(self.tagged(self.commit(key, &parts)?, key)?, true).await?;
        let e_tag = answer.headers.get(header::ETAG).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Ok(PutResult { e_tag, version: None, extensions: http::Extensions::default() })
    }

    async fn abort_multipart(&self, path: &Path, _: &MultipartId) -> Result<()> {
        let key = path.as_ref();
        let file = key.rsplit('/').next().unwrap_or(key);
        if Layout::parse_wal(file).is_some() {
            // A recovery may be asking for just this segment, and must not be given an empty one.
            return Ok(());
        }
        let unless_there =
            self.commit(key, &[])?.with_header(header::IF_NONE_MATCH, HeaderValue::from_static("*"));
        let mark = match self.raw.perform(unless_there, false).await {
            Ok(answer) => answer.headers.get(header::ETAG).cloned(),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {
                let there = self.client.head(path).await?;
                if there.size > 0 {
                    // The blocks under its key go with the next commit, or after a week.
                    return Ok(());
                }
                // Made by an earlier try whose answer was lost.
                HeaderValue::try_from(there.e_tag.unwrap_or_default()).ok()
            }
            Err(error) => return Err(error),
        };
        match self.remove(key, mark).await {
            Err(Error::NotFound { .. } | Error::Precondition { .. }) => Ok(()),
            other => other,
        }
    }
}

#[async_trait]
impl Pending for Azure {
    /// Keys under which there are blocks and no blob. Azure does not say when the blocks came: where it shows no
    /// time, it is now, so that nobody takes them for old.
    async fn pending(&self, prefix: &str) -> Result<Vec<Begun>> {
        let (mut found, mut marker) = (Vec::new(), None::<String>);
        loop {
            let mut query = format!("include=uncommittedblobs&prefix={}", encoded(prefix));
            if let Some(marker) = &marker {
                query.push_str(&format!("&marker={}", encoded(marker)));
            }
            let page = self.page(&query).await?;
            let (next, blobs) = page.read();
            for blob in blobs.into_iter().filter(Blob::is_blocks_only) {
                let begun = blob.created().unwrap_or_else(Utc::now);
                found.push(Begun { key: blob.name, id: String::new(), begun });
            }
            if next.is_none() || next == marker {
                return Ok(found);
            }
            marker = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_lists_are_in_order() {
        let ids = ["a", "b"].map(|id| PartId { content_id: id.to_owned() });
        let payload = block_list(&ids);
        let text: Vec<u8> = payload.iter().flat_map(|piece| piece.to_vec()).collect();
        let text = String::from_utf8(text).expect("text");
        assert!(
            text.ends_with("<BlockList><Latest>YQ==</Latest><Latest>Yg==</Latest></BlockList>"),
            "{text}"
        );
    }
}
