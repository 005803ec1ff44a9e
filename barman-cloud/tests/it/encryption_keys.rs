//! Passphrases that are wrong, missing or changed, and repositories whose encryption does not fit.

use crate::encryption::{PASSPHRASE, cipher, encrypted};
use crate::support::{BUCKET, noise, repository, server, store};
use barman_cloud::store::{Cipher, CipherMode, KeyRotation, RepositoryCipher};
use barman_cloud::{Error, ErrorKind, Repository};
use howdah_s3::{Action, Operation, Rule, Server};
use rstest::rstest;

const MODE: CipherMode = CipherMode::Aes256Gcm;

fn open(server: &Server, cipher: &Cipher) -> Repository {
    Repository::new(store(server).with_cipher(cipher), "srv").expect("a name")
}

async fn claim(repository: &Repository) -> Result<(), Error> {
    repository.claim("7710429130419897343", None, chrono::Utc::now()).await.map(|_| ())
}

/// What the record of the repository says is the wanted key.
async fn wanted(server: &Server) -> String {
    let body = server.get(BUCKET, "some/path/srv/howdah/keys/repository.json").await.expect("a record");
    let record: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
    record["keyId"].as_str().expect("an id").to_owned()
}

/// S0.25, S1.30: the wanted key is named, so is the one that was given; no passphrase is.
#[tokio::test]
async fn a_wrong_passphrase_is_refused_at_once() {
    let server = server().await;
    claim(&open(&server, &cipher(MODE, PASSPHRASE, &[]))).await.expect("claimed");
    let wanted = wanted(&server).await;
    let other = open(&server, &cipher(MODE, "a wrong one", &["and another"]));
    let checked = other.check_encryption().await.map(|_| ()).expect_err("wrong");
    let (claimed, written) = (
        claim(&other).await.expect_err("wrong"),
        other.store().put("srv/base/20261121T012341/data.tar", noise(9).into()).await.expect_err("wrong"),
    );
    for error in [checked, claimed, written] {
        let report = error.report();
        assert_eq!(error.kind(), ErrorKind::Credentials, "{report}");
        assert!(report.contains(&format!("the key with id {wanted} is wanted")), "{report}");
        assert!(report.contains("encryption.passphrase"), "{report}");
        assert!(!report.contains("a wrong one") && !report.contains("and another"), "{report}");
    }
    assert!(!format!("{other:?}").contains("a wrong one"));
}

/// S1.32: no encryption where it was, encryption where there was none, another mode than before.
#[tokio::test]
async fn encryption_cannot_change_by_accident() {
    let server = server().await;
    let right = cipher(MODE, PASSPHRASE, &[]);
    claim(&open(&server, &right)).await.expect("claimed");
    let state = open(&server, &right).check_encryption().await.expect("right").expect("encrypted");
    let key_id = Some(wanted(&server).await);
    assert_eq!(state, RepositoryCipher { mode: MODE, key_id: key_id.clone(), rotation_due: false });

    let forgotten = repository(&server);
    for error in [
        forgotten.check_encryption().await.map(|_| ()).expect_err("forgotten"),
        claim(&forgotten).await.expect_err("forgotten"),
    ] {
        assert_eq!(error.kind(), ErrorKind::Credentials);
        let report = error.report();
        assert!(report.contains("this repository is encrypted"), "{report}");
        assert!(key_id.iter().all(|id| report.contains(id)), "{report}");
    }
    // Also where nothing but the keys was written.
    server.delete(BUCKET, "some/path/srv/howdah/lineage.json").await.expect("deleted");
    assert_eq!(claim(&forgotten).await.expect_err("forgotten").kind(), ErrorKind::Credentials);

    let changed = open(&server, &cipher(CipherMode::Aes256Cbc, PASSPHRASE, &[]));
    let error = claim(&changed).await.expect_err("another mode");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.report().contains("encrypted with aes-256-gcm, not aes-256-cbc"), "{}", error.report());
}

/// S1.32: for what an unencrypted server left, its record, or only a backup, or only WAL, as Barman leaves them.
#[rstest]
#[case::lineage("howdah/lineage.json")]
#[case::backup("base/20261121T012341/backup.info")]
#[case::wal("wals/0000000100000000/000000010000000000000001")]
#[tokio::test]
async fn encryption_does_not_begin_late(#[case] key: &str) {
    let server = server().await;
    server.put(BUCKET, &format!("some/path/srv/{key}"), b"{}".to_vec()).await.expect("put");
    let late = open(&server, &cipher(MODE, PASSPHRASE, &[]));
    for error in [
        late.check_encryption().await.map(|_| ()).expect_err("late"),
        late.store().put("srv/base/20261121T012342/data.tar", noise(9).into()).await.expect_err("late"),
    ] {
        assert_eq!(error.kind(), ErrorKind::Invalid, "{}", error.report());
        assert!(error.report().contains("it is not encrypted"), "{}", error.report());
    }
    let error = late.store().get(&format!("srv/{key}"), 100).await.expect_err("plain");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.report().contains("not encrypted"), "{}", error.report());
    assert_eq!(server.objects(BUCKET).expect("a bucket").len(), 1, "nothing was written");
}

/// Rotation: only the records of the keys are written again, and afterwards the former passphrase is not needed.
#[rstest]
#[tokio::test]
async fn a_passphrase_is_changed(#[values(CipherMode::Aes256Gcm, CipherMode::Aes256Cbc)] mode: CipherMode) {
    let server = server().await;
    let old = open(&server, &cipher(mode, "the old one", &[]));
    claim(&old).await.expect("claimed");
    for id in ["20261121T012341", "20261121T012342"] {
        old.store().put(&format!("srv/base/{id}/data.tar"), noise(1000).into()).await.expect("written");
    }
    let body = server.get(BUCKET, "some/path/srv/base/20261121T012341/data.tar").await.expect("there");
    let before = wanted(&server).await;

    let both = open(&server, &cipher(mode, "the new one", &["the old one"]));
    assert!(both.check_encryption().await.expect("readable").is_some_and(|state| state.rotation_due));
    assert!(both.lineage().await.expect("read by the former one").is_some());
    // What is written meanwhile is wrapped by the new one.
    both.store().put("srv/base/20261121T012343/data.tar", noise(1000).into()).await.expect("written");
    let rotated = both.rotate_keys().await.expect("rotated");
    let key_id = wanted(&server).await;
    assert_eq!(rotated, KeyRotation { rewrapped: 3, current: 1, key_id: key_id.clone() });
    assert_ne!(key_id, before);
    let again = both.rotate_keys().await.expect("again");
    assert_eq!(again, KeyRotation { rewrapped: 0, current: 4, key_id });

    let new = open(&server, &cipher(mode, "the new one", &[]));
    assert!(new.check_encryption().await.expect("right").is_some_and(|state| !state.rotation_due));
    for id in ["20261121T012341", "20261121T012342", "20261121T012343"] {
        let read = new.store().get(&format!("srv/base/{id}/data.tar"), 1000).await.expect("read");
        assert!(read == noise(1000));
    }
    let stale = open(&server, &cipher(mode, "the old one", &[]));
    assert_eq!(claim(&stale).await.expect_err("changed").kind(), ErrorKind::Credentials);
    let after = server.get(BUCKET, "some/path/srv/base/20261121T012341/data.tar").await.expect("there");
    assert_eq!(body, after, "no data was written again");
}

/// A rotation that stops at any write leaves a repository that both passphrases together read, and the next one ends it.
#[tokio::test]
async fn an_interrupted_rotation_is_finished_by_the_next() {
    let server = server().await;
    let old = open(&server, &cipher(MODE, "the old one", &[]));
    claim(&old).await.expect("claimed");
    for id in ["20261121T012341", "20261121T012342"] {
        old.store().put(&format!("srv/base/{id}/data.tar"), noise(10).into()).await.expect("written");
    }
    let cipher = cipher(MODE, "the new one", &["the old one"]);
    // Each try writes one of three keys; the last one fails at the repository's record.
    for _ in 0..3 {
        server.faults().add(Rule::new(Action::access_denied()).operation(Operation::PutObject).skip(1));
        let error = open(&server, &cipher).rotate_keys().await.map(|_| ()).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Permission, "{}", error.report());
        server.faults().clear();
        let state = open(&server, &cipher).check_encryption().await.expect("readable").expect("encrypted");
        assert!(state.rotation_due);
    }
    let rotated = open(&server, &cipher).rotate_keys().await.expect("finished");
    assert_eq!((rotated.rewrapped, rotated.current), (0, 3), "each try had done one key");
    let new = open(&server, &crate::encryption::cipher(MODE, "the new one", &[]));
    assert!(new.store().get("srv/base/20261121T012342/data.tar", 10).await.expect("read") == noise(10));
}

#[tokio::test]
async fn a_lost_or_damaged_key_is_named() {
    let server = server().await;
    let right = cipher(MODE, PASSPHRASE, &[]);
    open(&server, &right)
        .store()
        .put("srv/base/20261121T012341/data.tar", noise(10).into())
        .await
        .expect("written");
    let key = server
        .objects(BUCKET)
        .expect("a bucket")
        .into_iter()
        .map(|object| object.key)
        .find(|key| key.contains("/keys/") && !key.contains("repository"))
        .expect("a data key");
    let body = server.get(BUCKET, &key).await.expect("there");
    let mut record: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
    let wrapped = record["wrapped"].as_str().expect("base64").to_owned();
    let turned = if wrapped.starts_with('A') { "B" } else { "A" };
    record["wrapped"] = format!("{turned}{}", &wrapped[1..]).into();
    let read = async || {
        // Another process, which knows no key yet.
        let store = encrypted(&store(&server), MODE);
        store.get("srv/base/20261121T012341/data.tar", 10).await
    };
    server.put(BUCKET, &key, record.to_string()).await.expect("put");
    let error = read().await.expect_err("damaged");
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{}", error.report());
    server.delete(BUCKET, &key).await.expect("deleted");
    let error = read().await.expect_err("lost");
    assert_eq!(error.kind(), ErrorKind::Corrupt, "never taken for an object that is not there");
    assert!(
        error.report().contains("data key") && error.report().contains("from a copy"),
        "{}",
        error.report()
    );
}
