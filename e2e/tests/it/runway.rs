//! The archive takes nothing and the volume fills: what is told, and what is let go of where that is allowed.

use anyhow::{Result, ensure};
use howdah_api::naming::{DATA_MOUNT, gap_backup};
use howdah_e2e::direct::Door;
use howdah_e2e::wait;
use serde_json::{Value, json};

use crate::common::{Scene, checksum, condition, phase, table};
use crate::standing::text;

/// Size of the volume, and of a segment, in MiB.
const VOLUME: u64 = 480;
const SEGMENT: u64 = 16;
/// Segments that wait for the archive before anything is allowed, and all that are written while it takes nothing.
const FIRST: u64 = 8;
const ALL: u64 = 36;
const _: () = assert!(ALL * SEGMENT > VOLUME, "all that is written must be more than the volume holds");
/// MiB that the load leaves free: less than a quarter of the reserve, with which nothing is waited for any more.
const LEFT: u64 = 3 * SEGMENT;
const RESERVE: &str = "60%";

fn small(storage_class: &str) -> Value {
    json!({
        "storage": {"size": format!("{VOLUME}Mi"), "storageClass": storage_class},
        // Nothing but what waits for the archive is kept.
        "postgresql": {"parameters": {"wal_keep_size": "0", "min_wal_size": "32MB", "max_wal_size": "64MB"}},
        "backup": {"barmanObjectStore": {"data": {"immediateCheckpoint": true}}},
    })
}

/// Writes a row and closes its segment, once the volume has room for another.
async fn write_segment(scene: &Scene, door: &Door, row: u64) -> Result<()> {
    let free = format!("df --output=avail --block-size=1M {DATA_MOUNT} | tail -n 1");
    wait::until(&format!("room for segment {row}"), wait::minutes(3), || async {
        let free: u64 = scene.shell("pg-1", &free).await?.trim().parse()?;
        Ok((free > LEFT).then_some(()))
    })
    .await?;
    let sql = format!("insert into t values ({row}, 'a segment of its own'); select pg_switch_wal()");
    door.ask(&sql).await.map(drop)
}

/// First it is told that there is little time, and nothing is lost. Then WAL may be let go of, and the database takes more of it
/// than its volume holds. When the archive is back, the gap is closed by a Backup that nobody asked for, which restores.
#[tokio::test(flavor = "multi_thread")]
async fn the_database_outlives_its_volume_and_the_gap_is_closed() -> Result<()> {
    const STARTED: &str = "select pg_postmaster_start_time()";
    let scene = Scene::new("runway").await?;
    let lab = scene.ground.lab()?;
    scene.up("pg", small(lab.bounded_storage_class())).await?;
    let door = scene.door("pg").await?;
    door.ask(&table("t", 100)).await?;
    scene.completed_backup("before", "pg").await?;
    let started = door.ask(STARTED).await?;
    // A rate is seen between two looks: what was written before the first one piles up by nothing.
    scene
        .kubectl
        .wait_for("cluster", "pg", "that rates are known", wait::minutes(3), |cluster| {
            condition(cluster, "WALRunway").is_some_and(|c| c["reason"] == "WALRunwayEnough")
        })
        .await?;

    lab.refuse_store(true);
    for row in 1001..=1000 + FIRST {
        write_segment(&scene, &door, row).await?;
    }
    let told = scene
        .kubectl
        .wait_for("cluster", "pg", "little time", wait::minutes(4), |cluster| {
            let short = condition(cluster, "WALRunway").filter(|c| c["reason"] == "WALRunwayShort");
            let message = short.map_or("", |c| text(c, "/message"));
            message.contains("is full in about") && message.contains("mend the archive")
        })
        .await?;
    let runway = &told["status"]["walRunway"];
    ensure!(condition(&told, "WALRunway").is_some_and(|c| c["status"] == "False"), "{:#}", told["status"]);
    ensure!(runway["minutes"].as_u64().is_some_and(|minutes| minutes < 60), "{runway:#}");
    ensure!(runway["waitingBytes"].as_u64() >= Some((FIRST * SEGMENT / 4) << 20), "{runway:#}");
    ensure!(told["status"]["droppedWAL"].is_null() && runway["droppedSegments"] == 0, "{:#}", told["status"]);

    let overflow = json!({"policy": "Drop", "reserve": RESERVE});
    scene.change("pg", json!({"backup": {"walOverflow": overflow}})).await?;
    for row in 1001 + FIRST..=1000 + ALL {
        write_segment(&scene, &door, row).await?;
    }
    scene.event("WALDropped", &["pg-1: ", "were let go of without having been archived"]).await?;
    let dropped = scene
        .kubectl
        .wait_for("cluster", "pg", "the gap", wait::minutes(2), |cluster| {
            let status = &cluster["status"];
            status["droppedWAL"][0]["firstWAL"].is_string()
                && status["walRunway"]["droppedSegments"].as_u64() > Some(0)
        })
        .await?;
    let first = text(&dropped, "/status/droppedWAL/0/firstWAL");
    let ordered = gap_backup("pg", first, "default");
    let waits = |backup: &Value| {
        let why = condition(backup, "Scheduled").map_or("", |c| text(c, "/reason"));
        phase(backup) == "pending" && why == "ArchivingNotWorking"
    };
    scene.kubectl.wait_for("backup", &ordered, "waiting for the archive", wait::minutes(2), waits).await?;

    lab.refuse_store(false);
    scene.archive_all("pg").await?;
    let closing = scene.ended(&ordered).await?;
    ensure!(phase(&closing) == "completed", "{:#}", closing["status"]);
    let closed = scene
        .kubectl
        .wait_for("cluster", "pg", "the gap closed, and time again", wait::minutes(3), |cluster| {
            let status = &cluster["status"];
            status["droppedWAL"][0]["backups"] == json!([ordered])
                && status["repositories"][0]["gaps"][0]["until"].is_string()
                && condition(cluster, "WALRunway").is_some_and(|c| c["status"] == "True")
        })
        .await?;
    let status = &closed["status"];
    ensure!(status["droppedWAL"].as_array().is_some_and(|gaps| gaps.len() == 1), "{status:#}");
    ensure!(status["repositories"][0]["gaps"][0]["missingWAL"] == first, "{status:#}");
    let behind = text(&closing, "/status/beginWal") > text(status, "/droppedWAL/0/lastWAL");
    ensure!(behind, "{:#} {status:#}", closing["status"]);
    let backups = scene.kubectl.list("backups", "").await?;
    let gap_backups = backups.iter().filter(|backup| text(backup, "/metadata/name").contains("-gap-"));
    ensure!(gap_backups.count() == 1, "{backups:#?}");
    let record = format!("{}/howdah/dropped/{first}.json", scene.server("pg"));
    ensure!(scene.ground.keys(&record).await?.len() == 1, "no {record}");

    ensure!(door.ask(STARTED).await? == started, "PostgreSQL was started again");
    ensure!(door.ask("select count(*) from t where id > 1000").await? == ALL.to_string());
    door.ask("insert into t values (5000, 'behind the gap')").await?;
    let sum = door.ask(&checksum("t")).await?;
    scene.archive_all("pg").await?;
    scene.apply(&scene.restored("again", &ordered, Value::Null)).await?;
    scene.healthy("again").await?;
    let restored = scene.door("again").await?.ask(&checksum("t")).await?;
    ensure!(restored == sum, "again has {restored}, pg has {sum}");
    scene.ground.stop().await
}
