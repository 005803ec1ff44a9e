//! Retention: on the primary, after each backup and every hour, a plan is made for each repository that has a policy, and
//! carried out. What was decided and done is in the status.

use std::collections::{BTreeMap, BTreeSet};

use barman_cloud::Segment;
use barman_cloud::retention::{Applied, FullRule, Plan, Policy};
use chrono::Utc;
use howdah_api::repository::NamedStore;
use howdah_api::retention::{JudgedBackup, Retention, RetentionStatus};
use howdah_engine::Repository;
use tokio::sync::Mutex;
use tokio::time::{Duration, Instant};

use super::catalogue::open;
use crate::error::{Error, Result};
use crate::inspect::NamedRepository;
use crate::run::role::Running;
use crate::run::shared::Shared;
use crate::time::kube;

/// How often the plan is made though nothing happened: time passes, and windows move on.
const EVERY: Duration = Duration::from_secs(3600);
/// Backups that are shown of each list.
const SHOWN: usize = 50;

/// Two runs would delete the same things: the hourly one and one that somebody asks for take turns.
static ALONE: Mutex<()> = Mutex::const_new(());

/// When each repository was looked at, and what has to change before it is looked at again sooner.
#[derive(Default)]
pub struct Last(BTreeMap<String, (Instant, NamedStore, u32)>);

impl Last {
    /// Whether a plan is due: after an hour, with another policy or place, or when there are other backups.
    fn is_due(&mut self, named: &NamedStore, backups: u32, now: Instant) -> bool {
        let due = self
            .0
            .get(&named.name)
            .is_none_or(|(at, before, known)| now - *at >= EVERY || before != named || *known != backups);
        if due {
            self.0.insert(named.name.clone(), (now, named.clone(), backups));
        }
        due
    }

    /// A failed run is tried again at the next look.
    fn again(&mut self, named: &NamedStore) {
        self.0.remove(&named.name);
    }
}

/// Looks after every repository that has a policy. `backups` is how many complete backups each holds.
pub async fn enforce(shared: &Shared, last: &mut Last, backups: &BTreeMap<String, u32>) {
    for named in shared.stores() {
        let Some(wanted) = &named.retention else { continue };
        // A backup that is being made builds on others; it ends soon enough.
        if shared.backup().is_some() {
            return;
        }
        let Some(known) = backups.get(&named.name) else { continue };
        if !last.is_due(&named, *known, Instant::now()) {
            continue;
        }
        let before = shared.retention(&named.name).unwrap_or_default();
        let status = match one(shared, &named, wanted, before.clone()).await {
            Ok(status) => status,
            Err(error) => {
                last.again(&named);
                tracing::warn!(repository = named.name, "no retention plan: {}", error.report());
                RetentionStatus { error: Some(error.report()), ..before }
            }
        };
        shared.set_retention(&named.name, status);
    }
}

/// A plan, and what became of it when it was carried out.
#[derive(Debug)]
pub struct Expired {
    /// The plan.
    pub plan: Plan,
    /// What was deleted; `None` when nothing was to be.
    pub applied: Option<Applied>,
}

/// Makes the plan of a repository; with `delete` it is carried out. WAL from `held` on is left: a repository that is
/// behind gets it from this one. Not for two callers at the same time then.
///
/// # Errors
/// When the policy cannot be read or the store does not answer. What is not deleted is no error.
pub async fn run(
    repository: &Repository,
    wanted: &Retention,
    held: Option<Segment>,
    delete: bool,
) -> Result<Expired> {
    let policy = policy(wanted)?;
    let in_use = repository.in_use(Utc::now()).await?;
    let mut plan = repository.plan_retention(&policy, Utc::now(), &in_use, &BTreeSet::new()).await?;
    if let Some(from) = held {
        plan.wal.cuts.retain(|cut| cut.last < from);
    }
    let applied = match delete && !plan.is_empty() {
        true => Some(repository.apply_retention(&plan, || in_use.clone()).await),
        false => None,
    };
    Ok(Expired { plan, applied })
}

/// Carries the plan of a repository out because somebody asked for it; `None` when it has no policy. What was decided and
/// done is in the status.
///
/// # Errors
/// When this is not the primary, or a backup is being taken, besides those of [`run`].
pub async fn now(shared: &Shared, named: &NamedRepository) -> Result<Option<Expired>> {
    if shared.server.borrow().running != Some(Running::Primary) {
        return Err(Error::permanent("only the primary deletes: run expire --confirm in its pod"));
    }
    if shared.backup().is_some() {
        return Err(Error::transient("a backup is being taken: run expire --confirm when it has ended"));
    }
    let Some((repository, wanted)) = named.retained()? else { return Ok(None) };
    let _alone = ALONE.lock().await;
    let done = run(repository, wanted, shared.wal.wanted_from(&named.name), true).await?;
    let before = shared.retention(&named.name).unwrap_or_default();
    shared.set_retention(&named.name, outcome(&named.name, &done, before));
    // What is recoverable may have changed.
    shared.backup_ended.notify_one();
    Ok(Some(done))
}

async fn one(
    shared: &Shared,
    named: &NamedStore,
    wanted: &Retention,
    before: RetentionStatus,
) -> Result<RetentionStatus> {
    let repository = open(shared, named)?;
    let _alone = ALONE.lock().await;
    let held = shared.wal.wanted_from(&named.name);
    let done = run(&repository, wanted, held, wanted.dry_run != Some(true)).await?;
    Ok(outcome(&named.name, &done, before))
}

/// The status after a run; the log tells what was deleted.
fn outcome(name: &str, run: &Expired, before: RetentionStatus) -> RetentionStatus {
    let mut status = planned(&run.plan, before);
    let Some(applied) = &run.applied else { return status };
    done(&mut status, applied);
    for refused in &applied.refused {
        tracing::warn!(repository = name, "{refused}");
    }
    tracing::info!(
        repository = name,
        backups = applied.backups.len(),
        wal = applied.wal_objects,
        bytes = applied.bytes + applied.wal_bytes,
        "retention deleted what the policy does not keep"
    );
    status
}

/// The policy in the words of the library.
///
/// # Errors
/// When a period cannot be read; the schema lets none of these through.
pub fn policy(wanted: &Retention) -> Result<Policy> {
    let full = match &wanted.full {
        None => None,
        Some(rule) => match (rule.count, rule.age.as_deref()) {
            (Some(count), None) => Some(FullRule::Count(count)),
            (None, Some(age)) => Some(FullRule::Age(age.parse()?)),
            _ => return Err(Error::permanent("retention.full: give either count or age")),
        },
    };
    Ok(Policy {
        full,
        differential: wanted.differential,
        recovery_window: wanted.recovery_window.as_deref().map(str::parse).transpose()?,
        daily: wanted.daily.unwrap_or(0),
        weekly: wanted.weekly.unwrap_or(0),
        monthly: wanted.monthly.unwrap_or(0),
        minimum_redundancy: wanted.minimum_redundancy.unwrap_or(1),
    })
}

/// The plan in the words of the status; what the last run deleted stays in sight.
#[must_use]
pub fn planned(plan: &Plan, before: RetentionStatus) -> RetentionStatus {
    let words = |reasons: Vec<String>| reasons.join("; ");
    RetentionStatus {
        policy: plan.policy.to_string(),
        plan_time: Some(kube(plan.made)),
        kept: plan
            .kept
            .iter()
            .rev()
            .take(SHOWN)
            .map(|kept| JudgedBackup {
                id: kept.id.to_string(),
                type_: kept.kind.to_string(),
                reason: words(kept.reasons.iter().map(ToString::to_string).collect()),
            })
            .collect(),
        deletable: plan
            .deletable
            .iter()
            .take(SHOWN)
            .map(|backup| JudgedBackup {
                id: backup.id.to_string(),
                type_: backup.kind.to_string(),
                reason: backup.reason.to_string(),
            })
            .collect(),
        deletable_wal_files: plan.wal.objects(),
        error: None,
        ..before
    }
}

/// What became of the plan.
pub fn done(status: &mut RetentionStatus, applied: &Applied) {
    status.deletable.retain(|backup| !applied.backups.iter().any(|id| id.as_str() == backup.id));
    status.deletable_wal_files = status.deletable_wal_files.saturating_sub(applied.wal_objects);
    if !applied.backups.is_empty() || applied.wal_objects > 0 {
        status.deleted = applied.backups.iter().take(SHOWN).map(ToString::to_string).collect();
        status.deleted_wal_files = applied.wal_objects;
        status.deletion_time = Some(kube(Utc::now()));
    }
    let mut words: Vec<String> = applied.refused.iter().take(3).map(ToString::to_string).collect();
    if applied.refused_objects > 0 {
        words.push(format!("{} objects were not deleted", applied.refused_objects));
    }
    words.extend(applied.wal_held.as_ref().map(|held| format!("WAL was left alone: {held}")));
    words.extend(applied.stopped.as_ref().map(barman_cloud::Error::report));
    status.error = (!words.is_empty()).then(|| words.join("; "));
}

#[cfg(test)]
mod tests {
    use super::*;
    use howdah_api::retention::FullRetention;

    /// S0.17 and S3.7: keep by count, as the seeds write it.
    #[test]
    fn a_policy_of_the_cluster_is_the_librarys() {
        let wanted = Retention {
            full: Some(FullRetention { count: Some(7), age: None }),
            recovery_window: Some("30d".into()),
            weekly: Some(4),
            ..Retention::default()
        };
        assert_eq!(
            policy(&wanted).unwrap().to_string(),
            "7 full, recovery window 30d, 4 weekly, at least 1 full"
        );
        let age = FullRetention { count: None, age: Some("6m".into()) };
        let wanted = Retention { full: Some(age), ..Retention::default() };
        assert!(policy(&wanted).unwrap().to_string().starts_with("full for 6m"));
        let wrong = Retention { recovery_window: Some("soon".into()), ..Retention::default() };
        assert!(policy(&wrong).unwrap_err().report().contains("soon"));
    }

    #[test]
    fn what_was_deleted_is_no_longer_deletable_and_stays_in_sight() {
        let judged = |id: &str| JudgedBackup { id: id.into(), ..JudgedBackup::default() };
        let mut status = RetentionStatus {
            deletable: vec![judged("20261121T010000"), judged("20261122T010000")],
            deletable_wal_files: 10,
            ..RetentionStatus::default()
        };
        let applied = Applied {
            backups: vec!["20261121T010000".parse().unwrap()],
            wal_objects: 8,
            refused_objects: 2,
            ..Applied::default()
        };
        done(&mut status, &applied);
        assert_eq!(status.deletable, [judged("20261122T010000")]);
        assert_eq!((status.deletable_wal_files, status.deleted_wal_files), (2, 8));
        assert_eq!(status.deleted, ["20261121T010000"]);
        assert!(status.error.unwrap().contains("2 objects were not deleted"));
    }

    #[test]
    fn a_plan_is_due_when_something_changed_or_time_passed() {
        let named = |window: &str| NamedStore {
            retention: Some(Retention { recovery_window: Some(window.into()), ..Retention::default() }),
            ..NamedStore::new("repo1", howdah_api::object_store::BarmanObjectStore::default())
        };
        let (mut last, now) = (Last::default(), Instant::now());
        assert!(last.is_due(&named("30d"), 3, now));
        assert!(!last.is_due(&named("30d"), 3, now));
        assert!(last.is_due(&named("30d"), 4, now), "another backup");
        assert!(last.is_due(&named("7d"), 4, now), "another policy");
        assert!(last.is_due(&named("7d"), 4, now + EVERY), "an hour later");
        last.again(&named("7d"));
        assert!(last.is_due(&named("7d"), 4, now + EVERY), "the last run failed");
    }
}
