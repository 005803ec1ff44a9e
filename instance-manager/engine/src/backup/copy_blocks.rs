//! Copies the changed blocks of files into a part, in PostgreSQL's form of incremental files.

use super::changes::{Increment, Method, PageRule};
use super::copy::{Copier, FileNames, Look, Opened, set, writing};
use super::part::OpenPart;
use super::record::Hasher;
use crate::error::{Error, Result};
use crate::increment::{self, RelationFile};
use barman_cloud::tar::Entry;
use roaring::RoaringBitmap;

impl Copier<'_> {
    /// Adds what changed of a file, or all of it where that is the way. Returns `false` when it has vanished.
    pub fn changes(
        &mut self,
        part: &mut OpenPart,
        names: FileNames<'_>,
        increment: &Increment,
    ) -> Result<bool> {
        let Some(mut opened) = Opened::open(names)? else { return Ok(false) };
        let (blocks, look) = match increment.method(names.manifest, opened.size) {
            Method::Whole => (None, Look::First),
            Method::Blocks(blocks) => (Some(blocks), Look::First),
            Method::Scan { rule, beyond } => {
                let page = increment.shape.page as usize;
                (Some(self.scan(&mut opened, names, page, (rule, beyond))?), Look::Again)
            }
        };
        match blocks.filter(|blocks| !increment.is_whole(blocks.len(), opened.size)) {
            Some(blocks) => self.blocks(part, &opened, names, (&blocks, increment.shape.page, look))?,
            None => {
                opened.source.prepare(opened.size);
                self.whole(part, &mut opened, names, look)?;
            }
        }
        Ok(true)
    }

    /// Reads every page of a file and finds those that changed. Their numbers are kept, not the pages: those are read
    /// again, and may be newer by then, which is as good.
    fn scan(
        &mut self,
        opened: &mut Opened,
        names: FileNames<'_>,
        page: usize,
        (rule, beyond): (PageRule, u32),
    ) -> Result<RoaringBitmap> {
        opened.source.prepare(opened.size);
        let recent = rule.is_recent(opened.stat.mtime);
        let segment = RelationFile::parse(names.manifest).map_or(0, |file| file.segment);
        let mut blocks = RoaringBitmap::new();
        let mut offset = 0;
        while offset < opened.size {
            if self.cancel.is_cancelled() {
                return Err(Error::cancelled());
            }
            let want = usize::try_from(opened.size - offset).unwrap_or(usize::MAX).min(self.buffer.len());
            self.read(&opened.source, want, offset, names.source)?;
            let first = u32::try_from(offset / page as u64).unwrap_or(u32::MAX);
            for (block, bytes) in (first..).zip(self.buffer[..want].chunks_exact(page)) {
                let place = (segment, u64::from(block));
                // What the position of a damaged page says is worth nothing.
                let good = match self.check {
                    Some(check) => self.is_good(&opened.source, check, place, bytes, names.manifest)?,
                    None => true,
                };
                if !good || block >= beyond || rule.is_changed(bytes, recent) {
                    blocks.insert(block);
                }
            }
            self.progress.add_done(want as u64);
            offset += want as u64;
            opened.source.done(offset);
        }
        opened.source.finish();
        Ok(blocks)
    }

    /// Adds a file of these blocks.
    fn blocks(
        &mut self,
        part: &mut OpenPart,
        opened: &Opened,
        names: FileNames<'_>,
        (blocks, page, look): (&RoaringBitmap, u32, Look),
    ) -> Result<()> {
        let page = u64::from(page);
        let size = increment::file_size(blocks.len(), page);
        let truncation = u32::try_from(opened.size / page).unwrap_or(u32::MAX);
        let mut entry = Entry::file(increment::incremental_name(names.entry), size);
        set(&mut entry, &opened.stat);
        let failed = |error| writing(names.entry, error);
        part.tar().begin(&entry).map_err(failed)?;
        let mut hasher = Hasher::new(self.checksum);
        let header = increment::header(blocks, truncation, page);
        hasher.update(&header);
        part.tar().data(&header).map_err(failed)?;
        let segment = RelationFile::parse(names.manifest).map_or(0, |file| file.segment);
        let most = self.buffer.len() as u64 / page;
        for (first, length) in runs(blocks, most) {
            if self.cancel.is_cancelled() {
                return Err(Error::cancelled());
            }
            let (offset, want) =
                (u64::from(first) * page, usize::try_from(length * page).unwrap_or(usize::MAX));
            let count = self.read(&opened.source, want, offset, names.source)?;
            if let Some(check) = self.check.filter(|_| look == Look::First) {
                self.verify(&opened.source, check, segment, offset, count, names.manifest)?;
            }
            hasher.update(&self.buffer[..want]);
            part.tar().data(&self.buffer[..want]).map_err(failed)?;
            if look == Look::First {
                self.progress.add_done(want as u64);
            }
        }
        part.tar().end().map_err(failed)?;
        self.bytes += opened.size;
        self.note(part, increment::incremental_name(names.manifest), size, opened, hasher);
        Ok(())
    }
}

/// Blocks that follow each other, at most `most` together: the first of each run and how many there are.
fn runs(blocks: &RoaringBitmap, most: u64) -> impl Iterator<Item = (u32, u64)> + '_ {
    let mut rest = blocks.iter().peekable();
    std::iter::from_fn(move || {
        let first = rest.next()?;
        let mut length = 1;
        while length < most && rest.next_if(|next| u64::from(*next) == u64::from(first) + length).is_some() {
            length += 1;
        }
        Some((first, length))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_side_by_side_are_read_together() {
        let blocks = RoaringBitmap::from_iter([0, 1, 2, 3, 4, 7, 9, 10]);
        assert_eq!(runs(&blocks, 3).collect::<Vec<_>>(), [(0, 3), (3, 2), (7, 1), (9, 2)]);
        assert_eq!(runs(&RoaringBitmap::new(), 3).count(), 0);
    }
}
