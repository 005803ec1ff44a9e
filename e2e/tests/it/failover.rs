//! A primary, a replica or a volume is lost: who takes over, what is there afterwards, and how long nobody wrote.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use howdah_e2e::ledger::Ledger;
use howdah_e2e::wait;
use rstest::rstest;
use serde_json::{Value, json};

use crate::common::Scene;
use crate::standing::{Standing, WORKERS, complete, summary, text, three, three_synchronous};

/// How the primary is lost.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Loss {
    Pod,
    Node,
}

fn tell(what: &str, ledger: &Ledger) {
    eprintln!(
        "{what}: {} rows acknowledged, {} of unknown outcome, longest time without one {:.1} s",
        ledger.acknowledged.len(),
        ledger.unknown.len(),
        ledger.longest_gap.as_secs_f64()
    );
}

/// The rows that are missing were acknowledged one after the other, at the end of what the lost primary took: a
/// replica that had a row had everything before it. Holds of a load by one worker, whose rows are in order.
fn is_the_end(ledger: &Ledger, missing: &[i64], struck: Instant) -> Result<()> {
    let (Some(first), Some(last)) = (missing.first(), missing.last()) else { return Ok(()) };
    let between: Vec<i64> = ledger.acknowledged.range(*first..=*last).map(|(id, _)| *id).collect();
    ensure!(between == missing, "rows between lost ones are there: lost {missing:?} of {between:?}");
    let at = |id: &i64| ledger.acknowledged.get(id).copied().unwrap_or(struck);
    // The stroke takes a moment to fall.
    let fallen = struck + Duration::from_secs(5);
    ensure!(at(last) < fallen, "row {last} is lost although another primary took it");
    let late = struck.saturating_duration_since(at(first));
    ensure!(late < Duration::from_secs(5), "row {first} is lost, which was {late:?} old");
    let behind = ledger.acknowledged.range(*last + 1..).find(|(_, at)| **at < struck);
    ensure!(behind.is_none(), "row {behind:?} came behind lost ones and is there");
    Ok(())
}

async fn is_a_replica(scene: &Scene, standing: &Standing, instance: &str) -> Result<()> {
    let address = standing.addresses.get(instance).with_context(|| format!("{instance} is gone"))?;
    let door = scene.door("pg").await?.at(address)?;
    ensure!(door.ask("select pg_is_in_recovery()").await? == "t", "{instance} is no replica");
    ensure!(
        door.ask("select status from pg_stat_wal_receiver").await? == "streaming",
        "{instance} does not stream"
    );
    let status = scene.status("pg").await?;
    let own = summary(&status, instance).with_context(|| format!("{status:#}"))?;
    ensure!(own["ready"] == true && own["role"] == "replica", "{own:#}");
    Ok(())
}

/// The primary's pod is killed for good, or its whole node is lost.
#[rstest]
#[case::pod(Loss::Pod)]
#[case::node(Loss::Node)]
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_primary_is_replaced_and_nothing_acknowledged_is_lost(#[case] loss: Loss) -> Result<()> {
    let scene = Scene::new(&format!("fo-{loss:?}").to_lowercase()).await?;
    let lab = scene.ground.lab()?;
    if loss == Loss::Node {
        lab.more_nodes(3).await?;
    }
    let (before, door, writer) = scene.loaded("pg", three_synchronous(), WORKERS).await?;
    scene.completed_backup("before", "pg").await?;
    let node = text(&scene.pod(&before.primary).await?, "/spec/nodeName").to_owned();
    match loss {
        Loss::Pod => scene.delete_by_force(&before.primary).await?,
        Loss::Node => {
            let system = scene.kubectl.in_namespace("howdah-system");
            let operator = system.list("pod", "app.kubernetes.io/name=howdah-operator").await?;
            ensure!(
                operator.iter().all(|pod| text(pod, "/spec/nodeName") != node),
                "the operator runs on {node} too: nobody would be left to act"
            );
            lab.lose_node(&node).await?;
        }
    }
    scene.succeeded("pg", &before.primary).await?;
    writer.goes_on(wait::minutes(3)).await?;
    if loss == Loss::Node {
        lab.recover_node(&node)?;
    }
    let after = scene.settled("pg", 3).await?;
    writer.goes_on(wait::minutes(1)).await?;
    let ledger = writer.stop().await;
    tell(&format!("failover, {loss:?}"), &ledger);
    ensure!(after.primary != before.primary, "{after:?}");
    ensure!(after.timeline > before.timeline, "{before:?} {after:?}");
    ensure!(after.addresses.keys().eq(before.addresses.keys()), "{before:?} {after:?}");
    // What is promised is half of it; a busy machine gets the other half.
    ensure!(ledger.longest_gap < Duration::from_secs(60), "no writes for {:?}", ledger.longest_gap);
    complete(&ledger, &door).await?;
    is_a_replica(&scene, &after, &before.primary).await?;
    let sum = scene.agreed("pg", &after).await?;
    scene.restores_to_the_end("pg", "before", &ledger, &sum).await?;
    scene.ground.stop().await
}

/// Without synchronous replication the last rows may be lost, those that no replica had; nothing else is.
#[tokio::test(flavor = "multi_thread")]
async fn an_asynchronous_failover_loses_no_more_than_was_reported() -> Result<()> {
    let scene = Scene::new("fo-async").await?;
    let (before, door, writer) = scene.loaded("pg", three(json!({})), 1).await?;
    scene.completed_backup("before", "pg").await?;
    let struck = Instant::now();
    scene.delete_by_force(&before.primary).await?;
    scene.succeeded("pg", &before.primary).await?;
    writer.goes_on(wait::minutes(3)).await?;
    let after = scene.settled("pg", 3).await?;
    let ledger = writer.stop().await;
    tell("asynchronous failover", &ledger);
    ensure!(after.timeline > before.timeline, "{before:?} {after:?}");
    let missing = ledger.check(&door).await?;
    eprintln!("asynchronous failover: {} acknowledged rows lost", missing.len());
    is_the_end(&ledger, &missing, struck)?;
    is_a_replica(&scene, &after, &before.primary).await?;
    scene.agreed("pg", &after).await?;
    scene.ground.stop().await
}

/// Which process of the primary dies.
#[derive(Clone, Copy, Debug)]
enum Process {
    Postmaster,
    Manager,
}

/// A process of the primary dies in its place; whoever is the primary afterwards, there is one.
#[rstest]
#[case::postmaster(Process::Postmaster)]
#[case::manager(Process::Manager)]
#[tokio::test(flavor = "multi_thread")]
async fn postgres_killed_on_the_primary(#[case] process: Process) -> Result<()> {
    let scene = Scene::new(&format!("fo-{process:?}").to_lowercase()).await?;
    let (before, door, writer) = scene.loaded("pg", three_synchronous(), WORKERS).await?;
    match process {
        Process::Postmaster => scene.kill_postgresql("pg", &before.primary).await?,
        Process::Manager => scene.kill_instance(&before.primary).await?,
    }
    writer.goes_on(wait::minutes(3)).await?;
    let after = scene.settled("pg", 3).await?;
    writer.goes_on(wait::minutes(1)).await?;
    let ledger = writer.stop().await;
    tell(&format!("{process:?} killed"), &ledger);
    ensure!((after.timeline > before.timeline) == (after.primary != before.primary), "{before:?} {after:?}");
    complete(&ledger, &door).await?;
    scene.agreed("pg", &after).await?;
    scene.ground.stop().await
}

/// A replica dies, by its process and by its pod: the primary stays what it is and goes on with the other replica.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_is_killed() -> Result<()> {
    let scene = Scene::new("fo-replica").await?;
    let (before, door, writer) = scene.loaded("pg", three_synchronous(), WORKERS).await?;
    let [one, other] = before.replicas()[..] else { unreachable!("two replicas") };
    scene.kill_instance(one).await?;
    writer.goes_on(wait::minutes(1)).await?;
    scene.settled("pg", 3).await?;
    scene.delete_by_force(other).await?;
    writer.goes_on(wait::minutes(1)).await?;
    let after = scene.settled("pg", 3).await?;
    let ledger = writer.stop().await;
    tell("replicas killed", &ledger);
    ensure!(after.primary == before.primary && after.timeline == before.timeline, "{before:?} {after:?}");
    complete(&ledger, &door).await?;
    scene.agreed("pg", &after).await?;
    scene.ground.stop().await
}

/// The primary's pod and volume are gone: a replica takes over, and an instance with a new number takes the lost one's
/// place.
#[tokio::test(flavor = "multi_thread")]
async fn the_volume_of_the_primary_is_lost() -> Result<()> {
    let scene = Scene::new("fo-volume").await?;
    let (before, door, writer) = scene.loaded("pg", three_synchronous(), WORKERS).await?;
    scene.completed_backup("before", "pg").await?;
    let lost = &before.primary;
    let uid = |claim: &Value| text(claim, "/metadata/uid").to_owned();
    let claim = uid(&scene.kubectl.get("pvc", lost).await?.unwrap_or_default());
    // It goes as soon as no pod uses it.
    scene.kubectl.run(&["delete", "pvc", lost, "--wait=false"]).await?;
    scene.kubectl.run(&["delete", "pod", lost, "--grace-period=0", "--force"]).await?;
    scene.succeeded("pg", lost).await?;
    writer.goes_on(wait::minutes(3)).await?;
    let after = scene.settled("pg", 3).await?;
    let ledger = writer.stop().await;
    tell("volume lost", &ledger);
    ensure!(after.timeline > before.timeline, "{before:?} {after:?}");
    ensure!(after.addresses.keys().eq(["pg-2", "pg-3", "pg-4"]), "{after:?}");
    ensure!(scene.status("pg").await?["latestGeneratedSerial"] == 4);
    let left = scene.kubectl.get("pvc", lost).await?;
    ensure!(left.is_none_or(|pvc| uid(&pvc) != claim), "the lost volume is there");
    complete(&ledger, &door).await?;
    let sum = scene.agreed("pg", &after).await?;
    scene.restores_to_the_end("pg", "before", &ledger, &sum).await?;
    scene.ground.stop().await
}

/// The judgement of [`is_the_end`] itself.
#[test]
fn only_the_last_rows_may_be_lost() {
    let began = Instant::now();
    let at = |millis: u64| began + Duration::from_millis(millis);
    let struck = at(1000);
    let times = [(1, 970), (2, 980), (3, 990), (4, 1001), (5, 20_000)];
    let ledger = Ledger { acknowledged: times.map(|(id, time)| (id, at(time))).into(), ..Ledger::default() };
    for (missing, good) in [
        (&[][..], true),
        (&[3, 4], true),
        (&[4], true),
        (&[2, 4], false),
        (&[3], true),
        (&[2], false),
        (&[4, 5], false),
    ] {
        assert_eq!(is_the_end(&ledger, missing, struck).is_ok(), good, "{missing:?}");
    }
}
