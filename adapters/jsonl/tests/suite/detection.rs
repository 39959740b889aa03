//! Law 8 on this backend: every flipped bit of a small ledger, every cut, and every swapped, dropped and inserted line,
//! batch, frame and file is named by verify, or provably changes nothing. What is not touched still reads.

use burnlog_jsonl::{JsonlBackend, JsonlOptions, Simulated};
use burnlog_log::conformance::build::{Event, TestFeed, read_all};
use burnlog_log::{Backend, Batch, BatchHead, Body, Kind, Ledger, Limit, Position, Severity, verify};
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const FOLDER: &str = "/ledger";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// One active segment, no index on disk.
    Active,
    /// The same with an index.
    Indexed,
    /// One active segment with each batch in a pack.
    Packed,
    /// One sealed segment of several frames, with an index.
    Sealed,
    /// The same, made of packs.
    PackedSealed,
}

impl Form {
    fn pack_bytes_min(self) -> usize {
        if matches!(self, Self::Packed | Self::PackedSealed) { 0 } else { usize::MAX }
    }
}

const FORMS: [Form; 5] = [Form::Active, Form::Indexed, Form::Packed, Form::Sealed, Form::PackedSealed];

/// A small ledger of two feeds and what is in it.
struct Small {
    system: Simulated,
    feeds: [(TestFeed, Vec<Event>); 2],
    /// All files after each batch.
    moments: Vec<Vec<(PathBuf, Vec<u8>)>>,
    /// What was done and not named.
    unnamed: RefCell<Vec<String>>,
}

impl Drop for Small {
    fn drop(&mut self) {
        let unnamed = self.unnamed.take();
        assert!(unnamed.is_empty() || std::thread::panicking(), "not named:\n{}", unnamed.join("\n"));
    }
}

fn open(system: &Simulated) -> burnlog_log::Result<JsonlBackend> {
    let options =
        JsonlOptions { read_only: true, files: Arc::new(system.clone()), ..JsonlOptions::default() };
    JsonlBackend::open(Path::new(FOLDER), options)
}

fn create(system: &Simulated, form: Form) -> burnlog_log::Result<JsonlBackend> {
    let options = JsonlOptions {
        create: true,
        frame_bytes: 600,
        pack_bytes_min: form.pack_bytes_min(),
        files: Arc::new(system.clone()),
        ..JsonlOptions::default()
    };
    JsonlBackend::open(Path::new(FOLDER), options)
}

fn writer_event(feed: &TestFeed) -> Event {
    let mut batch = Batch::default();
    let stream = feed.id().to_string().into();
    let position = Position { kind: Kind::Writer, source: "burnlog".into(), stream, seq: 0, part: None };
    let event = batch.push(position, b"{}").unwrap();
    Event { address: event.address, skeleton: event.skeleton.to_vec(), payload: event.payload.to_vec() }
}

impl Small {
    fn new(form: Form, seed: u64) -> Self {
        let system = Simulated::new(seed);
        let backend = create(&system, form).unwrap();
        let new = |number: u64| (TestFeed::new((10 * seed + number) as u8), Vec::new());
        let mut feeds: [(TestFeed, Vec<Event>); 2] = [new(1), new(2)];
        let shared = Event::line("s", 1, b"not \xff json");
        let batches = [
            (0, vec![writer_event(&feeds[0].0), Event::line("s", 0, b"{\"n\":1}")]),
            (1, vec![writer_event(&feeds[1].0), shared.clone()]),
            (0, vec![shared, Event::line("s", 2, b"{\"n\":2}")]),
        ];
        let mut moments = Vec::new();
        for (at, events) in batches {
            let (feed, all) = &mut feeds[at];
            feed.append(&backend, &events).unwrap();
            all.extend(events);
            moments.push(files(&system));
        }
        match form {
            Form::Active | Form::Packed => {}
            // Too small to be sealed by it, but the index is written.
            Form::Indexed => drop(backend.compact().unwrap()),
            Form::Sealed | Form::PackedSealed => assert!(backend.seal().unwrap()),
        }
        drop(backend);
        Self { system, feeds, moments, unnamed: RefCell::default() }
    }

    /// The newest heads, as this host would remember them.
    fn heads(&self) -> Vec<BatchHead> {
        self.feeds.iter().map(|(feed, _)| *feed.heads.last().unwrap()).collect()
    }

    /// The files that count: who has the lock is a help for people, and what it counts is told to living processes only.
    fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        files(&self.system).into_iter().filter(|(path, _)| !path.ends_with("lock")).collect()
    }

    /// Whether verify, given what a host remembers, names something or an error names the store.
    fn is_named(&self) -> bool {
        self.is_named_with(&self.heads())
    }

    fn is_named_with(&self, heads: &[BatchHead]) -> bool {
        let backend = match open(&self.system) {
            Ok(backend) => backend,
            Err(error) => {
                assert!(!error.location().is_empty(), "{error} names no place");
                return true;
            }
        };
        let mut named = false;
        // Verify begins with this; asking for it first saves the rest in nearly every case.
        let checked = backend.check(&mut |_| named = true);
        if named || checked.is_err() {
            return true;
        }
        let verified = verify(&Ledger::new(backend), heads, &mut |finding| {
            named |= finding.severity > Severity::Note;
        });
        named || verified.is_err()
    }

    /// Counts entries that cannot be read. Every other must be what was recorded, at its index.
    fn lost(&self, what: &str) -> usize {
        let Ok(backend) = open(&self.system) else { return usize::MAX };
        let mut lost = 0;
        for (feed, events) in &self.feeds {
            let page = read_all(&backend, &feed.id(), Limit::default());
            assert!(page.entries.len() <= events.len(), "{what}: more entries than were recorded");
            assert!(
                page.heads.iter().all(|head| feed.heads.contains(head)),
                "{what}: a head that nobody signed"
            );
            lost += events.len() - page.entries.len();
            for (entry, event) in page.entries.iter().zip(events) {
                // What stands at another place than it was recorded at is an event of the ledger, never made of two.
                let is_recorded = || {
                    self.feeds.iter().flat_map(|(_, events)| events).any(|event| event.body() == entry.body)
                };
                if matches!(entry.body, Body::Damaged { .. }) || entry.address != event.address {
                    lost += 1;
                }
                assert!(
                    matches!(entry.body, Body::Damaged { .. }) || is_recorded(),
                    "{what}: bytes that nobody recorded"
                );
            }
        }
        lost
    }

    /// Puts other bytes in a file's place and requires that this is named, or that everything is as it was.
    fn spoil(&self, path: &Path, bytes: &[u8], what: &str) {
        let sound = self.system.bytes_of(path);
        self.system.put(path, bytes);
        if !self.is_named() {
            self.unnamed.borrow_mut().push(what.to_owned());
        }
        self.lost(what);
        match sound {
            Some(sound) => self.system.put(path, &sound),
            None => burnlog_jsonl::Files::remove(&self.system, path).unwrap(),
        }
    }

    fn segment(&self) -> (PathBuf, Vec<u8>) {
        let is_segment =
            |path: &PathBuf| [".jsonl", ".zst"].iter().any(|ending| path.to_str().unwrap().ends_with(ending));
        self.files().into_iter().find(|(path, _)| is_segment(path)).unwrap()
    }
}

fn files(system: &Simulated) -> Vec<(PathBuf, Vec<u8>)> {
    system.paths().into_iter().map(|path| (path.clone(), system.bytes_of(&path).unwrap())).collect()
}

/// The lines of an active segment, or the frames and tables of a sealed one.
fn records(bytes: &[u8]) -> Vec<Vec<u8>> {
    if bytes.starts_with(b"{") {
        return bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    }
    let is_start = |at: &usize| {
        let magic: [u8; 4] = bytes[*at..*at + 4].try_into().unwrap();
        [0xFD2F_B528, 0x184D_2A5B].contains(&u32::from_le_bytes(magic))
    };
    let mut starts: Vec<usize> = (0..bytes.len() - 3).filter(is_start).collect();
    starts.push(bytes.len());
    starts.windows(2).map(|pair| bytes[pair[0]..pair[1]].to_vec()).collect()
}

fn is_index(path: &Path) -> bool {
    path.parent().is_some_and(|folder| folder.ends_with("index"))
}

fn every_bit(form: Form) {
    let small = Small::new(form, 1);
    assert!(!small.is_named(), "{form:?}: a sound ledger has findings");
    assert_eq!(small.lost("sound"), 0);
    for (path, bytes) in small.files() {
        // All bits of all pages of a run are flipped in a test of the run itself, and those of a segment without an index;
        // here the bits take turns.
        let is_run = path.extension().is_some_and(|ending| ending == "run");
        let all_bits = if form == Form::Indexed { path.ends_with("manifest") } else { !is_run };
        let step = if is_run { 23 } else { 1 };
        for at in (0..bytes.len()).step_by(step) {
            for bit in (0..8).filter(|bit| all_bits || at % 8 == *bit) {
                let what = format!("{form:?}: bit {bit} of byte {at} of {}", path.display());
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                small.system.put(&path, &flipped);
                if !small.is_named() {
                    small.unnamed.borrow_mut().push(what.clone());
                }
                if bit == at % 8 && at % 5 == 0 {
                    let lost = small.lost(&what);
                    let most = if is_index(&path) { 0 } else { 4 };
                    assert!(lost <= most || path.ends_with("ledger.json"), "{what}: {lost} entries are lost");
                }
            }
        }
        small.system.put(&path, &bytes);
    }
}

#[test]
fn every_flipped_bit_is_named_while_a_segment_is_active() {
    every_bit(Form::Active);
}

#[test]
fn every_flipped_bit_is_named_while_a_segment_is_active_and_indexed() {
    every_bit(Form::Indexed);
}

#[test]
fn every_flipped_bit_is_named_in_packs() {
    every_bit(Form::Packed);
}

#[test]
fn every_flipped_bit_is_named_once_a_segment_is_sealed() {
    every_bit(Form::Sealed);
}

#[test]
fn every_flipped_bit_is_named_once_packs_are_sealed() {
    every_bit(Form::PackedSealed);
}

#[test]
fn a_file_that_is_cut_at_any_length_is_named() {
    for form in FORMS {
        let small = Small::new(form, 1);
        for (path, bytes) in small.files() {
            // Of the runs of the index, whose length is in their header, any byte is like the next.
            let step = if bytes.len() > 8000 { 509 } else { 1 };
            for length in (0..bytes.len()).step_by(step) {
                small.spoil(
                    &path,
                    &bytes[..length],
                    &format!("{form:?}: {} cut at {length}", path.display()),
                );
            }
        }
    }
}

#[test]
fn a_swapped_dropped_or_inserted_record_is_named() {
    for form in FORMS {
        let small = Small::new(form, 1);
        let (path, bytes) = small.segment();
        let records = records(&bytes);
        assert!(records.len() > 4, "{form:?}: {} records are too few to swap", records.len());
        for one in 0..records.len() {
            let mut dropped = records.clone();
            dropped.remove(one);
            small.spoil(&path, &dropped.concat(), &format!("{form:?}: record {one} dropped"));
            for two in 0..=records.len() {
                let mut inserted = records.clone();
                inserted.insert(two, records[one].clone());
                small.spoil(
                    &path,
                    &inserted.concat(),
                    &format!("{form:?}: a copy of record {one} before {two}"),
                );
                if one < two && two < records.len() {
                    let mut swapped = records.clone();
                    swapped.swap(one, two);
                    small.spoil(
                        &path,
                        &swapped.concat(),
                        &format!("{form:?}: records {one} and {two} swapped"),
                    );
                }
            }
        }
    }
}

#[test]
fn swapped_dropped_and_inserted_batches_are_named() {
    for form in [Form::Active, Form::Indexed, Form::Packed] {
        let small = Small::new(form, 1);
        let (path, bytes) = small.segment();
        let lines = records(&bytes);
        // The header, then two entries or a pack, and a commit line, for each batch.
        let batch_lines = if form == Form::Packed { 2 } else { 3 };
        let batches: Vec<Vec<u8>> = lines[1..].chunks(batch_lines).map(<[Vec<u8>]>::concat).collect();
        let with = |order: &[usize]| -> Vec<u8> {
            lines[..1].iter().chain(order.iter().map(|at| &batches[*at])).flatten().copied().collect()
        };
        let orders: [&[usize]; 9] = [
            &[1, 0, 2],
            &[0, 2, 1],
            &[2, 1, 0],
            &[1, 2],
            &[0, 2],
            &[0, 1],
            &[0, 0, 1, 2],
            &[0, 1, 2, 2],
            &[0, 1, 1, 2],
        ];
        for order in orders {
            small.spoil(&path, &with(order), &format!("{form:?}: batches {order:?}"));
        }
    }
}

#[test]
fn a_dropped_file_is_named_or_was_needless() {
    for form in FORMS {
        let small = Small::new(form, 1);
        for (path, bytes) in small.files() {
            let what = format!("{form:?}: {} dropped", path.display());
            burnlog_jsonl::Files::remove(&small.system, &path).unwrap();
            if path.ends_with("index/manifest") {
                // No index is a normal state: it is made again from the segments.
                assert_eq!(small.lost(&what), 0, "{what}");
            } else if !small.is_named() {
                small.unnamed.borrow_mut().push(what);
            }
            small.system.put(&path, &bytes);
        }
    }
}

#[test]
fn a_file_of_another_ledger_is_named_or_ignored() {
    for form in FORMS {
        let (small, other) = (Small::new(form, 1), Small::new(form, 2));
        for (path, bytes) in other.files() {
            let what = format!("{form:?}: another ledger's {}", path.display());
            let is_ours = small.system.bytes_of(&path).is_some();
            if is_index(&path) && !is_ours {
                // A run that no manifest names is what a crash leaves; nobody reads it.
                small.system.put(&path, &bytes);
                assert_eq!(small.lost(&what), 0, "{what}");
                burnlog_jsonl::Files::remove(&small.system, &path).unwrap();
            } else {
                small.spoil(&path, &bytes, &what);
            }
        }
    }
}

#[test]
fn a_copy_of_a_segment_under_another_name_is_named() {
    for form in FORMS {
        let small = Small::new(form, 1);
        let (path, bytes) = small.segment();
        let name = path.file_name().unwrap().to_str().unwrap();
        for other in [name.replacen('2', "3", 1), name.replacen('2', "1", 1)] {
            let what = format!("{form:?}: {name} copied to {other}");
            small.spoil(&path.with_file_name(&other), &bytes, &what);
            // With its published length it is a whole segment.
            let (published, copied) =
                (path.with_extension("durable"), path.with_file_name(&other).with_extension("durable"));
            if let Some(length) = small.system.bytes_of(&published) {
                small.system.put(&copied, &length);
                small.spoil(&path.with_file_name(&other), &bytes, &format!("{what}, published"));
                burnlog_jsonl::Files::remove(&small.system, &copied).unwrap();
            }
        }
    }
}

/// The whole folder as it was after an earlier batch: nothing in it is wrong, only a remembered head tells.
#[test]
fn a_ledger_that_went_back_is_named_by_what_a_host_remembers_and_unanchored_without() {
    let small = Small::new(Form::Active, 1);
    let heads = small.heads();
    let now = files(&small.system);
    for (batches, moment) in small.moments.iter().enumerate() {
        for (path, _) in &now {
            burnlog_jsonl::Files::remove(&small.system, path).unwrap();
        }
        for (path, bytes) in moment {
            small.system.put(path, bytes);
        }
        let is_newest = batches + 1 == small.moments.len();
        assert_eq!(small.is_named_with(&heads), !is_newest, "after batch {batches}");
        let (mut notes, mut named) = (Vec::new(), 0);
        let ledger = Ledger::new(open(&small.system).unwrap());
        verify(&ledger, &[], &mut |finding| {
            if finding.severity == Severity::Note { notes.push(finding.code) } else { named += 1 }
        })
        .unwrap();
        assert_eq!((notes.len(), named), (ledger.feeds().unwrap().len(), 0), "after batch {batches}");
        assert!(notes.iter().all(|code| *code == "unanchored"), "{notes:?}");
    }
}
