use super::*;
use proptest::prelude::*;
use rstest::rstest;

/// Written by barman-cloud-backup 3.20.1 for PostgreSQL 15 with one tablespace.
const BARMAN: &str = include_str!("../../tests/fixtures/backup_info/barman-3.20.1.info");

fn time(text: &str) -> DateTime<FixedOffset> {
    super::time::parse(text).expect("a time")
}

fn ours() -> BackupInfo {
    let size = SegmentSize::DEFAULT;
    let mut info = BackupInfo::started(1, Lsn(0x400_0028), size, time("2026-11-21 01:23:41.687275+00:00"));
    info.version = Some(150_018);
    info.pgdata = Some("/srv/pg/data".into());
    info.systemid = Some("7710429130419897343".into());
    info.backup_label =
        Some("START WAL LOCATION: 0/4000028 (file 000000010000000000000004)\nSTART TIMELINE: 1\n".into());
    info.tablespaces =
        vec![Tablespace { name: "it's \"one\"".into(), oid: 16384, location: "/srv/ts 1".into() }];
    info.finish(1, Lsn(0x400_0138), size, time("2026-11-21 01:23:44+00:00"));
    info
}

#[test]
fn barmans_file_is_read() {
    let info = BackupInfo::parse(BARMAN).expect("Barman's own");
    assert!(info.is_done());
    assert_eq!(info.backup_name.as_deref(), Some("first-one"));
    assert_eq!(info.begin_xlog.map(|lsn| lsn.to_string()).as_deref(), Some("0/4000028"));
    assert_eq!((info.begin_offset, info.end_offset), (Some(40), Some(312)));
    assert_eq!(
        info.tablespaces,
        [Tablespace { name: "Ts One".into(), oid: 16384, location: "/srv/ts1".into() }]
    );
    assert!(info.backup_label.as_deref().is_some_and(|label| label.ends_with("START TIMELINE: 1\n")));
    assert_eq!(info.size, None);
    let stats = Literal::parse(&info.other["copy_stats"]).expect("a dict");
    assert_eq!(stats.get("number_of_workers"), Some(&Literal::Int(2)));
}

#[test]
fn what_is_read_is_written_again() {
    let info = BackupInfo::parse(BARMAN).expect("Barman's own");
    let written = info.render();
    // Apart from null keys and what only Barman fills, line by line the same.
    let expected: Vec<&str> =
        BARMAN.lines().filter(|line| !line.ends_with("=None") && !line.starts_with("copy_stats=")).collect();
    assert_eq!(written.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn only_keys_that_old_readers_know_are_written() {
    let text = ours().render();
    for line in text.lines() {
        assert!(!line.ends_with("=None"), "{line}");
    }
    let keys: Vec<&str> = text.lines().filter_map(|line| line.split_once('=')).map(|(key, _)| key).collect();
    assert_eq!(
        keys,
        [
            "backup_label",
            "begin_offset",
            "begin_time",
            "begin_wal",
            "begin_xlog",
            "end_offset",
            "end_time",
            "end_wal",
            "end_xlog",
            "pgdata",
            "server_name",
            "status",
            "systemid",
            "tablespaces",
            "timeline",
            "version",
            "xlog_segment_size"
        ]
    );
    assert_eq!(BackupInfo::parse(&text).expect("own text"), ours());
}

#[test]
fn failures_are_one_line() {
    let mut info = ours();
    info.fail("upload\n  broke");
    let text = info.render();
    assert!(text.contains("status=FAILED\n") && text.contains("error=upload broke\n"));
}

#[rstest]
#[case::blanks_and_comments("# note\n\n status = DONE \n", BackupStatus::Done)]
#[case::null("status=None\npgdata=None\n", BackupStatus::Empty)]
#[case::crlf("status=FAILED\r\n", BackupStatus::Failed)]
fn lenient_in_form(#[case] text: &str, #[case] status: BackupStatus) {
    let info = BackupInfo::parse(text).expect("valid");
    assert_eq!((info.status, info.pgdata), (status, None));
}

#[rstest]
#[case::unknown_key_is_kept("status=DONE\nfuture_key=1\nnull_key=None\n", &[("future_key", "1")])]
#[case::equals_in_value("status=DONE\nx=a=b\n", &[("x", "a=b")])]
fn the_unknown_is_kept_and_not_written(#[case] text: &str, #[case] other: &[(&str, &str)]) {
    let info = BackupInfo::parse(text).expect("valid");
    let found: Vec<(&str, &str)> = info.other.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(found, other);
    assert_eq!(info.render(), "status=DONE\n");
}

#[rstest]
#[case::empty("", "empty")]
#[case::only_comments("# x\n", "empty")]
#[case::no_equals("status=DONE\ngarbage\n", "line 2")]
#[case::bad_status("status=NICE\n", "\"NICE\" is not a status")]
#[case::bad_lsn("\nbegin_xlog=4000028\n", "line 2: begin_xlog")]
#[case::bad_wal("end_wal=00000001\n", "not a WAL segment")]
#[case::bad_time("end_time=tomorrow\n", "not a time")]
#[case::bad_number("timeline=-1\n", "not a number")]
#[case::json_null("tablespaces=null\n", "Python literal")]
#[case::bad_tuple("tablespaces=[('x', '1', '/y')]\n", "(name, oid, location)")]
#[case::big_oid("tablespaces=[('x', 4294967296, '/y')]\n", "(name, oid, location)")]
#[case::label_not_quoted("backup_label=START\n", "Python literal")]
#[case::truncated_label("backup_label='START WAL\n", "the end of a text")]
fn errors_name_the_line_and_the_key(#[case] text: &str, #[case] expected: &str) {
    let error = BackupInfo::parse(text).expect_err("damaged");
    assert!(error.report().contains(expected), "{}", error.report());
    assert_eq!(error.kind(), crate::ErrorKind::Corrupt);
}

#[rstest]
#[case::empty_list("tablespaces=[]")]
#[case::none("tablespaces=None")]
#[case::json("tablespaces=[[\"a\", 1, \"/b\"]]")]
fn tablespaces_in_their_forms(#[case] line: &str) {
    assert!(BackupInfo::parse(&format!("status=DONE\n{line}\n")).is_ok());
}

#[test]
fn an_end_on_a_boundary_needs_the_segment_before() {
    let mut info = ours();
    info.finish(1, Lsn(0x500_0000), SegmentSize::DEFAULT, time("2026-11-21 01:23:44+00:00"));
    assert_eq!(
        (info.end_wal.map(|w| w.to_string()).as_deref(), info.end_offset),
        (Some("000000010000000000000005"), Some(0))
    );
    let (begin, end) = info.needed_wal().expect("complete");
    assert_eq!(
        (begin.to_string().as_str(), end.to_string().as_str()),
        ("000000010000000000000004", "000000010000000000000004")
    );
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    assert!(BackupInfo::parse_bytes(&[0xFF, 0xFE]).is_err());
}

proptest! {
    #[test]
    fn own_text_round_trips(
        label in proptest::option::of("\\PC{0,40}\\n?"),
        name in "[a-z' \"\\\\é]{1,12}",
        location in "/[a-zA-Z0-9 '._-]{0,20}[a-z]",
        oid: u32,
        begin: u64,
        length in 0u64..1 << 32,
        timeline: u32,
        micros in 0i64..4_000_000_000_000_000,
    ) {
        let size = SegmentSize::DEFAULT;
        let at = DateTime::from_timestamp_micros(micros).expect("in range").fixed_offset();
        let mut info = BackupInfo::started(timeline, Lsn(begin), size, at);
        info.backup_label = label;
        info.tablespaces = vec![Tablespace { name, oid, location }];
        info.finish(timeline, Lsn(begin.saturating_add(length)), size, at);
        prop_assert_eq!(BackupInfo::parse(&info.render()).expect("own text"), info);
    }

    #[test]
    fn any_input_is_read_without_panic(text in "((status|tablespaces|backup_label|begin_time|x)=[ -~]{0,30}\\n){0,4}") {
        let _ = BackupInfo::parse(&text);
    }
}
