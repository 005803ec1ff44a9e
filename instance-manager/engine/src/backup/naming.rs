//! Ids and names of backups.

use crate::error::{Error, ErrorKind, Result};
use barman_cloud::BackupId;
use barman_cloud::catalog::Inventory;
use chrono::{DateTime, Duration, Utc};

/// Words that Barman's tools read as something else than a name.
const RESERVED: [&str; 8] =
    ["latest", "last", "oldest", "first", "last-failed", "latest-full", "last-full", "auto"];
/// An id of Barman's is in its host's local zone: up to 14 hours ahead of UTC, and some clock drift.
const FOREIGN_LEAD: i64 = 15;

/// A free id that sorts after all others, so that the order of ids stays the order of time even beside ids that
/// Barman made in a zone east of Greenwich. All types share one row of ids.
pub fn next_id(now: DateTime<Utc>, inventory: &Inventory) -> BackupId {
    let newest = inventory
        .members
        .iter()
        .map(|member| &member.id)
        .chain(inventory.orphans.iter().map(|(_, id)| id))
        .filter_map(|id| Some(id.time()?.and_utc()))
        .filter(|time| *time - now < Duration::hours(FOREIGN_LEAD))
        .max();
    let from = newest.map_or(now, |newest| now.max(newest + Duration::seconds(1)));
    BackupId::first_free(from, |id| inventory.contains(id))
}

/// Refuses names that Barman's tools could not find again.
pub fn check_name(name: &str) -> Result<()> {
    let wrong = |what: &str| {
        Err(Error::new(ErrorKind::Invalid, format!("{name:?} cannot be the name of a backup: it {what}"))
            .with_remedy("use a name of one line that is neither an id nor a word such as latest"))
    };
    if name.trim() != name || name.is_empty() {
        return wrong("is empty or begins or ends with a blank");
    }
    if name.chars().any(char::is_control) {
        return wrong("holds a control character");
    }
    if name.parse::<BackupId>().is_ok()
        || RESERVED.contains(&name.to_ascii_lowercase().as_str())
        || name == "None"
    {
        return wrong("means something else to Barman");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use barman_cloud::BackupType;
    use chrono::TimeZone;
    use rstest::rstest;

    fn at(hour: u32, second: u32) -> DateTime<Utc> {
        Utc.with_ymd_and_hms(2026, 11, 21, hour, 0, second).single().expect("a time")
    }

    fn inventory(ids: &[&str]) -> Inventory {
        let orphans = ids.iter().map(|id| (BackupType::Incremental, id.parse().expect("an id")));
        Inventory { orphans: orphans.collect(), ..Inventory::default() }
    }

    #[rstest]
    #[case::first(&[], "20261121T100000")]
    #[case::same_second(&["20261121T100000"], "20261121T100001")]
    #[case::ahead_in_its_zone(&["20261121T183000"], "20261121T183001")]
    #[case::behind(&["20261120T100000"], "20261121T100000")]
    #[case::nonsense_far_ahead(&["20991231T000000"], "20261121T100000")]
    fn ids_ascend(#[case] known: &[&str], #[case] expected: &str) {
        assert_eq!(next_id(at(10, 0), &inventory(known)).as_str(), expected);
    }

    #[rstest]
    #[case("nightly-20261121", true)]
    #[case("a name", true)]
    #[case("", false)]
    #[case(" x", false)]
    #[case("20261121T100000", false)]
    #[case("Latest", false)]
    #[case("None", false)]
    #[case("two\nlines", false)]
    fn names(#[case] name: &str, #[case] fine: bool) {
        assert_eq!(check_name(name).is_ok(), fine);
    }
}
