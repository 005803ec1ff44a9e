//! `cargo xtask`: what is generated, and the check that it is up to date.

mod codegen;
mod reference;
mod requirements;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Development tasks of Howdah")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Write the CRDs, the RBAC rules and the API reference from the Rust types, and the table of requirements from the
    /// tests.
    Codegen {
        /// Write nothing; fail with the difference when a file is out of date.
        #[arg(long)]
        check: bool,
    },
}

fn main() -> Result<()> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    match Cli::parse().task {
        Task::Codegen { check } => codegen::run(&root, check),
    }
}
