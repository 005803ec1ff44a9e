//! The report at the end: for people on the terminal, for programs as JSON.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;

/// What was measured and compared.
#[derive(Default, Serialize)]
pub struct Report {
    /// Whether every table's checksum is equal.
    pub equal: bool,
    /// Seconds in all.
    pub total_seconds: f64,
    /// Seconds of each step.
    pub steps: Vec<Step>,
    /// Checksums.
    pub tables: Vec<Table>,
    /// Status of the Backup.
    pub backup: Value,
    /// Objects in the bucket.
    pub bucket: Vec<Stored>,
}

/// A step and its time.
#[derive(Serialize)]
pub struct Step {
    name: String,
    seconds: f64,
}

/// A table on both sides.
#[derive(Serialize)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Rows and checksum in the source.
    pub source: String,
    /// Rows and checksum in the restored cluster.
    pub restored: String,
}

/// An object of the bucket.
#[derive(Serialize)]
pub struct Stored {
    /// Key.
    pub key: String,
    /// Size in bytes.
    pub bytes: u64,
}

impl Report {
    /// Notes how long a step took.
    pub fn step(&mut self, name: &str, since: Instant) {
        self.steps.push(Step { name: name.to_owned(), seconds: since.elapsed().as_secs_f64() });
    }

    /// Writes the JSON form.
    pub fn write(&self, path: &Path) -> Result<()> {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        }
        std::fs::write(path, serde_json::to_string_pretty(self)?)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Prints the form for people.
    pub fn print(&self, path: &Path) {
        println!("\n---------------------------------- report ----------------------------------");
        for step in &self.steps {
            println!("{:<28} {:>8.1} s", step.name, step.seconds);
        }
        println!("{:<28} {:>8.1} s", "in all", self.total_seconds);
        let text = |field: &str| self.backup[field].as_str().unwrap_or("-").to_owned();
        println!(
            "\nbackup {}: {} in the store, WAL {} to {}, took {}",
            text("backupId"),
            text("size"),
            text("beginWal"),
            text("endWal"),
            text("duration")
        );
        println!(
            "\nbucket ({} objects, {:.1} MiB):",
            self.bucket.len(),
            mib(self.bucket.iter().map(|o| o.bytes).sum())
        );
        for object in &self.bucket {
            println!("  {:>10.2} MiB  {}", mib(object.bytes), object.key);
        }
        println!();
        for table in &self.tables {
            println!("{:<14} source   {}\n{:<14} restored {}", table.name, table.source, "", table.restored);
        }
        println!(
            "\n{}: the restored cluster {} what was backed up and archived",
            if self.equal { "EQUAL" } else { "DIFFERENT" },
            if self.equal { "is" } else { "is not" }
        );
        println!("report: {}", path.display());
    }
}

#[allow(clippy::cast_precision_loss, reason = "for people")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
