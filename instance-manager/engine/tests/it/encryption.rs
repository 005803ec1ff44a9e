//! Encrypted repositories from end to end: archiving, backup, restore and recovery with real PostgreSQL.

use crate::postgres::Postgres;
use crate::site::{BUCKET, Site, restored, try_restore, verify};
use barman_cloud::Compression;
use barman_cloud::store::CipherMode;
use howdah_engine::RestoreRequest;
use howdah_engine::backup::PartSize;
use rstest::rstest;

const PASSPHRASE: &str = "correct horse battery staple";
/// What is looked for in the bucket.
const PATTERN: &str = "a-pattern-that-nobody-may-read";

fn holds(body: &[u8]) -> bool {
    body.windows(PATTERN.len()).any(|window| window == PATTERN.as_bytes())
}

/// S0.24, S1.29: WAL, parts, manifests and records of an encrypted repository hold no plaintext, and everything comes
/// back from it to an exact point. Nothing is compressed, so that what is looked for would be found.
#[rstest]
#[case::gcm(CipherMode::Aes256Gcm)]
#[case::cbc(CipherMode::Aes256Cbc)]
#[tokio::test(flavor = "multi_thread")]
async fn a_database_comes_back_from_a_bucket_that_nobody_can_read(#[case] mode: CipherMode) {
    let site = Site::encrypted(mode, PASSPHRASE).await;
    let primary = site.primary(PATTERN);
    let fill = |from: u32, to: u32| {
        primary
            .sql(&format!("INSERT INTO t SELECT g, '{PATTERN} ' || g FROM generate_series({from}, {to}) g"));
    };
    primary.sql("CREATE TABLE t (g int, x text)");
    fill(1, 200_000);
    primary.sql("CHECKPOINT");
    let mut request = site.backup_request(&primary, PATTERN);
    request.part_size = PartSize { tar_bytes: Some(8 << 20), ..PartSize::default() };
    request.name = Some(PATTERN.into());
    let result = site.backup(&primary, request).await.unwrap_or_else(|error| panic!("{}", error.report()));
    assert!(result.parts.len() > 2, "{:?}", result.parts);
    fill(200_001, 210_000);
    let before = primary.digest("t");
    primary.sql("SELECT pg_create_restore_point('here')");
    fill(210_001, 210_100);
    primary.sql("SELECT pg_switch_wal()");
    site.wait_archived(&primary);

    let (store, mut seen) = (site.store(), 0);
    for object in site.s3.objects(BUCKET).expect("a bucket") {
        let body = site.s3.get(BUCKET, &object.key).await.expect("there");
        assert!(!holds(&body), "{}", object.key);
        if object.key.contains("/howdah/keys/") {
            continue;
        }
        let key = object.key.strip_prefix("some/path/").expect("ours");
        let plain = store.get(key, 64 << 20).await.unwrap_or_else(|error| panic!("{}", error.report()));
        assert_eq!(store.head(key).await.expect("there").size, store.stored_size(key, plain.len() as u64));
        seen += usize::from(holds(&plain));
    }
    assert!(seen >= 4, "parts, WAL and the record hold it when they are decrypted: {seen}");

    let data = site.path().join("restored");
    let back = restored(RestoreRequest::new(site.repository(PATTERN), &data)).await;
    assert!(back.verified && back.plan.backup_id == result.backup_id, "{back:?}");
    let mut copy = Postgres::adopt(site.path(), "restored", &data);
    verify(&copy);
    site.recover(&copy, PATTERN, "recovery_target_name = 'here'");
    copy.start_recovered();
    assert_eq!(copy.digest("t"), before);
}

/// S0.25, S1.32: nothing is fetched, archived or backed up with the wrong passphrase or none, and the reason is named.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_passphrase_nothing_begins() {
    let mut site = Site::encrypted(CipherMode::Aes256Gcm, PASSPHRASE).await;
    let primary = site.primary("locked");
    let request = site.backup_request(&primary, "locked");
    site.backup(&primary, request).await.unwrap_or_else(|error| panic!("{}", error.report()));
    site.wait_archived(&primary);
    let keys = site.keys().await;
    let data = site.path().join("restored");
    for encryption in [None, Some((CipherMode::Aes256Gcm, "not the right one"))] {
        site.encryption = encryption;
        let refused = [
            try_restore(RestoreRequest::new(site.repository("locked"), &data)).await.map(|_| ()),
            site.backup(&primary, site.backup_request(&primary, "locked")).await.map(|_| ()),
        ];
        for error in refused.map(|outcome| outcome.expect_err("refused")) {
            let report = error.report();
            assert!(report.contains("is wanted") && report.contains("encryption.passphrase"), "{report}");
            assert!(!report.contains(PASSPHRASE) && !report.contains("not the right one"), "{report}");
        }
        assert!(!data.exists());
    }
    site.encryption = Some((CipherMode::Aes256Cbc, PASSPHRASE));
    let error =
        try_restore(RestoreRequest::new(site.repository("locked"), &data)).await.expect_err("refused");
    assert!(error.report().contains("aes-256-gcm, not aes-256-cbc"), "{}", error.report());
    assert_eq!(site.keys().await, keys, "nothing was written meanwhile");
}

/// A restore reads on where a connection broke, and fetches a part again that arrived damaged for good, or fails.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_part_ends_the_restore() {
    for mode in [CipherMode::Aes256Gcm, CipherMode::Aes256Cbc] {
        let site = Site::encrypted(mode, PASSPHRASE).await;
        let primary = site.primary("damaged");
        let mut request = site.backup_request(&primary, "damaged");
        request.compression = Compression::Lz4;
        site.backup(&primary, request).await.unwrap_or_else(|error| panic!("{}", error.report()));
        let keys = site.keys().await;
        let key = keys.iter().find(|key| key.ends_with("/data.tar.lz4")).expect("a part");
        let mut body = site.s3.get(BUCKET, key).await.expect("there").to_vec();
        // In CBC mode this is the HMAC: all of the data before it is right.
        let at = body.len() - 1;
        body[at] ^= 1;
        site.s3.put(BUCKET, key, body).await.expect("put");
        let data = site.path().join("restored");
        let error =
            try_restore(RestoreRequest::new(site.repository("damaged"), &data)).await.expect_err("damaged");
        let report = error.report();
        assert!(report.contains(key.as_str()) && report.contains("changed"), "{report}");
        assert!(!data.join("global/pg_control").exists());
    }
}

/// In CBC mode a part is authentic only at its end, so a delta restore that wants one file of it reads it all.
#[tokio::test(flavor = "multi_thread")]
async fn a_delta_restore_uses_nothing_that_is_not_authentic() {
    let site = Site::encrypted(CipherMode::Aes256Cbc, PASSPHRASE).await;
    let primary = site.primary("delta");
    primary.sql("CREATE TABLE t AS SELECT g, md5(g::text) AS x FROM generate_series(1, 100000) g");
    primary.sql("CHECKPOINT");
    let mut request = site.backup_request(&primary, "delta");
    request.part_size = PartSize { tar_bytes: Some(3 << 20), ..PartSize::default() };
    let backup = site.backup(&primary, request).await.unwrap_or_else(|error| panic!("{}", error.report()));
    let data = site.path().join("restored");
    let whole = restored(RestoreRequest::new(site.repository("delta"), &data)).await;
    assert_eq!(whole.fetched_bytes, backup.stored_bytes);

    let file = data.join(primary.sql("SELECT pg_relation_filepath('t')"));
    let parts: Vec<String> = site.keys().await.into_iter().filter(|key| key.contains("/data")).collect();
    let turn_last_bytes = async || {
        for key in &parts {
            let mut body = site.s3.get(BUCKET, key).await.expect("there").to_vec();
            let last = body.len() - 1;
            body[last] ^= 1;
            site.s3.put(BUCKET, key, body).await.expect("put");
        }
    };
    let delta = || RestoreRequest { delta: true, ..RestoreRequest::new(site.repository("delta"), &data) };
    std::fs::remove_file(&file).expect("removes");
    turn_last_bytes().await;
    let error = try_restore(delta()).await.expect_err("the HMACs are wrong");
    assert!(error.report().contains("HMAC"), "{}", error.report());
    turn_last_bytes().await;
    let back = restored(delta()).await;
    assert!(back.kept_files > 0 && file.exists(), "{back:?}");
    verify(&Postgres::adopt(site.path(), "restored", &data));
}
