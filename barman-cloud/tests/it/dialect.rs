//! What a store can do is tried once, remembered, and shared.

use crate::support::{BUCKET, destination, noise, options, server, store, store_with};
use barman_cloud::store::{BodyCheck, Connections, Encryption, Store};
use barman_cloud::{Error, ErrorKind, S3Options};
use bytes::Bytes;
use howdah_s3::{Action, ObjectInfo, Operation, Rule, Server, Tls};
use rstest::rstest;

const PROBE: &str = "srv/howdah/probe";
const SIZE: usize = 6 << 20;

async fn https() -> Server {
    let tls = Tls::self_signed(&[]).expect("a certificate");
    Server::builder().credentials("key", "secret").bucket(BUCKET).tls(tls).start().await.expect("a port")
}

/// One object in one request and one in parts.
async fn write(store: &Store) -> Result<(), Error> {
    store.put("one", noise(SIZE).into()).await?;
    let upload = store.upload("parts").await?;
    let (a, b) = (upload.put_part(0, noise(SIZE).into()), upload.put_part(1, noise(1000).into()));
    let parts = vec![a.await?, b.await?];
    upload.complete(parts).await
}

fn object(server: &Server, key: &str) -> ObjectInfo {
    let objects = server.objects(BUCKET).expect("the bucket");
    objects.into_iter().find(|object| object.key.ends_with(key)).expect("written")
}

#[tokio::test]
async fn a_checksum_that_the_store_checks_takes_the_place_of_the_signature() {
    let server = server().await;
    let store = store(&server);
    assert_eq!(store.features().body_check, BodyCheck::Signature);
    write(&store).await.expect("written");
    assert!(object(&server, "one").checksums.is_empty());
    let found = store.probe(PROBE).await.expect("works");
    assert_eq!((found.body_check, store.clone().features()), (BodyCheck::Crc64Nvme, found));
    write(&store).await.expect("written");
    assert!(object(&server, "one").checksums.contains_key("crc64nvme"));
    assert_eq!(server.get(BUCKET, "some/path/one").await.expect("there"), noise(SIZE));
    assert_eq!(server.objects(BUCKET).expect("the bucket").len(), 2, "the probe is gone");
    // Asking again costs nothing.
    server.clear_requests();
    assert_eq!(store.probe_once(PROBE).await.expect("known"), found);
    assert!(server.requests().is_empty());
}

#[rstest]
#[case::plain(false, BodyCheck::Signature)]
#[case::tls(true, BodyCheck::Transport)]
#[tokio::test]
async fn a_checksum_that_the_store_ignores_is_not_relied_on(#[case] tls: bool, #[case] expected: BodyCheck) {
    let server = if tls { https().await } else { server().await };
    let store = store(&server);
    server.faults().add(Rule::new(Action::IgnoreChecksums));
    assert_eq!(store.probe(PROBE).await.expect("works").body_check, expected);
    server.faults().clear();
    write(&store).await.expect("written");
    assert!(object(&server, "one").checksums.is_empty());
    assert_eq!(server.objects(BUCKET).expect("the bucket").len(), 2, "the probe is gone");
}

/// S0.18: Backblaze B2 was like the first, Cloudflare R2 like the second.
#[rstest]
#[case::unknown_header(400, "InvalidArgument", "Unsupported header 'x-amz-checksum-crc64nvme' received")]
#[case::not_implemented(501, "NotImplemented", "Header 'x-amz-checksum-crc64nvme' not implemented")]
#[case::its_own_failure(500, "InternalError", "panic")]
#[tokio::test]
async fn a_store_that_refuses_checksums_gets_none(
    #[case] status: u16,
    #[case] code: &str,
    #[case] message: &str,
    #[values(false, true)] tls: bool,
) {
    let server = if tls { https().await } else { server().await };
    let store = store(&server);
    let refusal = Action::error(status, code, message);
    server.faults().add(Rule::new(refusal).header("x-amz-checksum-crc64nvme"));
    let expected = if tls { BodyCheck::Transport } else { BodyCheck::Signature };
    assert_eq!(store.probe(PROBE).await.expect("works").body_check, expected);
    write(&store).await.expect("written");
}

/// S0.18: and where nothing less will do.
#[tokio::test]
async fn a_store_that_wants_signatures_gets_them() {
    let server = https().await;
    let store = store(&server);
    let refusal = Action::access_denied();
    server.faults().add(Rule::new(refusal).header("x-amz-content-sha256: UNSIGNED-PAYLOAD"));
    assert_eq!(store.probe(PROBE).await.expect("works").body_check, BodyCheck::Signature);
    write(&store).await.expect("written");
}

#[tokio::test]
async fn a_probe_that_gets_no_answer_learns_nothing() {
    let server = server().await;
    let store = store(&server);
    let throttled = Rule::new(Action::slow_down()).header("x-amz-checksum-crc64nvme");
    server.faults().add(throttled);
    assert_eq!(store.probe(PROBE).await.expect_err("no answer").kind(), ErrorKind::Throttled);
    assert!(server.objects(BUCKET).expect("the bucket").is_empty());
    server.faults().clear();
    assert_eq!(store.probe_once(PROBE).await.expect("works").body_check, BodyCheck::Crc64Nvme);
}

/// Whatever protects a body: one that changed on the way is refused and sent again, or refused for good.
#[rstest]
#[case::signature(false)]
#[case::checksum(true)]
#[tokio::test]
async fn a_body_damaged_on_the_way_is_not_stored(#[case] probed: bool) {
    let server = server().await;
    let store = store(&server);
    if probed {
        assert_eq!(store.probe(PROBE).await.expect("works").body_check, BodyCheck::Crc64Nvme);
    }
    let damage = |operation| Rule::new(Action::CorruptUpload { offset: 3_000_000 }).operation(operation);
    server.faults().add(damage(Operation::PutObject).times(2));
    server.faults().add(damage(Operation::UploadPart).times(2));
    write(&store).await.expect("written in the end");
    assert!(server.get(BUCKET, "some/path/one").await.expect("there") == noise(SIZE));
    assert!(server.get(BUCKET, "some/path/parts").await.expect("there")[..SIZE] == noise(SIZE));
    server.faults().add(damage(Operation::PutObject));
    server.faults().add(damage(Operation::UploadPart));
    let error = store.put("never", noise(SIZE).into()).await.expect_err("always damaged");
    assert!(error.is_transient() && error.report().contains("some/path/never"), "{}", error.report());
    let upload = store.upload("never").await.expect("begun");
    let error = upload.put_part(0, noise(SIZE).into()).await.expect_err("always damaged");
    assert!(error.is_transient(), "{}", error.report());
    assert!(store.head("never").await.expect_err("not stored").is_not_found());
}

fn sharing(server: &Server, connections: &Connections, encryption: Option<Encryption>) -> S3Options {
    let mut options = options(server);
    options.connections = connections.clone();
    options.encryption = encryption;
    options
}

#[tokio::test]
async fn stores_of_one_pool_share_connections_and_what_they_know() {
    let server = server().await;
    let pool = Connections::default();
    let data = store_with(&sharing(&server, &pool, None));
    let wal = store_with(&sharing(&server, &pool, Some(Encryption::Aes256)));
    data.probe(PROBE).await.expect("works");
    assert_eq!(wal.features().body_check, BodyCheck::Crc64Nvme);
    for index in 0..10 {
        data.put(&format!("a{index}"), noise(SIZE).into()).await.expect("written");
        wal.put(&format!("b{index}"), Bytes::from_static(b"x")).await.expect("written");
        wal.list("some").await.expect("listed");
    }
    assert_eq!(server.connections().accepted, 1);
    assert_eq!(object(&server, "b1").sse.as_deref(), Some("AES256"));
    // Another bucket is another store.
    let elsewhere = barman_cloud::Destination::parse("s3://elsewhere/p").expect("valid");
    let other = Store::s3(&elsewhere, &sharing(&server, &pool, None)).expect("valid");
    assert_eq!(other.features().body_check, BodyCheck::Signature);
    // And without the pool a store stands alone.
    let alone = Store::s3(&destination(), &options(&server)).expect("valid");
    alone.list("some").await.expect("listed");
    assert_eq!(server.connections().accepted, 2);
}

#[tokio::test]
async fn connections_that_nobody_uses_are_closed() {
    let server = server().await;
    let mut options = options(&server);
    options.limits.idle = std::time::Duration::from_millis(50);
    let store = store_with(&options);
    let puts = (0..8).map(|index| {
        let store = store.clone();
        async move { store.put(&format!("k{index}"), noise(SIZE).into()).await }
    });
    futures::future::try_join_all(puts).await.expect("written");
    assert!(server.connections().open > 0);
    server.all_connections_closed().await;
    store.put("k", Bytes::from_static(b"x")).await.expect("written");
}
