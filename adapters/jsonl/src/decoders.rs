//! Every decoder of this crate against bytes that nobody wrote: arbitrary ones, and good ones with edits. None panics, none
//! takes memory that the bytes do not account for.

use crate::block::Block;
use crate::commit::{Commit, parse_header, parse_sealed_header};
use crate::erased::Erased;
use crate::files::{Access, Files, SystemFiles};
use crate::identity;
use crate::index::{AddressRow, BatchRow, MANIFEST_NAME, Run, SlotRow, read_manifest};
use crate::line::{begin_line, end_line, parse_active, parse_sealed, sound_lines};
use crate::map::Mapped;
use crate::published::read_length;
use crate::recover::recover;
use crate::sealed::SealedFile;
use burnlog_log::LedgerId;
use bytes::Bytes;
use proptest::prelude::*;
use std::path::{Path, PathBuf};

const PAGE_BYTES: usize = 4096;
const LEDGER: LedgerId = LedgerId([1; 16]);

fn golden(part: &str, ending: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/ledgers/v1/ledger").join(part);
    let is_it = |path: &PathBuf| path.to_str().unwrap().ends_with(ending);
    let mut paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    std::fs::read(paths.find(is_it).unwrap()).unwrap()
}

/// A change: where, what, and whether it is put between, put in the place of a byte, or cuts everything behind.
type Edit = (prop::sample::Index, u8, u8);

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..20), 0..8)
}

fn edited(mut bytes: Vec<u8>, edits: &[Edit]) -> Vec<u8> {
    for (at, byte, how) in edits {
        if bytes.is_empty() {
            bytes.push(*byte);
        }
        let at = at.index(bytes.len());
        match how {
            0 => bytes.truncate(at),
            1..5 => bytes.insert(at, *byte),
            _ => bytes[at] = *byte,
        }
    }
    bytes
}

/// Makes the checksum of each line fit again, as far as it has one.
fn with_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let start = begin_line(&mut out);
        out.extend_from_slice(line.get(18..).unwrap_or_default());
        end_line(&mut out, start);
    }
    out
}

fn decode_lines(bytes: &[u8]) {
    for (_, covered) in sound_lines(bytes) {
        parse_active(covered);
    }
    for line in bytes.split(|byte| *byte == b'\n') {
        parse_sealed(line);
        Commit::parse(line);
        Commit::parse_active(line);
        parse_header(line);
        parse_sealed_header(line);
    }
    recover(bytes, None);
    recover(bytes, Some(bytes.len() as u64 / 2));
    let mut skeletons = Vec::new();
    for block in [
        Block::of_active(Bytes::copy_from_slice(bytes), 3, 5),
        Block::of_sealed(Bytes::copy_from_slice(bytes), 3),
    ] {
        for slot in 0..12 {
            block.content(slot, &mut skeletons);
            block.commit_after(slot);
        }
        assert!(block.commits().count() <= bytes.len());
    }
}

fn decode_run(bytes: Vec<u8>) {
    let Some(run) = Run::open("x".into(), false, Mapped::of_bytes(bytes), LEDGER) else { return };
    run.check();
    let _ = run.addresses(&[7; 16], &mut |_| {});
    let _ = run.lower_bound(0, |row: &AddressRow| row.fingerprint < [7; 16]);
    assert!(run.iterate::<AddressRow>(0).count() as u64 <= run.rows::<AddressRow>());
    assert!(run.iterate::<BatchRow>(0).count() as u64 <= run.rows::<BatchRow>());
    assert!(run.iterate::<SlotRow>(0).count() as u64 <= run.rows::<SlotRow>());
}

/// Reads a file as each of the small files that a ledger has.
fn decode_files(bytes: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    for name in ["x.durable", "x.jsonl.zst", "erased.jsonl", MANIFEST_NAME] {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    let _ = read_length(&SystemFiles, &folder.path().join("x.durable"));
    let _ = Erased::read(&SystemFiles, folder.path());
    read_manifest(&SystemFiles, folder.path(), LEDGER);
    let file = SystemFiles.open(&folder.path().join("x.jsonl.zst"), Access::Read).unwrap();
    if let Ok(sealed) = SealedFile::open(file, LEDGER) {
        sealed.end_is_sound();
        let _ = sealed.batches();
        let mut skeletons = Vec::new();
        for frame in 0..sealed.table.frames.len() {
            if let Ok(block) = sealed.block(frame) {
                (0..9).for_each(|slot| drop(block.content(slot, &mut skeletons)));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn arbitrary_bytes_are_refused_or_read(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        decode_lines(&bytes);
        decode_run(bytes.clone());
        decode_files(&bytes);
        let _ = identity::parse(&bytes);
    }

    #[test]
    fn edited_packs_are_refused_or_read(edits in edits(), fits: bool) {
        let bytes = edited(include_bytes!("../tests/suite/golden/packed-v2.jsonl").to_vec(), &edits);
        decode_lines(&if fits { with_checksums(&bytes) } else { bytes });
    }

    #[test]
    fn edited_lines_are_refused_or_read(edits in edits(), fits: bool) {
        let bytes = edited(golden("segments", ".jsonl"), &edits);
        decode_lines(&if fits { with_checksums(&bytes) } else { bytes });
        decode_files(&edited(golden("", "erased.jsonl"), &edits));
        let _ = identity::parse(&edited(golden("", "ledger.json"), &edits));
    }

    #[test]
    fn edited_runs_are_refused_or_read(edits in edits(), page in 0usize..6, at in 0usize..200, value: u64, fits: bool) {
        let mut bytes = edited(golden("index", ".run"), &edits);
        // Numbers of the header and of rows, with a checksum that fits.
        if let Some(place) = bytes.get_mut(page * PAGE_BYTES + at..).and_then(|rest| rest.first_chunk_mut::<8>()) {
            *place = value.to_le_bytes();
        }
        for page in bytes.chunks_exact_mut(PAGE_BYTES).filter(|_| fits) {
            let crc = crc32fast::hash(&page[..PAGE_BYTES - 4]).to_le_bytes();
            page[PAGE_BYTES - 4..].copy_from_slice(&crc);
        }
        decode_run(bytes);
        decode_files(&edited(golden("index", "manifest"), &edits));
    }

    #[test]
    fn edited_sealed_segments_and_lengths_are_refused_or_read(edits in edits(), at in 0usize..24, value: u64) {
        decode_files(&edited(golden("segments", ".durable"), &edits));
        let sealed = golden("segments", ".jsonl.zst");
        decode_files(&edited(sealed.clone(), &edits));
        // Extents in the trailer that no writer writes, with a checksum that fits.
        let mut trailer = sealed;
        let start = trailer.len() - 36;
        trailer[start + 8 + at % 17..][..8].copy_from_slice(&value.to_le_bytes());
        let crc = crc32fast::hash(&trailer[start..start + 32]).to_le_bytes();
        trailer[start + 32..].copy_from_slice(&crc);
        decode_files(&trailer);
    }
}

#[test]
fn the_golden_files_reach_every_decoder() {
    let segment = golden("segments", ".jsonl");
    assert_eq!(with_checksums(&segment), segment);
    assert!(recover(&segment, None).batches > 0);
    assert!(Run::open("x".into(), false, Mapped::of_bytes(golden("index", ".run")), LEDGER).is_some());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.jsonl.zst");
    std::fs::write(&path, golden("segments", ".jsonl.zst")).unwrap();
    let sealed = SealedFile::open_sound(SystemFiles.open(&path, Access::Read).unwrap(), LEDGER).unwrap();
    assert!(sealed.block(0).unwrap().entry_count() > 0);
    let erased = folder.path().join("erased.jsonl");
    std::fs::write(&erased, golden("", "erased.jsonl")).unwrap();
    assert_eq!(Erased::read(&SystemFiles, folder.path()).unwrap().iter().count(), 1);
}
