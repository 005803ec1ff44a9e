//! Certificates that the user gives: what is taken up, what is told, and what stays meanwhile.

use howdah_api::conditions::{self, CERTIFICATES_VALID};
use howdah_api::instance::InstanceRole::Primary;
use howdah_api::{ClusterStatus, naming};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use rstest::rstest;

use super::decide::decide;
use super::{build, events, phases, status};
use crate::fixtures::{World, now};
use crate::pki::issue::{self, Usage};
use crate::pki::{Pair, inspect};

const GIVEN: &str = "storage: {size: 5Gi}\ncertificates: {serverCASecret: authority, serverTLSSecret: mine}";
const ISSUED: &str = "storage: {size: 5Gi}\ncertificates: {serverCASecret: authority, serverAltDNSNames: [db.example.com], clientCASecret: authority}";
const CLIENTS: &str =
    "storage: {size: 5Gi}\ncertificates: {clientCASecret: authority, replicationTLSSecret: mine}";
const NONE: &str = "storage: {size: 5Gi}";

/// An authority, and a certificate from it.
fn pair(usage: Usage, name: &str, names: &[&str], made: Timestamp) -> (Pair, Pair) {
    let ca = issue::authority("somebody", made).unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let leaf = issue::leaf(&ca, name, &names, usage, made).unwrap();
    (ca, leaf)
}

fn server(made: Timestamp) -> (Pair, Pair) {
    pair(Usage::Server, "db", &["zoo-rw", "zoo-ro.park.svc", "zoo-r.park"], made)
}

fn with(world: World, (ca, leaf): &(Pair, Pair)) -> World {
    world
        .with_secret("authority", &[("ca.crt", &ca.certificate)])
        .with_secret("mine", &[("tls.crt", &leaf.certificate), ("tls.key", &leaf.key)])
}

fn running(spec: &str) -> World {
    World::new(spec).initialised(1).with_ready(1, Primary)
}

/// One round: what would be written is written.
fn round(mut world: World) -> (World, Vec<String>) {
    let (validated, hash) = (world.validated(), world.hash());
    let plan = decide(&validated, &world.observed, &hash);
    let status = status::fold(&validated, &world.observed, &plan, &hash, world.observed.now);
    let mut password = || "x".to_owned();
    let writes =
        build::secrets::secrets(&validated, &world.observed, 1, world.observed.now, &mut password).unwrap();
    let names = writes.iter().map(|write| write.secret.name_any()).collect();
    for write in writes {
        world.observed.secrets.insert(write.secret.name_any(), write.secret);
    }
    world.observed.cluster.status = Some(status);
    (world, names)
}

/// Rounds until nothing is written any more and the status has seen it.
fn settled(world: World) -> World {
    let mut world = world;
    for _ in 0..5 {
        let (next, written) = round(world);
        world = next;
        if written.is_empty() {
            return world;
        }
    }
    panic!("Secrets are written again and again");
}

fn data(world: &World, secret: &str, key: &str) -> String {
    let secret = world.observed.secrets.get(secret).unwrap_or_else(|| panic!("there is no {secret}"));
    String::from_utf8(secret.data.as_ref().unwrap()[key].0.clone()).unwrap()
}

fn condition(status: &ClusterStatus) -> Option<(String, String, String)> {
    conditions::get(&status.conditions, CERTIFICATES_VALID)
        .map(|c| (c.status.clone(), c.reason.clone(), c.message.clone()))
}

fn names(world: &World) -> [String; 4] {
    let used = world.observed.status().certificates.unwrap();
    [used.server_ca_secret, used.server_tls_secret, used.client_ca_secret, used.replication_tls_secret]
        .map(Option::unwrap)
}

#[test]
fn the_operators_own_are_told_with_their_ends() {
    let world = settled(running(NONE));
    assert_eq!(names(&world), ["zoo-ca", "zoo-server", "zoo-ca", "zoo-replication"]);
    let status = world.observed.status();
    assert_eq!(condition(&status), None);
    let used = status.certificates.as_ref().unwrap();
    let days = |end: Timestamp| end.duration_since(now()).as_hours() / 24;
    let ends: Vec<_> = used.expirations.iter().map(|(name, end)| (name.as_str(), days(end.0))).collect();
    assert_eq!(ends, [("zoo-ca", 3650), ("zoo-replication", 90), ("zoo-server", 90)]);
    assert_eq!(
        status::gauges(&world.observed, &status).certificates,
        Some(used.expirations["zoo-server"].0.as_second())
    );
}

#[test]
fn a_server_certificate_is_copied_as_it_is() {
    let given = server(now());
    let world = settled(with(running(GIVEN), &given));
    let copy = naming::server_in_use("zoo");
    assert_eq!(data(&world, &copy, "tls.crt"), given.1.certificate);
    assert_eq!(data(&world, &copy, "tls.key"), given.1.key);
    assert_eq!(data(&world, &copy, "ca.crt"), given.0.certificate);
    assert_eq!(names(&world), ["authority", "mine", "zoo-ca", "zoo-replication"]);
    let status = world.observed.status();
    let (value, reason, _) = condition(&status).unwrap();
    assert_eq!((value.as_str(), reason.as_str()), ("True", "CertificatesValid"));
    let ends = &status.certificates.unwrap().expirations;
    assert_eq!(ends["mine"].0, inspect::not_after(given.1.certificate.as_bytes()).unwrap());
    // Those of operator and managers are what they were.
    let own = data(&world, "zoo-server", "ca.crt");
    assert_eq!(own, data(&world, "zoo-operator", "ca.crt"));
    assert_ne!(own, given.0.certificate);
    let role = build::rbac::readable_secrets(&world.validated());
    assert!(
        role.contains(&copy) && !role.contains(&"mine".to_owned()) && !role.contains(&"authority".to_owned())
    );

    // Another one is taken up, and one that is not good is not.
    let other = server(now());
    let world = settled(with(world, &other));
    assert_eq!(data(&world, &copy, "tls.crt"), other.1.certificate);
    let mixed =
        (other.0.clone(), Pair { certificate: given.1.certificate.clone(), key: other.1.key.clone() });
    let before = world.observed.status();
    let world = settled(with(world, &mixed));
    assert_eq!(data(&world, &copy, "tls.crt"), other.1.certificate);
    let after = world.observed.status();
    let (value, reason, message) = condition(&after).unwrap();
    assert_eq!((value.as_str(), reason.as_str()), ("False", "CertificateInvalid"));
    assert!(
        message.starts_with("Secret mine (certificates.serverTLSSecret): key tls.key does not belong"),
        "{message}"
    );
    assert!(
        message
            .contains("; meanwhile PostgreSQL goes on with the certificates that it has; see docs/runbook/"),
        "{message}"
    );
    assert_eq!(after.phase.as_deref(), Some(phases::HEALTHY));
    assert!(after.phase_reason.as_ref().unwrap().contains(&message), "{after:?}");
    assert_eq!(after.certificates, before.certificates, "what is in use is what was");
    let notes = events::changes(&before, &after);
    assert!(notes.iter().any(|n| n.warning && n.reason == "CertificateInvalid"), "{notes:?}");
    assert_eq!(events::changes(&after, &after), []);

    // Nothing is given any more.
    let world = settled(world.with_spec(|s| s.certificates = None));
    assert_eq!(data(&world, &copy, "tls.key"), "");
    let (world, written) = round(world);
    assert_eq!(written, Vec::<String>::new());
    assert_eq!(names(&world), ["zoo-ca", "zoo-server", "zoo-ca", "zoo-replication"]);
    assert_eq!(condition(&world.observed.status()), None);
}

/// The status says what is in use, not what is asked for.
#[test]
fn what_is_in_use_is_told_when_it_is() {
    let given = server(now());
    let (world, written) = round(with(running(GIVEN), &given));
    assert!(written.contains(&naming::server_in_use("zoo")));
    assert!(world.observed.status().certificates.is_none_or(|c| !c.server_is_given("zoo")));
    let (world, _) = round(world);
    assert!(world.observed.status().certificates.unwrap().server_is_given("zoo"));
    // A copy that somebody deletes is made again; meanwhile the status says that it is in use.
    let world = world.change(|w| {
        w.observed.secrets.remove(&naming::server_in_use("zoo"));
    });
    let (world, written) = round(world);
    assert_eq!(written, [naming::server_in_use("zoo")]);
    assert!(world.observed.status().certificates.unwrap().server_is_given("zoo"));
}

#[test]
fn certificates_are_issued_from_a_given_authority_and_renewed() {
    let (ca, _) = server(now());
    let issued = |world: World| {
        settled(world.with_secret("authority", &[("ca.crt", &ca.certificate), ("ca.key", &ca.key)]))
    };
    let world = issued(running(ISSUED));
    let (server, client) = (naming::server_in_use("zoo"), naming::replication_in_use("zoo"));
    let text = data(&world, &server, "tls.crt");
    assert_eq!(inspect::leaf_stale(text.as_bytes(), ca.certificate.as_bytes(), &[], now()), None);
    let of = |world: &World, secret: &str| inspect::names(data(world, secret, "tls.crt").as_bytes());
    assert!(of(&world, &server).contains(&"db.example.com".to_owned()));
    assert!(of(&world, &server).contains(&"zoo-rw.park.svc".to_owned()));
    assert_eq!(of(&world, &client), Vec::<String>::new());
    assert_eq!(data(&world, &client, "ca.crt"), ca.certificate);
    assert!(!world.observed.secrets[&server].data.as_ref().unwrap().contains_key("ca.key"));
    assert_eq!(names(&world), ["authority", server.as_str(), "authority", client.as_str()]);

    // Other names, another certificate.
    let world = issued(world.with_spec(|s| {
        s.certificates.as_mut().unwrap().server_alt_dns_names = vec!["db.example.org".into()];
    }));
    let found = of(&world, &server);
    assert!(found.contains(&"db.example.org".to_owned()) && !found.contains(&"db.example.com".to_owned()));
    assert_eq!(data(&world, &server, "tls.crt").matches("BEGIN CERTIFICATE").count(), 1);

    // In time.
    let before = data(&world, &client, "tls.crt");
    let world = settled(world.change(|w| w.observed.now += SignedDuration::from_hours(61 * 24)));
    assert_ne!(data(&world, &client, "tls.crt"), before);
}

#[test]
fn further_names_are_in_the_operators_own_certificate() {
    let spec = "storage: {size: 5Gi}\ncertificates: {serverAltDNSNames: [db.example.com]}";
    let world = settled(running(spec));
    let has = |world: &World| {
        inspect::names(data(world, "zoo-server", "tls.crt").as_bytes()).contains(&"db.example.com".to_owned())
    };
    assert!(has(&world));
    let status = world.observed.status();
    assert_eq!(condition(&status), None);
    assert_eq!(status.certificates.unwrap().server_alt_dns_names, ["db.example.com"]);
    let world = settled(world.with_spec(|s| s.certificates = None));
    assert!(!has(&world));
}

#[rstest]
#[case::no_authority(GIVEN, &[], "SecretNotFound", "Secret authority (certificates.serverCASecret) does not exist; create it in the cluster's namespace with the key ca.crt")]
#[case::no_certificate(GIVEN, &["ca.crt"], "SecretNotFound", "Secret mine (certificates.serverTLSSecret) does not exist")]
#[case::no_key(GIVEN, &["ca.crt", "tls.crt"], "SecretKeyNotFound", "Secret mine (certificates.serverTLSSecret) has no key tls.key")]
#[case::no_key_of_the_authority(ISSUED, &["ca.crt"], "SecretKeyNotFound", "without ca.key no certificate can be issued from this authority: add it, or give serverTLSSecret")]
#[case::another_name(CLIENTS, &["ca.crt", "tls.crt", "tls.key"], "CertificateInvalid", "is not for clientAuth")]
#[case::of_the_operator("storage: {size: 5Gi}\ncertificates: {clientCASecret: zoo-ca}", &[], "CertificateInvalid", "Secret zoo-ca (certificates.clientCASecret) is made by the operator itself")]
fn a_new_cluster_waits_for_what_is_missing(
    #[case] spec: &str,
    #[case] keys: &[&str],
    #[case] reason: &str,
    #[case] words: &str,
) {
    let (ca, leaf) = server(now());
    let values = [("ca.crt", &ca.certificate), ("tls.crt", &leaf.certificate), ("tls.key", &leaf.key)];
    let mut world = World::new(spec);
    for secret in ["authority", "mine"] {
        let data: Vec<(&str, &str)> = values
            .iter()
            .filter(|(key, _)| keys.contains(key) && (*key == "ca.crt") == (secret == "authority"))
            .map(|(key, value)| (*key, value.as_str()))
            .collect();
        if !data.is_empty() {
            world = world.with_secret(secret, &data);
        }
    }
    let (world, _) = round(world);
    let status = world.observed.status();
    assert_eq!(status.phase.as_deref(), Some(phases::INVALID));
    let told = status.phase_reason.clone().unwrap();
    assert!(told.contains(words), "{words:?} is not in {told:?}");
    let (value, found, _) = condition(&status).unwrap();
    assert_eq!((value.as_str(), found.as_str()), ("False", reason));
    assert!(!world.observed.secrets.contains_key(&naming::server_in_use("zoo")));
}

#[rstest]
#[case::in_order(0, 10, "True", "CertificatesValid", "")]
#[case::soon(
    84,
    10,
    "False",
    "CertificateExpiring",
    "the certificate in Secret mine (certificates.serverTLSSecret) ends at 2027-02-19T10:00:00Z"
)]
#[case::ended(91, 10, "False", "CertificateExpired", "key tls.crt has ended at 2027-02-19T10:00:00Z")]
fn the_end_is_told_before(
    #[case] days: i64,
    #[case] hours: i64,
    #[case] value: &str,
    #[case] reason: &str,
    #[case] words: &str,
) {
    let world = settled(with(running(GIVEN), &server(now())));
    let before = world.observed.status();
    let copy = data(&world, &naming::server_in_use("zoo"), "tls.crt");
    let world = settled(world.change(|w| w.observed.now += SignedDuration::from_hours(days * 24 + hours)));
    let after = world.observed.status();
    let found = condition(&after).unwrap();
    assert_eq!((found.0.as_str(), found.1.as_str()), (value, reason));
    assert!(found.2.contains(words), "{}", found.2);
    assert_eq!(data(&world, &naming::server_in_use("zoo"), "tls.crt"), copy, "it is never replaced");
    let notes = events::changes(&before, &after);
    assert_eq!(notes.iter().any(|n| n.warning && n.reason == reason), value == "False", "{notes:?}");
}

#[test]
fn services_without_a_name_are_told_and_the_certificate_is_used_all_the_same() {
    let given = pair(Usage::Server, "db", &["db.example.com", "zoo-rw.park"], now());
    let world = settled(with(running(GIVEN), &given));
    let (value, reason, message) = condition(&world.observed.status()).unwrap();
    assert_eq!((value.as_str(), reason.as_str()), ("False", "ServerNamesMissing"));
    assert!(
        message.contains("is for db.example.com, zoo-rw.park, not for the services zoo-ro, zoo-r:"),
        "{message}"
    );
    assert_eq!(world.observed.status().phase.as_deref(), Some(phases::HEALTHY));
    assert_eq!(data(&world, &naming::server_in_use("zoo"), "tls.crt"), given.1.certificate);
}
