use super::*;
use proptest::prelude::*;
use rstest::rstest;

fn size(bytes: u64) -> SegmentSize {
    SegmentSize::new(bytes).expect("a valid size")
}

#[rstest]
#[case::none(0)]
#[case::half(512 << 10)]
#[case::not_a_power(3 << 20)]
#[case::two_gib(2 << 30)]
#[case::wraps(1 << 52)]
fn refuses_sizes(#[case] bytes: u64) {
    assert!(SegmentSize::new(bytes).is_err());
}

#[rstest]
#[case::segment("000000010000000000000004", "000000010000000000000004")]
#[case::lower("0000000a00000000000000ff", "0000000A00000000000000FF")]
#[case::partial("000000010000000000000004.partial", "000000010000000000000004.partial")]
#[case::label("000000010000000000000004.00000028.backup", "000000010000000000000004.00000028.backup")]
#[case::history("00000002.history", "00000002.history")]
fn reads_and_writes(#[case] text: &str, #[case] written: &str) {
    assert_eq!(text.parse::<WalName>().expect("valid").to_string(), written);
}

#[rstest]
#[case::empty("")]
#[case::short("00000001000000000000000")]
#[case::long("0000000100000000000000041")]
#[case::not_hex("00000001000000000000000G")]
#[case::sign("+00000010000000000000004")]
#[case::compressed("000000010000000000000004.gz")]
#[case::label_without_offset("000000010000000000000004.backup")]
#[case::short_offset("000000010000000000000004.28.backup")]
#[case::history_of_a_segment("000000010000000000000004.history")]
#[case::path("a/000000010000000000000004")]
#[case::multibyte("0000000100000000000000é")]
#[case::upper_extension("00000002.HISTORY")]
fn refuses(#[case] text: &str) {
    assert!(text.parse::<WalName>().is_err());
}

#[rstest]
#[case::one_mib(1 << 20, "000000010000000000000FFF", "000000010000000100000000")]
#[case::sixteen_mib(16 << 20, "0000000100000000000000FF", "000000010000000100000000")]
#[case::one_gib(1 << 30, "000000010000000000000003", "000000010000000100000000")]
fn next_crosses_into_the_next_log(#[case] bytes: u64, #[case] last: &str, #[case] first: &str) {
    let (last, first): (Segment, Segment) = (last.parse().expect("valid"), first.parse().expect("valid"));
    assert_eq!(last.next(size(bytes)), first);
    assert_eq!(first.prev(size(bytes)), Some(last));
}

#[test]
fn the_first_segment_has_none_before_it() {
    assert_eq!(Segment { timeline: 1, log: 0, seg: 0 }.prev(SegmentSize::DEFAULT), None);
}

#[test]
fn a_boundary_belongs_to_the_next_segment_or_the_last_as_asked() {
    let lsn: Lsn = "0/5000000".parse().expect("valid");
    assert_eq!(Segment::containing(1, lsn, SegmentSize::DEFAULT).to_string(), "000000010000000000000005");
    assert_eq!(Segment::ending_at(1, lsn, SegmentSize::DEFAULT).to_string(), "000000010000000000000004");
    let inside = Lsn(lsn.0 + 1);
    assert_eq!(Segment::ending_at(1, inside, SegmentSize::DEFAULT).to_string(), "000000010000000000000005");
}

#[test]
fn the_hash_directory_is_timeline_and_log() {
    let segment: Segment = "0000000A0000001B000000FE".parse().expect("valid");
    assert_eq!(segment.hash_dir(), "0000000A0000001B");
}

#[rstest]
#[case::other_timeline("000000010000000000000001", "000000020000000000000002")]
#[case::backwards("000000010000000000000002", "000000010000000000000001")]
#[case::impossible_seg("000000010000000000000001", "000000010000000000000100")]
fn ranges_are_checked(#[case] begin: &str, #[case] end: &str) {
    let range =
        SegmentRange::new(begin.parse().expect("valid"), end.parse().expect("valid"), SegmentSize::DEFAULT);
    assert!(range.is_err());
}

#[test]
fn a_range_holds_both_ends_and_crosses_logs() {
    let names: Vec<String> = SegmentRange::new(
        "0000000100000000000000FE".parse().expect("valid"),
        "000000010000000100000001".parse().expect("valid"),
        SegmentSize::DEFAULT,
    )
    .expect("a valid range")
    .map(|segment| segment.to_string())
    .collect();
    assert_eq!(
        names,
        [
            "0000000100000000000000FE",
            "0000000100000000000000FF",
            "000000010000000100000000",
            "000000010000000100000001"
        ]
    );
}

fn sizes() -> impl Strategy<Value = SegmentSize> {
    (20u32..=30).prop_map(|shift| size(1 << shift))
}

proptest! {
    #[test]
    fn every_name_round_trips(timeline: u32, log: u32, seg: u32, offset: u32) {
        let segment = Segment { timeline, log, seg };
        for name in [
            WalName::Segment(segment),
            WalName::Partial(segment),
            WalName::BackupLabel { segment, offset },
            WalName::History(timeline),
        ] {
            prop_assert_eq!(name.to_string().parse::<WalName>().expect("own text"), name);
        }
    }

    #[test]
    fn a_position_lies_in_its_segment(lsn: u64, size in sizes()) {
        let segment = Segment::containing(7, Lsn(lsn), size);
        prop_assert!(segment.fits(size));
        let start = segment.start(size);
        prop_assert!(start.0 <= lsn && lsn - start.0 < size.bytes());
    }

    #[test]
    fn next_and_prev_are_inverse(number in 0u64..1 << 34, size in sizes()) {
        let segment = Segment::from_number(3, number, size);
        prop_assert_eq!(segment.number(size), number);
        prop_assert_eq!(segment.next(size).prev(size), Some(segment));
        prop_assert!(segment < segment.next(size));
    }

    #[test]
    fn any_text_is_read_without_panic(text in ".{0,48}") {
        let _ = text.parse::<WalName>();
    }
}
