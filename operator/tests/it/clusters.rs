//! Clusters from nothing to healthy, through restarts of the operator and failures of instances.

use howdah_api::{Cluster, conditions, labels, naming};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;

use crate::node::Node;
use crate::world::{Running, World, until};

pub async fn phase(world: &World, name: &str, wanted: &str) -> Cluster {
    until(&format!("{name} is in the phase {wanted}"), async || {
        let cluster = world.api::<Cluster>().get(name).await.unwrap();
        let found = cluster.status.as_ref().and_then(|s| s.phase.as_deref()) == Some(wanted);
        found.then_some(cluster)
    })
    .await
}

/// Healthy with this many instances.
pub async fn healthy(world: &World, name: &str, instances: i32) -> Cluster {
    until(&format!("{name} is healthy with {instances} instances"), async || {
        let cluster = world.api::<Cluster>().get(name).await.unwrap();
        let status = cluster.status.clone().unwrap_or_default();
        let found = status.phase.as_deref() == Some("Cluster in healthy state")
            && status.ready_instances == instances
            && status.instances == instances;
        found.then_some(cluster)
    })
    .await
}

async fn pod_names(world: &World) -> Vec<String> {
    let list = world.api::<Pod>().list(&ListParams::default()).await.unwrap();
    list.items.iter().map(|p| p.name_any()).collect()
}

async fn role_of(world: &World, pod: &str) -> Option<String> {
    world.api::<Pod>().get(pod).await.unwrap().labels().get(labels::ROLE).cloned()
}

/// S2.27, S2.31: the first instance, then the others one at a time, with all that belongs to a cluster.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_comes_up() {
    let world = World::start().await;
    let node = Node::start(&world);
    let _running = Running::start(world.context());
    world.create_cluster("zoo", json!({"instances": 3, "storage": {"size": "5Gi"}})).await;
    let cluster = healthy(&world, "zoo", 3).await;
    let seen = node.seen();
    let expected: [(&str, &[&str]); 3] =
        [("zoo-1", &[]), ("zoo-2", &["zoo-1"]), ("zoo-3", &["zoo-1", "zoo-2"])];
    assert_eq!(seen.len(), 3, "{seen:?}");
    for ((name, ready), (pod, before)) in seen.iter().zip(expected) {
        assert_eq!(
            (name.as_str(), ready.as_slice()),
            (pod, before.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>().as_slice())
        );
    }
    let status = cluster.status.unwrap();
    assert_eq!(status.current_primary.as_deref(), Some("zoo-1"));
    assert_eq!(status.latest_generated_serial, 3);
    assert_eq!(status.system_id.as_deref(), Some("7400000000000000001"));
    let ready = conditions::get(&status.conditions, conditions::READY).unwrap();
    assert_eq!(ready.status, "True", "{ready:?}");
    for (pod, role) in [("zoo-1", "primary"), ("zoo-2", "replica"), ("zoo-3", "replica")] {
        assert_eq!(role_of(&world, pod).await.as_deref(), Some(role));
    }
    for service in ["zoo-rw", "zoo-ro", "zoo-r"] {
        world.api::<Service>().get(service).await.unwrap();
    }
    for secret in ["zoo-superuser", "zoo-app", "zoo-ca", "zoo-server", "zoo-replication", "zoo-operator"] {
        world.api::<Secret>().get(secret).await.unwrap();
    }
    world.api::<ServiceAccount>().get("zoo").await.unwrap();
    world.api::<Role>().get("zoo").await.unwrap();
    world.api::<RoleBinding>().get("zoo").await.unwrap();
    let volume = until("the volume of the primary is marked", async || {
        let volume = world.api::<PersistentVolumeClaim>().get("zoo-1").await.unwrap();
        volume.annotations().contains_key(labels::VOLUME_STATUS).then_some(volume)
    })
    .await;
    assert_eq!(volume.owner_references()[0].kind, "Cluster");
}

/// Issue 2, kill tests: the operator dies in the middle of everything; nothing is made twice, nothing is lost.
#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_is_killed_at_each_step_goes_on() {
    let world = World::start().await;
    let node = Node::start(&world);
    world.create_cluster("zoo", json!({"instances": 3, "storage": {"size": "5Gi"}})).await;
    for pods in 0..=3_usize {
        let running = Running::start(world.context());
        until("the next pod is there", async || (pod_names(&world).await.len() >= pods).then_some(())).await;
        running.kill().await;
    }
    let running = Running::start(world.context());
    healthy(&world, "zoo", 3).await;
    running.stop().await;
    // A serial that was claimed before a crash and never used stays unused.
    let pods = pod_names(&world).await;
    assert_eq!((pods.len(), pods[0].as_str()), (3, "zoo-1"));
    let volumes = world.api::<PersistentVolumeClaim>().list(&ListParams::default()).await.unwrap();
    assert_eq!(volumes.items.iter().map(|v| v.name_any()).collect::<Vec<_>>(), pods);
    assert_eq!(node.seen().len(), 3, "no instance was made twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_primary_pod_comes_back_on_its_volume_without_bootstrap() {
    let world = World::start().await;
    let _node = Node::start(&world);
    let _running = Running::start(world.context());
    world.create_cluster("zoo", json!({"instances": 2, "storage": {"size": "5Gi"}})).await;
    healthy(&world, "zoo", 2).await;
    until("the volume is marked", async || {
        let volume = world.api::<PersistentVolumeClaim>().get("zoo-1").await.unwrap();
        volume.annotations().contains_key(labels::VOLUME_STATUS).then_some(())
    })
    .await;
    let volume = world.api::<PersistentVolumeClaim>().get("zoo-1").await.unwrap();
    let before = world.api::<Pod>().get("zoo-1").await.unwrap();
    world.api::<Pod>().delete("zoo-1", &DeleteParams::default().grace_period(0)).await.unwrap();
    let after = until("another pod of that name is there", async || {
        world.api::<Pod>().get_opt("zoo-1").await.unwrap().filter(|p| p.uid() != before.uid())
    })
    .await;
    let init = after.spec.unwrap().init_containers.unwrap();
    assert_eq!(init.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), [naming::CONTAINER_CONTROLLER]);
    let kept = world.api::<PersistentVolumeClaim>().get("zoo-1").await.unwrap();
    assert_eq!(kept.uid(), volume.uid());
    let cluster = healthy(&world, "zoo", 2).await;
    assert_eq!(cluster.status.unwrap().latest_generated_serial, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_whose_volume_is_gone_is_replaced_under_a_new_serial() {
    let world = World::start().await;
    let _node = Node::start(&world);
    let _running = Running::start(world.context());
    world.create_cluster("zoo", json!({"instances": 2, "storage": {"size": "5Gi"}})).await;
    healthy(&world, "zoo", 2).await;
    world.api::<PersistentVolumeClaim>().delete("zoo-2", &DeleteParams::default()).await.unwrap();
    until("zoo-3 has taken its place", async || {
        (pod_names(&world).await == ["zoo-1", "zoo-3"]).then_some(())
    })
    .await;
    healthy(&world, "zoo", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scaling_down_takes_the_volume_along_and_serials_do_not_come_back() {
    let world = World::start().await;
    let _node = Node::start(&world);
    let _running = Running::start(world.context());
    world.create_cluster("zoo", json!({"instances": 2, "storage": {"size": "5Gi"}})).await;
    healthy(&world, "zoo", 2).await;
    let scale = async |n: i32| {
        let patch = json!({"spec": {"instances": n}});
        world.api::<Cluster>().patch("zoo", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
        healthy(&world, "zoo", n).await
    };
    scale(1).await;
    let volumes = world.api::<PersistentVolumeClaim>().list(&ListParams::default()).await.unwrap();
    assert_eq!(volumes.items.iter().map(|v| v.name_any()).collect::<Vec<_>>(), ["zoo-1"]);
    scale(2).await;
    assert_eq!(pod_names(&world).await, ["zoo-1", "zoo-3"]);
}

/// A new image reaches replicas first and the primary last, one at a time.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_image_rolls_through() {
    let world = World::start().await;
    let _node = Node::start(&world);
    let _running = Running::start(world.context());
    world.create_cluster("zoo", json!({"instances": 2, "storage": {"size": "5Gi"}})).await;
    healthy(&world, "zoo", 2).await;
    let patch = json!({"spec": {"imageName": "registry/pg:18"}});
    world.api::<Cluster>().patch("zoo", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    let image = async |pod: &str| {
        let pod = world.api::<Pod>().get_opt(pod).await.unwrap()?;
        pod.spec?.containers.first()?.image.clone()
    };
    until("the primary is replaced", async || {
        let (first, second) = (image("zoo-1").await, image("zoo-2").await);
        if first.as_deref() == Some("registry/pg:18") {
            assert_eq!(second.as_deref(), Some("registry/pg:18"), "the replica goes first");
            return Some(());
        }
        None
    })
    .await;
    healthy(&world, "zoo", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_by_hand_is_made_again_and_logins_are_kept() {
    let world = World::start().await;
    let _node = Node::start(&world);
    let _running = Running::start(world.context());
    world.create_cluster("zoo", json!({"storage": {"size": "5Gi"}})).await;
    healthy(&world, "zoo", 1).await;
    let before = world.api::<Secret>().get("zoo-superuser").await.unwrap();
    world.api::<Service>().delete("zoo-rw", &DeleteParams::default()).await.unwrap();
    world.api::<Role>().delete("zoo", &DeleteParams::default()).await.unwrap();
    until("service and role are back", async || {
        let service = world.api::<Service>().get_opt("zoo-rw").await.unwrap();
        let role = world.api::<Role>().get_opt("zoo").await.unwrap();
        service.zip(role)
    })
    .await;
    let after = world.api::<Secret>().get("zoo-superuser").await.unwrap();
    assert_eq!(before.data, after.data);
}

/// S2.26, S2.27, S2.28: recovery waits for its Backup, begins by itself, tells why it fails, and goes on once mended.
#[tokio::test(flavor = "multi_thread")]
async fn recovery_waits_fails_loudly_and_goes_on() {
    let world = World::start().await;
    let node = Node::start(&world);
    let _running = Running::start(world.context());
    let recovery = json!({
        "storage": {"size": "5Gi"}, "bootstrap": {"fullRecovery": {"backup": {"name": "backup-example"}}},
    });
    world.create_cluster("zoo", recovery).await;
    let cluster = phase(&world, "zoo", "Waiting for the backup to recover from").await;
    assert!(cluster.status.unwrap().phase_reason.unwrap().contains("does not exist"));
    assert!(pod_names(&world).await.is_empty(), "no pod before there is something to recover from");

    world.create_secret("creds", json!({"ID": "a", "KEY": "b"})).await;
    world.create_backup("backup-example", "gone").await;
    node.fail("zoo-1", Some("WAL 000000010000000000000003 is not in s3://bucket/gone; restore it"));
    world
        .patch_backup(
            "backup-example",
            json!({
                "phase": "completed", "backupId": "20261121T100000", "destinationPath": "s3://bucket/",
                "serverName": "gone",
                "s3Credentials": {
                    "accessKeyId": {"name": "creds", "key": "ID"}, "secretAccessKey": {"name": "creds", "key": "KEY"},
                },
            }),
        )
        .await;
    let cluster = phase(&world, "zoo", "Recovery failed").await;
    let reason = cluster.status.unwrap().phase_reason.unwrap();
    let what =
        "zoo-1: WAL 000000010000000000000003 is not in s3://bucket/gone; restore it (container full-recovery";
    assert!(reason.starts_with(what) && reason.ends_with("docs/runbook/recovery-waits.md"), "{reason}");
    let pod = world.api::<Pod>().get("zoo-1").await.unwrap();
    assert_eq!(pod.spec.unwrap().init_containers.unwrap()[1].name, naming::CONTAINER_RECOVERY);
    let role = world.api::<Role>().get("zoo").await.unwrap();
    let named: Vec<String> =
        role.rules.unwrap().into_iter().flat_map(|r| r.resource_names.unwrap_or_default()).collect();
    assert!(named.contains(&"creds".to_owned()), "the instance may read the Secret of the source: {named:?}");
    until("an event tells", async || {
        world.event_reasons("zoo").await.contains(&"RecoveryFailed".to_owned()).then_some(())
    })
    .await;

    node.fail("zoo-1", None);
    healthy(&world, "zoo", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_of_somebody_else_is_not_taken() {
    let world = World::start().await;
    let _node = Node::start(&world);
    let _running = Running::start(world.context());
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "zoo-rw"}, "spec": {"ports": [{"port": 80}]},
    });
    let _: Service = world.create(service).await;
    world.create_cluster("zoo", json!({"storage": {"size": "5Gi"}})).await;
    let cluster = phase(&world, "zoo", "Cluster cannot be reconciled").await;
    let reason = cluster.status.unwrap().phase_reason.unwrap();
    assert!(reason.contains("Service zoo-rw exists and does not belong to this cluster"), "{reason}");
    assert!(pod_names(&world).await.is_empty());
}

/// Deleted and made anew under the same name: the new one waits for the old one's objects to go and takes none.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_made_again_begins_anew() {
    let world = World::start().await;
    let _node = Node::start(&world);
    let _running = Running::start(world.context());
    world.create_cluster("zoo", json!({"storage": {"size": "5Gi"}})).await;
    healthy(&world, "zoo", 1).await;
    let old = world.api::<Secret>().get("zoo-app").await.unwrap();
    world.api::<Cluster>().delete("zoo", &DeleteParams::background()).await.unwrap();
    let again = until("the name is free", async || {
        let cluster = json!({
            "apiVersion": "postgresql.k8s.enterprisedb.io/v1alpha1", "kind": "Cluster",
            "metadata": {"name": "zoo"}, "spec": {"storage": {"size": "5Gi"}},
        });
        world
            .api::<Cluster>()
            .create(&Default::default(), &serde_json::from_value(cluster).unwrap())
            .await
            .ok()
    })
    .await;
    healthy(&world, "zoo", 1).await;
    let uid = again.uid().unwrap();
    for meta in [
        world.api::<Pod>().get("zoo-1").await.unwrap().metadata,
        world.api::<PersistentVolumeClaim>().get("zoo-1").await.unwrap().metadata,
        world.api::<Secret>().get("zoo-app").await.unwrap().metadata,
        world.api::<Secret>().get("zoo-ca").await.unwrap().metadata,
        world.api::<Service>().get("zoo-rw").await.unwrap().metadata,
        world.api::<Role>().get("zoo").await.unwrap().metadata,
    ] {
        let owners: Vec<String> = meta.owner_references.unwrap().into_iter().map(|o| o.uid).collect();
        assert_eq!(owners, std::slice::from_ref(&uid), "{:?}", meta.name);
    }
    assert_ne!(world.api::<Secret>().get("zoo-app").await.unwrap().data, old.data);
}

/// A volume that nobody of us made may hold data: it is neither used nor deleted.
#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_volume_is_left_alone() {
    let world = World::start().await;
    let _node = Node::start(&world);
    let claim = |name: &str| {
        json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        })
    };
    let first: PersistentVolumeClaim = world.create(claim("zoo-1")).await;
    let _running = Running::start(world.context());
    world.create_cluster("zoo", json!({"instances": 2, "storage": {"size": "5Gi"}})).await;
    let cluster = phase(&world, "zoo", "Cluster configuration is invalid").await;
    assert!(cluster.status.unwrap().phase_reason.unwrap().contains("PersistentVolumeClaim zoo-1"));
    assert!(pod_names(&world).await.is_empty());
    let kept = world.api::<PersistentVolumeClaim>().get("zoo-1").await.unwrap();
    assert_eq!((kept.uid(), kept.resource_version()), (first.uid(), first.resource_version()));
    world.api::<PersistentVolumeClaim>().delete("zoo-1", &DeleteParams::default()).await.unwrap();
    healthy(&world, "zoo", 2).await;
}

/// One object that cannot be read does not hold up the others.
#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_cluster_does_not_hold_up_others() {
    let world = World::start().await;
    let _node = Node::start(&world);
    let crds: kube::Api<
        k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    > = kube::Api::all(world.admin.clone());
    let name = "clusters.postgresql.k8s.enterprisedb.io";
    let open = json!([{"op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema",
        "value": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}]);
    crds.patch(name, &PatchParams::default(), &Patch::Json::<()>(serde_json::from_value(open).unwrap()))
        .await
        .unwrap();
    let odd = json!({
        "apiVersion": "postgresql.k8s.enterprisedb.io/v1alpha1", "kind": "Cluster",
        "metadata": {"name": "odd"}, "spec": {"instances": "three", "storage": {"size": 5}},
    });
    let _: kube::core::DynamicObject = until("the open schema is in use", async || {
        let resource = kube::core::ApiResource::erase::<Cluster>(&());
        let api: kube::Api<kube::core::DynamicObject> =
            kube::Api::namespaced_with(world.admin.clone(), crate::world::NS, &resource);
        api.create(&Default::default(), &serde_json::from_value(odd.clone()).unwrap()).await.ok()
    })
    .await;
    let _running = Running::start(world.context());
    world.create_cluster("zoo", json!({"instances": 1, "storage": {"size": "5Gi"}})).await;
    healthy(&world, "zoo", 1).await;
}
