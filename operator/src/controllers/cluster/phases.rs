//! Words of `Cluster.status.phase`, each with the page of the runbook for those in which a person may be needed.

macro_rules! page {
    () => {
        None
    };
    ($page:literal) => {
        Some($page)
    };
}

/// One table, so that no phase can be without a word about its page.
macro_rules! phases {
    ($($(#[$doc:meta])* $name:ident: $text:literal $(=> $page:literal)?;)*) => {
        $($(#[$doc])* pub const $name: &str = $text;)*

        /// Every phase, and the page of the runbook about it; none where the operator goes on by itself.
        pub const ALL: &[(&str, Option<&str>)] = &[$(($text, page!($($page)?))),*];
    };
}

phases! {
    /// The first instance is being made.
    FIRST_PRIMARY: "Setting up primary";
    /// The Backup to recover from is not there yet.
    WAITING_FOR_BACKUP: "Waiting for the backup to recover from" => "recovery-waits";
    /// A deleted cluster of the same name is still being removed.
    WAITING_FOR_PREDECESSOR: "Waiting for a deleted cluster of this name to go";
    /// A person has to mend the specification or an object it names.
    INVALID: "Cluster configuration is invalid" => "cluster-invalid";
    /// The first instance could not be recovered.
    RECOVERY_FAILED: "Recovery failed" => "recovery-waits";
    /// The first instance could not be initialised.
    BOOTSTRAP_FAILED: "Bootstrap failed" => "instance-failing";
    /// An instance cannot run.
    INSTANCE_FAILED: "An instance is failing" => "instance-failing";
    /// A replica is being made.
    CREATING_REPLICA: "Creating a new replica";
    /// The archive of another cluster is followed, until somebody promotes this one.
    FOLLOWING: "Following another cluster";
    /// Instances exist and are not ready yet.
    WAITING_FOR_INSTANCES: "Waiting for the instances to become active";
    /// Instances are replaced one after the other.
    UPGRADING: "Upgrading cluster";
    /// An instance is being removed.
    SCALING_DOWN: "Scaling down";
    /// Another instance becomes the primary because somebody wants it so.
    SWITCHING_OVER: "Switchover in progress";
    /// A rolling change has come to the primary, and a person has to begin its last step.
    WAITING_FOR_USER: "Waiting for user action" => "rolling-change-waits";
    /// PostgreSQL is kept down in some instances, on request.
    FENCED: "Instances are fenced" => "fenced";
    /// Pods are taken away, on request.
    HIBERNATING: "Cluster is being hibernated";
    /// No pod runs, on request; the volumes stay.
    HIBERNATED: "Cluster is hibernated" => "hibernation-hangs";
    /// The primary comes back after hibernation, then the replicas.
    WAKING_UP: "Cluster is waking up";
    /// All is well.
    HEALTHY: "Cluster in healthy state";
    /// The primary's data is gone.
    UNRECOVERABLE: "Cluster is unrecoverable and needs manual intervention" => "volume-lost";
    /// The primary does not serve; another instance takes its place, or may soon.
    FAILING_OVER: "Failing over" => "failover";
    /// The primary does not serve, and no other instance may take its place.
    NO_CANDIDATE: "No instance can take over" => "no-instance-can-take-over";
    /// The API server refuses an object that the specification asks for.
    REJECTED: "Cluster cannot be reconciled" => "cluster-invalid";
}

/// `reason` with where to read on, when a person may be needed in `phase`.
#[must_use]
pub fn told(phase: &str, reason: &str) -> String {
    let page = ALL.iter().find(|(known, _)| *known == phase).and_then(|(_, page)| *page);
    match page {
        Some(page) => format!("{reason}; see docs/runbook/{page}.md"),
        None => reason.to_owned(),
    }
}
