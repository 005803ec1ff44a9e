//! Trying everything that a repository needs of its store, once, when it appears.

use super::findings::{Finding, Outcome, Probed};
use super::{ObjectInfo, Store};
use crate::error::{Error, ErrorKind, Result};
use bytes::Bytes;
use futures::TryStreamExt;
use std::sync::atomic::Ordering;

const BODY: Bytes = Bytes::from_static(b"a probe of what this store allows");

/// What is written, and has to go again.
struct Names {
    one: String,
    parts: String,
    given_up: String,
    many: [String; 2],
}

impl Names {
    fn new(key: &str) -> Self {
        let name = |what: &str| format!("{key}.{what}");
        Self {
            one: key.to_owned(),
            parts: name("parts"),
            given_up: name("given-up"),
            many: [name("a"), name("b")],
        }
    }

    fn all(&self) -> Vec<String> {
        let [a, b] = self.many.clone();
        vec![self.one.clone(), self.parts.clone(), self.given_up.clone(), a, b]
    }
}

impl Store {
    /// Lists, writes, reads, reads in part, writes on condition, writes in parts and deletes small objects whose keys
    /// begin with `key`, and says of each how it went. The first finding is [`Probed::Reach`]: when the bucket, the
    /// credentials or the endpoint is wrong it is the only one. Removes what it wrote, as far as the store allows it.
    ///
    /// What it learns is remembered as by [`Store::probe`], which has nothing to do afterwards.
    pub async fn conformance(&self, key: &str) -> Vec<Finding> {
        let _alone = self.inner.known.trying.lock().await;
        let listed = self.list_prefix(key).await;
        if let Err(error) = &listed
            && error.kind() != ErrorKind::Permission
        {
            return vec![Finding::failed(self, Probed::Reach, error)];
        }
        let mut found =
            vec![Finding::ok(Probed::Reach), self.finding(Probed::List, listed.as_ref().map(|_| ()))];
        let names = Names::new(&self.free_name(key, listed.unwrap_or_default()).await);
        let put = self.put(&names.one, BODY).await;
        found.push(self.finding(Probed::Put, put.as_ref().copied()));
        if put.is_ok() {
            self.try_object(&names, &mut found).await;
        } else {
            let rest = [
                Probed::Get,
                Probed::Range,
                Probed::ConditionalWrite,
                Probed::Multipart,
                Probed::Delete,
                Probed::BatchDelete,
            ];
            found.extend(rest.map(|operation| Finding::untried(operation, Probed::Put)));
        }
        found
    }

    fn finding(&self, operation: Probed, outcome: Result<(), &Error>) -> Finding {
        match outcome {
            Ok(()) => Finding::ok(operation),
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                Finding { remedy: Some(error.remedy().to_owned()), ..Finding::not_supported(operation) }
            }
            Err(error) => Finding::failed(self, operation, error),
        }
    }

    /// A name that nothing has: where leftovers of an earlier probe cannot be deleted, they cannot be replaced either.
    async fn free_name(&self, key: &str, leftovers: Vec<ObjectInfo>) -> String {
        let names = Names::new(key).all();
        let ours: Vec<String> =
            leftovers.into_iter().map(|object| object.key).filter(|key| names.contains(key)).collect();
        if ours.is_empty() || self.delete_many(&ours).await.is_ok() {
            return key.to_owned();
        }
        format!("{key}-{:016x}", rand::random::<u64>())
    }

    async fn try_object(&self, names: &Names, found: &mut Vec<Finding>) {
        let get = self.get(&names.one, 1024).await.and_then(|read| self.same(&names.one, &read, &BODY));
        found.push(self.finding(Probed::Get, get.as_ref().copied()));
        match &get {
            Ok(()) => {
                found.push(self.finding(Probed::Range, self.try_range(&names.one).await.as_ref().copied()))
            }
            Err(_) => found.push(Finding::untried(Probed::Range, Probed::Get)),
        }
        found.push(match self.try_condition(&names.one).await {
            Ok(true) => Finding::ok(Probed::ConditionalWrite),
            Ok(false) => Finding::not_supported(Probed::ConditionalWrite),
            Err(error) => Finding::failed(self, Probed::ConditionalWrite, &error),
        });
        let parts = self.try_parts(names, get.is_ok()).await;
        found.push(self.finding(Probed::Multipart, parts.as_ref().copied()));
        let check = self.cheapest_check(&names.one, &BODY).await;
        let deleted = self.try_deletion(&names.one).await;
        let delete = match &deleted {
            Ok(()) => {
                if let Ok(check) = check {
                    self.inner.known.learn_body_check(check);
                }
                Finding::ok(Probed::Delete)
            }
            Err(error) => {
                let finding = Finding::failed(self, Probed::Delete, error);
                let left =
                    format!("{}; what the probe wrote stays at {}", finding.message, self.url_of(&names.one));
                Finding { message: left, ..finding }
            }
        };
        found.push(delete);
        found.push(match deleted {
            Ok(()) => self.try_batch(names).await,
            Err(_) => Finding::untried(Probed::BatchDelete, Probed::Delete),
        });
        self.tidy(names, found).await;
    }

    fn same(&self, key: &str, read: &Bytes, written: &Bytes) -> Result<()> {
        if read == written {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Corrupt, "the store gave back something else than was written")
            .with_key(self.url_of(key))
            .with_remedy("check what is between here and the store: a proxy, a cache, a transformation"))
    }

    async fn try_range(&self, key: &str) -> Result<()> {
        let (_, stream) = self.open(key, Some(2..7)).await.map_err(|error| match error.kind() {
            // Asked for five bytes, and given all.
            ErrorKind::Corrupt => error.with_kind(ErrorKind::Unsupported),
            _ => error,
        })?;
        let pieces: Vec<Bytes> = stream.try_collect().await?;
        self.same(key, &pieces.concat().into(), &BODY.slice(2..7))
    }

    async fn try_parts(&self, names: &Names, readable: bool) -> Result<()> {
        let upload = self.upload(&names.parts).await?;
        let part = match upload.put_part(0, BODY).await {
            Ok(part) => part,
            Err(error) => {
                // What matters is the first failure.
                let _ = upload.abort().await;
                return Err(error);
            }
        };
        upload.complete(vec![part]).await?;
        if readable {
            self.same(&names.parts, &self.get(&names.parts, 1024).await?, &BODY)?;
        }
        let given_up = self.upload(&names.given_up).await?;
        given_up.put_part(0, BODY).await?;
        given_up.abort().await
    }

    /// Some stores say that it is done and keep the object.
    async fn try_deletion(&self, key: &str) -> Result<()> {
        self.delete(key).await?;
        match self.head(key).await {
            Ok(_) => Err(Error::new(ErrorKind::Other, "it is there after it was deleted")
                .with_key(self.url_of(key))
                .with_remedy("look for a retention rule or an object lock of the bucket")),
            // Who may not read cannot see it gone.
            Err(_) => Ok(()),
        }
    }

    async fn try_batch(&self, names: &Names) -> Finding {
        for key in &names.many {
            if let Err(error) = self.put(key, BODY).await {
                return Finding::failed(self, Probed::BatchDelete, &error);
            }
        }
        match self.delete_many(&names.many).await {
            Ok(()) if self.inner.known.bulk_delete.load(Ordering::Relaxed) => {
                Finding::ok(Probed::BatchDelete)
            }
            Ok(()) => Finding::not_supported(Probed::BatchDelete),
            Err(error) => Finding::failed(self, Probed::BatchDelete, &error),
        }
    }

    /// Removes what is left. Where deletion does not work the finding about it has said so already.
    async fn tidy(&self, names: &Names, found: &[Finding]) {
        let works = |finding: &Finding| finding.operation == Probed::Delete && finding.outcome == Outcome::Ok;
        if found.iter().any(works)
            && let Err(error) = self.delete_many(&names.all()).await
        {
            tracing::warn!(error = %error.report(), "something of the probe is left");
        }
    }
}
