//! What of a data directory goes into a base backup. Pure rules; walking the tree is the caller's.
//!
//! These are Barman's exclusions with its slips mended: relations of temporary tables are left out, directories
//! whose content does not count are emptied at every depth, and a symbolic link to a directory is followed or
//! kept by rule instead of being lost. What PostgreSQL itself leaves out of base backups is left out too.

mod names;

pub use names::{is_temp_relation, tablespace_major};

use std::path::Path;

/// Which tree is walked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The data directory.
    Data,
    /// A tablespace outside of it.
    Tablespace {
        /// Major version of the server: after an upgrade the directory may hold files of several.
        major: u32,
    },
}

/// What a directory entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileType {
    /// Regular file.
    File,
    /// Directory.
    Directory,
    /// Symbolic link to a directory.
    LinkToDirectory,
    /// Symbolic link to anything else, or to nothing.
    Link,
    /// Named pipe.
    Fifo,
    /// Socket or device.
    Other,
}

/// What to do with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Take it; a directory with what is in it.
    Include,
    /// Take the directory, not what is in it.
    IncludeEmpty,
    /// Take the directory the link leads to as if it were here, with what is in it.
    Follow,
    /// Make an empty directory in place of the link.
    ReplaceByEmpty,
    /// `global/pg_control`: take it last.
    Last,
    /// Leave it out.
    Skip,
}

/// Directories at the top of the data directory whose content does not belong into a backup.
const EMPTY_AT_ROOT: [&str; 4] = ["log", "pg_log", "pg_wal", "pg_xlog"];
/// Directories, at any depth, whose content does not survive a restart or must not be copied.
const EMPTY_ANYWHERE: [&str; 7] =
    ["pg_dynshmem", "pg_notify", "pg_replslot", "pg_serial", "pg_stat_tmp", "pg_snapshots", "pg_subtrans"];
/// Files that must not reach a restored server.
const SKIP_NAMES: [&str; 9] = [
    "postgresql.auto.conf.tmp",
    "current_logfiles.tmp",
    "current_logfiles",
    "pg_internal.init",
    "postmaster.pid",
    "postmaster.opts",
    "recovery.conf",
    "recovery.signal",
    "standby.signal",
];
/// Files at the top of the data directory that the backup makes itself, or that would mislead recovery: a
/// `tablespace_map` points relocated tablespaces back to the places of the running server.
const SKIP_AT_ROOT: [&str; 7] = [
    "backup_label",
    "backup_label.old",
    "tablespace_map",
    "tablespace_map.old",
    "backup_manifest",
    "backup_manifest.tmp",
    "lost+found",
];
/// Howdah's own markers at the top of the data directory begin like this.
const OWN_AT_ROOT: &str = "howdah-";

/// Decides about one entry. `path` is relative to the top of the tree and not empty.
///
/// For everything inside a directory that was `IncludeEmpty` or `Skip`, do not ask: do not go in. Tablespace links
/// in `pg_tblspc` are `Skip`: they are archives of their own, and restore makes the links. A real directory there
/// is an in-place tablespace and is taken with the data.
pub fn classify(scope: Scope, path: &Path, file_type: FileType) -> Verdict {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        // Not UTF-8: none of the rules names it.
        return by_type(file_type);
    };
    let top = path.components().count() == 1;
    let at_root = scope == Scope::Data && top;
    if let Scope::Tablespace { major } = scope
        && top
        && tablespace_major(name) != Some(major)
    {
        return Verdict::Skip;
    }
    if file_type == FileType::Other || name.starts_with("pgsql_tmp") || SKIP_NAMES.contains(&name) {
        return Verdict::Skip;
    }
    if name.strip_prefix("pg_internal.init.").is_some_and(|pid| pid.bytes().all(|b| b.is_ascii_digit())) {
        return Verdict::Skip;
    }
    if at_root && (SKIP_AT_ROOT.contains(&name) || name.starts_with(OWN_AT_ROOT)) {
        return Verdict::Skip;
    }
    let holds_nothing = (at_root && EMPTY_AT_ROOT.contains(&name)) || EMPTY_ANYWHERE.contains(&name);
    match file_type {
        FileType::Directory if holds_nothing => return Verdict::IncludeEmpty,
        FileType::LinkToDirectory if holds_nothing => return Verdict::ReplaceByEmpty,
        _ => {}
    }
    if scope == Scope::Data && path == Path::new("global/pg_control") {
        return Verdict::Last;
    }
    if scope == Scope::Data && path.parent() == Some(Path::new("pg_tblspc")) {
        return if file_type == FileType::Directory { Verdict::Include } else { Verdict::Skip };
    }
    if file_type == FileType::File && is_temp_relation(name) && in_database_dir(scope, path) {
        return Verdict::Skip;
    }
    by_type(file_type)
}

fn by_type(file_type: FileType) -> Verdict {
    match file_type {
        FileType::LinkToDirectory => Verdict::Follow,
        FileType::Other => Verdict::Skip,
        _ => Verdict::Include,
    }
}

/// `base/<oid>/file`, `PG_<version>/<oid>/file`, and the same within an in-place tablespace.
fn in_database_dir(scope: Scope, path: &Path) -> bool {
    let parts: Vec<&str> = path.iter().filter_map(|part| part.to_str()).collect();
    let numeric = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match (scope, parts.as_slice()) {
        (Scope::Data, ["base", database, _]) => numeric(database),
        (Scope::Data, ["pg_tblspc", oid, version, database, _]) => {
            numeric(oid) && tablespace_major(version).is_some() && numeric(database)
        }
        (Scope::Tablespace { .. }, [version, database, _]) => {
            tablespace_major(version).is_some() && numeric(database)
        }
        _ => false,
    }
}

/// Whether a tablespace is in place, that is, part of the data directory: its location is relative.
pub fn is_in_place(location: &str) -> bool {
    !location.starts_with('/')
}

#[cfg(test)]
mod tests;
