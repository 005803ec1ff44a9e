use super::*;
use proptest::prelude::*;
use rstest::rstest;
use std::io::{Cursor, Write};
use std::process::{Command, Stdio};

fn write(entries: &[(Entry, Vec<u8>)]) -> Vec<u8> {
    let mut writer = TarWriter::new(Vec::new());
    for (entry, content) in entries {
        writer.append(entry, &mut Cursor::new(content)).expect("memory");
    }
    writer.finish().expect("memory")
}

fn read(bytes: &[u8]) -> crate::Result<Vec<(Entry, Vec<u8>)>> {
    let mut reader = TarReader::new(bytes);
    let mut found = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        let mut content = Vec::new();
        let mut buffer = [0; 700];
        loop {
            match reader.read_data(&mut buffer)? {
                0 => break,
                count => content.extend_from_slice(&buffer[..count]),
            }
        }
        found.push((entry, content));
    }
    Ok(found)
}

fn sample() -> Vec<(Entry, Vec<u8>)> {
    let mut root = Entry::directory(".");
    root.mode = 0o700;
    let mut file = Entry::file("base/1/112", 5);
    (file.uid, file.gid, file.mtime) = (1_000_650_000, 26, 1_763_688_221);
    (file.uname, file.gname) = ("postgres".into(), "a-group-with-a-name-of-more-than-32-bytes".into());
    let mut precise = Entry::file("PG_VERSION", 3);
    (precise.mtime, precise.mtime_nanos) = (1_763_688_221, 687_275_000);
    let long = format!("base/{}/{}", "d".repeat(120), "f".repeat(90));
    let very_long = format!("{}/{}", "x".repeat(200), "y".repeat(200));
    vec![
        (root, vec![]),
        (file, b"hello".to_vec()),
        (precise, b"15\n".to_vec()),
        (Entry::file(long, 600), vec![9; 600]),
        (Entry::file(very_long.clone(), 512), vec![8; 512]),
        (Entry::directory("pg_notify"), vec![]),
        (Entry::symlink("server.crt", "/etc/ssl/server.crt"), vec![]),
        (Entry::symlink("long", format!("/{}", "t".repeat(150))), vec![]),
        (Entry::hardlink("copy", "PG_VERSION"), vec![]),
        (Entry::of("pipe".into(), EntryKind::Fifo, 0o600), vec![]),
        (Entry::file("empty", 0), vec![]),
    ]
}

#[test]
fn what_is_written_is_read() {
    let bytes = write(&sample());
    assert_eq!(bytes.len() % RECORD, 0);
    assert_eq!(read(&bytes).expect("own tar"), sample());
}

#[test]
fn plain_entries_cost_one_block() {
    let mut header = Vec::new();
    encode_header(&Entry::file("base/5/16400", 8192), &mut header);
    assert_eq!(header.len(), BLOCK);
    assert_eq!(&header[257..265], b"ustar\x0000");
}

#[rstest]
#[case::shrunk(8, b"abc", b"abc\0\0\0\0\0", 5)]
#[case::grown(2, b"abc", b"ab", 0)]
#[case::vanished(600, b"", &[0; 600], 600)]
fn files_that_change_keep_the_promised_size(
    #[case] size: u64,
    #[case] content: &[u8],
    #[case] stored: &[u8],
    #[case] padded: u64,
) {
    let mut writer = TarWriter::new(Vec::new());
    let filled = writer.append(&Entry::file("f", size), &mut Cursor::new(content)).expect("memory");
    writer.append(&Entry::file("next", 1), &mut Cursor::new(b"x")).expect("memory");
    assert_eq!(filled, padded);
    let entries = read(&writer.finish().expect("memory")).expect("own tar");
    assert_eq!((entries[0].1.as_slice(), entries[1].1.as_slice()), (stored, b"x".as_slice()));
}

#[test]
fn content_can_be_skipped() {
    let bytes = write(&sample());
    let mut reader = TarReader::new(bytes.as_slice());
    let mut names = Vec::new();
    while let Some(entry) = reader.next_entry().expect("own tar") {
        names.push(entry.path);
    }
    assert_eq!(names.len(), sample().len());
    assert_eq!(reader.position(), bytes.len() as u64);
}

#[test]
fn every_truncation_is_noticed() {
    let bytes = write(&sample());
    // All but the padding after the two end blocks.
    let end = bytes.iter().rposition(|b| *b != 0).expect("content").next_multiple_of(BLOCK) + 2 * BLOCK;
    for cut in (0..end).step_by(61).chain([end - 1]) {
        let error = read(&bytes[..cut]).expect_err("truncated");
        assert_eq!(error.kind(), crate::ErrorKind::Corrupt, "cut at {cut}");
        assert!(
            error.report().contains("truncated") || error.report().contains("without an entry"),
            "{}",
            error.report()
        );
    }
}

#[test]
fn a_damaged_header_is_noticed() {
    let good = write(&[(Entry::file("a", 0), vec![]), (Entry::file("b", 0), vec![])]);
    // The blank after the checksum and what follows the prefix mean nothing.
    for at in (0..500).filter(|at| *at != 155) {
        let mut bad = good.clone();
        bad[at] ^= 0x04;
        assert!(read(&bad).is_err(), "byte {at}");
    }
}

#[rstest]
#[case::absolute("/etc/passwd")]
#[case::parent("../x")]
#[case::hidden("a/../../x")]
#[case::only_parent("..")]
fn names_that_lead_out_are_refused(#[case] name: &str) {
    let error = read(&write(&[(Entry::file(name, 0), vec![])])).expect_err("outside");
    assert!(error.report().contains("leads out of the target directory"), "{}", error.report());
}

#[rstest]
#[case::file_behind(Entry::file("link/passwd", 0))]
#[case::deeper(Entry::directory("link/a/b"))]
#[case::hardlink_to_it(Entry::hardlink("x", "link"))]
#[case::hardlink_behind(Entry::hardlink("x", "link/passwd"))]
fn nothing_goes_through_a_link(#[case] entry: Entry) {
    let entries = [(Entry::symlink("link", "/etc"), vec![]), (entry, vec![])];
    assert!(read(&write(&entries)).expect_err("through a link").report().contains("symbolic link"));
}

#[test]
fn hardlinks_stay_inside() {
    assert!(read(&write(&[(Entry::hardlink("x", "/etc/passwd"), vec![])])).is_err());
}

/// The system's tar: every Debian has it, and Barman's restore runs it.
fn system_tar(args: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new("tar")
        .args(args)
        .env("TZ", "UTC")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("tar is needed: apt-get install tar");
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_vec();
    let feeder = std::thread::spawn(move || {
        // tar stops reading early when it only makes an archive.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().expect("tar ends");
    feeder.join().expect("feeder ends");
    assert!(output.status.success(), "tar {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn gnu_tar_reads_ours() {
    let bytes = write(&sample());
    let listing = String::from_utf8(system_tar(&["-tvf", "-", "--numeric-owner"], &bytes)).expect("text");
    let lines: Vec<&str> = listing.lines().collect();
    assert_eq!(lines.len(), sample().len(), "{listing}");
    assert!(lines[0].starts_with("drwx------") && lines[0].ends_with("./"), "{}", lines[0]);
    assert!(lines[1].contains("1000650000/26") && lines[1].contains("2025-11-21 01:23"), "{}", lines[1]);
    assert!(lines[4].ends_with(&"y".repeat(200)), "{}", lines[4]);
    assert!(lines[6].contains("server.crt -> /etc/ssl/server.crt"), "{}", lines[6]);
    assert!(lines[8].contains("copy link to PG_VERSION"), "{}", lines[8]);
    assert_eq!(system_tar(&["-xOf", "-", "base/1/112"], &bytes), b"hello");
}

#[rstest]
fn ours_reads_gnu_tars(#[values("gnu", "posix", "ustar", "oldgnu", "v7")] format: &str) {
    let dir = tempfile::tempdir().expect("a directory");
    let long = if matches!(format, "v7" | "ustar") { "n".repeat(60) } else { "n".repeat(180) };
    std::fs::create_dir(dir.path().join("sub")).expect("writing");
    std::fs::write(dir.path().join("sub").join(&long), vec![5; 1000]).expect("writing");
    std::fs::write(dir.path().join("plain"), b"text").expect("writing");
    std::os::unix::fs::symlink("plain", dir.path().join("link")).expect("writing");
    std::fs::hard_link(dir.path().join("plain"), dir.path().join("plain2")).expect("writing");
    let root = dir.path().to_str().expect("text");
    let bytes = system_tar(&["-cf", "-", "--sort=name", &format!("--format={format}"), "-C", root, "."], b"");
    let entries = read(&bytes).expect("a tar of the system");
    let find =
        |name: &str| entries.iter().find(|(entry, _)| entry.path.to_str() == Some(name)).expect("in the tar");
    assert_eq!(find(".").0.kind, EntryKind::Directory);
    assert_eq!(find(&format!("sub/{long}")).1, vec![5; 1000]);
    assert_eq!(find("link").0.kind, EntryKind::Symlink { target: "plain".into() });
    assert_eq!(find("plain").1, b"text");
    assert_eq!(find("plain2").0.kind, EntryKind::Hardlink { target: "plain".into() });
}

fn paths() -> impl Strategy<Value = String> {
    proptest::collection::vec("[a-zA-Z0-9_é-]{1,60}", 1..6).prop_map(|parts| parts.join("/"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn any_entry_round_trips(
        path in paths(),
        content in proptest::collection::vec(any::<u8>(), 0..1500),
        mode in 0u32..0o10000,
        uid in 0u64..1 << 40,
        gid: u32,
        mtime in -5_000_000_000i64..1 << 40,
        mtime_nanos in 0u32..1_000_000_000,
        uname in "[a-z]{0,40}",
    ) {
        let entry = Entry {
            path: path.into(),
            kind: EntryKind::File,
            size: content.len() as u64,
            mode, uid, gid: u64::from(gid), uname, gname: String::new(), mtime, mtime_nanos,
        };
        let bytes = write(&[(entry.clone(), content.clone())]);
        prop_assert_eq!(read(&bytes).expect("own tar"), [(entry, content)]);
    }

    #[test]
    fn any_input_is_read_without_panic(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..2048),
        seal in any::<bool>(),
    ) {
        if seal && bytes.len() >= BLOCK {
            // Get past the checksum now and then.
            let mut block: header::Block = bytes[..BLOCK].try_into().expect("a block");
            header::seal(&mut block);
            bytes[..BLOCK].copy_from_slice(&block);
        }
        let _ = read(&bytes);
    }
}
