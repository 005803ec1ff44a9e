//! Changes to valid input.

use proptest::prelude::*;
use proptest::sample::Index;

/// One change.
#[derive(Debug, Clone)]
pub enum Change {
    Flip(Index, u8),
    Set(Index, u8),
    Truncate(Index),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Duplicate(Index, usize),
    /// Overwrites with an extreme number, binary or as digits.
    Extreme(Index, usize),
}

const EXTREMES: [&[u8]; 13] = [
    &[0xFF; 8],
    &[0; 8],
    &[0x7F, 0xFF, 0xFF, 0xFF],
    &[0xFF, 0xFF, 0xFF, 0x7F],
    &[0, 0, 0, 0x80],
    b"18446744073709551615",
    b"18446744073709551616",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"4294967296",
    b"77777777777",
    b"FFFFFFFF",
    b"\xC3\x28\xE2\x80\xA8",
];

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        if let Self::Insert(at, new) = self {
            let at = at.index(bytes.len() + 1);
            bytes.splice(at..at, new.iter().copied());
            return;
        }
        if bytes.is_empty() {
            return;
        }
        let length = bytes.len();
        match self {
            Self::Flip(at, bit) => bytes[at.index(length)] ^= 1 << (bit % 8),
            Self::Set(at, byte) => bytes[at.index(length)] = *byte,
            Self::Truncate(at) => bytes.truncate(at.index(length)),
            Self::Insert(..) => {}
            Self::Remove(at, count) => {
                let at = at.index(length);
                bytes.drain(at..(at + count).min(length));
            }
            Self::Duplicate(at, count) => {
                let at = at.index(length);
                let piece = bytes[at..(at + count).min(length)].to_vec();
                bytes.splice(at..at, piece);
            }
            Self::Extreme(at, which) => {
                let at = at.index(length);
                let number = EXTREMES[which % EXTREMES.len()];
                let end = (at + number.len()).min(length);
                bytes.splice(at..end, number.iter().copied());
            }
        }
    }
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, bit)| Change::Flip(at, bit)),
        (at(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        at().prop_map(Change::Truncate),
        (at(), prop::collection::vec(any::<u8>(), 1..16)).prop_map(|(at, new)| Change::Insert(at, new)),
        (at(), 1..64usize).prop_map(|(at, count)| Change::Remove(at, count)),
        (at(), 1..600usize).prop_map(|(at, count)| Change::Duplicate(at, count)),
        (at(), any::<usize>()).prop_map(|(at, which)| Change::Extreme(at, which)),
    ]
}

/// One of the seeds with a few changes, none included.
pub fn mutated(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    (prop::sample::select(seeds), prop::collection::vec(change(), 0..6)).prop_map(|(mut bytes, changes)| {
        for change in changes {
            change.apply(&mut bytes);
        }
        bytes
    })
}

/// As [`mutated`], with most changes near the beginning, where headers are.
pub fn mutated_head(seeds: Vec<Vec<u8>>, head: usize) -> impl Strategy<Value = Vec<u8>> {
    (prop::sample::select(seeds), prop::collection::vec(change(), 1..4)).prop_map(move |(bytes, changes)| {
        let mut front = bytes[..head.min(bytes.len())].to_vec();
        for change in changes {
            change.apply(&mut front);
        }
        front.extend_from_slice(&bytes[head.min(bytes.len())..]);
        front
    })
}

/// Texts, valid UTF-8.
pub fn mutated_text(seeds: &[&str]) -> impl Strategy<Value = String> + use<> {
    mutated(seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect())
        .prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}
