//! Claims.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::Api;
use serde_json::{Value, json};

use crate::lab::Lab;

fn claim(name: &str, size: &str, class: Option<&str>) -> Value {
    json!({"metadata": {"name": name}, "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": class,
        "resources": {"requests": {"storage": size}}}})
}

fn with_claim(name: &str) -> Value {
    json!({"restartPolicy": "Never", "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": name}}],
        "container": {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}})
}

#[tokio::test]
async fn a_claim_outlives_its_pods_and_ends_with_its_deletion() {
    let lab = Lab::start().await;
    lab.shell("first", "echo kept > /v/f", with_claim("data")).await;
    lab.has_event("first", "FailedMount").await;
    let _: PersistentVolumeClaim = lab.create(claim("data", "1Gi", None)).await;
    lab.output("first").await;
    lab.delete("first").await;
    lab.gone("first").await;
    lab.shell("second", "cat /v/f", with_claim("data")).await;
    assert_eq!(lab.output("second").await, "kept\n");

    let bound: PersistentVolumeClaim = lab.wait_for("data", "bound", |_| true).await;
    let status = bound.status.unwrap();
    assert_eq!(status.phase.as_deref(), Some("Bound"));
    assert_eq!(status.capacity.unwrap()["storage"].0, "1Gi");
    let volumes: Api<PersistentVolume> = Api::all(lab.client.clone());
    let name = bound.spec.unwrap().volume_name.unwrap();
    let path = volumes.get(&name).await.unwrap().spec.unwrap().host_path.unwrap().path;
    lab.delete("second").await;
    lab.gone("second").await;
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(lab.client.clone(), "default");
    claims.delete("data", &Default::default()).await.unwrap();
    let deadline = tokio::time::Instant::now() + crate::lab::PATIENCE;
    while volumes.get_opt(&name).await.unwrap().is_some() || std::path::Path::new(&path).exists() {
        assert!(tokio::time::Instant::now() < deadline, "the volume is still there");
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    lab.stop().await;
}

#[tokio::test]
async fn a_bounded_claim_is_really_full_when_it_is_full() {
    let lab = Lab::start().await;
    let _: PersistentVolumeClaim = lab.create(claim("small", "2Mi", Some("bounded"))).await;
    let script = "dd if=/dev/zero of=/v/a bs=1k count=1024 2>/dev/null && echo fits; \
                  dd if=/dev/zero of=/v/b bs=1k count=2048 2>&1 | grep -o 'No space left' | head -1";
    lab.shell("full", script, with_claim("small")).await;
    assert_eq!(lab.output("full").await, "fits\nNo space left\n");
    lab.stop().await;
}

#[tokio::test]
async fn an_unknown_class_leaves_the_claim_pending() {
    let lab = Lab::start().await;
    let _: PersistentVolumeClaim = lab.create(claim("odd", "1Gi", Some("nobody"))).await;
    lab.has_event("odd", "ProvisioningFailed").await;
    let odd: PersistentVolumeClaim = lab.wait_for("odd", "there", |_| true).await;
    assert_ne!(odd.status.and_then(|status| status.phase).as_deref(), Some("Bound"));
    lab.stop().await;
}

#[tokio::test]
async fn memory_volumes_have_their_limit() {
    let lab = Lab::start().await;
    let extra = json!({"restartPolicy": "Never",
        "volumes": [{"name": "v", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}],
        "container": {"volumeMounts": [{"name": "v", "mountPath": "/dev/shm"}]}});
    let script = "df --output=size -k /dev/shm | tail -1 | tr -d ' '";
    lab.shell("shm", script, extra).await;
    assert_eq!(lab.output("shm").await, "1024\n");
    lab.stop().await;
}
