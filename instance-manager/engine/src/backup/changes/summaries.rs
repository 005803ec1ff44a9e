//! WAL summaries of PostgreSQL 17 and newer: which are there, whether they cover a stretch of WAL, what they say.

use super::super::session::Session;
use super::table::{BlockTable, Line};
use crate::error::Result;
use barman_cloud::{Lsn, TimelineHistory};
use futures::{StreamExt, TryStreamExt};
use std::time::Duration;
use tokio::time::Instant;

/// The summarizer sleeps half a minute when nothing happens.
const LONGEST_WAIT: Duration = Duration::from_secs(40);
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A stretch of one timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    pub timeline: u32,
    pub begin: Lsn,
    pub end: Lsn,
}

/// The way from one position to another along a history that holds both.
pub fn stretches(history: &TimelineHistory, from: (u32, Lsn), to: (u32, Lsn)) -> Vec<Stretch> {
    let on_the_way = |timeline: u32| (from.0..=to.0).contains(&timeline);
    history
        .path()
        .iter()
        .filter(|span| on_the_way(span.timeline))
        .map(|span| Stretch {
            timeline: span.timeline,
            begin: if span.timeline == from.0 { from.1 } else { span.begin },
            end: span.end.filter(|_| span.timeline != to.0).unwrap_or(to.1),
        })
        .filter(|stretch| stretch.begin < stretch.end)
        .collect()
}

/// The summaries that cover these stretches without a gap; `None` when something is missing.
pub fn covering(wanted: &[Stretch], there: &[Stretch]) -> Option<Vec<Stretch>> {
    let mut needed = Vec::new();
    for stretch in wanted {
        let mut own: Vec<&Stretch> = there
            .iter()
            .filter(|s| s.timeline == stretch.timeline && s.begin < stretch.end && s.end > stretch.begin)
            .collect();
        own.sort_by_key(|s| (s.begin, s.end));
        let mut position = stretch.begin;
        for summary in own {
            if summary.begin > position {
                return None;
            }
            position = position.max(summary.end);
            needed.push(*summary);
        }
        if position < stretch.end {
            return None;
        }
    }
    Some(needed)
}

impl Session {
    async fn summaries(&self) -> Result<Vec<Stretch>> {
        let query = "SELECT tli::oid, start_lsn::text, end_lsn::text FROM pg_available_wal_summaries()";
        let rows = self.client.query(query, &[]).await?;
        let lsn =
            |row: &tokio_postgres::Row, at| Ok::<Lsn, crate::Error>(row.try_get::<_, String>(at)?.parse()?);
        rows.iter()
            .map(|row| Ok(Stretch { timeline: row.try_get(0)?, begin: lsn(row, 1)?, end: lsn(row, 2)? }))
            .collect()
    }

    /// What WAL summaries say of these stretches, when they cover them: the last one is written shortly after the
    /// checkpoint of the backup, so it is waited for. `None` when they do not.
    pub async fn changed_blocks(&self, wanted: &[Stretch]) -> Result<Option<BlockTable>> {
        let deadline = Instant::now() + LONGEST_WAIT;
        let mut pause = FIRST_PAUSE;
        // Everything but the end must be there already; the end is being written.
        let (last, whole) = match wanted.split_last() {
            Some(split) => split,
            None => return Ok(Some(BlockTable::default())),
        };
        loop {
            let there = self.summaries().await?;
            if let Some(needed) = covering(wanted, &there) {
                return Ok(Some(self.read(&needed).await?));
            }
            let newest = there.iter().filter(|s| s.timeline == last.timeline).map(|s| s.end).max();
            let begun = newest.is_some_and(|end| end < last.end)
                && covering(
                    &[Stretch { end: newest.unwrap_or(last.begin).max(last.begin), ..*last }],
                    &there,
                )
                .is_some();
            if covering(whole, &there).is_none() || !begun || Instant::now() >= deadline {
                return Ok(None);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(LONGEST_PAUSE);
        }
    }

    async fn read(&self, needed: &[Stretch]) -> Result<BlockTable> {
        let query = "SELECT relfilenode, reltablespace, reldatabase, relblocknumber, is_limit_block \
                     FROM pg_wal_summary_contents($1, $2::text::pg_lsn, $3::text::pg_lsn) WHERE relforknumber = 0";
        let statement = self.client.prepare(query).await?;
        let mut table = BlockTable::default();
        for summary in needed {
            let (begin, end) = (summary.begin.to_string(), summary.end.to_string());
            let timeline = i64::from(summary.timeline);
            let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 3] = [&timeline, &begin, &end];
            let mut rows = self.client.query_raw(&statement, parameters).await?.boxed();
            while let Some(row) = rows.try_next().await? {
                table.add(Line {
                    node: row.try_get(0)?,
                    tablespace: row.try_get(1)?,
                    database: row.try_get(2)?,
                    block: u32::try_from(row.try_get::<_, i64>(3)?).unwrap_or(u32::MAX),
                    is_limit: row.try_get(4)?,
                });
            }
        }
        Ok(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use barman_cloud::timeline::HistoryEntry;

    fn stretch(timeline: u32, begin: u64, end: u64) -> Stretch {
        Stretch { timeline, begin: Lsn(begin), end: Lsn(end) }
    }

    #[test]
    fn the_way_leads_over_switches() {
        let entry = |parent, lsn| HistoryEntry { parent, switch: Lsn(lsn), reason: String::new() };
        let history =
            TimelineHistory::new(5, vec![entry(1, 50), entry(2, 70), entry(4, 70)]).expect("a history");
        let way = |from, to| stretches(&history, from, to);
        assert_eq!(way((5, Lsn(80)), (5, Lsn(90))), [stretch(5, 80, 90)]);
        assert_eq!(
            way((1, Lsn(20)), (5, Lsn(90))),
            [stretch(1, 20, 50), stretch(2, 50, 70), stretch(5, 70, 90)],
            "timeline 4 was left where it began"
        );
        assert_eq!(way((2, Lsn(70)), (5, Lsn(90))), [stretch(5, 70, 90)]);
        assert_eq!(way((5, Lsn(90)), (5, Lsn(90))), []);
    }

    #[test]
    fn summaries_must_follow_each_other() {
        let wanted = [stretch(1, 20, 50), stretch(2, 50, 70)];
        let there = [
            stretch(2, 50, 75),
            stretch(1, 30, 50),
            stretch(1, 10, 30),
            stretch(1, 0, 10),
            stretch(3, 0, 99),
        ];
        let needed = covering(&wanted, &there).expect("covered");
        assert_eq!(needed, [stretch(1, 10, 30), stretch(1, 30, 50), stretch(2, 50, 75)]);
        assert_eq!(covering(&wanted, &there[1..]), None, "nothing of timeline 2");
        assert_eq!(
            covering(&wanted, &[stretch(1, 10, 30), stretch(1, 31, 50), stretch(2, 50, 70)]),
            None,
            "a gap"
        );
        assert_eq!(covering(&wanted, &[stretch(1, 10, 50), stretch(2, 50, 69)]), None, "too short");
        assert_eq!(covering(&[], &there), Some(vec![]));
    }
}
