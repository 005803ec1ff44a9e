//! An API server with the custom resources and the operator's role, and what tests do with it.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use howdah_api::{Backup, Cluster, ScheduledBackup};
use howdah_lab_apiserver::ApiServer;
use howdah_operator::clock::{Clock, ManualClock, SystemClock};
use howdah_operator::context::{AppliedCache, Attempts, Context, Heartbeats, Locks, Settings};
use howdah_operator::controllers::cluster::nodes::NodeAccess;
use howdah_operator::controllers::cluster::resting::Resting;
use howdah_operator::instance_client::HttpInstances;
use howdah_operator::metrics::Metrics;
use howdah_operator::shelf::Seen;
use howdah_operator::{rbac, run};
use k8s_openapi::api::core::v1::{Event, Namespace, Secret};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::NamespaceResourceScope;
use kube::runtime::events::{Recorder, Reporter};
use kube::{Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Generous: only a failing test waits this long.
const PATIENCE: Duration = Duration::from_secs(120);

/// Namespace of all objects of a test.
pub const NS: &str = "park";

pub struct World {
    pub server: ApiServer,
    /// An administrator.
    pub admin: Client,
    /// The operator, with its own rights and no others.
    pub operator: Client,
}

async fn client(kubeconfig: &str) -> Client {
    let config = Kubeconfig::from_yaml(kubeconfig).unwrap();
    let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

impl World {
    pub async fn start() -> Self {
        // The first test of the process installs it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let server = ApiServer::builder().start().await.unwrap();
        let admin = client(&server.admin_kubeconfig().unwrap()).await;
        let operator = client(&server.client_kubeconfig("howdah", &[]).unwrap()).await;
        let world = Self { server, admin, operator };
        let crds: Api<CustomResourceDefinition> = Api::all(world.admin.clone());
        for crd in howdah_api::crds() {
            crds.create(&PostParams::default(), &crd).await.unwrap();
        }
        let namespaces: Api<Namespace> = Api::all(world.admin.clone());
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NS}});
        namespaces.create(&PostParams::default(), &serde_json::from_value(namespace).unwrap()).await.unwrap();
        let roles: Api<ClusterRole> = Api::all(world.admin.clone());
        let role = ClusterRole {
            metadata: kube::core::ObjectMeta { name: Some("howdah".into()), ..Default::default() },
            rules: Some(rbac::rules()),
            ..ClusterRole::default()
        };
        roles.create(&PostParams::default(), &role).await.unwrap();
        let bindings: Api<ClusterRoleBinding> = Api::all(world.admin.clone());
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "howdah"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "howdah"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "howdah"}],
        });
        bindings.create(&PostParams::default(), &serde_json::from_value(binding).unwrap()).await.unwrap();
        until("the custom resources are served", async || {
            let clusters: Api<Cluster> = Api::namespaced(world.admin.clone(), NS);
            clusters.list(&ListParams::default()).await.ok()
        })
        .await;
        world
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.admin.clone(), NS)
    }

    pub fn context(&self) -> Arc<Context> {
        self.context_at(Arc::new(SystemClock::default()))
    }

    pub fn manual(&self, now: &str) -> (Arc<Context>, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::new(now.parse().unwrap()));
        (self.context_at(clock.clone()), clock)
    }

    fn context_at(&self, clock: Arc<dyn Clock>) -> Arc<Context> {
        let client = self.operator.clone();
        let reporter = Reporter { controller: "howdah-operator".into(), instance: Some("test".into()) };
        Arc::new(Context {
            settings: Settings {
                postgres_image: "registry/pg:17".into(),
                operator_image: "registry/howdah:1".into(),
                manager: None,
                manager_in_place: true,
            },
            clock,
            instances: Arc::new(HttpInstances::default()),
            recorder: Recorder::new(client.clone(), reporter),
            metrics: Metrics::new(),
            attempts: Attempts::default(),
            applied: AppliedCache::default(),
            heartbeats: Heartbeats::default(),
            nodes: NodeAccess::default(),
            dispatch: Locks::default(),
            seen: Seen::default(),
            resting: Resting::default(),
            client,
        })
    }

    pub async fn create<K>(&self, object: Value) -> K
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + Serialize
            + Debug,
    {
        let object: K = serde_json::from_value(object).unwrap();
        self.api::<K>().create(&PostParams::default(), &object).await.unwrap()
    }

    pub async fn create_cluster(&self, name: &str, spec: Value) -> Cluster {
        self.create(json!({
            "apiVersion": "postgresql.k8s.enterprisedb.io/v1alpha1", "kind": "Cluster",
            "metadata": {"name": name, "namespace": NS}, "spec": spec,
        }))
        .await
    }

    pub async fn create_backup(&self, name: &str, cluster: &str) -> Backup {
        self.create(json!({
            "apiVersion": "postgresql.k8s.enterprisedb.io/v1alpha1", "kind": "Backup",
            "metadata": {"name": name, "namespace": NS}, "spec": {"cluster": {"name": cluster}},
        }))
        .await
    }

    pub async fn create_schedule(&self, name: &str, spec: Value) -> ScheduledBackup {
        self.create(json!({
            "apiVersion": "postgresql.k8s.enterprisedb.io/v1alpha1", "kind": "ScheduledBackup",
            "metadata": {"name": name, "namespace": NS}, "spec": spec,
        }))
        .await
    }

    pub async fn create_secret(&self, name: &str, data: Value) {
        let _: Secret = self
            .create(json!({
                "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": NS}, "stringData": data,
            }))
            .await;
    }

    /// Changes the status of a Backup as an instance manager would.
    pub async fn patch_backup(&self, name: &str, status: Value) -> Backup {
        self.api::<Backup>()
            .patch_status(name, &PatchParams::default(), &Patch::Merge(&json!({"status": status})))
            .await
            .unwrap()
    }

    pub async fn backup(&self, name: &str) -> Backup {
        self.api::<Backup>().get(name).await.unwrap()
    }

    /// Reasons of the events about the object `name`.
    pub async fn event_reasons(&self, name: &str) -> Vec<String> {
        let events: Api<Event> = Api::namespaced(self.admin.clone(), NS);
        let list = events.list(&ListParams::default()).await.unwrap();
        list.items
            .into_iter()
            .filter(|e| e.involved_object.name.as_deref() == Some(name))
            .filter_map(|e| e.reason)
            .collect()
    }
}

/// The controllers, running until this is stopped or dropped.
pub struct Running {
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl Running {
    pub fn start(ctx: Arc<Context>) -> Self {
        let stop = CancellationToken::new();
        let token = stop.clone();
        let task = tokio::spawn(async move {
            run::controllers(ctx, &[NS.to_owned()], 4, token).await;
        });
        Self { stop, task: Some(task) }
    }

    pub async fn stop(mut self) {
        self.stop.cancel();
        let task = self.task.take().unwrap();
        tokio::time::timeout(PATIENCE, task).await.expect("the controllers stop when told to").unwrap();
    }

    /// As if the process was killed: whatever it is doing ends in the middle.
    pub async fn kill(mut self) {
        let task = self.task.take().unwrap();
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Waits until `look` finds something.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let waited = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}
