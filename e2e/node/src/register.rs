//! The Node object and its Lease: what the cluster knows about this node, and the sign of life.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{
    DaemonEndpoint, Namespace, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeSpec, NodeStatus,
    NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference, Time};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, is_conflict, is_not_found};
use crate::quantity;
use crate::shared::Shared;

/// Where node leases are.
const LEASES: &str = "kube-node-lease";
/// How long a lease is good for, in seconds.
const LEASE_SECONDS: i32 = 40;
/// How often the full status is written when nothing has changed, in seconds.
const REPORT_SECONDS: f64 = 60.0;

/// Makes a namespace unless it is there.
pub(crate) async fn ensure_namespace(client: &Client, name: &str) -> Result<(), Error> {
    let api: Api<Namespace> = Api::all(client.clone());
    let namespace = Namespace {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..Default::default() },
        ..Default::default()
    };
    match api.create(&PostParams::default(), &namespace).await {
        Ok(_) => Ok(()),
        Err(error) if is_conflict(&error) => Ok(()),
        Err(error) => Err(Error::api("create", format!("Namespace {name}"))(error)),
    }
}

/// Makes the Node object, or takes over the one that an earlier incarnation left.
pub(crate) async fn register(shared: &Shared, kubelet_port: u16) -> Result<(), Error> {
    ensure_namespace(&shared.client, LEASES).await?;
    let api: Api<Node> = Api::all(shared.client.clone());
    let name = &shared.node;
    let labels = [
        ("kubernetes.io/hostname", name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", architecture()),
        ("topology.kubernetes.io/zone", name.as_str()),
    ];
    let node = Node {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
            ..Default::default()
        },
        spec: Some(NodeSpec { provider_id: Some(format!("lab://{name}")), ..Default::default() }),
        ..Default::default()
    };
    match api.create(&PostParams::default(), &node).await {
        Ok(_) => {}
        Err(error) if is_conflict(&error) => {}
        Err(error) => return Err(Error::api("create", format!("Node {name}"))(error)),
    }
    report(shared, kubelet_port, true).await?;
    // A real API server taints new nodes until a controller finds them ready.
    let untaint = json!({"spec": {"taints": null, "unschedulable": null}});
    api.patch(name, &PatchParams::default(), &Patch::Merge(&untaint))
        .await
        .map_err(Error::api("patch", format!("Node {name}")))?;
    Ok(())
}

fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

/// Reports the node ready. Unless forced to, only when others do not think so, or have not heard it for long.
async fn report(shared: &Shared, kubelet_port: u16, force: bool) -> Result<(), Error> {
    let api: Api<Node> = Api::all(shared.client.clone());
    let name = &shared.node;
    let before = api.get(name).await.map_err(Error::api("get", format!("Node {name}")))?;
    let old = before.status.and_then(|status| status.conditions).unwrap_or_default();
    let now = Time(Timestamp::now());
    let known = old.iter().find(|condition| condition.type_ == "Ready" && condition.status == "True");
    let heard = known.and_then(|condition| condition.last_heartbeat_time.as_ref());
    if !force && heard.is_some_and(|time| now.0.duration_since(time.0).as_secs_f64() < REPORT_SECONDS) {
        return Ok(());
    }
    let condition = |kind: &str, status: &str, reason: &str, message: &str| {
        let same = old.iter().find(|c| c.type_ == kind && c.status == status);
        NodeCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_heartbeat_time: Some(now.clone()),
            last_transition_time: same.and_then(|c| c.last_transition_time.clone()).or(Some(now.clone())),
        }
    };
    let quantity = |value: String| Quantity(value);
    let room: std::collections::BTreeMap<String, Quantity> = [
        ("cpu".to_owned(), quantity((quantity::machine_cpus().max(1) * 16).to_string())),
        ("memory".to_owned(), quantity(format!("{}Ki", quantity::machine_memory() / 1024 * 16))),
        ("ephemeral-storage".to_owned(), quantity("1Ti".to_owned())),
        ("pods".to_owned(), quantity("250".to_owned())),
    ]
    .into();
    let status = NodeStatus {
        capacity: Some(room.clone()),
        // Requests are not enforced here, so more fits than the machine has.
        allocatable: Some(room),
        addresses: Some(vec![
            NodeAddress { type_: "InternalIP".to_owned(), address: shared.host_ip.clone() },
            NodeAddress { type_: "Hostname".to_owned(), address: name.clone() },
        ]),
        conditions: Some(vec![
            condition(
                "MemoryPressure",
                "False",
                "KubeletHasSufficientMemory",
                "kubelet has sufficient memory available",
            ),
            condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            condition(
                "PIDPressure",
                "False",
                "KubeletHasSufficientPID",
                "kubelet has sufficient PID available",
            ),
            condition("Ready", "True", "KubeletReady", "the node double is running"),
        ]),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: i32::from(kubelet_port) }),
        }),
        node_info: Some(NodeSystemInfo {
            architecture: architecture().to_owned(),
            operating_system: "linux".to_owned(),
            os_image: "Howdah lab".to_owned(),
            container_runtime_version: "lab://0.1.0".to_owned(),
            kubelet_version: "v1.36.0-lab".to_owned(),
            kernel_version: std::fs::read_to_string("/proc/sys/kernel/osrelease")
                .map(|text| text.trim().to_owned())
                .unwrap_or_default(),
            ..Default::default()
        }),
        ..Default::default()
    };
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(&json!({ "status": status })))
        .await
        .map_err(Error::api("patch the status of", format!("Node {name}")))?;
    Ok(())
}

async fn renew(shared: &Shared) -> Result<(), Error> {
    let api: Api<Lease> = Api::namespaced(shared.client.clone(), LEASES);
    let name = &shared.node;
    let spec = LeaseSpec {
        holder_identity: Some(name.clone()),
        lease_duration_seconds: Some(LEASE_SECONDS),
        renew_time: Some(MicroTime(Timestamp::now())),
        ..Default::default()
    };
    let patch = json!({ "spec": spec });
    match api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await {
        Ok(_) => Ok(()),
        Err(error) if is_not_found(&error) => {
            let nodes: Api<Node> = Api::all(shared.client.clone());
            let node = nodes.get(name).await.map_err(Error::api("get", format!("Node {name}")))?;
            let owner = OwnerReference {
                api_version: "v1".to_owned(),
                kind: "Node".to_owned(),
                name: name.clone(),
                uid: node.uid().unwrap_or_default(),
                ..Default::default()
            };
            let lease = Lease {
                metadata: ObjectMeta {
                    name: Some(name.clone()),
                    namespace: Some(LEASES.to_owned()),
                    owner_references: Some(vec![owner]),
                    ..Default::default()
                },
                spec: Some(spec),
            };
            api.create(&PostParams::default(), &lease)
                .await
                .map_err(Error::api("create", format!("Lease {name}")))?;
            Ok(())
        }
        Err(error) => Err(Error::api("renew", format!("Lease {name}"))(error)),
    }
}

/// Gives signs of life every so often until `stop`.
pub(crate) async fn heartbeat(
    shared: Arc<Shared>,
    kubelet_port: u16,
    every: Duration,
    stop: CancellationToken,
) {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let beat = async {
            renew(&shared).await?;
            report(&shared, kubelet_port, false).await
        };
        if let Err(error) = beat.await {
            tracing::debug!(error = error.chain(), "no sign of life could be given");
            ticks.reset_after(Duration::from_secs(1).min(every));
        }
    }
}
