//! Certificates as the operator makes them, in Secrets.

use std::collections::BTreeMap;

use howdah_s3::Pair;
use k8s_openapi::ByteString;

/// A certificate authority.
pub struct Authority(howdah_s3::Authority);

impl Authority {
    pub fn new() -> Self {
        Self(howdah_s3::Authority::new().unwrap())
    }

    pub fn pem(&self) -> &str {
        self.0.pem()
    }

    pub fn server(&self, names: &[&str]) -> BTreeMap<String, ByteString> {
        self.secret(self.0.server(names).unwrap())
    }

    pub fn client(&self, cn: &str) -> BTreeMap<String, ByteString> {
        self.secret(self.0.client(cn).unwrap())
    }

    fn secret(&self, pair: Pair) -> BTreeMap<String, ByteString> {
        [("tls.crt", pair.chain), ("tls.key", pair.key), ("ca.crt", self.0.pem().to_owned())]
            .map(|(k, v)| (k.to_owned(), ByteString(v.into_bytes())))
            .into()
    }
}
