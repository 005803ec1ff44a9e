//! Reaching the store, and what is said when that fails.

use crate::support::{BUCKET, destination, limits, options, server, store_with};
use barman_cloud::store::Credentials;
use barman_cloud::{Destination, ErrorKind, S3Options, Store};
use bytes::Bytes;
use howdah_s3::{Server, Tls};
use rstest::rstest;

async fn put(options: &S3Options) -> barman_cloud::Result<()> {
    store_with(options).put("k", Bytes::from_static(b"x")).await
}

#[tokio::test]
async fn https_with_the_users_authority() {
    let tls = Tls::self_signed(&[]).expect("a certificate");
    let server =
        Server::builder().credentials("key", "secret").bucket(BUCKET).tls(tls).start().await.expect("a port");
    let mut options = options(&server);
    put(&options).await.expect("trusted");
    // Without a scheme it is https too.
    options.endpoint = Some(server.endpoint().trim_start_matches("https://").to_owned());
    put(&options).await.expect("trusted");
    options.ca_pem = None;
    options.limits.retries = 1;
    let error = put(&options).await.expect_err("an unknown authority");
    assert_eq!((error.kind(), error.exit_code()), (ErrorKind::Network, 2));
    assert!(error.remedy().contains("endpointCA"), "{}", error.report());
}

#[rstest]
#[case::unknown_key("other", "secret", ErrorKind::Credentials)]
#[case::wrong_secret("key", "wrong-sesame", ErrorKind::Credentials)]
#[tokio::test]
async fn refused_credentials(#[case] id: &str, #[case] secret: &str, #[case] kind: ErrorKind) {
    let server = server().await;
    let mut options = options(&server);
    options.credentials = Credentials::Static {
        access_key_id: id.into(),
        secret_access_key: secret.into(),
        session_token: None,
    };
    let error = put(&options).await.expect_err("refused");
    assert_eq!((error.kind(), error.exit_code()), (kind, 4));
    assert!(!error.report().contains("wrong-sesame"), "{}", error.report());
    assert!(error.report().contains("s3://bucket/some/path/k"), "{}", error.report());
}

/// S2.6: requests without it are refused.
#[tokio::test]
async fn a_session_token_is_sent() {
    let server = Server::builder()
        .session_credentials("key", "secret", "token")
        .bucket(BUCKET)
        .start()
        .await
        .expect("a port");
    let mut options = options(&server);
    assert!(put(&options).await.is_err());
    options.credentials = Credentials::Static {
        access_key_id: "key".into(),
        secret_access_key: "secret\n".into(),
        session_token: Some("token".into()),
    };
    put(&options).await.expect("accepted");
}

#[tokio::test]
async fn permission_denied() {
    let server = Server::builder()
        .read_only_credentials("key", "secret")
        .bucket(BUCKET)
        .start()
        .await
        .expect("a port");
    let error = put(&options(&server)).await.expect_err("read only");
    assert_eq!((error.kind(), error.exit_code(), error.is_transient()), (ErrorKind::Permission, 4, false));
}

#[tokio::test]
async fn a_missing_bucket_is_named() {
    let server = server().await;
    let elsewhere = Destination::parse("s3://nowhere/path").expect("valid");
    let store = Store::s3(&elsewhere, &options(&server)).expect("valid");
    let outcomes = [
        store.put("k", Bytes::from_static(b"x")).await.expect_err("no bucket"),
        store.get("k", 1).await.expect_err("no bucket"),
        store.list("k").await.expect_err("no bucket"),
        store.list_prefix("k").await.expect_err("no bucket"),
        store.upload("k").await.expect_err("no bucket"),
    ];
    for error in outcomes {
        assert_eq!((error.kind(), error.exit_code()), (ErrorKind::BucketMissing, 1), "{}", error.report());
        assert!(error.report().contains("s3://nowhere/path/k"), "{}", error.report());
    }
}

#[tokio::test]
async fn nobody_listens() {
    let server = server().await;
    server.faults().begin_outage().await;
    let error = put(&options(&server)).await.expect_err("refused");
    assert_eq!((error.kind(), error.exit_code(), error.is_transient()), (ErrorKind::Network, 2, true));
    server.faults().end_outage().await;
    put(&options(&server)).await.expect("back again");
}

#[tokio::test]
async fn an_unknown_host_is_a_network_error() {
    let mut options = S3Options::with_keys("key", "secret");
    options.endpoint = Some("http://no-such-host.invalid:9000".to_owned());
    options.limits = limits();
    options.limits.retries = 0;
    let error =
        Store::s3(&destination(), &options).expect("valid").get("k", 1).await.expect_err("no such host");
    assert_eq!(error.kind(), ErrorKind::Network, "{}", error.report());
    assert!(error.report().contains("no-such-host.invalid"), "{}", error.report());
}
