//! Writing small objects.

use super::{Created, Replaced, Sealed, Store};
use crate::error::{Error, ErrorKind, Result};
use bytes::Bytes;
use object_store::{ObjectStoreExt, PutMode, PutOptions, PutPayload, UpdateVersion};
use std::sync::atomic::Ordering;

impl Store {
    /// Writes an object in one request, replacing what is there.
    pub async fn put(&self, key: &str, content: Bytes) -> Result<()> {
        let sealed = self.seal(key, content).await?;
        self.put_mode(key, sealed.0, PutMode::Overwrite).await
    }

    /// Writes an object unless there is one. Atomic where the store has conditional writes; elsewhere a look goes
    /// before the write, and two writers at the same instant may both think they were first.
    pub async fn create(&self, key: &str, content: Bytes) -> Result<Created> {
        let sealed = self.seal(key, content).await?;
        self.create_sealed(key, sealed).await
    }

    /// [`Store::create`] of what was encrypted for this key already, by its [`super::Sealer`].
    pub(crate) async fn create_sealed(&self, key: &str, sealed: Sealed) -> Result<Created> {
        let content = sealed.0;
        if self.inner.known.conditional.load(Ordering::Relaxed) {
            let attempt = self.retrying(|| self.put_mode(key, content.clone(), PutMode::Create)).await;
            match attempt {
                Ok(()) => return Ok(Created::Yes),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(Created::Exists),
                Err(error) if refuses_condition(&error) => {
                    tracing::info!(store = self.url(), "no conditional writes here; looking before writing");
                    self.inner.known.conditional.store(false, Ordering::Relaxed);
                }
                Err(error) => return Err(error),
            }
        }
        match self.head(key).await {
            Ok(_) => Ok(Created::Exists),
            Err(error) if error.is_not_found() => {
                self.put_mode(key, content, PutMode::Overwrite).await.map(|()| Created::Yes)
            }
            Err(error) => Err(error),
        }
    }

    /// Writes an object in place of the version with this mark, and of no other. Where the store has no such condition,
    /// or gave no mark, it is replaced whatever it is now: who must know reads it back.
    pub async fn replace(&self, key: &str, content: Bytes, mark: Option<&str>) -> Result<Replaced> {
        let content = self.seal(key, content).await?.0;
        if let Some(mark) = mark
            && self.inner.known.replace.load(Ordering::Relaxed)
        {
            match self.retrying(|| self.put_over(key, content.clone(), mark)).await {
                Err(error) if refuses_condition(&error) => {
                    tracing::info!(
                        store = self.url(),
                        "a version cannot be replaced on condition; it is read back"
                    );
                    self.inner.known.replace.store(false, Ordering::Relaxed);
                }
                other => return other,
            }
        }
        self.put_mode(key, content, PutMode::Overwrite).await.map(|()| Replaced::Yes)
    }

    async fn put_over(&self, key: &str, content: Bytes, mark: &str) -> Result<Replaced> {
        let version = UpdateVersion { e_tag: Some(mark.to_owned()), version: None };
        match self.put_raw(key, content, PutMode::Update(version)).await? {
            Ok(()) => Ok(Replaced::Yes),
            Err(object_store::Error::Precondition { .. }) => Ok(Replaced::Changed),
            Err(error) => match self.error("writing", key, error) {
                error if error.kind() == ErrorKind::AlreadyExists || error.is_not_found() => {
                    Ok(Replaced::Changed)
                }
                error => Err(error),
            },
        }
    }

    async fn put_mode(&self, key: &str, content: Bytes, mode: PutMode) -> Result<()> {
        self.put_raw(key, content, mode).await?.map_err(|error| self.error("writing", key, error))
    }

    async fn put_raw(
        &self,
        key: &str,
        content: Bytes,
        mode: PutMode,
    ) -> Result<Result<(), object_store::Error>> {
        let path = self.path(key)?;
        let options = PutOptions { mode, tags: self.inner.tags.of(key), ..PutOptions::default() };
        let objects = self.inner.objects_for(self.inner.body_check(content.len()));
        Ok(objects.put_opts(&path, PutPayload::from_bytes(content), options).await.map(|_| ()))
    }

    /// An object's size, time and version mark. Fails with [`ErrorKind::NotFound`] when there is none.
    pub async fn head(&self, key: &str) -> Result<super::ObjectInfo> {
        let path = self.path(key)?;
        let meta =
            self.inner.objects.head(&path).await.map_err(|error| self.error("looking at", key, error))?;
        self.info(meta).ok_or_else(|| {
            Error::new(ErrorKind::Other, "the store answered for another object").with_key(self.url_of(key))
        })
    }
}

/// Whether the store did not understand the condition, as opposed to refusing the write.
fn refuses_condition(error: &Error) -> bool {
    let report = error.report();
    error.kind() == ErrorKind::Unsupported
        || (error.kind() == ErrorKind::Other
            && ["InvalidArgument", "InvalidRequest", "If-None-Match", "If-Match"]
                .iter()
                .any(|word| report.contains(word)))
}
