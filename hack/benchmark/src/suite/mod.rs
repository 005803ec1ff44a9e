//! One file for each thing that is measured, and the order of all.

pub mod archiver;
pub mod backup;
pub mod encryption;
pub mod incremental;
pub mod limits;
pub mod memory;
pub mod scaling;
pub mod wal;

use crate::context::Context;
use crate::options::Options;
use crate::report::{Comparison, Figure, Limit, Report};
use crate::target::Verdict;
use crate::tools::Tool;
use crate::tools::barman::Barman;
use crate::tools::howdah::Howdah;
use crate::tools::pgbackrest::PgBackRest;
use crate::tools::walrus::Walrus;
use crate::{machine, table, target};
use anyhow::{Context as _, Result};
use std::io::Write;

/// What a run of the benchmark finds.
#[derive(Default)]
struct Found {
    results: Vec<Comparison>,
    limits: Vec<Limit>,
    runs: Vec<Figure>,
    targets: Vec<Verdict>,
}

/// All comparisons, the limits beside them, and the targets.
async fn compare(context: &Context) -> Result<Found> {
    let mut results = wal::run(context).await?;
    results.extend(archiver::run(context).await?);
    results.extend(backup::run(context).await?);
    let mut targets = target::judge(&results, |name| context.options.wants(name));
    targets.extend(most_memory(&results));
    let mut limits = Vec::new();
    if context.options.wants("limits") {
        let found = limits::run(context).await?;
        targets.extend(found.judge(&results, |name| context.options.wants(name)));
        limits = found.limits;
    }
    Ok(Found { results, limits, runs: Vec::new(), targets })
}

/// The bound on memory that holds at any size, over all runs of Howdah's.
fn most_memory(results: &[Comparison]) -> Option<Verdict> {
    let most =
        results.iter().flat_map(|result| &result.pairs).map(|pair| pair.howdah.memory).reduce(f64::max);
    most.map(|most| {
        Verdict::at_most("largest process of all runs", "absolute", "MiB", Some(most), memory::MOST)
    })
}

/// Runs what was asked for, prints and writes the results. Says whether all judged targets are met.
///
/// # Errors
/// When a run fails.
pub async fn run(options: Options) -> Result<bool> {
    crate::interrupt::listen()?;
    let mut context = Context::new(options).await?;
    let found = if context.options.scaling {
        Found { runs: scaling::run(&mut context).await?, ..Found::default() }
    } else if context.options.incremental {
        let (runs, targets) = incremental::run(&context).await?;
        Found { runs, targets, ..Found::default() }
    } else if context.options.encryption {
        let (runs, targets) = encryption::run(&context).await?;
        Found { runs, targets, ..Found::default() }
    } else if context.options.memory {
        let (runs, targets) = memory::run(&context).await?;
        Found { runs, targets, ..Found::default() }
    } else {
        compare(&context).await?
    };
    let report = Report {
        machine: machine::Machine::here(),
        date: chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
        commit: machine::commit(),
        size: context.options.size(),
        store: context.options.store.name().to_owned(),
        versions: versions(&context),
        notes: notes(&context),
        results: found.results,
        limits: found.limits,
        runs: found.runs,
        targets: found.targets,
    };
    print(&report)?;
    if let Some(file) = &context.options.json {
        std::fs::write(file, serde_json::to_vec_pretty(&report)?)
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(report.targets.iter().all(|line| line.pass))
}

fn versions(context: &Context) -> std::collections::BTreeMap<String, String> {
    let tools: [&dyn Tool; 4] = [&Howdah, &Walrus, &PgBackRest, &Barman];
    let mut versions: std::collections::BTreeMap<String, String> = tools
        .iter()
        .map(|tool| {
            let (program, argument) = tool.version(context);
            (tool.name().to_owned(), machine::version(&program, argument))
        })
        .collect();
    versions.insert(
        "PostgreSQL".to_owned(),
        machine::version(&context.options.postgres.join("postgres"), "--version"),
    );
    versions
}

/// What a reader must know to judge the figures.
fn notes(context: &Context) -> Vec<String> {
    let options = &context.options;
    vec![
        format!(
            "Store: {} of our own S3 server on the same machine, a process of its own that nobody's processor time \
             includes but that shares the cores with everybody.",
            options.store.name()
        ),
        format!("Jobs, processes or concurrency of everyone: {}.", options.jobs),
        "Everyone asks for an immediate checkpoint; one is made before each run. Data is in the page cache for \
         everyone; before each run what is left to write is written."
            .to_owned(),
        "Howdah verifies page checksums, writes a manifest with CRC-32C, confirms the backup's WAL in the archive \
         within the measured time, and on restore compares every file with the manifest and syncs it."
            .to_owned(),
        "wal-rus verifies no page, writes no manifest, does not wait for WAL; its restore compares and syncs nothing."
            .to_owned(),
        "pgBackRest verifies page checksums, and speaks TLS to the store, which the others do not here. It does not \
         wait for WAL here (archive-check=n). Its pairs run on a PostgreSQL that Debian's version of it knows, both \
         sides of them."
            .to_owned(),
        "barman-cloud verifies nothing and compresses with gzip level 9; Howdah's gzip level is 6.".to_owned(),
    ]
}

fn print(report: &Report) -> Result<()> {
    let mut out = std::io::stdout();
    let machine = &report.machine;
    writeln!(
        out,
        "{} cores of {}, {} GiB, Linux {}, {}; {}, commit {}, size {}, store {}",
        machine.cores,
        machine.processor,
        machine.memory_gib,
        machine.kernel,
        machine.system,
        report.date,
        report.commit,
        report.size,
        report.store
    )?;
    for (name, version) in &report.versions {
        writeln!(out, "{name}: {version}")?;
    }
    for note in &report.notes {
        writeln!(out, "- {note}")?;
    }
    writeln!(
        out,
        "\nelapsed / processor / peak memory / stored; ratios are Howdah's by the rival's, medians of pairs"
    )?;
    if !report.results.is_empty() {
        write!(out, "{}", table::comparisons(&report.results))?;
    }
    if !report.runs.is_empty() {
        write!(out, "\n{}", table::figures(&report.runs))?;
    }
    if !report.targets.is_empty() {
        write!(out, "\n{}", table::targets(&report.targets))?;
    }
    if !report.limits.is_empty() {
        write!(out, "\n{}", table::limits(&report.limits))?;
    }
    Ok(())
}
