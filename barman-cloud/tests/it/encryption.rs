//! Encrypted repositories: what goes in comes out, in both modes, and nothing of it can be read in the bucket.

use crate::support::{BUCKET, noise, repository, server, store};
use barman_cloud::archive::{ArchiveOptions, FetchOptions, WalSource};
use barman_cloud::store::{Cipher, CipherMode, Created, Keyring, MIN_PART};
use barman_cloud::{Compression, Destination, ErrorKind, Repository, Store, WalName};
use bytes::Bytes;
use futures::TryStreamExt;
use howdah_s3::{Action, Operation, Rule};
use rstest::rstest;
use std::path::Path;

pub const PASSPHRASE: &str = "correct horse battery staple";

pub fn cipher(mode: CipherMode, current: &str, former: &[&str]) -> Cipher {
    let former: Vec<_> = former.iter().map(|text| (*text).into()).collect();
    Cipher::new(mode, Keyring::new(&current.into(), &former).expect("good passphrases"))
}

fn memory() -> Store {
    Store::memory(&Destination::parse("s3://bucket/some/path").expect("valid"))
}

pub fn encrypted(store: &Store, mode: CipherMode) -> Store {
    store.with_cipher(&cipher(mode, PASSPHRASE, &[]))
}

async fn read(store: &Store, key: &str) -> Vec<u8> {
    let (_, stream) = store.open(key, None).await.expect("opened");
    let pieces: Vec<Bytes> = stream.try_collect().await.expect("read");
    pieces.concat()
}

/// Sends an object in parts of `room` bytes, as backups do; gives the sizes of the parts.
async fn upload(store: &Store, key: &str, mut content: &[u8], room: usize) -> Vec<usize> {
    let mut sealer = store.sealer(key).await.expect("a sealer");
    let upload = store.upload(key).await.expect("begun");
    let (mut bodies, mut out) = (Vec::new(), Vec::new());
    while !content.is_empty() {
        let taken = sealer.fill(&mut out, room, content).expect("encrypts");
        content = &content[taken..];
        if out.len() == room {
            bodies.push(std::mem::take(&mut out));
        }
    }
    while !sealer.finish(&mut out, room).expect("encrypts") {
        bodies.push(std::mem::take(&mut out));
    }
    bodies.push(out);
    bodies.retain(|body| !body.is_empty());
    let sizes = bodies.iter().map(Vec::len).collect();
    let mut parts = Vec::new();
    for (index, body) in bodies.into_iter().enumerate() {
        parts.push(upload.put_part(index, body.into()).await.expect("sent"));
    }
    upload.complete(parts).await.expect("completed");
    sizes
}

/// S0.24, S1.29: both ways of writing, at every edge of blocks and parts.
#[rstest]
#[tokio::test]
async fn bodies_of_all_sizes_come_back(
    #[values(CipherMode::Aes256Gcm, CipherMode::Aes256Cbc)] mode: CipherMode,
) {
    const ROOM: usize = 128 << 10;
    let store = encrypted(&memory(), mode);
    let block = (64 << 10) - 16;
    let edges =
        [0, 16, 32, 48, block - 48, block, 2 * block - 48, ROOM - 96, ROOM - 48, ROOM, 3 * ROOM, 5 * block];
    for size in edges.into_iter().flat_map(|edge: usize| [edge.saturating_sub(1), edge, edge + 1]) {
        let content = noise(size);
        let stored = store.stored_size("srv/a/b", size as u64);
        store.put("srv/a/b", content.clone().into()).await.expect("written");
        assert_eq!(store.head("srv/a/b").await.expect("there").size, stored, "{mode} {size}");
        assert!(store.get("srv/a/b", size as u64).await.expect("read") == content, "{mode} {size}");
        let parts = upload(&store, "srv/a/c", &content, ROOM).await;
        assert_eq!(parts.iter().sum::<usize>() as u64, stored, "{mode} {size}");
        assert!(parts[..parts.len() - 1].iter().all(|part| *part == ROOM), "{mode} {size}: {parts:?}");
        assert!(read(&store, "srv/a/c").await == content, "{mode} {size}");
    }
    let error = store.get("srv/a/b", 1000).await.expect_err("too large");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

#[rstest]
#[tokio::test]
async fn ranges_are_of_the_content(#[values(CipherMode::Aes256Gcm, CipherMode::Aes256Cbc)] mode: CipherMode) {
    let store = encrypted(&memory(), mode);
    let content = noise(300_000);
    store.put("srv/a", content.clone().into()).await.expect("written");
    let first = (64 << 10) - 64;
    for (begin, end) in [
        (0, 1),
        (0, 300_000),
        (5, 20),
        (first - 1, first + 1),
        (first, first + 65_520),
        (first + 65_520, 299_999),
        (299_999, 300_000),
        (100_000, 200_000),
    ] {
        let range = Some(begin as u64..end as u64);
        let (info, stream) = store.open("srv/a", range).await.expect("opened");
        assert_eq!(info.size, store.stored_size("srv/a", 300_000));
        let pieces: Vec<Bytes> = stream.try_collect().await.expect("read");
        assert!(pieces.concat() == content[begin..end], "{mode} {begin}..{end}");
    }
    let beyond = async {
        let (_, stream) = store.open("srv/a", Some(299_990..300_001)).await?;
        stream.try_collect::<Vec<Bytes>>().await
    };
    assert_eq!(beyond.await.expect_err("beyond the end").kind(), ErrorKind::Corrupt);
}

/// S0.24: broken connections are gone on from below the decryption.
#[rstest]
#[case::at_once(Action::Reset { after_bytes: 0 })]
#[case::in_the_middle(Action::Reset { after_bytes: 700_001 })]
#[tokio::test]
async fn reading_goes_on_where_it_broke(
    #[case] action: Action,
    #[values(CipherMode::Aes256Gcm, CipherMode::Aes256Cbc)] mode: CipherMode,
) {
    let server = server().await;
    let store = encrypted(&store(&server), mode);
    let content = noise(1_500_000);
    store.put("srv/k", content.clone().into()).await.expect("written");
    let rule = server.faults().add(Rule::new(action).operation(Operation::GetObject).times(2));
    assert!(read(&store, "srv/k").await == content);
    assert_eq!(server.faults().hits(rule), 2);
}

#[tokio::test]
async fn uploads_of_an_encrypted_store_take_no_plain_part() {
    let server = server().await;
    let store = encrypted(&store(&server), CipherMode::Aes256Gcm);
    let upload = store.upload("srv/k").await.expect("begun");
    let error = upload.put_part(0, noise(100).into()).await.expect_err("plain");
    assert_eq!(error.kind(), ErrorKind::Invalid, "{}", error.report());
    // An upload that is taken up again can be given up, not gone on with.
    let again = store.resume_upload("srv/k", upload.id()).expect("taken up");
    let error = again.put_part(1, noise(100).into()).await.expect_err("not known how");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    again.abort().await.expect("given up");
    assert!(store.list_uploads("srv").await.expect("listed").is_empty());
}

#[tokio::test]
async fn parts_are_those_that_stores_demand() {
    let server = server().await;
    let store = encrypted(&store(&server), CipherMode::Aes256Gcm);
    let (content, part) = (noise(11 << 20), MIN_PART as usize);
    let parts = upload(&store, "srv/base/20261121T012341/data.tar", &content, part).await;
    assert_eq!(parts[..2], [part, part]);
    assert!(read(&store, "srv/base/20261121T012341/data.tar").await == content);
}

fn wal() -> WalName {
    "000000010000000000000001".parse().expect("a name")
}

async fn fetched(repository: &Repository, dir: &Path) -> barman_cloud::Result<Vec<u8>> {
    let dest = dir.join("wal");
    repository.fetch_wal(wal(), &dest, &FetchOptions::default()).await?;
    Ok(std::fs::read(dest).expect("a file"))
}

/// The archive's rule holds for what was encrypted: one name, one content, in whatever compression. Segments that go in
/// one request and those that go in parts.
#[rstest]
#[tokio::test]
async fn a_wal_name_stands_for_one_content(
    #[values(CipherMode::Aes256Gcm, CipherMode::Aes256Cbc)] mode: CipherMode,
    #[values(1 << 20, 64 << 20)] size: usize,
) {
    let server = server().await;
    let repository = Repository::new(encrypted(&store(&server), mode), "srv").expect("a name");
    let (content, other): (Bytes, Bytes) = (noise(size).into(), vec![0; size].into());
    let plain = ArchiveOptions::default();
    let lz4 = ArchiveOptions { compression: Compression::Lz4, ..plain.clone() };
    let archive = async |content: &Bytes, options: &ArchiveOptions| {
        repository.archive_wal(wal(), WalSource::Bytes(content.clone()), options).await
    };
    let first = archive(&content, &plain).await.expect("archived");
    assert_eq!(first.created, Created::Yes);
    assert_eq!(first.stored, mode.stored_size(size as u64));
    for options in [&plain, &lz4] {
        assert_eq!(archive(&content, options).await.expect("the same").created, Created::Exists);
        let error = archive(&other, options).await.expect_err("other content");
        assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{}", error.report());
    }
    let dir = tempfile::tempdir().expect("a directory");
    assert!(fetched(&repository, dir.path()).await.expect("fetched") == content);
}

/// S0.24: a repository with everything in it that can be written through the library, none of it readable.
#[rstest]
#[tokio::test]
async fn the_bucket_holds_no_plaintext(
    #[values(CipherMode::Aes256Gcm, CipherMode::Aes256Cbc)] mode: CipherMode,
) {
    const PATTERN: &[u8] = b"7710429130419897343";
    let server = server().await;
    let open = Repository::new(encrypted(&store(&server), mode), "srv").expect("a name");
    let identifier = std::str::from_utf8(PATTERN).expect("a text");
    open.claim(identifier, Some(identifier), chrono::Utc::now()).await.expect("claimed");
    let segment: Bytes = PATTERN.repeat((1 << 20) / PATTERN.len() + 1)[..1 << 20].to_vec().into();
    let options = ArchiveOptions::default();
    open.archive_wal(wal(), WalSource::Bytes(segment.clone()), &options).await.expect("archived");
    upload(open.store(), "srv/base/20261121T012341/data.tar", &segment, MIN_PART as usize).await;
    let mut keys = Vec::new();
    for object in server.objects(BUCKET).expect("a bucket") {
        let body = server.get(BUCKET, &object.key).await.expect("there");
        let found = |pattern: &[u8]| body.windows(pattern.len()).any(|window| window == pattern);
        assert!(!found(PATTERN) && !found(PASSPHRASE.as_bytes()), "{}", object.key);
        let key = object.key.contains("/howdah/keys/");
        assert_eq!(body.starts_with(b"HOWDAHEN"), !key, "{}", object.key);
        if key {
            keys.push(object.key);
        }
    }
    // The repository's own, one of the WAL's day and one of the backup.
    assert_eq!(keys.len(), 3, "{keys:?}");
    let plain = repository(&server);
    let error = plain.store().get(&plain.layout().lineage(), 1 << 20).await.expect_err("encrypted");
    assert_eq!(error.kind(), ErrorKind::Credentials);
    assert!(open.lineage().await.expect("read").is_some());
}

#[tokio::test]
async fn a_probe_of_an_encrypted_store_learns_the_same() {
    let server = server().await;
    let (plain, open) = (repository(&server), encrypted(&store(&server), CipherMode::Aes256Cbc));
    let open = Repository::new(open, "srv").expect("a name");
    assert_eq!(open.learn().await, plain.learn().await);
    assert!(server.objects(BUCKET).expect("a bucket").is_empty(), "a probe makes no keys");
}
