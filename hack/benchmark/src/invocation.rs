//! A command to measure, and the measuring of it.

use crate::context::Context;
use crate::interrupt;
use crate::measured::Usage;
use anyhow::{Context as _, Result, bail};
use std::path::PathBuf;
use std::process::Command;

/// A command line with its environment.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Variables.
    pub env: Vec<(String, String)>,
    /// Directory to run in.
    pub dir: PathBuf,
    /// For WAL: the names, one call each.
    pub each: Option<PathBuf>,
    /// For archiving: where PostgreSQL marks what is archived.
    pub status: Option<PathBuf>,
    /// A cgroup to run in.
    pub cgroup: Option<PathBuf>,
}

impl Invocation {
    /// A command that runs in the root directory.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>, args: &[&str]) -> Self {
        let program = program.into().display().to_string();
        let args = args.iter().map(|&arg| arg.to_owned());
        Self {
            command: std::iter::once(program).chain(args).collect(),
            env: Vec::new(),
            dir: "/".into(),
            each: None,
            status: None,
            cgroup: None,
        }
    }

    /// Adds a variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// Runs it and measures.
    ///
    /// # Errors
    /// When it fails; the error holds the end of what it printed.
    pub fn run(&self, context: &Context) -> Result<Usage> {
        interrupt::check()?;
        let scratch = &context.scratch;
        let (report, log) = (scratch.join("usage.json"), scratch.join("log"));
        for file in [&report, &log] {
            let _ = std::fs::remove_file(file);
        }
        // What the run before left to write is not this one's.
        nix::unistd::sync();
        let mut command = Command::new(&context.own);
        command
            .arg("measured")
            .arg("--report")
            .arg(&report)
            .arg("--log")
            .arg(&log)
            .arg("--dir")
            .arg(&self.dir);
        for (flag, value) in [("--each", &self.each), ("--status", &self.status), ("--cgroup", &self.cgroup)]
        {
            if let Some(value) = value {
                command.arg(flag).arg(value);
            }
        }
        command.arg("--").args(&self.command).envs(self.env.iter().map(|(name, value)| (name, value)));
        let output = command.output().context("cannot start the measuring process")?;
        if !output.status.success() {
            bail!(
                "{}: {}{}",
                self.command.join(" "),
                String::from_utf8_lossy(&output.stderr),
                tail(&std::fs::read_to_string(&log).unwrap_or_default())
            );
        }
        let text = std::fs::read(&report).with_context(|| format!("cannot read {}", report.display()))?;
        Ok(serde_json::from_slice(&text)?)
    }
}

/// The last lines.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(15)..).unwrap_or_default().join("\n")
}
