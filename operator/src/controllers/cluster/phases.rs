//! Words of `Cluster.status.phase`.

/// The first instance is being made.
pub const FIRST_PRIMARY: &str = "Setting up primary";
/// The Backup to recover from is not there yet.
pub const WAITING_FOR_BACKUP: &str = "Waiting for the backup to recover from";
/// A deleted cluster of the same name is still being removed.
pub const WAITING_FOR_PREDECESSOR: &str = "Waiting for a deleted cluster of this name to go";
/// A person has to mend the specification or an object it names.
pub const INVALID: &str = "Cluster configuration is invalid";
/// The first instance could not be recovered.
pub const RECOVERY_FAILED: &str = "Recovery failed";
/// The first instance could not be initialised.
pub const BOOTSTRAP_FAILED: &str = "Bootstrap failed";
/// An instance cannot run.
pub const INSTANCE_FAILED: &str = "An instance is failing";
/// A replica is being made.
pub const CREATING_REPLICA: &str = "Creating a new replica";
/// The archive of another cluster is followed, until somebody promotes this one.
pub const FOLLOWING: &str = "Following another cluster";
/// Instances exist and are not ready yet.
pub const WAITING_FOR_INSTANCES: &str = "Waiting for the instances to become active";
/// Instances are replaced one after the other.
pub const UPGRADING: &str = "Upgrading cluster";
/// An instance is being removed.
pub const SCALING_DOWN: &str = "Scaling down";
/// Another instance becomes the primary because somebody wants it so.
pub const SWITCHING_OVER: &str = "Switchover in progress";
/// A rolling change has come to the primary, and a person has to begin its last step.
pub const WAITING_FOR_USER: &str = "Waiting for user action";
/// PostgreSQL is kept down in some instances, on request.
pub const FENCED: &str = "Instances are fenced";
/// Pods are taken away, on request.
pub const HIBERNATING: &str = "Cluster is being hibernated";
/// No pod runs, on request; the volumes stay.
pub const HIBERNATED: &str = "Cluster is hibernated";
/// The primary comes back after hibernation, then the replicas.
pub const WAKING_UP: &str = "Cluster is waking up";
/// All is well.
pub const HEALTHY: &str = "Cluster in healthy state";
/// The primary's data is gone.
pub const UNRECOVERABLE: &str = "Cluster is unrecoverable and needs manual intervention";
/// The primary does not serve; another instance takes its place, or may soon.
pub const FAILING_OVER: &str = "Failing over";
/// The primary does not serve, and no other instance may take its place.
pub const NO_CANDIDATE: &str = "No instance can take over";
/// The API server refuses an object that the specification asks for.
pub const REJECTED: &str = "Cluster cannot be reconciled";
