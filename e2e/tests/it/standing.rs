//! What the subjects about a cluster that stays up share: three instances under a write load, and how they stand.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use howdah_api::{labels, naming};
use howdah_e2e::direct::Door;
use howdah_e2e::ledger::{CHECKSUM, Ledger, Writer};
use howdah_e2e::{manifests, wait};
use serde_json::{Value, json};

use crate::common::{Scene, condition};

/// Workers of a write load.
pub const WORKERS: i32 = 4;
/// How long a command inside a container may take.
const COMMAND: Duration = Duration::from_secs(60);

/// How a cluster stands, once it stands still.
#[derive(Clone, Debug)]
pub struct Standing {
    pub primary: String,
    pub timeline: i64,
    /// Address of each instance.
    pub addresses: BTreeMap<String, String>,
}

impl Standing {
    pub fn replicas(&self) -> Vec<&str> {
        self.addresses.keys().map(String::as_str).filter(|name| *name != self.primary).collect()
    }
}

/// The spec of a cluster with three instances and room for sessions that broke while they waited for a replica.
pub fn three(spec: Value) -> Value {
    let mut base = json!({"instances": 3, "postgresql": {"parameters": {"max_connections": "100"}}});
    manifests::merge(&mut base, spec);
    base
}

/// Three instances, and each commit is on two of them.
pub fn three_synchronous() -> Value {
    three(json!({"postgresql": {"synchronous": {"number": 1}}}))
}

/// Two instances, and each commit is on both of them.
pub fn two_synchronous() -> Value {
    let mut spec = three_synchronous();
    spec["instances"] = 2.into();
    spec
}

/// What an instance says of itself in the status of its cluster.
pub fn summary<'a>(status: &'a Value, instance: &str) -> Option<&'a Value> {
    status["instancesStatus"].as_array()?.iter().find(|one| one["name"] == instance)
}

pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

impl Scene {
    /// The way to the primary of a cluster, through its service.
    pub async fn door(&self, cluster: &str) -> Result<Door> {
        Door::service(&self.kubectl, cluster, &naming::service_rw(cluster)).await
    }

    pub async fn status(&self, cluster: &str) -> Result<Value> {
        let object = self.kubectl.get("cluster", cluster).await?;
        Ok(object.with_context(|| format!("there is no cluster {cluster}"))?["status"].take())
    }

    pub async fn pod(&self, name: &str) -> Result<Value> {
        self.kubectl.get("pod", name).await?.with_context(|| format!("there is no pod {name}"))
    }

    /// Sets an annotation of a Cluster, or takes it away.
    pub async fn annotate(&self, cluster: &str, key: &str, value: Option<&str>) -> Result<()> {
        let word = value.map_or_else(|| format!("{key}-"), |value| format!("{key}={value}"));
        self.kubectl.run(&["annotate", "--overwrite", "cluster", cluster, &word]).await.map(drop)
    }

    pub async fn annotation(&self, cluster: &str, key: &str) -> Result<Option<String>> {
        let object = self.kubectl.get("cluster", cluster).await?.unwrap_or_default();
        Ok(object["metadata"]["annotations"][key].as_str().map(str::to_owned))
    }

    /// Waits for an event with this reason and all these words; its message.
    pub async fn event(&self, reason: &str, words: &[&str]) -> Result<String> {
        wait::until(&format!("the event {reason} with {words:?}"), wait::minutes(4), || async {
            let events = self.kubectl.list("events", "").await?;
            let mut messages =
                events.iter().filter(|event| event["reason"] == reason).map(|event| text(event, "/message"));
            let message = messages.find(|message| words.iter().all(|word| message.contains(word)));
            Ok(message.map(str::to_owned))
        })
        .await
    }

    /// Runs a shell command beside PostgreSQL, as soon as the container runs; what it printed.
    pub async fn shell(&self, pod: &str, command: &str) -> Result<String> {
        let argv = ["/bin/sh", "-c", command];
        wait::until(&format!("{command} in {pod}"), wait::minutes(3), || async {
            let out = self.ground.exec(&self.kubectl, pod, "postgres", &argv, COMMAND).await?;
            ensure!(out.ok, "{command} in {pod}: {}", out.stderr);
            Ok(Some(out.stdout))
        })
        .await
    }

    /// Asks for another primary and waits until it is.
    pub async fn switch_over(&self, cluster: &str, to: &str) -> Result<()> {
        self.annotate(cluster, labels::SWITCHOVER, Some(to)).await?;
        self.kubectl
            .wait_for("cluster", cluster, &format!("{to} the primary"), wait::minutes(3), |c| {
                text(c, "/status/currentPrimary") == to
            })
            .await?;
        Ok(())
    }

    /// Waits until another instance than `old` is the primary.
    pub async fn succeeded(&self, cluster: &str, old: &str) -> Result<Value> {
        self.kubectl
            .wait_for("cluster", cluster, &format!("another primary than {old}"), wait::minutes(4), |c| {
                let current = text(c, "/status/currentPrimary");
                !current.is_empty() && current != old && text(c, "/status/targetPrimary") == current
            })
            .await
    }

    /// Lets an instance stand still, connections and all, for as long as `meanwhile` takes.
    pub async fn frozen<T>(&self, pod: &str, meanwhile: impl Future<Output = Result<T>>) -> Result<T> {
        let (lab, namespace) = (self.ground.lab()?, &self.kubectl.namespace);
        lab.freeze(namespace, pod, "postgres")?;
        let done = meanwhile.await;
        lab.thaw(namespace, pod, "postgres")?;
        done
    }

    /// Deletes a pod without grace and waits until another one has its name.
    pub async fn delete_by_force(&self, pod: &str) -> Result<()> {
        let uid = |pod: &Value| text(pod, "/metadata/uid").to_owned();
        let old = uid(&self.pod(pod).await?);
        self.kubectl.run(&["delete", "pod", pod, "--grace-period=0", "--force"]).await?;
        self.kubectl
            .wait_for("pod", pod, "another pod of that name", wait::minutes(4), |pod| uid(pod) != old)
            .await?;
        Ok(())
    }

    /// Kills the manager of an instance, and PostgreSQL with it, and waits until the container has started again.
    pub async fn kill_instance(&self, pod: &str) -> Result<()> {
        let life = |pod: &Value| {
            let restarts = pod.pointer("/status/containerStatuses/0/restartCount").and_then(Value::as_i64);
            (text(pod, "/metadata/uid").to_owned(), restarts)
        };
        let old = life(&self.pod(pod).await?);
        self.ground.lab()?.kill(&self.kubectl.namespace, pod, "postgres").await?;
        self.kubectl
            .wait_for("pod", pod, "started again", wait::minutes(4), |pod| {
                let new = life(pod);
                new != old && new.1.is_some()
            })
            .await?;
        Ok(())
    }

    /// Kills PostgreSQL alone, and waits until another one answers in its place.
    pub async fn kill_postgresql(&self, cluster: &str, pod: &str) -> Result<()> {
        const STARTED: &str = "select pg_postmaster_start_time()";
        let door = self.door(cluster).await?;
        let at = |pod: &Value| door.at(text(pod, "/status/podIP"));
        let before = at(&self.pod(pod).await?)?.ask(STARTED).await?;
        self.ground.lab()?.kill_process(&self.kubectl.namespace, pod, "postgres", "postgres")?;
        wait::until(&format!("another postmaster in {pod}"), wait::minutes(4), || async {
            let now = at(&self.pod(pod).await?)?.ask(STARTED).await?;
            Ok((now != before).then_some(()))
        })
        .await
    }

    /// Waits until a cluster has so many ready instances, of which one is the primary and all others stream from it: by
    /// its status, its labels, and PostgreSQL's own word.
    pub async fn settled(&self, cluster: &str, instances: usize) -> Result<Standing> {
        let door = self.door(cluster).await?;
        let settled = wait::until(
            &format!("{cluster} settled with {instances} instances"),
            wait::minutes(6),
            || async { self.standing(cluster, instances, &door).await.map(Some) },
        )
        .await;
        match settled {
            Ok(standing) => Ok(standing),
            Err(error) => Err(error.context(self.last_words(cluster).await)),
        }
    }

    /// The end of the log of each instance, for whoever has to find out what keeps it.
    async fn last_words(&self, cluster: &str) -> String {
        let mut words = String::new();
        let pods = self.kubectl.list("pod", &format!("{}={cluster}", labels::CLUSTER)).await;
        for pod in pods.unwrap_or_default() {
            let name = text(&pod, "/metadata/name");
            let log = self.kubectl.run(&["logs", name, "-c", "postgres", "--tail=60"]).await;
            words += &format!("--- {name}\n{}\n", log.unwrap_or_else(|error| error.to_string()));
        }
        words
    }

    async fn standing(&self, cluster: &str, instances: usize, door: &Door) -> Result<Standing> {
        let object = self.kubectl.get("cluster", cluster).await?.unwrap_or_default();
        let status = &object["status"];
        let primary = text(status, "/currentPrimary").to_owned();
        ensure!(
            condition(&object, "Ready").is_some_and(|c| c["status"] == "True")
                && status["readyInstances"] == instances
                && status["instances"] == instances
                && text(status, "/targetPrimary") == primary,
            "{status:#}"
        );
        let mut addresses = BTreeMap::new();
        for pod in self.kubectl.list("pod", &format!("{}={cluster}", labels::CLUSTER)).await? {
            let name = text(&pod, "/metadata/name").to_owned();
            let role = pod["metadata"]["labels"][labels::ROLE].as_str().unwrap_or_default();
            ensure!((role == "primary") == (name == primary), "{name} has the label {role}: {status:#}");
            addresses.insert(name, text(&pod, "/status/podIP").to_owned());
        }
        ensure!(addresses.len() == instances, "pods {addresses:?}, {status:#}");
        for (name, address) in &addresses {
            let recovers = door.at(address)?.ask("select pg_is_in_recovery()").await?;
            ensure!((recovers == "f") == (*name == primary), "{name} in recovery: {recovers}; {status:#}");
        }
        let of_primary = door.at(addresses.get(&primary).context("no pod of the primary")?)?;
        let streaming = "select coalesce(string_agg(application_name, ',' order by application_name), '') from pg_stat_replication where state = 'streaming' and application_name not like 'pg_basebackup%'";
        let names = of_primary.ask(streaming).await?;
        let standing =
            Standing { timeline: status["timelineID"].as_i64().unwrap_or_default(), primary, addresses };
        ensure!(names == standing.replicas().join(","), "{} streams to {names}", standing.primary);
        let real = "select ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int";
        let real = of_primary.ask(real).await?;
        ensure!(real == standing.timeline.to_string(), "timeline {real}, status {}", standing.timeline);
        Ok(standing)
    }

    /// A cluster whose instances have settled, and a write load on it that has begun.
    pub async fn loaded(&self, cluster: &str, spec: Value, workers: i32) -> Result<(Standing, Door, Writer)> {
        let instances = usize::try_from(spec["instances"].as_u64().unwrap_or(1))?;
        self.up(cluster, spec).await?;
        let standing = self.settled(cluster, instances).await?;
        let door = self.door(cluster).await?;
        let writer = Writer::start(&door, workers).await?;
        writer.goes_on(wait::minutes(1)).await?;
        Ok((standing, door, writer))
    }

    /// Waits until every instance holds the same rows; their checksum. The load must have ended.
    pub async fn agreed(&self, cluster: &str, standing: &Standing) -> Result<String> {
        let door = self.door(cluster).await?;
        let sum = door.ask(CHECKSUM).await?;
        for (name, address) in &standing.addresses {
            let here = door.at(address)?;
            wait::until(&format!("the same rows on {name}"), wait::minutes(2), || async {
                let seen = here.ask(CHECKSUM).await?;
                ensure!(seen == sum, "{name} has {seen}, the primary {sum}");
                Ok(Some(()))
            })
            .await?;
        }
        Ok(sum)
    }

    /// Restores a Backup to the end of the archive and compares. Returns the name of the cluster that was made for it.
    pub async fn restores_to_the_end(
        &self,
        cluster: &str,
        backup: &str,
        ledger: &Ledger,
        sum: &str,
    ) -> Result<String> {
        self.archive_all(cluster).await?;
        let name = format!("again-{backup}");
        self.apply(&self.restored(&name, backup, Value::Null)).await?;
        self.healthy(&name).await?;
        let door = self.door(&name).await?;
        let missing = ledger.check(&door).await?;
        ensure!(missing.is_empty(), "{name} lacks {} acknowledged rows: {missing:?}", missing.len());
        let restored = door.ask(CHECKSUM).await?;
        ensure!(restored == sum, "{name} has {restored}, {cluster} has {sum}");
        Ok(name)
    }
}

/// Nothing acknowledged is missing.
pub async fn complete(ledger: &Ledger, door: &Door) -> Result<()> {
    let missing = ledger.check(door).await?;
    ensure!(
        missing.is_empty(),
        "{} of {} acknowledged rows are lost: {missing:?}",
        missing.len(),
        ledger.acknowledged.len()
    );
    Ok(())
}
