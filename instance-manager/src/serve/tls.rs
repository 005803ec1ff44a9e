//! TLS of the manager's own server: its certificate, and who may come.

use std::sync::{Arc, PoisonError, RwLock};

use howdah_api::naming;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection};
use tokio_rustls::TlsAcceptor;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::error::{Error, Result};
use crate::kube::secrets::SecretValues;
use crate::run::shared::Shared;

/// Common name of the client's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientName(pub Option<String>);

impl ClientName {
    /// Of the client of this connection, whose certificate was verified already.
    #[must_use]
    pub fn of(connection: &ServerConnection) -> Self {
        let leaf = connection.peer_certificates().and_then(<[_]>::first);
        Self(leaf.and_then(|der| common_name(der)))
    }
}

/// The common name in a certificate.
#[must_use]
pub fn common_name(der: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let name = certificate.subject().iter_common_name().next()?.as_str().ok()?.to_owned();
    Some(name)
}

/// Server settings that follow the Secrets.
#[derive(Clone)]
pub struct Reloading(Arc<RwLock<Arc<ServerConfig>>>);

impl Reloading {
    /// Settings from the Secrets as they are now; a task follows their changes.
    ///
    /// # Errors
    /// When the certificates cannot be used.
    pub fn start(shared: &Arc<Shared>) -> Result<Self> {
        let config = server_config(&shared.secrets(), &shared.env.cluster)?;
        let this = Self(Arc::new(RwLock::new(Arc::new(config))));
        tokio::spawn(this.clone().follow(shared.clone()));
        Ok(this)
    }

    async fn follow(self, shared: Arc<Shared>) {
        let mut secrets = shared.secrets.subscribe();
        while secrets.changed().await.is_ok() {
            match server_config(&shared.secrets(), &shared.env.cluster) {
                Ok(config) => *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config),
                Err(error) => tracing::error!("the old certificate stays in use: {}", error.report()),
            }
        }
    }

    /// For the next connection.
    #[must_use]
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// Certificates and key of a Secret.
pub struct Identity {
    /// Chain, leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
}

/// Reads `tls.crt` and `tls.key` of a Secret.
///
/// # Errors
/// When a key is missing or is not PEM.
pub fn identity(secrets: &SecretValues, secret: &str) -> Result<Identity> {
    let unusable = |key: &str| {
        let text = format!(
            "key {key:?} of Secret {secret} cannot be used: delete the Secret so that the operator makes it anew"
        );
        move |e: rustls::pki_types::pem::Error| Error::permanent(text.clone()).because(e)
    };
    Ok(Identity {
        chain: certificates(secrets, secret, "tls.crt")?,
        key: PrivateKeyDer::from_pem_slice(secrets.bytes(secret, "tls.key")?).map_err(unusable("tls.key"))?,
    })
}

fn certificates(secrets: &SecretValues, secret: &str, key: &str) -> Result<Vec<CertificateDer<'static>>> {
    let pem = secrets.bytes(secret, key)?;
    let all = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().map_err(|e| {
        Error::permanent(format!(
            "key {key:?} of Secret {secret} cannot be used: delete the Secret so that the operator makes it anew"
        ))
        .because(e)
    })?;
    if all.is_empty() {
        return Err(Error::permanent(format!("key {key:?} of Secret {secret} holds no certificate")));
    }
    Ok(all)
}

/// The cluster's certificate authority.
///
/// # Errors
/// When it is missing or is not PEM.
pub fn roots(secrets: &SecretValues, cluster: &str) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(secrets, &naming::server_secret(cluster), "ca.crt")? {
        roots.add(certificate).map_err(|e| {
            Error::permanent("the certificate authority of the cluster cannot be used").because(e)
        })?;
    }
    Ok(roots)
}

fn server_config(secrets: &SecretValues, cluster: &str) -> Result<ServerConfig> {
    let unusable = "the certificates of the cluster cannot be used";
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots(secrets, cluster)?))
        .build()
        .map_err(|e| Error::permanent(unusable).because(e))?;
    let own = identity(secrets, &naming::server_secret(cluster))?;
    let mut config = ServerConfig::builder()
        .with_client_cert_verifier(verifier)
        .with_single_cert(own.chain, own.key)
        .map_err(|e| Error::permanent(unusable).because(e))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
