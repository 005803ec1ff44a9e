//! Owner references, finalizers and namespaces: what goes with what.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod support;

use serde_json::{Value, json};
use support::{Lab, eventually, request, request_as};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn map(lab: &Lab, name: &str, owners: Value) -> Value {
    let body = json!({"metadata": {"name": name, "ownerReferences": owners}});
    request(&lab.client, "POST", MAPS, body).await.unwrap()
}

fn owner(object: &Value, block: bool) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "name": object["metadata"]["name"],
        "uid": object["metadata"]["uid"], "blockOwnerDeletion": block})
}

async fn there(lab: &Lab, name: &str) -> bool {
    request(&lab.client, "GET", &format!("{MAPS}/{name}"), Value::Null).await.is_ok()
}

async fn gone(lab: &Lab, name: &str) {
    eventually(&format!("{name} is gone"), || async { !there(lab, name).await }).await;
}

async fn delete(lab: &Lab, name: &str, policy: &str) -> Value {
    let path = format!("{MAPS}/{name}?propagationPolicy={policy}");
    request(&lab.client, "DELETE", &path, Value::Null).await.unwrap()
}

#[tokio::test]
async fn background_deletion_takes_dependents_along() {
    let lab = Lab::start().await;
    let top = map(&lab, "top", json!([])).await;
    let middle = map(&lab, "middle", json!([owner(&top, false)])).await;
    map(&lab, "bottom", json!([owner(&middle, false)])).await;
    let other = map(&lab, "other", json!([])).await;
    map(&lab, "shared", json!([owner(&top, false), owner(&other, false)])).await;
    delete(&lab, "top", "Background").await;
    gone(&lab, "middle").await;
    gone(&lab, "bottom").await;
    eventually("the shared one keeps its other owner", || async {
        let shared = request(&lab.client, "GET", &format!("{MAPS}/shared"), Value::Null).await.unwrap();
        shared["metadata"]["ownerReferences"].as_array().unwrap().len() == 1
    })
    .await;
    lab.server.shutdown().await;
}

#[tokio::test]
async fn foreground_deletion_waits_for_what_blocks() {
    let lab = Lab::start().await;
    let top = map(&lab, "top", json!([])).await;
    map(&lab, "blocking", json!([owner(&top, true)])).await;
    let hold = json!({"metadata": {"finalizers": ["lab.example.com/hold"]}});
    let blocking = format!("{MAPS}/blocking");
    request_as(&lab.client, "PATCH", &blocking, "application/merge-patch+json", hold).await.unwrap();
    let marked = delete(&lab, "top", "Foreground").await;
    assert_eq!(marked["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    eventually("the dependent is marked", || async {
        let blocking = request(&lab.client, "GET", &blocking, Value::Null).await.unwrap();
        blocking["metadata"].get("deletionTimestamp").is_some()
    })
    .await;
    assert!(there(&lab, "top").await, "the owner waits");
    let release = json!({"metadata": {"finalizers": null}});
    request_as(&lab.client, "PATCH", &blocking, "application/merge-patch+json", release).await.unwrap();
    gone(&lab, "blocking").await;
    gone(&lab, "top").await;
    lab.server.shutdown().await;
}

#[tokio::test]
async fn orphans_stay_and_lose_their_reference() {
    let lab = Lab::start().await;
    let top = map(&lab, "top", json!([])).await;
    map(&lab, "child", json!([owner(&top, true)])).await;
    delete(&lab, "top", "Orphan").await;
    gone(&lab, "top").await;
    let child = request(&lab.client, "GET", &format!("{MAPS}/child"), Value::Null).await.unwrap();
    assert_eq!(child["metadata"].get("ownerReferences"), None);
    lab.server.shutdown().await;
}

#[tokio::test]
async fn what_never_had_an_owner_goes_and_a_second_life_does_not_count() {
    let lab = Lab::start().await;
    let first = map(&lab, "top", json!([])).await;
    delete(&lab, "top", "Background").await;
    map(&lab, "top", json!([])).await;
    // The reference names the first one's uid.
    map(&lab, "late", json!([owner(&first, false)])).await;
    gone(&lab, "late").await;
    assert!(there(&lab, "top").await);
    lab.server.shutdown().await;
}

#[tokio::test]
async fn a_namespace_is_emptied_before_it_goes() {
    let lab = Lab::start().await;
    request(&lab.client, "POST", "/api/v1/namespaces", json!({"metadata": {"name": "n"}})).await.unwrap();
    let account = "/api/v1/namespaces/n/serviceaccounts/default";
    request(&lab.client, "GET", account, Value::Null).await.unwrap();
    let authority = "/api/v1/namespaces/n/configmaps/kube-root-ca.crt";
    let map = request(&lab.client, "GET", authority, Value::Null).await.unwrap();
    assert!(map["data"]["ca.crt"].as_str().unwrap().contains("BEGIN CERTIFICATE"));
    let held = json!({"metadata": {"name": "held", "finalizers": ["lab.example.com/hold"]}});
    request(&lab.client, "POST", "/api/v1/namespaces/n/configmaps", held).await.unwrap();
    request(&lab.client, "DELETE", "/api/v1/namespaces/n", Value::Null).await.unwrap();
    eventually("the rest is gone", || async {
        request(&lab.client, "GET", account, Value::Null).await.is_err()
    })
    .await;
    let namespace = request(&lab.client, "GET", "/api/v1/namespaces/n", Value::Null).await.unwrap();
    assert_eq!(namespace["status"]["phase"], "Terminating");
    let release = json!({"metadata": {"finalizers": []}});
    let path = "/api/v1/namespaces/n/configmaps/held";
    request_as(&lab.client, "PATCH", path, "application/merge-patch+json", release).await.unwrap();
    eventually("the namespace is gone", || async {
        request(&lab.client, "GET", "/api/v1/namespaces/n", Value::Null).await.is_err()
    })
    .await;
    lab.server.shutdown().await;
}

#[tokio::test]
async fn a_claim_in_use_is_protected() {
    let lab = Lab::start().await;
    let claims = "/api/v1/namespaces/default/persistentvolumeclaims";
    let claim = json!({"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}}}});
    request(&lab.client, "POST", claims, claim).await.unwrap();
    let pods = "/api/v1/namespaces/default/pods";
    let pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n",
        "containers": [{"name": "c", "image": "i"}],
        "volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}]}});
    request(&lab.client, "POST", pods, pod).await.unwrap();
    let path = format!("{claims}/data");
    request(&lab.client, "DELETE", &path, Value::Null).await.unwrap();
    let marked = request(&lab.client, "GET", &path, Value::Null).await.unwrap();
    assert_eq!(marked["metadata"]["finalizers"], json!(["kubernetes.io/pvc-protection"]));
    request(&lab.client, "DELETE", &format!("{pods}/p?gracePeriodSeconds=0"), Value::Null).await.unwrap();
    eventually("the claim is gone", || async {
        request(&lab.client, "GET", &path, Value::Null).await.is_err()
    })
    .await;
    lab.server.shutdown().await;
}
