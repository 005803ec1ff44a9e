//! Stock `kubectl`, the machine's and Debian's old one, does its everyday work.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod support;

use std::path::Path;

use support::{Lab, old_kubectl, system_kubectl, text, widgets};

const DEPLOYMENT: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: main, image: \"web:1\", ports: [{containerPort: 80}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {a: b}
";

const WIDGET: &str = "\
apiVersion: lab.example.com/v1
kind: Widget
metadata: {name: w1}
spec: {size: 3, limit: 5}
";

async fn everyday(lab: &Lab, kubectl: &Path) {
    let run = async |arguments: &[&str], input: &str| lab.kubectl_ok(kubectl, arguments, input).await;
    let crd = widgets().to_string();
    run(&["apply", "-f", "-"], &crd).await;
    run(&["wait", "--for=condition=Established", "crd/widgets.lab.example.com", "--timeout=30s"], "").await;

    let made = run(&["apply", "-f", "-"], DEPLOYMENT).await;
    assert!(
        made.contains("deployment.apps/web created") && made.contains("configmap/settings created"),
        "{made}"
    );
    let again = run(&["apply", "-f", "-"], DEPLOYMENT).await;
    assert!(again.contains("deployment.apps/web unchanged"), "{again}");
    let server_side = run(&["apply", "--server-side", "--force-conflicts", "-f", "-"], DEPLOYMENT).await;
    assert!(server_side.contains("deployment.apps/web serverside-applied"), "{server_side}");
    let changed = run(&["apply", "-f", "-"], &DEPLOYMENT.replace("web:1", "web:2")).await;
    assert!(changed.contains("deployment.apps/web configured"), "{changed}");

    let wide = run(&["get", "deployments", "-o", "wide"], "").await;
    assert!(wide.contains("CONTAINERS") && wide.contains("web:2") && wide.contains("0/1"), "{wide}");
    let yaml = run(&["get", "configmap", "settings", "-o", "yaml"], "").await;
    assert!(yaml.contains("a: b") && yaml.contains("kind: ConfigMap"), "{yaml}");
    let all = run(&["get", "all"], "").await;
    assert!(all.contains("service/kubernetes") && all.contains("deployment.apps/web"), "{all}");
    let described = run(&["describe", "deployment", "web"], "").await;
    assert!(described.contains("RollingUpdate") && described.contains("web:2"), "{described}");

    run(&["apply", "-f", "-"], WIDGET).await;
    let table = run(&["get", "widgets"], "").await;
    let line = table.lines().nth(1).unwrap_or_default();
    assert!(table.starts_with("NAME   SIZE   PHASE") && line.starts_with("w1     3"), "{table}");
    let short = run(&["get", "wd", "w1", "-o", "jsonpath={.spec.mode}"], "").await;
    assert_eq!(short, "small");
    run(&["patch", "widget", "w1", "--type", "merge", "-p", r#"{"spec":{"size":5}}"#], "").await;
    run(
        &[
            "patch",
            "widget",
            "w1",
            "--type",
            "json",
            "-p",
            r#"[{"op":"replace","path":"/spec/size","value":6}]"#,
        ],
        "",
    )
    .await;
    run(&["label", "widget", "w1", "colour=red"], "").await;
    run(&["annotate", "widget", "w1", "note=x"], "").await;
    let chosen = run(&["get", "widgets", "-l", "colour=red", "-o", "name"], "").await;
    assert_eq!(chosen.trim(), "widget.lab.example.com/w1");
    let described = run(&["describe", "widget", "w1"], "").await;
    assert!(described.contains("Size:") && described.contains("colour=red"), "{described}");

    let explained = run(&["explain", "deployment.spec.strategy"], "").await;
    assert!(explained.contains("rollingUpdate"), "{explained}");
    let explained = run(&["explain", "widgets.spec"], "").await;
    assert!(explained.contains("size") && explained.contains("-required-"), "{explained}");

    let refused = lab.kubectl(kubectl, &["apply", "-f", "-"], &WIDGET.replace("size: 3", "size: 11")).await;
    assert!(!refused.status.success() && text(&refused.stderr).contains("size above 10 needs mode big"));
    let unknown =
        lab.kubectl(kubectl, &["apply", "-f", "-"], &WIDGET.replace("size: 3", "size: 3, bogus: 1")).await;
    assert!(
        !unknown.status.success() && text(&unknown.stderr).contains("bogus"),
        "{}",
        text(&unknown.stderr)
    );

    run(&["create", "secret", "generic", "creds", "--from-literal=key=value"], "").await;
    let secret = run(&["get", "secret", "creds", "-o", "jsonpath={.data.key}"], "").await;
    assert_eq!(secret, "dmFsdWU=");
    run(&["create", "role", "reader", "--verb=get", "--resource=pods"], "").await;
    run(&["create", "rolebinding", "reader", "--role=reader", "--serviceaccount=default:default"], "").await;
    assert_eq!(run(&["auth", "can-i", "delete", "nodes"], "").await.trim(), "yes");
    let account = "--as=system:serviceaccount:default:default";
    assert_eq!(run(&["auth", "can-i", "get", "pods", account], "").await.trim(), "yes");
    let denied = lab.kubectl(kubectl, &["auth", "can-i", "delete", "pods", account], "").await;
    assert_eq!((text(&denied.stdout).trim(), denied.status.code()), ("no", Some(1)));
    let forbidden = lab.kubectl(kubectl, &["get", "secrets", account], "").await;
    assert!(
        text(&forbidden.stderr).contains("cannot list resource \"secrets\""),
        "{}",
        text(&forbidden.stderr)
    );

    run(&["scale", "deployment", "web", "--replicas=3"], "").await;
    assert_eq!(run(&["get", "deploy", "web", "-o", "jsonpath={.spec.replicas}"], "").await, "3");
    run(&["rollout", "restart", "deployment", "web"], "").await;
    run(&["expose", "deployment", "web", "--port", "80"], "").await;
    let address = run(&["get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"], "").await;
    assert!(address.starts_with("127.64."), "{address}");

    run(&["create", "namespace", "other"], "").await;
    run(&["delete", "namespace", "other", "--wait", "--timeout=30s"], "").await;
    run(&["delete", "widget", "w1", "--wait", "--timeout=30s"], "").await;
    run(&["delete", "-f", "-", "--wait", "--timeout=30s"], DEPLOYMENT).await;
    run(&["delete", "crd", "widgets.lab.example.com", "--wait", "--timeout=30s"], "").await;
    let gone = lab.kubectl(kubectl, &["get", "widgets"], "").await;
    assert!(!gone.status.success(), "{}", text(&gone.stdout));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_machines_kubectl_does_its_everyday_work() {
    let lab = Lab::start().await;
    everyday(&lab, &system_kubectl()).await;
    lab.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_kubectl_does_its_everyday_work() {
    let lab = Lab::start().await;
    everyday(&lab, &old_kubectl()).await;
    lab.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_editor_changes_an_object() {
    let lab = Lab::start().await;
    let kubectl = system_kubectl();
    lab.kubectl_ok(&kubectl, &["create", "configmap", "c", "--from-literal=a=before"], "").await;
    let script = lab.home.path().join("editor");
    std::fs::write(&script, "#!/bin/sh\nsed -i s/before/after/ \"$1\"\n").unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    // `env` so that the variable reaches this one program only.
    let editor = format!("KUBE_EDITOR={}", script.display());
    let arguments = [editor.as_str(), kubectl.to_str().unwrap(), "edit", "configmap", "c"];
    lab.kubectl_ok(Path::new("/usr/bin/env"), &arguments, "").await;
    let value = lab.kubectl_ok(&kubectl, &["get", "configmap", "c", "-o", "jsonpath={.data.a}"], "").await;
    assert_eq!(value, "after");
    lab.server.shutdown().await;
}
