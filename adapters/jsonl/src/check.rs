//! Checking every byte that the ledger keeps for itself: headers, checksums, tables, published lengths, index. Reports and goes
//! on; repairs nothing.

use crate::cache::Source;
use crate::erased::Erased;
use crate::files::{Access, Listed, io_error, read_range};
use crate::identity;
use crate::index::{Failure, MANIFEST_NAME, ManifestRead, Run, Seen, read_manifest};
use crate::published;
use crate::recover::{Start, Walk, sound_batches};
use crate::sealed::{Frame, SealedFile};
use crate::segment::{Form, Part, Segment};
use crate::store::Store;
use burnlog_log::{Address, Damage, Result};
use std::io;
use std::sync::Arc;

const WINDOW_BYTES: u64 = 4 << 20;
const FILES: [&str; 4] = ["ledger.json", "ledger.json.new", "lock", crate::erased::FILE_NAME];
const FOLDERS: [&str; 3] = ["segments", "index", "quarantine"];

type Report<'a> = &'a mut dyn FnMut(Damage);

fn damage(
    code: &'static str,
    place: impl Into<String>,
    message: impl Into<String>,
    rebuildable: bool,
) -> Damage {
    Damage { code, place: place.into(), message: message.into(), rebuildable }
}

impl Store {
    /// Checks the ledger; see [`burnlog_log::Backend::check`].
    pub(crate) fn check(&self, report: Report<'_>) -> Result<()> {
        match identity::read(self.files(), &self.folder) {
            Ok(Some(id)) if id == self.ledger => {
                if !identity::is_as_written(self.files(), &self.folder, id) {
                    let message = "it is not what was written, although it can be read";
                    report(damage("ledger-file", identity::FILE_NAME, message, true));
                }
            }
            Ok(Some(_)) => {
                report(damage("ledger-file", identity::FILE_NAME, "it names another ledger", false));
            }
            Ok(None) => report(damage("ledger-file", identity::FILE_NAME, "it is missing", false)),
            Err(error) => report(damage("ledger-file", identity::FILE_NAME, error.message(), false)),
        }
        let segments = self.with_state(|state| Ok(state.segments.clone()))?;
        for (segment, number) in segments.iter().zip(0..) {
            match segment.form {
                Form::Active => self.check_active(segment, number, report)?,
                Form::Sealed => self.check_sealed(segment, number, report)?,
                Form::Gone if segment.known.slots > 0 => {
                    let place = format!("segments/{}", segment.name);
                    report(damage(
                        "segment-missing",
                        place,
                        "the index knows a segment that is not there",
                        false,
                    ));
                }
                Form::Gone => {}
            }
        }
        self.check_index(report);
        self.check_erased(report)?;
        self.check_strays(report)
    }

    fn check_active(&self, segment: &Segment, number: u32, report: Report<'_>) -> Result<()> {
        let path = Part::Active.path(&self.folder, &segment.name);
        let place = format!("segments/{}.jsonl", segment.name);
        let failed = |error| io_error("check segment", &place, error);
        let file = match self.files().open(&path, Access::Read) {
            Ok(file) => file,
            // Sealed since the state was looked at.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        self.check_published(segment, report)?;
        let end = segment.known.bytes;
        let (mut at, mut missing) = (Start { offset: 0, slot: 0 }, 0u64);
        let mut window = WINDOW_BYTES;
        while at.offset < end {
            let bytes =
                read_range(&*file, at.offset, (end - at.offset).min(window) as usize).map_err(failed)?;
            let mut rows = Vec::new();
            let after = sound_batches(&bytes, at, &mut |batch| {
                rows.extend(
                    batch.entries.iter().map(|entry| (entry.address, batch.first_slot + entry.ordinal)),
                );
            });
            missing += self.count_unindexed(number, &rows)?;
            if after.offset > at.offset {
                (at, window) = (after, WINDOW_BYTES);
            } else if bytes.len() as u64 == window {
                window *= 2;
            } else {
                break;
            }
        }
        if at.offset < end {
            let rest = read_range(&*file, at.offset, (end - at.offset) as usize).map_err(failed)?;
            let walked = Walk { bytes: &rest, start: at, durable: Some(end) }.run(&mut |_| {});
            for range in walked.damage {
                let message = format!("{} bytes cannot all be read: {}", range.bytes, range.reason);
                report(damage("segment-damaged", format!("{place} at {}", range.offset), message, false));
            }
        }
        report_unindexed(missing, &place, report);
        self.check_torn_end(segment, report)?;
        self.check_copies(number, &place, report)
    }

    fn check_published(&self, segment: &Segment, report: Report<'_>) -> Result<()> {
        let path = Part::Published.path(&self.folder, &segment.name);
        let place = format!("segments/{}.durable", segment.name);
        match self.files().open(&path, Access::Read) {
            Ok(file) => {
                let sound =
                    published::is_sound(&*file).map_err(|error| io_error("check segment", &place, error))?;
                if !sound {
                    let message = "a published length is damaged; the next append publishes it anew";
                    report(damage("published-length", place, message, true));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let still_active =
                    self.files().open(&Part::Active.path(&self.folder, &segment.name), Access::Read);
                if still_active.is_ok() {
                    let message = "the published length is missing; the next append publishes it anew";
                    report(damage("published-length", place, message, true));
                }
            }
            Err(error) => return Err(io_error("check segment", &place, error)),
        }
        Ok(())
    }

    fn check_sealed(&self, segment: &Segment, number: u32, report: Report<'_>) -> Result<()> {
        let path = Part::Sealed.path(&self.folder, &segment.name);
        let place = format!("segments/{}.jsonl.zst", segment.name);
        let opened = match self.cache().source(segment.reference().id) {
            Some(Source::Sealed(sealed)) => Ok(sealed),
            _ => self
                .files()
                .open(&path, Access::Read)
                .and_then(|file| SealedFile::open(file, self.ledger))
                .map(Arc::new),
        };
        let sealed = match opened {
            Ok(sealed) => sealed,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                report(damage("segment-missing", place, "the segment is not there", false));
                return Ok(());
            }
            Err(error) => return Err(io_error("check segment", &place, error)),
        };
        if let Some(reason) = &sealed.table_damage {
            report(damage("sealed-table", &place, reason, true));
        } else if !sealed.end_is_sound() {
            let message =
                "the tables at the end are not what was written; the batches are read from the frames";
            report(damage("sealed-table", &place, message, true));
        }
        let mut missing = 0;
        for frame in 0..sealed.table.frames.len() {
            let offset = sealed.table.frames[frame].offset;
            match check_frame(&sealed, frame) {
                Ok(()) => missing += self.count_unplaced(number, &sealed.table.frames[frame])?,
                Err(reason) => {
                    report(damage("segment-damaged", format!("{place} at {offset}"), reason, false));
                }
            }
        }
        if sealed.table.slots < segment.known.slots {
            let message = format!("{} entries instead of {}", sealed.table.slots, segment.known.slots);
            report(damage("segment-damaged", &place, message, false));
        }
        report_unindexed(missing, &place, report);
        self.check_copies(number, &place, report)
    }

    /// Counts entries that the index does not know at their place.
    fn count_unindexed(&self, segment: u32, rows: &[(Address, u32)]) -> Result<u64> {
        self.with_state(|state| {
            let mut missing = 0;
            for (address, slot) in rows {
                let mut is_there = false;
                state.index.addresses(address, Seen::Durable, &mut |row| {
                    is_there |= row.segment == segment && row.slot() == *slot;
                })?;
                let batch = state.index.at_slot(segment, *slot, Seen::Durable)?;
                missing += u64::from(!is_there || batch.is_none());
            }
            Ok(missing)
        })
    }

    /// Counts entries of a frame that belong to no batch in the index: reading feeds never comes to them.
    fn count_unplaced(&self, segment: u32, frame: &Frame) -> Result<u64> {
        self.with_state(|state| {
            let (mut slot, end, mut missing) = (frame.first_slot, frame.first_slot + frame.slots, 0);
            while slot < end {
                let row = state.index.at_slot(segment, slot, Seen::Durable)?;
                missing += u64::from(row.is_none());
                slot = row.map_or(0, |row| row.place.end_slot()).max(slot + 1);
            }
            Ok(missing)
        })
    }

    fn check_index(&self, report: Report<'_>) {
        let folder = self.folder.join("index");
        let manifest = match read_manifest(self.files(), &folder, self.ledger) {
            ManifestRead::Sound(manifest) => manifest,
            ManifestRead::Absent => return,
            ManifestRead::Damaged => {
                let place = format!("index/{MANIFEST_NAME}");
                report(damage("index-manifest", place, "the manifest cannot be read", true));
                return;
            }
        };
        for name in &manifest.runs {
            let place = format!("index/{name}");
            let run = self.files().map(&folder.join(name)).ok();
            let run = run.and_then(|bytes| Run::open(name.clone(), true, bytes, self.ledger));
            match run {
                Some(run) => run.check().iter().for_each(|fault| {
                    let message = "the checksum of the page does not fit";
                    report(damage("index-page", format!("{place} page {}", fault.page), message, true));
                }),
                None => {
                    report(damage("index-page", place, "the run is missing or its header is damaged", true));
                }
            }
        }
    }

    fn check_erased(&self, report: Report<'_>) -> Result<()> {
        let erased = Erased::read(self.files(), &self.folder)?;
        for offset in erased.damaged() {
            let message =
                "the line cannot be read; what it erased may be readable again, so erase it once more";
            report(damage(
                "erased-line",
                format!("{} at {offset}", crate::erased::FILE_NAME),
                message,
                false,
            ));
        }
        // An address that is erased must be known, or the line is not what was written.
        let addresses: Arc<Vec<Address>> = Arc::new(erased.iter().map(|(address, _)| *address).collect());
        let unknown = self.with_state(|state| -> std::result::Result<Vec<Address>, Failure> {
            let mut unknown = Vec::new();
            for address in addresses.iter() {
                let mut is_there = false;
                state.index.addresses(address, Seen::Durable, &mut |_| is_there = true)?;
                if !is_there {
                    unknown.push(*address);
                }
            }
            Ok(unknown)
        })?;
        for address in unknown {
            let message = format!("{address} is erased but not in the ledger");
            report(damage("erased-unknown", crate::erased::FILE_NAME, message, true));
        }
        Ok(())
    }

    fn check_strays(&self, report: Report<'_>) -> Result<()> {
        let list = |folder: &str| -> Result<Vec<Listed>> {
            let path = self.folder.join(folder);
            match self.files().list(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
                result => result.map_err(|error| io_error("check ledger", path.display(), error)),
            }
        };
        let mut stray = |folder: &str, listed: &Listed| {
            let place = format!("{folder}{}", listed.name);
            report(damage("stray-file", place, "it is no part of the ledger; move it elsewhere", true));
        };
        for listed in list("")? {
            let known: &[&str] = if listed.is_folder { &FOLDERS } else { &FILES };
            if !known.contains(&listed.name.as_str()) {
                stray("", &listed);
            }
        }
        let segments = list("segments")?;
        for listed in &segments {
            if listed.is_folder || Part::of(&listed.name).is_none() {
                stray("segments/", listed);
            }
        }
        for listed in list("index")? {
            let is_ours = listed.name == MANIFEST_NAME
                || listed.name == "manifest.new"
                || listed.name.strip_suffix(".run").is_some_and(|name| name.len() == 16);
            if listed.is_folder || !is_ours {
                stray("index/", &listed);
            }
        }
        self.check_orphans(&segments, report)
    }
}

fn report_unindexed(missing: u64, place: &str, report: Report<'_>) {
    if missing > 0 {
        let message = format!("{missing} entries are not in the index at their place");
        report(damage("index-incomplete", place, message, true));
    }
}

/// Checks a frame as a whole, unless it was found whole when its lines were read. What the entry lines hold is checked by
/// whoever reads them, and that they are indexed by whoever finds them.
fn check_frame(sealed: &SealedFile, frame: usize) -> std::result::Result<(), String> {
    if sealed.is_whole(frame) {
        return Ok(());
    }
    let block = sealed.block(frame)?;
    if let Some(fault) = sealed.frame_fault(frame, &block) {
        return Err(fault);
    }
    let row = sealed.table.frames[frame];
    let broken = (row.first_slot..row.first_slot + row.slots).find(|slot| block.parsed(*slot).is_none());
    broken.map_or(Ok(()), |slot| Err(format!("the line of slot {slot} cannot be read")))
}
