use super::decode::Piece;
use super::*;
use proptest::prelude::*;
use roaring::RoaringBitmap;

const PAGE: usize = 1024;
const SHAPE: Shape = Shape { page: PAGE as u32, segment_blocks: 64 };

/// A file of blocks, each filled with one byte.
fn encode(blocks: &RoaringBitmap, truncation: u32, byte: u8) -> Vec<u8> {
    let mut file = header(blocks, truncation, PAGE as u64);
    for block in blocks {
        file.extend_from_slice(&[byte ^ block as u8; PAGE]);
    }
    file
}

/// Applies a file of blocks as a restore does, in pieces of at most `step` bytes.
fn apply(base: &mut Vec<u8>, file: &[u8], step: usize) -> Result<Header, String> {
    let mut decoder = Decoder::new(file.len() as u64, SHAPE);
    let mut writes: Vec<(u64, Vec<u8>)> = Vec::new();
    for mut bytes in file.chunks(step) {
        while !bytes.is_empty() {
            let (count, piece) = decoder.push(bytes)?;
            writes.extend(piece.map(|Piece { offset, data }| (offset, data.to_vec())));
            bytes = &bytes[count..];
        }
    }
    let header = decoder.finish()?;
    base.truncate(header.truncation as usize * PAGE);
    base.resize(header.length() as usize * PAGE, 0);
    for (offset, data) in writes {
        base[offset as usize..offset as usize + data.len()].copy_from_slice(&data);
    }
    Ok(header)
}

#[test]
fn the_form_is_postgresqls() {
    let empty = header(&RoaringBitmap::new(), 7, 8192);
    assert_eq!(empty, [0x0d, 0x1f, 0xae, 0xd3, 0, 0, 0, 0, 7, 0, 0, 0], "no padding without blocks");
    let one = header(&RoaringBitmap::from_iter([258]), 300, 8192);
    assert_eq!(one.len(), 8192);
    assert_eq!(one[..20], [0x0d, 0x1f, 0xae, 0xd3, 1, 0, 0, 0, 44, 1, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0]);
    // 2045 numbers and what stands before them fill one block of 8 KiB exactly.
    assert_eq!(file_size(2045, 8192), 8192 * 2046);
    assert_eq!(file_size(2046, 8192), 8192 * 2048);
}

#[test]
fn a_truncated_file_loses_what_it_lost() {
    let mut base = vec![1; 10 * PAGE];
    let file = encode(&RoaringBitmap::from_iter([6]), 4, 0);
    apply(&mut base, &file, 4096).expect("applies");
    assert_eq!(base.len(), 7 * PAGE);
    assert!(
        base[..4 * PAGE].iter().all(|byte| *byte == 1) && base[4 * PAGE..6 * PAGE].iter().all(|b| *b == 0)
    );
    assert!(base[6 * PAGE..].iter().all(|byte| *byte == 6));
}

#[test]
fn what_cannot_be_is_said() {
    let good = encode(&RoaringBitmap::from_iter([3, 5]), 9, 0);
    let with = |at: usize, value: u32| {
        let mut bad = good.clone();
        bad[at..at + 4].copy_from_slice(&value.to_le_bytes());
        apply(&mut Vec::new(), &bad, 4096).expect_err("refused")
    };
    for (text, says) in [
        (with(0, 7), "no file of changed blocks"),
        (with(4, 1), "it would have"),
        (with(4, 65), "at most 64"),
        (with(8, 65), "at most 64"),
        (with(12, 5), "order"),
        (with(16, 64), "cannot have"),
        (apply(&mut Vec::new(), &good[..good.len() - 1], 4096).expect_err("short"), "it would have"),
        (apply(&mut Vec::new(), &good[..9], 4096).expect_err("short"), "ends after 9 of 9 bytes"),
    ] {
        assert!(text.contains(says), "{text} does not say {says}");
    }
}

/// States of a file, one after the other: its length in blocks, and which of them are new.
fn history() -> impl Strategy<Value = Vec<(u32, Vec<u32>)>> {
    let state = (0_u32..64)
        .prop_flat_map(|length| (Just(length), proptest::collection::vec(0..length.max(1), 0..16)));
    proptest::collection::vec(state, 1..6)
}

proptest! {
    /// S0.2: a chain applied in place is what the file was, however it grew, shrank and changed.
    #[test]
    fn a_chain_is_the_model(states in history(), step in 1_usize..5000) {
        let mut model: Vec<u8> = vec![0xff; 20 * PAGE];
        let mut restored = model.clone();
        for (number, (length, changed)) in states.into_iter().enumerate() {
            let byte = number as u8;
            let before = model.len() / PAGE;
            model.resize(length as usize * PAGE, 0);
            // What a file grows by is new.
            let blocks: RoaringBitmap = changed.into_iter().chain(before as u32..length).filter(|b| *b < length).collect();
            for block in &blocks {
                model[block as usize * PAGE..][..PAGE].fill(byte ^ block as u8);
            }
            let file = encode(&blocks, length, byte);
            prop_assert_eq!(file.len() as u64, file_size(blocks.len(), PAGE as u64));
            let header = apply(&mut restored, &file, step).expect("applies");
            prop_assert_eq!(header.blocks, blocks.iter().collect::<Vec<_>>());
            // A part may be tried again after it was applied in part.
            apply(&mut restored, &file, 4096).expect("applies again");
            prop_assert_eq!(&restored, &model);
        }
    }

    #[test]
    fn any_input_is_read_without_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..3000),
        size in 0_u64..5000,
        step in 1_usize..100,
        real in any::<bool>(),
    ) {
        let mut file = bytes;
        if real && file.len() >= 12 {
            // Past the first check, where more can go wrong.
            file[..4].copy_from_slice(&MAGIC.to_le_bytes());
            file[5..8].fill(0);
            file[9..12].fill(0);
        }
        let mut decoder = Decoder::new(size, SHAPE);
        'all: for mut bytes in file.chunks(step) {
            while !bytes.is_empty() {
                let Ok((count, piece)) = decoder.push(bytes) else { break 'all };
                prop_assert!(count > 0 && count <= bytes.len());
                if let Some(piece) = piece {
                    prop_assert!(piece.offset + piece.data.len() as u64 <= 64 * PAGE as u64);
                }
                bytes = &bytes[count..];
            }
        }
    }
}
