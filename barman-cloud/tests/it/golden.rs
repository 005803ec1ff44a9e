//! Files made by the real tools; `tests/fixtures/README.md` says by which.

use barman_cloud::codec::Decoder;
use barman_cloud::manifest::{FileChecksum, Manifest, ManifestWriter};
use barman_cloud::{
    BackupInfo, Compression, Destination, Layout, Repository, Store, TimelineHistory, WalName,
};
use rstest::rstest;
use std::io::Read;
use std::path::{Path, PathBuf};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

#[rstest]
#[case("barman-3.20.1.info", "Ts One")]
#[case("barman-3.19.1.info", "Ts O'ne")]
fn barmans_records_are_read_and_written_line_by_line(#[case] name: &str, #[case] tablespace: &str) {
    let text = std::fs::read_to_string(fixture("backup_info").join(name)).expect("a fixture");
    let info = BackupInfo::parse(&text).expect("Barman's own");
    assert!(info.is_done());
    assert_eq!(info.tablespaces[0].name, tablespace);
    // All but null keys and the one that only Barman fills.
    let kept: Vec<&str> =
        text.lines().filter(|line| !line.ends_with("=None") && !line.starts_with("copy_stats=")).collect();
    assert_eq!(info.render().lines().collect::<Vec<_>>(), kept);
}

#[test]
fn every_codec_of_barman_is_read() {
    let mut seen = Vec::new();
    for entry in std::fs::read_dir(fixture("wal")).expect("fixtures") {
        let path = entry.expect("readable").path();
        let file = path.file_name().and_then(|name| name.to_str()).expect("text").to_owned();
        let (name, codec) = Layout::parse_wal(&file).expect("a WAL name");
        assert_eq!(name, WalName::History(2));
        let mut text = String::new();
        let stored = std::fs::read(&path).expect("readable");
        Decoder::new(codec, stored.as_slice()).expect("a decoder").read_to_string(&mut text).expect("whole");
        let history = TimelineHistory::parse(2, &text).expect("a history");
        assert_eq!(history.render(), text);
        seen.push(codec);
    }
    seen.sort();
    assert_eq!(seen, Compression::ALL);
}

#[tokio::test]
async fn barmans_annotation_is_read() {
    let body = std::fs::read(fixture("keep/standalone")).expect("a fixture");
    let store = Store::memory(&Destination::parse("s3://bucket").expect("valid"));
    let repo = Repository::new(store, "srv").expect("a name");
    let id = "20261121T012341".parse().expect("an id");
    repo.store().put(&repo.layout().keep(&id), body.into()).await.expect("written");
    assert_eq!(repo.keep(&id).await.expect("read"), Some(barman_cloud::catalog::Keep::Standalone));
}

#[rstest]
#[case("postgresql-15-crc32c")]
#[case("postgresql-15-sha256")]
fn postgresqls_manifest_is_read_and_written_byte_by_byte(#[case] name: &str) {
    let bytes = std::fs::read(fixture("manifest").join(name)).expect("a fixture");
    let manifest = Manifest::parse(&bytes).expect("PostgreSQL's own");
    assert_eq!((manifest.version, manifest.system_identifier), (1, None));
    assert!(manifest.files.len() > 900);
    let mut writer = ManifestWriter::new(Vec::new(), None).expect("memory");
    for file in &manifest.files {
        writer.file(file).expect("memory");
    }
    let written = writer.finish(&manifest.wal_ranges).expect("memory");
    assert!(written == bytes, "the form differs");
}

#[test]
fn postgresqls_checksum_of_known_content() {
    let bytes = std::fs::read(fixture("manifest/postgresql-15-crc32c")).expect("a fixture");
    let manifest = Manifest::parse(&bytes).expect("PostgreSQL's own");
    let file = manifest.files.iter().find(|file| file.path == Path::new("PG_VERSION")).expect("always there");
    assert_eq!(file.checksum, Some(FileChecksum::Crc32c(crc32c::crc32c(b"15\n"))));
}
