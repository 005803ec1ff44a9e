//! PostgreSQL's page checksum, computed on the way of the data to the store.
//!
//! The algorithm is 32 parallel lanes of a modified FNV-1a over the page with its checksum field taken as zero,
//! mixed with the block number. It is part of the on-disk format and the same in PostgreSQL 13 to 18.

use barman_cloud::Lsn;

const LANES: usize = 32;
const PRIME: u32 = 16_777_619;
const CHECKSUM_AT: usize = 8;
const UPPER_AT: usize = 14;

/// Start values of the lanes, fixed by the on-disk format.
const OFFSETS: [u32; LANES] = [
    0x5B1F_36E9,
    0xB852_5960,
    0x02AB_50AA,
    0x1DE6_6D2A,
    0x79FF_467A,
    0x9BB9_F8A3,
    0x217E_7CD2,
    0x83E1_3D2C,
    0xF8D4_474F,
    0xE39E_B970,
    0x42C6_AE16,
    0x9932_16FA,
    0x7B09_3B5D,
    0x98DA_FF3C,
    0xF718_902A,
    0x0B1C_9CDB,
    0xE58F_764B,
    0x1876_36BC,
    0x5D7B_3BB1,
    0xE73D_E7DE,
    0x92BE_C979,
    0xCCA6_C0B2,
    0x304A_0979,
    0x85AA_43D4,
    0x7831_25BB,
    0x6CA8_EAA2,
    0xE407_EAC6,
    0x4B5C_FC3E,
    0x9FBF_8C76,
    0x15CA_20BE,
    0xF2CA_9FD3,
    0x959B_D756,
];

/// What a look at one page says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageState {
    /// New (all zeros), or its checksum is right.
    Good,
    /// Wrong, and the position of its last change.
    Bad(Lsn),
}

/// The checksum that the page should carry. `page` is a whole page; blocks count from the start of the fork.
///
/// Compiled several times: 32 lanes are what wide vectors are for, and the processor that is there decides.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2", "aarch64+neon"))]
pub fn checksum(page: &[u8], block: u32) -> u16 {
    let mut lanes = OFFSETS;
    let mut rows = page.chunks_exact(LANES * 4);
    if let Some(first) = rows.next() {
        let mut row = [0_u8; LANES * 4];
        row.copy_from_slice(first);
        row[CHECKSUM_AT..CHECKSUM_AT + 2].fill(0);
        mix(&mut lanes, &row);
    }
    for row in rows {
        mix(&mut lanes, row);
    }
    let zeros = [0_u8; LANES * 4];
    mix(&mut lanes, &zeros);
    mix(&mut lanes, &zeros);
    let folded = lanes.iter().fold(0, |all, lane| all ^ lane) ^ block;
    // Never 0, which means "none". The remainder is below 65535.
    (folded % 65535) as u16 + 1
}

#[inline(always)]
fn mix(lanes: &mut [u32; LANES], row: &[u8]) {
    for (lane, word) in lanes.iter_mut().zip(row.as_chunks::<4>().0) {
        let value = *lane ^ u32::from_le_bytes(*word);
        *lane = value.wrapping_mul(PRIME) ^ (value >> 17);
    }
}

/// Checks one page. A page that PostgreSQL has allocated but not yet filled is all zeros and carries none.
pub fn check(page: &[u8], block: u32) -> PageState {
    let u16_at = |at: usize| u16::from_le_bytes([page[at], page[at + 1]]);
    if u16_at(UPPER_AT) == 0 {
        return if is_zero(page) { PageState::Good } else { PageState::Bad(lsn(page)) };
    }
    if u16_at(CHECKSUM_AT) == checksum(page, block) { PageState::Good } else { PageState::Bad(lsn(page)) }
}

/// Whether all bytes are zero. Shifted against itself a page of zeros is equal, so one comparison of memory decides.
pub fn is_zero(page: &[u8]) -> bool {
    page.first().is_none_or(|first| *first == 0 && page[1..] == page[..page.len() - 1])
}

/// Position of the page's last change: two 32-bit halves, the high one first.
pub fn lsn(page: &[u8]) -> Lsn {
    let u32_at = |at: usize| u32::from_le_bytes([page[at], page[at + 1], page[at + 2], page[at + 3]]);
    Lsn(u64::from(u32_at(0)) << 32 | u64::from(u32_at(4)))
}

/// Whether a file holds relation pages, and the number of its segment within the fork. `relative` is the path in
/// the data directory or, for a tablespace, below its version directory's parent.
pub fn relation_segment(relative: &str) -> Option<u32> {
    let mut parts = relative.rsplit('/');
    let file = parts.next()?;
    let parent = parts.next()?;
    // `global/<file>`, `base/<db>/<file>`, `PG_…/<db>/<file>`, `pg_tblspc/<oid>/PG_…/<db>/<file>`.
    let in_place = match parent {
        "global" => parts.next().is_none(),
        db if is_number(db) => parts.next().is_some_and(|above| above == "base" || above.starts_with("PG_")),
        _ => false,
    };
    if !in_place {
        return None;
    }
    let (name, segment) = match file.split_once('.') {
        None => (file, 0),
        Some((name, segment)) if is_number(segment) => (name, segment.parse().ok()?),
        Some(_) => return None,
    };
    let node = match name.split_once('_') {
        None => name,
        Some((node, "fsm" | "vm" | "init")) => node,
        Some(_) => return None,
    };
    is_number(node).then_some(segment)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    /// The same rules written down the slow way: one lane after the other, over a copy of the page.
    fn slow(page: &[u8], block: u32) -> u16 {
        let mut page = page.to_vec();
        page[8] = 0;
        page[9] = 0;
        let words: Vec<u32> =
            page.chunks(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]])).chain([0; 64]).collect();
        let mut result = 0;
        for (lane, offset) in OFFSETS.into_iter().enumerate() {
            let mut value = offset;
            for word in words.iter().skip(lane).step_by(32) {
                let mixed = value ^ word;
                value = mixed.wrapping_mul(PRIME) ^ (mixed >> 17);
            }
            result ^= value;
        }
        ((result ^ block) % 65535) as u16 + 1
    }

    fn page(seed: u8) -> Vec<u8> {
        (0..8192_u32).map(|i| (i.wrapping_mul(31) >> 3) as u8 ^ seed).collect()
    }

    #[test]
    fn lanes_agree_with_the_slow_way() {
        for block in [0, 1, 7, 131_071, u32::MAX] {
            assert_eq!(checksum(&page(block as u8), block), slow(&page(block as u8), block));
        }
    }

    #[test]
    fn a_wrong_bit_or_a_wrong_place_is_seen() {
        let mut page = page(3);
        let sum = checksum(&page, 5);
        page[8..10].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(check(&page, 5), PageState::Good);
        assert!(matches!(check(&page, 6), PageState::Bad(_)));
        page[4000] ^= 1;
        assert!(matches!(check(&page, 5), PageState::Bad(_)));
    }

    #[test]
    fn a_new_page_is_all_zeros() {
        let mut page = vec![0; 8192];
        assert_eq!(check(&page, 9), PageState::Good);
        page[8000] = 1;
        assert_eq!(check(&page, 9), PageState::Bad(Lsn(0)));
    }

    #[rstest]
    #[case("base/5/16384", Some(0))]
    #[case("base/5/16384.12", Some(12))]
    #[case("base/5/16384_vm", Some(0))]
    #[case("base/5/16384_fsm.1", Some(1))]
    #[case("base/5/16384_init", Some(0))]
    #[case("global/1262", Some(0))]
    #[case("PG_15_202209061/5/16400.3", Some(3))]
    #[case("pg_tblspc/16399/PG_15_202209061/5/16400", Some(0))]
    #[case::map("base/5/pg_filenode.map", None)]
    #[case::version("base/5/PG_VERSION", None)]
    #[case::control("global/pg_control", None)]
    #[case::commit_log("pg_xact/0000", None)]
    #[case::elsewhere("backup/5/16384", None)]
    #[case::temporary("base/5/t3_16384", None)]
    #[case::odd("base/5/16384.x", None)]
    #[case::root("16384", None)]
    fn relation_files_are_told_by_name(#[case] path: &str, #[case] segment: Option<u32>) {
        assert_eq!(relation_segment(path), segment);
    }
}
