//! Receives a program, sees whether it can take over, and puts it in the place of the one that runs.

use std::fmt::Display;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use howdah_api::instance::ManagerProgram;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::{sleep, timeout};

use super::BUSY;
use super::handover::FORMAT;
use crate::environment::Paths;
use crate::error::{Error, IoContext, Result};
use crate::pg::children::Children;
use crate::pg::files::remove_optional;
use crate::run::role::Running;
use crate::run::shared::{ServerState, Shared};

/// Longest program that is taken.
const LIMIT: u64 = 512 << 20;
/// Longest pause between two pieces of it.
const PIECE: Duration = Duration::from_secs(30);
/// How long it may take to say who it is.
const INTRODUCTION: Duration = Duration::from_secs(20);

/// What came of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// It runs already.
    Runs(ManagerProgram),
    /// It takes over in a moment.
    TakesOver(ManagerProgram),
}

/// Why a program is not taken. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// What was sent is not what was announced.
    Malformed(String),
    /// It will never do.
    Unfit(String),
    /// Not at this moment.
    NotNow(String),
    /// Something failed that has nothing to do with the program.
    Failed(String),
}

impl Refusal {
    /// The answer's status, and its words.
    #[must_use]
    pub fn into_answer(self) -> (StatusCode, String) {
        match self {
            Self::Malformed(why) => (StatusCode::BAD_REQUEST, why),
            Self::Unfit(why) => (StatusCode::UNPROCESSABLE_ENTITY, why),
            Self::NotNow(why) => (StatusCode::CONFLICT, why),
            Self::Failed(why) => (StatusCode::SERVICE_UNAVAILABLE, why),
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Failed(error.report())
    }
}

/// Where the next program is written.
fn next(paths: &Paths) -> PathBuf {
    paths.manager().with_file_name(".instance-manager.next")
}

/// Where the program that ran before stays until the next one runs.
pub(super) fn previous(paths: &Paths) -> PathBuf {
    paths.manager().with_file_name(".instance-manager.previous")
}

/// Why PostgreSQL cannot be handed over as it is, if it cannot.
#[must_use]
pub fn obstacle(server: &ServerState) -> Option<&'static str> {
    match server.running {
        None => Some("PostgreSQL does not run"),
        Some(Running::Recovery) => Some("a recovery goes on"),
        Some(_) if server.stopping => Some("PostgreSQL is shutting down"),
        Some(_) if !server.up => Some("PostgreSQL is starting"),
        Some(_) => None,
    }
}

/// Receives the program whose SHA-256 is `wanted`. It takes over once it was answered.
///
/// # Errors
/// Says why it does not.
pub async fn receive<E: Display>(
    shared: &Shared,
    wanted: &str,
    pieces: impl Stream<Item = std::result::Result<Bytes, E>> + Unpin,
) -> std::result::Result<Received, Refusal> {
    let replacer = &shared.replacer;
    let version = || env!("CARGO_PKG_VERSION").to_owned();
    let Some(own) = replacer.own() else {
        return Err(Refusal::Unfit("this instance manager cannot read its own program".to_owned()));
    };
    if own == wanted {
        return Ok(Received::Runs(ManagerProgram { version: version(), sha256: wanted.to_owned() }));
    }
    let busy = || Refusal::NotNow("another program is just about to take over".to_owned());
    let Ok(_turn) = replacer.turn.try_lock() else { return Err(busy()) };
    {
        let state = replacer.state();
        if state.installed.is_some() {
            return Err(busy());
        }
        if let Some((sha256, why)) = &state.unfit
            && sha256 == wanted
        {
            return Err(Refusal::Unfit(format!("this program could not take over: {why}")));
        }
    }
    if let Some(obstacle) = obstacle(&shared.server()) {
        return Err(Refusal::NotNow(format!("the instance manager is not replaced while {obstacle}")));
    }
    let file = next(&shared.env.paths);
    let received = async {
        store(&file, pieces).await?;
        let version = fit(&shared.children, &file, wanted).await?;
        put_in_place(&shared.env.paths)?;
        Ok(ManagerProgram { version, sha256: wanted.to_owned() })
    };
    let received: std::result::Result<_, Refusal> = received.await;
    remove_optional(&file)?;
    let program = received?;
    tracing::info!(version = program.version, sha256 = program.sha256, "another instance manager takes over");
    replacer.state().installed = Some((program.clone(), Instant::now()));
    Ok(Received::TakesOver(program))
}

async fn store<E: Display>(
    file: &Path,
    mut pieces: impl Stream<Item = std::result::Result<Bytes, E>> + Unpin,
) -> std::result::Result<(), Refusal> {
    remove_optional(file)?;
    let mut to = tokio::fs::File::create_new(file).await.at("cannot write", file)?;
    let mut length = 0;
    loop {
        let piece = match timeout(PIECE, pieces.next()).await {
            Ok(Some(Ok(piece))) => piece,
            Ok(None) => break,
            Ok(Some(Err(error))) => {
                return Err(Refusal::Failed(format!("the program came in part only: {error}")));
            }
            Err(_) => return Err(Refusal::Failed("the program came in part only".to_owned())),
        };
        length += piece.len() as u64;
        if length > LIMIT {
            return Err(Refusal::Malformed(format!("the program is larger than {LIMIT} bytes")));
        }
        to.write_all(&piece).await.at("cannot write", file)?;
    }
    to.flush().await.at("cannot write", file)?;
    to.sync_all().await.at("cannot write", file)?;
    // Closed before it is started.
    drop(to.into_std().await);
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).at("cannot make executable", file)?;
    Ok(())
}

/// Sees whether a file is the program that was announced, and one that can take over here; returns its version.
async fn fit(children: &Children, file: &Path, wanted: &str) -> std::result::Result<String, Refusal> {
    let path = file.to_owned();
    let read = tokio::task::spawn_blocking(move || super::sha256(&path)).await;
    let read = read.map_err(|e| Refusal::Failed(e.to_string()))?.at("cannot read", file)?;
    if read != wanted {
        return Err(Refusal::Malformed(format!(
            "the SHA-256 of what was sent is {read} and not {wanted}, as was announced"
        )));
    }
    let begun = Instant::now();
    let output = loop {
        let mut command = Command::new(file);
        command.args(["version", "--handover"]).kill_on_drop(true);
        match timeout(INTRODUCTION, children.output(&mut command)).await {
            Ok(Ok(output)) => break output,
            // A child that was started meanwhile may hold the file open for a moment.
            Ok(Err(error)) if error.kind() == io::ErrorKind::ExecutableFileBusy && begun.elapsed() < BUSY => {
                sleep(Duration::from_millis(20)).await;
            }
            Ok(Err(error)) => {
                return Err(Refusal::Unfit(format!("the program does not start here: {error}")));
            }
            Err(_) => return Err(Refusal::Unfit("the program does not say its version".to_owned())),
        }
    };
    let said = String::from_utf8_lossy(&output.stdout);
    match introduction(&said).filter(|_| output.status.success()) {
        Some((version, FORMAT)) => Ok(version.to_owned()),
        Some((version, format)) => Err(Refusal::Unfit(format!(
            "version {version} takes over by another way (format {format}) than this one knows (format {FORMAT})"
        ))),
        None => Err(Refusal::Unfit("the program is no instance manager that can take over".to_owned())),
    }
}

/// What `version --handover` prints.
#[must_use]
pub fn introduce() -> String {
    format!("{} handover {FORMAT}", env!("CARGO_PKG_VERSION"))
}

/// Reads it: version and format.
fn introduction(said: &str) -> Option<(&str, u32)> {
    let (version, format) = said.trim().split_once(" handover ")?;
    Some((version, format.parse().ok()?))
}

/// From here on PostgreSQL's commands, and a container that starts anew, use the next program.
fn put_in_place(paths: &Paths) -> Result<()> {
    let (manager, previous) = (paths.manager(), previous(paths));
    remove_optional(&previous)?;
    fs::hard_link(&manager, &previous).at("cannot keep a copy of", &manager)?;
    replace(&next(paths), &manager)
}

/// Gives the program that runs its place back.
///
/// # Errors
/// When the file system refuses.
pub(super) fn restore(paths: &Paths) -> Result<()> {
    replace(&previous(paths), &paths.manager())
}

fn replace(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).at("cannot replace", to)?;
    let dir = to.parent().unwrap_or(Path::new("/"));
    fs::File::open(dir).and_then(|dir| dir.sync_all()).at("cannot write", dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case::primary(Some(Running::Primary), true, false, None)]
    #[case::replica(Some(Running::Standby), true, false, None)]
    #[case::recovery(Some(Running::Recovery), true, false, Some("a recovery goes on"))]
    #[case::starting(Some(Running::Primary), false, false, Some("PostgreSQL is starting"))]
    #[case::stopping(Some(Running::Standby), true, true, Some("PostgreSQL is shutting down"))]
    #[case::down(None, false, false, Some("PostgreSQL does not run"))]
    fn only_a_server_that_serves_is_handed_over(
        #[case] running: Option<Running>,
        #[case] up: bool,
        #[case] stopping: bool,
        #[case] expected: Option<&str>,
    ) {
        assert_eq!(obstacle(&ServerState { running, up, stopping, ..ServerState::default() }), expected);
    }

    #[test]
    fn a_program_introduces_itself() {
        assert_eq!(introduction(&introduce()), Some((env!("CARGO_PKG_VERSION"), FORMAT)));
        assert_eq!(introduction("1.0.0\n"), None);
        assert_eq!(introduction("1.0.0 handover x"), None);
    }

    #[test]
    fn a_program_gets_its_place_back() {
        let dir = tempfile::tempdir().unwrap();
        let paths =
            Paths { controller: dir.path().to_owned(), pgdata: "/none".into(), wal_mount: "/none".into() };
        fs::write(paths.manager(), "old").unwrap();
        fs::write(next(&paths), "new").unwrap();
        put_in_place(&paths).unwrap();
        let now = || fs::read_to_string(paths.manager()).unwrap();
        assert_eq!(now(), "new");
        restore(&paths).unwrap();
        assert_eq!(now(), "old");
        assert!(!previous(&paths).exists() && !next(&paths).exists());
    }
}
