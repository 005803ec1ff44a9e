//! One container of a pod: started, watched, stopped, and started again as its policy says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Lifecycle};
use nix::sys::signal::Signal;
use tokio_util::sync::CancellationToken;

use super::probing::{self, Finding};
use super::{Live, PodRuntime, Stop, exec, farewell, prepare, waiting};
use crate::env;
use crate::error::Error;
use crate::images::Image;
use crate::logs::{self, Log};
use crate::restart::History;
use crate::sandbox::{Exit, Mount, Plan, Sandbox};
use crate::status::{Ended, State};
use crate::volumes::{self, Source, VolumePlan};

/// How long a container that cannot be made is left alone before the next try.
const CONFIG_RETRY: Duration = Duration::from_secs(1);

/// Runs a container until it is over for good. True when it ended well.
pub(super) async fn run(
    pod: &Arc<PodRuntime>,
    container: &Container,
    init: bool,
    volumes: &[VolumePlan],
) -> bool {
    let mut history = History::default();
    let mut pulls = 0u32;
    loop {
        if pod.stopping() {
            return false;
        }
        let Some(image) = pull(pod, container, &mut pulls).await else { continue };
        let planned = tokio::select! {
            planned = plan(pod, container, &image, volumes) => planned,
            _ = pod.ordered_to_stop() => return false,
        };
        let plan = match planned {
            Ok(plan) => plan,
            Err(error) => {
                let text = error.chain();
                pod.shared.events.warning(
                    &pod.reference(Some(&container.name)),
                    "Failed",
                    format!("Error: {text}"),
                );
                pod.record(&container.name, |record| {
                    record.state = waiting("CreateContainerConfigError", Some(text));
                });
                sleep_unless_stopped(pod, CONFIG_RETRY).await;
                continue;
            }
        };
        let began = Instant::now();
        let end = one_run(pod, container, plan).await;
        let code = end.code;
        pod.record(&container.name, |record| {
            record.state = State::Ended(end);
            record.started = false;
            record.ready = false;
        });
        if pod.stopping() || !pod.policy().restarts(code, init) {
            return code == 0;
        }
        let wait = history.next_wait(&pod.shared.backoff, began.elapsed());
        if !wait.is_zero() {
            let text = format!(
                "back-off {}s restarting failed container={} pod={}_{}({})",
                wait.as_secs(),
                container.name,
                pod.name,
                pod.namespace,
                pod.uid
            );
            pod.shared.events.warning(
                &pod.reference(Some(&container.name)),
                "BackOff",
                format!("Back-off restarting failed container {} in pod {}", container.name, pod.name),
            );
            pod.record(&container.name, |record| {
                keep_last(record);
                record.state = waiting("CrashLoopBackOff", Some(text));
            });
            sleep_unless_stopped(pod, wait).await;
        }
    }
}

/// What just ended becomes what ended last.
fn keep_last(record: &mut crate::status::Record) {
    if let State::Ended(end) = &record.state {
        let mut end = end.clone();
        end.container_id = end.container_id.or_else(|| record.id.clone());
        record.last = Some(end);
    }
}

async fn sleep_unless_stopped(pod: &PodRuntime, wait: Duration) {
    tokio::select! {
        () = tokio::time::sleep(wait) => {}
        _ = pod.ordered_to_stop() => {}
    }
}

/// The container's image; when there is none, says so, waits, and returns nothing.
async fn pull(pod: &Arc<PodRuntime>, container: &Container, pulls: &mut u32) -> Option<Image> {
    let reference = container.image.clone().unwrap_or_default();
    let found = pod.shared.images.read().unwrap_or_else(PoisonError::into_inner).find(&reference).cloned();
    let about = pod.reference(Some(&container.name));
    if let Some(image) = found {
        *pulls = 0;
        return Some(image);
    }
    *pulls += 1;
    let text = format!(
        "failed to pull and unpack image {reference:?}: not in the node's image catalogue: not found"
    );
    pod.shared.events.warning(&about, "Failed", format!("Failed to pull image {reference:?}: {text}"));
    pod.record(&container.name, |record| record.state = waiting("ErrImagePull", Some(text)));
    sleep_unless_stopped(pod, Duration::from_millis(500)).await;
    let wait = pod.shared.backoff.initial.saturating_mul(*pulls).min(pod.shared.backoff.max);
    pod.shared.events.normal(&about, "BackOff", format!("Back-off pulling image {reference:?}"));
    pod.record(&container.name, |record| {
        record.state = waiting("ImagePullBackOff", Some(format!("Back-off pulling image {reference:?}")));
    });
    sleep_unless_stopped(pod, wait).await;
    None
}

/// Everything that makes the container, or what is missing for it.
async fn plan(
    pod: &PodRuntime,
    container: &Container,
    image: &Image,
    plans: &[VolumePlan],
) -> Result<Plan, Error> {
    let object = pod.pod();
    let spec = object.spec.clone().unwrap_or_default();
    let objects = prepare::objects(pod, &volumes::references(&object, plans)).await?;
    let facts = prepare::facts(pod);

    let mut base: BTreeMap<String, String> = BTreeMap::new();
    base.insert("PATH".into(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into());
    base.insert("HOME".into(), "/".into());
    base.extend(image.env.clone());
    let hostname = crate::shared::hostname(&object);
    base.insert("HOSTNAME".into(), hostname.clone());
    let api = &pod.shared.api_server;
    base.insert("KUBERNETES_SERVICE_HOST".into(), api.host.clone());
    for name in ["KUBERNETES_SERVICE_PORT", "KUBERNETES_SERVICE_PORT_HTTPS"] {
        base.insert(name.into(), api.port.to_string());
    }
    let env = env::environment(&object, container, &base, &facts, &objects)?;
    let argv = env::command_line(container, &image.entrypoint, &image.cmd, &env)?;

    let (own, shared) = (container.security_context.as_ref(), spec.security_context.as_ref());
    let id = |own: Option<i64>, shared: Option<i64>, default: u32| {
        own.or(shared).and_then(|id| u32::try_from(id).ok()).unwrap_or(default)
    };
    let user = id(own.and_then(|c| c.run_as_user), shared.and_then(|c| c.run_as_user), image.user);
    let group = id(own.and_then(|c| c.run_as_group), shared.and_then(|c| c.run_as_group), image.group);
    let non_root =
        own.and_then(|c| c.run_as_non_root).or(shared.and_then(|c| c.run_as_non_root)).unwrap_or(false);
    if non_root && user == 0 {
        return Err(Error::pod(format!(
            "container has runAsNonRoot and image will run as root (pod: {}_{}, container: {})",
            pod.name, pod.namespace, container.name
        )));
    }
    let working_dir = container
        .working_dir
        .as_ref()
        .filter(|dir| !dir.is_empty())
        .map(PathBuf::from)
        .or_else(|| image.working_dir.clone())
        .unwrap_or_else(|| PathBuf::from("/"));
    Ok(Plan {
        image: image.clone(),
        mounts: mounts(pod, container, plans, &env).await?,
        user,
        group,
        hostname,
        working_dir,
        read_only_root: own.and_then(|c| c.read_only_root_filesystem).unwrap_or(false),
        argv,
        env,
        memory: memory_limit(pod, container)?,
        network: crate::network::entrance(&pod.uid),
    })
}

/// The limit to enforce, if this node enforces any.
fn memory_limit(pod: &PodRuntime, container: &Container) -> Result<Option<u64>, Error> {
    let limits = container.resources.as_ref().and_then(|resources| resources.limits.as_ref());
    let Some(limit) = limits.and_then(|limits| limits.get("memory")).filter(|_| pod.shared.memory_limits)
    else {
        return Ok(None);
    };
    let bytes = crate::quantity::units(&limit.0);
    let what = || Error::pod(format!("container {}: {} is no quantity", container.name, limit.0));
    bytes.map(Some).ok_or_else(what)
}

async fn mounts(
    pod: &PodRuntime,
    container: &Container,
    plans: &[VolumePlan],
    env: &BTreeMap<String, String>,
) -> Result<Vec<Mount>, Error> {
    let dir = pod.shared.pod_dir(&pod.uid);
    let mut mounts: Vec<Mount> = ["hosts", "resolv.conf", "hostname"]
        .iter()
        .map(|name| Mount {
            source: dir.join("etc").join(name),
            target: Path::new("/etc").join(name),
            read_only: false,
        })
        .collect();
    mounts.push(farewell::prepare(&dir, container)?);
    for wanted in volumes::mounts_of(container, plans, env)? {
        let Some(plan) = plans.iter().find(|plan| plan.name == wanted.volume) else { continue };
        let mut source = match &plan.source {
            Source::Host { path } => path.clone(),
            Source::Claim { name } => prepare::claim_directory(pod, name).await?,
            Source::Empty { .. } | Source::Files => dir.join("volumes").join(&plan.name),
        };
        if let Some(sub) = &wanted.sub_path {
            source.push(sub);
            if !source.exists() {
                crate::volumes::store::directory(&source)?;
            }
            source = source.canonicalize().map_err(Error::file("resolve", source.clone()))?;
        }
        mounts.push(Mount { source, target: wanted.target, read_only: wanted.read_only });
    }
    Ok(mounts)
}

fn ended(code: i32, reason: &str, message: Option<String>, started: Option<Timestamp>) -> Ended {
    Ended {
        code,
        reason: reason.to_owned(),
        message,
        started,
        finished: Timestamp::now(),
        container_id: None,
    }
}

/// Starts the container and sees it to its end.
async fn one_run(pod: &Arc<PodRuntime>, container: &Container, plan: Plan) -> Ended {
    let about = pod.reference(Some(&container.name));
    let events = &pod.shared.events;
    let image = container.image.clone().unwrap_or_default();
    events.normal(&about, "Pulled", format!("Container image {image:?} already present on machine"));
    let id = format!("lab://{}", uuid::Uuid::new_v4().simple());
    let run = pod.record(&container.name, |record| {
        keep_last(record);
        if record.id.is_some() {
            record.restarts += 1;
        }
        record.id = Some(id.clone());
        record.started = false;
        record.ready = false;
        record.restarts
    });
    let path = logs::path(&pod.shared.pod_dir(&pod.uid), &container.name, run.unwrap_or(0));
    let failed = |error: &Error| {
        let text = error.chain();
        events.warning(&about, "Failed", format!("Error: {text}"));
        ended(128, "StartError", Some(text), None)
    };
    let log = match Log::create(&path).await {
        Ok(log) => log,
        Err(error) => return failed(&error),
    };
    events.normal(&about, "Created", format!("Created container: {}", container.name));
    let (mut sandbox, stdout, stderr) = match Sandbox::start(&pod.shared.spawner, &plan).await {
        Ok(started) => started,
        Err(error) => {
            log.end();
            return failed(&error);
        }
    };
    let since = Timestamp::now();
    events.normal(&about, "Started", format!("Started container {}", container.name));
    pod.update(|state| {
        state.live.insert(container.name.clone(), Live { pid: sandbox.pid, log: log.clone() });
    });
    pod.record(&container.name, |record| record.state = State::Running { since });
    let copying = {
        let log = log.clone();
        tokio::spawn(async move {
            tokio::join!(log.copy("stdout", stdout), log.copy("stderr", stderr));
            log.end();
        })
    };

    let token = CancellationToken::new();
    let env = Arc::new(plan.env);
    let mut findings = probing::start(pod, container, sandbox.pid, &env, &token);
    let hooks = Hooks { pod, container, env: &env };
    hooks.after_start(sandbox.pid).await;
    let exit = loop {
        tokio::select! {
            biased;
            exit = sandbox.wait() => break exit,
            order = pod.ordered_to_stop() => {
                token.cancel();
                break hooks.stop(&mut sandbox, order).await;
            }
            Some(finding) = findings.recv() => match finding {
                Finding::Started => { pod.record(&container.name, |record| record.started = true); }
                Finding::Ready(ready) => { pod.record(&container.name, |record| record.ready = ready); }
                Finding::Kill { why, grace } => {
                    events.normal(&about, "Killing", why);
                    token.cancel();
                    break hooks.stop(&mut sandbox, Stop::Graceful(grace.unwrap_or_else(|| hooks.grace()))).await;
                }
            },
        }
    };
    token.cancel();
    pod.update(|state| {
        state.live.remove(&container.name);
    });
    // The pipes are held by the container's processes alone, and those are gone.
    if tokio::time::timeout(Duration::from_secs(5), copying).await.is_err() {
        tracing::warn!(
            pod = pod.name,
            container = container.name,
            "a container's output did not end with it"
        );
        log.end();
    }
    let last_words = |code| farewell::message(&pod.shared.pod_dir(&pod.uid), container, code, &path);
    match exit {
        Exit::Code(0) => ended(0, "Completed", last_words(0), Some(since)),
        Exit::Code(code) if sandbox.ran_out_of_memory() => {
            ended(code, "OOMKilled", last_words(code), Some(since))
        }
        Exit::Code(code) => ended(code, "Error", last_words(code), Some(since)),
        Exit::NeverRan(_) => {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let why = text.lines().last().and_then(|line| line.splitn(3, ' ').nth(2)).unwrap_or_default();
            let text = format!("failed to start container: {why}");
            events.warning(&about, "Failed", format!("Error: {text}"));
            ended(128, "StartError", Some(text), Some(since))
        }
    }
}

/// What happens around a container's life.
struct Hooks<'a> {
    pod: &'a Arc<PodRuntime>,
    container: &'a Container,
    env: &'a BTreeMap<String, String>,
}

impl Hooks<'_> {
    fn lifecycle(&self) -> Option<&Lifecycle> {
        self.container.lifecycle.as_ref()
    }

    fn grace(&self) -> Duration {
        let seconds = self.pod.state().pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds);
        Duration::from_secs(seconds.and_then(|s| u64::try_from(s).ok()).unwrap_or(30))
    }

    async fn after_start(&self, pid: i32) {
        let command = self.lifecycle().and_then(|l| l.post_start.as_ref()?.exec.as_ref()?.command.clone());
        if let Some(argv) = command {
            self.hook(pid, &argv, Duration::from_secs(30), "FailedPostStartHook").await;
        }
    }

    async fn hook(&self, pid: i32, argv: &[String], timeout: Duration, reason: &'static str) {
        if let Err(why) = exec::run(&self.pod.shared.spawner, pid, argv, self.env, timeout).await {
            self.pod.shared.events.warning(&self.pod.reference(Some(&self.container.name)), reason, why);
        }
    }

    /// Ends a running container as ordered. A stricter order meanwhile takes over.
    async fn stop(&self, sandbox: &mut Sandbox, order: Stop) -> Exit {
        if let Stop::Graceful(grace) = order {
            let about = self.pod.reference(Some(&self.container.name));
            let text = format!("Stopping container {}", self.container.name);
            self.pod.shared.events.normal(&about, "Killing", text);
            let deadline = Instant::now() + grace;
            let hook = self.lifecycle().and_then(|l| l.pre_stop.as_ref()?.exec.as_ref()?.command.clone());
            let pid = sandbox.pid;
            if let Some(argv) = hook {
                tokio::select! {
                    exit = sandbox.wait() => return exit,
                    () = self.hook(pid, &argv, grace, "FailedPreStopHook") => {}
                }
            }
            sandbox.signal(Signal::SIGTERM);
            // A hook that took all the time leaves a little, as kubelets do.
            let left = deadline.saturating_duration_since(Instant::now()).max(if grace.is_zero() {
                Duration::ZERO
            } else {
                Duration::from_secs(2).min(grace)
            });
            let mut orders = self.pod.stop.subscribe();
            tokio::select! {
                exit = sandbox.wait() => return exit,
                () = tokio::time::sleep(left) => {}
                _ = orders.wait_for(|order| *order > Stop::Graceful(Duration::MAX)) => {}
            }
        }
        sandbox.signal(Signal::SIGKILL);
        sandbox.wait().await
    }
}
