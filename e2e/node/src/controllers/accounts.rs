//! What every namespace has to have before a pod can run in it: the default service account and the API
//! server's authority.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, is_conflict};

/// The ConfigMap in which pods find the authority.
const AUTHORITY: &str = "kube-root-ca.crt";

async fn furnish(client: &Client, namespace: &str, authority: Option<&str>) -> Result<(), Error> {
    let named = |name: &str| ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        ..Default::default()
    };
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let account = ServiceAccount { metadata: named("default"), ..Default::default() };
    match accounts.create(&PostParams::default(), &account).await {
        Ok(_) => {}
        Err(error) if is_conflict(&error) => {}
        Err(error) => return Err(Error::api("create", format!("ServiceAccount {namespace}/default"))(error)),
    }
    let Some(pem) = authority else { return Ok(()) };
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let map = ConfigMap {
        metadata: named(AUTHORITY),
        data: Some(BTreeMap::from([("ca.crt".to_owned(), pem.to_owned())])),
        ..Default::default()
    };
    match maps.create(&PostParams::default(), &map).await {
        Ok(_) => Ok(()),
        Err(error) if is_conflict(&error) => Ok(()),
        Err(error) => Err(Error::api("create", format!("ConfigMap {namespace}/{AUTHORITY}"))(error)),
    }
}

/// Furnishes namespaces until `stop`.
pub(crate) async fn run(client: Client, authority: Option<String>, stop: CancellationToken) {
    let api: Api<Namespace> = Api::all(client.clone());
    let mut stream =
        watcher::watcher(api, watcher::Config::default()).default_backoff().applied_objects().boxed();
    loop {
        let next = tokio::select! {
            () = stop.cancelled() => return,
            next = stream.try_next() => next,
        };
        let namespace = match next {
            Ok(Some(namespace)) => namespace,
            Ok(None) => return,
            Err(error) => {
                tracing::debug!(%error, "the watch on namespaces was interrupted");
                continue;
            }
        };
        let mut tries = 0;
        while namespace.metadata.deletion_timestamp.is_none() {
            match furnish(&client, &namespace.name_any(), authority.as_deref()).await {
                Ok(()) => break,
                Err(error) if tries < 5 => {
                    tries += 1;
                    tracing::debug!(error = error.chain(), "trying again");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                Err(error) => {
                    tracing::warn!(error = error.chain(), "a namespace stays unfurnished");
                    break;
                }
            }
        }
    }
}
