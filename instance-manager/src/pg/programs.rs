//! Where PostgreSQL's programs are in an arbitrary image.

use std::path::{Path, PathBuf};

use super::children::Children;
use crate::error::{Error, Result};

/// A directory that holds `postgres` and `initdb`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    dir: PathBuf,
}

/// Directories that hold one installation per subdirectory, newest version preferred.
const VERSIONED: [(&str, &str); 3] =
    [("/usr/lib/postgresql", "bin"), ("/usr", "bin"), ("/opt/postgresql", "bin")];
/// Directories with programs.
const PLAIN: [&str; 6] = [
    "/usr/local/pgsql/bin",
    "/usr/local/bin",
    "/usr/bin",
    "/usr/libexec/postgresql",
    "/opt/bitnami/postgresql/bin",
    "/opt/postgresql/bin",
];

impl Programs {
    /// Looks on `PATH`, then in the usual places.
    ///
    /// # Errors
    /// When no directory holds both programs.
    pub fn find() -> Result<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        Self::find_in(std::env::split_paths(&path), Path::new("/"))
    }

    /// Looks in `path`, then in the usual places below `root`.
    ///
    /// # Errors
    /// When no directory holds both programs.
    pub fn find_in(path: impl Iterator<Item = PathBuf>, root: &Path) -> Result<Self> {
        let below = |p: &str| root.join(p.trim_start_matches('/'));
        let versioned = VERSIONED.iter().flat_map(|(base, bin)| {
            let mut found: Vec<(u32, PathBuf)> = std::fs::read_dir(below(base))
                .into_iter()
                .flatten()
                .flatten()
                .filter_map(|e| {
                    let name = e.file_name().to_string_lossy().into_owned();
                    let version = name.trim_start_matches("pgsql-").parse::<u32>().ok()?;
                    Some((version, e.path().join(bin)))
                })
                .collect();
            found.sort_unstable_by_key(|(version, _)| std::cmp::Reverse(*version));
            found.into_iter().map(|(_, p)| p)
        });
        path.chain(versioned)
            .chain(PLAIN.iter().map(|p| below(p)))
            .find_map(|dir| Self::in_dir(&dir))
            .ok_or_else(|| {
                Error::permanent(
                    "the image holds no PostgreSQL (no directory on PATH or in the usual places has both postgres and initdb): use an image with PostgreSQL's own programs",
                )
            })
    }

    /// The programs in `dir`; a link to a program leads to its real directory, where its neighbours are.
    fn in_dir(dir: &Path) -> Option<Self> {
        let real = std::fs::canonicalize(dir.join("postgres")).ok()?;
        let candidates = [real.parent().map(Path::to_owned), Some(dir.to_owned())];
        candidates
            .into_iter()
            .flatten()
            .find(|d| d.join("postgres").is_file() && d.join("initdb").is_file())
            .map(|dir| Self { dir })
    }

    /// Path of a program.
    ///
    /// # Errors
    /// When this installation lacks it.
    pub fn program(&self, name: &str) -> Result<PathBuf> {
        let path = self.dir.join(name);
        if path.is_file() {
            return Ok(path);
        }
        Err(Error::permanent(format!(
            "the image's PostgreSQL in {} has no {name}: use an image with all programs of PostgreSQL",
            self.dir.display()
        )))
    }

    /// Major version, from `postgres --version`.
    ///
    /// # Errors
    /// When the program cannot be run or its answer is not understood.
    pub async fn major_version(&self, children: &Children) -> Result<u32> {
        let program = self.program("postgres")?;
        let output = children
            .output(tokio::process::Command::new(&program).arg("--version"))
            .await
            .map_err(|e| Error::permanent(format!("cannot run {}", program.display())).because(e))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        parse_major(&text).ok_or_else(|| {
            Error::permanent(format!(
                "{} --version said {text:?}{}, which names no version: use an image with PostgreSQL 13 to 18",
                program.display(),
                String::from_utf8_lossy(&output.stderr)
            ))
        })
    }
}

/// Major version from `postgres (PostgreSQL) 15.18 (Debian …)`, `… 19devel`, and the like.
#[must_use]
pub fn parse_major(text: &str) -> Option<u32> {
    let after = text.split(')').nth(1)?.trim();
    let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(path: &Path) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "").unwrap();
    }

    #[test]
    fn versions() {
        assert_eq!(parse_major("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(parse_major("postgres (PostgreSQL) 18beta1\n"), Some(18));
        assert_eq!(parse_major("postgres (EnterpriseDB Advanced Server) 17.5\n"), Some(17));
        assert_eq!(parse_major("sh: not found"), None);
    }

    #[test]
    fn the_newest_of_the_usual_places_and_path_before_them() {
        let root = tempfile::tempdir().unwrap();
        for v in ["9", "15", "17"] {
            for p in ["postgres", "initdb"] {
                touch(&root.path().join(format!("usr/lib/postgresql/{v}/bin/{p}")));
            }
        }
        let found = Programs::find_in(std::iter::empty(), root.path()).unwrap();
        assert!(found.dir.ends_with("usr/lib/postgresql/17/bin"), "{found:?}");
        assert!(found.program("pg_basebackup").unwrap_err().to_string().contains("has no pg_basebackup"));

        let bin = root.path().join("bin");
        std::fs::create_dir(&bin).unwrap();
        std::os::unix::fs::symlink(
            root.path().join("usr/lib/postgresql/15/bin/postgres"),
            bin.join("postgres"),
        )
        .unwrap();
        let found = Programs::find_in([bin].into_iter(), root.path()).unwrap();
        assert!(found.dir.ends_with("usr/lib/postgresql/15/bin"), "{found:?}");
    }

    #[test]
    fn an_image_without_postgresql_is_told_so() {
        let root = tempfile::tempdir().unwrap();
        let text = Programs::find_in(std::iter::empty(), root.path()).unwrap_err().to_string();
        assert!(text.contains("holds no PostgreSQL"), "{text}");
    }
}
