//! Builds the Backup of a slot. Pure.

use std::collections::BTreeMap;

use howdah_api::backup::{Backup, BackupSpec};
use howdah_api::scheduled_backup::BackupOwner;
use howdah_api::{Cluster, ScheduledBackup, labels};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{Resource, ResourceExt};

use super::fetch::Observed;

/// The Backup named `name`.
#[must_use]
pub fn child(observed: &Observed, name: &str, immediate: bool) -> Backup {
    let schedule = &observed.schedule;
    let spec = &schedule.spec;
    let mut labels = BTreeMap::from([
        (labels::CLUSTER.to_owned(), spec.cluster.name.clone()),
        (labels::SCHEDULED_BACKUP.to_owned(), schedule.name_any()),
    ]);
    if immediate {
        labels.insert(labels::IMMEDIATE_BACKUP.to_owned(), "true".to_owned());
    }
    let owner = match spec.backup_owner_reference.unwrap_or_default() {
        BackupOwner::None => None,
        BackupOwner::Itself => Some(reference::<ScheduledBackup>(schedule.name_any(), schedule.uid())),
        BackupOwner::Cluster => {
            observed.cluster.as_ref().map(|c| reference::<Cluster>(c.name_any(), c.uid()))
        }
    };
    Backup {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: schedule.namespace(),
            labels: Some(labels),
            owner_references: owner.map(|o| vec![o]),
            ..ObjectMeta::default()
        },
        spec: BackupSpec {
            cluster: spec.cluster.clone(),
            repository: spec.repository.clone(),
            type_: spec.type_,
            target: spec.target,
            immediate_checkpoint: spec.immediate_checkpoint,
            deletion_policy: spec.deletion_policy,
        },
        status: None,
    }
}

fn reference<K: Resource<DynamicType = ()>>(name: String, uid: Option<String>) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name,
        uid: uid.unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}
