//! Gaps that were made on purpose (`walOverflow`): the records, as far as the archive still lacks the WAL.

use super::gather::WalEnds;
use super::text::time;
use super::types::{ClusterReport, DroppedReport};
use crate::catalog::Inventory;
use crate::dropped::Dropped;
use crate::error::Result;
use crate::repository::Repository;
use crate::wal_name::{Segment, WalName};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// WAL that was let go of on purpose, and that is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lacking {
    /// The record.
    pub dropped: Dropped,
    /// How many of its segments the archive lacks; some may have come from a replica or from another repository.
    pub missing: u64,
}

/// Reads the records, oldest first. What lies before the first segment of the archive is no gap any more: one listing of
/// the directories, when there is a gap, and one of each that the gap touches.
pub(super) async fn lacking(repository: &Repository, wal: Option<WalEnds>) -> Result<Vec<Lacking>> {
    let Some(wal) = wal else { return Ok(Vec::new()) };
    let mut records = repository.dropped().await?;
    records.retain(|dropped| dropped.last > wal.min);
    if records.is_empty() {
        return Ok(Vec::new());
    }
    let (dirs, _) = repository.wal_top().await?;
    let mut all = Vec::new();
    for dropped in records {
        let (first, last) = (dropped.first, dropped.last);
        let mut there = BTreeSet::new();
        let near = dirs.iter().filter(|dir| dir.timeline == first.timeline);
        for dir in near.filter(|dir| (first.log..=last.log).contains(&dir.log)) {
            let objects = repository.list_wal_dir(*dir).await?;
            there.extend(objects.into_iter().filter(|object| object.object.size > 0).filter_map(|object| {
                match object.name {
                    WalName::Segment(segment) if (first..=last).contains(&segment) => Some(segment),
                    _ => None,
                }
            }));
        }
        let missing = dropped.segments.saturating_sub(there.len() as u64);
        if missing > 0 {
            all.push(Lacking { dropped, missing });
        }
    }
    Ok(all)
}

/// What is told of one.
pub(super) fn report(lacking: &Lacking, inventory: &Inventory) -> DroppedReport {
    let Lacking { dropped, missing } = lacking;
    DroppedReport {
        first: dropped.first.to_string(),
        last: dropped.last.to_string(),
        segments: dropped.segments,
        missing: *missing,
        since: dropped.since,
        until: dropped.until,
        by: dropped.by.clone(),
        reason: dropped.reason.clone(),
        followed_by: follower(inventory, dropped.last),
    }
}

/// Label of the first backup that needs nothing of a gap: it began behind it.
fn follower(inventory: &Inventory, last: Segment) -> Option<String> {
    let position = |segment: Segment| (segment.log, segment.seg);
    let behind = inventory.restorable().filter_map(|(member, info)| {
        let begin = info.begin_wal?;
        let behind = begin.timeline >= last.timeline && position(begin) > position(last);
        behind.then(|| (position(begin), member))
    });
    behind.min_by_key(|(begin, member)| (*begin, &member.id)).map(|(_, member)| member.label())
}

/// One paragraph for each gap of each repository.
pub(super) fn write(text: &mut String, report: &ClusterReport) -> std::fmt::Result {
    let all = report
        .repositories
        .iter()
        .flat_map(|repository| repository.dropped.iter().map(|dropped| (repository.name.as_str(), dropped)));
    for (repository, gap) in all {
        writeln!(text, "\n        wal gap: {} / {}", gap.first, gap.last)?;
        let missing = match gap.missing {
            missing if missing == gap.segments => String::new(),
            missing => format!(", {missing} of them missing"),
        };
        let files = if gap.segments == 1 { "segment" } else { "segments" };
        writeln!(
            text,
            "            {repository}: dropped on purpose by walOverflow: {} {files}{missing}",
            gap.segments
        )?;
        writeln!(
            text,
            "            timestamp start/stop: {} / {}",
            time(Some(gap.since)),
            time(Some(gap.until))
        )?;
        writeln!(text, "            dropped by: {}: {}", gap.by, gap.reason)?;
        let next = gap.followed_by.as_deref().unwrap_or("none, take a full backup");
        writeln!(text, "            next backup: {next}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{gather, info_text, repository_report, samples};
    use chrono::{DateTime, TimeDelta, Utc};

    fn dropped(first: &str, last: &str, segments: u64) -> Dropped {
        let since = "2026-11-21T02:30:00Z".parse::<DateTime<Utc>>().expect("a time");
        Dropped {
            first: first.parse().expect("a segment"),
            last: last.parse().expect("a segment"),
            segments,
            since,
            until: since + TimeDelta::seconds(70),
            by: "pg-1".into(),
            reason: "the volume with pg_wal was nearly full".into(),
        }
    }

    async fn told(repository: &Repository) -> ClusterReport {
        let contents = gather(repository).await.expect("read");
        let report = repository_report(&samples::facts("repo1"), &contents);
        ClusterReport { stanza: "pg".to_owned(), repositories: vec![report] }
    }

    #[tokio::test]
    async fn a_gap_that_was_made_on_purpose_is_told_with_the_backup_behind_it() {
        let repository = samples::repository();
        samples::fill(&repository).await;
        let records = [
            // Before the archive begins: retention took what was around it.
            dropped("00000006000000A000000001", "00000006000000A000000002", 2),
            dropped("00000006000000A100000005", "00000006000000A100000006", 2),
            // One came after all, and no backup did.
            dropped("00000007000000A20000001B", "00000007000000A20000001D", 3),
            // All came.
            dropped("00000007000000A20000001C", "00000007000000A20000001C", 1),
        ];
        for record in &records {
            repository.put_dropped(record).await.expect("written");
        }
        let report = told(&repository).await;
        let gaps = &report.repositories[0].dropped;
        let seen: Vec<_> =
            gaps.iter().map(|gap| (gap.first.as_str(), gap.missing, gap.followed_by.as_deref())).collect();
        let follows = Some("20261121-012341F_20261121-030000I");
        assert_eq!(seen, [("00000006000000A100000005", 2, follows), ("00000007000000A20000001B", 2, None)]);
        let expected = "
    db (current)
        wal archive min/max (15): 00000006000000A100000003/00000007000000A20000001C

        wal gap: 00000006000000A100000005 / 00000006000000A100000006
            repo1: dropped on purpose by walOverflow: 2 segments
            timestamp start/stop: 2026-11-21 02:30:00+00 / 2026-11-21 02:31:10+00
            dropped by: pg-1: the volume with pg_wal was nearly full
            next backup: 20261121-012341F_20261121-030000I

        wal gap: 00000007000000A20000001B / 00000007000000A20000001D
            repo1: dropped on purpose by walOverflow: 3 segments, 2 of them missing
            timestamp start/stop: 2026-11-21 02:30:00+00 / 2026-11-21 02:31:10+00
            dropped by: pg-1: the volume with pg_wal was nearly full
            next backup: none, take a full backup

        full backup: 20261121-012341F
";
        let text = info_text(&report);
        assert!(text.contains(expected), "{text}");
        let json = serde_json::to_value(&report).expect("json");
        assert_eq!(json["repositories"][0]["dropped"][0]["until"], "2026-11-21T02:31:10Z");
    }
}
