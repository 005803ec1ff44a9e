//! Large objects out of objects, for stores without uploads in parts.
//!
//! Each part is an object below `howdah/uploads/` of the server whose object it will be: what is there is nobody's
//! backup, and a listing of it is the list of pending uploads. To complete an upload its parts are composed, at most
//! 32 at a time and the results again, and removed. Nothing is under the key before the last composition.

use super::Gcs;
use super::objects::parsed;
use crate::store::pending::Begun;
use crate::store::raw::RawRequest;
use futures::{StreamExt, TryStreamExt};
use http::{HeaderValue, Method, header};
use object_store::multipart::PartId;
use object_store::{Error, ObjectMeta, PutMode, PutPayload, PutResult, Result};
use serde::Deserialize;
use std::collections::{BTreeMap, HashSet};

/// Most objects of one composition.
const SOURCES: usize = 32;
/// Requests at a time.
const PARALLEL: usize = 8;
const MARK: &str = "compose-";
const PLACE: &str = "howdah/uploads";

#[derive(Deserialize)]
struct Composed {
    generation: String,
}

/// Splits a key below the destination into the server, with a slash behind it, and the rest.
fn by_server(relative: &str) -> (&str, &str) {
    relative.find('/').map_or(("", relative), |slash| relative.split_at(slash + 1))
}

impl Gcs {
    pub(super) fn new_composition() -> String {
        format!("{MARK}{:032x}", rand::random::<u128>())
    }

    pub(super) fn is_composition(id: &str) -> bool {
        id.starts_with(MARK)
    }

    /// Where the parts of an upload to a key are, without a slash at the end.
    fn place(&self, key: &str) -> String {
        let prefix = &self.0.prefix;
        let relative = key.strip_prefix(prefix.as_str()).unwrap_or(key).trim_start_matches('/');
        let top = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        let (server, rest) = by_server(relative);
        format!("{top}{server}{PLACE}/{rest}")
    }

    /// The key to which an object in the place of parts belongs, and the upload.
    fn belongs<'a>(&self, part: &'a str) -> Option<(String, &'a str)> {
        let prefix = &self.0.prefix;
        let relative = part.strip_prefix(prefix.as_str())?.trim_start_matches('/');
        let top = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        let (dir, _) = relative.rsplit_once('/')?;
        let (place, id) = dir.rsplit_once('/')?;
        let (server, rest) = place.split_once(&format!("{PLACE}/"))?;
        Self::is_composition(id).then(|| (format!("{top}{server}{rest}"), id))
    }

    pub(super) async fn put_composed(
        &self,
        key: &str,
        id: &str,
        index: usize,
        data: PutPayload,
    ) -> Result<PartId> {
        let name = format!("{index:05}");
        let part = format!("{}/{id}/{name}", self.place(key));
        self.write(&part, data, &PutMode::Overwrite).await?;
        Ok(PartId { content_id: name })
    }

    pub(super) async fn compose(&self, key: &str, id: &str, parts: Vec<PartId>) -> Result<PutResult> {
        if parts.is_empty() {
            return self.write(key, PutPayload::default(), &PutMode::Overwrite).await;
        }
        let place = format!("{}/{id}/", self.place(key));
        let there = self.below(&place).await?;
        let names: HashSet<&str> = there.iter().map(|meta| meta.location.as_ref()).collect();
        let mut sources: Vec<String> =
            parts.into_iter().map(|part| format!("{place}{}", part.content_id)).collect();
        if let Some(missing) = sources.iter().find(|source| !names.contains(source.as_str())) {
            let source = format!("the part {missing} is gone").into();
            return Err(Error::NotFound { path: key.to_owned(), source });
        }
        let mut level = 0;
        while sources.len() > SOURCES {
            let steps: Vec<(String, Vec<String>)> = sources
                .chunks(SOURCES)
                .enumerate()
                .map(|(number, chunk)| (format!("{place}of{level}-{number:05}"), chunk.to_vec()))
                .collect();
            sources = futures::stream::iter(steps)
                .map(
                    |(target, chunk)| async move { self.compose_once(&target, &chunk).await.map(|_| target) },
                )
                .buffered(PARALLEL)
                .try_collect()
                .await?;
            level += 1;
        }
        let composed = self.compose_once(key, &sources).await?;
        // The object is complete: what stays of the parts is found by the next sweep.
        if let Err(error) = self.drop_composition(key, id).await {
            tracing::warn!(store = %self, key, error = %error, "parts of a completed upload are left");
        }
        let version = Some(composed.generation);
        Ok(PutResult { e_tag: version.clone(), version, extensions: http::Extensions::default() })
    }

    async fn compose_once(&self, target: &str, sources: &[String]) -> Result<Composed> {
        let sources: Vec<_> = sources.iter().map(|name| serde_json::json!({ "name": name })).collect();
        let body = serde_json::json!({
            "sourceObjects": sources,
            "destination": { "contentType": "application/octet-stream" },
        });
        let ask = RawRequest::new(Method::POST, format!("{}/compose", self.object(target)))
            .with_header(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .with_body(PutPayload::from(body.to_string()));
        parsed(&self.0.raw.perform(ask, true).await?.body)
    }

    /// Removes what there is of an upload.
    pub(super) async fn drop_composition(&self, key: &str, id: &str) -> Result<()> {
        let place = format!("{}/{id}/", self.place(key));
        let there = self.below(&place).await?;
        futures::stream::iter(there)
            .map(Ok)
            .try_for_each_concurrent(PARALLEL, |meta| async move {
                match self.remove(meta.location.as_ref()).await {
                    Err(Error::NotFound { .. }) => Ok(()),
                    other => other,
                }
            })
            .await
    }

    async fn below(&self, prefix: &str) -> Result<Vec<ObjectMeta>> {
        let pages = self.pages(Some(prefix.to_owned()), None);
        let pages: Vec<_> = pages.map_ok(|page| page.objects).try_collect().await?;
        Ok(pages.into_iter().flatten().collect())
    }

    /// The uploads under way below a prefix, which ends at a slash; each begun when its first part came.
    pub(super) async fn compositions(&self, prefix: &str) -> Result<Vec<Begun>> {
        let place = self.place(prefix);
        let mut found: BTreeMap<(String, String), Begun> = BTreeMap::new();
        for meta in self.below(&place).await? {
            let Some((key, id)) = self.belongs(meta.location.as_ref()) else { continue };
            let begun = meta.last_modified;
            let entry = found.entry((key.clone(), id.to_owned())).or_insert_with(|| Begun {
                key,
                id: id.to_owned(),
                begun,
            });
            entry.begun = entry.begun.min(begun);
        }
        Ok(found.into_values().collect())
    }
}
