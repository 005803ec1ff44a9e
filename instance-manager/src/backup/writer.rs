//! Writes to a Backup's status: always onto the version that was read, so that nothing newer is overwritten.

use std::time::Duration;

use howdah_api::backup::{Backup, BackupStatus};
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::time::sleep;

use crate::error::{Error, Result};
use crate::kube::Kubernetes;
use crate::kube::client::bounded;

/// What became of a write.
#[derive(Clone, Debug, PartialEq)]
pub enum Written {
    /// It was written; the object as it is now.
    Done(Box<Backup>),
    /// The object as it is now does not allow it (or it is gone).
    Refused,
}

/// How a write deals with an API that is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Give up: the next one comes soon.
    None,
    /// Try until it works.
    Endless,
}

/// Reads Backup `name`, lets `change` decide on its status, and writes that. `change` answers whether it may be
/// written; it is asked again when somebody else was faster.
///
/// # Errors
/// When the API does not answer and `patience` is [`Patience::None`], or refuses for good.
pub async fn write(
    kube: &Kubernetes,
    name: &str,
    uid: &str,
    patience: Patience,
    mut change: impl FnMut(&mut BackupStatus, &Backup) -> bool,
) -> Result<Written> {
    let mut pause = Duration::from_millis(200);
    loop {
        match once(kube, name, uid, &mut change).await {
            Ok(Some(written)) => return Ok(written),
            // Somebody else wrote in between: read and decide again, at once.
            Ok(None) => continue,
            Err(error) if error.is_permanent() || patience == Patience::None => return Err(error),
            Err(error) => {
                tracing::warn!(backup = name, "the status cannot be written yet: {}", error.report());
            }
        }
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(5));
    }
}

async fn once(
    kube: &Kubernetes,
    name: &str,
    uid: &str,
    change: &mut impl FnMut(&mut BackupStatus, &Backup) -> bool,
) -> Result<Option<Written>> {
    let api = kube.backups();
    let Some(backup) = bounded("Backup", name, api.get_opt(name)).await? else {
        return Ok(Some(Written::Refused));
    };
    if backup.metadata.uid.as_deref() != Some(uid) {
        return Ok(Some(Written::Refused));
    }
    let mut status = backup.status.clone().unwrap_or_default();
    if !change(&mut status, &backup) {
        return Ok(Some(Written::Refused));
    }
    let patch = patch(&backup, &status)?;
    let parameters =
        PatchParams { field_manager: Some(howdah_api::INSTANCE_MANAGER.into()), ..Default::default() };
    let patch = Patch::Merge(&patch);
    let patching = async {
        match api.patch_status(name, &parameters, &patch).await {
            Ok(now) => Ok(Some(Written::Done(Box::new(now)))),
            Err(kube::Error::Api(status)) if status.is_conflict() => Ok(None),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(Some(Written::Refused)),
            Err(error) => Err(error),
        }
    };
    bounded("Backup", name, patching).await
}

/// A merge patch from the old status to the new one: fields that went away become null.
fn patch(backup: &Backup, status: &BackupStatus) -> Result<serde_json::Value> {
    let as_json = |s: &BackupStatus| {
        serde_json::to_value(s)
            .map_err(|e| Error::permanent("the status cannot be written as JSON").because(e))
    };
    let mut new = as_json(status)?;
    let old = as_json(&backup.status.clone().unwrap_or_default())?;
    if let (Some(new), Some(old)) = (new.as_object_mut(), old.as_object()) {
        for key in old.keys().filter(|k| !new.contains_key(*k)).cloned().collect::<Vec<_>>() {
            new.insert(key, serde_json::Value::Null);
        }
    }
    Ok(json!({
        "metadata": { "resourceVersion": backup.metadata.resource_version },
        "status": new,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use howdah_api::backup::{BackupPhase, BackupSpec};

    #[test]
    fn the_patch_carries_the_version_it_was_decided_on_and_unsets_what_went_away() {
        let mut backup = Backup::new("b", BackupSpec::default());
        backup.metadata.resource_version = Some("17".into());
        backup.status = Some(BackupStatus { error: Some("x".into()), ..BackupStatus::default() });
        let status = BackupStatus { phase: Some(BackupPhase::Running), ..BackupStatus::default() };
        assert_eq!(
            patch(&backup, &status).unwrap(),
            json!({
                "metadata": { "resourceVersion": "17" },
                "status": { "phase": "running", "error": null },
            })
        );
    }
}
