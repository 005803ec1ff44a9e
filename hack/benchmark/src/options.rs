//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};
use regex::Regex;
use std::path::PathBuf;

/// Measures Howdah's data plane side by side with its rivals. Started by hack/bench, which builds and installs.
#[derive(Parser, Debug)]
#[command(name = "howdah-bench")]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Compare, judge the targets, print and write the results
    Run(Options),
    /// Run a command and say what it took; used by `run`
    Measured(crate::measured::Measured),
}

/// What the S3 server does with what it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StoreKind {
    /// Keeps it in memory.
    Memory,
    /// Keeps it on disk, durably.
    Disk,
    /// Acknowledges and drops it: only what writes can be measured.
    Sink,
}

impl StoreKind {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Disk => "disk",
            Self::Sink => "sink",
        }
    }
}

#[derive(Args, Debug, Clone)]
pub struct Options {
    /// A small data set, in under eight minutes; every target is judged
    #[arg(long)]
    pub quick: bool,
    /// Size of the data set; 1 is 2.07 GB [default: 1, with --quick 0.25]
    #[arg(long)]
    pub size: Option<f64>,
    /// Size of the data set for barman-cloud, which is slow [default: 0.25, with --quick 0.05]
    #[arg(long)]
    pub barman_size: Option<f64>,
    /// Pairs of each comparison
    #[arg(long, default_value_t = 5)]
    pub pairs: usize,
    /// Only comparisons whose name, such as "backup, lz4, wal-rus", matches; targets of others are not judged
    #[arg(long, value_name = "REGEX")]
    pub only: Option<Regex>,
    /// Write the results here
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// What the S3 server does with what it gets
    #[arg(long, value_enum, default_value = "memory")]
    pub store: StoreKind,
    /// Data size ×1, ×2, ×4 and 1, 2, 4 jobs, Howdah alone, instead of comparisons
    #[arg(long)]
    pub scaling: bool,
    /// Peak memory at two sizes under a limit of 128 MiB, Howdah alone, instead of comparisons
    #[arg(long)]
    pub memory: bool,
    /// Incremental backups after one block in a hundred changed, Howdah alone, instead of comparisons
    #[arg(long)]
    pub incremental: bool,
    /// Encrypted repositories against plain ones, Howdah alone, instead of comparisons
    #[arg(long)]
    pub encryption: bool,
    /// Where data sets and runs live; data sets are kept for the next run
    #[arg(long, default_value = "/tmp/howdah-bench")]
    pub work: PathBuf,
    /// Parts, files or workers at a time, of everyone
    #[arg(long, default_value_t = 2)]
    pub jobs: usize,
    /// Folder of Howdah's programs
    #[arg(long)]
    pub programs: PathBuf,
    /// Folder with walrus, of `hack/install rivals`
    #[arg(long)]
    pub rivals: PathBuf,
    /// Folder with Barman's programs
    #[arg(long)]
    pub barman: PathBuf,
    /// Folder with PostgreSQL's programs
    #[arg(long)]
    pub postgres: PathBuf,
    /// Folder with the programs of a PostgreSQL that the installed pgBackRest knows, for its comparisons alone
    #[arg(long, default_value = "/usr/lib/postgresql/15/bin")]
    pub postgres_pgbackrest: PathBuf,
}

impl Options {
    /// Size of the data set.
    #[must_use]
    pub fn size(&self) -> f64 {
        self.size.unwrap_or(if self.quick { 0.25 } else { 1.0 })
    }

    /// Size of the data set for barman-cloud.
    #[must_use]
    pub fn barman_size(&self) -> f64 {
        self.barman_size.unwrap_or(if self.quick { 0.05 } else { 0.25 })
    }

    /// WAL segments of one run; fewer for barman-cloud, which takes most of a second for each.
    #[must_use]
    pub fn segments(&self, barman: bool) -> usize {
        match (self.quick, barman) {
            (true, true) => 6,
            (true, false) => 16,
            (false, true) => 16,
            (false, false) => 48,
        }
    }

    /// Whether a comparison is wanted.
    #[must_use]
    pub fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only.is_match(name))
    }
}
