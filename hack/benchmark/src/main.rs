//! `howdah-bench`: see `hack/bench`.

use clap::Parser;
use howdah_bench::options::{Cli, Command};
use howdah_bench::{measured, suite};
use std::process::ExitCode;

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Measured(args) => finish(measured::run(&args).map(|()| true)),
        Command::Run(options) => {
            // The only provider in the graph.
            let _ = rustls::crypto::ring::default_provider().install_default();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            finish(
                runtime
                    .map_err(anyhow::Error::from)
                    .and_then(|runtime| runtime.block_on(suite::run(options))),
            )
        }
    }
}

/// 0 when all is well, 1 when a target was missed, 4 when the benchmark itself failed.
fn finish(outcome: anyhow::Result<bool>) -> ExitCode {
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("howdah-bench: {error:#}");
            ExitCode::from(4)
        }
    }
}
