//! Each operation of the store, and its variants for stores that know less.

use crate::backends::{Kind, backend};
use crate::support::{BUCKET, noise, options, server, store, store_with};
use barman_cloud::ErrorKind;
use barman_cloud::store::{Created, Encryption};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use howdah_s3::{Action, Operation, Rule};
use rstest::rstest;

/// S0.7, S0.18, S1.3: on each storage.
#[rstest]
#[tokio::test]
async fn objects_are_written_read_listed_and_deleted_under_the_prefix(
    #[values(Kind::S3, Kind::Gcs, Kind::Azure)] kind: Kind,
) {
    let backend = backend(kind).await;
    let store = backend.store();
    for key in ["srv/base/A/data.tar", "srv/base/B/data.tar", "srv/base/note", "srv/wals/x"] {
        store.put(key, Bytes::from(key.to_owned())).await.expect("written");
    }
    backend.store_at("some/pathology").put("srv/base/C", "foreign".into()).await.expect("stored");
    assert_eq!(backend.keys().await[0], "some/path/srv/base/A/data.tar");
    assert_eq!(store.get("srv/wals/x", 100).await.expect("read"), "srv/wals/x");
    assert_eq!(store.head("srv/wals/x").await.expect("there").size, 10);
    let listing = store.list_dir("srv/base").await.expect("listed");
    assert_eq!(listing.dirs, ["A", "B"]);
    assert_eq!(listing.objects[0].key, "srv/base/note");
    let all: Vec<String> = store.list("srv").await.expect("listed").into_iter().map(|o| o.key).collect();
    assert_eq!(all, ["srv/base/A/data.tar", "srv/base/B/data.tar", "srv/base/note", "srv/wals/x"]);
    assert!(store.list("nothing/here").await.expect("listed").is_empty());
    store.delete("srv/wals/x").await.expect("deleted");
    store.delete("srv/wals/x").await.expect("deleted already");
    let error = store.get("srv/wals/x", 100).await.expect_err("gone");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.report().contains("/bucket/some/path/srv/wals/x"), "{}", error.report());
}

#[rstest]
#[tokio::test]
async fn prefixes_need_not_end_at_a_slash(#[values(Kind::S3, Kind::Gcs, Kind::Azure)] kind: Kind) {
    let backend = backend(kind).await;
    let store = backend.store();
    for key in ["d/X", "d/X.gz", "d/X.partial", "d/Y", "d/X/sub"] {
        store.put(key, Bytes::from_static(b"1")).await.expect("written");
    }
    if let Some(server) = backend.s3() {
        server.clear_requests();
    }
    let keys: Vec<String> =
        store.list_prefix("d/X").await.expect("listed").into_iter().map(|o| o.key).collect();
    assert_eq!(keys, ["d/X", "d/X.gz", "d/X.partial", "d/X/sub"]);
    assert!(backend.s3().is_none_or(|server| server.requests().len() == 1));
    // Where a listing begins: everything after a key, or the store does not know and says so.
    if let Some((after, complete)) = store.list_after("d", "d/X.gz").await.expect("listed") {
        let keys: Vec<String> = after.into_iter().map(|o| o.key).collect();
        assert!(complete);
        assert_eq!(keys, ["d/X.partial", "d/X/sub", "d/Y"]);
    } else {
        assert_eq!(kind, Kind::Azure, "Azurite lists all");
    }
}

#[rstest]
#[tokio::test]
async fn more_than_a_page_is_listed_and_deleted(#[values(Kind::S3, Kind::Gcs, Kind::Azure)] kind: Kind) {
    let backend = backend(kind).await;
    let store = backend.store();
    futures::stream::iter(0..2100)
        .map(|index| {
            let store = &store;
            async move { store.put(&format!("many/{index:05}"), Bytes::from_static(b"x")).await }
        })
        .buffer_unordered(16)
        .try_collect::<Vec<()>>()
        .await
        .expect("stored");
    let keys: Vec<String> = store.list("many").await.expect("listed").into_iter().map(|o| o.key).collect();
    assert_eq!(keys.len(), 2100);
    assert!(keys.is_sorted());
    assert_eq!(store.list_prefix("many/0").await.expect("listed").len(), 2100);
    if let Some(server) = backend.s3() {
        server.clear_requests();
    }
    store.delete_many(&keys).await.expect("deleted");
    assert!(backend.s3().is_none_or(|server| server.requests().len() == 3));
    assert!(backend.keys().await.is_empty());
}

/// S0.18: not every relative of S3 can delete many at once.
#[tokio::test]
async fn a_store_without_bulk_deletion_deletes_one_by_one() {
    let server = server().await;
    let store = store(&server);
    let refusal = Action::error(
        501,
        "NotImplemented",
        "A header you provided implies functionality that is not implemented",
    );
    let rule = server.faults().add(Rule::new(refusal).operation(Operation::DeleteObjects));
    for round in 0..2 {
        let keys: Vec<String> = (0..5).map(|index| format!("k/{round}/{index}")).collect();
        for key in &keys {
            store.put(key, Bytes::from_static(b"x")).await.expect("written");
        }
        store.delete_many(&keys).await.expect("deleted");
    }
    assert!(server.objects(BUCKET).expect("the bucket").is_empty());
    // Once is enough: afterwards the store is known.
    assert_eq!(server.faults().hits(rule), 1);
}

#[rstest]
#[case::conditional(None)]
#[case::not_implemented(Some(Action::error(501, "NotImplemented", "If-None-Match")))]
#[case::bad_request(Some(Action::error(400, "InvalidArgument", "If-None-Match is not supported")))]
#[tokio::test]
async fn creating_replaces_nothing(#[case] refusal: Option<Action>) {
    let server = server().await;
    let store = store(&server);
    if let Some(action) = refusal {
        server.faults().add(Rule::new(action).operation(Operation::PutObject).key("*/learn").times(1));
        assert_eq!(store.create("learn", Bytes::from_static(b"x")).await.expect("written"), Created::Yes);
        server.faults().clear();
    }
    assert_eq!(store.create("k", Bytes::from_static(b"one")).await.expect("written"), Created::Yes);
    assert_eq!(store.create("k", Bytes::from_static(b"two")).await.expect("seen"), Created::Exists);
    assert_eq!(store.get("k", 10).await.expect("read"), "one");
}

#[rstest]
#[tokio::test]
async fn nothing_is_replaced(#[values(Kind::Gcs, Kind::Azure)] kind: Kind) {
    let backend = backend(kind).await;
    let store = backend.store();
    assert_eq!(store.create("k", Bytes::from_static(b"one")).await.expect("written"), Created::Yes);
    assert_eq!(store.create("k", Bytes::from_static(b"two")).await.expect("seen"), Created::Exists);
    assert_eq!(store.get("k", 10).await.expect("read"), "one");
    // The store does it, not a look before.
    assert!(store.probe("probe").await.expect("works").conditional_writes);
    assert_eq!(backend.keys().await, ["some/path/k"]);
}

#[rstest]
#[tokio::test]
async fn ranges_are_exact(#[values(Kind::S3, Kind::Gcs, Kind::Azure)] kind: Kind) {
    let backend = backend(kind).await;
    let store = backend.store();
    let content = noise(300_000);
    store.put("k", content.clone().into()).await.expect("written");
    for range in [0..1, 1000..250_000, 299_999..300_000] {
        let (info, stream) = store.open("k", Some(range.clone())).await.expect("opened");
        let pieces: Vec<Bytes> = stream.try_collect().await.expect("read");
        assert_eq!(info.size, 300_000);
        assert_eq!(pieces.concat(), content[range.start as usize..range.end as usize]);
    }
    let error = store.open("k", Some(299_999..300_001)).await.err().expect("past the end");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn a_small_object_has_a_limit() {
    let server = server().await;
    let store = store(&server);
    store.put("k", noise(1000).into()).await.expect("written");
    assert_eq!(store.get("k", 999).await.expect_err("too long").kind(), ErrorKind::Corrupt);
    assert_eq!(store.get_if_exists("other", 1).await.expect("absent"), None);
}

#[tokio::test]
async fn tags_and_encryption_are_on_everything_written() {
    let server = server().await;
    let mut options = options(&server);
    options.encryption = Some(Encryption::AwsKms { key_id: Some("the-key".into()) });
    options.tags = vec![("team".into(), "a b/c".into())];
    options.history_tags = vec![("kind".into(), "history".into())];
    let store = store_with(&options);
    for key in ["srv/base/X/backup.info", "srv/wals/00000002.history.gz", "srv/base/X/annotations/keep"] {
        store.put(key, Bytes::from_static(b"x")).await.expect("written");
    }
    let upload = store.upload("srv/base/X/data.tar").await.expect("begun");
    let part = upload.put_part(0, Bytes::from_static(b"x")).await.expect("sent");
    upload.complete(vec![part]).await.expect("completed");
    let seen = |key: &str| {
        let objects = server.objects(BUCKET).expect("the bucket");
        let info = objects.into_iter().find(|o| o.key.ends_with(key)).expect("written");
        let tags: Vec<(String, String)> = info.tags.into_iter().collect();
        (tags, info.sse, info.sse_kms_key_id)
    };
    let pair = |k: &str, v: &str| vec![(k.to_owned(), v.to_owned())];
    let kms = (Some("aws:kms".to_owned()), Some("the-key".to_owned()));
    for (key, tags) in [
        ("backup.info", pair("team", "a b/c")),
        ("data.tar", pair("team", "a b/c")),
        ("history.gz", pair("kind", "history")),
        ("keep", vec![]),
    ] {
        let (found, sse, id) = seen(key);
        assert_eq!((found, (sse, id)), (tags, kms.clone()), "{key}");
    }
}

#[tokio::test]
async fn a_probe_learns_and_leaves_nothing() {
    let server = server().await;
    let store = store(&server);
    server.put(BUCKET, "some/path/srv/howdah/probe", "left over").await.expect("stored");
    assert!(store.probe("srv/howdah/probe").await.expect("works").conditional_writes);
    assert!(server.objects(BUCKET).expect("the bucket").is_empty());
    let refusal = Action::error(501, "NotImplemented", "If-None-Match");
    server.faults().add(Rule::new(refusal).operation(Operation::PutObject).times(1));
    assert!(!store.probe("srv/howdah/probe").await.expect("works").conditional_writes);
    server.faults().add(Rule::new(Action::access_denied()).operation(Operation::DeleteObject));
    assert_eq!(store.probe("srv/howdah/probe").await.expect_err("no deletion").kind(), ErrorKind::Permission);
}

#[tokio::test]
async fn a_probe_notices_changed_bytes() {
    let server = server().await;
    server.faults().add(Rule::new(Action::CorruptBody { offset: 2 }).operation(Operation::GetObject));
    assert_eq!(store(&server).probe("probe").await.expect_err("changed").kind(), ErrorKind::Corrupt);
}
