//! What is said when the data of the primary is gone: what was seen, and what is left. Pure.

use howdah_api::naming;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt;

use crate::controllers::cluster::kubectl::Kubectl;
use crate::controllers::cluster::observed::{Instance, Observed};

/// No instance has a volume any more.
pub(super) fn everything(observed: &Observed) -> String {
    let cluster = observed.cluster.name_any();
    format!(
        "no volume of {cluster} is left, serials up to {} were given; {}: {}; when they are gone, recover the last backup \
         into a new Cluster (bootstrap.recovery)",
        observed.status().latest_generated_serial,
        last_backup(observed),
        Kubectl::of(&observed.cluster).list()
    )
}

/// A volume of the primary is missing or goes. `instance` is what is left of it.
pub(super) fn primary(observed: &Observed, serial: i32, instance: Option<&Instance<'_>>) -> String {
    let name = naming::instance(&observed.cluster.name_any(), serial);
    let data = fate(&name, instance.and_then(|i| i.data));
    let wal = observed.cluster.spec.wal_storage.as_ref();
    let wal = wal.and_then(|_| fate(&naming::wal_volume(&name), instance.and_then(|i| i.wal)));
    let seen: Vec<String> = data.into_iter().chain(wal).collect();
    format!(
        "a volume of the primary {name} is missing or being deleted ({}); nothing is touched; {}: give the volume back ({}), \
         or recover the last backup into a new Cluster (bootstrap.recovery)",
        seen.join(", "),
        last_backup(observed),
        Kubectl::of(&observed.cluster).list()
    )
}

/// What happened to a volume; `None` when it is there and stays.
fn fate(name: &str, volume: Option<&PersistentVolumeClaim>) -> Option<String> {
    match volume {
        None => Some(format!("PersistentVolumeClaim {name} does not exist")),
        Some(volume) => {
            let since = volume.metadata.deletion_timestamp.as_ref()?.0;
            Some(format!("PersistentVolumeClaim {name} is being deleted since {since}"))
        }
    }
}

fn last_backup(observed: &Observed) -> String {
    let status = observed.status();
    match (&status.last_successful_backup_name, &status.last_successful_backup) {
        (Some(name), Some(time)) => format!("Backup {name} of {} is the last that is known", time.0),
        _ => "no Backup is known".to_owned(),
    }
}
