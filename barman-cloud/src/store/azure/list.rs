//! Listings by prefix. The client library's leave out a blob whose name is just the prefix.

use super::Azure;
use super::objects::marked;
use crate::store::raw::{RawRequest, encoded};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use object_store::list::{PaginatedListOptions, PaginatedListResult, PaginatedListStore};
use object_store::path::Path;
use object_store::{Error, ListResult, ObjectMeta, Result};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Page {
    blobs: Blobs,
    next_marker: Option<String>,
}

#[derive(Deserialize)]
struct Blobs {
    #[serde(default, rename = "BlobPrefix")]
    prefixes: Vec<Prefix>,
    #[serde(default, rename = "Blob")]
    blobs: Vec<Blob>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Prefix {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Blob {
    pub(super) name: String,
    properties: Properties,
}

#[derive(Deserialize)]
struct Properties {
    #[serde(rename = "Creation-Time")]
    created: Option<String>,
    #[serde(rename = "Last-Modified")]
    modified: Option<String>,
    #[serde(rename = "Content-Length")]
    length: Option<u64>,
    /// Only blobs have one; blocks alone do not.
    #[serde(rename = "Content-Type")]
    content_type: Option<String>,
    #[serde(rename = "Etag")]
    etag: Option<String>,
    /// `directory` with a hierarchical namespace.
    #[serde(rename = "ResourceType")]
    resource: Option<String>,
}

fn time(text: Option<&String>) -> Option<DateTime<Utc>> {
    Some(DateTime::parse_from_rfc2822(text?).ok()?.to_utc())
}

impl Page {
    /// The marker of the next page, if there is one, and what is on this.
    pub(super) fn read(self) -> (Option<String>, Vec<Blob>) {
        (self.next_marker.filter(|next| !next.is_empty()), self.blobs.blobs)
    }
}

impl Blob {
    /// Whether there are blocks under its key and nothing else.
    pub(super) fn is_blocks_only(&self) -> bool {
        self.properties.content_type.as_ref().is_none_or(String::is_empty) && !self.is_directory()
    }

    fn is_directory(&self) -> bool {
        self.properties.resource.as_deref() == Some("directory")
    }

    /// When its first block came, where that is told.
    pub(super) fn created(&self) -> Option<DateTime<Utc>> {
        time(self.properties.created.as_ref()).or_else(|| time(self.properties.modified.as_ref()))
    }

    fn meta(self) -> Result<ObjectMeta> {
        let told = (time(self.properties.modified.as_ref()), self.properties.length);
        let (Some(last_modified), Some(size)) = told else {
            let source = format!("{} is listed without time or length", self.name).into();
            return Err(Error::Generic { store: "Azure", source });
        };
        let location = Path::parse(self.name)?;
        Ok(marked(ObjectMeta { location, last_modified, size, e_tag: self.properties.etag, version: None }))
    }
}

impl Azure {
    /// One page of a listing.
    pub(super) async fn page(&self, query: &str) -> Result<Page> {
        let target = format!("?comp=list&restype=container&{query}");
        let answer = self.raw.perform(RawRequest::get(target), true).await?;
        quick_xml::de::from_str(&String::from_utf8_lossy(&answer.body))
            .map_err(|error| Error::Generic { store: "Azure", source: Box::new(error) })
    }
}

#[async_trait]
impl PaginatedListStore for Azure {
    async fn list_paginated(
        &self,
        prefix: Option<&str>,
        opts: PaginatedListOptions,
    ) -> Result<PaginatedListResult> {
        let mut query = format!("prefix={}", encoded(prefix.unwrap_or_default()));
        let mut add = |name: &str, value: Option<&str>| {
            if let Some(value) = value {
                query.push_str(&format!("&{name}={}", encoded(value)));
            }
        };
        add("delimiter", opts.delimiter.as_deref());
        add("marker", opts.page_token.as_deref());
        // Where to start is for the first page; services that do not know it begin at the beginning.
        add("startFrom", opts.offset.as_deref().filter(|_| opts.page_token.is_none()));
        let most = opts.max_keys.map(|most| most.to_string());
        add("maxresults", most.as_deref());
        let mut page = self.page(&query).await?;
        let prefixes = std::mem::take(&mut page.blobs.prefixes);
        let (page_token, blobs) = page.read();
        let objects = blobs
            .into_iter()
            // The offset itself is part of what Azure gives.
            .filter(|blob| {
                !blob.is_directory() && opts.offset.as_ref().is_none_or(|offset| blob.name != *offset)
            })
            .map(Blob::meta)
            .collect::<Result<_>>()?;
        let common_prefixes =
            prefixes.into_iter().map(|prefix| Ok(Path::parse(prefix.name)?)).collect::<Result<_>>()?;
        let result = ListResult { common_prefixes, objects, extensions: http::Extensions::default() };
        Ok(PaginatedListResult { result, page_token })
    }
}
