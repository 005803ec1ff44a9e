//! What one repository lacks of the WAL that was acknowledged without it. Pure.
//!
//! Uploads that go on after the acknowledgement are few and known by name. When one of them fails, or too many are
//! under way, the repository is behind: it is asked no more, and gets what it lacks in order from elsewhere. Then only
//! from where on is kept, and how much it is: after a week nobody could keep the names.

use barman_cloud::arrears::mark;
use barman_cloud::{Segment, WalName};
use chrono::{DateTime, Duration, Utc};
use std::collections::{BTreeMap, VecDeque};

/// Uploads that may go on after their acknowledgement before the repository counts as behind.
const UNDER_WAY: usize = 8;
/// Files that are remembered as having arrived.
const ARRIVED: usize = 64;
/// An upload that goes on for so long after its acknowledgement makes the repository late, too.
const SLOW: Duration = Duration::seconds(60);

/// How far a repository is behind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lag {
    /// Whether it is late: something failed or takes long. A file that is just on its way is no lateness.
    pub late: bool,
    /// Files that it lacks. While neither it nor the others can be listed, as many as are known of.
    pub files: u64,
    /// Their bytes before compression, counting each as a segment.
    pub bytes: u64,
    /// The first file that it lacks.
    pub oldest: Option<String>,
    /// When that was stored elsewhere.
    pub since: Option<DateTime<Utc>>,
}

/// A file that is missing, and since when.
type Missing = (WalName, DateTime<Utc>);

#[derive(Debug)]
struct Behind {
    /// Everything before was there.
    since: Segment,
    files: u64,
    oldest: Option<Missing>,
    /// False while it is only known that something may be missing.
    certain: bool,
    /// So little is missing that it is asked for new files again, while it gets the rest.
    rejoined: bool,
    /// The first segment that came to be missing since the listings were compared last.
    fresh: Option<Segment>,
}

impl Behind {
    fn from(since: Segment, certain: bool) -> Self {
        Self { since, files: 0, oldest: None, certain, rejoined: false, fresh: None }
    }
}

/// The account of one repository.
#[derive(Debug, Default)]
pub struct Debt {
    /// Uploads under way; with a time those that were acknowledged without it.
    under_way: BTreeMap<WalName, Option<DateTime<Utc>>>,
    arrived: VecDeque<WalName>,
    behind: Option<Behind>,
    /// Grows with every file that it comes to lack.
    additions: u64,
}

impl Debt {
    /// Whether it is asked for new files.
    pub fn punctual(&self) -> bool {
        let owed = self.under_way.values().flatten().count();
        owed < UNDER_WAY && self.behind.as_ref().is_none_or(|behind| !behind.certain || behind.rejoined)
    }

    /// An upload begins.
    pub fn begun(&mut self, name: WalName) {
        self.under_way.entry(name).or_default();
    }

    /// An upload has ended.
    pub fn ended(&mut self, name: WalName, arrived: bool) {
        let owed = self.under_way.remove(&name).flatten();
        if arrived {
            self.arrived.push_back(name);
            if self.arrived.len() > ARRIVED {
                self.arrived.pop_front();
            }
        } else if let Some(at) = owed {
            self.lacks(name, at);
        }
    }

    /// The file is about to be acknowledged without it.
    pub fn owe(&mut self, name: WalName, now: DateTime<Utc>) {
        if self.arrived.contains(&name) {
            return;
        }
        match self.under_way.get_mut(&name) {
            Some(owed) => {
                owed.get_or_insert(now);
            }
            None => self.lacks(name, now),
        }
    }

    fn lacks(&mut self, name: WalName, at: DateTime<Utc>) {
        self.additions += 1;
        let since = mark(name);
        let behind = self.behind.get_or_insert(Behind::from(since, true));
        behind.since = behind.since.min(since);
        behind.fresh = Some(behind.fresh.map_or(since, |fresh| fresh.min(since)));
        behind.files += 1;
        behind.certain = true;
        behind.rejoined = false;
        if behind.oldest.is_none_or(|(oldest, _)| since < mark(oldest)) {
            behind.oldest = Some((name, at));
        }
    }

    /// A former process noted that something may be missing.
    pub fn suspect(&mut self, since: Segment) {
        self.additions += 1;
        let behind = self.behind.get_or_insert(Behind::from(since, false));
        behind.since = behind.since.min(since);
        behind.fresh = Some(behind.fresh.map_or(since, |fresh| fresh.min(since)));
    }

    /// From where on it may lack something, uploads under way included; `None` when it has all.
    pub fn floor(&self) -> Option<Segment> {
        let owed = self.under_way.iter().filter(|(_, at)| at.is_some()).map(|(name, _)| mark(*name));
        owed.chain(self.behind.as_ref().map(|behind| behind.since)).min()
    }

    /// Whether it is behind, so that somebody has to look after it.
    pub fn behind(&self) -> bool {
        self.behind.is_some()
    }

    /// Whether it is known how much is missing.
    pub fn certain(&self) -> bool {
        self.behind.as_ref().is_none_or(|behind| behind.certain)
    }

    /// The listings are about to be compared. Returns how often it came to lack something so far, to notice what comes
    /// meanwhile.
    pub fn compare(&mut self) -> u64 {
        if let Some(behind) = &mut self.behind {
            behind.fresh = None;
        }
        self.additions
    }

    /// The listings were compared: so much is missing.
    pub fn counted(&mut self, files: u64, oldest: Option<Missing>) {
        if let Some(behind) = &mut self.behind {
            behind.files = files;
            behind.oldest = oldest;
            behind.certain = behind.certain || files > 0;
        }
    }

    /// It cannot be looked at: what may be missing must be taken for missing.
    pub fn unreachable(&mut self) {
        if let Some(behind) = &mut self.behind {
            behind.certain = true;
        }
    }

    /// This is the next that is put into it.
    pub fn next(&mut self, oldest: Missing) {
        if let Some(behind) = &mut self.behind {
            behind.oldest = Some(oldest);
            behind.files = behind.files.max(1);
        }
    }

    /// A missing file was put into it.
    pub fn filled(&mut self) {
        if let Some(behind) = &mut self.behind {
            behind.files = behind.files.saturating_sub(1);
        }
    }

    /// Everything before this segment is there, but for what came to be missing meanwhile.
    pub fn advanced(&mut self, to: Segment) {
        if let Some(behind) = &mut self.behind {
            let to = behind.fresh.map_or(to, |fresh| fresh.min(to));
            behind.since = behind.since.max(to);
        }
    }

    /// The listings were compared and nothing is missing of what they showed. False when something came meanwhile; when
    /// it is little, the repository is asked for new files again, or it would never be done under load.
    pub fn settle(&mut self, additions: u64) -> bool {
        let came = self.additions - additions;
        if came == 0 {
            self.behind = None;
        } else if let Some(behind) = &mut self.behind {
            behind.files = came;
            behind.rejoined = came <= UNDER_WAY as u64;
        }
        came == 0
    }

    /// How far it is behind.
    pub fn lag(&self, now: DateTime<Utc>, segment: u64) -> Lag {
        let owed = self.under_way.iter().filter_map(|(name, at)| Some((*name, (*at)?)));
        let (mut files, mut oldest, mut late) = (0, None::<Missing>, false);
        for (name, at) in owed {
            files += 1;
            late |= now - at >= SLOW;
            if oldest.is_none_or(|(first, _)| mark(name) < mark(first)) {
                oldest = Some((name, at));
            }
        }
        if let Some(behind) = self.behind.as_ref().filter(|behind| behind.certain) {
            late = true;
            files += behind.files;
            oldest = [behind.oldest, oldest].into_iter().flatten().min_by_key(|(name, _)| mark(*name));
        }
        Lag {
            late,
            files,
            bytes: files.saturating_mul(segment),
            oldest: oldest.map(|(name, _)| name.to_string()),
            since: oldest.map(|(_, at)| at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: u32) -> WalName {
        WalName::Segment(Segment { timeline: 1, log: 0, seg: number })
    }

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).expect("a time")
    }

    fn lag(debt: &Debt, second: i64) -> (bool, u64, Option<String>, Option<DateTime<Utc>>) {
        let lag = debt.lag(at(second), 16);
        assert_eq!(lag.bytes, lag.files * 16);
        (lag.late, lag.files, lag.oldest, lag.since)
    }

    #[test]
    fn an_upload_that_comes_a_little_later_is_no_lateness() {
        let mut debt = Debt::default();
        debt.begun(name(1));
        debt.owe(name(1), at(0));
        assert!(debt.punctual() && debt.floor() == Some(mark(name(1))));
        assert_eq!(lag(&debt, 1), (false, 1, Some(name(1).to_string()), Some(at(0))));
        assert!(lag(&debt, 60).0, "it takes long");
        debt.ended(name(1), true);
        assert!(debt.floor().is_none() && debt.punctual());
        assert_eq!(debt.lag(at(61), 16), Lag::default());
        // It arrived before the others were counted.
        debt.begun(name(2));
        debt.ended(name(2), true);
        debt.owe(name(2), at(2));
        assert_eq!(debt.floor(), None);
    }

    #[test]
    fn a_failure_before_the_acknowledgement_is_nobodys_debt() {
        let mut debt = Debt::default();
        debt.begun(name(1));
        debt.ended(name(1), false);
        assert_eq!(debt.floor(), None);
    }

    #[test]
    fn what_fails_afterwards_is_owed_until_the_listings_agree() {
        let mut debt = Debt::default();
        for number in [5, 6] {
            debt.begun(name(number));
            debt.owe(name(number), at(i64::from(number)));
        }
        debt.ended(name(6), false);
        debt.ended(name(5), false);
        debt.owe(name(7), at(7));
        assert!(!debt.punctual());
        assert_eq!(debt.floor(), Some(mark(name(5))));
        assert_eq!(lag(&debt, 9), (true, 3, Some(name(5).to_string()), Some(at(5))));
        let additions = debt.compare();
        debt.filled();
        assert_eq!(lag(&debt, 9).1, 2);
        debt.owe(name(8), at(8));
        debt.advanced(mark(name(9)));
        assert_eq!(debt.floor(), Some(mark(name(8))), "not further than what came meanwhile");
        assert!(!debt.settle(additions), "something came meanwhile");
        assert!(debt.punctual() && lag(&debt, 9).1 == 1, "little enough to be asked again");
        debt.owe(name(9), at(9));
        assert!(!debt.punctual());
        let additions = debt.compare();
        assert!(debt.settle(additions) && debt.floor().is_none());
    }

    #[test]
    fn one_that_hangs_is_not_asked_for_ever() {
        let mut debt = Debt::default();
        for number in 0..UNDER_WAY as u32 {
            assert!(debt.punctual());
            debt.begun(name(number));
            debt.owe(name(number), at(0));
        }
        assert!(!debt.punctual());
        debt.ended(name(0), true);
        assert!(debt.punctual());
    }

    #[test]
    fn a_suspicion_is_told_only_when_it_is_confirmed() {
        let mut debt = Debt::default();
        debt.suspect(mark(name(9)));
        debt.suspect(mark(name(3)));
        assert_eq!((debt.floor(), debt.punctual()), (Some(mark(name(3))), true));
        debt.compare();
        assert_eq!(debt.lag(at(0), 16), Lag::default());
        debt.counted(0, None);
        assert!(!debt.certain());
        debt.counted(2, Some((name(4), at(1))));
        assert_eq!(lag(&debt, 2), (true, 2, Some(name(4).to_string()), Some(at(1))));
        debt.advanced(mark(name(5)));
        assert_eq!(debt.floor(), Some(mark(name(5))));
    }
}
