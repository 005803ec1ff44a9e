//! The client. No name is resolved: inside a pod `KUBERNETES_SERVICE_HOST` is an address.

use std::time::Duration;

use howdah_api::{Backup, Cluster};
use k8s_openapi::api::core::v1::Secret;
use kube::api::Api;
use kube::config::{Config, KubeConfigOptions};
use tokio::time::timeout;

use crate::environment::Environment;
use crate::error::{Error, Result};

/// The API, seen from one pod.
#[derive(Clone)]
pub struct Kubernetes {
    /// Client.
    pub client: kube::Client,
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the Cluster.
    pub cluster_name: String,
    /// Name of the pod, as reporter of events.
    pub pod: String,
}

impl Kubernetes {
    /// A client for the pod's service account, or for the kubeconfig that `KUBECONFIG` names.
    ///
    /// # Errors
    /// When the pod has no service account token, or the configuration cannot be used.
    pub async fn connect(env: &Environment) -> Result<Self> {
        let config = if std::env::var_os("KUBECONFIG").is_some() {
            Config::from_kubeconfig(&KubeConfigOptions::default())
                .await
                .map_err(|e| Error::permanent("the file that KUBECONFIG names cannot be used").because(e))?
        } else {
            Config::incluster().map_err(|e| {
                Error::permanent(
                    "the pod has no access to the Kubernetes API: it needs the token of its service account",
                )
                .because(e)
            })?
        };
        Self::with_config(config, env)
    }

    /// A client with a given configuration.
    ///
    /// # Errors
    /// When the configuration cannot be used.
    pub fn with_config(mut config: Config, env: &Environment) -> Result<Self> {
        config.connect_timeout = Some(Duration::from_secs(10));
        // Longer than the server lets a watch live: only a connection that went dead is met.
        config.read_timeout = Some(Duration::from_secs(330));
        let client = kube::Client::try_from(config).map_err(|e| {
            Error::permanent("the configuration of the Kubernetes API cannot be used").because(e)
        })?;
        Ok(Self::new(client, env))
    }

    /// With a given client.
    #[must_use]
    pub fn new(client: kube::Client, env: &Environment) -> Self {
        Self {
            client,
            pod: env.pod.clone(),
            namespace: env.namespace.clone(),
            cluster_name: env.cluster.clone(),
        }
    }

    /// Clusters of the namespace.
    #[must_use]
    pub fn clusters(&self) -> Api<Cluster> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Backups of the namespace.
    #[must_use]
    pub fn backups(&self) -> Api<Backup> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Secrets of the namespace.
    #[must_use]
    pub fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The Cluster of this pod.
    ///
    /// # Errors
    /// When it is gone or the API does not answer.
    pub async fn cluster(&self) -> Result<Cluster> {
        let (api, name) = (self.clusters(), &self.cluster_name);
        bounded("Cluster", name, api.get(name)).await
    }
}

/// How long one call may take.
const CALL: Duration = Duration::from_secs(20);

/// Awaits one call, but not for ever: a connection may be dead without anybody knowing.
///
/// # Errors
/// As [`api_error`]; also when it takes too long.
pub async fn bounded<T>(kind: &str, name: &str, call: impl Future<Output = kube::Result<T>>) -> Result<T> {
    match timeout(CALL, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(api_error(kind, name, error)),
        Err(_) => {
            Err(Error::transient(format!("the Kubernetes API did not answer in time about {kind} {name}")))
        }
    }
}

/// Tells apart what is gone, what is forbidden, and what may pass.
#[must_use]
pub fn api_error(kind: &str, name: &str, error: kube::Error) -> Error {
    match &error {
        kube::Error::Api(status) if status.is_not_found() => {
            Error::permanent(format!("{kind} {name} does not exist in this namespace: create it"))
        }
        kube::Error::Api(status) if status.is_forbidden() => Error::permanent(format!(
            "the service account of the pod may not read or write {kind} {name}: give it the Role of the cluster"
        ))
        .because(error),
        _ => Error::transient(format!("the Kubernetes API could not be asked for {kind} {name}")).because(error),
    }
}
