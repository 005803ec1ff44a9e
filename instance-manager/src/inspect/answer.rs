//! The resident side: does what is asked and writes line after line.

use std::sync::Arc;

use barman_cloud::Repository;
use barman_cloud::report::{Contents, Facts, RepositoryReport, detail, find, gather, repository_report};
use futures::StreamExt;
use howdah_api::instance::{SocketAnswer, SocketRequest};
use tokio::io::AsyncWrite;

use super::line::Line;
use super::repositories::{NamedRepository, select};
use super::{check, expire, verify};
use crate::run::served::Served;
use crate::run::socket::say;
use crate::wal_client::{NETWORK, OPERATION, USAGE};

/// Repositories read at a time.
const PARALLEL: usize = 8;

/// Answers a request of this module. Dropping the future ends the work.
///
/// # Errors
/// When the client cannot be written to.
pub async fn serve(
    request: SocketRequest,
    served: &Arc<impl Served>,
    out: &mut (impl AsyncWrite + Unpin + Send),
) -> std::io::Result<()> {
    say(out, &Line::Stanza(served.stanza())).await?;
    let end = match request {
        SocketRequest::Info { repository } => {
            match selected(served, repository.as_deref(), repository.is_none()) {
                Ok(repositories) => info(served, repositories, out).await?,
                Err(end) => end,
            }
        }
        SocketRequest::Show { repository, backup } => match selected(served, repository.as_deref(), false) {
            Ok(repositories) => show(served, repositories, &backup, out).await?,
            Err(end) => end,
        },
        SocketRequest::Verify { repository, backup, no_data, wal_only } => {
            match selected(served, repository.as_deref(), false) {
                Ok(repositories) => {
                    let what = verify::What { backup, data: !no_data, wal_only };
                    verify::run(&repositories, &what, out).await?
                }
                Err(end) => end,
            }
        }
        SocketRequest::Expire { repository, confirm } => match selected(served, repository.as_deref(), false)
        {
            Ok(repositories) => expire::run(served, &repositories, confirm, out).await?,
            Err(end) => end,
        },
        SocketRequest::Check { repository, timeout } => {
            match selected(served, repository.as_deref(), false) {
                Ok(repositories) => {
                    let report = check::run(served, &repositories, timeout).await;
                    let end = if report.ok { done() } else { failed(OPERATION, None) };
                    say(out, &Line::Checked(report)).await?;
                    end
                }
                Err(end) => end,
            }
        }
        SocketRequest::Archive { .. } | SocketRequest::Restore { .. } | SocketRequest::Status => {
            failed(USAGE, Some("this is no question about repositories".to_owned()))
        }
    };
    say(out, &end).await
}

pub(super) fn done() -> SocketAnswer {
    SocketAnswer { ok: true, ..SocketAnswer::default() }
}

pub(super) fn failed(code: u8, error: Option<String>) -> SocketAnswer {
    SocketAnswer { ok: false, code: Some(code), error }
}

fn selected(
    served: &Arc<impl Served>,
    wanted: Option<&str>,
    none_is_fine: bool,
) -> Result<Vec<NamedRepository>, SocketAnswer> {
    let all = served.repositories();
    if all.is_empty() && none_is_fine {
        return Ok(all);
    }
    let code = if wanted.is_some() { USAGE } else { OPERATION };
    select(all, wanted).map_err(|error| failed(code, Some(error)))
}

/// What is in a repository, or the exit code and the reason why that is not known.
type Read = (Facts, Result<Contents, (u8, String)>);

/// Reads all repositories.
async fn read_all(served: &Arc<impl Served>, repositories: &[NamedRepository]) -> Vec<Read> {
    let (server, running) = (served.system(), served.running_backup());
    // Made beforehand: a closure that borrows keeps callers from being spawned.
    let reads: Vec<_> = repositories
        .iter()
        .map(|named| read(named.facts(server.clone(), running.as_ref()), named.opened.clone()))
        .collect();
    futures::stream::iter(reads).buffered(PARALLEL).collect().await
}

async fn read(facts: Facts, opened: Result<Repository, String>) -> Read {
    let contents = match &opened {
        Ok(repository) => gather(repository).await.map_err(|error| (error.exit_code(), error.report())),
        Err(error) => Err((OPERATION, error.clone())),
    };
    (facts, contents)
}

async fn info(
    served: &Arc<impl Served>,
    repositories: Vec<NamedRepository>,
    out: &mut (impl AsyncWrite + Unpin + Send),
) -> std::io::Result<SocketAnswer> {
    let mut end = done();
    for (facts, contents) in read_all(served, &repositories).await {
        let report = match contents {
            Ok(contents) => repository_report(&facts, &contents),
            Err((code, error)) => {
                end = failed(code, None);
                RepositoryReport::failed(&facts, error)
            }
        };
        say(out, &Line::Repository(Box::new(report))).await?;
    }
    Ok(end)
}

async fn show(
    served: &Arc<impl Served>,
    repositories: Vec<NamedRepository>,
    backup: &str,
    out: &mut (impl AsyncWrite + Unpin + Send),
) -> std::io::Result<SocketAnswer> {
    let mut found = false;
    let mut unread = Vec::new();
    for (named, (facts, contents)) in repositories.iter().zip(read_all(served, &repositories).await) {
        let detail = match (&named.opened, contents) {
            (Ok(repository), Ok(contents)) => match find(&contents.inventory, backup) {
                Some(member) => detail(repository, &facts, &contents, member).await.map_err(|e| e.report()),
                None => continue,
            },
            (Err(error), _) => Err(error.clone()),
            (_, Err((_, error))) => Err(error),
        };
        match detail {
            Ok(detail) => {
                found = true;
                say(out, &Line::Backup(Box::new(detail))).await?;
            }
            Err(error) => unread.push(format!("{}: {error}", named.name)),
        }
    }
    Ok(match (found, unread.is_empty()) {
        (true, _) => done(),
        (false, true) => {
            let names: Vec<&str> = repositories.iter().map(|named| named.name.as_str()).collect();
            let text = format!(
                "backup {backup} is not in {}; choose one of the ids and labels that `instance-manager list` shows",
                names.join(", ")
            );
            failed(OPERATION, Some(text))
        }
        (false, false) => failed(NETWORK, Some(unread.join("; "))),
    })
}
