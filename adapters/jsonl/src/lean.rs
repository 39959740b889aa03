//! What an append leans on: events that it does not write again because another process wrote them. They may be visible and
//! not synced, where that process acknowledges without syncs; then they are synced here before anything depends on them.

use crate::files::io_error;
use crate::options::Durability;
use crate::published::read_length;
use crate::segment::{Form, Part, Segment};
use crate::store::{State, Store};
use burnlog_log::Result;
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

impl Store {
    /// Makes sure that what is known of these segments is as durable as what is about to be appended.
    pub(crate) fn lean_on(&self, state: &mut State, segments: &BTreeSet<u32>) -> Result<()> {
        for number in segments {
            let Segment { name, form, known, synced_bytes, .. } = &state.segments[*number as usize];
            let is_own = state.writer.as_ref().is_some_and(|writer| writer.name == *name);
            // A sealed segment was synced before it got its name.
            if is_own || *form != Form::Active || *synced_bytes >= known.bytes {
                continue;
            }
            let (name, bytes) = (Arc::clone(name), known.bytes);
            let path = Part::Published.path(&self.folder, &name);
            let length = read_length(self.files(), &path)
                .map_err(|error| io_error("append", path.display(), error))?;
            if length.is_none_or(|length| length.synced < bytes) {
                if self.options.durability == Durability::Os {
                    // Nothing is promised yet; the sync at the end covers it.
                    state.leaned_on.insert(name);
                    continue;
                }
                self.sync_other(&name)?;
            }
            state.segments[*number as usize].synced_bytes = bytes;
        }
        Ok(())
    }

    /// Syncs the segments of others that appends without syncs leaned on.
    pub(crate) fn sync_leaned_on(&self, state: &mut State) -> Result<()> {
        while let Some(name) = state.leaned_on.first().cloned() {
            self.sync_other(&name)?;
            state.leaned_on.remove(&name);
        }
        Ok(())
    }

    fn sync_other(&self, name: &str) -> Result<()> {
        match self.open_active(name).and_then(|file| file.sync()) {
            // Sealed meanwhile, which syncs.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => {
                result.map_err(|error| io_error("append", format_args!("segments/{name}.jsonl"), error))
            }
        }
    }
}
