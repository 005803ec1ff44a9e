//! A plan as text: what a dry run prints.

use super::plan::Plan;
use super::wal::{WalKept, WalNeed};
use std::fmt;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "policy: {}", self.policy)?;
        for backup in &self.kept {
            let reasons: Vec<String> = backup.reasons.iter().map(ToString::to_string).collect();
            let label = Self::label(backup.kind, &backup.id, &backup.ancestors);
            writeln!(f, "keep    {label}: {}", reasons.join("; "))?;
        }
        for backup in &self.deletable {
            let label = Self::label(backup.kind, &backup.id, &backup.ancestors);
            write!(f, "delete  {label}: {}", backup.reason)?;
            match backup.bytes {
                Some(bytes) => writeln!(f, " ({bytes} bytes)")?,
                None => writeln!(f)?,
            }
        }
        for kept in &self.wal.kept {
            write!(f, "{kept}")?;
        }
        for cut in &self.wal.cuts {
            let why = if cut.unreachable { "no backup leads there" } else { "before every kept backup" };
            let (objects, bytes) = (cut.objects, cut.bytes);
            let (first, last) = (cut.first, cut.last);
            writeln!(f, "delete  WAL {first} to {last}: {why} ({objects} objects, {bytes} bytes)")?;
        }
        if let Some(why) = &self.wal.untouched {
            writeln!(f, "keep    all WAL: {why}")?;
        }
        let (backups, objects) = (self.deletable.len(), self.wal.objects());
        writeln!(f, "total   {backups} backups and {objects} WAL objects, {} bytes", self.freed_bytes())
    }
}

impl fmt::Display for WalKept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (first, last, id) in &self.ranges {
            writeln!(f, "keep    WAL {first} to {last}: standalone backup {id} needs it")?;
        }
        let timeline = self.timeline;
        match &self.from {
            Some((first, need)) => writeln!(f, "keep    WAL of timeline {timeline} from {first} on: {need}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for WalNeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Backup(id) => write!(f, "backup {id} needs it"),
            Self::UnknownHistory => f.write_str("the history of the timeline is not known"),
            Self::Current => f.write_str("it is the newest timeline, and no backup leads to it yet"),
        }
    }
}
