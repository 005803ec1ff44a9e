//! The server's certificate, and the authorities whose clients it believes.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Why certificates cannot be used. Shows no key.
#[derive(Debug, thiserror::Error)]
#[error("{what} cannot be used: {why}")]
pub struct IdentityError {
    what: &'static str,
    why: String,
}

/// A certificate with its key, and the authorities of clients.
#[derive(Clone)]
pub struct Identity(pub(super) Arc<ServerConfig>);

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

fn unusable(what: &'static str) -> impl Fn(String) -> IdentityError {
    move |why| IdentityError { what, why }
}

fn certificates(what: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let fail = unusable(what);
    let all = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| fail(format!("it is not PEM ({error})")))?;
    if all.is_empty() { Err(fail("it holds no certificate".into())) } else { Ok(all) }
}

impl Identity {
    /// From PEM: certificate chain, key, and the authorities that sign clients' certificates.
    ///
    /// # Errors
    /// When one of them cannot be read, or the key is another certificate's.
    pub fn from_pem(chain: &[u8], key: &[u8], authorities: &[u8]) -> Result<Self, IdentityError> {
        let mut roots = RootCertStore::empty();
        for authority in certificates("the authority of the clients (ca.crt)", authorities)? {
            let fail = unusable("the authority of the clients (ca.crt)");
            roots.add(authority).map_err(|error| fail(error.to_string()))?;
        }
        let chain = certificates("the server's certificate (tls.crt)", chain)?;
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|_| unusable("the server's key (tls.key)")("it is not a PEM private key".into()))?;
        let fail = unusable("the server's certificate (tls.crt, tls.key)");
        let provider: Arc<CryptoProvider> = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .map_err(|error| fail(error.to_string()))?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| fail(error.to_string()))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(|error| fail(error.to_string()))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // A session taken up again would not look at the client's certificate again.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self(Arc::new(config)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let made = rcgen::CertificateParams::new(vec!["x".to_owned()]).unwrap().self_signed(&key).unwrap();
        (made.pem(), key.serialize_pem())
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let ((chain, key), (_, other)) = (pair(), pair());
        let told = |chain: &str, key: &str, ca: &str| {
            Identity::from_pem(chain.as_bytes(), key.as_bytes(), ca.as_bytes()).unwrap_err().to_string()
        };
        assert!(Identity::from_pem(chain.as_bytes(), key.as_bytes(), chain.as_bytes()).is_ok());
        assert!(told("", &key, &chain).contains("tls.crt"));
        assert!(told(&chain, "junk", &chain).contains("tls.key"));
        assert!(told(&chain, &key, "").contains("ca.crt"));
        let mixed = told(&chain, &other, &chain);
        assert!(mixed.contains("tls.key") && !mixed.contains("PRIVATE"), "{mixed}");
    }
}
