//! Base backups that we wrote: listed, shown, restored, kept and deleted by Barman.

use crate::barman::{BUCKET, World};
use crate::synthetic::{OID, data_tree, info, pack, read_tree, start_time, tablespace_tree, write_backup};
use barman_cloud::catalog::Keep;
use barman_cloud::codec::Decoder;
use barman_cloud::tar::{Entry, TarReader};
use barman_cloud::{BackupId, Compression};
use rstest::rstest;
use std::io::Write;
use std::process::{Command, Stdio};

/// S2.2, S2.4: each of Barman's tools, with every codec.
#[rstest]
#[case::none(Compression::None)]
#[case::gzip(Compression::Gzip)]
#[case::bzip2(Compression::Bzip2)]
#[case::snappy(Compression::Snappy)]
#[case::lz4(Compression::Lz4)]
#[tokio::test]
async fn barman_lists_shows_restores_and_deletes(#[case] codec: Compression) {
    let world = World::new().await;
    let id = write_backup(&world.repo, codec, start_time(20)).await;
    let newer = write_backup(&world.repo, codec, start_time(21)).await;

    let listed = json(&world.ok("barman-cloud-backup-list", &["--format", "json"], &[]).await);
    let backups = listed["backups_list"].as_array().expect("a list");
    let ids: Vec<&str> = backups.iter().filter_map(|backup| backup["backup_id"].as_str()).collect();
    assert_eq!(ids, [id.as_str(), newer.as_str()]);
    assert_eq!(backups[0]["status"], "DONE");
    assert_eq!(backups[0]["begin_wal"], "000000010000000000000004");

    let shown = json(&world.ok("barman-cloud-backup-show", &["--format", "json"], &[id.as_str()]).await);
    let shown = &shown["cloud"];
    assert_eq!(shown["begin_xlog"], "0/4000028");
    assert_eq!(shown["end_xlog"], "0/4000138");
    assert_eq!(shown["systemid"], "7710429130419897343");
    assert_eq!(shown["tablespaces"][0][1], OID);
    let text = world.ok("barman-cloud-backup-show", &[], &["last"]).await;
    assert!(text.contains(newer.as_str()) && text.contains("0/4000138"), "{text}");

    let (data, tablespace) = (world.path("data"), world.path("ts"));
    let mapping = format!("Ts One:{}", tablespace.display());
    let dest = data.to_str().expect("text");
    world.ok("barman-cloud-restore", &["--tablespace", &mapping], &[id.as_str(), dest]).await;
    let mut expected = data_tree();
    expected.insert(format!("pg_tblspc/{OID}").into(), format!("link to {}", tablespace.display()));
    assert_eq!(read_tree(&data), expected);
    let mut restored = read_tree(&tablespace);
    restored.remove(std::path::Path::new("."));
    assert_eq!(restored, tablespace_tree());

    world.ok("barman-cloud-backup-delete", &["-b", id.as_str()], &[]).await;
    let left = world.keys();
    assert!(left.iter().all(|key| !key.starts_with(&format!("base/{id}/"))), "{left:?}");
    assert!(left.contains(&format!("base/{newer}/backup.info")), "{left:?}");
    let catalog = world.repo.catalog().await.expect("listed");
    assert_eq!(catalog.entries.len(), 1);
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[tokio::test]
async fn keep_and_status_mean_the_same_to_both() {
    let world = World::new().await;
    let id = write_backup(&world.repo, Compression::Gzip, start_time(20)).await;
    let failed = BackupId::at(start_time(21));
    let mut record = info(start_time(21));
    record.fail("uploading broke = badly");
    world.repo.put_backup_info(&failed, &record).await.expect("written");

    let text = world.ok("barman-cloud-backup-list", &[], &[]).await;
    let line = text.lines().find(|line| line.starts_with(failed.as_str())).expect("listed");
    assert!(line.contains("FAILED"), "{text}");

    world.ok("barman-cloud-backup-keep", &["--target", "standalone"], &[id.as_str()]).await;
    assert_eq!(world.repo.keep(&id).await.expect("read"), Some(Keep::Standalone));
    let refused = world.repo.delete_backup(&id).await.expect_err("kept");
    assert!(refused.report().contains("standalone"), "{}", refused.report());
    world.repo.set_keep(&id, Some(Keep::Full)).await.expect("written");
    let status = world.ok("barman-cloud-backup-keep", &["--status"], &[id.as_str()]).await;
    assert_eq!(status.trim(), "Keep: full");
    let refused = world.run("barman-cloud-backup-delete", &["-b", id.as_str()], &[]).await;
    assert_eq!(refused.status.code(), Some(1));
    world.ok("barman-cloud-backup-keep", &["--release"], &[id.as_str()]).await;
    assert_eq!(world.repo.keep(&id).await.expect("read"), None);

    world.repo.delete_backup(&id).await.expect("deleted");
    world.repo.delete_backup(&failed).await.expect("deleted");
    assert!(world.keys().is_empty(), "{:?}", world.keys());
    let listed = json(&world.ok("barman-cloud-backup-list", &["--format", "json"], &[]).await);
    assert_eq!(listed["backups_list"].as_array().map(Vec::len), Some(0));
}

#[tokio::test]
async fn barman_notices_a_part_that_is_missing_as_we_do() {
    let world = World::new().await;
    let id = write_backup(&world.repo, Compression::None, start_time(20)).await;
    let key = format!("some/path/srv/base/{id}/{OID}.tar");
    world.server.delete(BUCKET, &key).await.expect("there");
    world.server.delete(BUCKET, &format!("some/path/srv/base/{id}/{OID}_0001.tar")).await.expect("there");
    let dest = world.path("data");
    let mapping = format!("Ts One:{}", world.path("ts").display());
    let arguments = [id.as_str(), dest.to_str().expect("text")];
    let output = world.run("barman-cloud-restore", &["--tablespace", &mapping], &arguments).await;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.code() == Some(1) && text.contains("Missing file") && text.contains(&OID.to_string()),
        "{text}"
    );
    let objects = world.repo.backup_objects(&id).await.expect("listed");
    let record = world.repo.backup_info(&id).await.expect("read");
    assert!(objects.complete(&id, &record).expect_err("missing").is_not_found());
}

/// Barman reads zstd from 3.20 on only; GNU tar stands in for it.
#[test]
fn zstd_parts_are_read_by_tar_and_by_us() {
    let dir = tempfile::tempdir().expect("a directory");
    let entries = vec![
        (Entry::directory("."), Vec::new()),
        (Entry::file("PG_VERSION", 3), b"15\n".to_vec()),
        (Entry::file("base", 100_000), vec![7; 100_000]),
    ];
    let packed = pack(Compression::Zstd, &entries);
    let mut child = Command::new("tar")
        .args(["--zstd", "-xf", "-", "-C"])
        .arg(dir.path())
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("tar is needed: apt-get install tar zstd");
    child.stdin.take().expect("piped").write_all(&packed).expect("tar reads it all");
    let output = child.wait_with_output().expect("tar ends");
    let problem = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "tar --zstd (is it there? apt-get install zstd): {problem}");
    assert_eq!(std::fs::read(dir.path().join("base")).expect("extracted"), vec![7; 100_000]);

    let mut reader = TarReader::new(Decoder::new(Compression::Zstd, packed.as_slice()).expect("a decoder"));
    let mut names = Vec::new();
    while let Some(entry) = reader.next_entry().expect("own tar") {
        names.push(entry.path.display().to_string());
    }
    assert_eq!(names, [".", "PG_VERSION", "base"]);
}
