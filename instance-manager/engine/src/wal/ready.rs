//! PostgreSQL's queue of WAL to archive: `pg_wal/archive_status/*.ready`.

use barman_cloud::WalName;
use std::io;
use std::path::Path;

/// Files that are ready, in the order in which PostgreSQL hands them out: history files first, because other servers
/// wait for them, then by name.
pub fn list(pgdata: &Path) -> io::Result<Vec<WalName>> {
    let dir = pgdata.join("pg_wal/archive_status");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let file = entry?.file_name();
        let name = file
            .to_str()
            .and_then(|file| file.strip_suffix(".ready"))
            .and_then(|name| name.parse::<WalName>().ok());
        names.extend(name);
    }
    sort(&mut names);
    Ok(names)
}

fn sort(names: &mut [WalName]) {
    names.sort_by_cached_key(|name| (!matches!(name, WalName::History(_)), name.to_string()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_files_come_first_and_strangers_not_at_all() {
        let temp = tempfile::tempdir().expect("a directory");
        let status = temp.path().join("pg_wal/archive_status");
        std::fs::create_dir_all(&status).expect("directories");
        for file in [
            "000000020000000000000005.ready",
            "000000020000000000000004.partial.ready",
            "junk.ready",
            "000000020000000000000003.done",
            "00000002.history.ready",
            "000000020000000000000004.00000028.backup.ready",
        ] {
            std::fs::write(status.join(file), "").expect("a file");
        }
        let names: Vec<String> = list(temp.path()).expect("lists").iter().map(ToString::to_string).collect();
        assert_eq!(
            names,
            [
                "00000002.history",
                "000000020000000000000004.00000028.backup",
                "000000020000000000000004.partial",
                "000000020000000000000005"
            ]
        );
    }
}
