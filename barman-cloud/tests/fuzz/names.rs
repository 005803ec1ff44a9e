//! Names: of WAL, parts and backups, positions, destinations and endpoints.

use crate::mutate::mutated_text;
use crate::watch::{refused, within};
use barman_cloud::layout::normalise_endpoint;
use barman_cloud::{BackupId, Compression, Destination, Layout, Lsn, PartName, Segment, WalName};
use proptest::prelude::*;

const BOUND: usize = 64 << 10;

proptest! {
    #[test]
    fn wal_names(text in mutated_text(&[
        "000000010000000A00000004",
        "000000010000000A00000004.partial",
        "000000010000000A00000004.00000028.backup",
        "0000002F.history",
        "000000010000000a000000ff",
    ])) {
        match within(BOUND, || text.parse::<WalName>()) {
            Ok(name) => {
                prop_assert_eq!(name.to_string().to_uppercase(), text.to_uppercase());
                prop_assert_eq!(name.to_string().parse::<WalName>().expect("own text"), name);
                if let Some(segment) = name.segment() {
                    prop_assert_eq!(segment.to_string().parse::<Segment>().expect("own text"), segment);
                }
            }
            Err(error) => refused(&error),
        }
    }

    #[test]
    fn files_of_the_archive(text in mutated_text(&[
        "000000010000000A00000004.gz", "000000010000000A00000004.partial.zst", "00000002.history.lz4",
    ])) {
        if let Some((name, compression)) = within(BOUND, || Layout::parse_wal(&text)) {
            let again = format!("{name}{}", compression.suffix());
            prop_assert_eq!(Layout::parse_wal(&again), Some((name, compression)));
            prop_assert_eq!(again.to_uppercase(), text.to_uppercase());
        }
        let (stem, codec) = Compression::split(&text);
        prop_assert_eq!(format!("{stem}{}", codec.suffix()), text);
    }

    #[test]
    fn part_names(text in mutated_text(&["data.tar", "data_0001.tar.gz", "16384.tar.snappy", "16384_12345.tar.zst"])) {
        if let Some(part) = within(BOUND, || PartName::parse(&text)) {
            prop_assert_eq!(PartName::parse(&part.to_string()), Some(part));
        }
    }

    #[test]
    fn backup_ids(text in mutated_text(&["20261121T012341"])) {
        match within(BOUND, || text.parse::<BackupId>()) {
            Ok(id) => {
                prop_assert_eq!(id.as_str(), &text);
                // Digits need not be a time, but asking for it must be safe.
                let _ = id.time();
            }
            Err(error) => refused(&error),
        }
    }

    #[test]
    fn positions(text in mutated_text(&["0/5000000", "FFFFFFFF/FFFFFFFF", "A/1F"])) {
        match within(BOUND, || text.parse::<Lsn>()) {
            Ok(lsn) => prop_assert_eq!(lsn.to_string().parse::<Lsn>().expect("own text"), lsn),
            Err(error) => refused(&error),
        }
    }

    #[test]
    fn destinations(text in mutated_text(&["s3://bucket/some/path/", "s3://my.bucket-1//a//b"])) {
        match within(BOUND, || Destination::parse(&text)) {
            Ok(destination) => {
                prop_assert_eq!(Destination::parse(&destination.to_string()).expect("own text"), destination);
            }
            Err(error) => refused(&error),
        }
    }

    #[test]
    fn endpoints(text in mutated_text(&["https://s3.example.com:9000/path", "http://[::1]:9000", "s3.example.com"])) {
        match within(BOUND, || normalise_endpoint(&text)) {
            Ok(url) => prop_assert_eq!(normalise_endpoint(&url).expect("own text"), url),
            Err(error) => refused(&error),
        }
    }
}
