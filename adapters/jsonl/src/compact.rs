//! Sealing and compacting: active segments become compressed ones, erased payloads vanish from segments, the index becomes
//! one run. A crash at any point leaves either the old file or the new one, whole.

use crate::files::{Access, io_error};
use crate::index::{AddressRow, Failure, Seen, SlotRow};
use crate::options::Durability;
use crate::seal::{SealSettings, rewrite_sealed, seal_active};
use crate::sealed::SealedFile;
use crate::segment::{Form, Part};
use crate::store::{State, Store};
use crate::writer::Writer;
use burnlog_log::{Address, Compacted, Error, ErrorKind, Result, WriterId, failpoint};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

type Outcome<T> = std::result::Result<T, Failure>;

/// Compacting leaves active segments below this size as they are: sealing many small ones would only make many files.
const COMPACT_BYTES_MIN: u64 = 64 << 10;

impl Store {
    /// Seals the segment that this process appends to, if it holds at least `bytes_min`.
    pub(crate) fn seal_current(&self, bytes_min: u64) -> Result<bool> {
        self.writable("seal segment")?;
        self.exclusively(|state| {
            let Some(writer) = state.writer.take_if(|writer| writer.durable.bytes >= bytes_min) else {
                return Ok(false);
            };
            if writer.durable.slots == 0 {
                state.writer = Some(writer);
                return Ok(false);
            }
            self.seal(state, &writer)?;
            self.flush(state)?;
            Ok(true)
        })
    }

    /// Seals the own segment between groups of appends. When that fails appending goes on, and it is tried again later.
    pub(crate) fn seal_own(&self, state: &mut State) {
        let Some(mut writer) = state.writer.take() else { return };
        match self.seal(state, &writer) {
            Ok(()) => {
                if let Err(failure) = self.flush(state) {
                    self.forgive(state, failure);
                }
            }
            Err(failure) => {
                let is_damaged =
                    matches!(&failure, Failure::Error(error) if error.kind() == ErrorKind::Corrupt);
                if is_damaged {
                    // Nothing more goes into a segment that cannot be read back.
                    state.damage.insert(
                        (Arc::clone(&writer.name), writer.durable.bytes),
                        "sealing failed".to_owned(),
                    );
                } else {
                    writer.seal_at = writer.durable.bytes + self.options.segment_bytes_max / 4;
                    state.writer = Some(writer);
                }
                self.forgive(state, failure);
            }
        }
    }

    /// Settles everything before the ledger is closed: syncs, seals a large segment, writes the index.
    pub(crate) fn close(&self) -> Result<()> {
        if self.options.read_only {
            return Ok(());
        }
        let is_due = {
            let mut state = self.lock_state();
            if !state.group.is_busy()
                && let Some(writer) = state.writer.as_mut()
            {
                writer.give_back_room().map_err(|error| {
                    io_error("close ledger", format_args!("segments/{}.jsonl", writer.name), error)
                })?;
            }
            let wrote = state.writer.as_ref();
            wrote.is_some_and(|writer| {
                writer.durable.bytes >= self.options.seal_bytes_min
                    || self.options.durability == Durability::Os
            }) || (wrote.is_some() && Self::is_tail_large(&state))
        };
        if !is_due {
            return Ok(());
        }
        self.exclusively(|state| {
            if self.options.durability == Durability::Os {
                self.sync_leaned_on(state)?;
                Self::sync_own(state)?;
            }
            let is_large = |writer: &mut Writer| {
                writer.durable.bytes >= self.options.seal_bytes_min && !writer.is_poisoned
            };
            if let Some(writer) = state.writer.take_if(is_large) {
                self.seal(state, &writer)?;
                self.flush(state)?;
            } else if Self::is_tail_large(state) {
                self.flush(state)?;
            }
            Ok(())
        })
    }

    /// Syncs the own segment where appends do not.
    pub(crate) fn sync_own(state: &mut State) -> Result<()> {
        let Some(writer) = state.writer.as_mut() else { return Ok(()) };
        let failed = |error| io_error("close ledger", format_args!("segments/{}.jsonl", writer.name), error);
        let extent = writer.durable;
        writer.file.sync().map_err(failed)?;
        let failed = |error| io_error("close ledger", "published length", error);
        writer.publish(extent, true).map_err(failed)
    }

    fn settings<'a>(&self, is_erased: &'a dyn Fn(&Address) -> bool) -> SealSettings<'a> {
        SealSettings {
            ledger: self.ledger,
            frame_bytes: self.options.frame_bytes,
            compression_level: self.options.compression_level,
            recomputes_hashes: self.options.seal_recomputes_hashes,
            is_erased,
        }
    }

    /// Seals a segment that this process has locked. The caller holds the ledger's lock; nothing is under way.
    fn seal(&self, state: &mut State, writer: &Writer) -> Outcome<()> {
        let number = state.numbers[&writer.name];
        let mut newest: HashMap<WriterId, u64> = HashMap::new();
        state.index.batches_after(number, 0, &mut |row: SlotRow| {
            if let Some((feed, first)) = row.feed {
                let size = newest.entry(feed).or_default();
                *size = (*size).max(first + u64::from(row.place.count));
            }
        })?;
        let settings = self.settings(&|_| false);
        let new = Part::SealedNew.path(&self.folder, &writer.name);
        let target = self.create(&new)?;
        let sealed = seal_active(&settings, &*writer.file, writer.durable.bytes, &newest, target)
            .map_err(|error| error.at(format_args!("segments/{}.jsonl", writer.name)));
        let slots = state.segments[number as usize].known.slots;
        match sealed {
            Ok(sealed) if sealed.slots == slots => {}
            result => {
                let _ = self.files().remove(&new);
                let message = "the sealed segment has another number of entries than the active one";
                let error = result.err().unwrap_or_else(|| {
                    Error::new(ErrorKind::Corrupt, "seal segment", message).at(&writer.name)
                });
                return Err(error.into());
            }
        }
        failpoint("jsonl-seal-written");
        self.put_in_place(&new, &writer.name)?;
        failpoint("jsonl-seal-renamed");
        // From here on the sealed form is what everybody reads: whatever fails now must not bring the active one back.
        let segment = &mut state.segments[number as usize];
        segment.set_form(Form::Sealed);
        segment.is_complete = true;
        if self.sync_segments().is_ok() {
            self.remove_active(&writer.name);
        }
        state.version += 1;
        state.changes = self.lock.count().ok();
        Ok(())
    }

    fn create(&self, path: &std::path::Path) -> Result<Arc<dyn crate::files::File>> {
        let open = || {
            let file = self.files().open(path, Access::WriteOrCreate)?;
            file.set_bytes(0)?;
            Ok(file)
        };
        open().map_err(|error| io_error("seal segment", path.display(), error))
    }

    fn put_in_place(&self, new: &std::path::Path, name: &str) -> Result<()> {
        let sealed = Part::Sealed.path(&self.folder, name);
        self.files().rename(new, &sealed).map_err(|error| io_error("seal segment", sealed.display(), error))
    }

    fn sync_segments(&self) -> Result<()> {
        let folder = self.folder.join("segments");
        self.files().sync_folder(&folder).map_err(|error| io_error("seal segment", folder.display(), error))
    }

    /// Removes the active form of a segment that is sealed. What cannot be removed is ignored from now on.
    fn remove_active(&self, name: &str) {
        for part in [Part::Active, Part::Published] {
            let _ = self.files().remove(&part.path(&self.folder, name));
            failpoint("jsonl-seal-removed");
        }
    }

    /// Gives back space; see [`burnlog_log::Backend::compact`].
    pub(crate) fn compact(&self) -> Result<Compacted> {
        self.writable("compact")?;
        let bytes_before = self.bytes_on_disk()?;
        self.exclusively(|state| {
            let with_erased = segments_with_erased(state)?;
            for number in 0..state.segments.len() as u32 {
                self.compact_active(state, number, with_erased.contains(&number))?;
            }
            let mut is_rewritten = false;
            for number in with_erased {
                let is_sealed = state.segments[number as usize].form == Form::Sealed;
                is_rewritten |= is_sealed && self.compact_sealed(state, number)?;
            }
            if is_rewritten {
                // The rows must say that payloads are gone, and how many bytes are left.
                self.make_index_again(state)?;
            }
            self.flush(state)?;
            self.merge_all(state)?;
            self.sweep(state);
            state.changes = Some(self.lock.count()?);
            Ok(())
        })?;
        Ok(Compacted { bytes_before, bytes_after: self.bytes_on_disk()? })
    }

    /// Seals an active segment that no other process appends to, where that is worth while.
    fn compact_active(&self, state: &mut State, number: u32, has_erased: bool) -> Outcome<()> {
        let segment = &state.segments[number as usize];
        let is_worth_it = segment.form == Form::Active
            && segment.known.slots > 0
            && (has_erased || segment.known.bytes >= COMPACT_BYTES_MIN)
            && !state.is_damaged(&segment.name);
        if !is_worth_it {
            return Ok(());
        }
        let own = state.writer.take_if(|writer| writer.name == segment.name && !writer.is_poisoned);
        let writer = match own {
            Some(writer) => Some(writer),
            None => self.adopt(state, number)?,
        };
        if let Some(writer) = writer {
            self.seal(state, &writer)?;
        }
        Ok(())
    }

    /// Writes a sealed segment again without erased payloads. `false` where it is damaged and stays as it is.
    fn compact_sealed(&self, state: &mut State, number: u32) -> Outcome<bool> {
        let name = Arc::clone(&state.segments[number as usize].name);
        let path = Part::Sealed.path(&self.folder, &name);
        let failed = |error| io_error("compact", path.display(), error);
        let file = self.files().open(&path, Access::Read).map_err(failed)?;
        let sealed = SealedFile::open(file, self.ledger).map_err(failed)?;
        let erased = Arc::clone(&state.erased);
        let is_erased = |address: &Address| erased.contains(address);
        let new = Part::SealedNew.path(&self.folder, &name);
        let target = self.create(&new)?;
        match rewrite_sealed(&self.settings(&is_erased), &sealed, target) {
            Ok(written) if written.slots == state.segments[number as usize].known.slots => {}
            Ok(_) => {
                let _ = self.files().remove(&new);
                state.note(
                    "compact-skipped",
                    path.display().to_string(),
                    "entries are missing in it".to_owned(),
                );
                return Ok(false);
            }
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                let _ = self.files().remove(&new);
                state.note("compact-skipped", path.display().to_string(), error.to_string());
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        }
        self.put_in_place(&new, &name)?;
        // Another id, so that nothing read of the old file is used.
        state.segments[number as usize].set_form(Form::Gone);
        state.segments[number as usize].set_form(Form::Sealed);
        self.sync_segments()?;
        Ok(true)
    }

    /// Removes leftovers: active segments whose sealed form is there, unfinished files.
    fn sweep(&self, state: &mut State) {
        let folder = self.folder.join("segments");
        // A sealed form whose name is not durable needs the active one a little longer.
        let (Ok(listed), Ok(())) = (self.files().list(&folder), self.sync_segments()) else { return };
        for listed in listed {
            let Some((name, part)) = Part::of(&listed.name) else { continue };
            let form = state.numbers.get(name).map(|number| state.segments[*number as usize].form);
            let is_leftover = match part {
                Part::SealedNew => true,
                Part::Active | Part::Published => form == Some(Form::Sealed),
                Part::Sealed => false,
            };
            if is_leftover {
                let _ = self.files().remove(&folder.join(&listed.name));
            }
        }
    }

    /// Adds up what the ledger takes on disk.
    pub(crate) fn bytes_on_disk(&self) -> Result<u64> {
        let mut bytes = 0;
        for folder in ["", "segments", "index", "quarantine"] {
            let path = self.folder.join(folder);
            match self.files().list(&path) {
                Ok(listed) => bytes += listed.iter().map(|listed| listed.bytes).sum::<u64>(),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(io_error("measure ledger", path.display(), error)),
            }
        }
        Ok(bytes)
    }
}

/// Returns the segments in which payloads stand that were erased since.
fn segments_with_erased(state: &State) -> Outcome<BTreeSet<u32>> {
    let mut segments = BTreeSet::new();
    for (address, _) in state.erased.iter() {
        state.index.addresses(address, Seen::Durable, &mut |row: AddressRow| {
            if row.has_event() && !row.is_erased() {
                segments.insert(row.segment);
            }
        })?;
    }
    Ok(segments)
}
