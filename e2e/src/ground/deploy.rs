//! Deploys the operator from `config/default`, as a user does; only the images are this ground's own.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Images;
use crate::kubectl::Kubectl;
use crate::{paths, wait};

/// Image named in `config/manager/manager.yaml`.
pub const IMAGE: &str = "howdah:latest";
/// PostgreSQL image named there.
const POSTGRES: &str = "docker.io/library/postgres:17";

/// Renders, applies, and waits until the operator is available.
pub async fn operator(kubectl: &Kubectl, images: &Images) -> Result<()> {
    let config = paths::repository().join("config/default");
    let rendered = kubectl.run(&["kustomize", &config.display().to_string()]).await?;
    ensure!(
        rendered.contains(IMAGE) && rendered.contains(POSTGRES),
        "config/manager/manager.yaml names other images than this file"
    );
    let manifest = rendered.replace(IMAGE, &images.operator).replace(POSTGRES, &images.postgres);
    let system = kubectl.in_namespace("howdah-system");
    let applied =
        system.output(&["apply", "--server-side", "--force-conflicts", "-f", "-"], Some(&manifest)).await?;
    ensure!(applied.ok, "config/default cannot be applied: {}{}", applied.stdout, applied.stderr);
    let available = |d: &Value| d["status"]["availableReplicas"].as_i64() > Some(0);
    let deployed =
        system.wait_for("deployment", "howdah-operator", "available", wait::minutes(2), available).await;
    if deployed.is_err() {
        let log = system
            .output(&["logs", "-l", "app.kubernetes.io/name=howdah-operator", "--tail=40"], None)
            .await?;
        return deployed
            .map(drop)
            .with_context(|| format!("the operator's log:\n{}{}", log.stdout, log.stderr));
    }
    Ok(())
}
