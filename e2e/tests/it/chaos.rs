//! Faults in a random order that a seed decides, under a write load that keeps account of what was acknowledged. Each
//! must be over by itself before the next one comes. `HOWDAH_CHAOS_SEED` gives the same order again,
//! `HOWDAH_CHAOS_FAULTS` says how many.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use howdah_e2e::ledger::{CHECKSUM, Moment, Writer};
use howdah_e2e::manifests::{self, backup};
use howdah_e2e::wait;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use serde_json::{Value, json};

use crate::common::{Scene, error, number, phase};
use crate::standing::{Standing, WORKERS, complete, three_synchronous};

mod faults;

use faults::{Fault, strike};

const SEED: u64 = 20_260_705;
const FAULTS: u64 = 30;
/// A Backup is taken with the first of so many faults.
const BACKUP_EVERY: u64 = 10;

/// Deals faults: all kinds, shuffled, again and again, so that a short run has some of each.
struct Deck {
    kinds: Vec<Fault>,
    left: Vec<Fault>,
}

impl Deck {
    fn new(kinds: Vec<Fault>) -> Self {
        Self { kinds, left: Vec::new() }
    }

    fn deal(&mut self, random: &mut StdRng) -> Option<Fault> {
        if self.left.is_empty() {
            self.left.clone_from(&self.kinds);
            self.left.shuffle(random);
        }
        self.left.pop()
    }
}

/// What a run has gathered.
#[derive(Default)]
struct Run {
    /// Completed Backups, the oldest first.
    backups: Vec<String>,
    /// Moments that can be restored, each with a Backup that was completed before it.
    moments: Vec<(String, Moment)>,
}

impl Run {
    /// The moments that a Backup can be restored to.
    fn behind(&self, backup: &str) -> Vec<&Moment> {
        let since = self.backups.iter().skip_while(|known| *known != backup).collect::<Vec<_>>();
        self.moments.iter().filter(|(from, _)| since.contains(&from)).map(|(_, moment)| moment).collect()
    }

    /// Sees a Backup to its end, and keeps a moment behind it. One that met a fault may have failed, with a reason.
    async fn backed_up(&mut self, scene: &Scene, name: &str, writer: &Writer) -> Result<()> {
        let ended = scene.ended(name).await?;
        if phase(&ended) == "completed" {
            self.backups.push(name.to_owned());
        } else {
            ensure!(error(&ended).len() > 20, "{name} failed without a reason: {:#}", ended["status"]);
        }
        let newest = self.backups.last().context("no Backup was ever completed")?;
        self.moments.push((newest.clone(), writer.moment().await?));
        Ok(())
    }
}

/// One fault, from its stroke until the cluster stands as it should.
async fn one(
    scene: &Scene,
    fault: Fault,
    standing: &Standing,
    writer: &Writer,
    random: &mut StdRng,
) -> Result<Standing> {
    let begun = Instant::now();
    strike(scene, fault, standing, random).await?;
    writer.goes_on(wait::minutes(3)).await?;
    let after = scene.settled("pg", 3).await?;
    eprintln!(
        "    {:.1} s, primary {}, timeline {}",
        begun.elapsed().as_secs_f64(),
        after.primary,
        after.timeline
    );
    Ok(after)
}

/// What was there at a moment, and nothing else, is restored.
async fn restores_to(scene: &Scene, cluster: &str, backup: &str, moment: &Moment) -> Result<()> {
    let target = json!({"targetTime": moment.time});
    scene.apply(&scene.restored(cluster, backup, target)).await?;
    scene.healthy(cluster).await?;
    let restored = scene.door(cluster).await?.ask(CHECKSUM).await?;
    ensure!(
        restored == moment.checksum,
        "{cluster}, from {backup} to {}, has {restored} instead of {}",
        moment.time,
        moment.checksum
    );
    Ok(())
}

/// Three instances on volumes that can be filled, and that a run does not fill by itself.
fn small(storage_class: &str) -> Value {
    let mut spec = three_synchronous();
    let parameters = json!({"wal_keep_size": "64MB", "max_wal_size": "128MB"});
    let storage = json!({"size": "800Mi", "storageClass": storage_class});
    manifests::merge(&mut spec, json!({"storage": storage, "postgresql": {"parameters": parameters}}));
    spec
}

async fn run(scene: &Scene, faults: u64, random: &mut StdRng) -> Result<()> {
    let lab = scene.ground.lab()?;
    let kinds = Fault::all().into_iter().filter(|kind| *kind != Fault::ApiAway || lab.is_double()).collect();
    let mut deck = Deck::new(kinds);
    let spec = small(lab.bounded_storage_class());
    let (mut standing, door, writer) = scene.loaded("pg", spec, WORKERS).await?;
    let mut run = Run::default();
    scene.completed_backup("b-start", "pg").await?;
    run.backed_up(scene, "b-start", &writer).await?;
    for number in 1..=faults {
        let fault = deck.deal(random).context("no faults")?;
        eprintln!("fault {number} of {faults}: {fault:?}");
        // The Backup is at work when the fault comes.
        let name = (number % BACKUP_EVERY == 1).then(|| format!("b-{number}"));
        if let Some(name) = &name {
            scene.apply(&backup(name, "pg")).await?;
        }
        let after = one(scene, fault, &standing, &writer, random).await;
        standing = after.with_context(|| format!("fault {number}: {fault:?}, with {standing:?}"))?;
        if let Some(name) = &name {
            run.backed_up(scene, name, &writer)
                .await
                .with_context(|| format!("fault {number}: {fault:?}"))?;
        }
    }
    let ledger = writer.stop().await;
    eprintln!(
        "{faults} faults: {} rows acknowledged, {} of unknown outcome, longest time without one {:.1} s, timeline {}",
        ledger.acknowledged.len(),
        ledger.unknown.len(),
        ledger.longest_gap.as_secs_f64(),
        standing.timeline
    );
    complete(&ledger, &door).await?;
    let sum = scene.agreed("pg", &standing).await?;
    ensure!(!run.backups.is_empty(), "no Backup was completed");
    for backup in &run.backups {
        eprintln!("restoring {backup}");
        let again = scene.restores_to_the_end("pg", backup, &ledger, &sum).await?;
        remove(scene, &again).await?;
        let moment = run.behind(backup).choose(random).copied().context("no moment behind it")?;
        let then = format!("then-{backup}");
        restores_to(scene, &then, backup, moment).await?;
        remove(scene, &then).await?;
    }
    Ok(())
}

/// Makes room for the next one.
async fn remove(scene: &Scene, cluster: &str) -> Result<()> {
    scene.kubectl.run(&["delete", "cluster", cluster, "--wait=false"]).await.map(drop)
}

/// S0.5: besides what the name says, every completed Backup is restored to the end of the archive, over every change of the
/// primary behind it, and to a random moment.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_in_a_seeded_row_of_faults() -> Result<()> {
    let seed = number("HOWDAH_CHAOS_SEED", SEED)?;
    let faults = number("HOWDAH_CHAOS_FAULTS", FAULTS)?;
    eprintln!("HOWDAH_CHAOS_SEED={seed} HOWDAH_CHAOS_FAULTS={faults}");
    let scene = Scene::new("chaos").await?;
    run(&scene, faults, &mut StdRng::seed_from_u64(seed))
        .await
        .with_context(|| format!("HOWDAH_CHAOS_SEED={seed} HOWDAH_CHAOS_FAULTS={faults}"))?;
    scene.ground.stop().await
}

#[test]
fn a_seed_deals_the_same_faults_and_every_kind_comes() {
    let deal = |seed: u64| {
        let (mut deck, mut random) = (Deck::new(Fault::all()), StdRng::seed_from_u64(seed));
        (0..FAULTS).filter_map(|_| deck.deal(&mut random)).collect::<Vec<_>>()
    };
    let dealt = deal(SEED);
    assert_eq!(dealt, deal(SEED));
    assert_ne!(dealt, deal(SEED + 1));
    assert!(Fault::all().iter().all(|kind| dealt.contains(kind)));
}
