//! WAL both ways, with every codec.

use crate::barman::{SERVER, World};
use barman_cloud::archive::{ArchiveOptions, FetchOptions, WalSource};
use barman_cloud::store::Created;
use barman_cloud::{Compression, WalName};
use rstest::rstest;

const SEGMENT: &str = "000000010000000000000004";
const HISTORY: &str = "00000002.history";
const HISTORY_TEXT: &str = "1\t0/5000000\tno recovery target specified\n";
const LABEL: &str = "000000010000000000000004.00000028.backup";
const LABEL_TEXT: &str = "START WAL LOCATION: 0/4000028 (file 000000010000000000000004)\n";

/// Sixteen MiB as real WAL is: dense at first, zeros at the end.
fn segment() -> Vec<u8> {
    let mut state = 0x2545_F491_4F6C_DD1Du64;
    let mut bytes: Vec<u8> = (0..9_000_000u32)
        .map(|i| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            if i / 512 % 3 == 0 { state as u8 } else { (i % 29) as u8 }
        })
        .collect();
    bytes.resize(16 << 20, 0);
    bytes
}

/// Barman's option for a codec.
fn option(codec: Compression) -> Vec<&'static str> {
    match codec {
        Compression::None => vec![],
        Compression::Gzip => vec!["--gzip"],
        Compression::Bzip2 => vec!["--bzip2"],
        Compression::Snappy => vec!["--snappy"],
        Compression::Lz4 => vec!["--lz4"],
        Compression::Zstd => vec!["--zstd"],
        Compression::Xz => vec!["--xz"],
    }
}

fn name(text: &str) -> WalName {
    text.parse().expect("a WAL name")
}

/// S2.4: every codec.
#[rstest]
#[case::none(Compression::None)]
#[case::gzip(Compression::Gzip)]
#[case::bzip2(Compression::Bzip2)]
#[case::snappy(Compression::Snappy)]
#[case::lz4(Compression::Lz4)]
#[case::zstd(Compression::Zstd)]
#[case::xz(Compression::Xz)]
#[tokio::test]
async fn barman_reads_our_wal(#[case] codec: Compression) {
    let world = World::new().await;
    let options = ArchiveOptions { compression: codec, ..ArchiveOptions::default() };
    let content = segment();
    for (wal, content) in [(SEGMENT, content.clone()), (HISTORY, HISTORY_TEXT.into())] {
        let archived = world.repo.archive_wal(name(wal), WalSource::Bytes(content.into()), &options).await;
        assert_eq!(archived.expect("archived").created, Created::Yes);
    }
    let spool = world.path("spool");
    let spool = spool.to_str().expect("text");
    for (wal, content) in [(SEGMENT, content.as_slice()), (HISTORY, HISTORY_TEXT.as_bytes())] {
        let dest = world.path(wal);
        world
            .ok("barman-cloud-wal-restore", &["--spool-dir", spool], &[wal, dest.to_str().expect("text")])
            .await;
        assert!(std::fs::read(&dest).expect("restored") == content, "{wal} is another");
    }
}

/// S2.4: every codec.
#[rstest]
#[case::none(Compression::None)]
#[case::gzip(Compression::Gzip)]
#[case::bzip2(Compression::Bzip2)]
#[case::snappy(Compression::Snappy)]
#[case::lz4(Compression::Lz4)]
#[case::zstd(Compression::Zstd)]
#[case::xz(Compression::Xz)]
#[tokio::test]
async fn we_read_barmans_wal(#[case] codec: Compression) {
    let world = World::new().await;
    let content = segment();
    let partial = format!("{SEGMENT}.partial");
    let files: [(&str, &[u8]); 4] = [
        (SEGMENT, &content),
        (&partial, &content),
        (HISTORY, HISTORY_TEXT.as_bytes()),
        (LABEL, LABEL_TEXT.as_bytes()),
    ];
    for (wal, content) in files {
        let source = world.path(wal);
        std::fs::write(&source, content).expect("writing");
        world.ok("barman-cloud-wal-archive", &option(codec), &[source.to_str().expect("text")]).await;
    }
    for (wal, content) in files {
        let found = world.repo.find_wal(name(wal)).await.expect("listed");
        assert_eq!(found[0].compression, codec);
        assert_eq!(found[0].object.key, world.repo.layout().wal(name(wal), codec));
        let dest = world.path("fetched");
        let fetched =
            world.repo.fetch_wal(name(wal), &dest, &FetchOptions::default()).await.expect("fetched");
        assert_eq!(fetched.object.name, name(wal));
        assert!(std::fs::read(&dest).expect("fetched") == content, "{wal} is another");
        // Ours again is the same, whatever the codec; nothing is added.
        let options = ArchiveOptions { compression: Compression::Lz4, ..ArchiveOptions::default() };
        let again =
            world.repo.archive_wal(name(wal), WalSource::Bytes(content.to_vec().into()), &options).await;
        assert_eq!(again.expect("the same").created, Created::Exists);
    }
    assert_eq!(world.keys().len(), 4);
    let history = world.repo.read_history(2).await.expect("read").expect("there");
    assert_eq!(history.entries()[0].reason, "no recovery target specified");
}

#[tokio::test]
async fn barman_sees_that_our_archive_is_not_empty() {
    let world = World::new().await;
    world.ok("barman-cloud-check-wal-archive", &[], &[]).await;
    let options = ArchiveOptions { compression: Compression::Gzip, ..ArchiveOptions::default() };
    world
        .repo
        .archive_wal(name(SEGMENT), WalSource::Bytes(segment().into()), &options)
        .await
        .expect("archived");
    let output = world.run("barman-cloud-check-wal-archive", &[], &[]).await;
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains(SERVER) || text.contains("archive"), "{text}");
}
