//! Damage: every flipped bit is named by `check` and takes no more with it than it must; recovery at every offset of a segment
//! and with every flipped bit.

use burnlog_jsonl::{JsonlBackend, JsonlOptions, Recovered, Simulated, Verdict, recover};
use burnlog_log::conformance::build::{Event, TestFeed, assert_feed, read_all};
use burnlog_log::{Backend, Body, Limit, Presence};
use proptest::prelude::*;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const FOLDER: &str = "/ledger";

fn open(system: &Simulated, read_only: bool) -> JsonlBackend {
    let options = JsonlOptions {
        create: !read_only,
        read_only,
        frame_bytes: 700,
        files: Arc::new(system.clone()),
        ..JsonlOptions::default()
    };
    JsonlBackend::open(Path::new(FOLDER), options).unwrap()
}

fn segment(system: &Simulated, ending: &str) -> PathBuf {
    let found = system.paths().into_iter().find(|path| path.to_str().unwrap().ends_with(ending));
    found.unwrap_or_else(|| panic!("no file ends in {ending}"))
}

fn events() -> Vec<Event> {
    let mut events = Event::lines("a", 4);
    events.push(Event::line("b", 0, b"plain text"));
    events.push(Event::line("b", 1, b"\xff\x00\n"));
    events
}

/// One segment with three batches of one feed and one of another that refers to the first.
fn ledger() -> (Simulated, TestFeed, TestFeed) {
    let system = Simulated::new(7);
    let (mut one, mut two) = (TestFeed::new(1), TestFeed::new(2));
    let backend = open(&system, false);
    for chunk in events().chunks(2) {
        one.append(&backend, chunk).unwrap();
    }
    two.append(&backend, &events()[1..4]).unwrap();
    (system, one, two)
}

/// The offsets at which the batches of a segment end.
fn ends(bytes: &[u8]) -> Vec<u64> {
    let mut ends: Vec<u64> = Vec::new();
    let mut offset = 0;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        offset += line.len() as u64;
        if line[18..].starts_with(b"\"commit\"") {
            ends.push(offset);
        }
    }
    ends
}

#[test]
fn recovery_at_every_offset_finds_the_last_whole_batch() {
    let (system, ..) = ledger();
    let bytes = system.bytes_of(&segment(&system, ".jsonl")).unwrap();
    let ends = ends(&bytes);
    assert_eq!(ends.len(), 4);
    let header = bytes.iter().position(|byte| *byte == b'\n').unwrap() as u64 + 1;
    for cut in 0..=bytes.len() {
        let whole = ends.iter().rev().find(|end| **end <= cut as u64).copied();
        for durable in [None, Some(0), Some(header), whole] {
            let recovered = recover(&bytes[..cut], durable);
            if durable.is_some_and(|durable| durable > cut as u64) {
                assert_eq!(recovered.verdict, Verdict::Damaged, "cut at {cut}, durable {durable:?}");
                continue;
            }
            let expected = whole.unwrap_or(if cut as u64 >= header { header } else { 0 });
            assert_eq!(recovered.committed_bytes, expected, "cut at {cut}, durable {durable:?}");
            let expected = if cut as u64 == expected { Verdict::Clean } else { Verdict::Torn };
            assert_eq!(recovered.verdict, expected, "cut at {cut}, durable {durable:?}: {recovered:?}");
        }
        for durable in ends.iter().filter(|end| **end > cut as u64) {
            let recovered = recover(&bytes[..cut], Some(*durable));
            assert_eq!(recovered.verdict, Verdict::Damaged, "cut at {cut}, durable {durable}");
            assert!(recovered.committed_bytes <= cut as u64);
        }
    }
}

#[test]
fn bytes_after_the_last_batch_are_torn_whatever_they_are() {
    let (system, ..) = ledger();
    let bytes = system.bytes_of(&segment(&system, ".jsonl")).unwrap();
    let second = bytes.len() - ends(&bytes)[2] as usize;
    let tails: [&[u8]; 8] = [
        &[0; 5000],
        b"\n\n\n",
        b"{\"crc\":\"",
        &bytes[bytes.len() - second + 1..],
        &[0xff; 40],
        // Room for batches to come, and what a crash leaves of that.
        &[b' '; 5000],
        b"   \0\0   ",
        b"  {  ",
    ];
    for tail in tails {
        let recovered = recover(&[&bytes, tail].concat(), Some(bytes.len() as u64));
        let expected = Recovered {
            committed_bytes: bytes.len() as u64,
            slots: 9,
            batches: 4,
            verdict: Verdict::Torn,
            damage: Vec::new(),
        };
        assert_eq!(recovered, expected, "{tail:?}");
    }
    let empty = recover(b"", Some(0));
    assert_eq!((empty.committed_bytes, empty.verdict), (0, Verdict::Clean));
    let zeros = recover(&[0; 8192], Some(0));
    assert_eq!((zeros.committed_bytes, zeros.verdict), (0, Verdict::Torn));
}

#[test]
fn every_flipped_bit_below_the_durable_length_is_damage_and_above_it_is_torn() {
    let (system, ..) = ledger();
    let bytes = system.bytes_of(&segment(&system, ".jsonl")).unwrap();
    let ends = ends(&bytes);
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            let recovered = recover(&flipped, Some(bytes.len() as u64));
            assert_eq!(recovered.verdict, Verdict::Damaged, "byte {at} bit {bit}");
            assert_eq!(recovered.committed_bytes, bytes.len() as u64, "byte {at} bit {bit}");
            assert_eq!(recovered.slots, 9, "byte {at} bit {bit}");
            if at as u64 >= ends[1] {
                let recovered = recover(&flipped, Some(ends[1]));
                let whole = ends.iter().rev().find(|end| **end <= at as u64).copied().unwrap();
                assert_eq!(
                    (recovered.committed_bytes, recovered.verdict),
                    (whole, Verdict::Torn),
                    "byte {at} bit {bit}"
                );
            }
        }
    }
}

/// Each line is sound by itself; only the checksum over the batch tells that one does not belong there.
#[test]
fn sound_lines_in_the_wrong_place_are_damage() {
    let (system, ..) = ledger();
    let bytes = system.bytes_of(&segment(&system, ".jsonl")).unwrap();
    let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    // The header, then three times two entries and a commit line: lines 1 and 4 are the first of their batches.
    let with = |order: &[usize]| -> Vec<u8> {
        let rest = order.len()..lines.len();
        order.iter().copied().chain(rest).flat_map(|at| lines[at].to_vec()).collect()
    };
    for order in [[0, 4, 2, 3, 1, 5], [0, 1, 2, 3, 2, 5], [0, 2, 1, 3, 4, 5], [0, 4, 5, 6, 1, 2]] {
        let recovered = recover(&with(&order), Some(bytes.len() as u64));
        assert_eq!(recovered.verdict, Verdict::Damaged, "{order:?}");
    }
    let path = segment(&system, ".jsonl");
    system.put(&path, &with(&[0, 4, 2, 3, 1, 5]));
    let mut codes = Vec::new();
    open(&system, true).check(&mut |damage| codes.push(damage.code)).unwrap();
    assert_eq!(codes, ["segment-damaged", "segment-damaged"]);
}

proptest! {
    /// Whatever lies there, recovery ends, stays within the bytes, and never says that torn bytes are committed.
    #[test]
    fn recovery_of_anything_ends(edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 0..30), durable in prop::option::of(0u64..8000)) {
        let (system, ..) = ledger();
        let mut bytes = system.bytes_of(&segment(&system, ".jsonl")).unwrap();
        for (at, byte, insert) in edits {
            let at = at.index(bytes.len());
            if insert { bytes.insert(at, byte) } else { bytes[at] = byte }
        }
        let recovered = recover(&bytes, durable);
        prop_assert!(recovered.committed_bytes <= bytes.len() as u64);
        let again = recover(&bytes[..recovered.committed_bytes as usize], durable);
        prop_assert_eq!(again.committed_bytes, recovered.committed_bytes);
        prop_assert_eq!(again.batches, recovered.batches);
    }
}

/// What a reader gets of a ledger in which one file is spoiled.
struct Seen {
    /// For each entry of both feeds whether it could be read.
    readable: Vec<bool>,
    is_named: bool,
    by_address: usize,
}

fn look(system: &Simulated, one: &TestFeed, two: &TestFeed, what: &str) -> Seen {
    let backend = open(system, true);
    let mut readable = Vec::new();
    for (feed, events) in [(one, &events()[..]), (two, &events()[1..4])] {
        let page = read_all(&backend, &feed.id(), Limit::default());
        for (index, event) in events.iter().enumerate() {
            match page.entries.get(index).map(|entry| &entry.body) {
                Some(Body::Damaged { .. }) | None => readable.push(false),
                Some(body) => {
                    assert_eq!(*body, event.body(), "{what}: entry {index} of {}", feed.id());
                    readable.push(true);
                }
            }
        }
        assert!(page.entries.len() <= events.len(), "{what}");
        assert!(page.heads.iter().all(|head| feed.heads.contains(head)), "{what}: a head that nobody signed");
    }
    let addresses: Vec<_> = events().iter().map(|event| event.address).collect();
    let got = backend.get(&addresses, Limit::default()).unwrap();
    let by_address = got.iter().zip(events()).filter(|(body, event)| **body == Some(event.body())).count();
    let mut is_named = false;
    backend.check(&mut |_| is_named = true).unwrap();
    Seen { readable, is_named, by_address }
}

/// The reach of one flipped bit in a file: at most `entries_max` of the nine entries and so many of the six events.
fn flip_every_bit(
    system: &Simulated,
    path: &Path,
    feeds: (&TestFeed, &TestFeed),
    entries_max: usize,
    events_max: usize,
) {
    let bytes = system.bytes_of(path).unwrap();
    // Every bit of every byte would take minutes (recovery alone is tested with all of them): the bits take turns.
    for at in (0..bytes.len()).step_by(5) {
        let bit = at % 8;
        let what = format!("{} byte {at} bit {bit}", path.display());
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << bit;
        system.put(path, &flipped);
        let seen = look(system, feeds.0, feeds.1, &what);
        assert!(seen.is_named, "{what}: not named");
        let lost = seen.readable.iter().filter(|readable| !**readable).count();
        assert!(lost <= entries_max, "{what}: {lost} entries are lost");
        assert!(seen.by_address + events_max >= 6, "{what}: only {} events are left", seen.by_address);
    }
    system.put(path, &bytes);
}

#[test]
fn a_flipped_bit_in_an_active_segment_costs_one_event_while_the_index_knows_it() {
    let (system, one, two) = ledger();
    // With the index on disk even a damaged commit line costs nothing.
    let backend = open(&system, false);
    backend.compact().unwrap();
    drop(backend);
    let active = segment(&system, ".jsonl");
    // An event may be an entry of both feeds.
    flip_every_bit(&system, &active, (&one, &two), 2, 1);
}

#[test]
fn a_flipped_bit_in_an_active_segment_costs_one_batch_without_index() {
    let (system, one, two) = ledger();
    let active = segment(&system, ".jsonl");
    // A lost commit line takes its batch out of the feed; its events stay readable by address.
    flip_every_bit(&system, &active, (&one, &two), 3, 1);
}

#[test]
fn a_flipped_bit_in_a_sealed_segment_costs_one_frame() {
    let (system, one, two) = ledger();
    let backend = open(&system, false);
    one_more_round(&backend);
    assert!(backend.seal().unwrap());
    drop(backend);
    let sealed = segment(&system, ".jsonl.zst");
    for with_index in [true, false] {
        if !with_index {
            system.remove_folder(&Path::new(FOLDER).join("index"));
        }
        flip_every_bit(&system, &sealed, (&one, &two), 6, 4);
    }
}

/// Makes `backend` the one that holds the active segment.
fn one_more_round(backend: &JsonlBackend) {
    TestFeed::new(3).append(backend, &Event::lines("z", 1)).unwrap();
}

#[test]
fn a_flipped_bit_beside_the_segments_costs_nothing() {
    let (system, one, two) = ledger();
    let backend = open(&system, false);
    backend.compact().unwrap();
    drop(backend);
    let beside: Vec<PathBuf> = system
        .paths()
        .into_iter()
        .filter(|path| {
            let name = path.to_str().unwrap();
            name.contains("/index/") || name.ends_with(".durable")
        })
        .collect();
    assert_eq!(beside.len(), 3);
    for path in beside {
        let bytes = system.bytes_of(&path).unwrap();
        // Padding after the records of a published length, and beside the header of a run, means nothing.
        let meaningless = |at: usize| path.to_str().unwrap().ends_with(".durable") && (32..512).contains(&at);
        for at in
            (0..bytes.len()).filter(|at| !meaningless(*at)).step_by(if bytes.len() > 1000 { 7 } else { 1 })
        {
            let what = format!("{} byte {at}", path.display());
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            system.put(&path, &flipped);
            let seen = look(&system, &one, &two, &what);
            assert!(seen.readable.iter().all(|readable| *readable), "{what}: entries are lost");
            assert_eq!(seen.by_address, 6, "{what}");
            assert!(seen.is_named, "{what}: not named");
        }
        system.put(&path, &bytes);
    }
}

#[test]
fn without_its_index_a_ledger_answers_the_same_and_says_so() {
    let (system, one, two) = ledger();
    let backend = open(&system, false);
    one_more_round(&backend);
    backend.seal().unwrap();
    drop(backend);
    let removals: [&dyn Fn(); 3] = [
        &|| system.remove_folder(&Path::new(FOLDER).join("index")),
        &|| system.put(&Path::new(FOLDER).join("index/manifest"), b"nonsense"),
        &|| {
            let run = segment(&system, ".run");
            system.put(&run, b"");
        },
    ];
    for remove in removals {
        remove();
        for read_only in [true, false] {
            let backend = open(&system, read_only);
            assert_feed(&backend, &one, &events());
            assert_feed(&backend, &two, &events()[1..4]);
            let found =
                backend.find(&one.id(), &[events()[2].address, Event::lines("no", 1)[0].address]).unwrap();
            assert_eq!((found[0].presence, found[0].index), (Presence::Present, Some(2)));
            assert_eq!(found[1].presence, Presence::Absent);
            let notices = backend.take_notices();
            assert!(notices.iter().any(|notice| notice.code == "index-rebuilt"), "{notices:?}");
        }
        // The writer has made it again, so nobody needs to say so once more.
        let backend = open(&system, true);
        assert_feed(&backend, &one, &events());
        assert_eq!(backend.take_notices(), []);
        backend.check(&mut |damage| panic!("{damage:?}")).unwrap();
    }
}

#[test]
fn a_missing_segment_and_a_stray_file_are_named() {
    let (system, one, _) = ledger();
    let backend = open(&system, false);
    one_more_round(&backend);
    backend.seal().unwrap();
    drop(backend);
    system.put(&Path::new(FOLDER).join("segments/notes.txt"), b"mine");
    let sealed = segment(&system, ".jsonl.zst");
    let bytes = system.bytes_of(&sealed).unwrap();
    burnlog_jsonl::Files::remove(&system, &sealed).unwrap();
    let backend = open(&system, true);
    let mut codes = Vec::new();
    backend.check(&mut |damage| codes.push(damage.code)).unwrap();
    assert_eq!(codes, ["segment-missing", "stray-file"]);
    let page = read_all(&backend, &one.id(), Limit::default());
    assert_eq!(page.entries.len(), 6);
    assert!(page.entries.iter().all(|entry| matches!(entry.body, Body::Damaged { .. })));
    drop(backend);
    system.put(&sealed, &bytes);
    assert_feed(&open(&system, true), &one, &events());
}
