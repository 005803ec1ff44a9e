//! Volumes for claims: one directory of the host for each, kept until the claim is deleted.
//!
//! A claim of the class `bounded`, or annotated `lab.howdah/tmpfs: "true"`, gets a file system in memory of
//! exactly its size instead, so that a full disk is a real full disk.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{
    HostPathVolumeSource, PersistentVolume, PersistentVolumeClaim, PersistentVolumeSpec, Pod,
};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher;
use kube::{Client, Resource, ResourceExt};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, is_conflict, is_not_found};
use crate::events::{self, Events};
use crate::quantity;
use crate::volumes::store;

/// The storage class that the lab offers.
pub(crate) const STORAGE_CLASS: &str = "standard";
/// The storage class whose volumes are in memory and end at their size.
pub(crate) const BOUNDED_CLASS: &str = "bounded";
/// Who makes their volumes.
const PROVISIONER: &str = "lab.howdah/host-path";
/// Asks for a volume in memory of exactly the claim's size.
const TMPFS: &str = "lab.howdah/tmpfs";
/// Keeps a claim while a pod uses it.
const CLAIM_PROTECTION: &str = "kubernetes.io/pvc-protection";
/// Keeps a volume while a claim has it.
const VOLUME_PROTECTION: &str = "kubernetes.io/pv-protection";

/// Makes volumes for claims.
pub(crate) struct Claims {
    pub client: Client,
    pub events: Events,
    /// Where the directories are.
    pub root: PathBuf,
}

/// What is to be done about a claim.
#[derive(Debug, PartialEq, Eq)]
enum Todo {
    Nothing,
    Provision { size: u64, tmpfs: bool },
    Release,
    Reject(String),
}

fn decide(claim: &PersistentVolumeClaim, class: Option<&StorageClass>, in_use: bool) -> Todo {
    if claim.metadata.deletion_timestamp.is_some() {
        let held = claim.finalizers().iter().any(|name| name == CLAIM_PROTECTION);
        return if held && !in_use { Todo::Release } else { Todo::Nothing };
    }
    let spec = claim.spec.clone().unwrap_or_default();
    let bound = claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound");
    if bound || spec.selector.is_some() {
        return Todo::Nothing;
    }
    match (&spec.storage_class_name, class) {
        (Some(name), None) if !name.is_empty() => {
            return Todo::Reject(format!("storageclass.storage.k8s.io {name:?} not found"));
        }
        (_, Some(class)) if class.provisioner != PROVISIONER => return Todo::Nothing,
        _ => {}
    }
    let request = spec
        .resources
        .and_then(|resources| resources.requests)
        .and_then(|requests| requests.get("storage").map(|size| size.0.clone()))
        .unwrap_or_default();
    match quantity::units(&request) {
        Some(size) => {
            let tmpfs = spec.storage_class_name.as_deref() == Some(BOUNDED_CLASS)
                || claim.annotations().get(TMPFS).is_some_and(|value| value == "true");
            Todo::Provision { size, tmpfs }
        }
        None => Todo::Reject(format!("claim asks for {request:?} of storage, which is no quantity")),
    }
}

fn volume_name(claim: &PersistentVolumeClaim) -> String {
    format!("pvc-{}", claim.uid().unwrap_or_default())
}

impl Claims {
    fn path(&self, volume: &str) -> PathBuf {
        self.root.join("claims").join(volume)
    }

    /// Makes the storage classes: the one that claims without a class get, and the bounded one.
    pub async fn ensure_classes(&self) -> Result<(), Error> {
        let api: Api<StorageClass> = Api::all(self.client.clone());
        for (name, default) in [(STORAGE_CLASS, "true"), (BOUNDED_CLASS, "false")] {
            let annotation = "storageclass.kubernetes.io/is-default-class".to_owned();
            let class = StorageClass {
                metadata: ObjectMeta {
                    name: Some(name.to_owned()),
                    annotations: Some([(annotation, default.to_owned())].into()),
                    ..Default::default()
                },
                provisioner: PROVISIONER.to_owned(),
                reclaim_policy: Some("Delete".to_owned()),
                volume_binding_mode: Some("Immediate".to_owned()),
                ..Default::default()
            };
            match api.create(&PostParams::default(), &class).await {
                Ok(_) => {}
                Err(error) if is_conflict(&error) => {}
                Err(error) => return Err(Error::api("create", format!("StorageClass {name}"))(error)),
            }
        }
        Ok(())
    }

    async fn in_use(&self, claim: &PersistentVolumeClaim) -> Result<bool, kube::Error> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &claim.namespace().unwrap_or_default());
        let name = claim.name_any();
        Ok(pods.list(&ListParams::default()).await?.items.iter().any(|pod| {
            let over = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            !matches!(over, Some("Succeeded" | "Failed"))
                && pod
                    .spec
                    .iter()
                    .flat_map(|spec| spec.volumes.iter().flatten())
                    .filter_map(|volume| volume.persistent_volume_claim.as_ref())
                    .any(|source| source.claim_name == name)
        }))
    }

    async fn reconcile(&self, claim: &PersistentVolumeClaim) -> Result<(), Error> {
        let name = claim.name_any();
        let failed = |action| Error::api(action, format!("PersistentVolumeClaim {name}"));
        let class_name = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.clone());
        let class = match class_name.filter(|name| !name.is_empty()) {
            Some(class) => Api::<StorageClass>::all(self.client.clone())
                .get_opt(&class)
                .await
                .map_err(Error::api("get", format!("StorageClass {class}")))?,
            None => None,
        };
        let in_use = claim.metadata.deletion_timestamp.is_some()
            && self.in_use(claim).await.map_err(failed("look for users of"))?;
        let api: Api<PersistentVolumeClaim> =
            Api::namespaced(self.client.clone(), &claim.namespace().unwrap_or_default());
        match decide(claim, class.as_ref(), in_use) {
            Todo::Nothing => Ok(()),
            Todo::Reject(why) => {
                self.events.warning(&events::about(claim), "ProvisioningFailed", why);
                Ok(())
            }
            Todo::Release => {
                let rest: Vec<&String> =
                    claim.finalizers().iter().filter(|name| *name != CLAIM_PROTECTION).collect();
                let patch =
                    json!({"metadata": {"finalizers": rest, "resourceVersion": claim.resource_version()}});
                match api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await {
                    Ok(_) => Ok(()),
                    Err(error) if is_not_found(&error) => Ok(()),
                    Err(error) => Err(failed("release")(error)),
                }
            }
            Todo::Provision { size, tmpfs } => self.provision(&api, claim, size, tmpfs).await,
        }
    }

    async fn provision(
        &self,
        api: &Api<PersistentVolumeClaim>,
        claim: &PersistentVolumeClaim,
        size: u64,
        tmpfs: bool,
    ) -> Result<(), Error> {
        let (name, volume) = (claim.name_any(), volume_name(claim));
        let path = self.path(&volume);
        make(&path, size, tmpfs)?;
        let spec = claim.spec.clone().unwrap_or_default();
        let capacity = spec.resources.clone().and_then(|resources| resources.requests).unwrap_or_default();
        let mut annotations = std::collections::BTreeMap::from([(
            "pv.kubernetes.io/provisioned-by".to_owned(),
            PROVISIONER.to_owned(),
        )]);
        if tmpfs {
            annotations.insert(TMPFS.to_owned(), "true".to_owned());
        }
        let object = PersistentVolume {
            metadata: ObjectMeta {
                name: Some(volume.clone()),
                annotations: Some(annotations),
                ..Default::default()
            },
            spec: Some(PersistentVolumeSpec {
                capacity: Some(capacity.clone()),
                access_modes: spec.access_modes.clone(),
                claim_ref: Some(claim.object_ref(&())),
                persistent_volume_reclaim_policy: Some("Delete".to_owned()),
                storage_class_name: spec.storage_class_name.clone(),
                volume_mode: Some("Filesystem".to_owned()),
                host_path: Some(HostPathVolumeSource {
                    path: path.display().to_string(),
                    type_: Some("Directory".to_owned()),
                }),
                ..Default::default()
            }),
            ..Default::default()
        };
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        match volumes.create(&PostParams::default(), &object).await {
            Ok(_) => {}
            Err(error) if is_conflict(&error) => {}
            Err(error) => return Err(Error::api("create", format!("PersistentVolume {volume}"))(error)),
        }
        let bound = json!({"status": {"phase": "Bound"}});
        volumes
            .patch_status(&volume, &PatchParams::default(), &Patch::Merge(&bound))
            .await
            .map_err(Error::api("bind", format!("PersistentVolume {volume}")))?;
        let params = PatchParams::default();
        let failed = || Error::api("bind", format!("PersistentVolumeClaim {name}"));
        let patch = json!({
            "metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes",
                "pv.kubernetes.io/bound-by-controller": "yes"}},
            "spec": {"volumeName": volume},
        });
        api.patch(&name, &params, &Patch::Merge(&patch)).await.map_err(failed())?;
        let patch =
            json!({"status": {"phase": "Bound", "accessModes": spec.access_modes, "capacity": capacity}});
        api.patch_status(&name, &params, &Patch::Merge(&patch)).await.map_err(failed())?;
        let text = format!("Successfully provisioned volume {volume}");
        self.events.normal(&events::about(claim), "ProvisioningSucceeded", text);
        Ok(())
    }

    /// Removes volumes whose claims are gone, and remounts those in memory that a restart has lost.
    async fn sweep(&self) -> Result<(), Error> {
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        let listed =
            volumes.list(&ListParams::default()).await.map_err(Error::api("list", "PersistentVolumes"))?;
        for volume in listed.items {
            let ours = volume.annotations().get("pv.kubernetes.io/provisioned-by");
            if ours.is_none_or(|by| by != PROVISIONER) {
                continue;
            }
            let Some(claim) = volume.spec.as_ref().and_then(|spec| spec.claim_ref.clone()) else { continue };
            let claims: Api<PersistentVolumeClaim> =
                Api::namespaced(self.client.clone(), claim.namespace.as_deref().unwrap_or_default());
            let claim_name = claim.name.clone().unwrap_or_default();
            let found = claims
                .get_opt(&claim_name)
                .await
                .map_err(Error::api("get", format!("PersistentVolumeClaim {claim_name}")))?;
            let kept = found.is_some_and(|found| found.uid() == claim.uid);
            let path = self.path(&volume.name_any());
            if kept {
                if volume.annotations().contains_key(TMPFS) && path.exists() {
                    let size =
                        volume.spec.as_ref().and_then(|s| s.capacity.as_ref()?.get("storage").cloned());
                    make(&path, size.and_then(|size| quantity::units(&size.0)).unwrap_or(0), true)?;
                }
                continue;
            }
            self.remove(&volumes, &volume, path).await?;
        }
        Ok(())
    }

    async fn remove(
        &self,
        api: &Api<PersistentVolume>,
        volume: &PersistentVolume,
        path: PathBuf,
    ) -> Result<(), Error> {
        let name = volume.name_any();
        let removed = tokio::task::spawn_blocking(move || store::remove(&path)).await;
        removed.map_err(|error| Error::pod(format!("volume {name}: {error}")))??;
        let failed = || Error::api("delete", format!("PersistentVolume {name}"));
        match api.delete(&name, &DeleteParams::default()).await {
            Ok(_) => {}
            Err(error) if is_not_found(&error) => return Ok(()),
            Err(error) => return Err(failed()(error)),
        }
        if volume.finalizers().iter().any(|finalizer| finalizer == VOLUME_PROTECTION) {
            let rest: Vec<&String> =
                volume.finalizers().iter().filter(|name| *name != VOLUME_PROTECTION).collect();
            let patch = json!({"metadata": {"finalizers": rest}});
            match api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await {
                Ok(_) => {}
                Err(error) if is_not_found(&error) => {}
                Err(error) => return Err(failed()(error)),
            }
        }
        Ok(())
    }

    /// Serves claims until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let api: Api<PersistentVolumeClaim> = Api::all(self.client.clone());
        let mut stream = watcher::watcher(api.clone(), watcher::Config::default())
            .default_backoff()
            .touched_objects()
            .boxed();
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let claims = tokio::select! {
                () = stop.cancelled() => return,
                next = stream.try_next() => match next {
                    Ok(Some(claim)) => vec![claim],
                    Ok(None) => return,
                    Err(error) => {
                        tracing::debug!(%error, "the watch on claims was interrupted");
                        continue;
                    }
                },
                // Claims wait for classes to appear and for pods to end; volumes for claims to go.
                _ = ticks.tick() => {
                    if let Err(error) = self.sweep().await {
                        tracing::debug!(error = error.chain(), "volumes are looked at again later");
                    }
                    api.list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default()
                }
            };
            for claim in claims {
                if let Err(error) = self.reconcile(&claim).await {
                    tracing::debug!(claim = claim.name_any(), error = error.chain(), "trying again");
                }
            }
        }
    }
}

fn make(path: &Path, size: u64, tmpfs: bool) -> Result<(), Error> {
    if tmpfs { store::memory(path, Some(size)) } else { store::directory(path) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(value: serde_json::Value) -> PersistentVolumeClaim {
        serde_json::from_value(value).unwrap()
    }

    fn class(provisioner: &str) -> StorageClass {
        StorageClass { provisioner: provisioner.to_owned(), ..Default::default() }
    }

    #[test]
    fn decisions() {
        let fresh = json!({"metadata": {"name": "c", "annotations": {TMPFS: "true"}},
            "spec": {"resources": {"requests": {"storage": "64Mi"}}}});
        assert_eq!(
            decide(&claim(fresh.clone()), None, false),
            Todo::Provision { size: 64 << 20, tmpfs: true }
        );
        let bounded = json!({"spec": {"storageClassName": BOUNDED_CLASS,
            "resources": {"requests": {"storage": "1Mi"}}}});
        let of_class = decide(&claim(bounded), Some(&class(PROVISIONER)), false);
        assert_eq!(of_class, Todo::Provision { size: 1 << 20, tmpfs: true });
        let mut named = fresh.clone();
        named["spec"]["storageClassName"] = "fast".into();
        assert!(matches!(decide(&claim(named.clone()), None, false), Todo::Reject(_)));
        assert_eq!(decide(&claim(named.clone()), Some(&class("other")), false), Todo::Nothing);
        assert!(matches!(decide(&claim(named), Some(&class(PROVISIONER)), false), Todo::Provision { .. }));
        let mut bound = fresh.clone();
        bound["status"]["phase"] = "Bound".into();
        assert_eq!(decide(&claim(bound), None, false), Todo::Nothing);
        let mut ending = fresh;
        ending["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        ending["metadata"]["finalizers"] = json!([CLAIM_PROTECTION]);
        assert_eq!(decide(&claim(ending.clone()), None, true), Todo::Nothing);
        assert_eq!(decide(&claim(ending), None, false), Todo::Release);
    }
}
