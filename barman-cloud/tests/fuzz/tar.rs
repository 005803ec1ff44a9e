//! Tar, as parts of base backups are.

use crate::mutate::{mutated, mutated_head};
use crate::watch::{Patient, refused, within};
use barman_cloud::tar::{BLOCK, Entry, TarReader, TarWriter};
use proptest::prelude::*;
use std::path::{Component, PathBuf};

fn packed(entries: &[(Entry, Vec<u8>)]) -> Vec<u8> {
    let mut writer = TarWriter::new(Vec::new());
    for (entry, content) in entries {
        writer.append(entry, &mut content.as_slice()).expect("memory");
    }
    writer.finish().expect("memory")
}

/// Names that need extended headers, links, and all kinds of entries.
fn seeds() -> Vec<Vec<u8>> {
    let long = "a".repeat(120);
    let entries = |deep: PathBuf| {
        let mut timed = Entry::file(deep, 700);
        (timed.mtime, timed.mtime_nanos, timed.uname) = (1_795_000_000, 123_456_789, "postgres".into());
        packed(&[
            (Entry::directory("base"), vec![]),
            (timed, vec![7; 700]),
            (Entry::symlink("pg_tblspc/16384", "/srv/ts1"), vec![]),
            (Entry::file("PG_VERSION", 3), b"15\n".to_vec()),
            (Entry::hardlink("again", "PG_VERSION"), vec![]),
        ])
    };
    vec![
        entries("base/1/1259".into()),
        entries(format!("base/{long}/{long}/{long}").into()),
        entries(PathBuf::from("base/\u{e9}\u{1F418}").join(long.clone())),
    ]
}

/// A header's checksum made right again, so that the change behind it counts.
fn reseal(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(BLOCK) {
        if block[257..262] != *b"ustar" {
            continue;
        }
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

/// Reads everything; an error only of the kind that blames the input.
fn read(bytes: &[u8]) -> Option<Vec<(Entry, Vec<u8>)>> {
    let mut reader = TarReader::new(Patient::new(bytes));
    let mut entries = Vec::new();
    let mut step = || -> barman_cloud::Result<bool> {
        let Some(entry) = reader.next_entry()? else { return Ok(false) };
        let (mut content, mut buffer) = (Vec::new(), [0; 4096]);
        loop {
            match reader.read_data(&mut buffer)? {
                0 => break,
                count => content.extend_from_slice(&buffer[..count]),
            }
        }
        assert_eq!(content.len() as u64, entry.size);
        entries.push((entry, content));
        Ok(true)
    };
    loop {
        match step() {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => {
                refused(&error);
                return None;
            }
        }
    }
    assert!(entries.len() <= bytes.len() / BLOCK);
    Some(entries)
}

/// Skips everything: sizes that the input does not have must show here too.
fn skip(bytes: &[u8]) {
    let mut reader = TarReader::new(Patient::new(bytes));
    loop {
        match reader.next_entry() {
            Ok(Some(_)) => {}
            Ok(None) => return,
            Err(error) => return refused(&error),
        }
    }
}

fn check(bytes: &[u8]) {
    let bound = (4 << 20) + 64 * bytes.len();
    within(bound, || skip(bytes));
    let Some(entries) = within(bound, || read(bytes)) else { return };
    for (entry, _) in &entries {
        let inside = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
        assert!(entry.path.components().all(inside), "{:?}", entry.path);
    }
    assert_eq!(read(&packed(&entries)).expect("own tar"), entries);
}

#[test]
fn the_seeds_are_tars() {
    for seed in seeds() {
        assert_eq!(read(&seed).expect("a tar").len(), 5);
    }
}

/// The padding is added to the size, which must not overflow.
#[test]
fn the_largest_size_is_refused() {
    let mut bytes = seeds().remove(0);
    // Base 256, as GNU tar writes sizes that octal digits cannot hold.
    bytes[BLOCK + 124..BLOCK + 136]
        .copy_from_slice(&[0x80, 0, 0, 0, 0xFF, 255, 255, 255, 255, 255, 255, 255]);
    reseal(&mut bytes);
    skip(&bytes);
    assert!(read(&bytes).is_none());
}

proptest! {
    #[test]
    fn tars(bytes in mutated(seeds())) {
        check(&bytes);
    }

    #[test]
    fn tars_with_right_checksums(mut bytes in prop_oneof![mutated(seeds()), mutated_head(seeds(), 4 * BLOCK)]) {
        reseal(&mut bytes);
        check(&bytes);
    }
}
