//! Who is believed and who may what: certificates of instances, rights of the operator.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use howdah_api::instance::InstanceStatus;
use howdah_operator::instance_client::{Credentials, HttpInstances, InstanceApi, InstanceError, Target};
use howdah_operator::pki::Pair;
use howdah_operator::pki::issue::{self, Usage};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ListParams};
use rstest::rstest;
use serde_json::json;

use crate::instance;
use crate::node::address;
use crate::world::{NS, World};

fn server_secret(ca: &Pair, trusted: &Pair, name: &str) -> Secret {
    let leaf = issue::leaf(ca, name, &[name.to_owned()], Usage::Server, Timestamp::now()).unwrap();
    let mut secret: Secret =
        serde_json::from_value(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}))
            .unwrap();
    let data =
        [("tls.crt", leaf.certificate), ("tls.key", leaf.key), ("ca.crt", trusted.certificate.clone())];
    secret.data = Some(
        data.into_iter().map(|(k, v)| (k.to_owned(), k8s_openapi::ByteString(v.into_bytes()))).collect(),
    );
    secret
}

fn target(ip: &str, ca: &Pair, trusted: &Pair, common_name: &str) -> Target {
    let leaf = issue::leaf(ca, common_name, &[], Usage::Client, Timestamp::now()).unwrap();
    Target {
        namespace: NS.into(),
        cluster: "zoo".into(),
        pod: "zoo-1".into(),
        ip: ip.into(),
        credentials: Credentials {
            certificate: leaf.certificate.into_bytes(),
            key: leaf.key.into_bytes(),
            authority: trusted.certificate.clone().into_bytes(),
        },
    }
}

/// What stands at the address, and what comes of asking it.
#[derive(Clone, Copy)]
enum Case {
    Right,
    OtherAuthority,
    OtherCluster,
    StrangeClient,
    ForbiddenClient,
}

#[rstest]
#[case::right(Case::Right, None)]
#[case::other_authority(Case::OtherAuthority, Some("certificate"))]
#[case::other_cluster(Case::OtherCluster, Some("certificate"))]
#[case::strange_client(Case::StrangeClient, Some(""))]
#[case::forbidden_client(Case::ForbiddenClient, Some("HTTP 403 Forbidden: only the operator may ask"))]
#[tokio::test]
async fn only_the_clusters_own_instance_is_believed(#[case] case: Case, #[case] failure: Option<&str>) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let ours = issue::authority("zoo", Timestamp::now()).unwrap();
    let theirs = issue::authority("zoo", Timestamp::now()).unwrap();
    let server_ca = if matches!(case, Case::OtherAuthority) { &theirs } else { &ours };
    let server_name = if matches!(case, Case::OtherCluster) { "barn-rw" } else { "zoo-rw" };
    let client_ca = if matches!(case, Case::StrangeClient) { &theirs } else { &ours };
    let client_name =
        if matches!(case, Case::ForbiddenClient) { "streaming_replica" } else { "howdah-operator" };
    let ip = address();
    let status = InstanceStatus { pod_name: "zoo-1".into(), ..InstanceStatus::default() };
    let answer = Arc::new(Mutex::new(Some(status.clone())));
    let _instance = instance::start(&ip, &server_secret(server_ca, &ours, server_name), answer).await;
    let found = HttpInstances::default().status(&target(&ip, client_ca, &ours, client_name)).await;
    match (found, failure) {
        (Ok(found), None) => assert_eq!(found, status),
        (Err(InstanceError::Unreachable { message, .. }), Some(part)) => {
            assert!(message.contains(part), "{message}");
        }
        (found, _) => panic!("{found:?}"),
    }
}

/// Instances of one cluster share a name and a certificate, and each knows its own sessions alone: what one gave is not
/// offered to another.
#[tokio::test]
async fn each_instance_is_asked_in_the_session_that_it_knows() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let ca = issue::authority("zoo", Timestamp::now()).unwrap();
    let secret = server_secret(&ca, &ca, "zoo-rw");
    let answer = Arc::new(Mutex::new(Some(InstanceStatus::default())));
    let mut running = Vec::new();
    let one = target("", &ca, &ca, "howdah-operator");
    for serial in 1..=3 {
        let ip = address();
        let instance = instance::start(&ip, &secret, answer.clone()).await;
        running.push((instance, Target { pod: format!("zoo-{serial}"), ip, ..one.clone() }));
    }
    let client = HttpInstances::default();
    for _ in 0..3 {
        for (_, target) in &running {
            client.status(target).await.unwrap();
        }
    }
    for (instance, _) in &running {
        assert_eq!(instance.resumed.load(Ordering::Relaxed), 2, "all but the first");
    }
}

#[tokio::test]
async fn nobody_at_the_address_is_an_error_that_names_it() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let ca = issue::authority("zoo", Timestamp::now()).unwrap();
    let ip = address();
    let error = HttpInstances::default().status(&target(&ip, &ca, &ca, "howdah-operator")).await.unwrap_err();
    assert!(error.to_string().starts_with(&format!("zoo-1 does not answer at {ip}:8000: ")), "{error}");
}

/// The operator's rights are the least that its tests pass with; what it must not do is refused.
#[tokio::test(flavor = "multi_thread")]
async fn the_operator_may_not_look_around_in_secrets() {
    let world = World::start().await;
    let secrets: Api<Secret> = Api::namespaced(world.operator.clone(), NS);
    let refused = secrets.list(&ListParams::default()).await.unwrap_err();
    assert!(matches!(&refused, kube::Error::Api(s) if s.is_forbidden()), "{refused:?}");
    assert!(secrets.get_opt("zoo-app").await.unwrap().is_none(), "a named one may be read");
    let deleted = secrets.delete("zoo-app", &Default::default()).await.unwrap_err();
    assert!(matches!(&deleted, kube::Error::Api(s) if s.is_forbidden()), "{deleted:?}");
}
