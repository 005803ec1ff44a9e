//! One leader by Lease. Whoever loses the lease stops at once: two leaders must never decide together.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, PostParams};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::error::Error;

/// Name of the lease.
pub const LEASE: &str = "howdah-operator";
/// A lease that was not renewed for this long is free.
const DURATION: Duration = Duration::from_secs(15);
/// A leader that could not renew for this long stops.
const DEADLINE: Duration = Duration::from_secs(10);
/// Time between two tries.
const RETRY: Duration = Duration::from_secs(2);

/// Somebody's lease as it was last seen change, by our own clock.
#[derive(Debug)]
struct Seen {
    version: Option<String>,
    at: Instant,
}

/// Holds, or tries to get, the lease.
pub struct Elector {
    api: Api<Lease>,
    identity: String,
    seen: Option<Seen>,
}

/// What one try came to. Pure part of the election.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Ours,
    Free,
    Taken,
}

fn judge(spec: &LeaseSpec, identity: &str, unchanged_for: Duration) -> Verdict {
    match spec.holder_identity.as_deref().filter(|h| !h.is_empty()) {
        None => Verdict::Free,
        Some(holder) if holder == identity => Verdict::Ours,
        Some(_) => {
            let seconds = spec.lease_duration_seconds.and_then(|s| u64::try_from(s).ok());
            let valid = seconds.map_or(DURATION, Duration::from_secs);
            if unchanged_for >= valid { Verdict::Free } else { Verdict::Taken }
        }
    }
}

impl Elector {
    /// For the lease in `namespace`; `identity` must differ between processes.
    #[must_use]
    pub fn new(client: Client, namespace: &str, identity: String) -> Self {
        Self { api: Api::namespaced(client, namespace), identity, seen: None }
    }

    /// Waits until the lease is ours.
    pub async fn acquire(&mut self) {
        loop {
            match self.attempt().await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => tracing::warn!(error = crate::error::chain(&error), "cannot get the lease"),
            }
            sleep(RETRY).await;
        }
    }

    /// Renews the lease until it is lost or `stop`; then gives it back when it is still ours.
    pub async fn hold(&mut self, stop: CancellationToken) -> bool {
        let mut renewed = Instant::now();
        loop {
            tokio::select! {
                () = stop.cancelled() => {
                    self.release().await;
                    return true;
                }
                () = sleep(RETRY) => {}
            }
            let left = DEADLINE.saturating_sub(renewed.elapsed());
            match tokio::time::timeout(left, self.attempt()).await {
                Ok(Ok(true)) => renewed = Instant::now(),
                Ok(Ok(false)) => return false,
                Ok(Err(error)) => {
                    tracing::warn!(error = crate::error::chain(&error), "cannot renew the lease");
                }
                Err(_) => return false,
            }
            if renewed.elapsed() >= DEADLINE {
                return false;
            }
        }
    }

    /// One try to get or renew the lease.
    async fn attempt(&mut self) -> Result<bool, Error> {
        let what = || format!("Lease {LEASE}");
        let now = MicroTime(Timestamp::now());
        let Some(mut lease) = self.api.get_opt(LEASE).await.map_err(Error::api("get", what()))? else {
            let lease = Lease {
                metadata: ObjectMeta { name: Some(LEASE.to_owned()), ..ObjectMeta::default() },
                spec: Some(self.spec(now.clone(), Some(now), 0)),
            };
            return won(self.api.create(&PostParams::default(), &lease).await, "create");
        };
        let version = lease.metadata.resource_version.clone();
        let at = match &self.seen {
            Some(seen) if seen.version == version => seen.at,
            _ => Instant::now(),
        };
        self.seen = Some(Seen { version, at });
        let old = lease.spec.unwrap_or_default();
        let transitions = old.lease_transitions.unwrap_or(0);
        lease.spec = Some(match judge(&old, &self.identity, at.elapsed()) {
            Verdict::Taken => return Ok(false),
            Verdict::Ours => self.spec(now, old.acquire_time, transitions),
            Verdict::Free => self.spec(now.clone(), Some(now), transitions.saturating_add(1)),
        });
        // With the version that was read: of two that try, one gets a conflict.
        won(self.api.replace(LEASE, &PostParams::default(), &lease).await, "replace")
    }

    fn spec(&self, now: MicroTime, acquired: Option<MicroTime>, transitions: i32) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: acquired,
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }

    /// Frees the lease, so that the next leader need not wait for its end.
    async fn release(&self) {
        let Ok(Some(mut lease)) = self.api.get_opt(LEASE).await else { return };
        let Some(spec) = lease.spec.as_mut().filter(|s| s.holder_identity.as_deref() == Some(&self.identity))
        else {
            return;
        };
        spec.holder_identity = None;
        spec.lease_duration_seconds = Some(1);
        if let Err(error) = self.api.replace(LEASE, &PostParams::default(), &lease).await {
            tracing::warn!(error = crate::error::chain(&error), "cannot give the lease back");
        }
    }
}

fn won(result: kube::Result<Lease>, verb: &'static str) -> Result<bool, Error> {
    match result {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => Ok(false),
        Err(error) => Err(Error::api(verb, format!("Lease {LEASE}"))(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_by(holder: &str) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(holder.into()),
            lease_duration_seconds: Some(15),
            ..LeaseSpec::default()
        }
    }

    #[test]
    fn a_lease_is_taken_over_only_when_it_stood_still_for_its_whole_time() {
        let s = Duration::from_secs;
        assert_eq!(judge(&held_by("me"), "me", s(100)), Verdict::Ours);
        assert_eq!(judge(&held_by("other"), "me", s(14)), Verdict::Taken);
        assert_eq!(judge(&held_by("other"), "me", s(15)), Verdict::Free);
        assert_eq!(judge(&held_by(""), "me", s(0)), Verdict::Free);
        assert_eq!(judge(&LeaseSpec::default(), "me", s(0)), Verdict::Free);
    }
}
