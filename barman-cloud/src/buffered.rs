//! `Read` for what is made to be read by its buffer.

use std::io::{self, BufRead};

/// `Read::read` of a reader whose `BufRead` is where bytes come from: what its buffer holds, as far as there is room.
pub fn read_buffered(reader: &mut impl BufRead, room: &mut [u8]) -> io::Result<usize> {
    let available = reader.fill_buf()?;
    let count = available.len().min(room.len());
    room[..count].copy_from_slice(&available[..count]);
    reader.consume(count);
    Ok(count)
}
