//! One size: from nothing to all clusters ready, then at rest, then changes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use howdah_api::Cluster;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use tokio::time::sleep;

use crate::Arguments;
use crate::instances::Instances;
use crate::kubelet;
use crate::operator::{Memory, Operator, Reconciles};
use crate::population::{Board, create, name};
use crate::world::{OPERATOR, World, namespace};

/// Requests by verb and resource.
pub type Calls = BTreeMap<(&'static str, String), u64>;

/// What one size took.
pub struct Outcome {
    /// Number of clusters.
    pub clusters: usize,
    /// From the start of the operator until all clusters are ready.
    pub ready: Duration,
    /// Requests until then.
    pub making: u64,
    /// Memory at rest.
    pub memory: Memory,
    /// Processor seconds in a minute at rest.
    pub processor: f64,
    /// Length of the time at rest.
    pub window: Duration,
    /// Requests at rest.
    pub calls: Calls,
    /// Looks at clusters at rest.
    pub looks: Reconciles,
    /// From changes of specifications until the status answers them, sorted.
    pub latencies: Vec<Duration>,
}

fn difference(before: &Calls, after: Calls) -> Calls {
    let less = |(call, count): ((&'static str, String), u64)| {
        let count = count - before.get(&call).copied().unwrap_or(0);
        (count > 0).then_some((call, count))
    };
    after.into_iter().filter_map(less).collect()
}

/// Measures `clusters` clusters.
pub async fn run(arguments: &Arguments, clusters: usize) -> Result<Outcome> {
    let world = World::start(clusters).await?;
    let instances = Instances::new(arguments.load);
    let serving = instances.serve().await?;
    let running = kubelet::run(&world, instances);
    let say = |text: String| eprintln!("{clusters} clusters: {text}");
    let begun = Instant::now();
    create(&world, clusters, arguments.backups).await?;
    say(format!("created with their Backups in {:.0} s", begun.elapsed().as_secs_f64()));

    let board = Board::default();
    let watching = board.watch(&world);
    let begun = Instant::now();
    let operator = Operator::start(&arguments.operator, &world)?;
    let ready = loop {
        tokio::select! {
            at = board.all_ready(clusters) => break at - begun,
            () = sleep(Duration::from_secs(30)) => {
                operator.memory()?;
                say(format!("{} ready", board.ready()));
            }
        }
    };
    let calls = || world.server.tally().of(OPERATOR);
    let making = calls().values().sum();
    say(format!(
        "ready in {:.0} s; at rest for {} s",
        ready.as_secs_f64(),
        arguments.settle + arguments.window
    ));
    sleep(Duration::from_secs(arguments.settle)).await;

    let (before, looks, processor, begun) =
        (calls(), operator.reconciles().await?, operator.processor()?, Instant::now());
    sleep(Duration::from_secs(arguments.window)).await;
    let (window, spent, memory) = (begun.elapsed(), operator.processor()? - processor, operator.memory()?);
    let (calls, after) = (difference(&before, calls()), operator.reconciles().await?);
    let looks = Reconciles { count: after.count - looks.count, seconds: after.seconds - looks.seconds };

    say(format!("{} changes", arguments.edits));
    let latencies = edits(&world, &board, clusters, arguments.edits).await?;
    operator.stop().await?;
    for task in [watching, running, serving] {
        task.abort();
        let _ = task.await;
    }
    world.server.shutdown().await;
    let processor = spent * 60.0 / window.as_secs_f64();
    Ok(Outcome { clusters, ready, making, memory, processor, window, calls, looks, latencies })
}

/// Changes one cluster after the other: whether it has disruption budgets.
async fn edits(world: &World, board: &Board, clusters: usize, edits: usize) -> Result<Vec<Duration>> {
    let mut latencies = Vec::new();
    for edit in 0..edits {
        let number = edit * 7919 % clusters;
        let name = name(number);
        let api: Api<Cluster> = Api::namespaced(world.admin.clone(), &namespace(number));
        let on = api.get(&name).await?.spec.enable_pdb.unwrap_or(true);
        let patch = json!({"spec": {"enablePDB": !on}});
        let begun = Instant::now();
        let changed = api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
        let generation = changed.metadata.generation.context("a Cluster has a generation")?;
        let seen = tokio::time::timeout(Duration::from_secs(60), board.observes(&name, generation)).await;
        let seen =
            seen.with_context(|| format!("a change of {} is not seen within 60 s", changed.name_any()))?;
        latencies.push(seen - begun);
    }
    latencies.sort();
    Ok(latencies)
}
