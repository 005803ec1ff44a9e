//! SIGTERM must not be lost while one program makes room for the next.
//!
//! Only the thread that runs the supervisor takes the signal; all others leave it blocked. When that thread blocks it too, a
//! signal that comes waits in the kernel, through `execve`, until the next program is ready to hear it. Without this,
//! process 1 of a container would miss it, and the pod would end only by being killed.

use nix::sys::signal::{SigSet, Signal};

fn stop_signal() -> SigSet {
    let mut set = SigSet::empty();
    set.add(Signal::SIGTERM);
    set
}

/// Blocks the signal in the calling thread. A failure is harmless: the signal is then taken as it always was.
pub fn block() {
    let _ = stop_signal().thread_block();
}

/// Lets the calling thread take it.
pub fn unblock() {
    let _ = stop_signal().thread_unblock();
}
