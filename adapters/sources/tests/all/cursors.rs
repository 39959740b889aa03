//! The cursor file, and an ingest that is interrupted.

use crate::support::Host;
use burnlog_log::WriterId;
use burnlog_sources::CursorFile;
use proptest::prelude::*;
use std::fs;

const THREE: &str = "{\"a\":1}\n{\"b\":2}\n{\"c\":3}\n";

fn host_with_three_files() -> Host {
    let mut host = Host::new();
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
    let mut last_frame = 48;
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
    damaged[60] ^= 1;
    fs::write(host.cursor_path(), &damaged).unwrap();
    assert!(host.open_cursors().damage().unwrap().contains("byte 48"));
    fs::write(host.cursor_path(), [&whole[..], &[0; 500]].concat()).unwrap();
    let cursors = host.open_cursors();
    assert_eq!((cursors.damage(), cursors.len()), (None, 3));
    host.ingest();
    assert_eq!(host.feed_size(), size);
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
    let mut host = host_with_three_files();
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
    fn any_cursor_file_is_read_or_dropped(edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 0..12), fits: bool, garbage in prop::option::of(prop::collection::vec(any::<u8>(), 0..200))) {
        let mut host = host_with_three_files();
        let size = host.feed_size();
        let mut bytes = fs::read(host.cursor_path()).unwrap();
        let is_untouched = edits.is_empty() && garbage.is_none();
        for (at, byte, insert) in edits {
            let at = at.index(bytes.len());
            if insert { bytes.insert(at, byte) } else { bytes[at] = byte }
        }
        // A path that is edited under a checksum that fits is another file's cursor: so there may be one for each frame, where
        // otherwise there is one for each file.
        let (mut frame, mut frames) = (48, 0);
        while let Some(head) = bytes.get(frame..frame + 8) {
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
        let most = if fits { frames } else { 3 };
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
