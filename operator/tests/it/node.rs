//! A stand-in for the kubelet: gives each pod an address and an instance, and reports it as ready.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use howdah_api::instance::{ArchiverStatus, InstanceRole, InstanceStatus};
use howdah_api::{Cluster, labels};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::ResourceExt;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::instance::{self, Answer, Instance};
use crate::world::{NS, World, until};

/// Addresses are never used twice, and differ between test processes that run at the same time.
static NEXT: AtomicU32 = AtomicU32::new(1);

pub fn address() -> String {
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let process = std::process::id();
    format!("127.{}.{}.{}", 70 + (process >> 8) % 50, process % 250 + 1, n % 250 + 1)
}

#[derive(Default)]
struct State {
    /// By uid of the pod.
    instances: BTreeMap<String, Instance>,
    /// Answers by name of the pod.
    answers: BTreeMap<String, Answer>,
    /// Names of pods in the order in which they were first seen, with what was ready then.
    seen: Vec<(String, Vec<String>)>,
    /// Pods whose init container fails with this message.
    failing: BTreeMap<String, String>,
}

/// Runs pods until dropped.
pub struct Node {
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Node {
    pub fn start(world: &World) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let client = world.admin.clone();
        let shared = state.clone();
        let task = tokio::spawn(async move {
            loop {
                if let Err(error) = round(&client, &shared).await {
                    // Objects come and go between two looks.
                    assert!(matches!(error, kube::Error::Api(_)), "{error:?}");
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        Self { state, task }
    }

    /// Lets the init container of a pod fail from now on, or heals it.
    pub fn fail(&self, pod: &str, message: Option<&str>) {
        let failing = &mut self.state.lock().unwrap().failing;
        match message {
            Some(message) => failing.insert(pod.into(), message.into()),
            None => failing.remove(pod),
        };
    }

    /// Changes what an instance answers.
    pub async fn change(&self, pod: &str, change: impl FnOnce(&mut Option<InstanceStatus>)) {
        let answer =
            until("the instance runs", async || self.state.lock().unwrap().answers.get(pod).cloned()).await;
        change(&mut answer.lock().unwrap());
    }

    /// Begins [`Node::seen`] anew.
    pub fn forget(&self) {
        self.state.lock().unwrap().seen.clear();
    }

    /// Pods in the order in which they were made, each with the pods that were ready by then.
    pub fn seen(&self) -> Vec<(String, Vec<String>)> {
        self.state.lock().unwrap().seen.clone()
    }
}

async fn round(client: &kube::Client, state: &Arc<Mutex<State>>) -> kube::Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), NS);
    let list = pods.list(&ListParams::default().labels(labels::CLUSTER)).await?.items;
    let uids: Vec<String> = list.iter().filter_map(ResourceExt::uid).collect();
    state.lock().unwrap().instances.retain(|uid, _| uids.contains(uid));
    let ready: Vec<String> = list
        .iter()
        .filter(|p| howdah_operator::controllers::cluster::observed::pod_ready(p))
        .map(|p| p.name_any())
        .collect();
    for pod in list {
        let name = pod.name_any();
        let uid = pod.uid().unwrap_or_default();
        let known = state.lock().unwrap().instances.contains_key(&uid);
        let failing = state.lock().unwrap().failing.get(&name).cloned();
        if let Some(message) = failing {
            note(state, &name, &ready);
            set_status(&pods, &name, failed(&pod, &message)).await?;
            continue;
        }
        if known {
            continue;
        }
        note(state, &name, &ready);
        run(client, state, &pod).await?;
    }
    Ok(())
}

fn note(state: &Arc<Mutex<State>>, name: &str, ready: &[String]) {
    let seen = &mut state.lock().unwrap().seen;
    if !seen.iter().any(|(n, _)| n == name) {
        seen.push((name.to_owned(), ready.to_vec()));
    }
}

async fn run(client: &kube::Client, state: &Arc<Mutex<State>>, pod: &Pod) -> kube::Result<()> {
    let name = pod.name_any();
    let cluster_name = pod.labels()[labels::CLUSTER].clone();
    let secrets: Api<Secret> = Api::namespaced(client.clone(), NS);
    let secret = secrets.get(&howdah_api::naming::server_secret(&cluster_name)).await?;
    let clusters: Api<Cluster> = Api::namespaced(client.clone(), NS);
    let cluster = clusters.get(&cluster_name).await?;
    let target = cluster.status.clone().unwrap_or_default().target_primary;
    assert!(target.is_some(), "the target primary is written before the first pod is made");
    let role = if target.as_deref() == Some(&name) { InstanceRole::Primary } else { InstanceRole::Replica };
    let status = answer(&name, role, cluster.spec.has_stores());
    let answer: Answer = Arc::new(Mutex::new(Some(status)));
    let ip = address();
    let instance = instance::start(&ip, &secret, answer.clone()).await;
    {
        let mut state = state.lock().unwrap();
        state.answers.insert(name.clone(), answer);
        state.instances.insert(pod.uid().unwrap_or_default(), instance);
    }
    let pods: Api<Pod> = Api::namespaced(client.clone(), NS);
    set_status(&pods, &name, running(&ip)).await
}

/// What a healthy instance says.
fn answer(pod: &str, role: InstanceRole, archives: bool) -> InstanceStatus {
    static SESSION: AtomicU32 = AtomicU32::new(1);
    InstanceStatus {
        pod_name: pod.to_owned(),
        session_id: format!("session-{}", SESSION.fetch_add(1, Ordering::Relaxed)),
        manager_version: "test".into(),
        ready: true,
        role: Some(role),
        message: "PostgreSQL takes connections".into(),
        system_id: Some("7400000000000000001".into()),
        server_version: Some(170_010),
        timeline_id: Some(1),
        received_lsn: Some("0/3000060".into()),
        streaming: role == InstanceRole::Replica,
        archiver: archives.then(|| ArchiverStatus {
            working: true,
            confirmed: true,
            ..ArchiverStatus::default()
        }),
        ..InstanceStatus::default()
    }
}

async fn set_status(pods: &Api<Pod>, name: &str, status: Value) -> kube::Result<()> {
    pods.patch_status(name, &PatchParams::default(), &Patch::Merge(&json!({"status": status}))).await?;
    Ok(())
}

fn container(name: &str, state: Value, ready: bool) -> Value {
    json!({"name": name, "image": "i", "imageID": "", "ready": ready, "restartCount": 0, "state": state})
}

fn running(ip: &str) -> Value {
    json!({
        "phase": "Running", "podIP": ip,
        "conditions": [{"type": "Ready", "status": "True"}],
        "initContainerStatuses": null,
        "containerStatuses": [container("postgres", json!({"running": {"startedAt": "2026-11-21T10:00:00Z"}}), true)],
    })
}

fn failed(pod: &Pod, message: &str) -> Value {
    let init = pod.spec.as_ref().unwrap().init_containers.as_ref().unwrap().last().unwrap().name.clone();
    let mut status = container(&init, json!({"waiting": {"reason": "CrashLoopBackOff"}}), false);
    status["lastState"] = json!({"terminated": {"exitCode": 1, "message": message}});
    json!({
        "phase": "Pending",
        "conditions": [{"type": "Ready", "status": "False"}],
        "initContainerStatuses": [status],
    })
}
