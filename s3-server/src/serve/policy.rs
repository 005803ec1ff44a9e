//! Who may do what: the common name of the client's certificate decides.

use std::collections::BTreeSet;

use rustls::ServerConnection;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::validation::NameValidation;
use s3s::{S3Result, s3_error};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Common name of a client's certificate, which was verified already; set on each of its requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientName(pub Option<String>);

impl ClientName {
    /// Of the client of this connection.
    #[must_use]
    pub fn of(connection: &ServerConnection) -> Self {
        let leaf = connection.peer_certificates().and_then(<[_]>::first);
        Self(leaf.and_then(|der| {
            let (_, certificate) = X509Certificate::from_der(der).ok()?;
            let name = certificate.subject().iter_common_name().next()?.as_str().ok()?.to_owned();
            Some(name)
        }))
    }
}

/// Common names, and what they may do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// May read and write.
    pub writers: BTreeSet<String>,
    /// May read.
    pub readers: BTreeSet<String>,
}

impl Policy {
    /// Whether a client may do something; else what to tell it.
    fn allows(&self, name: Option<&str>, reading: bool) -> Result<(), String> {
        let Some(name) = name else { return Err("the client's certificate has no common name".to_owned()) };
        match (self.writers.contains(name), self.readers.contains(name)) {
            (true, _) => Ok(()),
            (false, true) if reading => Ok(()),
            (false, true) => Err(format!("the client's certificate ({name}) allows reading only")),
            (false, false) => Err(format!("the client's certificate ({name}) has no access to repositories")),
        }
    }
}

#[async_trait::async_trait]
impl S3Access for Policy {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        let reading = matches!(cx.method().as_str(), "GET" | "HEAD");
        let name = cx.extensions_mut().get::<ClientName>().and_then(|name| name.0.clone());
        self.allows(name.as_deref(), reading).map_err(|why| s3_error!(AccessDenied, "{}", why))
    }
}

/// Signatures protect bodies here, not access: the secret key is the access key itself.
pub(super) struct FixedKey;

#[async_trait::async_trait]
impl S3Auth for FixedKey {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        Ok(SecretKey::from(access_key.to_owned()))
    }
}

/// Bucket names are those of the repositories, which may be shorter than S3's.
pub(super) struct AnyName;

impl NameValidation for AnyName {
    fn validate_bucket_name(&self, name: &str) -> bool {
        !name.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_decide() {
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect();
        let policy = Policy { writers: names(&["instance"]), readers: names(&["operator"]) };
        for (name, reading, allowed) in [
            (Some("instance"), false, true),
            (Some("instance"), true, true),
            (Some("operator"), true, true),
            (Some("operator"), false, false),
            (Some("stranger"), true, false),
            (None, true, false),
        ] {
            assert_eq!(policy.allows(name, reading).is_ok(), allowed, "{name:?} {reading}");
        }
    }
}
