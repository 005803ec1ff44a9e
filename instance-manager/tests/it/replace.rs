//! The instance manager is replaced by another program while PostgreSQL runs.

use howdah_api::backup::BackupPhase;
use howdah_api::instance::{ErrorBody, InstanceStatus, ManagerProgram};
use howdah_api::naming::{self, MANAGER_SHA256_HEADER};
use howdah_s3::{Action, Rule};
use nix::sys::signal::{Signal, kill};
use reqwest::{Response, StatusCode};
use sha2::{Digest, Sha256};

use crate::authority::holder;
use crate::https::client;
use crate::pod::Pod;
use crate::world::{World, until};

/// The same program with something behind it: a program file may have a tail.
struct Program {
    bytes: Vec<u8>,
    sha256: String,
}

impl Program {
    fn with_tail(tail: &str) -> Self {
        let mut bytes = std::fs::read(env!("CARGO_BIN_EXE_instance-manager")).unwrap();
        bytes.extend_from_slice(tail.as_bytes());
        Self::of(bytes)
    }

    fn of(bytes: Vec<u8>) -> Self {
        let sha256 = hex::encode(Sha256::digest(&bytes));
        Self { bytes, sha256 }
    }

    async fn send_as(&self, name: &str, pod: &Pod, world: &World) -> Response {
        let client = client(pod, world, Some(world.authority.client(name)));
        let request = client.put("https://pg-rw:8000/v1/manager");
        request.header(MANAGER_SHA256_HEADER, &self.sha256).body(self.bytes.clone()).send().await.unwrap()
    }

    async fn send(&self, pod: &Pod, world: &World) -> Response {
        self.send_as(naming::OPERATOR_CN, pod, world).await
    }

    /// Waits until this is the program that runs, and PostgreSQL takes sessions.
    async fn runs(&self, pod: &Pod) -> InstanceStatus {
        until("the other program runs", || async {
            pod.status().is_some_and(|s| s.ready && s.manager_sha256.as_deref() == Some(&self.sha256))
        })
        .await;
        pod.status().unwrap()
    }

    async fn takes_over(&self, pod: &Pod, world: &World) -> InstanceStatus {
        let answer = self.send(pod, world).await;
        assert_eq!(answer.status(), StatusCode::ACCEPTED);
        let said: ManagerProgram = answer.json().await.unwrap();
        assert_eq!(
            (said.sha256.as_str(), said.version.as_str()),
            (self.sha256.as_str(), env!("CARGO_PKG_VERSION"))
        );
        self.runs(pod).await
    }
}

/// A primary that serves.
async fn primary(world: &World, archived: bool) -> Pod {
    world.cluster("pg", world.spec(None, archived)).await;
    Pod::initialised(world).await
}

async fn archives(pod: &Pod) {
    until("WAL is archived", || async { pod.status().and_then(|s| s.archiver).is_some_and(|a| a.confirmed) })
        .await;
}

/// Closes a segment and waits until it is in the archive.
async fn archive(pod: &Pod, sql: &tokio_postgres::Client) {
    sql.batch_execute("CREATE TABLE IF NOT EXISTS t (i int); INSERT INTO t VALUES (1)").await.unwrap();
    let closed: String = sql.query_one("SELECT pg_walfile_name(pg_switch_wal())", &[]).await.unwrap().get(0);
    until(&format!("{closed} is archived"), || async {
        let last = pod.status().and_then(|s| s.archiver).and_then(|a| a.last_archived_wal);
        last.is_some_and(|last| last >= closed)
    })
    .await;
}

/// What the manager has open, without sockets, which come and go.
fn open_files(pod: &Pod) -> Vec<String> {
    let dir = std::fs::read_dir(format!("/proc/{}/fd", pod.pid())).unwrap();
    let names = dir.flatten().filter_map(|e| std::fs::read_link(e.path()).ok());
    names.map(|n| n.display().to_string()).filter(|n| !n.starts_with("socket:")).collect()
}

/// Twice in a row: the same processes, the same sessions, the same lease, and WAL goes on to the archive. Afterwards a
/// shutdown is as clean as any.
#[tokio::test(flavor = "multi_thread")]
async fn postgresql_runs_on() {
    let world = World::new().await;
    let mut pod = primary(&world, true).await;
    archives(&pod).await;
    let sql = pod.sql("postgres", "postgres").await.unwrap();
    sql.batch_execute("CREATE TEMPORARY TABLE mine (i int); INSERT INTO mine VALUES (7)").await.unwrap();
    let (manager, postmaster) = (pod.pid(), pod.postmaster().unwrap());
    let mut session = pod.status().unwrap().session_id;
    let mut files = None;
    for tail in ["one", "two"] {
        let status = Program::with_tail(tail).takes_over(&pod, &world).await;
        assert_ne!(status.session_id, session, "it is another process as far as backups go");
        assert!(status.holds_lease, "{status:?}");
        session = status.session_id;
        assert_eq!((pod.pid(), pod.postmaster().unwrap()), (manager, postmaster));
        let kept: i32 = sql.query_one("SELECT i FROM mine", &[]).await.unwrap().get(0);
        assert_eq!(kept, 7, "the session is the same");
        assert_eq!(holder(&world).await, "pg-1/uid");
        archive(&pod, &sql).await;
        let open = open_files(&pod);
        assert!(!open.iter().any(|f| f.contains("memfd")), "{open:?}");
        let pipes = open.iter().filter(|f| f.starts_with("pipe:")).count();
        assert_eq!(*files.get_or_insert(pipes), pipes, "no file is left over: {open:?}");
        let replaced = until_event(&world, "InstanceManagerReplaced: pg-1: ").await;
        assert!(replaced.contains("PostgreSQL runs on"), "{replaced}");
    }
    let names: Vec<String> = std::fs::read_dir(pod.controller())
        .unwrap()
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .filter(|name| name.contains("instance-manager"))
        .collect();
    assert_eq!(names, ["instance-manager"], "nothing is left beside it");
    // The one that runs need not be replaced.
    assert_eq!(Program::with_tail("two").send(&pod, &world).await.status(), StatusCode::OK);
    drop(sql);
    assert!(pod.stop().success());
    assert!(!pod.pgdata().join("postmaster.pid").exists(), "PostgreSQL has ended in good order");
    assert_eq!(holder(&world).await, "");
}

async fn until_event(world: &World, begin: &str) -> String {
    crate::world::found(begin, || async {
        world.events("pg").await.into_iter().find(|e| e.starts_with(begin))
    })
    .await
}

/// A server that ends under the program that took it over ends the container, which comes back with that program.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_is_noticed_afterwards() {
    let world = World::new().await;
    let mut pod = primary(&world, false).await;
    let program = Program::with_tail("crash");
    program.takes_over(&pod, &world).await;
    pod.kill_postgres();
    assert_eq!(pod.wait().code(), Some(75));
    pod.start();
    program.runs(&pod).await;
    assert!(pod.status().unwrap().holds_lease);
}

/// A signal that comes while the next program has not begun to listen is not lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_in_between_is_heard() {
    let world = World::new().await;
    let mut pod = primary(&world, false).await;
    let program = Program::with_tail("shutdown");
    assert_eq!(program.send(&pod, &world).await.status(), StatusCode::ACCEPTED);
    // The file of the former program has lost its name by now, that of the next one has it.
    let exe = format!("/proc/{}/exe", pod.pid());
    while std::fs::read_link(&exe).unwrap().to_string_lossy().ends_with(" (deleted)") {
        std::thread::yield_now();
    }
    kill(pod.pid(), Signal::SIGTERM).unwrap();
    assert!(pod.wait().success());
    assert!(!pod.pgdata().join("postmaster.pid").exists());
    assert_eq!(holder(&world).await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_goes_on_streaming() {
    let world = World::new().await;
    let primary = primary(&world, true).await;
    let replica = Pod::replica_of(&world, &primary).await;
    let streams = || async { replica.status().is_some_and(|s| s.streaming) };
    until("it streams", streams).await;
    let postmaster = replica.postmaster();
    let status = Program::with_tail("replica").takes_over(&replica, &world).await;
    assert!(!status.holds_lease && status.streaming, "{status:?}");
    assert_eq!(replica.postmaster(), postmaster);
    // The new one can be made the primary.
    world.cluster_status("pg", serde_json::json!({ "targetPrimary": "pg-2" })).await;
    until("it is the primary", || async {
        replica
            .status()
            .is_some_and(|s| s.ready && s.role == Some(howdah_api::instance::InstanceRole::Primary))
    })
    .await;
    assert_eq!(replica.postmaster(), postmaster);
}

/// A backup that is being taken goes on from its finished parts.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_goes_on() {
    let world = World::new().await;
    let pod = primary(&world, true).await;
    archives(&pod).await;
    let slow = Rule::new(Action::Stall { millis: 20_000 }).key("pg/base/*/data*").times(u64::MAX);
    world.s3.faults().add(slow);
    world.assign("base", "pg", "pg-1", &pod.status().unwrap().session_id).await;
    until("the backup has begun", || async {
        let status = world.backups().get("base").await.unwrap().status.unwrap();
        status.phase() == BackupPhase::Running && status.backup_id.is_some()
    })
    .await;
    Program::with_tail("backup").takes_over(&pod, &world).await;
    world.s3.faults().clear();
    let status = world.backup_ended("base").await;
    assert_eq!((status.phase(), status.resumes), (BackupPhase::Completed, Some(1)), "{status:?}");
}

/// What is not the announced program, or none that can take over, changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn what_will_not_do_is_refused() {
    let world = World::new().await;
    let pod = primary(&world, false).await;
    let before = pod.status().unwrap();
    let installed = std::fs::read(pod.controller().join("instance-manager")).unwrap();
    let good = Program::with_tail("good");
    let cut = Program { bytes: good.bytes[..1 << 20].to_vec(), sha256: good.sha256.clone() };
    let cases = [
        (cut, StatusCode::BAD_REQUEST, "and not"),
        (Program::of(b"no program at all".to_vec()), StatusCode::UNPROCESSABLE_ENTITY, "does not start here"),
        (
            Program::of(std::fs::read("/usr/bin/true").unwrap()),
            StatusCode::UNPROCESSABLE_ENTITY,
            "no instance manager that can take over",
        ),
        (
            Program { sha256: "nonsense".into(), ..Program::of(Vec::new()) },
            StatusCode::BAD_REQUEST,
            "SHA-256",
        ),
    ];
    for (program, status, words) in cases {
        let answer = program.send(&pod, &world).await;
        assert_eq!(answer.status(), status);
        let said: ErrorBody = answer.json().await.unwrap();
        assert!(said.error.contains(words), "{said:?}");
    }
    // So short that all of it is sent before the answer comes.
    let short = Program::of(b"whatever it is".to_vec());
    let refused = short.send_as(naming::REPLICATION_USER, &pod, &world).await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    let after = pod.status().unwrap();
    assert_eq!((after.session_id, after.manager_sha256), (before.session_id, before.manager_sha256));
    assert!(after.ready);
    assert!(std::fs::read(pod.controller().join("instance-manager")).unwrap() == installed);
    // And a good one is taken all the same.
    good.takes_over(&pod, &world).await;
}
