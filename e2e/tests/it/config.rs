//! `config/`: what is deployed is restricted, least, and complete.

use anyhow::{Result, ensure};
use howdah_e2e::Ground;
use serde_json::json;

use crate::common::Scene;

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_runs_as_deployed_from_config() -> Result<()> {
    let ground = Ground::start().await?;
    let system = ground.kubectl.in_namespace("howdah-system");
    let deployment = system.get("deployment", "howdah-operator").await?.unwrap_or_default();
    let pod = &deployment["spec"]["template"]["spec"];
    ensure!(pod["securityContext"]["runAsNonRoot"] == true);
    let container = &pod["containers"][0]["securityContext"];
    ensure!(container["readOnlyRootFilesystem"] == true && container["allowPrivilegeEscalation"] == false);
    ensure!(container["capabilities"]["drop"][0] == "ALL");
    system.run(&["rollout", "status", "deployment/howdah-operator", "--timeout=120s"]).await?;
    ground.stop().await
}

/// The pods of a cluster keep to the restricted profile.
#[tokio::test(flavor = "multi_thread")]
async fn pods_of_a_cluster_are_restricted() -> Result<()> {
    let scene = Scene::new("restricted").await?;
    scene.up("pg", json!({})).await?;
    let pod = scene.kubectl.get("pod", "pg-1").await?.unwrap_or_default();
    let spec = &pod["spec"];
    ensure!(spec["securityContext"]["runAsNonRoot"] == true, "{:#}", spec["securityContext"]);
    ensure!(spec["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault");
    let containers =
        ["initContainers", "containers"].iter().flat_map(|k| spec[*k].as_array().into_iter().flatten());
    for container in containers {
        let context = &container["securityContext"];
        ensure!(context["readOnlyRootFilesystem"] == true, "{:#}", container["name"]);
        ensure!(context["allowPrivilegeEscalation"] == false, "{:#}", container["name"]);
        ensure!(context["capabilities"]["drop"][0] == "ALL", "{:#}", container["name"]);
    }
    // The instance's account may do little: not read other Secrets, not create pods.
    let user = format!("--as=system:serviceaccount:{}:pg", scene.kubectl.namespace);
    for (verb, what, answer) in [
        ("create", "pods", "no"),
        ("list", "secrets", "no"),
        ("get", "secrets/unrelated", "no"),
        ("get", "secrets/s3-creds", "yes"),
        ("list", "backups", "yes"),
    ] {
        let out = scene.kubectl.output(&["auth", "can-i", verb, what, &user], None).await?;
        ensure!(out.stdout.trim() == answer, "can-i {verb} {what}: {}{}", out.stdout, out.stderr);
    }
    scene.ground.stop().await
}
