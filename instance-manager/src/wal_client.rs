//! `wal-archive` and `wal-restore`: what PostgreSQL runs for each WAL file.
//!
//! They only ask the resident manager over its Unix socket: one line of JSON each way. All work, all
//! credentials and all retries are on the other side, which keeps the cost of a call at about a millisecond.
//!
//! A manager that is just being replaced by another one (`run::replace`) answers in a moment: they ask again for a while.
//!
//! Exit codes of `wal-archive` are Barman's: 1 operation, 2 network, 3 usage, 4 general; PostgreSQL retries
//! after each. `wal-restore`: 1 means "the archive does not hold this file"; [`STOP_RECOVERY`] means that the
//! answer is not known, so that PostgreSQL stops instead of taking the end of the archive for reached.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use howdah_api::instance::{SocketAnswer, SocketRequest};

use crate::environment;

/// Exit code of `wal-restore` that makes PostgreSQL stop recovery: anything above 125 does
/// (PostgreSQL documentation, `restore_command`).
pub const STOP_RECOVERY: u8 = 126;
/// The operation was refused or failed.
pub const OPERATION: u8 = 1;
/// The manager or the store cannot be reached.
pub const NETWORK: u8 = 2;
/// The command was called wrongly.
pub const USAGE: u8 = 3;
/// Anything else.
pub const GENERAL: u8 = 4;

/// How long a WAL file may take. The manager answers long before; this only ends a call to one that hangs.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// How long a command looks for a manager that is away. One that is being replaced comes back within a second; a replica
/// whose `restore_command` gets no answer ends its recovery, and with it PostgreSQL.
const PATIENCE: Duration = Duration::from_secs(15);
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// `wal-archive PATH`: archives the WAL file at PATH (`%p` of `archive_command`).
pub fn archive(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<String> = args.map(|a| a.to_string_lossy().into_owned()).collect();
    let [path] = args.as_slice() else {
        return fail(USAGE, "usage: instance-manager wal-archive PATH (%p of archive_command)");
    };
    finish(
        ask_patiently(&socket(), &SocketRequest::Archive { path: path.clone() }, PATIENCE),
        &format!("wal-archive {path}"),
        NETWORK,
    )
}

/// `wal-restore NAME PATH`: fetches the WAL file NAME (`%f` of `restore_command`) into PATH (`%p`).
pub fn restore(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<String> = args.map(|a| a.to_string_lossy().into_owned()).collect();
    let [name, path] = args.as_slice() else {
        return fail(
            STOP_RECOVERY,
            "usage: instance-manager wal-restore NAME PATH (%f and %p of restore_command)",
        );
    };
    finish(
        ask_patiently(
            &socket(),
            &SocketRequest::Restore { name: name.clone(), path: path.clone() },
            PATIENCE,
        ),
        &format!("wal-restore {name}"),
        STOP_RECOVERY,
    )
}

fn socket() -> PathBuf {
    environment::Paths::from_env().socket()
}

/// Sends `request` to the manager at `socket` and reads its answer.
///
/// # Errors
/// When the manager does not listen, hangs, or answers with something else than one line of JSON.
pub fn ask(socket: &Path, request: &SocketRequest) -> io::Result<SocketAnswer> {
    Ok(serde_json::from_str(&ask_line(socket, request)?)?)
}

/// As [`ask`]; a manager that is away, or goes away before its answer, is asked again for so long. Both requests may be made
/// twice.
fn ask_patiently(socket: &Path, request: &SocketRequest, patience: Duration) -> io::Result<SocketAnswer> {
    let begun = Instant::now();
    loop {
        match ask(socket, request) {
            Err(error) if is_away(&error) && begun.elapsed() < patience => std::thread::sleep(PAUSE),
            answer => return answer,
        }
    }
}

fn is_away(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, NotFound, UnexpectedEof};
    matches!(error.kind(), NotFound | ConnectionRefused | ConnectionReset | BrokenPipe | UnexpectedEof)
}

/// As [`ask`], with the answer as it came.
///
/// # Errors
/// When the manager does not listen or hangs.
pub fn ask_line(socket: &Path, request: &SocketRequest) -> io::Result<String> {
    let stream = send(connect(socket)?, request)?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    if answer.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the instance manager closed the connection without an answer; it is restarting",
        ));
    }
    Ok(answer)
}

/// Connects to the manager.
///
/// # Errors
/// When it does not listen.
pub fn connect(socket: &Path) -> io::Result<UnixStream> {
    UnixStream::connect(socket).map_err(|e| {
        io::Error::new(e.kind(), format!("the instance manager does not listen on {}: {e}", socket.display()))
    })
}

/// Sends `request`; the answer is to be read from the stream.
///
/// # Errors
/// When the other side is gone.
pub fn send(mut stream: UnixStream, request: &SocketRequest) -> io::Result<UnixStream> {
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    Ok(stream)
}

fn finish(answer: io::Result<SocketAnswer>, what: &str, unreachable: u8) -> ExitCode {
    match answer {
        Ok(SocketAnswer { ok: true, .. }) => ExitCode::SUCCESS,
        Ok(SocketAnswer { code, error, .. }) => {
            fail(code.unwrap_or(GENERAL), &format!("{what}: {}", error.unwrap_or_default()))
        }
        Err(e) => fail(unreachable, &format!("{what}: {e}")),
    }
}

fn fail(code: u8, message: &str) -> ExitCode {
    // Standard error is PostgreSQL's own log; nothing can be done when it is closed.
    let _ = writeln!(io::stderr(), "instance-manager: {message}");
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn serve(answer: &'static str) -> (tempfile::TempDir, PathBuf, std::thread::JoinHandle<String>) {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("manager.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let asked = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            (&stream).write_all(answer.as_bytes()).unwrap();
            line
        });
        (dir, socket, asked)
    }

    #[test]
    fn one_line_each_way() {
        let (_dir, socket, asked) = serve("{\"ok\":false,\"code\":1,\"error\":\"refused\"}\n");
        let answer = ask(&socket, &SocketRequest::Archive { path: "pg_wal/0001".into() }).unwrap();
        assert_eq!((answer.ok, answer.code, answer.error.as_deref()), (false, Some(1), Some("refused")));
        assert_eq!(asked.join().unwrap(), "{\"op\":\"archive\",\"path\":\"pg_wal/0001\"}\n");
    }

    #[test]
    fn a_manager_that_is_being_replaced_is_asked_again() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("manager.sock");
        let request = SocketRequest::Archive { path: "pg_wal/0001".into() };
        let away = ask_patiently(&socket, &request, Duration::ZERO).unwrap_err();
        assert_eq!(away.kind(), io::ErrorKind::NotFound);
        let asking = {
            let (socket, request) = (socket.clone(), request.clone());
            std::thread::spawn(move || ask_patiently(&socket, &request, Duration::from_secs(60)))
        };
        // The first one goes away without an answer, the second one begins to listen later.
        for answer in ["", "{\"ok\":true}\n"] {
            let listener = UnixListener::bind(&socket).unwrap();
            let (mut stream, _) = listener.accept().unwrap();
            BufReader::new(stream.try_clone().unwrap()).read_line(&mut String::new()).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            std::fs::remove_file(&socket).unwrap();
        }
        assert!(asking.join().unwrap().unwrap().ok);
    }

    #[test]
    fn a_manager_that_is_away_or_mute_is_an_error_that_says_so() {
        let missing =
            ask(Path::new("/nonexistent/manager.sock"), &SocketRequest::Archive { path: "x".into() });
        let text = missing.unwrap_err().to_string();
        assert!(text.contains("does not listen on /nonexistent/manager.sock"), "{text}");

        let (_dir, socket, asked) = serve("");
        let text = ask(&socket, &SocketRequest::Restore { name: "a".into(), path: "b".into() })
            .unwrap_err()
            .to_string();
        asked.join().unwrap();
        assert!(text.contains("without an answer"), "{text}");
    }
}
