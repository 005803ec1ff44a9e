use super::table::Line;
use super::*;
use barman_cloud::BackupType;
use barman_cloud::manifest::{Manifest, ManifestFile};
use rstest::rstest;

const PAGE: u64 = 8192;

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).expect("a time")
}

fn rule() -> PageRule {
    PageRule { since: Lsn(0x500_0000), since_time: at(1_000_000), first: Lsn(0x100_0000) }
}

fn increment(finder: Finder) -> Increment {
    let id: barman_cloud::BackupId = "20261121T012341".parse().expect("an id");
    let parent = Parent {
        id: id.clone(),
        kind: BackupType::Full,
        begin: Lsn(0x500_0000),
        begin_time: at(1_000_000),
        end: Lsn(0x600_0000),
        timeline: 1,
        checksums: true,
        chain: vec![id.clone()],
    };
    let chain = Chain {
        kind: BackupType::Incremental,
        ancestors: vec![id],
        since_lsn: parent.begin,
        found_by: String::new(),
    };
    let file = |path: &str, blocks: u64| ManifestFile {
        path: path.into(),
        size: blocks * PAGE,
        modified: at(0),
        checksum: None,
    };
    let files = ["base/5/7", "base/5/7.1", "base/5/7_fsm", "base/5/7_vm", "base/6/7", "global/1262"];
    let mut files: Vec<ManifestFile> = files.into_iter().map(|path| file(path, 10)).collect();
    files.push(file("base/5/INCREMENTAL.8", 2));
    let manifest = Manifest { version: 1, system_identifier: None, files, wal_ranges: Vec::new() };
    Increment {
        parent,
        chain,
        base: Base::new(manifest, None),
        finder,
        shape: Shape { page: PAGE as u32, segment_blocks: 131_072 },
        fresh: HashSet::from(["base/6".into()]),
    }
}

#[rstest]
#[case::free_space("base/5/7_fsm", 10)]
#[case::visibility("base/5/7_vm", 10)]
#[case::no_relation("pg_xact/0000", 10)]
#[case::not_in_the_parent("base/5/9", 10)]
#[case::empty("base/5/7", 0)]
#[case::another_database_since("base/6/7", 10)]
#[case::too_long("base/5/7", 131_073)]
fn whole_files(#[case] path: &str, #[case] blocks: u64) {
    let method = increment(Finder::PageLsn(rule())).method(Path::new(path), blocks * PAGE);
    assert_eq!(method, Method::Whole);
}

#[test]
fn a_file_that_ends_within_a_block_is_whole() {
    assert_eq!(increment(Finder::PageLsn(rule())).method(Path::new("base/5/7"), 8193), Method::Whole);
}

#[test]
fn what_the_parent_lacks_is_stored_in_any_case() {
    let increment = increment(Finder::PageLsn(rule()));
    let scan = |path: &str, blocks| increment.method(Path::new(path), blocks * PAGE);
    assert_eq!(scan("base/5/7.1", 8), Method::Scan { rule: rule(), beyond: 8 });
    assert_eq!(scan("base/5/7.1", 15), Method::Scan { rule: rule(), beyond: 10 });
    assert_eq!(scan("base/5/8", 15), Method::Scan { rule: rule(), beyond: 15 }, "its length is not known");
}

#[test]
fn summaries_name_blocks() {
    let mut table = BlockTable::default();
    for block in [3, 131_072 + 4] {
        table.add(Line { node: 7, tablespace: 1663, database: 5, block, is_limit: false });
    }
    let increment = increment(Finder::Summaries(table));
    let blocks = |path: &str, count| match increment.method(Path::new(path), count * PAGE) {
        Method::Blocks(blocks) => blocks.iter().collect::<Vec<u32>>(),
        other => vec![u32::MAX, format!("{other:?}").len() as u32],
    };
    assert_eq!(blocks("base/5/7", 10), [3]);
    assert_eq!(blocks("base/5/7.1", 12), [4, 10, 11]);
    assert_eq!(blocks("base/6/7", 10), [0_u32; 0], "summaries know when a database was made");
    assert_eq!(increment.estimate(Path::new("base/5/7"), 10 * PAGE), (PAGE, PAGE));
    assert!(!increment.is_whole(9, 10 * PAGE) && increment.is_whole(10, 10 * PAGE));
}

#[test]
fn pages_tell_by_their_position() {
    let page = |lsn: u64| {
        let mut page = vec![9; PAGE as usize];
        page[..4].copy_from_slice(&((lsn >> 32) as u32).to_le_bytes());
        page[4..8].copy_from_slice(&(lsn as u32).to_le_bytes());
        page
    };
    let rule = rule();
    for (lsn, recent, changed) in [
        (0x500_0000, false, true),
        (0x4ff_ffff, true, false),
        (0x1_0000_0000, false, true),
        (1, true, true),
        (1, false, false),
    ] {
        assert_eq!(rule.is_changed(&page(lsn), recent), changed, "{lsn:x}");
    }
    assert!(rule.is_changed(&vec![0; PAGE as usize], false), "a new page may stand where there was another");
    assert!(rule.is_recent(1_000_000 - 3600) && !rule.is_recent(1_000_000 - 3601));
}
