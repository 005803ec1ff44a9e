//! Services by name, address and selector.

use k8s_openapi::api::core::v1::{Endpoints, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::lab::Lab;

/// Answers every connection with its name.
fn server(name: &str) -> String {
    format!(
        "exec python3 -c \"
import socket, os
s = socket.create_server((os.environ['IP'], 7000))
while True:
    c, _ = s.accept(); c.sendall(b'{name}\\n'); c.close()\""
    )
}

fn options(role: &str) -> serde_json::Value {
    json!({"container": {
        "env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}, {"name": "ROLE", "value": role}],
        "ports": [{"name": "hello", "containerPort": 7000}],
        "readinessProbe": {"tcpSocket": {"port": "hello"}, "periodSeconds": 1}}})
}

/// Asks a host name from inside a pod.
fn ask(host: &str) -> String {
    format!("exec 3<>/dev/tcp/{host}/80; read -r line <&3; echo got $line")
}

#[tokio::test]
async fn names_lead_to_ready_pods_and_follow_the_selector() {
    let lab = Lab::start().await;
    lab.shell("one", &server("one"), options("a")).await;
    lab.shell("two", &server("two"), options("b")).await;
    let _: Service = lab
        .create(json!({"metadata": {"name": "hello"}, "spec": {"selector": {"app": "one"},
            "ports": [{"name": "x", "port": 80, "targetPort": "hello"}]}}))
        .await;
    // The endpoints follow the pods; a client that comes too early is refused.
    let ready = |ip: Option<String>| {
        move |endpoints: &Endpoints| {
            let found: Vec<String> = endpoints
                .subsets
                .iter()
                .flatten()
                .flat_map(|subset| subset.addresses.iter().flatten().map(|address| address.ip.clone()))
                .collect();
            ip.as_ref().is_some_and(|ip| found == [ip.clone()])
        }
    };
    let one = lab.ready("one").await.pod_ip;
    lab.wait_for("hello", "leading to one", ready(one)).await;
    for (client, host) in
        [("short", "hello"), ("mid", "hello.default.svc"), ("long", "hello.default.svc.cluster.local")]
    {
        let bash =
            json!({"restartPolicy": "OnFailure", "container": {"command": ["/bin/bash", "-c", ask(host)]}});
        lab.shell(client, "", bash).await;
        assert_eq!(lab.output(client).await, "got one\n", "{host}");
    }
    let services: Api<Service> = Api::namespaced(lab.client.clone(), "default");
    let patch = json!({"spec": {"selector": {"app": "two"}}});
    services.patch("hello", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    let two = lab.ready("two").await.pod_ip;
    lab.wait_for("hello", "leading to two", ready(two)).await;
    let slices: Api<EndpointSlice> = Api::namespaced(lab.client.clone(), "default");
    assert_eq!(slices.get("hello-lab").await.unwrap().ports.unwrap()[0].port, Some(7000));

    // A pod that runs already sees services come and go.
    let script = "echo up; until grep -q later.default.svc /etc/hosts; do sleep 0.1; done; echo there; \
                  while grep -q later.default.svc /etc/hosts; do sleep 0.1; done; echo gone";
    lab.shell("watcher", script, json!({"restartPolicy": "Never"})).await;
    lab.wrote("watcher", "up").await;
    let _: Service =
        lab.create(json!({"metadata": {"name": "later"}, "spec": {"ports": [{"port": 1}]}})).await;
    lab.wrote("watcher", "there").await;
    services.delete("later", &Default::default()).await.unwrap();
    assert_eq!(lab.output("watcher").await, "up\nthere\ngone\n");
    lab.stop().await;
}

#[tokio::test]
async fn the_api_server_is_reached_from_a_pod() {
    let lab = Lab::start().await;
    let script = "T=/var/run/secrets/kubernetes.io/serviceaccount; exec python3 -c \"
import os, ssl, urllib.request
url = f'https://{os.environ[\\\"KUBERNETES_SERVICE_HOST\\\"]}:{os.environ[\\\"KUBERNETES_SERVICE_PORT\\\"]}/version'
request = urllib.request.Request(url, headers={'Authorization': 'Bearer ' + open('$T/token').read()})
context = ssl.create_default_context(cafile='$T/ca.crt')
print(urllib.request.urlopen(request, context=context).status)\"";
    lab.shell(
        "client",
        &script.replace("$T", "/var/run/secrets/kubernetes.io/serviceaccount"),
        json!({"restartPolicy": "Never"}),
    )
    .await;
    assert_eq!(lab.output("client").await, "200\n");
    lab.stop().await;
}
