//! The 512 bytes of a ustar header.

use super::BLOCK;

/// Where a field is: offset and length.
pub(super) type Field = (usize, usize);

pub(super) const NAME: Field = (0, 100);
pub(super) const MODE: Field = (100, 8);
pub(super) const UID: Field = (108, 8);
pub(super) const GID: Field = (116, 8);
pub(super) const SIZE: Field = (124, 12);
pub(super) const MTIME: Field = (136, 12);
pub(super) const CHECKSUM: Field = (148, 8);
pub(super) const TYPE: usize = 156;
pub(super) const LINK: Field = (157, 100);
pub(super) const MAGIC: Field = (257, 8);
pub(super) const UNAME: Field = (265, 32);
pub(super) const GNAME: Field = (297, 32);
pub(super) const PREFIX: Field = (345, 155);

pub(super) type Block = [u8; BLOCK];

pub(super) fn slice(block: &Block, field: Field) -> &[u8] {
    &block[field.0..field.0 + field.1]
}

/// Puts bytes into a field; `false` when they do not fit.
pub(super) fn put(block: &mut Block, field: Field, bytes: &[u8]) -> bool {
    if bytes.len() > field.1 {
        return false;
    }
    block[field.0..field.0 + bytes.len()].copy_from_slice(bytes);
    true
}

/// Puts an octal number with a NUL at its end; `false` when it does not fit.
pub(super) fn put_octal(block: &mut Block, field: Field, value: u64) -> bool {
    let digits = field.1 - 1;
    if digits * 3 < 64 && value >> (digits * 3) != 0 {
        return false;
    }
    let text = format!("{value:0digits$o}");
    put(block, field, text.as_bytes())
}

/// The text in a field, up to the first NUL.
pub(super) fn text(block: &Block, field: Field) -> &[u8] {
    let bytes = slice(block, field);
    &bytes[..bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len())]
}

/// A number: octal with blanks around, or GNU's base 256. `None` when it is neither.
pub(super) fn number(block: &Block, field: Field) -> Option<i64> {
    let bytes = slice(block, field);
    let first = *bytes.first()?;
    if first & 0x80 != 0 {
        // Two's complement, big endian, the top bit only marks the form.
        let negative = first & 0x40 != 0;
        let mut value: i128 = if negative { -1 } else { 0 };
        for (index, byte) in bytes.iter().enumerate() {
            let byte = if index == 0 { byte & 0x7F | if negative { 0x80 } else { 0 } } else { *byte };
            value = value.checked_shl(8)? | i128::from(byte);
            if value > i128::from(i64::MAX) || value < i128::from(i64::MIN) {
                return None;
            }
        }
        return i64::try_from(value).ok();
    }
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    let text = std::str::from_utf8(&bytes[..end]).ok()?.trim_matches(' ');
    if text.is_empty() {
        return Some(0);
    }
    if !text.bytes().all(|b| (b'0'..=b'7').contains(&b)) {
        return None;
    }
    i64::from_str_radix(text, 8).ok()
}

/// The checksum: all bytes added up, the checksum's own taken as blanks.
pub(super) fn checksum(block: &Block) -> u64 {
    block
        .iter()
        .enumerate()
        .map(|(index, byte)| {
            let own = (CHECKSUM.0..CHECKSUM.0 + CHECKSUM.1).contains(&index);
            u64::from(if own { b' ' } else { *byte })
        })
        .sum()
}

/// Fills in the checksum, in the form that every tar writes: six digits, NUL, blank.
pub(super) fn seal(block: &mut Block) {
    let text = format!("{:06o}\0 ", checksum(block));
    put(block, CHECKSUM, text.as_bytes());
}
