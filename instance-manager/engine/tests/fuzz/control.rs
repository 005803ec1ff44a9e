//! `pg_control` of real servers.

use crate::mutate::{mutated, mutated_head};
use howdah_engine::{ControlData, ErrorKind};
use proptest::prelude::*;

/// The control files of new clusters, and where their CRC is.
fn seeds() -> Vec<Vec<u8>> {
    vec![
        include_bytes!("../../src/control/fixtures/pg_control.15").to_vec(),
        include_bytes!("../../src/control/fixtures/pg_control.17").to_vec(),
        include_bytes!("../../src/control/fixtures/pg_control.18").to_vec(),
    ]
}

/// The right CRC over changed content: otherwise every change would end there.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let version = bytes.get(8..12).map(<[u8]>::to_vec);
    let crc_at = if version == Some(1800u32.to_le_bytes().to_vec()) { 292 } else { 288 };
    if bytes.len() >= crc_at + 4 {
        let crc = crc32c::crc32c(&bytes[..crc_at]);
        bytes[crc_at..crc_at + 4].copy_from_slice(&crc.to_le_bytes());
    }
    bytes
}

fn check(bytes: &[u8]) {
    match ControlData::parse(bytes) {
        Ok(control) => assert!(bytes.len() > 288 && control.wal_segment_size.bytes().is_power_of_two()),
        Err(error) => {
            let blamed = matches!(
                error.kind(),
                ErrorKind::Corrupt | ErrorKind::Invalid | ErrorKind::Store(barman_cloud::ErrorKind::Invalid)
            );
            assert!(blamed && error.to_string().len() > 10, "{:?}: {}", error.kind(), error.report());
        }
    }
}

#[test]
fn the_seeds_are_control_files() {
    for seed in seeds() {
        ControlData::parse(&seed).expect("a control file");
    }
}

proptest! {
    #[test]
    fn control_files(bytes in mutated(seeds())) {
        check(&bytes);
    }

    #[test]
    fn control_files_with_the_right_crc(bytes in mutated_head(seeds(), 288)) {
        check(&sealed(bytes));
    }
}
