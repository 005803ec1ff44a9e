//! Barman knows nothing of our encryption. It must fail on such a repository, not mislead.

use crate::barman::{SERVER, World};
use barman_cloud::archive::{ArchiveOptions, WalSource};
use barman_cloud::store::{Cipher, CipherMode, Keyring};
use barman_cloud::{BackupInfo, Compression, Lsn, Repository, SegmentSize};
use bytes::Bytes;
use rstest::rstest;

const SEGMENT: &str = "000000010000000000000004";

/// S0.24: no backup is listed or restored and no readable file is made of an encrypted one.
#[rstest]
#[case::gcm(CipherMode::Aes256Gcm)]
#[case::cbc(CipherMode::Aes256Cbc)]
#[tokio::test]
async fn barman_fails_on_an_encrypted_repository(#[case] mode: CipherMode) {
    let world = World::new().await;
    let cipher = Cipher::new(mode, Keyring::new(&"sesame".into(), &[]).expect("a passphrase"));
    let repository = Repository::new(world.repo.store().with_cipher(&cipher), SERVER).expect("a name");
    let id = "20261121T012341".parse().expect("an id");
    let start = "2026-11-21T01:23:41+00:00".parse().expect("a time");
    let size = SegmentSize::new(16 << 20).expect("valid");
    let begin: Lsn = "0/4000028".parse().expect("an LSN");
    let mut info = BackupInfo::started(1, begin, size, start);
    info.finish(1, "0/4000100".parse().expect("an LSN"), size, start);
    repository.put_backup_info(&id, &info).await.expect("written");
    repository
        .store()
        .put(&format!("{SERVER}/base/{id}/data.tar"), Bytes::from(vec![0; 10240]))
        .await
        .expect("put");
    for codec in [Compression::None, Compression::Gzip] {
        let options = ArchiveOptions { compression: codec, ..ArchiveOptions::default() };
        let name = if codec == Compression::None { SEGMENT } else { "000000010000000000000005" };
        let source = WalSource::Bytes(vec![7; 16 << 20].into());
        repository.archive_wal(name.parse().expect("a name"), source, &options).await.expect("archived");
    }

    let listed = world.run("barman-cloud-backup-list", &["--format", "json"], &[]).await;
    assert!(!String::from_utf8_lossy(&listed.stdout).contains("20261121T012341"), "{listed:?}");
    let dest = world.path("restored");
    let destination = dest.to_str().expect("a text");
    let restored = world.run("barman-cloud-restore", &[], &["20261121T012341", destination]).await;
    assert!(!restored.status.success(), "{restored:?}");

    // A compressed file does not decompress; one that is not compressed cannot be a segment, which PostgreSQL tells by
    // its size before it looks into it.
    let wal = world.path("wal");
    let path = wal.to_str().expect("a text");
    let compressed = world.run("barman-cloud-wal-restore", &[], &["000000010000000000000005", path]).await;
    assert!(!compressed.status.success(), "{compressed:?}");
    let plain = world.run("barman-cloud-wal-restore", &[], &[SEGMENT, path]).await;
    let written = std::fs::read(&wal).unwrap_or_default();
    assert!(!plain.status.success() || written.len() != 16 << 20, "{plain:?}");
    assert!(!written.windows(64).any(|window| window == [7; 64]));
}
