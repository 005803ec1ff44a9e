//! How long the volume with the primary's `pg_wal` lasts, in status and condition. Pure.
//!
//! What the primary says changes with every look; the status keeps a number until it is wrong by a good part.

use howdah_api::conditions::{self, FALSE, TRUE, UNKNOWN, WAL_RUNWAY};
use howdah_api::quantity::text;
use howdah_api::wal_runway::{WalOverflow, WalRunway};
use howdah_api::{ClusterSpec, ClusterStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::observed::Observed;
use super::synchronous::primary_report;

/// Bytes of WAL that come and go while all is well.
const SMALL: u64 = 64 << 20;
/// A rate in bytes a second below which it does not matter how low it is.
const IDLE: u64 = 64 << 10;

/// Folds what the primary says into `status`; while it says nothing, what it said last stays.
pub fn fold(observed: &Observed, status: &mut ClusterStatus) {
    let Some(now) = primary_report(observed, status).and_then(|report| report.wal_runway.as_ref()) else {
        return;
    };
    let steady = status.wal_runway.as_ref().map_or_else(|| first(now), |before| steady(before, now));
    status.wal_runway = Some(steady);
}

/// What is told when nothing was told before.
fn first(now: &WalRunway) -> WalRunway {
    steady(&WalRunway { minutes: None, ..WalRunway::default() }, now)
}

/// What is told after `before`: numbers that are still about right stay.
fn steady(before: &WalRunway, now: &WalRunway) -> WalRunway {
    let same_volume = before.volume_bytes == now.volume_bytes;
    let small = SMALL.min(now.volume_bytes / 16);
    let bytes = |before: u64, now: u64| {
        let near = before.abs_diff(now) <= small.max(before / 8);
        if same_volume && near { before } else { round(now) }
    };
    WalRunway {
        minutes: match (before.minutes, now.minutes) {
            (Some(before), Some(now)) if before.abs_diff(now) <= before / 8 => Some(before),
            (_, now) => now.map(round),
        },
        volume_bytes: now.volume_bytes,
        free_bytes: bytes(before.free_bytes, now.free_bytes),
        room_bytes: bytes(before.room_bytes, now.room_bytes),
        reserve_bytes: now.reserve_bytes,
        held_bytes: bytes(before.held_bytes, now.held_bytes),
        waiting_bytes: bytes(before.waiting_bytes, now.waiting_bytes),
        write_rate: rate(before.write_rate, now.write_rate),
        archive_rate: rate(before.archive_rate, now.archive_rate),
        growth_rate: rate(before.growth_rate, now.growth_rate),
        slot: now.slot.clone(),
        dropped_segments: now.dropped_segments,
    }
}

/// Rates go up and down: only another order of magnitude is news.
fn rate(before: Option<u64>, now: Option<u64>) -> Option<u64> {
    let Some(now) = now else { return before };
    let now = if now < IDLE { 0 } else { now };
    match before {
        Some(before) if before / 2 <= now && now / 2 <= before && (before == 0) == (now == 0) => Some(before),
        _ => Some(round(now)),
    }
}

/// To two digits.
fn round(number: u64) -> u64 {
    let power = number.checked_ilog10().unwrap_or(0).saturating_sub(1);
    let unit = 10_u64.pow(power);
    number / unit * unit
}

/// Sets the condition.
pub fn tell(observed: &Observed, now: Timestamp, status: &mut ClusterStatus) {
    let before = conditions::get(&status.conditions, WAL_RUNWAY).map(|condition| condition.status.clone());
    let verdict = verdict(&observed.cluster.spec, status, before.as_deref());
    let Some((value, reason, message)) = verdict else { return };
    let generation = observed.cluster.metadata.generation;
    let now = Time(crate::clock::to_seconds(now));
    conditions::set(&mut status.conditions, WAL_RUNWAY, value, reason, &message, generation, now);
}

type Verdict = (&'static str, &'static str, String);

/// Whether there is time; `None` leaves the last verdict.
fn verdict(spec: &ClusterSpec, status: &ClusterStatus, before: Option<&str>) -> Option<Verdict> {
    let overflow = spec.wal_overflow();
    let pending = || {
        let words = "the primary has not said yet how fast WAL is written and archived";
        (UNKNOWN, "WALRunwayPending", words.to_owned())
    };
    let Some(runway) = &status.wal_runway else { return before.is_none().then(pending) };
    // Not at one moment so and at the next otherwise.
    let bad = before == Some(FALSE);
    let limit = overflow.warn_minutes() * if bad { 2 } else { 1 };
    let reserve = runway.reserve_bytes.saturating_add(if bad { runway.reserve_bytes / 10 } else { 0 });
    let soon = runway.minutes.is_some_and(|minutes| minutes < limit);
    if soon || runway.room_bytes < reserve {
        return Some((FALSE, "WALRunwayShort", short(spec, &overflow, status, runway)));
    }
    if runway.growth_rate.is_none() {
        return before.is_none().then(pending);
    }
    let words = match runway.minutes {
        None => "WAL does not pile up".to_owned(),
        Some(minutes) => {
            format!("the volume with pg_wal lasts for about {minutes} minutes, if it goes on like this")
        }
    };
    Some((TRUE, "WALRunwayEnough", words))
}

fn short(spec: &ClusterSpec, overflow: &WalOverflow, status: &ClusterStatus, runway: &WalRunway) -> String {
    let primary = status.current_primary.as_deref().unwrap_or("the primary");
    let when = match runway.minutes {
        Some(minutes) => format!("is full in about {minutes} minutes"),
        None => format!(
            "has room for {} of WAL, the reserve is {}",
            text(runway.room_bytes),
            text(runway.reserve_bytes)
        ),
    };
    let rate = |rate: Option<u64>| rate.map_or_else(|| "?".to_owned(), text);
    let volume = if spec.wal_storage.is_some() { "spec.walStorage.size" } else { "spec.storage.size" };
    let failing = conditions::get(&status.conditions, conditions::CONTINUOUS_ARCHIVING)
        .filter(|condition| condition.status == FALSE);
    let (cause, remedy) = match (&runway.slot, failing) {
        (Some(slot), _) => (
            format!("the replication slot {slot} holds {} of WAL", text(runway.held_bytes)),
            format!("let its client catch up, drop it (select pg_drop_replication_slot('{slot}'))"),
        ),
        (None, Some(condition)) => {
            (format!("WAL does not reach the archive ({})", condition.message), "mend the archive".to_owned())
        }
        (None, None) if runway.archive_rate < runway.write_rate && runway.waiting_bytes > SMALL => (
            "the archive takes less than is written".to_owned(),
            "raise wal.maxParallel, choose a faster codec or store, or write less".to_owned(),
        ),
        (None, None) => ("the volume is small for what is written".to_owned(), "free space on it".to_owned()),
    };
    let otherwise = match (overflow.drops(), &runway.slot) {
        (true, Some(_)) => {
            "PostgreSQL stops when it is full, since letting go of WAL frees nothing that a slot holds"
                .to_owned()
        }
        (false, _) => "PostgreSQL stops when it is full".to_owned(),
        (true, None) => format!(
            "below the reserve of {} the oldest WAL is let go of, and the archive gets a gap",
            text(runway.reserve_bytes)
        ),
    };
    format!(
        "the volume with pg_wal of {primary} ({}, {} free) {when}: {} of WAL are written a second, the archive takes {}, \
         {} wait for it; {cause}; {remedy}, or give a larger {volume}; {otherwise}",
        text(runway.volume_bytes),
        text(runway.free_bytes),
        rate(runway.write_rate),
        rate(runway.archive_rate),
        text(runway.waiting_bytes),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn runway(minutes: Option<u64>, free: u64) -> WalRunway {
        WalRunway {
            minutes,
            volume_bytes: 10 * GIB,
            free_bytes: free,
            room_bytes: free,
            reserve_bytes: GIB,
            write_rate: Some(5 << 20),
            archive_rate: Some(5 << 20),
            growth_rate: Some(0),
            ..WalRunway::default()
        }
    }

    #[test]
    fn noise_is_not_written() {
        let before = first(&runway(Some(47), 5 * GIB));
        assert_eq!(before.minutes, Some(47));
        let mut now = runway(Some(44), 5 * GIB - 300_000_000);
        (now.waiting_bytes, now.held_bytes) = (48 << 20, 60 << 20);
        (now.write_rate, now.archive_rate, now.growth_rate) = (Some(8 << 20), None, Some(40_000));
        assert_eq!(steady(&before, &now), before);
        now.minutes = Some(39);
        now.free_bytes = 4 * GIB;
        now.waiting_bytes = 300 << 20;
        let after = steady(&before, &now);
        assert_eq!((after.minutes, after.free_bytes), (Some(39), 4_200_000_000));
        assert_eq!(after.waiting_bytes, 310_000_000);
        assert_eq!(steady(&after, &runway(None, 5 * GIB)).minutes, None);
        assert_eq!((round(7), round(99), round(1234), round(0)), (7, 99, 1200, 0));
    }

    #[test]
    fn a_verdict_is_not_taken_back_at_once() {
        let spec = ClusterSpec::default();
        let said = |runway: WalRunway, before: Option<&str>| {
            let status = ClusterStatus { wal_runway: Some(runway), ..ClusterStatus::default() };
            verdict(&spec, &status, before).map(|(value, reason, _)| (value, reason))
        };
        let (short, enough) = ((FALSE, "WALRunwayShort"), (TRUE, "WALRunwayEnough"));
        assert_eq!(said(runway(Some(59), 5 * GIB), Some(TRUE)), Some(short));
        assert_eq!(said(runway(Some(61), 5 * GIB), Some(TRUE)), Some(enough));
        assert_eq!(said(runway(Some(61), 5 * GIB), Some(FALSE)), Some(short));
        assert_eq!(said(runway(Some(121), 5 * GIB), Some(FALSE)), Some(enough));
        assert_eq!(said(runway(None, 5 * GIB), Some(FALSE)), Some(enough));
        assert_eq!(said(runway(None, GIB - 1), Some(TRUE)), Some(short));
        assert_eq!(said(runway(None, GIB + 1), Some(FALSE)), Some(short));
        let young = WalRunway { growth_rate: None, ..runway(None, 5 * GIB) };
        assert_eq!(said(young.clone(), None), Some((UNKNOWN, "WALRunwayPending")));
        assert_eq!(said(young, Some(FALSE)), None);
    }
}
