//! What a container sees.

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::LogParams;
use serde_json::json;

use crate::lab::Lab;

#[tokio::test]
async fn a_container_is_alone_with_its_root() {
    let lab = Lab::start().await;
    let script = "echo pid $$$$; id -u; id -g; hostname; ls /proc | grep -c '^[0-9]'; ls /home /boot /var/log 2>&1 | wc -l; \
                  touch /usr/x 2>/dev/null || echo usr is read-only; touch /tmp/x && echo tmp is writable; hostname -i";
    lab.shell(
        "alone",
        script,
        json!({"restartPolicy": "Never", "securityContext": {"runAsUser": 26, "runAsGroup": 27}}),
    )
    .await;
    let text = lab.output("alone").await;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(&lines[..4], ["pid 1", "26", "27", "alone"], "{text}");
    assert!(lines[4].parse::<u32>().unwrap() < 8, "processes of others are visible: {text}");
    assert_eq!(lines[5], "3", "directories of the host are visible: {text}");
    assert_eq!(&lines[6..8], ["usr is read-only", "tmp is writable"], "{text}");
    let ip = lab.ended("alone").await.pod_ip.unwrap();
    assert_eq!(lines[8], ip);
    assert!(ip.starts_with("127.80."), "{ip}");
    lab.stop().await;
}

#[tokio::test]
async fn a_read_only_root_is_read_only() {
    let lab = Lab::start().await;
    let script = "touch /x 2>/dev/null || echo root; touch /tmp/x 2>/dev/null && echo tmp";
    let extra = json!({"restartPolicy": "Never", "volumes": [{"name": "tmp", "emptyDir": {}}],
        "container": {"securityContext": {"readOnlyRootFilesystem": true},
            "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}]}});
    lab.shell("ro", script, extra).await;
    assert_eq!(lab.output("ro").await, "root\ntmp\n");
    lab.stop().await;
}

#[tokio::test]
async fn environment_and_files_from_the_api() {
    let lab = Lab::start().await;
    let _: Secret = lab
        .create(json!({"metadata": {"name": "s"}, "stringData": {"password": "hidden", "other": "o"}}))
        .await;
    let _: ConfigMap = lab.create(json!({"metadata": {"name": "m"}, "data": {"key": "value"}})).await;
    let script = "echo $PASSWORD $P_key $NAME $IP $TEXT; cat /s/password /m/renamed; echo; stat -Lc %a /s/password; \
                  cat /d/labels; echo; ls /one; cat /one; (echo x > /s/password) 2>/dev/null || echo denied; \
                  T=/var/run/secrets/kubernetes.io/serviceaccount; cat $T/namespace; echo; wc -c < $T/ca.crt; \
                  cut -d. -f1 $T/token | wc -c; grep -c hidden /proc/1/cmdline";
    let extra = json!({"restartPolicy": "Never",
        "volumes": [
            {"name": "s", "secret": {"secretName": "s", "defaultMode": 256}},
            {"name": "m", "configMap": {"name": "m", "items": [{"key": "key", "path": "renamed"}]}},
            {"name": "d", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}}],
        "container": {
            "envFrom": [{"prefix": "P_", "configMapRef": {"name": "m"}}],
            "env": [
                {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "s", "key": "password"}}},
                {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "TEXT", "value": "<$(NAME)>"}],
            "volumeMounts": [
                {"name": "s", "mountPath": "/s"}, {"name": "m", "mountPath": "/m"},
                {"name": "d", "mountPath": "/d"}, {"name": "s", "mountPath": "/one", "subPath": "other"}]}});
    lab.shell("env", script, extra).await;
    let text = lab.output("env").await;
    let ip = lab.ended("env").await.pod_ip.unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], format!("hidden value env {ip} <env>"));
    assert_eq!(&lines[1..5], ["hiddenvalue", "400", "app=\"env\"", "/one"], "{text}");
    assert_eq!(&lines[5..6], ["odenied"], "{text}");
    assert_eq!(lines[6], "default");
    assert!(lines[7].parse::<u32>().unwrap() > 200, "{text}");
    assert!(lines[8].parse::<u32>().unwrap() > 10, "{text}");
    lab.stop().await;
}

#[tokio::test]
async fn what_a_pod_refers_to_may_come_later() {
    let lab = Lab::start().await;
    let env = json!([{"name": "X", "valueFrom": {"secretKeyRef": {"name": "late", "key": "x"}}}]);
    lab.shell("late", "echo $X", json!({"restartPolicy": "Never", "container": {"env": env}})).await;
    let status = lab
        .pod_is("late", "waiting for its secret", |status| {
            reason(status).as_deref() == Some("CreateContainerConfigError")
        })
        .await;
    let message =
        status.container_statuses.unwrap()[0].state.clone().unwrap().waiting.unwrap().message.unwrap();
    assert_eq!(message, "Secret \"late\" not found");
    let _: Secret = lab.create(json!({"metadata": {"name": "late"}, "stringData": {"x": "here"}})).await;
    assert_eq!(lab.output("late").await, "here\n");

    let volume =
        json!({"restartPolicy": "Never", "volumes": [{"name": "v", "secret": {"secretName": "later"}}]});
    lab.shell("mount", "echo mounted", volume).await;
    lab.has_event("mount", "FailedMount").await;
    let _: Secret = lab.create(json!({"metadata": {"name": "later"}})).await;
    assert_eq!(lab.output("mount").await, "mounted\n");
    lab.stop().await;
}

fn reason(status: &k8s_openapi::api::core::v1::PodStatus) -> Option<String> {
    status.container_statuses.as_ref()?.first()?.state.as_ref()?.waiting.as_ref()?.reason.clone()
}

#[tokio::test]
async fn unknown_images_cannot_be_pulled() {
    let lab = Lab::start().await;
    lab.shell("pull", "true", json!({"restartPolicy": "Never", "container": {"image": "nobody/has:it"}}))
        .await;
    lab.pod_is("pull", "backing off", |status| reason(status).as_deref() == Some("ImagePullBackOff")).await;
    lab.node().set_images(crate::lab::images().with("nobody/has:it", howdah_lab_node::Image::host_system()));
    lab.output("pull").await;
    lab.stop().await;
}

#[tokio::test]
async fn commands_that_do_not_exist_say_so() {
    let lab = Lab::start().await;
    lab.shell("none", "", json!({"restartPolicy": "Never", "container": {"command": ["/no/such/program"]}}))
        .await;
    let status = lab.ended("none").await;
    let end = status.container_statuses.unwrap()[0].state.clone().unwrap().terminated.unwrap();
    assert_eq!((end.exit_code, end.reason.as_deref()), (128, Some("StartError")));
    assert!(end.message.unwrap().contains("No such file"), "the reason is told");
    lab.stop().await;
}

#[tokio::test]
async fn init_containers_run_in_order_and_hand_over_files() {
    let lab = Lab::start().await;
    let mount = json!([{"name": "v", "mountPath": "/v"}]);
    let init = |name: &str, script: &str| {
        let mut container = crate::lab::shell_container(name, script);
        container["volumeMounts"] = mount.clone();
        container
    };
    let extra = json!({"restartPolicy": "Never", "volumes": [{"name": "v", "emptyDir": {}}],
        "initContainers": [init("one", "echo one >> /v/f"), init("two", "test -f /v/f && echo two >> /v/f")],
        "container": {"volumeMounts": mount}});
    lab.shell("init", "cat /v/f", extra).await;
    assert_eq!(lab.output("init").await, "one\ntwo\n");
    let status = lab.ended("init").await;
    let inits = status.init_container_statuses.unwrap();
    assert!(inits.iter().all(|container| container.ready));
    let log = lab.logs("init", LogParams { container: Some("one".into()), ..Default::default() }).await;
    assert_eq!(log, "");
    lab.stop().await;
}

#[tokio::test]
async fn last_words_are_kept() {
    let lab = Lab::start().await;
    let message = |status: k8s_openapi::api::core::v1::PodStatus| {
        let state = status.container_statuses.unwrap()[0].state.clone().unwrap();
        state.terminated.unwrap().message
    };
    let never = json!({"restartPolicy": "Never", "securityContext": {"runAsUser": 26}});
    lab.shell("says", "echo -n because > /dev/termination-log; exit 1", never).await;
    assert_eq!(message(lab.ended("says").await).as_deref(), Some("because"));
    let fallback = json!({"restartPolicy": "Never", "container": {
        "terminationMessagePolicy": "FallbackToLogsOnError", "terminationMessagePath": "/tmp/last",
        "securityContext": {"readOnlyRootFilesystem": true}}});
    lab.shell("logs", "echo the disk is full >&2; exit 1", fallback).await;
    assert_eq!(message(lab.ended("logs").await).as_deref(), Some("the disk is full\n"));
    lab.stop().await;
}
