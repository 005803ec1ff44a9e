//! Temporary keys from an identity of the pod: whose it was when there are none, and how long they are kept.

use super::classify;
use crate::error::ErrorKind;
use async_trait::async_trait;
use object_store::client::CredentialProvider;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// A variable of the pod's environment, as the constructors look it up.
pub(super) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Keys are fetched anew when they are valid for less than this.
const MARGIN: Duration = Duration::from_secs(4 * 60);
/// A fetch that brought no longer life is not repeated sooner than this.
const BETWEEN: Duration = Duration::from_secs(1);

/// No keys for an identity: found in the chain of an error by [`classify`].
#[derive(Debug, thiserror::Error)]
#[error("{who} gave no keys: {detail}")]
pub(super) struct NoKeys {
    who: String,
    detail: String,
    pub(super) remedy: String,
    pub(super) kind: ErrorKind,
}

/// An identity with words for the case that it gives no keys.
pub(super) struct Named<C> {
    inner: Arc<dyn CredentialProvider<Credential = C>>,
    who: String,
    remedy: String,
    /// The file with the token that is exchanged: what it holds is never told.
    token_file: Option<String>,
}

impl<C> Named<C> {
    pub(super) fn new(
        inner: Arc<dyn CredentialProvider<Credential = C>>,
        who: String,
        remedy: impl Into<String>,
        token_file: Option<String>,
    ) -> Arc<Self> {
        Arc::new(Self { inner, who, remedy: remedy.into(), token_file })
    }
}

impl<C> fmt::Debug for Named<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Named").field("who", &self.who).finish_non_exhaustive()
    }
}

#[async_trait]
impl<C: Send + Sync + 'static> CredentialProvider for Named<C> {
    type Credential = C;

    async fn get_credential(&self) -> object_store::Result<Arc<C>> {
        self.inner.get_credential().await.map_err(|error| {
            let kind = match classify::classify("", "", error_again(&error)).kind() {
                kind if kind.is_transient() => kind,
                _ => ErrorKind::Credentials,
            };
            let mut detail = classify::detail_of(&error);
            let token = self.token_file.as_ref().and_then(|file| std::fs::read_to_string(file).ok());
            if let Some(token) = token.as_deref().map(str::trim).filter(|token| !token.is_empty()) {
                detail = detail.replace(token, "[redacted]");
            }
            let keys = NoKeys { who: self.who.clone(), detail, remedy: self.remedy.clone(), kind };
            object_store::Error::Generic { store: "identity", source: Box::new(keys) }
        })
    }
}

/// Its text and whether it was the network: enough to tell its kind.
fn error_again(error: &object_store::Error) -> object_store::Error {
    let text = classify::chain_text(error);
    let source: Box<dyn std::error::Error + Send + Sync> = if classify::has_http_error(error) {
        let kind = object_store::client::HttpErrorKind::Connect;
        Box::new(object_store::client::HttpError::new(kind, std::io::Error::other(text)))
    } else {
        text.into()
    };
    object_store::Error::Generic { store: "identity", source }
}

/// Keys that are kept until they are about to expire. When new ones cannot be had while the old ones are still good,
/// the old ones are used.
pub(super) struct Kept<C>(Mutex<Option<Held<C>>>);

impl<C> Default for Kept<C> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

struct Held<C> {
    keys: Arc<C>,
    fetched: Instant,
    expires: Instant,
}

impl<C> Kept<C> {
    /// The keys; `fetch` gives new ones and how long they are valid.
    pub(super) async fn get<F>(&self, fetch: impl FnOnce() -> F) -> object_store::Result<Arc<C>>
    where
        F: Future<Output = object_store::Result<(C, Duration)>>,
    {
        self.get_at(Instant::now(), fetch).await
    }

    async fn get_at<F>(&self, now: Instant, fetch: impl FnOnce() -> F) -> object_store::Result<Arc<C>>
    where
        F: Future<Output = object_store::Result<(C, Duration)>>,
    {
        let mut held = self.0.lock().await;
        if let Some(held) = held.as_ref().filter(|held| held.is_fresh(now)) {
            return Ok(held.keys.clone());
        }
        match fetch().await {
            Ok((keys, valid)) => {
                let keys = Arc::new(keys);
                *held = Some(Held { keys: keys.clone(), fetched: now, expires: now + valid });
                Ok(keys)
            }
            Err(error) => match &*held {
                Some(held) if held.expires > now => {
                    tracing::warn!(error = %classify::detail_of(&error), "no new keys; the old ones are still good");
                    Ok(held.keys.clone())
                }
                _ => Err(error),
            },
        }
    }
}

impl<C> Held<C> {
    fn is_fresh(&self, now: Instant) -> bool {
        self.expires > now + MARGIN || (self.expires > now && self.fetched + BETWEEN > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    async fn fetch(kept: &Kept<u32>, now: Instant, keys: u32, valid: Duration) -> u32 {
        *kept.get_at(now, || async { Ok((keys, valid)) }).await.expect("keys")
    }

    async fn fail(kept: &Kept<u32>, now: Instant) -> object_store::Result<Arc<u32>> {
        let away = || object_store::Error::Generic { store: "identity", source: "away".into() };
        kept.get_at(now, || async { Err(away()) }).await
    }

    #[tokio::test]
    async fn keys_are_fetched_anew_before_they_expire() {
        let (kept, begin) = (Kept::default(), Instant::now());
        assert_eq!(fetch(&kept, begin, 1, HOUR).await, 1);
        assert_eq!(fetch(&kept, begin + HOUR / 2, 2, HOUR).await, 1);
        assert_eq!(fetch(&kept, begin + HOUR - MARGIN, 3, HOUR).await, 3);
    }

    #[tokio::test]
    async fn old_keys_are_used_as_long_as_they_are_good() {
        let (kept, begin) = (Kept::default(), Instant::now());
        assert_eq!(fetch(&kept, begin, 1, HOUR).await, 1);
        assert_eq!(*fail(&kept, begin + HOUR - BETWEEN).await.expect("still good"), 1);
        assert!(fail(&kept, begin + HOUR).await.is_err());
    }

    #[tokio::test]
    async fn keys_of_a_short_life_are_not_fetched_for_each_request() {
        let (kept, begin) = (Kept::default(), Instant::now());
        assert_eq!(fetch(&kept, begin, 1, MARGIN / 2).await, 1);
        assert_eq!(fetch(&kept, begin + BETWEEN / 2, 2, MARGIN / 2).await, 1);
        assert_eq!(fetch(&kept, begin + BETWEEN, 2, MARGIN / 2).await, 2);
    }
}
