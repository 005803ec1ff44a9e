//! One pod on this node, from its first sight to its end.

mod container;
mod end;
mod exec;
mod farewell;
mod prepare;
mod probing;
mod publish;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Output;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ObjectReference, Pod};
use kube::ResourceExt;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::{Notify, watch};

use crate::addresses::Lease;
use crate::error::Error;
use crate::events;
use crate::logs::Log;
use crate::processes;
use crate::restart::Policy;
use crate::shared::Shared;
use crate::status::{Ended, Record, State};
use crate::volumes::VolumePlan;

/// How a pod is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stop {
    /// It goes on.
    No,
    /// Containers get a signal and so much time; then the pod is removed from the API server.
    Graceful(Duration),
    /// Containers are killed; the pod is gone from the API server already.
    Gone,
    /// Containers are killed and nothing is told to anyone: the node is lost or shutting down.
    Lost,
}

/// A running container as others may touch it.
#[derive(Debug, Clone)]
pub(crate) struct Live {
    pub pid: i32,
    pub log: Arc<Log>,
}

/// What changes while a pod runs.
#[derive(Debug)]
pub(crate) struct PodState {
    pub pod: Pod,
    pub init: Vec<Record>,
    pub main: Vec<Record>,
    pub live: BTreeMap<String, Live>,
    pub address: Option<Lease>,
    pub started: Timestamp,
    pub verdict: Option<(String, String)>,
}

/// One pod on this node.
pub(crate) struct PodRuntime {
    pub shared: Arc<Shared>,
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub state: Mutex<PodState>,
    /// Rung when something in the state changed that the API server should know.
    pub changed: Notify,
    pub stop: watch::Sender<Stop>,
    /// True once nothing of it runs any more and its directory is gone.
    pub done: watch::Sender<bool>,
}

impl PodRuntime {
    /// Takes a pod on. What an earlier incarnation of this node ran of it has died with that one.
    pub fn new(shared: Arc<Shared>, pod: Pod) -> Arc<Self> {
        let old = pod.status.as_ref();
        let records = |containers: &[Container], init: bool| -> Vec<Record> {
            let statuses = old.and_then(|status| {
                if init {
                    status.init_container_statuses.as_ref()
                } else {
                    status.container_statuses.as_ref()
                }
            });
            containers
                .iter()
                .map(|container| {
                    let reason = if init { "PodInitializing" } else { "ContainerCreating" };
                    let mut record =
                        Record::new(&container.name, container.image.as_deref().unwrap_or_default(), reason);
                    let before = statuses.into_iter().flatten().find(|s| s.name == container.name);
                    if let Some(before) = before.filter(|before| before.container_id.is_some()) {
                        record.restarts = u32::try_from(before.restart_count).unwrap_or(0);
                        record.id = before.container_id.clone();
                        let since =
                            before.state.as_ref().and_then(|s| s.running.as_ref()?.started_at.as_ref());
                        record.last = Some(Ended {
                            code: 137,
                            reason: "ContainerStatusUnknown".to_owned(),
                            message: Some("The container was lost when its node ended".to_owned()),
                            started: since.map(|time| time.0),
                            finished: Timestamp::now(),
                            container_id: before.container_id.clone(),
                        });
                    }
                    record
                })
                .collect()
        };
        let spec = pod.spec.clone().unwrap_or_default();
        let state = PodState {
            init: records(spec.init_containers.as_deref().unwrap_or_default(), true),
            main: records(&spec.containers, false),
            live: BTreeMap::new(),
            address: None,
            started: old
                .and_then(|status| status.start_time.as_ref())
                .map_or_else(Timestamp::now, |time| time.0),
            verdict: None,
            pod: pod.clone(),
        };
        Arc::new(Self {
            shared,
            namespace: pod.namespace().unwrap_or_default(),
            name: pod.name_any(),
            uid: pod.uid().unwrap_or_default(),
            state: Mutex::new(state),
            changed: Notify::new(),
            stop: watch::Sender::new(Stop::No),
            done: watch::Sender::new(false),
        })
    }

    pub fn state(&self) -> MutexGuard<'_, PodState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pod as it was last seen.
    pub fn pod(&self) -> Pod {
        self.state().pod.clone()
    }

    /// Changes the state and has it told.
    pub fn update<T>(&self, change: impl FnOnce(&mut PodState) -> T) -> T {
        let result = change(&mut self.state());
        self.changed.notify_one();
        result
    }

    /// Changes the record of one container and has it told.
    pub fn record<T>(&self, container: &str, change: impl FnOnce(&mut Record) -> T) -> Option<T> {
        self.update(|state| {
            state.init.iter_mut().chain(&mut state.main).find(|record| record.name == container).map(change)
        })
    }

    /// Takes a newer version of the pod.
    pub fn seen(&self, pod: Pod) {
        if pod.metadata.deletion_timestamp.is_some() {
            let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(30);
            self.end(Stop::Graceful(Duration::from_secs(u64::try_from(grace).unwrap_or(0))));
        }
        self.update(|state| {
            // The answer to our own last patch may be newer than what the watch has got to.
            if version(&pod) >= version(&state.pod) {
                state.pod = pod;
            }
        });
    }

    /// Orders the end. Orders only ever get stricter, except that a graceful one may get shorter.
    pub fn end(&self, order: Stop) {
        self.stop.send_if_modified(|current| {
            let stricter = match (*current, order) {
                (Stop::Graceful(old), Stop::Graceful(new)) => new < old,
                (old, new) => new > old,
            };
            if stricter {
                *current = order;
            }
            stricter
        });
    }

    /// Host process id of a container's PID 1.
    pub fn pid(&self, container: &str) -> Option<i32> {
        self.state().live.get(container).map(|live| live.pid)
    }

    /// Runs a program in a container, with the environment of its PID 1.
    pub async fn exec(&self, container: &str, argv: &[String], timeout: Duration) -> Result<Output, Error> {
        let wrong = |why: String| Error::Pod {
            what: format!("{argv:?} in {container} of pod {}/{}: {why}", self.namespace, self.name),
        };
        let pid = self.pid(container).ok_or_else(|| wrong("the container is not running".to_owned()))?;
        let environment = std::fs::read(format!("/proc/{pid}/environ")).map_err(|e| wrong(e.to_string()))?;
        let pairs = environment.split(|byte| *byte == 0).filter_map(|pair| {
            let text = String::from_utf8_lossy(pair);
            text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))
        });
        exec::output(&self.shared.spawner, pid, argv, &pairs.collect(), timeout).await.map_err(wrong)
    }

    /// Sends a signal to a container's PID 1.
    pub fn signal(&self, container: &str, signal: Signal) -> Result<(), Error> {
        let sent = self.pid(container).is_some_and(|pid| kill(Pid::from_raw(pid), signal).is_ok());
        if sent {
            return Ok(());
        }
        Err(Error::NotRunning {
            namespace: self.namespace.clone(),
            pod: self.name.clone(),
            container: container.to_owned(),
        })
    }

    /// Sends a signal to the oldest process of a container whose program's name begins with `name`.
    pub fn signal_process(&self, container: &str, name: &str, signal: Signal) -> Result<(), Error> {
        let found = self.pid(container).and_then(|first| processes::oldest(first, name));
        if found.is_some_and(|pid| kill(Pid::from_raw(pid), signal).is_ok()) {
            return Ok(());
        }
        Err(Error::NotRunning {
            namespace: self.namespace.clone(),
            pod: self.name.clone(),
            container: format!("{container} (process {name})"),
        })
    }

    /// Sends a signal to every process of a container: to its PID 1 first, and again to those that were born meanwhile.
    pub fn signal_all(&self, container: &str, signal: Signal) -> Result<(), Error> {
        self.signal(container, signal)?;
        let Some(first) = self.pid(container) else { return Ok(()) };
        let mut told = BTreeSet::from([first]);
        loop {
            let new: Vec<i32> =
                processes::members(first).into_iter().filter(|pid| told.insert(*pid)).collect();
            if new.is_empty() {
                return Ok(());
            }
            for pid in new {
                // One that has ended since needs no signal.
                let _ = kill(Pid::from_raw(pid), signal);
            }
        }
    }

    pub fn policy(&self) -> Policy {
        Policy::of(self.state().pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()))
    }

    pub fn address(&self) -> Option<std::net::Ipv4Addr> {
        self.state().address.as_ref().map(|lease| lease.address)
    }

    /// The pod as events name it, or one of its containers.
    pub fn reference(&self, container: Option<&str>) -> ObjectReference {
        let mut reference = events::about(&self.state().pod);
        reference.field_path = container.map(|name| format!("spec.containers{{{name}}}"));
        reference
    }

    /// Waits for the order to end; at once when it was given.
    pub async fn ordered_to_stop(&self) -> Stop {
        let mut orders = self.stop.subscribe();
        // The sender lives as long as this pod.
        orders.wait_for(|order| *order != Stop::No).await.map_or(Stop::Lost, |order| *order)
    }

    fn stopping(&self) -> bool {
        *self.stop.borrow() != Stop::No
    }

    /// Runs the pod to its end.
    pub async fn run(self: Arc<Self>) {
        let publisher = tokio::spawn(publish::run(self.clone()));
        let refresher = tokio::spawn(prepare::keep_fresh(self.clone()));
        let is_over = matches!(
            self.state().pod.status.as_ref().and_then(|status| status.phase.as_deref()),
            Some("Succeeded" | "Failed")
        );
        if !is_over {
            self.clone().live().await;
        }
        self.ordered_to_stop().await;
        refresher.abort();
        end::run(&self, publisher).await;
        self.shared.pods.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.uid);
        crate::network::remove(&self.uid).await;
        self.done.send_replace(true);
    }

    /// Everything between taking the pod on and the end of its last container.
    async fn live(self: Arc<Self>) {
        let before =
            self.state().pod.status.as_ref().and_then(|status| status.pod_ip.as_deref()?.parse().ok());
        match self.shared.pod_range.lease(before) {
            Ok(lease) => self.update(|state| state.address = Some(lease)),
            Err(error) => {
                self.shared.events.warning(&self.reference(None), "FailedCreatePodSandBox", error.chain());
                return;
            }
        }
        let volumes = loop {
            let prepared = tokio::select! {
                prepared = prepare::volumes(&self) => prepared,
                _ = self.ordered_to_stop() => return,
            };
            match prepared {
                Ok(volumes) => break Arc::new(volumes),
                Err(error) => {
                    self.shared.events.warning(&self.reference(None), "FailedMount", error.chain());
                    tokio::select! {
                        () = tokio::time::sleep(Duration::from_millis(500)) => {}
                        _ = self.ordered_to_stop() => return,
                    }
                }
            }
        };
        let spec = self.pod().spec.unwrap_or_default();
        if let Some(sidecar) =
            spec.init_containers.iter().flatten().find(|container| container.restart_policy.is_some())
        {
            let what = format!("init container {}: restartPolicy does not work on this node", sidecar.name);
            self.shared.events.warning(&self.reference(None), "FailedCreatePodContainer", what);
            return;
        }
        for container in spec.init_containers.unwrap_or_default() {
            if !container::run(&self, &container, true, &volumes).await {
                return;
            }
        }
        let all: Vec<_> = spec
            .containers
            .into_iter()
            .map(|container| {
                let (pod, volumes): (_, Arc<Vec<VolumePlan>>) = (self.clone(), volumes.clone());
                tokio::spawn(async move { container::run(&pod, &container, false, &volumes).await })
            })
            .collect();
        futures::future::join_all(all).await;
    }
}

/// Versions of one object can be compared since Kubernetes 1.35; every server so far has counted upwards.
fn version(pod: &Pod) -> u64 {
    pod.metadata.resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The state a container is left in while it is not running.
pub(crate) fn waiting(reason: &str, message: Option<String>) -> State {
    State::Waiting { reason: reason.to_owned(), message }
}
