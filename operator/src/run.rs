//! Wires watches to controllers, once for each watched namespace or once for all.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use futures::future::{BoxFuture, join_all};
use futures::{FutureExt, Stream, StreamExt, TryStreamExt};
use howdah_api::{Backup, Cluster, ScheduledBackup, labels};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::Api;
use kube::core::{DeserializeGuard, NamespaceResourceScope};
use kube::runtime::WatchStreamExt;
use kube::runtime::controller::{Config, Controller};
use kube::runtime::reflector::{self, ObjectRef};
use kube::runtime::watcher::{self, watcher};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::controllers::{backup, cluster, driver, scheduled_backup};

/// Runs all controllers until `stop`; what was begun is brought to its end.
///
/// `namespaces`: where; empty means everywhere. `concurrency`: reconciliations of one kind at the same time.
pub async fn controllers(
    ctx: Arc<Context>,
    namespaces: &[String],
    concurrency: u16,
    stop: CancellationToken,
) {
    let scopes: Vec<Option<String>> =
        if namespaces.is_empty() { vec![None] } else { namespaces.iter().cloned().map(Some).collect() };
    join_all(scopes.into_iter().map(|namespace| {
        let scope = Scope { ctx: ctx.clone(), namespace, concurrency, stop: stop.clone() };
        async move {
            tokio::join!(scope.clusters(), scope.backups(), scope.scheduled_backups());
        }
    }))
    .await;
}

struct Scope {
    ctx: Arc<Context>,
    namespace: Option<String>,
    concurrency: u16,
    stop: CancellationToken,
}

type Watched<K> = Result<K, watcher::Error>;

impl Scope {
    fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        let client: Client = self.ctx.client.clone();
        match &self.namespace {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::all(client),
        }
    }

    /// Changes of objects that bear the cluster label.
    fn children<K>(&self) -> impl Stream<Item = Watched<K>> + Send + 'static
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug
            + Send
            + 'static,
    {
        self.labelled(labels::CLUSTER)
    }

    /// Changes of objects that bear a label, without what nobody reads.
    fn labelled<K>(&self, label: &'static str) -> impl Stream<Item = Watched<K>> + Send + 'static
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug
            + Send
            + 'static,
    {
        let config = watcher::Config::default().labels(label);
        watcher(self.api::<K>(), config).default_backoff().touched_objects()
    }

    /// Backups, each time their phase or specification changes; heartbeats do not count.
    fn backup_phases(&self) -> impl Stream<Item = Watched<DeserializeGuard<Backup>>> + Send + 'static {
        watcher(self.api::<DeserializeGuard<Backup>>(), watcher::Config::default())
            .default_backoff()
            .touched_objects()
            .predicate_filter(backup_fingerprint, Default::default())
    }

    /// Budgets that come, change or go; their status, which follows the pods, does not count.
    fn budgets(&self) -> impl Stream<Item = Watched<PodDisruptionBudget>> + Send + 'static {
        let mut generations: HashMap<(Option<String>, String), Option<i64>> = HashMap::new();
        let config = watcher::Config::default().labels(labels::CLUSTER);
        watcher(self.api::<PodDisruptionBudget>(), config).default_backoff().filter_map(move |event| {
            let key = |budget: &PodDisruptionBudget| (budget.namespace(), budget.name_any());
            std::future::ready(match event {
                Ok(watcher::Event::Apply(budget) | watcher::Event::InitApply(budget)) => {
                    let now = budget.metadata.generation;
                    (generations.insert(key(&budget), now) != Some(now)).then_some(Ok(budget))
                }
                Ok(watcher::Event::Delete(budget)) => {
                    generations.remove(&key(&budget));
                    Some(Ok(budget))
                }
                Ok(watcher::Event::Init | watcher::Event::InitDone) => None,
                Err(error) => Some(Err(error)),
            })
        })
    }

    fn config(&self) -> Config {
        Config::default().concurrency(self.concurrency)
    }

    fn stopped(&self) -> impl Future<Output = ()> + Send + Sync + 'static {
        self.stop.clone().cancelled_owned()
    }

    async fn clusters(&self) {
        let (reader, writer) = reflector::store::<DeserializeGuard<Cluster>>();
        let gone = self.ctx.clone();
        let main = watcher(self.api::<DeserializeGuard<Cluster>>(), watcher::Config::default())
            .default_backoff()
            .modify(strip)
            .inspect_ok(move |event| {
                if let watcher::Event::Delete(object) = event {
                    let namespace = object.namespace().unwrap_or_default();
                    gone.metrics.forget_cluster(&namespace, &object.name_any());
                    gone.applied.forget(&cluster::apply::cache_key(&namespace, &object.name_any()));
                }
            })
            .reflect(writer)
            .applied_objects()
            .predicate_filter(cluster_fingerprint, Default::default());
        let store = reader.clone();
        Controller::for_stream(main, reader)
            .with_config(self.config())
            .owns_stream(self.children::<Pod>())
            .owns_stream(self.labelled::<Pod>(labels::REPO_HOST))
            .owns_stream(self.children::<PersistentVolumeClaim>())
            .watches_stream(self.children::<Service>(), touched(&self.ctx))
            .watches_stream(self.children::<ServiceAccount>(), touched(&self.ctx))
            .watches_stream(self.children::<Role>(), touched(&self.ctx))
            .watches_stream(self.children::<RoleBinding>(), touched(&self.ctx))
            .watches_stream(self.budgets(), touched(&self.ctx))
            .watches_stream(self.backup_phases(), move |backup| clusters_of(&store, &backup))
            .graceful_shutdown_on(self.stopped())
            .run(
                |object, ctx| driver::run("cluster", object, ctx, boxed_cluster),
                |object, error, ctx| driver::error_policy("cluster", &object, error, &ctx),
                self.ctx.clone(),
            )
            .for_each(|_| std::future::ready(()))
            .await;
    }

    async fn backups(&self) {
        let (reader, writer) = reflector::store::<DeserializeGuard<Backup>>();
        let main = watcher(self.api::<DeserializeGuard<Backup>>(), watcher::Config::default())
            .default_backoff()
            .modify(strip_backup)
            .reflect(writer)
            .applied_objects()
            .predicate_filter(backup_fingerprint, Default::default());
        Controller::for_stream(main, reader)
            .with_config(self.config())
            .graceful_shutdown_on(self.stopped())
            .run(
                |object, ctx| driver::run("backup", object, ctx, boxed_backup),
                |object, error, ctx| driver::error_policy("backup", &object, error, &ctx),
                self.ctx.clone(),
            )
            .for_each(|_| std::future::ready(()))
            .await;
    }

    async fn scheduled_backups(&self) {
        let (reader, writer) = reflector::store::<DeserializeGuard<ScheduledBackup>>();
        let main = watcher(self.api::<DeserializeGuard<ScheduledBackup>>(), watcher::Config::default())
            .default_backoff()
            .modify(strip)
            .reflect(writer)
            .applied_objects()
            .predicate_filter(spec_fingerprint::<ScheduledBackup>, Default::default());
        Controller::for_stream(main, reader)
            .with_config(self.config())
            .watches_stream(self.backup_phases(), |backup| {
                let name = backup.labels().get(labels::SCHEDULED_BACKUP).cloned();
                name.map(|n| ObjectRef::new(&n).within(&backup.namespace().unwrap_or_default()))
            })
            .graceful_shutdown_on(self.stopped())
            .run(
                |object, ctx| driver::run("scheduled_backup", object, ctx, boxed_scheduled),
                |object, error, ctx| driver::error_policy("scheduled_backup", &object, error, &ctx),
                self.ctx.clone(),
            )
            .for_each(|_| std::future::ready(()))
            .await;
    }
}

type Reconciled<'a> = BoxFuture<'a, Result<kube::runtime::controller::Action, crate::error::Error>>;

fn boxed_cluster<'a>(ctx: &'a Context, namespace: &'a str, name: &'a str) -> Reconciled<'a> {
    cluster::reconcile(ctx, namespace, name).boxed()
}

fn boxed_backup<'a>(ctx: &'a Context, namespace: &'a str, name: &'a str) -> Reconciled<'a> {
    backup::reconcile(ctx, namespace, name).boxed()
}

fn boxed_scheduled<'a>(ctx: &'a Context, namespace: &'a str, name: &'a str) -> Reconciled<'a> {
    scheduled_backup::reconcile(ctx, namespace, name).boxed()
}

/// Stored objects only name what is to be reconciled; each reconciliation reads afresh.
fn strip<K: Resource>(object: &mut DeserializeGuard<K>) {
    object.meta_mut().managed_fields = None;
    if let Some(annotations) = object.meta_mut().annotations.as_mut() {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
}

fn strip_backup(object: &mut DeserializeGuard<Backup>) {
    strip(object);
    if let Ok(Backup { status: Some(status), .. }) = &mut object.0 {
        let phase = status.phase;
        *status = howdah_api::BackupStatus { phase, ..Default::default() };
    }
}

fn hash(parts: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    parts.hash(&mut hasher);
    hasher.finish()
}

/// Changes with the specification and with deletion, not with the status.
fn spec_fingerprint<K: Resource<DynamicType = ()>>(object: &DeserializeGuard<K>) -> Option<u64> {
    let meta = object.meta();
    Some(hash((&meta.uid, meta.generation, meta.deletion_timestamp.is_some(), object.0.is_ok())))
}

/// Changes also with what people ask for beside the specification: annotations, and another primary.
fn cluster_fingerprint(object: &DeserializeGuard<Cluster>) -> Option<u64> {
    let asked = [labels::SWITCHOVER, labels::FENCED, labels::HIBERNATION, labels::RESTARTED_AT]
        .map(|key| object.annotations().get(key).cloned());
    let target = object.0.as_ref().ok().and_then(|c| c.status.as_ref()?.target_primary.as_deref());
    Some(hash((spec_fingerprint(object), asked, target)))
}

/// Changes with the phase as well.
fn backup_fingerprint(object: &DeserializeGuard<Backup>) -> Option<u64> {
    let phase = object.0.as_ref().ok().and_then(|b| b.status.as_ref()).map(|s| s.phase());
    Some(hash((spec_fingerprint(object), phase)))
}

/// Something that was applied for a cluster changed: it is looked at anew, whoever changed it.
fn touched<K>(
    ctx: &Arc<Context>,
) -> impl Fn(K) -> Option<ObjectRef<DeserializeGuard<Cluster>>> + Send + Sync + 'static
where
    K: Resource<DynamicType = ()>,
{
    let ctx = ctx.clone();
    move |object| {
        let namespace = object.namespace()?;
        let name = object.labels().get(labels::CLUSTER)?;
        ctx.applied.forget(&cluster::apply::cache_key(&namespace, name));
        Some(ObjectRef::new(name).within(&namespace))
    }
}

/// The cluster that a Backup is of, and those that wait to recover from it.
fn clusters_of(
    store: &reflector::Store<DeserializeGuard<Cluster>>,
    backup: &DeserializeGuard<Backup>,
) -> Vec<ObjectRef<DeserializeGuard<Cluster>>> {
    let namespace = backup.namespace().unwrap_or_default();
    let name = backup.name_any();
    let mut names: Vec<String> = backup.0.iter().map(|b| b.spec.cluster.name.clone()).collect();
    let waits = |c: &Cluster| {
        let recovery = c.spec.bootstrap.as_ref().and_then(|b| b.recovery());
        recovery.and_then(|r| r.backup.as_ref()).is_some_and(|b| b.name == name)
    };
    for object in store.state() {
        if let Ok(cluster) = &object.0
            && cluster.namespace().as_deref() == Some(&namespace)
            && waits(cluster)
        {
            names.push(cluster.name_any());
        }
    }
    names.into_iter().map(|n| ObjectRef::new(&n).within(&namespace)).collect()
}
