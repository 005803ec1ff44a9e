//! Replica clusters: what is done while another cluster is followed, and what the status says.

use howdah_api::instance::InstanceRole::{Primary, Replica};
use howdah_api::{conditions, labels};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::decide::{Fill, Plan, Step, decide};
use super::events::changes;
use super::phases;
use crate::fixtures::World;

const FOLLOWS: &str = "
instances: 3
storage: {size: 5Gi}
bootstrap: {fullRecovery: {source: origin}}
externalClusters: [{name: origin, barmanObjectStore: {destinationPath: 's3://b/'}}]
replica: {enabled: true, source: origin}
";

fn plan(world: &World) -> Plan {
    decide(&world.validated(), &world.observed, &world.hash())
}

/// The first instance is there and says that it follows.
fn following() -> World {
    World::new(FOLLOWS)
        .with_status(|s| {
            s.target_primary = Some("zoo-1".into());
            s.latest_generated_serial = 1;
            s.system_id = Some("7".into());
        })
        .with_volumes(1, false)
        .with_ready(1, Replica)
        .change(|w| {
            w.pod(1).labels_mut().insert(labels::ROLE.into(), labels::ROLE_REPLICA.into());
            w.report(1).recovering = true;
            w.report(1).following = Some("repository default (s3://b/origin)".into());
        })
}

#[test]
fn one_instance_follows_and_the_others_wait_for_the_promotion() {
    let world = following();
    let plan = plan(&world);
    assert_eq!((plan.phase, plan.at_rest), (phases::FOLLOWING, true));
    assert!(plan.steps.is_empty(), "{:?}", plan.steps);
    assert!(
        plan.reason.contains("s3://b/origin")
            && plan.reason.contains("patch clusters.postgresql.k8s.enterprisedb.io zoo")
    );
    let status = world.folded();
    assert_eq!(status.current_primary, None, "nobody takes writes");
    let ready = conditions::get(&status.conditions, conditions::READY).unwrap();
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("True", "FollowsSource"));
    let told = changes(&world.observed.status(), &status);
    assert!(told.iter().any(|note| !note.warning && note.reason == "FollowingAnotherCluster"), "{told:?}");
    assert!(changes(&status, &status).is_empty());
}

#[test]
fn until_it_can_be_read_it_is_waited_for() {
    let plan = plan(&following().change(|w| w.report(1).following = None));
    assert_eq!(plan.phase, phases::WAITING_FOR_INSTANCES);
    assert!(plan.steps.is_empty(), "{:?}", plan.steps);
}

#[test]
fn a_lost_pod_comes_back_on_its_volume_which_is_not_filled_again() {
    let plan = plan(&following().change(|w| w.observed.pods.clear()));
    let [Step::EnsureInstance { serial: 1, fill: Fill::Nothing, .. }] = plan.steps.as_slice() else {
        panic!("{:?}", plan.steps)
    };
}

#[test]
fn a_new_image_reaches_it_at_once() {
    let world = following().with_spec(|s| s.image_name = Some("registry/pg:18".into()));
    let plan = plan(&world);
    assert!(matches!(plan.steps.as_slice(), [Step::DeletePod { serial: 1, .. }]), "{:?}", plan.steps);
}

#[test]
fn after_the_promotion_the_others_join() {
    let world = following().with_spec(|s| s.replica.as_mut().unwrap().enabled = false).change(|w| {
        let report = w.report(1);
        (report.recovering, report.following, report.role) = (false, None, Some(Primary));
    });
    let plan = plan(&world);
    let joins = |step: &Step| matches!(step, Step::EnsureInstance { serial: 2, fill: Fill::Join, .. });
    assert!(plan.steps.iter().any(joins), "{:?}", plan.steps);
    assert_eq!(world.folded().current_primary.as_deref(), Some("zoo-1"));
}

#[test]
fn the_manager_comes_with_a_new_pod() {
    use super::manager_upgrade::{Verdict, judge};
    let world = following().change(|w| {
        w.report(1).manager_sha256 = Some("old".into());
        w.report(1).manager_architecture = Some(std::env::consts::ARCH.into());
    });
    let mut validated = world.validated();
    validated.manager.sha256 = Some("new".into());
    validated.manager.in_place = true;
    validated.manager.image = "registry/howdah:new".into();
    let instances = world.observed.instances();
    assert_eq!(judge(&validated, Timestamp::UNIX_EPOCH, &instances[0]), Verdict::NewPod(None));
}
