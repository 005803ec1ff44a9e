//! Listing.

use super::{ObjectInfo, Store};
use crate::error::Result;
use futures::{Stream, StreamExt, TryStreamExt};
use object_store::list::PaginatedListOptions;
use object_store::path::Path;

/// One level of keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// Names of the directories, without slashes, in order.
    pub dirs: Vec<String>,
    /// The objects directly in the directory, ordered by key.
    pub objects: Vec<ObjectInfo>,
}

impl Store {
    /// All objects below a directory, ordered by key. A missing directory is an empty one.
    pub async fn list(&self, dir: &str) -> Result<Vec<ObjectInfo>> {
        let mut found: Vec<ObjectInfo> = self.stream(dir)?.try_collect().await?;
        found.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(found)
    }

    /// All objects below a directory, page by page, for directories that do not fit in memory. In the order of the
    /// store: S3 and its kind give that of the keys.
    pub fn stream<'a>(
        &'a self,
        dir: &str,
    ) -> Result<impl Stream<Item = Result<ObjectInfo>> + Unpin + Send + use<'a>> {
        let (path, dir) = (self.path(dir)?, dir.to_owned());
        let metas = self.inner.objects.list(Some(&path));
        let infos = metas.filter_map(move |meta| {
            let info = meta.map_err(|error| self.error("listing", &dir, error));
            std::future::ready(info.map(|meta| self.info(meta)).transpose())
        });
        Ok(infos)
    }

    /// One level below a directory.
    pub async fn list_dir(&self, dir: &str) -> Result<Listing> {
        let path = self.path(dir)?;
        let result = self
            .inner
            .objects
            .list_with_delimiter(Some(&path))
            .await
            .map_err(|error| self.error("listing", dir, error))?;
        let last = |path: &Path| path.as_ref().rsplit('/').next().map(str::to_owned);
        let mut dirs: Vec<String> = result.common_prefixes.iter().filter_map(last).collect();
        dirs.sort();
        let mut objects: Vec<ObjectInfo> =
            result.objects.into_iter().filter_map(|meta| self.info(meta)).collect();
        objects.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Listing { dirs, objects })
    }

    /// The first objects of a directory whose keys come after `after`, ordered by key, from one request, and
    /// whether these are all. `None` from a store that does not know where to start: it listed what lies before.
    pub async fn list_after(&self, dir: &str, after: &str) -> Result<Option<(Vec<ObjectInfo>, bool)>> {
        let Some(pages) = &self.inner.pages else {
            let found = self.list(dir).await?;
            return Ok(Some((
                found.into_iter().filter(|object| object.key.as_str() > after).collect(),
                true,
            )));
        };
        let below = format!("{}/", self.path(dir)?);
        let (_, within) = after.split_at_checked(dir.len()).unwrap_or_default();
        let offset = Some(format!("{}{within}", self.path(dir)?));
        let options = PaginatedListOptions { offset, ..PaginatedListOptions::default() };
        let page = pages
            .list_paginated(Some(&below), options)
            .await
            .map_err(|error| self.error("listing", dir, error))?;
        let complete = page.page_token.is_none();
        let mut found: Vec<ObjectInfo> =
            page.result.objects.into_iter().filter_map(|meta| self.info(meta)).collect();
        if found.iter().any(|object| object.key.as_str() <= after) {
            return Ok(None);
        }
        found.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Some((found, complete)))
    }

    /// All objects whose key begins with `prefix`, which need not end at a slash; ordered by key.
    pub async fn list_prefix(&self, prefix: &str) -> Result<Vec<ObjectInfo>> {
        let Some(pages) = &self.inner.pages else {
            // This backend lists directories only.
            let dir = prefix.rsplit_once('/').map_or("", |(dir, _)| dir);
            let found = self.list(dir).await?;
            return Ok(found.into_iter().filter(|object| object.key.starts_with(prefix)).collect());
        };
        let full = self.path(prefix)?;
        let (mut found, mut token) = (Vec::new(), None);
        loop {
            let options =
                PaginatedListOptions { page_token: token.take(), ..PaginatedListOptions::default() };
            let page = pages
                .list_paginated(Some(full.as_ref()), options)
                .await
                .map_err(|error| self.error("listing", prefix, error))?;
            found.extend(page.result.objects.into_iter().filter_map(|meta| self.info(meta)));
            token = page.page_token;
            if token.is_none() {
                break;
            }
        }
        found.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(found)
    }
}
