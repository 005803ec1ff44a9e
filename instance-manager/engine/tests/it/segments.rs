//! WAL segments of every size, written by a real server and fetched back.

use crate::postgres::Postgres;
use crate::site::Site;
use barman_cloud::{Compression, SegmentSize};
use howdah_engine::{Archiver, ArchiverConfig, ControlData, Restorer, RestorerConfig, WalFetch};
use rstest::rstest;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Writes a little, closes the segment, and again.
fn write_some(primary: &Postgres, rounds: u32) {
    primary.sql("CREATE TABLE t (x text)");
    for _ in 0..rounds {
        primary.sql("INSERT INTO t SELECT md5(g::text) FROM generate_series(1, 1000) g");
        primary.sql("SELECT pg_switch_wal()");
    }
}

/// Segments that were archived and are still in `pg_wal`.
fn archived(data: &Path) -> Vec<String> {
    let files = std::fs::read_dir(data.join("pg_wal/archive_status")).expect("lists");
    let mut names: Vec<String> = files
        .filter_map(|file| Some(file.ok()?.file_name().to_str()?.strip_suffix(".done")?.to_owned()))
        .filter(|name| name.len() == 24 && data.join("pg_wal").join(name).exists())
        .collect();
    names.sort();
    names
}

/// Whether two files are the same, without holding them in memory.
fn same(a: &Path, b: &Path) -> bool {
    let (mut a, mut b) = (File::open(a).expect("opens"), File::open(b).expect("opens"));
    let (mut left, mut right) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    loop {
        let count = a.read(&mut left).expect("reads");
        if count == 0 {
            return b.read(&mut right).expect("reads") == 0;
        }
        if b.read_exact(&mut right[..count]).is_err() || left[..count] != right[..count] {
            return false;
        }
    }
}

fn restorer(site: &Site, data: &Path, server: &str) -> Restorer {
    Restorer::new(RestorerConfig {
        repository: site.repository(server),
        pgdata: data.to_owned(),
        spool: site.path().join("spool"),
        max_parallel: 4,
        allow_partial: false,
    })
}

async fn fetched_as_written(site: &Site, data: &Path, server: &str, names: &[String]) {
    let restorer = restorer(site, data, server);
    let dest: PathBuf = data.join("pg_wal/RECOVERYXLOG");
    for name in names {
        let fetch = restorer.restore(name, &dest).await.unwrap_or_else(|error| panic!("{}", error.report()));
        assert_eq!(fetch, WalFetch::Restored);
        assert!(same(&dest, &data.join("pg_wal").join(name)), "{name} differs");
        std::fs::remove_file(&dest).expect("removes");
    }
    restorer.shutdown().await.expect("stops");
}

#[rstest]
#[case::smallest(1, Compression::Gzip)]
#[case::in_parts(64, Compression::None)]
#[case::largest(1024, Compression::Zstd)]
#[tokio::test(flavor = "multi_thread")]
async fn a_server_archives_segments_of_every_size(#[case] mib: u32, #[case] codec: Compression) {
    let site = Site::new().await;
    let mut primary = site.primary_with("sized", mib, codec, 2);
    write_some(&primary, 2);
    site.wait_archived(&primary);
    primary.stop();
    let size = ControlData::read(&primary.data).expect("reads").wal_segment_size;
    assert_eq!(size, SegmentSize::new(u64::from(mib) << 20).expect("a size"));
    let names = archived(&primary.data);
    assert!(names.len() >= 2, "{names:?}");
    fetched_as_written(&site, &primary.data, "sized", &names).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_codec_gives_back_what_a_server_wrote() {
    let site = Site::new().await;
    let mut primary = site.primary_with("coded", 1, Compression::None, 2);
    write_some(&primary, 3);
    site.wait_archived(&primary);
    primary.stop();
    let names = archived(&primary.data);
    for codec in Compression::ALL {
        let archiver = Archiver::new(ArchiverConfig {
            pgdata: primary.data.clone(),
            repository: site.repository(codec.as_str()),
            compression: codec,
            compression_level: None,
            max_parallel: 2,
            claimed_by: None,
        });
        for name in &names {
            archiver
                .archive(&Path::new("pg_wal").join(name))
                .await
                .unwrap_or_else(|error| panic!("{}", error.report()));
        }
        fetched_as_written(&site, &primary.data, codec.as_str(), &names).await;
    }
}
