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

/// Takes a free address `127.<net>.x.y`, `preferred` if it can be had.
pub(crate) fn lease(net: u8, preferred: Option<Ipv4Addr>) -> Result<Lease, Error> {
    if let Some(lease) = preferred.and_then(take) {
        return Ok(lease);
    }
    // Starting at a random place keeps labs that run side by side out of each other's way.
    let start = u16::from_le_bytes([uuid::Uuid::new_v4().as_bytes()[0], uuid::Uuid::new_v4().as_bytes()[1]]);
    for step in 0..=u16::MAX {
        let [x, y] = start.wrapping_add(step).to_be_bytes();
        if y == 0 || y == 255 {
            continue;
        }
        if let Some(lease) = take(Ipv4Addr::new(127, net, x, y)) {
            return Ok(lease);
        }
    }
    Err(Error::Setup {
        what: "a loopback address",
        reason: format!("none of 127.{net}.0.0/16 can be bound; port 1 needs root"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_gets_what_is_held() {
        let first = lease(83, None).unwrap();
        assert!(take(first.address).is_none());
        let second = lease(83, Some(first.address)).unwrap();
        assert_ne!(first.address, second.address);
        let address = first.address;
        drop(first);
        assert_eq!(lease(83, Some(address)).unwrap().address, address);
        assert!(take(Ipv4Addr::new(10, 0, 0, 1)).is_none());
    }
}
