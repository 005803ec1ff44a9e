//! What a new primary does for its archives: it announces its timeline, and has everything sent that its predecessor had
//! not archived. Nothing waits for it, and archives that are away are tried again for as long as this is the primary.

use std::sync::Arc;
use std::time::Duration;

use howdah_engine::{ErrorKind, Held, Tail};
use tokio::sync::{Mutex, mpsc};
use tokio::time::sleep;

use super::archives::Archives;

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What a person should hear about the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// WAL is lost to the archive.
    Gap(String),
    /// An archive follows another primary.
    FormerPrimary(String),
}

impl News {
    /// Reason of the event.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Gap(_) => "WALGap",
            Self::FormerPrimary(_) => "FormerPrimary",
        }
    }

    /// Its words.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Gap(text) | Self::FormerPrimary(text) => text,
        }
    }
}

/// Announces `timeline` in all archives and sends what they lack before it; ends when all have answered.
pub async fn take_over(
    archives: Arc<Archives>,
    timeline: u32,
    held: Arc<Mutex<Held>>,
    news: mpsc::UnboundedSender<News>,
) {
    if archives.is_empty() {
        return;
    }
    let group = archives.group();
    let (mut pause, mut told) = (FIRST_PAUSE, None);
    loop {
        let mut waiting = Vec::new();
        for (name, error) in group.announce().await {
            let text = format!("repository {name}: {}", error.report());
            if error.kind() == ErrorKind::Lineage {
                // It is judged by file from now on, and whoever leads anew asks anew.
                tracing::error!(timeline, "the timeline cannot be announced: {text}");
                tell(&news, News::FormerPrimary(text));
                return;
            }
            waiting.push(text);
        }
        match group.tail(timeline, &mut *held.lock().await).await {
            Ok(tail) => {
                report(&tail, timeline);
                waiting.extend(tail.silent.iter().map(|(name, why)| format!("repository {name}: {why}")));
                if let Some(text) = gap(&tail, timeline)
                    && told.as_ref() != Some(&text)
                {
                    tracing::error!("{text}");
                    tell(&news, News::Gap(text.clone()));
                    told = Some(text);
                }
            }
            Err(error) => waiting.push(error.report()),
        }
        if waiting.is_empty() {
            return;
        }
        tracing::warn!(timeline, "archives do not know of this primary yet: {}", waiting.join("; "));
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn tell(news: &mpsc::UnboundedSender<News>, what: News) {
    // Without a listener the log has it.
    let _ = news.send(what);
}

fn report(tail: &Tail, timeline: u32) {
    if tail.histories + tail.segments > 0 {
        let oldest = tail.oldest.map(|segment| segment.to_string()).unwrap_or_default();
        tracing::info!(
            timeline,
            histories = tail.histories,
            segments = tail.segments,
            oldest,
            "what the former primary had not archived is archived now"
        );
    }
}

/// What is lost, in words; pure.
fn gap(tail: &Tail, timeline: u32) -> Option<String> {
    let hole = tail.hole?;
    let files = match hole.files {
        1 => "it is".to_owned(),
        more => format!("{more} segments are"),
    };
    Some(format!(
        "WAL {} is in no archive and not in pg_wal of this primary (timeline {timeline}); {files} missing. Backups before \
         that lead no further; take a backup now. The former primary hands it in when it comes back with its volume",
        hole.first
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_is_told_with_a_remedy() {
        let hole = |files| {
            let first = "00000001000000000000002A".parse().unwrap();
            Tail { hole: Some(howdah_engine::Hole { first, files }), ..Tail::default() }
        };
        let text = gap(&hole(1), 2).unwrap();
        assert!(
            text.starts_with("WAL 00000001000000000000002A is in no archive") && text.contains("backup now")
        );
        assert!(gap(&hole(3), 2).unwrap().contains("3 segments are missing"));
        assert_eq!(gap(&Tail::default(), 2), None);
    }

    #[tokio::test]
    async fn without_an_archive_there_is_nothing_to_do() {
        let paths = crate::environment::Paths {
            controller: "/c".into(),
            pgdata: "/d".into(),
            wal_mount: "/w".into(),
        };
        let archives = Archives::new(Vec::new(), howdah_engine::Policy::All, &paths);
        let (news, mut heard) = mpsc::unbounded_channel();
        take_over(archives, 2, Arc::default(), news).await;
        assert_eq!(heard.recv().await, None);
    }
}
