//! One segment of the archive: whether what lies under its name is that segment.

use super::finding::{Code, Finding};
use barman_cloud::archive::{FetchOptions, WalObject};
use barman_cloud::wal_header::WalHeader;
use barman_cloud::{ErrorKind, Repository, Segment, SegmentSize, TimelineHistory};
use std::collections::BTreeMap;

/// What is known of the archive as a whole.
pub struct Archive<'a> {
    pub repository: &'a Repository,
    /// System that it belongs to; a segment of any is taken when it is not known.
    pub system_id: Option<u64>,
    pub histories: &'a BTreeMap<u32, TimelineHistory>,
}

/// What reading a segment showed.
#[derive(Debug)]
pub struct Read {
    pub segment: Segment,
    /// Whether a recovery gets the segment.
    pub usable: bool,
    /// Stored bytes read.
    pub bytes: u64,
    pub findings: Vec<Finding>,
}

impl Archive<'_> {
    /// Reads every object under the name of a segment to its end.
    pub async fn read(&self, size: SegmentSize, segment: Segment, objects: Vec<WalObject>) -> Read {
        let mut read = Read { segment, usable: false, bytes: 0, findings: Vec::new() };
        for object in &objects {
            read.bytes += object.object.size;
            match self.judge(size, segment, object).await {
                None => read.usable = true,
                Some(finding) => read.findings.push(finding),
            }
        }
        if read.usable {
            // Readers pass a damaged object over; a foreign one they would take.
            for finding in read.findings.iter_mut().filter(|finding| finding.code == Code::WalDamaged) {
                *finding = Finding::new(Code::WalTwice, finding.object.clone(), finding.problem.clone());
            }
            read.usable = read.findings.iter().all(|finding| finding.code == Code::WalTwice);
        }
        read
    }

    async fn judge(&self, size: SegmentSize, segment: Segment, object: &WalObject) -> Option<Finding> {
        let url = self.repository.store().url_of(&object.object.key);
        let options = FetchOptions { segment_size: Some(size), ..FetchOptions::default() };
        let head = match self.repository.check_wal_object(object, &options).await {
            Ok(head) => head,
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                let problem = barman_cloud::error::report(&error, None);
                return Some(Finding::new(Code::WalDamaged, url, problem));
            }
            Err(error) if error.is_not_found() => {
                return Some(Finding::new(Code::WalMissing, url, "it is not there any more"));
            }
            Err(error) => {
                return Some(Finding::new(Code::NotRead, url, barman_cloud::error::report(&error, None)));
            }
        };
        let Some(head) = head else {
            return Some(Finding::new(Code::WalDamaged, url, "it does not begin with a page of WAL"));
        };
        let known = self.histories.get(&segment.timeline);
        let (code, problem) = wrong(&head, segment, size, self.system_id, known)?;
        Some(Finding::new(code, url, problem))
    }
}

/// What of a segment's head is not as its name says: pure.
fn wrong(
    head: &WalHeader,
    segment: Segment,
    size: SegmentSize,
    system_id: Option<u64>,
    history: Option<&TimelineHistory>,
) -> Option<(Code, String)> {
    if let Some(own) = system_id.filter(|own| *own != head.system_id) {
        let text = format!("it belongs to the system {}, the archive to {own}", head.system_id);
        return Some((Code::WalForeign, text));
    }
    if u64::from(head.segment_size) != size.bytes() {
        let text =
            format!("it says that segments have {} bytes, they have {}", head.segment_size, size.bytes());
        return Some((Code::WalDamaged, text));
    }
    let start = segment.start(size);
    if head.address != start {
        let text = format!("it begins at {}, a segment of this name at {start}", head.address);
        return Some((Code::WalMisplaced, text));
    }
    let leads = head.timeline == segment.timeline
        || history.is_some_and(|history| history.switch_point(head.timeline).is_some());
    (!leads).then(|| {
        let text = format!(
            "its pages are of timeline {}, which does not lead to timeline {}",
            head.timeline, segment.timeline
        );
        (Code::WalTimeline, text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use barman_cloud::Lsn;
    use barman_cloud::timeline::HistoryEntry;
    use rstest::rstest;

    fn head() -> WalHeader {
        WalHeader {
            magic: 0xD110,
            timeline: 1,
            address: Lsn(0x500_0000),
            system_id: 7,
            segment_size: 16 << 20,
        }
    }

    #[rstest]
    #[case::right(head(), None)]
    #[case::system(WalHeader { system_id: 8, ..head() }, Some(Code::WalForeign))]
    #[case::size(WalHeader { segment_size: 1 << 20, ..head() }, Some(Code::WalDamaged))]
    #[case::place(WalHeader { address: Lsn(0x600_0000), ..head() }, Some(Code::WalMisplaced))]
    #[case::timeline(WalHeader { timeline: 3, ..head() }, Some(Code::WalTimeline))]
    fn heads(#[case] head: WalHeader, #[case] code: Option<Code>) {
        // Timeline 2 left 1 in this segment, so its first page still is of timeline 1.
        let entry = HistoryEntry { parent: 1, switch: Lsn(0x500_0060), reason: String::new() };
        let history = TimelineHistory::new(2, vec![entry]).expect("a history");
        let segment: Segment = "000000020000000000000005".parse().expect("a name");
        let found = wrong(&head, segment, SegmentSize::DEFAULT, Some(7), Some(&history));
        assert_eq!(found.as_ref().map(|(code, _)| *code), code, "{found:?}");
    }

    #[test]
    fn nothing_is_foreign_to_an_archive_that_nobody_claimed() {
        let segment: Segment = "000000010000000000000005".parse().expect("a name");
        assert_eq!(wrong(&head(), segment, SegmentSize::DEFAULT, None, None), None);
    }
}
