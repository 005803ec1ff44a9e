//! Certificates as the operator makes them.

use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

/// A certificate and its key, PEM.
#[derive(Clone)]
pub struct Pair {
    pub chain: String,
    pub key: String,
}

/// A certificate authority.
pub struct Authority {
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test authority");
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    fn sign(&self, cn: &str, usage: ExtendedKeyUsagePurpose, ended: Option<Duration>) -> Pair {
        let key = KeyPair::generate().unwrap();
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, cn);
        params.extended_key_usages = vec![usage];
        // Python's default since 3.13 insists on it.
        params.use_authority_key_identifier_extension = true;
        if let Some(ago) = ended {
            params.not_after = (SystemTime::now() - ago).into();
        }
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Pair { chain: certificate.pem(), key: key.serialize_pem() }
    }

    pub fn server(&self) -> Pair {
        self.sign("host", ExtendedKeyUsagePurpose::ServerAuth, None)
    }

    pub fn client(&self, cn: &str) -> Pair {
        self.sign(cn, ExtendedKeyUsagePurpose::ClientAuth, None)
    }

    pub fn ended_client(&self, cn: &str) -> Pair {
        self.sign(cn, ExtendedKeyUsagePurpose::ClientAuth, Some(Duration::from_secs(3600)))
    }
}
