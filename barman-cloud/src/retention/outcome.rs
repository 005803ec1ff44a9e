//! What became of a plan.

use crate::backup_id::BackupId;
use crate::catalog::Keep;
use crate::error::{Error, ErrorKind};
use crate::store::Undeleted;
use std::fmt;

/// Objects that are named one by one; of more only the number is told.
const NAMED: usize = 100;

/// Why something was not deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Somebody asked to keep the backup since the plan was made.
    Kept(Keep),
    /// A restore or a running backup uses it.
    InUse,
    /// This backup, which is new or was not deleted, builds on it.
    Dependent(BackupId),
    /// This backup, which cannot be read, may build on it.
    MayBeNeededBy(BackupId),
    /// No other full backup can be restored.
    LastFull,
    /// No other full backup that can be restored leads to the timeline of the server.
    LastOfTimeline(u32),
    /// The full backup that was to be the last is no longer complete.
    LastFullGone(BackupId),
    /// The store protects the object: object lock, legal hold, a retention of the bucket.
    Locked(String),
    /// The credentials may not delete it.
    Denied(String),
    /// Anything else that the store said.
    Store(String),
}

impl Refusal {
    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Kept(_) => "nothing, unless it should go: release it",
            Self::InUse => "nothing: the next run looks again",
            Self::Dependent(_) => "nothing: it goes once the other does",
            Self::MayBeNeededBy(_) => "bring back what that backup has lost from a copy, or delete it first",
            Self::LastFull | Self::LastOfTimeline(_) => "take another full backup; it goes after that",
            Self::LastFullGone(_) => "find out what became of that backup, and take a full backup",
            Self::Locked(_) => "wait until the lock ends, or make the retention longer than the lock",
            Self::Denied(_) => "allow the credentials to delete objects below the destination path",
            Self::Store(_) => "see what the store said; the next run tries again",
        }
    }

    pub(super) fn of(undeleted: &Undeleted) -> Self {
        let text = undeleted.error.report();
        match undeleted.error.kind() {
            _ if undeleted.is_locked() => Self::Locked(text),
            ErrorKind::Permission => Self::Denied(text),
            _ => Self::Store(text),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kept(keep) => write!(f, "it is now kept on request ({})", keep.as_str()),
            Self::InUse => f.write_str("it is in use"),
            Self::Dependent(id) => write!(f, "backup {id} builds on it"),
            Self::MayBeNeededBy(id) => write!(f, "backup {id}, which cannot be read, may build on it"),
            Self::LastFull => f.write_str("it is the last full backup that can be restored"),
            Self::LastOfTimeline(timeline) => {
                write!(f, "it is the last full backup from which timeline {timeline} can be reached")
            }
            Self::LastFullGone(id) => {
                write!(f, "full backup {id}, which was to stay, is no longer complete")
            }
            Self::Locked(text) => write!(f, "the store protects it: {text}"),
            Self::Denied(text) => write!(f, "the store does not allow it: {text}"),
            Self::Store(text) => f.write_str(text),
        }
    }
}

/// Something that was not deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The backup it belongs to; `None` for WAL.
    pub backup: Option<BackupId>,
    /// The object; `None` when the whole backup stays.
    pub key: Option<String>,
    /// Why.
    pub why: Refusal,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.backup, &self.key) {
            (Some(id), None) => write!(f, "backup {id} stays: ")?,
            (Some(id), Some(key)) => write!(f, "{key} of backup {id} stays: ")?,
            (None, Some(key)) => write!(f, "{key} stays: ")?,
            (None, None) => {}
        }
        write!(f, "{}; remedy: {}", self.why, self.why.remedy())
    }
}

/// Why WAL was left alone although the plan would have pruned it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WalHeld {
    /// This complete backup was to go and stayed: its WAL is planned anew the next time.
    BackupStays(BackupId),
    /// This backup was kept for itself when the plan was made, and now for recovery to any later time.
    KeptForMore(BackupId),
    /// The store deletes none of it.
    Refused,
}

impl fmt::Display for WalHeld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BackupStays(id) => write!(f, "backup {id} stayed and may need it"),
            Self::KeptForMore(id) => write!(f, "backup {id} is now kept with all WAL after it"),
            Self::Refused => f.write_str("the store deletes none of it"),
        }
    }
}

/// What a run of retention did.
#[derive(Debug, Default)]
pub struct Applied {
    /// Backups of which nothing is left, in the order in which they went.
    pub backups: Vec<BackupId>,
    /// Objects of backups that were deleted.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// WAL objects that were deleted.
    pub wal_objects: u64,
    /// Their bytes.
    pub wal_bytes: u64,
    /// What was not deleted, and why: all backups, and the first hundred objects.
    pub refused: Vec<Refused>,
    /// How many objects the store did not delete.
    pub refused_objects: u64,
    /// Why WAL was left alone, when it was.
    pub wal_held: Option<WalHeld>,
    /// What ended the run early: the store does not answer. What was deleted until then is counted.
    pub stopped: Option<Error>,
}

impl Applied {
    /// Whether the whole plan was carried out.
    pub fn is_whole(&self) -> bool {
        self.refused.is_empty()
            && self.refused_objects == 0
            && self.wal_held.is_none()
            && self.stopped.is_none()
    }

    pub(super) fn refuse(&mut self, id: &BackupId, why: Refusal) {
        self.refused.push(Refused { backup: Some(id.clone()), key: None, why });
    }

    pub(super) fn refuse_objects(&mut self, id: Option<&BackupId>, undeleted: &[Undeleted]) {
        for object in undeleted {
            let named = self.refused.iter().filter(|refused| refused.key.is_some()).count();
            if named < NAMED {
                let (backup, key) = (id.cloned(), Some(object.key.clone()));
                self.refused.push(Refused { backup, key, why: Refusal::of(object) });
            }
            self.refused_objects += 1;
        }
    }
}
