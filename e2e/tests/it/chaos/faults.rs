//! What goes wrong in a chaos run, and how it is brought about.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use howdah_api::labels;
use howdah_api::naming::{DATA_MOUNT, PGDATA, service_rw};
use howdah_e2e::ground::{Cut, Lab};
use howdah_e2e::wait;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::json;

use crate::common::Scene;
use crate::standing::{Standing, text};

/// How long a server or a connection is away, or a volume is full: longer than a lease.
const AWAY: Duration = Duration::from_secs(20);

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The manager of the primary is killed, and PostgreSQL with it.
    KillPrimary,
    /// The same on a replica.
    KillReplica,
    /// PostgreSQL alone is killed on the primary.
    KillPostgresql,
    /// A pod is deleted without grace.
    DeletePod,
    /// The operator is killed.
    KillOperator,
    /// Nobody reaches the API server.
    ApiAway,
    /// Nobody reaches the store.
    StoreAway,
    /// Somebody asks for another primary.
    Switchover,
    /// A replica is fenced, and then not any more.
    FenceReplica,
    /// No packet passes between two of the parties.
    Partition(Party, Party),
    /// The volume of an instance is full.
    Fill(Party),
    /// The control file of a replica is overwritten.
    DamageReplica,
}

/// Who can be cut off from whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    Primary,
    Replica,
    Operator,
    ApiServer,
    Store,
}

/// Every pair that has something to say to each other.
const PAIRS: [(Party, Party); 8] = [
    (Party::Primary, Party::Replica),
    (Party::Primary, Party::Operator),
    (Party::Primary, Party::ApiServer),
    (Party::Primary, Party::Store),
    (Party::Replica, Party::Operator),
    (Party::Replica, Party::ApiServer),
    (Party::Replica, Party::Store),
    (Party::Operator, Party::ApiServer),
];

impl Fault {
    /// Every kind.
    pub fn all() -> Vec<Self> {
        let mut all = vec![
            Self::KillPrimary,
            Self::KillReplica,
            Self::KillPostgresql,
            Self::DeletePod,
            Self::KillOperator,
            Self::ApiAway,
            Self::StoreAway,
            Self::Switchover,
            Self::FenceReplica,
            Self::Fill(Party::Primary),
            Self::Fill(Party::Replica),
            Self::DamageReplica,
        ];
        all.extend(PAIRS.map(|(one, other)| Self::Partition(one, other)));
        all
    }
}

/// One of the replicas.
fn replica(standing: &Standing, random: &mut StdRng) -> Result<String> {
    let replicas = standing.replicas();
    replicas.choose(random).map(|name| (*name).to_owned()).context("there is no replica")
}

/// Makes the fault happen and waits until it has: what follows must not take the state before it for that behind it.
pub async fn strike(scene: &Scene, fault: Fault, standing: &Standing, random: &mut StdRng) -> Result<()> {
    let lab = scene.ground.lab()?;
    match fault {
        Fault::KillPrimary => scene.kill_instance(&standing.primary).await,
        Fault::KillReplica => scene.kill_instance(&replica(standing, random)?).await,
        Fault::KillPostgresql => scene.kill_postgresql("pg", &standing.primary).await,
        Fault::DeletePod => {
            let pods: Vec<&String> = standing.addresses.keys().collect();
            scene.delete_by_force(pods.choose(random).context("there is no pod")?).await
        }
        Fault::KillOperator => kill_operator(scene).await,
        Fault::ApiAway => {
            lab.api_away(true)?;
            // The load, not this wait, is what shows whether the cluster bears it.
            tokio::time::sleep(AWAY).await;
            lab.api_away(false)
        }
        Fault::StoreAway => {
            lab.store_away(AWAY)?.await;
            Ok(())
        }
        Fault::Switchover => scene.switch_over("pg", &replica(standing, random)?).await,
        Fault::FenceReplica => fence_for_a_while(scene, &replica(standing, random)?).await,
        Fault::Partition(one, other) => {
            let cast = Cast::new(scene, lab, standing, &replica(standing, random)?).await?;
            let cuts = [cast.cut(one, other).await?, cast.cut(other, one).await?];
            ensure!(cuts.iter().any(Option::is_some), "nothing was cut between {one:?} and {other:?}");
            tokio::time::sleep(AWAY).await;
            for cut in cuts.into_iter().flatten() {
                cut.heal().await?;
            }
            Ok(())
        }
        Fault::Fill(Party::Primary) => fill_for_a_while(scene, &standing.primary).await,
        Fault::Fill(_) => fill_for_a_while(scene, &replica(standing, random)?).await,
        Fault::DamageReplica => damage(scene, lab, &replica(standing, random)?).await,
    }
}

async fn kill_operator(scene: &Scene) -> Result<()> {
    let system = scene.kubectl.in_namespace("howdah-system");
    let restarts = || async {
        let pods = system.list("pod", "app.kubernetes.io/name=howdah-operator").await?;
        let count = |pod: &serde_json::Value| pod["status"]["containerStatuses"][0]["restartCount"].as_i64();
        anyhow::Ok(pods.iter().filter_map(count).sum::<i64>())
    };
    let before = restarts().await?;
    scene.ground.lab()?.kill_operator().await?;
    wait::until("another operator", wait::minutes(2), || async {
        Ok((restarts().await? > before).then_some(()))
    })
    .await
}

async fn fence_for_a_while(scene: &Scene, replica: &str) -> Result<()> {
    scene.annotate("pg", labels::FENCED, Some(&json!([replica]).to_string())).await?;
    let down = scene
        .kubectl
        .wait_for("cluster", "pg", &format!("{replica} fenced"), wait::minutes(2), |cluster| {
            let all = cluster["status"]["instancesStatus"].as_array();
            all.into_iter()
                .flatten()
                .any(|one| text(one, "/name") == replica && one["fenced"] == true && one["ready"] == false)
        })
        .await;
    scene.annotate("pg", labels::FENCED, None).await?;
    down.map(drop)
}

/// Who plays which party, and where each is found.
struct Cast<'a> {
    lab: &'a Lab,
    namespace: &'a str,
    standing: &'a Standing,
    replica: String,
    /// Where replicas look for the primary.
    service: String,
}

impl<'a> Cast<'a> {
    async fn new(scene: &'a Scene, lab: &'a Lab, standing: &'a Standing, replica: &str) -> Result<Self> {
        let service = scene.kubectl.get("service", &service_rw("pg")).await?.context("no service")?;
        Ok(Self {
            lab,
            namespace: &scene.kubectl.namespace,
            standing,
            replica: replica.to_owned(),
            service: text(&service, "/spec/clusterIP").to_owned(),
        })
    }

    /// The pod of a party that is one.
    fn pod(&self, party: Party) -> Result<Option<(String, String)>> {
        let instance = |name: &str| Some((self.namespace.to_owned(), name.to_owned()));
        Ok(match party {
            Party::Primary => instance(&self.standing.primary),
            Party::Replica => instance(&self.replica),
            Party::Operator => Some(self.lab.operator_pod()?),
            Party::ApiServer | Party::Store => None,
        })
    }

    /// Where others find a party. Nobody calls the operator.
    fn places(&self, party: Party) -> Vec<String> {
        match party {
            Party::Primary => {
                vec![self.standing.addresses[&self.standing.primary].clone(), self.service.clone()]
            }
            Party::Replica => vec![self.standing.addresses[&self.replica].clone()],
            Party::Operator => vec![],
            Party::ApiServer => vec![self.lab.api_address()],
            Party::Store => vec![self.lab.store_address()],
        }
    }

    /// Cuts the way from one to the other, if there is one.
    async fn cut(&self, from: Party, to: Party) -> Result<Option<Cut>> {
        let (Some((namespace, pod)), places) = (self.pod(from)?, self.places(to)) else { return Ok(None) };
        if places.is_empty() {
            return Ok(None);
        }
        self.lab.cut(&namespace, &pod, &places).await.map(Some)
    }
}

async fn fill_for_a_while(scene: &Scene, pod: &str) -> Result<()> {
    let filler = format!("{DATA_MOUNT}/filler");
    // It ends when there is no room for another byte.
    let fill = format!("! dd if=/dev/zero of={filler} bs=1M && ! dd if=/dev/zero of={filler}2 bs=1");
    scene.shell(pod, &fill).await?;
    let door = scene.door("pg").await?;
    let end = Instant::now() + AWAY;
    while Instant::now() < end {
        // Uses up the segments that were there before; an error is what is wanted, here or in the load.
        let _ = door.ask("select pg_switch_wal()").await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    scene.shell(pod, &format!("rm -f {filler} {filler}2")).await.map(drop)
}

/// Overwrites the control file while nobody can write another one, and starts the instance on it.
async fn damage(scene: &Scene, lab: &Lab, pod: &str) -> Result<()> {
    let namespace = &scene.kubectl.namespace;
    lab.freeze(namespace, pod, "postgres")?;
    let damage = format!("dd if=/dev/zero of={PGDATA}/global/pg_control bs=8192 count=1 conv=notrunc,fsync");
    scene.shell(pod, &damage).await?;
    scene.kill_instance(pod).await?;
    scene.event("Rejoined", &[&format!("{pod}: "), "is damaged"]).await.map(drop)
}
