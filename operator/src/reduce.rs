//! What watches keep of the objects that they bring: what somebody asks for, and nothing else. Each of the many Backups and
//! pods takes its room for as long as it exists.

use howdah_api::{Backup, BackupStatus, naming};
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodSpec, PodStatus};
use kube::Resource;
use kube::core::DeserializeGuard;

/// Leaves out who wrote what, and what kubectl remembers.
pub fn meta<K: Resource>(object: &mut K) {
    object.meta_mut().managed_fields = None;
    if let Some(annotations) = object.meta_mut().annotations.as_mut() {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
}

/// The same for what may be unreadable.
pub fn object<K: Resource>(object: &mut DeserializeGuard<K>) {
    meta(object);
}

/// A Backup as it is asked for once it has ended: which cluster, how it ended, when and where.
pub fn backup(object: &mut DeserializeGuard<Backup>) {
    meta(object);
    object.meta_mut().annotations = None;
    if let Ok(Backup { status: Some(status), .. }) = &mut object.0 {
        let known = std::mem::take(status);
        *status = BackupStatus {
            phase: known.phase,
            stopped_at: known.stopped_at,
            error: known.error,
            instance_id: known.instance_id,
            ..BackupStatus::default()
        };
    }
}

/// A pod as the decisions about its cluster look at it: its node and its state, and of what it was made from the image of
/// its instance manager.
pub fn pod(pod: &mut Pod) {
    meta(pod);
    if let Some(spec) = &mut pod.spec {
        let init = spec.init_containers.take().into_iter().flatten();
        let managers = init
            .filter(|container| container.name == naming::CONTAINER_CONTROLLER)
            .map(|known| Container { name: known.name, image: known.image, ..Container::default() });
        *spec = PodSpec {
            node_name: spec.node_name.take(),
            init_containers: Some(managers.collect()),
            ..PodSpec::default()
        };
    }
    if let Some(status) = &mut pod.status {
        let known = std::mem::take(status);
        *status = PodStatus {
            phase: known.phase,
            reason: known.reason,
            pod_ip: known.pod_ip,
            conditions: known.conditions,
            init_container_statuses: known.init_container_statuses.map(containers),
            container_statuses: known.container_statuses.map(containers),
            ..PodStatus::default()
        };
    }
}

fn containers(statuses: Vec<ContainerStatus>) -> Vec<ContainerStatus> {
    let one = |known: ContainerStatus| ContainerStatus {
        name: known.name,
        ready: known.ready,
        restart_count: known.restart_count,
        state: known.state,
        last_state: known.last_state,
        ..ContainerStatus::default()
    };
    statuses.into_iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use howdah_api::backup::BackupPhase;

    use super::*;
    use crate::controllers::cluster::{decide, status};
    use crate::fixtures::{World, backup as a_backup, now};

    /// Decisions and status are the same, whether objects are whole or come from the watches.
    #[test]
    fn what_is_kept_is_enough() {
        let mut world = World::archiving_pair();
        let phases =
            [BackupPhase::Completed, BackupPhase::Failed, BackupPhase::Running, BackupPhase::Pending];
        world.observed.backups = phases.map(|phase| a_backup(&format!("b-{phase}"), 0, phase)).to_vec();
        let look = |world: &World| {
            let (validated, hash) = (world.validated(), world.hash());
            let plan = decide::decide(&validated, &world.observed, &hash);
            (status::fold(&validated, &world.observed, &plan, &hash, now()), plan)
        };
        let whole = look(&world);
        world.observed.pods.iter_mut().for_each(pod);
        for kept in &mut world.observed.backups {
            let mut guarded = DeserializeGuard(Ok(kept.clone()));
            backup(&mut guarded);
            *kept = guarded.0.unwrap();
        }
        assert!(world.observed.pods[0].spec.as_ref().unwrap().containers.is_empty());
        assert_eq!(look(&world), whole);
    }
}
