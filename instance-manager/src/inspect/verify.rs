//! `verify`: runs the engine's verification on one repository after the other, and tells how far it is.

use std::sync::Arc;
use std::time::Duration;

use howdah_api::instance::SocketAnswer;
use howdah_engine::verify::{VerifyChoice, VerifyProgress, VerifyRequest};
use tokio::io::AsyncWrite;
use tokio::sync::Mutex;

use super::answer::{done, failed};
use super::line::{Line, Progress};
use super::repositories::NamedRepository;
use crate::run::socket::say;
use crate::wal_client::{NETWORK, OPERATION};

/// Between two lines that tell how far it is.
const TELL: Duration = Duration::from_secs(1);

/// Reading everything costs cores and bandwidth that belong to PostgreSQL: one at a time in a pod.
static ALONE: Mutex<()> = Mutex::const_new(());

/// What to verify.
pub struct What {
    /// Id, label, `latest` or `all`.
    pub backup: Option<String>,
    /// Read parts.
    pub data: bool,
    /// WAL alone.
    pub wal_only: bool,
}

/// Verifies. The answer has exit code 1 when anything is wrong anywhere, 2 when something could not be read.
pub async fn run(
    repositories: &[NamedRepository],
    what: &What,
    out: &mut (impl AsyncWrite + Unpin + Send),
) -> std::io::Result<SocketAnswer> {
    let Ok(_alone) = ALONE.try_lock() else {
        let text = "another verification is running in this pod; wait for it, or ask another pod";
        return Ok(failed(OPERATION, Some(text.to_owned())));
    };
    let mut codes = Vec::new();
    let mut errors = Vec::new();
    for named in repositories {
        match one(named, what, out).await? {
            Ok(code) => codes.push(code),
            Err((code, error)) => {
                codes.push(code);
                errors.push(format!("{}: {error}", named.name));
            }
        }
    }
    // What is known to be wrong goes before what is not known.
    let worst = [OPERATION, NETWORK].into_iter().find(|code| codes.contains(code));
    Ok(match worst.or(codes.into_iter().max().filter(|code| *code > 0)) {
        None => done(),
        Some(code) => failed(code, (!errors.is_empty()).then(|| errors.join("; "))),
    })
}

async fn one(
    named: &NamedRepository,
    what: &What,
    out: &mut (impl AsyncWrite + Unpin + Send),
) -> std::io::Result<Result<u8, (u8, String)>> {
    let repository = match &named.opened {
        Ok(repository) => repository.clone(),
        Err(error) => return Ok(Err((OPERATION, error.clone()))),
    };
    let choice = match what.backup.as_deref() {
        Some("all") => VerifyChoice::All,
        None if what.wal_only => VerifyChoice::All,
        other => VerifyChoice::Named(other.unwrap_or("latest").to_owned()),
    };
    let request = VerifyRequest {
        repository,
        name: named.name.clone(),
        choice,
        data: what.data,
        wal_only: what.wal_only,
        jobs: named.jobs,
    };
    let progress = Arc::new(VerifyProgress::default());
    let mut verifying = std::pin::pin!(howdah_engine::verify::run(request, Arc::clone(&progress)));
    let mut tick = tokio::time::interval(TELL);
    let outcome = loop {
        tokio::select! {
            biased;
            outcome = &mut verifying => break outcome,
            _ = tick.tick() => {
                let counts = progress.counts();
                say(out, &Line::Progress(Progress { repository: named.name.clone(), counts })).await?;
            }
        }
    };
    match outcome {
        Ok(report) => {
            let code = report.exit_code();
            say(out, &Line::Verified(Box::new(report))).await?;
            Ok(Ok(code))
        }
        Err(error) => Ok(Err((error.exit_code(), error.report()))),
    }
}
