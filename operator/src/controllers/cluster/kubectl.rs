//! The commands that reasons hand to a person, in the words of the runbook. Pure.

use howdah_api::{Cluster, labels};
use kube::ResourceExt;

/// Commands about one cluster.
pub struct Kubectl {
    namespace: String,
    cluster: String,
}

impl Kubectl {
    /// About `cluster`.
    #[must_use]
    pub fn of(cluster: &Cluster) -> Self {
        Self { namespace: cluster.namespace().unwrap_or_default(), cluster: cluster.name_any() }
    }

    /// `words` in the namespace of the cluster.
    #[must_use]
    pub fn run(&self, words: &str) -> String {
        format!("kubectl -n {} {words}", self.namespace)
    }

    /// Shows a pod with its events and the last words of its containers.
    #[must_use]
    pub fn describe_pod(&self, pod: &str) -> String {
        self.run(&format!("describe pod {pod}"))
    }

    /// Shows the end of the log of a container.
    #[must_use]
    pub fn logs(&self, pod: &str, container: &str) -> String {
        self.run(&format!("logs {pod} -c {container} --tail=50"))
    }

    /// Lists pods and volumes of the cluster.
    #[must_use]
    pub fn list(&self) -> String {
        self.run(&format!("get pods,pvc -l {}={} -o wide", labels::CLUSTER, self.cluster))
    }

    /// Gives an annotation of the Cluster a value.
    #[must_use]
    pub fn annotate(&self, key: &str, value: &str) -> String {
        self.run(&format!("annotate cluster {} {key}={value}", self.cluster))
    }

    /// Takes an annotation of the Cluster away.
    #[must_use]
    pub fn clear_annotation(&self, key: &str) -> String {
        self.run(&format!("annotate cluster {} {key}-", self.cluster))
    }

    /// Lets a replica cluster take writes.
    #[must_use]
    pub fn promote_cluster(&self) -> String {
        self.run(&format!(
            "patch clusters.postgresql.k8s.enterprisedb.io {} --type=merge -p '{{\"spec\":{{\"replica\":{{\"enabled\":false}}}}}}'",
            self.cluster
        ))
    }

    /// Chooses the primary by hand; the person puts the name in.
    #[must_use]
    pub fn choose_primary(&self) -> String {
        self.run(&format!(
            "patch clusters.postgresql.k8s.enterprisedb.io {} --subresource=status --type=merge \
             -p '{{\"status\":{{\"targetPrimary\":\"INSTANCE\"}}}}'",
            self.cluster
        ))
    }
}
