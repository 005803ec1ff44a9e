//! Where an archive stands, and which files it takes: pure, from the record and the histories.
//!
//! A former primary is refused from the point on where its timeline was left. What is before that point belongs to
//! everybody's way and may be in its hands alone, so it is taken; histories, partial segments and labels are harmless.

use super::announce::former;
use super::{Announcement, Lineage, Reception};
use crate::error::{Error, ErrorKind, Result};
use crate::lsn::Lsn;
use crate::repository::Repository;
use crate::timeline::TimelineHistory;
use crate::wal_name::{Segment, SegmentSize, WalName};
use std::collections::BTreeMap;

/// The record and the histories of an archive, as they were seen together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// The record; `None` when there is none.
    pub lineage: Option<Lineage>,
    /// The archive, for messages.
    url: String,
    /// Those that can be read.
    histories: BTreeMap<u32, TimelineHistory>,
}

impl Repository {
    /// Where the archive stands: one object is read, one listing made, and of the histories only those are read that
    /// `known` lacks. A history that is damaged says nothing.
    pub async fn standing(&self, known: Option<&Standing>) -> Result<Standing> {
        let lineage = self.lineage().await?;
        let mut histories = BTreeMap::new();
        for timeline in self.histories().await?.into_keys() {
            if let Some(history) = known.and_then(|known| known.histories.get(&timeline)) {
                histories.insert(timeline, history.clone());
                continue;
            }
            match self.read_history(timeline).await {
                Ok(Some(history)) => drop(histories.insert(timeline, history)),
                Ok(None) => {}
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    tracing::warn!(timeline, "a history cannot be read: {}", error.report());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Standing { lineage, url: self.url(), histories })
    }
}

impl Standing {
    /// What the archive says to a primary.
    pub fn received(&self, announcement: &Announcement) -> Reception {
        announcement.received(self.lineage.as_ref(), &self.url)
    }

    /// The timeline that was announced.
    pub fn timeline(&self) -> Option<u32> {
        self.lineage.as_ref()?.timeline
    }

    /// Why a file is not taken; `None` when it is.
    pub fn refusal(&self, name: WalName, size: SegmentSize) -> Option<Error> {
        let WalName::Segment(segment) = name else { return None };
        let (newer, left) = self.overtaken(segment, size)?;
        Some(former(newer, self.lineage.as_ref(), left, segment.timeline, &self.url))
    }

    /// The timeline that a segment was overtaken by, and where its own was left.
    fn overtaken(&self, segment: Segment, size: SegmentSize) -> Option<(u32, Option<Lsn>)> {
        let (own, start) = (segment.timeline, segment.start(size));
        let left = |history: &TimelineHistory| history.switch_point(own).filter(|switch| *switch <= start);
        let by_history = self
            .histories
            .range(own.saturating_add(1)..)
            .rev()
            .find_map(|(newer, history)| Some((*newer, Some(left(history)?))));
        let announced =
            self.lineage.as_ref().and_then(|lineage| Some((lineage.timeline?, lineage.begin_lsn)));
        let Some((announced, begin)) = announced.filter(|(announced, _)| *announced > own) else {
            return by_history;
        };
        let overtaken = match self.histories.get(&announced) {
            // A timeline that the announced one did not grow out of leads nowhere.
            Some(history) => history.switch_point(own).is_none_or(|switch| switch <= start),
            // Its history comes soon. Whatever is behind its begin is not on its way.
            None => begin.is_none_or(|begin| begin <= start),
        };
        if overtaken { Some((announced, begin)) } else { by_history }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    /// Timeline 1 was left in segment 5, timeline 2 at the begin of segment 9.
    fn histories() -> BTreeMap<u32, TimelineHistory> {
        let text = "1\t0/5000060\tno recovery target specified\n2\t0/9000000\tno recovery target specified\n";
        let third = TimelineHistory::parse(3, text).expect("valid");
        let second = TimelineHistory::parse(2, text.lines().next().expect("a line")).expect("valid");
        BTreeMap::from([(2, second), (3, third)])
    }

    fn announced(timeline: u32, begin: Option<&str>) -> Option<Lineage> {
        Some(Lineage {
            timeline: Some(timeline),
            begin_lsn: begin.map(|lsn| lsn.parse().expect("an LSN")),
            primary: Some("pg-2/uid".into()),
            ..Lineage::new("42", None, chrono::DateTime::UNIX_EPOCH)
        })
    }

    fn refusal(standing: &Standing, name: &str) -> Option<String> {
        standing.refusal(name.parse().expect("a name"), SegmentSize::DEFAULT).map(|error| error.to_string())
    }

    #[rstest]
    #[case::the_segment_within_which_it_was_left("000000010000000000000005", true)]
    #[case::the_next("000000010000000000000006", false)]
    #[case::before_the_second_was_left("000000020000000000000008", true)]
    #[case::at_a_border("000000020000000000000009", false)]
    #[case::the_newest("00000003000000000000000A", true)]
    #[case::unheard_of("00000004000000000000000A", true)]
    #[case::partial("000000010000000000000006.partial", true)]
    #[case::label("000000010000000000000006.00000028.backup", true)]
    #[case::history("00000002.history", true)]
    fn the_histories_alone_protect(#[case] name: &str, #[case] taken: bool) {
        let standing = Standing { lineage: None, url: "s3://b/p/srv".into(), histories: histories() };
        assert_eq!(refusal(&standing, name).is_none(), taken);
        // The record says the same in more words.
        let standing = Standing { lineage: announced(3, Some("0/9000000")), ..standing };
        assert_eq!(refusal(&standing, name).is_none(), taken);
    }

    #[test]
    fn the_words_name_the_new_primary() {
        let lineage = announced(3, Some("0/9000000"));
        let standing = Standing { lineage, url: "s3://b/p/srv".into(), histories: histories() };
        assert_eq!(
            refusal(&standing, "000000010000000000000006").expect("refused"),
            "s3://b/p/srv: the archive is on timeline 3, begun by pg-2 at 0/9000000; this server is still on timeline \
             1: it is a former primary and must follow; nothing is archived"
        );
        let standing = Standing { lineage: None, ..standing };
        let words = refusal(&standing, "000000020000000000000009").expect("refused");
        assert!(words.contains("on timeline 3, begun at 0/9000000; this server"), "{words}");
    }

    #[rstest]
    #[case::before_its_begin(Some("0/9000000"), "000000020000000000000008", true)]
    #[case::behind_it(Some("0/9000000"), "000000020000000000000009", false)]
    #[case::nobody_knows_where(None, "000000020000000000000001", false)]
    #[case::its_own(None, "000000040000000000000009", true)]
    fn a_timeline_whose_history_is_not_there_yet(
        #[case] begin: Option<&str>,
        #[case] name: &str,
        #[case] taken: bool,
    ) {
        let standing = Standing { lineage: announced(4, begin), ..Standing::default() };
        assert_eq!(refusal(&standing, name).is_none(), taken);
    }

    /// Timeline 3 grew out of 1: what is on 2 leads nowhere.
    #[test]
    fn a_branch_that_nobody_followed_is_not_filled() {
        let third = TimelineHistory::parse(3, "1\t0/9000000\tx\n").expect("valid");
        let mut histories = histories();
        histories.insert(3, third);
        let standing = Standing { lineage: announced(3, None), url: String::new(), histories };
        assert!(refusal(&standing, "000000020000000000000006").is_some());
        assert!(refusal(&standing, "000000010000000000000004").is_none());
    }

    #[tokio::test]
    async fn an_archive_tells_where_it_stands() {
        use crate::archive::{ArchiveOptions, WalSource};
        let store = crate::Store::memory(&crate::Destination::parse("s3://b/p").expect("valid"));
        let repository = Repository::new(store, "srv").expect("valid");
        assert_eq!(repository.standing(None).await.expect("read").timeline(), None);
        let text = WalSource::Bytes("1\t0/5000060\tx\n".into());
        let options = ArchiveOptions::default();
        repository.archive_wal(WalName::History(2), text, &options).await.expect("stored");
        let says = Announcement {
            timeline: 2,
            begin_lsn: Some("0/5000060".parse().expect("an LSN")),
            primary: "pg-2/x".into(),
        };
        repository.announce_timeline("42", None, &says, chrono::Utc::now()).await.expect("announced");
        let standing = repository.standing(None).await.expect("read");
        assert_eq!(standing.timeline(), Some(2));
        assert!(matches!(standing.received(&says), Reception::Known));
        assert!(refusal(&standing, "000000010000000000000006").is_some());
        assert_eq!(repository.standing(Some(&standing)).await.expect("read"), standing);
        // A damaged one is in nobody's way.
        let key = repository.layout().wal(WalName::History(3), crate::Compression::None);
        repository.store().put(&key, "nonsense".into()).await.expect("stored");
        assert_eq!(repository.standing(Some(&standing)).await.expect("read"), standing);
    }
}
