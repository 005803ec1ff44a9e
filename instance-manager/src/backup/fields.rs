//! The words of a Backup's status, from what the engine reports: pure, with time as an argument.

use chrono::{DateTime, Utc};
use howdah_api::backup::{BackupPhase, BackupProgress, BackupStatus, BadPage, BadPages};
use howdah_api::conditions;
use howdah_api::object_store::{BarmanObjectStore, DataCompression};
use howdah_api::repository::NamedStore;
use howdah_engine::{BackupResult, BackupStart};

use crate::time::kube;

/// Damaged pages that are named; the others are only counted.
const PAGES_NAMED: usize = 10;

/// Where the backup goes, written before anything else: a restore needs it, and so does a sweep after a crash.
pub fn begun(
    status: &mut BackupStatus,
    NamedStore { name: repository, store, .. }: &NamedStore,
    cluster: &str,
    name: &str,
    now: DateTime<Utc>,
) {
    status.repository = Some(repository.clone());
    status.uri_style = store.uri_style;
    status.region = store.region.clone();
    status.phase = Some(BackupPhase::Running);
    status.backup_name = Some(name.to_owned());
    status.destination_path = Some(store.destination_path.clone());
    status.endpoint_url = store.endpoint_url.clone();
    status.endpoint_ca = store.endpoint_ca.clone();
    status.client_certificate = store.client_certificate.clone();
    status.s3_credentials = store.s3_credentials.clone();
    status.google_credentials = store.google_credentials.clone();
    status.azure_credentials = store.azure_credentials.clone();
    status.client_encryption = store.encryption.clone();
    status.server_name = Some(store.server_name_or(cluster).to_owned());
    status.encryption = store.data.as_ref().and_then(|d| d.encryption);
    status.compression = Some(compression_word(store).to_owned());
    status.started_at = Some(kube(now));
    status.heartbeat_at = Some(kube(now));
}

/// Another process of the same pod goes on with the backup.
pub fn taken_over(status: &mut BackupStatus, session: &str, now: DateTime<Utc>) {
    if let Some(instance) = &mut status.instance_id {
        session.clone_into(&mut instance.session_id);
    }
    status.resumes = Some(status.resumes.unwrap_or(0).saturating_add(1));
    status.heartbeat_at = Some(kube(now));
}

/// What a backup that goes on could keep, for an event.
#[must_use]
pub fn resumed(kept: usize, found: usize, bytes: u64) -> String {
    match kept {
        0 => format!(
            "none of {found} finished parts could be kept: the backup starts again from the beginning"
        ),
        _ => format!("{kept} of {found} finished parts ({} of files) are kept", human_size(bytes)),
    }
}

fn compression_word(store: &BarmanObjectStore) -> &'static str {
    match store.data.as_ref().and_then(|d| d.compression) {
        None => "none",
        Some(DataCompression::Gzip) => "gzip",
        Some(DataCompression::Bzip2) => "bzip2",
        Some(DataCompression::Snappy) => "snappy",
        Some(DataCompression::Lz4) => "lz4",
        Some(DataCompression::Zstd) => "zstd",
    }
}

/// What is known once PostgreSQL has begun the backup.
pub fn started(status: &mut BackupStatus, start: &BackupStart) {
    status.backup_id = Some(start.backup_id.to_string());
    status.backup_type = Some(start.kind.to_string());
    status.begin_lsn = Some(start.begin_lsn.to_string());
    status.begin_wal = Some(start.begin_wal.to_string());
    status.timeline_id = Some(start.timeline);
    status.system_id = Some(start.system_id.to_string());
    status.major_version = i32::try_from(start.server_version / 10_000).ok();
}

/// A look at the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// When.
    pub at: DateTime<Utc>,
    /// Bytes read.
    pub done: u64,
    /// Bytes expected.
    pub total: u64,
}

/// Progress from two looks.
#[must_use]
pub fn progress(before: Look, now: Look) -> BackupProgress {
    let millis = u64::try_from((now.at - before.at).num_milliseconds()).unwrap_or(0);
    let rate = now.done.saturating_sub(before.done).saturating_mul(1000).checked_div(millis).unwrap_or(0);
    // Files grow while they are read: the estimate grows with them, and nothing is ever 101%.
    let total = now.total.max(now.done);
    let percent = now.done.saturating_mul(100).checked_div(total).unwrap_or(0);
    let left = (total - now.done).checked_div(rate).and_then(|s| i64::try_from(s).ok());
    let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    BackupProgress {
        bytes_done: signed(now.done),
        bytes_total: signed(total),
        bytes_per_second: signed(rate),
        percent: format!("{percent}%"),
        estimated_completion: left
            .filter(|_| now.done < total)
            .and_then(|s| now.at.checked_add_signed(chrono::Duration::try_seconds(s)?))
            .map(kube),
    }
}

/// Names damaged pages, as soon as there are any.
pub fn bad_pages(
    status: &mut BackupStatus,
    bad: &howdah_engine::BadPages,
    now: DateTime<Utc>,
    generation: Option<i64>,
) {
    let Some(note) = bad_pages_note(bad) else { return };
    let named = bad.pages.iter().take(PAGES_NAMED);
    status.bad_pages = Some(BadPages {
        count: i64::try_from(bad.count).unwrap_or(i64::MAX),
        pages: named.map(|p| BadPage { file: p.file.clone(), block: i64::from(p.block) }).collect(),
    });
    intact(status, conditions::FALSE, "BadPages", &note, now, generation);
}

/// Damaged pages in words, and the remedy; `None` when there are none.
#[must_use]
pub fn bad_pages_note(bad: &howdah_engine::BadPages) -> Option<String> {
    (!bad.is_empty()).then(|| {
        format!(
            "{} data pages have a wrong checksum: {}; keep every older backup, and check the storage of the instance",
            bad.count,
            bad.named(PAGES_NAMED)
        )
    })
}

fn intact(
    status: &mut BackupStatus,
    value: &str,
    reason: &str,
    message: &str,
    now: DateTime<Utc>,
    generation: Option<i64>,
) {
    let all = &mut status.conditions;
    conditions::set(all, conditions::PAGES_INTACT, value, reason, message, generation, kube(now));
}

/// The backup is restorable.
pub fn completed(
    status: &mut BackupStatus,
    result: &BackupResult,
    now: DateTime<Utc>,
    generation: Option<i64>,
) {
    let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    status.phase = Some(BackupPhase::Completed);
    status.backup_id = Some(result.backup_id.to_string());
    if let Some(name) = &result.name {
        status.backup_name = Some(name.clone());
    }
    status.begin_wal = Some(result.begin_wal.to_string());
    status.end_wal = Some(result.end_wal.to_string());
    status.begin_lsn = Some(result.begin_lsn.to_string());
    status.end_lsn = Some(result.end_lsn.to_string());
    status.timeline_id = Some(result.timeline);
    status.system_id = Some(result.system_id.to_string());
    status.major_version = i32::try_from(result.server_version / 10_000).ok();
    status.backup_type = Some(result.kind.to_string());
    status.label = Some(result.label.clone());
    status.references = result.ancestors.iter().map(ToString::to_string).collect();
    status.full_because.clone_from(&result.instead);
    status.set_size_bytes = Some(signed(result.set_bytes));
    status.size = Some(human_size(result.stored_bytes));
    status.size_bytes = Some(signed(result.stored_bytes));
    status.database_size_bytes = Some(signed(result.database_bytes));
    status.parts = i32::try_from(result.parts.len()).ok();
    status.progress = Some(BackupProgress {
        bytes_done: signed(result.database_bytes),
        bytes_total: signed(result.database_bytes),
        bytes_per_second: 0,
        percent: "100%".to_owned(),
        estimated_completion: None,
    });
    status.error = None;
    let message = match bad_pages_note(&result.bad_pages) {
        None => "every object and every WAL file that a restore needs was confirmed in the store".to_owned(),
        Some(note) => format!("restorable, but {note}"),
    };
    if !result.bad_pages.is_empty() {
        bad_pages(status, &result.bad_pages, now, generation);
    } else if result.data_checksums {
        let message = "the checksum of every data page was right";
        intact(status, conditions::TRUE, "Verified", message, now, generation);
    } else {
        let message = "the database has no data checksums, so damaged pages cannot be told";
        intact(status, conditions::UNKNOWN, "NoDataChecksums", message, now, generation);
    }
    ended(status, conditions::TRUE, "BackupCompleted", &message, now, generation);
}

/// There is no backup.
pub fn failed(status: &mut BackupStatus, error: &str, now: DateTime<Utc>, generation: Option<i64>) {
    status.phase = Some(BackupPhase::Failed);
    status.error = Some(error.to_owned());
    ended(status, conditions::FALSE, "BackupFailed", error, now, generation);
}

fn ended(
    status: &mut BackupStatus,
    value: &str,
    reason: &str,
    message: &str,
    now: DateTime<Utc>,
    generation: Option<i64>,
) {
    status.stopped_at = Some(kube(now));
    status.heartbeat_at = Some(kube(now));
    if let Some(started) = &status.started_at {
        status.duration = Some(human_duration(now.timestamp() - started.0.as_second()));
    }
    conditions::set(
        &mut status.conditions,
        conditions::COMPLETED,
        value,
        reason,
        message,
        generation,
        kube(now),
    );
}

/// Bytes for people: `1.2 GiB`.
#[must_use]
pub fn human_size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    // Tenths, rounded half up, without floating point.
    let mut unit = 0;
    let mut divisor: u128 = 1024;
    while unit + 1 < UNITS.len() && u128::from(bytes) >= divisor * 1024 - divisor / 20 {
        unit += 1;
        divisor *= 1024;
    }
    let tenths = (u128::from(bytes) * 10 + divisor / 2) / divisor;
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// Seconds for people: `4s`, `12m30s`, `1h12m`.
#[must_use]
pub fn human_duration(seconds: i64) -> String {
    let s = seconds.max(0);
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m{}s", s / 60, s % 60),
        _ => format!("{}h{}m", s / 3600, s % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_795_000_000 + seconds, 0).unwrap()
    }

    #[rstest::rstest]
    #[case(0, "0 B")]
    #[case(1023, "1023 B")]
    #[case(1024, "1.0 KiB")]
    #[case(1_288_490_189, "1.2 GiB")]
    #[case((1 << 20) - 1, "1.0 MiB")]
    fn sizes(#[case] bytes: u64, #[case] want: &str) {
        assert_eq!(human_size(bytes), want);
    }

    #[rstest::rstest]
    #[case(-5, "0s")]
    #[case(4, "4s")]
    #[case(750, "12m30s")]
    #[case(4320, "1h12m")]
    fn durations(#[case] seconds: i64, #[case] want: &str) {
        assert_eq!(human_duration(seconds), want);
    }

    #[test]
    fn progress_has_rate_and_end() {
        let before = Look { at: at(0), done: 0, total: 1000 };
        let p = progress(before, Look { at: at(10), done: 250, total: 1000 });
        assert_eq!((p.percent.as_str(), p.bytes_per_second), ("25%", 25));
        assert_eq!(p.estimated_completion, Some(kube(at(40))));
        // More than expected, and no time passed.
        let p = progress(Look { at: at(10), done: 5, total: 5 }, Look { at: at(10), done: 7, total: 5 });
        assert_eq!((p.percent.as_str(), p.bytes_total, p.bytes_per_second), ("100%", 7, 0));
        assert_eq!(p.estimated_completion, None);
    }

    #[test]
    fn ten_damaged_pages_are_named_and_all_are_counted() {
        let mut status = BackupStatus::default();
        bad_pages(&mut status, &howdah_engine::BadPages::default(), at(0), Some(1));
        assert_eq!(status, BackupStatus::default());

        let page = |block| howdah_engine::BadPage { file: "base/5/16384".into(), block };
        let found = howdah_engine::BadPages { count: 1300, pages: (0..1000).map(page).collect() };
        bad_pages(&mut status, &found, at(0), Some(1));
        let named = status.bad_pages.unwrap();
        assert_eq!((named.count, named.pages.len()), (1300, 10));
        assert_eq!(named.pages[9], BadPage { file: "base/5/16384".into(), block: 9 });
        let condition = conditions::get(&status.conditions, conditions::PAGES_INTACT).unwrap();
        assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("False", "BadPages"));
        assert!(
            condition.message.starts_with("1300 data pages") && condition.message.contains("and 1290 more")
        );
    }

    #[test]
    fn a_failure_keeps_what_was_known() {
        let mut status = BackupStatus::default();
        let store = BarmanObjectStore { destination_path: "s3://b/".into(), ..BarmanObjectStore::default() };
        let named = NamedStore::new("default", store);
        begun(&mut status, &named, "pg", "backup-1", at(0));
        failed(&mut status, "the store was away; see why", at(75), Some(1));
        insta::assert_yaml_snapshot!(status);
    }
}
