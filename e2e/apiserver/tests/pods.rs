//! Pods: binding, grace, eviction, logs.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod support;

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use support::{Lab, eventually, refusal, request, request_as, system_kubectl, text};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

const PODS: &str = "/api/v1/namespaces/default/pods";

async fn pod(lab: &Lab, name: &str) -> Value {
    let body = json!({"metadata": {"name": name, "labels": {"app": "x"}},
        "spec": {"containers": [{"name": "c", "image": "i:1"}]}});
    request(&lab.client, "POST", PODS, body).await.unwrap()
}

async fn bind(lab: &Lab, name: &str) {
    let body = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
        "target": {"kind": "Node", "name": "n"}});
    request(&lab.client, "POST", &format!("{PODS}/{name}/binding"), body).await.unwrap();
}

async fn get(lab: &Lab, name: &str) -> Result<Value, kube::Error> {
    request(&lab.client, "GET", &format!("{PODS}/{name}"), Value::Null).await
}

#[tokio::test]
async fn grace_ends_when_the_kubelet_says_so() {
    let lab = Lab::start().await;
    pod(&lab, "unscheduled").await;
    request(&lab.client, "DELETE", &format!("{PODS}/unscheduled"), Value::Null).await.unwrap();
    assert!(get(&lab, "unscheduled").await.is_err(), "no node has to be waited for");

    let made = pod(&lab, "p").await;
    bind(&lab, "p").await;
    let twice = json!({"target": {"kind": "Node", "name": "m"}});
    assert_eq!(refusal(request(&lab.client, "POST", &format!("{PODS}/p/binding"), twice).await).0, 409);
    let path = format!("{PODS}/p");
    let going = request(&lab.client, "DELETE", &path, Value::Null).await.unwrap();
    assert_eq!(going["metadata"]["deletionGracePeriodSeconds"], 30);
    // A longer grace does not count any more, a shorter one does.
    let longer =
        request(&lab.client, "DELETE", &format!("{path}?gracePeriodSeconds=60"), Value::Null).await.unwrap();
    assert_eq!(longer["metadata"]["deletionGracePeriodSeconds"], 30);
    let shorter =
        request(&lab.client, "DELETE", &format!("{path}?gracePeriodSeconds=5"), Value::Null).await.unwrap();
    assert_eq!(shorter["metadata"]["deletionGracePeriodSeconds"], 5);
    // The kubelet may still report, and ends only the pod it knows.
    let status = json!({"status": {"phase": "Running"}});
    request_as(&lab.client, "PATCH", &format!("{path}/status"), "application/merge-patch+json", status)
        .await
        .unwrap();
    let other =
        json!({"gracePeriodSeconds": 0, "preconditions": {"uid": "00000000-0000-0000-0000-000000000000"}});
    assert_eq!(refusal(request(&lab.client, "DELETE", &path, other).await).0, 409);
    let own = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": made["metadata"]["uid"]}});
    request(&lab.client, "DELETE", &path, own).await.unwrap();
    assert!(get(&lab, "p").await.is_err());
    lab.server.shutdown().await;
}

#[tokio::test]
async fn a_budget_holds_evictions_back() {
    let lab = Lab::start().await;
    let budget = json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "x"}}}});
    request(&lab.client, "POST", "/apis/policy/v1/namespaces/default/poddisruptionbudgets", budget)
        .await
        .unwrap();
    let ready = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    for name in ["a", "b"] {
        pod(&lab, name).await;
        bind(&lab, name).await;
        let path = format!("{PODS}/{name}/status");
        request_as(&lab.client, "PATCH", &path, "application/merge-patch+json", ready.clone()).await.unwrap();
    }
    eventually("one disruption is allowed", || async {
        let path = "/apis/policy/v1/namespaces/default/poddisruptionbudgets/b";
        let budget = request(&lab.client, "GET", path, Value::Null).await.unwrap();
        budget["status"]["disruptionsAllowed"] == 1
    })
    .await;
    let evict = async |name: &str| {
        let body = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}});
        request(&lab.client, "POST", &format!("{PODS}/{name}/eviction"), body).await
    };
    evict("a").await.unwrap();
    assert!(get(&lab, "a").await.unwrap()["metadata"].get("deletionTimestamp").is_some());
    let (code, message) = refusal(evict("b").await);
    assert_eq!(
        (code, message.as_str()),
        (429, "Cannot evict pod as it would violate the pod's disruption budget.")
    );
    lab.server.shutdown().await;
}

/// A kubelet that knows one log.
async fn kubelet() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let config =
        ServerConfig::builder().with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key);
    let acceptor = TlsAcceptor::from(Arc::new(config.unwrap()));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut tls) = acceptor.accept(stream).await else { continue };
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(tls.read_u8().await.unwrap());
            }
            let line = text(&head).lines().next().unwrap().to_owned();
            let body = format!("log of {line}\n");
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            tls.write_all(answer.as_bytes()).await.unwrap();
            let _ = tls.shutdown().await;
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_come_from_the_kubelet() {
    let lab = Lab::start().await;
    pod(&lab, "p").await;
    let kubectl = system_kubectl();
    let early = lab.kubectl(&kubectl, &["logs", "p"], "").await;
    assert!(text(&early.stderr).contains("does not have a host assigned"), "{}", text(&early.stderr));
    bind(&lab, "p").await;
    let node = json!({"metadata": {"name": "n"}, "status": {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet().await}}}});
    request(&lab.client, "POST", "/api/v1/nodes", node).await.unwrap();
    let log = lab.kubectl_ok(&kubectl, &["logs", "p", "--tail=5"], "").await;
    assert_eq!(log, "log of GET /containerLogs/default/p/c?tailLines=5 HTTP/1.1\n");
    let wrong = lab.kubectl(&kubectl, &["logs", "p", "-c", "none"], "").await;
    assert!(text(&wrong.stderr).contains("container none is not valid for pod p"), "{}", text(&wrong.stderr));
    lab.server.shutdown().await;
}

#[tokio::test]
async fn services_keep_their_addresses() {
    let lab = Lab::start().await;
    let path = "/api/v1/namespaces/default/services";
    let service = |name: &str, ip: &str| {
        let mut body =
            json!({"metadata": {"name": name}, "spec": {"ports": [{"port": 1}], "selector": {"a": "b"}}});
        if !ip.is_empty() {
            body["spec"]["clusterIP"] = ip.into();
        }
        body
    };
    let first = request(&lab.client, "POST", path, service("a", "")).await.unwrap();
    let address = first["spec"]["clusterIP"].as_str().unwrap().to_owned();
    let taken = refusal(request(&lab.client, "POST", path, service("b", &address)).await).1;
    assert!(taken.contains("provided IP is already allocated"), "{taken}");
    let outside = refusal(request(&lab.client, "POST", path, service("b", "10.0.0.1")).await).1;
    assert!(outside.contains("not in the valid range"), "{outside}");
    let asked = request(&lab.client, "POST", path, service("b", "127.64.0.77")).await.unwrap();
    assert_eq!(asked["spec"]["clusterIPs"], json!(["127.64.0.77"]));
    let changed = json!({"spec": {"clusterIP": "127.64.0.78", "clusterIPs": ["127.64.0.78"]}});
    let patch =
        request_as(&lab.client, "PATCH", &format!("{path}/b"), "application/merge-patch+json", changed).await;
    assert!(refusal(patch).1.contains("may not change once set"));
    // An update that leaves the address out keeps it.
    let mut body = service("a", "");
    body["spec"]["ports"] = json!([{"port": 2}]);
    let replaced = request(&lab.client, "PUT", &format!("{path}/a"), body).await.unwrap();
    assert_eq!(replaced["spec"]["clusterIP"], address);
    lab.server.shutdown().await;
}
