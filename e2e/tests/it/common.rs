//! What several subjects share: a namespace with credentials, a cluster that is up, a backup that is complete.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use anyhow::{Context, Result, ensure};
use barman_cloud::{Segment, SegmentSize};
use howdah_e2e::kubectl::Kubectl;
use howdah_e2e::manifests::{self, Store};
use howdah_e2e::sql::Session;
use howdah_e2e::{Ground, wait};
use serde_json::{Value, json};

/// A fresh namespace with the Secret `s3-creds`, and where its backups go.
pub struct Scene {
    pub ground: Ground,
    pub kubectl: Kubectl,
    pub store: Store,
}

/// A number from the environment.
pub fn number<N>(variable: &str, default: N) -> Result<N>
where
    N: FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    match std::env::var(variable) {
        Ok(text) => text.parse().with_context(|| format!("{variable}={text} is no number")),
        Err(_) => Ok(default),
    }
}

impl Scene {
    pub async fn new(name: &str) -> Result<Self> {
        let ground = Ground::start().await?;
        let kubectl = ground.namespace(name).await?;
        kubectl
            .create_secret(
                "s3-creds",
                &[
                    ("ACCESS_KEY_ID", ground.s3.access_key.as_str()),
                    ("ACCESS_SECRET_KEY", ground.s3.secret_key.as_str()),
                ],
            )
            .await?;
        let store = Store {
            endpoint: ground.s3.endpoint.clone(),
            bucket: ground.s3.bucket.clone(),
            secret: "s3-creds".into(),
        };
        Ok(Self { ground, kubectl, store })
    }

    /// As [`Scene::new`]; its clusters are of this major version of PostgreSQL.
    pub async fn on(major: u32, name: &str) -> Result<Self> {
        let mut scene = Self::new(name).await?;
        scene.ground.images.postgres = scene.ground.postgres_image(major)?;
        Ok(scene)
    }

    /// Name of the server that [`Scene::cluster`] archives as.
    pub fn server(&self, cluster: &str) -> String {
        format!("{}-{cluster}", self.kubectl.namespace)
    }

    /// A manifest of a Cluster on this ground's PostgreSQL with backups to this ground's store.
    pub fn cluster(&self, name: &str, spec: Value) -> Value {
        let mut with_server = json!({"backup": {"barmanObjectStore": {"serverName": self.server(name)}}});
        manifests::merge(&mut with_server, spec);
        manifests::cluster(name, &self.ground.images.postgres, Some(&self.store), with_server)
    }

    /// A manifest of a Cluster that recovers from a Backup; it has no backups of its own.
    pub fn restored(&self, name: &str, backup: &str, target: Value) -> Value {
        let mut recovery = json!({"backup": {"name": backup}});
        if !target.is_null() {
            recovery["recoveryTarget"] = target;
        }
        manifests::cluster(
            name,
            &self.ground.images.postgres,
            None,
            json!({"bootstrap": {"fullRecovery": recovery}}),
        )
    }

    pub async fn apply(&self, manifest: &Value) -> Result<()> {
        self.kubectl.apply(&manifest.to_string()).await.map(drop)
    }

    /// Merges into the spec of a Cluster; `null` removes.
    pub async fn change(&self, cluster: &str, spec: Value) -> Result<()> {
        let patch = json!({"spec": spec}).to_string();
        self.kubectl.run(&["patch", "cluster", cluster, "--type=merge", "-p", &patch]).await.map(drop)
    }

    pub fn sql(&self, cluster: &str) -> Session {
        Session::superuser(&self.kubectl, &self.ground.images.postgres, cluster)
    }

    /// Waits until all instances of a cluster are ready.
    pub async fn healthy(&self, cluster: &str) -> Result<Value> {
        self.kubectl
            .wait_for("cluster", cluster, "all instances ready", wait::minutes(5), |c| {
                condition(c, "Ready").is_some_and(|c| c["status"] == "True")
            })
            .await
    }

    /// Creates a cluster and waits until it is up and WAL has reached the archive.
    pub async fn up(&self, cluster: &str, spec: Value) -> Result<Value> {
        self.apply(&self.cluster(cluster, spec)).await?;
        self.healthy(cluster).await
    }

    /// Creates a Backup and waits for its end, whichever it is.
    pub async fn back_up(&self, name: &str, cluster: &str) -> Result<Value> {
        self.apply(&manifests::backup(name, cluster)).await?;
        self.ended(name).await
    }

    pub async fn ended(&self, backup: &str) -> Result<Value> {
        self.kubectl
            .wait_for("backup", backup, "completed or failed", wait::minutes(6), |b| {
                ["completed", "failed"].contains(&phase(b))
            })
            .await
    }

    /// Creates a Backup that must complete.
    pub async fn completed_backup(&self, name: &str, cluster: &str) -> Result<Value> {
        let backup = self.back_up(name, cluster).await?;
        anyhow::ensure!(
            phase(&backup) == "completed",
            "backup {name} did not complete: {:#}",
            backup["status"]
        );
        Ok(backup)
    }

    /// Closes the segment and waits until it is in the archive.
    pub async fn archive_all(&self, cluster: &str) -> Result<()> {
        let sql = self.sql(cluster);
        let closed = sql.run("select pg_walfile_name(pg_switch_wal())").await?;
        wait::until(&format!("{closed} in the archive"), wait::minutes(3), || async {
            let last = sql.run("select coalesce(last_archived_wal, '') from pg_stat_archiver").await?;
            Ok((last.get(..24).unwrap_or_default() >= closed.as_str()).then_some(()))
        })
        .await
        .with_context(|| format!("cluster {cluster}"))
    }

    /// Waits until the archive of a cluster has no hole on the way to `timeline`.
    pub async fn archive_is_whole(&self, cluster: &str, timeline: i64) -> Result<()> {
        let place = format!("{}/wals/", self.server(cluster));
        wait::until(&format!("an archive of {cluster} without a hole"), wait::minutes(1), || async {
            whole(&self.ground.keys(&place).await?, u32::try_from(timeline)?).map(Some)
        })
        .await
    }
}

/// Whether these keys are an archive without a hole: WAL files one after the other on each timeline up to this one, each
/// timeline from where the one before ends, and the histories.
fn whole(keys: &[String], timeline: u32) -> Result<()> {
    let mut archived: BTreeMap<u32, BTreeSet<u64>> = BTreeMap::new();
    let names: Vec<&str> = keys.iter().filter_map(|key| key.rsplit('/').next()).collect();
    // Behind the first dot stands the codec; labels and what a primary left half written have another word there.
    let files = names.iter().filter(|name| !name.contains(".backup") && !name.contains(".partial"));
    for segment in files.filter_map(|name| name.split('.').next()?.parse::<Segment>().ok()) {
        archived.entry(segment.timeline).or_default().insert(segment.number(SegmentSize::DEFAULT));
    }
    let mut end: Option<u64> = None;
    for timeline in 1..=timeline {
        let history = format!("{timeline:08X}.history");
        ensure!(
            timeline == 1 || names.iter().any(|name| name.starts_with(&history)),
            "no {history}: {names:?}"
        );
        // One that was left within its first segment has none.
        let Some(numbers) = archived.get(&timeline) else { continue };
        for number in numbers {
            let follows = end.is_none_or(|end| *number <= end + 1);
            ensure!(follows, "nothing before segment {number} of timeline {timeline}: {names:?}");
            end = Some(*number);
        }
    }
    ensure!(archived.contains_key(&timeline), "nothing of timeline {timeline}: {names:?}");
    Ok(())
}

/// The judgement of [`whole`] itself.
#[test]
fn a_hole_in_an_archive_is_seen() {
    let is_whole = |names: &[&str]| {
        let key = |name: &&str| format!("ns-pg/wals/{}/{name}", name.get(..16).unwrap_or_default());
        whole(&names.iter().map(key).collect::<Vec<_>>(), 2).is_ok()
    };
    let first = ["000000010000000000000001.zst", "000000010000000000000002"];
    let label = "000000010000000000000002.00000028.backup";
    let (history, fork) = ("00000002.history", "000000010000000000000003.partial");
    let then = ["000000020000000000000003", "000000020000000000000004"];
    let all = [first[0], first[1], label, history, fork, then[0], then[1]];
    assert!(is_whole(&all));
    assert!(is_whole(&[first[1], history, then[0]]));
    for gone in [first[1], history, then[0]] {
        let rest: Vec<&str> = all.into_iter().filter(|name| *name != gone).collect();
        assert!(!is_whole(&rest), "without {gone}");
    }
    assert!(!is_whole(&[first[0], first[1], history]), "nothing of the second timeline");
}

/// `status.phase`, empty when there is none.
pub fn phase(object: &Value) -> &str {
    object["status"]["phase"].as_str().unwrap_or_default()
}

/// A condition of an object.
pub fn condition<'a>(object: &'a Value, type_: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|c| c["type"] == type_)
}

/// `status.error` of a Backup, empty when there is none.
pub fn error(object: &Value) -> &str {
    object["status"]["error"].as_str().unwrap_or_default()
}

/// A checksum over all rows of a table, in the order of its key.
pub fn checksum(table: &str) -> String {
    format!("select count(*) || ' ' || md5(string_agg(t::text, ',' order by t.id)) from {table} t")
}

/// A table with `rows` rows of text that compress badly enough to be data.
pub fn table(name: &str, rows: u32) -> String {
    format!(
        "create table {name} (id int primary key, body text); insert into {name} select i, md5(i::text) || repeat(md5((i * 7)::text), 6) from generate_series(1, {rows}) i"
    )
}

/// A repository in the lab's bucket.
pub fn repository(scene: &Scene, name: &str, path: &str) -> Value {
    let key = |key: &str| json!({"name": scene.store.secret, "key": key});
    json!({
        "name": name,
        "path": path,
        "s3": {"bucket": scene.store.bucket, "endpoint": scene.store.endpoint, "region": "us-east-1", "uriStyle": "path"},
        "credentials": {"accessKeyId": key("ACCESS_KEY_ID"), "secretAccessKey": key("ACCESS_SECRET_KEY")},
        "wal": {"compression": "zstd"},
        "data": {"compression": "lz4"},
    })
}

/// A manifest of a Backup to a repository.
pub fn backup_to(name: &str, cluster: &str, repository: &str) -> Value {
    let mut manifest = manifests::backup(name, cluster);
    manifest["spec"]["repository"] = repository.into();
    manifest
}
