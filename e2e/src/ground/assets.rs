//! A real etcd and kube-apiserver, from the folder that `KUBEBUILDER_ASSETS` names (as controller-runtime's
//! envtest uses it), and kube-controller-manager when it lies there too.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use tokio::process::{Child, Command};

use crate::kubectl::Kubectl;
use crate::wait;

const TOKEN: &str = "howdah-lab-administrator";

/// The running servers.
pub struct Assets {
    /// Kubeconfig of an administrator.
    pub kubeconfig: PathBuf,
    /// Address of the API server.
    pub url: String,
    children: Vec<Child>,
    controller_manager: bool,
}

impl Assets {
    /// Starts the servers and waits until the API is ready.
    pub async fn start(dir: &Path, files: &Path, service_cidr: &str) -> Result<Self> {
        for name in ["etcd", "kube-apiserver"] {
            ensure!(dir.join(name).is_file(), "KUBEBUILDER_ASSETS={} holds no {name}", dir.display());
        }
        let data = files.join("api");
        std::fs::create_dir_all(&data)?;
        let log = |name: &str| -> Result<Stdio> {
            Ok(std::fs::File::create(data.join(format!("{name}.log")))?.into())
        };
        let (client, peer, secure) = (free_port()?, free_port()?, free_port()?);
        let etcd_url = format!("http://127.0.0.1:{client}");
        let peer_url = format!("http://127.0.0.1:{peer}");
        let etcd = Command::new(dir.join("etcd"))
            .arg(format!("--data-dir={}", data.join("etcd").display()))
            .arg(format!("--listen-client-urls={etcd_url}"))
            .arg(format!("--advertise-client-urls={etcd_url}"))
            .arg(format!("--listen-peer-urls={peer_url}"))
            .arg(format!("--initial-advertise-peer-urls={peer_url}"))
            .arg(format!("--initial-cluster=default={peer_url}"))
            .arg("--unsafe-no-fsync")
            .stdout(log("etcd")?)
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("etcd does not start")?;
        std::fs::write(data.join("tokens.csv"), format!("{TOKEN},admin,admin,\"system:masters\"\n"))?;
        let key = data.join("sa.key");
        let made = Command::new("openssl")
            .args(["genrsa", "-out"])
            .arg(&key)
            .arg("2048")
            .stderr(Stdio::null())
            .status()
            .await
            .context("openssl is missing: apt-get install openssl")?;
        ensure!(made.success(), "openssl made no key");
        let api = Command::new(dir.join("kube-apiserver"))
            .arg(format!("--etcd-servers={etcd_url}"))
            .arg("--bind-address=127.0.0.1")
            .arg("--advertise-address=127.0.0.1")
            .arg(format!("--secure-port={secure}"))
            .arg(format!("--cert-dir={}", data.join("certificates").display()))
            .arg(format!("--token-auth-file={}", data.join("tokens.csv").display()))
            .arg(format!("--service-account-key-file={}", key.display()))
            .arg(format!("--service-account-signing-key-file={}", key.display()))
            .arg("--service-account-issuer=https://kubernetes.default.svc")
            .arg(format!("--service-cluster-ip-range={service_cidr}"))
            .arg("--authorization-mode=RBAC")
            .arg("--allow-privileged=true")
            .stdout(Stdio::null())
            .stderr(log("kube-apiserver")?)
            .kill_on_drop(true)
            .spawn()
            .context("kube-apiserver does not start")?;
        let url = format!("https://127.0.0.1:{secure}");
        let kubeconfig = files.join("kubeconfig");
        std::fs::write(
            &kubeconfig,
            format!(
                "apiVersion: v1\nkind: Config\ncurrent-context: lab\nclusters:\n- name: lab\n  cluster: {{server: \"{url}\", insecure-skip-tls-verify: true}}\nusers:\n- name: admin\n  user: {{token: {TOKEN}}}\ncontexts:\n- name: lab\n  context: {{cluster: lab, user: admin}}\n"
            ),
        )?;
        let mut assets = Self {
            kubeconfig: kubeconfig.clone(),
            url,
            children: vec![api, etcd],
            controller_manager: false,
        };
        let kubectl = Kubectl { kubeconfig: kubeconfig.clone(), namespace: "default".into() };
        let ready = wait::until("the API server", wait::minutes(2), || async {
            kubectl.run(&["get", "--raw", "/readyz"]).await.map(Some)
        })
        .await;
        if let Err(error) = ready {
            bail!("{error:#}; its log is {}", data.join("kube-apiserver.log").display());
        }
        let manager = dir.join("kube-controller-manager");
        if manager.is_file() {
            let child = Command::new(manager)
                .arg(format!("--kubeconfig={}", kubeconfig.display()))
                .arg(format!("--service-account-private-key-file={}", key.display()))
                .arg("--use-service-account-credentials=true")
                .arg("--leader-elect=false")
                .stdout(Stdio::null())
                .stderr(log("kube-controller-manager")?)
                .kill_on_drop(true)
                .spawn()
                .context("kube-controller-manager does not start")?;
            assets.children.insert(0, child);
            assets.controller_manager = true;
        }
        Ok(assets)
    }

    /// Whether Kubernetes' own controllers run.
    pub fn has_controller_manager(&self) -> bool {
        self.controller_manager
    }

    /// Stops the servers, the last started first.
    pub async fn stop(mut self) -> Result<()> {
        for child in &mut self.children {
            child.kill().await.context("a server of the API does not stop")?;
        }
        Ok(())
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
