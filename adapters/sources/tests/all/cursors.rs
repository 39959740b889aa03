//! The cursor file, and an ingest that is interrupted.

use crate::support::Host;
use burnlog_log::WriterId;
use burnlog_sources::CursorFile;
use proptest::prelude::*;
use std::fs;

const THREE: &str = "{\"a\":1}\n{\"b\":2}\n{\"c\":3}\n";

/// The length of the header.
const HEADER: usize = 60;

/// A host whose cursors lie behind an empty base.
fn host_with_three_files() -> Host {
    three_files(Host::new())
}

/// A host whose cursors lie in a base, but for those that it leaves behind it.
fn host_with_a_base(loose_bytes_min: usize) -> Host {
    let mut host = Host::new();
    host.loose_bytes_min = Some(loose_bytes_min);
    three_files(host)
}

fn three_files(mut host: Host) -> Host {
    for name in ["s.jsonl", "t.jsonl", "u.jsonl"] {
        host.write(name, THREE);
        host.ingest();
    }
    host
}

#[test]
fn a_file_torn_at_any_byte_forgets_no_more_than_its_last_record() {
    let mut host = host_with_three_files();
    let whole = fs::read(host.cursor_path()).unwrap();
    let size = host.feed_size();
    let mut known = Vec::new();
    for cut in 0..=whole.len() {
        fs::write(host.cursor_path(), &whole[..cut]).unwrap();
        let cursors = host.open_cursors();
        assert_eq!(cursors.damage(), None, "cut at {cut}");
        known.push(cursors.len());
    }
    assert!(known.is_sorted() && known[0] == 0 && known[whole.len()] == 3);
    // What a torn file is good for is gone on with, and the torn end does not come back.
    for cut in [0, 10, whole.len() / 2, whole.len() - 1] {
        fs::write(host.cursor_path(), &whole[..cut]).unwrap();
        host.ingest();
        assert_eq!(host.feed_size(), size);
        assert_eq!(host.open_cursors().len(), 3, "cut at {cut}");
    }
}

#[test]
fn damage_is_said_and_read_around() {
    let mut host = host_with_three_files();
    let whole = fs::read(host.cursor_path()).unwrap();
    let size = host.feed_size();
    let mut last_frame = HEADER;
    loop {
        let length = u32::from_le_bytes(whole[last_frame..last_frame + 4].try_into().unwrap()) as usize;
        if last_frame + 8 + length == whole.len() {
            break;
        }
        last_frame += 8 + length;
    }
    for at in 0..last_frame {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x40;
        fs::write(host.cursor_path(), &damaged).unwrap();
        let cursors = host.open_cursors();
        // A wrong length can only look like a torn end.
        assert!(cursors.damage().is_some() || cursors.len() < 3, "byte {at}");
    }
    let mut damaged = whole.clone();
    damaged[HEADER + 12] ^= 1;
    fs::write(host.cursor_path(), &damaged).unwrap();
    assert!(host.open_cursors().damage().unwrap().contains("byte 60"));
    fs::write(host.cursor_path(), [&whole[..], &[0; 500]].concat()).unwrap();
    let cursors = host.open_cursors();
    assert_eq!((cursors.damage(), cursors.len()), (None, 3));
    host.ingest();
    assert_eq!(host.feed_size(), size);
}

/// A base is durable before it has its name: nothing of it can be missing, and nothing else in it is believed either.
#[test]
fn a_base_that_is_not_whole_counts_as_empty_and_says_so() {
    let mut host = host_with_a_base(0);
    let whole = fs::read(host.cursor_path()).unwrap();
    let base = u64::from_le_bytes(whole[48..56].try_into().unwrap()) as usize;
    assert_eq!((HEADER + base, host.open_cursors().len()), (whole.len(), 3), "all is in the base");
    let size = host.feed_size();
    let dropped = |host: &Host, what: String| {
        let cursors = host.open_cursors();
        assert!(cursors.damage().is_some() && cursors.is_empty(), "{what}");
        assert_eq!((cursors.len(), cursors.newest()), (0, None), "{what}");
    };
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << bit;
            fs::write(host.cursor_path(), &damaged).unwrap();
            dropped(&host, format!("byte {at}, bit {bit}"));
        }
        if at >= HEADER {
            fs::write(host.cursor_path(), &whole[..at]).unwrap();
            dropped(&host, format!("cut at {at}"));
        }
    }
    (host.has_lost_knowledge, host.has_damaged_cursors) = (true, true);
    assert_eq!(host.ingest().total().present, 9);
    assert_eq!((host.feed_size(), host.open_cursors().len()), (size, 3));
    assert_eq!(host.open_cursors().damage(), None);
}

#[test]
fn what_lies_behind_a_base_stands_for_it() {
    let mut host = host_with_a_base(0);
    host.loose_bytes_min = None;
    let base = fs::read(host.cursor_path()).unwrap();
    host.append("s.jsonl", "{\"d\":4}\n");
    host.write("v.jsonl", THREE);
    let counts = host.ingest().total();
    assert_eq!((counts.files, counts.unchanged, counts.new), (4, 2, 4));
    let both = fs::read(host.cursor_path()).unwrap();
    assert!(both.starts_with(&base) && both.len() > base.len());
    assert_eq!(host.open_cursors().len(), 4);
    let counts = host.ingest().total();
    assert_eq!((counts.files, counts.unchanged, counts.records), (4, 4, 0));
    // Torn, they give way to the base again.
    fs::write(host.cursor_path(), &both[..base.len() + 20]).unwrap();
    let counts = host.ingest().total();
    // The fourth record is there and its cursor is not: that file is read from its start.
    assert_eq!((counts.unchanged, counts.new, counts.present), (2, 0, 7));
    host.loose_bytes_min = Some(0);
    host.remove("t.jsonl");
    assert_eq!(host.ingest().total().closed, 1);
    let settled = fs::read(host.cursor_path()).unwrap();
    assert_eq!(HEADER + u64::from_le_bytes(settled[48..56].try_into().unwrap()) as usize, settled.len());
    let state = host.open_cursors().source_state("claude-code");
    assert_eq!((state.files, state.closed), (4, 1));
}

#[test]
fn an_ingest_that_can_make_no_new_base_keeps_what_it_saved() {
    let mut host = host_with_a_base(0);
    let beside = host.cursor_path().with_extension("new");
    fs::create_dir(&beside).unwrap();
    host.append("s.jsonl", "{\"d\":4}\n");
    assert_eq!(host.ingest().total().new, 1);
    assert_eq!(host.ingest().total().unchanged, 3);
    let saved = fs::read(host.cursor_path()).unwrap();
    assert!(HEADER + u64::from_le_bytes(saved[48..56].try_into().unwrap()) as usize != saved.len());
    fs::remove_dir(&beside).unwrap();
    assert_eq!(host.ingest().total().unchanged, 3);
    let settled = fs::read(host.cursor_path()).unwrap();
    assert_eq!(HEADER + u64::from_le_bytes(settled[48..56].try_into().unwrap()) as usize, settled.len());
}

#[test]
fn trap_25_cursors_of_another_feed_do_not_count() {
    let host = host_with_three_files();
    let cursors = CursorFile::open(host.cursor_path(), WriterId([9; 32])).unwrap();
    assert!(cursors.is_empty());
    assert!(cursors.damage().unwrap().contains("another feed"));
    let state = host.open_cursors().source_state("claude-code");
    assert_eq!((state.files, state.closed, state.pending_bytes), (3, 0, 0));
}

#[test]
fn points_of_the_feed_tell_what_a_restored_ledger_knows() {
    [host_with_three_files(), host_with_a_base(0), host_with_a_base(300)].into_iter().for_each(restored);
}

fn restored(mut host: Host) {
    let mut cursors = host.open_cursors();
    assert_eq!(cursors.newest().unwrap().size, 9);
    assert_eq!(cursors.invalidate_after(9).unwrap(), 0);
    assert_eq!(cursors.invalidate_after(6).unwrap(), 1);
    assert_eq!((cursors.len(), cursors.newest().unwrap().size), (2, 6));
    assert_eq!(host.open_cursors().len(), 2);
    let counts = host.ingest().total();
    assert_eq!((counts.unchanged, counts.present), (2, 3));
    let mut cursors = host.open_cursors();
    cursors.clear().unwrap();
    assert_eq!((cursors.len(), cursors.newest()), (0, None));
    assert_eq!(host.open_cursors().len(), 0);
}

#[test]
fn the_file_does_not_grow_for_ever() {
    let mut host = Host::new();
    host.write("s.jsonl", "");
    for round in 0..60 {
        host.write("s.jsonl", format!("{{\"half\":\"{}", "x".repeat(20_000 + round)));
        host.ingest();
    }
    assert!(fs::metadata(host.cursor_path()).unwrap().len() < 400_000);
    assert_eq!(host.open_cursors().len(), 1);
}

#[test]
fn a_failing_sink_stops_and_what_was_acknowledged_is_remembered() {
    for (batches, stores) in (0..8).flat_map(|batches| [(batches, true), (batches, false)]) {
        let mut host = Host::new();
        host.write("s.jsonl", THREE.repeat(4));
        host.write("t.jsonl", THREE);
        (host.crash_after, host.crash_stores) = (Some(batches), stores);
        let first = host.try_ingest_from(&[host.home()]);
        assert_eq!(first.is_err(), host.crash_after.is_none());
        if let Err(error) = first {
            assert_eq!(error.message(), "the answer was lost");
        }
        host.crash_after = None;
        let before = host.feed_size();
        let counts = host.ingest().total();
        assert_eq!(counts.new, 15 - before);
        // Nothing that was acknowledged goes out again, unless more than that was stored.
        assert!(stores || counts.present == 0);
        assert_eq!(host.events().len(), 15, "after {batches}, {stores}");
        let counts = host.ingest().total();
        assert_eq!((counts.unchanged, counts.records), (2, 0));
        host.close();
        assert_eq!(host.contents("s"), [THREE.repeat(4)]);
    }
}

#[test]
fn a_dry_run_counts_and_leaves_no_trace() {
    let mut host = host_with_three_files();
    host.append("s.jsonl", "{\"d\":4}\n{\"hal");
    host.write("t.jsonl", "{\"rewritten\":1}\n");
    host.write("v.jsonl", THREE);
    host.remove("u.jsonl");
    let (size, cursors) = (host.feed_size(), fs::read(host.cursor_path()).unwrap());
    host.options.dry_run = true;
    let counts = host.ingest().total();
    assert_eq!((counts.files, counts.unchanged, counts.records, counts.pending_bytes), (3, 0, 5, 5));
    assert_eq!((counts.rewritten, counts.closed, counts.new, counts.present), (1, 1, 0, 0));
    assert_eq!((host.feed_size(), fs::read(host.cursor_path()).unwrap()), (size, cursors));
}

#[test]
fn nothing_changed_means_nothing_opened() {
    let mut host = host_with_three_files();
    let counts = host.ingest().total();
    assert_eq!((counts.files, counts.unchanged, counts.bytes_in), (3, 3, 0));
    host.options.recheck = true;
    let counts = host.ingest().total();
    assert_eq!((counts.files, counts.unchanged, counts.records, counts.rewritten), (3, 0, 0, 0));
    // A cursor that says nothing new is not written again.
    let bytes = fs::metadata(host.cursor_path()).unwrap().len();
    host.ingest();
    assert_eq!(fs::metadata(host.cursor_path()).unwrap().len(), bytes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever lies there, with or without checksums that fit: it is read or dropped, and an ingest over it loses nothing.
    #[test]
    fn any_cursor_file_is_read_or_dropped(edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 0..12), fits: bool, garbage in prop::option::of(prop::collection::vec(any::<u8>(), 0..200)), has_base: bool) {
        let mut host = if has_base { host_with_a_base(300) } else { host_with_three_files() };
        let size = host.feed_size();
        let mut bytes = fs::read(host.cursor_path()).unwrap();
        let is_untouched = edits.is_empty() && garbage.is_none();
        for (at, byte, insert) in edits {
            let at = at.index(bytes.len());
            if insert { bytes.insert(at, byte) } else { bytes[at] = byte }
        }
        let base = bytes.get(48..56).map_or(0, |base| u64::from_le_bytes(base.try_into().unwrap()) as usize);
        let end = HEADER.saturating_add(base);
        if let Some(base) = bytes.get(HEADER..end).filter(|_| fits) {
            let crc = crc32fast::hash(base).to_le_bytes();
            bytes[56..60].copy_from_slice(&crc);
        }
        // A path that is edited under a checksum that fits is another file's cursor: so there may be one for each frame, where
        // otherwise there is one for each file.
        let (mut frame, mut frames) = (end, 0);
        while let Some(head) = bytes.get(frame..frame.saturating_add(8)) {
            let length = u32::from_le_bytes(head[..4].try_into().unwrap()) as usize;
            let Some(body) = bytes.get(frame + 8..(frame + 8).saturating_add(length)) else { break };
            let (crc, body_bytes) = (crc32fast::hash(body).to_le_bytes(), body.len());
            if fits {
                bytes[frame + 4..frame + 8].copy_from_slice(&crc);
            }
            frame += 8 + body_bytes;
            frames += 1;
        }
        fs::write(host.cursor_path(), garbage.unwrap_or(bytes)).unwrap();
        let cursors = host.open_cursors();
        let most = match (fits, has_base) {
            (true, true) => frames + 3,
            (true, false) => frames,
            (false, _) => 3,
        };
        prop_assert!(cursors.len() <= most, "{} cursors in {frames} frames", cursors.len());
        prop_assert!(!is_untouched || cursors.len() == 3, "{} cursors", cursors.len());
        prop_assert!(cursors.damage().is_none() || cursors.is_empty(), "{:?}", cursors.damage());
        if !fits && cursors.damage().is_none() {
            // A cursor that fits its checksum is believed; any other costs a second reading.
            host.ingest();
            prop_assert_eq!(host.feed_size(), size);
        }
    }
}
