//! Checking what no checksum tells: batches that stand in two places, published lengths without their segment, and bytes after
//! the last batch. Reports and goes on; repairs nothing.

use crate::files::{Access, Listed, io_error, read_range};
use crate::index::AtIndex;
use crate::published::read_length;
use crate::recover::{BLANK, without_room};
use crate::segment::{Part, Segment};
use crate::store::Store;
use burnlog_log::{Damage, Result};
use std::io;

impl Store {
    /// Reports batches of a segment that are read from another place, so that these are a copy or a contradiction.
    pub(crate) fn check_copies(
        &self,
        number: u32,
        place: &str,
        report: &mut dyn FnMut(Damage),
    ) -> Result<()> {
        let copies = self.with_state(|state| {
            let mut batches = Vec::new();
            state.index.batches_after(number, 0, &mut |row| batches.push(row))?;
            let mut copies = 0u64;
            for batch in batches {
                let Some((feed, first)) = batch.feed else { continue };
                let found = state.index.at_index(&feed, first)?;
                copies += u64::from(!matches!(found, AtIndex::Batch(row) if row.place == batch.place));
            }
            Ok(copies)
        })?;
        if copies > 0 {
            let message = format!(
                "{copies} of its batches stand elsewhere too and are read from there; move the file that is a copy out of the ledger"
            );
            report(Damage { code: "batch-twice", place: place.to_owned(), message, rebuildable: true });
        }
        Ok(())
    }

    /// Reports published lengths whose segment is gone.
    pub(crate) fn check_orphans(&self, listed: &[Listed], report: &mut dyn FnMut(Damage)) -> Result<()> {
        for listed in listed {
            let Some((name, Part::Published)) = Part::of(&listed.name) else { continue };
            let is_there = |part: Part| match self.files().open(&part.path(&self.folder, name), Access::Read)
            {
                Ok(_) => Ok(true),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
                Err(error) => Err(io_error("check segment", &listed.name, error)),
            };
            // The active form first: sealing makes the other before it removes this one.
            if is_there(Part::Active)? || is_there(Part::Sealed)? {
                continue;
            }
            let path = Part::Published.path(&self.folder, name);
            let length = read_length(self.files(), &path)
                .map_err(|error| io_error("check segment", path.display(), error))?;
            if let Some(length) = length.filter(|length| length.visible > 0) {
                let place = format!("segments/{name}");
                let message = format!(
                    "{} bytes were published of a segment that is not there; put it back from a backup",
                    length.visible
                );
                report(Damage { code: "segment-missing", place, message, rebuildable: false });
            }
        }
        Ok(())
    }

    /// Reports bytes after the last batch of a segment that no living process writes.
    pub(crate) fn check_torn_end(&self, segment: &Segment, report: &mut dyn FnMut(Damage)) -> Result<()> {
        let place = format!("segments/{}.jsonl", segment.name);
        let failed = |error| io_error("check segment", &place, error);
        let file = match self.open_active(&segment.name) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        let (end, known) = (file.bytes().map_err(failed)?, segment.known.bytes);
        if end <= known || !file.try_lock(false).map_err(failed)? {
            return Ok(());
        }
        let torn = read_range(&*file, known, (end - known) as usize).map_err(failed)?;
        file.unlock().map_err(failed)?;
        // Room is blank, or zero where a crash left nothing but its length. A mixture is not worth keeping and yet worth a word: a
        // bit of it may have changed.
        let is_room = [BLANK, 0].iter().any(|filler| torn.iter().all(|byte| byte == filler));
        if !is_room {
            let kept = if without_room(&torn).is_empty() { "" } else { " and keeps them in quarantine/" };
            let message = format!(
                "{} bytes after the last batch were never acknowledged; the next append cuts them off{kept}",
                torn.len()
            );
            report(Damage {
                code: "torn-tail",
                place: format!("{place} at {known}"),
                message,
                rebuildable: true,
            });
        }
        Ok(())
    }
}
