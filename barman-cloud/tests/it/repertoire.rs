//! Everything that a store is asked to do, one operation of S3 at a time, and whether it was done.

use crate::support::{BUCKET, noise, server, store};
use barman_cloud::Error;
use barman_cloud::store::Store;
use howdah_s3::{Action, Operation, Rule, Server};

/// Bytes of each object.
pub const SIZE: usize = 1_500_000;

/// The whole repertoire, on two objects.
pub async fn use_it(store: &Store, operation: Operation) -> Result<(), Error> {
    match operation {
        Operation::ListObjects => {
            assert_eq!(store.list("d").await?.len(), 2);
            assert_eq!(store.list_dir("d").await?.objects.len(), 2);
            assert_eq!(store.list_prefix("d/o").await?.len(), 2);
        }
        Operation::ListMultipartUploads => {
            let upload = store.upload("d/pending").await?;
            assert_eq!(store.list_uploads("d").await?.len(), 1);
            upload.abort().await?;
        }
        Operation::GetObject => assert!(store.get("d/o1", 1 << 30).await? == noise(SIZE)),
        Operation::HeadObject => assert_eq!(store.head("d/o1").await?.size, SIZE as u64),
        Operation::PutObject => store.put("d/new", noise(SIZE).into()).await?,
        Operation::DeleteObjects => store.delete_many(&["d/o1".into(), "d/o2".into()]).await?,
        Operation::DeleteObject => store.delete("d/o1").await?,
        _ => {
            let upload = store.upload("d/big").await?;
            let part = upload.put_part(0, noise(SIZE).into()).await?;
            upload.complete(vec![part]).await?;
        }
    }
    Ok(())
}

/// A fault that happens some times, each of which the operation gets over.
pub async fn outlasts((server, store): &(Server, Store), action: Action, operation: Operation, times: u64) {
    let rule = server.faults().add(Rule::new(action).operation(operation).times(times));
    assert_eq!(use_it(store, operation).await.map_err(|error| error.report()), Ok(()));
    assert_eq!(server.faults().hits(rule), times);
}

/// The error of an operation whose fault lasts for ever.
pub async fn fails((server, store): &(Server, Store), action: Action, operation: Operation) -> Error {
    server.faults().add(Rule::new(action).operation(operation));
    use_it(store, operation).await.expect_err("for ever")
}

pub async fn filled() -> (Server, Store) {
    let server = server().await;
    let store = store(&server);
    for key in ["d/o1", "d/o2"] {
        store.put(key, noise(SIZE).into()).await.expect("written");
    }
    (server, store)
}

/// What the operation should have brought about is there.
pub async fn assert_done(server: &Server, operation: Operation) {
    let keys: Vec<String> = server.objects(BUCKET).expect("the bucket").into_iter().map(|o| o.key).collect();
    let has = |name: &str| keys.iter().any(|key| key.ends_with(name));
    match operation {
        Operation::PutObject => assert!(has("d/new"), "{keys:?}"),
        Operation::DeleteObject => assert!(!has("d/o1"), "{keys:?}"),
        Operation::DeleteObjects => assert!(keys.is_empty(), "{keys:?}"),
        Operation::CreateMultipartUpload | Operation::UploadPart | Operation::CompleteMultipartUpload => {
            assert!(server.get(BUCKET, "some/path/d/big").await.expect("there") == noise(SIZE));
        }
        _ => {}
    }
}
