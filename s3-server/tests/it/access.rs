//! Who comes in: only members with a certificate of the cluster's authority that has not ended.

use barman_cloud::{ErrorKind, Store};
use bytes::Bytes;

use crate::authority::Authority;
use crate::host::{Host, identity, store};

async fn put(store: &Store) -> Result<(), barman_cloud::Error> {
    store.put("k", Bytes::from_static(b"x")).await
}

/// S0.9: the repository host talks TLS to members of its cluster only.
#[tokio::test]
async fn certificates_decide() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::start(dir.path()).await;
    put(&host.store()).await.unwrap();

    let refused = [
        ("no certificate", None),
        ("another authority's", Some(Authority::new().client("member"))),
        ("one that has ended", Some(host.authority.ended_client("member"))),
        ("a server's", Some(host.authority.server())),
    ];
    for (what, own) in refused {
        let error = put(&host.store_as(own)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Credentials, "{what}: {}", error.report());
        assert!(error.remedy().contains("client certificate"), "{what}: {}", error.report());
    }
    let stranger = put(&host.store_as(Some(host.authority.client("somebody")))).await.unwrap_err();
    assert_eq!(stranger.kind(), ErrorKind::Permission);
    assert!(stranger.report().contains("(somebody) has no access"), "{}", stranger.report());

    let reader = host.store_as(Some(host.authority.client("reader")));
    assert_eq!(reader.get("k", 10).await.unwrap(), "x");
    let error = put(&reader).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Permission);
    assert!(error.report().contains("reading only"), "{}", error.report());
    assert_eq!(reader.delete("k").await.unwrap_err().kind(), ErrorKind::Permission);
    assert_eq!(reader.get("k", 10).await.unwrap(), "x");
    host.end().await;
}

/// A client does not tell its data to a server of another authority.
#[tokio::test]
async fn a_strange_server_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::start(dir.path()).await;
    let mut options = host.options(Some(host.authority.client("member")));
    options.ca_pem = Some(Authority::new().pem.into_bytes());
    let error = put(&store(&options)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network, "{}", error.report());
    host.end().await;
}

#[tokio::test]
async fn certificates_are_rotated_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::start(dir.path()).await;
    let old = host.store();
    put(&old).await.unwrap();

    // As the operator does it: a new authority that is believed beside the old one, new certificates below it.
    let new = Authority::new();
    let both = Authority { pem: format!("{}{}", new.pem, host.authority.pem), ..Authority::new() };
    host.server.renew(identity(&new.server(), &both));
    let mut options = host.options(Some(new.client("member")));
    options.ca_pem = Some(both.pem.clone().into_bytes());
    put(&store(&options)).await.unwrap();
    options.client_certificate = host.options(Some(host.authority.client("member"))).client_certificate;
    put(&store(&options)).await.unwrap();

    // Later the old one is gone, and with it what it signed, open connections included.
    host.server.renew(identity(&new.server(), &new));
    let error = put(&store(&options)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Credentials, "{}", error.report());
    options.client_certificate = host.options(Some(new.client("member"))).client_certificate;
    put(&store(&options)).await.unwrap();
    host.end().await;
}

/// A key that would leave the volume is refused, whatever the client makes of it on the way.
#[tokio::test]
async fn keys_stay_on_the_volume() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::start(&dir.path().join("volume")).await;
    let own = host.authority.client("member");
    let pem = format!("{}{}", own.chain, own.key);
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(
            barman_cloud::store::client_config(
                Some(host.authority.pem.as_bytes()),
                Some(&barman_cloud::store::ClientCertificate::pem(own.chain.clone(), pem)),
            )
            .unwrap(),
        )
        .build()
        .unwrap();
    for key in ["%2E%2E/%2E%2E/out", "a/..%2F..%2Fout", "a/%2E/b", "..%2fout"] {
        let url = format!("{}/bucket/{key}", host.endpoint());
        let answer = client.put(url).body("x").send().await.unwrap();
        assert!(answer.status().is_client_error(), "{key}: {}", answer.status());
    }
    let beside: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(beside, ["volume"]);
    assert!(host.store().list("a").await.unwrap().is_empty());
    host.end().await;
}
