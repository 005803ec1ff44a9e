//! Clusters at which there is nothing to do: a look at them costs their instances' answers and nothing of the API server.
//!
//! Such a look takes pods, volumes and Backups from the watches. All that it may do by itself is to find that everything
//! is as it was, and to write figures into the status that nobody acts on. Whatever else it finds, and every instance that
//! does not answer at once, makes the cluster be read afresh, and only then is anything decided.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use howdah_api::{Backup, ClusterStatus, naming};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use super::decide::Plan;
use super::observed::Observed;
use super::validate::Validated;
use super::{repo_host, synchronous};

/// Secrets are read again, and what was applied is looked at again, after so long.
const CARE: Duration = Duration::from_secs(300);
/// Figures that change all the time (lag, last archived WAL) are written at most this often while nothing else changes.
const FIGURES: Duration = Duration::from_secs(60);

/// What cannot be had from a watch, as it was when the cluster was last read afresh.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The Secrets, without what only their users have to know.
    pub secrets: BTreeMap<String, Secret>,
    /// The Backup that the cluster was recovered from.
    pub recovery_backup: Option<Backup>,
    /// When these were read.
    read: Duration,
    /// When the status was last written, or found to be right.
    told: Duration,
}

impl Known {
    /// From a fresh look at `elapsed`.
    #[must_use]
    pub fn new(observed: &Observed, cluster: &str, elapsed: Duration) -> Self {
        Self {
            secrets: reduced(&observed.secrets, cluster),
            recovery_backup: observed.recovery_backup.clone(),
            read: elapsed,
            told: elapsed,
        }
    }

    /// Whether it is time to read it all again.
    #[must_use]
    pub fn is_old(&self, elapsed: Duration) -> bool {
        elapsed.saturating_sub(self.read) >= CARE
    }

    /// Whether figures may be written again.
    #[must_use]
    pub fn tells(&self, elapsed: Duration) -> bool {
        elapsed.saturating_sub(self.told) >= FIGURES
    }

    /// With the time at which `before` was told.
    #[must_use]
    pub fn told_as(self, before: &Self) -> Self {
        Self { told: before.told, ..self }
    }

    /// The status was written.
    #[must_use]
    pub fn told(self, elapsed: Duration) -> Self {
        Self { told: elapsed, ..self }
    }
}

/// Secrets as far as checks and the operator's own connections need them: whether a key has a value, who a login is for,
/// and the client certificate. Passwords and keys of others are not kept.
fn reduced(secrets: &BTreeMap<String, Secret>, cluster: &str) -> BTreeMap<String, Secret> {
    let own = naming::operator_secret(cluster);
    let one = |(name, secret): (&String, &Secret)| {
        let mut secret = secret.clone();
        secret.metadata.managed_fields = None;
        for (key, value) in secret.data.iter_mut().flatten() {
            if *name != own && key != "username" && !value.0.is_empty() {
                *value = ByteString(b"-".to_vec());
            }
        }
        (name.clone(), secret)
    };
    secrets.iter().map(one).collect()
}

/// The clusters at rest, by `apply::cache_key`.
#[derive(Debug, Default)]
pub struct Resting(Mutex<HashMap<String, Known>>);

impl Resting {
    /// What is known of a cluster at rest.
    pub fn get(&self, key: &str) -> Option<Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// Nothing was to be done at the cluster.
    pub fn settle(&self, key: &str, known: Known) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned(), known);
    }

    /// Something may be to be done: it is read afresh next time.
    pub fn wake(&self, key: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

/// Whether nothing is to be done and nothing but figures is to be told. Pure.
#[must_use]
pub fn is_quiet(
    validated: &Validated,
    observed: &Observed,
    plan: &Plan,
    repositories: &repo_host::Plan,
    after: &ClusterStatus,
) -> bool {
    let instances = observed.instances();
    let all_answer = instances.iter().all(|i| i.pod.is_none() || i.report.is_some());
    let nothing_to_do = plan.steps.is_empty() && plan.at_rest && plan.look_again.is_none();
    nothing_to_do
        && !plan.primary_failing
        && !plan.target_chosen
        && !validated.predecessor
        && all_answer
        && repositories.at_rest()
        && synchronous::at_rest(after)
        && weighty(observed.status()) == weighty(after.clone())
}

/// A status without the figures that nobody decides by.
fn weighty(mut status: ClusterStatus) -> ClusterStatus {
    status.last_archived_time = None;
    status.last_archived_wal = None;
    status.first_recoverability_point = None;
    for instance in &mut status.instances_status {
        instance.lag_bytes = None;
    }
    for repository in &mut status.repositories {
        repository.last_archived_time = None;
        repository.last_archived_wal = None;
        repository.latest = None;
        repository.lag = None;
    }
    status
}
