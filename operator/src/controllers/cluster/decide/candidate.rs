//! Which instances could become the primary, the best one first, and why the others could not. Pure.

use std::cmp::Reverse;

use howdah_api::instance::InstanceRole;

use super::scene::{Scene, with_detail};
use crate::controllers::cluster::observed::Instance;
use crate::controllers::cluster::trouble;
use crate::lsn;

/// An instance that could become the primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    /// Its name.
    pub name: String,
    /// How far its WAL goes, as text.
    pub lsn: String,
    /// Whether it streams from the primary.
    pub streaming: bool,
    /// Its node is known, well, and takes pods.
    pub on_good_node: bool,
    /// It is no replica, but a primary that was stopped and has followed nobody since.
    pub former_primary: bool,
    serial: i32,
    received: u64,
    replayed: u64,
    on_bad_node: bool,
    timeline: u32,
}

/// All instances but those that are not in question.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Field {
    /// Those that could, the best one first.
    pub fit: Vec<Candidate>,
    /// The others, and why not.
    pub unfit: Vec<(String, String)>,
}

/// Looks at every instance but `except`.
pub(super) fn field(scene: &Scene<'_>, except: &str) -> Field {
    let mut field = Field::default();
    for instance in scene.instances {
        let name = scene.name(instance);
        if name == except {
            continue;
        }
        match judge(scene, instance, name.clone()) {
            Ok(candidate) => field.fit.push(candidate),
            Err(why) => field.unfit.push((name, why)),
        }
    }
    let newest = field.fit.iter().map(|c| c.timeline).max().unwrap_or(0);
    let (fit, late) = field.fit.into_iter().partition(|c| c.timeline == newest);
    field.fit = fit;
    for candidate in late {
        let why = format!("is on timeline {}, others are on {newest}", candidate.timeline);
        field.unfit.push((candidate.name, why));
    }
    field
        .fit
        .sort_by_key(|c| (Reverse((c.received, c.former_primary, c.replayed, !c.on_bad_node)), c.serial));
    field.unfit.sort();
    field
}

fn judge(scene: &Scene<'_>, instance: &Instance<'_>, name: String) -> Result<Candidate, String> {
    if scene.fenced(&name) {
        return Err("is fenced".to_owned());
    }
    if !scene.whole(instance) {
        return Err("has lost a volume".to_owned());
    }
    let pod = instance.pod.ok_or("has no pod")?;
    if instance.terminating() {
        return Err("is being deleted".to_owned());
    }
    let Some(report) = instance.report else {
        let why = trouble::of(pod).map_or_else(|| scene.says(&name), |t| t.message);
        return Err(with_detail("does not answer".to_owned(), &why));
    };
    if let Some(fatal) = &report.fatal {
        return Err(format!("needs a person: {fatal}"));
    }
    let known = scene.status.timeline_id;
    let former_primary =
        report.former_primary && !report.server_running && known.is_some() && report.timeline_id == known;
    if !former_primary {
        if report.recovering || report.role != Some(InstanceRole::Replica) {
            return Err(with_detail("is no running replica".to_owned(), &report.message));
        }
        if !instance.ready() {
            return Err(with_detail("is not ready".to_owned(), &report.message));
        }
    }
    let timeline = report.timeline_id.ok_or("does not say on which timeline it is")?;
    if let Some(known) = known.filter(|known| timeline < *known) {
        return Err(format!("is on timeline {timeline}, the primary was on {known}"));
    }
    let position = |text: &Option<String>| text.as_deref().and_then(lsn::parse);
    let received = position(&report.received_lsn).ok_or("does not say how far its WAL goes")?;
    let node = scene.node(instance).map(|(_, node)| node.ready && !node.unschedulable);
    Ok(Candidate {
        name,
        lsn: report.received_lsn.clone().unwrap_or_default(),
        streaming: report.streaming,
        on_good_node: node == Some(true),
        former_primary,
        serial: instance.serial,
        received,
        replayed: position(&report.replayed_lsn).unwrap_or(0),
        on_bad_node: node == Some(false),
        timeline,
    })
}

impl Field {
    /// Each instance that could not become the primary, and why.
    pub(super) fn why_not(&self) -> String {
        if self.unfit.is_empty() {
            return "there is no other instance".to_owned();
        }
        self.unfit.iter().map(|(name, why)| format!("{name} {why}")).collect::<Vec<_>>().join("; ")
    }

    /// How far the other candidates are behind `best`; empty when there are none.
    pub(super) fn behind(&self, best: &Candidate) -> String {
        let others = self.fit.iter().filter(|c| c.name != best.name);
        others
            .map(|c| format!("; {} is {} bytes behind", c.name, best.received.saturating_sub(c.received)))
            .collect()
    }
}
