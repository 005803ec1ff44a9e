//! Watches the volume with `pg_wal`: how long it lasts, and, where the Cluster allows it, lets go of WAL that the archive
//! does not take before PostgreSQL runs out of room.
//!
//! A gap is noted beside PGDATA before it is made, and in each repository as soon as that answers; the operator orders a
//! new full Backup.

pub mod gaps;
pub mod overflow;
pub mod reckon;

use std::sync::Arc;
use std::time::Duration;

use barman_cloud::{Segment, SegmentSize};
use chrono::Utc;
use howdah_api::wal_runway::{WalOverflow, WalRunway};
use howdah_engine::{ControlData, WalVolume, wal};
use kube::runtime::events::EventType;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use self::gaps::Act;
use self::overflow::{Scene, bytes, obstacle, plan};
use self::reckon::{History, Look};
use super::role::Running;
use super::shared::Shared;
use crate::config::recovery::parse_lsn;
use crate::error::{Error, Result};
use crate::pg::sql::MAINTENANCE_DB;

/// Pause between two looks.
const EVERY: Duration = Duration::from_secs(10);
/// Looks one after the other at which the archive must be in trouble; one failure passes by itself. With less than a quarter
/// of the reserve nothing is waited for.
const PATIENT: u32 = 3;
/// How long PostgreSQL may take to answer.
const ANSWER: Duration = Duration::from_secs(4);
/// How long a checkpoint may take.
const CHECKPOINT: Duration = Duration::from_secs(300);
/// Pause between two checkpoints that are to set files free which nobody needs.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(60);
/// How long a repository may take to write down a gap.
const TELL: Duration = Duration::from_secs(10);

/// Works on PostgreSQL 13 to 18, on primaries.
const QUERY: &str = "
SELECT pg_current_wal_lsn()::text,
       (SELECT setting::int8 FROM pg_settings WHERE name = 'wal_keep_size'),
       s.slot_name::text,
       s.restart_lsn::text
FROM (SELECT) one
LEFT JOIN (SELECT slot_name, restart_lsn FROM pg_replication_slots
           WHERE restart_lsn IS NOT NULL ORDER BY restart_lsn LIMIT 1) s ON true";

/// Watches for as long as the process lives.
pub async fn watch(shared: Arc<Shared>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watch = Watch::default();
    loop {
        ticks.tick().await;
        if let Err(error) = watch.step(&shared).await {
            tracing::debug!("the volume with pg_wal cannot be looked at: {}", error.report());
        }
    }
}

/// What a primary says about its WAL.
struct Facts {
    /// Position up to which WAL is written.
    lsn: u64,
    /// `wal_keep_size` in bytes.
    keep: u64,
    /// The slot that is furthest behind, and where it is.
    slot: Option<(String, u64)>,
}

#[derive(Default)]
struct Watch {
    begun: Option<Instant>,
    role: Option<Running>,
    size: Option<SegmentSize>,
    history: History,
    /// Segments that were let go of.
    dropped: u64,
    /// Looks one after the other at which the archive did not keep up.
    stuck: u32,
    checkpoint: Option<Instant>,
    /// What went wrong last: told once.
    trouble: String,
}

impl Watch {
    async fn step(&mut self, shared: &Arc<Shared>) -> Result<()> {
        let server = shared.server();
        let role = server.running.filter(|_| server.up && !server.stopping);
        if role != self.role {
            self.role = role;
            self.history.clear();
        }
        let Some(role) = role else {
            shared.set_wal_runway(None);
            return Ok(());
        };
        let size = self.segment_size(shared)?;
        let pgdata = shared.env.paths.pgdata.clone();
        let looking = tokio::task::spawn_blocking(move || WalVolume::look(&pgdata));
        let volume =
            looking.await.map_err(|error| Error::transient("looking was stopped").because(error))??;
        let facts = match role {
            Running::Primary => Some(ask(shared).await?),
            Running::Standby | Running::Recovery => None,
        };
        let begun = *self.begun.get_or_insert_with(Instant::now);
        let dropped = self.dropped * size.bytes();
        let look = look(begun.elapsed(), &volume, facts.as_ref(), size, dropped);
        self.history.push(look);
        let Some(mut runway) = self.history.reckon() else { return Ok(()) };
        let overflow = shared.cluster().spec.wal_overflow();
        runway.reserve_bytes = overflow.reserve_bytes(volume.size);
        runway.slot = facts.as_ref().and_then(|facts| slot(facts, &volume, size));
        runway.dropped_segments = self.dropped;
        shared.set_wal_runway(Some(runway.clone()));
        if let Some(facts) = &facts {
            if overflow.drops() && shared.cluster().spec.has_stores() {
                self.guard(shared, &overflow, &runway, &volume, &look, facts).await;
            }
            tell(shared).await;
        }
        Ok(())
    }

    fn segment_size(&mut self, shared: &Shared) -> Result<SegmentSize> {
        if let Some(size) = self.size {
            return Ok(size);
        }
        let size = ControlData::read(&shared.env.paths.pgdata)?.wal_segment_size;
        self.size = Some(size);
        Ok(size)
    }

    /// Sees to it that there is room.
    async fn guard(
        &mut self,
        shared: &Arc<Shared>,
        overflow: &WalOverflow,
        runway: &WalRunway,
        volume: &WalVolume,
        look: &Look,
        facts: &Facts,
    ) {
        if look.free + look.spare >= runway.reserve_bytes {
            return;
        }
        let size = self.size.unwrap_or_default();
        let slot = facts.slot.as_ref().map_or(u64::MAX, |(_, lsn)| *lsn);
        let scene = Scene {
            size,
            lsn: facts.lsn,
            stays_from: slot.min(facts.lsn.saturating_sub(facts.keep)),
            room: runway.room_bytes,
            reserve: runway.reserve_bytes,
        };
        let why = obstacle(shared.wal.status().as_ref(), runway, volume.waiting.len());
        self.stuck = if why.is_some() { self.stuck + 1 } else { 0 };
        let patient = self.stuck < PATIENT && runway.room_bytes >= runway.reserve_bytes / 4;
        let run = if why.is_some() && !patient { plan(&volume.waiting, &scene) } else { Vec::new() };
        if let (Some(first), Some(why)) = (run.first(), why) {
            let reserve = overflow.reserve.as_deref().unwrap_or("10%");
            let reason = format!(
                "the volume with pg_wal had room for {} of WAL, less than the reserve of {reserve}, and {why}",
                bytes(runway.room_bytes)
            );
            match self.let_go(shared, &run, &reason).await {
                Ok(()) => {
                    tracing::error!(first = %first, segments = run.len(), "WAL was let go of: {reason}")
                }
                Err(error) => self.complain(shared, &error).await,
            }
        } else if look.reusable() < size.bytes()
            || self.checkpoint.is_some_and(|last| last.elapsed() < CHECKPOINT_EVERY)
        {
            return;
        }
        // Only a checkpoint takes the files away, or makes them ready for use.
        self.checkpoint = Some(Instant::now());
        if let Err(error) = checkpoint(shared).await {
            self.complain(shared, &error).await;
        }
    }

    async fn let_go(&mut self, shared: &Arc<Shared>, run: &[Segment], reason: &str) -> Result<()> {
        let size = self.size.unwrap_or_default();
        let act = Act { run, size, now: Utc::now(), by: &shared.env.pod, reason };
        // Noted before it is done: what is noted and still there does no harm.
        shared.change_gaps(|gaps| {
            gaps.add(&act);
            true
        })?;
        let (pgdata, segments) = (shared.env.paths.pgdata.clone(), run.to_vec());
        let letting = tokio::task::spawn_blocking(move || wal::let_go(&pgdata, &segments));
        let gone =
            letting.await.map_err(|error| Error::transient("letting go was stopped").because(error))??;
        self.dropped += u64::try_from(gone.len()).unwrap_or(0);
        let (Some(first), Some(last)) = (gone.first(), gone.last()) else { return Ok(()) };
        shared.wal.let_go(*first);
        shared.backup_ended.notify_one();
        let note = format!(
            "{}: {} WAL files from {first} to {last} were let go of without having been archived: {reason}. No moment in \
             this gap can be recovered to; a new full Backup is ordered",
            shared.env.pod,
            gone.len()
        );
        shared.kube.event(&*shared.cluster(), EventType::Warning, "WALDropped", &note).await;
        Ok(())
    }

    async fn complain(&mut self, shared: &Shared, error: &Error) {
        let text = error.report();
        if self.trouble == text {
            return;
        }
        tracing::error!("no room can be made for WAL: {text}");
        let note = format!("{}: no room can be made for WAL: {text}", shared.env.pod);
        shared.kube.event(&*shared.cluster(), EventType::Warning, "WALNotDropped", &note).await;
        self.trouble = text;
    }
}

/// What counts of what was seen. Pure.
fn look(at: Duration, volume: &WalVolume, facts: Option<&Facts>, size: SegmentSize, dropped: u64) -> Look {
    let segment = size.bytes();
    let sum = |count: usize| u64::try_from(count).unwrap_or(0) * segment;
    let files = sum(volume.segments.len());
    let mut look = Look {
        at,
        segment,
        size: volume.size,
        free: volume.free,
        files,
        // Of a replica it is not known what it still needs.
        held: files,
        waiting: sum(volume.waiting.len()),
        dropped,
        ..Look::default()
    };
    if let Some(facts) = facts {
        let current = facts.lsn / segment;
        look.lsn = Some(facts.lsn);
        look.spare = sum(volume.segments.iter().filter(|segment| segment.number(size) > current).count());
        look.kept_always = facts.keep;
        look.held = held_for_slot(facts).max(held_for_archive(facts, volume, size)).max(facts.keep);
    }
    look
}

fn held_for_slot(facts: &Facts) -> u64 {
    facts.slot.as_ref().map_or(0, |(_, lsn)| facts.lsn.saturating_sub(*lsn))
}

fn held_for_archive(facts: &Facts, volume: &WalVolume, size: SegmentSize) -> u64 {
    let oldest = volume.waiting.iter().map(|segment| segment.start(size).0).min();
    oldest.map_or(0, |oldest| facts.lsn.saturating_sub(oldest))
}

/// The slot that holds more than anything else does. Pure.
fn slot(facts: &Facts, volume: &WalVolume, size: SegmentSize) -> Option<String> {
    let (name, _) = facts.slot.as_ref()?;
    let others = held_for_archive(facts, volume, size).max(facts.keep).max(size.bytes());
    (held_for_slot(facts) > others).then(|| name.clone())
}

async fn ask(shared: &Shared) -> Result<Facts> {
    let asking = async {
        let sql = shared.local.connect(MAINTENANCE_DB).await?;
        let row = sql.query_one(QUERY, &[]).await?;
        let position = |text: Option<String>| text.as_deref().and_then(parse_lsn);
        let lsn = position(row.try_get(0)?).ok_or_else(|| Error::transient("there is no write position"))?;
        let keep: Option<i64> = row.try_get(1)?;
        let slot: Option<String> = row.try_get(2)?;
        let keep = keep.and_then(|mib| u64::try_from(mib).ok()).unwrap_or(0) << 20;
        Ok(Facts { lsn, keep, slot: slot.zip(position(row.try_get(3)?)) })
    };
    timeout(ANSWER, asking).await.map_err(|_| Error::transient("PostgreSQL does not answer in time"))?
}

async fn checkpoint(shared: &Shared) -> Result<()> {
    let working = async {
        let sql = shared.local.connect(MAINTENANCE_DB).await?;
        Ok(sql.batch_execute("CHECKPOINT").await?)
    };
    timeout(CHECKPOINT, working).await.map_err(|_| Error::transient("a checkpoint takes too long"))?
}

/// Writes the gaps into the repositories that do not hold them yet and answer.
async fn tell(shared: &Shared) {
    for repository in shared.wal.archive_names() {
        for record in shared.gaps(|gaps| gaps.untold(&repository)) {
            match timeout(TELL, shared.wal.tell_dropped(&repository, &record)).await {
                Ok(Ok(())) => {
                    if let Err(error) = shared.change_gaps(|gaps| gaps.tell(&repository, &record)) {
                        tracing::warn!("{}", error.report());
                    }
                }
                Ok(Err(why)) => {
                    tracing::debug!(repository, "the gap at {} is not written down yet: {why}", record.first);
                    break;
                }
                Err(_) => break,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: SegmentSize = SegmentSize::DEFAULT;

    fn volume(files: std::ops::Range<u64>, waiting: std::ops::Range<u64>) -> WalVolume {
        let all = |range: std::ops::Range<u64>| range.map(|n| Segment::from_number(1, n, SIZE)).collect();
        WalVolume { segments: all(files), waiting: all(waiting), size: 1 << 40, free: 1 << 30 }
    }

    #[test]
    fn what_holds_most_counts() {
        let segment = SIZE.bytes();
        let volume = volume(10..30, 14..20);
        let mut facts = Facts { lsn: 20 * segment + 1, keep: 2 * segment, slot: None };
        let seen = |facts: &Facts| look(Duration::ZERO, &volume, Some(facts), SIZE, 0);
        let first = seen(&facts);
        assert_eq!((first.files, first.spare, first.waiting), (20 * segment, 9 * segment, 6 * segment));
        assert_eq!((first.held, first.reusable()), (6 * segment + 1, 4 * segment - 1));
        facts.slot = Some(("old".into(), 11 * segment));
        assert_eq!((seen(&facts).held, slot(&facts, &volume, SIZE)), (9 * segment + 1, Some("old".into())));
        facts.slot = Some(("young".into(), 19 * segment));
        assert_eq!((seen(&facts).held, slot(&facts, &volume, SIZE)), (6 * segment + 1, None));
        let replica = look(Duration::ZERO, &volume, None, SIZE, 0);
        assert_eq!((replica.lsn, replica.room()), (None, 1 << 30));
    }
}
