//! `operator switchover`: asks the operator for a change of the primary, as any person may by annotation, and follows what
//! becomes of it.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use anyhow::{Context as _, bail};
use howdah_api::{Cluster, ClusterStatus, labels};
use k8s_openapi::api::core::v1::Event;
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::cli::Switchover;

/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(500);
/// Reason of the operator's event about a switchover that it does not begin.
const REFUSED: &str = "SwitchoverRefused";

/// What became of a request so far. Pure part of the command.
#[derive(Debug, PartialEq, Eq)]
enum State {
    /// The operator has not seen it.
    Asked,
    /// It is under way.
    UnderWay,
    /// This instance is the primary.
    Done(String),
    /// Nothing has changed, and the request is gone.
    Refused,
    /// Another one than the wanted one became the primary.
    Other(String),
}

fn state(cluster: &Cluster, before: &str, wanted: Option<&str>) -> State {
    let status = cluster.status.clone().unwrap_or_default();
    let target = status.target_primary.as_deref().unwrap_or(before);
    let current = status.current_primary.as_deref().unwrap_or(before);
    if target != current {
        return State::UnderWay;
    }
    if current != before {
        let fits = wanted.is_none_or(|wanted| wanted == current);
        return if fits { State::Done(current.to_owned()) } else { State::Other(current.to_owned()) };
    }
    if cluster.annotations().contains_key(labels::SWITCHOVER) { State::Asked } else { State::Refused }
}

/// The present primary.
///
/// # Errors
/// When `wanted` cannot become the primary whatever the operator thinks.
fn check(name: &str, status: &ClusterStatus, wanted: Option<&str>) -> anyhow::Result<String> {
    let Some(current) = status.current_primary.clone() else {
        bail!("Cluster {name} has no primary yet: {}", status.phase.as_deref().unwrap_or("it is new"));
    };
    if let Some(wanted) = wanted {
        let names: Vec<&str> = status.instances_status.iter().map(|i| i.name.as_str()).collect();
        if !names.contains(&wanted) {
            bail!("Cluster {name} has no instance {wanted}, only {}", names.join(", "));
        }
        if wanted == current {
            bail!("{wanted} is the primary of Cluster {name} already");
        }
    }
    Ok(current)
}

/// Asks for the switchover and follows it; each step is a line of `out`.
///
/// # Errors
/// There is no such cluster or instance, the operator refused, or the time is over.
pub async fn run(client: Client, args: &Switchover, out: &mut impl Write) -> anyhow::Result<()> {
    let namespace = args.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
    let name = args.cluster.as_str();
    let wanted = args.instance.as_deref();
    let api: Api<Cluster> = Api::namespaced(client.clone(), &namespace);
    let events: Api<Event> = Api::namespaced(client, &namespace);
    let found = api.get_opt(name).await.with_context(|| format!("cannot read Cluster {name}"))?;
    let Some(cluster) = found else { bail!("there is no Cluster {name} in namespace {namespace}") };
    let before = check(name, &cluster.status.unwrap_or_default(), wanted)?;
    let old = refusals(&events, name).await;
    let asked = wanted.unwrap_or("*");
    let patch = json!({"metadata": {"annotations": {labels::SWITCHOVER: asked}}});
    let params = PatchParams::default();
    api.patch(name, &params, &Patch::Merge(&patch)).await.with_context(|| {
        format!("cannot set the annotation {}={asked} on Cluster {name}", labels::SWITCHOVER)
    })?;
    writeln!(out, "{before} is the primary; asked for {}", wanted.unwrap_or("the most advanced replica"))?;

    let deadline = Instant::now() + Duration::from_secs(args.wait);
    let (mut told, mut begun) = (String::new(), false);
    loop {
        let cluster = api.get(name).await.with_context(|| format!("cannot read Cluster {name}"))?;
        let status = cluster.status.clone().unwrap_or_default();
        let state = state(&cluster, &before, wanted);
        if state == State::UnderWay {
            begun = true;
            let phase = status.phase.as_deref().unwrap_or_default();
            let line = format!("{phase}: {}", status.phase_reason.as_deref().unwrap_or_default());
            if line != told {
                writeln!(out, "{line}")?;
                told = line;
            }
        }
        match state {
            State::Asked | State::UnderWay => {}
            State::Done(primary) => {
                writeln!(out, "{primary} is the primary")?;
                return Ok(());
            }
            State::Other(primary) => bail!("{primary} became the primary, not {asked}"),
            State::Refused => {
                let said = refusals(&events, name).await.into_iter().find(|(uid, e)| old.get(uid) != Some(e));
                let why = match said {
                    Some((_, (_, message))) => message,
                    None if begun => status.phase_reason.unwrap_or_default(),
                    None => format!("see its events: kubectl -n {namespace} describe cluster {name}"),
                };
                bail!("{before} stays the primary of Cluster {name}: {why}");
            }
        }
        if Instant::now() >= deadline {
            let done = if begun { "is not over" } else { "was not begun (does the operator run?)" };
            bail!(
                "the switchover of Cluster {name} {done} after {} s: {}",
                args.wait,
                status.phase_reason.unwrap_or_default()
            );
        }
        sleep(LOOK).await;
    }
}

/// Events about refused switchovers of a cluster: by UID, the version and the message. Who may not read events gets none.
async fn refusals(events: &Api<Event>, cluster: &str) -> BTreeMap<String, (String, String)> {
    let fields = format!("involvedObject.kind=Cluster,involvedObject.name={cluster},reason={REFUSED}");
    let list = events.list(&ListParams::default().fields(&fields)).await;
    let items = list.map(|list| list.items).unwrap_or_default();
    items
        .into_iter()
        .map(|event| {
            let version = event.resource_version().unwrap_or_default();
            (event.uid().unwrap_or_default(), (version, event.message.unwrap_or_default()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use howdah_api::cluster_status::InstanceSummary;
    use rstest::rstest;

    use super::*;
    use crate::fixtures::cluster;

    fn seen(annotation: Option<&str>, target: &str, current: &str) -> Cluster {
        let mut cluster = cluster("storage: {size: 1Gi}");
        if let Some(value) = annotation {
            cluster.annotations_mut().insert(labels::SWITCHOVER.to_owned(), value.to_owned());
        }
        cluster.status = Some(ClusterStatus {
            target_primary: Some(target.to_owned()),
            current_primary: Some(current.to_owned()),
            ..ClusterStatus::default()
        });
        cluster
    }

    #[rstest]
    #[case::asked(Some("zoo-2"), "zoo-1", "zoo-1", Some("zoo-2"), State::Asked)]
    #[case::begun(Some("zoo-2"), "zoo-2", "zoo-1", Some("zoo-2"), State::UnderWay)]
    #[case::under_way(None, "zoo-2", "zoo-1", Some("zoo-2"), State::UnderWay)]
    #[case::done(None, "zoo-2", "zoo-2", Some("zoo-2"), State::Done("zoo-2".into()))]
    #[case::any(None, "zoo-3", "zoo-3", None, State::Done("zoo-3".into()))]
    #[case::another(None, "zoo-3", "zoo-3", Some("zoo-2"), State::Other("zoo-3".into()))]
    #[case::refused(None, "zoo-1", "zoo-1", Some("zoo-2"), State::Refused)]
    fn states(
        #[case] annotation: Option<&str>,
        #[case] target: &str,
        #[case] current: &str,
        #[case] wanted: Option<&str>,
        #[case] expected: State,
    ) {
        assert_eq!(state(&seen(annotation, target, current), "zoo-1", wanted), expected);
    }

    #[test]
    fn what_cannot_be_is_said_at_once() {
        let instance = |name: &str| InstanceSummary { name: name.into(), ..InstanceSummary::default() };
        let status = ClusterStatus {
            current_primary: Some("zoo-1".into()),
            instances_status: vec![instance("zoo-1"), instance("zoo-2")],
            ..ClusterStatus::default()
        };
        let text = |wanted| check("zoo", &status, wanted).map_err(|e| e.to_string());
        assert_eq!(text(None), Ok("zoo-1".into()));
        assert_eq!(text(Some("zoo-2")), Ok("zoo-1".into()));
        assert_eq!(text(Some("zoo-7")), Err("Cluster zoo has no instance zoo-7, only zoo-1, zoo-2".into()));
        assert_eq!(text(Some("zoo-1")), Err("zoo-1 is the primary of Cluster zoo already".into()));
        let new = check("zoo", &ClusterStatus::default(), None).unwrap_err();
        assert_eq!(new.to_string(), "Cluster zoo has no primary yet: it is new");
    }
}
