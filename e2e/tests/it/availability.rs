//! How long writes stop, and how long until all instances are back: no test, but what `hack/availability` prints. The
//! figures stand in `docs/high-availability.md`.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use howdah_e2e::ledger::Writer;
use howdah_e2e::wait;
use serde_json::json;

use crate::common::{Scene, number};
use crate::standing::{Standing, WORKERS, complete, three_synchronous};

/// Runs of each kind, unless `HOWDAH_RUNS` says otherwise.
const RUNS: u32 = 20;

/// What is done to the cluster.
#[derive(Clone, Copy, Debug)]
enum Change {
    PodDeleted,
    ContainerKilled,
    Frozen,
    Switchover,
    Rolling,
}

impl Change {
    /// Each, and which part of the runs it gets: a frozen primary takes longest, and its time is that of the lease.
    const ALL: [(Self, u32); 5] = [
        (Self::PodDeleted, 1),
        (Self::ContainerKilled, 1),
        (Self::Switchover, 1),
        (Self::Rolling, 1),
        (Self::Frozen, 4),
    ];

    fn name(self) -> &'static str {
        match self {
            Self::PodDeleted => "the primary's pod is deleted without grace",
            Self::ContainerKilled => "the primary's container is killed and starts again",
            Self::Frozen => "the primary stands still (as with a lost node)",
            Self::Switchover => "switchover",
            Self::Rolling => "rolling change of a parameter that needs a restart",
        }
    }

    async fn make(self, scene: &Scene, before: &Standing, run: u32) -> Result<()> {
        let primary = &before.primary;
        match self {
            Self::PodDeleted => scene.delete_by_force(primary).await,
            Self::ContainerKilled => scene.kill_instance(primary).await,
            Self::Frozen => scene.frozen(primary, scene.succeeded("pg", primary)).await.map(drop),
            Self::Switchover => {
                let heir = before.replicas().first().map(|name| (*name).to_owned());
                scene.switch_over("pg", &heir.context("no replica")?).await
            }
            Self::Rolling => {
                let parameters = json!({"max_prepared_transactions": run.to_string()});
                scene.change("pg", json!({"postgresql": {"parameters": parameters}})).await?;
                self.arrived(scene, before, run).await
            }
        }
    }

    /// Waits until every instance runs with the new value.
    async fn arrived(self, scene: &Scene, before: &Standing, run: u32) -> Result<()> {
        let door = scene.door("pg").await?;
        wait::until("the new value everywhere", wait::minutes(5), || async {
            for address in before.addresses.values() {
                let value = door.at(address)?.ask("show max_prepared_transactions").await?;
                if value != run.to_string() {
                    return Ok(None);
                }
            }
            Ok(Some(()))
        })
        .await
    }
}

/// Times of one kind.
#[derive(Default)]
struct Times {
    gaps: Vec<Duration>,
    wholes: Vec<Duration>,
}

fn median_and_worst(times: &mut [Duration]) -> (f64, f64) {
    times.sort_unstable();
    let at = |index: usize| times.get(index).map_or(f64::NAN, Duration::as_secs_f64);
    (at(times.len() / 2), at(times.len().saturating_sub(1)))
}

async fn measured(
    scene: &Scene,
    change: Change,
    runs: u32,
    standing: &mut Standing,
    writer: &Writer,
) -> Result<Times> {
    let mut times = Times::default();
    for run in 1..=runs {
        let begun = Instant::now();
        change.make(scene, standing, run).await.with_context(|| format!("{change:?}, run {run}"))?;
        writer.goes_on(wait::minutes(3)).await?;
        *standing = scene.settled("pg", 3).await?;
        times.gaps.push(writer.longest_gap_since(begun));
        times.wholes.push(begun.elapsed());
        let last = |all: &[Duration]| all.last().map_or(f64::NAN, Duration::as_secs_f64);
        eprintln!(
            "{change:?} {run}: no writes for {:.1} s, settled after {:.1} s",
            last(&times.gaps),
            last(&times.wholes)
        );
    }
    Ok(times)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement of half an hour: hack/availability"]
async fn times_of_failover_switchover_and_rolling_changes() -> Result<()> {
    let runs = number("HOWDAH_RUNS", RUNS)?;
    let scene = Scene::new("times").await?;
    let (mut standing, door, writer) = scene.loaded("pg", three_synchronous(), WORKERS).await?;
    let mut table = "| what happens | runs | no writes: median, worst | all three instances back: median, worst |\n|---|---|---|---|\n".to_owned();
    for (change, part) in Change::ALL {
        let runs = runs.div_ceil(part);
        let mut times = measured(&scene, change, runs, &mut standing, &writer).await?;
        let ((gap, worst_gap), (whole, worst_whole)) =
            (median_and_worst(&mut times.gaps), median_and_worst(&mut times.wholes));
        table += &format!(
            "| {} | {runs} | {gap:.1} s, {worst_gap:.1} s | {whole:.1} s, {worst_whole:.1} s |\n",
            change.name()
        );
    }
    let ledger = writer.stop().await;
    complete(&ledger, &door).await?;
    scene.agreed("pg", &standing).await?;
    println!("{table}\n{} rows acknowledged, none lost", ledger.acknowledged.len());
    scene.ground.stop().await
}
