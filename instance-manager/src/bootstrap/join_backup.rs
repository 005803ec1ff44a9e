//! A replica's data directory from the newest backup of the cluster's own repositories. PostgreSQL replays the archive from
//! there and then streams: the primary reads nothing of its data for it, and sends only what the archive does not have yet.
//!
//! Whatever is in the way (no backup, another timeline, a hole in the WAL, a store that is away) makes the primary be
//! copied as ever, and is told.

use std::time::Duration;

use howdah_api::availability::ReplicaSource;
use howdah_api::repository::NamedStore;
use howdah_engine::RestoreRequest;
use howdah_engine::restore::RestorePlan;
use kube::runtime::events::EventType;
use tokio::time::timeout;

use super::choice::{self, Chosen};
use super::recovery::same_version;
use super::recovery_file::RecoveryFile;
use super::source::Place;
use super::{Context, marker, restoring};
use crate::error::{Error, Result};
use crate::kube::secrets::SecretValues;
use crate::objstore::{Purpose, jobs, repository};
use crate::run::rejoin::source::{Source, ask};

/// From this size of the databases on a backup spares the primary something: 4 GiB. Below, its copy is over in a minute.
const LARGE: u64 = 4 << 30;
/// How long the primary and the repositories may take to say what they have: a replica is waited for.
const LIMIT: Duration = Duration::from_secs(30);

/// Bytes of the databases, of those that the role of replicas may look at: all, unless somebody took that right away.
const SIZE: &str = "SELECT coalesce(sum(pg_database_size(oid)), 0)::bigint FROM pg_database \
     WHERE has_database_privilege(oid, 'CONNECT')";

/// Restores the newest backup into the empty data directory, when that is wanted and cheaper; whether it is there.
///
/// # Errors
/// When the data directory cannot be emptied.
pub async fn restored(context: &Context) -> Result<bool> {
    let wanted = context.cluster.spec.replica_source;
    let stores = context.cluster.spec.stores(&context.env.namespace, &context.env.cluster);
    if wanted == ReplicaSource::Primary || stores.is_empty() {
        return Ok(false);
    }
    let looked = timeout(LIMIT, look(context, wanted, stores)).await.unwrap_or_else(|_| {
        Err(Error::transient(format!("primary and repositories did not answer within {} s", LIMIT.as_secs())))
    });
    let found = match looked {
        Ok(Some(found)) => found,
        Ok(None) => return Ok(false),
        Err(error) => {
            told(context, wanted, &error.report()).await;
            return Ok(false);
        }
    };
    marker::clean(&context.env.paths, context.wal_dir().as_deref())?;
    match found.restore(context).await {
        Ok(()) => Ok(true),
        Err(error) => {
            told(context, wanted, &error.report()).await;
            Ok(false)
        }
    }
}

/// A backup that the primary's WAL goes on from.
struct Found {
    places: Vec<Place>,
    chosen: Chosen,
    secrets: SecretValues,
    /// WAL that was written since it ended.
    wal_bytes: u64,
}

impl Found {
    async fn restore(self, context: &Context) -> Result<()> {
        let Chosen { index, able: (request, plan), .. } = self.chosen;
        let place = &self.places[index];
        let note =
            format!("{}: restoring backup {} from {}", context.env.pod, plan.backup_id, place.describe());
        tracing::info!("{note}");
        context.kube.event(&context.cluster, EventType::Normal, "JoiningFromBackup", &note).await;
        // For retention; nothing recovers, so it is not written down.
        let reading = RecoveryFile {
            place: place.clone(),
            others: Vec::new(),
            backup_id: plan.backup_id.to_string(),
            backup_end: None,
            target: None,
            timeline: None,
            followed: plan.target_timeline,
            highest_timeline: 0,
            following: false,
        };
        reading.mark_in_use(&context.env, &self.secrets).await;
        let done = restoring::run(request).await;
        reading.unmark_in_use(&context.env, &self.secrets).await;
        done
    }
}

/// Whether a backup and the replay of so much WAL since then cost less than a copy of databases of this size. Pure.
fn is_cheaper(database_bytes: u64, wal_bytes: u64) -> bool {
    database_bytes >= LARGE && wal_bytes <= database_bytes / 2
}

/// The backup to restore; `None` when a copy of the primary is cheaper.
async fn look(context: &Context, wanted: ReplicaSource, stores: Vec<NamedStore>) -> Result<Option<Found>> {
    if wanted == ReplicaSource::Backup {
        return find(context, stores).await.map(Some);
    }
    let answer = ask(&context.programs, &context.children, &context.env, SIZE).await?;
    let database_bytes = answer.parse().unwrap_or(0);
    // The repositories are not even asked then.
    if !is_cheaper(database_bytes, 0) {
        return Ok(None);
    }
    let found = find(context, stores).await?;
    let cheaper = is_cheaper(database_bytes, found.wal_bytes);
    tracing::info!(database_bytes, wal_bytes = found.wal_bytes, cheaper, "the newest backup was looked at");
    Ok(cheaper.then_some(found))
}

async fn find(context: &Context, stores: Vec<NamedStore>) -> Result<Found> {
    let primary = Source::look(&context.programs, &context.children, &context.env).await?;
    let major = context.programs.major_version(&context.children).await?;
    let names = stores.iter().flat_map(|named| named.store.secret_names());
    let secrets = context.kube.read_secrets(names).await?;
    let place = |named: &NamedStore| Place {
        repository: named.name.clone(),
        server_name: named.store.server_name_or(&context.env.cluster).to_owned(),
        store: named.store.clone(),
    };
    let places: Vec<Place> = stores.iter().map(place).collect();
    let most = stores.iter().map(|named| jobs(&named.store)).max().unwrap_or(1);
    let request = |place: &Place| {
        let repository = repository(&place.store, &place.server_name, &secrets, Purpose::Data)?;
        let mut request = RestoreRequest::new(repository, &context.env.paths.pgdata);
        request.wal_dir = context.wal_dir();
        request.jobs = most;
        Ok(request)
    };
    let outcomes = choice::look(&places, request, |plan| judge(plan, &primary, major)).await;
    let chosen = choice::choose(&places, outcomes, true).map_err(|errors| {
        let reasons = places.iter().zip(&errors).map(|(p, e)| format!("{}: {}", p.describe(), e.report()));
        Error::transient(reasons.collect::<Vec<_>>().join("; "))
    })?;
    let position = primary.position.unwrap_or_default();
    let wal_bytes = position.0.saturating_sub(chosen.able.1.end_lsn.0);
    Ok(Found { places, chosen, secrets, wal_bytes })
}

/// Whether a replica of `primary` can be made from what `plan` restores. Pure.
fn judge(plan: &RestorePlan, primary: &Source, major: u32) -> Result<()> {
    same_version(plan.server_version.map(|version| version / 10_000), major)?;
    let id = &plan.backup_id;
    if plan.system_id.is_some_and(|system_id| system_id != primary.system_id) {
        return Err(Error::permanent(format!("backup {id} is of another database system")));
    }
    match primary.timeline {
        Some(timeline) if timeline == plan.target_timeline => {}
        timeline => {
            return Err(Error::transient(format!(
                "from backup {id} the archive leads to timeline {}, and the primary is on {}",
                plan.target_timeline,
                timeline.map_or_else(|| "none: it is in recovery".to_owned(), |t| t.to_string())
            )));
        }
    }
    if let Some(gap) = plan.wal_gap {
        return Err(Error::transient(format!(
            "WAL segment {gap} after backup {id} is missing in the archive"
        )));
    }
    Ok(())
}

/// That, and why, the primary is copied; an event when a backup was asked for.
async fn told(context: &Context, wanted: ReplicaSource, why: &str) {
    let note = format!("{}: the primary is copied, no backup can serve: {why}", context.env.pod);
    tracing::warn!("{note}");
    if wanted == ReplicaSource::Backup {
        context.kube.event(&context.cluster, EventType::Warning, "JoiningFromPrimary", &note).await;
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::large_and_fresh(100 << 30, 1 << 30, true)]
    #[case::small(1 << 30, 0, false)]
    #[case::much_wal(100 << 30, 51 << 30, false)]
    #[case::at_both_limits(4 << 30, 2 << 30, true)]
    fn a_backup_is_taken_when_the_data_is_large_and_the_backup_fresh(
        #[case] database: u64,
        #[case] wal: u64,
        #[case] taken: bool,
    ) {
        assert_eq!(is_cheaper(database, wal), taken);
    }
}
