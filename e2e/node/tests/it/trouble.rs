//! An API server that has a bad day. Faults are asked of the API double.

use std::time::Duration;

use howdah_lab_apiserver::faults::{Effect, Matcher};
use k8s_openapi::api::apps::v1::Deployment;
use serde_json::json;

use crate::lab::{Lab, shell_container};

#[tokio::test]
async fn pods_live_and_end_through_conflicts_and_errors() {
    let lab = Lab::start().await;
    let faults = lab.api.faults();
    faults.inject_times(Matcher::resource("pods").verbs(&["patch"]), Effect::Conflict, 4);
    faults.inject_times(Matcher::resource("pods").verbs(&["patch"]), Effect::LostAnswer, 2);
    let binding = Matcher { subresource: Some("binding".into()), ..Matcher::resource("pods") };
    faults.inject_times(binding, Effect::InternalError, 2);
    lab.shell("tough", "echo up; sleep 1000 & wait", json!({})).await;
    lab.ready("tough").await;
    let faults = lab.api.faults();
    faults.inject_times(Matcher::resource("pods").verbs(&["patch", "delete"]), Effect::Conflict, 3);
    // The user's own request meets one of the conflicts.
    while lab.pods().delete("tough", &Default::default()).await.is_err() {}
    lab.gone("tough").await;
    lab.stop().await;
}

#[tokio::test]
async fn an_outage_is_waited_out() {
    let lab = Lab::start().await;
    lab.shell("before", "echo up; sleep 1000 & wait", json!({})).await;
    lab.ready("before").await;
    let pid = lab.node().container_pid("default", "before", "main").unwrap();
    lab.api.faults().set_outage(true);
    lab.node().kill_container("default", "before", "main", howdah_lab_node::Signal::SIGKILL).unwrap();
    let pid_is = |wanted: &'static str, check: fn(Option<i32>, i32) -> bool| {
        let lab = &lab;
        async move {
            let deadline = tokio::time::Instant::now() + crate::lab::PATIENCE;
            while !check(lab.node().container_pid("default", "before", "main"), pid) {
                assert!(tokio::time::Instant::now() < deadline, "the container never was {wanted}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    };
    // A restart reads what the pod refers to; it has to wait for the server, and must not give up.
    pid_is("noticed dead", |now, _| now.is_none()).await;
    lab.api.faults().set_outage(false);
    pid_is("started again", |now, old| now.is_some_and(|now| now != old)).await;
    lab.api.expire_versions();
    lab.api.faults().drop_watches(Matcher::default());
    lab.pod_is("before", "told about the restart", |status| {
        status.container_statuses.as_ref().is_some_and(|all| all[0].restart_count == 1 && all[0].ready)
    })
    .await;
    let _: Deployment = lab
        .create(json!({"metadata": {"name": "web"}, "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [shell_container("main", "sleep 1000 & wait")]}}}}))
        .await;
    lab.wait_for("web", "available", |web: &Deployment| {
        web.status.as_ref().is_some_and(|status| status.available_replicas == Some(1))
    })
    .await;
    lab.stop().await;
}
