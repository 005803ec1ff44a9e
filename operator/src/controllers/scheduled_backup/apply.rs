//! Creates the Backup that is due, and deletes Backup objects beyond the history limits.

use howdah_api::backup::BackupPhase;
use howdah_api::{Backup, OPERATOR_MANAGER, labels};
use kube::api::{Api, DeleteParams, PostParams};
use kube::runtime::events::EventType;
use kube::{Resource, ResourceExt};

use super::build;
use super::decide::Decision;
use super::fetch::Observed;
use crate::context::Context;
use crate::error::Error;

/// What became of a due slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// No slot was due.
    NotDue,
    /// The Backup exists now.
    Yes,
    /// Somebody else's Backup bears its name; the slot is left out.
    Refused,
}

/// Carries out `decision`.
pub async fn apply(ctx: &Context, observed: &Observed, decision: &Decision) -> Result<Created, Error> {
    trim(ctx, observed).await?;
    let Decision::Create { name, immediate, .. } = decision else { return Ok(Created::NotDue) };
    let schedule = &observed.schedule;
    let reference = schedule.object_ref(&());
    let api: Api<Backup> = Api::namespaced(ctx.client.clone(), &schedule.namespace().unwrap_or_default());
    let child = build::child(observed, name, *immediate);
    let params = PostParams { field_manager: Some(OPERATOR_MANAGER.into()), ..Default::default() };
    match api.create(&params, &child).await {
        Ok(_) => {
            tracing::info!(backup = name, "Backup created");
            ctx.event(&reference, EventType::Normal, "BackupCreated", format!("created Backup {name}")).await;
            Ok(Created::Yes)
        }
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            let present = api.get_opt(name).await.map_err(Error::api("get", format!("Backup {name}")))?;
            // Gone again since: the next try creates it.
            let Some(present) = present else { return Ok(Created::NotDue) };
            if present.labels().get(labels::SCHEDULED_BACKUP) == Some(&schedule.name_any())
                && present.spec.cluster == schedule.spec.cluster
            {
                return Ok(Created::Yes);
            }
            let note = format!(
                "Backup {name} exists and was not made by this schedule; it is left alone and the slot is left out"
            );
            ctx.event(&reference, EventType::Warning, "BackupAdoptionRefused", note).await;
            Ok(Created::Refused)
        }
        Err(error) => Err(Error::api("create", format!("Backup {name}"))(error)),
    }
}

/// Names of the Backup objects that are too many, oldest first. Pure.
#[must_use]
pub fn surplus(observed: &Observed) -> Vec<String> {
    let spec = &observed.schedule.spec;
    let limits = [
        (BackupPhase::Completed, spec.successful_backups_history_limit),
        (BackupPhase::Failed, spec.failed_backups_history_limit),
    ];
    let mut names = Vec::new();
    for (phase, limit) in limits {
        let Some(limit) = limit.and_then(|l| usize::try_from(l).ok()) else { continue };
        let list: Vec<&Backup> = observed
            .children
            .iter()
            .filter(|b| b.status.as_ref().is_some_and(|s| s.phase() == phase))
            .filter(|b| b.metadata.deletion_timestamp.is_none())
            .collect();
        names.extend(list.iter().take(list.len().saturating_sub(limit)).map(|b| b.name_any()));
    }
    names
}

async fn trim(ctx: &Context, observed: &Observed) -> Result<(), Error> {
    let namespace = observed.schedule.namespace().unwrap_or_default();
    let api: Api<Backup> = Api::namespaced(ctx.client.clone(), &namespace);
    for name in surplus(observed) {
        match api.delete(&name, &DeleteParams::background()).await {
            Ok(_) => tracing::info!(backup = name, "Backup object deleted: beyond the history limit"),
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(error) => return Err(Error::api("delete", format!("Backup {name}"))(error)),
        }
    }
    Ok(())
}
