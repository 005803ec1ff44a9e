//! HTTPS with a given certificate or one made on the spot.

use std::net::IpAddr;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::authority::{Authority, unusable};
use crate::error::Error;

/// The server's certificate. Its key is in no Debug output.
#[derive(Clone)]
pub struct Tls {
    chain: Vec<u8>,
    key: Vec<u8>,
    /// What clients have to trust.
    anchor: Vec<u8>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl Tls {
    /// A certificate chain and its key, both PEM. Clients have to trust the chain's end or its issuer.
    pub fn pem(chain: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        let chain = chain.into();
        Self { anchor: chain.clone(), chain, key: key.into() }
    }

    /// A certificate for these names and addresses, `localhost` and the loopback addresses, signed by an
    /// authority made for it: clients refuse certificates that are their own authority.
    pub fn self_signed(names: &[&str]) -> Result<Self, Error> {
        let authority = Authority::new()?;
        let mut all = names.to_vec();
        all.extend(["localhost", "127.0.0.1", "::1"]);
        let leaf = authority.server(&all)?;
        Ok(Self {
            chain: leaf.chain.into_bytes(),
            key: leaf.key.into_bytes(),
            anchor: authority.pem().as_bytes().to_vec(),
        })
    }

    /// What a client has to trust, PEM.
    pub fn certificate_pem(&self) -> &[u8] {
        &self.anchor
    }

    pub(crate) fn config(&self) -> Result<Arc<ServerConfig>, Error> {
        let chain: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(&self.chain).collect::<Result<_, _>>().map_err(unusable)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(unusable)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(unusable)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// The address as a URL spells it.
pub(crate) fn host(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}
