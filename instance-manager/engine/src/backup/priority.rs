//! How urgent the work of a backup is to the kernel: CPU niceness and I/O priority of its threads.
//!
//! Both belong to a thread, and threads of the runtime are used again for WAL. So the work of a backup has threads of
//! its own, which end with it.

use crate::error::{Error, ErrorKind, Result};
use ioprio::{BePriorityLevel, Class, Pid, Target};
use tokio::sync::oneshot;

/// Name of the threads, as `ps -L` and `/proc` show it.
const THREAD: &str = "howdah-backup";

/// How urgent the threads of a backup are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Priority {
    /// CPU niceness, 0 to 19; `None` leaves it as it is.
    pub niceness: Option<u8>,
    /// I/O priority; `None` leaves it to the niceness, as the kernel does.
    pub io: Option<IoPriority>,
}

/// I/O priority, for schedulers of the kernel that know one (BFQ, mq-deadline).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IoPriority {
    /// Only when nobody else wants the disk.
    Idle,
    /// With everyone else; 0 is the most urgent, 7 the least.
    BestEffort(u8),
}

impl Priority {
    /// Checks the ranges.
    pub(super) fn check(self) -> Result<()> {
        let level = match self.io {
            Some(IoPriority::BestEffort(level)) => level,
            Some(IoPriority::Idle) | None => 0,
        };
        if self.niceness.unwrap_or(0) > 19 || level > 7 {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("{self:?}: niceness is 0 to 19, a level of best effort 0 to 7"),
            ));
        }
        Ok(())
    }

    /// Sets the calling thread's. What the kernel refuses is logged: the backup is right without it.
    fn apply(self) {
        if let Some(niceness) = self.niceness
            // On Linux this process is this thread.
            && let Err(error) = rustix::process::setpriority_process(None, i32::from(niceness))
        {
            tracing::warn!(niceness, %error, "the niceness of the backup could not be set");
        }
        if let Some(io) = self.io
            && let Err(error) = ioprio::set_priority(Target::Process(Pid::from_raw(0)), io.to_kernel())
        {
            tracing::warn!(?io, %error, "the I/O priority of the backup could not be set");
        }
    }
}

impl IoPriority {
    fn to_kernel(self) -> ioprio::Priority {
        ioprio::Priority::new(match self {
            Self::Idle => Class::Idle,
            Self::BestEffort(level) => {
                Class::BestEffort(BePriorityLevel::from_level(level).unwrap_or(BePriorityLevel::lowest()))
            }
        })
    }
}

/// Starts `work` on a thread of its own and returns its end. `what` it was names it when it panicked.
pub(super) fn start<T: Send + 'static>(
    priority: Priority,
    what: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> impl Future<Output = Result<T>> + Send {
    let (sender, receiver) = oneshot::channel();
    let thread = std::thread::Builder::new().name(THREAD.to_owned()).spawn(move || {
        priority.apply();
        // Nobody waits any more when the backup was given up.
        let _ = sender.send(work());
    });
    async move {
        thread.map_err(|error| {
            Error::new(ErrorKind::Io, "a thread of the backup could not be started")
                .with_source(error)
                .with_remedy("allow the pod more processes or memory, or give the backup fewer jobs")
        })?;
        receiver.await.map_err(|error| Error::new(ErrorKind::Cancelled, what).with_source(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use rustix::process::getpriority_process;

    fn own() -> (i32, Option<Class>) {
        let io = ioprio::get_priority(Target::Process(Pid::from_raw(0))).expect("an I/O priority");
        (getpriority_process(None).expect("a niceness"), io.class())
    }

    #[rstest]
    #[case(IoPriority::Idle, Class::Idle)]
    #[case(IoPriority::BestEffort(7), Class::BestEffort(BePriorityLevel::lowest()))]
    #[case(IoPriority::BestEffort(0), Class::BestEffort(BePriorityLevel::highest()))]
    #[tokio::test]
    async fn the_work_is_nice_and_nothing_else_is(#[case] io: IoPriority, #[case] class: Class) {
        let before = own();
        let nice = Priority { niceness: Some(7), io: Some(io) };
        assert_eq!(start(nice, "work", own).await.expect("ends"), (7, Some(class)));
        assert_eq!(own(), before);
        assert_eq!(tokio::task::spawn_blocking(own).await.expect("joins"), before);
        assert_eq!(start(Priority::default(), "work", own).await.expect("ends"), before);
    }

    #[tokio::test]
    async fn a_panic_is_an_error() {
        let error = start(Priority::default(), "a worker stopped", || panic!("on purpose"));
        let error = error.await.map(|()| "went on").expect_err("stopped");
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Cancelled, "a worker stopped"));
    }

    #[rstest]
    #[case(Some(20), None)]
    #[case(None, Some(IoPriority::BestEffort(8)))]
    fn out_of_range(#[case] niceness: Option<u8>, #[case] io: Option<IoPriority>) {
        assert_eq!(Priority { niceness, io }.check().expect_err("refused").kind(), ErrorKind::Invalid);
    }
}
