//! What to do about a Backup: pure.

use howdah_api::backup::{Backup, BackupPhase, BackupStatus, InstanceId};

/// Who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Me<'a> {
    /// Name of the Cluster.
    pub cluster: &'a str,
    /// Name of the pod.
    pub pod: &'a str,
    /// Id of this process.
    pub session: &'a str,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not ours, not yet, or no longer.
    Leave,
    /// Take it.
    Take,
    /// A former process of this pod worked on it and is gone: go on with it.
    GoOn,
    /// Nobody works on it any more, and nobody will.
    Lost,
}

/// How often a backup is gone on with: a backup that brings its manager down each time must end.
pub const MOST_RESUMES: i32 = 3;

impl Me<'_> {
    fn holds(&self, status: &BackupStatus) -> bool {
        status.instance_id.as_ref().is_some_and(|id: &InstanceId| id.pod_name == self.pod)
    }

    fn is_this_session(&self, status: &BackupStatus) -> bool {
        status.instance_id.as_ref().is_some_and(|id| id.session_id == self.session)
    }
}

/// Decides; `taken` is the UID of the backup that this process works on.
#[must_use]
pub fn decide(backup: &Backup, me: Me<'_>, taken: Option<&str>) -> Verdict {
    let status = backup.status.clone().unwrap_or_default();
    if backup.spec.cluster.name != me.cluster || !me.holds(&status) || !status.phase().is_executing() {
        return Verdict::Leave;
    }
    if taken.is_some() && taken == backup.metadata.uid.as_deref() {
        return Verdict::Leave;
    }
    if !me.is_this_session(&status) {
        return if status.resumes.unwrap_or(0) < MOST_RESUMES { Verdict::GoOn } else { Verdict::Lost };
    }
    match status.phase() {
        BackupPhase::Started => Verdict::Take,
        // Ours by its words, but nobody works on it.
        _ => Verdict::Lost,
    }
}

/// Whether this process may still write to a Backup in this state, and enter `next`.
#[must_use]
pub fn may_write(status: &BackupStatus, me: Me<'_>, next: BackupPhase) -> bool {
    me.holds(status) && me.is_this_session(status) && status.phase().may_become(next)
}

/// The error of a lost backup.
pub const LOST: &str = "the instance manager restarted again and again while it took this backup; nothing of it is kept; see in the log of the former container why (kubectl logs --previous), then create another Backup";

#[cfg(test)]
mod tests {
    use super::*;
    use howdah_api::backup::BackupSpec;
    use howdah_api::common::LocalObjectReference;

    const ME: Me<'static> = Me { cluster: "pg", pod: "pg-1", session: "s2" };

    fn backup(cluster: &str, phase: BackupPhase, pod: &str, session: &str) -> Backup {
        let spec =
            BackupSpec { cluster: LocalObjectReference { name: cluster.into() }, ..BackupSpec::default() };
        let mut backup = Backup::new("b", spec);
        backup.metadata.uid = Some("u".into());
        backup.status = Some(BackupStatus {
            phase: Some(phase),
            instance_id: Some(InstanceId { pod_name: pod.into(), session_id: session.into() }),
            ..BackupStatus::default()
        });
        backup
    }

    #[rstest::rstest]
    #[case::assigned("pg", BackupPhase::Started, "pg-1", "s2", None, Verdict::Take)]
    #[case::being_taken("pg", BackupPhase::Running, "pg-1", "s2", Some("u"), Verdict::Leave)]
    #[case::just_taken("pg", BackupPhase::Started, "pg-1", "s2", Some("u"), Verdict::Leave)]
    #[case::forgotten("pg", BackupPhase::Running, "pg-1", "s2", None, Verdict::Lost)]
    #[case::former_process("pg", BackupPhase::Running, "pg-1", "s1", None, Verdict::GoOn)]
    #[case::former_process_that_never_began("pg", BackupPhase::Started, "pg-1", "s1", None, Verdict::GoOn)]
    #[case::former_process_at_the_end("pg", BackupPhase::Finalizing, "pg-1", "s1", None, Verdict::GoOn)]
    #[case::other_pod("pg", BackupPhase::Started, "pg-2", "s2", None, Verdict::Leave)]
    #[case::other_cluster("pgx", BackupPhase::Started, "pg-1", "s2", None, Verdict::Leave)]
    #[case::not_assigned("pg", BackupPhase::Pending, "pg-1", "s2", None, Verdict::Leave)]
    #[case::done("pg", BackupPhase::Completed, "pg-1", "s1", None, Verdict::Leave)]
    #[case::failed("pg", BackupPhase::Failed, "pg-1", "s1", None, Verdict::Leave)]
    fn verdicts(
        #[case] cluster: &str,
        #[case] phase: BackupPhase,
        #[case] pod: &str,
        #[case] session: &str,
        #[case] taken: Option<&str>,
        #[case] want: Verdict,
    ) {
        assert_eq!(decide(&backup(cluster, phase, pod, session), ME, taken), want);
    }

    #[test]
    fn a_backup_that_brings_its_manager_down_ends() {
        let mut backup = backup("pg", BackupPhase::Running, "pg-1", "s1");
        for (resumes, want) in [(2, Verdict::GoOn), (3, Verdict::Lost)] {
            backup.status.as_mut().unwrap().resumes = Some(resumes);
            assert_eq!(decide(&backup, ME, None), want);
        }
    }

    #[test]
    fn a_terminal_phase_is_never_written_over() {
        let status = |phase, session: &str| backup("pg", phase, "pg-1", session).status.unwrap();
        assert!(may_write(&status(BackupPhase::Running, "s2"), ME, BackupPhase::Finalizing));
        assert!(may_write(&status(BackupPhase::Finalizing, "s2"), ME, BackupPhase::Completed));
        assert!(!may_write(&status(BackupPhase::Failed, "s2"), ME, BackupPhase::Completed));
        assert!(!may_write(&status(BackupPhase::Running, "s2"), ME, BackupPhase::Completed));
        assert!(!may_write(&status(BackupPhase::Running, "s3"), ME, BackupPhase::Finalizing));
    }
}
