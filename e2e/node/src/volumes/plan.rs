//! What a pod's spec asks for in volumes and mounts. Pure.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Volume, VolumeMount};

use crate::error::Error;
use crate::quantity;

/// Where the service account's token is looked for by every client.
pub(crate) const TOKEN_DIR: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// The volume that is added for it when nobody else has.
pub(crate) const TOKEN_VOLUME: &str = "kube-api-access-lab";

/// Where a volume's contents come from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Source {
    /// An empty directory; in memory or limited when asked for.
    Empty { memory: bool, limit: Option<u64> },
    /// A claim's directory.
    Claim { name: String },
    /// A directory or file of the host.
    Host { path: PathBuf },
    /// Files made from API objects; the volume itself says which.
    Files,
}

/// One volume of a pod.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct VolumePlan {
    pub name: String,
    pub source: Source,
    pub read_only: bool,
    /// What the spec says, for making files.
    pub volume: Volume,
}

/// The volumes of a pod, the service account's token among them.
pub(crate) fn volumes_of(pod: &Pod) -> Result<Vec<VolumePlan>, Error> {
    let Some(spec) = &pod.spec else { return Ok(Vec::new()) };
    let mut volumes: Vec<Volume> = spec.volumes.clone().unwrap_or_default();
    if wants_token(spec) {
        volumes.push(token_volume());
    }
    volumes.into_iter().map(plan).collect()
}

fn plan(volume: Volume) -> Result<VolumePlan, Error> {
    let mut read_only = false;
    let source = if let Some(empty) = &volume.empty_dir {
        let limit = match &empty.size_limit {
            None => None,
            Some(size) => Some(quantity::units(&size.0).ok_or_else(|| {
                Error::pod(format!("volume {}: sizeLimit {} is no quantity", volume.name, size.0))
            })?),
        };
        Source::Empty { memory: empty.medium.as_deref() == Some("Memory"), limit: limit.filter(|l| *l > 0) }
    } else if let Some(claim) = &volume.persistent_volume_claim {
        read_only = claim.read_only == Some(true);
        Source::Claim { name: claim.claim_name.clone() }
    } else if let Some(host) = &volume.host_path {
        Source::Host { path: PathBuf::from(&host.path) }
    } else if volume.secret.is_some()
        || volume.config_map.is_some()
        || volume.downward_api.is_some()
        || volume.projected.is_some()
    {
        read_only = true;
        Source::Files
    } else {
        return Err(Error::pod(format!("volume {}: this kind of volume does not exist here", volume.name)));
    };
    Ok(VolumePlan { name: volume.name.clone(), source, read_only, volume })
}

/// Whether the token has to be added: nobody declined it and the API server has not added it itself.
fn wants_token(spec: &PodSpec) -> bool {
    spec.automount_service_account_token != Some(false)
        && !spec
            .containers
            .iter()
            .flat_map(|container| container.volume_mounts.iter().flatten())
            .any(|mount| mount.mount_path.trim_end_matches('/') == TOKEN_DIR)
}

fn token_volume() -> Volume {
    use k8s_openapi::api::core::v1::{
        ConfigMapProjection, DownwardAPIProjection, DownwardAPIVolumeFile, KeyToPath, ObjectFieldSelector,
        ProjectedVolumeSource, ServiceAccountTokenProjection, VolumeProjection,
    };
    let token = VolumeProjection {
        service_account_token: Some(ServiceAccountTokenProjection {
            path: "token".to_owned(),
            expiration_seconds: Some(3607),
            audience: None,
        }),
        ..Default::default()
    };
    let authority = VolumeProjection {
        config_map: Some(ConfigMapProjection {
            name: "kube-root-ca.crt".to_owned(),
            items: Some(vec![KeyToPath { key: "ca.crt".into(), path: "ca.crt".into(), mode: None }]),
            optional: None,
        }),
        ..Default::default()
    };
    let namespace = VolumeProjection {
        downward_api: Some(DownwardAPIProjection {
            items: Some(vec![DownwardAPIVolumeFile {
                path: "namespace".to_owned(),
                field_ref: Some(ObjectFieldSelector {
                    field_path: "metadata.namespace".to_owned(),
                    api_version: None,
                }),
                ..Default::default()
            }]),
        }),
        ..Default::default()
    };
    Volume {
        name: TOKEN_VOLUME.to_owned(),
        projected: Some(ProjectedVolumeSource {
            default_mode: Some(0o644),
            sources: Some(vec![token, authority, namespace]),
        }),
        ..Default::default()
    }
}

/// A mount with its volume and the place inside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MountPlan {
    pub volume: String,
    pub target: PathBuf,
    pub sub_path: Option<PathBuf>,
    pub read_only: bool,
}

/// The mounts of a container. `env` is for `subPathExpr`.
pub(crate) fn mounts_of(
    container: &Container,
    volumes: &[VolumePlan],
    env: &std::collections::BTreeMap<String, String>,
) -> Result<Vec<MountPlan>, Error> {
    let mut mounts = Vec::new();
    for mount in container.volume_mounts.iter().flatten() {
        let volume = volumes.iter().find(|volume| volume.name == mount.name).ok_or_else(|| {
            Error::pod(format!("container {}: no volume named {}", container.name, mount.name))
        })?;
        mounts.push(MountPlan {
            volume: mount.name.clone(),
            target: Path::new("/").join(&mount.mount_path),
            sub_path: sub_path(mount, env)?,
            read_only: volume.read_only || mount.read_only == Some(true),
        });
    }
    if volumes.iter().any(|volume| volume.name == TOKEN_VOLUME)
        && !mounts.iter().any(|mount| mount.target == Path::new(TOKEN_DIR))
    {
        mounts.push(MountPlan {
            volume: TOKEN_VOLUME.to_owned(),
            target: PathBuf::from(TOKEN_DIR),
            sub_path: None,
            read_only: true,
        });
    }
    Ok(mounts)
}

fn sub_path(
    mount: &VolumeMount,
    env: &std::collections::BTreeMap<String, String>,
) -> Result<Option<PathBuf>, Error> {
    let text = match (&mount.sub_path, &mount.sub_path_expr) {
        (Some(path), _) if !path.is_empty() => path.clone(),
        (_, Some(expression)) if !expression.is_empty() => crate::env::expand(expression, env),
        _ => return Ok(None),
    };
    let path = PathBuf::from(&text);
    if path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        Ok(Some(path))
    } else {
        Err(Error::pod(format!("mount {}: subPath {text} leaves its volume", mount.mount_path)))
    }
}

/// The objects that a pod refers to by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct References {
    pub secrets: BTreeSet<String>,
    pub config_maps: BTreeSet<String>,
}

/// Everything that has to be fetched before `pod` can be given its volumes and environment.
pub(crate) fn references(pod: &Pod, volumes: &[VolumePlan]) -> References {
    let mut found = References::default();
    for volume in volumes.iter().map(|plan| &plan.volume) {
        if let Some(secret) = &volume.secret {
            found.secrets.extend(secret.secret_name.clone());
        }
        if let Some(map) = &volume.config_map {
            found.config_maps.insert(map.name.clone());
        }
        for source in volume.projected.iter().flat_map(|p| p.sources.iter().flatten()) {
            found.secrets.extend(source.secret.as_ref().map(|s| s.name.clone()));
            found.config_maps.extend(source.config_map.as_ref().map(|m| m.name.clone()));
        }
    }
    let spec = pod.spec.as_ref();
    let containers =
        spec.into_iter().flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers));
    for container in containers {
        for source in container.env_from.iter().flatten() {
            found.secrets.extend(source.secret_ref.as_ref().map(|s| s.name.clone()));
            found.config_maps.extend(source.config_map_ref.as_ref().map(|m| m.name.clone()));
        }
        for source in container.env.iter().flatten().filter_map(|env| env.value_from.as_ref()) {
            found.secrets.extend(source.secret_key_ref.as_ref().map(|s| s.name.clone()));
            found.config_maps.extend(source.config_map_key_ref.as_ref().map(|m| m.name.clone()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    }

    #[test]
    fn sources() {
        let pod = pod(json!({"automountServiceAccountToken": false, "containers": [], "volumes": [
            {"name": "tmp", "emptyDir": {}},
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}},
            {"name": "data", "persistentVolumeClaim": {"claimName": "c-1", "readOnly": true}},
            {"name": "s", "secret": {"secretName": "x"}},
        ]}));
        let volumes = volumes_of(&pod).unwrap();
        let sources: Vec<_> = volumes.iter().map(|v| (v.source.clone(), v.read_only)).collect();
        assert_eq!(
            sources,
            [
                (Source::Empty { memory: false, limit: None }, false),
                (Source::Empty { memory: true, limit: Some(64 << 20) }, false),
                (Source::Claim { name: "c-1".into() }, true),
                (Source::Files, true),
            ]
        );
        assert_eq!(references(&pod, &volumes).secrets, ["x".to_owned()].into());
    }

    #[test]
    fn the_token_is_added_once_and_not_when_declined() {
        let plain = json!({"containers": [{"name": "c"}]});
        let added = volumes_of(&pod(plain)).unwrap();
        assert_eq!(added.len(), 1);
        let container: Container = serde_json::from_value(json!({"name": "c"})).unwrap();
        let mounts = mounts_of(&container, &added, &BTreeMap::new()).unwrap();
        assert_eq!(mounts[0].target, Path::new(TOKEN_DIR));
        let by_server = json!({"containers": [{"name": "c", "volumeMounts": [
            {"name": "kube-api-access-x", "mountPath": TOKEN_DIR}]}],
            "volumes": [{"name": "kube-api-access-x", "projected": {"sources": []}}]});
        assert_eq!(volumes_of(&pod(by_server)).unwrap().len(), 1);
        let declined = json!({"containers": [], "automountServiceAccountToken": false});
        assert!(volumes_of(&pod(declined)).unwrap().is_empty());
    }

    #[test]
    fn sub_paths_stay_inside() {
        let volumes = volumes_of(&pod(json!({"automountServiceAccountToken": false, "containers": [],
            "volumes": [{"name": "v", "emptyDir": {}}]})))
        .unwrap();
        let mounts = |mount: serde_json::Value| {
            let container: Container =
                serde_json::from_value(json!({"name": "c", "volumeMounts": [mount]})).unwrap();
            mounts_of(&container, &volumes, &[("N".to_owned(), "1".to_owned())].into())
        };
        let ok = mounts(json!({"name": "v", "mountPath": "/etc/passwd", "subPathExpr": "a/$(N)"})).unwrap();
        assert_eq!(ok[0].sub_path.as_deref(), Some(Path::new("a/1")));
        assert!(mounts(json!({"name": "v", "mountPath": "/x", "subPath": "../up"})).is_err());
        assert!(mounts(json!({"name": "none", "mountPath": "/x"})).is_err());
    }
}
