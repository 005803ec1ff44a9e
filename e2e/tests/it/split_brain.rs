//! Partitions: a primary that cannot show that it is one takes no writes, and one that can goes on.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use chrono::{DateTime, Utc};
use howdah_api::naming;
use howdah_e2e::direct::{Door, Session};
use howdah_e2e::wait;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::common::Scene;
use crate::standing::{WORKERS, complete, text, three_synchronous};

/// Longer than a lease, and than the time that a primary may go without renewing it.
const AWAY: Duration = Duration::from_secs(40);
/// How long a write to a stale primary may take to be answered.
const STALE: Duration = Duration::from_secs(90);

/// Holder of the primary's lease, and when it was renewed.
async fn lease(scene: &Scene) -> Result<(String, DateTime<Utc>)> {
    let name = naming::primary_lease("pg");
    let lease = scene.kubectl.get("lease", &name).await?.with_context(|| format!("no lease {name}"))?;
    let renewed = text(&lease, "/spec/renewTime");
    let renewed = renewed.parse().with_context(|| format!("renewTime {renewed:?} of lease {name}"))?;
    Ok((text(&lease, "/spec/holderIdentity").to_owned(), renewed))
}

/// The API server is away for everybody. All replicas confirm the primary, so it goes on; nothing comes of it later.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_api_server_the_primary_goes_on() -> Result<()> {
    let scene = Scene::new("sb-api").await?;
    let lab = scene.ground.lab()?;
    let (before, door, writer) = scene.loaded("pg", three_synchronous(), WORKERS).await?;
    let (holder, _) = lease(&scene).await?;
    ensure!(holder.starts_with(&format!("{}/", before.primary)), "the lease is held by {holder:?}");
    lab.api_away(true)?;
    let watched = wait::holds("a primary without an API server", AWAY, || async {
        let here = door.at(&before.addresses[&before.primary])?;
        ensure!(here.ask("select pg_is_in_recovery()").await? == "f");
        Ok(())
    })
    .await;
    lab.api_away(false)?;
    watched?;
    // Whatever was about to happen has happened by the time that the lease is this much younger.
    let back = Utc::now();
    wait::until("a lease renewed long after", wait::minutes(3), || async {
        let (now, renewed) = lease(&scene).await?;
        ensure!(now == holder, "the lease went from {holder} to {now}");
        Ok((renewed > back + 2 * Duration::from_secs(naming::PRIMARY_LEASE_SECONDS.try_into()?))
            .then_some(()))
    })
    .await?;
    let after = scene.settled("pg", 3).await?;
    let ledger = writer.stop().await;
    eprintln!("API server away: longest time without a row {:.1} s", ledger.longest_gap.as_secs_f64());
    ensure!(after.primary == before.primary && after.timeline == before.timeline, "{before:?} {after:?}");
    ensure!(ledger.longest_gap < Duration::from_secs(10), "no writes for {:?}", ledger.longest_gap);
    complete(&ledger, &door).await?;
    scene.agreed("pg", &after).await?;
    scene.ground.stop().await
}

/// Writes rows that no ledger knows to a server that stands still: by a session that was open before, which is the first
/// to be served, and by one that is opened now. Each ends with the reason why its row was not taken.
fn stale_writes(open: Session, door: Door) -> [JoinHandle<Result<String>>; 2] {
    let first = tokio::spawn(async move {
        let insert = open.ask("insert into ledger (id, worker) values (-1, 0)");
        refusal(timeout(STALE, insert).await.ok())
    });
    let second = tokio::spawn(async move {
        match door.open_within(STALE).await {
            Ok(session) => {
                let insert = session.ask("insert into ledger (id, worker) values (-2, 0)");
                refusal(timeout(STALE, insert).await.ok())
            }
            Err(error) => Ok(format!("{error:#}")),
        }
    });
    [first, second]
}

fn refusal(answer: Option<Result<String>>) -> Result<String> {
    match answer {
        Some(Ok(_)) => bail!("a stale primary acknowledged a row"),
        Some(Err(error)) => Ok(format!("{error:#}")),
        None => Ok(format!("no answer within {STALE:?}")),
    }
}

/// The primary stands still for longer than its lease lasts. Another one is chosen, and the third, to which the old one
/// never says that it is gone, confirms what that writes. When the old one goes on, as if no time had passed, it
/// acknowledges nothing any more and becomes a replica.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_primary_acknowledges_nothing_when_it_goes_on() -> Result<()> {
    let scene = Scene::new("sb-frozen").await?;
    let mut spec = three_synchronous();
    // PostgreSQL itself would hang on the old primary for ever.
    spec["postgresql"]["parameters"]["wal_receiver_timeout"] = "0".into();
    let (before, door, writer) = scene.loaded("pg", spec, WORKERS).await?;
    let old = &before.primary;
    let there = door.at(&before.addresses[old])?;
    // Opened while it answers; the rows are sent below, when it does not.
    let idle = there.open().await?;
    let tries = scene
        .frozen(old, async {
            scene.succeeded("pg", old).await?;
            writer.goes_on(wait::minutes(3)).await?;
            Ok(stale_writes(idle, there))
        })
        .await?;
    for one in tries {
        eprintln!("the stale primary: {}", one.await??);
    }
    let after = scene.settled("pg", 3).await?;
    writer.goes_on(wait::minutes(1)).await?;
    let ledger = writer.stop().await;
    eprintln!("frozen primary: longest time without a row {:.1} s", ledger.longest_gap.as_secs_f64());
    ensure!(after.primary != *old && after.timeline > before.timeline, "{before:?} {after:?}");
    // Complains of rows that it does not know, too.
    complete(&ledger, &door).await?;
    scene.agreed("pg", &after).await?;
    scene.ground.stop().await
}
