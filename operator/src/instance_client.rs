//! Asks the instance managers how they are, for a restart, or to make room for another program: HTTPS to the pod's address, with the operator's client certificate.
//!
//! A pod is reached by its address, while its certificate names the cluster's services; the name that is
//! checked is therefore always `<cluster>-rw`, whatever address is dialled.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::TryStreamExt;
use howdah_api::instance::InstanceStatus;
use howdah_api::naming;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Limited, StreamBody};
use hyper::body::{Bytes, Frame};
use hyper::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use sha2::{Digest, Sha256};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_util::io::ReaderStream;

use crate::manager_program::ManagerProgram;

use crate::session::LastTicket;

/// How long one question may take in all.
const TIMEOUT: Duration = Duration::from_secs(4);
/// How long it may take to send a program and to have it looked at.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(120);
/// Bytes of a program that are read at once.
const PIECE: usize = 128 << 10;
/// Longest answer that is read.
const MAX_ANSWER: usize = 256 * 1024;

/// One instance to ask.
#[derive(Clone, Debug)]
pub struct Target {
    /// Namespace of the cluster.
    pub namespace: String,
    /// Name of the cluster.
    pub cluster: String,
    /// Name of the pod.
    pub pod: String,
    /// Address of the pod.
    pub ip: String,
    /// With what to authenticate.
    pub credentials: Credentials,
}

/// The operator's client certificate for one cluster, PEM encoded.
#[derive(Clone, Default)]
pub struct Credentials {
    /// Client certificate.
    pub certificate: Vec<u8>,
    /// Its key.
    pub key: Vec<u8>,
    /// Authority that the instance's certificate must come from.
    pub authority: Vec<u8>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

/// Why an instance gave no status.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InstanceError {
    /// The certificates in the Secrets are unusable.
    #[error("the certificates for talking to {pod} are not usable: {message}")]
    Credentials {
        /// The pod.
        pod: String,
        /// What is wrong with them.
        message: String,
    },
    /// No connection, no valid certificate, or no answer in time.
    #[error("{pod} does not answer at {address}: {message}")]
    Unreachable {
        /// The pod.
        pod: String,
        /// Where it was looked for.
        address: String,
        /// What happened.
        message: String,
    },
    /// It does not do what it was asked for.
    #[error("{pod} refuses: {message}")]
    Refused {
        /// The pod.
        pod: String,
        /// Its words.
        message: String,
        /// Whether asking again may help.
        passes: bool,
    },
    /// An answer that is not a status.
    #[error("{pod} gave an answer that is not understood: {message}")]
    Answer {
        /// The pod.
        pod: String,
        /// What was wrong with it.
        message: String,
    },
}

/// What the operator asks of an instance.
#[async_trait]
pub trait InstanceApi: Send + Sync {
    /// `GET /v1/status`.
    async fn status(&self, target: &Target) -> Result<InstanceStatus, InstanceError>;

    /// `POST /v1/restart`: PostgreSQL is restarted in its place. The answer comes before that is done; asking again
    /// meanwhile is no error.
    async fn restart(&self, target: &Target) -> Result<(), InstanceError>;

    /// `PUT /v1/manager`: the instance runs this program from now on. The answer comes before that is so.
    async fn upgrade(&self, target: &Target, program: &ManagerProgram) -> Result<(), InstanceError>;

    /// Drops what is kept for a cluster that is gone.
    fn forget(&self, namespace: &str, cluster: &str);
}

/// [`InstanceApi`] over mutual TLS.
#[derive(Default)]
pub struct HttpInstances {
    /// By namespace and cluster.
    configs: Mutex<HashMap<String, Configured>>,
}

/// What is kept for a cluster.
struct Configured {
    /// Of the credentials.
    digest: [u8; 32],
    /// What they make.
    common: ClientConfig,
    /// The same for each instance by its pod, with the ticket that it gave last, so that a poll needs no full handshake.
    pods: HashMap<String, Arc<ClientConfig>>,
}

impl Configured {
    fn pod(&mut self, pod: &str) -> Arc<ClientConfig> {
        // Pods that are gone: serials never come back.
        if self.pods.len() >= MAX_PODS && !self.pods.contains_key(pod) {
            self.pods.clear();
        }
        let make = || {
            let mut config = self.common.clone();
            config.resumption = Resumption::store(Arc::new(LastTicket::default()));
            Arc::new(config)
        };
        self.pods.entry(pod.to_owned()).or_insert_with(make).clone()
    }
}

impl HttpInstances {
    fn config(&self, target: &Target) -> Result<Arc<ClientConfig>, String> {
        let credentials = &target.credentials;
        let mut hash = Sha256::new();
        for part in [&credentials.certificate, &credentials.key, &credentials.authority] {
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        }
        let digest: [u8; 32] = hash.finalize().into();
        let key = format!("{}/{}", target.namespace, target.cluster);
        let mut configs = self.configs.lock().expect("no holder of this lock can panic");
        if let Some(known) = configs.get_mut(&key)
            && known.digest == digest
        {
            return Ok(known.pod(&target.pod));
        }
        let mut made = Configured { digest, common: client_config(credentials)?, pods: HashMap::new() };
        let config = made.pod(&target.pod);
        configs.insert(key, made);
        Ok(config)
    }
}

/// Configurations that are kept for a cluster.
const MAX_PODS: usize = 32;

fn client_config(credentials: &Credentials) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    for cert in CertificateDer::pem_slice_iter(&credentials.authority) {
        let cert = cert.map_err(|e| format!("the authority is not PEM: {e:?}"))?;
        roots.add(cert).map_err(|e| format!("the authority is no certificate: {e}"))?;
    }
    let chain = CertificateDer::pem_slice_iter(&credentials.certificate)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| format!("the client certificate is not PEM: {e:?}"))?;
    let key = PrivateKeyDer::from_pem_slice(&credentials.key)
        .map_err(|_| "the client key is not a PEM private key".to_owned())?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(|e| e.to_string())?;
    // The default has room for the sessions of many servers, allocated at once; each instance gets its own.
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// One for all clusters.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(tokio_rustls::rustls::crypto::ring::default_provider()));
    PROVIDER.clone()
}

#[async_trait]
impl InstanceApi for HttpInstances {
    async fn status(&self, target: &Target) -> Result<InstanceStatus, InstanceError> {
        let body = self.ask(target, Method::GET, "/v1/status").await?;
        serde_json::from_slice(&body)
            .map_err(|e| InstanceError::Answer { pod: target.pod.clone(), message: e.to_string() })
    }

    async fn restart(&self, target: &Target) -> Result<(), InstanceError> {
        self.ask(target, Method::POST, "/v1/restart").await.map(drop)
    }

    async fn upgrade(&self, target: &Target, program: &ManagerProgram) -> Result<(), InstanceError> {
        let pod = target.pod.clone();
        let file = tokio::fs::File::open(&program.path).await.map_err(|error| InstanceError::Refused {
            pod: pod.clone(),
            message: format!("the operator cannot read {}: {error}", program.path.display()),
            passes: true,
        })?;
        let pieces = ReaderStream::with_capacity(file, PIECE).map_ok(Frame::data);
        let request = hyper::Request::builder()
            .method(Method::PUT)
            .uri("/v1/manager")
            .header(naming::MANAGER_SHA256_HEADER, &program.sha256);
        let body = BodyExt::boxed_unsync(StreamBody::new(pieces));
        let (status, said) = self.request(target, request, body, UPGRADE_TIMEOUT).await?;
        if status.is_success() {
            return Ok(());
        }
        let message = format!("HTTP {status}{}", words(&said));
        // What it says about the program does not pass, nor does not to know the call.
        let passes = !matches!(status.as_u16(), 400 | 404 | 405 | 413 | 422);
        Err(InstanceError::Refused { pod, message, passes })
    }

    fn forget(&self, namespace: &str, cluster: &str) {
        let key = format!("{namespace}/{cluster}");
        self.configs.lock().expect("no holder of this lock can panic").remove(&key);
    }
}

/// A body whose pieces are read as they are sent.
type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// What an instance says about an error.
fn words(body: &[u8]) -> String {
    serde_json::from_slice::<howdah_api::instance::ErrorBody>(body)
        .map_or_else(|_| String::new(), |b| format!(": {}", b.error))
}

impl HttpInstances {
    /// The body of a successful answer.
    async fn ask(&self, target: &Target, method: Method, path: &str) -> Result<Bytes, InstanceError> {
        let request = hyper::Request::builder().method(method).uri(path);
        let empty = BodyExt::boxed_unsync(Empty::new().map_err(|never| match never {}));
        let (status, body) = self.request(target, request, empty, TIMEOUT).await?;
        if status.is_success() {
            return Ok(body);
        }
        Err(unreachable(target, format!("HTTP {status}{}", words(&body))))
    }

    /// The answer, whatever it is.
    async fn request(
        &self,
        target: &Target,
        request: hyper::http::request::Builder,
        body: Body,
        limit: Duration,
    ) -> Result<(StatusCode, Bytes), InstanceError> {
        let config = self
            .config(target)
            .map_err(|message| InstanceError::Credentials { pod: target.pod.clone(), message })?;
        match tokio::time::timeout(limit, call(target, config, request, body)).await {
            Ok(answer) => answer.map_err(|message| unreachable(target, message)),
            Err(_) => Err(unreachable(target, format!("no answer within {} s", limit.as_secs()))),
        }
    }
}

fn unreachable(target: &Target, message: String) -> InstanceError {
    let address = format!("{}:{}", target.ip, naming::STATUS_PORT);
    InstanceError::Unreachable { pod: target.pod.clone(), address, message }
}

async fn call(
    target: &Target,
    config: Arc<ClientConfig>,
    request: hyper::http::request::Builder,
    body: Body,
) -> Result<(StatusCode, Bytes), String> {
    let ip: IpAddr = target.ip.parse().map_err(|_| format!("{} is not an address", target.ip))?;
    let port = u16::try_from(naming::STATUS_PORT).expect("a port number");
    let tcp = TcpStream::connect(SocketAddr::new(ip, port)).await.map_err(|e| e.to_string())?;
    let host = naming::service_rw(&target.cluster);
    let name = ServerName::try_from(host.clone()).map_err(|e| e.to_string())?;
    let tls = TlsConnector::from(config).connect(name, tcp).await.map_err(|e| e.to_string())?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(tls)).await.map_err(|e| e.to_string())?;
    let driver = tokio::spawn(connection);
    let request = request
        .header(hyper::header::HOST, host)
        .header(hyper::header::CONNECTION, "close")
        .body(body)
        .map_err(|e| e.to_string())?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(|e| e.to_string())?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER)
            .collect()
            .await
            .map_err(|e| e.to_string())?
            .to_bytes();
        Ok((status, body))
    }
    .await;
    driver.abort();
    answer
}
