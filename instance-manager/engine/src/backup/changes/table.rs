//! Which blocks of which relation changed, as WAL summaries tell it. Kept compressed: a block costs two bytes at most.

use crate::increment::RelationFile;
use roaring::RoaringBitmap;
use std::collections::{HashMap, HashSet};

/// A relation: oids of tablespace and database, file number.
type Relation = (u32, u32, u32);

/// Changes of the main fork of one relation.
#[derive(Debug, Default)]
struct Changes {
    /// Shortest length that it had meanwhile, in blocks.
    limit: Option<u32>,
    blocks: RoaringBitmap,
}

/// One line of a summary: file number, tablespace, database, block, and whether the block is a limit.
#[derive(Debug, Clone, Copy)]
pub struct Line {
    pub node: u32,
    pub tablespace: u32,
    pub database: u32,
    pub block: u32,
    pub is_limit: bool,
}

/// All changes between two positions.
#[derive(Debug, Default)]
pub struct BlockTable {
    relations: HashMap<Relation, Changes>,
    /// Tablespace and database of directories that were made, copied or removed as a whole.
    databases: HashSet<(u32, u32)>,
}

impl BlockTable {
    /// Adds a line of a summary.
    pub fn add(&mut self, line: Line) {
        if line.node == 0 {
            self.databases.insert((line.tablespace, line.database));
            return;
        }
        let changes = self.relations.entry((line.tablespace, line.database, line.node)).or_default();
        if line.is_limit {
            changes.limit = Some(changes.limit.map_or(line.block, |known| known.min(line.block)));
        } else {
            changes.blocks.insert(line.block);
        }
    }

    /// Blocks of a file with `length` blocks that must be stored, by their number in the file; `None` when all must.
    pub fn of(&self, file: &RelationFile, length: u32, segment_blocks: u32) -> Option<RoaringBitmap> {
        if self.databases.contains(&(file.tablespace, file.database)) {
            return None;
        }
        let Some(changes) = self.relations.get(&(file.tablespace, file.database, file.node)) else {
            return Some(RoaringBitmap::new());
        };
        let start = file.segment.checked_mul(segment_blocks)?;
        let mut blocks = RoaringBitmap::new();
        if let Some(last) = length.checked_sub(1) {
            // A relation has less than 2^32 blocks.
            let last = start.saturating_add(last);
            blocks.extend(changes.blocks.range(start..=last).map(|block| block - start));
        }
        if let Some(limit) = changes.limit {
            if limit <= start {
                return None;
            }
            // The relation ended here once. What is after it now is new even where no record says so, as for blocks that
            // were added and not yet used.
            blocks.insert_range((limit - start).min(length)..length);
        }
        Some(blocks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(node: u32, block: u32, is_limit: bool) -> Line {
        Line { node, tablespace: 1663, database: 5, block, is_limit }
    }

    fn file(node: u32, segment: u32) -> RelationFile {
        RelationFile { tablespace: 1663, database: 5, node, is_main: true, segment }
    }

    fn blocks(table: &BlockTable, file: RelationFile, length: u32) -> Option<Vec<u32>> {
        table.of(&file, length, 100).map(|blocks| blocks.iter().collect())
    }

    #[test]
    fn blocks_are_told_by_file_and_within_its_length() {
        let mut table = BlockTable::default();
        for block in [3, 99, 100, 105, 199, 205] {
            table.add(line(7, block, false));
        }
        assert_eq!(blocks(&table, file(7, 0), 100), Some(vec![3, 99]));
        assert_eq!(blocks(&table, file(7, 1), 100), Some(vec![0, 5, 99]));
        assert_eq!(blocks(&table, file(7, 1), 99), Some(vec![0, 5]));
        assert_eq!(blocks(&table, file(7, 2), 0), Some(vec![]));
        assert_eq!(blocks(&table, file(8, 0), 100), Some(vec![]), "nothing is said of it");
    }

    #[test]
    fn after_a_truncation_everything_behind_it_is_new() {
        let mut table = BlockTable::default();
        table.add(line(7, 150, true));
        table.add(line(7, 120, true));
        table.add(line(7, 20, false));
        assert_eq!(blocks(&table, file(7, 0), 100), Some(vec![20]));
        assert_eq!(blocks(&table, file(7, 1), 23), Some(vec![20, 21, 22]));
        assert_eq!(blocks(&table, file(7, 1), 10), Some(vec![]));
        assert_eq!(blocks(&table, file(7, 2), 1), None, "made anew");
        table.add(line(9, 0, true));
        assert_eq!(blocks(&table, file(9, 0), 5), None);
    }

    #[test]
    fn a_database_that_was_made_is_whole() {
        let mut table = BlockTable::default();
        table.add(Line { node: 0, tablespace: 1663, database: 5, block: 0, is_limit: true });
        assert_eq!(blocks(&table, file(7, 0), 5), None);
        assert_eq!(blocks(&table, RelationFile { database: 6, ..file(7, 0) }, 5), Some(vec![]));
    }
}
