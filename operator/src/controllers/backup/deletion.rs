//! Backups whose data goes with them: `deletionPolicy: Delete`.
//!
//! A finalizer holds such a Backup until the primary's instance manager, which has the credentials, says by the
//! condition `DataDeleted` that nothing is left. It does not hold it when there is nobody who could do that: without
//! its cluster the object goes and the data stays, so that no namespace hangs in its deletion.

use howdah_api::backup::BackupPhase;
use howdah_api::conditions::{self, TRUE};
use howdah_api::labels::BACKUP_DATA;
use howdah_api::{Backup, Cluster, OPERATOR_MANAGER};
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::events::EventType;
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde_json::json;

use crate::context::Context;
use crate::error::Error;

/// What is done about the finalizer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Step {
    /// It is as it should be, and nobody waits for it.
    Nothing,
    /// It is set: from now on the object waits for its data.
    Hold,
    /// It is taken away.
    Release {
        /// What has to be told: the data stays though its deletion was asked for.
        retained: Option<String>,
    },
    /// The instance manager is at it.
    Wait,
}

/// Decides. `cluster` is the one that the Backup names, when it exists.
#[must_use]
pub fn decide(backup: &Backup, cluster: Option<&Cluster>) -> Step {
    let held = backup.finalizers().iter().any(|name| name == BACKUP_DATA);
    let release = |retained| Step::Release { retained };
    if backup.metadata.deletion_timestamp.is_none() {
        return match (backup.deletes_data(), held) {
            (true, false) => Step::Hold,
            (false, true) => release(None),
            _ => Step::Nothing,
        };
    }
    if !held {
        return Step::Nothing;
    }
    if !backup.deletes_data() {
        return release(None);
    }
    let status = backup.status.clone().unwrap_or_default();
    let condition = conditions::get(&status.conditions, conditions::DATA_DELETED);
    if condition.is_some_and(|c| c.status == TRUE) || status.phase() == BackupPhase::Pending {
        return release(None);
    }
    // Whatever it leaves in the store is known only when it has ended.
    let ended = status.phase().is_terminal();
    if ended && status.backup_id.is_none() {
        return release(None);
    }
    if cluster.is_none_or(|c| c.metadata.deletion_timestamp.is_some()) {
        let id = status.backup_id.as_deref().unwrap_or("without an id");
        let place = status.destination_path.as_deref().unwrap_or("its repository");
        return release(Some(format!(
            "Cluster {} is gone, and nobody else may write to its repository: the data of backup {id} stays in {place}; \
             delete it there, or let the retention of another cluster with this repository do so",
            backup.spec.cluster.name
        )));
    }
    if ended { Step::Wait } else { Step::Nothing }
}

/// Looks after the finalizer of the Backup `name`; tells what was done, `None` when there is no such Backup.
pub async fn look(ctx: &Context, namespace: &str, name: &str) -> Result<Option<Step>, Error> {
    let api: Api<Backup> = Api::namespaced(ctx.client.clone(), namespace);
    let what = format!("Backup {name}");
    let Some(backup) = api.get_opt(name).await.map_err(Error::api("get", what.clone()))? else {
        return Ok(None);
    };
    let cluster = match &backup.metadata.deletion_timestamp {
        Some(_) if backup.is_held() => {
            let clusters: Api<Cluster> = Api::namespaced(ctx.client.clone(), namespace);
            let cluster = &backup.spec.cluster.name;
            clusters.get_opt(cluster).await.map_err(Error::api("get", format!("Cluster {cluster}")))?
        }
        _ => None,
    };
    let step = decide(&backup, cluster.as_ref());
    let mut finalizers: Vec<String> = backup.finalizers().to_vec();
    match &step {
        Step::Nothing | Step::Wait => return Ok(Some(step)),
        Step::Hold => finalizers.push(BACKUP_DATA.to_owned()),
        Step::Release { retained } => {
            finalizers.retain(|name| name != BACKUP_DATA);
            if let Some(note) = retained {
                ctx.event(&backup.object_ref(&()), EventType::Warning, "DataRetained", note.clone()).await;
            }
        }
    }
    // With the version that was read: nobody else's finalizer is lost.
    let patch = json!({"metadata": {
        "resourceVersion": backup.metadata.resource_version,
        "finalizers": finalizers,
    }});
    let params = PatchParams { field_manager: Some(OPERATOR_MANAGER.into()), ..Default::default() };
    match api.patch(name, &params, &Patch::Merge(&patch)).await {
        Ok(_) => tracing::info!(backup = name, ?step, "finalizer"),
        Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(None),
        Err(error) => return Err(Error::api("write the finalizers of", what)(error)),
    }
    Ok(Some(step))
}

#[cfg(test)]
mod tests {
    use howdah_api::backup::BackupPhase::{Completed, Failed, Pending, Running};
    use howdah_api::common::DeletionPolicy;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use rstest::rstest;

    use super::*;
    use crate::fixtures::{STORE, backup, cluster, now};

    fn made(phase: BackupPhase, policy: DeletionPolicy, held: bool, deleted: bool) -> Backup {
        let mut backup = backup("b", 0, phase);
        backup.spec.deletion_policy = Some(policy);
        backup.metadata.finalizers = held.then(|| vec!["other".to_owned(), BACKUP_DATA.to_owned()]);
        backup.metadata.deletion_timestamp = deleted.then(|| Time(now()));
        backup
    }

    const RELEASE: Step = Step::Release { retained: None };

    #[rstest]
    #[case::taken_into_care(Pending, DeletionPolicy::Delete, false, false, Step::Hold)]
    #[case::after_its_end_too(Completed, DeletionPolicy::Delete, false, false, Step::Hold)]
    #[case::in_care(Running, DeletionPolicy::Delete, true, false, Step::Nothing)]
    #[case::changed_its_mind(Completed, DeletionPolicy::Retain, true, false, RELEASE)]
    #[case::changed_its_mind_late(Completed, DeletionPolicy::Retain, true, true, RELEASE)]
    #[case::somebody_elses(Completed, DeletionPolicy::Retain, false, true, Step::Nothing)]
    #[case::never_began(Pending, DeletionPolicy::Delete, true, true, RELEASE)]
    #[case::being_taken(Running, DeletionPolicy::Delete, true, true, Step::Nothing)]
    #[case::stored_nothing(Failed, DeletionPolicy::Delete, true, true, RELEASE)]
    #[case::stored(Completed, DeletionPolicy::Delete, true, true, Step::Wait)]
    fn steps(
        #[case] phase: BackupPhase,
        #[case] policy: DeletionPolicy,
        #[case] held: bool,
        #[case] deleted: bool,
        #[case] want: Step,
    ) {
        assert_eq!(decide(&made(phase, policy, held, deleted), Some(&cluster(STORE))), want);
    }

    #[test]
    fn the_object_goes_when_its_data_is_gone() {
        let mut backup = made(Completed, DeletionPolicy::Delete, true, true);
        let list = &mut backup.status.as_mut().unwrap().conditions;
        conditions::set(list, conditions::DATA_DELETED, "False", "LastFull", "m", None, Time(now()));
        assert_eq!(decide(&backup, Some(&cluster(STORE))), Step::Wait);
        let list = &mut backup.status.as_mut().unwrap().conditions;
        conditions::set(list, conditions::DATA_DELETED, "True", "Deleted", "m", None, Time(now()));
        assert_eq!(decide(&backup, Some(&cluster(STORE))), RELEASE);
    }

    #[test]
    fn without_its_cluster_the_data_stays_and_the_object_goes() {
        let mut going = cluster(STORE);
        going.metadata.deletion_timestamp = Some(Time(now()));
        for phase in [Completed, Running] {
            let backup = made(phase, DeletionPolicy::Delete, true, true);
            for cluster in [None, Some(&going)] {
                let Step::Release { retained: Some(note) } = decide(&backup, cluster) else {
                    panic!("{phase} is not released")
                };
                assert!(note.contains("Cluster zoo is gone"), "{note}");
            }
        }
    }
}
