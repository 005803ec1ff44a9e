//! Listings, by the JSON API.

use super::Gcs;
use super::objects::parsed;
use crate::store::raw::{RawRequest, encoded};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::list::{PaginatedListOptions, PaginatedListResult, PaginatedListStore};
use object_store::path::Path;
use object_store::{Error, ListResult, ObjectMeta, Result};
use serde::Deserialize;

/// What is asked for of each object.
const FIELDS: &str = "fields=items(name,size,updated,generation),prefixes,nextPageToken";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    #[serde(default)]
    items: Vec<Item>,
    #[serde(default)]
    prefixes: Vec<String>,
    next_page_token: Option<String>,
}

#[derive(Deserialize)]
struct Item {
    name: String,
    size: String,
    updated: DateTime<Utc>,
    generation: String,
}

impl Gcs {
    /// All pages of a listing.
    pub(super) fn pages(
        &self,
        prefix: Option<String>,
        delimiter: Option<&'static str>,
    ) -> BoxStream<'static, Result<ListResult>> {
        let this = self.clone();
        // `None` ends it; the inner one is the first page's token.
        futures::stream::unfold(Some(None), move |token: Option<Option<String>>| {
            let (this, prefix) = (this.clone(), prefix.clone());
            async move {
                let page_token = token?;
                let options = PaginatedListOptions {
                    page_token,
                    delimiter: delimiter.map(Into::into),
                    ..PaginatedListOptions::default()
                };
                Some(match this.list_paginated(prefix.as_deref(), options).await {
                    Ok(page) => (Ok(page.result), page.page_token.map(Some)),
                    Err(error) => (Err(error), None),
                })
            }
        })
        .boxed()
    }
}

#[async_trait]
impl PaginatedListStore for Gcs {
    async fn list_paginated(
        &self,
        prefix: Option<&str>,
        opts: PaginatedListOptions,
    ) -> Result<PaginatedListResult> {
        let mut target = format!("{}?{FIELDS}", self.objects());
        let mut add = |name: &str, value: Option<&str>| {
            if let Some(value) = value {
                target.push_str(&format!("&{name}={}", encoded(value)));
            }
        };
        add("prefix", prefix);
        add("delimiter", opts.delimiter.as_deref());
        add("pageToken", opts.page_token.as_deref());
        add("startOffset", opts.offset.as_deref());
        let most = opts.max_keys.map(|most| most.to_string());
        add("maxResults", most.as_deref());
        let answer =
            self.0.raw.perform(RawRequest::get(target), true).await.map_err(|error| match error {
                // A missing directory is an empty one: only the bucket can be missing.
                Error::NotFound { source, .. } => super::uploads::no_bucket(source),
                error => error,
            })?;
        let page: Page = parsed(&answer.body)?;
        let objects = page
            .items
            .into_iter()
            // Google's offset is part of what it gives.
            .filter(|item| opts.offset.as_ref().is_none_or(|offset| item.name != *offset))
            .map(meta)
            .collect::<Result<_>>()?;
        let common_prefixes =
            page.prefixes.into_iter().map(|prefix| Ok(Path::parse(prefix)?)).collect::<Result<_>>()?;
        Ok(PaginatedListResult {
            result: ListResult { common_prefixes, objects, extensions: http::Extensions::default() },
            page_token: page.next_page_token.filter(|token| !token.is_empty()),
        })
    }
}

fn meta(item: Item) -> Result<ObjectMeta> {
    let size = item.size.parse().map_err(|error| Error::Generic { store: "GCS", source: Box::new(error) })?;
    Ok(ObjectMeta {
        location: Path::parse(item.name)?,
        last_modified: item.updated,
        size,
        e_tag: Some(item.generation.clone()),
        version: Some(item.generation),
    })
}
