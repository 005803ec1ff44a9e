//! A repository on a volume, reached as instances reach it.

use crate::postgres::{Load, Postgres};
use crate::site::{BUCKET, Site, restored, verify};
use barman_cloud::store::ClientCertificate;
use barman_cloud::{Compression, Destination, S3Options, Store};
use howdah_engine::RestoreRequest;
use howdah_s3::{VolumeServer, WRITER};

fn store(host: &VolumeServer) -> Store {
    let own = host.authority.client(WRITER).expect("a certificate");
    let mut options = S3Options::with_keys("any", "any");
    options.endpoint = Some(host.endpoint());
    options.ca_pem = Some(host.authority.pem().as_bytes().to_vec());
    options.client_certificate = Some(ClientCertificate::pem(own.chain, own.key));
    let destination = Destination::parse(&format!("s3://{BUCKET}/ns/cluster/repo1")).expect("a destination");
    Store::s3(&destination, &options).expect("a store")
}

/// S0.9, S0.10: base backups and WAL go to the repository host over TLS, and come back from it.
#[tokio::test(flavor = "multi_thread")]
async fn a_busy_database_comes_back_from_a_volume() {
    let volume = tempfile::tempdir().expect("a directory");
    let host = VolumeServer::start(BUCKET, volume.path()).await.expect("a free port");
    let site = Site::with_store(store(&host)).await;
    let primary = site.primary_with("main", 16, Compression::Zstd, 3);
    primary.sql("CREATE TABLE t AS SELECT g, md5(g::text) AS x FROM generate_series(1, 50000) g");
    let load = Load::start(&primary);
    let mut request = site.backup_request(&primary, "main");
    request.compression = Compression::Lz4;
    let result = site.backup(&primary, request).await.unwrap_or_else(|error| panic!("{}", error.report()));
    load.stop();
    primary.sql("SELECT pg_create_restore_point('end'); SELECT pg_switch_wal()");
    let (t, counters) = (primary.digest("t"), primary.digest("counters"));
    site.wait_archived(&primary);

    // The host is lost and comes back on its volume.
    host.shutdown().await;
    let host = VolumeServer::start(BUCKET, volume.path()).await.expect("a free port");
    let again = Site::with_store(store(&host)).await;
    let data = again.path().join("restored");
    let back = restored(RestoreRequest::new(again.repository("main"), &data)).await;
    assert_eq!(back.plan.backup_id, result.backup_id);
    let mut copy = Postgres::adopt(again.path(), "restored", &data);
    verify(&copy);
    again.recover(&copy, "main", "recovery_target_name = 'end'");
    copy.start_recovered();
    assert_eq!((copy.digest("t"), copy.digest("counters")), (t, counters));
    assert!(site.keys().await.is_empty(), "nothing went to the other store");
    host.shutdown().await;
}
