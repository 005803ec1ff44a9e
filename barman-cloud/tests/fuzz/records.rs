//! `backup.info` and its literals, histories, the lineage record and the keep annotation.

use crate::mutate::{mutated, mutated_text};
use crate::watch::{refused, within};
use barman_cloud::backup_info::{BackupInfo, Literal};
use barman_cloud::{Destination, Repository, Store, TimelineHistory};
use proptest::prelude::*;

const INFOS: [&str; 2] = [
    include_str!("../fixtures/backup_info/barman-3.19.1.info"),
    include_str!("../fixtures/backup_info/barman-3.20.1.info"),
];
const HISTORY: &str = include_str!("../fixtures/wal/00000002.history");
const LINEAGE: &str = r#"{
  "systemIdentifier": "7710429130419897343",
  "claimedAt": "2026-11-21T10:00:00.123456789Z",
  "claimedBy": "default/pg"
}"#;

/// What a text of this length may make its parser allocate.
fn bound(length: usize) -> usize {
    (64 << 10) + 64 * length
}

fn info_bytes() -> impl Strategy<Value = Vec<u8>> {
    mutated(INFOS.iter().map(|text| text.as_bytes().to_vec()).collect())
}

/// A record in memory of which every operation is asked.
fn exercise(info: &BackupInfo) {
    for error in [info.segment_size().err(), info.needed_wal().err()].into_iter().flatten() {
        refused(&error);
    }
}

/// Found by these tests: such a line was read as one, while Barman reads two.
#[test]
fn a_carriage_return_within_a_line_is_refused() {
    let text = INFOS[0].replacen("backup_name=", "backup_name=first\r", 1);
    assert_ne!(text, INFOS[0]);
    refused(&BackupInfo::parse(&text).expect_err("two lines"));
    // At the end of lines it is what some editors write.
    BackupInfo::parse(&INFOS[0].replace('\n', "\r\n")).expect("the same record");
}

proptest! {
    #[test]
    fn backup_info(bytes in info_bytes()) {
        match within(bound(bytes.len()), || BackupInfo::parse_bytes(&bytes)) {
            Ok(mut info) => {
                exercise(&info);
                info.other.clear();
                prop_assert_eq!(BackupInfo::parse(&info.render()).expect("own text"), info);
            }
            Err(error) => refused(&error),
        }
    }

    #[test]
    fn literals(text in mutated_text(&[
        "[('Ts One', 16384, '/srv/ts1'), ('b\\u00e9\\x41', 2, '/x')]",
        "{'copy_time': 7.2036, 'nested': {'a': [1, -2, (3,), None, True]}}",
        r#""it's" 'a\n\\b\101'"#,
    ])) {
        // Its error is a text that the record's error quotes.
        if let Err(error) = within(bound(text.len()), || Literal::parse(&text)) {
            prop_assert!(!error.is_empty());
        }
    }

    #[test]
    fn histories(text in mutated_text(&[
        HISTORY,
        "1\t0/5000000\tno recovery target specified\n\n# note\n2\t0/9000060\tbefore 2026-11-21 01:00:00+00\n",
    ]), timeline in prop_oneof![Just(2), Just(3), any::<u32>()]) {
        match within(bound(text.len()), || TimelineHistory::parse(timeline, &text)) {
            Ok(history) => {
                prop_assert_eq!(TimelineHistory::parse(timeline, &history.render()).expect("own text"), history.clone());
                for entry in history.entries() {
                    prop_assert!(history.contains(entry.parent, entry.switch));
                    prop_assert!(!history.segments_at(entry.switch, barman_cloud::SegmentSize::MIN).is_empty());
                }
            }
            Err(error) => refused(&error),
        }
    }

    #[test]
    fn records_in_the_store(
        lineage in mutated(vec![LINEAGE.as_bytes().to_vec()]),
        keep in mutated(vec![include_bytes!("../fixtures/keep/standalone").to_vec()]),
        info in info_bytes(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let store = Store::memory(&Destination::parse("s3://bucket").expect("valid"));
        let repository = Repository::new(store, "srv").expect("valid");
        runtime.block_on(async {
            let id = "20261121T012341".parse().expect("valid");
            let layout = repository.layout();
            for (key, body) in [(layout.lineage(), lineage), (layout.keep(&id), keep), (layout.backup_info(&id), info)] {
                repository.store().put(&key, body.into()).await.expect("memory");
            }
            for error in [repository.lineage().await.err(), repository.keep(&id).await.err()].into_iter().flatten() {
                refused(&error);
                assert!(error.report().contains("s3://bucket/srv/"), "{}", error.report());
            }
            let catalog = repository.catalog().await.expect("lists");
            if let Some(Err(error)) = catalog.get(&id).map(|entry| entry.info.as_ref()) {
                refused(error);
                assert!(error.report().contains("backup.info"), "{}", error.report());
            }
        });
    }
}
