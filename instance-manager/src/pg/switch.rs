//! Closing a WAL segment on the primary.

use howdah_api::instance::WalSwitch;
use tokio_postgres::Client;

use crate::config::recovery::parse_lsn;
use crate::error::{Error, Result};

/// Bytes at the beginning of a segment that are only headers: nothing was written when the position is below.
const HEADERS: u64 = 0x60;

/// What to do about the segment at `insert`, when WAL up to `wanted` shall be in a closed one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// It is closed already.
    Closed,
    /// Switch.
    Switch,
    /// Nothing was written to it: write something, then switch.
    CheckpointAndSwitch,
}

fn step(insert: u64, segment_size: u64, wanted: Option<u64>) -> Step {
    let written = insert % segment_size >= HEADERS;
    match wanted {
        // A position at the very beginning of a segment ends the one before it.
        Some(lsn) if lsn.saturating_sub(1) / segment_size < insert / segment_size => Step::Closed,
        _ if written => Step::Switch,
        _ => Step::CheckpointAndSwitch,
    }
}

/// Closes the segment that is being written, or, with `wanted`, makes sure that the one which ends at or holds
/// that position is closed. Harmless when there is nothing to close.
///
/// # Errors
/// When this is not the primary, or SQL fails.
pub async fn switch(sql: &Client, wanted: Option<u64>) -> Result<WalSwitch> {
    let row = sql
        .query_one(
            "SELECT pg_is_in_recovery(), CASE WHEN pg_is_in_recovery() THEN NULL ELSE pg_current_wal_insert_lsn()::text END, setting::int8 FROM pg_settings WHERE name = 'wal_segment_size'",
            &[],
        )
        .await?;
    let insert: Option<String> = row.try_get(1)?;
    let segment_size = u64::try_from(row.try_get::<_, i64>(2)?).unwrap_or(16 << 20);
    let Some(insert) = insert.as_deref().and_then(parse_lsn) else {
        return Err(Error::transient("this instance is a replica: ask the primary"));
    };
    let lsn = match step(insert, segment_size, wanted) {
        Step::Closed => format_lsn(wanted.unwrap_or(insert)),
        what => {
            if what == Step::CheckpointAndSwitch {
                sql.batch_execute("CHECKPOINT").await?;
            }
            sql.query_one("SELECT pg_switch_wal()::text", &[]).await?.try_get(0)?
        }
    };
    let row = sql.query_one("SELECT pg_walfile_name($1::text::pg_lsn)", &[&lsn]).await?;
    let closed_wal: String = row.try_get(0)?;
    let timeline_id = closed_wal.get(..8).and_then(|t| u32::from_str_radix(t, 16).ok()).unwrap_or_default();
    Ok(WalSwitch { closed_wal, lsn, timeline_id })
}

/// A position in PostgreSQL's own form.
#[must_use]
pub fn format_lsn(lsn: u64) -> String {
    barman_cloud::Lsn(lsn).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: u64 = 16 << 20;

    #[rstest::rstest]
    // Nobody asked for a position: the current segment is closed, after something was written to it.
    #[case(3 * SEGMENT + 0x1000, None, Step::Switch)]
    #[case(3 * SEGMENT + 0x28, None, Step::CheckpointAndSwitch)]
    #[case(3 * SEGMENT, None, Step::CheckpointAndSwitch)]
    // Asked again after it was closed: nothing happens.
    #[case(4 * SEGMENT + 0x28, Some(3 * SEGMENT + 0x138), Step::Closed)]
    #[case(3 * SEGMENT + 0x138, Some(3 * SEGMENT + 0x138), Step::Switch)]
    #[case(3 * SEGMENT + 0x28, Some(3 * SEGMENT), Step::Closed)]
    fn steps(#[case] insert: u64, #[case] wanted: Option<u64>, #[case] want: Step) {
        assert_eq!(step(insert, SEGMENT, wanted), want);
    }

    #[test]
    fn positions() {
        assert_eq!(format_lsn(0x1_0300_0060), "1/3000060");
        assert_eq!(parse_lsn(&format_lsn(0x1_0300_0060)), Some(0x1_0300_0060));
    }
}
