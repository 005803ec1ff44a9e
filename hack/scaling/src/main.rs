//! `howdah-scale`: what the operator costs with many clusters. Started by hack/scale.

#![allow(clippy::print_stdout, reason = "the results go to standard output")]

mod instances;
mod kubelet;
mod measure;
mod operator;
mod population;
mod report;
mod world;

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;

/// Measures the operator with simulated clusters on the API double.
#[derive(Parser, Debug)]
#[command(name = "howdah-scale")]
pub struct Arguments {
    /// The operator's program.
    #[arg(long)]
    pub operator: PathBuf,
    /// Numbers of clusters, measured one after the other.
    #[arg(long, value_delimiter = ',', default_value = "100,300,1000")]
    pub clusters: Vec<usize>,
    /// Backups of each cluster, all completed.
    #[arg(long, default_value_t = 10)]
    pub backups: usize,
    /// Seconds at rest over which calls and processor time are counted; the operator reads Secrets again every 300 s.
    #[arg(long, default_value_t = 300)]
    pub window: u64,
    /// Seconds from the last cluster being ready until that begins.
    #[arg(long, default_value_t = 60)]
    pub settle: u64,
    /// Changes whose latency is measured.
    #[arg(long, default_value_t = 50)]
    pub edits: usize,
    /// Positions and archived WAL move all the time, as on databases that are written to.
    #[arg(long)]
    pub load: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    // The only provider in the graph.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let arguments = Arguments::parse();
    let mut results = Vec::new();
    for clusters in &arguments.clusters {
        results.push(measure::run(&arguments, *clusters).await?);
        print!("\n{}\n", report::table(&results));
    }
    println!("{}", report::growth(&results));
    Ok(())
}
