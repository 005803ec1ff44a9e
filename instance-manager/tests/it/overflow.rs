//! A volume that fills while the archive is away: what is told, and what is let go of where that is allowed.

use howdah_api::instance::InstanceStatus;
use howdah_api::naming;
use howdah_api::wal_runway::{WalOverflow, WalOverflowPolicy};
use howdah_s3::{Action, Rule};

use crate::pod::{Pod, text};
use crate::world::{World, found, until};

/// A primary whose archive works, with a reserve that no volume has.
async fn primary(world: &World, policy: WalOverflowPolicy) -> Pod {
    let mut spec = world.spec(None, true);
    // Else PostgreSQL keeps them for replicas.
    spec.postgresql.parameters.insert("wal_keep_size".into(), "0".into());
    spec.backup.as_mut().unwrap().wal_overflow =
        Some(WalOverflow { policy, reserve: Some("1Pi".into()), warn_minutes: None });
    world.cluster("pg", spec).await;
    let pod = Pod::initialised(world).await;
    until("the archive is proven", || async {
        pod.status().and_then(|s| s.archiver).is_some_and(|a| a.confirmed)
    })
    .await;
    pod
}

/// Completes segments; returns their names.
async fn written(pod: &Pod, segments: usize) -> Vec<String> {
    let sql = pod.sql("postgres", "postgres").await.unwrap();
    sql.batch_execute("CREATE TABLE IF NOT EXISTS t (id int)").await.unwrap();
    let mut names = Vec::new();
    for _ in 0..segments {
        sql.batch_execute("INSERT INTO t VALUES (1)").await.unwrap();
        let row = sql.query_one("SELECT pg_walfile_name(pg_switch_wal())", &[]).await.unwrap();
        names.push(row.get(0));
    }
    names
}

fn waits(pod: &Pod, segment: &str) -> bool {
    pod.pgdata().join(format!("pg_wal/archive_status/{segment}.ready")).exists()
}

fn stored(world: &World, segment: &str) -> bool {
    world.keys().iter().any(|key| key.contains("/wals/") && key.contains(segment))
}

/// The files of the gaps, in order.
fn gone(status: &InstanceStatus, all: &[String]) -> Vec<String> {
    let within = |name: &&String| {
        status.dropped_wal.iter().any(|gap| gap.first_wal <= **name && **name <= gap.last_wal)
    };
    all.iter().filter(within).cloned().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn wal_is_let_go_of_before_the_volume_is_full_and_the_gap_is_marked() {
    let world = World::new().await;
    let mut pod = primary(&world, WalOverflowPolicy::Drop).await;
    world.assign("before", "pg", "pg-1", &pod.status().unwrap().session_id).await;
    world.backup_ended("before").await;
    world.s3.faults().add(Rule::new(Action::access_denied()));
    let segments = written(&pod, 4).await;
    let status = found("all that waits is let go of", || async {
        let done = |status: &InstanceStatus| {
            let dropped = status.wal_runway.as_ref().map_or(0, |runway| runway.dropped_segments);
            gone(status, &segments) == segments && dropped >= 4
        };
        pod.status().filter(done)
    })
    .await;
    assert!(status.ready, "{status:?}");
    let runway = status.wal_runway.unwrap();
    assert!(runway.volume_bytes > 0, "{runway:?}");
    let gap = status.dropped_wal.first().unwrap();
    assert_eq!((gap.instance.as_str(), gap.timeline_id), ("pg-1", 1));
    assert!(gap.reason.contains("reserve of 1Pi") && gap.reason.contains("the archive"), "{gap:?}");
    until("PostgreSQL has used the files again, or removed them", || async {
        segments.iter().all(|name| !waits(&pod, name) && !pod.pgdata().join("pg_wal").join(name).exists())
    })
    .await;
    until("it is told", || async {
        world.events("pg").await.iter().any(|event| event.starts_with("WALDropped: pg-1: "))
    })
    .await;
    let metrics = pod.http(9187, "/metrics").await.unwrap().1;
    assert!(metrics.contains("howdah_wal_dropped_segments_total"), "{metrics}");
    assert!(metrics.contains("howdah_wal_volume_free_bytes"), "{metrics}");

    // Another process knows of it.
    assert!(pod.root.join("data").join(naming::DROPPED_WAL).exists());
    pod.kill();
    pod.ready().await;
    let again = pod.status().unwrap().dropped_wal;
    assert_eq!(again.first().map(|gap| &gap.first_wal), status.dropped_wal.first().map(|gap| &gap.first_wal));

    // The archive is back: it learns of the gap, and goes on behind it.
    world.s3.faults().clear();
    let record = format!("pg/howdah/dropped/{}.json", status.dropped_wal[0].first_wal);
    until("the repository holds the record", || async { world.keys().contains(&record) }).await;
    let later = written(&pod, 1).await.remove(0);
    until("WAL is archived again", || async { stored(&world, &later) }).await;
    assert!(segments.iter().all(|name| !stored(&world, name)), "{:?}", world.keys());

    // Whoever looks is told that it was meant, and what comes behind it.
    let first = status.dropped_wal[0].first_wal.as_str();
    let told = info(&pod);
    let gap = &told["repositories"][0]["dropped"][0];
    assert_eq!((gap["first"].as_str(), gap["by"].as_str()), (Some(first), Some("pg-1")), "{told:#}");
    assert_eq!((&gap["missing"], gap.get("followedBy")), (&gap["segments"], None), "{told:#}");
    assert!(text(&pod.call(&["info"])).contains("            next backup: none, take a full backup\n"));
    world.assign("behind", "pg", "pg-1", &pod.status().unwrap().session_id).await;
    let behind = world.backup_ended("behind").await;
    assert_eq!(info(&pod)["repositories"][0]["dropped"][0]["followedBy"].as_str(), behind.label.as_deref());
    let gap = found("the recovery window says it too", || async {
        let known = pod.status()?.repositories.into_iter().next()?.recoverability?;
        known.window?.gaps.into_iter().find(|gap| gap.until.is_some())
    })
    .await;
    assert_eq!((gap.missing_wal.as_str(), &gap.backup), (first, &behind.backup_id), "{gap:?}");
    assert!(gap.dropped_at.is_some(), "{gap:?}");
}

fn info(pod: &Pod) -> serde_json::Value {
    let output = pod.call(&["info", "--output", "json"]);
    assert!(output.status.success(), "{}", text(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// S0.6: nothing leaves before it is archived, unless the Cluster says so.
#[tokio::test(flavor = "multi_thread")]
async fn without_leave_everything_waits() {
    let world = World::new().await;
    let pod = primary(&world, WalOverflowPolicy::Keep).await;
    world.s3.faults().add(Rule::new(Action::access_denied()));
    let segments = written(&pod, 6).await;
    // Rates need some looks, and each was an opportunity.
    let status = found("the runway is known", || async {
        pod.status().filter(|status| {
            let runway = status.wal_runway.as_ref();
            runway.is_some_and(|runway| runway.growth_rate.is_some() && runway.waiting_bytes >= 6 << 24)
        })
    })
    .await;
    assert!(status.dropped_wal.is_empty(), "{:?}", status.dropped_wal);
    assert!(segments.iter().all(|name| waits(&pod, name)), "{segments:?}");
    let runway = status.wal_runway.unwrap();
    assert!(
        runway.held_bytes >= runway.waiting_bytes && runway.room_bytes < runway.reserve_bytes,
        "{runway:?}"
    );
    assert!(!pod.root.join("data").join(naming::DROPPED_WAL).exists());
}
