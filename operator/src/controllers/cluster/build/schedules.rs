//! The ScheduledBackups of the repositories: one for each repository and type that has a schedule.

use howdah_api::common::LocalObjectReference;
use howdah_api::scheduled_backup::{BackupOwner, ScheduledBackupSpec};
use howdah_api::{Cluster, ScheduledBackup, naming};
use kube::ResourceExt;

use super::child_meta;

/// Backups that are tried for one due time; a missed backup is found out by its age, not by a storm of tries.
const ATTEMPTS: i32 = 6;
/// Backup objects of failed tries that are kept: those of two due times.
const FAILED_KEPT: i32 = 2 * ATTEMPTS;

/// All that the specification asks for.
#[must_use]
pub fn schedules(cluster: &Cluster) -> Vec<ScheduledBackup> {
    let name = cluster.name_any();
    let repositories = cluster.spec.backup.iter().flat_map(|backup| &backup.repositories);
    let mut all = Vec::new();
    for repository in repositories {
        let Some(schedules) = &repository.schedules else { continue };
        for (kind, schedule) in schedules.given() {
            all.push(ScheduledBackup {
                metadata: child_meta(
                    cluster,
                    naming::repository_schedule(&name, &repository.name, kind.as_str()),
                ),
                spec: ScheduledBackupSpec {
                    schedule: schedule.to_owned(),
                    cluster: LocalObjectReference { name: name.clone() },
                    repository: Some(repository.name.clone()),
                    type_: Some(kind),
                    attempts: Some(ATTEMPTS),
                    time_zone: schedules.time_zone.clone(),
                    suspend: schedules.suspend,
                    backup_owner_reference: Some(BackupOwner::None),
                    failed_backups_history_limit: Some(FAILED_KEPT),
                    ..ScheduledBackupSpec::default()
                },
                status: None,
            });
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use howdah_api::cluster::{BackupConfiguration, ClusterSpec};
    use howdah_api::common::BackupType;
    use howdah_api::repository::{Repository, RepositorySchedules};

    /// S0.15, S0.26, S1.2, S1.34: one scheduled object for each repository and type.
    #[test]
    fn one_for_each_repository_and_type() {
        let repository =
            |name: &str, schedules| Repository { name: name.into(), schedules, ..Repository::default() };
        let two = RepositorySchedules {
            full: Some("30 2 * * *".into()),
            incremental: Some("*/30 * * * *".into()),
            time_zone: Some("Europe/Berlin".into()),
            ..RepositorySchedules::default()
        };
        let backup = BackupConfiguration {
            repositories: vec![repository("repo1", Some(two)), repository("repo2", None)],
            ..BackupConfiguration::default()
        };
        let cluster = Cluster::new("pg", ClusterSpec { backup: Some(backup), ..ClusterSpec::default() });
        let all = schedules(&cluster);
        let seen: Vec<_> =
            all.iter().map(|s| (s.name_any(), s.spec.type_, s.spec.schedule.as_str())).collect();
        assert_eq!(
            seen,
            [
                ("pg-repo1-full".to_owned(), Some(BackupType::Full), "30 2 * * *"),
                ("pg-repo1-incremental".to_owned(), Some(BackupType::Incremental), "*/30 * * * *"),
            ]
        );
        let first = &all[0];
        assert_eq!(first.spec.repository.as_deref(), Some("repo1"));
        assert_eq!((first.spec.attempts, first.spec.time_zone.as_deref()), (Some(6), Some("Europe/Berlin")));
        assert_eq!(first.owner_references()[0].kind, "Cluster");
    }
}
