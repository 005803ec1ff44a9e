//! The volumes of an instance.

use std::collections::BTreeMap;

use howdah_api::cluster::StorageConfiguration;
use howdah_api::{Cluster, labels, naming};
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements,
};
use kube::ResourceExt;

use super::child_meta;

/// Data volume first, then the WAL volume when there is one.
#[must_use]
pub fn volumes(cluster: &Cluster, serial: i32) -> Vec<PersistentVolumeClaim> {
    let instance = naming::instance(&cluster.name_any(), serial);
    let mut list = vec![claim(cluster, serial, instance.clone(), "data", &cluster.spec.storage)];
    if let Some(wal) = &cluster.spec.wal_storage {
        list.push(claim(cluster, serial, naming::wal_volume(&instance), "wal", wal));
    }
    list
}

fn claim(
    cluster: &Cluster,
    serial: i32,
    name: String,
    role: &str,
    storage: &StorageConfiguration,
) -> PersistentVolumeClaim {
    let mut metadata = child_meta(cluster, name);
    let labels = metadata.labels.get_or_insert_default();
    labels.insert(labels::INSTANCE.to_owned(), naming::instance(&cluster.name_any(), serial));
    labels.insert(labels::VOLUME_ROLE.to_owned(), role.to_owned());
    metadata.annotations = Some(BTreeMap::from([(labels::SERIAL.to_owned(), serial.to_string())]));
    PersistentVolumeClaim {
        metadata,
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            storage_class_name: storage.storage_class.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([("storage".to_owned(), storage.quantity())])),
                limits: None,
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}
