//! Certificates as the operator makes them.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

/// A certificate authority.
pub struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test authority");
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    pub fn pem(&self) -> &str {
        &self.pem
    }

    fn pair(&self, cn: &str, names: &[&str], usage: ExtendedKeyUsagePurpose) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, cn);
        params.extended_key_usages = vec![usage];
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    pub fn server(&self, names: &[&str]) -> BTreeMap<String, ByteString> {
        self.secret(self.pair(names[0], names, ExtendedKeyUsagePurpose::ServerAuth))
    }

    pub fn client(&self, cn: &str) -> BTreeMap<String, ByteString> {
        self.secret(self.pair(cn, &[], ExtendedKeyUsagePurpose::ClientAuth))
    }

    fn secret(&self, (certificate, key): (String, String)) -> BTreeMap<String, ByteString> {
        [("tls.crt", certificate), ("tls.key", key), ("ca.crt", self.pem.clone())]
            .map(|(k, v)| (k.to_owned(), ByteString(v.into_bytes())))
            .into()
    }
}
