//! What the product's own client asks of a store, on the volume's.

use barman_cloud::store::{BodyCheck, Created};
use bytes::Bytes;
use futures::StreamExt;

use crate::host::{BUCKET, Host, noise, open};

const MIB: usize = 1 << 20;

/// S0.8, S0.14: a volume is a repository like any other.
#[tokio::test]
async fn the_products_client_finds_everything_it_wants() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::start(dir.path()).await;
    let store = host.store();
    let features = store.probe("howdah/probe").await.unwrap();
    assert!(features.conditional_writes && features.bulk_delete);
    assert_eq!(features.body_check, BodyCheck::Crc64Nvme);

    let body = noise(3 * MIB + 5);
    let key = "main/wals/0000000100000000/000000010000000000000001";
    store.put(key, body.clone().into()).await.unwrap();
    assert_eq!(store.get(key, 1 << 30).await.unwrap(), body);
    let (info, mut stream) = store.open(key, Some(MIB as u64 - 3..2 * MIB as u64)).await.unwrap();
    assert_eq!(info.size, body.len() as u64);
    let mut got = Vec::new();
    while let Some(piece) = stream.next().await {
        got.extend_from_slice(&piece.unwrap());
    }
    assert_eq!(got, &body[MIB - 3..2 * MIB]);
    assert_eq!(store.create(key, "y".into()).await.unwrap(), Created::Exists);
    assert_eq!(store.get(key, 1 << 30).await.unwrap(), body);
    store.put(key, "replaced".into()).await.unwrap();
    assert_eq!(store.get(key, 100).await.unwrap(), "replaced");

    for i in 0..1100 {
        store.put(&format!("many/{}/{i:05}", i % 3), Bytes::new()).await.unwrap();
    }
    let listed = store.list("many").await.unwrap();
    assert_eq!(listed.len(), 1100);
    assert!(listed.windows(2).all(|pair| pair[0].key < pair[1].key));
    assert_eq!(store.list_dir("many").await.unwrap().dirs, ["0", "1", "2"]);
    let (rest, complete) = store.list_after("many/2", "many/2/01091").await.unwrap().unwrap();
    assert_eq!((rest.len(), complete), (2, true));
    let keys: Vec<String> = listed.into_iter().map(|object| object.key).collect();
    store.delete_many(&keys).await.unwrap();
    assert!(store.list("many").await.unwrap().is_empty());
    assert!(!dir.path().join("objects/some/path/many").exists(), "empty directories go too");
    store.delete("was/never/there").await.unwrap();
    host.end().await;
}

#[tokio::test]
async fn an_upload_in_parts_is_one_object_and_copies_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::start(dir.path()).await;
    let store = host.store();
    let key = "main/base/20261121T000000/data.tar";
    let whole = noise(12 * MIB + 77);
    let pieces: Vec<Bytes> = whole.chunks(5 * MIB).map(Bytes::copy_from_slice).collect();
    let upload = store.upload(key).await.unwrap();
    let mut parts = Vec::new();
    // In whatever order; a part may come twice.
    for (index, piece) in pieces.iter().enumerate().rev().chain([(0, &pieces[0])]) {
        parts.push((index, upload.put_part(index, piece.clone()).await.unwrap()));
    }
    assert!(store.head(key).await.unwrap_err().is_not_found(), "nothing is visible before the end");
    assert_eq!(store.list_uploads("main").await.unwrap().len(), 1);
    parts.sort_by_key(|(index, _)| *index);
    parts.dedup_by_key(|(index, _)| *index);
    upload.complete(parts.into_iter().map(|(_, part)| part).collect()).await.unwrap();
    assert!(store.list_uploads("main").await.unwrap().is_empty());

    let etag = store.head(key).await.unwrap().etag.unwrap();
    assert!(etag.trim_matches('"').ends_with("-3"), "{etag}");
    assert_eq!(store.get(key, 1 << 30).await.unwrap(), whole);
    let (_, mut stream) = store.open(key, Some(5 * MIB as u64 - 2..10 * MIB as u64 + 3)).await.unwrap();
    let mut got = Vec::new();
    while let Some(piece) = stream.next().await {
        got.extend_from_slice(&piece.unwrap());
    }
    assert!(got == whole[5 * MIB - 2..10 * MIB + 3]);

    // A reader keeps what it opened, though the object is replaced; then its parts go.
    let (_, mut reading) = store.open(key, None).await.unwrap();
    let first = reading.next().await.unwrap().unwrap();
    store.put(key, "new".into()).await.unwrap();
    let mut got = first.to_vec();
    while let Some(piece) = reading.next().await {
        got.extend_from_slice(&piece.unwrap());
    }
    assert!(got == whole);
    assert_eq!(store.get(key, 10).await.unwrap(), "new");
    drop(reading);
    host.end().await;
    drop(open(dir.path()));
    assert_eq!(std::fs::read_dir(dir.path().join("parts")).unwrap().count(), 0);
}

#[tokio::test]
async fn an_upload_given_up_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::start(dir.path()).await;
    let store = host.store();
    let upload = store.upload("k").await.unwrap();
    upload.put_part(0, noise(MIB).into()).await.unwrap();
    upload.abort().await.unwrap();
    assert!(upload.put_part(1, noise(10).into()).await.is_err());
    assert_eq!(std::fs::read_dir(dir.path().join("uploads")).unwrap().count(), 0);
    host.end().await;
}

/// Of many writers that must not replace anything one wins, and its content stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_race_of_creators_has_one_winner() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::start(dir.path()).await;
    let store = host.store();
    for round in 0..10 {
        let key = format!("race/{round}");
        let racing = (0..8).map(|i| {
            let (store, key) = (store.clone(), key.clone());
            tokio::spawn(async move { (i, store.create(&key, Bytes::from(i.to_string())).await.unwrap()) })
        });
        let mut winners = Vec::new();
        for racer in racing.collect::<Vec<_>>() {
            let (i, created) = racer.await.unwrap();
            if created == Created::Yes {
                winners.push(i);
            }
        }
        assert_eq!(winners.len(), 1, "{winners:?}");
        assert_eq!(store.get(&key, 10).await.unwrap(), winners[0].to_string());
    }
    host.end().await;
}

/// Removal prunes the directories that writers are about to use.
#[tokio::test(flavor = "multi_thread")]
async fn writers_and_removers_do_not_stumble_over_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::start(dir.path()).await;
    let store = host.store();
    let tasks: Vec<_> = (0..6)
        .map(|task| {
            let store = store.clone();
            tokio::spawn(async move {
                for _ in 0..40 {
                    let key = format!("a/b/c/{task}");
                    store.put(&key, "x".into()).await.unwrap();
                    assert_eq!(store.get(&key, 10).await.unwrap(), "x");
                    store.delete(&key).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert!(store.list("a").await.unwrap().is_empty());
    host.end().await;
}

#[tokio::test]
async fn long_names_and_prefixes_of_each_other_live_together() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::start(dir.path()).await;
    let store = host.store();
    let long = "n".repeat(300);
    let mut keys = vec!["a".to_owned(), "a/b".into(), "a/b/c".into(), "a.b".into(), long.clone()];
    keys.extend([format!("{long}/x"), format!("{long}x"), "odd key/%41+&é".into()]);
    for key in &keys {
        store.put(&format!("in/{key}"), key.clone().into()).await.unwrap();
    }
    for key in &keys {
        assert_eq!(store.get(&format!("in/{key}"), 1000).await.unwrap(), *key);
    }
    let mut wanted: Vec<String> = keys.iter().map(|key| format!("in/{key}")).collect();
    wanted.sort();
    let listed: Vec<String> = store.list("in").await.unwrap().into_iter().map(|o| o.key).collect();
    assert_eq!(listed, wanted);
    host.end().await;
}

/// The repositories are what the pod was given; clients make no others.
#[tokio::test]
async fn other_buckets_cannot_be_made() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    assert!(!store.create(BUCKET).unwrap());
    let error = store.create("other").unwrap_err();
    assert_eq!(error.code().as_str(), "AccessDenied");
}
