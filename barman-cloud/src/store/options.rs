//! Settings of an S3 store. Debug output shows no secret.

use super::connections::Connections;
use std::fmt;
use std::time::Duration;

/// A text that never appears in Debug output.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself: for the client only, never for a message.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// How requests are signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// Given keys.
    Static {
        /// Access key id.
        access_key_id: Secret,
        /// Secret access key.
        secret_access_key: Secret,
        /// Session token of temporary keys.
        session_token: Option<Secret>,
    },
    /// Whatever the pod's identity gives: web identity token, container credentials, instance metadata.
    Inherit,
}

/// A certificate that the client shows to servers which ask for one, and its key, both PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    pub(super) chain: Vec<u8>,
    pub(super) key: Vec<u8>,
}

impl ClientCertificate {
    /// Chain (leaf first) and key; both are read when a store is made.
    pub fn pem(chain: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        Self { chain: chain.into(), key: key.into() }
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Server-side encryption asked for on every write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Encryption {
    /// `AES256`: keys that the store manages.
    Aes256,
    /// `aws:kms`, with a key id or the bucket's default key.
    AwsKms {
        /// Id or ARN of the key.
        key_id: Option<String>,
    },
}

/// Where the bucket is in a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UriStyle {
    /// Ahead of the host: `https://bucket.host/key`.
    Host,
    /// In the path: `https://host/bucket/key`, as most relatives of S3 want it.
    Path,
}

/// What is needed to reach a bucket.
#[derive(Clone, PartialEq, Eq)]
pub struct S3Options {
    /// Endpoint, with or without scheme (then https); `None` for AWS.
    pub endpoint: Option<String>,
    /// Where the bucket is in a URL; `None` for the path at a given endpoint, and for the host at AWS's own, unless
    /// the bucket's name has a dot, which no certificate covers.
    pub uri_style: Option<UriStyle>,
    /// Region; `us-east-1` when absent.
    pub region: Option<String>,
    /// How requests are signed.
    pub credentials: Credentials,
    /// PEM of certificate authorities trusted besides the public ones.
    pub ca_pem: Option<Vec<u8>>,
    /// Certificate shown to a server that asks for one.
    pub client_certificate: Option<ClientCertificate>,
    /// Server-side encryption of what is written.
    pub encryption: Option<Encryption>,
    /// Tags of everything written, except as `history_tags` says.
    pub tags: Vec<(String, String)>,
    /// Tags of timeline history files; they replace `tags` there. Empty: history files get `tags`.
    pub history_tags: Vec<(String, String)>,
    /// Whether the body of each upload is protected: by the signature, until a probe finds that the store honours
    /// something cheaper (see [`super::BodyCheck`]). Off, the store has no checksum unless TLS protects the
    /// transfer.
    pub sign_payload: bool,
    /// Connections to share with other stores; a pool of its own by default.
    pub connections: Connections,
    /// Time limits and retries.
    pub limits: Limits,
}

impl S3Options {
    /// Options with static keys and defaults for the rest.
    pub fn with_keys(access_key_id: impl Into<Secret>, secret_access_key: impl Into<Secret>) -> Self {
        Self::new(Credentials::Static {
            access_key_id: access_key_id.into(),
            secret_access_key: secret_access_key.into(),
            session_token: None,
        })
    }

    /// Options with these credentials and defaults for the rest.
    pub fn new(credentials: Credentials) -> Self {
        Self {
            endpoint: None,
            uri_style: None,
            region: None,
            credentials,
            ca_pem: None,
            client_certificate: None,
            encryption: None,
            tags: Vec::new(),
            history_tags: Vec::new(),
            sign_payload: true,
            connections: Connections::default(),
            limits: Limits::default(),
        }
    }
}

impl fmt::Debug for S3Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Options")
            .field("endpoint", &self.endpoint)
            .field("uri_style", &self.uri_style)
            .field("region", &self.region)
            .field("credentials", &self.credentials)
            .field("ca_pem", &self.ca_pem.as_ref().map(Vec::len))
            .field("client_certificate", &self.client_certificate)
            .field("encryption", &self.encryption)
            .field("tags", &self.tags)
            .field("history_tags", &self.history_tags)
            .field("sign_payload", &self.sign_payload)
            .field("limits", &self.limits)
            .finish()
    }
}

/// Time limits and retries. There is no limit on the time of a whole transfer, only on standing still.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Longest time to connect.
    pub connect: Duration,
    /// Longest time in which a transfer may make no progress, in either direction.
    pub stall: Duration,
    /// A connection that nobody uses is closed after this time.
    pub idle: Duration,
    /// Most retries of one request that failed in a way that may pass.
    pub retries: usize,
    /// No retry is begun later than this after the first try.
    pub retry_for: Duration,
    /// First pause between tries; it doubles, with jitter.
    pub backoff_first: Duration,
    /// Longest pause between tries.
    pub backoff_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            stall: Duration::from_secs(30),
            idle: Duration::from_secs(30),
            retries: 6,
            retry_for: Duration::from_secs(60),
            backoff_first: Duration::from_millis(100),
            backoff_max: Duration::from_secs(8),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_shows_no_secret() {
        let mut options = S3Options::with_keys("AKIAEXAMPLE", "sesame");
        options.ca_pem = Some(b"-----BEGIN".to_vec());
        options.client_certificate = Some(ClientCertificate::pem("-----BEGIN C", "-----BEGIN K"));
        if let Credentials::Static { session_token, .. } = &mut options.credentials {
            *session_token = Some("open-token".into());
        }
        let shown = format!("{options:?}");
        for secret in ["AKIAEXAMPLE", "sesame", "open-token", "BEGIN"] {
            assert!(!shown.contains(secret), "{shown}");
        }
        assert!(shown.contains("[redacted]"));
    }
}
