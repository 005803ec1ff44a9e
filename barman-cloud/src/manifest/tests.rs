use super::*;
use chrono::TimeZone;
use proptest::prelude::*;
use rstest::rstest;

fn at(seconds: i64) -> DateTime<Utc> {
    Utc.timestamp_opt(seconds, 0).single().expect("in range")
}

fn sample(system_identifier: Option<u64>) -> Vec<u8> {
    let mut writer = ManifestWriter::new(Vec::new(), system_identifier).expect("memory");
    let file = |path: &str, checksum| ManifestFile {
        path: path.into(),
        size: 3,
        modified: at(1_700_000_000),
        checksum,
    };
    writer.file(&file("PG_VERSION", Some(FileChecksum::Crc32c(0x1122_3344)))).expect("memory");
    writer.file(&file("base/1/a \"b\"\\c", Some(FileChecksum::Sha256([7; 32])))).expect("memory");
    writer.file(&file("empty", None)).expect("memory");
    let range = WalRange { timeline: 1, start: Lsn(0x400_0028), end: Lsn(0x1_0000_0138) };
    writer.finish(&[range]).expect("memory")
}

#[test]
fn the_form_is_postgresqls() {
    let text = String::from_utf8(sample(None)).expect("text");
    let expected = concat!(
        "{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n",
        "\"Files\": [\n",
        "{ \"Path\": \"PG_VERSION\", \"Size\": 3, \"Last-Modified\": \"2023-11-14 22:13:20 GMT\", ",
        "\"Checksum-Algorithm\": \"CRC32C\", \"Checksum\": \"44332211\" },\n",
        "{ \"Path\": \"base/1/a \\\"b\\\"\\\\c\", \"Size\": 3, \"Last-Modified\": \"2023-11-14 22:13:20 GMT\", ",
        "\"Checksum-Algorithm\": \"SHA256\", \"Checksum\": \"",
        "0707070707070707070707070707070707070707070707070707070707070707\" },\n",
        "{ \"Path\": \"empty\", \"Size\": 3, \"Last-Modified\": \"2023-11-14 22:13:20 GMT\" }\n",
        "],\n",
        "\"WAL-Ranges\": [\n",
        "{ \"Timeline\": 1, \"Start-LSN\": \"0/4000028\", \"End-LSN\": \"1/138\" }\n",
        "],\n",
        "\"Manifest-Checksum\": \"",
    );
    assert!(text.starts_with(expected), "{text}");
    assert!(text.ends_with("\"}\n"));
}

#[test]
fn version_two_names_the_system() {
    let bytes = sample(Some(7_710_429_130_419_897_343));
    let manifest = Manifest::parse(&bytes).expect("own text");
    assert_eq!((manifest.version, manifest.system_identifier), (2, Some(7_710_429_130_419_897_343)));
    assert!(bytes.starts_with(b"{ \"PostgreSQL-Backup-Manifest-Version\": 2,\n\"System-Identifier\": 7710429130419897343,\n\"Files\": ["));
}

#[test]
fn what_was_written_is_read() {
    let manifest = Manifest::parse(&sample(None)).expect("own text");
    assert_eq!(manifest.files.len(), 3);
    assert_eq!(manifest.files[0].checksum, Some(FileChecksum::Crc32c(0x1122_3344)));
    assert_eq!(
        manifest.wal_ranges,
        [WalRange { timeline: 1, start: Lsn(0x400_0028), end: Lsn(0x1_0000_0138) }]
    );
}

#[test]
fn every_changed_byte_is_noticed() {
    let good = sample(None);
    for at in 0..good.len() - 1 {
        let mut bad = good.clone();
        bad[at] ^= 0x01;
        assert!(Manifest::parse(&bad).is_err(), "byte {at} changed");
    }
    for cut in 0..good.len() - 1 {
        assert!(Manifest::parse(&good[..cut]).is_err(), "cut at {cut}");
    }
}

#[rstest]
#[case(130_000, 1)]
#[case(160_004, 1)]
#[case(170_000, 2)]
#[case(180_001, 2)]
fn versions(#[case] server: u32, #[case] version: u32) {
    assert_eq!(version_for(server), version);
}

#[rstest]
#[case("/etc/passwd")]
#[case("../x")]
#[case("a/../../x")]
fn paths_stay_inside(#[case] path: &str) {
    let mut writer = ManifestWriter::new(Vec::new(), None).expect("memory");
    let file = ManifestFile { path: path.into(), size: 0, modified: at(0), checksum: None };
    writer.file(&file).expect("memory");
    let bytes = writer.finish(&[]).expect("memory");
    assert!(Manifest::parse(&bytes).expect_err("outside").report().contains("leads out"));
}

proptest! {
    #[test]
    fn round_trip(
        names in proptest::collection::vec(proptest::collection::vec(1u8..=255, 1..12), 0..6),
        size: u64,
        seconds in 0i64..4_000_000_000,
        crc: u32,
    ) {
        let files: Vec<ManifestFile> = names
            .into_iter()
            .map(|name| name.into_iter().filter(|b| *b != b'/' && *b != b'.').collect::<Vec<u8>>())
            .filter(|name| !name.is_empty())
            .map(|name| ManifestFile {
                path: PathBuf::from(OsString::from_vec(name)),
                size,
                modified: at(seconds),
                checksum: Some(FileChecksum::Crc32c(crc)),
            })
            .collect();
        let mut writer = ManifestWriter::new(Vec::new(), Some(1)).expect("memory");
        for file in &files {
            writer.file(file).expect("memory");
        }
        let bytes = writer.finish(&[]).expect("memory");
        prop_assert_eq!(Manifest::parse(&bytes).expect("own text").files, files);
    }

    #[test]
    fn any_input_is_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Manifest::parse(&bytes);
    }
}
