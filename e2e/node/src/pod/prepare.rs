//! A pod's directories and files before its first container starts, and while it runs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{
    ConfigMap, PersistentVolume, PersistentVolumeClaim, Secret, ServiceAccount,
};
use kube::api::{Api, PostParams};

use super::{PodRuntime, Stop};
use crate::env::{Facts, Objects};
use crate::error::{Error, is_not_found};
use crate::volumes::{self, References, Source, Tokens, VolumePlan, store};

/// How often files from API objects are looked at again.
const REFRESH: Duration = Duration::from_secs(10);

/// Fetches what a pod refers to. What does not exist is left out: whoever needs it says so.
pub(super) async fn objects(pod: &PodRuntime, references: &References) -> Result<Objects, Error> {
    let client = &pod.shared.client;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &pod.namespace);
    let config_maps: Api<ConfigMap> = Api::namespaced(client.clone(), &pod.namespace);
    let mut objects = Objects::default();
    for name in &references.secrets {
        let found = secrets.get_opt(name).await.map_err(Error::api("get", format!("Secret {name}")))?;
        if let Some(secret) = found {
            let data = secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0));
            objects.secrets.insert(name.clone(), data.collect());
        }
    }
    for name in &references.config_maps {
        let found =
            config_maps.get_opt(name).await.map_err(Error::api("get", format!("ConfigMap {name}")))?;
        let data = match (found, &pod.shared.api_server.ca_pem) {
            (Some(map), _) => {
                let text =
                    map.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.into_bytes()));
                let binary =
                    map.binary_data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0));
                text.chain(binary).collect()
            }
            // Nobody publishes it where no controller manager runs.
            (None, Some(pem)) if name == "kube-root-ca.crt" => {
                BTreeMap::from([("ca.crt".to_owned(), pem.clone().into_bytes())])
            }
            (None, _) => continue,
        };
        objects.config_maps.insert(name.clone(), data);
    }
    Ok(objects)
}

/// What is known about the pod only here.
pub(super) fn facts(pod: &PodRuntime) -> Facts {
    Facts {
        pod_ip: pod.address().map(|address| address.to_string()).unwrap_or_default(),
        host_ip: pod.shared.host_ip.clone(),
    }
}

async fn tokens(pod: &PodRuntime, wanted: Vec<(Option<String>, i64)>) -> Result<Tokens, Error> {
    let mut tokens = Tokens::new();
    if wanted.is_empty() {
        return Ok(tokens);
    }
    let spec = pod.pod().spec.unwrap_or_default();
    let account =
        spec.service_account_name.filter(|name| !name.is_empty()).unwrap_or_else(|| "default".to_owned());
    let api: Api<ServiceAccount> = Api::namespaced(pod.shared.client.clone(), &pod.namespace);
    for (audience, seconds) in wanted {
        let bound = k8s_openapi::api::authentication::v1::BoundObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: Some(pod.name.clone()),
            uid: Some(pod.uid.clone()),
        };
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: audience.clone().map(|audience| vec![audience]),
                expiration_seconds: Some(seconds),
                bound_object_ref: Some(bound),
            }),
            ..Default::default()
        };
        let answer = api
            .create_token_request(&account, &PostParams::default(), &request)
            .await
            .map_err(Error::api("request a token for", format!("ServiceAccount {account}")))?;
        let token = answer.status.and_then(|status| status.token).unwrap_or_default();
        tokens.insert((audience, seconds), token);
    }
    Ok(tokens)
}

/// Makes and fills everything a pod's containers will see.
pub(super) async fn volumes(pod: &PodRuntime) -> Result<Vec<VolumePlan>, Error> {
    let object = pod.pod();
    let plans = volumes::volumes_of(&object)?;
    let dir = pod.shared.pod_dir(&pod.uid);
    for sub in ["volumes", "logs", "etc"] {
        let path = dir.join(sub);
        std::fs::create_dir_all(&path).map_err(Error::file("create", path))?;
    }
    if let Some(address) = pod.address() {
        pod.shared.names.add(&object, address, dir.join("etc/hosts"));
    }
    for (name, text) in [
        ("resolv.conf", pod.shared.resolv_conf.clone()),
        ("hostname", format!("{}\n", crate::shared::hostname(&object))),
    ] {
        let path = dir.join("etc").join(name);
        std::fs::write(&path, text).map_err(Error::file("write", path))?;
    }
    for plan in &plans {
        let path = dir.join("volumes").join(&plan.name);
        match &plan.source {
            Source::Empty { memory: false, limit: None }
            | Source::Empty { memory: false, limit: Some(_) } => {
                // A limit on a disk-backed directory is enforced by eviction in real life, not by the file system.
                store::directory(&path)?;
            }
            Source::Empty { memory: true, limit } => store::memory(&path, *limit)?,
            Source::Claim { name } => {
                claim_directory(pod, name).await?;
            }
            Source::Host { .. } | Source::Files => {}
        }
    }
    fill(pod, &plans, &mut TokenCache::default()).await?;
    Ok(plans)
}

/// The host directory behind a claim.
pub(super) async fn claim_directory(pod: &PodRuntime, name: &str) -> Result<std::path::PathBuf, Error> {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(pod.shared.client.clone(), &pod.namespace);
    let claim = match claims.get(name).await {
        Ok(claim) => claim,
        Err(error) if is_not_found(&error) => {
            return Err(Error::pod(format!("persistentvolumeclaim {name:?} not found")));
        }
        Err(error) => return Err(Error::api("get", format!("PersistentVolumeClaim {name}"))(error)),
    };
    if claim.metadata.deletion_timestamp.is_some() {
        return Err(Error::pod(format!("persistentvolumeclaim {name:?} is being deleted")));
    }
    let bound = claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound");
    let volume = claim
        .spec
        .and_then(|spec| spec.volume_name)
        .filter(|_| bound)
        .ok_or_else(|| Error::pod(format!("persistentvolumeclaim {name:?} is not bound")))?;
    let volumes: Api<PersistentVolume> = Api::all(pod.shared.client.clone());
    let volume_object =
        volumes.get(&volume).await.map_err(Error::api("get", format!("PersistentVolume {volume}")))?;
    volume_object
        .spec
        .and_then(|spec| spec.host_path)
        .map(|host| std::path::PathBuf::from(host.path))
        .ok_or_else(|| Error::pod(format!("persistentvolume {volume:?} is no directory of this host")))
}

/// Tokens already requested, and when.
#[derive(Default)]
struct TokenCache(BTreeMap<String, (Instant, Duration, Tokens)>);

/// Writes the files of all volumes that come from API objects.
async fn fill(pod: &PodRuntime, plans: &[VolumePlan], cache: &mut TokenCache) -> Result<(), Error> {
    let object = pod.pod();
    let objects = objects(pod, &volumes::references(&object, plans)).await?;
    for plan in plans.iter().filter(|plan| plan.source == Source::Files) {
        let wanted = volumes::token_requests(&plan.volume);
        let shortest = wanted.iter().map(|(_, seconds)| *seconds).min().unwrap_or(3600);
        // Renewed at four fifths of their life, as kubelets do.
        let life = Duration::from_secs(u64::try_from(shortest).unwrap_or(0)) * 4 / 5;
        let current = cache.0.get(&plan.name).filter(|(since, life, _)| since.elapsed() < *life);
        let tokens = match current {
            Some((_, _, tokens)) => tokens.clone(),
            None => {
                let fresh = tokens(pod, wanted).await?;
                cache.0.insert(plan.name.clone(), (Instant::now(), life, fresh.clone()));
                fresh
            }
        };
        let files = volumes::files_of(&object, &plan.volume, &facts(pod), &objects, &tokens)?;
        store::write_files(&pod.shared.pod_dir(&pod.uid).join("volumes").join(&plan.name), &files)?;
    }
    Ok(())
}

/// Keeps files from API objects what the objects say, and tokens valid.
pub(super) async fn keep_fresh(pod: Arc<PodRuntime>) {
    let mut cache = TokenCache::default();
    loop {
        tokio::time::sleep(REFRESH).await;
        if *pod.stop.borrow() != Stop::No {
            return;
        }
        let Ok(plans) = volumes::volumes_of(&pod.pod()) else { return };
        if !plans.iter().any(|plan| plan.source == Source::Files) {
            return;
        }
        if !pod.shared.pod_dir(&pod.uid).join("volumes").exists() {
            continue;
        }
        if let Err(error) = fill(&pod, &plans, &mut cache).await {
            // The old files stay; an object that is gone is an error to new containers only.
            tracing::debug!(pod = pod.name, error = error.chain(), "volumes stay as they are");
        }
    }
}
