//! Which instance leaves when there are too many. Pure.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;

use super::fencing;
use crate::controllers::cluster::observed::{Instance, Observed};

/// The instance to remove when there are more than are asked for: the replica with the highest serial. Nobody while one is
/// fenced.
#[must_use]
pub fn surplus(observed: &Observed, instances: &[Instance<'_>], primary: i32) -> Option<i32> {
    let desired = usize::try_from(observed.cluster.spec.instances).unwrap_or(1);
    let living = instances.iter().filter(|i| stays(i.data));
    if living.clone().count() <= desired || !fencing::fenced(observed, instances).is_empty() {
        return None;
    }
    living.map(|i| i.serial).filter(|s| *s != primary).max()
}

/// Whether a volume is there that nobody has deleted.
pub(super) fn stays(volume: Option<&PersistentVolumeClaim>) -> bool {
    volume.is_some_and(|v| v.metadata.deletion_timestamp.is_none())
}
