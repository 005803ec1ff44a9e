//! A stand-in for an instance manager: `GET /v1/status`, `POST /v1/restart` and `PUT /v1/manager` over mutual TLS on the pod's own address.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use howdah_api::instance::InstanceStatus;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Secret;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{HandshakeKind, RootCertStore, ServerConfig};

/// What an instance answers; `None`: it takes no connections.
pub type Answer = Arc<Mutex<Option<InstanceStatus>>>;

/// A running stand-in; it ends when dropped.
pub struct Instance {
    task: JoinHandle<()>,
    /// How many connections took a session up again.
    pub resumed: Arc<AtomicU32>,
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts one at `ip`, with the certificates of `secret` (`<cluster>-server`).
pub async fn start(ip: &str, secret: &Secret, answer: Answer) -> Instance {
    let acceptor = TlsAcceptor::from(Arc::new(tls(secret)));
    let address: SocketAddr = format!("{ip}:8000").parse().unwrap();
    let listener =
        TcpListener::bind(address).await.unwrap_or_else(|e| panic!("cannot listen at {address}: {e}"));
    let shared = answer;
    let resumed = Arc::new(AtomicU32::new(0));
    let counter = resumed.clone();
    let task = tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let (acceptor, answer, resumed) = (acceptor.clone(), shared.clone(), counter.clone());
            tokio::spawn(async move {
                if answer.lock().unwrap().is_none() {
                    return;
                }
                let Ok(tls) = acceptor.accept(tcp).await else { return };
                if tls.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed) {
                    resumed.fetch_add(1, Ordering::Relaxed);
                }
                let names = tls.get_ref().1.peer_certificates().map(<[_]>::to_vec).unwrap_or_default();
                let service = service_fn(move |request| respond(request, names.clone(), answer.clone()));
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(tls), service)
                    .await;
            });
        }
    });
    Instance { task, resumed }
}

async fn respond(
    request: Request<Incoming>,
    client: Vec<CertificateDer<'static>>,
    answer: Answer,
) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
    let reply = |status: StatusCode, body: Vec<u8>| {
        Response::builder().status(status).body(Full::new(Bytes::from(body))).expect("a plain response")
    };
    let (_, cert) = x509_parser::parse_x509_certificate(&client[0]).expect("checked by the handshake");
    let name = cert.subject().iter_common_name().next().and_then(|n| n.as_str().ok());
    if name != Some("howdah-operator") {
        return Ok(reply(StatusCode::FORBIDDEN, br#"{"error":"only the operator may ask"}"#.to_vec()));
    }
    if request.uri().path() == "/v1/restart" && request.method() == Method::POST {
        // As quick as that.
        if let Some(status) = answer.lock().unwrap().as_mut() {
            status.pending_restart = false;
            status.session_id.push_str("-restarted");
        }
        return Ok(reply(StatusCode::ACCEPTED, b"{}".to_vec()));
    }
    if request.uri().path() == "/v1/manager" && request.method() == Method::PUT {
        let announced =
            request.headers()[howdah_api::naming::MANAGER_SHA256_HEADER].to_str().unwrap().to_owned();
        let program = request.into_body().collect().await.unwrap().to_bytes();
        if hex::encode(Sha256::digest(&program)) != announced {
            return Ok(reply(
                StatusCode::BAD_REQUEST,
                br#"{"error":"another program was announced"}"#.to_vec(),
            ));
        }
        let mut answer = answer.lock().unwrap();
        let status = answer.as_mut().expect("it answers");
        if status.message == "stubborn" {
            return Ok(reply(StatusCode::UNPROCESSABLE_ENTITY, br#"{"error":"never"}"#.to_vec()));
        }
        status.manager_sha256 = Some(announced);
        status.manager_version = "2".into();
        return Ok(reply(StatusCode::ACCEPTED, b"{}".to_vec()));
    }
    if request.uri().path() != "/v1/status" {
        return Ok(reply(StatusCode::NOT_FOUND, br#"{"error":"no such page"}"#.to_vec()));
    }
    let status = answer.lock().unwrap().clone().unwrap_or_default();
    Ok(reply(StatusCode::OK, serde_json::to_vec(&status).unwrap()))
}

fn tls(secret: &Secret) -> ServerConfig {
    let data = secret.data.as_ref().unwrap();
    let mut roots = RootCertStore::empty();
    for cert in CertificateDer::pem_slice_iter(&data["ca.crt"].0) {
        roots.add(cert.unwrap()).unwrap();
    }
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
    let chain = CertificateDer::pem_slice_iter(&data["tls.crt"].0).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(&data["tls.key"].0).unwrap();
    ServerConfig::builder().with_client_cert_verifier(verifier).with_single_cert(chain, key).unwrap()
}
