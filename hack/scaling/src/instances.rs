//! Stand-ins for all instance managers: one server for all addresses, which presents each cluster's own certificate and
//! asks for the operator's.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use anyhow::{Context as _, Result};
use howdah_api::instance::{ArchiverStatus, InstanceRole, InstanceStatus};
use howdah_api::naming;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use rustls::server::{Acceptor, ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::LazyConfigAcceptor;

/// Seconds for one WAL segment under load.
const SEGMENT_SECONDS: u64 = 5;
/// Bytes of a WAL segment.
const SEGMENT: u64 = 16 * 1024 * 1024;

/// One simulated instance.
#[derive(Clone)]
struct Instance {
    pod: String,
    role: InstanceRole,
    /// Its own: it knows no sessions of its neighbours.
    tls: Arc<ServerConfig>,
}

/// All simulated instances.
pub struct Instances {
    load: bool,
    begun: Instant,
    /// By address.
    instances: RwLock<HashMap<IpAddr, Instance>>,
    /// By cluster's service, to be copied for each instance.
    certificates: RwLock<HashMap<String, Arc<ServerConfig>>>,
}

/// Address of instance `number` of all.
pub fn address(number: usize) -> Ipv4Addr {
    let octet = |n: usize| u8::try_from(n % 250 + 1).unwrap_or(1);
    Ipv4Addr::new(127, 100 + octet(number / 62_500), octet(number / 250), octet(number))
}

impl Instances {
    /// None yet.
    pub fn new(load: bool) -> Arc<Self> {
        let (instances, certificates) = (RwLock::default(), RwLock::default());
        Arc::new(Self { load, begun: Instant::now(), instances, certificates })
    }

    /// Serves them at the status port of all addresses until the task is aborted.
    pub async fn serve(self: &Arc<Self>) -> Result<JoinHandle<()>> {
        let port = u16::try_from(naming::STATUS_PORT).context("the status port is no port")?;
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await.with_context(|| {
            format!("cannot listen at port {port} of all addresses: start hack/scale as root")
        })?;
        let all = self.clone();
        Ok(tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let all = all.clone();
                tokio::spawn(async move { all.connection(tcp).await });
            }
        }))
    }

    /// An instance with the certificates of `secret`, which all of its cluster share.
    pub fn add(
        &self,
        address: Ipv4Addr,
        pod: &str,
        cluster: &str,
        primary: bool,
        secret: &Secret,
    ) -> Result<()> {
        let name = naming::service_rw(cluster);
        let mut certificates = self.certificates.write().unwrap_or_else(PoisonError::into_inner);
        let known = certificates.get(&name).cloned();
        let common = match known {
            Some(known) => known,
            None => Arc::new(tls(secret)?),
        };
        certificates.insert(name, common.clone());
        drop(certificates);
        let mut own = (*common).clone();
        own.session_storage = ServerSessionMemoryCache::new(8);
        let role = if primary { InstanceRole::Primary } else { InstanceRole::Replica };
        let mut instances = self.instances.write().unwrap_or_else(PoisonError::into_inner);
        instances.insert(address.into(), Instance { pod: pod.to_owned(), role, tls: Arc::new(own) });
        Ok(())
    }

    /// Whatever goes wrong is the caller's to notice.
    async fn connection(&self, tcp: TcpStream) -> Option<()> {
        let asked = tcp.local_addr().ok()?.ip();
        let start = LazyConfigAcceptor::new(Acceptor::default(), tcp).await.ok()?;
        let config = self.instances.read().unwrap_or_else(PoisonError::into_inner).get(&asked)?.tls.clone();
        let tls = start.into_stream(config).await.ok()?;
        let service = service_fn(|request| std::future::ready(self.answer(asked, &request)));
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tls), service).await.ok()
    }

    fn answer(
        &self,
        asked: IpAddr,
        request: &Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, hyper::http::Error> {
        let instances = self.instances.read().unwrap_or_else(PoisonError::into_inner);
        let known = instances.get(&asked).filter(|_| request.uri().path() == "/v1/status").cloned();
        drop(instances);
        let (status, body) = match known {
            Some(instance) => {
                (StatusCode::OK, serde_json::to_vec(&self.status(instance)).unwrap_or_default())
            }
            None => (StatusCode::NOT_FOUND, br#"{"error":"no such instance or page"}"#.to_vec()),
        };
        Response::builder().status(status).body(Full::new(Bytes::from(body)))
    }

    /// What a healthy instance says.
    fn status(&self, Instance { pod, role, .. }: Instance) -> InstanceStatus {
        let seconds = if self.load { self.begun.elapsed().as_secs() } else { 0 };
        let segment = 3 + seconds / SEGMENT_SECONDS;
        let primary = role == InstanceRole::Primary;
        // A replica is a little behind, and never by the same.
        let behind = if primary { 0 } else { seconds % 7 * 4096 };
        let position = segment * SEGMENT + seconds % SEGMENT_SECONDS * (SEGMENT / SEGMENT_SECONDS);
        let position = position.saturating_sub(behind);
        let lsn = format!("{:X}/{:X}", position >> 32, position & 0xFFFF_FFFF);
        InstanceStatus {
            session_id: format!("session-of-{pod}"),
            pod_name: pod,
            manager_version: env!("CARGO_PKG_VERSION").into(),
            ready: true,
            server_running: true,
            holds_lease: primary,
            role: Some(role),
            message: "PostgreSQL takes connections".into(),
            system_id: Some("7400000000000000001".into()),
            server_version: Some(170_010),
            timeline_id: Some(1),
            replayed_lsn: (!primary).then(|| lsn.clone()),
            received_lsn: Some(lsn),
            streaming: !primary,
            archiver: Some(ArchiverStatus {
                working: true,
                confirmed: true,
                last_archived_wal: primary.then(|| format!("0000000100000000{:08X}", segment - 1)),
                last_archived_time: primary.then(|| Time(archived(seconds))),
                ..ArchiverStatus::default()
            }),
            ..InstanceStatus::default()
        }
    }
}

/// A time that moves with the WAL.
fn archived(seconds: u64) -> Timestamp {
    let moved = i64::try_from(seconds / SEGMENT_SECONDS * SEGMENT_SECONDS).unwrap_or(0);
    Timestamp::from_second(1_795_000_000 + moved).unwrap_or_default()
}

fn tls(secret: &Secret) -> Result<ServerConfig> {
    let data = secret.data.as_ref().context("the Secret with the server certificate is empty")?;
    let part = |key: &str| {
        data.get(key).map(|value| value.0.as_slice()).with_context(|| format!("{key} is missing"))
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(part("ca.crt")?) {
        roots.add(certificate?)?;
    }
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build()?;
    let chain = CertificateDer::pem_slice_iter(part("tls.crt")?).collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(part("tls.key")?)?;
    Ok(ServerConfig::builder().with_client_cert_verifier(verifier).with_single_cert(chain, key)?)
}
