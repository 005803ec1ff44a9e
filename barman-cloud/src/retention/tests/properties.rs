//! What holds for every plan: whatever the policy, nothing that is needed goes.

use super::model::{Scenario, alone, needs_nothing, scenarios};
use super::*;
use crate::retention::FullRule;
use proptest::prelude::*;

fn check_backups(scenario: &Scenario, plan: &Plan) -> Result<(), TestCaseError> {
    let kept = |id: &BackupId| plan.kept.iter().any(|kept| kept.id == *id);
    let goes = |id: &BackupId| plan.deletable.iter().any(|backup| backup.id == *id);
    for made in &scenario.made {
        let (id, shown) = (&made.shown.id, &made.shown);
        prop_assert!(kept(id) != goes(id), "{id} is one of the two");
        let protected = shown.keep.is_some()
            || scenario.in_use.contains(id)
            || matches!(shown.state, State::Unreadable(_));
        prop_assert!(!protected || kept(id), "{id} is kept, used or unreadable");
    }
    for backup in &plan.kept {
        prop_assert!(!backup.reasons.is_empty());
        let made = scenario.by_id(&backup.id).expect("made");
        if !needs_nothing(made, &backup.reasons) {
            // Also where the record of the chain is lost.
            for ancestor in &made.ancestors {
                prop_assert!(!goes(ancestor), "{} builds on {ancestor}", backup.id);
            }
        }
        for ancestor in &backup.ancestors {
            prop_assert!(!goes(ancestor), "{} says it builds on {ancestor}", backup.id);
        }
    }
    for (place, backup) in plan.deletable.iter().enumerate() {
        let earlier = &plan.deletable[..place];
        let unordered = earlier.iter().find(|earlier| backup.ancestors.contains(&earlier.id));
        prop_assert!(unordered.is_none(), "{} goes after what it builds on", backup.id);
    }
    Ok(())
}

fn check_last(scenario: &Scenario, plan: &Plan) -> Result<(), TestCaseError> {
    let kept = |id: &BackupId| plan.kept.iter().any(|kept| kept.id == *id);
    let full = || scenario.made.iter().rev().filter(|made| made.shown.kind == BackupType::Full);
    let complete = full().filter(|made| made.shown.is_complete());
    let (all, left) =
        complete.fold((0, 0), |(all, left), made| (all + 1, left + u32::from(kept(&made.shown.id))));
    prop_assert!(
        left >= scenario.policy.minimum_redundancy.min(all),
        "{left} of {all} full backups are left"
    );
    let sound: Vec<_> = full().filter(|made| scenario.sound(made)).collect();
    prop_assert_eq!(plan.last_full(), sound.first().map(|made| &made.shown.id));
    if let Some(FullRule::Count(count)) = scenario.policy.full {
        prop_assert!(sound.iter().take(count as usize).all(|made| kept(&made.shown.id)));
    }
    if let Some(window) = scenario.policy.recovery_window {
        // A restore to the oldest moment of the window, or to the oldest that ever was, is still possible.
        let point = window.before(now());
        let serves =
            |made: &&model::Made| scenario.sound(made) && made.shown.end.is_some_and(|end| end < point);
        let newest = scenario.made.iter().rev().find(serves);
        prop_assert!(newest.is_none_or(|made| kept(&made.shown.id)));
    }
    Ok(())
}

fn check_wal(scenario: &Scenario, plan: &Plan) -> Result<(), TestCaseError> {
    for cut in &plan.wal.cuts {
        let within = |name: &&String| {
            let at = Scenario::segment(name);
            cut.first <= at && at <= cut.last
        };
        let names: Vec<_> = scenario.objects.keys().filter(within).collect();
        prop_assert_eq!(cut.objects, names.len() as u64);
        prop_assert_eq!(cut.bytes, names.iter().map(|name| scenario.objects[*name]).sum::<u64>());
    }
    let goes = |segment: Segment| plan.wal.cuts.iter().any(|cut| cut.first <= segment && segment <= cut.last);
    for backup in &plan.kept {
        let made = scenario.by_id(&backup.id).expect("made");
        if needs_nothing(made, &backup.reasons) {
            continue;
        }
        let alone = alone(plan, &backup.id);
        for name in scenario.objects.keys() {
            let segment = Scenario::segment(name);
            let needed = match alone {
                true => Scenario::within(made, segment),
                false => scenario.leads_to(made, segment),
            };
            prop_assert!(!needed || !goes(segment), "{} needs {name}\n{plan}", backup.id);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn nothing_that_is_needed_goes(scenario in scenarios()) {
        let plan = scenario.plan();
        check_backups(&scenario, &plan)?;
        check_last(&scenario, &plan)?;
        check_wal(&scenario, &plan)?;
    }

    #[test]
    fn a_second_plan_deletes_nothing(scenario in scenarios()) {
        let plan = scenario.plan();
        let again = scenario.after(&plan).plan();
        prop_assert!(again.is_empty(), "{plan}\nthen\n{again}");
    }

    #[test]
    fn a_plan_has_words_for_all_it_does(scenario in scenarios()) {
        let plan = scenario.plan();
        let text = plan.to_string();
        for line in text.lines() {
            prop_assert!(!line.trim_end().ends_with(':') && line.len() > 10, "{text}");
        }
        prop_assert!(text.lines().count() > plan.kept.len() + plan.deletable.len());
    }
}
