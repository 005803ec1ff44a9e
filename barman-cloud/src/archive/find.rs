//! Which objects hold a WAL file.

use super::MAX_TEXT;
use crate::codec::{Compression, Decoder};
use crate::error::{Error, ErrorKind, Result};
use crate::layout::Layout;
use crate::repository::Repository;
use crate::store::ObjectInfo;
use crate::timeline::TimelineHistory;
use crate::wal_name::WalName;
use std::io::Read;

/// An object of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalObject {
    /// The file in it.
    pub name: WalName,
    /// How it is compressed.
    pub compression: Compression,
    /// The object.
    pub object: ObjectInfo,
}

impl WalObject {
    /// Recognises an object by its key; `None` for what is no WAL.
    pub fn recognise(object: ObjectInfo) -> Option<Self> {
        let (name, compression) = Layout::parse_wal(object.file_name())?;
        Some(Self { name, compression, object })
    }
}

/// Sorts objects as a reader of `name` prefers them: complete before partial, then by key.
pub(super) fn by_preference(objects: &mut [WalObject], name: WalName) {
    objects.sort_by(|a, b| (a.name != name, &a.object.key).cmp(&(b.name != name, &b.object.key)));
}

impl Repository {
    /// All objects under the name of a file, whatever their compression; and, for a segment, its partial form.
    /// In the order in which a reader prefers them: complete before partial, then by key.
    pub async fn find_wal(&self, name: WalName) -> Result<Vec<WalObject>> {
        let prefix = self.layout().wal(name, Compression::None);
        let mut found: Vec<WalObject> =
            self.store().list_prefix(&prefix).await?.into_iter().filter_map(WalObject::recognise).collect();
        found.retain(|object| match (object.name, name) {
            (found, wanted) if found == wanted => true,
            (WalName::Partial(partial), WalName::Segment(segment)) => partial == segment,
            _ => false,
        });
        by_preference(&mut found, name);
        Ok(found)
    }

    /// The history of a timeline, or `None` when the archive has none.
    pub async fn read_history(&self, timeline: u32) -> Result<Option<TimelineHistory>> {
        let name = WalName::History(timeline);
        let Some(object) = self.find_wal(name).await?.into_iter().next() else { return Ok(None) };
        let url = self.store().url_of(&object.object.key);
        let text = self.read_text(&object).await?;
        let text = String::from_utf8(text)
            .map_err(|error| Error::corrupt("not a text").with_key(url.clone()).with_source(error))?;
        TimelineHistory::parse(timeline, &text).map(Some).map_err(|error| error.with_key(url))
    }

    /// Content of a small file of the archive: a history or a label.
    pub async fn read_text(&self, object: &WalObject) -> Result<Vec<u8>> {
        let url = self.store().url_of(&object.object.key);
        let stored = self.store().get(&object.object.key, MAX_TEXT).await?;
        let mut text = Vec::new();
        Decoder::new(object.compression, stored.as_ref())
            .and_then(|decoder| crate::codec::Bounded::new(decoder, MAX_TEXT).read_to_end(&mut text))
            .map_err(|error| {
                Error::from_io(error, ErrorKind::Corrupt, "it cannot be decompressed").with_key(url)
            })?;
        Ok(text)
    }
}
