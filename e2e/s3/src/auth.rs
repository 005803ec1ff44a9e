//! Who may do what: several credentials, each for all buckets or some, for writing or reading only.

use std::collections::{BTreeMap, BTreeSet};

use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::{S3Result, s3_error};

/// One credential. Its secret and token are in no Debug output.
#[derive(Clone)]
pub(crate) struct Credential {
    pub secret: SecretKey,
    /// The session token that has to come with it, if it is a temporary one.
    pub token: Option<String>,
    pub read_only: bool,
    /// `None` is every bucket.
    pub buckets: Option<BTreeSet<String>>,
}

/// All credentials by access key.
#[derive(Clone, Default)]
pub(crate) struct Credentials(pub BTreeMap<String, Credential>);

#[async_trait::async_trait]
impl S3Auth for Credentials {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        self.0.get(access_key).map(|credential| credential.secret.clone()).ok_or_else(|| {
            s3_error!(InvalidAccessKeyId, "The AWS Access Key Id you provided does not exist in our records.")
        })
    }
}

#[async_trait::async_trait]
impl S3Access for Credentials {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        let denied = || s3_error!(AccessDenied, "Access Denied");
        let access_key = cx.credentials().map(|known| known.access_key.clone()).ok_or_else(denied)?;
        let credential = self.0.get(&access_key).ok_or_else(denied)?;
        let token = cx.headers().get("x-amz-security-token").and_then(|value| value.to_str().ok());
        if credential.token.is_some() && credential.token.as_deref() != token {
            return Err(s3_error!(InvalidToken, "The provided token is malformed or otherwise invalid."));
        }
        let reading = matches!(cx.method().as_str(), "GET" | "HEAD");
        if credential.read_only && !reading {
            return Err(denied());
        }
        let bucket = match cx.s3_path() {
            s3s::path::S3Path::Root => None,
            s3s::path::S3Path::Bucket { bucket } | s3s::path::S3Path::Object { bucket, .. } => Some(bucket),
        };
        match (&credential.buckets, bucket) {
            (Some(allowed), Some(bucket)) if !allowed.contains(&**bucket) => Err(denied()),
            _ => Ok(()),
        }
    }
}
