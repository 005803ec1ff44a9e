//! The node as tests hold it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use base64::Engine as _;
use kube::{Client, Config};
use nix::sys::signal::Signal;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::controllers::{claims::Claims, scheduler};
use crate::error::Error;
use crate::events::Events;
use crate::http::Endpoint;
use crate::images::ImageCatalog;
use crate::restart::Backoff;
use crate::shared::{ApiServer, Names, Shared};
use crate::spawner::Spawner;
use crate::{kubelet, register, sandbox};

/// Says what the node is to be.
#[must_use]
pub struct Builder {
    config: Config,
    name: String,
    root: PathBuf,
    images: ImageCatalog,
    backoff: Backoff,
    pod_net: u8,
    host_ip: String,
    resolv_conf: String,
    aliases: Vec<(String, Vec<String>)>,
    scheduler: bool,
    claims: bool,
}

impl Builder {
    /// Name of the Node object. Default `lab-node-1`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Where pods, logs and claims are kept. Claims outlive the node, and are found again by the next one.
    pub fn root_dir(mut self, root: impl Into<PathBuf>) -> Self {
        self.root = root.into();
        self
    }

    /// The images that can be pulled.
    pub fn images(mut self, images: ImageCatalog) -> Self {
        self.images = images;
        self
    }

    /// How long containers that keep failing are held back. Default: the kubelet's 10 s to 5 min.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Second byte of pod addresses, 127.`net`.x.y. Default 80.
    pub fn pod_net(mut self, net: u8) -> Self {
        self.pod_net = net;
        self
    }

    /// A name that pods can look up besides those of services.
    pub fn host_alias(mut self, address: impl Into<String>, names: &[&str]) -> Self {
        self.aliases.push((address.into(), names.iter().map(|name| (*name).to_owned()).collect()));
        self
    }

    /// What pods have as `/etc/resolv.conf`. The default names a server that refuses at once.
    pub fn resolv_conf(mut self, text: impl Into<String>) -> Self {
        self.resolv_conf = text.into();
        self
    }

    /// Whether this node binds pods. Off where a real scheduler runs, or another node does it.
    pub fn scheduler(mut self, on: bool) -> Self {
        self.scheduler = on;
        self
    }

    /// Whether this node makes volumes for claims. One node of a cluster has to.
    pub fn claims(mut self, on: bool) -> Self {
        self.claims = on;
        self
    }

    /// Starts the node and registers it.
    pub async fn start(self) -> Result<Node, Error> {
        sandbox::check()?;
        let api_server = api_server(&self.config)?;
        let client = Client::try_from(self.config.clone())
            .map_err(|error| Error::Setup { what: "the client", reason: error.to_string() })?;
        std::fs::create_dir_all(self.root.join("pods")).map_err(Error::file("create", &self.root))?;
        let root = self.root.canonicalize().map_err(Error::file("resolve", &self.root))?;
        let http = reqwest::Client::builder()
            // Probes ask whether somebody answers, not who; kubelets do not check certificates either.
            .tls_danger_accept_invalid_certs(true)
            .redirect(reqwest::redirect::Policy::limited(3))
            .no_proxy()
            .pool_max_idle_per_host(0)
            .build()
            .map_err(|error| Error::Setup { what: "the probe client", reason: error.to_string() })?;
        let ip = self.host_ip.parse().map_err(|_| Error::Setup {
            what: "the node's address",
            reason: format!("{} is no IP address", self.host_ip),
        })?;
        let endpoint = Endpoint::bind(ip, &self.name).await?;
        let shared = Arc::new(Shared {
            events: Events::start(client.clone(), "kubelet", &self.name),
            spawner: Spawner::new()?,
            client,
            node: self.name,
            host_ip: self.host_ip,
            root,
            images: RwLock::new(self.images),
            http,
            backoff: self.backoff,
            pod_net: self.pod_net,
            api_server,
            resolv_conf: self.resolv_conf,
            names: Names::new(self.aliases),
            pods: Mutex::default(),
            stop: CancellationToken::new(),
        });
        let port = endpoint.address.port();
        register::register(&shared, port).await?;
        let mut tasks = vec![tokio::spawn(endpoint.serve(shared.clone(), shared.stop.clone()))];
        if self.claims {
            let events = Events::start(shared.client.clone(), "persistentvolume-controller", "");
            let claims = Claims { client: shared.client.clone(), events, root: shared.root.clone() };
            claims.ensure_class().await?;
            tasks.push(tokio::spawn(claims.run(shared.stop.clone())));
        }
        if self.scheduler {
            let events = Events::start(shared.client.clone(), "default-scheduler", "");
            let (client, stop) = (shared.client.clone(), shared.stop.clone());
            tasks.push(tokio::spawn(scheduler::run(client, events, stop)));
        }
        let node = Node { shared, port, tasks, alive: Mutex::default(), heart: Mutex::default() };
        node.revive();
        Ok(node)
    }
}

/// How pods reach the API server: as this client does, so its certificate is good for it.
fn api_server(config: &Config) -> Result<ApiServer, Error> {
    let url = &config.cluster_url;
    let host = url.host().map(str::to_owned).ok_or_else(|| Error::Setup {
        what: "the API server's address",
        reason: format!("{url} names no host"),
    })?;
    let pem = |der: &Vec<u8>| {
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        let lines: Vec<&str> =
            (0..text.len()).step_by(64).map(|at| &text[at..(at + 64).min(text.len())]).collect();
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
    };
    Ok(ApiServer {
        host,
        port: url.port_u16().unwrap_or(443),
        ca_pem: config.root_cert.as_ref().map(|certificates| certificates.iter().map(pem).collect()),
    })
}

/// A kubelet at work.
struct Work {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Work {
    async fn end(self) {
        self.stop.cancel();
        // A task that panicked has said so already.
        let _ = self.task.await;
    }
}

/// A running node. Dropping it kills every container at once; [`Node::shutdown`] waits for that.
pub struct Node {
    shared: Arc<Shared>,
    port: u16,
    tasks: Vec<JoinHandle<()>>,
    alive: Mutex<Option<Work>>,
    heart: Mutex<Option<Work>>,
}

impl Node {
    /// A node for the API server that `config` leads to.
    pub fn builder(config: Config) -> Builder {
        Builder {
            config,
            name: "lab-node-1".to_owned(),
            root: std::env::temp_dir().join("lab-node-1"),
            images: ImageCatalog::new(),
            backoff: Backoff::default(),
            pod_net: 80,
            host_ip: "127.0.0.1".to_owned(),
            resolv_conf: "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n".to_owned(),
            aliases: Vec::new(),
            scheduler: true,
            claims: true,
        }
    }

    /// Name of the Node object.
    pub fn name(&self) -> &str {
        &self.shared.node
    }

    /// Port of the kubelet's HTTPS endpoint.
    pub fn kubelet_port(&self) -> u16 {
        self.port
    }

    /// Replaces the images that can be pulled from now on.
    pub fn set_images(&self, images: ImageCatalog) {
        *self.shared.images.write().unwrap_or_else(PoisonError::into_inner) = images;
    }

    /// Sends a signal to a container's PID 1. SIGKILL takes the whole container with it.
    pub fn kill_container(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        signal: Signal,
    ) -> Result<(), Error> {
        let runtime = self.shared.find_pod(namespace, pod).ok_or_else(|| Error::NotRunning {
            namespace: namespace.to_owned(),
            pod: pod.to_owned(),
            container: container.to_owned(),
        })?;
        runtime.signal(container, signal)
    }

    /// Host process id of a container's PID 1.
    pub fn container_pid(&self, namespace: &str, pod: &str, container: &str) -> Option<i32> {
        let runtime = self.shared.find_pod(namespace, pod)?;
        let pid = runtime.state().live.get(container).map(|live| live.pid);
        pid
    }

    /// The directory of a pod on this node: `volumes/`, `logs/`, `etc/`.
    pub fn pod_dir(&self, namespace: &str, pod: &str) -> Option<PathBuf> {
        self.shared.find_pod(namespace, pod).map(|runtime| self.shared.pod_dir(&runtime.uid))
    }

    /// Names of the pods that are on this node now, as `namespace/name`.
    pub fn pods(&self) -> Vec<String> {
        let pods = self.shared.pods.lock().unwrap_or_else(PoisonError::into_inner);
        pods.values().map(|pod| format!("{}/{}", pod.namespace, pod.name)).collect()
    }

    fn revive(&self) {
        {
            let mut alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
            if alive.is_none() {
                let stop = self.shared.stop.child_token();
                let task = tokio::spawn(kubelet::run(self.shared.clone(), stop.clone()));
                *alive = Some(Work { stop, task });
            }
        }
        self.start_heartbeats();
    }

    /// Gives signs of life again.
    pub fn start_heartbeats(&self) {
        let mut heart = self.heart.lock().unwrap_or_else(PoisonError::into_inner);
        if heart.is_none() {
            let stop = self.shared.stop.child_token();
            let task = tokio::spawn(register::heartbeat(self.shared.clone(), self.port, stop.clone()));
            *heart = Some(Work { stop, task });
        }
    }

    /// Gives no more signs of life; everything else goes on.
    pub async fn stop_heartbeats(&self) {
        let work = self.heart.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(work) = work {
            work.end().await;
        }
    }

    /// Loses the node as a power failure does: every container dies at once, the API server is told nothing.
    pub async fn lose(&self) {
        self.stop_heartbeats().await;
        let work = self.alive.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(work) = work {
            work.end().await;
        }
    }

    /// Brings a lost node back: it starts the pods that are still bound to it.
    pub fn recover(&self) {
        self.revive();
    }

    /// Stops everything and waits until nothing runs and nothing is mounted.
    pub async fn shutdown(mut self) {
        self.lose().await;
        self.shared.stop.cancel();
        for task in std::mem::take(&mut self.tasks) {
            if tokio::time::timeout(Duration::from_secs(10), task).await.is_err() {
                tracing::warn!("a part of the node did not end in time");
            }
        }
        crate::volumes::store::unmount_below(&self.shared.root);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}
