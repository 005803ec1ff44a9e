//! `howdah-bench measured`: runs one command, or one after the other, in a process of its own, and says what they took.
//!
//! A fresh process for each measurement, because the kernel keeps one peak of memory for all children a process ever
//! had. What a command leaves behind is adopted and waited for, so that daemons count as well.

use crate::report::Sample;
use anyhow::{Context, Result, bail};
use clap::Args;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::sys::wait::wait;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Stands for the name of a WAL file in the arguments of a command.
pub const NAME: &str = "{}";

/// What to run.
#[derive(Args, Debug)]
pub struct Measured {
    /// File for the result, JSON
    #[arg(long)]
    pub report: PathBuf,
    /// File for what the command prints
    #[arg(long)]
    pub log: PathBuf,
    /// Directory to run in
    #[arg(long)]
    pub dir: PathBuf,
    /// Run the command once for each line of this file, with the line in place of {}
    #[arg(long)]
    pub each: Option<PathBuf>,
    /// With --each: after each call, mark the file as archived here, as PostgreSQL does
    #[arg(long)]
    pub status: Option<PathBuf>,
    /// Join this cgroup (v1 or v2 directory) before anything else
    #[arg(long)]
    pub cgroup: Option<PathBuf>,
    /// The command
    #[arg(last = true, required = true)]
    pub command: Vec<String>,
}

/// What it took.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct Usage {
    /// Elapsed seconds.
    pub wall: f64,
    /// Processor seconds of all children.
    pub cpu: f64,
    /// Peak resident memory of the largest child, KiB.
    pub peak_kib: f64,
    /// Elapsed seconds of each call.
    pub calls: Vec<f64>,
}

impl Usage {
    /// As results hold it.
    #[must_use]
    pub fn sample(&self) -> Sample {
        Sample { wall: self.wall, cpu: self.cpu, memory: self.peak_kib / 1024.0, stored: 0.0 }
    }
}

/// Runs it.
///
/// # Errors
/// When a command fails; its output is in the log.
pub fn run(args: &Measured) -> Result<()> {
    nix::sys::prctl::set_child_subreaper(true).context("cannot adopt orphans")?;
    if let Some(group) = &args.cgroup {
        std::fs::write(group.join("cgroup.procs"), std::process::id().to_string())
            .with_context(|| format!("cannot join {}", group.display()))?;
    }
    let names = match &args.each {
        Some(file) => {
            std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?
        }
        None => NAME.to_owned(),
    };
    let begun = Instant::now();
    let mut calls = Vec::new();
    for name in names.lines() {
        let call = Instant::now();
        once(args, name)?;
        calls.push(call.elapsed().as_secs_f64());
        if let Some(status) = &args.status {
            mark_done(status, name)?;
        }
    }
    let wall = begun.elapsed().as_secs_f64();
    // What a command left behind works for it too, but nobody waits for it.
    while wait().is_ok() {}
    let used = getrusage(UsageWho::RUSAGE_CHILDREN).context("getrusage")?;
    let seconds = |time: nix::sys::time::TimeVal| time.num_microseconds() as f64 / 1e6;
    let usage = Usage {
        wall,
        cpu: seconds(used.user_time()) + seconds(used.system_time()),
        peak_kib: used.max_rss() as f64,
        calls,
    };
    std::fs::write(&args.report, serde_json::to_vec(&usage)?)
        .with_context(|| format!("cannot write {}", args.report.display()))
}

fn once(args: &Measured, name: &str) -> Result<()> {
    let Some((program, rest)) = args.command.split_first() else { bail!("no command is given") };
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&args.log)
        .with_context(|| format!("cannot write {}", args.log.display()))?;
    let status = Command::new(program)
        .env("LC_ALL", "C")
        .current_dir(&args.dir)
        .args(rest.iter().map(|arg| arg.replace(NAME, name)))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .status()
        .with_context(|| format!("cannot start {program}"))?;
    if !status.success() {
        bail!("{} {name}: {status}", args.command.join(" "));
    }
    Ok(())
}

/// `.ready` becomes `.done`; a program that did so itself is not in the way.
fn mark_done(status: &Path, name: &str) -> Result<()> {
    let mark = |suffix: &str| status.join(format!("{name}.{suffix}"));
    match std::fs::rename(mark("ready"), mark("done")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot mark {name} as archived"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_that_moved_already_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let name = "000000010000000000000001";
        std::fs::write(dir.path().join(format!("{name}.ready")), "").unwrap();
        mark_done(dir.path(), name).unwrap();
        assert!(dir.path().join(format!("{name}.done")).exists());
        mark_done(dir.path(), name).unwrap();
    }
}
