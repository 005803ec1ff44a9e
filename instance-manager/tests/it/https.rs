//! The HTTPS API: who may ask what.

use std::collections::BTreeMap;

use howdah_api::instance::{ErrorBody, InstanceStatus, WalSwitch};
use k8s_openapi::ByteString;
use reqwest::StatusCode;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::pod::Pod;
use crate::world::World;

pub fn client(pod: &Pod, world: &World, identity: Option<BTreeMap<String, ByteString>>) -> reqwest::Client {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(world.authority.pem().as_bytes()).unwrap()).unwrap();
    let builder = rustls::ClientConfig::builder().with_root_certificates(roots);
    let config = match identity {
        Some(data) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(&data["tls.crt"].0).unwrap()],
                PrivateKeyDer::from_pem_slice(&data["tls.key"].0).unwrap(),
            )
            .unwrap(),
        None => builder.with_no_client_auth(),
    };
    reqwest::Client::builder()
        .tls_backend_preconfigured(config)
        .resolve("pg-rw", std::net::SocketAddr::new(pod.ip.parse().unwrap(), 8000))
        .no_proxy()
        .build()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_decide() {
    let world = World::new().await;
    world.cluster("pg", world.spec(None, false)).await;
    let pod = Pod::initialised(&world).await;
    let status = "https://pg-rw:8000/v1/status";
    let switch = "https://pg-rw:8000/v1/wal/switch";

    let operator = client(&pod, &world, Some(world.authority.client("howdah-operator")));
    let answer: InstanceStatus = operator.get(status).send().await.unwrap().json().await.unwrap();
    assert!(answer.ready && answer.pod_name == "pg-1" && answer.system_id.is_some(), "{answer:?}");
    let first: WalSwitch = operator.post(switch).send().await.unwrap().json().await.unwrap();
    // Nothing was written since: a checkpoint makes the next segment close all the same.
    let second: WalSwitch = operator.post(switch).send().await.unwrap().json().await.unwrap();
    assert!(second.closed_wal > first.closed_wal, "{first:?} {second:?}");
    // A position that is behind: nothing happens.
    let same = format!("{switch}?lsn={}", first.lsn);
    let third: WalSwitch = operator.post(same).send().await.unwrap().json().await.unwrap();
    assert_eq!(third.closed_wal, first.closed_wal);
    let wrong = operator.post(format!("{switch}?lsn=nonsense")).send().await.unwrap();
    assert_eq!(wrong.status(), StatusCode::BAD_REQUEST);

    let replica = client(&pod, &world, Some(world.authority.client("streaming_replica")));
    let refused = replica.get(status).send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    let words: ErrorBody = refused.json().await.unwrap();
    assert!(words.error.contains("streaming_replica"), "{words:?}");
    assert_eq!(replica.post(switch).send().await.unwrap().status(), StatusCode::OK);

    assert!(client(&pod, &world, None).get(status).send().await.is_err());
    let stranger = crate::certificates::Authority::new().client("howdah-operator");
    assert!(client(&pod, &world, Some(stranger)).get(status).send().await.is_err());
}
