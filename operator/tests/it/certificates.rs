//! Certificates that the user gives, against an API server, with the operator's own rights.

use howdah_api::{Cluster, conditions, naming};
use howdah_operator::pki::issue::{self, Usage};
use howdah_operator::pki::{Pair, inspect};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Pod, Secret};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::clusters::{healthy, phase};
use crate::node::Node;
use crate::world::{Running, World, until};

fn server(names: &[&str]) -> (Pair, Pair) {
    let now = Timestamp::now();
    let ca = issue::authority("somebody", now).unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let leaf = issue::leaf(&ca, "zoo-rw", &names, Usage::Server, now).unwrap();
    (ca, leaf)
}

fn secret((ca, leaf): &(Pair, Pair)) -> Value {
    json!({"ca.crt": ca.certificate, "tls.crt": leaf.certificate, "tls.key": leaf.key})
}

async fn patch<K>(world: &World, name: &str, patch: Value)
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + serde::de::DeserializeOwned
        + std::fmt::Debug,
{
    world.api::<K>().patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
}

/// The condition has this reason; its message.
async fn told(world: &World, reason: &str) -> String {
    until(&format!("the condition says {reason}"), async || {
        let cluster = world.api::<Cluster>().get("zoo").await.unwrap();
        let status = cluster.status?;
        let found = conditions::get(&status.conditions, conditions::CERTIFICATES_VALID)?;
        (found.reason == reason).then(|| found.message.clone())
    })
    .await
}

async fn certificate(world: &World, name: &str) -> Option<String> {
    let data = world.api::<Secret>().get_opt(name).await.unwrap()?.data?;
    data.get("tls.crt").map(|ByteString(value)| String::from_utf8(value.clone()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn given_certificates_are_waited_for_taken_up_and_kept() {
    let world = World::start().await;
    let _node = Node::start(&world);
    let _running = Running::start(world.context());
    let certificates = json!({"serverCASecret": "mine", "serverTLSSecret": "mine"});
    world
        .create_cluster(
            "zoo",
            json!({"instances": 2, "storage": {"size": "5Gi"}, "certificates": certificates}),
        )
        .await;
    let cluster = phase(&world, "zoo", "Cluster configuration is invalid").await;
    let reason = cluster.status.unwrap().phase_reason.unwrap();
    assert!(reason.contains("Secret mine (certificates.serverCASecret) does not exist"), "{reason}");

    let first = server(&["zoo-rw", "zoo-ro", "zoo-r"]);
    world.create_secret("mine", secret(&first)).await;
    healthy(&world, "zoo", 2).await;
    told(&world, "CertificatesValid").await;
    let copy = naming::server_in_use("zoo");
    assert_eq!(certificate(&world, &copy).await.as_ref(), Some(&first.1.certificate));
    let used = until("the status says what is in use", async || {
        let status = world.api::<Cluster>().get("zoo").await.unwrap().status?;
        status.certificates.filter(|c| c.server_is_given("zoo"))
    })
    .await;
    assert_eq!(used.server_tls_secret.as_deref(), Some("mine"));
    assert_eq!(used.expirations["mine"].0, inspect::not_after(first.1.certificate.as_bytes()).unwrap());

    // Broken: what is in use stays, and the cluster is what it was.
    let pods = async || {
        let list = world.api::<Pod>().list(&ListParams::default()).await.unwrap();
        list.items.iter().map(ResourceExt::uid).collect::<Vec<_>>()
    };
    let before = pods().await;
    patch::<Secret>(&world, "mine", json!({"stringData": {"tls.key": "gone"}})).await;
    let message = told(&world, "CertificateInvalid").await;
    assert!(
        message.contains("Secret mine (certificates.serverTLSSecret): key tls.key cannot be used"),
        "{message}"
    );
    until("the event is there", async || {
        world.event_reasons("zoo").await.iter().any(|r| r == "CertificateInvalid").then_some(())
    })
    .await;
    assert_eq!(certificate(&world, &copy).await.as_ref(), Some(&first.1.certificate));
    healthy(&world, "zoo", 2).await;

    // Another one.
    let second = server(&["zoo-rw"]);
    patch::<Secret>(&world, "mine", json!({"stringData": secret(&second)})).await;
    let message = told(&world, "ServerNamesMissing").await;
    assert!(message.contains("not for the services zoo-ro, zoo-r:"), "{message}");
    until("it is taken up", async || {
        (certificate(&world, &copy).await.as_ref() == Some(&second.1.certificate)).then_some(())
    })
    .await;
    assert_eq!(pods().await, before, "no pod was made anew");

    // Nothing is given any more, and nothing of it stays.
    patch::<Cluster>(&world, "zoo", json!({"spec": {"certificates": null}})).await;
    until("the copy is empty", async || {
        (certificate(&world, &copy).await.as_deref() == Some("")).then_some(())
    })
    .await;
    until("the operator's own is in use", async || {
        let status = world.api::<Cluster>().get("zoo").await.unwrap().status?;
        let gone = conditions::get(&status.conditions, conditions::CERTIFICATES_VALID).is_none();
        (gone && !status.certificates?.server_is_given("zoo")).then_some(())
    })
    .await;
}
