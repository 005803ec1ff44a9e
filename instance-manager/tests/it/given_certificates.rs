//! Certificates that the user gives: they reach PostgreSQL, and nothing is restarted for them.

use std::collections::BTreeMap;
use std::sync::Arc;

use howdah_api::naming;
use k8s_openapi::ByteString;
use kube::api::Patch;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::certificates::Authority;
use crate::pod::Pod;
use crate::world::{World, until};

/// What a client asks before TLS begins.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// Whether PostgreSQL shows a certificate of `authority` for `pg-rw`.
async fn shown(pod: &Pod, authority: &Authority) -> bool {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut tcp = TcpStream::connect((pod.ip.as_str(), 5432)).await.unwrap();
    tcp.write_all(&SSL_REQUEST).await.unwrap();
    assert_eq!(tcp.read_u8().await.unwrap(), b'S', "PostgreSQL has TLS");
    let name = ServerName::try_from("pg-rw").unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await.is_ok()
}

/// Secrets are read again when the Cluster changes.
async fn nudge(world: &World, what: &str) {
    let patch = Patch::Merge(json!({"metadata": {"annotations": {"test/nudge": what}}}));
    world.clusters().patch("pg", &Default::default(), &patch).await.unwrap();
}

fn changed(mut data: BTreeMap<String, ByteString>, key: &str, value: &str) -> BTreeMap<String, ByteString> {
    data.insert(key.to_owned(), ByteString(value.into()));
    data
}

#[tokio::test(flavor = "multi_thread")]
async fn they_reach_postgresql_and_its_replicas_without_a_restart() {
    let world = World::new().await;
    world.cluster("pg", world.spec(None, false)).await;
    let primary = Pod::initialised(&world).await;
    assert!(shown(&primary, &world.authority).await);
    let (postmaster, session) = (primary.postmaster(), primary.status().unwrap().session_id);

    // Both sides from an authority of the user. The managers go on knowing each other by that of the operator.
    let (server, client) = (Authority::new(), Authority::new());
    let (server_copy, client_copy) = (naming::server_in_use("pg"), naming::replication_in_use("pg"));
    world.secret(&server_copy, server.server(&["pg-rw"])).await;
    world.secret(&client_copy, client.client(naming::REPLICATION_USER)).await;
    let names = json!({
        "serverCASecret": "s", "serverTLSSecret": "s", "clientCASecret": "c", "replicationTLSSecret": "c",
    });
    let patch = Patch::Merge(json!({"spec": {"instances": 2, "certificates": names}}));
    world.clusters().patch("pg", &Default::default(), &patch).await.unwrap();
    until("the server shows what was given", || shown(&primary, &server)).await;

    // A replica joins with the certificate that was given, and verifies the server with its authority.
    let replica = Pod::replica_of(&world, &primary).await;
    let streams = || async {
        let sql = primary.sql("postgres", "postgres").await.unwrap();
        let row = sql.query_one("SELECT count(*) FROM pg_stat_replication", &[]).await.unwrap();
        row.get::<_, i64>(0) == 1
    };
    until("the replica streams", streams).await;

    // Another authority for both, and the connection that is there stays.
    let (server, client) = (Authority::new(), Authority::new());
    world.secret(&server_copy, server.server(&["pg-rw"])).await;
    world.secret(&client_copy, client.client(naming::REPLICATION_USER)).await;
    nudge(&world, "another").await;
    until("the server shows the new one", || shown(&primary, &server)).await;
    until("the replica has the new one", || async {
        let file = replica.controller().join("run/certificates/server-ca.crt");
        std::fs::read_to_string(file).unwrap() == server.pem()
    })
    .await;
    assert!(streams().await);
    // A new connection with the new certificate.
    let sql = primary.sql("postgres", "postgres").await.unwrap();
    sql.batch_execute("SELECT pg_terminate_backend(pid) FROM pg_stat_replication").await.unwrap();
    until("the replica streams again", streams).await;

    // Rubbish changes nothing; nor does a copy that goes away while it is in use.
    let rubbish = changed(server.server(&["pg-rw"]), "tls.key", "rubbish");
    world.secret(&server_copy, rubbish).await;
    nudge(&world, "rubbish").await;
    let told = |what: &'static str| {
        let world = &world;
        async move {
            let events = world.events("pg").await;
            events.iter().any(|e| e.starts_with("CertificatesUnusable: pg-1") && e.contains(what))
        }
    };
    until("the rubbish is told", || told("\"tls.key\" of Secret pg-server-in-use is not PEM")).await;
    assert!(shown(&primary, &server).await);
    world.cluster_status("pg", json!({"certificates": {"serverTLSSecret": "s"}})).await;
    world.secrets().delete(&server_copy, &Default::default()).await.unwrap();
    nudge(&world, "gone").await;
    until("the missing copy is told", || told("Secret pg-server-in-use is missing")).await;
    assert!(shown(&primary, &server).await);

    // Nothing is given any more.
    let patch = Patch::Merge(json!({"spec": {"certificates": null}}));
    world.clusters().patch("pg", &Default::default(), &patch).await.unwrap();
    until("the server shows the operator's own", || shown(&primary, &world.authority)).await;
    assert_eq!((primary.postmaster(), primary.status().unwrap().session_id), (postmaster, session));
}
