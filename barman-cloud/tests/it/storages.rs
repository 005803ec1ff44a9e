//! Google Cloud Storage and Azure Blob Storage: reads over wires that break, credentials, errors, tags.

use crate::backends::{Backend, Kind, backend};
use crate::proxy::Wire;
use crate::support::{BUCKET, limits, noise};
use barman_cloud::archive::{ArchiveOptions, FetchOptions, WalSource};
use barman_cloud::store::{AzureCredentials, AzureOptions, BodyCheck, Created, GcsCredentials, GcsOptions};
use barman_cloud::{Compression, Destination, ErrorKind, Store, WalName};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use chrono::{Duration, SecondsFormat, Utc};
use futures::{StreamExt, TryStreamExt};
use howdah_emulators::{AZURE_ACCOUNT as ACCOUNT, AZURE_KEY as KEY};
use rstest::rstest;

const SIZE: usize = 1_500_000;

#[rstest]
#[tokio::test]
async fn a_read_goes_on_where_the_wire_broke(#[values(Kind::S3, Kind::Gcs, Kind::Azure)] kind: Kind) {
    let backend = backend(kind).await;
    let content = noise(SIZE);
    backend.store().put("k", content.clone().into()).await.expect("written");
    let wire = Wire::new(backend.address(), 400_000, 3).await;
    let store = backend.store_in(BUCKET, "some/path", wire.address());
    let (_, stream) = store.open("k", Some(1000..SIZE as u64)).await.expect("opened");
    let pieces: Vec<Bytes> = stream.try_collect().await.expect("read in the end");
    assert!(pieces.concat() == content[1000..]);
    assert_eq!(wire.broken(), 3);
}

#[rstest]
#[tokio::test]
async fn an_object_replaced_while_read_is_noticed(#[values(Kind::S3, Kind::Gcs, Kind::Azure)] kind: Kind) {
    let backend = backend(kind).await;
    let ours = backend.store();
    ours.put("k", noise(SIZE).into()).await.expect("written");
    let wire = Wire::new(backend.address(), 300_000, 1).await;
    let store = backend.store_in(BUCKET, "some/path", wire.address());
    let (_, mut stream) = store.open("k", None).await.expect("opened");
    stream.next().await.expect("a piece").expect("read");
    ours.put("k", vec![0; SIZE].into()).await.expect("replaced");
    let outcome: barman_cloud::Result<Vec<Bytes>> = stream.try_collect().await;
    let error = outcome.expect_err("another object");
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{}", error.report());
    assert!(error.remedy().contains("replaced"), "{}", error.report());
}

/// S1.3: WAL goes to and comes from each storage.
#[rstest]
#[tokio::test]
async fn wal_is_archived_and_fetched(#[values(Kind::S3, Kind::Gcs, Kind::Azure)] kind: Kind) {
    let backend = backend(kind).await;
    let repository = backend.repository();
    let name: WalName = "000000010000000000000007".parse().expect("valid");
    let options = ArchiveOptions { compression: Compression::Gzip, ..ArchiveOptions::default() };
    let mut segment = noise(400_000);
    segment.resize(1 << 20, 0);
    let source = || WalSource::Bytes(Bytes::from(segment.clone()));
    let archived = repository.archive_wal(name, source(), &options).await.expect("archived");
    assert_eq!(archived.created, Created::Yes);
    let again = repository.archive_wal(name, source(), &options).await.expect("the same");
    assert_eq!(again.created, Created::Exists);
    let other = WalSource::Bytes(Bytes::from(vec![7; 1 << 20]));
    assert!(
        repository.archive_wal(name, other, &options).await.is_err(),
        "other content under the same name"
    );
    let dir = tempfile::tempdir().expect("a directory");
    let dest = dir.path().join("wal");
    repository.fetch_wal(name, &dest, &FetchOptions::default()).await.expect("fetched");
    assert!(std::fs::read(&dest).expect("written") == segment);
}

#[rstest]
#[tokio::test]
async fn a_missing_bucket_is_named(#[values(Kind::Gcs, Kind::Azure)] kind: Kind) {
    let backend = backend(kind).await;
    let store = backend.store_in("nowhere", "path", &backend.address());
    let mut outcomes = vec![
        store.put("k", Bytes::from_static(b"x")).await.expect_err("no bucket"),
        store.list("k").await.expect_err("no bucket"),
        store.list_prefix("k").await.expect_err("no bucket"),
    ];
    if kind == Kind::Azure {
        // The emulator of Google says the same of a missing object and of a missing bucket.
        outcomes.push(store.get("k", 1).await.expect_err("no container"));
        outcomes.push(store.head("k").await.expect_err("no container"));
    }
    for error in outcomes {
        assert_eq!((error.kind(), error.exit_code()), (ErrorKind::BucketMissing, 1), "{}", error.report());
        assert!(error.report().contains("nowhere/path/k"), "{}", error.report());
    }
    let found = store.conformance("srv/howdah/probe").await;
    assert_eq!((found.len(), found[0].kind), (1, Some(ErrorKind::BucketMissing)), "{found:?}");
}

#[rstest]
#[tokio::test]
async fn bodies_are_protected(#[values(Kind::Gcs, Kind::Azure)] kind: Kind) {
    let backend = backend(kind).await;
    let check = if kind == Kind::Gcs { BodyCheck::Crc32c } else { BodyCheck::Crc64Nvme };
    assert_eq!(backend.store().features().body_check, check);
    assert_eq!(backend.store().probe("probe").await.expect("works").body_check, check);
}

/// S1.24: as the portal of Azure shows it.
#[tokio::test]
async fn a_connection_string_is_enough() {
    let backend = backend(Kind::Azure).await;
    let text = format!(
        "DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint=http://{}/{ACCOUNT};\n",
        backend.address()
    );
    let store = azure("azure://bucket/some/path", AzureCredentials::ConnectionString(text.into()));
    store.put("k", Bytes::from_static(b"x")).await.expect("written");
    assert_eq!(backend.keys().await, ["some/path/k"]);
}

fn azure(destination: &str, credentials: AzureCredentials) -> Store {
    let mut options = AzureOptions::new(credentials);
    options.limits = limits();
    Store::azure(&Destination::parse(destination).expect("valid"), &options).expect("valid settings")
}

/// A shared access signature of the container, as the portal makes them.
fn signature(permissions: &str, valid_for: Duration) -> String {
    let time = |at: chrono::DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Secs, true);
    let (start, end) = (time(Utc::now() - Duration::days(2)), time(Utc::now() + valid_for));
    let version = "2020-12-06";
    let resource = format!("/blob/{ACCOUNT}/{BUCKET}");
    let signed = [permissions, &start, &end, &resource, "", "", "", version, "c", "", "", "", "", "", "", ""]
        .join("\n");
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &BASE64_STANDARD.decode(KEY).expect("base64"));
    let tag = BASE64_STANDARD.encode(ring::hmac::sign(&key, signed.as_bytes()));
    let encoded: String = url::form_urlencoded::byte_serialize(tag.as_bytes()).collect();
    format!("?sv={version}&st={start}&se={end}&sr=c&sp={permissions}&sig={encoded}\n")
}

fn with_signature(backend: &Backend, signature: &str) -> Store {
    azure(
        &format!("http://{}/{ACCOUNT}/{BUCKET}/some/path", backend.address()),
        AzureCredentials::Sas(signature.into()),
    )
}

/// S1.24, S0.20: a signature for the container is enough, and never told.
#[tokio::test]
async fn a_shared_access_signature_is_enough() {
    let backend = backend(Kind::Azure).await;
    let store = with_signature(&backend, &signature("racwdlt", Duration::days(1)));
    store.put("k", Bytes::from_static(b"x")).await.expect("written");
    assert_eq!(store.list_prefix("k").await.expect("listed").len(), 1);
    let upload = store.upload("srv/big").await.expect("begun");
    let part = upload.put_part(0, Bytes::from_static(b"x")).await.expect("sent");
    upload.complete(vec![part]).await.expect("completed");
    store.delete_many(&["k".into(), "srv/big".into()]).await.expect("deleted");
    assert!(backend.keys().await.is_empty());
}

#[tokio::test]
async fn an_expired_signature_is_told_from_a_missing_permission() {
    let backend = backend(Kind::Azure).await;
    let expired = signature("racwdl", -Duration::days(1));
    let error =
        with_signature(&backend, &expired).put("k", Bytes::from_static(b"x")).await.expect_err("expired");
    assert_eq!(error.kind(), ErrorKind::Credentials, "{}", error.report());
    let sig = expired.split("sig=").nth(1).expect("signed").trim();
    assert!(!error.report().contains(sig), "{}", error.report());

    let reading = with_signature(&backend, &signature("rl", Duration::days(1)));
    let error = reading.put("k", Bytes::from_static(b"x")).await.expect_err("reading only");
    assert_eq!(error.kind(), ErrorKind::Permission, "{}", error.report());
    assert!(error.remedy().contains("racwd"), "{}", error.report());
}

#[tokio::test]
async fn a_wrong_key_is_no_missing_permission() {
    let backend = backend(Kind::Azure).await;
    let destination = format!("http://{}/{ACCOUNT}/{BUCKET}/p", backend.address());
    let store = azure(&destination, AzureCredentials::Key(BASE64_STANDARD.encode("wrong-sesame").into()));
    let outcomes = [
        store.put("k", Bytes::from_static(b"x")).await.expect_err("refused"),
        store.list("k").await.expect_err("refused"),
        store.delete_many(&["a".into(), "b".into()]).await.expect_err("refused"),
    ];
    for error in outcomes {
        assert_eq!((error.kind(), error.exit_code()), (ErrorKind::Credentials, 4), "{}", error.report());
        assert!(error.remedy().contains("key") && !error.report().contains("sesame"), "{}", error.report());
    }
}

/// Tags of what is written at once, in parts, and of history files; the keep annotation has none.
#[tokio::test]
async fn azure_has_tags() {
    let backend = backend(Kind::Azure).await;
    let mut options = AzureOptions::new(AzureCredentials::Key(KEY.into()));
    options.tags = vec![("team".into(), "a b/c".into())];
    options.history_tags = vec![("kind".into(), "history".into())];
    let url = format!("http://{}/{ACCOUNT}/{BUCKET}/some/path", backend.address());
    let store = Store::azure(&Destination::parse(&url).expect("valid"), &options).expect("valid");
    for key in ["srv/base/X/backup.info", "srv/wals/00000002.history.gz", "srv/base/X/annotations/keep"] {
        store.put(key, Bytes::from_static(b"x")).await.expect("written");
    }
    let upload = store.upload("srv/base/X/data.tar").await.expect("begun");
    let part = upload.put_part(0, Bytes::from_static(b"x")).await.expect("sent");
    upload.complete(vec![part]).await.expect("completed");
    for (key, tag) in [
        ("srv/base/X/backup.info", Some("<Key>team</Key><Value>a b/c</Value>")),
        ("srv/base/X/data.tar", Some("<Key>team</Key><Value>a b/c</Value>")),
        ("srv/wals/00000002.history.gz", Some("<Key>kind</Key><Value>history</Value>")),
        ("srv/base/X/annotations/keep", None),
    ] {
        let tags = backend.tags(&format!("some/path/{key}")).await;
        match tag {
            Some(tag) => assert!(tags.contains(tag), "{key}: {tags}"),
            None => assert!(!tags.contains("<Tag>"), "{key}: {tags}"),
        }
    }
}

#[test]
fn google_has_no_tags() {
    let mut options = GcsOptions::new(GcsCredentials::Inherit);
    options.tags = vec![("team".into(), "db".into())];
    let error = Store::gcs(&Destination::parse("gs://b/p").expect("valid"), &options).expect_err("no tags");
    assert_eq!(error.exit_code(), 3);
    assert!(
        error.report().contains("gs://b/p") && error.remedy().contains("historyTags"),
        "{}",
        error.report()
    );
}

/// S0.20, S1.23: what is wrong with a key is said, and nothing of it.
#[rstest]
#[case::no_json("sesame")]
#[case::other_kind(r#"{"type":"external_account","client_email":"a@b","sesame":1}"#)]
#[case::no_key(r#"{"type":"service_account","client_email":"a@b"}"#)]
#[case::broken_key(
    r#"{"type":"service_account","client_email":"a@b","private_key":"sesame","private_key_id":"1"}"#
)]
#[tokio::test]
async fn a_broken_service_account_key_is_refused(#[case] json: &str) {
    let options = GcsOptions::with_key(json);
    let error = Store::gcs(&Destination::parse("gs://b/p").expect("valid"), &options).expect_err("no key");
    assert_eq!(error.kind(), ErrorKind::Credentials, "{}", error.report());
    assert!(!error.report().contains("sesame"), "{}", error.report());
    assert!(error.remedy().contains("service account"), "{}", error.report());
}
