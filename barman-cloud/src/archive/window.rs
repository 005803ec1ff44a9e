//! What the archive holds from a segment on, learned with one request.

use super::find::WalObject;
use crate::error::Result;
use crate::repository::Repository;
use crate::wal_name::{Segment, WalName};
use std::collections::BTreeMap;

/// The objects of some consecutive segments of one directory, as one listing showed them.
#[derive(Debug, Clone)]
pub struct WalWindow {
    from: Segment,
    /// The last segment that the listing speaks of; the last of the directory when it was complete.
    until: Segment,
    objects: BTreeMap<Segment, Vec<WalObject>>,
}

impl WalWindow {
    /// Sorts a listing. It speaks of the directory of `from`, from there to its end or to the last key.
    fn new(from: Segment, found: Vec<WalObject>, complete: bool) -> Self {
        let last = found.last().and_then(|object| object.name.segment());
        let until = match last {
            // The page may end between two objects of one segment.
            Some(last) if !complete => Segment { seg: last.seg.saturating_sub(1), ..last },
            _ if complete => Segment { seg: u32::MAX, ..from },
            _ => from,
        };
        Self::between(from, until, found)
    }

    fn between(from: Segment, until: Segment, found: Vec<WalObject>) -> Self {
        let mut objects: BTreeMap<Segment, Vec<WalObject>> = BTreeMap::new();
        for object in found {
            if let WalName::Segment(segment) | WalName::Partial(segment) = object.name {
                objects.entry(segment).or_default().push(object);
            }
        }
        for (segment, list) in &mut objects {
            super::find::by_preference(list, WalName::Segment(*segment));
        }
        Self { from, until, objects }
    }

    /// The objects that hold a segment, whatever their compression, and its partial form; complete before partial.
    /// Empty when there were none, `None` when the listing does not speak of it.
    pub fn of(&self, segment: Segment) -> Option<&[WalObject]> {
        (self.from <= segment && segment <= self.until)
            .then(|| self.objects.get(&segment).map_or(&[][..], Vec::as_slice))
    }

    /// Whether the listing showed the complete segment.
    pub fn holds(&self, segment: Segment) -> bool {
        let complete = |object: &WalObject| object.name == WalName::Segment(segment);
        self.of(segment).is_some_and(|objects| objects.iter().any(complete))
    }
}

impl Repository {
    /// What the archive holds of the directory of `from`, from there on: one request for many segments. It always
    /// speaks of `from` itself; how far beyond depends on the store.
    pub async fn wal_window(&self, from: Segment) -> Result<WalWindow> {
        let dir = self.layout().wal_hash_dir(from);
        // The last key that the segment before could have; a tilde sorts behind all that follows a name.
        let after = match from.seg.checked_sub(1) {
            Some(seg) => format!("{dir}/{}~", Segment { seg, ..from }),
            None => format!("{dir}/"),
        };
        let Some((found, complete)) = self.store().list_after(&dir, &after).await? else {
            let found = self.find_wal(WalName::Segment(from)).await?;
            return Ok(WalWindow::between(from, from, found));
        };
        let found: Vec<WalObject> = found.into_iter().filter_map(WalObject::recognise).collect();
        let window = WalWindow::new(from, found, complete);
        if window.of(from).is_some() {
            return Ok(window);
        }
        let found = self.find_wal(WalName::Segment(from)).await?;
        Ok(WalWindow::between(from, from, found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Compression;
    use crate::store::ObjectInfo;

    fn segment(seg: u32) -> Segment {
        Segment { timeline: 1, log: 0, seg }
    }

    fn object(seg: u32, suffix: &str) -> WalObject {
        let key = format!("srv/wals/0000000100000000/{}{suffix}", segment(seg));
        let last_modified = chrono::DateTime::UNIX_EPOCH;
        WalObject::recognise(ObjectInfo { key, size: 1, last_modified, etag: None }).expect("WAL")
    }

    #[test]
    fn a_complete_listing_speaks_of_the_whole_rest() {
        let window =
            WalWindow::new(segment(4), vec![object(4, ".partial"), object(4, ".zst"), object(6, "")], true);
        assert_eq!(window.of(segment(3)), None);
        let names: Vec<WalName> = window.of(segment(4)).expect("known").iter().map(|o| o.name).collect();
        assert_eq!(names, [WalName::Segment(segment(4)), WalName::Partial(segment(4))]);
        assert!(window.of(segment(5)).expect("known").is_empty() && window.holds(segment(6)));
        assert!(window.of(segment(0xFFF)).is_some());
        assert_eq!(window.of(Segment { log: 1, ..segment(0) }), None);
        assert_eq!(window.of(segment(4)).map(|o| o[0].compression), Some(Compression::Zstd));
    }

    #[test]
    fn a_page_says_nothing_of_its_last_segment() {
        let window = WalWindow::new(segment(4), vec![object(4, ""), object(5, ""), object(6, ".gz")], false);
        assert!(window.holds(segment(5)));
        assert_eq!(window.of(segment(6)), None);
    }
}
