//! A pod as a directory and processes: what the operator's pod template and the kubelet provide, by hand.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use howdah_api::instance::{InstanceStatus, SocketRequest};
use howdah_instance_manager::wal_client;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio_postgres::NoTls;

use crate::world::{APP_PASSWORD, NAMESPACE, SUPERUSER_PASSWORD, User, World, until};

/// One pod.
pub struct Pod {
    pub name: String,
    pub cluster: String,
    pub ip: String,
    pub root: PathBuf,
    hosts: PathBuf,
    user: User,
    kubeconfig: PathBuf,
    manager: Option<Child>,
}

impl Pod {
    /// The pod and its volumes; the program is installed as its init container would.
    pub fn new(world: &World, cluster: &str, serial: u8) -> Self {
        let name = format!("{cluster}-{serial}");
        let root = world.dir.path().join(&name);
        std::fs::create_dir(&root).unwrap();
        std::os::unix::fs::chown(&root, Some(world.user.uid), Some(world.user.gid)).unwrap();
        let number = cluster.bytes().fold(serial, |a, b| a.wrapping_mul(31).wrapping_add(b)).clamp(2, 250);
        let pod = Self {
            ip: world.ip(number),
            hosts: world.dir.path().join("hosts"),
            name,
            cluster: cluster.to_owned(),
            root,
            user: world.user,
            kubeconfig: world.kubeconfig(),
            manager: None,
        };
        std::fs::write(&pod.hosts, "127.0.0.1 localhost\n").unwrap();
        let output = pod
            .command(Path::new(env!("CARGO_BIN_EXE_instance-manager")), &["install"])
            .arg(pod.controller())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output));
        pod
    }

    /// The first instance of the cluster `pg`, ready.
    pub async fn initialised(world: &World) -> Self {
        let mut primary = Self::new(world, "pg", 1);
        primary.bootstrapped("initdb");
        primary.ready().await;
        primary
    }

    /// The second one, ready; the service of the primary leads to `primary`.
    pub async fn replica_of(world: &World, primary: &Self) -> Self {
        let mut replica = Self::new(world, "pg", 2);
        primary.serve_as("pg-rw");
        replica.bootstrapped("join");
        replica.ready().await;
        replica
    }

    /// Lets the name of a service lead to a pod, for pods started from now on.
    pub fn serve_as(&self, service: &str) {
        std::fs::write(&self.hosts, format!("127.0.0.1 localhost\n{} {service}\n", self.ip)).unwrap();
    }

    pub fn controller(&self) -> PathBuf {
        self.root.join("c")
    }

    pub fn pgdata(&self) -> PathBuf {
        self.root.join("data/pgdata")
    }

    pub fn wal_mount(&self) -> PathBuf {
        self.root.join("wal")
    }

    fn socket(&self) -> PathBuf {
        self.controller().join("run/manager.sock")
    }

    /// A program as the pod's user, in a mount namespace with the pod's own /etc/hosts.
    pub fn command(&self, program: &Path, args: &[&str]) -> Command {
        let mut command = Command::new("/usr/bin/unshare");
        let enter = format!(
            "mount --bind {} /etc/hosts && exec setpriv --reuid {} --regid {} --clear-groups \"$@\"",
            self.hosts.display(),
            self.user.uid,
            self.user.gid
        );
        command.args(["--mount", "--propagation", "private", "/bin/sh", "-c", &enter, "sh"]);
        command.arg(program).args(args);
        command.env_clear().stdin(Stdio::null());
        let variables = [
            ("PATH", "/usr/bin:/bin:/usr/sbin:/sbin"),
            ("CLUSTER_NAME", &self.cluster),
            ("NAMESPACE", NAMESPACE),
            ("POD_NAME", &self.name),
            ("POD_UID", "uid"),
            ("POD_IP", &self.ip),
            ("RUST_LOG", "info"),
            ("PGUSER", "postgres"),
        ];
        command.envs(variables);
        command.env("CONTROLLER_DIR", self.controller());
        command.env("PGHOST", self.controller().join("run"));
        command.env("PGDATA", self.pgdata());
        command.env("WAL_MOUNT", self.wal_mount());
        command.env("KUBECONFIG", &self.kubeconfig);
        command
    }

    /// An init container.
    pub fn bootstrap(&self, how: &str) -> Output {
        self.command(&self.controller().join("instance-manager"), &["bootstrap", how]).output().unwrap()
    }

    /// As [`Pod::bootstrap`], which has to succeed.
    pub fn bootstrapped(&self, how: &str) {
        let output = self.bootstrap(how);
        assert!(output.status.success(), "{}", text(&output));
    }

    /// The container `postgres`. Its log is the test's.
    pub fn start(&mut self) {
        let mut command = self.command(&self.controller().join("instance-manager"), &["run"]);
        self.manager = Some(command.spawn().unwrap());
    }

    /// Starts and waits until it takes sessions.
    pub async fn ready(&mut self) {
        self.start();
        self.wait_ready().await;
    }

    pub async fn wait_ready(&mut self) {
        until(&format!("{} is ready", self.name), || async { self.status().is_some_and(|s| s.ready) }).await;
    }

    /// A program of the manager, as PostgreSQL would call it.
    pub fn call(&self, args: &[&str]) -> Output {
        self.client(args).output().unwrap()
    }

    /// The same, not started.
    pub fn client(&self, args: &[&str]) -> Command {
        let mut command = self.command(&self.controller().join("instance-manager"), args);
        command.current_dir(self.pgdata());
        command
    }

    pub fn status(&self) -> Option<InstanceStatus> {
        let line = wal_client::ask_line(&self.socket(), &SocketRequest::Status).ok()?;
        serde_json::from_str(&line).ok()
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.manager.as_ref().unwrap().id()).unwrap())
    }

    /// Resident memory of the manager alone, in KiB: its own, without the pages of its program file.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let value = |name: &str| -> u64 {
            let line = status.lines().find(|l| l.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        eprintln!("manager: VmRSS {} KiB, RssAnon {} KiB", value("VmRSS:"), value("RssAnon:"));
        value("RssAnon:")
    }

    /// Ends it as the kubelet does, and waits.
    pub fn stop(&mut self) -> ExitStatus {
        kill(self.pid(), Signal::SIGTERM).unwrap();
        self.wait()
    }

    pub fn wait(&mut self) -> ExitStatus {
        self.manager.take().unwrap().wait().unwrap()
    }

    pub fn postmaster(&self) -> Option<Pid> {
        let text = std::fs::read_to_string(self.pgdata().join("postmaster.pid")).ok()?;
        text.lines().next()?.parse().ok().map(Pid::from_raw)
    }

    /// Kills PostgreSQL alone.
    pub fn kill_postgres(&self) {
        kill(self.postmaster().unwrap(), Signal::SIGKILL).unwrap();
    }

    /// Kills the manager and, as the end of a pid namespace would, everything else in the pod.
    pub fn kill(&mut self) {
        kill(self.pid(), Signal::SIGKILL).unwrap();
        self.wait();
        if let Some(pid) = self.postmaster() {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }

    /// A session over TCP with a password: what an application has.
    pub async fn sql(
        &self,
        user: &str,
        database: &str,
    ) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
        let password = if user == "postgres" { SUPERUSER_PASSWORD } else { APP_PASSWORD };
        self.sql_with(user, database, password).await
    }

    pub async fn sql_with(
        &self,
        user: &str,
        database: &str,
        password: &str,
    ) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
        let mut config = tokio_postgres::Config::new();
        config.host(&self.ip).port(5432).user(user).dbname(database).password(password);
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(client)
    }

    pub async fn http(&self, port: u16, path: &str) -> Option<(u16, String)> {
        let url = format!("http://{}:{port}{path}", self.ip);
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let answer = client.get(url).send().await.ok()?;
        Some((answer.status().as_u16(), answer.text().await.unwrap()))
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        if let Some(manager) = &mut self.manager {
            let _ = manager.kill();
            let _ = manager.wait();
        }
        if let Some(pid) = self.postmaster() {
            let _ = kill(pid, Signal::SIGQUIT);
        }
    }
}

/// Output of a program, for messages.
pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
