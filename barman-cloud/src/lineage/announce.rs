//! A primary says which timeline it writes.
//!
//! The record only ever rises. Two servers that were promoted to the same timeline are told apart by their names: the
//! first to announce it has it.

use super::{Lineage, rendered};
use crate::error::{Error, ErrorKind, Result};
use crate::lsn::Lsn;
use crate::repository::Repository;
use crate::store::Replaced;
use chrono::{DateTime, Utc};

/// Others that may write the record while one announcement is made.
const TRIES: usize = 8;

/// What a primary says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// The timeline that it writes.
    pub timeline: u32,
    /// Where that began; `None` when it is not known.
    pub begin_lsn: Option<Lsn>,
    /// Its name: `<instance>`, or `<instance>/<uid of its pod>`.
    pub primary: String,
}

/// What an archive says to an announcement.
#[derive(Debug)]
pub enum Reception {
    /// The record says so already.
    Known,
    /// The record is to be written.
    New,
    /// A later timeline was announced: the server is a former primary.
    Former(Error),
    /// Another server has announced the same timeline.
    Conflict(Error),
}

impl Announcement {
    /// What the record says to it; `url` is the archive, for the words. Pure.
    pub fn received(&self, lineage: Option<&Lineage>, url: &str) -> Reception {
        let Some((lineage, timeline)) = lineage.and_then(|lineage| Some((lineage, lineage.timeline?))) else {
            return Reception::New;
        };
        if self.timeline < timeline {
            return Reception::Former(former(timeline, Some(lineage), None, self.timeline, url));
        }
        let Some(primary) = lineage.primary.as_deref().filter(|_| self.timeline == timeline) else {
            return Reception::New;
        };
        if primary == self.primary {
            Reception::Known
        } else if instance(primary) == instance(&self.primary) || timeline == 1 {
            // The instance in another pod. Timeline 1 nobody is promoted to, so it tells nothing of a promotion.
            Reception::New
        } else {
            Reception::Conflict(split(timeline, instance(primary), instance(&self.primary), url))
        }
    }
}

/// The instance in a name.
pub(super) fn instance(primary: &str) -> &str {
    primary.split('/').next().unwrap_or(primary)
}

/// What a former primary is told.
pub(super) fn former(newer: u32, lineage: Option<&Lineage>, left: Option<Lsn>, own: u32, url: &str) -> Error {
    let lineage = lineage.filter(|lineage| lineage.timeline == Some(newer));
    let by = lineage.and_then(|lineage| lineage.primary.as_deref());
    let by = by.map(|primary| format!(" by {}", instance(primary))).unwrap_or_default();
    let at = lineage.and_then(|lineage| lineage.begin_lsn).or(left);
    let at = at.map(|lsn| format!(" at {lsn}")).unwrap_or_default();
    let begun = if by.is_empty() && at.is_empty() { String::new() } else { format!(", begun{by}{at}") };
    Error::new(
        ErrorKind::AlreadyExists,
        format!(
            "the archive is on timeline {newer}{begun}; this server is still on timeline {own}: it is a former primary \
             and must follow; nothing is archived"
        ),
    )
    .with_key(url)
    .with_remedy(
        "let this instance follow the new primary, or delete it and its volumes; PostgreSQL keeps its WAL until then \
         (docs/runbook/archiving-former-primary.md)",
    )
}

fn split(timeline: u32, theirs: &str, ours: &str, url: &str) -> Error {
    Error::new(
        ErrorKind::AlreadyExists,
        format!(
            "the archive is on timeline {timeline} of {theirs}, and {ours} was promoted to a timeline {timeline} of its \
             own: two servers have taken writes; nothing of {ours} is archived"
        ),
    )
    .with_key(url)
    .with_remedy(
        "stop one of the two; what only it has is lost to the other, so look at both first \
         (docs/runbook/archiving-former-primary.md)",
    )
}

impl Repository {
    /// Writes down that this server is the primary, and on which timeline. Returns the record as it is then; one that
    /// is not there is claimed for `by` first, as by [`Repository::claim`].
    ///
    /// The record is replaced on condition; where the store cannot do that it is read back, and of two that write at
    /// the same instant the lower one may be left: who announced the higher sees it when it looks again, and repeats it.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] when the archive belongs to another system or cluster, when a later timeline was
    /// announced, and when another instance has announced the same.
    pub async fn announce_timeline(
        &self,
        system_identifier: &str,
        by: Option<&str>,
        announcement: &Announcement,
        now: DateTime<Utc>,
    ) -> Result<Lineage> {
        let (key, url) = (self.layout().lineage(), self.url());
        for _ in 0..TRIES {
            let Some((lineage, mark)) = self.marked_lineage().await? else {
                self.claim(system_identifier, by, now).await?;
                continue;
            };
            self.judge_record(&lineage, system_identifier, by)?;
            match announcement.received(Some(&lineage), &url) {
                Reception::Known => return Ok(lineage),
                Reception::New => {}
                Reception::Former(error) | Reception::Conflict(error) => return Err(error),
            }
            let next = Lineage {
                timeline: Some(announcement.timeline),
                begin_lsn: announcement.begin_lsn,
                primary: Some(announcement.primary.clone()),
                announced_at: Some(now),
                ..lineage
            };
            let body = rendered(&next)?;
            // Whatever the answer is: the record decides. A condition may be ignored, an answer lost.
            if self.store().replace(&key, body.into(), mark.as_deref()).await? == Replaced::Yes
                && self.lineage().await?.is_some_and(|seen| seen == next)
            {
                tracing::info!(
                    archive = url,
                    timeline = announcement.timeline,
                    primary = announcement.primary,
                    "the timeline is announced"
                );
                return Ok(next);
            }
        }
        Err(Error::new(ErrorKind::Unavailable, "the record changes all the time, or is not kept")
            .with_key(self.store().url_of(&key))
            .with_remedy("see who else writes there; it is tried again"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Destination, Store};
    use rstest::rstest;

    fn repository() -> Repository {
        let store = Store::memory(&Destination::parse("s3://b/p").expect("valid"));
        Repository::new(store, "srv").expect("valid")
    }

    fn says(timeline: u32, begin: &str, primary: &str) -> Announcement {
        let begin_lsn = Some(begin.parse().expect("an LSN"));
        Announcement { timeline, begin_lsn, primary: primary.into() }
    }

    async fn announce(repository: &Repository, announcement: &Announcement) -> Result<Lineage> {
        repository.announce_timeline("42", Some("ns/pg"), announcement, Utc::now()).await
    }

    #[tokio::test]
    async fn the_record_only_rises() {
        let repository = repository();
        announce(&repository, &says(1, "0/0", "pg-1/a")).await.expect("the first");
        let record = announce(&repository, &says(3, "0/5000000", "pg-2/b")).await.expect("higher");
        assert_eq!((record.timeline, record.claimed_by.as_deref()), (Some(3), Some("ns/pg")));
        assert_eq!(repository.lineage().await.expect("read"), Some(record));
        let error = announce(&repository, &says(2, "0/4000000", "pg-1/a")).await.expect_err("lower");
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert_eq!(
            error.to_string(),
            "s3://b/p/srv: the archive is on timeline 3, begun by pg-2 at 0/5000000; this server is still on timeline \
             2: it is a former primary and must follow; nothing is archived"
        );
        let stranger = repository.announce_timeline("43", None, &says(4, "0/6000000", "x"), Utc::now()).await;
        assert!(stranger.expect_err("a stranger").report().contains("system identifier"));
        let kept = repository.lineage().await.expect("read").expect("there");
        assert_eq!((kept.timeline, kept.primary.as_deref()), (Some(3), Some("pg-2/b")));
    }

    /// What is announced after `pg-2/b` has announced a timeline.
    #[rstest]
    #[case::the_same_again(2, "pg-2/b", true)]
    #[case::another_pod_of_it(2, "pg-2/c", true)]
    #[case::two_were_promoted(2, "pg-3/d", false)]
    #[case::a_name_that_begins_alike(2, "pg-20/b", false)]
    #[case::nobody_is_promoted_to_the_first(1, "pg-3/d", true)]
    #[tokio::test]
    async fn one_timeline_has_one_primary(#[case] timeline: u32, #[case] name: &str, #[case] taken: bool) {
        let repository = repository();
        announce(&repository, &says(timeline, "0/4000000", "pg-2/b")).await.expect("the first");
        let outcome = announce(&repository, &says(timeline, "0/4000000", name)).await;
        let record = repository.lineage().await.expect("read").expect("there");
        match outcome {
            Ok(seen) => assert!(taken && seen == record && record.primary.as_deref() == Some(name)),
            Err(error) => {
                assert!(!taken && record.primary.as_deref() == Some("pg-2/b"));
                assert!(error.report().contains("two servers have taken writes"), "{}", error.report());
            }
        }
    }

    #[tokio::test]
    async fn a_record_without_a_timeline_is_taken_over_and_former_versions_read_the_new_one() {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Former {
            system_identifier: String,
            claimed_by: Option<String>,
        }
        let repository = repository();
        let old = r#"{"systemIdentifier": "42", "claimedAt": "2026-11-21T10:00:00Z", "claimedBy": "ns/pg"}"#;
        let key = repository.layout().lineage();
        repository.store().put(&key, old.into()).await.expect("stored");
        assert_eq!(repository.lineage().await.expect("read").expect("there").timeline, None);
        announce(&repository, &says(7, "2/4000000", "pg-3/x")).await.expect("taken over");
        let body = repository.store().get(&key, 1 << 16).await.expect("there");
        let former: Former = serde_json::from_slice(&body).expect("readable");
        assert_eq!((former.system_identifier.as_str(), former.claimed_by.as_deref()), ("42", Some("ns/pg")));
        assert!(String::from_utf8_lossy(&body).contains(r#""beginLsn": "2/4000000""#));
        let record = repository.lineage().await.expect("read").expect("there");
        assert_eq!(record.claimed_at.to_rfc3339(), "2026-11-21T10:00:00+00:00");
        assert!(record.is_same_claim(&serde_json::from_str(old).expect("valid")));
    }

    async fn s3(bucket: &str) -> (howdah_s3::Server, Repository) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let server = howdah_s3::Server::builder().credentials("key", "secret").bucket(bucket).start().await;
        let server = server.expect("a port");
        let mut options = crate::S3Options::with_keys("key", "secret");
        options.endpoint = Some(server.endpoint());
        let place = Destination::parse(&format!("s3://{bucket}/p")).expect("valid");
        let repository = Repository::new(Store::s3(&place, &options).expect("valid"), "srv").expect("valid");
        (server, repository)
    }

    /// Of many that announce at once, the highest stays, and each that was told yes was the highest then.
    #[tokio::test]
    async fn the_highest_of_many_stays() {
        let (_server, repository) = s3("bucket").await;
        repository.claim("42", None, Utc::now()).await.expect("claimed");
        let all = (1..8u32).map(|timeline| {
            let repository = repository.clone();
            async move { announce(&repository, &says(timeline, "0/4000000", "pg-1")).await }
        });
        futures::future::join_all(all).await;
        announce(&repository, &says(7, "0/4000000", "pg-1")).await.expect("the highest");
        assert_eq!(repository.lineage().await.expect("read").expect("there").timeline, Some(7));
    }

    #[tokio::test]
    async fn a_version_is_replaced_only_as_long_as_it_is_the_one() {
        let (_server, repository) = s3("marks").await;
        let store = repository.store();
        store.put("k", "one".into()).await.expect("stored");
        let (info, _) = store.get_marked("k", 100).await.expect("read").expect("there");
        let mark = info.etag.as_deref();
        assert_eq!(store.replace("k", "two".into(), mark).await.expect("asked"), Replaced::Yes);
        assert_eq!(store.replace("k", "three".into(), mark).await.expect("asked"), Replaced::Changed);
        store.delete("k").await.expect("deleted");
        assert_eq!(store.replace("k", "four".into(), mark).await.expect("asked"), Replaced::Changed);
        assert!(store.get_marked("k", 100).await.expect("read").is_none());
        assert_eq!(store.replace("k", "five".into(), None).await.expect("asked"), Replaced::Yes);
        assert_eq!(store.get("k", 100).await.expect("there"), "five");
    }

    /// Without conditions the record is written and read back.
    #[tokio::test]
    async fn a_store_without_conditions_will_do() {
        use howdah_s3::{Action, Operation, Rule};
        let (server, repository) = s3("plain").await;
        announce(&repository, &says(1, "0/0", "pg-1/a")).await.expect("the first");
        repository.store().forget_replacing();
        server.faults().add(Rule::new(Action::LoseWrite).operation(Operation::PutObject).times(1));
        let record = announce(&repository, &says(2, "0/4000000", "pg-2/b")).await.expect("kept in the end");
        assert_eq!(record.timeline, Some(2));
        assert!(announce(&repository, &says(1, "0/0", "pg-1/a")).await.is_err());
    }
}
