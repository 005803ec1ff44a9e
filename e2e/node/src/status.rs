//! A pod's status from the state of its containers. Pure: times are handed in.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    HostIP, Pod, PodCondition, PodIP, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::restart::Policy;

/// How a run of a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    pub code: i32,
    pub reason: String,
    pub message: Option<String>,
    pub started: Option<Timestamp>,
    pub finished: Timestamp,
    pub container_id: Option<String>,
}

/// Where a container is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    Waiting { reason: String, message: Option<String> },
    Running { since: Timestamp },
    Ended(Ended),
}

impl State {
    pub fn waiting(reason: &str) -> Self {
        Self::Waiting { reason: reason.to_owned(), message: None }
    }
}

/// What is known about one container of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub name: String,
    pub image: String,
    pub state: State,
    pub last: Option<Ended>,
    pub restarts: u32,
    /// Its startup probe has succeeded, or it has none.
    pub started: bool,
    /// Its readiness probe says so, or it has none.
    pub ready: bool,
    pub id: Option<String>,
}

impl Record {
    pub fn new(name: &str, image: &str, reason: &str) -> Self {
        Self {
            name: name.to_owned(),
            image: image.to_owned(),
            state: State::waiting(reason),
            last: None,
            restarts: 0,
            started: false,
            ready: false,
            id: None,
        }
    }

    /// It ended well and will not run again.
    fn succeeded(&self) -> bool {
        matches!(&self.state, State::Ended(end) if end.code == 0)
    }

    fn running(&self) -> bool {
        matches!(self.state, State::Running { .. })
    }
}

/// Everything a pod's status is made of.
#[derive(Debug, Clone)]
pub(crate) struct Facts<'a> {
    pub init: &'a [Record],
    pub main: &'a [Record],
    pub pod_ip: Option<&'a str>,
    pub host_ip: &'a str,
    pub started: Timestamp,
    /// The pod is over for this reason, whatever its containers say: `Evicted`, `DeadlineExceeded`, ….
    pub verdict: Option<(&'a str, &'a str)>,
}

/// The phase, as the kubelet derives it.
fn phase(facts: &Facts, policy: Policy) -> &'static str {
    if facts.verdict.is_some() {
        return "Failed";
    }
    let failed_init = facts
        .init
        .iter()
        .any(|r| matches!(&r.state, State::Ended(end) if end.code != 0 && policy == Policy::Never));
    if failed_init {
        return "Failed";
    }
    if !facts.init.iter().all(Record::succeeded) {
        return "Pending";
    }
    let over = |r: &Record| matches!(&r.state, State::Ended(end) if !policy.restarts(end.code, false));
    if facts.main.iter().all(over) && !facts.main.is_empty() {
        return if facts.main.iter().all(Record::succeeded) { "Succeeded" } else { "Failed" };
    }
    let never_ran = |r: &Record| matches!(r.state, State::Waiting { .. }) && r.last.is_none();
    if facts.main.iter().any(never_ran) { "Pending" } else { "Running" }
}

fn state(state: &State, id: Option<&str>) -> ContainerState {
    match state {
        State::Waiting { reason, message } => ContainerState {
            waiting: Some(ContainerStateWaiting { reason: Some(reason.clone()), message: message.clone() }),
            ..Default::default()
        },
        State::Running { since } => ContainerState {
            running: Some(ContainerStateRunning { started_at: Some(Time(*since)) }),
            ..Default::default()
        },
        State::Ended(end) => ContainerState { terminated: Some(terminated(end, id)), ..Default::default() },
    }
}

fn terminated(end: &Ended, id: Option<&str>) -> ContainerStateTerminated {
    ContainerStateTerminated {
        exit_code: end.code,
        reason: Some(end.reason.clone()),
        message: end.message.clone(),
        started_at: end.started.map(Time),
        finished_at: Some(Time(end.finished)),
        container_id: end.container_id.clone().or_else(|| id.map(str::to_owned)),
        ..Default::default()
    }
}

fn container_status(record: &Record, init: bool) -> ContainerStatus {
    let ready = if init { record.succeeded() } else { record.running() && record.ready };
    ContainerStatus {
        name: record.name.clone(),
        image: record.image.clone(),
        image_id: record.id.as_ref().map(|_| format!("lab://{}", record.image)).unwrap_or_default(),
        container_id: record.id.clone(),
        restart_count: i32::try_from(record.restarts).unwrap_or(i32::MAX),
        ready,
        started: Some(record.started && record.running()),
        state: Some(state(&record.state, record.id.as_deref())),
        last_state: Some(ContainerState {
            terminated: record.last.as_ref().map(|end| terminated(end, None)),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// The status of `pod`. Conditions keep their transition time while they keep their status.
pub(crate) fn build(pod: &Pod, facts: &Facts, now: Timestamp) -> PodStatus {
    let spec = pod.spec.as_ref();
    let policy = Policy::of(spec.and_then(|spec| spec.restart_policy.as_deref()));
    let before = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let phase = phase(facts, policy);
    let over = matches!(phase, "Succeeded" | "Failed");

    let initialized = facts.init.iter().all(Record::succeeded);
    let unready: Vec<&str> =
        facts.main.iter().filter(|r| !(r.running() && r.ready)).map(|r| r.name.as_str()).collect();
    let not_ready = match phase {
        _ if unready.is_empty() => None,
        "Succeeded" => Some(("PodCompleted", String::new())),
        "Failed" => Some(("PodFailed", String::new())),
        _ => Some(("ContainersNotReady", format!("containers with unready status: [{}]", unready.join(" ")))),
    };
    let gates = spec.and_then(|spec| spec.readiness_gates.as_deref()).unwrap_or_default();
    let closed = gates
        .iter()
        .find(|gate| !before.iter().any(|c| c.type_ == gate.condition_type && c.status == "True"));
    let ready = not_ready.clone().or_else(|| {
        closed.map(|gate| {
            let what = format!("condition {:?} is not True", gate.condition_type);
            ("ReadinessGatesNotReady", what)
        })
    });

    let condition = |kind: &str, reason: Option<(&str, String)>| {
        let status = if reason.is_none() { "True" } else { "False" };
        let old = before.iter().find(|c| c.type_ == kind && c.status == status);
        PodCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            last_transition_time: old.and_then(|c| c.last_transition_time.clone()).or(Some(Time(now))),
            reason: reason.as_ref().map(|(reason, _)| (*reason).to_owned()),
            message: reason.map(|(_, message)| message).filter(|message| !message.is_empty()),
            ..Default::default()
        }
    };
    let incomplete: Vec<&str> =
        facts.init.iter().filter(|r| !r.succeeded()).map(|r| r.name.as_str()).collect();
    let sandbox = if facts.pod_ip.is_some() && !over { None } else { Some(("", String::new())) };
    let mut conditions = vec![
        condition("PodReadyToStartContainers", sandbox),
        condition(
            "Initialized",
            (!initialized).then(|| {
                let what = format!("containers with incomplete status: [{}]", incomplete.join(" "));
                ("ContainersNotInitialized", what)
            }),
        ),
        condition("Ready", ready),
        condition("ContainersReady", not_ready),
        condition("PodScheduled", None),
    ];
    for condition in &mut conditions {
        condition.reason = condition.reason.take().filter(|reason| !reason.is_empty());
    }
    // What others wrote (readiness gates, disruption) stays.
    conditions.extend(before.iter().filter(|c| !OURS.contains(&c.type_.as_str())).cloned());

    PodStatus {
        phase: Some(phase.to_owned()),
        reason: facts.verdict.map(|(reason, _)| reason.to_owned()),
        message: facts.verdict.map(|(_, message)| message.to_owned()),
        conditions: Some(conditions),
        host_ip: Some(facts.host_ip.to_owned()),
        host_ips: Some(vec![HostIP { ip: facts.host_ip.to_owned() }]),
        pod_ip: facts.pod_ip.map(str::to_owned),
        pod_ips: facts.pod_ip.map(|ip| vec![PodIP { ip: ip.to_owned() }]),
        start_time: Some(Time(facts.started)),
        qos_class: pod.status.as_ref().and_then(|s| s.qos_class.clone()),
        init_container_statuses: (!facts.init.is_empty())
            .then(|| facts.init.iter().map(|r| container_status(r, true)).collect()),
        container_statuses: Some(facts.main.iter().map(|r| container_status(r, false)).collect()),
        ..Default::default()
    }
}

/// The conditions that the kubelet owns.
const OURS: [&str; 5] =
    ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn time(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn record(state: State) -> Record {
        Record { started: true, ready: true, id: Some("lab://1".into()), ..Record::new("c", "i", "x") }
            .with(state)
    }

    impl Record {
        fn with(mut self, state: State) -> Self {
            self.state = state;
            self
        }
    }

    fn ended(code: i32) -> State {
        State::Ended(Ended {
            code,
            reason: if code == 0 { "Completed" } else { "Error" }.into(),
            message: None,
            started: Some(time(1)),
            finished: time(2),
            container_id: None,
        })
    }

    fn running() -> State {
        State::Running { since: time(1) }
    }

    fn status(policy: &str, init: &[Record], main: &[Record]) -> PodStatus {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p"}, "spec": {"restartPolicy": policy, "containers": []}}))
        .unwrap();
        let facts = Facts {
            init,
            main,
            pod_ip: Some("127.80.0.1"),
            host_ip: "127.0.0.1",
            started: time(0),
            verdict: None,
        };
        build(&pod, &facts, time(10))
    }

    fn is(status: &PodStatus, kind: &str) -> String {
        status.conditions.iter().flatten().find(|c| c.type_ == kind).unwrap().status.clone()
    }

    #[test]
    fn phases() {
        let waiting = || record(State::waiting("PodInitializing"));
        for (policy, init, main, expected) in [
            ("Always", vec![record(running())], vec![waiting()], "Pending"),
            ("Always", vec![record(ended(1))], vec![waiting()], "Pending"),
            ("Never", vec![record(ended(1))], vec![waiting()], "Failed"),
            ("Always", vec![record(ended(0))], vec![waiting()], "Pending"),
            ("Always", vec![record(ended(0))], vec![record(running())], "Running"),
            ("Always", vec![], vec![record(ended(1))], "Running"),
            ("Never", vec![], vec![record(ended(0))], "Succeeded"),
            ("Never", vec![], vec![record(ended(1)), record(ended(0))], "Failed"),
            ("OnFailure", vec![], vec![record(ended(1))], "Running"),
            ("OnFailure", vec![], vec![record(ended(0)), record(running())], "Running"),
        ] {
            assert_eq!(status(policy, &init, &main).phase.unwrap(), expected, "{policy} {init:?} {main:?}");
        }
    }

    #[test]
    fn a_crashed_container_keeps_the_pod_running() {
        let mut crashed = record(State::waiting("CrashLoopBackOff"));
        let State::Ended(end) = ended(137) else { panic!() };
        crashed.last = Some(end);
        crashed.restarts = 3;
        let status = status("Always", &[], &[crashed]);
        assert_eq!(status.phase.as_deref(), Some("Running"));
        assert_eq!(is(&status, "Ready"), "False");
        let container = &status.container_statuses.unwrap()[0];
        assert_eq!(container.restart_count, 3);
        assert!(!container.ready);
        let last = container.last_state.as_ref().unwrap().terminated.as_ref().unwrap();
        assert_eq!((last.exit_code, last.reason.as_deref()), (137, Some("Error")));
        let waiting = container.state.as_ref().unwrap().waiting.as_ref().unwrap();
        assert_eq!(waiting.reason.as_deref(), Some("CrashLoopBackOff"));
    }

    #[test]
    fn conditions_keep_their_time() {
        let main = [record(running())];
        let facts = Facts {
            init: &[],
            main: &main,
            pod_ip: Some("127.80.0.1"),
            host_ip: "127.0.0.1",
            started: time(0),
            verdict: None,
        };
        let mut pod = Pod::default();
        pod.status = Some(build(&pod, &facts, time(10)));
        let later = build(&pod, &facts, time(20));
        assert_eq!(is(&later, "Ready"), "True");
        assert_eq!(later, pod.status.unwrap());
    }

    #[test]
    fn gates_hold_readiness_back() {
        let pod: Pod = serde_json::from_value(json!({
            "spec": {"containers": [], "readinessGates": [{"conditionType": "x/y"}]},
            "status": {"conditions": [{"type": "other", "status": "True"}]}}))
        .unwrap();
        let main = [record(running())];
        let facts = Facts {
            init: &[],
            main: &main,
            pod_ip: Some("127.80.0.1"),
            host_ip: "127.0.0.1",
            started: time(0),
            verdict: None,
        };
        let status = build(&pod, &facts, time(1));
        assert_eq!(
            (is(&status, "Ready").as_str(), is(&status, "ContainersReady").as_str()),
            ("False", "True")
        );
        assert_eq!(is(&status, "other"), "True");
    }
}
