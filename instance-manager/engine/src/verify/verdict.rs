//! What is said of each backup in the end: pure.

use super::VerifyChoice;
use super::archive::Walked;
use super::finding::{Code, Finding};
use super::report::{Verdict, VerifiedBackup};
use barman_cloud::Repository;
use barman_cloud::backup_info::BackupStatus;
use barman_cloud::catalog::{Inventory, Member};
use std::collections::BTreeMap;

/// A backup of which only the record was read. One that never was complete is a finding only when it was asked for.
pub fn by_record(full: &Repository, member: &Member, choice: &VerifyChoice) -> VerifiedBackup {
    let mut backup = VerifiedBackup {
        id: member.id.to_string(),
        label: member.label(),
        kind: member.kind,
        verdict: Verdict::Restorable,
        ..VerifiedBackup::default()
    };
    let repository = full.of(member);
    let (layout, store) = (repository.layout(), repository.store());
    let finding = match (&member.info, &member.chain) {
        (Err(error), _) => {
            let problem = barman_cloud::error::report(error, None);
            Finding::new(Code::RecordDamaged, store.url_of(&layout.backup_info(&member.id)), problem)
        }
        (Ok(_), Some(Err(error))) => {
            let problem = barman_cloud::error::report(error, None);
            Finding::new(Code::ChainDamaged, store.url_of(&layout.chain(&member.id)), problem)
        }
        // Whoever writes a record writes its status.
        (Ok(info), _) if info.status == BackupStatus::Empty => {
            let problem = "it has no status: it was cut off";
            Finding::new(Code::RecordDamaged, store.url_of(&layout.backup_info(&member.id)), problem)
        }
        (Ok(info), _) if !info.is_done() => {
            backup.verdict = Verdict::Incomplete;
            if *choice == VerifyChoice::All {
                return backup;
            }
            let problem = format!("its status is {}", info.status);
            Finding::new(Code::NotComplete, store.url_of(&layout.backup_info(&member.id)), problem)
        }
        _ => return backup,
    };
    if backup.verdict == Verdict::Restorable {
        backup.verdict = Verdict::Damaged;
    }
    backup.findings.push(finding);
    backup
}

/// Brings chains and WAL into the verdicts. A descendant needs the objects of its ancestors, not their WAL.
pub fn conclude(inventory: &Inventory, chosen: &[&Member], backups: &mut [VerifiedBackup], walked: &Walked) {
    let objects: BTreeMap<String, Verdict> = backups
        .iter()
        .map(|backup| {
            let unread = backup.findings.iter().filter(|finding| finding.is_error());
            let silent = unread.clone().count() > 0 && unread.clone().all(|f| f.code == Code::NotRead);
            (backup.id.clone(), if silent { Verdict::Unknown } else { backup.verdict })
        })
        .collect();
    for (member, backup) in chosen.iter().zip(backups) {
        backup.verdict = objects.get(&backup.id).copied().unwrap_or_default();
        if !matches!(backup.verdict, Verdict::Restorable | Verdict::Unknown) {
            continue;
        }
        for ancestor in member.ancestors() {
            let label = inventory.get(ancestor).map_or_else(|| ancestor.to_string(), Member::label);
            let (code, problem) = match objects.get(ancestor.as_str()) {
                Some(Verdict::Restorable) => continue,
                Some(Verdict::Unknown) => {
                    backup.verdict = Verdict::Unknown;
                    continue;
                }
                Some(Verdict::Damaged) => {
                    (Code::AncestorDamaged, "it is damaged, and this backup builds on it")
                }
                _ => (Code::AncestorMissing, "it is not there or not complete, and this backup builds on it"),
            };
            backup.findings.push(Finding::new(code, label, problem));
            backup.verdict = Verdict::Damaged;
        }
        if walked.broken.contains(&backup.label) {
            backup.verdict = Verdict::Damaged;
        } else if walked.unknown.contains(&backup.label) && backup.verdict == Verdict::Restorable {
            backup.verdict = Verdict::Unknown;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::report::VerifiedArchive;
    use barman_cloud::chain::{BackupType, Chain};
    use barman_cloud::{BackupInfo, Lsn, SegmentSize};
    use std::collections::BTreeSet;

    fn member(id: &str, ancestors: &[&str]) -> Member {
        let at = chrono::DateTime::UNIX_EPOCH.fixed_offset();
        let mut info = BackupInfo::started(1, Lsn(0x200_0028), SegmentSize::DEFAULT, at);
        info.finish(1, Lsn(0x200_0138), SegmentSize::DEFAULT, at);
        let chain = (!ancestors.is_empty()).then(|| {
            Ok(Chain {
                kind: BackupType::Incremental,
                ancestors: ancestors.iter().map(|id| id.parse().expect("an id")).collect(),
                since_lsn: Lsn(1),
                found_by: "page-lsn".to_owned(),
            })
        });
        let kind = if chain.is_some() { BackupType::Incremental } else { BackupType::Full };
        Member { id: id.parse().expect("an id"), kind, info: Ok(info), chain, keep: None }
    }

    const F: &str = "20261121T010000";
    const A: &str = "20261121T020000";
    const B: &str = "20261121T030000";

    fn judged(first: impl Fn(&mut Vec<VerifiedBackup>), broken: &[&str]) -> Vec<(Verdict, Vec<Code>)> {
        let members = vec![member(F, &[]), member(A, &[F]), member(B, &[F, A])];
        let inventory = Inventory { members, orphans: Vec::new() };
        let chosen: Vec<&Member> = inventory.members.iter().collect();
        let mut backups: Vec<VerifiedBackup> = chosen
            .iter()
            .map(|member| VerifiedBackup {
                id: member.id.to_string(),
                label: member.label(),
                verdict: Verdict::Restorable,
                ..VerifiedBackup::default()
            })
            .collect();
        first(&mut backups);
        let walked = Walked {
            report: VerifiedArchive::default(),
            broken: broken.iter().map(|label| (*label).to_owned()).collect(),
            unknown: BTreeSet::new(),
        };
        conclude(&inventory, &chosen, &mut backups, &walked);
        let codes = |backup: &VerifiedBackup| backup.findings.iter().map(|finding| finding.code).collect();
        backups.iter().map(|backup| (backup.verdict, codes(backup))).collect()
    }

    /// S0.3: what builds on a damaged backup is damaged, what it builds on is not.
    #[test]
    fn damage_goes_up_the_chain_and_not_down() {
        let damage = |backups: &mut Vec<VerifiedBackup>| {
            backups[1].verdict = Verdict::Damaged;
            backups[1].findings.push(Finding::new(Code::PartMissing, "x", "y"));
        };
        let expected = [
            (Verdict::Restorable, vec![]),
            (Verdict::Damaged, vec![Code::PartMissing]),
            (Verdict::Damaged, vec![Code::AncestorDamaged]),
        ];
        assert_eq!(judged(damage, &[]), expected);
    }

    #[test]
    fn wal_that_an_ancestor_lacks_is_not_missed_by_its_descendants() {
        let label = "20261121-010000F_20261121-020000I";
        let verdicts: Vec<Verdict> =
            judged(|_| {}, &[label]).into_iter().map(|(verdict, _)| verdict).collect();
        assert_eq!(verdicts, [Verdict::Restorable, Verdict::Damaged, Verdict::Restorable]);
    }

    #[test]
    fn what_could_not_be_read_is_not_called_damaged() {
        let silence = |backups: &mut Vec<VerifiedBackup>| {
            backups[0].verdict = Verdict::Damaged;
            backups[0].findings.push(Finding::new(Code::NotRead, "x", "y"));
        };
        let verdicts: Vec<Verdict> = judged(silence, &[]).into_iter().map(|(verdict, _)| verdict).collect();
        assert_eq!(verdicts, [Verdict::Unknown; 3]);
    }
}
