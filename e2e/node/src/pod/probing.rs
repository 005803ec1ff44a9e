//! Asking a running container how it is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Probe};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{PodRuntime, exec};
use crate::probe::{self, Check, Tally, Verdict};

/// What a probe found out.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Finding {
    Started,
    Ready(bool),
    /// The container has to be killed; with this much grace if the probe says so.
    Kill {
        why: String,
        grace: Option<Duration>,
    },
}

/// Starts the probes of one run of a container. They end with `run`.
pub(super) fn start(
    pod: &Arc<PodRuntime>,
    container: &Container,
    pid: i32,
    env: &Arc<BTreeMap<String, String>>,
    run: &CancellationToken,
) -> mpsc::Receiver<Finding> {
    let (findings, inbox) = mpsc::channel(16);
    let started = watch::Sender::new(container.startup_probe.is_none());
    if container.startup_probe.is_none() {
        // The channel is empty and long enough.
        let _ = findings.try_send(Finding::Started);
        if container.readiness_probe.is_none() {
            let _ = findings.try_send(Finding::Ready(true));
        }
    }
    let started_rx = started.subscribe();
    let started = Arc::new(started);
    for (kind, probe) in [
        (Kind::Startup, &container.startup_probe),
        (Kind::Liveness, &container.liveness_probe),
        (Kind::Readiness, &container.readiness_probe),
    ] {
        let Some(probe) = probe.clone() else { continue };
        let prober = Prober {
            pod: pod.clone(),
            container: container.clone(),
            pid,
            env: env.clone(),
            kind,
            findings: findings.clone(),
            started: started.clone(),
        };
        let (run, mut gate) = (run.clone(), started_rx.clone());
        tokio::spawn(async move {
            let work = async {
                if kind != Kind::Startup && gate.wait_for(|started| *started).await.is_err() {
                    return;
                }
                prober.ask(&probe).await;
            };
            tokio::select! {
                () = run.cancelled() => {}
                () = work => {}
            }
        });
    }
    inbox
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Startup,
    Liveness,
    Readiness,
}

struct Prober {
    pod: Arc<PodRuntime>,
    container: Container,
    pid: i32,
    env: Arc<BTreeMap<String, String>>,
    kind: Kind,
    findings: mpsc::Sender<Finding>,
    started: Arc<watch::Sender<bool>>,
}

impl Prober {
    async fn ask(&self, probe: &Probe) {
        let reference = self.pod.reference(Some(&self.container.name));
        let plan = match probe::plan(probe, &self.container) {
            Ok(plan) => plan,
            Err(what) => {
                self.pod.shared.events.warning(&reference, "Unhealthy", what);
                return;
            }
        };
        let name = match self.kind {
            Kind::Startup => "Startup",
            Kind::Liveness => "Liveness",
            Kind::Readiness => "Readiness",
        };
        tokio::time::sleep(plan.delay).await;
        let mut ticks = tokio::time::interval(plan.period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut tally = Tally::default();
        loop {
            ticks.tick().await;
            let answer = match &plan.check {
                Check::Exec(argv) => {
                    exec::run(&self.pod.shared.spawner, self.pid, argv, &self.env, plan.timeout).await
                }
                check => {
                    let ip = self.pod.address().map(|address| address.to_string()).unwrap_or_default();
                    probe::ask_network(check, &ip, plan.timeout, &self.pod.shared.http).await
                }
            };
            if let Err(why) = &answer {
                let what = format!("{name} probe failed: {why}");
                self.pod.shared.events.warning(&reference, "Unhealthy", what);
            }
            match (self.kind, tally.add(answer.is_ok(), &plan)) {
                (_, Verdict::Unchanged) => {}
                (Kind::Readiness, verdict) => {
                    self.tell(Finding::Ready(verdict == Verdict::Success)).await;
                }
                (Kind::Startup, Verdict::Success) => {
                    self.tell(Finding::Started).await;
                    if self.container.readiness_probe.is_none() {
                        self.tell(Finding::Ready(true)).await;
                    }
                    self.started.send_replace(true);
                    return;
                }
                (Kind::Liveness, Verdict::Success) => {}
                (Kind::Startup | Kind::Liveness, Verdict::Failure) => {
                    let why = format!(
                        "Container {} failed {} probe, will be restarted",
                        self.container.name,
                        name.to_lowercase()
                    );
                    let grace = probe
                        .termination_grace_period_seconds
                        .and_then(|s| u64::try_from(s).ok())
                        .map(Duration::from_secs);
                    self.tell(Finding::Kill { why, grace }).await;
                    return;
                }
            }
        }
    }

    async fn tell(&self, finding: Finding) {
        // The container has ended when nobody listens.
        let _ = self.findings.send(finding).await;
    }
}
