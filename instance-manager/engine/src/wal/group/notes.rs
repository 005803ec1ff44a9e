//! The words about repositories that may lack something, kept in those that do not (`barman_cloud::arrears`).
//!
//! A repository counts for an acknowledgement only when it has the file *and* the word about everyone who has not. The
//! word is written once and holds for all that follows, so a file costs no request for it.

use super::Member;
use crate::error::Result;
use barman_cloud::Segment;
use barman_cloud::arrears::Arrears;
use chrono::Utc;
use std::collections::BTreeMap;
use tokio::sync::Mutex;

/// What one repository holds about the others, by their name; `None` until it was read.
type Known = Option<BTreeMap<String, Segment>>;

/// The words in all repositories, by the place of the repository in the group.
#[derive(Debug, Default)]
pub struct Notes(Vec<Mutex<Known>>);

impl Notes {
    pub fn new(members: usize) -> Self {
        Self((0..members).map(|_| Mutex::default()).collect())
    }

    /// Reads the words in a repository, once; they are about `members` only, not about others that once were there.
    pub async fn read(&self, at: usize, members: &[Member]) -> Result<BTreeMap<String, Segment>> {
        let mut known = self.0[at].lock().await;
        load(&mut known, at, members).await.cloned()
    }

    /// Sees to it that a repository holds the word about each of `missing` from `mark` on.
    pub async fn cover(&self, at: usize, members: &[Member], missing: &[usize], mark: Segment) -> Result<()> {
        let mut known = self.0[at].lock().await;
        let words = load(&mut known, at, members).await?;
        for other in missing.iter().map(|index| &members[*index]) {
            if words.get(&other.name).is_some_and(|since| *since <= mark) {
                continue;
            }
            write(&members[at], other, mark).await?;
            words.insert(other.name.clone(), mark);
        }
        Ok(())
    }

    /// Moves the words about a repository on to `to`, or takes them back without it, wherever that can be done. What it
    /// lacks at that moment stays covered.
    pub async fn move_on(&self, about: usize, members: &[Member], to: Option<Segment>) {
        for at in (0..members.len()).filter(|at| *at != about) {
            let Ok(archiver) = &members[at].archiver else { continue };
            let mut known = self.0[at].lock().await;
            let Some(words) = known.as_mut() else { continue };
            let other = &members[about];
            let Some(written) = words.get(&other.name).copied() else { continue };
            // Looked at under the lock: whoever acknowledges a file without it makes the debt first and asks then.
            let floor = other.debt(|debt| debt.floor());
            let outcome = match to.map(|to| floor.map_or(to, |floor| floor.min(to))) {
                None if floor.is_some() => continue,
                None => archiver.repository().remove_arrears(&other.name).await.map(|()| None),
                Some(to) if to <= written => continue,
                Some(to) => write(&members[at], other, to).await.map(|()| Some(to)),
            };
            match outcome {
                Ok(Some(to)) => drop(words.insert(other.name.clone(), to)),
                Ok(None) => drop(words.remove(&other.name)),
                // The old word stays true, it only makes somebody look further back.
                Err(error) => tracing::debug!(
                    repository = members[at].name,
                    about = other.name,
                    error = %error.report(),
                    "an old note of what a repository lacks stays for now"
                ),
            }
        }
    }
}

async fn load<'a>(
    known: &'a mut Known,
    at: usize,
    members: &[Member],
) -> Result<&'a mut BTreeMap<String, Segment>> {
    if known.is_none() {
        let mut words = BTreeMap::new();
        if let Ok(archiver) = &members[at].archiver {
            for word in archiver.repository().arrears().await? {
                let meant = members.iter().any(|member| {
                    member.name == word.repository
                        && member.place().is_none_or(|place| word.place.is_empty() || place == word.place)
                });
                if meant {
                    words.insert(word.repository, word.since);
                }
            }
        }
        *known = Some(words);
    }
    Ok(known.get_or_insert_default())
}

async fn write(at: &Member, about: &Member, since: Segment) -> barman_cloud::Result<()> {
    let Ok(archiver) = &at.archiver else { return Ok(()) };
    let place = about.place().unwrap_or_default();
    let word = Arrears { repository: about.name.clone(), place, since };
    archiver.repository().put_arrears(&word, Utc::now()).await
}
