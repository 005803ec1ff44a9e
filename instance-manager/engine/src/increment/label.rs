//! What an incremental backup's `backup_label` says of the backup that it builds on.
//!
//! `pg_combinebackup` checks a chain by these lines. In a data directory they must not be: PostgreSQL 17 and newer
//! refuse to start on one that has them, older ones overlook them and would take half a directory for a whole one.

use barman_cloud::Lsn;

const LSN: &str = "INCREMENTAL FROM LSN: ";
const TIMELINE: &str = "INCREMENTAL FROM TLI: ";

/// The label with the begin of the backup that this one builds on.
pub fn add_origin(label: &str, begin: Lsn, timeline: u32) -> String {
    let end = if label.is_empty() || label.ends_with('\n') { "" } else { "\n" };
    format!("{label}{end}{LSN}{begin}\n{TIMELINE}{timeline}\n")
}

/// The label as PostgreSQL wrote it.
pub fn without_origin(label: &str) -> String {
    let is_ours = |line: &&str| line.starts_with(LSN) || line.starts_with(TIMELINE);
    label.split_inclusive('\n').filter(|line| !is_ours(line)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_is_taken_away() {
        let label = "START WAL LOCATION: 0/4000028 (file 000000010000000000000004)\nSTART TIMELINE: 3\n";
        let added = add_origin(label, Lsn(0x2_0000_0028), 2);
        assert_eq!(added, format!("{label}INCREMENTAL FROM LSN: 2/28\nINCREMENTAL FROM TLI: 2\n"));
        assert_eq!(without_origin(&added), label);
        assert_eq!(without_origin(label), label);
        let open = label.trim_end();
        assert!(add_origin(open, Lsn(1), 1).starts_with(label), "every line stays a line");
    }
}
