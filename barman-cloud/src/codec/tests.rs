use super::*;
use proptest::prelude::*;
use rstest::rstest;
use std::io::{BufRead, Read, Write};

fn encode(codec: Compression, level: Option<i32>, data: &[u8]) -> Vec<u8> {
    let mut encoder = Encoder::new(codec, level, Vec::new()).expect("a level the codec knows");
    for chunk in data.chunks(7919) {
        encoder.write_all(chunk).expect("memory");
    }
    encoder.finish().expect("memory")
}

fn decode(codec: Compression, data: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut out = Vec::new();
    Decoder::new(codec, data)?.read_to_end(&mut out)?;
    Ok(out)
}

/// Half noise, half repetition, and longer than every block size but bzip2's.
fn sample() -> Vec<u8> {
    let mut state = 0x2545_F491_4F6C_DD1Du64;
    (0..700_000u32)
        .map(|i| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            if i / 4096 % 2 == 0 { state as u8 } else { (i % 17) as u8 }
        })
        .collect()
}

#[rstest]
fn round_trip(
    #[values(
        Compression::None,
        Compression::Gzip,
        Compression::Bzip2,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
        Compression::Xz
    )]
    codec: Compression,
) {
    let data = sample();
    let packed = encode(codec, None, &data);
    assert!(codec == Compression::None || packed.len() < data.len());
    assert_eq!(decode(codec, &packed).expect("own output"), data);
}

#[rstest]
fn several_members_are_read_as_one(
    #[values(
        Compression::Gzip,
        Compression::Bzip2,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
        Compression::Xz
    )]
    codec: Compression,
) {
    let mut packed = encode(codec, None, b"first ");
    packed.extend(encode(codec, None, b"second"));
    assert_eq!(decode(codec, &packed).expect("two members"), b"first second");
}

#[rstest]
#[case(Compression::Gzip)]
#[case(Compression::Bzip2)]
#[case(Compression::Lz4)]
#[case(Compression::Xz)]
fn zero_padding_is_accepted_and_garbage_is_not(#[case] codec: Compression) {
    let mut packed = encode(codec, None, b"content");
    packed.extend([0; 700]);
    assert_eq!(decode(codec, &packed).expect("padding"), b"content");
    packed.extend(b"junk");
    assert!(decode(codec, &packed).is_err());
}

#[rstest]
fn every_truncation_is_noticed(
    #[values(Compression::Gzip, Compression::Bzip2, Compression::Lz4, Compression::Zstd, Compression::Xz)]
    codec: Compression,
) {
    let data = sample();
    let packed = encode(codec, None, &data[..20_000]);
    for cut in (1..packed.len()).step_by(97).chain([packed.len() - 1]) {
        match decode(codec, &packed[..cut]) {
            Err(error) => assert!(
                matches!(error.kind(), std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::InvalidData),
                "{codec} cut at {cut}: {error:?}"
            ),
            Ok(got) => panic!("{codec} cut at {cut} of {} gave {} bytes", packed.len(), got.len()),
        }
    }
}

#[rstest]
fn damage_is_noticed(
    #[values(
        Compression::Gzip,
        Compression::Bzip2,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
        Compression::Xz
    )]
    codec: Compression,
) {
    let data = &sample()[..50_000];
    let good = encode(codec, None, data);
    for at in (good.len() / 10..good.len() - 12).step_by(good.len() / 23) {
        let mut bad = good.clone();
        bad[at] ^= 0x20;
        match decode(codec, &bad) {
            Err(_) => {}
            Ok(got) => assert_eq!(got, data, "{codec} damaged at {at} gave other content"),
        }
    }
}

#[rstest]
fn an_empty_object_is_no_compressed_stream(
    #[values(Compression::Gzip, Compression::Bzip2, Compression::Lz4, Compression::Xz)] codec: Compression,
) {
    assert!(decode(codec, b"").is_err());
}

#[test]
fn a_small_object_cannot_expand_without_limit() {
    let packed = encode(Compression::Zstd, None, &vec![0; 8 << 20]);
    assert!(packed.len() < 10_000);
    let mut out = Vec::new();
    let decoder = Decoder::new(Compression::Zstd, packed.as_slice()).expect("a decoder");
    let error = Bounded::new(decoder, 1 << 20).read_to_end(&mut out).expect_err("more than the limit");
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    assert!(out.len() <= 2 << 20);
}

#[rstest]
#[case("data.tar", "data.tar", Compression::None)]
#[case("data.tar.gz", "data.tar", Compression::Gzip)]
#[case("x.bz2", "x", Compression::Bzip2)]
#[case("x.snappy", "x", Compression::Snappy)]
#[case("x.lz4", "x", Compression::Lz4)]
#[case("x.zst", "x", Compression::Zstd)]
#[case("x.xz", "x", Compression::Xz)]
#[case("x.gz.gz", "x.gz", Compression::Gzip)]
#[case("gz", "gz", Compression::None)]
fn suffixes(#[case] name: &str, #[case] stem: &str, #[case] codec: Compression) {
    assert_eq!(Compression::split(name), (stem, codec));
    assert_eq!(format!("{stem}{}", codec.suffix()), name);
}

#[rstest]
#[case(Compression::Gzip, Some(10))]
#[case(Compression::Bzip2, Some(0))]
#[case(Compression::Zstd, Some(23))]
#[case(Compression::Lz4, Some(1))]
#[case(Compression::None, Some(1))]
fn unknown_levels_are_refused(#[case] codec: Compression, #[case] level: Option<i32>) {
    assert!(Encoder::new(codec, level, Vec::new()).is_err());
}

#[test]
fn names_round_trip() {
    for codec in Compression::ALL {
        assert_eq!(codec.to_string().parse::<Compression>().expect("own name"), codec);
    }
    assert!("lzma".parse::<Compression>().is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_bytes_round_trip(data in proptest::collection::vec(any::<u8>(), 0..3000), pick in 0usize..7) {
        let codec = Compression::ALL[pick];
        let packed = encode(codec, None, &data);
        prop_assert_eq!(decode(codec, &packed).expect("own output"), data);
    }

    #[test]
    fn any_input_is_decoded_without_panic(data in proptest::collection::vec(any::<u8>(), 0..300), pick in 0usize..7) {
        let codec = Compression::ALL[pick];
        let mut out = Vec::new();
        if let Ok(decoder) = Decoder::new(codec, data.as_slice()) {
            let _ = Bounded::new(decoder, 1 << 20).read_to_end(&mut out);
        }
    }
}

/// As a restore reads: what lies there, without copying, in pieces of any size.
fn decode_in_place(codec: Compression, data: &[u8], piece: usize) -> std::io::Result<Vec<u8>> {
    let mut decoder = Decoder::new(codec, std::io::BufReader::with_capacity(1000, data))?;
    let mut out = Vec::new();
    loop {
        let there = decoder.fill_buf()?;
        if there.is_empty() {
            return Ok(out);
        }
        let count = there.len().min(piece);
        out.extend_from_slice(&there[..count]);
        decoder.consume(count);
    }
}

#[rstest]
fn reading_in_place_gives_the_same(
    #[values(
        Compression::None,
        Compression::Gzip,
        Compression::Bzip2,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
        Compression::Xz
    )]
    codec: Compression,
    #[values(777, 1 << 20)] piece: usize,
) {
    let data = sample();
    let mut packed = encode(codec, None, &data);
    packed.extend(encode(codec, None, b"more"));
    let expected = [data.as_slice(), b"more"].concat();
    assert_eq!(decode_in_place(codec, &packed, piece).expect("own output"), expected);
}

#[test]
fn reading_in_place_and_copying_may_alternate() {
    let data = sample();
    for codec in Compression::ALL {
        let packed = encode(codec, None, &data);
        let mut decoder = Decoder::new(codec, packed.as_slice()).expect("a decoder");
        let mut out = Vec::new();
        let mut copy = [0; 1234];
        loop {
            let there = decoder.fill_buf().expect("own output");
            let count = there.len().min(4321);
            out.extend_from_slice(&there[..count]);
            decoder.consume(count);
            let copied = decoder.read(&mut copy).expect("own output");
            out.extend_from_slice(&copy[..copied]);
            if count == 0 && copied == 0 {
                break;
            }
        }
        assert_eq!(out, data, "{codec}");
    }
}

/// The decoder below takes the end of the input for the end of the frame there.
#[test]
fn an_lz4_frame_cut_between_two_blocks_is_noticed() {
    let packed = encode(Compression::Lz4, None, &sample());
    let mut at = 7;
    let mut blocks = 0;
    loop {
        let error = decode(Compression::Lz4, &packed[..at]).expect_err("no end");
        assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof, "cut at {at}");
        assert!(decode_in_place(Compression::Lz4, &packed[..at], 1 << 20).is_err(), "cut at {at}");
        let length = u32::from_le_bytes(packed[at..at + 4].try_into().expect("four bytes")) & 0x7fff_ffff;
        if length == 0 {
            break;
        }
        // Its length before it, its checksum behind it.
        at += 4 + length as usize + 4;
        blocks += 1;
    }
    assert!(blocks > 2, "{blocks}");
}
