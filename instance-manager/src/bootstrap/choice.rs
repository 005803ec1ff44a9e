//! From which of several places a recovery begins: all are looked at beside each other, the nearest that can serve is
//! taken, and why the nearer ones cannot is kept.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use futures::future::join_all;
use howdah_api::bootstrap::PassedOver;
use howdah_engine::RestoreRequest;
use howdah_engine::restore::RestorePlan;
use tokio::time::timeout;

use super::source::Place;
use crate::error::{Error, Result};

/// How long one place may take to say what it holds: one that is away must not hold up the others.
const LIMIT: Duration = Duration::from_secs(120);

/// A place that can serve: what would be done.
pub type Able = (RestoreRequest, RestorePlan);

/// The place that was taken.
#[derive(Debug)]
pub struct Chosen {
    /// Its number among all.
    pub index: usize,
    /// What will be done.
    pub able: Able,
    /// Nearer ones that were passed over.
    pub passed_over: Vec<PassedOver>,
    /// Numbers of others that answered: WAL may come from these.
    pub others: Vec<usize>,
}

/// Looks at every place. `request` makes what is asked of one; `judge` has a last word about a plan.
pub async fn look(
    places: &[Place],
    request: impl Fn(&Place) -> Result<RestoreRequest>,
    judge: impl Fn(&RestorePlan) -> Result<()>,
) -> Vec<Result<Able>> {
    join_all(places.iter().map(|place| async {
        let request = request(place)?;
        let plan = timeout(LIMIT, howdah_engine::restore::plan(&request)).await.map_err(|_| {
            Error::transient(format!(
                "it did not say within {} s what it holds: see that its store answers",
                LIMIT.as_secs()
            ))
        })??;
        judge(&plan)?;
        Ok((request, plan))
    }))
    .await
}

/// Takes the nearest place that can serve. `newest` asks for the newest timeline that any of them knows: an archive that
/// has missed a promotion is passed over. Pure.
///
/// # Errors
/// The outcome of each place, when none can serve.
pub fn choose(places: &[Place], outcomes: Vec<Result<Able>>, newest: bool) -> Result<Chosen, Vec<Error>> {
    let timelines = outcomes.iter().flatten().map(|(_, plan)| plan.target_timeline);
    let highest = timelines.max().filter(|_| newest);
    let knows = outcomes
        .iter()
        .position(|outcome| outcome.as_ref().is_ok_and(|(_, plan)| Some(plan.target_timeline) == highest));
    let (mut passed_over, mut errors, mut chosen, mut others) = (Vec::new(), Vec::new(), None, Vec::new());
    for (index, outcome) in outcomes.into_iter().enumerate() {
        let over = |reason| PassedOver { repository: places[index].repository.clone(), reason };
        match outcome {
            Ok(able) => {
                let behind = highest.filter(|highest| able.1.target_timeline < *highest);
                match behind.zip(knows) {
                    _ if chosen.is_some() => others.push(index),
                    Some((highest, knows)) => {
                        others.push(index);
                        passed_over.push(over(format!(
                            "it ends on timeline {}, and repository {} knows timeline {highest}",
                            able.1.target_timeline, places[knows].repository
                        )));
                    }
                    None => chosen = Some((index, able)),
                }
            }
            Err(error) => {
                if chosen.is_none() {
                    passed_over.push(over(error.report()));
                } else if !error.is_permanent() {
                    tracing::warn!("{} does not help: {}", places[index].describe(), error.report());
                }
                // One that does not have the backup may have WAL.
                if error.is_permanent() {
                    others.push(index);
                }
                errors.push(error);
            }
        }
    }
    match chosen {
        Some((index, able)) => Ok(Chosen { index, able, passed_over, others }),
        None => Err(errors),
    }
}

/// None can serve: each place with its reason and, where it is known, from when to when it could.
#[must_use]
pub fn refused(
    places: &[Place],
    errors: &[Error],
    windows: &[Option<String>],
    backup: Option<&str>,
) -> Error {
    let several = places.len() > 1;
    let words: Vec<String> = places
        .iter()
        .zip(errors)
        .zip(windows)
        .map(|((place, error), window)| {
            let window = window.as_ref().map(|window| format!(" ({window})")).unwrap_or_default();
            match several {
                true => format!("{}: {}{window}", place.describe(), error.report()),
                false => format!("{}{window}", error.report()),
            }
        })
        .collect();
    let mut text = words.join("; ");
    if several {
        text = format!("the target can be reached from none of {} repositories: {text}", places.len());
    } else if let Some(backup) = backup {
        text = format!(
            "{text}; Backup {backup} is in this place alone: to recover from whichever repository of the cluster can, \
             use bootstrap.recovery.source with externalClusters"
        );
    }
    if errors.iter().all(Error::is_permanent) { Error::permanent(text) } else { Error::transient(text) }
}

/// From when to when a place can bring the server back, in words; `None` when it cannot be asked.
pub async fn window(request: Result<RestoreRequest>) -> Option<String> {
    let window = timeout(LIMIT, request.ok()?.repository.recovery_window()).await.ok()?.ok()?;
    let time = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Secs, true);
    let (Some(earliest), Some(latest)) = (window.earliest, window.latest) else {
        return Some("it holds nothing that can be restored".to_owned());
    };
    let gaps = match window.gaps.len() {
        0 => String::new(),
        1 => ", with a gap".to_owned(),
        count => format!(", with {count} gaps"),
    };
    Some(format!("it can restore from {} to {}{gaps}", time(earliest.time), time(latest.time)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use barman_cloud::{Destination, Repository, Store};
    use howdah_api::object_store::BarmanObjectStore;

    fn places() -> Vec<Place> {
        let place = |name: &str| Place {
            repository: name.into(),
            store: BarmanObjectStore {
                destination_path: format!("s3://b/{name}/"),
                ..BarmanObjectStore::default()
            },
            server_name: "pg".into(),
        };
        ["near", "middle", "far"].map(place).into()
    }

    fn able(timeline: u32) -> Result<Able> {
        let store = Store::memory(&Destination::parse("s3://b/p").unwrap());
        let request = RestoreRequest::new(Repository::new(store, "pg").unwrap(), "/d");
        let plan = RestorePlan {
            backup_id: "20261121T135740".parse().unwrap(),
            kind: barman_cloud::BackupType::Incremental,
            label: String::new(),
            ancestors: Vec::new(),
            backup_name: None,
            system_id: None,
            server_version: None,
            backup_timeline: 1,
            begin_wal: "000000010000000000000002".parse().unwrap(),
            end_wal: "000000010000000000000002".parse().unwrap(),
            end_lsn: "0/2000100".parse().unwrap(),
            end_time: Utc::now(),
            target_timeline: timeline,
            last_wal: None,
            last_wal_stored: None,
            wal_gap: None,
            stored_bytes: 0,
            parts: 1,
            has_manifest: true,
        };
        Ok((request, plan))
    }

    fn away() -> Result<Able> {
        Err(Error::transient("the store does not answer"))
    }

    fn damaged() -> Result<Able> {
        Err(Error::permanent("a part is missing"))
    }

    #[rstest::rstest]
    #[case::the_nearest(vec![able(1), able(1), able(1)], true, 0, &[], &[1, 2])]
    #[case::one_that_is_away_is_no_help_for_wal(vec![away(), able(1), away()], true, 1, &["near"], &[])]
    #[case::one_that_is_damaged_may_have_wal(vec![damaged(), able(1), able(1)], true, 1, &["near"], &[0, 2])]
    #[case::one_that_missed_a_promotion(vec![able(1), able(2), able(2)], true, 1, &["near"], &[0, 2])]
    #[case::a_timeline_was_asked_for(vec![able(1), able(2), able(1)], false, 0, &[], &[1, 2])]
    #[case::the_farthest(vec![damaged(), away(), able(3)], true, 2, &["near", "middle"], &[0])]
    fn the_nearest_that_can_serve(
        #[case] outcomes: Vec<Result<Able>>,
        #[case] newest: bool,
        #[case] index: usize,
        #[case] over: &[&str],
        #[case] others: &[usize],
    ) {
        let chosen = choose(&places(), outcomes, newest).unwrap();
        assert_eq!((chosen.index, chosen.others.as_slice()), (index, others));
        let names: Vec<&str> = chosen.passed_over.iter().map(|p| p.repository.as_str()).collect();
        assert_eq!(names, over);
        assert!(chosen.passed_over.iter().all(|p| !p.reason.is_empty()));
    }

    #[test]
    fn when_none_can_serve_each_says_why_and_what_it_could() {
        let errors = choose(&places(), vec![damaged(), damaged(), damaged()], true).unwrap_err();
        let windows = [Some("it can restore from A to B".to_owned()), None, None];
        let error = refused(&places(), &errors, &windows, None);
        assert!(error.is_permanent());
        let text = error.report();
        assert!(text.contains("none of 3 repositories"), "{text}");
        assert!(
            text.contains("repository near (s3://b/near/pg): a part is missing (it can restore from A to B)"),
            "{text}"
        );
        let errors = choose(&places(), vec![damaged(), away(), damaged()], true).unwrap_err();
        assert!(!refused(&places(), &errors, &[None, None, None], None).is_permanent(), "it may come back");
    }

    #[test]
    fn a_backup_is_looked_for_where_it_is_and_nowhere_else() {
        let place = &places()[..1];
        let errors = choose(place, vec![damaged()], true).unwrap_err();
        let text = refused(place, &errors, &[None], Some("nightly")).report();
        assert!(text.starts_with("a part is missing"), "{text}");
        assert!(
            text.contains("Backup nightly is in this place alone") && text.contains("externalClusters"),
            "{text}"
        );
    }
}
