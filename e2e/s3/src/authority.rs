//! Certificates for tests, as a cluster's operator makes them.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use crate::error::Error;

/// A certificate and its key, PEM. The key is in no Debug output.
#[derive(Clone)]
pub struct Pair {
    /// The certificate.
    pub chain: String,
    /// Its key.
    pub key: String,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair").finish_non_exhaustive()
    }
}

/// A certificate authority.
pub struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

pub(crate) fn unusable(error: impl std::fmt::Display) -> Error {
    Error::Certificate { what: error.to_string() }
}

impl Authority {
    /// A new one, unlike all others.
    pub fn new() -> Result<Self, Error> {
        let key = KeyPair::generate().map_err(unusable)?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "howdah-s3 authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).map_err(unusable)?.pem();
        Ok(Self { pem, issuer: Issuer::new(params, key) })
    }

    /// Its own certificate, PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    fn sign(
        &self,
        cn: &str,
        names: &[&str],
        usage: ExtendedKeyUsagePurpose,
        ended: bool,
    ) -> Result<Pair, Error> {
        let key = KeyPair::generate().map_err(unusable)?;
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).map_err(unusable)?;
        params.distinguished_name.push(DnType::CommonName, cn);
        params.extended_key_usages = vec![usage];
        // OpenSSL's strict mode, Python's default since 3.13, insists on it.
        params.use_authority_key_identifier_extension = true;
        if ended {
            params.not_after = (SystemTime::now() - Duration::from_secs(3600)).into();
        }
        let certificate = params.signed_by(&key, &self.issuer).map_err(unusable)?;
        Ok(Pair { chain: certificate.pem(), key: key.serialize_pem() })
    }

    /// A certificate for a server with these names and addresses; the first is its common name.
    pub fn server(&self, names: &[&str]) -> Result<Pair, Error> {
        let cn = names.first().copied().unwrap_or("howdah-s3");
        self.sign(cn, names, ExtendedKeyUsagePurpose::ServerAuth, false)
    }

    /// A certificate for a client with this common name.
    pub fn client(&self, cn: &str) -> Result<Pair, Error> {
        self.sign(cn, &[], ExtendedKeyUsagePurpose::ClientAuth, false)
    }

    /// The same, ended an hour ago.
    pub fn ended_client(&self, cn: &str) -> Result<Pair, Error> {
        self.sign(cn, &[], ExtendedKeyUsagePurpose::ClientAuth, true)
    }
}
