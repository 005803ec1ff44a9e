//! Trying out what a store can do, once.

use super::dialect::BodyCheck;
use super::raw::{Raw, RawRequest, encoded_key, refusal};
use super::{Created, Store, classify};
use crate::error::{Error, ErrorKind, Result};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use object_store::{ObjectStoreExt, PutPayload};
use std::sync::atomic::Ordering;

/// What a probe found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreFeatures {
    /// Writes that must not replace anything are atomic.
    pub conditional_writes: bool,
    /// Many objects are deleted with one request.
    pub bulk_delete: bool,
    /// How large bodies are protected on their way.
    pub body_check: BodyCheck,
}

/// A CRC-64/NVME, in base64, that no body of the probe has.
const WRONG_CRC: &str = "AAAAAAAAAAA=";
const CRC_HEADER: HeaderName = HeaderName::from_static("x-amz-checksum-crc64nvme");

impl Store {
    /// Writes, reads back, tries to write again on condition, and deletes an object; then tries the checksums.
    /// Fails as any operation would when the bucket is missing, the credentials are wrong, or one of these is not
    /// allowed.
    ///
    /// Some stores take a conditional write and ignore the condition, or take a checksum and do not look at it;
    /// only trying shows it. From then on this store, and those that share its connections, do what works.
    pub async fn probe(&self, key: &str) -> Result<StoreFeatures> {
        let _alone = self.inner.known.trying.lock().await;
        self.try_out(key).await
    }

    /// [`Store::probe`], unless it was done already for this bucket: then what it found, without a request.
    pub async fn probe_once(&self, key: &str) -> Result<StoreFeatures> {
        let _alone = self.inner.known.trying.lock().await;
        match self.inner.known.body_check() {
            Some(_) => Ok(self.features()),
            None => self.try_out(key).await,
        }
    }

    async fn try_out(&self, key: &str) -> Result<StoreFeatures> {
        // Left over from a probe that was interrupted.
        self.delete(key).await?;
        let body = Bytes::from_static(b"probe");
        self.create(key, body.clone()).await?;
        let read = self.get(key, 1024).await?;
        if read != body {
            return Err(Error::new(
                ErrorKind::Corrupt,
                "the store gave back something else than was written",
            )
            .with_key(self.url_of(key))
            .with_remedy("check what is between here and the store: a proxy, a cache, a transformation"));
        }
        self.try_condition(key).await?;
        let check = self.cheapest_check(key, &body).await;
        self.delete(key).await?;
        self.inner.known.learn_body_check(check?);
        let features = self.features();
        tracing::info!(store = self.url(), ?features, "what the store can do");
        Ok(features)
    }

    /// Whether the store refuses to write over what is there when that is the condition; remembered.
    pub(super) async fn try_condition(&self, key: &str) -> Result<bool> {
        let known = &self.inner.known.conditional;
        if known.load(Ordering::Relaxed)
            && self.create(key, Bytes::from_static(b"again")).await? == Created::Yes
        {
            tracing::warn!(
                store = self.url(),
                "the store ignores the condition of a write; looking before writing"
            );
            known.store(false, Ordering::Relaxed);
        }
        Ok(known.load(Ordering::Relaxed))
    }

    /// The cheapest way to protect a body that the store was seen to honour.
    pub(super) async fn cheapest_check(&self, key: &str, body: &Bytes) -> Result<BodyCheck> {
        let Some(raw) = &self.inner.raw else { return Ok(BodyCheck::Signature) };
        if self.inner.cheaper.crc.is_some() {
            let refused = match self.retrying(|| self.refuses_damage(raw, key, body)).await {
                // A failure of its own at every try is how some answer a header that they do not know.
                Err(error) if error.kind() == ErrorKind::Unavailable => false,
                other => other?,
            };
            if refused && self.accepts(BodyCheck::Crc64Nvme, key, body).await? {
                return Ok(BodyCheck::Crc64Nvme);
            }
        }
        let transport = self.inner.cheaper.transport.is_some();
        if transport && self.accepts(BodyCheck::Transport, key, body).await? {
            return Ok(BodyCheck::Transport);
        }
        Ok(BodyCheck::Signature)
    }

    /// Whether a body that does not match its checksum is refused. A store that does not know the header may
    /// refuse it too; that shows when the next body, a good one, is not accepted.
    async fn refuses_damage(&self, raw: &Raw, key: &str, body: &Bytes) -> Result<bool> {
        let failed = |error| classify::classify("trying checksums on", &self.url_of(key), error);
        let mut headers = raw.encryption.clone();
        headers.push((CRC_HEADER, HeaderValue::from_static(WRONG_CRC)));
        let target = encoded_key(self.path(key)?.as_ref());
        let body = PutPayload::from_bytes(body.clone());
        let request = RawRequest { method: Method::PUT, target, headers, body, sign_body: false };
        let (status, answer) = raw.send(request).await.map_err(failed)?;
        let code = std::str::from_utf8(&answer).ok().and_then(classify::code_in).unwrap_or_default();
        if status == StatusCode::BAD_REQUEST || is_damage(code) {
            return Ok(true);
        }
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return Err(failed(refusal(status, &answer)));
        }
        Ok(false)
    }

    /// Whether a body protected in this way is accepted. Only a store that cannot be asked is an error.
    async fn accepts(&self, check: BodyCheck, key: &str, body: &Bytes) -> Result<bool> {
        let path = self.path(key)?;
        let payload = PutPayload::from_bytes(body.clone());
        match self.inner.objects_for(check).put(&path, payload).await {
            Ok(_) => Ok(true),
            Err(error) => match self.error("trying checksums on", key, error) {
                error if matches!(error.kind(), ErrorKind::Network | ErrorKind::Throttled) => Err(error),
                error => {
                    tracing::info!(check = check.as_str(), error = %error.report(), "not here");
                    Ok(false)
                }
            },
        }
    }
}

/// What stores say to a body that is not what its checksum says.
fn is_damage(code: &str) -> bool {
    matches!(code, "BadDigest" | "InvalidDigest" | "XAmzContentChecksumMismatch" | "CrcMismatch")
}
