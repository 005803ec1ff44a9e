//! Services: their names in every pod's hosts file, their addresses served by proxies, their endpoints kept.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use super::endpoints::{self, Backend, MANAGER};
use super::proxy::Proxies;
use crate::addresses::{self, Lease, Range};
use crate::error::{Error, is_not_found};
use crate::hosts::ServiceName;
use crate::shared::Shared;

/// Serves services on one node.
pub(crate) struct Services {
    pub shared: Arc<Shared>,
    /// Whether the endpoint objects are kept here. Off where a controller manager does it.
    pub keep_endpoints: bool,
    /// Addresses for services whose own are not of this machine.
    pub range: Range,
}

/// What was seen and done so far.
struct World {
    services: Store<Service>,
    pods: Store<Pod>,
    endpoints: Store<Endpoints>,
    leases: BTreeMap<String, Lease>,
    written: BTreeMap<(&'static str, String, String), serde_json::Value>,
    proxies: Proxies,
}

/// Watches a kind into a store; every change rings the bell.
fn watch<K>(api: Api<K>, bell: &Arc<tokio::sync::Notify>, stop: &CancellationToken) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let mut stream =
        watcher::watcher(api, watcher::Config::default()).default_backoff().reflect(writer).boxed();
    let (bell, stop) = (bell.clone(), stop.clone());
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                next = stream.next() => match next {
                    Some(_) => bell.notify_one(),
                    None => return,
                },
            }
        }
    });
    store
}

fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None")
}

impl Services {
    /// Serves until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let client = &self.shared.client;
        let bell = Arc::new(tokio::sync::Notify::new());
        let mut world = World {
            services: watch(Api::all(client.clone()), &bell, &stop),
            pods: watch(Api::all(client.clone()), &bell, &stop),
            endpoints: watch(Api::all(client.clone()), &bell, &stop),
            leases: BTreeMap::new(),
            written: BTreeMap::new(),
            proxies: Proxies::default(),
        };
        let ready = async {
            // An error means that the watch has ended, which only `stop` does.
            let _ = world.services.wait_until_ready().await;
            let _ = world.pods.wait_until_ready().await;
            let _ = world.endpoints.wait_until_ready().await;
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = ready => {}
        }
        if self.keep_endpoints
            && let Err(error) = self.adopt(&mut world).await
        {
            tracing::debug!(error = error.chain(), "endpoint objects of before are not known");
        }
        loop {
            let done = tokio::select! {
                () = stop.cancelled() => return,
                done = self.reconcile(&mut world) => done,
            };
            if let Err(error) = &done {
                tracing::debug!(error = error.chain(), "services are looked at again");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = bell.notified() => {}
                () = tokio::time::sleep(Duration::from_millis(500)), if done.is_err() => {}
            }
            // Changes come in bursts.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Learns what an earlier incarnation wrote, so that it is removed when its service is gone.
    async fn adopt(&self, world: &mut World) -> Result<(), Error> {
        let params =
            ListParams::default().labels(&format!("endpointslice.kubernetes.io/managed-by={MANAGER}"));
        let api: Api<EndpointSlice> = Api::all(self.shared.client.clone());
        let slices = api.list(&params).await.map_err(Error::api("list", "EndpointSlices"))?;
        for slice in slices.items {
            let (namespace, name) = endpoints::key(&slice);
            world.written.insert(("slice", namespace, name), serde_json::Value::Null);
        }
        Ok(())
    }

    async fn reconcile(&self, world: &mut World) -> Result<(), Error> {
        let services = world.services.state();
        let pods = world.pods.state();
        let mut names = Vec::new();
        let mut proxies = BTreeMap::new();
        let mut behind: Vec<(Arc<Service>, Vec<Backend>)> = Vec::new();
        for service in &services {
            let spec = service.spec.clone().unwrap_or_default();
            if spec.type_.as_deref() == Some("ExternalName") {
                continue;
            }
            let backends = endpoints::backends(service, pods.iter().map(AsRef::as_ref));
            let mut addresses: Vec<Ipv4Addr> = Vec::new();
            if is_headless(service) {
                addresses.extend(backends.iter().filter(|b| b.ready).map(|b| b.ip));
            } else if let Some(address) = self.address(world, service)? {
                addresses.push(address);
                for port in spec.ports.iter().flatten() {
                    let Ok(number) = u16::try_from(port.port) else { continue };
                    let to = if spec.selector.as_ref().is_none_or(BTreeMap::is_empty) {
                        given_addresses(&world.endpoints, service, port.name.as_deref())
                    } else {
                        endpoints::addresses(&backends, port)
                    };
                    proxies.insert(SocketAddr::from((address, number)), to);
                }
            }
            names.push(ServiceName {
                namespace: service.namespace().unwrap_or_default(),
                name: service.name_any(),
                addresses,
            });
            if spec.selector.is_some_and(|selector| !selector.is_empty()) {
                behind.push((service.clone(), backends));
            }
        }
        names.sort();
        world.proxies.set(proxies).await;
        self.shared.names.set_services(names);
        let alive: BTreeSet<String> = services.iter().filter_map(|service| service.uid()).collect();
        world.leases.retain(|uid, _| alive.contains(uid));
        if self.keep_endpoints { self.write(world, behind).await } else { Ok(()) }
    }

    /// The address at which a service can be reached here: its own where that is a loopback address that
    /// nobody else has, another one otherwise.
    fn address(&self, world: &mut World, service: &Service) -> Result<Option<Ipv4Addr>, Error> {
        let uid = service.uid().unwrap_or_default();
        if let Some(lease) = world.leases.get(&uid) {
            return Ok(Some(lease.address));
        }
        let own = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()?.parse().ok());
        let Some(own) = own else { return Ok(None) };
        let lease = match addresses::take(own) {
            Some(lease) => lease,
            None => self.range.lease(None)?,
        };
        let address = lease.address;
        world.leases.insert(uid, lease);
        Ok(Some(address))
    }

    async fn write(&self, world: &mut World, behind: Vec<(Arc<Service>, Vec<Backend>)>) -> Result<(), Error> {
        let mut wanted = BTreeSet::new();
        for (service, backends) in behind {
            if service.metadata.deletion_timestamp.is_some() {
                continue;
            }
            let object = endpoints::endpoints(&service, &backends);
            self.apply(world, &mut wanted, "endpoints", &object).await?;
            for slice in endpoints::slices(&service, &backends) {
                self.apply(world, &mut wanted, "slice", &slice).await?;
            }
        }
        let gone: Vec<_> = world.written.keys().filter(|key| !wanted.contains(*key)).cloned().collect();
        for key in gone {
            let (kind, namespace, name) = &key;
            let result = if *kind == "slice" {
                self.remove::<EndpointSlice>(namespace, name).await
            } else {
                self.remove::<Endpoints>(namespace, name).await
            };
            result?;
            world.written.remove(&key);
        }
        Ok(())
    }

    async fn apply<K>(
        &self,
        world: &mut World,
        wanted: &mut BTreeSet<(&'static str, String, String)>,
        kind: &'static str,
        object: &K,
    ) -> Result<(), Error>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Serialize
            + std::fmt::Debug,
    {
        let (namespace, name) = endpoints::key(object);
        let key = (kind, namespace.clone(), name.clone());
        wanted.insert(key.clone());
        let mut value = serde_json::to_value(object)
            .map_err(|error| Error::pod(format!("{kind} {namespace}/{name}: {error}")))?;
        value["apiVersion"] = K::api_version(&()).into_owned().into();
        value["kind"] = K::kind(&()).into_owned().into();
        if world.written.get(&key) == Some(&value) {
            return Ok(());
        }
        let api: Api<K> = Api::namespaced(self.shared.client.clone(), &namespace);
        match api.patch(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&value)).await {
            Ok(_) => {}
            // The namespace is going, and everything in it.
            Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => {
                tracing::debug!(name, message = status.message, "endpoints are not wanted any more");
            }
            Err(error) => return Err(Error::api("apply", format!("{kind} {namespace}/{name}"))(error)),
        }
        world.written.insert(key, value);
        Ok(())
    }

    async fn remove<K>(&self, namespace: &str, name: &str) -> Result<(), Error>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug,
    {
        let api: Api<K> = Api::namespaced(self.shared.client.clone(), namespace);
        match api.delete(name, &DeleteParams::default()).await {
            Ok(_) => Ok(()),
            Err(error) if is_not_found(&error) => Ok(()),
            Err(error) => Err(Error::api("delete", format!("endpoints {namespace}/{name}"))(error)),
        }
    }
}

/// Where a service without a selector leads: what somebody wrote into its Endpoints.
fn given_addresses(endpoints: &Store<Endpoints>, service: &Service, port: Option<&str>) -> Vec<SocketAddr> {
    let mut key = reflector::ObjectRef::new(&service.name_any());
    if let Some(namespace) = service.namespace() {
        key = key.within(&namespace);
    }
    let Some(object) = endpoints.get(&key) else { return Vec::new() };
    let mut found = Vec::new();
    for subset in object.subsets.iter().flatten() {
        let number = subset.ports.iter().flatten().find(|p| p.name.as_deref() == port);
        let Some(number) = number.and_then(|p| u16::try_from(p.port).ok()) else { continue };
        for address in subset.addresses.iter().flatten() {
            if let Ok(ip) = address.ip.parse::<Ipv4Addr>() {
                found.push(SocketAddr::from((ip, number)));
            }
        }
    }
    found
}
