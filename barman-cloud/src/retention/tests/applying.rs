//! Plans carried out on a store: what stays can be restored, what goes is gone, and what changed since is seen.

use super::model::{Scenario, alone, needs_nothing, scenarios};
use super::*;
use crate::backup_info::BackupInfo;
use crate::chain::Chain;
use crate::retention::{Applied, Refusal, WalHeld};
use crate::{Destination, Repository, Store};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn repository() -> Repository {
    let store = Store::memory(&Destination::parse("s3://b/p").expect("valid"));
    Repository::new(store, "srv").expect("valid")
}

async fn put(repository: &Repository, key: &str, body: impl Into<bytes::Bytes>) {
    repository.store().put(key, body.into()).await.expect("written");
}

/// Writes a backup with two parts and its manifest.
async fn write(repository: &Repository, shown: &BackupFacts, ancestors: &[BackupId], wal: OwnWal) {
    let place = repository.holding(shown.kind);
    let begin = shown.begin.expect("a time").fixed_offset();
    let mut info = BackupInfo::started(wal.begin.timeline, wal.begin.start(SIZE), SIZE, begin);
    match &shown.state {
        State::Unfinished(BackupStatus::Failed) => info.fail("stopped"),
        State::Unfinished(_) => {}
        _ => info.finish(wal.end.timeline, wal.lsn, SIZE, shown.end.unwrap_or_default().fixed_offset()),
    }
    for file in ["data.tar", "data_0001.tar"] {
        put(repository, &format!("{}/{file}", place.layout().backup_dir(&shown.id)), "1234").await;
    }
    put(repository, &place.layout().manifest(&shown.id), "{}").await;
    match &shown.state {
        State::Unreadable(why) if why == "its record" => {
            put(repository, &place.layout().backup_info(&shown.id), "status=NICE\n").await;
        }
        _ => place.put_backup_info(&shown.id, &info).await.expect("written"),
    }
    let lost = matches!(&shown.state, State::Unreadable(why) if why == "its chain");
    if shown.kind != BackupType::Full && !lost {
        let since_lsn = wal.begin.start(SIZE);
        let chain =
            Chain { kind: shown.kind, ancestors: ancestors.to_vec(), since_lsn, found_by: "page-lsn".into() };
        place.put_chain(&shown.id, &chain).await.expect("written");
    }
    if let Some(keep) = shown.keep {
        put(repository, &place.layout().keep(&shown.id), keep.as_str()).await;
    }
}

async fn filled(scenario: &Scenario) -> Repository {
    let repository = repository();
    for made in &scenario.made {
        write(&repository, &made.shown, &made.ancestors, made.wal).await;
    }
    for (name, size) in &scenario.objects {
        let key = format!("{}/{name}", repository.layout().wal_hash_dir(Scenario::segment(name)));
        put(&repository, &key, vec![0; *size as usize]).await;
    }
    for (timeline, readable) in &scenario.histories {
        let text = match readable {
            true => scenario.history(*timeline).render(),
            false => "damaged".to_owned(),
        };
        put(&repository, &format!("srv/wals/{timeline:08X}.history"), text).await;
    }
    repository
}

async fn plan_of(repository: &Repository, scenario: &Scenario) -> Plan {
    repository
        .plan_retention(&scenario.policy, now(), &scenario.in_use, &scenario.damaged)
        .await
        .expect("listed")
}

async fn contents(repository: &Repository) -> BTreeMap<String, u64> {
    let objects = repository.store().list("srv").await.expect("listed");
    objects.into_iter().map(|object| (object.key, object.size)).collect()
}

async fn apply(repository: &Repository, plan: &Plan) -> Applied {
    repository.apply_retention(plan, BTreeSet::new).await
}

/// By keys alone: nothing of what stays is lost, nothing of what goes is left.
async fn carried_out(scenario: Scenario) -> Result<(), TestCaseError> {
    let repository = filled(&scenario).await;
    let before = contents(&repository).await;
    let plan = plan_of(&repository, &scenario).await;
    // Stored bytes are what is in the parts; the rest of a decision is the same as from facts alone.
    let mut pure = scenario.plan();
    pure.deletable.iter_mut().for_each(|backup| backup.bytes = Some(8));
    prop_assert_eq!(&plan.deletable, &pure.deletable);
    prop_assert_eq!(&plan.wal, &pure.wal);
    let applied = repository.apply_retention(&plan, || scenario.in_use.clone()).await;
    prop_assert!(applied.is_whole(), "{applied:?}");
    let after = contents(&repository).await;
    let gone = |key: &String| !after.contains_key(key);
    let of = |id: &BackupId, key: &String| key.contains(&format!("/{id}/"));
    for backup in &plan.kept {
        prop_assert!(!before.keys().any(|key| of(&backup.id, key) && gone(key)));
        let made = scenario.by_id(&backup.id).expect("made");
        let alone = alone(&plan, &backup.id);
        for name in scenario.objects.keys() {
            let segment = Scenario::segment(name);
            let needed = !needs_nothing(made, &backup.reasons)
                && if alone { Scenario::within(made, segment) } else { scenario.leads_to(made, segment) };
            let key = format!("srv/wals/{}/{name}", segment.hash_dir());
            prop_assert!(!needed || after.contains_key(&key), "{} lost {name}", backup.id);
        }
    }
    for backup in &plan.deletable {
        prop_assert!(!after.keys().any(|key| of(&backup.id, key)));
    }
    prop_assert!(before.keys().filter(|key| gone(key)).all(|key| !key.ends_with(".history")));
    let freed: u64 = before.iter().filter(|(key, _)| gone(key)).map(|(_, size)| size).sum();
    prop_assert_eq!(applied.bytes + applied.wal_bytes, freed);
    prop_assert_eq!(applied.objects + applied.wal_objects, (before.len() - after.len()) as u64);
    let again = plan_of(&repository, &scenario).await;
    prop_assert!(again.is_empty(), "{plan}\nthen\n{again}");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_stays_can_be_restored_and_what_goes_is_gone(scenario in scenarios()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(carried_out(scenario))?;
    }
}

/// A chain of 9 and 8 that goes, and 1 that stays; WAL 1 to 100.
async fn world() -> (Repository, Plan) {
    let repository = repository();
    for backup in [backup(9, 10), of_kind(BackupType::Incremental, 8, 20, &[9]), backup(1, 80)] {
        write(&repository, &backup, &backup.ancestors, backup.wal.expect("known")).await;
    }
    for number in 1..=100 {
        let segment = Segment::from_number(1, number, SIZE);
        put(&repository, &repository.layout().wal(segment.into(), crate::Compression::None), "x").await;
    }
    let none = BTreeSet::new();
    let plan = repository.plan_retention(&Policy::full_count(1), now(), &none, &none).await.expect("listed");
    assert_eq!((deletable(&plan), cuts(&plan)), (vec![8, 9], vec![(1, 1, 79)]));
    (repository, plan)
}

fn refusals(applied: &Applied) -> Vec<(i64, Refusal)> {
    let backups = applied.refused.iter();
    backups.map(|refused| (days_of(refused.backup.as_ref().expect("one")), refused.why.clone())).collect()
}

async fn wal_is_all_there(repository: &Repository) -> bool {
    repository.list_wal().await.expect("listed").len() == 100
}

#[tokio::test]
async fn a_backup_that_is_kept_meanwhile_stays_with_its_base_and_its_wal() {
    let (repository, plan) = world().await;
    repository.increments().set_keep(&id(8), Some(Keep::Standalone)).await.expect("kept");
    let applied = apply(&repository, &plan).await;
    assert_eq!(refusals(&applied), [(8, Refusal::Kept(Keep::Standalone)), (9, Refusal::Dependent(id(8)))]);
    assert_eq!(applied.wal_held, Some(WalHeld::BackupStays(id(8))));
    assert!(applied.backups.is_empty() && wal_is_all_there(&repository).await);
    assert_eq!(repository.inventory().await.expect("listed").restorable().count(), 3);
}

#[tokio::test]
async fn a_backup_that_comes_into_use_meanwhile_stays() {
    let (repository, plan) = world().await;
    let applied = repository.apply_retention(&plan, || BTreeSet::from([id(9)])).await;
    assert_eq!(refusals(&applied), [(9, Refusal::InUse)]);
    assert_eq!((applied.backups, applied.wal_held), (vec![id(8)], Some(WalHeld::BackupStays(id(9)))));
    assert!(wal_is_all_there(&repository).await);
}

#[tokio::test]
async fn a_backup_that_meanwhile_builds_on_it_is_seen() {
    let (repository, plan) = world().await;
    let new = of_kind(BackupType::Differential, 0, 90, &[9]);
    write(&repository, &new, &new.ancestors, new.wal.expect("known")).await;
    let applied = apply(&repository, &plan).await;
    assert_eq!(refusals(&applied), [(9, Refusal::Dependent(id(0)))]);
    let (repository, plan) = world().await;
    // It has begun and does not say yet on what it builds.
    put(&repository, &format!("srv/howdah/incremental/{}/data.tar", id(0)), "x").await;
    let applied = apply(&repository, &plan).await;
    assert_eq!(refusals(&applied), [(8, Refusal::Dependent(id(0))), (9, Refusal::Dependent(id(8)))]);
    // Next time it is known to be what a killed run left.
    let none = BTreeSet::new();
    let plan = repository.plan_retention(&Policy::full_count(1), now(), &none, &none).await.expect("listed");
    assert!(apply(&repository, &plan).await.is_whole());
}

#[tokio::test]
async fn no_full_backup_goes_when_the_last_one_is_gone() {
    let (repository, plan) = world().await;
    repository.delete_backup(&id(1)).await.expect("somebody deletes it");
    let applied = apply(&repository, &plan).await;
    assert_eq!(refusals(&applied), [(9, Refusal::LastFullGone(id(1)))]);
    assert!(repository.backup_info(&id(9)).await.expect("there").is_done());
    assert!(wal_is_all_there(&repository).await);
}

#[tokio::test]
async fn a_standalone_backup_that_is_kept_for_more_meanwhile_holds_the_wal() {
    let (repository, _) = world().await;
    repository.set_keep(&id(9), Some(Keep::Standalone)).await.expect("kept");
    let none = BTreeSet::new();
    let plan = repository.plan_retention(&Policy::full_count(1), now(), &none, &none).await.expect("listed");
    assert_eq!(cuts(&plan), [(1, 1, 9), (1, 12, 79)]);
    repository.set_keep(&id(9), Some(Keep::Full)).await.expect("kept");
    let applied = apply(&repository, &plan).await;
    assert_eq!((applied.backups, applied.wal_held), (vec![id(8)], Some(WalHeld::KeptForMore(id(9)))));
    assert!(wal_is_all_there(&repository).await);
}
