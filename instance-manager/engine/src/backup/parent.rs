//! Which backup a differential or incremental one builds on: a pure decision over the inventory.

use barman_cloud::catalog::{Inventory, Member};
use barman_cloud::{BackupId, BackupInfo, BackupType, Lsn, TimelineHistory};
use chrono::{DateTime, Utc};
use std::fmt;

/// The server at the moment at which the new backup begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// System identifier.
    pub system_id: u64,
    /// Major version.
    pub major: u32,
    /// Where the new backup begins.
    pub begin: Lsn,
    /// What the server has for certain: on a standby it may be further than `begin`, which is its last restart point.
    pub reached: Lsn,
}

/// The backup to build on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    /// Its id.
    pub id: BackupId,
    /// Its type.
    pub kind: BackupType,
    /// Where it began: what changed from here on is new.
    pub begin: Lsn,
    /// The same by the server's clock.
    pub begin_time: DateTime<Utc>,
    /// Where it ended: a restore of the chain must replay at least to here.
    pub end: Lsn,
    /// Its timeline.
    pub timeline: u32,
    /// Whether its pages carry checksums.
    pub checksums: bool,
    /// What a restore needs before the new backup: the full one first, the parent last.
    pub chain: Vec<BackupId>,
}

/// Why nothing can be built on what is there. Where several backups were looked at, it is said of the newest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoParent {
    /// There is no complete backup to build on.
    None,
    /// It is of another database system.
    OtherSystem(BackupId),
    /// It is of another major version.
    OtherVersion(BackupId, u32),
    /// The server's timeline left that of the backup before its end.
    OtherTimeline(BackupId, u32),
    /// The server is behind it.
    Ahead(BackupId, Lsn),
    /// Its record lacks something.
    Unknown(BackupId, &'static str),
    /// It has no manifest, or no list of its parts.
    NoManifest(BackupId),
    /// Nothing tells which blocks changed.
    NoWay(String),
    /// An interrupted backup goes on, and that was a full one.
    Resumed,
}

impl fmt::Display for NoParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("there is no complete backup that it could build on"),
            Self::OtherSystem(id) => write!(f, "backup {id} is of another database system"),
            Self::OtherVersion(id, version) => write!(f, "backup {id} is of PostgreSQL {version}"),
            Self::OtherTimeline(id, timeline) => write!(
                f,
                "backup {id} ended on timeline {timeline} after the server's own timeline had branched off"
            ),
            Self::Ahead(id, end) => {
                write!(f, "the server has not yet replayed to {end}, the end of backup {id}")
            }
            Self::Unknown(id, what) => write!(f, "the record of backup {id} has no {what}"),
            Self::NoManifest(id) => write!(f, "backup {id} has no list of its files"),
            Self::NoWay(why) => f.write_str(why),
            Self::Resumed => f.write_str("it goes on from an interrupted full backup"),
        }
    }
}

/// Chooses the newest complete full backup for a differential one, the newest restorable backup of any type for an
/// incremental one. Older ones are taken when newer ones do not fit: the server was recovered to an earlier point, say.
pub fn choose_parent(
    kind: BackupType,
    inventory: &Inventory,
    server: &Position,
    history: &TimelineHistory,
) -> Result<Parent, NoParent> {
    let mut refused = None;
    let candidates = inventory
        .restorable()
        .rev()
        .filter(|(member, _)| kind == BackupType::Incremental || member.kind == BackupType::Full);
    for (member, info) in candidates {
        match judge(member, info, server, history) {
            Ok(parent) => return Ok(parent),
            Err(why) => {
                refused.get_or_insert(why);
            }
        }
    }
    Err(refused.unwrap_or(NoParent::None))
}

fn judge(
    member: &Member,
    info: &BackupInfo,
    server: &Position,
    history: &TimelineHistory,
) -> Result<Parent, NoParent> {
    let id = || member.id.clone();
    let unknown = |what| NoParent::Unknown(id(), what);
    let version = info.version.ok_or_else(|| unknown("version"))?;
    let begin = info.begin_xlog.ok_or_else(|| unknown("begin_xlog"))?;
    let begin_time = info.begin_time.ok_or_else(|| unknown("begin_time"))?.to_utc();
    let end = info.end_xlog.ok_or_else(|| unknown("end_xlog"))?;
    let timeline = info.timeline.ok_or_else(|| unknown("timeline"))?;
    if info.systemid.as_deref().ok_or_else(|| unknown("systemid"))? != server.system_id.to_string() {
        return Err(NoParent::OtherSystem(id()));
    }
    if version / 10_000 != server.major {
        return Err(NoParent::OtherVersion(id(), version / 10_000));
    }
    if !history.contains(timeline, end) {
        return Err(NoParent::OtherTimeline(id(), timeline));
    }
    // What was copied into the parent may be as new as its end, so the server must have that too.
    if begin > server.begin || end > server.reached {
        return Err(NoParent::Ahead(id(), end));
    }
    let mut chain = member.ancestors().to_vec();
    chain.push(id());
    let checksums = info.data_checksums.as_deref() == Some("on");
    Ok(Parent { id: id(), kind: member.kind, begin, begin_time, end, timeline, checksums, chain })
}

#[cfg(test)]
mod tests {
    use super::*;
    use barman_cloud::timeline::HistoryEntry;
    use barman_cloud::{Chain, SegmentSize};
    use chrono::TimeZone;
    use rstest::rstest;

    const SYSTEM: u64 = 77;

    fn id(hour: u32) -> BackupId {
        format!("20261121T{hour:02}0000").parse().expect("an id")
    }

    /// A complete backup on timeline 1 that began at `hour` × 16 MiB and took half of that.
    fn member(hour: u32, kind: BackupType, ancestors: &[u32]) -> Member {
        let at = Utc.with_ymd_and_hms(2026, 11, 21, hour, 0, 0).single().expect("a time").fixed_offset();
        let begin = u64::from(hour) << 24;
        let mut info = BackupInfo::started(1, Lsn(begin), SegmentSize::DEFAULT, at);
        info.systemid = Some(SYSTEM.to_string());
        info.version = Some(170_002);
        info.data_checksums = Some("on".into());
        info.finish(1, Lsn(begin + (1 << 23)), SegmentSize::DEFAULT, at);
        let chain = (kind != BackupType::Full).then(|| {
            let ancestors = ancestors.iter().map(|hour| id(*hour)).collect();
            Ok(Chain { kind, ancestors, since_lsn: Lsn(begin), found_by: "page-lsn".into() })
        });
        Member { id: id(hour), kind, info: Ok(info), chain, keep: None }
    }

    fn inventory() -> Inventory {
        let members = vec![
            member(1, BackupType::Full, &[]),
            member(2, BackupType::Incremental, &[1]),
            member(3, BackupType::Full, &[]),
            member(4, BackupType::Differential, &[3]),
            member(5, BackupType::Incremental, &[3, 4]),
        ];
        Inventory { members, orphans: Vec::new() }
    }

    fn server(hour: u64) -> Position {
        Position { system_id: SYSTEM, major: 17, begin: Lsn(hour << 24), reached: Lsn(hour << 24) }
    }

    fn choose(kind: BackupType, inventory: &Inventory, server: &Position) -> Result<Vec<BackupId>, NoParent> {
        choose_parent(kind, inventory, server, &TimelineHistory::root(1)).map(|parent| parent.chain)
    }

    /// S0.2: a differential builds on the last full backup, an incremental on the last of any type.
    #[test]
    fn the_newest_of_the_right_type() {
        let inventory = inventory();
        assert_eq!(choose(BackupType::Differential, &inventory, &server(9)), Ok(vec![id(3)]));
        assert_eq!(choose(BackupType::Incremental, &inventory, &server(9)), Ok(vec![id(3), id(4), id(5)]));
        let parent =
            choose_parent(BackupType::Incremental, &inventory, &server(9), &TimelineHistory::root(1));
        let parent = parent.expect("a parent");
        assert_eq!((parent.begin, parent.end, parent.timeline), (Lsn(5 << 24), Lsn(11 << 23), 1));
        assert_eq!(choose(BackupType::Incremental, &Inventory::default(), &server(9)), Err(NoParent::None));
    }

    #[test]
    fn what_builds_on_a_lost_backup_is_no_parent() {
        let mut inventory = inventory();
        let lost = inventory.members.remove(3);
        assert_eq!(choose(BackupType::Incremental, &inventory, &server(9)), Ok(vec![id(3)]));
        inventory.members.insert(3, Member { info: Err(barman_cloud::Error::corrupt("x")), ..lost });
        assert_eq!(choose(BackupType::Incremental, &inventory, &server(9)), Ok(vec![id(3)]));
    }

    #[test]
    fn a_server_that_went_back_builds_on_what_it_still_has() {
        // Recovered to a point within backup 5, and on timeline 2 since.
        let entry = HistoryEntry { parent: 1, switch: Lsn((5 << 24) + 10), reason: String::new() };
        let history = TimelineHistory::new(2, vec![entry]).expect("a history");
        let chosen = choose_parent(BackupType::Incremental, &inventory(), &server(9), &history);
        assert_eq!(chosen.expect("a parent").id, id(4));
        let early = HistoryEntry { parent: 1, switch: Lsn(10), reason: String::new() };
        let history = TimelineHistory::new(2, vec![early]).expect("a history");
        let chosen = choose_parent(BackupType::Incremental, &inventory(), &server(9), &history);
        assert_eq!(chosen, Err(NoParent::OtherTimeline(id(5), 1)), "said of the newest");
    }

    #[test]
    fn an_idle_standby_may_begin_before_the_end_of_the_parent() {
        let mut standby = server(5);
        assert_eq!(choose(BackupType::Incremental, &inventory(), &standby), Ok(vec![id(3), id(4)]));
        standby.reached = Lsn(11 << 23);
        assert_eq!(choose(BackupType::Incremental, &inventory(), &standby), Ok(vec![id(3), id(4), id(5)]));
        let behind = server(0);
        let ahead = NoParent::Ahead(id(5), Lsn(11 << 23));
        assert_eq!(choose(BackupType::Incremental, &inventory(), &behind), Err(ahead));
    }

    #[rstest]
    #[case::system(Position { system_id: 78, ..server(9) }, NoParent::OtherSystem(id(5)))]
    #[case::version(Position { major: 18, ..server(9) }, NoParent::OtherVersion(id(5), 17))]
    fn strangers(#[case] server: Position, #[case] expected: NoParent) {
        assert!(!expected.to_string().is_empty());
        assert_eq!(choose(BackupType::Incremental, &inventory(), &server), Err(expected));
    }
}
