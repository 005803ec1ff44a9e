//! The repository host: its objects as they are sent, and what is decided about it.

use howdah_api::backup::BackupPhase;
use howdah_api::cluster_status::RepositoryStatus;
use howdah_api::conditions::{self, REPOSITORY_HOST_READY};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use serde_json::json;

use super::build::repo_host::{RepoHostInput, pod, service, volume};
use super::build::secrets;
use super::observed::Observed;
use super::repo_host::{self, Plan, Step};
use super::validate::Validated;
use crate::fixtures::{World, backup, now};

const SPEC: &str = "storage: {size: 5Gi}
postgresUID: 999
postgresGID: 998
resources: {requests: {memory: 32Gi}}
affinity: {nodeSelector: {disk: ssd}, topologyKey: zone}
imagePullSecrets: [{name: pull}]
";

fn claim(size: &str) -> PersistentVolumeClaimSpec {
    serde_json::from_value(json!({
        "accessModes": ["ReadWriteMany"], "storageClassName": "slow",
        "resources": {"requests": {"storage": size}},
    }))
    .unwrap()
}

fn repositories() -> Vec<(String, PersistentVolumeClaimSpec)> {
    vec![("repo1".to_owned(), claim("10Gi")), ("attic".to_owned(), claim("1Ti"))]
}

/// A cluster with two repositories on volumes.
struct Hosted {
    world: World,
    repositories: Vec<(String, PersistentVolumeClaimSpec)>,
}

impl Hosted {
    fn new() -> Self {
        Self { world: World::new(SPEC), repositories: repositories() }
    }

    /// As it is when all is well.
    fn serving() -> Self {
        let mut hosted = Self::new();
        for (name, _) in repositories() {
            hosted.give_volume(&name);
        }
        hosted.give_pod();
        hosted.settle();
        hosted
    }

    fn validated(&self) -> Validated {
        Validated { volume_repositories: self.repositories.clone(), ..self.world.validated() }
    }

    fn plan(&self) -> Plan {
        repo_host::decide(&self.validated(), &self.world.observed)
    }

    /// One round: what was decided is remembered in the status.
    fn settle(&mut self) -> Plan {
        let plan = self.plan();
        let mut status = self.world.observed.status();
        repo_host::fold(&plan, &self.world.observed, now(), &mut status);
        self.world.observed.cluster.status = Some(status);
        plan
    }

    fn observed(&mut self) -> &mut Observed {
        &mut self.world.observed
    }

    fn give_volume(&mut self, repository: &str) {
        let given = &self.repositories.iter().find(|(name, _)| name == repository).unwrap().1;
        let mut made = volume(&self.world.observed.cluster, repository, given);
        made.metadata.uid = Some(format!("uid-{repository}"));
        self.observed().repo_host.volumes.insert(repository.to_owned(), made);
    }

    fn give_pod(&mut self) {
        let validated = self.validated();
        let input = RepoHostInput { repositories: &self.repositories };
        let mut made = pod(&self.world.observed.cluster, &validated, input);
        made.metadata.uid = Some("uid-pod".to_owned());
        made.status = Some(serde_json::from_value(json!({
            "phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": "repo-host", "image": "i", "imageID": "", "ready": true, "restartCount": 0, "state": {"running": {}}}],
        })).unwrap());
        self.observed().repo_host.pod = Some(made);
    }

    fn volume(&mut self, repository: &str) -> &mut PersistentVolumeClaim {
        self.observed().repo_host.volumes.get_mut(repository).unwrap()
    }
}

/// S0.8, S0.14, S1.15: a pod of its own, with the volumes that the user asks for.
#[test]
fn objects() {
    let hosted = Hosted::new();
    let cluster = &hosted.world.observed.cluster;
    let input = RepoHostInput { repositories: &hosted.repositories };
    insta::assert_yaml_snapshot!("repo_host_pod", pod(cluster, &hosted.validated(), input), {
        ".metadata.annotations[\"postgresql.k8s.enterprisedb.io/pod-spec-hash\"]" => "[hash]",
    });
    insta::assert_yaml_snapshot!("repo_host_service", service(cluster));
    let volumes: Vec<_> =
        hosted.repositories.iter().map(|(name, given)| volume(cluster, name, given)).collect();
    insta::assert_yaml_snapshot!("repo_host_volumes", volumes);
}

#[test]
fn the_service_of_all_instances_does_not_lead_to_the_host() {
    let hosted = Hosted::new();
    let cluster = &hosted.world.observed.cluster;
    let input = RepoHostInput { repositories: &hosted.repositories };
    let labels = pod(cluster, &hosted.validated(), input).metadata.labels.unwrap();
    for service in super::build::services::services(cluster) {
        let selector = service.spec.unwrap().selector.unwrap();
        assert!(selector.iter().any(|(key, value)| labels.get(key) != Some(value)), "{selector:?}");
    }
    let own = service(cluster).spec.unwrap().selector.unwrap();
    assert!(own.iter().all(|(key, value)| labels.get(key) == Some(value)));
}

#[test]
fn the_host_has_a_certificate_of_its_names_while_there_are_volumes() {
    let hosted = Hosted::new();
    let mut password = || "secret".to_owned();
    let mut made = |validated: &Validated| {
        secrets::secrets(validated, &hosted.world.observed, 1, now(), &mut password).unwrap()
    };
    let names = |writes: &[secrets::Write]| writes.iter().map(|w| w.secret.name_any()).collect::<Vec<_>>();
    assert!(!names(&made(&hosted.world.validated())).contains(&"zoo-repo-host".to_owned()));
    let writes = made(&hosted.validated());
    let host = writes.iter().find(|w| w.secret.name_any() == "zoo-repo-host").unwrap();
    let data = host.secret.data.as_ref().unwrap();
    assert!(data.contains_key("ca.crt") && data.contains_key("tls.key"));
    let wanted = secrets::repo_host_names(&hosted.validated());
    assert!(
        wanted.contains(&"zoo-repo-host".to_owned()) && wanted.contains(&"zoo-repo-host.park.svc".to_owned())
    );
    let ca = &writes.iter().find(|w| w.secret.name_any() == "zoo-ca").unwrap().secret.data.as_ref().unwrap()
        ["ca.crt"];
    assert_eq!(crate::pki::inspect::leaf_stale(&data["tls.crt"].0, &ca.0, &wanted, now()), None);
}

#[test]
fn it_is_made_then_rests() {
    let mut hosted = Hosted::new();
    let plan = hosted.settle();
    assert_eq!(plan.steps.len(), 3, "two volumes and the pod: {:?}", plan.steps);
    assert!(matches!(&plan.steps[2], Step::MakePod { .. }));
    assert_eq!(plan.verdict.unwrap().reason, "RepositoryHostNotReady");
    assert!(hosted.world.observed.status().repository_volumes.is_empty(), "not seen yet");

    let hosted = Hosted::serving();
    let plan = hosted.plan();
    assert!(plan.at_rest() && plan.steps.is_empty(), "{plan:?}");
    assert_eq!(plan.verdict.unwrap().message, "zoo-repo-host-0 serves repo1, attic");
    let status = hosted.world.observed.status();
    assert_eq!(status.repository_volumes["attic"], "uid-attic");
    assert_eq!(conditions::get(&status.conditions, REPOSITORY_HOST_READY).unwrap().status, "True");
}

#[test]
fn a_lost_pod_comes_back_on_its_volumes() {
    let mut hosted = Hosted::serving();
    hosted.observed().repo_host.pod = None;
    assert!(matches!(hosted.plan().steps.as_slice(), [Step::MakePod { .. }]));
    hosted.give_pod();
    hosted.observed().repo_host.pod.as_mut().unwrap().status.as_mut().unwrap().phase = Some("Failed".into());
    assert!(matches!(hosted.plan().steps.as_slice(), [Step::DeletePod { .. }]));
}

#[test]
fn another_specification_waits_for_a_running_backup() {
    let mut hosted = Hosted::serving();
    hosted.observed().cluster.spec.image_name = Some("registry/pg:18".into());
    hosted.observed().backups = vec![backup("nightly", 0, BackupPhase::Running)];
    let plan = hosted.plan();
    assert!(plan.steps.is_empty());
    assert!(plan.verdict.unwrap().message.contains("when Backup nightly has ended"));
    hosted.observed().backups = vec![backup("nightly", 0, BackupPhase::Completed)];
    assert!(matches!(hosted.plan().steps.as_slice(), [Step::DeletePod { .. }]));
}

#[test]
fn a_lost_volume_is_never_made_anew() {
    let mut hosted = Hosted::serving();
    hosted.observed().repo_host.volumes.remove("attic");
    let plan = hosted.settle();
    let verdict = plan.verdict.clone().unwrap();
    assert_eq!((verdict.status, verdict.reason), ("False", "VolumeLost"));
    assert!(verdict.message.contains("zoo-repo-attic of repository attic is gone"), "{}", verdict.message);
    assert!(plan.steps.iter().all(|step| !matches!(step, Step::MakeVolume { .. })), "{:?}", plan.steps);
    // The other repository goes on, in a pod without the lost one.
    assert!(matches!(plan.steps.as_slice(), [Step::DeletePod { .. }]));
    hosted.observed().repo_host.pod = None;
    let plan = hosted.settle();
    assert!(matches!(plan.steps.as_slice(), [Step::MakePod { .. }]));
    assert_eq!(plan.served.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["repo1"]);

    // A person gives it back, whatever its labels.
    hosted.give_volume("attic");
    hosted.volume("attic").metadata.labels = None;
    hosted.volume("attic").metadata.uid = Some("uid-new".into());
    let plan = hosted.settle();
    assert_eq!(plan.served.len(), 2);
    assert_eq!(hosted.world.observed.status().repository_volumes["attic"], "uid-new");
}

/// What an instance says of a host that is away is told with why it is away, once, and for the repository concerned.
#[test]
fn an_error_of_a_repository_says_what_its_host_lacks() {
    let mut hosted = Hosted::serving();
    let away = |name: &str| RepositoryStatus {
        name: name.to_owned(),
        error: Some("writing failed: no connection".to_owned()),
        ..RepositoryStatus::default()
    };
    let archiving = "CONDITION";
    let mut status = hosted.observed().status();
    status.repositories = vec![away("repo1"), away("attic"), away("default")];
    conditions::set(
        &mut status.conditions,
        conditions::CONTINUOUS_ARCHIVING,
        "False",
        "Failing",
        archiving,
        None,
        Time(now()),
    );
    hosted.observed().cluster.status = Some(status);
    hosted.observed().repo_host.volumes.remove("attic");
    for _ in 0..2 {
        hosted.settle();
        let status = hosted.observed().status();
        let told: Vec<_> = status.repositories.iter().map(|one| one.error.clone().unwrap()).collect();
        assert_eq!(told[0], "writing failed: no connection");
        assert_eq!(told[2], "writing failed: no connection");
        let lost = "writing failed: no connection; RepositoryHostReady: PersistentVolumeClaim zoo-repo-attic of repository";
        assert!(told[1].starts_with(lost), "{}", told[1]);
        assert_eq!(told[1].matches("RepositoryHostReady").count(), 1, "{}", told[1]);
        let condition = conditions::get(&status.conditions, conditions::CONTINUOUS_ARCHIVING).unwrap();
        assert!(condition.message.starts_with("CONDITION; RepositoryHostReady: "), "{}", condition.message);
    }
    hosted.give_volume("attic");
    hosted.give_pod();
    hosted.settle();
    assert_eq!(
        hosted.observed().status().repositories[1].error.as_deref(),
        Some("writing failed: no connection")
    );
}

#[test]
fn a_volume_that_is_being_deleted_keeps_its_pod() {
    let mut hosted = Hosted::serving();
    hosted.volume("repo1").metadata.deletion_timestamp = Some(Time(now()));
    hosted.observed().cluster.spec.image_name = Some("registry/pg:18".into());
    let plan = hosted.plan();
    assert!(plan.steps.is_empty(), "{:?}", plan.steps);
    assert_eq!(plan.verdict.unwrap().reason, "VolumeIsBeingDeleted");
}

#[test]
fn it_sleeps_with_its_cluster() {
    let mut world = Hosted::serving();
    let asleep = |world: &mut Hosted, value: &str| {
        world
            .observed()
            .cluster
            .annotations_mut()
            .insert(howdah_api::labels::HIBERNATION.into(), value.into());
    };
    asleep(&mut world, "on");
    let plan = world.plan();
    assert!(matches!(plan.steps.as_slice(), [Step::DeletePod { .. }]), "{plan:?}");
    world.observed().repo_host.pod = None;
    let plan = world.plan();
    assert_eq!((plan.steps.len(), plan.verdict.as_ref().unwrap().reason), (0, "Hibernated"));
    assert!(plan.at_rest());
    asleep(&mut world, "off");
    assert!(matches!(world.plan().steps.as_slice(), [Step::MakePod { .. }]));
}

#[test]
fn a_volume_grows_and_does_not_shrink() {
    let mut hosted = Hosted::serving();
    hosted.repositories = vec![("repo1".to_owned(), claim("20Gi")), ("attic".to_owned(), claim("1Ti"))];
    let grow = Step::Grow { volume: "zoo-repo-repo1".into(), size: "20Gi".into() };
    assert_eq!(hosted.plan().steps, [grow]);
    hosted.repositories[0].1 = claim("5Gi");
    let plan = hosted.plan();
    assert!(plan.steps.is_empty());
    let verdict = plan.verdict.unwrap();
    assert_eq!(verdict.reason, "VolumeCannotShrink");
    assert!(
        verdict.message.contains("of repository repo1 has 10Gi and cannot shrink to 5Gi"),
        "{}",
        verdict.message
    );
}

#[test]
fn without_repositories_on_volumes_the_pod_goes_and_the_volumes_stay() {
    let mut hosted = Hosted::serving();
    hosted.repositories.clear();
    let plan = hosted.settle();
    assert!(matches!(plan.steps.as_slice(), [Step::DeletePod { .. }]));
    let status = hosted.world.observed.status();
    assert!(status.repository_volumes.is_empty());
    assert!(conditions::get(&status.conditions, REPOSITORY_HOST_READY).is_none());
}
