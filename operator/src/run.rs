//! Wires watches to controllers, once for each watched namespace or once for all.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use futures::channel::mpsc;
use futures::future::{BoxFuture, join_all};
use futures::{FutureExt, Stream, StreamExt, TryStreamExt};
use howdah_api::backup::BackupPhase;
use howdah_api::{Backup, Cluster, ScheduledBackup, labels};
use k8s_openapi::api::core::v1::{Service, ServiceAccount};
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
use crate::error::chain;
use crate::reduce;
use crate::shelf::{Seen, Shelf};

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
            let (clusters, to_clusters) = mpsc::unbounded();
            let (schedules, to_schedules) = mpsc::unbounded();
            tokio::join!(
                scope.clusters(to_clusters),
                scope.backups(clusters.clone(), schedules),
                scope.scheduled_backups(to_schedules, clusters),
            );
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
/// Where other controllers ask for a look at an object of this kind.
type Sender<K> = mpsc::UnboundedSender<ObjectRef<DeserializeGuard<K>>>;
type Receiver<K> = mpsc::UnboundedReceiver<ObjectRef<DeserializeGuard<K>>>;

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

    /// Changes of objects that bear the cluster label, without what nobody reads.
    fn children<K>(&self) -> impl Stream<Item = Watched<K>> + Send + 'static
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug
            + Send
            + 'static,
    {
        let config = watching().labels(labels::CLUSTER);
        sound(watcher(self.api::<K>(), config).default_backoff().touched_objects())
    }

    /// Changes of objects that bear a label; what `reduce` leaves of them is kept on a shelf.
    fn shelved<K>(
        &self,
        label: &'static str,
        shelf: fn(&Seen) -> &Shelf<K>,
        reduce: fn(&mut K),
    ) -> impl Stream<Item = Watched<K>> + Send + 'static
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug
            + Send
            + Sync
            + 'static,
    {
        let (reader, writer) = reflector::store::<K>();
        shelf(&self.ctx.seen).add(self.namespace.clone(), reader);
        let (ctx, namespace) = (self.ctx.clone(), self.namespace.clone());
        let config = watching().labels(label);
        let stream = watcher(self.api::<K>(), config)
            .default_backoff()
            .modify(reduce)
            .reflect(writer)
            .inspect(move |event| shelf(&ctx.seen).hear(namespace.as_deref(), event))
            .touched_objects();
        sound(stream)
    }

    /// Budgets that come, change or go; their status, which follows the pods, does not count.
    fn budgets(&self) -> impl Stream<Item = Watched<PodDisruptionBudget>> + Send + 'static {
        let mut generations: HashMap<(Option<String>, String), Option<i64>> = HashMap::new();
        let config = watching().labels(labels::CLUSTER);
        let stream = watcher(self.api::<PodDisruptionBudget>(), config).default_backoff();
        sound(stream.filter_map(move |event| {
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
        }))
    }

    fn config(&self) -> Config {
        Config::default().concurrency(self.concurrency)
    }

    fn stopped(&self) -> impl Future<Output = ()> + Send + Sync + 'static {
        self.stop.clone().cancelled_owned()
    }

    async fn clusters(&self, asked_for: Receiver<Cluster>) {
        let (reader, writer) = reflector::store::<DeserializeGuard<Cluster>>();
        self.ctx.seen.clusters.add(self.namespace.clone(), reader.clone());
        let (ctx, namespace) = (self.ctx.clone(), self.namespace.clone());
        let main = watcher(self.api::<DeserializeGuard<Cluster>>(), watching())
            .default_backoff()
            .modify(reduce::object)
            .reflect(writer)
            .inspect(move |event| {
                ctx.seen.clusters.hear(namespace.as_deref(), event);
                if let Ok(watcher::Event::Delete(object)) = event {
                    cluster::forget(&ctx, &object.namespace().unwrap_or_default(), &object.name_any());
                }
            })
            .applied_objects()
            .predicate_filter(cluster_fingerprint, Default::default());
        Controller::for_stream(sound(main), reader)
            .with_config(self.config())
            .owns_stream(self.shelved(labels::CLUSTER, |seen| &seen.pods, reduce::pod))
            .owns_stream(self.shelved(labels::REPO_HOST, |seen| &seen.repo_hosts, reduce::pod))
            .owns_stream(self.shelved(labels::CLUSTER, |seen| &seen.volumes, reduce::meta))
            .watches_stream(self.children::<Service>(), touched(&self.ctx))
            .watches_stream(self.children::<ServiceAccount>(), touched(&self.ctx))
            .watches_stream(self.children::<Role>(), touched(&self.ctx))
            .watches_stream(self.children::<RoleBinding>(), touched(&self.ctx))
            .watches_stream(self.budgets(), touched(&self.ctx))
            .reconcile_on(asked_for)
            .graceful_shutdown_on(self.stopped())
            .run(
                |object, ctx| driver::run("cluster", object, ctx, boxed_cluster),
                |object, error, ctx| driver::error_policy("cluster", &object, error, &ctx),
                self.ctx.clone(),
            )
            .for_each(|_| std::future::ready(()))
            .await;
    }

    /// One watch of the Backups serves all: a change of phase or specification is passed on to the clusters and to the
    /// schedules that it matters to. Heartbeats do not count.
    async fn backups(&self, clusters: Sender<Cluster>, schedules: Sender<ScheduledBackup>) {
        let (reader, writer) = reflector::store::<DeserializeGuard<Backup>>();
        self.ctx.seen.backups.add(self.namespace.clone(), reader.clone());
        self.ctx.seen.children.add(self.namespace.clone(), reader.clone());
        let (noting, telling, namespace) = (self.ctx.clone(), self.ctx.clone(), self.namespace.clone());
        let main = watcher(self.api::<DeserializeGuard<Backup>>(), watching())
            .default_backoff()
            .modify(reduce::backup)
            .reflect(writer)
            .inspect(move |event| note_backup(&noting, namespace.as_deref(), event))
            .touched_objects()
            .predicate_filter(backup_fingerprint, Default::default())
            .inspect_ok(move |backup| {
                // Whoever does not listen any more has stopped.
                for cluster in clusters_of(&telling, backup) {
                    let _ = clusters.unbounded_send(cluster);
                }
                if let Some(schedule) = schedule_of(backup) {
                    let _ = schedules.unbounded_send(schedule);
                }
            })
            .try_filter(|backup| std::future::ready(backup.0.as_ref().map_or(true, backup::needs_a_look)));
        Controller::for_stream(sound(main), reader)
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

    async fn scheduled_backups(&self, asked_for: Receiver<ScheduledBackup>, clusters: Sender<Cluster>) {
        let (reader, writer) = reflector::store::<DeserializeGuard<ScheduledBackup>>();
        self.ctx.seen.schedules.add(self.namespace.clone(), reader.clone());
        let (ctx, namespace) = (self.ctx.clone(), self.namespace.clone());
        let tell = touched::<DeserializeGuard<ScheduledBackup>>(&self.ctx);
        let told = clusters.clone();
        let gone = touched::<DeserializeGuard<ScheduledBackup>>(&self.ctx);
        let main = watcher(self.api::<DeserializeGuard<ScheduledBackup>>(), watching())
            .default_backoff()
            .modify(reduce::object)
            .reflect(writer)
            .inspect(move |event| {
                ctx.seen.schedules.hear(namespace.as_deref(), event);
                if let Ok(watcher::Event::Delete(schedule)) = event
                    && let Some(cluster) = gone(schedule.clone())
                {
                    let _ = told.unbounded_send(cluster);
                }
            })
            .applied_objects()
            .predicate_filter(spec_fingerprint::<ScheduledBackup>, Default::default())
            .inspect_ok(move |schedule| {
                if let Some(cluster) = tell(schedule.clone()) {
                    let _ = clusters.unbounded_send(cluster);
                }
            });
        Controller::for_stream(sound(main), reader)
            .with_config(self.config())
            .reconcile_on(asked_for)
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

/// How everything is watched. The API server ends a watch after so many seconds, and one that says nothing for longer is
/// taken for dead; the next goes on where it ended, without a list.
fn watching() -> watcher::Config {
    watcher::Config::default().timeout(120)
}

/// What a watch brings, without its errors. Each watch pauses for itself after one; a controller that heard of it would
/// pause all its watches, and longer with every one of them that fails.
fn sound<K>(
    stream: impl Stream<Item = Watched<K>> + Send + 'static,
) -> impl Stream<Item = Watched<K>> + Send + 'static
where
    K: Resource<DynamicType = ()> + Send + 'static,
{
    stream.filter(|item| {
        if let Err(error) = item {
            tracing::warn!(kind = %K::kind(&()), error = chain(error), "a watch failed; it is tried again");
        }
        std::future::ready(item.is_ok())
    })
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
    Some(hash((spec_fingerprint(object), phase(object))))
}

/// Something that was applied for a cluster was changed by somebody else: it is looked at anew.
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
        let key = cluster::apply::cache_key(&namespace, name);
        let what = format!("{} {}", K::kind(&()), object.name_any());
        if ctx.applied.is_own(&key, &what, object.meta().resource_version.as_deref()) {
            return None;
        }
        ctx.applied.touch(&key);
        Some(ObjectRef::new(name).within(&namespace))
    }
}

fn note_backup(
    ctx: &Context,
    namespace: Option<&str>,
    event: &Watched<watcher::Event<DeserializeGuard<Backup>>>,
) {
    ctx.seen.backups.hear(namespace, event);
    ctx.seen.children.hear(namespace, event);
    let over = match event {
        Ok(watcher::Event::Apply(backup)) => {
            phase(backup).is_some_and(|phase| phase.is_terminal()).then_some(backup)
        }
        Ok(watcher::Event::Delete(backup)) => Some(backup),
        _ => None,
    };
    if let Some(uid) = over.and_then(ResourceExt::uid) {
        ctx.heartbeats.forget(&uid);
    }
}

fn phase(backup: &DeserializeGuard<Backup>) -> Option<BackupPhase> {
    backup.0.as_ref().ok()?.status.as_ref().map(|status| status.phase())
}

/// The cluster that a Backup is of, and those that were told to recover from it.
fn clusters_of(
    ctx: &Context,
    backup: &DeserializeGuard<Backup>,
) -> Vec<ObjectRef<DeserializeGuard<Cluster>>> {
    let namespace = backup.namespace().unwrap_or_default();
    let mut names = ctx.seen.clusters.names(&namespace, &backup.name_any());
    names.extend(backup.0.iter().map(|backup| backup.spec.cluster.name.clone()));
    names.into_iter().map(|n| ObjectRef::new(&n).within(&namespace)).collect()
}

/// The schedule that a Backup was made by.
fn schedule_of(backup: &DeserializeGuard<Backup>) -> Option<ObjectRef<DeserializeGuard<ScheduledBackup>>> {
    let name = backup.labels().get(labels::SCHEDULED_BACKUP)?;
    Some(ObjectRef::new(name).within(&backup.namespace().unwrap_or_default()))
}
