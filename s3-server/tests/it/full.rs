//! A volume without room: a small file system in memory, mounted by root.

use std::path::Path;
use std::process::Command;

use barman_cloud::ErrorKind;
use howdah_s3_server::{ObjectInfo, Store, WriteCondition};
use s3s::S3Error;

use crate::host::{BUCKET, Host, noise, open};

const MIB: usize = 1 << 20;

/// A file system of 24 MiB.
struct Small(tempfile::TempDir);

impl Small {
    fn mount() -> Self {
        assert!(nix::unistd::getuid().is_root(), "run these tests as root: they mount a small file system");
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"])
            .arg(dir.path())
            .status()
            .expect("mount is needed: apt-get install -y mount");
        assert!(mounted.success(), "a tmpfs could not be mounted: these tests need CAP_SYS_ADMIN");
        Self(dir)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn leftovers(&self) -> usize {
        std::fs::read_dir(self.path().join("tmp")).unwrap().count()
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn a_full_volume_says_so_and_can_be_cleaned() {
    let small = Small::mount();
    let host = Host::start(small.path()).await;
    let store = host.store();
    store.put("first", noise(8 * MIB).into()).await.unwrap();
    let upload = store.upload("second").await.unwrap();
    let mut told = None;
    for index in 0..4 {
        match upload.put_part(index, noise(5 * MIB).into()).await {
            Ok(_) => {}
            Err(error) => {
                told = Some(error);
                break;
            }
        }
    }
    let error = told.expect("it cannot hold 28 MiB");
    assert_eq!(error.kind(), ErrorKind::Other, "{}", error.report());
    assert!(error.report().contains("InsufficientStorage"), "{}", error.report());
    assert!(error.remedy().contains("free space"), "{}", error.remedy());
    assert_eq!(small.leftovers(), 0, "nothing half-written stays");
    assert_eq!(store.get("first", 1 << 30).await.unwrap(), noise(8 * MIB));

    // The record with which a removal begins is still taken; then there is room again.
    store.put("record", "x".into()).await.unwrap();
    upload.abort().await.unwrap();
    store.delete("first").await.unwrap();
    store.put("third", noise(15 * MIB).into()).await.unwrap();
    assert_eq!(store.get("third", 1 << 30).await.unwrap(), noise(15 * MIB));
    host.end().await;
}

fn code<T>(result: Result<T, S3Error>) -> String {
    result.err().map(|error| error.code().as_str().to_owned()).unwrap_or_default()
}

/// The room goes while a body is being received, which no look before it can know.
#[tokio::test]
async fn room_that_goes_in_the_middle_leaves_nothing() {
    let small = Small::mount();
    let store = open(small.path());
    let info = |key: &str, size: usize| ObjectInfo { size: size as u64, ..ObjectInfo::new(key) };
    let always = WriteCondition::default();
    let mut kept = store.stage(BUCKET, Some(4)).await.unwrap();
    store.write(&mut kept, "kept".into()).await.unwrap();
    store.put(BUCKET, info("k", 4), kept, &always).await.unwrap();

    let mut staging = store.stage(BUCKET, Some(8 << 20)).await.unwrap();
    let filler = small.path().join("filler");
    std::fs::write(&filler, noise(20 * MIB)).unwrap();
    let mut outcome = String::new();
    for _ in 0..8 {
        outcome = code(store.write(&mut staging, noise(MIB).into()).await);
        if !outcome.is_empty() {
            break;
        }
    }
    assert_eq!(outcome, "InsufficientStorage");
    drop(staging);
    assert_eq!(small.leftovers(), 0);

    // The same in the last step: the old version stays.
    let mut staging = store.stage(BUCKET, Some(100)).await.unwrap();
    store.write(&mut staging, noise(MIB - 1).into()).await.unwrap();
    let room = small.path().join("room");
    let _ = std::fs::write(&room, noise(8 * MIB));
    assert_eq!(code(store.put(BUCKET, info("k", MIB - 1), staging, &always).await), "InsufficientStorage");
    assert_eq!(small.leftovers(), 0);
    assert_eq!(store.head(BUCKET, "k").await.unwrap().size, 4);
    std::fs::remove_file(filler).unwrap();
    std::fs::remove_file(room).unwrap();
    assert_eq!(store.objects(BUCKET).unwrap().len(), 1);
}
