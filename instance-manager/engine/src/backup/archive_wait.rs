//! Waits until the WAL that a backup needs is in the archive, whatever it takes to get it there.

use super::request::{PrimaryWal, SwitchRequest};
use crate::error::{Error, ErrorKind, Result};
use barman_cloud::{Lsn, Repository, Segment, SegmentRange, SegmentSize};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How often the primary is asked again while the last segment is missing.
const ASK_AGAIN: Duration = Duration::from_secs(30);

/// The WAL of one backup.
#[derive(Debug, Clone, Copy)]
pub struct NeededWal {
    /// First segment.
    pub begin: Segment,
    /// Last segment.
    pub end: Segment,
    /// End position.
    pub end_lsn: Lsn,
    /// Segment size.
    pub size: SegmentSize,
    /// Whether ending the backup closed the last segment: so on a primary, not on a standby.
    pub closed: bool,
}

/// Returns when every segment from begin to end is in the archive, or, with several, in one of them. The end of a standby's backup lies in a segment that
/// the primary may still be writing, so it is asked to close it: on an idle server nothing else would, ever.
pub async fn wait(
    repositories: &[&Repository],
    needed: NeededWal,
    primary: &dyn PrimaryWal,
    limit: Option<Duration>,
    cancel: &CancellationToken,
) -> Result<()> {
    let begun = Instant::now();
    let request = SwitchRequest { timeline: needed.end.timeline, lsn: needed.end_lsn };
    let mut first = needed.begin;
    let mut pause = FIRST_PAUSE;
    let mut asked = needed.closed.then_some(begun);
    let mut trouble: Option<Error> = None;
    loop {
        let range = SegmentRange::new(first, needed.end, needed.size)?;
        let missing = match missing(repositories, &range).await {
            Ok(missing) => missing,
            Err(error) if error.is_transient() => {
                trouble = Some(error.into());
                vec![first]
            }
            Err(error) => return Err(error.into()),
        };
        let Some(next) = missing.first().copied() else { return Ok(()) };
        // What was there once is not asked for again: segments arrive in order, the archive only grows.
        first = next;
        let last_missing = missing.last() == Some(&needed.end) || missing.len() == 1;
        if last_missing && asked.is_none_or(|at| at.elapsed() >= ASK_AGAIN) {
            match primary.close_segment(request).await {
                Ok(()) => asked = Some(Instant::now()),
                Err(error) => {
                    tracing::warn!(error = %error.report(), "the primary did not close its segment; asking again");
                    trouble = Some(error);
                }
            }
        }
        if limit.is_some_and(|limit| begun.elapsed() >= limit) {
            return Err(overdue(repositories, &missing, begun.elapsed(), primary.archive_failure(), trouble));
        }
        tokio::select! {
            () = cancel.cancelled() => return Err(Error::cancelled()),
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 3 / 2).min(LONGEST_PAUSE);
    }
}

/// What none of the archives has. One that does not answer is passed over while another one does.
async fn missing(repositories: &[&Repository], range: &SegmentRange) -> barman_cloud::Result<Vec<Segment>> {
    let (mut missing, mut trouble) = (None::<Vec<Segment>>, None);
    for repository in repositories {
        match (repository.missing_wal(range.clone()).await, &mut missing) {
            (Ok(here), None) => missing = Some(here),
            (Ok(here), Some(missing)) => missing.retain(|segment| here.contains(segment)),
            (Err(error), _) => trouble = Some(error),
        }
    }
    match (missing, trouble) {
        (None, Some(error)) => Err(error),
        (missing, _) => Ok(missing.unwrap_or_default()),
    }
}

fn overdue(
    repositories: &[&Repository],
    missing: &[Segment],
    waited: Duration,
    failure: Option<String>,
    trouble: Option<Error>,
) -> Error {
    let first = missing.first().map_or_else(String::new, ToString::to_string);
    let more = match missing.len() {
        0 | 1 => String::new(),
        count => format!(" and {} more", count - 1),
    };
    let why = failure
        .or_else(|| trouble.map(|error| error.report()))
        .map_or_else(|| "PostgreSQL did not archive it".to_owned(), |text| format!("last failure: {text}"));
    Error::new(
        ErrorKind::WalNotArchived,
        format!(
            "WAL segment {first}{more} did not reach the archive {} within {} s; {why}",
            repositories.iter().map(|repository| repository.url()).collect::<Vec<_>>().join(" or "),
            waited.as_secs()
        ),
    )
}
