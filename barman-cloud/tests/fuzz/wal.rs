//! The head of a segment, and whole files of the archive as a fetch checks them.

use crate::mutate::{mutated, mutated_head};
use crate::watch::{refused, within};
use barman_cloud::archive::FetchOptions;
use barman_cloud::wal_header::WalHeader;
use barman_cloud::{Compression, Destination, Repository, SegmentSize, Store, WalName};
use proptest::prelude::*;

fn head() -> Vec<u8> {
    let mut bytes = vec![0; 1 << 20];
    bytes[..4].copy_from_slice(&[0x10, 0xD1, 0x02, 0x00]);
    bytes[4..8].copy_from_slice(&1u32.to_le_bytes());
    bytes[24..32].copy_from_slice(&7_710_429_130_419_897_343u64.to_le_bytes());
    bytes[32..36].copy_from_slice(&(1u32 << 20).to_le_bytes());
    bytes[36..40].copy_from_slice(&8192u32.to_le_bytes());
    bytes
}

fn small_files() -> Vec<Vec<u8>> {
    vec![
        include_bytes!("../fixtures/wal/00000002.history").to_vec(),
        b"START WAL LOCATION: 0/4000028 (file 000000010000000000000004)\n".to_vec(),
    ]
}

/// Fetches a stored file; whether it was accepted.
fn fetch(name: &str, suffix: &str, body: Vec<u8>) -> Option<Vec<u8>> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let store = Store::memory(&Destination::parse("s3://bucket").expect("valid"));
    let repository = Repository::new(store, "srv").expect("valid");
    let name: WalName = name.parse().expect("valid");
    let dir = tempfile::tempdir().expect("a directory");
    let dest = dir.path().join("wal");
    let options = FetchOptions {
        segment_size: Some(SegmentSize::MIN),
        system_id: Some(7_710_429_130_419_897_343),
        ..FetchOptions::default()
    };
    runtime.block_on(async {
        let key = format!("{}{suffix}", repository.layout().wal(name, Compression::None));
        repository.store().put(&key, body.into()).await.expect("memory");
        match repository.fetch_wal(name, &dest, &options).await {
            Ok(_) => Some(std::fs::read(&dest).expect("written")),
            Err(error) => {
                refused(&error);
                assert!(error.report().contains(&name.to_string()), "{}", error.report());
                assert!(!dest.exists(), "a refused file is left");
                None
            }
        }
    })
}

proptest! {
    #[test]
    fn page_headers(bytes in mutated(vec![head()[..64].to_vec()])) {
        if let Some(header) = within(4 << 10, || WalHeader::parse(&bytes)) {
            prop_assert!(SegmentSize::new(u64::from(header.segment_size)).is_ok());
        }
    }

    #[test]
    fn small_files_of_the_archive(body in mutated(small_files())) {
        for name in ["00000002.history", "000000010000000000000004.00000028.backup"] {
            if let Some(content) = fetch(name, "", body.clone()) {
                prop_assert_eq!(&content, &body);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases / 8, ..ProptestConfig::default() })]

    #[test]
    fn segments_of_the_archive(body in prop_oneof![mutated(vec![head()]), mutated_head(vec![head()], 64)]) {
        if let Some(content) = fetch("000000010000000000000004", "", body) {
            prop_assert_eq!(content.len(), 1 << 20);
        }
    }
}
