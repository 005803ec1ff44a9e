//! Limits, and the certainty that nothing outlives its node.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Node;
use kube::Api;
use serde_json::json;

use crate::lab::Lab;

#[tokio::test]
async fn a_memory_limit_kills_who_takes_more() {
    assert!(
        std::path::Path::new("/sys/fs/cgroup/memory/memory.limit_in_bytes").exists(),
        "the version 1 memory controller is needed: boot with systemd.unified_cgroup_hierarchy=0"
    );
    let lab = Lab::start_with(|builder| builder.memory_limits(true)).await;
    let limit = json!({"restartPolicy": "Never", "container": {"resources": {"limits": {"memory": "64Mi"}}}});
    lab.shell("greedy", "exec python3 -c 'x = bytearray(300 << 20)'", limit.clone()).await;
    let status = lab.ended("greedy").await;
    let end = status.container_statuses.unwrap()[0].state.clone().unwrap().terminated.unwrap();
    assert_eq!((end.exit_code, end.reason.as_deref()), (137, Some("OOMKilled")));
    lab.shell("modest", "exec python3 -c 'x = bytearray(16 << 20); print(len(x))'", limit).await;
    assert_eq!(lab.output("modest").await, "16777216\n");
    lab.stop().await;
}

/// Runs the program instead of the library, so that it can be killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_die_with_a_killed_node() {
    let mut lab = Lab::start().await;
    lab.node.take().unwrap().shutdown().await;
    let images = lab.dir.path().join("images.yaml");
    std::fs::write(&images, "images: {shell: {binds: [{source: /usr}], links: [{to: usr/bin, at: /bin}, {to: usr/lib, at: /lib}, {to: usr/lib64, at: /lib64}]}}").unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_lab-node"))
        .arg("--kubeconfig")
        .arg(lab.dir.path().join("kubeconfig"))
        .arg("--images")
        .arg(&images)
        .arg("--root")
        .arg(lab.dir.path().join("other"))
        .args(["--name", "lab-node-2"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(program.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("node lab-node-2 kubelet port "), "{line}");
    let secret = format!("{:x}", std::process::id());
    let script = format!("trap '' TERM; echo up; : {secret}; setsid sleep 1000 & sleep 1001");
    let selector = json!({"nodeSelector": {"kubernetes.io/hostname": "lab-node-2"}, "container": {"env": [{"name": "MARK", "value": secret}]}});
    lab.shell("doomed", &script, selector).await;
    lab.wrote("doomed", "up").await;
    let marked = || -> usize {
        let mark = format!("MARK={secret}");
        std::fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter(|entry| {
                let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
                environment.windows(mark.len()).any(|window| window == mark.as_bytes())
            })
            .count()
    };
    assert!(marked() >= 3, "shell, both sleeps and their sandbox");
    program.kill().unwrap();
    program.wait().unwrap();
    let deadline = Instant::now() + crate::lab::PATIENCE;
    while marked() > 0 {
        assert!(Instant::now() < deadline, "{} processes outlive their node", marked());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    lab.api.shutdown().await;
}

#[tokio::test]
async fn a_silent_node_is_noticed_and_taken_back() {
    let lab = Lab::start_with(|builder| builder.silence(Duration::from_secs(2))).await;
    lab.shell("quiet", "sleep 1000 & wait", json!({})).await;
    lab.ready("quiet").await;
    let ready = |status: &'static str| {
        let nodes: Api<Node> = Api::all(lab.client.clone());
        async move {
            let deadline = Instant::now() + crate::lab::PATIENCE;
            loop {
                let node = nodes.get("lab-node-1").await.unwrap();
                let found = node.status.unwrap().conditions.unwrap().into_iter().find(|c| c.type_ == "Ready");
                let tainted = node.spec.and_then(|spec| spec.taints).is_some_and(|taints| !taints.is_empty());
                if found.as_ref().is_some_and(|c| c.status == status) && tainted == (status == "Unknown") {
                    return;
                }
                assert!(
                    Instant::now() < deadline,
                    "the node never was {status}: {found:?}, tainted {tainted}"
                );
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    };
    lab.node().stop_heartbeats().await;
    ready("Unknown").await;
    lab.pod_is("quiet", "unready", |status| crate::lab::condition(status, "Ready") == "False").await;
    lab.node().lose().await;
    lab.node().recover();
    lab.ready("quiet").await;
    lab.stop().await;
}
