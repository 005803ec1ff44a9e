//! A real cluster: the operator is deployed from `config/` with `E2E_IMAGE`.

use std::path::PathBuf;

use anyhow::Result;
use tempfile::TempDir;

use super::{Ground, Images, S3Access, deploy, required};
use crate::kubectl::Kubectl;

/// Default image of PostgreSQL on a real cluster.
const POSTGRES: &str = "docker.io/library/postgres:15";

pub async fn start(kubeconfig: PathBuf, files: TempDir) -> Result<Ground> {
    let endpoint = required("E2E_S3_ENDPOINT")?;
    let s3 = S3Access {
        endpoint_here: std::env::var("E2E_S3_ENDPOINT_HERE").unwrap_or_else(|_| endpoint.clone()),
        endpoint,
        bucket: required("E2E_S3_BUCKET")?,
        access_key: required("E2E_S3_ACCESS_KEY")?,
        secret_key: required("E2E_S3_SECRET_KEY")?,
    };
    let images = Images {
        operator: required("E2E_IMAGE")?,
        postgres: std::env::var("E2E_POSTGRES_IMAGE").unwrap_or_else(|_| POSTGRES.to_owned()),
    };
    let kubectl = Kubectl { kubeconfig, namespace: "default".into() };
    deploy::operator(&kubectl, &images).await?;
    Ok(Ground { kubectl, s3, images, lab: None, _files: files })
}
