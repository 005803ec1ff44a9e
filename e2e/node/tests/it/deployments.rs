//! Deployments and kubectl.

use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::lab::{Lab, shell_container};

fn deployment(replicas: i32) -> Value {
    json!({"metadata": {"name": "web"}, "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}},
            "spec": {"terminationGracePeriodSeconds": 1, "containers": [shell_container("main", "echo v1; sleep 1000 & wait")]}}}})
}

fn complete(replicas: i32) -> impl Fn(&Deployment) -> bool {
    move |deployment| {
        let Some(status) = &deployment.status else { return false };
        status.observed_generation == deployment.metadata.generation
            && status.updated_replicas == Some(replicas)
            && status.available_replicas == Some(replicas)
            && status.replicas == Some(replicas)
    }
}

#[tokio::test]
async fn a_deployment_rolls_out_scales_and_rolls_over() {
    let lab = Lab::start().await;
    let _: Deployment = lab.create(deployment(2)).await;
    lab.wait_for("web", "complete", complete(2)).await;
    let api: Api<Deployment> = Api::namespaced(lab.client.clone(), "default");
    let patch = |value: Value| {
        let api = api.clone();
        async move { api.patch("web", &PatchParams::default(), &Patch::Merge(&value)).await.unwrap() }
    };
    patch(json!({"spec": {"replicas": 3}})).await;
    lab.wait_for("web", "scaled up", complete(3)).await;
    patch(json!({"spec": {"replicas": 1}})).await;
    lab.wait_for("web", "scaled down", complete(1)).await;
    let old = lab.node().pods_in("default");
    patch(json!({"spec": {"template": {"spec": {"containers": [shell_container("main", "echo v2; sleep 1000 & wait")]}}}}))
        .await;
    let done = lab.wait_for("web", "rolled over", complete(1)).await;
    let progressing = done.status.unwrap().conditions.unwrap();
    assert!(progressing.iter().any(|c| c.reason.as_deref() == Some("NewReplicaSetAvailable")));
    let deadline = tokio::time::Instant::now() + crate::lab::PATIENCE;
    while lab.node().pods_in("default").iter().any(|pod| old.contains(pod)) {
        assert!(tokio::time::Instant::now() < deadline, "the old pod is still there");
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    lab.stop().await;
}

#[tokio::test]
async fn a_deleted_pod_of_a_deployment_comes_back() {
    let lab = Lab::start().await;
    let _: Deployment = lab.create(deployment(1)).await;
    lab.wait_for("web", "complete", complete(1)).await;
    let old = lab.node().pods_in("default");
    lab.delete(&old[0]).await;
    lab.gone(&old[0]).await;
    lab.wait_for("web", "complete again", complete(1)).await;
    lab.stop().await;
}
