//! Lets go of code that is not needed at rest.
//!
//! The kernel maps sixteen pages of a program for each one that is touched and leaves them there, so a manager at rest
//! would hold nearly its whole code: what starting, connecting and backing up ran once. Code that is let go stays in the
//! page cache; what is run again is mapped again by the page, at no read.

#![allow(
    unsafe_code,
    reason = "the one place: madvise has no safe form, and this use of it changes no content"
)]

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustix::mm::{Advice, madvise};
use tokio::time::sleep;

use crate::run::shared::Shared;

/// How often it is done. Working again costs some hundred page faults of about a microsecond each.
const EVERY: Duration = Duration::from_secs(60);
/// When it is done first: PostgreSQL is up by then, usually.
const FIRST: Duration = Duration::from_secs(15);

/// Keeps a resting manager small. Runs until the task is dropped.
pub async fn keep_small(shared: Arc<Shared>) {
    let mut pause = FIRST;
    loop {
        sleep(pause).await;
        if shared.backup().is_none() {
            pause = EVERY;
            match let_go() {
                Ok(bytes) => tracing::debug!(bytes, "code was let go"),
                Err(error) => tracing::debug!(%error, "code cannot be let go"),
            }
        }
    }
}

/// Lets go of all code of this program; gives the bytes of it.
///
/// # Errors
/// When `/proc` is not readable or the kernel refuses, both harmless.
pub fn let_go() -> io::Result<usize> {
    let program = std::fs::read_link("/proc/self/exe")?;
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let mut bytes = 0;
    for (start, length) in maps.lines().filter_map(|line| code(line, program.to_str()?)) {
        // SAFETY: the range is a private mapping of this program's file that is executable and not writable. No page of
        // it can differ from the file (the program has no relocations in its code), so a page that is dropped comes
        // back with the same content when it is touched next, by whatever thread.
        unsafe { madvise(start as *mut std::ffi::c_void, length, Advice::LinuxDontNeed) }?;
        bytes += length;
    }
    Ok(bytes)
}

/// Start and length of a line of `/proc/self/maps` that maps code of `program`.
fn code(line: &str, program: &str) -> Option<(usize, usize)> {
    let mut words = line.split_whitespace();
    let (range, access) = (words.next()?, words.next()?);
    if access != "r-xp" || words.nth(3)? != program {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let address = |text: &str| usize::from_str_radix(text, 16).ok();
    let (start, end) = (address(start)?, address(end)?);
    Some((start, end.checked_sub(start)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case("009ca000-01931000 r-xp 007ca000 fe:00 123 /controller/instance-manager", Some((0x9ca000, 0xf67000)))]
    #[case::data("01931000-01941000 rw-p 01731000 fe:00 123 /controller/instance-manager", None)]
    #[case::constants("00200000-009ca000 r--p 00000000 fe:00 123 /controller/instance-manager", None)]
    #[case::others("7f0000000000-7f0000001000 r-xp 00000000 fe:00 9 /lib/x.so", None)]
    #[case::kernel("7ffd1000-7ffd3000 r-xp 00000000 00:00 0 [vdso]", None)]
    #[case::nothing("", None)]
    fn lines(#[case] line: &str, #[case] want: Option<(usize, usize)>) {
        assert_eq!(code(line, "/controller/instance-manager"), want);
    }

    #[test]
    fn a_program_goes_on_without_its_code() {
        for _ in 0..3 {
            assert!(let_go().unwrap() > 1 << 20);
        }
    }
}
