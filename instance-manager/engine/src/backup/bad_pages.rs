//! Pages whose checksum is wrong, and what is done about them.

use serde::{Deserialize, Serialize};

/// Pages that are kept by name; further ones are only counted.
const MOST: usize = 1000;

/// What becomes of a backup that holds pages with a wrong checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BadPagePolicy {
    /// The backup completes; the pages are listed in its result.
    #[default]
    Warn,
    /// The backup fails.
    Fail,
}

/// A page whose checksum is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BadPage {
    /// File relative to the data directory, tablespaces as `pg_tblspc/<oid>/…`.
    pub file: String,
    /// Block number within the relation fork.
    pub block: u32,
}

impl std::fmt::Display for BadPage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} block {}", self.file, self.block)
    }
}

/// The bad pages of one backup.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BadPages {
    /// How many there are.
    pub count: u64,
    /// Which: the first thousand that were found, sorted by file and block.
    pub pages: Vec<BadPage>,
}

impl BadPages {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds one; the log names each that is kept.
    pub(crate) fn add(&mut self, page: BadPage) {
        self.count += 1;
        if self.pages.len() < MOST {
            tracing::warn!(file = page.file, block = page.block, "a page has a wrong checksum");
            let place = self.pages.partition_point(|known| *known < page);
            self.pages.insert(place, page);
        }
    }

    /// Names the first `most` for people: `base/5/16384 block 3, base/5/16384 block 17 and 5 more`.
    pub fn named(&self, most: usize) -> String {
        let shown: Vec<String> = self.pages.iter().take(most).map(ToString::to_string).collect();
        let more = self.count - shown.len() as u64;
        let names = shown.join(", ");
        if more == 0 { names } else { format!("{names} and {more} more") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_counted_and_a_thousand_kept_in_order() {
        let mut bad = BadPages::default();
        for block in (0..1200).rev() {
            bad.add(BadPage { file: "base/5/16384".into(), block });
        }
        assert_eq!((bad.count, bad.pages.len(), bad.pages[0].block), (1200, 1000, 200));
        assert_eq!(bad.named(2), "base/5/16384 block 200, base/5/16384 block 201 and 1198 more");
        let mut one = BadPages::default();
        assert!(one.is_empty() && one.named(10).is_empty());
        one.add(BadPage { file: "global/1262".into(), block: 0 });
        assert_eq!(one.named(10), "global/1262 block 0");
    }
}
