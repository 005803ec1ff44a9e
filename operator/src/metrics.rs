//! Prometheus metrics of the operator.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::controllers::cluster::events::Handover;

/// Label: which controller.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ControllerLabel {
    /// `cluster`, `backup` or `scheduled_backup`.
    pub controller: &'static str,
}

/// Labels of a failure.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ErrorLabels {
    /// Which controller.
    pub controller: &'static str,
    /// What kind of error.
    pub error: &'static str,
}

/// Labels of a cluster.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ClusterLabels {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub cluster: String,
}

/// Label: outcome of a backup.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct BackupLabels {
    /// Namespace.
    pub namespace: String,
    /// Cluster.
    pub cluster: String,
    /// Phase.
    pub phase: &'static str,
}

/// Labels of the phase that a cluster is in.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct PhaseLabels {
    /// Namespace.
    pub namespace: String,
    /// Cluster.
    pub cluster: String,
    /// `status.phase`.
    pub phase: String,
}

/// All metrics of the operator.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    reconciles: Family<ControllerLabel, Counter>,
    durations: Family<ControllerLabel, Histogram, fn() -> Histogram>,
    errors: Family<ErrorLabels, Counter>,
    phases: Family<PhaseLabels, Gauge>,
    /// What of these is shown.
    shown: Arc<Mutex<HashMap<ClusterLabels, PhaseLabels>>>,
    instances: Family<ClusterLabels, Gauge>,
    ready: Family<ClusterLabels, Gauge>,
    fenced: Family<ClusterLabels, Gauge>,
    archiving: Family<ClusterLabels, Gauge>,
    last_backup: Family<ClusterLabels, Gauge>,
    last_failed_backup: Family<ClusterLabels, Gauge>,
    first_recoverability: Family<ClusterLabels, Gauge>,
    synchronous: Family<ClusterLabels, Gauge>,
    synchronous_wanted: Family<ClusterLabels, Gauge>,
    certificates: Family<ClusterLabels, Gauge>,
    backups: Family<BackupLabels, Gauge>,
    failovers: Family<ClusterLabels, Counter>,
    switchovers: Family<ClusterLabels, Counter>,
    leader: Gauge,
}

/// What is shown about one cluster. `None` is not shown at all: an unknown value is absent, not zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterGauges {
    /// `status.phase`.
    pub phase: Option<String>,
    /// Instances that exist.
    pub instances: i64,
    /// Instances that are ready.
    pub ready: i64,
    /// Instances whose PostgreSQL is kept down, or shall be.
    pub fenced: i64,
    /// Whether archiving works.
    pub archiving: Option<bool>,
    /// End of the last successful backup, Unix seconds.
    pub last_backup: Option<i64>,
    /// End of the last failed backup, Unix seconds.
    pub last_failed_backup: Option<i64>,
    /// Earliest restorable time, Unix seconds.
    pub first_recoverability: Option<i64>,
    /// Replicas that have each acknowledged commit, and how many were asked for.
    pub synchronous: Option<(i64, i64)>,
    /// When the first of the certificates that PostgreSQL uses ends, Unix seconds.
    pub certificates: Option<i64>,
    /// Number of Backup objects: not done, completed, failed.
    pub backups: [i64; 3],
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Registers all of them.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("howdah_operator");
        let reconciles = Family::default();
        let durations: Family<ControllerLabel, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.005, 2.5, 9)));
        let errors = Family::default();
        let phases = Family::default();
        let gauge = Family::<ClusterLabels, Gauge>::default;
        let (instances, ready, fenced, archiving) = (gauge(), gauge(), gauge(), gauge());
        let (last_backup, last_failed_backup, first_recoverability) = (gauge(), gauge(), gauge());
        let (synchronous, synchronous_wanted, certificates) = (gauge(), gauge(), gauge());
        let backups = Family::default();
        let (failovers, switchovers) = (Family::default(), Family::default());
        let leader = Gauge::default();
        registry.register("reconciles", "Reconciliations that ended, by controller", reconciles.clone());
        registry.register("reconcile_duration_seconds", "Duration of reconciliations", durations.clone());
        registry.register(
            "reconcile_errors",
            "Reconciliations that failed, by kind of error",
            errors.clone(),
        );
        registry.register("cluster_phase", "1 for the phase that the cluster is in", phases.clone());
        registry.register("cluster_instances", "Instances that exist", instances.clone());
        registry.register("cluster_ready_instances", "Instances that are ready", ready.clone());
        registry.register(
            "cluster_fenced_instances",
            "Instances whose PostgreSQL is kept down because somebody asked for it",
            fenced.clone(),
        );
        registry.register(
            "cluster_archiving_working",
            "1 when WAL reaches the archive, 0 when it does not; absent when unknown or not configured",
            archiving.clone(),
        );
        registry.register(
            "cluster_last_backup_timestamp_seconds",
            "End of the last successful backup; absent when there is none",
            last_backup.clone(),
        );
        registry.register(
            "cluster_last_failed_backup_timestamp_seconds",
            "End of the last failed backup; absent when there is none",
            last_failed_backup.clone(),
        );
        registry.register(
            "cluster_first_recoverability_point_seconds",
            "Earliest time that can be restored; absent when unknown",
            first_recoverability.clone(),
        );
        registry.register(
            "cluster_synchronous_replicas",
            "Replicas that have each acknowledged commit; absent with asynchronous replication or when unknown",
            synchronous.clone(),
        );
        registry.register(
            "cluster_synchronous_replicas_wanted",
            "How many of them were asked for",
            synchronous_wanted.clone(),
        );
        registry.register(
            "cluster_certificate_expiration_seconds",
            "When the first of the certificates that PostgreSQL uses ends",
            certificates.clone(),
        );
        registry.register("cluster_backups", "Backup objects by phase", backups.clone());
        registry.register(
            "cluster_failovers",
            "Times that another instance became the primary because the former one failed",
            failovers.clone(),
        );
        registry.register(
            "cluster_switchovers",
            "Times that another instance became the primary because somebody wanted it so",
            switchovers.clone(),
        );
        registry.register("leader", "Whether this process leads: 1 or 0", leader.clone());
        Self {
            registry: Arc::new(registry),
            reconciles,
            durations,
            errors,
            phases,
            shown: Arc::default(),
            instances,
            ready,
            fenced,
            archiving,
            last_backup,
            last_failed_backup,
            first_recoverability,
            synchronous,
            synchronous_wanted,
            certificates,
            backups,
            failovers,
            switchovers,
            leader,
        }
    }

    /// One reconciliation ended.
    pub fn reconciled(&self, controller: &'static str, took: Duration) {
        let label = ControllerLabel { controller };
        self.reconciles.get_or_create(&label).inc();
        self.durations.get_or_create(&label).observe(took.as_secs_f64());
    }

    /// One reconciliation failed.
    pub fn failed(&self, controller: &'static str, error: &'static str) {
        self.errors.get_or_create(&ErrorLabels { controller, error }).inc();
    }

    /// Whether this process leads.
    pub fn leading(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// Shows the state of one cluster.
    pub fn cluster(&self, namespace: &str, cluster: &str, gauges: ClusterGauges) {
        let label = ClusterLabels { namespace: namespace.to_owned(), cluster: cluster.to_owned() };
        self.show_phase(&label, gauges.phase);
        self.instances.get_or_create(&label).set(gauges.instances);
        self.ready.get_or_create(&label).set(gauges.ready);
        self.fenced.get_or_create(&label).set(gauges.fenced);
        let set = |family: &Family<ClusterLabels, Gauge>, value: Option<i64>| match value {
            Some(value) => {
                family.get_or_create(&label).set(value);
            }
            None => {
                family.remove(&label);
            }
        };
        set(&self.archiving, gauges.archiving.map(i64::from));
        set(&self.last_backup, gauges.last_backup);
        set(&self.last_failed_backup, gauges.last_failed_backup);
        set(&self.first_recoverability, gauges.first_recoverability);
        set(&self.synchronous, gauges.synchronous.map(|(has, _)| has));
        set(&self.synchronous_wanted, gauges.synchronous.map(|(_, wanted)| wanted));
        set(&self.certificates, gauges.certificates);
        for (phase, count) in ["active", "completed", "failed"].into_iter().zip(gauges.backups) {
            let label = BackupLabels { namespace: namespace.to_owned(), cluster: cluster.to_owned(), phase };
            self.backups.get_or_create(&label).set(count);
        }
    }

    /// Only the present phase is there: an alert on one ends when it does.
    fn show_phase(&self, cluster: &ClusterLabels, phase: Option<String>) {
        let ClusterLabels { namespace, cluster: name } = cluster.clone();
        let now = phase.map(|phase| PhaseLabels { namespace, cluster: name, phase });
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match &now {
            Some(labels) => shown.insert(cluster.clone(), labels.clone()),
            None => shown.remove(cluster),
        };
        if let Some(before) = before.filter(|before| now.as_ref() != Some(before)) {
            self.phases.remove(&before);
        }
        if let Some(labels) = now {
            self.phases.get_or_create(&labels).set(1);
        }
    }

    /// Another instance of a cluster became the primary.
    pub fn handed_over(&self, namespace: &str, cluster: &str, handover: Handover) {
        let label = ClusterLabels { namespace: namespace.to_owned(), cluster: cluster.to_owned() };
        let counter = match handover {
            Handover::Failover => &self.failovers,
            Handover::Switchover => &self.switchovers,
        };
        counter.get_or_create(&label).inc();
    }

    /// A cluster is gone.
    pub fn forget_cluster(&self, namespace: &str, cluster: &str) {
        let label = ClusterLabels { namespace: namespace.to_owned(), cluster: cluster.to_owned() };
        self.show_phase(&label, None);
        for family in [
            &self.instances,
            &self.ready,
            &self.fenced,
            &self.archiving,
            &self.last_backup,
            &self.last_failed_backup,
            &self.first_recoverability,
            &self.synchronous,
            &self.synchronous_wanted,
            &self.certificates,
        ] {
            family.remove(&label);
        }
        self.failovers.remove(&label);
        self.switchovers.remove(&label);
        for phase in ["active", "completed", "failed"] {
            let label = BackupLabels { namespace: namespace.to_owned(), cluster: cluster.to_owned(), phase };
            self.backups.remove(&label);
        }
    }

    /// The text that `/metrics` answers.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        match prometheus_client::encoding::text::encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(_) => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_values_are_absent_and_a_gone_cluster_leaves_nothing() {
        let metrics = Metrics::new();
        metrics.reconciled("cluster", Duration::from_millis(3));
        let gauges = ClusterGauges {
            phase: Some("Cluster in healthy state".into()),
            instances: 2,
            ready: 1,
            fenced: 1,
            archiving: Some(false),
            synchronous: Some((0, 1)),
            ..ClusterGauges::default()
        };
        metrics.cluster("ns", "pg", ClusterGauges { phase: Some("Failing over".into()), ..gauges.clone() });
        metrics.cluster("ns", "pg", gauges);
        let text = metrics.render();
        let phase = "cluster_phase{namespace=\"ns\",cluster=\"pg\",phase=\"Cluster in healthy state\"} 1";
        assert!(text.contains(phase) && !text.contains("Failing over"), "{text}");
        assert!(text.contains("howdah_operator_reconciles_total{controller=\"cluster\"} 1"), "{text}");
        assert!(text.contains("cluster_fenced_instances{namespace=\"ns\",cluster=\"pg\"} 1"), "{text}");
        assert!(text.contains("cluster_archiving_working{namespace=\"ns\",cluster=\"pg\"} 0"), "{text}");
        assert!(text.contains("cluster_synchronous_replicas{namespace=\"ns\",cluster=\"pg\"} 0"), "{text}");
        assert!(
            text.contains("cluster_synchronous_replicas_wanted{namespace=\"ns\",cluster=\"pg\"} 1"),
            "{text}"
        );
        assert!(!text.contains("cluster_last_backup_timestamp_seconds{"), "{text}");
        metrics.forget_cluster("ns", "pg");
        assert!(!metrics.render().contains("cluster=\"pg\""), "{}", metrics.render());
    }
}
