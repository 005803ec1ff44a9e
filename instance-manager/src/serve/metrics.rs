//! `GET /metrics`: Prometheus' text form. A value that is not known is absent, never zero.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use howdah_api::cluster_status::RepositoryLag;
use howdah_api::instance::{InstanceRole, InstanceStatus, RepositoryState};
use howdah_api::wal_runway::WalRunway;
use howdah_api::window::RecoveryWindow;
use howdah_engine::Progress;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;

use super::status::collect;
use crate::config::recovery::parse_lsn;
use crate::run::shared::Shared;

/// The route.
pub fn router(shared: Arc<Shared>) -> Router {
    Router::new().route("/metrics", get(metrics)).with_state(shared)
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    let status = collect(&shared).await;
    let progress = shared.backup().map(|b| b.progress);
    let registry = registry(&status, progress.as_deref());
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &registry) {
        Ok(()) => {
            let form = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, form)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

struct Metrics(Registry);

impl Metrics {
    fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.0.register(name, help, ConstGauge::new(value));
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.0.register(name, help, ConstCounter::new(value));
    }

    fn time(&mut self, name: &str, help: &str, time: Option<&Time>) {
        if let Some(time) = time {
            #[allow(clippy::cast_precision_loss)]
            self.gauge(name, help, time.0.as_second() as f64);
        }
    }

    #[allow(clippy::cast_precision_loss)]
    fn position(&mut self, name: &str, help: &str, lsn: Option<&str>) {
        if let Some(lsn) = lsn.and_then(parse_lsn) {
            self.gauge(name, help, lsn as f64);
        }
    }
}

#[allow(clippy::cast_precision_loss)]
fn registry(status: &InstanceStatus, progress: Option<&Progress>) -> Registry {
    let yes = |b: bool| if b { 1.0 } else { 0.0 };
    let mut m = Metrics(Registry::with_prefix("howdah"));
    m.gauge("postgres_up", "Whether PostgreSQL answers", yes(status.role.is_some()));
    m.gauge("postgres_ready", "Whether the instance takes sessions", yes(status.ready));
    if let Some(role) = status.role {
        m.gauge("postgres_primary", "Whether the instance takes writes", yes(role == InstanceRole::Primary));
        m.gauge("postgres_streaming", "Whether the replica streams from the primary", yes(status.streaming));
    }
    m.gauge("recovering", "Whether an archive recovery goes on", yes(status.recovering));
    if let Some(time) = status.replayed_time {
        m.gauge(
            "following_replayed_timestamp_seconds",
            "When the last transaction that was replayed from the followed archive ended",
            time as f64,
        );
    }
    m.gauge("fatal", "Whether a failure needs a person", yes(status.fatal.is_some()));
    if let Some(timeline) = status.timeline_id {
        m.gauge("timeline", "Timeline", f64::from(timeline));
    }
    m.position(
        "lsn_bytes",
        "Write position, or last received position of a replica",
        status.received_lsn.as_deref(),
    );
    m.position("replayed_lsn_bytes", "Last replayed position of a replica", status.replayed_lsn.as_deref());
    if let Some(archiver) = &status.archiver {
        m.counter(
            "archiver_archived",
            "WAL files archived since the manager started",
            archiver.archived_count,
        );
        m.counter("archiver_failed", "Failed attempts since the manager started", archiver.failed_count);
        m.gauge("archiver_waiting", "WAL files that wait for the archive", archiver.waiting as f64);
        m.gauge("archiver_working", "Whether the last attempt succeeded", yes(archiver.working));
        m.time(
            "archiver_last_archived_timestamp_seconds",
            "When the last WAL file was archived",
            archiver.last_archived_time.as_ref(),
        );
        m.time(
            "archiver_last_failed_timestamp_seconds",
            "When the last attempt failed",
            archiver.last_failed_time.as_ref(),
        );
    }
    if let Some(known) = &status.recoverability {
        m.time(
            "first_recoverability_point_timestamp_seconds",
            "Earliest moment that can be restored",
            known.first_recoverability_point.as_ref(),
        );
        m.time(
            "last_backup_timestamp_seconds",
            "End of the newest completed backup",
            known.last_backup.as_ref(),
        );
        m.gauge("backups", "Backups of any type in the store that can be restored", f64::from(known.backups));
    }
    if let Some(runway) = &status.wal_runway {
        volume(&mut m, runway);
    }
    replicas(&mut m, status);
    repositories(&mut m, &status.repositories);
    m.gauge("backup_running", "Whether this instance takes a backup", yes(progress.is_some()));
    if let Some(progress) = progress {
        m.gauge("backup_bytes_done", "Bytes of the running backup read so far", progress.bytes_done() as f64);
        m.gauge("backup_bytes_total", "Bytes of the running backup in all", progress.bytes_total() as f64);
        m.gauge("backup_bytes_stored", "Bytes of the running backup sent", progress.bytes_stored() as f64);
    }
    m.0
}

/// The volume with `pg_wal`.
#[allow(clippy::cast_precision_loss)]
fn volume(m: &mut Metrics, runway: &WalRunway) {
    m.gauge("wal_volume_size_bytes", "Size of the volume with pg_wal", runway.volume_bytes as f64);
    m.gauge("wal_volume_free_bytes", "What is free of the volume with pg_wal", runway.free_bytes as f64);
    m.gauge(
        "wal_room_bytes",
        "Room for new WAL, with files that can be used again",
        runway.room_bytes as f64,
    );
    m.gauge(
        "wal_reserve_bytes",
        "Room that is to stay on the volume with pg_wal",
        runway.reserve_bytes as f64,
    );
    m.gauge("wal_held_bytes", "WAL that must be kept for the archive or a slot", runway.held_bytes as f64);
    m.gauge("wal_waiting_bytes", "WAL that waits for the archive", runway.waiting_bytes as f64);
    m.counter(
        "wal_dropped_segments",
        "WAL files let go of without having been archived, since the manager started",
        runway.dropped_segments,
    );
    let known = [
        ("wal_runway_minutes", "Minutes until the volume with pg_wal is full", runway.minutes),
        ("wal_write_bytes_per_second", "Rate at which WAL is written", runway.write_rate),
        ("wal_archive_bytes_per_second", "Rate at which the archive takes WAL", runway.archive_rate),
        ("wal_growth_bytes_per_second", "Rate at which WAL that must be kept grows", runway.growth_rate),
    ];
    for (name, help, value) in known {
        if let Some(value) = value {
            m.gauge(name, help, value as f64);
        }
    }
}

/// What each replica has not flushed yet of what its primary has written.
#[allow(clippy::cast_precision_loss)]
fn replicas(m: &mut Metrics, status: &InstanceStatus) {
    let Some(written) = status.received_lsn.as_deref().and_then(parse_lsn) else { return };
    let family = Family::<[(&'static str, String); 1], Gauge<f64, AtomicU64>>::default();
    let mut known = false;
    for replica in &status.replicas {
        if let Some(flushed) = replica.flush_lsn.as_deref().and_then(parse_lsn) {
            known = true;
            let lag = written.saturating_sub(flushed) as f64;
            family.get_or_create(&[("replica", replica.name.clone())]).set(lag);
        }
    }
    if known {
        m.0.register("replication_lag_bytes", "Bytes of WAL that a replica has not flushed yet", family);
    }
}

/// One gauge for all repositories; those of which it is not known are left out.
fn by_repository(
    m: &mut Metrics,
    name: &str,
    help: &str,
    all: &[RepositoryState],
    value: impl Fn(&RepositoryState) -> Option<f64>,
) {
    let family = Family::<[(&'static str, String); 1], Gauge<f64, AtomicU64>>::default();
    let mut known = false;
    for repository in all {
        if let Some(value) = value(repository) {
            known = true;
            family.get_or_create(&[("repository", repository.name.clone())]).set(value);
        }
    }
    if known {
        m.0.register(name, help, family);
    }
}

#[allow(clippy::cast_precision_loss)]
fn repositories(m: &mut Metrics, all: &[RepositoryState]) {
    let seconds = |time: &Option<Time>| time.as_ref().map(|time| time.0.as_second() as f64);
    by_repository(
        m,
        "repository_archiving",
        "Whether the last attempt to archive there succeeded",
        all,
        |r| (r.archiver.confirmed || !r.archiver.working).then_some(f64::from(u8::from(r.archiver.working))),
    );
    by_repository(
        m,
        "repository_last_archived_timestamp_seconds",
        "When the last WAL file reached the repository",
        all,
        |r| seconds(&r.archiver.last_archived_time),
    );
    lag(m, all);
    by_repository(
        m,
        "repository_backups",
        "Backups of any type in the repository that can be restored",
        all,
        |r| r.recoverability.as_ref().map(|known| f64::from(known.backups)),
    );
    by_repository(
        m,
        "repository_first_recoverability_point_timestamp_seconds",
        "Earliest moment that can be restored from the repository",
        all,
        |r| seconds(&r.recoverability.as_ref()?.first_recoverability_point),
    );
    by_repository(
        m,
        "repository_last_backup_timestamp_seconds",
        "End of the newest completed backup in the repository",
        all,
        |r| seconds(&r.recoverability.as_ref()?.last_backup),
    );
    fn window(r: &RepositoryState) -> Option<&RecoveryWindow> {
        r.recoverability.as_ref()?.window.as_ref()
    }
    by_repository(
        m,
        "repository_earliest_timestamp_seconds",
        "Earliest moment on the way to the newest timeline that can be restored from the repository",
        all,
        |r| seconds(&window(r)?.earliest),
    );
    by_repository(
        m,
        "repository_latest_timestamp_seconds",
        "Latest moment that can be restored from the repository",
        all,
        |r| seconds(&window(r)?.latest),
    );
    by_repository(
        m,
        "repository_gaps",
        "Stretches of time that cannot be restored from the repository because WAL is missing",
        all,
        |r| window(r).map(|window| f64::from(window.gap_count)),
    );
}

/// What each repository lacks; zero for one that has everything, absent for one that gets no WAL by itself.
#[allow(clippy::cast_precision_loss)]
fn lag(m: &mut Metrics, all: &[RepositoryState]) {
    let archiving: Vec<RepositoryState> = all
        .iter()
        .filter(|r| r.archiver.confirmed || !r.archiver.working || r.lag.is_some())
        .cloned()
        .collect();
    let all = archiving.as_slice();
    let of =
        |value: fn(&RepositoryLag) -> f64| move |r: &RepositoryState| Some(r.lag.as_ref().map_or(0.0, value));
    let late = |lag: &RepositoryLag| if lag.late { 1.0 } else { 0.0 };
    let seconds = |lag: &RepositoryLag| {
        let behind = |since: &Time| (crate::time::now().0.as_second() - since.0.as_second()).max(0) as f64;
        lag.since.as_ref().map_or(0.0, behind)
    };
    by_repository(m, "repository_late", "Whether the repository is late", all, of(late));
    by_repository(
        m,
        "repository_lag_files",
        "WAL files that the repository lacks and others have",
        all,
        of(|lag| lag.files as f64),
    );
    by_repository(
        m,
        "repository_lag_bytes",
        "Their bytes before compression",
        all,
        of(|lag| lag.bytes as f64),
    );
    by_repository(
        m,
        "repository_lag_seconds",
        "Age of the oldest WAL file that the repository lacks",
        all,
        of(seconds),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use howdah_api::instance::{ArchiverStatus, Recoverability};

    fn text(status: &InstanceStatus, progress: Option<&Progress>) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry(status, progress)).unwrap();
        text
    }

    #[test]
    fn what_is_not_known_is_absent() {
        let text = text(&InstanceStatus::default(), None);
        assert!(text.contains("howdah_postgres_up 0"), "{text}");
        for absent in ["archiver", "recoverability", "timeline", "lsn", "backup_bytes"] {
            assert!(!text.contains(absent), "{absent} in {text}");
        }
    }

    #[test]
    fn a_runway_without_end_is_absent() {
        let mut runway =
            WalRunway { free_bytes: 7, write_rate: Some(3), dropped_segments: 2, ..WalRunway::default() };
        let of = |runway: &WalRunway| {
            text(&InstanceStatus { wal_runway: Some(runway.clone()), ..InstanceStatus::default() }, None)
        };
        let shown = of(&runway);
        for line in [
            "howdah_wal_volume_free_bytes 7",
            "howdah_wal_write_bytes_per_second 3",
            "howdah_wal_dropped_segments_total 2",
        ] {
            assert!(shown.contains(line), "{line} not in {shown}");
        }
        assert!(!shown.contains("howdah_wal_runway_minutes") && !shown.contains("wal_growth"), "{shown}");
        runway.minutes = Some(42);
        assert!(of(&runway).contains("howdah_wal_runway_minutes 42"));
    }

    #[test]
    fn replicas_lag_behind_what_was_written() {
        let replica = |name: &str, flushed: Option<&str>| howdah_api::instance::ReplicaState {
            name: name.into(),
            flush_lsn: flushed.map(str::to_owned),
            ..Default::default()
        };
        let status = InstanceStatus {
            received_lsn: Some("0/3000060".into()),
            replicas: vec![
                replica("pg-2", Some("0/3000000")),
                // Looked at after the primary's own position, so it may be ahead of that.
                replica("pg-3", Some("0/3000070")),
                replica("pg-4", None),
            ],
            ..InstanceStatus::default()
        };
        let text = text(&status, None);
        assert!(text.contains("howdah_replication_lag_bytes{replica=\"pg-2\"} 96"), "{text}");
        assert!(text.contains("howdah_replication_lag_bytes{replica=\"pg-3\"} 0"), "{text}");
        assert!(!text.contains("pg-4"), "{text}");
    }

    /// S0.40: a label names the repository.
    #[test]
    fn each_repository_has_its_own_values() {
        let repository = |name: &str, working, backups: Option<u32>| RepositoryState {
            name: name.into(),
            archiver: ArchiverStatus { working, ..ArchiverStatus::default() },
            recoverability: backups.map(|backups| Recoverability {
                backups,
                window: Some(RecoveryWindow { gap_count: 2, ..RecoveryWindow::default() }),
                ..Recoverability::default()
            }),
            ..RepositoryState::default()
        };
        let mut status = InstanceStatus {
            repositories: vec![
                repository("repo1", true, Some(3)),
                repository("repo2", false, None),
                repository("repo3", false, None),
            ],
            ..InstanceStatus::default()
        };
        let since = crate::time::kube(chrono::Utc::now() - chrono::Duration::seconds(90));
        let lag =
            RepositoryLag { late: true, files: 3, bytes: 48 << 20, since: Some(since), oldest_wal: None };
        status.repositories[2].lag = Some(lag);
        let text = text(&status, None);
        for line in [
            "repository_late{repository=\"repo2\"} 0",
            "repository_late{repository=\"repo3\"} 1",
            "repository_lag_files{repository=\"repo3\"} 3",
            "repository_lag_bytes{repository=\"repo3\"} 50331648",
            "repository_lag_seconds{repository=\"repo3\"} 9",
        ] {
            assert!(text.contains(line), "{line} not in {text}");
        }
        assert!(text.contains("howdah_repository_backups{repository=\"repo1\"} 3"), "{text}");
        assert!(text.contains("howdah_repository_archiving{repository=\"repo2\"} 0"), "{text}");
        assert!(text.contains("howdah_repository_gaps{repository=\"repo1\"} 2"), "{text}");
        for absent in [
            "repository_latest",
            "gaps{repository=\"repo2",
            "backups{repository=\"repo2",
            "archiving{repository=\"repo1",
            "late{repository=\"repo1",
            "last_archived",
        ] {
            assert!(!text.contains(absent), "{absent} in {text}");
        }
    }

    /// S0.40: the archive, the backups and the one that runs.
    #[test]
    fn what_is_known_is_there() {
        let at = crate::time::kube(chrono::DateTime::from_timestamp(1_795_000_000, 0).unwrap());
        let status = InstanceStatus {
            role: Some(InstanceRole::Primary),
            ready: true,
            timeline_id: Some(2),
            received_lsn: Some("0/3000060".into()),
            archiver: Some(ArchiverStatus {
                working: true,
                archived_count: 5,
                waiting: 1,
                last_archived_time: Some(at.clone()),
                ..ArchiverStatus::default()
            }),
            recoverability: Some(Recoverability {
                first_recoverability_point: Some(at),
                last_backup: None,
                backups: 1,
                window: None,
            }),
            ..InstanceStatus::default()
        };
        insta::assert_snapshot!(text(&status, Some(&Progress::new())));
    }
}
