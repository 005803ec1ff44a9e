//! The objects of one backup against its record, its list of parts and its manifest.

use super::finding::{Code, Finding, Findings};
use super::part::{self, PartContent};
use super::progress::VerifyProgress;
use super::report::{Verdict, VerifiedBackup};
use crate::backup::commit::{MAX_MANIFEST, PartList};
use crate::error::{Error, ErrorKind, Result};
use crate::restore::check::Checker;
use barman_cloud::catalog::{BackupObjects, Member, PartObject};
use barman_cloud::manifest::Manifest;
use barman_cloud::{Archive, BackupInfo, ErrorKind as StoreErrorKind, Repository};
use futures::{StreamExt, TryStreamExt};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// What all backups of one verification share.
pub struct Looking {
    /// Read parts, and not only their names and sizes.
    pub data: bool,
    /// Parts read at a time.
    pub jobs: usize,
    pub progress: Arc<VerifyProgress>,
    pub cancel: CancellationToken,
}

/// Looks at the objects of a complete backup. Its chain and its WAL are looked at elsewhere.
///
/// # Errors
/// Only when it was cancelled, or the store does not answer.
pub async fn verify(
    looking: &Looking,
    full: &Repository,
    member: &Member,
    info: &BackupInfo,
) -> Result<VerifiedBackup> {
    let repository = full.of(member);
    let mut report = VerifiedBackup {
        id: member.id.to_string(),
        label: member.label(),
        kind: member.kind,
        verdict: Verdict::Restorable,
        ..VerifiedBackup::default()
    };
    let mut findings = Findings::default();
    let objects = repository.backup_objects(&member.id).await?;
    let list = part_list(&repository, member, &mut findings).await?;
    compare(&repository, member, info, &objects, list.as_ref(), &mut findings);
    let manifest = manifest(&repository, member, info, &mut findings).await?;
    if list.is_none() && manifest.is_some() && !findings.has(Code::PartListDamaged) {
        let url = repository.store().url_of(&repository.layout().parts(&member.id));
        let problem = "it is not there, so that a lost last part could be known by the manifest only";
        findings.add(Finding::new(Code::PartListMissing, url, problem));
    }
    report.parts = objects.parts.len();
    if looking.data {
        read_parts(looking, &repository, member, info, &objects, manifest, &mut report, &mut findings)
            .await?;
    }
    if findings.any_error() && !still_there(full, member).await? {
        report.verdict = Verdict::Removed;
        return Ok(report);
    }
    if findings.any_error() {
        report.verdict = Verdict::Damaged;
    }
    (report.findings, report.more_findings) = findings.into_parts();
    Ok(report)
}

/// A backup that retention deletes meanwhile loses its objects one by one, its record first.
async fn still_there(full: &Repository, member: &Member) -> Result<bool> {
    match full.of(member).backup_info(&member.id).await {
        Ok(info) => Ok(info.is_done()),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) if error.kind() == StoreErrorKind::Corrupt => Ok(true),
        Err(error) => Err(error.into()),
    }
}

async fn part_list(
    repository: &Repository,
    member: &Member,
    findings: &mut Findings,
) -> Result<Option<PartList>> {
    match PartList::load(repository, &member.id).await {
        Ok(list) => Ok(list),
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            let url = repository.store().url_of(&repository.layout().parts(&member.id));
            findings.add(Finding::new(Code::PartListDamaged, url, error.to_string()));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Names and sizes: against the list where there is one, else by the names alone.
fn compare(
    repository: &Repository,
    member: &Member,
    info: &BackupInfo,
    objects: &BackupObjects,
    list: Option<&PartList>,
    findings: &mut Findings,
) {
    let dir = repository.layout().backup_dir(&member.id);
    let url = |name: &str| repository.store().url_of(&format!("{dir}/{name}"));
    let stored: BTreeMap<String, u64> =
        objects.parts.iter().map(|part| (part.name.to_string(), part.object.size)).collect();
    if let Some(list) = list {
        for (name, size) in &list.parts {
            match stored.get(name) {
                None => findings.add(Finding::new(Code::PartMissing, url(name), "it is not there")),
                Some(found) if found != size => {
                    let problem = format!("{found} bytes are there, {size} were written");
                    findings.add(Finding::new(Code::PartSize, url(name), problem));
                }
                Some(_) => {}
            }
        }
        for name in stored.keys().filter(|name| !list.parts.contains_key(*name)) {
            findings.add(Finding::new(Code::PartUnknown, url(name), "parts.json does not name it"));
        }
    }
    let known = findings.has(Code::PartMissing) || findings.has(Code::PartUnknown);
    if let Err(error) = objects.complete(&member.id, info)
        && !known
    {
        findings.add(Finding::new(Code::PartMissing, repository.store().url_of(&dir), error.to_string()));
    }
}

async fn manifest(
    repository: &Repository,
    member: &Member,
    info: &BackupInfo,
    findings: &mut Findings,
) -> Result<Option<Manifest>> {
    let key = repository.layout().manifest(&member.id);
    let url = repository.store().url_of(&key);
    let bytes = match repository.store().get(&key, MAX_MANIFEST).await {
        Ok(bytes) => bytes,
        Err(error) if error.is_not_found() => {
            let problem = "it is not there: only the form of the parts can be checked, not the files in them";
            findings.add(Finding::new(Code::ManifestMissing, url, problem));
            return Ok(None);
        }
        Err(error) if error.kind() == StoreErrorKind::Corrupt => {
            findings.add(Finding::new(Code::ManifestDamaged, url, error.to_string()));
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    let manifest = match Manifest::parse(&bytes) {
        Ok(manifest) => manifest,
        Err(error) => {
            findings.add(Finding::new(Code::ManifestDamaged, url, barman_cloud::error::report(&error, None)));
            return Ok(None);
        }
    };
    if let Some(problem) = foreign(&manifest, info) {
        findings.add(Finding::new(Code::ManifestForeign, url, problem));
    }
    Ok(Some(manifest))
}

/// What of the manifest cannot be of this backup.
fn foreign(manifest: &Manifest, info: &BackupInfo) -> Option<String> {
    let ours = info.systemid.as_deref().and_then(|id| id.parse::<u64>().ok());
    if let (Some(found), Some(ours)) = (manifest.system_identifier, ours)
        && found != ours
    {
        return Some(format!("it is of the system {found}, the backup of {ours}"));
    }
    let (timeline, begin, end) = (info.timeline?, info.begin_xlog?, info.end_xlog?);
    let own = manifest.wal_ranges.iter().filter(|range| range.timeline == timeline);
    let fits = own.clone().any(|range| range.start <= begin && begin <= range.end && range.end <= end);
    let ranges: Vec<String> = own.map(ToString::to_string).collect();
    (!fits).then(|| {
        format!(
            "it names WAL {}, the backup went from {begin} to {end} on timeline {timeline}",
            ranges.join(", ")
        )
    })
}

#[expect(clippy::too_many_arguments, reason = "the parts of one step, used nowhere else")]
async fn read_parts(
    looking: &Looking,
    repository: &Repository,
    member: &Member,
    info: &BackupInfo,
    objects: &BackupObjects,
    manifest: Option<Manifest>,
    report: &mut VerifiedBackup,
    findings: &mut Findings,
) -> Result<()> {
    let checker = Arc::new(Checker::new(manifest));
    looking.progress.begin(format!("backup {}", member.label()));
    looking.progress.expect(objects.stored_bytes());
    // The largest first, so that none is left alone at the end.
    let mut parts = objects.parts.clone();
    parts.sort_by_key(|part| std::cmp::Reverse(part.object.size));
    // Made beforehand: a closure that borrows keeps callers from being spawned.
    let reads: Vec<_> = parts.into_iter().map(|part| one(looking, repository, part, &checker)).collect();
    let contents: Vec<PartContent> =
        futures::stream::iter(reads).buffer_unordered(looking.jobs.max(1)).try_collect().await?;
    report.bytes = objects.stored_bytes();
    let mut label = None;
    for content in contents {
        report.files += content.files;
        label = label.or(content.label);
        findings.extend(content.findings);
    }
    let dir = repository.store().url_of(&repository.layout().backup_dir(&member.id));
    let incomplete = [Code::PartMissing, Code::PartSize, Code::PartDamaged, Code::FileDiffers, Code::NotRead];
    let explained = incomplete.into_iter().any(|code| findings.has(code));
    // Files of a part that cannot be read are missed with it.
    if !explained && let Err(error) = checker.finish() {
        findings.add(Finding::new(Code::FileMissing, dir.clone(), error.to_string()));
    }
    match label {
        None if !explained => {
            let problem = "no part holds backup_label: the last part of the data archive is missing";
            findings.add(Finding::new(Code::LabelMissing, dir, problem));
        }
        Some(label) if !names_begin(&label, info) => {
            let begin = info.begin_xlog.unwrap_or_default();
            let problem = format!("backup_label does not begin at {begin}, as backup.info says");
            findings.add(Finding::new(Code::LabelForeign, dir, problem));
        }
        _ => {}
    }
    Ok(())
}

/// A part; one that cannot be read now is a finding, and the others are still looked at.
async fn one(
    looking: &Looking,
    repository: &Repository,
    part: PartObject,
    checker: &Arc<Checker>,
) -> Result<PartContent> {
    let prefix = match part.name.archive {
        Archive::Data => PathBuf::new(),
        Archive::Tablespace(oid) => PathBuf::from(format!("pg_tblspc/{oid}")),
    };
    let read = part::read(repository, &part, prefix, checker, &looking.progress, &looking.cancel).await;
    match read {
        Err(error) if error.kind() != ErrorKind::Cancelled => {
            let mut content = PartContent::default();
            content.findings.add(unread(repository.store().url_of(&part.object.key), &error));
            Ok(content)
        }
        other => other,
    }
}

/// An object that was listed and is gone now is lost; anything else is only not known.
fn unread(url: String, error: &Error) -> Finding {
    match error.kind() {
        ErrorKind::Store(StoreErrorKind::NotFound) => Finding::new(Code::PartMissing, url, "it is not there"),
        _ => Finding::new(Code::NotRead, url, barman_cloud::error::report(error, None)),
    }
}

/// Whether a label says that the backup began where the record says.
fn names_begin(label: &str, info: &BackupInfo) -> bool {
    let Some(begin) = info.begin_xlog else { return true };
    let line = label.lines().find_map(|line| line.strip_prefix("START WAL LOCATION: "));
    let lsn = line.and_then(|rest| rest.split_whitespace().next());
    lsn.and_then(|lsn| lsn.parse().ok()) == Some(begin)
}

#[cfg(test)]
mod tests {
    use super::*;
    use barman_cloud::manifest::WalRange;
    use barman_cloud::{Lsn, SegmentSize};

    fn info() -> BackupInfo {
        let at = chrono::DateTime::UNIX_EPOCH.fixed_offset();
        let mut info = BackupInfo::started(1, Lsn(0x200_0028), SegmentSize::DEFAULT, at);
        info.finish(1, Lsn(0x200_0138), SegmentSize::DEFAULT, at);
        info.systemid = Some("7".to_owned());
        info
    }

    fn manifest(system: Option<u64>, start: u64, end: u64) -> Manifest {
        let range = WalRange { timeline: 1, start: Lsn(start), end: Lsn(end) };
        Manifest { version: 2, system_identifier: system, files: Vec::new(), wal_ranges: vec![range] }
    }

    #[test]
    fn a_manifest_of_another_backup_is_known_by_system_and_wal() {
        assert_eq!(foreign(&manifest(Some(7), 0x200_0028, 0x200_0138), &info()), None);
        assert_eq!(foreign(&manifest(None, 0x200_0028, 0x200_0138), &info()), None);
        let text = foreign(&manifest(Some(8), 0x200_0028, 0x200_0138), &info()).expect("foreign");
        assert!(text.contains("system 8"), "{text}");
        let text = foreign(&manifest(Some(7), 0x500_0028, 0x500_0138), &info()).expect("foreign");
        assert!(text.contains("0/5000028") && text.contains("0/2000028"), "{text}");
    }

    #[test]
    fn a_label_names_where_the_backup_began() {
        assert!(names_begin("START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\n", &info()));
        assert!(!names_begin("START WAL LOCATION: 0/3000028 (file 000000010000000000000003)\n", &info()));
        assert!(!names_begin("", &info()));
    }
}
