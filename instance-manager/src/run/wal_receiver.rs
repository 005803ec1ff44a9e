//! A replica whose primary was replaced lets go of it.
//!
//! A primary that is frozen, or whose node is cut off, closes no connection: PostgreSQL finds out after
//! `wal_receiver_timeout`, and until then a replica that must confirm commits keeps all of them waiting. The Cluster
//! knows sooner. The new primary is reached by the same name, so the receiver only has to begin again.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::Result;
use crate::pg::sql::MAINTENANCE_DB;
use crate::run::shared::Shared;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);

/// A primary that still sends is heard at least once in this time, in milliseconds: one that brings a replica up to the
/// end of an old timeline sends without a pause, and after that end it goes over to the new one.
const SILENT: f64 = 2000.0;

const QUERY: &str = "
SELECT pid, received_tli::int8,
       (extract(epoch FROM clock_timestamp() - last_msg_receipt_time) * 1000)::float8
FROM pg_stat_wal_receiver
WHERE received_tli IS NOT NULL AND last_msg_receipt_time IS NOT NULL";

/// What is known of the receiver of one replica.
#[derive(Debug, Default)]
pub struct WalReceiver {
    /// The timeline of the primary on which it was seen.
    seen: i64,
    looked: Option<Instant>,
}

/// Whether a receiver hangs on a primary that is none any more: it streams a timeline that has ended, and hears nothing.
fn hangs(streams: i64, silent_milliseconds: f64, timeline: i64) -> bool {
    streams < timeline && silent_milliseconds > SILENT
}

impl WalReceiver {
    /// Looks at the receiver unless it is known to follow the timeline that the status of the Cluster names, and ends it
    /// when it hangs on a former primary.
    ///
    /// # Errors
    /// When PostgreSQL does not answer.
    pub async fn leave_former_primary(&mut self, shared: &Shared) -> Result<()> {
        let Some(timeline) = shared.cluster().status.as_ref().and_then(|status| status.timeline_id) else {
            return Ok(());
        };
        let timeline = i64::from(timeline);
        if self.seen >= timeline || self.looked.is_some_and(|at| at.elapsed() < EVERY) {
            return Ok(());
        }
        self.looked = Some(Instant::now());
        let sql = shared.local.connect(MAINTENANCE_DB).await?;
        let Some(row) = sql.query_opt(QUERY, &[]).await? else { return Ok(()) };
        let (pid, streams, silent): (i32, i64, f64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        if streams >= timeline {
            self.seen = timeline;
        } else if hangs(streams, silent, timeline) {
            tracing::info!(
                streams,
                timeline,
                "the WAL receiver hears nothing from a former primary; it begins again with the new one"
            );
            // pg_terminate_backend knows backends only. One that is gone meanwhile is what is wanted.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::frozen(1, 2500.0, true)]
    #[case::it_still_brings_the_end_of_the_old_timeline(1, 40.0, false)]
    #[case::an_idle_primary_is_silent(2, 25_000.0, false)]
    #[case::the_status_is_behind(3, 25_000.0, false)]
    fn only_a_silent_former_primary_is_left(#[case] streams: i64, #[case] silent: f64, #[case] left: bool) {
        assert_eq!(hangs(streams, silent, 2), left);
    }
}
