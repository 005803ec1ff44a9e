//! Probes of real containers.

use serde_json::json;

use crate::lab::{Lab, condition};

#[tokio::test]
async fn readiness_follows_the_probe() {
    let lab = Lab::start().await;
    let probe =
        json!({"exec": {"command": ["test", "-f", "/tmp/ready"]}, "periodSeconds": 1, "failureThreshold": 1});
    let script = "sleep 1; touch /tmp/ready; sleep 3; rm /tmp/ready; sleep 1000";
    lab.shell("ready", script, json!({"container": {"readinessProbe": probe}})).await;
    lab.pod_is("ready", "running", |status| status.phase.as_deref() == Some("Running")).await;
    lab.ready("ready").await;
    lab.pod_is("ready", "unready again", |status| condition(status, "Ready") == "False").await;
    lab.has_event("ready", "Unhealthy").await;
    lab.stop().await;
}

#[tokio::test]
async fn liveness_restarts_and_startup_holds_it_off() {
    let lab = Lab::start().await;
    let script = "sleep 2; touch /tmp/started /tmp/live; sleep 2; rm /tmp/live; sleep 1000 & wait";
    let check = |file: &str, failures: i32| json!({"exec": {"command": ["test", "-f", file]}, "periodSeconds": 1, "failureThreshold": failures, "terminationGracePeriodSeconds": 1});
    let extra = json!({"container": {"startupProbe": check("/tmp/started", 30), "livenessProbe": check("/tmp/live", 1)}});
    lab.shell("live", script, extra).await;
    lab.ready("live").await;
    let status = lab
        .pod_is("live", "restarted", |status| {
            status.container_statuses.as_ref().is_some_and(|all| all[0].restart_count == 1)
        })
        .await;
    assert!(status.container_statuses.unwrap()[0].last_state.is_some());
    lab.has_event("live", "Killing").await;
    lab.stop().await;
}

#[tokio::test]
async fn http_and_tcp_are_asked_at_the_pod_address() {
    let lab = Lab::start().await;
    let script = "exec python3 -c \"
import http.server, os
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == '/ok' and self.headers.get('X') == 'y' else 500); self.end_headers()
http.server.HTTPServer((os.environ['IP'], 8099), H).serve_forever()\"";
    let extra = json!({"container": {
        "env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
        "ports": [{"name": "web", "containerPort": 8099}],
        "startupProbe": {"tcpSocket": {"port": 8099}, "periodSeconds": 1, "failureThreshold": 60},
        "readinessProbe": {"httpGet": {"path": "/ok", "port": "web", "httpHeaders": [{"name": "X", "value": "y"}]}, "periodSeconds": 1, "timeoutSeconds": 5},
        "livenessProbe": {"httpGet": {"path": "/bad", "port": "web"}, "periodSeconds": 2, "failureThreshold": 1000}}});
    lab.shell("web", script, extra).await;
    lab.ready("web").await;
    lab.has_event("web", "Unhealthy").await;
    lab.stop().await;
}
