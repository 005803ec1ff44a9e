//! Compression: which suffix means which codec, and streaming encoders and decoders for all of them.
//!
//! Writers make exactly one member (frame, stream): Barman's base backup readers accept no more. Readers accept
//! any number of members, because other writers of WAL make several. Everything is synchronous and works in
//! small fixed buffers: run it on a blocking thread.

mod decode;
mod encode;

pub use decode::{Bounded, Decoder};
pub use encode::Encoder;

use crate::error::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// How an object is compressed. The suffix of its key is the only mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Compression {
    /// As it is.
    #[default]
    None,
    /// gzip, `.gz`.
    Gzip,
    /// bzip2, `.bz2`.
    Bzip2,
    /// Snappy framing format, `.snappy`.
    Snappy,
    /// LZ4 frame format, `.lz4`.
    Lz4,
    /// Zstandard, `.zst`.
    Zstd,
    /// xz, `.xz`; WAL only, Barman has no base backups in it.
    Xz,
}

impl Compression {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::None, Self::Gzip, Self::Bzip2, Self::Snappy, Self::Lz4, Self::Zstd, Self::Xz];

    /// The suffix of the key, with its dot; empty for [`Compression::None`].
    pub fn suffix(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => ".gz",
            Self::Bzip2 => ".bz2",
            Self::Snappy => ".snappy",
            Self::Lz4 => ".lz4",
            Self::Zstd => ".zst",
            Self::Xz => ".xz",
        }
    }

    /// The name used in settings, `none` for no compression.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Bzip2 => "bzip2",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
            Self::Xz => "xz",
        }
    }

    /// Whether base backups may use it.
    pub fn allowed_for_base(self) -> bool {
        self != Self::Xz
    }

    /// Splits a file name into what is compressed and how. One suffix is taken off, never two.
    pub fn split(name: &str) -> (&str, Self) {
        Self::ALL
            .into_iter()
            .filter(|codec| *codec != Self::None)
            .find_map(|codec| Some((name.strip_suffix(codec.suffix())?, codec)))
            .unwrap_or((name, Self::None))
    }

    /// Levels that the codec knows; `None` for codecs without levels.
    pub fn levels(self) -> Option<std::ops::RangeInclusive<i32>> {
        match self {
            Self::None | Self::Snappy | Self::Lz4 => None,
            Self::Gzip => Some(0..=9),
            Self::Bzip2 => Some(1..=9),
            Self::Zstd => Some(-7..=22),
            Self::Xz => Some(0..=9),
        }
    }

    /// Checks a level asked for by a user.
    pub fn check_level(self, level: Option<i32>) -> Result<()> {
        match (level, self.levels()) {
            (None, _) => Ok(()),
            (Some(level), Some(levels)) if levels.contains(&level) => Ok(()),
            (Some(level), Some(levels)) => Err(Error::invalid(format!(
                "compression level {level} is not one of {self}'s, {} to {}",
                levels.start(),
                levels.end()
            ))),
            (Some(_), None) => Err(Error::invalid(format!("{self} has no compression levels"))
                .with_remedy("leave the compression level out, or choose gzip, bzip2, zstd or xz")),
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Compression {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|codec| codec.as_str() == text).ok_or_else(|| {
            Error::invalid(format!("{text:?} is not a compression"))
                .with_remedy("use one of none, gzip, bzip2, snappy, lz4, zstd, xz")
        })
    }
}

#[cfg(test)]
mod tests;
