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
use super::{certificates, gap_backups, repo_host, synchronous};

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
            secrets: reduced(observed, cluster),
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
/// certificates, and of those that the user gave the keys that have to match them. Passwords and other keys are not kept.
fn reduced(observed: &Observed, cluster: &str) -> BTreeMap<String, Secret> {
    let mut whole = certificates::secret_names(&observed.cluster);
    whole.push(naming::operator_secret(cluster));
    let one = |(name, secret): (&String, &Secret)| {
        let mut secret = secret.clone();
        secret.metadata.managed_fields = None;
        for (key, value) in secret.data.iter_mut().flatten() {
            let kept = key == "username" || key.ends_with(".crt") || whole.contains(name);
            if !kept && !value.0.is_empty() {
                *value = ByteString(b"-".to_vec());
            }
        }
        (name.clone(), secret)
    };
    observed.secrets.iter().map(one).collect()
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
        && gap_backups::orders(observed).is_empty()
        && synchronous::at_rest(after)
        && weighty(observed.status()) == weighty(after.clone())
}

/// A status without the figures that nobody decides by.
fn weighty(mut status: ClusterStatus) -> ClusterStatus {
    status.last_archived_time = None;
    status.last_archived_wal = None;
    status.first_recoverability_point = None;
    status.wal_runway = None;
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

#[cfg(test)]
mod tests {

    use rstest::rstest;

    use super::super::{build, decide, status};
    use super::*;
    use crate::fixtures::{World, now, secret};

    /// A healthy cluster whose status says so already.
    fn world() -> World {
        let world = World::archiving_pair();
        let told = verdict(&world).1;
        world.with_status(|status| *status = told)
    }

    fn verdict(world: &World) -> (bool, ClusterStatus) {
        let (validated, observed) = (world.validated(), &world.observed);
        let hash = build::pod::spec_hash(&observed.cluster, &validated);
        let plan = decide::decide(&validated, observed, &hash);
        let repositories = repo_host::decide(&validated, observed);
        let status = status::fold(&validated, observed, &plan, &hash, now());
        (is_quiet(&validated, observed, &plan, &repositories, &status), status)
    }

    fn quiet(world: &World) -> bool {
        verdict(world).0
    }

    #[test]
    fn a_healthy_cluster_and_moving_figures_are_quiet() {
        assert!(quiet(&world()));
        let moved = world().change(|w| {
            let report = w.observed.reports.get_mut("zoo-1").unwrap().as_mut().unwrap();
            report.received_lsn = Some("0/9000000".into());
            report.archiver.as_mut().unwrap().last_archived_wal = Some("000000010000000000000008".into());
        });
        let (quiet, status) = verdict(&moved);
        assert!(quiet);
        assert_eq!(status.last_archived_wal.as_deref(), Some("000000010000000000000008"), "and are told of");
    }

    /// Whatever may need a decision is not quiet: it is decided on what is read afresh.
    #[rstest]
    #[case::an_instance_is_silent(|w: &mut World| { w.observed.reports.remove("zoo-2"); })]
    #[case::the_primary_is_silent(|w: &mut World| { w.observed.reports.remove("zoo-1"); })]
    #[case::a_pod_is_gone(|w: &mut World| { w.observed.pods.pop(); })]
    #[case::a_volume_is_gone(|w: &mut World| { w.observed.volumes.pop(); })]
    #[case::a_replica_stopped_streaming(|w: &mut World| {
        w.observed.reports.get_mut("zoo-2").unwrap().as_mut().unwrap().streaming = false;
    })]
    #[case::the_spec_changed(|w: &mut World| w.observed.cluster.metadata.generation = Some(2))]
    #[case::another_target(|w: &mut World| {
        w.observed.cluster.status.as_mut().unwrap().target_primary = Some("zoo-2".into());
    })]
    #[case::a_secret_is_gone(|w: &mut World| { w.observed.secrets.clear(); })]
    #[case::a_parameter_waits_for_a_restart(|w: &mut World| {
        w.observed.reports.get_mut("zoo-2").unwrap().as_mut().unwrap().pending_restart = true;
    })]
    fn whatever_needs_a_decision_is_not(#[case] change: fn(&mut World)) {
        let mut world = world();
        change(&mut world);
        assert!(!quiet(&world));
    }

    #[test]
    fn passwords_and_keys_of_others_are_not_kept() {
        let mut world = world();
        for name in ["zoo-app", "zoo-operator"] {
            let data = [("username", "app"), ("password", "secret"), ("tls.key", "key"), ("empty", "")];
            world.observed.secrets.insert(name.into(), secret(name, &data));
        }
        let known = Known::new(&world.observed, "zoo", Duration::ZERO);
        let value = |name: &str, key: &str| known.secrets[name].data.as_ref().unwrap()[key].0.clone();
        assert_eq!(value("zoo-app", "username"), b"app");
        assert_eq!(value("zoo-app", "password"), b"-");
        assert_eq!(value("zoo-app", "empty"), b"");
        assert_eq!(value("zoo-operator", "tls.key"), b"key");
    }

    #[test]
    fn secrets_grow_old_and_figures_wait() {
        let s = Duration::from_secs;
        let known = Known::new(&world().observed, "zoo", s(100));
        assert!(!known.is_old(s(399)) && known.is_old(s(400)));
        assert!(!known.tells(s(159)) && known.tells(s(160)));
        let told = known.clone().told(s(160));
        assert!(!told.tells(s(219)) && told.is_old(s(400)));
        let again = Known::new(&world().observed, "zoo", s(400)).told_as(&told);
        assert!(!again.is_old(s(401)) && again.tells(s(401)));
    }
}
