use super::*;
use crate::store::{Created, Store};
use crate::wal_header::test_segment;
use crate::wal_name::{Segment, SegmentSize, WalName};
use crate::{Compression, Destination, ErrorKind, Lsn, Repository};
use bytes::Bytes;
use rstest::rstest;

fn repository() -> Repository {
    let destination = Destination::parse("s3://bucket/some/path").expect("valid");
    Repository::new(Store::memory(&destination), "srv").expect("valid")
}

fn name(text: &str) -> WalName {
    text.parse().expect("a WAL name")
}

const SEGMENT: &str = "000000010000000000000004";

fn segment(fill: u8) -> Bytes {
    let mut bytes = test_segment(42, Lsn(0x40_0000), 1 << 20);
    bytes[1000..500_000].fill(fill);
    bytes.into()
}

fn options(compression: Compression) -> ArchiveOptions {
    ArchiveOptions { compression, ..ArchiveOptions::default() }
}

async fn archive(
    repo: &Repository,
    wal: &str,
    content: &Bytes,
    codec: Compression,
) -> crate::Result<ArchivedWal> {
    repo.archive_wal(name(wal), WalSource::Bytes(content.clone()), &options(codec)).await
}

async fn fetch(repo: &Repository, wal: &str, options: &FetchOptions) -> crate::Result<(FetchedWal, Vec<u8>)> {
    let dir = tempfile::tempdir().expect("a directory");
    let dest = dir.path().join("fetched");
    let result = repo.fetch_wal(name(wal), &dest, options).await;
    assert_eq!(result.is_ok(), dest.exists(), "a failed fetch leaves no file");
    result.map(|fetched| (fetched, std::fs::read(&dest).expect("written")))
}

#[rstest]
#[tokio::test]
async fn a_segment_goes_in_and_comes_out(
    #[values(
        Compression::None,
        Compression::Gzip,
        Compression::Bzip2,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
        Compression::Xz
    )]
    codec: Compression,
) {
    let (repo, content) = (repository(), segment(3));
    let archived = archive(&repo, SEGMENT, &content, codec).await.expect("archived");
    assert_eq!(archived.created, Created::Yes);
    assert_eq!(archived.key, format!("srv/wals/0000000100000000/{SEGMENT}{}", codec.suffix()));
    let (fetched, bytes) = fetch(&repo, SEGMENT, &FetchOptions { sync: true, ..FetchOptions::default() })
        .await
        .expect("fetched");
    assert_eq!((fetched.object.compression, bytes), (codec, content.to_vec()));
}

#[tokio::test]
async fn a_file_is_archived_from_disk() {
    let (repo, content) = (repository(), segment(4));
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), &content).expect("writing");
    let source = WalSource::File(file.path().to_owned());
    let archived =
        repo.archive_wal(name(SEGMENT), source, &options(Compression::Lz4)).await.expect("archived");
    assert_eq!(archived.size, 1 << 20);
    assert_eq!(fetch(&repo, SEGMENT, &FetchOptions::default()).await.expect("fetched").1, content.to_vec());
}

#[rstest]
#[case::same_codec(Compression::Gzip, Compression::Gzip)]
#[case::other_codec(Compression::Gzip, Compression::Zstd)]
#[case::uncompressed_before(Compression::None, Compression::Lz4)]
#[tokio::test]
async fn the_same_again_is_harmless(#[case] first: Compression, #[case] second: Compression) {
    let (repo, content) = (repository(), segment(5));
    let one = archive(&repo, SEGMENT, &content, first).await.expect("archived");
    let two = archive(&repo, SEGMENT, &content, second).await.expect("the same content");
    assert_eq!((two.created, two.key), (Created::Exists, one.key));
    assert_eq!(repo.list_wal().await.expect("listed").len(), 1);
}

#[rstest]
#[case::same_codec(Compression::Gzip)]
#[case::other_codec(Compression::Zstd)]
#[case::none(Compression::None)]
#[tokio::test]
async fn other_content_is_refused_and_nothing_changes(#[case] second: Compression) {
    let (repo, content) = (repository(), segment(5));
    archive(&repo, SEGMENT, &content, Compression::Gzip).await.expect("archived");
    let error = archive(&repo, SEGMENT, &segment(6), second).await.expect_err("other content");
    assert_eq!((error.kind(), error.exit_code()), (ErrorKind::AlreadyExists, 1));
    assert!(error.report().contains(SEGMENT) && error.remedy().contains("server name"), "{}", error.report());
    assert_eq!(fetch(&repo, SEGMENT, &FetchOptions::default()).await.expect("fetched").1, content.to_vec());
    assert_eq!(repo.list_wal().await.expect("listed").len(), 1);
}

#[tokio::test]
async fn large_segments_go_in_parts() {
    let (repo, size) = (repository(), 64usize << 20);
    let mut bytes = test_segment(42, Lsn(0), size);
    let mut state = 1u32;
    // Hard to compress, so that several parts arise.
    for chunk in bytes[4096..].chunks_mut(4) {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        chunk.copy_from_slice(&state.to_le_bytes()[..chunk.len()]);
    }
    let content = Bytes::from(bytes);
    let archived = archive(&repo, SEGMENT, &content, Compression::Lz4).await.expect("archived");
    assert!(archived.stored > 40 << 20);
    let size = Some(SegmentSize::new(64 << 20).expect("valid"));
    let (_, fetched) = fetch(&repo, SEGMENT, &FetchOptions { segment_size: size, ..FetchOptions::default() })
        .await
        .expect("fetched");
    assert!(fetched == content);
    let again = archive(&repo, SEGMENT, &content, Compression::Lz4).await.expect("the same");
    assert_eq!(again.created, Created::Exists);
}

#[rstest]
#[case::segment(SEGMENT, b"short".as_slice())]
#[case::empty(SEGMENT, b"".as_slice())]
#[case::history("00000002.history", b"".as_slice())]
#[tokio::test]
async fn what_cannot_be_the_file_is_not_archived(#[case] wal: &str, #[case] content: &'static [u8]) {
    let repo = repository();
    let error =
        archive(&repo, wal, &Bytes::from_static(content), Compression::None).await.expect_err("not a file");
    assert_eq!(error.exit_code(), 3);
    assert!(repo.list_wal().await.expect("listed").is_empty());
}

#[tokio::test]
async fn a_missing_local_file_is_named() {
    let source = WalSource::File("/nonexistent/000000010000000000000004".into());
    let error = repository()
        .archive_wal(name(SEGMENT), source, &options(Compression::None))
        .await
        .expect_err("missing");
    assert!(error.report().contains("/nonexistent/000000010000000000000004"), "{}", error.report());
    assert_eq!(error.kind(), ErrorKind::Io);
}

#[tokio::test]
async fn history_and_labels_keep_their_places() {
    let repo = repository();
    let history = Bytes::from_static(b"1\t0/5000000\tno recovery target specified\n");
    let label = Bytes::from_static(b"START WAL LOCATION: 0/4000028 (file 000000010000000000000004)\n");
    let label_name = format!("{SEGMENT}.00000028.backup");
    archive(&repo, "00000002.history", &history, Compression::Gzip).await.expect("archived");
    archive(&repo, &label_name, &label, Compression::Gzip).await.expect("archived");
    let keys: Vec<String> =
        repo.list_wal().await.expect("listed").into_iter().map(|o| o.object.key).collect();
    assert_eq!(
        keys,
        [format!("srv/wals/0000000100000000/{label_name}.gz"), "srv/wals/00000002.history.gz".to_owned()]
    );
    assert_eq!(
        fetch(&repo, "00000002.history", &FetchOptions::default()).await.expect("fetched").1,
        history.to_vec()
    );
    assert_eq!(fetch(&repo, &label_name, &FetchOptions::default()).await.expect("fetched").1, label.to_vec());
    let read = repo.read_history(2).await.expect("read").expect("there");
    assert_eq!(read.switch_point(1), Some(Lsn(0x500_0000)));
    assert_eq!(repo.read_history(3).await.expect("read"), None);
    // A label does not stand for its segment.
    assert!(fetch(&repo, SEGMENT, &FetchOptions::default()).await.expect_err("only a label").is_not_found());
}

#[tokio::test]
async fn complete_wins_over_partial() {
    let repo = repository();
    let partial = format!("{SEGMENT}.partial");
    archive(&repo, &partial, &segment(1), Compression::Gzip).await.expect("archived");
    let refused = fetch(&repo, SEGMENT, &FetchOptions::default()).await;
    assert!(refused.expect_err("only a partial one").is_not_found());
    let accept = FetchOptions { accept_partial: true, ..FetchOptions::default() };
    let (fetched, bytes) = fetch(&repo, SEGMENT, &accept).await.expect("the partial one");
    assert_eq!((fetched.object.name, bytes), (name(&partial), segment(1).to_vec()));
    archive(&repo, SEGMENT, &segment(2), Compression::Zstd).await.expect("another name");
    let (fetched, bytes) = fetch(&repo, SEGMENT, &accept).await.expect("the complete one");
    assert_eq!((fetched.object.name, bytes), (name(SEGMENT), segment(2).to_vec()));
}

async fn plant(repo: &Repository, suffix: &str, content: Vec<u8>) {
    let key = format!("srv/wals/0000000100000000/{SEGMENT}{suffix}");
    repo.store().put(&key, content.into()).await.expect("written");
}

fn packed(codec: Compression, content: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = crate::codec::Encoder::new(codec, None, Vec::new()).expect("an encoder");
    encoder.write_all(content).expect("memory");
    encoder.finish().expect("memory")
}

#[rstest]
#[case::truncated_gzip(".gz", 0.7)]
#[case::truncated_snappy(".snappy", 0.7)]
#[case::truncated_plain("", 0.7)]
#[case::empty_plain("", 0.0)]
#[tokio::test]
async fn truncated_objects_are_corrupt(#[case] suffix: &str, #[case] share: f64) {
    let repo = repository();
    let whole = packed(Compression::split(suffix).1, &segment(9));
    let cut = (whole.len() as f64 * share) as usize;
    plant(&repo, suffix, whole[..cut].to_vec()).await;
    let error = fetch(&repo, SEGMENT, &FetchOptions::default()).await.expect_err("truncated");
    assert_eq!((error.kind(), error.exit_code()), (ErrorKind::Corrupt, 4));
    assert!(error.report().contains(SEGMENT), "{}", error.report());
}

#[rstest]
#[case::other_suffix_holds_it(true)]
#[case::nothing_else(false)]
#[tokio::test]
async fn garbage_is_passed_over_when_there_is_a_good_one(#[case] good: bool) {
    let repo = repository();
    plant(&repo, ".gz", b"this is no gzip".to_vec()).await;
    if good {
        plant(&repo, ".zst", packed(Compression::Zstd, &segment(9))).await;
    }
    let result = fetch(&repo, SEGMENT, &FetchOptions::default()).await;
    match good {
        true => assert_eq!(result.expect("the other one").1, segment(9).to_vec()),
        false => assert_eq!(result.expect_err("garbage").kind(), ErrorKind::Corrupt),
    }
}

#[tokio::test]
async fn the_size_must_be_the_servers() {
    let repo = repository();
    archive(&repo, SEGMENT, &segment(9), Compression::Gzip).await.expect("archived");
    let other = FetchOptions { segment_size: Some(SegmentSize::DEFAULT), ..FetchOptions::default() };
    assert_eq!(fetch(&repo, SEGMENT, &other).await.expect_err("1 MiB").kind(), ErrorKind::Corrupt);
    // A bomb: far more than the segment may have.
    plant(&repo, ".gz", packed(Compression::Gzip, &vec![0; 20 << 20])).await;
    let small = FetchOptions { segment_size: Some(SegmentSize::MIN), ..FetchOptions::default() };
    assert_eq!(fetch(&repo, SEGMENT, &small).await.expect_err("20 MiB").kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn foreign_wal_is_refused() {
    let repo = repository();
    archive(&repo, SEGMENT, &segment(9), Compression::Gzip).await.expect("archived");
    let own = FetchOptions { system_id: Some(42), ..FetchOptions::default() };
    fetch(&repo, SEGMENT, &own).await.expect("ours");
    let other = FetchOptions { system_id: Some(43), ..FetchOptions::default() };
    let error = fetch(&repo, SEGMENT, &other).await.expect_err("foreign");
    assert!(error.report().contains("system identifier 42"), "{}", error.report());
}

#[rstest]
#[case::truncated(b"1\t0/50".as_slice())]
#[case::empty(b"# nothing\n".as_slice())]
#[tokio::test]
async fn damaged_histories_are_corrupt(#[case] content: &'static [u8]) {
    let repo = repository();
    repo.store().put("srv/wals/00000002.history", Bytes::from_static(content)).await.expect("written");
    // The second is damaged in substance only: no parent.
    let outcome = repo.read_history(2).await;
    if content.starts_with(b"#") {
        assert_eq!(outcome.expect_err("damaged").kind(), ErrorKind::Corrupt);
        assert_eq!(
            fetch(&repo, "00000002.history", &FetchOptions::default()).await.expect_err("damaged").kind(),
            ErrorKind::Corrupt
        );
    } else {
        assert!(outcome.is_ok());
    }
}

#[tokio::test]
async fn nothing_is_found_where_nothing_is() {
    let error = fetch(&repository(), SEGMENT, &FetchOptions::default()).await.expect_err("empty");
    assert_eq!((error.kind(), error.exit_code()), (ErrorKind::NotFound, 1));
    assert!(
        error.report().contains(SEGMENT) && error.report().contains("s3://bucket/some/path/srv"),
        "{}",
        error.report()
    );
}

#[tokio::test]
async fn names_that_begin_alike_are_kept_apart() {
    let repo = repository();
    plant(&repo, "0.gz", vec![1]).await;
    plant(&repo, ".unknown", vec![1]).await;
    assert!(repo.find_wal(name(SEGMENT)).await.expect("listed").is_empty());
    let segment: Segment = SEGMENT.parse().expect("valid");
    assert_eq!(repo.list_wal_dir(segment).await.expect("listed").len(), 0);
}
