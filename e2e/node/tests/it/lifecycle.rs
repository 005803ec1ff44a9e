//! Starting again, being killed, ending in peace, losing the node.

use std::time::{Duration, Instant};

use howdah_lab_node::Signal;
use k8s_openapi::api::core::v1::{ContainerStatus, Node, PodStatus};
use kube::Api;
use kube::api::{DeleteParams, LogParams};
use serde_json::json;

use crate::lab::Lab;

fn main(status: &PodStatus) -> ContainerStatus {
    status.container_statuses.as_ref().and_then(|all| all.first()).cloned().unwrap_or_default()
}

#[tokio::test]
async fn a_killed_container_starts_again() {
    let lab = Lab::start().await;
    lab.shell("victim", "echo up; sleep 1000 & wait", json!({})).await;
    lab.ready("victim").await;
    let before = lab.wrote("victim", "up").await;
    lab.node().kill_container("default", "victim", "main", Signal::SIGKILL).unwrap();
    let status = lab
        .pod_is("victim", "running again", |status| {
            let container = main(status);
            container.restart_count == 1 && container.ready
        })
        .await;
    let last = main(&status).last_state.unwrap().terminated.unwrap();
    assert_eq!((last.exit_code, last.reason.as_deref()), (137, Some("Error")));
    assert_eq!(status.phase.as_deref(), Some("Running"));
    let previous = lab.logs("victim", LogParams { previous: true, ..Default::default() }).await;
    assert_eq!(previous, before);
    let deadline = Instant::now() + crate::lab::PATIENCE;
    while lab.node().kill_process("default", "victim", "main", "sleep", Signal::SIGKILL).is_err() {
        assert!(Instant::now() < deadline, "the shell never started its child");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    lab.pod_is("victim", "restarted after its child died", |status| main(status).restart_count >= 2).await;
    assert!(lab.node().kill_container("default", "victim", "none", Signal::SIGKILL).is_err());
    lab.stop().await;
}

#[tokio::test]
async fn a_frozen_container_stands_still_and_goes_on() {
    let lab = Lab::start().await;
    lab.shell("ticker", "n=0; while :; do n=$((n + 1)); echo tick $n.; sleep 0.05; done", json!({})).await;
    lab.wrote("ticker", "tick 2.").await;
    let pid = lab.node().container_pid("default", "ticker", "main").unwrap();
    let stopped = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit_once(") ").unwrap().1.starts_with('T')
    };
    let signal = |signal| lab.node().signal_all("default", "ticker", "main", signal).unwrap();
    signal(Signal::SIGSTOP);
    let deadline = Instant::now() + crate::lab::PATIENCE;
    while !stopped() {
        assert!(Instant::now() < deadline, "it never stood still");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let ticks = lab.logs("ticker", LogParams::default()).await.lines().count();
    signal(Signal::SIGCONT);
    lab.wrote("ticker", &format!("tick {}.", ticks + 2)).await;
    assert!(!stopped());
    let status = lab.pod_is("ticker", "running", |status| main(status).started == Some(true)).await;
    assert_eq!(main(&status).restart_count, 0);
    assert!(lab.node().signal_all("default", "ticker", "none", Signal::SIGSTOP).is_err());
    lab.stop().await;
}

#[tokio::test]
async fn a_failing_container_is_held_back() {
    let lab = Lab::start().await;
    lab.shell("loop", "exit 3", json!({})).await;
    let status = lab
        .pod_is("loop", "in CrashLoopBackOff", |status| {
            let container = main(status);
            let waiting = container.state.clone().and_then(|state| state.waiting);
            waiting.is_some_and(|w| w.reason.as_deref() == Some("CrashLoopBackOff"))
                && container.restart_count >= 2
        })
        .await;
    assert_eq!(main(&status).last_state.unwrap().terminated.unwrap().exit_code, 3);
    lab.has_event("loop", "BackOff").await;
    lab.stop().await;
}

#[tokio::test]
async fn policies_never_and_on_failure() {
    let lab = Lab::start().await;
    lab.shell("never", "exit 4", json!({"restartPolicy": "Never"})).await;
    let failed = lab.ended("never").await;
    assert_eq!(failed.phase.as_deref(), Some("Failed"));
    assert_eq!(main(&failed).state.unwrap().terminated.unwrap().exit_code, 4);
    let script = "test -f /v/f && exit 0; touch /v/f; exit 1";
    let extra = json!({"restartPolicy": "OnFailure", "volumes": [{"name": "v", "emptyDir": {}}],
        "container": {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}});
    lab.shell("retry", script, extra).await;
    let done = lab.ended("retry").await;
    assert_eq!((done.phase.as_deref(), main(&done).restart_count), (Some("Succeeded"), 1));
    lab.stop().await;
}

#[tokio::test]
async fn the_end_is_graceful() {
    let lab = Lab::start().await;
    let hook = json!({"lifecycle": {"preStop": {"exec": {"command": ["/bin/sh", "-c", "echo hook > /proc/1/fd/1"]}}}});
    lab.shell(
        "polite",
        "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.1; done",
        json!({"container": hook}),
    )
    .await;
    lab.wrote("polite", "up").await;
    let follow = tokio::spawn({
        let pods = lab.pods();
        async move {
            use futures::AsyncReadExt;
            let params = LogParams { follow: true, ..Default::default() };
            let mut text = String::new();
            pods.log_stream("polite", &params).await.unwrap().read_to_string(&mut text).await.unwrap();
            text
        }
    });
    let dir = lab.node().pod_dir("default", "polite").unwrap();
    lab.delete("polite").await;
    lab.gone("polite").await;
    assert_eq!(follow.await.unwrap(), "up\nhook\nbye\n");
    assert!(!dir.exists(), "nothing of the pod is left");
    lab.stop().await;
}

#[tokio::test]
async fn the_deaf_are_killed_when_their_time_is_up() {
    let lab = Lab::start().await;
    lab.shell(
        "deaf",
        "trap '' TERM; echo up; while :; do sleep 1; done",
        json!({"terminationGracePeriodSeconds": 1}),
    )
    .await;
    lab.wrote("deaf", "up").await;
    let pid = lab.node().container_pid("default", "deaf", "main").unwrap();
    lab.delete("deaf").await;
    lab.gone("deaf").await;
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    lab.stop().await;
}

#[tokio::test]
async fn a_pod_deleted_by_force_is_killed_too() {
    let lab = Lab::start().await;
    lab.shell("forced", "trap '' TERM; sleep 1000", json!({"terminationGracePeriodSeconds": 600})).await;
    lab.ready("forced").await;
    let pid = lab.node().container_pid("default", "forced", "main").unwrap();
    lab.pods()
        .delete("forced", &DeleteParams { grace_period_seconds: Some(0), ..Default::default() })
        .await
        .unwrap();
    let proc = format!("/proc/{pid}");
    let deadline = Instant::now() + crate::lab::PATIENCE;
    while std::path::Path::new(&proc).exists() {
        assert!(Instant::now() < deadline, "it still runs");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    lab.stop().await;
}

#[tokio::test]
async fn a_lost_node_comes_back_with_its_pods() {
    let lab = Lab::start().await;
    lab.shell("survivor", "echo up; sleep 1000 & wait", json!({})).await;
    let before = lab.ready("survivor").await;
    let pid = lab.node().container_pid("default", "survivor", "main").unwrap();
    lab.node().lose().await;
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    let told = lab.pods().get("survivor").await.unwrap().status.unwrap();
    assert_eq!(crate::lab::condition(&told, "Ready"), "True", "nobody was told");
    lab.node().recover();
    let after =
        lab.pod_is("survivor", "running again", |s| main(s).restart_count == 1 && main(s).ready).await;
    assert_eq!(after.pod_ip, before.pod_ip);
    lab.stop().await;
}

#[tokio::test]
async fn a_new_node_takes_over_from_the_old_one() {
    let mut lab = Lab::start().await;
    lab.shell("heir", "echo up; sleep 1000 & wait", json!({})).await;
    lab.shell("orphan", "sleep 1000", json!({})).await;
    lab.ready("heir").await;
    lab.ready("orphan").await;
    let orphan = lab.node().pod_dir("default", "orphan").unwrap();
    lab.node.take().unwrap().shutdown().await;
    lab.pods()
        .delete("orphan", &DeleteParams { grace_period_seconds: Some(0), ..Default::default() })
        .await
        .unwrap();
    assert!(orphan.exists());
    let next = lab.builder().start().await.unwrap();
    lab.node = Some(next);
    lab.pod_is("heir", "running again", |s| main(s).restart_count == 1 && main(s).ready).await;
    let deadline = Instant::now() + crate::lab::PATIENCE;
    while orphan.exists() {
        assert!(Instant::now() < deadline, "what the orphan left is still there");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    lab.stop().await;
}

#[tokio::test]
async fn the_node_is_registered_and_gives_signs_of_life() {
    let lab = Lab::start().await;
    let nodes: Api<Node> = Api::all(lab.client.clone());
    let status = nodes.get("lab-node-1").await.unwrap().status.unwrap();
    let ready = status.conditions.unwrap().into_iter().find(|c| c.type_ == "Ready").unwrap();
    assert_eq!(ready.status, "True");
    let port = status.daemon_endpoints.unwrap().kubelet_endpoint.unwrap().port;
    assert_eq!(port, i32::from(lab.node().kubelet_port()));
    let leases: Api<k8s_openapi::api::coordination::v1::Lease> =
        Api::namespaced(lab.client.clone(), "kube-node-lease");
    let deadline = Instant::now() + crate::lab::PATIENCE;
    loop {
        let lease = leases.get_opt("lab-node-1").await.unwrap();
        if lease.and_then(|lease| lease.spec?.renew_time).is_some() {
            break;
        }
        assert!(Instant::now() < deadline, "no lease");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    lab.stop().await;
}
