//! `examples/kustomize`: each folder as a user takes it. It is copied, the `.example` files become files with keys, and an
//! overlay says where the stores of this ground are.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use howdah_e2e::{Ground, Kubectl, paths, wait};
use howdah_emulators::{AZURE_ACCOUNT, AZURE_KEY, Emulator, GCS_KEY};
use rstest::rstest;
use serde_json::{Value, json};

use crate::common::{condition, phase};

/// Bucket and container in the emulators.
const BUCKET: &str = "backups";

/// S0.11, S0.13, S0.23, S1.3, S1.7, S1.25: with `kubectl apply -k` alone a cluster comes up, WAL and the example's own
/// Backups reach each repository, and the schedules are there.
#[rstest]
#[case::s3("s3")]
#[case::gcs("gcs")]
#[case::azure("azure")]
#[case::volume("volume")]
#[case::all_at_once("multi-backup-repo")]
#[case::encryption("encryption")]
#[tokio::test(flavor = "multi_thread")]
async fn an_example_is_applied_and_backs_up(#[case] folder: &str) -> Result<()> {
    let ground = Ground::start().await?;
    let kubectl = ground.namespace(folder).await?;
    let scratch = tempfile::tempdir()?;
    let example = Example::take(folder, scratch.path())?;
    let stores = Stores::start(&ground, &example).await?;
    example.fill_in(&ground)?;
    let overlay = example.overlay(&ground, &stores)?;
    kubectl.run(&["apply", "-k", &overlay.display().to_string()]).await?;

    kubectl
        .wait_for("cluster", &example.name, "ready and archiving", wait::minutes(6), |c| {
            ["Ready", "ContinuousArchiving"]
                .iter()
                .all(|t| condition(c, t).is_some_and(|c| c["status"] == "True"))
        })
        .await?;
    example.backups_complete(&kubectl).await?;
    example.schedules_are_there(&kubectl).await?;
    example.objects_are_in_the_bucket(&ground, &kubectl).await?;
    ground.stop().await
}

/// A copy of a folder.
struct Example {
    dir: PathBuf,
    name: String,
    repositories: Vec<Value>,
}

impl Example {
    fn take(folder: &str, scratch: &Path) -> Result<Self> {
        let dir = scratch.join("example");
        fs::create_dir(&dir)?;
        for file in files(&folder_of(folder))? {
            let name = file.file_name().context("a file has a name")?;
            fs::copy(&file, dir.join(name))?;
        }
        let cluster: Value = serde_saphyr::from_str(&fs::read_to_string(dir.join("postgres.yaml"))?)?;
        let name = cluster["metadata"]["name"].as_str().context("the cluster has a name")?.to_owned();
        let repositories = cluster["spec"]["backup"]["repositories"].as_array().cloned().unwrap_or_default();
        ensure!(!repositories.is_empty(), "{folder} has no repositories");
        Ok(Self { dir, name, repositories })
    }

    fn has(&self, storage: &str) -> bool {
        self.repositories.iter().any(|repository| repository[storage].is_object())
    }

    /// Makes the files with keys.
    fn fill_in(&self, ground: &Ground) -> Result<()> {
        for file in files(&self.dir)? {
            let Some(real) = file.to_str().and_then(|path| path.strip_suffix(".example")) else { continue };
            let text = fs::read_to_string(&file)?
                .replace("<YOUR_AWS_S3_KEY>", &ground.s3.access_key)
                .replace("<YOUR_AWS_S3_KEY_SECRET>", &ground.s3.secret_key)
                .replace("<YOUR_AZURE_ACCOUNT>", AZURE_ACCOUNT)
                .replace("<YOUR_AZURE_KEY>", AZURE_KEY)
                .replace("<THE_OUTPUT_OF_openssl_rand_-base64_48>", &"Abc/+123".repeat(8));
            let text = if real.ends_with(".json") { GCS_KEY.to_owned() } else { text };
            ensure!(!text.contains('<'), "nothing is known for a value in {}: {text}", file.display());
            fs::write(real, text)?;
        }
        Ok(())
    }

    /// A kustomization on top of the example, with the places of this ground's stores.
    fn overlay(&self, ground: &Ground, stores: &Stores) -> Result<PathBuf> {
        let mut patch = vec![add("/spec/imageName", &ground.images.postgres)];
        for (number, repository) in self.repositories.iter().enumerate() {
            let mut set = |field: &str, value: &str| {
                patch.push(add(&format!("/spec/backup/repositories/{number}/{field}"), value));
            };
            if repository["s3"].is_object() {
                set("s3/bucket", &ground.s3.bucket);
                set("s3/endpoint", &ground.s3.endpoint);
                set("s3/region", "us-east-1");
            }
            if let Some(gcs) = stores.gcs.as_ref().filter(|_| repository["gcs"].is_object()) {
                set("gcs/bucket", BUCKET);
                set("gcs/endpoint", &gcs.endpoint);
            }
            if let Some(azure) = stores.azure.as_ref().filter(|_| repository["azure"].is_object()) {
                set("azure/container", BUCKET);
                set("azure/endpoint", &azure.endpoint);
            }
        }
        let dir = self.dir.with_file_name("overlay");
        fs::create_dir(&dir)?;
        fs::write(dir.join("patch.json"), serde_json::to_string(&patch)?)?;
        // Words that kubectl 1.20 knows, as in `config/default`.
        let kustomization = json!({
            "bases": ["../example"],
            "patchesJson6902": [{
                "target": {"group": "postgresql.k8s.enterprisedb.io", "version": "v1alpha1", "kind": "Cluster", "name": self.name},
                "path": "patch.json",
            }],
        });
        fs::write(dir.join("kustomization.yaml"), kustomization.to_string())?;
        Ok(dir)
    }

    /// A Backup of the example completes in each repository.
    async fn backups_complete(&self, kubectl: &Kubectl) -> Result<()> {
        let listed: Value = serde_json::from_str(&kubectl.run(&["get", "backups", "-o", "json"]).await?)?;
        let backups = listed["items"].as_array().cloned().unwrap_or_default();
        for repository in &self.repositories {
            let repository = &repository["name"];
            let backup = backups
                .iter()
                .find(|backup| backup["spec"]["repository"] == *repository)
                .with_context(|| format!("the example has no Backup in {repository}"))?;
            let name = backup["metadata"]["name"].as_str().unwrap_or_default();
            let ended = kubectl
                .wait_for("backup", name, "completed or failed", wait::minutes(6), |b| {
                    ["completed", "failed"].contains(&phase(b))
                })
                .await?;
            let status = &ended["status"];
            ensure!(
                phase(&ended) == "completed" && status["repository"] == *repository,
                "{name}: {status:#}"
            );
        }
        Ok(())
    }

    /// Each schedule is a ScheduledBackup that knows when it is due.
    async fn schedules_are_there(&self, kubectl: &Kubectl) -> Result<()> {
        let mut seen = 0;
        for repository in &self.repositories {
            for kind in ["full", "differential", "incremental"] {
                if !repository["schedules"][kind].is_string() {
                    continue;
                }
                let name =
                    format!("{}-{}-{kind}", self.name, repository["name"].as_str().unwrap_or_default());
                kubectl
                    .wait_for("scheduledbackup", &name, "next runs", wait::minutes(1), |s| {
                        s["status"]["nextScheduleTimes"].as_array().is_some_and(|times| times.len() == 3)
                    })
                    .await?;
                seen += 1;
            }
        }
        ensure!(seen > 0, "the example has no schedules");
        Ok(())
    }

    /// In S3 a base backup and WAL lie at the default path, and are encrypted where that is asked for.
    async fn objects_are_in_the_bucket(&self, ground: &Ground, kubectl: &Kubectl) -> Result<()> {
        for repository in self.repositories.iter().filter(|repository| repository["s3"].is_object()) {
            let name = repository["name"].as_str().unwrap_or_default();
            let place = format!("{}/{}/{name}/{}/", kubectl.namespace, self.name, self.name);
            let keys: Vec<String> =
                ground.keys(&place).await?.into_iter().filter(|key| key.starts_with(&place)).collect();
            for part in ["/base/", "/wals/"] {
                ensure!(keys.iter().any(|key| key.contains(part)), "no {part} in {place}: {keys:?}");
            }
            if repository["encryption"].is_object() {
                let open = |key: &&String| !key.contains("/howdah/keys/") && !key.contains("/howdah/probe");
                for key in keys.iter().filter(open) {
                    let bytes = ground.read_object(key).await?;
                    ensure!(bytes.starts_with(b"HOWDAHEN"), "{key} is not encrypted");
                }
            }
        }
        Ok(())
    }
}

/// The servers that an example needs besides the ground's own S3.
struct Stores {
    gcs: Option<Emulator>,
    azure: Option<Emulator>,
}

impl Stores {
    async fn start(ground: &Ground, example: &Example) -> Result<Self> {
        let mut stores = Self { gcs: None, azure: None };
        if example.has("gcs") || example.has("azure") {
            // Pods of a real cluster do not reach the loopback interface of the test.
            ground.lab()?;
        }
        if example.has("gcs") {
            stores.gcs = Some(Emulator::gcs(BUCKET)?);
        }
        if example.has("azure") {
            stores.azure = Some(Emulator::azure(BUCKET).await?);
        }
        Ok(stores)
    }
}

fn add(path: &str, value: &str) -> Value {
    json!({"op": "add", "path": path, "value": value})
}

fn folder_of(example: &str) -> PathBuf {
    paths::repository().join("examples/kustomize").join(example)
}

/// The files of a folder, in order.
fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let path = entry?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// S1.17: what is made from an `.example` file is ignored by git, and nothing secret is in the file itself.
#[test]
fn files_with_keys_are_kept_out_of_version_control() -> Result<()> {
    let ignored = fs::read_to_string(folder_of(".gitignore"))?;
    let mut seen = 0;
    for folder in fs::read_dir(folder_of(""))? {
        let folder = folder?.path();
        if !folder.is_dir() {
            continue;
        }
        ensure!(folder.join("README.md").is_file(), "{} has no README.md", folder.display());
        let kustomization = fs::read_to_string(folder.join("kustomization.yaml"))?;
        for file in files(&folder)? {
            let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let Some(real) = name.strip_suffix(".example") else { continue };
            ensure!(ignored.lines().any(|line| line == real), "{real} is not in .gitignore");
            ensure!(kustomization.contains(real), "{} makes nothing of {real}", folder.display());
            let text = fs::read_to_string(&file)?;
            ensure!(
                text.contains("<YOUR_") || text.contains("<THE_"),
                "{} shows no place for a value",
                file.display()
            );
            seen += 1;
        }
    }
    ensure!(seen >= 8, "{seen} .example files");
    Ok(())
}
