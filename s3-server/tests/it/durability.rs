//! The volume after crashes: what was begun is finished or gone, what was acknowledged is there.

use std::path::Path;
use std::time::Duration;

use barman_cloud::Store;
use howdah_s3_server::{DiskStore, OpenError, Retention};

use crate::host::{BUCKET, Host, noise, open};

fn count(dir: &Path, below: &str) -> usize {
    std::fs::read_dir(dir.join(below)).unwrap().count()
}

async fn uploaded(store: &Store, key: &str, parts: usize) -> barman_cloud::store::Upload {
    let upload = store.upload(key).await.unwrap();
    for index in 0..parts {
        upload.put_part(index, noise(5 << 20).into()).await.unwrap();
    }
    upload
}

fn volumes(dir: &Path, name: &str, retention: Retention) -> Result<DiskStore, OpenError> {
    DiskStore::volumes(&[(name.to_owned(), dir.to_owned())], retention)
}

#[tokio::test]
async fn everything_acknowledged_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::start(dir.path()).await;
    let store = host.store();
    store.put("plain", "x".into()).await.unwrap();
    let begun = uploaded(&store, "begun", 1).await;
    let done = uploaded(&store, "done", 0).await;
    let part = done.put_part(0, noise(1000).into()).await.unwrap();
    done.complete(vec![part]).await.unwrap();
    let etag = store.head("done").await.unwrap().etag;
    host.end().await;
    std::fs::write(dir.path().join("tmp/half"), "half").unwrap();

    let host = Host::start(dir.path()).await;
    let store = host.store();
    assert_eq!(count(dir.path(), "tmp"), 0);
    assert_eq!(store.get("plain", 10).await.unwrap(), "x");
    assert_eq!(store.get("done", 1000).await.unwrap(), noise(1000));
    assert_eq!(store.head("done").await.unwrap().etag, etag, "version marks stay");
    // A backup that is taken up again finds its upload.
    let resumed = store.resume_upload("begun", begun.id()).unwrap();
    let part = resumed.put_part(0, noise(77).into()).await.unwrap();
    resumed.complete(vec![part]).await.unwrap();
    assert_eq!(store.get("begun", 1000).await.unwrap(), noise(77));
    host.end().await;
}

/// A crash between the two steps that end an upload: the object is there, its parts have not moved yet.
#[tokio::test]
async fn an_upload_that_was_nearly_complete_is_completed() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::start(dir.path()).await;
    let store = host.store();
    let upload = uploaded(&store, "k", 0).await;
    let part = upload.put_part(0, noise(500).into()).await.unwrap();
    upload.complete(vec![part]).await.unwrap();
    let (parts, uploads) = (dir.path().join("parts"), dir.path().join("uploads"));
    std::fs::rename(parts.join(upload.id()), uploads.join(upload.id())).unwrap();
    // It can be read even so, and giving the upload up destroys nothing.
    assert_eq!(store.get("k", 1000).await.unwrap(), noise(500));
    upload.abort().await.unwrap();
    assert_eq!(store.get("k", 1000).await.unwrap(), noise(500));
    std::fs::rename(parts.join(upload.id()), uploads.join(upload.id())).unwrap();
    host.end().await;

    let host = Host::start(dir.path()).await;
    assert_eq!((count(dir.path(), "uploads"), count(dir.path(), "parts")), (0, 1));
    assert_eq!(host.store().get("k", 1000).await.unwrap(), noise(500));
    host.end().await;
}

/// A crash between the removal of an object and that of its parts.
#[tokio::test]
async fn parts_without_their_object_are_swept() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::start(dir.path()).await;
    let store = host.store();
    for key in ["kept", "lost"] {
        let upload = uploaded(&store, key, 0).await;
        let part = upload.put_part(0, noise(500).into()).await.unwrap();
        upload.complete(vec![part]).await.unwrap();
    }
    host.end().await;
    std::fs::remove_file(dir.path().join("objects/some/path/lost#")).unwrap();
    let host = Host::start(dir.path()).await;
    assert_eq!(count(dir.path(), "parts"), 1);
    assert_eq!(host.store().get("kept", 1000).await.unwrap(), noise(500));
    host.end().await;
}

#[tokio::test]
async fn abandoned_uploads_are_swept_and_others_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::start(dir.path()).await;
    uploaded(&host.store(), "k", 1).await;
    host.end().await;
    drop(open(dir.path()));
    assert_eq!(count(dir.path(), "uploads"), 1);
    drop(volumes(dir.path(), BUCKET, Retention { uploads: Duration::ZERO }).unwrap());
    assert_eq!((count(dir.path(), "uploads"), count(dir.path(), "tmp")), (0, 0));
}

#[tokio::test]
async fn a_volume_is_served_once_and_under_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path());
    let error = volumes(dir.path(), BUCKET, Retention::default()).unwrap_err();
    assert!(error.is_transient(), "{error}");
    drop(first);
    let error = volumes(dir.path(), "other", Retention::default()).unwrap_err().to_string();
    assert!(error.contains("belongs to repository bucket"), "{error}");
    assert!(matches!(volumes(dir.path(), "../x", Retention::default()), Err(OpenError::Name { .. })));
    std::fs::remove_file(dir.path().join("howdah-repository.json")).unwrap();
    let error = volumes(dir.path(), BUCKET, Retention::default()).unwrap_err().to_string();
    assert!(error.contains("holds objects and no"), "{error}");
}

/// A damaged file is never passed over: a listing without it would look as if it had been removed.
#[tokio::test]
async fn a_damaged_file_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::start(dir.path()).await;
    let store = host.store();
    store.put("dir/sound", "x".into()).await.unwrap();
    store.put("dir/hurt", "x".into()).await.unwrap();
    let path = dir.path().join("objects/some/path/dir/hurt#");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
    for error in [store.get("dir/hurt", 10).await.unwrap_err(), store.list("dir").await.unwrap_err()] {
        assert!(error.report().contains("hurt# is damaged"), "{}", error.report());
    }
    assert_eq!(store.get("dir/sound", 10).await.unwrap(), "x");
    store.delete("dir/hurt").await.unwrap();
    assert_eq!(store.list("dir").await.unwrap().len(), 1);
    host.end().await;
}
