//! The files of Secret, ConfigMap, downward API and projected volumes. Pure: objects and tokens are handed in.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, DownwardAPIVolumeFile, KeyToPath, Pod, ServiceAccountTokenProjection, Volume,
};

use crate::env::{self, Facts, Objects};
use crate::error::Error;

/// One file of a volume, by its path in it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct File {
    pub content: Vec<u8>,
    pub mode: u32,
}

impl std::fmt::Debug for File {
    /// Without the content, which may be a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("File").field("bytes", &self.content.len()).field("mode", &self.mode).finish()
    }
}

/// Tokens by audience and lifetime.
pub(crate) type Tokens = BTreeMap<(Option<String>, i64), String>;

fn token_key(projection: &ServiceAccountTokenProjection) -> (Option<String>, i64) {
    (projection.audience.clone().filter(|a| !a.is_empty()), projection.expiration_seconds.unwrap_or(3600))
}

/// The tokens that a volume needs.
pub(crate) fn token_requests(volume: &Volume) -> Vec<(Option<String>, i64)> {
    volume
        .projected
        .iter()
        .flat_map(|projected| projected.sources.iter().flatten())
        .filter_map(|source| source.service_account_token.as_ref().map(token_key))
        .collect()
}

/// All files of a volume.
pub(crate) fn files_of(
    pod: &Pod,
    volume: &Volume,
    facts: &Facts,
    objects: &Objects,
    tokens: &Tokens,
) -> Result<BTreeMap<String, File>, Error> {
    let mut files = BTreeMap::new();
    if let Some(secret) = &volume.secret {
        let name = secret.secret_name.clone().unwrap_or_default();
        let from = Keys { kind: "Secret", name: &name, optional: secret.optional == Some(true) };
        from.add(objects.secrets.get(&name), &secret.items, mode(secret.default_mode), &mut files)?;
    }
    if let Some(map) = &volume.config_map {
        let from = Keys { kind: "ConfigMap", name: &map.name, optional: map.optional == Some(true) };
        from.add(objects.config_maps.get(&map.name), &map.items, mode(map.default_mode), &mut files)?;
    }
    if let Some(downward) = &volume.downward_api {
        downward_files(pod, &downward.items, mode(downward.default_mode), facts, &mut files)?;
    }
    if let Some(projected) = &volume.projected {
        let default = mode(projected.default_mode);
        for source in projected.sources.iter().flatten() {
            if let Some(secret) = &source.secret {
                let from =
                    Keys { kind: "Secret", name: &secret.name, optional: secret.optional == Some(true) };
                from.add(objects.secrets.get(&secret.name), &secret.items, default, &mut files)?;
            }
            if let Some(map) = &source.config_map {
                let from = Keys { kind: "ConfigMap", name: &map.name, optional: map.optional == Some(true) };
                from.add(objects.config_maps.get(&map.name), &map.items, default, &mut files)?;
            }
            if let Some(downward) = &source.downward_api {
                downward_files(pod, &downward.items, default, facts, &mut files)?;
            }
            if let Some(token) = &source.service_account_token {
                let value = tokens
                    .get(&token_key(token))
                    .ok_or_else(|| Error::pod(format!("volume {}: no token yet", volume.name)))?;
                let content = value.clone().into_bytes();
                files.insert(token.path.clone(), File { content, mode: 0o600 });
            }
        }
    }
    if let Some(path) = files.keys().find(|path| !is_inside(path)) {
        return Err(Error::pod(format!("volume {}: path {path} leaves the volume", volume.name)));
    }
    Ok(files)
}

fn is_inside(path: &str) -> bool {
    !path.starts_with('/') && !path.split('/').any(|part| part == ".." || part.is_empty())
}

fn mode(given: Option<i32>) -> u32 {
    given.and_then(|mode| u32::try_from(mode).ok()).unwrap_or(0o644)
}

struct Keys<'a> {
    kind: &'static str,
    name: &'a str,
    optional: bool,
}

impl Keys<'_> {
    fn add(
        &self,
        data: Option<&BTreeMap<String, Vec<u8>>>,
        items: &Option<Vec<KeyToPath>>,
        default: u32,
        files: &mut BTreeMap<String, File>,
    ) -> Result<(), Error> {
        let Some(data) = data else {
            let missing = Error::pod(format!("{} {:?} not found", self.kind, self.name));
            return if self.optional { Ok(()) } else { Err(missing) };
        };
        let Some(items) = items.as_deref().filter(|items| !items.is_empty()) else {
            for (key, value) in data {
                files.insert(key.clone(), File { content: value.clone(), mode: default });
            }
            return Ok(());
        };
        for item in items {
            match data.get(&item.key) {
                Some(value) => {
                    let mode = item.mode.and_then(|mode| u32::try_from(mode).ok()).unwrap_or(default);
                    files.insert(item.path.clone(), File { content: value.clone(), mode });
                }
                None if self.optional => {}
                None => {
                    return Err(Error::pod(format!(
                        "references non-existent {} key: {} in {:?}",
                        self.kind, item.key, self.name
                    )));
                }
            }
        }
        Ok(())
    }
}

fn downward_files(
    pod: &Pod,
    items: &Option<Vec<DownwardAPIVolumeFile>>,
    default: u32,
    facts: &Facts,
    files: &mut BTreeMap<String, File>,
) -> Result<(), Error> {
    for item in items.iter().flatten() {
        let content = if let Some(field) = &item.field_ref {
            env::field_value(pod, &field.field_path, facts)?
        } else if let Some(resource) = &item.resource_field_ref {
            let wanted = resource.container_name.as_deref().unwrap_or_default();
            let container: &Container = pod
                .spec
                .iter()
                .flat_map(|spec| &spec.containers)
                .find(|container| container.name == wanted)
                .ok_or_else(|| Error::pod(format!("downward API: no container {wanted:?}")))?;
            let divisor = resource.divisor.as_ref().map(|divisor| divisor.0.as_str());
            env::resource_value(container, &resource.resource, divisor)?
        } else {
            continue;
        };
        let mode = item.mode.and_then(|mode| u32::try_from(mode).ok()).unwrap_or(default);
        files.insert(item.path.clone(), File { content: content.into_bytes(), mode });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn files(volume: serde_json::Value, objects: &Objects) -> Result<BTreeMap<String, File>, Error> {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n"}})).unwrap();
        let volume: Volume = serde_json::from_value(volume).unwrap();
        let tokens: Tokens = [((None, 3607), "token".to_owned())].into();
        files_of(&pod, &volume, &Facts::default(), objects, &tokens)
    }

    fn objects() -> Objects {
        let data: BTreeMap<String, Vec<u8>> =
            [("a".into(), b"1".to_vec()), ("b".into(), b"2".to_vec())].into();
        Objects { secrets: [("s".into(), data.clone())].into(), config_maps: [("m".into(), data)].into() }
    }

    #[test]
    fn keys_items_and_modes() {
        let all = files(json!({"name": "v", "secret": {"secretName": "s", "defaultMode": 256}}), &objects())
            .unwrap();
        assert_eq!(all["a"], File { content: b"1".to_vec(), mode: 0o400 });
        assert_eq!(all.len(), 2);
        let some = files(
            json!({"name": "v", "configMap": {"name": "m", "items": [{"key": "b", "path": "x/y", "mode": 493}]}}),
            &objects(),
        )
        .unwrap();
        assert_eq!(some, [("x/y".to_owned(), File { content: b"2".to_vec(), mode: 0o755 })].into());
    }

    #[test]
    fn projections_join() {
        let volume = json!({"name": "v", "projected": {"sources": [
            {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
            {"configMap": {"name": "m", "items": [{"key": "a", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
        ]}});
        let all = files(volume, &objects()).unwrap();
        assert_eq!(all["token"].content, b"token");
        assert_eq!(all["namespace"].content, b"n");
        assert_eq!(all.keys().collect::<Vec<_>>(), ["ca.crt", "namespace", "token"]);
    }

    #[test]
    fn what_is_missing_or_outside_is_refused() {
        for volume in [
            json!({"name": "v", "secret": {"secretName": "none"}}),
            json!({"name": "v", "secret": {"secretName": "s", "items": [{"key": "none", "path": "x"}]}}),
            json!({"name": "v", "secret": {"secretName": "s", "items": [{"key": "a", "path": "../x"}]}}),
        ] {
            assert!(files(volume.clone(), &objects()).is_err(), "{volume}");
        }
        let optional = json!({"name": "v", "secret": {"secretName": "none", "optional": true}});
        assert!(files(optional, &objects()).unwrap().is_empty());
    }
}
