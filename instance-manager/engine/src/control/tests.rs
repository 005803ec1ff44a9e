use super::*;
use rstest::rstest;

/// A control file of the given version with recognisable values, as the server lays it out.
fn sample(version: u32) -> Vec<u8> {
    let crc_at = if version == 1800 { 292 } else { 288 };
    let mut bytes = vec![0_u8; 8192];
    let mut put = |offset: usize, value: u64, width: usize| {
        bytes[offset..offset + width].copy_from_slice(&value.to_le_bytes()[..width]);
    };
    put(at::SYSTEM_ID, 7_710_429_130_419_897_343, 8);
    put(at::CONTROL_VERSION, u64::from(version), 4);
    put(at::CATALOG_VERSION, 202_209_061, 4);
    put(at::STATE, 6, 4);
    put(at::CHECKPOINT, 0x1_0400_0060, 8);
    put(at::REDO, 0x1_0400_0028, 8);
    put(at::TIMELINE, 3, 4);
    put(at::MAX_CONNECTIONS, 100, 4);
    put(at::MAX_WORKER_PROCESSES, 8, 4);
    put(at::MAX_WAL_SENDERS, 10, 4);
    put(at::MAX_PREPARED, 1, 4);
    put(at::MAX_LOCKS, 64, 4);
    put(at::BLOCK_SIZE, 8192, 4);
    put(at::RELATION_SEGMENT, 131_072, 4);
    put(at::WAL_SEGMENT, 16 << 20, 4);
    put(at::CHECKSUM_VERSION, 1, 4);
    let crc = crc32c::crc32c(&bytes[..crc_at]);
    bytes[crc_at..crc_at + 4].copy_from_slice(&crc.to_le_bytes());
    bytes
}

#[rstest]
#[case(1300)]
#[case(1700)]
#[case(1800)]
fn reads_all_layouts(#[case] version: u32) {
    let control = ControlData::parse(&sample(version)).expect("a control file");
    assert_eq!(control.system_id, 7_710_429_130_419_897_343);
    assert_eq!((control.control_version, control.timeline), (version, 3));
    assert_eq!(
        (control.checkpoint.to_string(), control.redo.to_string()),
        ("1/4000060".into(), "1/4000028".into())
    );
    assert_eq!(control.wal_segment_size.bytes(), 16 << 20);
    assert!(control.data_checksums && !control.cleanly_shut_down);
    assert_eq!(control.must_not_shrink.max_locks_per_transaction, 64);
}

/// The first bytes of control files as initdb of each version makes them, and what its pg_controldata says of them.
#[rstest]
#[case::v15(include_bytes!("fixtures/pg_control.15"), 1300, 202_209_061, 7_710_575_435_248_067_859, "0/1500718", false)]
#[case::v17(include_bytes!("fixtures/pg_control.17"), 1700, 202_406_281, 7_710_575_356_601_049_811, "0/16C37F8", true)]
#[case::v18(include_bytes!("fixtures/pg_control.18"), 1800, 202_506_291, 7_710_575_358_523_708_136, "0/16EF458", true)]
fn reads_what_real_servers_write(
    #[case] bytes: &[u8],
    #[case] version: u32,
    #[case] catalog: u32,
    #[case] system_id: u64,
    #[case] checkpoint: &str,
    #[case] checksums: bool,
) {
    let control = ControlData::parse(bytes).expect("a control file");
    assert_eq!((control.control_version, control.catalog_version), (version, catalog));
    assert_eq!((control.system_id, control.checkpoint.to_string().as_str()), (system_id, checkpoint));
    assert_eq!((control.timeline, control.data_checksums, control.cleanly_shut_down), (1, checksums, true));
    assert_eq!((control.block_size, control.relation_segment_blocks), (8192, 131_072));
    let expected = MustNotShrink {
        max_connections: 100,
        max_worker_processes: 8,
        max_wal_senders: 10,
        max_prepared_transactions: 0,
        max_locks_per_transaction: 64,
    };
    assert_eq!(control.must_not_shrink, expected);
}

#[test]
fn a_changed_byte_is_noticed() {
    let mut bytes = sample(1300);
    bytes[180] ^= 1;
    let error = ControlData::parse(&bytes).expect_err("damaged");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("CRC"), "{error}");
}

#[rstest]
#[case::empty(0)]
#[case::before_the_checksum(200)]
#[case::inside_the_checksum(290)]
fn a_short_file_is_damaged(#[case] length: usize) {
    let error = ControlData::parse(&sample(1300)[..length]).expect_err("short");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

#[test]
fn another_version_is_refused() {
    let mut bytes = sample(1300);
    bytes[8..12].copy_from_slice(&1201_u32.to_le_bytes());
    assert_eq!(ControlData::parse(&bytes).expect_err("12").kind(), ErrorKind::Invalid);
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..400)) {
        let _ = ControlData::parse(&bytes);
    }
}
