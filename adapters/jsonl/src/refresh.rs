//! Taking up what is in the folder: which segments there are, what the index covers, what was appended since. The state is
//! brought up to date before every look at it; when nothing moved that costs one small read.

use crate::erased::Erased;
use crate::files::{Access, File, Listed, io_error, read_range};
use crate::index::{Failure, Fault, Index, Manifest, ManifestRead, Run, read_manifest};
use crate::published;
use crate::sealed::SealedFile;
use crate::segment::{Form, Part, Segment};
use crate::store::{State, Store};
use burnlog_log::{Error, ErrorKind, Result};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;

/// From this many entries the tail becomes a run.
pub(crate) const TAIL_ROWS_MAX: usize = 64 << 10;
/// How many of the last bytes covered are remembered to recognise a file.
const TAIL_CRC_BYTES: u64 = 64;

type Outcome<T> = std::result::Result<T, Failure>;

impl Store {
    /// Takes up everything when the ledger is opened, also what a process that crashed left behind.
    pub(crate) fn open_segments(&self) -> Result<()> {
        self.with_state(|state| {
            let mut crashed = Vec::new();
            for number in 0..state.segments.len() as u32 {
                let segment = &state.segments[number as usize];
                let is_sound = segment.form == Form::Active && !state.is_damaged(&segment.name);
                if is_sound && self.is_unsettled(segment)? {
                    crashed.push(number);
                }
            }
            if self.options.read_only {
                return crashed.into_iter().try_for_each(|number| self.take_up_abandoned(state, number));
            }
            let is_stale = state.index_is_stale || state.index.runs.iter().any(|run| !run.is_file());
            // Whoever holds the lock is at work on these, or will settle them before it appends.
            if (crashed.is_empty() && !is_stale) || (!state.lock_is_held && !self.lock.try_take()?) {
                return Ok(());
            }
            state.lock_is_held = true;
            let settled = self.settle_crashed(state, crashed);
            self.release_lock(state);
            settled
        })
    }

    /// Settles what crashed processes left behind and writes the index where it had to be made again.
    fn settle_crashed(&self, state: &mut State, crashed: Vec<u32>) -> Outcome<()> {
        // Once more, with the lock: what was seen before it may have changed.
        self.refresh(state)?;
        for number in crashed {
            if state.segments.get(number as usize).is_some_and(|segment| segment.form == Form::Active) {
                self.adopt(state, number)?;
            }
        }
        if state.index_is_stale || state.index.runs.iter().any(|run| !run.is_file()) {
            self.flush(state)?;
        }
        Ok(())
    }

    /// Whether a crash left something to settle in an active segment: bytes beyond what is known, or
    /// no sound published length that covers it.
    fn is_unsettled(&self, segment: &Segment) -> Result<bool> {
        let look = || -> io::Result<bool> {
            let bytes = self.open_active(&segment.name)?.bytes()?;
            let path = Part::Published.path(&self.folder, &segment.name);
            let is_published = match self.files().open(&path, Access::Read) {
                // Less than the index covers is what a crash leaves; whoever makes the index again must not stop there.
                Ok(file) => {
                    let visible = published::newest(&*file)?.map_or(0, |(_, length)| length.visible);
                    visible >= segment.known.bytes && published::is_sound(&*file)?
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => false,
                Err(error) => return Err(error),
            };
            Ok(bytes > segment.known.bytes || !is_published)
        };
        match look() {
            // Sealed meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            result => result.map_err(|error| io_error("open segment", &segment.name, error)),
        }
    }

    pub(crate) fn open_active(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.files().open(&Part::Active.path(&self.folder, name), Access::Read)
    }

    /// Takes up whole batches beyond the published length of a segment that no living process has.
    fn take_up_abandoned(&self, state: &mut State, number: u32) -> Outcome<()> {
        let name = Arc::clone(&state.segments[number as usize].name);
        let failed = |error| io_error("open segment", format_args!("segments/{name}.jsonl"), error);
        let file = self.open_active(&name).map_err(failed)?;
        if file.try_lock(false).map_err(failed)? {
            let end = file.bytes().map_err(failed)?;
            let durable = state.segments[number as usize].known.bytes;
            self.scan_active_to(state, number, &*file, end, Some(durable))?;
            file.unlock().map_err(failed)?;
            // Remembered, so that an index made again has it as well.
            let segment = &mut state.segments[number as usize];
            segment.accepted_bytes = segment.known.bytes;
        }
        Ok(())
    }

    /// Brings the state up to date.
    pub(crate) fn refresh(&self, state: &mut State) -> Outcome<()> {
        // While appends of this process are under way nobody else can change anything.
        if state.group.is_busy() {
            return Ok(());
        }
        let changes = self.lock.changes();
        if changes.is_some() && changes == state.changes {
            return Ok(());
        }
        self.reload(state)?;
        state.changes = changes;
        Ok(())
    }

    fn reload(&self, state: &mut State) -> Outcome<()> {
        let folder = self.folder.join("segments");
        let listed = match self.files().list(&folder) {
            Ok(listed) => listed,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let message = "the folder of the segments is missing; put it back from a backup";
                return Err(Error::new(ErrorKind::Corrupt, "list segments", message)
                    .at(folder.display())
                    .into());
            }
            Err(error) => return Err(io_error("list segments", folder.display(), error).into()),
        };
        self.take_up_manifest(state);
        self.take_up_listing(state, &listed);
        let is_unknown = |segment: &Segment| segment.form == Form::Sealed && segment.known.slots == 0;
        if state.manifest_stamp.is_none() && state.segments.iter().any(is_unknown) {
            state.note_stale_index("index/manifest", "there is no index; it is made from the segments");
        }
        let erased = self.files().open(&self.folder.join(crate::erased::FILE_NAME), Access::Read);
        let erased_bytes = erased.and_then(|file| file.bytes()).unwrap_or_default();
        if erased_bytes != state.erased.bytes() {
            state.erased = Arc::new(Erased::read(self.files(), &self.folder)?);
        }
        for number in 0..state.segments.len() as u32 {
            let segment = &state.segments[number as usize];
            match segment.form {
                Form::Active => self.scan_active(state, number)?,
                Form::Sealed if !segment.is_complete => self.scan_sealed(state, number)?,
                Form::Sealed | Form::Gone => {}
            }
        }
        Ok(())
    }

    /// Takes up the manifest that another process wrote, if it did.
    fn take_up_manifest(&self, state: &mut State) {
        let folder = self.folder.join("index");
        let manifest = match read_manifest(self.files(), &folder, self.ledger) {
            ManifestRead::Absent => return,
            ManifestRead::Damaged => {
                let message = "the manifest of the index cannot be read; the index is made again";
                state.note_stale_index("index/manifest", message);
                return;
            }
            ManifestRead::Sound(manifest) if state.manifest_stamp == Some(manifest.stamp) => return,
            ManifestRead::Sound(manifest) => manifest,
        };
        let Some(runs) = self.open_runs(state, &manifest) else {
            let message = "a run of the index is missing or damaged; the index is made again";
            state.note_stale_index("index/", message);
            return;
        };
        if let Some(changed) = self.changed_segment(&manifest) {
            let message = "a segment is not the one that the index was made of; the index is made again";
            state.note_stale_index(&format!("segments/{changed}.jsonl"), message);
            Self::forget_index(state);
            return;
        }
        Self::replace_index(state, &manifest, runs);
    }

    fn open_runs(&self, state: &State, manifest: &Manifest) -> Option<Vec<Arc<Run>>> {
        let mut runs = Vec::with_capacity(manifest.runs.len());
        for name in &manifest.runs {
            if let Some(run) = state.index.runs.iter().find(|run| run.is_file() && run.name() == name) {
                runs.push(Arc::clone(run));
                continue;
            }
            let mapped = self.files().map(&self.folder.join("index").join(name)).ok()?;
            runs.push(Arc::new(Run::open(name.clone(), true, mapped, self.ledger)?));
        }
        Some(runs)
    }

    /// Returns an active segment that does not hold what the manifest says of it.
    fn changed_segment(&self, manifest: &Manifest) -> Option<String> {
        let changed =
            manifest.segments.iter().filter(|covered| !covered.is_complete && covered.bytes > 0).find(
                |covered| match self.open_active(&covered.name) {
                    Ok(file) => tail_crcs(&*file, covered.bytes)
                        .is_ok_and(|found| found.iter().zip(covered.tail_crcs).all(|(one, two)| *one != two)),
                    // Sealed meanwhile, or gone: both are seen elsewhere.
                    Err(_) => false,
                },
            );
        changed.map(|covered| covered.name.clone())
    }

    /// Changes over to the segments and runs of a manifest and keeps what the tail holds beyond them.
    fn replace_index(state: &mut State, manifest: &Manifest, runs: Vec<Arc<Run>>) {
        let mut segments: Vec<Segment> = manifest.segments.iter().map(Segment::of_covered).collect();
        let mut numbers: HashMap<Arc<str>, u32> =
            segments.iter().zip(0..).map(|(segment, number)| (Arc::clone(&segment.name), number)).collect();
        // For each old number: the new one and the slot from which rows of the tail are kept.
        let mut kept = BTreeMap::new();
        for (old, old_number) in state.segments.iter().zip(0u32..) {
            let number = *numbers.entry(Arc::clone(&old.name)).or_insert_with(|| {
                segments.push(Segment::new(Arc::clone(&old.name), old.form));
                segments.len() as u32 - 1
            });
            let new = &mut segments[number as usize];
            (new.id, new.form, new.accepted_bytes) = (old.id, old.form, old.accepted_bytes);
            // Rows between what the new runs cover and what the old ones covered are in neither.
            if old.covered.slots <= new.covered.slots && old.known.slots > new.covered.slots {
                new.known = old.known;
                kept.insert(old_number, (number, new.covered.slots));
            }
        }
        let tail = state.index.tail.retain(|number| kept.get(&number).copied());
        state.index = Index { runs, tail };
        (state.segments, state.numbers) = (segments, numbers);
        state.manifest_stamp = Some(manifest.stamp);
        state.version += 1;
    }

    fn take_up_listing(&self, state: &mut State, listed: &[Listed]) {
        let mut forms: BTreeMap<&str, (bool, bool)> = BTreeMap::new();
        for (name, part) in listed.iter().filter_map(|listed| Part::of(&listed.name)) {
            let (has_active, has_sealed) = forms.entry(name).or_default();
            *has_active |= part == Part::Active;
            *has_sealed |= part == Part::Sealed;
        }
        for (name, (has_active, has_sealed)) in &forms {
            if !state.numbers.contains_key(*name) && (*has_active || *has_sealed) {
                let name: Arc<str> = (*name).into();
                state.numbers.insert(Arc::clone(&name), state.segments.len() as u32);
                state.segments.push(Segment::new(name, Form::Active));
            }
        }
        for number in 0..state.segments.len() {
            let name = Arc::clone(&state.segments[number].name);
            let form = match forms.get(&*name) {
                Some((true, true)) if !self.sealed_is_sound(&name) => Form::Active,
                Some((_, true)) => Form::Sealed,
                Some((true, false)) => Form::Active,
                Some((false, false)) | None => Form::Gone,
            };
            state.segments[number].set_form(form);
        }
    }

    /// Whether the sealed form of a segment is whole, so that the active one is only a leftover.
    fn sealed_is_sound(&self, name: &str) -> bool {
        let file = self.files().open(&Part::Sealed.path(&self.folder, name), Access::Read);
        file.is_ok_and(|file| SealedFile::open_sound(file, self.ledger).is_ok())
    }

    /// Forgets the index, so that the next look reads every segment. Nothing is under way.
    fn forget_index(state: &mut State) {
        state.index = Index::default();
        state.manifest_stamp = None;
        state.changes = None;
        state.version += 1;
        state.segments.iter_mut().for_each(Segment::forget);
    }

    /// Makes the index again from the segments. Nothing is under way.
    pub(crate) fn make_index_again(&self, state: &mut State) -> Outcome<()> {
        let manifest = read_manifest(self.files(), &self.folder.join("index"), self.ledger);
        Self::forget_index(state);
        if let ManifestRead::Sound(manifest) = manifest {
            // As if it were taken up already, so that its runs are left alone.
            state.manifest_stamp = Some(manifest.stamp);
        }
        self.reload(state)
    }

    /// Makes the index again after damage in it.
    pub(crate) fn rebuild_after(&self, state: &mut State, fault: &Fault) -> Result<()> {
        let message = format!("page {} is damaged; the index was made again", fault.page);
        state.note("index-rebuilt", format!("index/{}", fault.run), message);
        let took_lock = !self.options.read_only && !state.lock_is_held && self.lock.try_take()?;
        state.lock_is_held |= took_lock;
        let result = self.make_index_again(state).and_then(|()| self.flush(state));
        if took_lock {
            self.release_lock(state);
        }
        match result {
            Ok(()) => Ok(()),
            Err(Failure::Error(error)) => Err(error),
            Err(Failure::Fault(fault)) => Err(self.fault_error(&fault)),
        }
    }
}

/// Returns the CRCs of the last bytes before `end` and of those before them.
pub(crate) fn tail_crcs(file: &dyn File, end: u64) -> io::Result<[u32; 2]> {
    let (middle, start) = (end.saturating_sub(TAIL_CRC_BYTES), end.saturating_sub(2 * TAIL_CRC_BYTES));
    let bytes = read_range(file, start, (end - start) as usize)?;
    let (before, last) = bytes.split_at(((middle - start) as usize).min(bytes.len()));
    Ok([crc32fast::hash(last), crc32fast::hash(before)])
}
