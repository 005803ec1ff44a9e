//! Objects of a cluster as they are sent, and what must hold for each of them.

use howdah_api::labels;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use rstest::rstest;
use serde_json::Value;

use super::build;
use super::decide::Fill;
use crate::fixtures::{STORE, World, now};
use crate::pki::inspect;

const RICH: &str = "instances: 3
imageName: registry/pg:16
imagePullPolicy: Always
imagePullSecrets: [{name: pull}]
postgresUID: 999
postgresGID: 998
storage: {size: 5Gi, storageClass: fast}
walStorage: {size: 1Gi}
resources: {requests: {cpu: 100m, memory: 256Mi}, limits: {memory: 1Gi}}
startDelay: 600
stopDelay: 60
affinity:
  podAntiAffinityType: required
  topologyKey: zone
  nodeSelector: {disk: ssd}
  tolerations: [{key: db, operator: Exists}]
serviceAccountTemplate:
  metadata:
    annotations: {eks.amazonaws.com/role-arn: arn}
    labels: {team: a}
";

/// S0.33, S1.35: containers, ports, images and volumes of each kind of pod.
#[rstest]
#[case::plain("plain", "storage: {size: 5Gi}", Fill::InitDb)]
#[case::rich("rich", RICH, Fill::Join)]
#[case::recovery("recovery", "storage: {size: 5Gi}", Fill::Recovery)]
#[case::full("full", "storage: {size: 5Gi}", Fill::Nothing)]
fn pods(#[case] name: &str, #[case] spec: &str, #[case] fill: Fill) {
    let world = World::new(spec);
    let pod = build::pod::pod(&world.observed.cluster, &world.validated(), 2, fill, labels::ROLE_REPLICA);
    insta::assert_yaml_snapshot!(format!("pod_{name}"), pod, {
        ".metadata.annotations[\"postgresql.k8s.enterprisedb.io/pod-spec-hash\"]" => "[hash]",
    });
}

/// S1.35: sizes and storage classes.
#[test]
fn volumes() {
    insta::assert_yaml_snapshot!(build::volumes::volumes(&World::new(RICH).observed.cluster, 2));
}

#[test]
fn services() {
    insta::assert_yaml_snapshot!(build::services::services(&World::new(RICH).observed.cluster));
}

/// S1.21: annotations of the template are the account's.
#[test]
fn service_account_role_and_binding() {
    let world =
        World::new(&format!("{STORE}{}", "serviceAccountTemplate: {metadata: {annotations: {a: b}}}\n"));
    let cluster = &world.observed.cluster;
    insta::assert_yaml_snapshot!((
        build::rbac::service_account(cluster),
        build::rbac::role(cluster, &world.validated()),
        build::rbac::role_binding(cluster),
    ));
}

#[test]
fn the_fingerprint_follows_what_needs_a_new_pod_and_nothing_else() {
    let hash = |spec: &str| World::new(spec).hash();
    let base = hash("storage: {size: 5Gi}");
    for same in [
        "storage: {size: 6Gi}",
        "instances: 3\nstorage: {size: 5Gi}",
        "storage: {size: 5Gi}\npostgresql: {parameters: {work_mem: 8MB}, pg_hba: [host all all all md5]}",
        "storage: {size: 5Gi}\nbackup: {barmanObjectStore: {destinationPath: 's3://bucket/'}}",
    ] {
        assert_eq!(hash(same), base, "{same}");
    }
    for other in [
        "storage: {size: 5Gi}\nimageName: registry/pg:18",
        "storage: {size: 5Gi}\nresources: {limits: {memory: 1Gi}}",
        "storage: {size: 5Gi}\naffinity: {nodeSelector: {a: b}}",
        "storage: {size: 5Gi}\nstopDelay: 5",
    ] {
        assert_ne!(hash(other), base, "{other}");
    }
}

/// `kubectl annotate cluster … kubectl.kubernetes.io/restartedAt=…` makes pods anew, and another value does so again.
#[test]
fn a_restart_that_is_asked_for_needs_new_pods() {
    let at = |time: &str| {
        World::new("storage: {size: 5Gi}").change(|w| {
            w.observed.cluster.annotations_mut().insert(labels::RESTARTED_AT.into(), time.into());
        })
    };
    let hashes = [World::new("storage: {size: 5Gi}").hash(), at("10:00").hash(), at("11:00").hash()];
    assert!(hashes[0] != hashes[1] && hashes[1] != hashes[2], "{hashes:?}");
    let world = at("10:00");
    let pod =
        build::pod::pod(&world.observed.cluster, &world.validated(), 2, Fill::Nothing, labels::ROLE_REPLICA);
    assert_eq!(pod.annotations()[labels::RESTARTED_AT], "10:00");
    assert_eq!(pod.annotations()[labels::POD_SPEC_HASH], world.hash());
}

#[test]
fn instances_are_spread_as_given() {
    let spec = "storage: {size: 5Gi}
topologySpreadConstraints:
- {topologyKey: zone, maxSkew: 1, whenUnsatisfiable: DoNotSchedule}
- {topologyKey: rack, maxSkew: 2, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {team: a}}}
";
    let world = World::new(spec);
    let pod =
        build::pod::pod(&world.observed.cluster, &world.validated(), 1, Fill::InitDb, labels::ROLE_PRIMARY);
    insta::assert_yaml_snapshot!(pod.spec.unwrap().topology_spread_constraints);
    assert_ne!(world.hash(), World::new("storage: {size: 5Gi}").hash());
}

/// The primary, and all replicas but one, are kept by drains.
#[rstest]
#[case::one("", [Some(1), None])]
#[case::two("instances: 2", [Some(1), None])]
#[case::three("instances: 3", [Some(1), Some(1)])]
#[case::five("instances: 5", [Some(1), Some(3)])]
#[case::not_wanted("instances: 3\nenablePDB: false", [None, None])]
fn budgets(#[case] spec: &str, #[case] available: [Option<i32>; 2]) {
    let world = World::new(&format!("storage: {{size: 5Gi}}\n{spec}"));
    let found = build::budgets::budgets(&world.observed.cluster);
    assert_eq!(found.each_ref().map(|(name, _)| name.as_str()), ["zoo-primary", "zoo"]);
    for ((name, budget), (available, role)) in
        found.into_iter().zip(available.into_iter().zip([labels::ROLE_PRIMARY, labels::ROLE_REPLICA]))
    {
        let Some(budget) = budget else {
            assert_eq!(available, None, "{name}");
            continue;
        };
        assert_eq!((budget.name_any(), budget.owner_references().len()), (name, 1));
        let spec = budget.spec.unwrap();
        assert_eq!(spec.min_available, available.map(IntOrString::Int));
        let selected = spec.selector.unwrap().match_labels.unwrap();
        assert_eq!((selected[labels::CLUSTER].as_str(), selected[labels::ROLE].as_str()), ("zoo", role));
    }
}

/// Everything that the restricted pod security standard asks for.
#[test]
fn pods_are_restricted() {
    let world = World::new(RICH);
    for fill in [Fill::InitDb, Fill::Join, Fill::Recovery, Fill::Nothing] {
        let pod = build::pod::pod(&world.observed.cluster, &world.validated(), 1, fill, labels::ROLE_PRIMARY);
        let spec = serde_json::to_value(pod.spec.unwrap()).unwrap();
        assert_eq!(spec["securityContext"]["runAsNonRoot"], true);
        assert_eq!(spec["securityContext"]["runAsUser"], 999);
        assert_eq!(spec["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        let containers: Vec<&Value> =
            ["initContainers", "containers"].iter().flat_map(|k| spec[k].as_array().unwrap()).collect();
        assert_eq!(containers.len(), if fill == Fill::Nothing { 2 } else { 3 });
        for container in containers {
            let security = &container["securityContext"];
            assert_eq!(security["allowPrivilegeEscalation"], false);
            assert_eq!(security["readOnlyRootFilesystem"], true);
            assert_eq!(security["capabilities"]["drop"][0], "ALL");
            assert_eq!(container["terminationMessagePolicy"], "FallbackToLogsOnError");
        }
    }
}

fn made(world: &World, serials: i32) -> Vec<build::secrets::Write> {
    let mut n = 0;
    let mut password = || {
        n += 1;
        format!("secret-{n}")
    };
    build::secrets::secrets(&world.validated(), &world.observed, serials, now(), &mut password).unwrap()
}

fn store(mut world: World, writes: Vec<build::secrets::Write>) -> World {
    for write in writes {
        world.observed.secrets.insert(write.secret.name_any(), write.secret);
    }
    world
}

#[test]
fn a_new_cluster_gets_logins_and_certificates_once() {
    let world = World::new("storage: {size: 5Gi}");
    let writes = made(&world, 1);
    let names: Vec<String> = writes.iter().map(|w| w.secret.name_any()).collect();
    assert_eq!(
        names,
        ["zoo-superuser", "zoo-app", "zoo-ca", "zoo-server", "zoo-replication", "zoo-operator"]
    );
    assert!(writes[..3].iter().all(|w| w.keep_existing), "what another process made meanwhile stays");
    let app = writes[1].secret.data.clone().unwrap();
    let text = |k: &str| String::from_utf8(app[k].0.clone()).unwrap();
    assert_eq!(text("uri"), "postgresql://app:secret-2@zoo-rw.park:5432/app");
    assert_eq!(text("pgpass"), "zoo-rw:5432:app:app:secret-2\n");
    assert_eq!(
        ["username", "password", "dbname", "host", "port"].map(text),
        ["app", "secret-2", "app", "zoo-rw", "5432"]
    );
    let world = store(world, writes);
    assert!(made(&world, 1).is_empty(), "nothing to do when all are there");
}

#[test]
fn a_new_instance_needs_its_name_in_the_server_certificate() {
    let world = World::new("storage: {size: 5Gi}");
    let writes = made(&world, 1);
    let world = store(world, writes);
    let writes = made(&world, 2);
    assert_eq!(writes.len(), 1);
    assert_eq!(writes[0].secret.name_any(), "zoo-server");
    assert_eq!(writes[0].reason, "new certificate for zoo-rw: names were added");
    assert!(!writes[0].keep_existing);
}

#[test]
fn a_renewed_authority_renews_what_is_below_it_and_trusts_the_old_one() {
    let world = World::new("storage: {size: 5Gi}");
    let writes = made(&world, 1);
    let mut world = store(world, writes);
    let late = now() + k8s_openapi::jiff::SignedDuration::from_hours(24 * (9 * 365 + 1));
    let mut password = || unreachable!("logins are not renewed");
    let writes =
        build::secrets::secrets(&world.validated(), &world.observed, 1, late, &mut password).unwrap();
    let names: Vec<String> = writes.iter().map(|w| w.secret.name_any()).collect();
    assert_eq!(names, ["zoo-ca", "zoo-server", "zoo-replication", "zoo-operator"]);
    assert!(writes.iter().all(|w| !w.keep_existing));
    let bundle = |w: &build::secrets::Write| {
        String::from_utf8(w.secret.data.as_ref().unwrap()["ca.crt"].0.clone()).unwrap()
    };
    for write in &writes {
        assert_eq!(bundle(write).matches("BEGIN CERTIFICATE").count(), 2, "{}", write.secret.name_any());
    }
    let authority = bundle(&writes[0]);
    let leaf = &writes[1].secret.data.as_ref().unwrap()["tls.crt"].0;
    assert_eq!(inspect::leaf_stale(leaf, authority.as_bytes(), &[], late), None);
    for write in writes {
        world.observed.secrets.insert(write.secret.name_any(), write.secret);
    }
    let again = build::secrets::secrets(&world.validated(), &world.observed, 1, late, &mut password).unwrap();
    assert!(again.is_empty());
}

#[test]
fn given_logins_are_not_made() {
    let spec = "storage: {size: 5Gi}\nsuperuserSecret: {name: mine}\nbootstrap: {initdb: {database: shop, owner: clerk, secret: {name: clerk}}}";
    let world = World::new(spec)
        .with_secret("mine", &[("username", "postgres"), ("password", "x")])
        .with_secret("clerk", &[("username", "clerk"), ("password", "x")]);
    assert!(world.validated().problems.is_empty(), "{:?}", world.validated().problems);
    let names: Vec<String> = made(&world, 1).iter().map(|w| w.secret.name_any()).collect();
    assert_eq!(names, ["zoo-ca", "zoo-server", "zoo-replication", "zoo-operator"]);
}

#[rstest]
#[case::no_superuser("storage: {size: 5Gi}\nenableSuperuserAccess: false", "zoo-superuser")]
#[case::recovery_without_database(
    "storage: {size: 5Gi}\nbootstrap: {recovery: {backup: {name: b}}}",
    "zoo-app"
)]
fn logins_that_are_not_wanted_are_not_made(#[case] spec: &str, #[case] absent: &str) {
    let world = World::new(spec);
    assert!(made(&world, 1).iter().all(|w| w.secret.name_any() != absent));
}

/// The operator can only grant what it holds itself.
#[test]
fn the_operator_holds_what_it_grants() {
    let world = World::new(STORE);
    let role = build::rbac::role(&world.observed.cluster, &world.validated());
    let held = crate::rbac::rules();
    for rule in role.rules.unwrap() {
        assert!(crate::rbac::covers(&held, &rule), "not held: {rule:?}");
    }
}
