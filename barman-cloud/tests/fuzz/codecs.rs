//! Every decoder on damaged frames.

use crate::mutate::{mutated, mutated_head};
use crate::watch::{Patient, within};
use barman_cloud::Compression;
use barman_cloud::codec::{Bounded, Decoder, Encoder};
use proptest::prelude::*;
use std::io::{self, Read, Write};

/// Most bytes that a reader takes, as it knows the size of what it expects.
const LIMIT: u64 = 256 << 10;
/// Largest buffers of the decoders that allocate through Rust: an LZ4 frame may ask for blocks of 8 MiB, and its
/// decoder holds two of them and a window. The C libraries have limits of their own: 128 MiB.
const BOUND: usize = 40 << 20;

fn content() -> Vec<u8> {
    let mut content: Vec<u8> = (0..60_000u32).flat_map(|n| (n / 7).to_le_bytes()).take(100_000).collect();
    let mut state = 1u32;
    content.extend(
        std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .take(40_000),
    );
    content
}

fn packed(codec: Compression, content: &[u8]) -> Vec<u8> {
    let mut encoder = Encoder::new(codec, None, Vec::new()).expect("an encoder");
    encoder.write_all(content).expect("memory");
    encoder.finish().expect("memory")
}

/// A large frame, a small one, and two members in a row.
fn seeds(codec: Compression) -> Vec<Vec<u8>> {
    let (large, small) = (packed(codec, &content()), packed(codec, b"START WAL LOCATION: 0/4000028\n"));
    let two = [small.clone(), small.clone()].concat();
    vec![large, small, two]
}

/// Decodes all there is, in the bounds that readers set.
fn decode(codec: Compression, bytes: &[u8]) -> io::Result<u64> {
    let mut decoder = Bounded::new(Decoder::new(codec, Patient::new(bytes))?, LIMIT);
    let mut buffer = [0; 8192];
    let mut reads = 0u64;
    while decoder.read(&mut buffer)? > 0 {
        reads += 1;
        assert!(reads <= LIMIT, "more pieces than bytes");
    }
    Ok(decoder.count())
}

fn check(codec: Compression, bytes: &[u8]) {
    let Err(error) = within(BOUND, || decode(codec, bytes)) else { return };
    let kind = error.kind();
    assert!(
        matches!(kind, io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof),
        "{codec}: {kind:?}: {error}"
    );
    assert!(!error.to_string().is_empty());
}

#[test]
fn the_seeds_are_whole() {
    for codec in Compression::ALL {
        assert_eq!(decode(codec, &seeds(codec)[0]).expect("whole"), 140_000, "{codec}");
    }
}

macro_rules! frames {
    ($($name:ident: $codec:expr;)*) => {
        proptest! {
            $(
                #[test]
                fn $name(bytes in prop_oneof![mutated(seeds($codec)), mutated_head(seeds($codec), 40)]) {
                    check($codec, &bytes);
                }
            )*
        }
    };
}

frames! {
    gzip: Compression::Gzip;
    bzip2: Compression::Bzip2;
    snappy: Compression::Snappy;
    lz4: Compression::Lz4;
    zstd: Compression::Zstd;
    xz: Compression::Xz;
}
