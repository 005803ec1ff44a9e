//! What an ordinary client does, over every store and over TLS.

use futures::TryStreamExt;
use howdah_s3::{Server, Tls};
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, GetOptions, MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, PutOptions,
    PutPayload, TagSet,
};

use crate::{memory, noise, store, store_as};

async fn exercise(server: &Server) {
    let client = store(server, 0);
    let body = noise(100_000);
    let key = Path::from("main/wals/0000000100000000/000000010000000000000001");
    client.put(&key, PutPayload::from(body.clone())).await.unwrap();
    let got = client.get(&key).await.unwrap();
    assert_eq!(got.meta.size, 100_000);
    assert_eq!(got.bytes().await.unwrap(), body);
    assert_eq!(client.get_range(&key, 10..20).await.unwrap(), &body[10..20]);
    assert_eq!(client.head(&key).await.unwrap().size, 100_000);

    let parts_key = Path::from("main/base/20261121T000000/data.tar");
    let whole = noise(6 * 1024 * 1024 + 77);
    let mut upload = client.put_multipart(&parts_key).await.unwrap();
    upload.put_part(whole[..5 * 1024 * 1024].to_vec().into()).await.unwrap();
    upload.put_part(whole[5 * 1024 * 1024..].to_vec().into()).await.unwrap();
    upload.complete().await.unwrap();
    assert_eq!(client.get(&parts_key).await.unwrap().bytes().await.unwrap(), whole);
    let stored = server.objects("bucket").unwrap();
    assert_eq!(stored[0].parts, [5 * 1024 * 1024, 1024 * 1024 + 77]);
    assert!(stored[0].etag.ends_with("-2"), "{}", stored[0].etag);

    let mut aborted = client.put_multipart(&parts_key).await.unwrap();
    aborted.put_part(vec![1u8; 10].into()).await.unwrap();
    assert_eq!(server.uploads("bucket").unwrap().len(), 1);
    aborted.abort().await.unwrap();
    assert!(server.uploads("bucket").unwrap().is_empty());

    let listed = client.list_with_delimiter(Some(&Path::from("main"))).await.unwrap();
    assert_eq!(listed.common_prefixes, [Path::from("main/base"), Path::from("main/wals")]);
    assert!(listed.objects.is_empty());
    let all: Vec<_> = client.list(None).map_ok(|meta| meta.location).try_collect().await.unwrap();
    assert_eq!(all, [parts_key.clone(), key.clone()]);

    client.copy(&key, &Path::from("copy")).await.unwrap();
    assert_eq!(client.get(&Path::from("copy")).await.unwrap().bytes().await.unwrap(), body);
    client.delete(&key).await.unwrap();
    let error = client.get(&key).await.unwrap_err();
    assert!(matches!(error, object_store::Error::NotFound { .. }), "{error}");
}

#[tokio::test]
async fn memory_store() {
    let server = memory().await;
    exercise(&server).await;
    server.shutdown().await;
}

#[tokio::test]
async fn disk_store() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::builder()
        .disk(dir.path())
        .credentials("key", "secret")
        .bucket("bucket")
        .start()
        .await
        .unwrap();
    exercise(&server).await;
    server.shutdown().await;
}

#[tokio::test]
async fn over_tls_with_a_certificate_of_its_own() {
    let server = Server::builder()
        .credentials("key", "secret")
        .bucket("bucket")
        .tls(Tls::self_signed(&[]).unwrap())
        .start()
        .await
        .unwrap();
    assert!(server.endpoint().starts_with("https://"));
    exercise(&server).await;
    server.shutdown().await;
}

#[tokio::test]
async fn sink_acknowledges_and_keeps_only_small_bodies() {
    let server =
        Server::builder().sink().credentials("key", "secret").bucket("bucket").start().await.unwrap();
    let client = store(&server, 0);
    client.put(&Path::from("small"), PutPayload::from(vec![7u8; 100])).await.unwrap();
    client.put(&Path::from("large"), PutPayload::from(noise(1_000_000))).await.unwrap();
    assert_eq!(client.get(&Path::from("small")).await.unwrap().bytes().await.unwrap(), vec![7u8; 100]);
    assert_eq!(client.head(&Path::from("large")).await.unwrap().size, 1_000_000);
    let error = client.get(&Path::from("large")).await.unwrap_err().to_string();
    assert!(error.contains("InvalidObjectState"), "{error}");
    server.shutdown().await;
}

#[tokio::test]
async fn conditional_writes_and_reads() {
    let server = memory().await;
    let client = store(&server, 0);
    let key = Path::from("lineage.json");
    let create = PutOptions { mode: PutMode::Create, ..Default::default() };
    let first = client.put_opts(&key, "one".into(), create.clone()).await.unwrap();
    let error = client.put_opts(&key, "two".into(), create).await.unwrap_err();
    assert!(matches!(error, object_store::Error::AlreadyExists { .. }), "{error}");
    assert_eq!(server.get("bucket", "lineage.json").await.unwrap(), "one");

    let update = |tag: Option<String>| PutOptions {
        mode: PutMode::Update(object_store::UpdateVersion { e_tag: tag, version: None }),
        ..Default::default()
    };
    let error = client.put_opts(&key, "x".into(), update(Some("\"0000\"".into()))).await.unwrap_err();
    assert!(matches!(error, object_store::Error::Precondition { .. }), "{error}");
    client.put_opts(&key, "three".into(), update(first.e_tag.clone())).await.unwrap();
    assert_eq!(server.get("bucket", "lineage.json").await.unwrap(), "three");

    let current = client.head(&key).await.unwrap().e_tag;
    let options = GetOptions { if_none_match: current, ..Default::default() };
    let error = client.get_opts(&key, options).await.unwrap_err();
    assert!(matches!(error, object_store::Error::NotModified { .. }), "{error}");
    server.shutdown().await;
}

#[tokio::test]
async fn a_race_of_creators_has_one_winner() {
    let server = memory().await;
    let client = store(&server, 0);
    let create = PutOptions { mode: PutMode::Create, ..Default::default() };
    let results = futures::future::join_all((0..16).map(|i| {
        let (client, create) = (client.clone(), create.clone());
        async move { client.put_opts(&Path::from("one"), format!("{i}").into(), create).await }
    }))
    .await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    server.shutdown().await;
}

#[tokio::test]
async fn tags_and_metadata_are_recorded() {
    let server = memory().await;
    let client = store(&server, 0);
    let mut tags = TagSet::default();
    tags.push("backupOwner", "Group & Co");
    let mut attributes = Attributes::new();
    attributes.insert(Attribute::ContentType, "application/x-tar".into());
    let options = PutOptions { tags, attributes, ..Default::default() };
    client.put_opts(&Path::from("k"), "v".into(), options).await.unwrap();
    let info = &server.objects("bucket").unwrap()[0];
    assert_eq!(info.tags["backupOwner"], "Group & Co");
    assert_eq!(info.content_type.as_deref(), Some("application/x-tar"));
    assert_eq!(info.sse, None);
    server.shutdown().await;
}

#[tokio::test]
async fn wrong_credentials_and_buckets_have_their_codes() {
    let server = Server::builder()
        .credentials("key", "secret")
        .read_only_credentials("reader", "secret")
        .credentials_for("other", "secret", &["elsewhere"])
        .session_credentials("temp", "secret", "token")
        .bucket("bucket")
        .start()
        .await
        .unwrap();
    let put = |key: &'static str, secret: &'static str| {
        let client = store_as(&server, key, secret, 0);
        async move { client.put(&Path::from("k"), "v".into()).await.unwrap_err().to_string() }
    };
    assert!(put("nobody", "secret").await.contains("InvalidAccessKeyId"));
    assert!(put("key", "wrong").await.contains("SignatureDoesNotMatch"));
    assert!(put("reader", "secret").await.contains("AccessDenied"));
    assert!(put("other", "secret").await.contains("AccessDenied"));
    assert!(put("temp", "secret").await.contains("InvalidToken"));
    let anonymous = reqwest_status(&format!("{}/bucket/k", server.endpoint())).await;
    assert_eq!(anonymous, 403);
    assert!(server.objects("bucket").unwrap().is_empty());

    let elsewhere = object_store::aws::AmazonS3Builder::new()
        .with_endpoint(server.endpoint())
        .with_bucket_name("missing-bucket")
        .with_region("us-east-1")
        .with_access_key_id("key")
        .with_secret_access_key("secret")
        .with_allow_http(true)
        .build()
        .unwrap();
    let error = elsewhere.put(&Path::from("k"), "v".into()).await.unwrap_err().to_string();
    assert!(error.contains("NoSuchBucket"), "{error}");
    server.shutdown().await;
}

async fn reqwest_status(url: &str) -> u16 {
    crate::install_provider();
    reqwest::get(url).await.unwrap().status().as_u16()
}

#[tokio::test]
async fn listings_have_pages() {
    let server = memory().await;
    for i in 0..2500 {
        server.put("bucket", &format!("p/{i:05}"), "").await.unwrap();
    }
    let client = store(&server, 0);
    let all: Vec<_> = client.list(Some(&Path::from("p"))).try_collect().await.unwrap();
    assert_eq!(all.len(), 2500);
    let asked = server.requests().iter().filter(|r| r.operation == howdah_s3::Operation::ListObjects).count();
    assert_eq!(asked, 3);
    let offset: Vec<_> =
        client.list_with_offset(Some(&Path::from("p")), &Path::from("p/02490")).try_collect().await.unwrap();
    assert_eq!(offset.len(), 9);
    server.shutdown().await;
}

#[tokio::test]
async fn small_parts_are_refused() {
    let server = memory().await;
    let client = store(&server, 0);
    let mut upload = client.put_multipart(&Path::from("k")).await.unwrap();
    upload.put_part(vec![1u8; 100].into()).await.unwrap();
    upload.put_part(vec![2u8; 100].into()).await.unwrap();
    let error = upload.complete().await.unwrap_err().to_string();
    assert!(error.contains("EntityTooSmall"), "{error}");
    assert!(server.objects("bucket").unwrap().is_empty());
    server.shutdown().await;
}

#[tokio::test]
async fn what_cannot_work_is_refused_at_the_start() {
    let refused = |builder: howdah_s3::Builder| async {
        builder.start().await.err().expect("it must not start").to_string()
    };
    let with_key = || Server::builder().credentials("key", "secret");
    assert!(refused(Server::builder()).await.contains("no credentials"));
    assert!(refused(with_key().bucket("B")).await.contains("bucket name"));
    assert!(refused(with_key().listen("localhost:0")).await.contains("not an address"));
    assert!(refused(with_key().admin("0.0.0.0:0")).await.contains("loopback"));
    let taken = with_key().start().await.unwrap();
    assert!(refused(with_key().listen(taken.address().to_string())).await.contains("cannot listen"));
    taken.shutdown().await;
}
