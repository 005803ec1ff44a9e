//! Watches Backups and takes those that are given to this process, one at a time.

use std::collections::VecDeque;
use std::sync::Arc;

use chrono::Utc;
use futures::StreamExt;
use howdah_api::backup::{Backup, BackupPhase};
use kube::ResourceExt;
use kube::runtime::events::EventType;
use kube::runtime::{WatchStreamExt, watcher};
use tokio::task::JoinHandle;

use super::decide::{LOST, Me, Verdict, decide};
use super::writer::{Patience, Written, write};
use super::{catalogue, execute, fields};
use crate::run::shared::Shared;

struct Runner {
    shared: Arc<Shared>,
    current: Option<(String, JoinHandle<()>)>,
    /// Names of Backups to look at again once the current one is done.
    waiting: VecDeque<String>,
}

/// Runs until the task is dropped.
pub async fn run(shared: Arc<Shared>) {
    let stream = watcher(shared.kube.backups(), watcher::Config::default()).default_backoff();
    let mut stream = std::pin::pin!(stream);
    let mut runner = Runner { shared, current: None, waiting: VecDeque::new() };
    loop {
        tokio::select! {
            event = stream.next() => match event {
                Some(Ok(watcher::Event::Apply(backup) | watcher::Event::InitApply(backup))) => {
                    if super::removal::is_due(&backup, &runner.shared.env.cluster) && !told(&backup) {
                        runner.shared.backup_ended.notify_one();
                    }
                    runner.look(backup).await;
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => tracing::warn!(%error, "Backups cannot be watched; trying again"),
                None => return,
            },
            () = finished(runner.current.as_mut()) => runner.next().await,
        }
    }
}

/// Whether the deletion of its data was looked at already: that is looked at again in its own time.
fn told(backup: &Backup) -> bool {
    let list = backup.status.iter().flat_map(|status| &status.conditions);
    list.into_iter().any(|condition| condition.type_ == howdah_api::conditions::DATA_DELETED)
}

async fn finished(current: Option<&mut (String, JoinHandle<()>)>) {
    match current {
        Some((_, task)) => {
            if let Err(error) = task.await {
                tracing::error!(%error, "a backup task ended badly");
            }
        }
        None => std::future::pending().await,
    }
}

impl Runner {
    async fn look(&mut self, backup: Backup) {
        let shared = self.shared.clone();
        let me = Me { cluster: &shared.env.cluster, pod: &shared.env.pod, session: &shared.session };
        match decide(&backup, me, self.current.as_ref().map(|(uid, _)| uid.as_str())) {
            Verdict::Leave => {}
            Verdict::Lost => self.give_up(&backup).await,
            Verdict::Take | Verdict::GoOn if self.current.is_some() => {
                let name = backup.name_any();
                if !self.waiting.contains(&name) {
                    self.waiting.push_back(name);
                }
            }
            Verdict::Take => {
                let uid = backup.uid().unwrap_or_default();
                self.current = Some((uid, tokio::spawn(execute::take(shared, backup))));
            }
            Verdict::GoOn => {
                let uid = backup.uid().unwrap_or_default();
                self.current = Some((uid, tokio::spawn(execute::go_on(shared, backup))));
            }
        }
    }

    /// The current one is done: look at those that came meanwhile.
    async fn next(&mut self) {
        self.current = None;
        self.shared.set_backup(None);
        catalogue::refresh(&self.shared).await;
        while self.current.is_none()
            && let Some(name) = self.waiting.pop_front()
        {
            match self.shared.kube.backups().get_opt(&name).await {
                Ok(Some(backup)) => self.look(backup).await,
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, backup = name, "a waiting Backup cannot be read; it stays for its next change");
                }
            }
        }
    }

    /// Nobody will go on with it.
    async fn give_up(&self, backup: &Backup) {
        let shared = &self.shared;
        let name = backup.name_any();
        let uid = backup.uid().unwrap_or_default();
        let generation = backup.metadata.generation;
        let me = Me { cluster: &shared.env.cluster, pod: &shared.env.pod, session: &shared.session };
        let written = write(&shared.kube, &name, &uid, Patience::Endless, |status, now| {
            let lost =
                decide(now, me, None) == Verdict::Lost && status.phase().may_become(BackupPhase::Failed);
            if lost {
                fields::failed(status, LOST, Utc::now(), generation);
            }
            lost
        })
        .await;
        match written {
            Ok(Written::Done(_)) => {
                tracing::warn!(backup = name, "{LOST}");
                shared.kube.event(backup, EventType::Warning, "InstanceManagerRestarted", LOST).await;
                catalogue::sweep_lost(shared, backup).await;
            }
            Ok(Written::Refused) => {}
            Err(error) => {
                tracing::error!(
                    backup = name,
                    "a lost Backup cannot be marked as failed: {}",
                    error.report()
                );
            }
        }
    }
}
