//! PostgreSQL as the pods of the product run it: another user, a passwd file made for the pod, a claim.

use howdah_lab_node::Signal;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use serde_json::json;

use crate::lab::{Lab, shell_container};

#[tokio::test]
async fn postgres_runs_as_user_26_and_survives_a_kill() {
    assert!(
        std::path::Path::new("/usr/lib/postgresql/15/bin/initdb").exists(),
        "PostgreSQL 15 is needed: apt-get install postgresql-15"
    );
    let lab = Lab::start().await;
    let _: PersistentVolumeClaim = lab
        .create(json!({"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}}}))
        .await;
    let mounts = json!([
        {"name": "data", "mountPath": "/var/lib/postgresql/data"}, {"name": "c", "mountPath": "/controller"},
        {"name": "c", "mountPath": "/etc/passwd", "subPath": "passwd"}, {"name": "shm", "mountPath": "/dev/shm"}]);
    let mut passwd = shell_container("passwd", "echo 'postgres:x:26:26::/:/bin/sh' > /controller/passwd");
    passwd["volumeMounts"] = json!([{"name": "c", "mountPath": "/controller"}]);
    let mut initdb = shell_container(
        "initdb",
        "test -f $PGDATA/PG_VERSION || initdb -U postgres --auth=trust --no-sync >/dev/null",
    );
    for (field, value) in [
        ("image", json!("postgres")),
        ("volumeMounts", mounts.clone()),
        ("env", json!([{"name": "PGDATA", "value": "/var/lib/postgresql/data/pgdata"}])),
        ("securityContext", json!({"readOnlyRootFilesystem": true})),
    ] {
        initdb[field] = value;
    }
    let main = json!({"name": "main", "image": "postgres", "volumeMounts": mounts,
        "securityContext": {"readOnlyRootFilesystem": true},
        "command": ["postgres", "-k", "/controller", "-c", "listen_addresses=$(POD_IP)", "-c", "fsync=off"],
        "env": [{"name": "PGDATA", "value": "/var/lib/postgresql/data/pgdata"},
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
        "readinessProbe": {"exec": {"command": ["psql", "-U", "postgres", "-h", "/controller", "-Atc", "select 1"]},
            "periodSeconds": 1, "timeoutSeconds": 5}});
    let extra = json!({"securityContext": {"runAsUser": 26, "runAsGroup": 26, "runAsNonRoot": true, "fsGroup": 26},
        "initContainers": [passwd, initdb], "containers": [main],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}, {"name": "c", "emptyDir": {}},
            {"name": "shm", "emptyDir": {"medium": "Memory"}}]});
    lab.shell("pg", "", extra).await;
    lab.ready("pg").await;
    lab.node().kill_container("default", "pg", "main", Signal::SIGKILL).unwrap();
    lab.pod_is("pg", "ready after the kill", |status| {
        status.container_statuses.as_ref().is_some_and(|all| all[0].restart_count == 1 && all[0].ready)
    })
    .await;
    lab.wrote("pg", "automatic recovery in progress").await;
    lab.node().kill_process("default", "pg", "main", "postgres", Signal::SIGTERM).unwrap();
    lab.pod_is("pg", "restarted after a stop", |status| {
        status.container_statuses.as_ref().is_some_and(|all| all[0].restart_count == 2 && all[0].ready)
    })
    .await;
    lab.stop().await;
}
