//! Starting a server, and the handle to a running one.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::Utc;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{bootstrap, listener};
use crate::auth::tls::Authority;
use crate::auth::tokens::Grant;
use crate::controllers;
use crate::faults::Faults;
use crate::rest::proxy::KubeletClient;
use crate::state::{ServiceCidr, State};
use crate::store::{GroupResource, Key};
use crate::tally::Tally;

/// How a server is started.
#[derive(Clone, Debug)]
pub struct Builder {
    bind: String,
    service_cidr: String,
    history: usize,
}

impl Default for Builder {
    fn default() -> Self {
        Self { bind: "127.0.0.1:0".into(), service_cidr: "127.64.0.0/16".into(), history: 10_000 }
    }
}

/// A running API server; it stops when this is dropped.
pub struct ApiServer {
    address: SocketAddr,
    service_address: Option<SocketAddr>,
    state: Arc<State>,
    authority: Arc<Authority>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Builder {
    /// Where to listen, for example `127.0.0.1:6443`; port 0 takes a free one.
    #[must_use]
    pub fn bind(mut self, address: impl Into<String>) -> Self {
        self.bind = address.into();
        self
    }

    /// Range of Service addresses, for example `127.64.0.0/16`.
    #[must_use]
    pub fn service_cidr(mut self, range: impl Into<String>) -> Self {
        self.service_cidr = range.into();
        self
    }

    /// How many writes watches can go back.
    #[must_use]
    pub fn history(mut self, writes: usize) -> Self {
        self.history = writes;
        self
    }

    /// Starts the server.
    pub async fn start(self) -> Result<ApiServer> {
        // A provider that is already there is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let services = ServiceCidr::parse(&self.service_cidr)?;
        let listener = TcpListener::bind(&self.bind)
            .await
            .with_context(|| format!("the API server cannot listen on {}", self.bind))?;
        let address = listener.local_addr()?;
        let authority = Arc::new(Authority::new()?);
        let names = [
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
        ];
        let mut addresses: Vec<IpAddr> = vec![[127, 0, 0, 1].into(), services.first().into()];
        if !addresses.contains(&address.ip()) && !address.ip().is_unspecified() {
            addresses.push(address.ip());
        }
        let serving = authority.serving(&names, &addresses)?;
        let kubelet =
            KubeletClient::new(&authority.client("kube-apiserver-kubelet-client", &["system:masters"])?)?;
        let state = Arc::new(State::new(self.history, authority.pem().to_owned(), services, kubelet));
        bootstrap::fill(&state, address);
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let acceptor = TlsAcceptor::from(Arc::new(authority.server_config(&serving)?));
        tasks.spawn(listener::serve(
            listener,
            acceptor.clone(),
            state.clone(),
            address,
            stop.clone(),
            tasks.clone(),
        ));
        // The address that pods are told; without the right to the port they are told the real one.
        let cluster = TcpListener::bind((services.first(), 443)).await;
        let service_address = cluster.as_ref().ok().and_then(|l| l.local_addr().ok());
        if let Ok(cluster) = cluster {
            tasks.spawn(listener::serve(
                cluster,
                acceptor,
                state.clone(),
                address,
                stop.clone(),
                tasks.clone(),
            ));
        }
        tasks.spawn(controllers::run(state.clone(), stop.clone()));
        tasks.close();
        Ok(ApiServer { address, service_address, state, authority, stop, tasks })
    }
}

impl ApiServer {
    /// How to start one.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Address of the `kubernetes` service, when this server could take it (port 443 of the first Service address).
    pub fn service_address(&self) -> Option<SocketAddr> {
        self.service_address
    }

    /// Base address, `https://127.0.0.1:6443`.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Certificate authority, PEM.
    pub fn ca_pem(&self) -> &str {
        &self.state.ca_pem
    }

    /// A kubeconfig with an administrator's client certificate.
    pub fn admin_kubeconfig(&self) -> Result<String> {
        self.client_kubeconfig("kubernetes-admin", &["system:masters"])
    }

    /// A kubeconfig with a client certificate for a user in these groups.
    pub fn client_kubeconfig(&self, user: &str, groups: &[&str]) -> Result<String> {
        let pair = self.authority.client(user, groups)?;
        let (certificate, key) = (STANDARD.encode(&pair.certificate), STANDARD.encode(&pair.key));
        let credentials = format!("    client-certificate-data: {certificate}\n    client-key-data: {key}\n");
        Ok(self.kubeconfig(user, "default", &credentials))
    }

    /// A kubeconfig with a token of a service account, good for this long.
    pub fn kubeconfig_for_service_account(
        &self,
        namespace: &str,
        name: &str,
        valid: Duration,
    ) -> Result<String> {
        let token = self.service_account_token(namespace, name, valid)?;
        Ok(self.kubeconfig(name, namespace, &format!("    token: {token}\n")))
    }

    /// A token of a service account, good for this long.
    pub fn service_account_token(&self, namespace: &str, name: &str, valid: Duration) -> Result<String> {
        let key = Key {
            gr: GroupResource::new("", "serviceaccounts"),
            namespace: namespace.into(),
            name: name.into(),
        };
        let account = self.state.store().get(&key).cloned();
        let account = account.with_context(|| format!("there is no service account {namespace}/{name}"))?;
        let seconds = i64::try_from(valid.as_secs())?;
        let grant = Grant { namespace, account: &account, audiences: &[], bound: None, seconds };
        Ok(self.state.tokens.issue(&grant, Utc::now().timestamp()))
    }

    fn kubeconfig(&self, user: &str, namespace: &str, credentials: &str) -> String {
        let (url, authority) = (self.url(), STANDARD.encode(&self.state.ca_pem));
        format!(
            "apiVersion: v1\nkind: Config\nclusters:\n- name: lab\n  cluster:\n    server: {url}\n    certificate-authority-data: {authority}\nusers:\n- name: {user}\n  user:\n{credentials}contexts:\n- name: lab\n  context:\n    cluster: lab\n    user: {user}\n    namespace: {namespace}\ncurrent-context: lab\n"
        )
    }

    /// Faults that requests meet.
    pub fn faults(&self) -> &Faults {
        &self.state.faults
    }

    /// Requests so far.
    pub fn tally(&self) -> &Tally {
        &self.state.tally
    }

    /// Expires every version handed out so far: watches and continued lists from them get 410.
    pub fn expire_versions(&self) {
        self.state.store().compact();
    }

    /// Stops the server and waits until it has stopped.
    pub async fn shutdown(self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
