//! Where the parts lie: the repository, the built programs, PostgreSQL's versions.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The repository.
#[must_use]
pub fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().map_or_else(|| here.to_path_buf(), Path::to_path_buf)
}

/// A program as users get it. `HOWDAH_BIN_DIR` names the folder; otherwise the release build is taken.
///
/// # Errors
/// When it was not built; the message names the command.
pub fn program(name: &str) -> Result<PathBuf> {
    let dirs = match std::env::var_os("HOWDAH_BIN_DIR") {
        Some(dir) => vec![PathBuf::from(dir)],
        None => release_dirs(),
    };
    for dir in &dirs {
        let path = dir.join(name);
        if path.is_file() {
            return path.canonicalize().with_context(|| format!("cannot resolve {}", path.display()));
        }
    }
    bail!(
        "{name} is not in {}: build it with `cargo build --release --package howdah-operator --package howdah-instance-manager`",
        dirs.iter().map(|d| d.display().to_string()).collect::<Vec<_>>().join(", ")
    )
}

fn release_dirs() -> Vec<PathBuf> {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), PathBuf::from);
    ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu", "."]
        .iter()
        .map(|triple| target.join(triple).join("release"))
        .collect()
}

/// The folder that holds `bin/` of a major version of PostgreSQL.
///
/// # Errors
/// When it is not installed; the message names the command.
pub fn postgres(major: u32) -> Result<PathBuf> {
    let (dir, fix) = if major == 15 {
        (PathBuf::from("/usr/lib/postgresql/15"), "hack/install base (apt-get install postgresql-15)")
    } else {
        (repository().join(format!("target/parts/pg{major}")), "hack/install postgres")
    };
    if !dir.join("bin/postgres").is_file() {
        bail!("PostgreSQL {major} is not in {}: run {fix}", dir.display());
    }
    Ok(dir)
}
