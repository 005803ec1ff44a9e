//! What every pod of a node works with.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use k8s_openapi::api::core::v1::Pod;
use kube::{Client, ResourceExt};
use tokio_util::sync::CancellationToken;

use crate::addresses::Range;
use crate::events::Events;
use crate::hosts::{self, ServiceName};
use crate::images::ImageCatalog;
use crate::pod::PodRuntime;
use crate::restart::Backoff;
use crate::spawner::Spawner;

/// How the node's pods reach the API server, in a way that its certificate is good for.
#[derive(Debug, Clone)]
pub(crate) struct ApiServer {
    pub host: String,
    pub port: u16,
    /// Its authority, for namespaces that have no `kube-root-ca.crt`.
    pub ca_pem: Option<String>,
}

/// The node's own facts and tools.
pub(crate) struct Shared {
    pub client: Client,
    pub node: String,
    pub host_ip: String,
    pub root: PathBuf,
    pub images: RwLock<ImageCatalog>,
    pub spawner: Spawner,
    pub http: reqwest::Client,
    pub events: Events,
    pub backoff: Backoff,
    pub pod_range: Range,
    pub api_server: ApiServer,
    pub resolv_conf: String,
    pub names: Names,
    /// Whether memory limits are enforced.
    pub memory_limits: bool,
    pub pods: Mutex<BTreeMap<String, Arc<PodRuntime>>>,
    pub stop: CancellationToken,
}

impl Shared {
    /// The directory of a pod, by its uid.
    pub fn pod_dir(&self, uid: &str) -> PathBuf {
        self.root.join("pods").join(uid)
    }

    /// A pod that is on this node, by name.
    pub fn find_pod(&self, namespace: &str, name: &str) -> Option<Arc<PodRuntime>> {
        let pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        pods.values().find(|pod| pod.namespace == namespace && pod.name == name).cloned()
    }
}

/// A pod whose hosts file is kept up to date.
#[derive(Debug, Clone)]
struct HostsFile {
    path: PathBuf,
    namespace: String,
    own: (Ipv4Addr, String),
    aliases: Vec<(String, Vec<String>)>,
}

#[derive(Debug, Default)]
struct NamesState {
    services: Vec<ServiceName>,
    files: BTreeMap<String, HostsFile>,
}

/// The names that pods can look up, and the files in which they do.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names {
    state: Arc<Mutex<NamesState>>,
    /// Names for everything that is not in the cluster.
    extra: Arc<Vec<(String, Vec<String>)>>,
}

impl Names {
    pub fn new(extra: Vec<(String, Vec<String>)>) -> Self {
        Self { state: Arc::default(), extra: Arc::new(extra) }
    }

    /// Writes a pod's file and keeps it up to date.
    pub fn add(&self, pod: &Pod, address: Ipv4Addr, path: PathBuf) {
        let hostname = hostname(pod);
        let mut aliases: Vec<(String, Vec<String>)> = self.extra.as_ref().clone();
        for alias in pod.spec.iter().flat_map(|spec| spec.host_aliases.iter().flatten()) {
            aliases.push((alias.ip.clone(), alias.hostnames.clone().unwrap_or_default()));
        }
        let file = HostsFile {
            path,
            namespace: pod.namespace().unwrap_or_default(),
            own: (address, hostname),
            aliases,
        };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        file.write(&state.services);
        state.files.insert(pod.uid().unwrap_or_default(), file);
    }

    pub fn remove(&self, uid: &str) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).files.remove(uid);
    }

    /// Replaces the names of services, rewriting every file that they change.
    pub fn set_services(&self, services: Vec<ServiceName>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.services == services {
            return;
        }
        state.services = services;
        for file in state.files.values() {
            file.write(&state.services);
        }
    }
}

impl HostsFile {
    /// Writes in place: the file is bind-mounted, so another file under its name would not be seen.
    fn write(&self, services: &[ServiceName]) {
        let text = hosts::render(&self.namespace, (self.own.0, &self.own.1), &self.aliases, services);
        let written =
            std::fs::OpenOptions::new().write(true).create(true).truncate(false).open(&self.path).and_then(
                |mut file| {
                    use std::io::Write;
                    file.write_all(text.as_bytes())?;
                    file.set_len(text.len() as u64)
                },
            );
        if let Err(error) = written {
            tracing::warn!(path = %self.path.display(), %error, "cannot write a hosts file");
        }
    }
}

/// The host name that a pod's containers have: the pod's name, cut to what a kernel takes.
pub(crate) fn hostname(pod: &Pod) -> String {
    let name = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.hostname.clone())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| pod.name_any());
    let cut: String = name.chars().take(63).collect();
    cut.trim_end_matches(['-', '.']).to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn hostnames_fit() {
        let pod =
            |name: &str| -> Pod { serde_json::from_value(json!({"metadata": {"name": name}})).unwrap() };
        assert_eq!(hostname(&pod("db-1")), "db-1");
        let long = format!("{}-{}", "a".repeat(62), "b".repeat(30));
        assert_eq!(hostname(&pod(&long)), "a".repeat(62));
    }
}
