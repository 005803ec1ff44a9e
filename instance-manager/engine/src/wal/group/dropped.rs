//! WAL that was let go of before as many repositories had it as were asked for: one of them may have some of it all the
//! same, and the others get it from there.

use super::Group;
use crate::error::{Error, ErrorKind, Result};
use barman_cloud::Segment;
use barman_cloud::dropped::Dropped;

impl Group {
    /// From this segment on WAL was let go of: the repositories are compared, and filled from each other.
    pub fn let_go(&self, first: Segment) {
        if self.members().len() < 2 {
            return;
        }
        for member in self.members() {
            member.debt(|debt| debt.suspect(first));
            member.wake.notify_one();
        }
    }

    /// Names of the repositories.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.members().iter().map(|member| member.name.as_str())
    }

    /// Writes the record of a gap into a repository, and what the others may lack because of it.
    ///
    /// # Errors
    /// When the repository does not take it, or this server is no longer the one that archives there.
    pub async fn tell_dropped(&self, repository: &str, dropped: &Dropped) -> Result<()> {
        let all = self.members();
        let found = all.iter().position(|member| member.name == repository);
        let Some((at, archiver)) = found.and_then(|at| Some((at, all[at].archiver.as_ref().ok()?))) else {
            let words = format!("repository {repository} cannot be used");
            return Err(Error::new(ErrorKind::Invalid, words).with_remedy("see its settings and Secrets"));
        };
        archiver.owned().await?;
        if let Some(error) = archiver.stale() {
            return Err(error);
        }
        archiver.repository().put_dropped(dropped).await?;
        let others: Vec<usize> = (0..all.len()).filter(|other| *other != at).collect();
        if !others.is_empty() {
            self.inner.notes.cover(at, all, &others, dropped.first).await?;
            // Compared once more, so that the words are taken back when nothing is missing.
            self.let_go(dropped.first);
        }
        Ok(())
    }
}
