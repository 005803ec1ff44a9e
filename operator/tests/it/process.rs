//! The binary itself: starts, tells how it is, leads alone, stops when told to.

use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;
use std::time::Duration;

use howdah_operator::leader::{Elector, LEASE};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Service;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use crate::world::{NS, World, until};

struct Operator {
    child: Child,
    health: SocketAddr,
    metrics: SocketAddr,
}

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// `namespace`: the one that it watches; empty: all.
fn spawn(kubeconfig: &std::path::Path, name: &str, namespace: &str) -> Operator {
    let (health, metrics) = (free_port(), free_port());
    let child = Command::new(env!("CARGO_BIN_EXE_operator"))
        .env_clear()
        .env("KUBECONFIG", kubeconfig)
        .env("WATCH_NAMESPACE", namespace)
        .env("OPERATOR_NAMESPACE", NS)
        .env("POD_NAME", name)
        .env("HEALTH_ADDRESS", health.to_string())
        .env("METRICS_ADDRESS", metrics.to_string())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    Operator { child, health, metrics }
}

async fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    Some(answer)
}

async fn leads(operator: &Operator) -> bool {
    get(operator.metrics, "/metrics").await.is_some_and(|m| m.contains("\nhowdah_operator_leader 1\n"))
}

async fn holder(world: &World) -> Option<String> {
    let lease = world.api::<Lease>().get_opt(LEASE).await.unwrap()?;
    lease.spec?.holder_identity
}

async fn terminate(operator: &mut Operator) -> std::process::ExitStatus {
    let pid = operator.child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
    tokio::time::timeout(Duration::from_secs(60), operator.child.wait()).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_one_leader() {
    let world = World::start().await;
    let dir = tempfile::tempdir().unwrap();
    let kubeconfig = dir.path().join("kubeconfig");
    std::fs::write(&kubeconfig, world.server.client_kubeconfig("howdah", &[]).unwrap()).unwrap();
    let mut first = spawn(&kubeconfig, "first", NS);
    until("the first leads", async || leads(&first).await.then_some(())).await;
    assert!(get(first.health, "/healthz").await.unwrap().starts_with("HTTP/1.1 200"));
    assert!(get(first.health, "/readyz").await.unwrap().starts_with("HTTP/1.1 200"));
    let second = spawn(&kubeconfig, "second", "");
    until("the second stands by", async || {
        get(second.health, "/readyz").await.filter(|a| a.starts_with("HTTP/1.1 200"))
    })
    .await;
    assert_eq!(holder(&world).await.as_deref(), Some("first"));
    assert!(!leads(&second).await);

    world.create_cluster("zoo", json!({"storage": {"size": "5Gi"}})).await;
    until("the leader works", async || world.api::<Service>().get_opt("zoo-rw").await.unwrap()).await;

    assert!(terminate(&mut first).await.success(), "a leader that is told to stop ends well");
    until("the second leads", async || leads(&second).await.then_some(())).await;
    assert_eq!(holder(&world).await.as_deref(), Some("second"));
    world.create_cluster("barn", json!({"storage": {"size": "5Gi"}})).await;
    until("the second works", async || world.api::<Service>().get_opt("barn-rw").await.unwrap()).await;
    let memory = resident_mib(&second);
    println!("resident memory: {memory} MiB");
    assert!(memory < 64, "{memory} MiB");
}

fn resident_mib(operator: &Operator) -> u64 {
    let path = format!("/proc/{}/status", operator.child.id().unwrap());
    let status = std::fs::read_to_string(path).unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_loses_the_lease_ends() {
    let world = World::start().await;
    let dir = tempfile::tempdir().unwrap();
    let kubeconfig = dir.path().join("kubeconfig");
    std::fs::write(&kubeconfig, world.server.client_kubeconfig("howdah", &[]).unwrap()).unwrap();
    let mut operator = spawn(&kubeconfig, "loser", NS);
    until("it leads", async || leads(&operator).await.then_some(())).await;
    until("somebody else takes the lease", async || {
        let api = world.api::<Lease>();
        let mut lease = api.get(LEASE).await.unwrap();
        lease.spec.as_mut().unwrap().holder_identity = Some("thief".into());
        api.replace(LEASE, &Default::default(), &lease).await.ok()
    })
    .await;
    let ended = tokio::time::timeout(Duration::from_secs(60), operator.child.wait()).await.unwrap().unwrap();
    assert_eq!(ended.code(), Some(1));
    assert_eq!(holder(&world).await.as_deref(), Some("thief"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_given_back_is_taken_at_once() {
    let world = World::start().await;
    let mut first = Elector::new(world.operator.clone(), NS, "first".into());
    let mut second = Elector::new(world.operator.clone(), NS, "second".into());
    first.acquire().await;
    let stop = CancellationToken::new();
    stop.cancel();
    assert!(first.hold(stop).await);
    assert_eq!(holder(&world).await, None);
    second.acquire().await;
    assert_eq!(holder(&world).await.as_deref(), Some("second"));
}

#[test]
fn bad_options_are_refused_with_the_reason() {
    let run = |args: &[&str]| {
        let out = std::process::Command::new(env!("CARGO_BIN_EXE_operator"))
            .env_clear()
            .args(args)
            .output()
            .unwrap();
        (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    let (code, text) = run(&["--metrics-address", "nowhere"]);
    assert_eq!(code, Some(2));
    assert!(text.contains("--metrics-address"), "{text}");
    let (code, text) = run(&["--log-level", "=="]);
    assert_eq!(code, Some(1));
    assert!(text.contains("log level \"==\" is not understood"), "{text}");
}
