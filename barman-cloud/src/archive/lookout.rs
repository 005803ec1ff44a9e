//! Listings shared by files that are archived or fetched at the same time.
//!
//! Two questions are asked of the store for each segment that is archived: is the name free, and, after the write, is
//! the object there with its size and nothing else under the name. One listing answers both for many segments: a
//! question that comes while a listing is under way waits for the next, which then answers all that came meanwhile.

use super::window::WalWindow;
use crate::error::Result;
use crate::repository::Repository;
use crate::wal_name::Segment;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a listing may answer a question that bears an old answer. A writer notices a name that was taken meanwhile
/// by the conditional write, or by the listing after it; a reader that must know asks anew.
const TRUST: Duration = Duration::from_secs(60);

/// A listing and when it was made.
struct Seen {
    window: Arc<WalWindow>,
    /// Questions up to this one were asked before the listing began.
    answers: u64,
    at: Instant,
}

/// Questions under way, by number.
#[derive(Default)]
struct Questions {
    last: u64,
    open: BTreeMap<u64, Segment>,
}

/// Answers questions about names of segments in one repository.
#[derive(Default)]
pub struct Lookout {
    questions: Mutex<Questions>,
    seen: tokio::sync::Mutex<Option<Seen>>,
}

/// A question; it is withdrawn when dropped.
struct Question<'a> {
    number: u64,
    home: &'a Lookout,
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        self.home.questions().open.remove(&self.number);
    }
}

impl Lookout {
    fn questions(&self) -> MutexGuard<'_, Questions> {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self, segment: Segment) -> Question<'_> {
        let mut questions = self.questions();
        questions.last += 1;
        let number = questions.last;
        questions.open.insert(number, segment);
        Question { number, home: self }
    }

    /// A listing that speaks of the segment and is not old.
    pub async fn recent(&self, repository: &Repository, segment: Segment) -> Result<Arc<WalWindow>> {
        let question = self.ask(segment);
        self.answer(repository, segment, |seen| seen.answers >= question.number || seen.at.elapsed() < TRUST)
            .await
    }

    /// A listing that speaks of the segment and was begun after this call.
    pub async fn fresh(&self, repository: &Repository, segment: Segment) -> Result<Arc<WalWindow>> {
        let question = self.ask(segment);
        self.answer(repository, segment, |seen| seen.answers >= question.number).await
    }

    async fn answer(
        &self,
        repository: &Repository,
        segment: Segment,
        good: impl Fn(&Seen) -> bool,
    ) -> Result<Arc<WalWindow>> {
        let mut last = self.seen.lock().await;
        if let Some(seen) = last.as_ref().filter(|seen| good(seen) && seen.window.of(segment).is_some()) {
            return Ok(Arc::clone(&seen.window));
        }
        let (answers, from) = {
            let questions = self.questions();
            let near = |other: &&Segment| other.hash_dir() == segment.hash_dir();
            (questions.last, questions.open.values().filter(near).min().copied().unwrap_or(segment))
        };
        let mut window = repository.wal_window(from).await?;
        if window.of(segment).is_none() {
            window = repository.wal_window(segment).await?;
        }
        let window = Arc::new(window);
        *last = Some(Seen { window: Arc::clone(&window), answers, at: Instant::now() });
        Ok(window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Destination, S3Options, Store};
    use howdah_s3::{Action, Operation, Rule};

    fn segment(seg: u32) -> Segment {
        Segment { timeline: 1, log: 0, seg }
    }

    #[tokio::test]
    async fn questions_during_a_listing_share_the_next() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let server = howdah_s3::Server::builder()
            .credentials("key", "secret")
            .bucket("bucket")
            .start()
            .await
            .expect("a port");
        let mut options = S3Options::with_keys("key", "secret");
        options.endpoint = Some(server.endpoint());
        let store = Store::s3(&Destination::parse("s3://bucket/p").expect("valid"), &options).expect("valid");
        let (repository, lookout) = (Repository::new(store, "srv").expect("valid"), Lookout::default());
        server.faults().add(Rule::new(Action::slow_down()).operation(Operation::ListObjects).times(1));
        let asked = [9, 7, 8].map(|seg| lookout.fresh(&repository, segment(seg)));
        for window in futures::future::try_join_all(asked).await.expect("answers") {
            assert!(window.of(segment(9)).expect("known").is_empty());
        }
        let listings = || server.requests().iter().filter(|request| !request.fault).count();
        assert_eq!(listings(), 2);
        lookout.recent(&repository, segment(8)).await.expect("known");
        assert_eq!(listings(), 2);
        lookout.recent(&repository, segment(6)).await.expect("not known");
        assert_eq!(listings(), 3);
    }
}
