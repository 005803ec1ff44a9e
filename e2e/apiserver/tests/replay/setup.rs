//! What the transcripts take for granted: objects made off stage, and the parts of a cluster that ran beside the
//! recorded server (scheduler, controllers), played by the test.

use serde_json::{Value, json};

use super::Replay;

const NS: &str = "/api/v1/namespaces/transcript";
const WIDGETS: &str = "/apis/lab.example.com/v1/namespaces/transcript/widgets";
const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";

fn widget(name: &str) -> Value {
    json!({"apiVersion": "lab.example.com/v1", "kind": "Widget", "metadata": {"name": name}, "spec": {"size": 1}})
}

/// Sets the stage for a step.
pub async fn before(replay: &Replay, scenario: &str, step: &str) {
    match (scenario, step) {
        ("10-delete", "precondition uid differs") => {
            replay.call("POST", WIDGETS, JSON, widget("p")).await;
        }
        ("10-delete", "foreground: a finalizer is set") => {
            replay.call("POST", WIDGETS, JSON, widget("fg")).await;
        }
        ("10-delete", "delete a collection") => {
            for name in ["c1", "c2"] {
                let secret = json!({"metadata": {"name": name, "labels": {"del": "yes"}}});
                replay.call("POST", &format!("{NS}/secrets"), JSON, secret).await;
            }
        }
        ("11-core-objects", "pod: strategic merge of labels and status") => {
            // The scheduler found no node.
            let condition = json!({"type": "PodScheduled", "observedGeneration": 1, "status": "False",
                "lastProbeTime": null, "lastTransitionTime": "2026-01-02T03:04:05Z", "reason": "Unschedulable",
                "message": "no nodes available to schedule pods"});
            let patch = json!({"status": {"conditions": [condition]}});
            let path = format!("{NS}/pods/pod/status");
            replay.call("PATCH", &path, "application/strategic-merge-patch+json", patch).await;
        }
        ("12-leases-and-events", "the same event read through core") => {
            // Eight events of the controllers that ran beside the recorded server.
            for index in 0..8 {
                let event = json!({"metadata": {"name": format!("other-{index}")}, "reason": "FailedScheduling",
                    "type": "Warning", "message": "from elsewhere",
                    "involvedObject": {"kind": "Pod", "namespace": "transcript", "name": "pod"}});
                replay.call("POST", &format!("{NS}/events"), JSON, event).await;
            }
        }
        ("13-access", "a token for a service account") => {
            let account = json!({"metadata": {"name": "limited"}});
            replay.call("POST", &format!("{NS}/serviceaccounts"), JSON, account).await;
        }
        ("14-namespace-deletion", "delete") => {
            replay.call("POST", "/api/v1/namespaces", JSON, json!({"metadata": {"name": "going"}})).await;
            // Something that holds the namespace long enough to look at it.
            let mut held = widget("held");
            held["metadata"]["finalizers"] = json!(["lab.example.com/hold"]);
            replay.call("POST", "/apis/lab.example.com/v1/namespaces/going/widgets", JSON, held).await;
        }
        _ => {}
    }
}

/// What is done while a watch is open.
pub async fn during(replay: &Replay, script: &str) {
    assert_eq!(script, "create w1 sel=yes v=1; v=2; label sel=no; label sel=yes; delete");
    let maps = format!("{NS}/configmaps");
    let one = format!("{maps}/w1");
    let map = json!({"metadata": {"name": "w1", "labels": {"sel": "yes"}}, "data": {"v": "1"}});
    replay.call("POST", &maps, JSON, map).await;
    replay.call("PATCH", &one, MERGE, json!({"data": {"v": "2"}})).await;
    replay.call("PATCH", &one, MERGE, json!({"metadata": {"labels": {"sel": "no"}}})).await;
    replay.call("PATCH", &one, MERGE, json!({"metadata": {"labels": {"sel": "yes"}}})).await;
    replay.call("DELETE", &one, JSON, json!({})).await;
}
