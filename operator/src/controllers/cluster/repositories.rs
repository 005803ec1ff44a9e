//! What the primary says about each repository, in `status.repositories`. Pure.

use howdah_api::cluster_status::{ClusterStatus, RepositoryStatus};
use howdah_api::instance::{InstanceStatus, RepositoryState};
use howdah_api::repository::NamedStore;

use super::observed::Observed;
use super::validate::Validated;

/// Folds the report of the primary in; what it does not know stays as it was.
pub fn fold(validated: &Validated, observed: &Observed, report: &InstanceStatus, status: &mut ClusterStatus) {
    let stores = observed.cluster.spec.stores(&validated.namespace, &validated.name);
    let before = std::mem::take(&mut status.repositories);
    status.repositories = stores
        .iter()
        .map(|named| {
            let before = before.iter().find(|b| b.name == named.name);
            one(named, report.repositories.iter().find(|r| r.name == named.name), before)
        })
        .collect();
}

fn one(
    named: &NamedStore,
    state: Option<&RepositoryState>,
    before: Option<&RepositoryStatus>,
) -> RepositoryStatus {
    let destination_path = named.store.destination_path.clone();
    // What was known of another place says nothing about this one.
    let before = before.filter(|b| b.destination_path == destination_path).cloned().unwrap_or_default();
    let mut status = RepositoryStatus { name: named.name.clone(), destination_path, ..before };
    let Some(state) = state else { return status };
    let archiver = &state.archiver;
    status.archiving =
        (archiver.confirmed || !archiver.working).then_some(archiver.working).or(status.archiving);
    status.error.clone_from(&archiver.last_error);
    if archiver.last_archived_wal.is_some() {
        status.last_archived_wal.clone_from(&archiver.last_archived_wal);
        status.last_archived_time.clone_from(&archiver.last_archived_time);
    }
    if let Some(known) = &state.recoverability {
        status.backups = Some(known.backups);
        status.first_recoverability_point.clone_from(&known.first_recoverability_point);
        status.last_backup.clone_from(&known.last_backup);
        if let Some(window) = &known.window {
            status.earliest.clone_from(&window.earliest);
            status.latest.clone_from(&window.latest);
            status.gaps.clone_from(&window.gaps);
        }
    }
    if named.retention.is_none() {
        status.retention = None;
    } else if state.retention.is_some() {
        status.retention.clone_from(&state.retention);
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use howdah_api::instance::{ArchiverStatus, Recoverability};
    use howdah_api::object_store::BarmanObjectStore;

    fn named(path: &str) -> NamedStore {
        let store = BarmanObjectStore { destination_path: path.into(), ..BarmanObjectStore::default() };
        NamedStore { name: "repo1".into(), store, retention: None }
    }

    fn state(working: bool, confirmed: bool) -> RepositoryState {
        RepositoryState {
            name: "repo1".into(),
            archiver: ArchiverStatus {
                working,
                confirmed,
                last_error: (!working).then(|| "away".to_owned()),
                last_archived_wal: confirmed.then(|| "000000010000000000000003".to_owned()),
                ..ArchiverStatus::default()
            },
            recoverability: Some(Recoverability { backups: 2, ..Recoverability::default() }),
            retention: None,
        }
    }

    #[test]
    fn silence_keeps_what_was_known_of_the_same_place() {
        let store = named("s3://b/p");
        let known = one(&store, Some(&state(true, true)), None);
        assert_eq!((known.archiving, known.backups, known.error.clone()), (Some(true), Some(2), None));
        assert_eq!(one(&store, None, Some(&known)), known);
        let moved = one(&named("s3://b/q"), None, Some(&known));
        assert_eq!((moved.archiving, moved.backups, moved.last_archived_wal), (None, None, None));
    }

    #[test]
    fn nothing_archived_yet_is_neither_working_nor_failing() {
        assert_eq!(one(&named("s3://b/p"), Some(&state(true, false)), None).archiving, None);
        let failing = one(&named("s3://b/p"), Some(&state(false, false)), None);
        assert_eq!((failing.archiving, failing.error.as_deref()), (Some(false), Some("away")));
    }
}
