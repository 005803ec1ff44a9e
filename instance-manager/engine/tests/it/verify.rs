//! Verification of what a real server's backup and archive left in the store.

use crate::postgres::Postgres;
use crate::site::{BUCKET, Site, restored};
use barman_cloud::chain::{BackupType, Chain};
use barman_cloud::{BackupId, Compression};
use howdah_engine::backup::PartSize;
use howdah_engine::verify::{
    Code, Verdict, VerifyChoice, VerifyProgress, VerifyReport, VerifyRequest, run, verify_text,
};
use howdah_engine::{BackupResult, ControlData, ErrorKind, RestoreRequest};
use howdah_s3::{Action, Operation, Rule};
use std::collections::BTreeSet;
use std::sync::Arc;

struct Ground {
    site: Site,
    result: BackupResult,
    /// Segments archived after the backup.
    later: Vec<String>,
    label: String,
    /// Identifier of the system.
    system: u64,
}

/// A backup in several parts, one of them of a tablespace, and WAL that goes on after it.
async fn ground(data: Compression) -> Ground {
    let site = Site::new().await;
    let primary = site.primary_with("v", 1, Compression::None, 3);
    let space = site.path().join("space");
    primary.user.make_dir(&space);
    primary.sql(&format!("CREATE TABLESPACE space LOCATION '{}'", space.display()));
    primary.sql("CREATE TABLE s TABLESPACE space AS SELECT g FROM generate_series(1, 1000) g");
    primary.sql("CREATE TABLE t AS SELECT g, md5(g::text) AS x FROM generate_series(1, 100000) g");
    let mut request = site.backup_request(&primary, "v");
    request.compression = data;
    request.part_size = PartSize { tar_bytes: Some(6 << 20), ..PartSize::default() };
    let result = site.backup(&primary, request).await.unwrap_or_else(|error| panic!("{}", error.report()));
    let later = write_on(&site, &primary, 5);
    let label = format!("{}F", result.backup_id.as_str().replace('T', "-"));
    let system = ControlData::read(&primary.data).expect("reads").system_id;
    Ground { site, result, later, label, system }
}

/// Closes segments and returns their names once they were archived.
fn write_on(site: &Site, primary: &Postgres, rounds: u32) -> Vec<String> {
    let names = (0..rounds)
        .map(|_| {
            primary.sql("INSERT INTO t VALUES (0, 'x')");
            primary.sql("SELECT pg_walfile_name(pg_switch_wal())")
        })
        .collect();
    site.wait_archived(primary);
    names
}

impl Ground {
    fn request(&self, choice: VerifyChoice) -> VerifyRequest {
        VerifyRequest {
            repository: self.site.repository("v"),
            name: "default".to_owned(),
            choice,
            data: true,
            wal_only: false,
            jobs: 3,
        }
    }

    async fn verify(&self) -> VerifyReport {
        verified(self.request(VerifyChoice::All)).await
    }

    fn part(&self, name: &str) -> String {
        format!("some/path/v/base/{}/{name}", self.result.backup_id)
    }

    fn side(&self, name: &str) -> String {
        format!("some/path/v/howdah/manifests/{}/{name}", self.result.backup_id)
    }

    fn wal(&self, name: &str) -> String {
        format!("some/path/v/wals/{}/{name}", &name[..16])
    }

    /// Verifies while an object is changed; `None` takes it away. Returns the codes found and what was said.
    async fn changed(&self, key: &str, change: impl FnOnce(Vec<u8>) -> Option<Vec<u8>>) -> Found {
        let body = self.site.s3.get(BUCKET, key).await.unwrap_or_else(|error| panic!("{key}: {error}"));
        match change(body.to_vec()) {
            Some(other) => drop(self.site.s3.put(BUCKET, key, other).await.expect("puts")),
            None => self.site.s3.delete(BUCKET, key).await.expect("deletes"),
        }
        let report = self.verify().await;
        self.site.s3.put(BUCKET, key, body).await.expect("puts back");
        let name = key.rsplit('/').next().unwrap_or(key).trim_end_matches(".zst");
        let codes: BTreeSet<Code> = report.findings().map(|finding| finding.code).collect();
        let named = report.findings().any(|finding| {
            finding.object.contains(name)
                || finding.problem.contains(name)
                || finding.object.contains(&self.result.backup_id.to_string())
        });
        assert!(named, "{name} is not named in\n{}", verify_text(&report));
        assert!(report.findings().all(|finding| !finding.remedy.is_empty()));
        Found { codes, restorable: report.restorable == [self.label.clone()], code: report.exit_code() }
    }

    async fn without(&self, key: &str) -> Found {
        self.changed(key, |_| None).await
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Found {
    codes: BTreeSet<Code>,
    restorable: bool,
    code: u8,
}

fn lost(code: Code) -> Found {
    Found { codes: BTreeSet::from([code]), restorable: false, code: 1 }
}

async fn verified(request: VerifyRequest) -> VerifyReport {
    run(request, Arc::new(VerifyProgress::default()))
        .await
        .unwrap_or_else(|error| panic!("{}", error.report()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_repository_is_read_completely_and_nothing_is_written() {
    let ground = ground(Compression::Zstd).await;
    assert!(ground.result.parts.len() >= 4, "{:?}", ground.result.parts);
    ground.site.s3.clear_requests();
    let progress = Arc::new(VerifyProgress::default());
    let report = run(ground.request(VerifyChoice::All), Arc::clone(&progress)).await.expect("verified");
    assert!(report.ok, "{}", verify_text(&report));
    assert_eq!((report.restorable.as_slice(), report.exit_code()), (&[ground.label.clone()][..], 0));
    let backup = &report.backups[0];
    assert_eq!((backup.verdict, backup.parts), (Verdict::Restorable, ground.result.parts.len()));
    assert!(backup.files > 900, "{backup:?}");
    let way = &report.archive.ways[0];
    assert_eq!(way.first, ground.result.begin_wal.to_string());
    assert_eq!(Some(&way.last), ground.later.last());
    assert!(report.archive.segments >= 6, "{report:?}");
    let counts = progress.counts();
    assert_eq!((counts.bytes_done, counts.bytes_done), (backup.bytes, counts.bytes_total));
    assert_eq!(counts.segments, report.archive.segments);
    let reading = [Operation::GetObject, Operation::HeadObject, Operation::ListObjects];
    let other: Vec<_> =
        ground.site.s3.requests().into_iter().filter(|r| !reading.contains(&r.operation)).collect();
    assert!(other.is_empty(), "{other:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_damage_to_a_backup_is_found() {
    let ground = ground(Compression::Zstd).await;
    let parts = &ground.result.parts;
    // The last one too, which no gap in the names gives away.
    for part in [&parts[0], &parts[parts.len() - 1]] {
        assert_eq!(ground.without(&ground.part(&part.name)).await, lost(Code::PartMissing));
    }
    let part = ground.part(&parts[1].name);
    let cut = |body: Vec<u8>| Some(body[..body.len() / 2].to_vec());
    let found = ground.changed(&part, cut).await;
    assert_eq!(found.codes, BTreeSet::from([Code::PartSize, Code::PartDamaged]));
    let flip = |mut body: Vec<u8>| {
        let at = body.len() / 2;
        body[at] ^= 0x40;
        Some(body)
    };
    // The codec may notice at its end only, after a file came out wrong.
    let found = ground.changed(&part, flip).await;
    assert!(found.codes.contains(&Code::PartDamaged) && !found.restorable, "{found:?}");
    assert_eq!(ground.changed(&ground.part("backup.info"), cut).await, lost(Code::RecordDamaged));
    let manifest = ground.side("backup_manifest");
    assert_eq!(ground.changed(&manifest, flip).await, lost(Code::ManifestDamaged));
    let list = ground.side("parts.json");
    assert_eq!(ground.changed(&list, |_| Some(b"[]".to_vec())).await, lost(Code::PartListDamaged));
    let warned = |code| Found { codes: BTreeSet::from([code]), restorable: true, code: 0 };
    assert_eq!(ground.without(&manifest).await, warned(Code::ManifestMissing));
    assert_eq!(ground.without(&list).await, warned(Code::PartListMissing));
    ground.site.s3.put(BUCKET, &ground.part("data_0099.tar.zst"), "x").await.expect("puts");
    let codes: BTreeSet<Code> = ground.verify().await.findings().map(|finding| finding.code).collect();
    assert!(codes.contains(&Code::PartUnknown), "{codes:?}");
}

/// Without compression only the manifest knows that a byte of a file is another one.
#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_in_a_file_is_found() {
    let ground = ground(Compression::None).await;
    // md5('77'), a value of the table.
    let value = b"28dd2c7955ce926456240b2ff0100bde";
    let mut hit = None;
    for part in &ground.result.parts {
        let body = ground.site.s3.get(BUCKET, &ground.part(&part.name)).await.expect("a part");
        if let Some(at) = body.windows(value.len()).position(|window| window == value) {
            hit = Some((part.name.clone(), at));
        }
    }
    let (part, at) = hit.expect("the value is in a part");
    let key = ground.part(&part);
    let mut body = ground.site.s3.get(BUCKET, &key).await.expect("the part").to_vec();
    body[at] ^= 1;
    ground.site.s3.put(BUCKET, &key, body).await.expect("puts");
    let report = ground.verify().await;
    let finding = report.findings().next().expect("a finding");
    assert_eq!((finding.code, report.exit_code()), (Code::FileDiffers, 1), "{}", verify_text(&report));
    assert!(finding.object.starts_with("base/") && finding.problem.contains("checksum"), "{finding:?}");
    let mut request = ground.request(VerifyChoice::Named("latest".to_owned()));
    request.data = false;
    assert!(verified(request).await.ok, "names and sizes are right");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_damage_to_the_archive_is_found() {
    let ground = ground(Compression::Lz4).await;
    let begin = ground.wal(&ground.result.begin_wal.to_string());
    assert_eq!(ground.without(&begin).await, lost(Code::WalMissing));
    let cut = |body: Vec<u8>| Some(body[..body.len() - 8192].to_vec());
    assert_eq!(ground.changed(&begin, cut).await, lost(Code::WalDamaged));
    let system = ground.system + 1;
    let put = |at: usize, bytes: Vec<u8>| {
        move |mut body: Vec<u8>| {
            body[at..at + bytes.len()].copy_from_slice(&bytes);
            Some(body)
        }
    };
    assert_eq!(ground.changed(&begin, put(24, system.to_le_bytes().to_vec())).await, lost(Code::WalForeign));
    assert_eq!(ground.changed(&begin, put(8, vec![0; 8])).await, lost(Code::WalMisplaced));
    assert_eq!(ground.changed(&begin, put(4, vec![9, 0, 0, 0])).await, lost(Code::WalTimeline));
    // Nothing of that kind after the backup takes the backup away.
    let gap = ground.without(&ground.wal(&ground.later[1])).await;
    assert_eq!(gap, Found { codes: BTreeSet::from([Code::WalGap]), restorable: true, code: 1 });
    let report = ground.verify().await;
    assert!(report.ok, "everything is back:\n{}", verify_text(&report));

    // A damaged second object under a name is passed over by readers.
    let second = format!("{begin}.gz");
    ground.site.s3.put(BUCKET, &second, "no gzip").await.expect("puts");
    let report = ground.verify().await;
    let codes: Vec<Code> = report.findings().map(|finding| finding.code).collect();
    assert_eq!((codes.as_slice(), report.exit_code()), (&[Code::WalTwice][..], 0));
    ground.site.s3.delete(BUCKET, &second).await.expect("deletes");

    // A timeline that no recovery can enter, and a history that cannot be read.
    let body = ground.site.s3.get(BUCKET, &begin).await.expect("a segment");
    ground.site.s3.put(BUCKET, &ground.wal("000000050000000000000003"), body).await.expect("puts");
    let history = "some/path/v/wals/00000003.history";
    ground.site.s3.put(BUCKET, history, "1 what").await.expect("puts");
    let codes: BTreeSet<Code> = ground.verify().await.findings().map(|finding| finding.code).collect();
    assert_eq!(codes, BTreeSet::from([Code::HistoryMissing, Code::HistoryDamaged]));
}

/// S0.3: what builds on a damaged backup is named, and so is what remains.
#[tokio::test(flavor = "multi_thread")]
async fn a_chain_is_verified_with_every_ancestor() {
    let ground = ground(Compression::Lz4).await;
    let ids: Vec<BackupId> =
        ["20991121T010000", "20991121T020000"].iter().map(|id| id.parse().expect("an id")).collect();
    let full = ground.result.backup_id.clone();
    // Copies of the full backup as members of a chain: verification looks at objects, not at blocks.
    for (at, id) in ids.iter().enumerate() {
        for key in ground.site.keys().await {
            let moved = key
                .replace(&format!("/base/{full}/"), &format!("/howdah/incremental/{id}/"))
                .replace(&format!("/manifests/{full}/"), &format!("/manifests/{id}/"));
            if moved != key {
                let body = ground.site.s3.get(BUCKET, &key).await.expect("an object");
                ground.site.s3.put(BUCKET, &moved, body).await.expect("puts");
            }
        }
        let mut ancestors = vec![full.clone()];
        ancestors.extend_from_slice(&ids[..at]);
        let since_lsn = "0/1000028".parse().expect("a position");
        let chain =
            Chain { kind: BackupType::Incremental, ancestors, since_lsn, found_by: "page-lsn".to_owned() };
        ground.site.repository("v").increments().put_chain(id, &chain).await.expect("stored");
    }
    let report = ground.verify().await;
    assert!(report.ok && report.restorable.len() == 3, "{}", verify_text(&report));

    let middle = ids[0].clone();
    let part = ground.result.parts[0].name.clone();
    let key = format!("some/path/v/howdah/incremental/{middle}/{part}");
    ground.site.s3.delete(BUCKET, &key).await.expect("deletes");
    let last = verified(ground.request(VerifyChoice::Named(ids[1].to_string()))).await;
    let verdicts: Vec<Verdict> = last.backups.iter().map(|backup| backup.verdict).collect();
    assert_eq!(verdicts, [Verdict::Restorable, Verdict::Damaged, Verdict::Damaged]);
    assert_eq!(last.backups[2].findings[0].code, Code::AncestorDamaged);
    assert_eq!(last.restorable, std::slice::from_ref(&ground.label));

    let record = format!("some/path/v/howdah/incremental/{middle}/backup.info");
    ground.site.s3.delete(BUCKET, &record).await.expect("deletes");
    let last = verified(ground.request(VerifyChoice::Named(ids[1].to_string()))).await;
    let backup = last.backups.last().expect("the backup");
    assert_eq!(backup.findings[0].code, Code::AncestorMissing, "{}", verify_text(&last));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_not_called_damaged_and_what_is_not_there_is_told() {
    let ground = ground(Compression::Lz4).await;
    let part = &ground.result.parts[1].name;
    let rule = Rule::new(Action::access_denied()).operation(Operation::GetObject).key(&format!("*/{part}"));
    let rule = ground.site.s3.faults().add(rule);
    let report = ground.verify().await;
    ground.site.s3.faults().remove(rule);
    assert_eq!(
        (report.backups[0].verdict, report.exit_code()),
        (Verdict::Unknown, 2),
        "{}",
        verify_text(&report)
    );
    let request = ground.request(VerifyChoice::Named("20200101T000000".to_owned()));
    let error = run(request, Arc::new(VerifyProgress::default())).await.expect_err("not there");
    assert_eq!(error.kind(), ErrorKind::Missing);
    assert!(error.report().contains("20200101T000000"), "{}", error.report());
    let mut request = ground.request(VerifyChoice::All);
    request.wal_only = true;
    ground.site.s3.clear_requests();
    assert!(verified(request).await.ok);
    let parts = ground.site.s3.requests().into_iter().any(|r| r.key.contains(".tar"));
    assert!(!parts, "WAL alone was asked for");
}

/// S0.38: after a promotion it is still one archive, and the way leads over both timelines.
#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_crosses_timelines_is_followed() {
    let ground = ground(Compression::Lz4).await;
    let site = &ground.site;
    let data = site.path().join("second");
    let mut request = RestoreRequest::new(site.repository("v"), &data);
    request.tablespaces.insert("space".to_owned(), site.path().join("space2"));
    restored(request).await;
    let mut second = Postgres::adopt(site.path(), "second", &data);
    let restorer = site.recover(&second, "v", "");
    site.archive_from(&second, "v", Compression::Zstd, 2);
    second.start_recovered();
    let last = write_on(site, &second, 2).pop().expect("a segment");
    assert!(last.starts_with("00000002"), "{last}");
    restorer.shutdown().await.expect("the spool goes");
    let report = ground.verify().await;
    assert!(report.ok, "{}", verify_text(&report));
    let ways = &report.archive.ways;
    assert_eq!((ways.len(), ways[0].timeline, &ways[0].last), (1, 2, &last));
    assert!(ways[0].first.starts_with("00000001") && ways[0].gaps.is_empty(), "{ways:?}");
    // Without its history nothing leads to the second timeline.
    let history = site.keys().await.into_iter().find(|key| key.contains("/00000002.history"));
    let history = ground.without(&history.expect("the history is archived")).await;
    assert_eq!(history.codes, BTreeSet::from([Code::HistoryMissing]));
}
