//! PostgreSQL with certificates of the user: shown to clients that verify everything, replaced without a restart.

use anyhow::{Context, Result, bail, ensure};
use howdah_api::naming;
use howdah_e2e::wait;
use howdah_s3::Authority;
use serde_json::{Value, json};

use crate::common::{Scene, condition};
use crate::standing::text;

/// Secret of the server, and of clients.
const SERVER: &str = "server-of-ours";
const CLIENTS: &str = "clients-of-ours";

/// A certificate for the services of `cluster`, in the words of a Secret.
fn server(authority: &Authority, namespace: &str) -> Result<Value> {
    let services = [naming::service_rw("pg"), naming::service_ro("pg"), naming::service_r("pg")];
    let names: Vec<String> =
        services.iter().flat_map(|s| [s.clone(), format!("{s}.{namespace}.svc")]).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let pair = authority.server(&names)?;
    Ok(json!({"ca.crt": authority.pem(), "tls.crt": pair.chain, "tls.key": pair.key}))
}

fn clients(authority: &Authority) -> Result<Value> {
    let pair = authority.client(naming::REPLICATION_USER)?;
    Ok(json!({"ca.crt": authority.pem(), "tls.crt": pair.chain, "tls.key": pair.key}))
}

async fn secret(scene: &Scene, name: &str, data: &Value) -> Result<()> {
    let manifest =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data});
    scene.apply(&manifest).await
}

/// What `psql` says that trusts `authority` alone and looks at the name of the server: the address of the server's
/// connection, or its error.
async fn verified(
    scene: &Scene,
    pod: &str,
    authority: &Authority,
) -> Result<std::result::Result<String, String>> {
    let root = format!("{pod}-root");
    secret(scene, &root, &json!({"root.crt": authority.pem()})).await?;
    let login = naming::superuser_secret("pg");
    let env_from = |variable: &str, key: &str| json!({"name": variable, "valueFrom": {"secretKeyRef": {"name": login, "key": key}}});
    let manifest = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": false,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 26, "runAsGroup": 26, "fsGroup": 26, "seccompProfile": {"type": "RuntimeDefault"}},
            "volumes": [{"name": "root", "secret": {"secretName": root}}],
            "containers": [{
                "name": "psql",
                "image": scene.ground.images.postgres,
                "command": ["psql", "-XAtq", "-c", "select ssl from pg_stat_ssl where pid = pg_backend_pid()"],
                "env": [
                    {"name": "PGHOST", "value": naming::service_rw("pg")},
                    {"name": "PGDATABASE", "value": "app"},
                    {"name": "PGSSLMODE", "value": "verify-full"},
                    {"name": "PGSSLROOTCERT", "value": "/root-certificate/root.crt"},
                    {"name": "PGCONNECT_TIMEOUT", "value": "20"},
                    {"name": "HOME", "value": "/tmp"},
                    env_from("PGUSER", "username"),
                    env_from("PGPASSWORD", "password"),
                ],
                "volumeMounts": [{"name": "root", "mountPath": "/root-certificate", "readOnly": true}],
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    });
    scene.apply(&manifest).await?;
    let ended = scene
        .kubectl
        .wait_for("pod", pod, "its end", wait::minutes(3), |p| {
            ["Succeeded", "Failed"].contains(&text(p, "/status/phase"))
        })
        .await?;
    let log = scene.kubectl.logs(pod, "psql").await?;
    scene.kubectl.run(&["delete", "pod", pod, "--wait=false"]).await?;
    scene.kubectl.run(&["delete", "secret", &root]).await?;
    Ok(if text(&ended, "/status/phase") == "Succeeded" { Ok(log.trim().to_owned()) } else { Err(log) })
}

/// Whether the server shows a certificate of `authority`, and none of `other`.
async fn shows(scene: &Scene, authority: &Authority, other: &Authority, pod: &str) -> Result<()> {
    match verified(scene, &format!("{pod}-yes"), authority).await? {
        Ok(said) => ensure!(said == "t", "the connection has no TLS: {said}"),
        Err(said) => bail!("psql does not trust the server: {said}"),
    }
    match verified(scene, &format!("{pod}-no"), other).await? {
        Ok(_) => bail!("the server shows a certificate of another authority"),
        Err(said) => ensure!(said.contains("certificate verify failed"), "{said}"),
    }
    Ok(())
}

/// UIDs and restarts of the pods, and since when PostgreSQL runs in the primary.
async fn running(scene: &Scene) -> Result<String> {
    let mut told = Vec::new();
    for pod in ["pg-1", "pg-2"] {
        let pod = scene.pod(pod).await?;
        let restarts = pod.pointer("/status/containerStatuses/0/restartCount").cloned().unwrap_or_default();
        told.push(format!("{} {restarts}", text(&pod, "/metadata/uid")));
    }
    told.push(scene.sql("pg").run("select pg_postmaster_start_time()").await?);
    Ok(told.join("; "))
}

async fn streams(scene: &Scene) -> Result<()> {
    wait::until("the replica streams", wait::minutes(3), || async {
        let said = scene.sql("pg").run("select application_name, state from pg_stat_replication").await?;
        ensure!(said == "pg-2|streaming", "{said:?}");
        Ok(Some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn given_certificates_are_shown_and_replaced_without_a_restart() -> Result<()> {
    let scene = Scene::new("certificates").await?;
    let namespace = scene.kubectl.namespace.clone();
    let (first, second, of_clients) = (Authority::new()?, Authority::new()?, Authority::new()?);
    secret(&scene, SERVER, &server(&first, &namespace)?).await?;
    secret(&scene, CLIENTS, &clients(&of_clients)?).await?;
    let certificates = json!({
        "serverCASecret": SERVER, "serverTLSSecret": SERVER, "clientCASecret": CLIENTS, "replicationTLSSecret": CLIENTS,
    });
    let cluster = scene.up("pg", json!({"instances": 2, "certificates": certificates})).await?;
    let told = condition(&cluster, "CertificatesValid").context("no condition CertificatesValid")?;
    ensure!(told["status"] == "True", "{told:#}");
    streams(&scene).await?;
    shows(&scene, &first, &second, "first").await?;
    let before = running(&scene).await?;

    // Another authority and another certificate of replicas, at once.
    secret(&scene, SERVER, &server(&second, &namespace)?).await?;
    secret(&scene, CLIENTS, &clients(&Authority::new()?)?).await?;
    let mut attempt = 0;
    wait::until("the new certificate is shown", wait::minutes(4), || {
        attempt += 1;
        let pod = format!("second-{attempt}");
        let (scene, first, second) = (&scene, &first, &second);
        async move { shows(scene, second, first, &pod).await.map(Some) }
    })
    .await?;
    streams(&scene).await?;
    ensure!(running(&scene).await? == before, "something was restarted: {before}");

    // A connection that is made anew: both have the new certificates.
    scene.sql("pg").run("select pg_terminate_backend(pid) from pg_stat_replication").await?;
    streams(&scene).await?;

    // Without its key nothing is changed, and it is told which key of which Secret is meant.
    let mut without = server(&second, &namespace)?;
    without["tls.key"] = "gone".into();
    secret(&scene, SERVER, &without).await?;
    let broken = scene
        .kubectl
        .wait_for("cluster", "pg", "the fault is told", wait::minutes(2), |c| {
            condition(c, "CertificatesValid").is_some_and(|c| c["reason"] == "CertificateInvalid")
        })
        .await?;
    let told = condition(&broken, "CertificatesValid").context("no condition")?;
    ensure!(
        text(told, "/message").contains("Secret server-of-ours")
            && text(told, "/message").contains("tls.key"),
        "{told:#}"
    );
    shows(&scene, &second, &first, "third").await?;
    ensure!(running(&scene).await? == before, "something was restarted: {before}");
    scene.ground.stop().await
}
