//! Loopback addresses for pods and services, none used twice on a machine even by several labs at once.
//!
//! An address is held by a socket bound to its port 1: the kernel refuses the same to anyone else, and gives it
//! back when the holder ends, however it ends.

use std::net::{Ipv4Addr, TcpListener};

use crate::error::Error;

/// An address that is ours until this is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    pub address: Ipv4Addr,
    _held: TcpListener,
}

/// Takes this very address, unless somebody has it.
pub(crate) fn take(address: Ipv4Addr) -> Option<Lease> {
    if !address.is_loopback() {
        return None;
    }
    let held = TcpListener::bind((address, 1)).ok()?;
    Some(Lease { address, _held: held })
}

/// A range of addresses, such as `127.80.0.0/16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    first: u32,
    size: u32,
}

impl Range {
    /// Reads the usual notation.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let bad = || Error::Setup {
            what: "an address range",
            reason: format!("{text:?} is not like 127.80.0.0/16, with 8 to 28 bits and in 127.0.0.0/8"),
        };
        let (base, bits) = text.split_once('/').ok_or_else(bad)?;
        let base: Ipv4Addr = base.parse().map_err(|_| bad())?;
        let bits: u32 = bits.parse().map_err(|_| bad())?;
        if !(8..=28).contains(&bits) || !base.is_loopback() {
            return Err(bad());
        }
        let size = 1u32 << (32 - bits);
        Ok(Self { first: u32::from(base) & !(size - 1), size })
    }

    /// Takes a free address of the range, `preferred` if it can be had.
    pub fn lease(self, preferred: Option<Ipv4Addr>) -> Result<Lease, Error> {
        if let Some(lease) = preferred.and_then(take) {
            return Ok(lease);
        }
        // Starting at a random place keeps labs that run side by side out of each other's way.
        let [a, b, c, d, ..] = *uuid::Uuid::new_v4().as_bytes();
        let start = u32::from_le_bytes([a, b, c, d]);
        for step in 0..self.size {
            let offset = start.wrapping_add(step) % self.size;
            // Networks and broadcasts confuse some programs, and the first addresses are for the API server.
            if matches!(offset % 256, 0 | 255) || offset < 16 {
                continue;
            }
            if let Some(lease) = take(Ipv4Addr::from(self.first + offset)) {
                return Ok(lease);
            }
        }
        Err(Error::Setup {
            what: "a loopback address",
            reason: format!("none from {} on can be bound; port 1 needs root", Ipv4Addr::from(self.first)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_gets_what_is_held() {
        let range = Range::parse("127.83.0.0/16").unwrap();
        let first = range.lease(None).unwrap();
        assert!(take(first.address).is_none());
        let second = range.lease(Some(first.address)).unwrap();
        assert_ne!(first.address, second.address);
        assert_eq!(second.address.octets()[..2], [127, 83]);
        let address = first.address;
        drop(first);
        assert_eq!(range.lease(Some(address)).unwrap().address, address);
        assert!(take(Ipv4Addr::new(10, 0, 0, 1)).is_none());
    }

    #[test]
    fn ranges() {
        assert_eq!(Range::parse("127.80.3.7/16").unwrap(), Range::parse("127.80.0.0/16").unwrap());
        for text in ["127.80.0.0", "10.0.0.0/16", "127.0.0.0/31", "x/16"] {
            assert!(Range::parse(text).is_err(), "{text}");
        }
    }
}
