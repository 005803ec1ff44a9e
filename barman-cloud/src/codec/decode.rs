//! Streaming decoders: one `Read` over all codecs, any number of members, strict about truncation.

use super::Compression;
use bzip2::bufread::BzDecoder;
use flate2::bufread::GzDecoder;
use liblzma::bufread::XzDecoder;
use liblzma::stream::Stream as XzStream;
use lz4_flex::frame::FrameDecoder as Lz4Decoder;
use snap::read::FrameDecoder as SnappyDecoder;
use std::io::{self, BufRead, Read};
use zstd::stream::read::Decoder as ZstdDecoder;

/// Bytes decompressed at a time for who reads without copying.
const OUTPUT_BUFFER: usize = 256 << 10;
/// Largest window a zstd frame may ask for: 2^27, the limit of the zstd command line.
const ZSTD_WINDOW_LOG: u32 = 27;
/// Memory that an xz stream may ask for: enough for preset 9.
const XZ_MEMORY: u64 = 128 << 20;

/// Decompresses what is read. Ends only where a member ends: a truncated input is an error of kind
/// `UnexpectedEof` or `InvalidData`. Two formats cannot tell: plain bytes, and Snappy cut between two chunks;
/// there the caller knows the size ([`Bounded`], tar end blocks).
///
/// As [`BufRead`] it hands out what was decompressed where it lies: plain bytes and LZ4 blocks are never copied,
/// the other codecs decompress into one buffer, which is made when it is first needed.
pub struct Decoder<R: BufRead> {
    inner: Inner<R>,
    buffer: Vec<u8>,
    /// What of the buffer was not consumed yet.
    rest: std::ops::Range<usize>,
}

enum Inner<R: BufRead> {
    None(R),
    Members(Members<R>),
    /// Reads concatenated streams by itself.
    Snappy(Box<SnappyDecoder<R>>),
    /// Reads concatenated frames by itself.
    Zstd(Box<ZstdDecoder<'static, R>>),
}

impl<R: BufRead> Decoder<R> {
    /// A decoder for the codec.
    pub fn new(codec: Compression, reader: R) -> io::Result<Self> {
        let inner = match codec {
            Compression::None => Inner::None(reader),
            Compression::Gzip | Compression::Bzip2 | Compression::Lz4 | Compression::Xz => {
                Inner::Members(Members { codec, state: State::Between { input: reader, first: true } })
            }
            Compression::Snappy => Inner::Snappy(Box::new(SnappyDecoder::new(reader))),
            Compression::Zstd => {
                let mut decoder = ZstdDecoder::with_buffer(reader)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                Inner::Zstd(Box::new(decoder))
            }
        };
        Ok(Self { inner, buffer: Vec::new(), rest: 0..0 })
    }
}

impl<R: BufRead> Inner<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let result = match self {
            Self::None(reader) => return reader.read(buffer),
            Self::Members(members) => members.read(buffer),
            Self::Snappy(decoder) => decoder.read(buffer),
            Self::Zstd(decoder) => decoder.read(buffer),
        };
        result.map_err(as_damage)
    }
}

impl<R: BufRead> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.rest.is_empty() {
            return self.inner.read(buffer);
        }
        let count = self.rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.buffer[self.rest.start..][..count]);
        self.rest.start += count;
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Decoder<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let Self { inner, buffer, rest } = self;
        match inner {
            Inner::None(reader) => return reader.fill_buf(),
            Inner::Members(members @ Members { codec: Compression::Lz4, .. }) => {
                return members.fill_lz4().map_err(as_damage);
            }
            inner => {
                if rest.start == rest.end {
                    buffer.resize(OUTPUT_BUFFER, 0);
                    *rest = 0..inner.read(buffer)?;
                }
            }
        }
        Ok(&buffer[rest.clone()])
    }

    fn consume(&mut self, amount: usize) {
        match &mut self.inner {
            Inner::None(reader) => reader.consume(amount),
            Inner::Members(Members { state: State::Lz4(decoder), .. }) => decoder.consume(amount),
            _ => self.rest.start += amount.min(self.rest.len()),
        }
    }
}

/// The codecs disagree on error kinds. A failure of the reader below (it carries our own error, or a kind of the
/// operating system) is passed on; what a codec says of the bytes becomes `InvalidData`.
fn as_damage(error: io::Error) -> io::Error {
    let own = error.get_ref().is_some_and(|inner| inner.is::<crate::Error>());
    match error.kind() {
        io::ErrorKind::Other | io::ErrorKind::InvalidInput if !own && error.raw_os_error().is_none() => {
            io::Error::new(io::ErrorKind::InvalidData, error)
        }
        _ => error,
    }
}

/// Members one after the other, for decoders that stop at the end of each.
struct Members<R: BufRead> {
    codec: Compression,
    state: State<R>,
}

enum State<R: BufRead> {
    Between { input: R, first: bool },
    Gzip(Box<GzDecoder<R>>),
    Bzip2(Box<BzDecoder<R>>),
    Lz4(Box<Lz4Decoder<Input<R>>>),
    Xz(Box<XzDecoder<R>>),
    Done,
}

/// Remembers that the input ended: the LZ4 decoder takes an end between two blocks for the end of the frame.
struct Input<R> {
    reader: R,
    ended: bool,
}

impl<R: Read> Read for Input<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.ended |= count == 0 && !buffer.is_empty();
        Ok(count)
    }
}

impl<R: BufRead> Members<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let count = match &mut self.state {
                State::Done => return Ok(0),
                State::Between { .. } => {
                    self.open()?;
                    continue;
                }
                State::Gzip(decoder) => decoder.read(buffer)?,
                State::Bzip2(decoder) => decoder.read(buffer)?,
                State::Lz4(decoder) => decoder.read(buffer)?,
                State::Xz(decoder) => decoder.read(buffer)?,
            };
            if count > 0 {
                return Ok(count);
            }
            self.close()?;
        }
    }

    /// The block that was decompressed last, or the next one; empty at the end.
    fn fill_lz4(&mut self) -> io::Result<&[u8]> {
        loop {
            match &mut self.state {
                State::Lz4(decoder) => {
                    if !decoder.fill_buf()?.is_empty() {
                        break;
                    }
                    self.close()?;
                }
                State::Between { .. } => self.open()?,
                _ => return Ok(&[]),
            }
        }
        match &mut self.state {
            State::Lz4(decoder) => decoder.fill_buf(),
            _ => Ok(&[]),
        }
    }

    /// A member ended; what follows is seen by the next call of `open`.
    fn close(&mut self) -> io::Result<()> {
        let input = match std::mem::replace(&mut self.state, State::Done) {
            State::Gzip(decoder) => decoder.into_inner(),
            State::Bzip2(decoder) => decoder.into_inner(),
            State::Lz4(decoder) => {
                let input = decoder.into_inner();
                if input.ended {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the lz4 frame has no end"));
                }
                input.reader
            }
            State::Xz(decoder) => decoder.into_inner(),
            other => {
                self.state = other;
                return Ok(());
            }
        };
        self.state = State::Between { input, first: false };
        Ok(())
    }

    /// Opens the next member, or ends at the end of the input or at zero padding up to it.
    fn open(&mut self) -> io::Result<()> {
        let State::Between { mut input, first } = std::mem::replace(&mut self.state, State::Done) else {
            return Ok(());
        };
        let next = peek(&mut input)?;
        match next {
            None if first => {
                let text = format!("the object is empty: not a {} stream", self.codec);
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
            }
            None => return Ok(()),
            Some(0) if !first => return only_zeros(&mut input, self.codec),
            Some(_) => {}
        }
        self.state = match self.codec {
            Compression::Gzip => State::Gzip(Box::new(GzDecoder::new(input))),
            Compression::Bzip2 => State::Bzip2(Box::new(BzDecoder::new(input))),
            Compression::Lz4 => State::Lz4(Box::new(Lz4Decoder::new(Input { reader: input, ended: false }))),
            _ => {
                let stream = XzStream::new_stream_decoder(XZ_MEMORY, 0).map_err(io::Error::other)?;
                State::Xz(Box::new(XzDecoder::new_stream(input, stream)))
            }
        };
        Ok(())
    }
}

fn peek(input: &mut impl BufRead) -> io::Result<Option<u8>> {
    loop {
        match input.fill_buf() {
            Ok(data) => return Ok(data.first().copied()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Padding after the last member, as some tools leave it.
fn only_zeros(input: &mut impl BufRead, codec: Compression) -> io::Result<()> {
    loop {
        let (length, clean) = {
            let data = input.fill_buf()?;
            (data.len(), data.iter().all(|byte| *byte == 0))
        };
        if length == 0 {
            return Ok(());
        }
        if !clean {
            let text = format!("something other than {codec} follows the compressed data");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        input.consume(length);
    }
}

/// Passes a reader through and fails when it gives more than `limit` bytes: a small object must not fill a disk.
pub struct Bounded<R> {
    reader: R,
    limit: u64,
    count: u64,
}

impl<R: Read> Bounded<R> {
    /// At most `limit` bytes.
    pub fn new(reader: R, limit: u64) -> Self {
        Self { reader, limit, count: 0 }
    }

    /// Bytes seen so far.
    pub fn count(&self) -> u64 {
        self.count
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.count += count as u64;
        if self.count > self.limit {
            let text = format!("the content is longer than {} bytes", self.limit);
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(count)
    }
}
