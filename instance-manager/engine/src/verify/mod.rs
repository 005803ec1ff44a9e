//! Verification: what is in a repository is read and compared with what was put there.
//!
//! Every object of a backup against its record, `parts.json` and `backup_manifest`; every file by size and checksum;
//! the WAL that it needs, and the WAL from there to the end of the archive; and every backup that it builds on.
//! Nothing is written, neither to the disk nor to the store. Memory is one manifest and a few buffers for each job.

mod archive;
mod finding;
mod objects;
mod part;
mod progress;
mod report;
mod segment;
mod text;
mod verdict;
mod way;

pub use finding::{Code, Finding, Severity};
pub use progress::{VerifyCounts, VerifyProgress};
pub use report::{Verdict, VerifiedArchive, VerifiedBackup, VerifyReport, Way};
pub use text::verify_text;

use crate::error::{Error, ErrorKind, Result};
use crate::restore::TargetTimeline;
use crate::restore::path;
use barman_cloud::catalog::{Inventory, Member};
use barman_cloud::report::find;
use barman_cloud::{BackupInfo, Repository, Segment, SegmentSize, TimelineHistory};
use finding::Findings;
use objects::Looking;
use segment::Archive;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use way::Need;

/// What to verify.
#[derive(Debug, Clone)]
pub struct VerifyRequest {
    /// The repository of full backups.
    pub repository: Repository,
    /// Its name, for the report.
    pub name: String,
    /// Which backups. What they build on is verified with them.
    pub choice: VerifyChoice,
    /// Read parts, and not only their names and sizes.
    pub data: bool,
    /// WAL alone: backups only say where it begins.
    pub wal_only: bool,
    /// Parts and segments read at a time.
    pub jobs: usize,
}

/// Which backups to verify.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VerifyChoice {
    /// All.
    All,
    /// The one with this id or label; `latest` is the newest that is complete.
    Named(String),
}

/// Verifies. Dropping the future ends everything that it started.
///
/// # Errors
/// When the repository cannot be listed, or the backup that is named is not there. Damage is no error but a finding.
pub async fn run(request: VerifyRequest, progress: Arc<VerifyProgress>) -> Result<VerifyReport> {
    let cancel = CancellationToken::new();
    let _end = cancel.clone().drop_guard();
    let repository = &request.repository;
    let inventory = repository.inventory().await?;
    let chosen = choose(&request, &inventory)?;
    let looking = Looking { data: request.data && !request.wal_only, jobs: request.jobs, progress, cancel };
    let mut backups = Vec::new();
    for member in &chosen {
        let looked = match member.done() {
            Some(info) if !request.wal_only => objects::verify(&looking, repository, member, info).await?,
            _ => verdict::by_record(repository, member, &request.choice),
        };
        backups.push(looked);
    }
    let mut findings = Findings::default();
    let histories = archive::histories(repository, &mut findings).await?;
    let system_id = system_id(repository, &inventory).await?;
    let archive = Archive { repository, system_id, histories: &histories };
    let courses = way::courses(needs(&chosen, &histories, &mut backups));
    let walked = archive::walk(&looking, &archive, &courses, findings).await?;
    verdict::conclude(&inventory, &chosen, &mut backups, &walked);
    let mut report = VerifyReport {
        repository: request.name,
        location: request.repository.url(),
        data_read: looking.data,
        restorable: restorable(&backups),
        archive: walked.report,
        backups,
        ok: false,
    };
    let wrong = report.findings().any(Finding::is_error);
    report.ok = !wrong;
    Ok(report)
}

fn restorable(backups: &[VerifiedBackup]) -> Vec<String> {
    let whole = backups.iter().filter(|backup| backup.verdict == Verdict::Restorable);
    whole.map(|backup| backup.label.clone()).collect()
}

/// The members asked for and all that they build on, oldest first.
fn choose<'a>(request: &VerifyRequest, inventory: &'a Inventory) -> Result<Vec<&'a Member>> {
    let missing = |text: String| {
        Error::new(ErrorKind::Missing, text).with_remedy("choose one of the backups that `list` shows")
    };
    let url = request.repository.url();
    match &request.choice {
        VerifyChoice::All if inventory.members.is_empty() => {
            Err(missing(format!("{url} holds no backup")).with_remedy("take a backup first"))
        }
        VerifyChoice::All => Ok(inventory.members.iter().collect()),
        VerifyChoice::Named(name) => {
            let named = find(inventory, name)
                .ok_or_else(|| missing(format!("backup {name} is not in the repository {url}")))?;
            let wanted: BTreeSet<_> = named.ancestors().iter().chain([&named.id]).collect();
            Ok(inventory.members.iter().filter(|member| wanted.contains(&member.id)).collect())
        }
    }
}

/// Whose archive it is: by its own record, else by the newest backup.
async fn system_id(repository: &Repository, inventory: &Inventory) -> Result<Option<u64>> {
    let claimed = match repository.lineage().await {
        Ok(lineage) => lineage.map(|lineage| lineage.system_identifier),
        Err(error) if error.kind() == barman_cloud::ErrorKind::Corrupt => None,
        Err(error) => return Err(error.into()),
    };
    let told = || inventory.members.iter().rev().find_map(|member| member.done()?.systemid.clone());
    Ok(claimed.or_else(told).and_then(|id| id.parse().ok()))
}

/// Where the WAL of each complete backup begins and which history a recovery from it follows. Those whose record does
/// not say it get a finding.
fn needs(
    chosen: &[&Member],
    histories: &BTreeMap<u32, TimelineHistory>,
    backups: &mut [VerifiedBackup],
) -> Vec<(TimelineHistory, Segment, SegmentSize, Need)> {
    let mut needs = Vec::new();
    for (member, backup) in chosen.iter().zip(backups) {
        let Some(info) = member.done().filter(|_| backup.verdict != Verdict::Removed) else { continue };
        match need(member, info, histories) {
            Ok(need) => needs.push(need),
            Err(error) => {
                let finding = Finding::new(Code::RecordDamaged, "backup.info", error.to_string());
                backup.findings.push(finding);
                backup.verdict = Verdict::Damaged;
            }
        }
    }
    needs
}

fn need(
    member: &Member,
    info: &BackupInfo,
    histories: &BTreeMap<u32, TimelineHistory>,
) -> Result<(TimelineHistory, Segment, SegmentSize, Need)> {
    let lacks = |what: &str| Error::new(ErrorKind::Corrupt, format!("backup.info has no {what}"));
    let (begin, end) = info.needed_wal()?;
    let size = info.segment_size()?;
    let stop = info.end_xlog.ok_or_else(|| lacks("end_xlog"))?;
    let timeline = info.timeline.ok_or_else(|| lacks("timeline"))?;
    let history = path::follow(TargetTimeline::Latest, timeline, stop, histories)?;
    let numbers = (begin.number(size), end.number(size));
    if begin.timeline != timeline || numbers.1 < numbers.0 {
        let text = format!("backup.info names WAL {begin} to {end} on timeline {timeline}");
        return Err(Error::new(ErrorKind::Corrupt, text));
    }
    Ok((history, begin, size, Need { label: member.label(), numbers }))
}
