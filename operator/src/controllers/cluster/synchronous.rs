//! Synchronous replication: which replicas the primary shall wait for, and whether they confirm its commits. Pure.
//!
//! What the primary shall set as `synchronous_standby_names` is written into the status; the primary takes it from there
//! and reports what it has set. With `dataDurability: required`:
//!
//! - All other instances with data are named, ready or not, so that any of them may confirm. Left out are those whose
//!   volumes are missing or being deleted, since what they confirm is not kept, and those whose volumes are being filled:
//!   they cannot confirm anything yet, and a failover would have to wait for their answer. While nobody else is left, the
//!   former names stay.
//! - One that is to be removed is taken out before ([`keeps`]), once enough others stream: its pod goes when the primary waits
//!   for others and these have all that it has confirmed.
//! - The number only grows, up to the one that is asked for. While the cluster is being built it is how many replicas
//!   stream: PostgreSQL would wait for ever for more than there are. What was reached once stays, whichever instances
//!   fail afterwards: the number in the text of the status is the memory of that.
//!
//! Otherwise (`preferred`, or `minSyncReplicas` and `maxSyncReplicas`) the replicas that stream are named, and the number is
//! how many they are, at most the one that is asked for. The fewest that `minSyncReplicas` wants cannot be had from fewer
//! replicas, so it changes nothing here; the condition tells.
//!
//! The value changes only while the primary itself says that it is one. Its replicas stop streaming when it dies, and
//! taking them off the list then would forget who has the last commits, just when a new primary is chosen by that.

use std::collections::BTreeSet;
use std::fmt;

use howdah_api::availability::SynchronousMethod;
use howdah_api::cluster::Synchronous;
use howdah_api::conditions::{self, FALSE, SYNCHRONOUS_REPLICATION, TRUE};
use howdah_api::instance::{InstanceRole, InstanceStatus};
use howdah_api::{ClusterSpec, ClusterStatus, naming};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::decide::surplus::surplus;
use super::observed::{Instance, Observed};

/// A value of `synchronous_standby_names` in the one form that we write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standbys {
    /// Any of them, or the first.
    pub method: SynchronousMethod,
    /// How many of them a commit waits for.
    pub number: usize,
    /// Names of instances, by serial.
    pub names: Vec<String>,
}

impl fmt::Display for Standbys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let method = match self.method {
            SynchronousMethod::Any => "ANY",
            SynchronousMethod::First => "FIRST",
        };
        let names: Vec<String> = self.names.iter().map(|name| format!("\"{name}\"")).collect();
        write!(f, "{method} {} ({})", self.number, names.join(","))
    }
}

impl Standbys {
    /// Reads `ANY n ("a","b")` or `FIRST n ("a","b")`, also as a person writes it; `None` for an empty text, which is
    /// asynchronous replication.
    ///
    /// # Errors
    /// Says what is not understood.
    pub fn read(text: &str) -> Result<Option<Self>, String> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(None);
        }
        let wrong = || format!("synchronous_standby_names is not understood: {text}");
        let (method, rest) = text.split_once(' ').ok_or_else(wrong)?;
        let method = if method.eq_ignore_ascii_case("ANY") {
            SynchronousMethod::Any
        } else if method.eq_ignore_ascii_case("FIRST") {
            SynchronousMethod::First
        } else {
            return Err(wrong());
        };
        let (number, list) = rest.trim_start().split_once('(').ok_or_else(wrong)?;
        let number: usize = number.trim().parse().map_err(|_| wrong())?;
        let list = list.trim_end().strip_suffix(')').ok_or_else(wrong)?;
        let mut names: Vec<String> = Vec::new();
        for name in list.split(',') {
            let name = name.trim();
            let name = name.strip_prefix('"').and_then(|n| n.strip_suffix('"')).unwrap_or(name);
            if name.is_empty() || name == "*" || name.contains('"') {
                return Err(wrong());
            }
            if !names.iter().any(|n| n == name) {
                names.push(name.to_owned());
            }
        }
        if number == 0 {
            return Err(wrong());
        }
        Ok(Some(Self { method, number, names }))
    }

    /// As [`Standbys::read`]; `None` also for what is not understood.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::read(text).ok().flatten()
    }
}

/// The text that the primary `primary` of `cluster` shall set, empty for asynchronous replication; `before` is the one that
/// it was told last, `leaving` the serial of one that is to be removed.
#[must_use]
pub fn standby_names(
    spec: &ClusterSpec,
    cluster: &str,
    instances: &[Instance<'_>],
    primary: &str,
    before: &str,
    leaving: Option<i32>,
) -> String {
    let Some(asked) = spec.synchronous() else { return String::new() };
    let with_wal = spec.wal_storage.is_some();
    let name = |instance: &&Instance<'_>| naming::instance(cluster, instance.serial);
    let others: Vec<&Instance<'_>> =
        instances.iter().filter(|i| name(i) != primary && i.has_volumes(with_wal) && has_data(i)).collect();
    let streaming: Vec<&Instance<'_>> = others.iter().copied().filter(|i| streams(i)).collect();
    let wanted = usize::try_from(asked.maximum).unwrap_or(0);
    let (number, chosen) = if asked.waits {
        let reached = Standbys::parse(before).map_or(0, |standbys| standbys.number);
        let number = streaming.len().max(reached).min(wanted);
        let remains = |i: &&Instance<'_>| leaving != Some(i.serial);
        // Without it commits would wait: it confirms until enough others can.
        let enough = streaming.iter().copied().filter(remains).count() >= number;
        (number, if enough { others.into_iter().filter(remains).collect() } else { others })
    } else {
        (streaming.len().min(wanted), streaming)
    };
    if number == 0 {
        return String::new();
    }
    let mut names: Vec<String> = chosen.iter().map(name).collect();
    if names.is_empty() {
        // The number was reached before, so there are former names. None of them will answer, and commits wait.
        names = Standbys::parse(before).map(|standbys| standbys.names).unwrap_or_default();
    }
    Standbys { method: asked.method, number, names }.to_string()
}

/// Whether its volume was filled; what streams may be marked a moment later.
fn has_data(instance: &Instance<'_>) -> bool {
    instance.volume_ready() || streams(instance)
}

/// Whether it is a replica that receives WAL as it is written.
fn streams(instance: &Instance<'_>) -> bool {
    instance.ready()
        && instance.report.is_some_and(|r| r.role == Some(InstanceRole::Replica) && r.streaming && !r.fenced)
}

/// What the current primary says; `None` while it does not answer as one.
pub(super) fn primary_report<'a>(
    observed: &'a Observed,
    status: &ClusterStatus,
) -> Option<&'a InstanceStatus> {
    let report = observed.reports.get(status.current_primary.as_ref()?)?.as_ref().ok()?;
    (report.role == Some(InstanceRole::Primary)).then_some(report)
}

/// Folds what the primary has set and what it shall set into `status`, whose primaries are those of now.
pub fn fold(cluster: &str, observed: &Observed, instances: &[Instance<'_>], status: &mut ClusterStatus) {
    let Some(report) = primary_report(observed, status) else { return };
    if report.synchronous_standby_names.is_some() {
        status.synchronous_standby_names_in_effect.clone_from(&report.synchronous_standby_names);
    }
    // A primary that is on its way out keeps its value to the end.
    if status.target_primary != status.current_primary {
        return;
    }
    let spec = &observed.cluster.spec;
    let told = status.synchronous_standby_names.as_ref();
    let before = told.or(status.synchronous_standby_names_in_effect.as_ref()).cloned().unwrap_or_default();
    let primary = status.current_primary.clone().unwrap_or_default();
    let leaving =
        naming::serial_of(cluster, &primary).and_then(|serial| surplus(observed, instances, serial));
    let names = standby_names(spec, cluster, instances, &primary, &before, leaving);
    status.synchronous_standby_names = spec.synchronous().is_some().then_some(names);
}

/// Why the replica `name` cannot be removed yet, in words; `None` when no commit waits for it. Where commits wait for replicas
/// (`required`) and it were gone at once, the primary would wait for one that never answers; and what it alone has confirmed
/// would be on the primary only.
#[must_use]
pub fn keeps(observed: &Observed, name: &str) -> Option<String> {
    observed.cluster.spec.synchronous().filter(|asked| asked.waits)?;
    let status = observed.status();
    let Some(report) = primary_report(observed, &status) else {
        return Some(format!("{name} is removed when the primary answers and no commit waits for it"));
    };
    let set = report.synchronous_standby_names.as_deref().and_then(Standbys::parse)?;
    if set.names.iter().any(|named| named == name) {
        return Some(format!(
            "{name} is removed when the primary has taken it out of synchronous_standby_names, which it does when {} of the \
             other replicas stream",
            set.number
        ));
    }
    let position = |name: &str| {
        let replica = report.replicas.iter().find(|r| r.name == name && r.state == "streaming")?;
        replica.flush_lsn.as_deref().and_then(crate::lsn::parse)
    };
    let confirmed = position(name).unwrap_or(0);
    let have = set.names.iter().filter(|named| position(named).is_some_and(|at| at >= confirmed)).count();
    (have < set.number).then(|| {
        format!(
            "{name} is removed when {} of {} have what it has confirmed",
            set.number,
            set.names.join(", ")
        )
    })
}

/// Whether the primary has set what it was told.
#[must_use]
pub fn at_rest(status: &ClusterStatus) -> bool {
    let told = status.synchronous_standby_names.as_deref().unwrap_or_default();
    told == status.synchronous_standby_names_in_effect.as_deref().unwrap_or_default()
}

/// Who confirms commits, by the primary's report.
struct Confirmation<'a> {
    /// How many the primary waits for.
    needed: usize,
    /// Replicas that confirm.
    replicas: BTreeSet<&'a str>,
}

impl<'a> Confirmation<'a> {
    fn of(report: &'a InstanceStatus) -> Self {
        let set = report.synchronous_standby_names.as_deref().and_then(Standbys::parse);
        let confirms = |state: &str| matches!(state, "sync" | "quorum");
        let replicas = report
            .replicas
            .iter()
            .filter(|r| r.state == "streaming" && confirms(&r.sync_state))
            .map(|r| r.name.as_str());
        Self { needed: set.map_or(0, |standbys| standbys.number), replicas: replicas.collect() }
    }

    /// How many replicas have each commit that is acknowledged.
    fn count(&self) -> usize {
        self.needed.min(self.replicas.len())
    }
}

/// Numbers for the metrics: replicas that have each acknowledged commit, and how many were asked for. `None` with
/// asynchronous replication, and while the primary says nothing.
#[must_use]
pub fn counts(observed: &Observed, status: &ClusterStatus) -> Option<(i64, i64)> {
    let asked = observed.cluster.spec.synchronous()?;
    let confirmation = Confirmation::of(primary_report(observed, status)?);
    Some((i64::try_from(confirmation.count()).unwrap_or(i64::MAX), i64::from(asked.maximum)))
}

/// Sets the condition. While the primary says nothing, the last verdict stays.
pub fn tell(
    cluster: &str,
    observed: &Observed,
    instances: &[Instance<'_>],
    now: Timestamp,
    status: &mut ClusterStatus,
) {
    let Some(asked) = observed.cluster.spec.synchronous() else {
        status.conditions.retain(|condition| condition.type_ != SYNCHRONOUS_REPLICATION);
        return;
    };
    let Some(report) = primary_report(observed, status) else { return };
    let confirmation = Confirmation::of(report);
    let missing = missing(cluster, instances, status, &confirmation, &asked);
    let (value, reason, message) = verdict(&asked, &confirmation, &missing);
    let generation = observed.cluster.metadata.generation;
    let now = Time(crate::clock::to_seconds(now));
    let list = &mut status.conditions;
    conditions::set(list, SYNCHRONOUS_REPLICATION, value, reason, &message, generation, now);
}

fn verdict(
    asked: &Synchronous,
    confirmation: &Confirmation<'_>,
    missing: &str,
) -> (&'static str, &'static str, String) {
    let (count, needed) = (confirmation.count(), confirmation.needed);
    let wanted = asked.maximum;
    let number = i32::try_from(count).unwrap_or(i32::MAX);
    let names = confirmation.replicas.iter().copied().collect::<Vec<_>>().join(", ");
    if number >= wanted {
        return (TRUE, "Synchronous", format!("each commit is confirmed by {count} of {names}"));
    }
    if asked.waits && count < needed {
        return (
            FALSE,
            "CommitsWait",
            format!(
                "commits wait: {count} of {needed} replicas that each of them needs confirm them ({missing}); bring those back, or give a smaller postgresql.synchronous.number or dataDurability: preferred"
            ),
        );
    }
    let more = match asked {
        Synchronous { waits: true, .. } => {
            "; commits do not wait for more until so many have joined".to_owned()
        }
        Synchronous { minimum, .. } if number < *minimum => {
            format!("; that is less than minSyncReplicas ({minimum})")
        }
        _ => String::new(),
    };
    (
        FALSE,
        "Degraded",
        format!("commits are confirmed by {count} of {wanted} wanted replicas ({missing}){more}"),
    )
}

/// Who does not confirm, and why, in words.
fn missing(
    cluster: &str,
    instances: &[Instance<'_>],
    status: &ClusterStatus,
    confirmation: &Confirmation<'_>,
    asked: &Synchronous,
) -> String {
    let others: Vec<(String, &Instance<'_>)> = instances
        .iter()
        .map(|i| (naming::instance(cluster, i.serial), i))
        .filter(|(name, _)| status.current_primary.as_ref() != Some(name))
        .collect();
    let mut missing: Vec<String> = others
        .iter()
        .filter(|(name, _)| !confirmation.replicas.contains(name.as_str()))
        .map(|(name, instance)| format!("{name} {}", why(instance)))
        .collect();
    let in_effect = status.synchronous_standby_names_in_effect.as_deref().and_then(Standbys::parse);
    for name in in_effect.into_iter().flat_map(|standbys| standbys.names) {
        if status.current_primary.as_ref() != Some(&name) && !others.iter().any(|(other, _)| *other == name) {
            missing.push(format!("{name} does not exist any more"));
        }
    }
    if others.len() < usize::try_from(asked.maximum).unwrap_or(0) {
        missing.push(match others.len() {
            0 => "there is no replica".to_owned(),
            1 => "there is only one replica".to_owned(),
            n => format!("there are only {n} replicas"),
        });
    }
    if missing.is_empty() {
        missing.push("the primary has not taken up its setting yet".to_owned());
    }
    missing.join(", ")
}

fn why(instance: &Instance<'_>) -> &'static str {
    match instance.report {
        _ if instance.terminating() => "is ending",
        Some(report) if report.fenced => "is fenced",
        _ if !instance.ready() => "is not ready",
        Some(report) if !report.streaming => "does not stream from the primary",
        _ => "does not confirm yet",
    }
}
