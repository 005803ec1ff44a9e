//! How a command ends: runtime, last words, exit code.

use std::future::Future;
use std::path::Path;
use std::process::ExitCode;

use kube::runtime::events::EventType;

use crate::error::{Class, Error, Result};
use crate::kube::Kubernetes;

/// Where Kubernetes looks for a container's last words.
pub const TERMINATION_LOG: &str = "/dev/termination-log";
/// Exit code of a failure that may pass (`EX_TEMPFAIL`).
pub const TRANSIENT: u8 = 75;
/// Exit code of a failure that needs a person (`EX_CONFIG`).
pub const PERMANENT: u8 = 78;

/// A small runtime: the manager waits most of the time, and its memory is its users'. Its threads leave SIGTERM to the one
/// that runs the future (`run::replace::signals`).
///
/// # Errors
/// When threads cannot be made.
pub fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(64)
        .thread_stack_size(1 << 20)
        .thread_keep_alive(std::time::Duration::from_secs(5))
        .on_thread_start(crate::run::replace::signals::block)
        .enable_all()
        .build()
}

/// Runs a future on the small runtime.
///
/// # Errors
/// Those of the future, or when threads cannot be made.
pub fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = runtime().map_err(|e| Error::transient("the runtime cannot be started").because(e))?;
    let result = runtime.block_on(future);
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    result
}

/// Tells a failure as an Event on the Cluster.
pub async fn tell(kube: &Kubernetes, error: &Error) {
    let reason = if error.is_permanent() { "InstanceFailed" } else { "InstanceRetrying" };
    match kube.cluster().await {
        Ok(cluster) => {
            let pod = std::env::var("POD_NAME").unwrap_or_default();
            kube.event(&cluster, EventType::Warning, reason, &format!("{pod}: {}", error.report())).await;
        }
        Err(other) => tracing::warn!("no event could be written: {}", other.report()),
    }
}

/// Last words and exit code.
#[must_use]
pub fn finish(done: Result<()>, termination_log: Option<&Path>) -> ExitCode {
    use std::io::Write;
    let Err(error) = done else { return ExitCode::SUCCESS };
    let text = error.report();
    let _ = writeln!(std::io::stderr(), "instance-manager: {text}");
    if let Some(path) = termination_log {
        // Only when Kubernetes made the file: elsewhere /dev is not ours.
        if let Ok(mut file) = std::fs::OpenOptions::new().write(true).truncate(true).open(path) {
            let _ = file.write_all(text.as_bytes());
        }
    }
    ExitCode::from(match error.class() {
        Class::Transient => TRANSIENT,
        Class::Permanent => PERMANENT,
    })
}
