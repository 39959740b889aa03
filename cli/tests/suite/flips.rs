//! Law 8 on the default backend through real files: bits flipped all over a small ledger are named by `verify`. Every bit,
//! cut, swap, drop and insertion is tried on a simulated disk, in the tests of the backend.

use burnlog_jsonl::{JsonlBackend, JsonlOptions};
use burnlog_log::{Batch, BatchHead, Kind, Ledger, Position, Severity, Timestamp, WriterKey, verify};
use std::fs;
use std::path::Path;

fn open(folder: &Path) -> burnlog_log::Result<Ledger> {
    JsonlBackend::open(folder, JsonlOptions { read_only: true, ..JsonlOptions::default() }).map(Ledger::new)
}

/// A ledger with three batches of two feeds; returns the heads that an outsider remembers.
fn small_ledger(folder: &Path, sealed: bool) -> Vec<BatchHead> {
    let options = JsonlOptions { create: true, ..JsonlOptions::default() };
    let ledger = Ledger::new(JsonlBackend::open(folder, options).unwrap());
    for (number, seqs) in [(1, 0..2u64), (2, 1..3), (1, 2..3)] {
        let mut writer = ledger.writer(WriterKey::from_secret([number; 32])).unwrap();
        let mut batch = Batch::default();
        if writer.size() == 0 {
            let stream = writer.feed().to_string().into();
            let position =
                Position { kind: Kind::Writer, source: "burnlog".into(), stream, seq: 0, part: None };
            batch.push(position, b"{\"host\":\"t\"}").unwrap();
        }
        for seq in seqs {
            let position =
                Position { kind: Kind::Line, source: "test".into(), stream: "s".into(), seq, part: None };
            let payload: &[u8] = if seq == 1 { b"not \xff json" } else { b"{\"n\":1}" };
            batch.push(position, payload).unwrap();
        }
        writer.append(&batch, Timestamp::from_micros(1_700_000_000_000_000)).unwrap();
    }
    if sealed {
        ledger.compact().unwrap();
    }
    ledger.feeds().unwrap()
}

/// Flips bits that take turns in every third byte of each file and requires a finding, or an error that names the store, each time.
fn bits_are_named(sealed: bool) {
    let folder = tempfile::tempdir().unwrap();
    let ledger = folder.path().join("ledger");
    let heads = small_ledger(&ledger, sealed);
    let mut sound = Vec::new();
    verify(&open(&ledger).unwrap(), &heads, &mut |finding| sound.push(finding)).unwrap();
    assert_eq!(sound, []);
    for path in crate::files_below(&ledger) {
        if path.ends_with("lock") {
            // Who appended last, as a help for people; nothing is read from it.
            continue;
        }
        let bytes = fs::read(&path).unwrap();
        // Pages of an index are mostly padding.
        let is_index = path.parent().is_some_and(|folder| folder.ends_with("index"));
        for (at, byte) in bytes.iter().enumerate().step_by(if is_index { 29 } else { 3 }) {
            let bit = at % 8;
            let mut flipped = bytes.clone();
            flipped[at] = byte ^ (1 << bit);
            fs::write(&path, &flipped).unwrap();
            let mut named = 0;
            let outcome = open(&ledger).and_then(|ledger| {
                verify(&ledger, &heads, &mut |finding| {
                    named += u32::from(finding.severity > Severity::Note);
                })
            });
            assert!(
                named > 0 || outcome.is_err(),
                "bit {bit} of byte {at} of {} went unnoticed",
                path.display()
            );
        }
        fs::write(&path, &bytes).unwrap();
    }
}

#[test]
fn flipped_bits_of_an_active_ledger_are_named() {
    bits_are_named(false);
}

#[test]
fn flipped_bits_of_a_sealed_ledger_are_named() {
    bits_are_named(true);
}
