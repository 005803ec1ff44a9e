//! Who may do what: tokens, roles, reviews.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::{Lab, client, refusal, request};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

async fn account(lab: &Lab, name: &str) -> kube::Client {
    let body = json!({"metadata": {"name": name}});
    request(&lab.client, "POST", "/api/v1/namespaces/default/serviceaccounts", body).await.unwrap();
    let text = lab.server.kubeconfig_for_service_account("default", name, Duration::from_secs(3600)).unwrap();
    client(&text).await
}

async fn grant(lab: &Lab, account: &str, name: &str, rules: Value) {
    let role = json!({"metadata": {"name": name}, "rules": rules});
    request(&lab.client, "POST", &format!("{RBAC}/namespaces/default/roles"), role).await.unwrap();
    let binding = json!({"metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": "default"}]});
    request(&lab.client, "POST", &format!("{RBAC}/namespaces/default/rolebindings"), binding).await.unwrap();
}

#[tokio::test]
async fn nobody_grants_more_than_they_have() {
    let lab = Lab::start().await;
    let limited = account(&lab, "limited").await;
    grant(&lab, "limited", "own", json!([
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]},
        {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles", "rolebindings"], "verbs": ["create"]},
    ]))
    .await;
    let roles = format!("{RBAC}/namespaces/default/roles");
    let within = json!({"metadata": {"name": "within"}, "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]});
    request(&limited, "POST", &roles, within).await.unwrap();
    let beyond = json!({"metadata": {"name": "beyond"}, "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]});
    let (code, message) = refusal(request(&limited, "POST", &roles, beyond).await);
    assert_eq!(code, 403);
    assert!(
        message.contains("is attempting to grant RBAC permissions not currently held")
            && message.contains("secrets"),
        "{message}"
    );
    let binding = json!({"metadata": {"name": "beyond"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": "limited", "namespace": "default"}]});
    let bindings = format!("{RBAC}/namespaces/default/rolebindings");
    assert_eq!(refusal(request(&limited, "POST", &bindings, binding).await).0, 403);
    lab.server.shutdown().await;
}

#[tokio::test]
async fn a_token_dies_with_its_pod_and_with_its_account() {
    let lab = Lab::start().await;
    account(&lab, "mortal").await;
    let pods = "/api/v1/namespaces/default/pods";
    let pod = json!({"metadata": {"name": "p"}, "spec": {"serviceAccountName": "mortal", "containers": [{"name": "c", "image": "i"}]}});
    let pod = request(&lab.client, "POST", pods, pod).await.unwrap();
    let projected = pod["spec"]["volumes"][0]["projected"]["sources"].as_array().unwrap();
    assert!(projected[0].get("serviceAccountToken").is_some(), "the pod gets a token volume");
    let asked = json!({"spec": {"expirationSeconds": 600, "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": pod["metadata"]["uid"]}}});
    let path = "/api/v1/namespaces/default/serviceaccounts/mortal/token";
    let issued = request(&lab.client, "POST", path, asked).await.unwrap();
    let token = issued["status"]["token"].as_str().unwrap();
    let review = async || {
        let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}});
        request(&lab.client, "POST", "/apis/authentication.k8s.io/v1/tokenreviews", body).await.unwrap()["status"].clone()
    };
    let alive = review().await;
    assert_eq!(alive["user"]["username"], "system:serviceaccount:default:mortal");
    assert_eq!(alive["user"]["extra"]["authentication.kubernetes.io/pod-name"], json!(["p"]));
    request(&lab.client, "DELETE", &format!("{pods}/p"), Value::Null).await.unwrap();
    assert_eq!(review().await["authenticated"], false);
    let (code, _) =
        refusal(request(&lab.client, "POST", path, json!({"spec": {"expirationSeconds": 5}})).await);
    assert_eq!(code, 422);

    let text =
        lab.server.kubeconfig_for_service_account("default", "mortal", Duration::from_secs(600)).unwrap();
    let mortal = client(&text).await;
    let (code, message) = refusal(request(&mortal, "GET", pods, Value::Null).await);
    assert!(code == 403 && message.contains("system:serviceaccount:default:mortal"), "{message}");
    request(&lab.client, "DELETE", "/api/v1/namespaces/default/serviceaccounts/mortal", Value::Null)
        .await
        .unwrap();
    assert_eq!(refusal(request(&mortal, "GET", pods, Value::Null).await).0, 401);
    lab.server.shutdown().await;
}

#[tokio::test]
async fn reviews_answer_for_others() {
    let lab = Lab::start().await;
    account(&lab, "reader").await;
    grant(
        &lab,
        "reader",
        "reader",
        json!([{"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["one"], "verbs": ["get"]}]),
    )
    .await;
    let review = async |name: &str| {
        let body = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": {"user": "system:serviceaccount:default:reader", "resourceAttributes":
                {"namespace": "default", "verb": "get", "resource": "secrets", "name": name}}});
        let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
        request(&lab.client, "POST", path, body).await.unwrap()["status"]["allowed"].clone()
    };
    assert_eq!(review("one").await, true);
    assert_eq!(review("two").await, false);
    lab.server.shutdown().await;
}

#[tokio::test]
async fn a_client_certificate_has_the_rights_of_its_groups() {
    let lab = Lab::start().await;
    let guest = client(&lab.server.client_kubeconfig("guest", &["visitors"]).unwrap()).await;
    let (code, message) = refusal(request(&guest, "GET", "/api/v1/nodes", Value::Null).await);
    assert_eq!(
        (code, message.as_str()),
        (
            403,
            "nodes is forbidden: User \"guest\" cannot list resource \"nodes\" in API group \"\" at the cluster scope"
        )
    );
    let binding = json!({"metadata": {"name": "visitors"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "Group", "name": "visitors"}]});
    request(&lab.client, "POST", &format!("{RBAC}/clusterrolebindings"), binding).await.unwrap();
    request(&guest, "GET", "/api/v1/nodes", Value::Null).await.unwrap();
    lab.server.shutdown().await;
}
