//! Where the recovered cluster itself will archive: never where it comes from, and above every timeline that is there.
//!
//! A copy has the system identifier of its original, so the archive's own check does not tell them apart. Two settings
//! may lead to one place under different words; what is in the store does tell.

use barman_cloud::{BackupType, Repository};
use howdah_api::repository::NamedStore;
use howdah_engine::restore::RestorePlan;
use kube::runtime::events::EventType;

use super::Context;
use crate::error::{Error, Result};
use crate::kube::secrets::SecretValues;
use crate::objstore::{Purpose, repository};

/// Looks at the cluster's own places; the highest timeline in them. A place that cannot be looked at is told of and does
/// not hold up the recovery.
///
/// # Errors
/// When one of them is the source.
pub async fn look(
    context: &Context,
    own: &[NamedStore],
    secrets: &SecretValues,
    sources: &[Repository],
    plan: &RestorePlan,
) -> Result<u32> {
    let mut highest = 0;
    for named in own {
        match one(context, named, secrets, sources, plan).await {
            Ok(Found { is_source: true, .. }) => return Err(into_source(named, &context.env.cluster)),
            Ok(Found { highest: found, .. }) => highest = highest.max(found),
            Err(error) => {
                let note = format!(
                    "repository {} of this cluster cannot be looked at ({}); when it holds WAL of the same timeline, \
                     archiving there will fail",
                    named.name,
                    error.report()
                );
                tracing::warn!("{note}");
                context.kube.event(&context.cluster, EventType::Warning, "RepositoryNotSeen", &note).await;
            }
        }
    }
    Ok(highest)
}

struct Found {
    is_source: bool,
    highest: u32,
}

async fn one(
    context: &Context,
    named: &NamedStore,
    secrets: &SecretValues,
    sources: &[Repository],
    plan: &RestorePlan,
) -> Result<Found> {
    let own = repository(&named.store, &context.env.cluster, secrets, Purpose::Data)?;
    Ok(Found { is_source: is_source(&own, sources, plan).await?, highest: own.highest_timeline().await? })
}

/// Whether a place is one of the sources: the backup is in it, or the same record of who claimed it.
///
/// # Errors
/// When the place cannot be read.
pub async fn is_source(own: &Repository, sources: &[Repository], plan: &RestorePlan) -> Result<bool> {
    let holding = match plan.kind {
        BackupType::Full => own.clone(),
        BackupType::Differential | BackupType::Incremental => own.increments(),
    };
    match holding.backup_info(&plan.backup_id).await {
        Ok(info) => {
            let system = info.systemid.as_deref().and_then(|id| id.parse::<u64>().ok());
            if system == plan.system_id && info.end_xlog == Some(plan.end_lsn) {
                return Ok(true);
            }
        }
        Err(error) if error.is_not_found() || error.kind() == barman_cloud::ErrorKind::Corrupt => {}
        Err(error) => return Err(error.into()),
    }
    let Some(lineage) = own.lineage().await? else { return Ok(false) };
    for source in sources {
        // One that cannot be asked says nothing.
        if let Ok(Some(other)) = source.lineage().await
            && other.is_same_claim(&lineage)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

fn into_source(named: &NamedStore, cluster: &str) -> Error {
    Error::permanent(format!(
        "repository {} ({}, server {}) of this cluster is where it recovers from: a copy that archives there would ruin \
         the archive of its source; give it another path, or another serverName",
        named.name,
        named.store.destination_path,
        named.store.server_name_or(cluster)
    ))
}
