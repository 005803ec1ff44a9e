//! Checks what neither the schema nor CEL can: objects that the specification names. Pure.

use howdah_api::backup::BackupPhase;
use howdah_api::common::SecretKeySelector;
use howdah_api::object_store::BarmanObjectStore;
use howdah_api::repository::{DEFAULT, NamedStore};
use howdah_api::{Backup, Cluster, naming};
use k8s_openapi::api::core::v1::{PersistentVolumeClaimSpec, Secret};
use kube::ResourceExt;

use super::annotations;
use super::build::schedules;
use super::certificates::{self, Certificates};
use super::kubectl::Kubectl;
use super::observed::Observed;
use super::ownership::{Owner, owner};
use super::recovery_target;
use crate::context::Settings;

/// What a problem stands in the way of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocks {
    /// The first instance, or a further one, cannot be made.
    Instances,
    /// The Backup to recover from is not ready yet; it may become so by itself.
    Recovery,
    /// Backups and the archive do not work.
    Backups,
    /// Certificates that were given are not taken up.
    Certificates,
    /// Nothing but what was asked for and is not understood.
    Nothing,
}

/// Something that a person has to mend, or that has to be waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What it stands in the way of.
    pub blocks: Blocks,
    /// Short reason for conditions and events.
    pub reason: &'static str,
    /// What is wrong, and the remedy.
    pub message: String,
}

/// How the first instance comes to its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// An empty database cluster.
    InitDb,
    /// A backup.
    Recovery,
}

/// The application database and its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Application {
    /// Database.
    pub database: String,
    /// Owner.
    pub owner: String,
    /// Secret that the user provides; else one is made.
    pub secret: Option<String>,
}

/// The instance manager that instances shall run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manager {
    /// Image that a pod copies it from.
    pub image: String,
    /// SHA-256 of its program, when the operator can read it.
    pub sha256: Option<String>,
    /// Whether it is replaced while PostgreSQL runs.
    pub in_place: bool,
}

/// The cluster with its defaults filled in.
#[derive(Clone, Debug)]
pub struct Validated {
    /// Name.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// PostgreSQL image.
    pub image: String,
    /// The instance manager.
    pub manager: Manager,
    /// How it begins.
    pub origin: Origin,
    /// Application database, when one is made or taken over.
    pub application: Option<Application>,
    /// Secrets that instances must be able to read, besides those that we make.
    pub foreign_secrets: Vec<String>,
    /// Repositories on volumes, and the claims of these.
    pub volume_repositories: Vec<(String, PersistentVolumeClaimSpec)>,
    /// Certificates that are given.
    pub certificates: Certificates,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// Objects of a deleted cluster of the same name are still being removed: nothing is made meanwhile.
    pub predecessor: bool,
}

impl Validated {
    /// The first problem that stands in the way of an instance.
    #[must_use]
    pub fn blocking(&self) -> Option<&Problem> {
        self.problems.iter().find(|p| matches!(p.blocks, Blocks::Instances | Blocks::Recovery))
    }

    /// What is wrong with the certificates that a running cluster was given.
    pub fn certificate_problems(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter().filter(|p| p.blocks == Blocks::Certificates)
    }

    /// What is not understood and stands in the way of nothing.
    pub fn remarks(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter().filter(|p| p.blocks == Blocks::Nothing)
    }

    /// What is wrong with the object store, when something is.
    #[must_use]
    pub fn backup_problem(&self) -> Option<&Problem> {
        self.problems.iter().find(|p| p.blocks == Blocks::Backups)
    }
}

/// Fills in defaults and finds what is wrong.
#[must_use]
pub fn validate(observed: &Observed, settings: &Settings) -> Validated {
    let cluster = &observed.cluster;
    let spec = &cluster.spec;
    let name = cluster.name_any();
    let mut problems = Vec::new();
    let recovery = spec.bootstrap.as_ref().and_then(|b| b.recovery());
    let application = application(cluster);
    let mut foreign = foreign_secret_names(cluster, observed);

    if spec.superuser_access()
        && let Some(reference) = &spec.superuser_secret
    {
        problems.extend(check_login(observed, &reference.name, "superuserSecret", "postgres"));
    }
    if let Some(app) = &application
        && let Some(secret) = &app.secret
    {
        problems.extend(check_login(observed, secret, "bootstrap secret", &app.owner));
    }
    if recovery.is_some() && !observed.initialised() {
        problems.extend(check_recovery(observed));
    }
    let leftovers = check_leftovers(observed, &name);
    let predecessor = leftovers.is_some();
    problems.extend(leftovers);
    problems.extend(check_foreign_volume(observed, &name));
    problems.extend(check_source_is_left_alone(observed, &name));
    problems.extend(check_stores(observed, &name));
    let certificates = certificates::look(observed);
    problems.extend(certificates.problems().cloned());
    problems.extend(annotations::check_fencing(observed));
    problems.extend(annotations::check_hibernation(cluster));
    foreign.sort();
    foreign.dedup();
    Validated {
        namespace: cluster.namespace().unwrap_or_default(),
        image: spec
            .image_name
            .clone()
            .filter(|i| !i.trim().is_empty())
            // A new default of the operator must not carry existing data to another major version.
            .or_else(|| cluster.status.as_ref().and_then(|s| s.image.clone()))
            .unwrap_or_else(|| settings.postgres_image.clone()),
        manager: Manager {
            image: settings.operator_image.clone(),
            sha256: settings.manager.as_ref().map(|program| program.sha256.clone()),
            in_place: settings.manager_in_place,
        },
        origin: if recovery.is_some() { Origin::Recovery } else { Origin::InitDb },
        application,
        foreign_secrets: foreign,
        volume_repositories: volume_repositories(cluster),
        certificates,
        problems,
        predecessor,
        name,
    }
}

/// Names of the repositories of `cluster` that are on volumes, and the claims of these.
#[must_use]
pub fn volume_repositories(cluster: &Cluster) -> Vec<(String, PersistentVolumeClaimSpec)> {
    let all = cluster.spec.backup.iter().flat_map(|backup| &backup.repositories);
    all.filter_map(|r| Some((r.name.clone(), r.volume.as_ref()?.volume_claim_spec.clone()))).collect()
}

/// The application database that `cluster` asks for.
#[must_use]
pub fn application(cluster: &Cluster) -> Option<Application> {
    let bootstrap = cluster.spec.bootstrap.as_ref();
    if let Some(recovery) = bootstrap.and_then(|b| b.recovery()) {
        let database = recovery.database.clone()?;
        return Some(Application {
            owner: recovery.owner.clone().unwrap_or_else(|| database.clone()),
            secret: recovery.secret.as_ref().map(|s| s.name.clone()),
            database,
        });
    }
    let initdb = bootstrap.and_then(|b| b.initdb.clone()).unwrap_or_default();
    let database = initdb.database.unwrap_or_else(|| "app".to_owned());
    Some(Application {
        owner: initdb.owner.unwrap_or_else(|| database.clone()),
        secret: initdb.secret.map(|s| s.name),
        database,
    })
}

/// Names of the Secrets that `cluster` names but does not own.
#[must_use]
pub fn foreign_secret_names(cluster: &Cluster, observed: &Observed) -> Vec<String> {
    let spec = &cluster.spec;
    let mut names: Vec<String> = Vec::new();
    names.extend(spec.superuser_secret.iter().map(|s| s.name.clone()));
    names.extend(application(cluster).and_then(|a| a.secret));
    let stores = spec.stores(&cluster.namespace().unwrap_or_default(), &cluster.name_any());
    names.extend(stores.iter().flat_map(|named| store_secrets(&named.store)));
    names.extend(recovery_stores(observed).iter().flat_map(|named| store_secrets(&named.store)));
    names.sort();
    names.dedup();
    names
}

fn store_secrets(store: &BarmanObjectStore) -> Vec<String> {
    store.secret_names().into_iter().map(str::to_owned).collect()
}

/// The places that the cluster recovers from, as far as they are known, the nearest first; each names its server.
#[must_use]
pub fn recovery_stores(observed: &Observed) -> Vec<NamedStore> {
    let spec = &observed.cluster.spec;
    let Some(recovery) = spec.bootstrap.as_ref().and_then(|b| b.recovery()) else { return Vec::new() };
    if let Some(source) = &recovery.source {
        let external = spec.external_clusters.iter().find(|e| &e.name == source);
        return external
            .map(|e| e.stores(&observed.cluster.namespace().unwrap_or_default()))
            .unwrap_or_default();
    }
    let of_backup = |backup: &Backup| {
        let status = backup.status.as_ref()?;
        let mut store = status.object_store()?;
        store.server_name.get_or_insert_with(|| backup.spec.cluster.name.clone());
        let name = status.repository.clone().unwrap_or_else(|| DEFAULT.to_owned());
        Some(NamedStore::new(name, store))
    };
    observed.recovery_backup.as_ref().and_then(of_backup).into_iter().collect()
}

/// A recovered cluster has the system identifier of its source: nothing but the place keeps their WAL apart.
fn check_source_is_left_alone(observed: &Observed, name: &str) -> Option<Problem> {
    let cluster = &observed.cluster;
    let sources = recovery_stores(observed);
    let own = cluster.spec.stores(&cluster.namespace().unwrap_or_default(), name);
    let named =
        own.iter().find(|own| sources.iter().any(|source| same_place(&source.store, &own.store, name)))?;
    // A cluster that runs is not taken down for it; the archive refuses its WAL.
    let blocks = if observed.initialised() { Blocks::Backups } else { Blocks::Instances };
    Some(problem(
        blocks,
        "ArchivesIntoItsSource",
        format!(
            "repository {} is at {} (server {}), where this cluster recovers from: a copy that archives there would \
             ruin the archive of its source; give it another path, or another serverName",
            named.name,
            named.store.destination_path,
            named.store.server_name_or(name)
        ),
    ))
}

/// The repositories: each on its own, and no two at one place.
fn check_stores(observed: &Observed, name: &str) -> Vec<Problem> {
    let cluster = &observed.cluster;
    let stores = cluster.spec.stores(&cluster.namespace().unwrap_or_default(), name);
    let mut problems = Vec::new();
    for (index, named) in stores.iter().enumerate() {
        let place = match named.name.as_str() {
            DEFAULT => "spec.backup.barmanObjectStore".to_owned(),
            other => format!("repository {other} in spec.backup.repositories"),
        };
        problems.extend(check_store(observed, &named.store, &place, Blocks::Backups));
        if let Some(other) = stores[..index].iter().find(|other| same_place(&other.store, &named.store, name))
        {
            problems.push(problem(
                Blocks::Backups,
                "RepositoriesCollide",
                format!(
                    "repositories {} and {} are at the same place, {}; give one of them another path",
                    other.name, named.name, named.store.destination_path
                ),
            ));
        }
    }
    problems.extend(check_schedules(cluster));
    problems
}

/// ScheduledBackups mark their Backups with their own name, which must be a label's value.
fn check_schedules(cluster: &Cluster) -> Option<Problem> {
    let longest = schedules::schedules(cluster).into_iter().map(|s| s.name_any()).max_by_key(String::len)?;
    (longest.len() > 63).then(|| {
        problem(
            Blocks::Backups,
            "ScheduleNameTooLong",
            format!(
                "the ScheduledBackup {longest} would have a name of {} characters, 63 are possible; give the \
                 repository a shorter name",
                longest.len()
            ),
        )
    })
}

fn same_place(a: &BarmanObjectStore, b: &BarmanObjectStore, cluster: &str) -> bool {
    let place = |store: &BarmanObjectStore| {
        let endpoint = store.endpoint_url.as_deref().unwrap_or_default().trim_end_matches('/').to_owned();
        let path = store.destination_path.trim_end_matches('/').to_owned();
        (endpoint, path, store.server_name_or(cluster).to_owned())
    };
    place(a) == place(b)
}

fn problem(blocks: Blocks, reason: &'static str, message: String) -> Problem {
    Problem { blocks, reason, message }
}

fn check_login(observed: &Observed, secret: &str, field: &str, user: &str) -> Option<Problem> {
    let kubectl = Kubectl::of(&observed.cluster);
    let look = match observed.secrets.contains_key(secret) {
        // Shows the keys, never the values.
        true => format!("describe secret {secret}"),
        false => format!(
            "create secret generic {secret} --type=kubernetes.io/basic-auth --from-literal=username={user} \
             --from-literal=password=PASSWORD"
        ),
    };
    let wrong = |reason, what: &str| {
        Some(problem(
            Blocks::Instances,
            reason,
            format!(
                "Secret {secret} ({field}) {what}; it must be in the cluster's namespace and hold the keys \
                 username (\"{user}\") and password: {}",
                kubectl.run(&look)
            ),
        ))
    };
    let Some(found) = observed.secrets.get(secret) else {
        return wrong("SecretNotFound", "does not exist");
    };
    let username = value(found, "username");
    if username.as_deref() != Some(user) {
        let what = if username.is_none() { "has no username" } else { "names another user" };
        return wrong("SecretInvalid", what);
    }
    if value(found, "password").is_none() {
        return wrong("SecretInvalid", "has no password");
    }
    None
}

/// A value of a Secret as text; `None` when it is missing, empty or not text.
fn value(secret: &Secret, key: &str) -> Option<String> {
    let bytes = secret.data.as_ref()?.get(key)?;
    String::from_utf8(bytes.0.clone()).ok().filter(|v| !v.is_empty())
}

fn check_recovery(observed: &Observed) -> Vec<Problem> {
    let spec = &observed.cluster.spec;
    let Some(recovery) = spec.bootstrap.as_ref().and_then(|b| b.recovery()) else { return Vec::new() };
    let mut found = Vec::new();
    if let Some(target) = &recovery.recovery_target
        && let Err(message) = recovery_target::check(target)
    {
        found.push(problem(Blocks::Instances, "InvalidRecoveryTarget", message));
    }
    if let Some(source) = &recovery.source
        && !spec.external_clusters.iter().any(|e| &e.name == source)
    {
        found.push(problem(
            Blocks::Instances,
            "SourceNotFound",
            format!(
                "bootstrap names the source {source}, which is not in spec.externalClusters; it cannot be added \
                 later under another name: create a new Cluster, or add an entry of that name"
            ),
        ));
    }
    if let Some(backup) = &recovery.backup {
        found.extend(check_backup(observed, &backup.name));
    }
    if found.is_empty() {
        found.extend(check_recovery_stores(observed));
    }
    found
}

/// One place to recover from that can be used is enough: the others are passed over.
fn check_recovery_stores(observed: &Observed) -> Option<Problem> {
    let sources = recovery_stores(observed);
    let several = sources.len() > 1;
    let problems = sources.iter().map(|named| {
        let place = match several {
            true => format!("repository {} to recover from", named.name),
            false => "the store to recover from".to_owned(),
        };
        check_store(observed, &named.store, &place, Blocks::Recovery)
    });
    // All of them, or none.
    let problems: Option<Vec<Problem>> = problems.collect();
    let mut problems = problems?.into_iter();
    let mut first = problems.next()?;
    for other in problems {
        first.message = format!("{}; {}", first.message, other.message);
    }
    Some(first)
}

fn check_backup(observed: &Observed, name: &str) -> Option<Problem> {
    let wrong = |reason, message| Some(problem(Blocks::Recovery, reason, message));
    let list = || Kubectl::of(&observed.cluster).run("get backups");
    let Some(backup) = &observed.recovery_backup else {
        return wrong(
            "BackupNotFound",
            format!(
                "Backup {name} does not exist in this namespace ({} lists those that do); create or copy it here, or \
                 create a Cluster that recovers by externalClusters",
                list()
            ),
        );
    };
    let status = backup.status.clone().unwrap_or_default();
    match status.phase() {
        BackupPhase::Completed => {}
        BackupPhase::Failed => {
            return wrong(
                "BackupFailed",
                format!(
                    "Backup {name} has failed and holds nothing to recover from; name a completed Backup in a new Cluster \
                     ({} lists them)",
                    list()
                ),
            );
        }
        phase => {
            return wrong(
                "BackupNotCompleted",
                format!("Backup {name} is {phase}; recovery begins by itself when it is completed"),
            );
        }
    }
    let lacking = [
        ("backupId", status.backup_id.is_none()),
        ("destinationPath", status.destination_path.is_none()),
        ("serverName", status.server_name.is_none()),
    ];
    let lacking: Vec<&str> = lacking.into_iter().filter(|(_, l)| *l).map(|(n, _)| n).collect();
    if !lacking.is_empty() {
        return wrong(
            "BackupIncomplete",
            format!(
                "the status of Backup {name} lacks {}; restore the object with its status, or recover by \
                 externalClusters",
                lacking.join(" and ")
            ),
        );
    }
    None
}

fn check_leftovers(observed: &Observed, cluster: &str) -> Option<Problem> {
    let pods = observed.pods.iter().map(|p| ("Pod", &p.metadata));
    let volumes = observed.volumes.iter().map(|v| ("PersistentVolumeClaim", &v.metadata));
    let secrets = observed.secrets.values().map(|s| ("Secret", &s.metadata));
    let old = |meta| owner(meta, cluster, observed.uid()) == Owner::Predecessor;
    let (kind, meta) = pods.chain(volumes).chain(secrets).find(|(_, meta)| old(meta))?;
    Some(problem(
        Blocks::Recovery,
        "PredecessorRemains",
        format!(
            "{kind} {} of a deleted cluster of this name is still being removed; this cluster begins when it is gone",
            meta.name.as_deref().unwrap_or_default()
        ),
    ))
}

fn check_foreign_volume(observed: &Observed, cluster: &str) -> Option<Problem> {
    let foreign = observed
        .volumes
        .iter()
        .filter(|v| owner(&v.metadata, cluster, observed.uid()) == Owner::Other)
        .find(|v| naming::serial_of(cluster, &v.name_any()).is_some())?;
    Some(problem(
        Blocks::Instances,
        "ForeignVolume",
        format!(
            "PersistentVolumeClaim {} exists and does not belong to this cluster; it may hold data: look at it ({}), \
             delete it or choose another cluster name",
            foreign.name_any(),
            Kubectl::of(&observed.cluster).run(&format!("describe pvc {}", foreign.name_any()))
        ),
    ))
}

/// What is wrong with a store, as far as can be seen without speaking to it.
#[must_use]
pub fn check_store(
    observed: &Observed,
    store: &BarmanObjectStore,
    place: &str,
    blocks: Blocks,
) -> Option<Problem> {
    // Where a certificate gives access, nothing else is needed.
    if store.s3_credentials.is_none()
        && store.google_credentials.is_none()
        && store.azure_credentials.is_none()
        && store.client_certificate.is_none()
    {
        let (field, remedy) = match store.destination_path.split_once("://").map(|(scheme, _)| scheme) {
            Some("gs") => ("googleCredentials", "applicationCredentials, or gkeEnvironment: true"),
            Some("https" | "http" | "azure") => (
                "azureCredentials",
                "connectionString, storageKey or storageSasToken, or inheritFromAzureAD: true",
            ),
            _ => ("s3Credentials", "accessKeyId and secretAccessKey, or inheritFromIAMRole: true"),
        };
        return Some(problem(blocks, "CredentialsMissing", format!("{place} has no {field}; give {remedy}")));
    }
    let certificate: Vec<SecretKeySelector> = store
        .client_certificate
        .iter()
        .flat_map(|secret| {
            ["tls.crt", "tls.key"]
                .map(|key| SecretKeySelector { name: secret.name.clone(), key: key.to_owned() })
        })
        .collect();
    let certificate = certificate.iter().map(|selector| ("clientCertificate", selector));
    // The operator makes this one, perhaps only now.
    let own = naming::replication_secret(&observed.cluster.name_any());
    for (field, selector) in store.selectors().into_iter().chain(certificate) {
        if selector.name == own {
            continue;
        }
        let (name, key) = (&selector.name, &selector.key);
        let Some(secret) = observed.secrets.get(name) else {
            return Some(problem(
                blocks,
                "SecretNotFound",
                format!(
                    "Secret {name}, named by {field} of {place}, does not exist; create it with the key {key}"
                ),
            ));
        };
        let present = secret.data.as_ref().and_then(|d| d.get(key)).is_some_and(|v| !v.0.is_empty());
        if !present {
            return Some(problem(
                blocks,
                "SecretKeyNotFound",
                format!(
                    "Secret {name} has no key {key} or it is empty ({field} of {place}); add the key, or name the \
                     right one"
                ),
            ));
        }
    }
    None
}
