//! `instance-manager repo-host` as a process: killed, moved, given other certificates.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use barman_cloud::store::{ClientCertificate, Limits};
use barman_cloud::{Destination, ErrorKind, S3Options, Store};
use howdah_api::naming;
use howdah_s3::{Authority, Pair};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::world::until;

const REPOSITORY: &str = "repo1";

/// A directory for a pod, and an address of its own.
struct Pod {
    dir: tempfile::TempDir,
    ip: String,
    authority: Authority,
}

impl Pod {
    fn new() -> Self {
        let random = rand::random::<[u8; 2]>();
        let ip = format!("127.{}.{}.9", random[0].clamp(2, 99), random[1].clamp(1, 250));
        let this = Self { dir: tempfile::tempdir().unwrap(), ip, authority: Authority::new().unwrap() };
        std::fs::create_dir(this.certificates()).unwrap();
        this.show(&this.authority, &[&this.authority]);
        this
    }

    fn certificates(&self) -> PathBuf {
        self.dir.path().join("certificates")
    }

    fn volume(&self) -> PathBuf {
        self.dir.path().join("volume")
    }

    /// Writes the files of the Secret: a certificate below `authority`, and whose clients are believed.
    fn show(&self, authority: &Authority, believed: &[&Authority]) {
        let own = authority.server(&[&self.ip]).unwrap();
        let bundle: String = believed.iter().map(|authority| authority.pem()).collect();
        for (name, text) in [("tls.crt", &own.chain), ("tls.key", &own.key), ("ca.crt", &bundle)] {
            std::fs::write(self.certificates().join(name), text).unwrap();
        }
    }

    fn command(&self, ip: &str, repository: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_instance-manager"));
        command
            .args(["repo-host", "--repository", &format!("{repository}={}", self.volume().display())])
            .arg("--certificates")
            .arg(self.certificates())
            .env("POD_IP", ip)
            .stdout(Stdio::null());
        command
    }

    fn start(&self) -> Host {
        self.start_at(&self.ip)
    }

    fn start_at(&self, ip: &str) -> Host {
        let log = std::fs::File::create(self.dir.path().join("log")).unwrap();
        Host { child: self.command(ip, REPOSITORY).stderr(log).spawn().unwrap(), ip: ip.to_owned() }
    }

    fn options(&self, authority: &str, own: Pair) -> S3Options {
        let mut options = S3Options::with_keys("any", "any");
        options.endpoint = Some(format!("https://{}:{}", self.ip, naming::REPO_HOST_PORT));
        options.ca_pem = Some(authority.as_bytes().to_vec());
        options.client_certificate = Some(ClientCertificate::pem(own.chain, own.key));
        options.limits = Limits { retries: 0, ..Limits::default() };
        options
    }

    /// The store of an instance of the cluster.
    fn store(&self) -> Store {
        let own = self.authority.client(naming::REPLICATION_USER).unwrap();
        store(&self.options(self.authority.pem(), own))
    }
}

fn store(options: &S3Options) -> Store {
    Store::s3(&Destination::parse(&format!("s3://{REPOSITORY}/ns/cluster")).unwrap(), options).unwrap()
}

/// The running program.
struct Host {
    child: Child,
    ip: String,
}

impl Host {
    async fn probe(&self, path: &str) -> Option<(u16, String)> {
        let url = format!("http://{}:{}{path}", self.ip, naming::PROBES_PORT);
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let answer = client.get(url).send().await.ok()?;
        Some((answer.status().as_u16(), answer.text().await.unwrap_or_default()))
    }

    async fn ready(&self) {
        until("the host is ready", || async {
            self.probe("/readyz").await.is_some_and(|(code, _)| code == 200)
        })
        .await;
    }

    fn signal(&mut self, signal: Signal) -> std::process::ExitStatus {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
        self.child.wait().unwrap()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Gone already, where the test ended it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// What belongs under a key: so a reader knows a whole object from half of one.
fn content(key: &str, length: usize) -> Vec<u8> {
    key.bytes().cycle().take(length).collect()
}

/// Writes objects, whole and in parts, until the host is gone; returns those that were acknowledged.
async fn write(store: Store, writer: String, stop: Arc<AtomicBool>) -> Vec<(String, usize)> {
    let mut acknowledged = Vec::new();
    for number in 0.. {
        let key = format!("{writer}/{}/{number}", number % 7);
        let length = 1 + (number * 7919) % 400_000;
        let body = content(&key, length).into();
        let done = match number % 4 {
            0 => {
                async {
                    let upload = store.upload(&key).await?;
                    let part = upload.put_part(0, body).await?;
                    upload.complete(vec![part]).await
                }
                .await
            }
            1 => store.create(&key, body).await.map(|_| ()),
            _ => store.put(&key, body).await,
        };
        if done.is_err() || stop.load(Ordering::Relaxed) {
            break;
        }
        acknowledged.push((key, length));
    }
    acknowledged
}

/// Killed in the middle of writes, five times: what was acknowledged is there, and nothing is half there.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_host_leaves_a_sound_store() {
    provider();
    let pod = Pod::new();
    let mut acknowledged = Vec::new();
    for round in 0..5 {
        let mut host = pod.start();
        host.ready().await;
        let store = pod.store();
        let stop = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = (0..6)
            .map(|n| tokio::spawn(write(store.clone(), format!("{round}-{n}"), stop.clone())))
            .collect();
        until("some writes are done", || async {
            store.list(&format!("{round}-5/6")).await.is_ok_and(|l| l.len() > 3)
        })
        .await;
        let status = host.signal(Signal::SIGKILL);
        assert!(!status.success());
        stop.store(true, Ordering::Relaxed);
        for writer in writers {
            acknowledged.extend(writer.await.unwrap());
        }
    }
    assert!(acknowledged.len() > 100, "{}", acknowledged.len());
    let mut host = pod.start();
    host.ready().await;
    assert_eq!(std::fs::read_dir(pod.volume().join("tmp")).unwrap().count(), 0);
    let store = pod.store();
    for (key, length) in &acknowledged {
        assert!(store.get(key, 1 << 30).await.unwrap() == content(key, *length), "{key}");
    }
    // What was not acknowledged is whole or not there.
    let mut seen = 0;
    for round in 0..5 {
        for n in 0..6 {
            for object in store.list(&format!("{round}-{n}")).await.unwrap() {
                let body = store.get(&object.key, 1 << 30).await.unwrap();
                assert!(body == content(&object.key, body.len()), "{}", object.key);
                assert_eq!(body.len() as u64, object.size);
                seen += 1;
            }
        }
    }
    assert!(seen >= acknowledged.len(), "{seen}");
    assert!(host.signal(Signal::SIGTERM).success(), "it ends in order when it is told to");
}

/// The kubelet changes the files of the Secret; the process stays the same.
#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_rotated_without_a_restart() {
    provider();
    let pod = Pod::new();
    let host = pod.start();
    host.ready().await;
    let old = pod.store();
    old.put("k", "old".into()).await.unwrap();
    let reader = pod.authority.client(naming::OPERATOR_CN).unwrap();
    let reader = store(&pod.options(pod.authority.pem(), reader));
    assert_eq!(reader.get("k", 10).await.unwrap(), "old");
    assert_eq!(reader.put("k", "x".into()).await.unwrap_err().kind(), ErrorKind::Permission);

    // Half a change is not taken up: the key is another certificate's.
    let stray = pod.authority.server(&[&pod.ip]).unwrap();
    std::fs::write(pod.certificates().join("tls.key"), stray.key).unwrap();
    let log = pod.dir.path().join("log");
    let logged = |words: &'static str| {
        let log = log.clone();
        async move { std::fs::read_to_string(log).unwrap().contains(words) }
    };
    until("the unusable pair is told of", || logged("the old certificate stays in use")).await;
    old.put("k", "still".into()).await.unwrap();

    let new = Authority::new().unwrap();
    pod.show(&new, &[&new]);
    let options = pod.options(new.pem(), new.client(naming::REPLICATION_USER).unwrap());
    let store = store(&options);
    until("the new certificate is served", || async { store.put("k", "new".into()).await.is_ok() }).await;
    assert!(old.put("k", "late".into()).await.is_err());
    assert_eq!(store.get("k", 10).await.unwrap(), "new");
}

/// A pod that takes over waits for the one before it to let go of the volume.
#[tokio::test(flavor = "multi_thread")]
async fn the_next_host_waits_for_the_volume() {
    provider();
    let pod = Pod::new();
    let mut first = pod.start();
    first.ready().await;
    pod.store().put("k", "x".into()).await.unwrap();
    let other = pod.ip.replace(".9", ".10");
    let second = pod.start_at(&other);
    until("the second says what it waits for", || async {
        second
            .probe("/readyz")
            .await
            .is_some_and(|(code, why)| code == 503 && why.contains("in use by another"))
    })
    .await;
    assert_eq!(second.probe("/healthz").await.unwrap().0, 200);
    first.signal(Signal::SIGKILL);
    second.ready().await;
    assert!(second.probe("/readyz").await.unwrap().1.contains("serving repo1"));
}

fn run(pod: &Pod, repository: &str) -> Output {
    pod.command(&pod.ip, repository).stderr(Stdio::piped()).output().unwrap()
}

/// Volumes that were mixed up, and arguments that make no sense: a person is needed, and is told for what.
#[tokio::test(flavor = "multi_thread")]
async fn wrong_volumes_are_refused() {
    provider();
    let pod = Pod::new();
    let mut host = pod.start();
    host.ready().await;
    host.signal(Signal::SIGTERM);
    let output = run(&pod, "repo2");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(78), "{told}");
    assert!(told.contains("belongs to repository repo1, not to repo2"), "{told}");
    let output = run(&pod, "");
    assert_eq!(output.status.code(), Some(3), "wrong arguments");
    assert!(Path::new(&pod.volume()).join("howdah-repository.json").exists());
}
