//! The node as tests hold it.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use nix::sys::signal::Signal;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::addresses::Range;
use crate::controllers::claims::Claims;
use crate::controllers::deployments::Deployments;
use crate::controllers::lifecycle::Lifecycle;
use crate::controllers::services::Services;
use crate::controllers::{accounts, scheduler};
use crate::error::Error;
use crate::events::Events;
use crate::http::Endpoint;
use crate::images::ImageCatalog;
use crate::pod::PodRuntime;
use crate::restart::Backoff;
use crate::shared::{ApiServer, Names, Shared};
use crate::spawner::Spawner;
use crate::{kubelet, memory, register, sandbox, trust};

/// Says what the node is to be.
#[must_use]
pub struct Builder {
    access: Access,
    name: String,
    root: PathBuf,
    images: ImageCatalog,
    backoff: Backoff,
    pod_cidr: String,
    service_cidr: String,
    host_ip: String,
    resolv_conf: String,
    aliases: Vec<(String, Vec<String>)>,
    scheduler: bool,
    claims: bool,
    controllers: bool,
    memory_limits: bool,
    silence: Duration,
}

/// How the API server is reached: a kubeconfig file or a client configuration, with an administrator's rights.
pub struct Access(Reach);

enum Reach {
    Kubeconfig(PathBuf),
    Config(Box<Config>),
}

impl From<Config> for Access {
    fn from(config: Config) -> Self {
        Self(Reach::Config(Box::new(config)))
    }
}

impl From<PathBuf> for Access {
    fn from(kubeconfig: PathBuf) -> Self {
        Self(Reach::Kubeconfig(kubeconfig))
    }
}

impl From<&Path> for Access {
    fn from(kubeconfig: &Path) -> Self {
        Self::from(kubeconfig.to_owned())
    }
}

impl From<&PathBuf> for Access {
    fn from(kubeconfig: &PathBuf) -> Self {
        Self::from(kubeconfig.clone())
    }
}

impl Access {
    async fn config(self) -> Result<Config, Error> {
        let path = match self.0 {
            Reach::Config(config) => return Ok(*config),
            Reach::Kubeconfig(path) => path,
        };
        let unusable = |error: kube::config::KubeconfigError| Error::Setup {
            what: "the client",
            reason: format!("kubeconfig {}: {error}", path.display()),
        };
        let kubeconfig = Kubeconfig::read_from(&path).map_err(unusable)?;
        Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.map_err(unusable)
    }
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

    /// Range of pod addresses, in 127.0.0.0/8. Default `127.80.0.0/16`.
    pub fn pod_cidr(mut self, range: impl Into<String>) -> Self {
        self.pod_cidr = range.into();
        self
    }

    /// The same by its second byte: `127.<net>.0.0/16`.
    pub fn pod_net(self, net: u8) -> Self {
        self.pod_cidr(format!("127.{net}.0.0/16"))
    }

    /// Range of addresses, in 127.0.0.0/8, for services whose own address is not one of this machine. May be
    /// the API server's range. Default `127.64.0.0/16`.
    pub fn service_cidr(mut self, range: impl Into<String>) -> Self {
        self.service_cidr = range.into();
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

    /// Whether this node sees to Deployments, ReplicaSets, endpoints, and what every namespace has to have. Off
    /// where a controller manager runs, or another node does it.
    pub fn controllers(mut self, on: bool) -> Self {
        self.controllers = on;
        self
    }

    /// Enforces containers' memory limits, by the kernel's version 1 memory controller. Off unless asked for:
    /// not every machine has it.
    pub fn memory_limits(mut self, on: bool) -> Self {
        self.memory_limits = on;
        self
    }

    /// How long a node may give no sign of life before it counts as lost. Default 40 s.
    pub fn silence(mut self, grace: Duration) -> Self {
        self.silence = grace;
        self
    }

    /// Starts the node and registers it.
    pub async fn start(self) -> Result<Node, Error> {
        // A provider that is there already is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        sandbox::check()?;
        if self.memory_limits && !memory::is_available() {
            return Err(Error::Setup {
                what: "memory limits",
                reason:
                    "there is no version 1 memory controller at /sys/fs/cgroup/memory, or this is not root"
                        .to_owned(),
            });
        }
        let (pod_range, range) = (Range::parse(&self.pod_cidr)?, Range::parse(&self.service_cidr)?);
        let config = self.access.config().await?;
        let api_server = api_server(&config).await?;
        let client = Client::try_from(config)
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
            pod_range,
            api_server,
            resolv_conf: self.resolv_conf,
            names: Names::new(self.aliases),
            memory_limits: self.memory_limits,
            pods: Mutex::default(),
            stop: CancellationToken::new(),
        });
        let port = endpoint.address.port();
        register::register(&shared, port).await?;
        let mut tasks = vec![tokio::spawn(endpoint.serve(shared.clone(), shared.stop.clone()))];
        if self.claims {
            let events = Events::start(shared.client.clone(), "persistentvolume-controller", "");
            let claims = Claims { client: shared.client.clone(), events, root: shared.root.clone() };
            claims.ensure_classes().await?;
            tasks.push(tokio::spawn(claims.run(shared.stop.clone())));
        }
        if self.scheduler {
            let events = Events::start(shared.client.clone(), "default-scheduler", "");
            let (client, stop) = (shared.client.clone(), shared.stop.clone());
            tasks.push(tokio::spawn(scheduler::run(client, events, stop)));
        }
        let services = Services { shared: shared.clone(), keep_endpoints: self.controllers, range };
        tasks.push(tokio::spawn(services.run(shared.stop.clone())));
        if self.controllers {
            let events = Events::start(shared.client.clone(), "deployment-controller", "");
            let deployments = Deployments { client: shared.client.clone(), events };
            tasks.push(tokio::spawn(deployments.run(shared.stop.clone())));
            let events = Events::start(shared.client.clone(), "node-controller", "");
            let lifecycle = Lifecycle { client: shared.client.clone(), events, grace: self.silence };
            tasks.push(tokio::spawn(lifecycle.run(shared.stop.clone())));
            let (client, authority) = (shared.client.clone(), shared.api_server.ca_pem.clone());
            tasks.push(tokio::spawn(accounts::run(client, authority, shared.stop.clone())));
        }
        let beat = (self.silence / 4).min(Duration::from_secs(10));
        let node = Node { shared, port, beat, tasks, alive: Mutex::default(), heart: Mutex::default() };
        node.revive();
        Ok(node)
    }
}

/// How pods reach the API server: as this client does, so its certificate is good for it.
async fn api_server(config: &Config) -> Result<ApiServer, Error> {
    let url = &config.cluster_url;
    let host = url.host().map(str::to_owned).ok_or_else(|| Error::Setup {
        what: "the API server's address",
        reason: format!("{url} names no host"),
    })?;
    let port = url.port_u16().unwrap_or(443);
    let authorities = match &config.root_cert {
        Some(certificates) => certificates.clone(),
        // Whoever accepts any certificate has named no authority; pods get the one that was met.
        None if config.accept_invalid_certs => trust::presented(&host, port).await?.into_iter().collect(),
        None => Vec::new(),
    };
    let ca_pem = (!authorities.is_empty()).then(|| authorities.iter().map(|der| trust::pem(der)).collect());
    Ok(ApiServer { host, port, ca_pem })
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
    beat: Duration,
    tasks: Vec<JoinHandle<()>>,
    alive: Mutex<Option<Work>>,
    heart: Mutex<Option<Work>>,
}

impl Node {
    /// A node for an API server: give a kubeconfig's path or a client configuration.
    pub fn builder(access: impl Into<Access>) -> Builder {
        Builder {
            access: access.into(),
            name: "lab-node-1".to_owned(),
            root: std::env::temp_dir().join("lab-node-1"),
            images: ImageCatalog::new(),
            backoff: Backoff::default(),
            pod_cidr: "127.80.0.0/16".to_owned(),
            service_cidr: "127.64.0.0/16".to_owned(),
            host_ip: "127.0.0.1".to_owned(),
            resolv_conf: "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n".to_owned(),
            aliases: Vec::new(),
            scheduler: true,
            claims: true,
            controllers: true,
            memory_limits: false,
            silence: Duration::from_secs(40),
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

    fn running(&self, namespace: &str, pod: &str, container: &str) -> Result<Arc<PodRuntime>, Error> {
        self.shared.find_pod(namespace, pod).ok_or_else(|| Error::NotRunning {
            namespace: namespace.to_owned(),
            pod: pod.to_owned(),
            container: container.to_owned(),
        })
    }

    /// Sends a signal to a container's PID 1. SIGKILL takes the whole container with it.
    pub fn kill_container(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        signal: Signal,
    ) -> Result<(), Error> {
        self.running(namespace, pod, container)?.signal(container, signal)
    }

    /// Runs a program inside a container, as `kubectl exec` does. Returns what it printed and how it ended.
    pub async fn exec(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        argv: &[String],
        timeout: Duration,
    ) -> Result<Output, Error> {
        self.running(namespace, pod, container)?.exec(container, argv, timeout).await
    }

    /// Host process id of a container's PID 1.
    pub fn container_pid(&self, namespace: &str, pod: &str, container: &str) -> Option<i32> {
        let runtime = self.shared.find_pod(namespace, pod)?;
        runtime.pid(container)
    }

    /// What the kernel calls the control group (version 2) that holds the processes of a pod.
    #[must_use]
    pub fn network_group(&self, namespace: &str, pod: &str) -> Option<String> {
        let runtime = self.shared.find_pod(namespace, pod)?;
        crate::network::entrance(&runtime.uid).map(|_| crate::network::name(&runtime.uid))
    }

    /// The directory of a pod on this node: `volumes/`, `logs/`, `etc/`.
    pub fn pod_dir(&self, namespace: &str, pod: &str) -> Option<PathBuf> {
        self.shared.find_pod(namespace, pod).map(|runtime| self.shared.pod_dir(&runtime.uid))
    }

    /// The pods that are on this node now, as `namespace/name`.
    pub fn pods(&self) -> Vec<String> {
        let pods = self.shared.pods.lock().unwrap_or_else(PoisonError::into_inner);
        pods.values().map(|pod| format!("{}/{}", pod.namespace, pod.name)).collect()
    }

    /// Names of the pods of a namespace that are on this node now.
    pub fn pods_in(&self, namespace: &str) -> Vec<String> {
        let pods = self.shared.pods.lock().unwrap_or_else(PoisonError::into_inner);
        pods.values().filter(|pod| pod.namespace == namespace).map(|pod| pod.name.clone()).collect()
    }

    /// Sends a signal to the oldest process inside a container whose program's name begins with `name`.
    pub fn kill_process(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        name: &str,
        signal: Signal,
    ) -> Result<(), Error> {
        self.running(namespace, pod, container)?.signal_process(container, name, signal)
    }

    /// Sends a signal to every process of a container. SIGSTOP freezes it, as a node does that runs out of processor
    /// or memory; SIGCONT lets it go on, as if no time had passed.
    pub fn signal_all(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        signal: Signal,
    ) -> Result<(), Error> {
        self.running(namespace, pod, container)?.signal_all(container, signal)
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
            let task =
                tokio::spawn(register::heartbeat(self.shared.clone(), self.port, self.beat, stop.clone()));
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
