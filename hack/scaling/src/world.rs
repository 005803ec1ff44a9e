//! The API double with the custom resources, namespaces and nodes.

use std::time::Duration;

use anyhow::{Context as _, Result};
use howdah_api::Cluster;
use howdah_lab_apiserver::ApiServer;
use k8s_openapi::api::core::v1::{Namespace, Node, Secret};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::json;

/// Namespaces that the clusters are spread over, whatever their number.
pub const NAMESPACES: usize = 10;
/// Clusters for each node.
const CLUSTERS_PER_NODE: usize = 10;
/// User name of the operator.
pub const OPERATOR: &str = "howdah-operator";
/// Namespace of the operator.
pub const SYSTEM: &str = "howdah-system";
/// Versions that watches can go back: more than are written while one of them is behind. Each takes as much memory as its
/// object.
const HISTORY: usize = 50_000;

/// A running API double.
pub struct World {
    /// The server, in this process, spoken to over HTTPS.
    pub server: ApiServer,
    /// An administrator.
    pub admin: Client,
    /// Number of nodes.
    pub nodes: usize,
}

/// Name of a namespace.
pub fn namespace(number: usize) -> String {
    format!("shop-{}", number % NAMESPACES)
}

/// Name of a node.
pub fn node(number: usize) -> String {
    format!("node-{number}")
}

impl World {
    /// Starts one for so many clusters.
    pub async fn start(clusters: usize) -> Result<Self> {
        let server = ApiServer::builder().history(HISTORY).start().await?;
        let config = Kubeconfig::from_yaml(&server.admin_kubeconfig()?)?;
        let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
        let admin = Client::try_from(config)?;
        let nodes = (clusters / CLUSTERS_PER_NODE).max(3);
        let world = Self { server, admin, nodes };
        world.definitions().await?;
        world.namespaces().await?;
        world.make_nodes().await?;
        Ok(world)
    }

    async fn definitions(&self) -> Result<()> {
        let api: Api<CustomResourceDefinition> = Api::all(self.admin.clone());
        for definition in howdah_api::crds() {
            api.create(&PostParams::default(), &definition).await?;
        }
        let clusters: Api<Cluster> = Api::all(self.admin.clone());
        while clusters.list(&ListParams::default()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    async fn namespaces(&self) -> Result<()> {
        let api: Api<Namespace> = Api::all(self.admin.clone());
        for name in (0..NAMESPACES).map(namespace).chain([SYSTEM.to_owned()]) {
            let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            api.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
            let credentials = json!({
                "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "store"},
                "stringData": {"ID": "id", "KEY": "key"},
            });
            let secrets: Api<Secret> = Api::namespaced(self.admin.clone(), &name);
            secrets.create(&PostParams::default(), &serde_json::from_value(credentials)?).await?;
        }
        Ok(())
    }

    async fn make_nodes(&self) -> Result<()> {
        let api: Api<Node> = Api::all(self.admin.clone());
        for number in 0..self.nodes {
            let name = node(number);
            let object = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
            api.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
            let status = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
            let patched = api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status)).await;
            patched.with_context(|| format!("cannot make {name} ready"))?;
        }
        Ok(())
    }
}
