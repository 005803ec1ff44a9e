//! What the decisions about who is the primary look at. Pure.

use howdah_api::{ClusterStatus, labels, naming};
use kube::ResourceExt;

use crate::controllers::cluster::observed::{Instance, NodeFacts, Observed};
use crate::controllers::cluster::validate::Validated;

/// A cluster with its instances.
pub(super) struct Scene<'a> {
    /// The cluster, checked.
    pub validated: &'a Validated,
    /// All that was seen.
    pub observed: &'a Observed,
    /// Its instances, by serial.
    pub instances: &'a [Instance<'a>],
    /// Its status.
    pub status: ClusterStatus,
    with_wal: bool,
}

impl<'a> Scene<'a> {
    pub(super) fn new(
        validated: &'a Validated,
        observed: &'a Observed,
        instances: &'a [Instance<'a>],
    ) -> Self {
        let with_wal = observed.cluster.spec.wal_storage.is_some();
        Self { validated, observed, instances, status: observed.status(), with_wal }
    }

    /// Name of an instance.
    pub(super) fn name(&self, instance: &Instance<'_>) -> String {
        naming::instance(&self.validated.name, instance.serial)
    }

    /// The instance `name`.
    pub(super) fn find(&self, name: &str) -> Option<&'a Instance<'a>> {
        let serial = naming::serial_of(&self.validated.name, name)?;
        self.instances.iter().find(|i| i.serial == serial)
    }

    /// Whether the volumes of an instance are there and stay.
    pub(super) fn whole(&self, instance: &Instance<'_>) -> bool {
        instance.has_volumes(self.with_wal)
    }

    /// Whether PostgreSQL of an instance is kept down, by what the Cluster says or by what the instance does.
    pub(super) fn fenced(&self, name: &str) -> bool {
        let annotation = self.observed.cluster.annotations().get(labels::FENCED);
        annotation.is_some_and(|value| labels::fences(value, name).unwrap_or(false))
            || self.find(name).and_then(|i| i.report).is_some_and(|r| r.fenced)
    }

    /// Whether the pods are taken away.
    pub(super) fn hibernating(&self) -> bool {
        self.observed.cluster.annotations().get(labels::HIBERNATION).is_some_and(|v| v.trim() == "on")
    }

    /// The node of an instance, when it is known.
    pub(super) fn node(&self, instance: &Instance<'_>) -> Option<(&'a str, NodeFacts)> {
        let name = instance.pod?.spec.as_ref()?.node_name.as_deref()?;
        let (name, facts) = self.observed.nodes.get_key_value(name)?;
        Some((name.as_str(), *facts))
    }

    /// What an instance says of itself, or why it says nothing.
    pub(super) fn says(&self, name: &str) -> String {
        match self.observed.reports.get(name) {
            Some(Ok(report)) => report.fatal.clone().unwrap_or_else(|| report.message.clone()),
            Some(Err(error)) => error.to_string(),
            None => String::new(),
        }
    }
}

/// `text`, with `detail` in brackets when there is any.
pub(super) fn with_detail(text: String, detail: &str) -> String {
    if detail.is_empty() { text } else { format!("{text} ({detail})") }
}
