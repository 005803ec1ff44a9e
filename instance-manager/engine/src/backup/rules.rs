//! What of a data directory belongs into a backup, beyond the library's rules.
//!
//! Unlogged relations keep only their init forks, as in PostgreSQL's own base backups: recovery rebuilds the rest
//! from them. What the instance manager keeps in a data directory for itself stays out. Decided by names alone.

use barman_cloud::exclude::{FileType, Scope, Verdict, classify};
use std::collections::HashSet;
use std::path::Path;

/// Prefix of the files that the instance manager keeps in a data directory.
const OWN_PREFIX: &str = "howdah-";
/// At the top of a volume; not ours and often not readable.
const VOLUME: &str = "lost+found";

/// Verdict on an entry by its path relative to the root of its tree.
pub fn verdict(scope: Scope, path: &Path, file_type: FileType) -> Verdict {
    let top = path.components().count() == 1;
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if top && scope == Scope::Data && (name == VOLUME || name.starts_with(OWN_PREFIX)) {
        return Verdict::Skip;
    }
    classify(scope, path, file_type)
}

/// Whether the directory is that of a database: `…/base/<oid>` or `…/PG_<version>/<oid>`.
pub fn is_database_dir(path: &Path) -> bool {
    let mut parts = path.iter().rev().map(|part| part.to_str().unwrap_or_default());
    parts.next().is_some_and(is_number)
        && parts.next().is_some_and(|above| above == "base" || above.starts_with("PG_"))
}

/// Relations of one database directory that have an init fork: the unlogged ones.
pub fn unlogged<'a>(files: impl Iterator<Item = &'a str>) -> HashSet<String> {
    files
        .filter_map(|file| file.strip_suffix("_init"))
        .filter(|node| is_number(node))
        .map(str::to_owned)
        .collect()
}

/// Whether a file of a database directory is content of an unlogged relation; the init fork itself is not.
pub fn is_unlogged_content(file: &str, unlogged: &HashSet<String>) -> bool {
    let stem = file.split('.').next().unwrap_or(file);
    let (node, fork) = stem.split_once('_').unwrap_or((stem, ""));
    fork != "init" && unlogged.contains(node)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("howdah-recovery.json", Verdict::Skip)]
    #[case("lost+found", Verdict::Skip)]
    #[case("backup_label", Verdict::Skip)]
    #[case("postgresql.auto.conf", Verdict::Include)]
    #[case("global/pg_control", Verdict::Last)]
    #[case("base/5/t3_16384", Verdict::Skip)]
    #[case("base/5/16384", Verdict::Include)]
    fn data_directory(#[case] path: &str, #[case] expected: Verdict) {
        assert_eq!(verdict(Scope::Data, Path::new(path), FileType::File), expected);
    }

    #[rstest]
    #[case("base/5", true)]
    #[case("PG_15_202209061/5", true)]
    #[case("pg_tblspc/16400/PG_15_202209061/5", true)]
    #[case("base", false)]
    #[case("pg_xact", false)]
    #[case("", false)]
    fn database_directories(#[case] path: &str, #[case] expected: bool) {
        assert_eq!(is_database_dir(Path::new(path)), expected);
    }

    #[test]
    fn only_the_init_fork_of_an_unlogged_relation_stays() {
        let files = ["16384", "16384_init", "16384.1", "16384_vm", "16385", "163845", "x_init"];
        let unlogged = unlogged(files.into_iter());
        let kept: Vec<&str> =
            files.into_iter().filter(|file| !is_unlogged_content(file, &unlogged)).collect();
        assert_eq!(kept, ["16384_init", "16385", "163845", "x_init"]);
    }
}
