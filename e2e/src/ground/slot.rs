//! Loopback addresses for labs that run at the same time in several processes: each takes a slot, a number that
//! selects its own ranges, and holds it by a file lock for as long as it lives.

use std::fs::{File, OpenOptions};
use std::path::Path;

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};

const SLOTS: u8 = 24;

/// A held slot.
pub struct Slot {
    number: u8,
    _lock: Flock<File>,
}

impl Slot {
    /// Takes the first free slot.
    ///
    /// # Errors
    /// When all are taken.
    pub fn take() -> Result<Self> {
        let dir = Path::new("/tmp/howdah-lab-slots");
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        for number in 0..SLOTS {
            let path = dir.join(number.to_string());
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)
                .with_context(|| format!("cannot open {}", path.display()))?;
            if let Ok(lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                return Ok(Self { number, _lock: lock });
            }
        }
        bail!("{SLOTS} labs run already: stop one with ./hack/lab down")
    }

    /// Second byte of pod addresses.
    pub fn pod_net(&self) -> u8 {
        128 + self.number
    }

    /// Range that no API server gives addresses from, for nodes that serve a service at another address than its own.
    pub fn spare(&self) -> String {
        format!("127.{}.0.0/16", 96 + self.number)
    }

    /// Range of service addresses.
    pub fn services(&self) -> String {
        format!("127.{}.0.0/16", 64 + self.number)
    }
}
