//! Who comes in: only members with a certificate of the cluster's authority that has not ended.

use barman_cloud::{ErrorKind, Store};
use bytes::Bytes;

use howdah_s3::{Authority, READER, VolumeServer, WRITER};

use crate::host::{Host, certificate, store};

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
        ("another authority's", Some(Authority::new().unwrap().client(WRITER).unwrap())),
        ("one that has ended", Some(host.0.authority.ended_client(WRITER).unwrap())),
        ("a server's", Some(VolumeServer::own(&host.0.authority).unwrap())),
    ];
    for (what, own) in refused {
        let error = put(&host.store_as(own)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Credentials, "{what}: {}", error.report());
        assert!(error.remedy().contains("client certificate"), "{what}: {}", error.report());
    }
    let stranger = put(&host.store_as(Some(host.client("somebody")))).await.unwrap_err();
    assert_eq!(stranger.kind(), ErrorKind::Permission);
    assert!(stranger.report().contains("(somebody) has no access"), "{}", stranger.report());

    let reader = host.store_as(Some(host.client(READER)));
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
    let mut options = host.options(Some(host.client(WRITER)));
    options.ca_pem = Some(Authority::new().unwrap().pem().as_bytes().to_vec());
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
    let new = Authority::new().unwrap();
    let both = format!("{}{}", new.pem(), host.0.authority.pem());
    let renew = |authorities: &str| {
        let own = VolumeServer::own(&new).unwrap();
        host.0.server.renew(VolumeServer::identity(&own, authorities).unwrap());
    };
    renew(&both);
    let mut options = host.options(Some(new.client(WRITER).unwrap()));
    options.ca_pem = Some(both.into_bytes());
    put(&store(&options)).await.unwrap();
    options.client_certificate = Some(certificate(host.client(WRITER)));
    let late = store(&options);
    put(&late).await.unwrap();

    // Later the old one is gone, and with it what it signed, open connections included.
    renew(new.pem());
    let error = put(&late).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Credentials, "{}", error.report());
    options.client_certificate = Some(certificate(new.client(WRITER).unwrap()));
    put(&store(&options)).await.unwrap();
    host.end().await;
}

/// A key that would leave the volume is refused, whatever the client makes of it on the way.
#[tokio::test]
async fn keys_stay_on_the_volume() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::start(&dir.path().join("volume")).await;
    let own = host.client(WRITER);
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(
            barman_cloud::store::client_config(
                Some(host.0.authority.pem().as_bytes()),
                Some(&certificate(own)),
            )
            .unwrap(),
        )
        .build()
        .unwrap();
    for key in ["%2E%2E/%2E%2E/out", "a/..%2F..%2Fout", "..%2fout"] {
        let url = format!("{}/bucket/{key}", host.0.endpoint());
        let answer = client.put(url).body("x").send().await.unwrap();
        assert!(answer.status().is_client_error(), "{key}: {}", answer.status());
    }
    let beside: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(beside, ["volume"]);
    assert!(host.store().list("a").await.unwrap().is_empty());
    host.end().await;
}
