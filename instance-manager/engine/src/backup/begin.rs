//! Decides what a backup is, once PostgreSQL has told where it begins: full, or built on another one.

use super::changes::{self, Base, Finder, Increment, PageRule};
use super::history;
use super::parent::{NoParent, Parent, Position, choose_parent};
use super::run::Run;
use super::session::{ServerFacts, Session, Started};
use crate::control::ControlData;
use crate::error::{Error, ErrorKind, Result};
use crate::increment::Shape;
use barman_cloud::catalog::Inventory;
use barman_cloud::{BackupType, Chain, Lsn, TimelineHistory};
use std::collections::HashSet;

/// What a backup is.
#[derive(Debug)]
pub enum Course {
    /// Everything is stored; with the reason, when it was meant to be otherwise.
    Full(Option<NoParent>),
    /// What changed is stored.
    Increment(Box<Increment>),
}

/// What is known when the backup has begun.
#[derive(Debug, Clone, Copy)]
pub struct Beginning<'a> {
    pub facts: &'a ServerFacts,
    pub control: &'a ControlData,
    pub started: &'a Started,
}

impl Run {
    /// Decides by request, inventory and server.
    pub(super) async fn course(
        &self,
        session: &Session,
        inventory: &Inventory,
        now: Beginning<'_>,
    ) -> Result<Course> {
        if self.request.kind == BackupType::Full {
            return Ok(Course::Full(self.resumed_full.then_some(NoParent::Resumed)));
        }
        let why = match self.increment(session, inventory, now).await? {
            Ok(increment) => return Ok(Course::Increment(Box::new(increment))),
            Err(why) => why,
        };
        if self.request.fallback_full {
            tracing::info!(wanted = %self.request.kind, %why, "a full backup is taken");
            return Ok(Course::Full(Some(why)));
        }
        Err(Error::new(
            ErrorKind::Precondition,
            format!("no {} backup can be taken: {why}", self.request.kind),
        )
        .with_remedy("take a full backup"))
    }

    async fn increment(
        &self,
        session: &Session,
        inventory: &Inventory,
        now: Beginning<'_>,
    ) -> Result<Result<Increment, NoParent>> {
        let Beginning { facts, control, started } = now;
        let history = history::of(&self.root, &self.request.pgdata, started.timeline).await?;
        let reached = if facts.in_recovery { session.replayed().await? } else { started.lsn };
        let position = Position {
            system_id: facts.system_id,
            major: facts.version / 10_000,
            begin: started.lsn,
            reached,
        };
        let parent = match choose_parent(self.request.kind, inventory, &position, &history) {
            Ok(parent) => parent,
            Err(why) => return Ok(Err(why)),
        };
        let place = match parent.kind {
            BackupType::Full => self.root.clone(),
            _ => self.root.increments(),
        };
        let Some(base) = Base::load(&place, &parent.id).await? else {
            return Ok(Err(NoParent::NoManifest(parent.id)));
        };
        let (finder, found_by) = match self.by_summaries(session, facts, &history, &parent, started).await {
            Some(finder) => (finder, "wal-summaries"),
            None => match by_page(&parent, &base, control) {
                Ok(finder) => (finder, "page-lsn"),
                Err(why) => return Ok(Err(why)),
            },
        };
        let chain = Chain {
            kind: self.request.kind,
            ancestors: parent.chain.clone(),
            since_lsn: parent.begin,
            found_by: found_by.to_owned(),
        };
        tracing::info!(kind = %chain.kind, parent = %parent.id, since = %parent.begin, found_by, "builds on a backup");
        let shape = Shape { page: control.block_size, segment_blocks: control.relation_segment_blocks };
        Ok(Ok(Increment { parent, chain, base, finder, shape, fresh: HashSet::new() }))
    }

    /// WAL summaries, where the server makes them and they cover the way from the parent. They only spare reading, so
    /// nothing about them fails a backup.
    async fn by_summaries(
        &self,
        session: &Session,
        facts: &ServerFacts,
        history: &TimelineHistory,
        parent: &Parent,
        started: &Started,
    ) -> Option<Finder> {
        if facts.summarize_wal.as_deref() != Some("on") {
            return None;
        }
        let way =
            changes::stretches(history, (parent.timeline, parent.begin), (started.timeline, started.lsn));
        match session.changed_blocks(&way).await {
            Ok(Some(table)) => Some(Finder::Summaries(table)),
            Ok(None) => {
                tracing::info!("WAL summaries do not cover the time since the parent: every page is read");
                None
            }
            Err(error) => {
                tracing::warn!(error = %error.report(), "WAL summaries cannot be used: every page is read");
                None
            }
        }
    }
}

/// The position in a page tells every change that matters only where page checksums are on: without them PostgreSQL
/// marks pages as all-visible without a new position, and the marks in the map would be of no such page.
fn by_page(parent: &Parent, base: &Base, control: &ControlData) -> Result<Finder, NoParent> {
    if !control.data_checksums || !parent.checksums {
        return Err(NoParent::NoWay(format!(
            "the pages of {} carry no checksums, so they do not tell reliably whether they changed; summarize_wal = on \
             does, from PostgreSQL 17 on",
            if control.data_checksums { format!("backup {}", parent.id) } else { "the server".to_owned() }
        )));
    }
    if !base.knows_databases() {
        return Err(NoParent::NoWay(format!("backup {} was taken by an earlier version", parent.id)));
    }
    let first = Lsn(control.wal_segment_size.bytes());
    Ok(Finder::PageLsn(PageRule { since: parent.begin, since_time: parent.begin_time, first }))
}
