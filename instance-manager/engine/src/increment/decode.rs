//! Reading a file of changed blocks as it arrives, piece by piece.

use super::{FIXED, MAGIC, file_size, header_size};

/// How the server lays relations out in files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Bytes in a block.
    pub page: u32,
    /// Most blocks in a file.
    pub segment_blocks: u32,
}

/// What stands before the blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Numbers of the blocks, ascending.
    pub blocks: Vec<u32>,
    /// Blocks of older copies that may be valid.
    pub truncation: u32,
}

impl Header {
    /// Blocks that the file has when this was applied.
    pub fn length(&self) -> u32 {
        self.blocks.last().map_or(self.truncation, |last| self.truncation.max(last + 1))
    }
}

/// Takes a file in and gives blocks out. What is wrong with it is said in words that follow its name.
#[derive(Debug)]
pub struct Decoder {
    shape: Shape,
    /// Bytes of the file.
    size: u64,
    head: Vec<u8>,
    header: Option<Header>,
    /// Bytes taken in.
    position: u64,
}

/// A piece of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Where in the file that is restored.
    pub offset: u64,
    /// What goes there.
    pub data: &'a [u8],
}

impl Decoder {
    /// A decoder of a file of `size` bytes.
    pub fn new(size: u64, shape: Shape) -> Self {
        Self { shape, size, head: Vec::new(), header: None, position: 0 }
    }

    /// The header, once it was taken in.
    pub fn header(&self) -> Option<&Header> {
        self.header.as_ref()
    }

    /// Takes bytes in: as many as belong together, at least one unless there are none. Returns how many, and what of
    /// a block they are.
    pub fn push<'a>(&mut self, bytes: &'a [u8]) -> Result<(usize, Option<Piece<'a>>), String> {
        if bytes.is_empty() {
            return Ok((0, None));
        }
        let Some(header) = &self.header else { return Ok((self.push_head(bytes)?, None)) };
        let page = u64::from(self.shape.page);
        let start = header_size(header.blocks.len() as u64, page);
        if self.position < start {
            let padding = usize::try_from(start - self.position).unwrap_or(usize::MAX).min(bytes.len());
            self.position += padding as u64;
            return Ok((padding, None));
        }
        let in_blocks = self.position - start;
        let index = usize::try_from(in_blocks / page).unwrap_or(usize::MAX);
        let Some(block) = header.blocks.get(index) else {
            return Err("goes on after its last block".to_owned());
        };
        let within = in_blocks % page;
        let count = usize::try_from(page - within).unwrap_or(usize::MAX).min(bytes.len());
        self.position += count as u64;
        let offset = u64::from(*block) * page + within;
        Ok((count, Some(Piece { offset, data: &bytes[..count] })))
    }

    /// Fails unless the file was taken in to its end.
    pub fn finish(self) -> Result<Header, String> {
        match self.header {
            Some(header) if self.position == self.size => Ok(header),
            _ => Err(format!("ends after {} of {} bytes", self.position, self.size)),
        }
    }

    /// Takes in what is missing of the header; reads it when nothing is.
    fn push_head(&mut self, bytes: &[u8]) -> Result<usize, String> {
        let wanted = match self.count() {
            None => FIXED,
            Some(count) => FIXED + 4 * count as usize,
        };
        let count = (wanted - self.head.len()).min(bytes.len());
        self.head.extend_from_slice(&bytes[..count]);
        self.position += count as u64;
        if self.head.len() == FIXED {
            self.check_fixed()?;
        }
        if self.count().is_some_and(|blocks| self.head.len() == FIXED + 4 * blocks as usize) {
            self.header = Some(self.read_head()?);
            self.head = Vec::new();
        }
        Ok(count)
    }

    fn word(&self, at: usize) -> Option<u32> {
        Some(u32::from_le_bytes(*self.head.get(at..)?.first_chunk()?))
    }

    /// Number of blocks, when it was taken in.
    fn count(&self) -> Option<u32> {
        self.word(8).and_then(|_| self.word(4))
    }

    fn check_fixed(&self) -> Result<(), String> {
        let [magic, count, truncation] = [0, 4, 8].map(|at| self.word(at).unwrap_or(0));
        if magic != MAGIC {
            return Err(format!("begins with {magic:08x}, so it is no file of changed blocks"));
        }
        let most = self.shape.segment_blocks;
        if count > most || truncation > most {
            return Err(format!(
                "names {count} blocks and a length of {truncation}; a file has at most {most}"
            ));
        }
        let size = file_size(u64::from(count), u64::from(self.shape.page));
        if size != self.size {
            return Err(format!("has {} bytes; with {count} blocks it would have {size}", self.size));
        }
        Ok(())
    }

    fn read_head(&self) -> Result<Header, String> {
        let numbers = self.head[FIXED..].as_chunks::<4>().0;
        let blocks: Vec<u32> = numbers.iter().map(|number| u32::from_le_bytes(*number)).collect();
        let ascending = blocks.windows(2).all(|pair| pair[0] < pair[1]);
        if !ascending || blocks.last().is_some_and(|last| *last >= self.shape.segment_blocks) {
            return Err("names blocks that a file cannot have, or not in their order".to_owned());
        }
        Ok(Header { blocks, truncation: self.word(8).unwrap_or(0) })
    }
}
