//! PostgreSQL's own `pg_combinebackup` as the judge of chains.

use crate::chain::{SERVER, World};
use crate::postgres::run;
use crate::site::{BUCKET, restored};
use barman_cloud::{BackupType, Compression};
use rstest::rstest;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Takes a backup apart as a person would, with `tar` alone: the recipe of docs/incremental.md.
async fn extract(world: &World, number: usize) -> PathBuf {
    let backup = &world.taken[number].0;
    let dir = world.site.path().join(format!("by-hand-{number}"));
    world.primary.user.make_dir(&dir);
    let place = if backup.kind == BackupType::Full { "base" } else { "howdah/incremental" };
    for part in &backup.parts {
        let key = format!("some/path/{SERVER}/{place}/{}/{}", backup.backup_id, part.name);
        let tar = world.site.path().join("part.tar");
        std::fs::write(&tar, world.site.s3.get(BUCKET, &key).await.expect("a part")).expect("writes");
        let space = backup.tablespaces.iter().find(|space| part.name.starts_with(&space.oid.to_string()));
        let into = space.map_or_else(|| dir.clone(), |space| dir.with_extension(space.oid.to_string()));
        world.primary.user.make_dir(&into);
        run(Command::new("tar").arg("-xf").arg(&tar).arg("-C").arg(&into));
    }
    for space in &backup.tablespaces {
        let link = dir.join(format!("pg_tblspc/{}", space.oid));
        std::os::unix::fs::symlink(dir.with_extension(space.oid.to_string()), link).expect("a link");
    }
    let key = format!("some/path/{SERVER}/howdah/manifests/{}/backup_manifest", backup.backup_id);
    let manifest = world.site.s3.get(BUCKET, &key).await.expect("a manifest");
    std::fs::write(dir.join("backup_manifest"), manifest).expect("writes");
    run(Command::new("chown")
        .arg("-R")
        .arg(format!("{}:{}", world.primary.user.uid, world.primary.user.gid))
        .arg(&dir));
    dir
}

/// Every file below a directory, through links, by its path.
fn files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).expect("lists") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                let name = path.strip_prefix(root).expect("below").to_owned();
                found.insert(name, std::fs::read(&path).expect("reads"));
            }
        }
    }
    found.remove(Path::new("backup_manifest"));
    found
}

#[rstest]
#[case::pg17(17, "")]
#[case::pg17_summaries(17, "summarize_wal = on")]
#[case::pg18(18, "")]
#[case::pg18_summaries(18, "summarize_wal = on")]
#[tokio::test(flavor = "multi_thread")]
async fn pg_combinebackup_makes_the_same_of_a_chain(#[case] major: u32, #[case] settings: &str) {
    let mut world = World::new(major, settings).await;
    let space = world.site.path().join("space");
    world.primary.user.make_dir(&space);
    world.primary.sql(&format!("CREATE TABLESPACE ts LOCATION '{}'", space.display()));
    let rows = "SELECT g, md5(g::text) AS x FROM generate_series(1, 40000) g";
    world.primary.sql(&format!(
        "CREATE TABLE a AS {rows}; CREATE TABLE b TABLESPACE ts AS {rows}; CREATE INDEX ON a (x)"
    ));
    let mut backup = async |kind, sql: &str| {
        world.primary.sql(sql);
        let mut request = world.request(kind);
        request.compression = Compression::None;
        world.take_by(request).await;
    };
    backup(BackupType::Full, "CHECKPOINT").await;
    backup(BackupType::Incremental, "UPDATE a SET x = 'y' WHERE g % 300 = 0; DELETE FROM b WHERE g > 20000")
        .await;
    world.primary.sql("VACUUM b");
    let mut backup = async |kind, sql: &str| {
        world.primary.sql(sql);
        let mut request = world.request(kind);
        request.compression = Compression::None;
        world.take_by(request).await;
    };
    backup(
        BackupType::Incremental,
        "INSERT INTO b SELECT g, 'new' FROM generate_series(1, 9000) g; TRUNCATE a",
    )
    .await;

    let mut dirs = Vec::new();
    for number in 0..3 {
        dirs.push(extract(&world, number).await);
    }
    let out = world.site.path().join("combined");
    let oid = world.taken[2].0.tablespaces[0].oid;
    let moved = world.site.path().join("combined-space");
    let mut combine = world.primary.user.command(world.primary.program("pg_combinebackup"));
    let from = dirs[2].with_extension(oid.to_string());
    combine
        .args(&dirs)
        .arg("-T")
        .arg(format!("{}={}", from.display(), moved.display()))
        .arg("-N")
        .arg("-o")
        .arg(&out);
    // It makes the directories itself.
    for dir in [&out, &moved] {
        world.primary.user.make_dir(dir);
    }
    run(&mut combine);

    let data = world.site.path().join("ours");
    restored(world.restore_request(2, &data)).await;
    let (ours, theirs) = (files(&data), files(&out));
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
    let differ: Vec<_> =
        ours.iter().filter(|(path, body)| theirs[*path] != **body).map(|(path, _)| path).collect();
    assert!(differ.is_empty(), "{differ:?}");
    assert!(ours.keys().any(|path| path.starts_with(format!("pg_tblspc/{oid}"))));
}
