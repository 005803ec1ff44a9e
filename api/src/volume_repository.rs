//! A repository on a Kubernetes volume, and how the instances reach it: the repository host of the cluster speaks S3 to
//! those who show the certificate of an instance.

use k8s_openapi::api::core::v1::PersistentVolumeClaimSpec;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::common::{LocalObjectReference, SecretKeySelector};
use crate::naming;
use crate::object_store::{BarmanObjectStore, UriStyle};

/// A volume.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct VolumeRepository {
    /// What the volume is like. `resources.requests.storage` is needed and may be raised later, when the storage class
    /// can grow volumes; other changes have no effect on a volume that exists. Default of `accessModes`:
    /// `[ReadWriteOnce]`.
    #[x_kube(validation = Rule::new("has(self.resources) && has(self.resources.requests) && 'storage' in self.resources.requests")
        .message("volumeClaimSpec needs a size: give resources.requests.storage, for example 50Gi"))]
    pub volume_claim_spec: PersistentVolumeClaimSpec,
}

// A claim holds only text, numbers and structures of these: nothing that is unlike itself.
impl Eq for VolumeRepository {}

/// The repository `name` of `cluster` as a store. Its bucket has the name of the repository; the Secret with the
/// certificate of the instances holds the authority of the cluster as well.
pub(crate) fn store(name: &str, cluster: &str, folder: &str) -> BarmanObjectStore {
    let member = naming::replication_secret(cluster);
    BarmanObjectStore {
        destination_path: format!("s3://{name}/{folder}"),
        endpoint_url: Some(naming::repo_host_endpoint(cluster)),
        endpoint_ca: Some(SecretKeySelector { name: member.clone(), key: "ca.crt".to_owned() }),
        client_certificate: Some(LocalObjectReference { name: member }),
        uri_style: Some(UriStyle::Path),
        ..BarmanObjectStore::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::Repository;

    #[test]
    fn a_volume_is_reached_with_the_certificate_of_the_instances() {
        let mut repository = Repository {
            name: "repo1".into(),
            volume: Some(VolumeRepository::default()),
            ..Repository::default()
        };
        let store = repository.store("prod", "pg");
        assert_eq!(store.destination_path, "s3://repo1/prod/pg/repo1");
        assert_eq!(store.endpoint_url.as_deref(), Some("https://pg-repo-host:8432"));
        assert_eq!(store.secret_names(), ["pg-replication"]);
        assert_eq!((store.server_name_or("x"), store.uri_style), ("pg", Some(UriStyle::Path)));
        assert_eq!(store.s3_credentials, None);
        repository.path = Some("/attic/".into());
        assert_eq!(repository.store("prod", "pg").destination_path, "s3://repo1/attic");
    }
}
