//! An API double and a node double for one test, and how tests wait.

use std::path::PathBuf;
use std::time::Duration;

use howdah_lab_apiserver::ApiServer;
use howdah_lab_node::{Backoff, Builder, Image, ImageCatalog, Node};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::api::{Api, DeleteParams, LogParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Long enough for a busy machine; nobody waits so long for what works.
pub const PATIENCE: Duration = Duration::from_secs(90);

pub struct Lab {
    pub api: ApiServer,
    pub client: Client,
    pub node: Option<Node>,
    pub dir: tempfile::TempDir,
    kubeconfig: PathBuf,
}

/// The images of these tests.
pub fn images() -> ImageCatalog {
    ImageCatalog::new()
        .with("shell", Image::host_system())
        .with("postgres", Image::host_system().with_path("/usr/lib/postgresql/15/bin").with_user(26, 26))
}

/// Short waits, so that a test sees several failures.
pub fn backoff() -> Backoff {
    Backoff {
        initial: Duration::from_millis(300),
        max: Duration::from_secs(2),
        reset_after: Duration::from_secs(60),
    }
}

impl Lab {
    pub async fn start() -> Self {
        Self::start_with(|builder| builder).await
    }

    pub async fn start_with(adjust: impl FnOnce(Builder) -> Builder) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let api = ApiServer::builder().bind("127.0.0.1:0").start().await.unwrap();
        let text = api.admin_kubeconfig().unwrap();
        let kubeconfig = dir.path().join("kubeconfig");
        std::fs::write(&kubeconfig, &text).unwrap();
        let config = kube::Config::from_custom_kubeconfig(
            Kubeconfig::from_yaml(&text).unwrap(),
            &KubeConfigOptions::default(),
        )
        .await
        .unwrap();
        let client = Client::try_from(config).unwrap();
        let mut lab = Self { api, client, node: None, dir, kubeconfig };
        lab.node = Some(adjust(lab.builder()).start().await.unwrap());
        lab
    }

    pub fn builder(&self) -> Builder {
        Node::builder(&self.kubeconfig)
            .root_dir(self.dir.path().join("node"))
            .images(images())
            .backoff(backoff())
    }

    pub fn node(&self) -> &Node {
        self.node.as_ref().unwrap()
    }

    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), "default")
    }

    pub async fn create<K>(&self, object: Value) -> K
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + DeserializeOwned
            + serde::Serialize
            + Clone
            + std::fmt::Debug,
    {
        let object: K = serde_json::from_value(object).unwrap();
        Api::<K>::namespaced(self.client.clone(), "default")
            .create(&PostParams::default(), &object)
            .await
            .unwrap()
    }

    /// A pod that runs one shell script.
    pub async fn shell(&self, name: &str, script: &str, extra: Value) -> Pod {
        let mut spec =
            json!({"containers": [shell_container("main", script)], "terminationGracePeriodSeconds": 5});
        merge(&mut spec, extra);
        self.create(json!({"metadata": {"name": name, "labels": {"app": name}}, "spec": spec})).await
    }

    /// Waits until the object is as wanted, showing the last one when it never is.
    pub async fn wait_for<K>(&self, name: &str, what: &str, wanted: impl Fn(&K) -> bool) -> K
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + DeserializeOwned
            + Clone
            + std::fmt::Debug,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), "default");
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let found = api.get_opt(name).await.unwrap();
            if let Some(found) = found.as_ref().filter(|found| wanted(found)) {
                return found.clone();
            }
            assert!(tokio::time::Instant::now() < deadline, "{name} never was {what}: {found:#?}");
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    pub async fn pod_is(&self, name: &str, what: &str, wanted: impl Fn(&PodStatus) -> bool) -> PodStatus {
        let pod: Pod = self.wait_for(name, what, |pod: &Pod| pod.status.as_ref().is_some_and(&wanted)).await;
        pod.status.unwrap()
    }

    pub async fn ready(&self, name: &str) -> PodStatus {
        self.pod_is(name, "ready", |status| condition(status, "Ready") == "True").await
    }

    pub async fn ended(&self, name: &str) -> PodStatus {
        let over = |status: &PodStatus| matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        self.pod_is(name, "over", over).await
    }

    /// What a pod wrote, once it has ended; fails when it did not end well.
    pub async fn output(&self, name: &str) -> String {
        let status = self.ended(name).await;
        let text = self.logs(name, LogParams::default()).await;
        assert_eq!(status.phase.as_deref(), Some("Succeeded"), "{text}\n{status:#?}");
        text
    }

    pub async fn logs(&self, name: &str, params: LogParams) -> String {
        self.pods().logs(name, &params).await.unwrap()
    }

    /// Waits until a pod has written `text`.
    pub async fn wrote(&self, name: &str, text: &str) -> String {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let log = self.pods().logs(name, &LogParams::default()).await.unwrap_or_default();
            if log.contains(text) {
                return log;
            }
            assert!(tokio::time::Instant::now() < deadline, "{name} never wrote {text:?}: {log}");
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    pub async fn delete(&self, name: &str) {
        self.pods().delete(name, &DeleteParams::default()).await.unwrap();
    }

    pub async fn gone(&self, name: &str) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while let Some(pod) = self.pods().get_opt(name).await.unwrap() {
            assert!(tokio::time::Instant::now() < deadline, "{name} never went: {pod:#?}");
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    /// Reasons of the events about an object.
    pub async fn events(&self, name: &str) -> Vec<String> {
        let api: Api<k8s_openapi::api::core::v1::Event> = Api::namespaced(self.client.clone(), "default");
        let list = api.list(&Default::default()).await.unwrap();
        list.items
            .into_iter()
            .filter(|event| event.involved_object.name.as_deref() == Some(name))
            .filter_map(|event| event.reason)
            .collect()
    }

    pub async fn has_event(&self, name: &str, reason: &str) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let reasons = self.events(name).await;
            if reasons.iter().any(|found| found == reason) {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "no event {reason} about {name}: {reasons:?}");
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    pub async fn stop(mut self) {
        self.node.take().unwrap().shutdown().await;
        self.api.shutdown().await;
    }
}

pub fn shell_container(name: &str, script: &str) -> Value {
    json!({"name": name, "image": "shell", "command": ["/bin/sh", "-c", script]})
}

pub fn condition(status: &PodStatus, kind: &str) -> String {
    let found = status.conditions.iter().flatten().find(|condition| condition.type_ == kind);
    found.map(|condition| condition.status.clone()).unwrap_or_default()
}

/// Adds the fields of `extra`, those of the first container too.
pub fn merge(spec: &mut Value, extra: Value) {
    for (key, value) in extra.as_object().cloned().unwrap_or_default() {
        if key == "container" {
            for (key, value) in value.as_object().cloned().unwrap_or_default() {
                spec["containers"][0][key] = value;
            }
        } else {
            spec[key] = value;
        }
    }
}
