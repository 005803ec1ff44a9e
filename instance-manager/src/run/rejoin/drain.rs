//! WAL that only a former primary has: whole segments that waited to be archived when it ended.
//!
//! The new primary received them too, but by then it was a replica, and takes them for archived: without this they
//! would be a hole in the archive. Only what both have in common is archived. A segment behind the point where the new
//! primary's history begins holds what is lost, and in the archive a recovery or a replica could take it for the truth.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use barman_cloud::{SegmentSize, TimelineHistory, WalName};
use tokio::time::{Instant, timeout_at};

use crate::error::{IoContext, Result};
use crate::run::shared::Shared;
use crate::wal_client::OPERATION;

/// How long it may take in all: the cluster waits for its replica.
const LIMIT: Duration = Duration::from_secs(60);

/// What became of the files that waited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Files that were archived.
    pub archived: u64,
    /// Files that should have been, and were not.
    pub left: Vec<String>,
    /// Why, of the first one.
    pub why: Option<String>,
    /// Files that hold what the new primary does not have, and were kept from the archive.
    pub foreign: Vec<String>,
}

/// Whether a file of a server on timeline `own` is a part of `history` too.
fn is_common(name: WalName, own: u32, history: &TimelineHistory, size: SegmentSize) -> bool {
    let Some(switch) = history.switch_point(name.timeline()) else { return false };
    match name {
        WalName::History(_) => true,
        // Left by this server's own promotion: it ends where its timeline was left.
        WalName::Partial(_) => name.timeline() != own,
        _ => name.segment().is_some_and(|segment| segment.next(size).start(size) <= switch),
    }
}

/// Archives what waits, one file after the other, and notes it as PostgreSQL would. A failure is in the result.
///
/// # Errors
/// When the queue cannot be read or written.
pub async fn drain(
    shared: &Shared,
    own: u32,
    history: Option<&TimelineHistory>,
    size: SegmentSize,
) -> Result<Drained> {
    let pgdata = &shared.env.paths.pgdata;
    let mut drained = Drained::default();
    let names = waiting(pgdata)?;
    if names.is_empty() || !shared.stores().iter().any(|named| named.archive_wal) {
        return Ok(drained);
    }
    let Some(history) = history else {
        drained.left = names.iter().map(ToString::to_string).collect();
        drained.why = Some("the primary's history is not known".to_owned());
        return Ok(drained);
    };
    let (common, foreign): (Vec<WalName>, Vec<WalName>) =
        names.into_iter().partition(|name| is_common(*name, own, history, size));
    drained.foreign = foreign.iter().map(ToString::to_string).collect();
    let deadline = Instant::now() + LIMIT;
    for (index, name) in common.iter().enumerate() {
        let path = format!("pg_wal/{name}");
        let (why, go_on) = match timeout_at(deadline, shared.wal.archive_alone(&path)).await {
            Ok(answer) if answer.ok => {
                done(pgdata, *name)?;
                drained.archived += 1;
                continue;
            }
            // This file was refused; the next one may be taken.
            Ok(answer) => (answer.error.unwrap_or_default(), answer.code == Some(OPERATION)),
            Err(_) => (format!("{} s were not enough", LIMIT.as_secs()), false),
        };
        tracing::warn!(%name, "a WAL file of this former primary was not archived: {why}");
        drained.why.get_or_insert(why);
        drained.left.push(name.to_string());
        if !go_on {
            drained.left.extend(common[index + 1..].iter().map(ToString::to_string));
            break;
        }
    }
    Ok(drained)
}

/// The files that wait and are there, as PostgreSQL would hand them out: histories first.
fn waiting(pgdata: &Path) -> Result<Vec<WalName>> {
    let wal = pgdata.join("pg_wal");
    let status = wal.join("archive_status");
    let entries = match std::fs::read_dir(&status) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.at("cannot read", &status)?,
    };
    let mut names: Vec<WalName> = Vec::new();
    for entry in entries {
        let file = entry.at("cannot read", &status)?.file_name();
        let name = file.to_str().and_then(|file| file.strip_suffix(".ready")?.parse::<WalName>().ok());
        names.extend(name.filter(|name| wal.join(name.to_string()).exists()));
    }
    names.sort_by_key(|name| (!matches!(name, WalName::History(_)), name.to_string()));
    Ok(names)
}

/// What PostgreSQL's archiver does after a file was archived. Lost in a crash, it is archived once more: harmless.
fn done(pgdata: &Path, name: WalName) -> Result<()> {
    let status = pgdata.join("pg_wal/archive_status");
    let ready = status.join(format!("{name}.ready"));
    std::fs::rename(&ready, status.join(format!("{name}.done"))).at("cannot rename", &ready)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> WalName {
        text.parse().unwrap()
    }

    /// A server that was the primary on timeline 2; the new one left that in the middle of segment 5.
    #[rstest::rstest]
    #[case::before("000000020000000000000004", true)]
    #[case::an_older_timeline("000000010000000000000002", true)]
    #[case::the_last_of_an_older_timeline("000000010000000000000003.partial", true)]
    #[case::the_one_with_the_fork("000000020000000000000005", false)]
    #[case::behind("000000020000000000000006", false)]
    #[case::a_part_of_what_is_lost("000000020000000000000005.partial", false)]
    #[case::another_branch("000000040000000000000002", false)]
    #[case::its_history("00000002.history", true)]
    #[case::the_history_of_another_branch("00000004.history", false)]
    #[case::a_label("000000020000000000000004.00000028.backup", true)]
    #[case::a_label_of_what_is_lost("000000020000000000000006.00000028.backup", false)]
    fn what_both_have(#[case] file: &str, #[case] common: bool) {
        let history = TimelineHistory::parse(3, "1\t0/3000180\tx\n2\t0/5000180\ty\n").unwrap();
        assert_eq!(is_common(name(file), 2, &history, SegmentSize::DEFAULT), common);
    }

    #[test]
    fn a_segment_that_ends_at_the_fork_is_whole() {
        let history = TimelineHistory::parse(2, "1\t0/6000000\tx\n").unwrap();
        let common = |file| is_common(name(file), 1, &history, SegmentSize::DEFAULT);
        assert!(common("000000010000000000000005"));
        assert!(!common("000000010000000000000006"));
    }

    #[test]
    fn files_that_wait_and_are_there() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(waiting(dir.path()).unwrap(), []);
        let status = dir.path().join("pg_wal/archive_status");
        std::fs::create_dir_all(&status).unwrap();
        let segment = "000000020000000000000004";
        for file in [segment, "00000002.history", "000000020000000000000003"] {
            std::fs::write(dir.path().join("pg_wal").join(file), "").unwrap();
            std::fs::write(status.join(format!("{file}.ready")), "").unwrap();
        }
        for file in ["000000020000000000000009.ready", "000000020000000000000002.done", "junk.ready"] {
            std::fs::write(status.join(file), "").unwrap();
        }
        let names = ["00000002.history", "000000020000000000000003", segment].map(name);
        assert_eq!(waiting(dir.path()).unwrap(), names);
        done(dir.path(), name(segment)).unwrap();
        assert_eq!(waiting(dir.path()).unwrap(), names[..2]);
        assert!(status.join(format!("{segment}.done")).exists());
    }
}
