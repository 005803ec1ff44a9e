//! Names of relation files and of the files of changed blocks beside them, by their paths in a manifest.

use crate::backup::relation_segment;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

const PREFIX: &str = "INCREMENTAL.";
/// Oids of `pg_default` and `pg_global`, fixed in every cluster.
const DEFAULT_SPACE: u32 = 1663;
const GLOBAL_SPACE: u32 = 1664;

/// A file with pages of a relation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelationFile {
    /// Oid of the tablespace.
    pub tablespace: u32,
    /// Oid of the database, 0 for what all share.
    pub database: u32,
    /// File number of the relation.
    pub node: u32,
    /// Whether it is of the main fork, which holds the rows.
    pub is_main: bool,
    /// Number of the file within the fork.
    pub segment: u32,
}

impl RelationFile {
    /// What a path of a manifest names; `None` when it is no file of a relation.
    pub fn parse(path: &Path) -> Option<Self> {
        let text = path.to_str()?;
        let segment = relation_segment(text)?;
        let parts: Vec<&str> = text.split('/').collect();
        let (tablespace, database, file) = match parts[..] {
            ["global", file] => (GLOBAL_SPACE, 0, file),
            ["base", database, file] => (DEFAULT_SPACE, database.parse().ok()?, file),
            ["pg_tblspc", space, _, database, file] => (space.parse().ok()?, database.parse().ok()?, file),
            _ => return None,
        };
        let name = file.split('.').next().unwrap_or(file);
        let (node, fork) = name.split_once('_').unwrap_or((name, ""));
        Some(Self { tablespace, database, node: node.parse().ok()?, is_main: fork.is_empty(), segment })
    }
}

/// Where the changed blocks of a file are.
pub fn incremental_name(path: &Path) -> PathBuf {
    let mut name = OsStr::new(PREFIX).to_owned();
    name.push(path.file_name().unwrap_or_default());
    path.with_file_name(name)
}

/// The file whose changed blocks are here; `None` when this is a file as it is, whatever its name.
pub fn plain_name(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?.strip_prefix(PREFIX)?;
    let plain = path.with_file_name(name);
    RelationFile::parse(&plain).is_some().then_some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::shared("global/1262", Some((1664, 0, 1262, true, 0)))]
    #[case::first("base/5/16384", Some((1663, 5, 16384, true, 0)))]
    #[case::second_gigabyte("base/5/16384.1", Some((1663, 5, 16384, true, 1)))]
    #[case::map("base/5/16384_vm", Some((1663, 5, 16384, false, 0)))]
    #[case::init("base/5/16384_init", Some((1663, 5, 16384, false, 0)))]
    #[case::space("pg_tblspc/99/PG_17_202406281/5/7_fsm.2", Some((99, 5, 7, false, 2)))]
    #[case::no_space("PG_17_202406281/5/7", None)]
    #[case::no_relation("base/5/PG_VERSION", None)]
    #[case::too_large("base/5/4294967296", None)]
    fn relations(#[case] path: &str, #[case] expected: Option<(u32, u32, u32, bool, u32)>) {
        let found = RelationFile::parse(Path::new(path));
        let found = found.map(|f| (f.tablespace, f.database, f.node, f.is_main, f.segment));
        assert_eq!(found, expected);
    }

    #[rstest]
    #[case("base/5/16384.1", "base/5/INCREMENTAL.16384.1")]
    #[case("pg_tblspc/9/PG_15_1/5/7", "pg_tblspc/9/PG_15_1/5/INCREMENTAL.7")]
    fn names_go_both_ways(#[case] plain: &str, #[case] incremental: &str) {
        assert_eq!(incremental_name(Path::new(plain)), Path::new(incremental));
        assert_eq!(plain_name(Path::new(incremental)), Some(PathBuf::from(plain)));
    }

    #[rstest]
    #[case("INCREMENTAL.conf")]
    #[case("notes/5/INCREMENTAL.7")]
    #[case("base/5/INCREMENTAL.PG_VERSION")]
    #[case("base/5/16384")]
    fn a_users_file_is_no_file_of_blocks(#[case] path: &str) {
        assert_eq!(plain_name(Path::new(path)), None);
    }
}
