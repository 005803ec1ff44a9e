//! What the primary says about each repository, in `status.repositories`. Pure.

use howdah_api::cluster_status::{ClusterStatus, RepositoryLag, RepositoryStatus};
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
    status.error = archiver.last_error.clone().or_else(|| state.encryption_error.clone());
    if state.probe.is_some() {
        status.probe.clone_from(&state.probe);
    }
    if named.store.encryption.is_none() {
        status.encryption = None;
    } else if state.encryption.is_some() {
        status.encryption.clone_from(&state.encryption);
    }
    if archiver.last_archived_wal.is_some() {
        status.last_archived_wal.clone_from(&archiver.last_archived_wal);
        status.last_archived_time.clone_from(&archiver.last_archived_time);
    }
    // What is just on its way is gone at the next look.
    status.lag = state.lag.clone().filter(|lag| lag.late);
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

/// Whether all repositories have what was acknowledged, in words; `None` while it is not known, or when there is only
/// one.
#[must_use]
pub fn up_to_date(repositories: &[RepositoryStatus]) -> Option<Result<(), String>> {
    if repositories.len() < 2 || repositories.iter().all(|r| r.archiving.is_none() && r.lag.is_none()) {
        return None;
    }
    let late: Vec<String> = repositories.iter().filter_map(|r| Some(late(r, r.lag.as_ref()?))).collect();
    Some(if late.is_empty() { Ok(()) } else { Err(late.join("; ")) })
}

/// No counts and times: they change all the time, and stand beside in the status.
fn late(repository: &RepositoryStatus, lag: &RepositoryLag) -> String {
    let from = lag.oldest_wal.as_ref().map(|wal| format!(" from {wal} on")).unwrap_or_default();
    let why = match &repository.error {
        Some(error) => format!("; it gets it by itself once this is mended: {error}"),
        None => ", and is getting it".to_owned(),
    };
    format!("repository {} lacks WAL{from} that others have{why}", repository.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use howdah_api::instance::{ArchiverStatus, Recoverability};
    use howdah_api::object_store::BarmanObjectStore;

    fn named(path: &str) -> NamedStore {
        let store = BarmanObjectStore { destination_path: path.into(), ..BarmanObjectStore::default() };
        NamedStore::new("repo1", store)
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
            ..RepositoryState::default()
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

    #[test]
    fn a_late_repository_is_told_and_one_whose_file_is_on_its_way_is_not() {
        let mut on_its_way = state(true, true);
        on_its_way.lag = Some(RepositoryLag { files: 1, ..RepositoryLag::default() });
        let punctual = one(&named("s3://b/p"), Some(&on_its_way), None);
        assert_eq!(punctual.lag, None);
        let mut behind = state(false, true);
        let oldest_wal = Some("000000010000000000000004".to_owned());
        behind.lag = Some(RepositoryLag { late: true, files: 3, oldest_wal, ..RepositoryLag::default() });
        let late = RepositoryStatus { name: "repo2".into(), ..one(&named("s3://b/q"), Some(&behind), None) };
        assert_eq!(up_to_date(std::slice::from_ref(&punctual)), None, "there is nothing to compare with");
        assert_eq!(up_to_date(&[punctual.clone(), punctual.clone()]), Some(Ok(())));
        let words = up_to_date(&[punctual, late]).unwrap().unwrap_err();
        assert_eq!(
            words,
            "repository repo2 lacks WAL from 000000010000000000000004 on that others have; it gets it by itself once \
             this is mended: away"
        );
    }
}
