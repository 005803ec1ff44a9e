//! Backups of each type on every storage.

use crate::chain::World;
use crate::site::{BUCKET, Site};
use barman_cloud::store::{AzureCredentials, AzureOptions, GcsCredentials, GcsOptions};
use barman_cloud::{BackupType, Destination, Store};
use howdah_emulators::{AZURE_KEY, Emulator, GCS_KEY};
use rstest::rstest;

#[derive(Clone, Copy, Debug)]
enum Storage {
    Google,
    Azure,
}

/// A server and a store in it.
async fn open(storage: Storage) -> (Emulator, Store) {
    let parse = |text: &str| Destination::parse(text).expect("a destination");
    match storage {
        Storage::Google => {
            let emulator = Emulator::gcs(BUCKET).expect("fake-gcs-server");
            let mut options = GcsOptions::new(GcsCredentials::ServiceAccount(GCS_KEY.into()));
            options.endpoint = Some(emulator.endpoint.clone());
            let store = Store::gcs(&parse(&format!("gs://{BUCKET}/some/path")), &options);
            (emulator, store.expect("a store"))
        }
        Storage::Azure => {
            let emulator = Emulator::azure(BUCKET).await.expect("Azurite");
            let options = AzureOptions::new(AzureCredentials::Key(AZURE_KEY.into()));
            let store = Store::azure(&parse(&format!("{}/{BUCKET}/some/path", emulator.endpoint)), &options);
            (emulator, store.expect("a store"))
        }
    }
}

/// S0.7, S1.23, S1.24: a full, a differential and an incremental backup, and what PostgreSQL's own verifier says of each
/// when it is back. On S3 and on volumes other tests do the same.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_chain_comes_back_from_each_storage(#[values(Storage::Google, Storage::Azure)] storage: Storage) {
    let (_emulator, store) = open(storage).await;
    let site = Site::with_store(store).await;
    let mut world = World::at(site, 15, "", &["--wal-segsize=1"]);
    world.primary.sql("CREATE TABLE t AS SELECT g, md5(g::text) AS x FROM generate_series(1, 20000) g");
    for kind in [BackupType::Full, BackupType::Differential, BackupType::Incremental] {
        assert_eq!(world.take(kind).await.kind, kind);
        world.primary.sql("UPDATE t SET x = 'changed' WHERE g % 2000 = 7");
    }
    for number in 0..3 {
        world.check(number).await;
    }
    assert!(world.site.keys().await.is_empty(), "nothing went to the lab's own store");
}
