//! The disk store after a restart.

use howdah_s3::Server;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStoreExt, PutPayload};

use crate::{noise, store};

async fn open(dir: &std::path::Path) -> Server {
    Server::builder().disk(dir).credentials("key", "secret").bucket("bucket").start().await.unwrap()
}

#[tokio::test]
async fn everything_acknowledged_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let server = open(dir.path()).await;
    let client = store(&server, 0);
    for key in ["a", "a/b", "a/b/c", "odd key/%41+&"] {
        client.put(&Path::from(key), PutPayload::from(noise(key.len() * 1000))).await.unwrap();
    }
    client.put(&Path::from("gone"), "v".into()).await.unwrap();
    client.delete(&Path::from("gone")).await.unwrap();
    let mut upload = client.put_multipart(&Path::from("open")).await.unwrap();
    upload.put_part(vec![3u8; 100].into()).await.unwrap();
    let (objects, uploads) = (server.objects("bucket").unwrap(), server.uploads("bucket").unwrap());
    server.shutdown().await;

    let server = open(dir.path()).await;
    assert_eq!(server.objects("bucket").unwrap(), objects);
    assert_eq!(server.uploads("bucket").unwrap(), uploads);
    for object in &objects {
        let length = usize::try_from(object.size).unwrap();
        assert_eq!(server.get("bucket", &object.key).await.unwrap(), noise(length), "{}", object.key);
    }
    server.shutdown().await;
}

#[tokio::test]
async fn a_reader_keeps_the_version_it_opened() {
    let dir = tempfile::tempdir().unwrap();
    let server = open(dir.path()).await;
    let client = store(&server, 0);
    let old = noise(8_000_000);
    server.put("bucket", "k", old.clone()).await.unwrap();
    let reading = client.get(&Path::from("k")).await.unwrap();
    server.put("bucket", "k", "new").await.unwrap();
    assert_eq!(reading.bytes().await.unwrap(), old);
    server.shutdown().await;
}

#[tokio::test]
async fn what_was_never_acknowledged_is_cleaned_up() {
    let dir = tempfile::tempdir().unwrap();
    let server = open(dir.path()).await;
    server.put("bucket", "k", "v").await.unwrap();
    server.shutdown().await;
    std::fs::write(dir.path().join("bucket/tmp/half"), b"half").unwrap();
    std::fs::create_dir(dir.path().join("bucket/uploads/half")).unwrap();
    let server = open(dir.path()).await;
    assert_eq!(server.objects("bucket").unwrap().len(), 1);
    assert!(server.uploads("bucket").unwrap().is_empty());
    assert!(!dir.path().join("bucket/tmp/half").exists());
    assert!(!dir.path().join("bucket/uploads/half").exists());
    server.shutdown().await;
}
