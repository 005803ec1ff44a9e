//! `bootstrap full-recovery`: a data directory from a backup.

use barman_cloud::{BackupId, Repository};
use futures::future::join_all;
use howdah_api::bootstrap::{RecoveryStatus, RecoveryTarget};
use howdah_api::repository::NamedStore;
use howdah_engine::restore::RestorePlan;
use howdah_engine::{BackupChoice, RestoreRequest, TargetTimeline};
use kube::runtime::events::EventType;

use super::choice::{self, Chosen};
use super::recovery_file::{RecoveryFile, write_restored};
use super::source::{Place, Source, find};
use super::{Context, marker, own_places, restoring};
use crate::config::recovery::{Moment, moment};
use crate::error::{Error, Result};
use crate::kube::secrets::SecretValues;
use crate::objstore::{Purpose, jobs, repository};
use crate::pg::files::set_signal;

/// Word in the marks.
const KIND: &str = "full-recovery";

/// Restores unless the data directory is finished.
///
/// # Errors
/// Before anything is fetched when the backup cannot serve: not completed, of another version, incomplete in the
/// store, or the target out of reach.
pub async fn run(context: &Context) -> Result<()> {
    let paths = &context.env.paths;
    if marker::is_settled(paths)? {
        return Ok(());
    }
    let spec = &context.cluster.spec;
    let recovery = spec.bootstrap.as_ref().and_then(|b| b.recovery()).ok_or_else(|| {
        Error::permanent("the Cluster has no bootstrap.fullRecovery: there is nothing to recover")
    })?;
    let source = find(context, recovery).await?;
    let major = context.programs.major_version(&context.children).await?;
    same_version(source.major, major)?;
    let own = spec.stores(&context.env.namespace, &context.env.cluster);
    let stores = source.places.iter().map(|place| &place.store).chain(own.iter().map(|named| &named.store));
    let names = stores.flat_map(|store| store.secret_names());
    let secrets = context.kube.read_secrets(names).await?;
    let target = recovery.recovery_target.as_ref();

    // Everything that can be known from the stores is known before the volume is touched.
    let asked = Asked { context, source: &source, secrets: &secrets, own: &own, target, major };
    let Chosen { index, able: (mut request, plan), passed_over, others } = asked.choose().await?;
    let place = &source.places[index];
    let sources = asked.repositories();
    let own_highest = own_places::look(context, &own, &secrets, &sources, &plan).await?;
    let file = RecoveryFile {
        place: place.clone(),
        others: others.into_iter().map(|other| source.places[other].clone()).collect(),
        backup_id: plan.backup_id.to_string(),
        backup_end: Some(plan.end_time.to_rfc3339()),
        target: target.cloned(),
        timeline: Some(followed(&plan)),
        followed: plan.target_timeline,
        highest_timeline: highest(&sources).await.max(own_highest),
        following: spec.follows().is_some(),
    };
    for over in &passed_over {
        let note = format!(
            "repository {} is passed over for {}: {}",
            over.repository, place.repository, over.reason
        );
        tracing::warn!("{note}");
        context.kube.event(&context.cluster, EventType::Warning, "RepositoryPassedOver", &note).await;
    }
    file.mark_in_use(&context.env, &secrets).await;
    // The engine goes on from what an interrupted restore left: the mark only says that it is ours.
    marker::begin(paths, KIND)?;
    // The chosen backup is pinned, so that a new one that appears meanwhile changes nothing.
    request.choice = BackupChoice::Id(plan.backup_id.clone());
    told(context, &format!("restoring backup {} from {}", plan.backup_id, place.describe())).await;
    restoring::run(request).await?;

    file.write(paths)?;
    write_restored(
        paths,
        &RecoveryStatus {
            repository: Some(place.repository.clone()),
            destination_path: Some(place.store.destination_path.clone()),
            server_name: Some(place.server_name.clone()),
            backup_id: Some(plan.backup_id.to_string()),
            timeline_id: Some(plan.target_timeline),
            passed_over,
        },
    )?;
    set_signal(paths, Some(file.signal()))?;
    marker::finish(paths, KIND)?;
    let next = if file.following { "follows" } else { "replays" };
    told(context, &format!("backup {} is restored; PostgreSQL {next} the archive next", plan.backup_id))
        .await;
    Ok(())
}

/// What is asked of every place.
struct Asked<'a> {
    context: &'a Context,
    source: &'a Source,
    secrets: &'a SecretValues,
    own: &'a [NamedStore],
    target: Option<&'a RecoveryTarget>,
    major: u32,
}

impl Asked<'_> {
    fn open(&self, place: &Place) -> Result<Repository> {
        repository(&place.store, &place.server_name, self.secrets, Purpose::Data)
    }

    /// All places that can be opened.
    fn repositories(&self) -> Vec<Repository> {
        self.source.places.iter().filter_map(|place| self.open(place).ok()).collect()
    }

    fn request(&self, place: &Place) -> Result<RestoreRequest> {
        let mut request = RestoreRequest::new(self.open(place)?, &self.context.env.paths.pgdata);
        request.choice = backup(self.source.backup_id.as_deref())?;
        request.target = engine_target(self.target)?;
        request.timeline = timeline(self.target)?;
        request.wal_dir = self.context.wal_dir();
        let own = self.own.iter().map(|named| jobs(&named.store));
        request.jobs = own.max().unwrap_or(1).max(jobs(&place.store));
        Ok(request)
    }

    fn judge(&self, plan: &RestorePlan) -> Result<()> {
        same_version(plan.server_version.map(|v| v / 10_000), self.major)?;
        match plan.wal_gap {
            Some(gap) if to_the_end(self.target) => {
                let last = plan.last_wal.map_or_else(|| "none".to_owned(), |segment| segment.to_string());
                Err(hole(&gap.to_string(), &last))
            }
            _ => Ok(()),
        }
    }

    async fn choose(&self) -> Result<Chosen> {
        let places = &self.source.places;
        let outcomes = choice::look(places, |place| self.request(place), |plan| self.judge(plan)).await;
        let newest = timeline(self.target)? == TargetTimeline::Latest
            && self.target.is_none_or(|target| target.target_immediate != Some(true));
        let errors = match choice::choose(places, outcomes, newest) {
            Ok(chosen) => return Ok(chosen),
            Err(errors) => errors,
        };
        let windows = join_all(places.iter().zip(&errors).map(|(place, error)| async {
            // One that is away is not asked again.
            if error.is_permanent() { choice::window(self.request(place)).await } else { None }
        }));
        Err(choice::refused(places, &errors, &windows.await, self.source.backup.as_deref()))
    }
}

/// `recovery_target_timeline`. PostgreSQL's own `latest` would also take a branch that the backup is not on.
fn followed(plan: &RestorePlan) -> String {
    match plan.target_timeline == plan.backup_timeline {
        true => "current".to_owned(),
        false => plan.target_timeline.to_string(),
    }
}

/// The highest timeline in any of the archives, as far as they answer.
async fn highest(sources: &[Repository]) -> u32 {
    let asked = join_all(sources.iter().map(Repository::highest_timeline)).await;
    asked.into_iter().filter_map(|answer| answer.ok()).max().unwrap_or(0)
}

/// Whether everything in the archive is wanted: no point was named at which replay stops.
fn to_the_end(target: Option<&howdah_api::bootstrap::RecoveryTarget>) -> bool {
    target.is_none_or(|t| {
        t.target_time.is_none()
            && t.target_lsn.is_none()
            && t.target_name.is_none()
            && t.target_xid.is_none()
            && t.target_immediate != Some(true)
    })
}

/// PostgreSQL would take the hole for the end of the archive, promote there, and lose what lies behind it without
/// a word.
fn hole(gap: &str, last: &str) -> Error {
    Error::permanent(format!(
        "WAL segment {gap} is missing in the archive although later ones are there: replay would end with {last} \
         and lose what lies behind it; remedy: bring {gap} back, or accept the loss by a recoveryTarget that lies \
         before it"
    ))
}

async fn told(context: &Context, note: &str) {
    tracing::info!("{note}");
    context.kube.event(&context.cluster, EventType::Normal, "Recovery", note).await;
}

/// Physical backups fit one major version only.
pub(super) fn same_version(backup: Option<u32>, image: u32) -> Result<()> {
    match backup {
        Some(backup) if backup != image => Err(Error::permanent(format!(
            "the backup was taken by PostgreSQL {backup}, the image holds PostgreSQL {image}: use an image with PostgreSQL {backup}"
        ))),
        _ => Ok(()),
    }
}

fn backup(id: Option<&str>) -> Result<BackupChoice> {
    Ok(match id {
        Some(id) => BackupChoice::Id(id.parse::<BackupId>()?),
        None => BackupChoice::Best,
    })
}

fn engine_target(target: Option<&RecoveryTarget>) -> Result<howdah_engine::RecoveryTarget> {
    use howdah_engine::RecoveryTarget as Engine;
    Ok(match moment(target).map_err(|e| Error::permanent(e.to_string()))? {
        Moment::Latest => Engine::Latest,
        Moment::Immediate => Engine::Immediate,
        Moment::Time(time) => Engine::Time(time),
        Moment::Lsn(lsn) => Engine::Lsn(barman_cloud::Lsn(lsn)),
        Moment::Xid(xid) => Engine::Xid(xid.parse().unwrap_or_default()),
        Moment::Name(name) => Engine::Name(name),
    })
}

fn timeline(target: Option<&RecoveryTarget>) -> Result<TargetTimeline> {
    Ok(match target.and_then(|t| t.target_tli.as_deref()) {
        None | Some("latest") => TargetTimeline::Latest,
        Some("current") => TargetTimeline::Current,
        Some(number) => TargetTimeline::Id(number.parse().map_err(|_| {
            Error::permanent(format!(
                "recoveryTarget.targetTLI {number:?} is not a number, latest or current"
            ))
        })?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_must_match() {
        assert!(same_version(Some(15), 15).is_ok() && same_version(None, 15).is_ok());
        let text = same_version(Some(14), 15).unwrap_err().to_string();
        assert!(text.contains("use an image with PostgreSQL 14"), "{text}");
    }

    #[test]
    fn timelines() {
        let tli = |t: &str| {
            timeline(Some(&RecoveryTarget { target_tli: Some(t.into()), ..RecoveryTarget::default() }))
        };
        assert_eq!(tli("latest").unwrap(), TargetTimeline::Latest);
        assert_eq!(tli("3").unwrap(), TargetTimeline::Id(3));
        assert!(tli("x").unwrap_err().to_string().contains("targetTLI"));
    }
}
