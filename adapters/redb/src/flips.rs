//! Law 8: flipped bits, cuts, swapped, dropped and inserted pages of a small ledger are named, or change nothing that can be read.

use crate::disk::{Disk, Trouble};
use burnlog_log::conformance::build::{Event, TestFeed, read_all};
use burnlog_log::{Backend, Body, Ledger, Limit, Severity, verify};

const PAGE_BYTES: usize = 4096;

/// A closed ledger of two feeds: its bytes, and what was recorded.
fn small() -> (Vec<u8>, [(TestFeed, Vec<Event>); 2]) {
    let disk = Disk::with_ledger();
    let backend = disk.open().unwrap();
    disk.trouble(Trouble::Nothing);
    let mut feeds = [1, 2].map(|number| (TestFeed::new(number), Vec::new()));
    let lines = Event::lines("s", 4);
    for (at, events) in [(0, &lines[..2]), (1, &lines[1..3]), (0, &lines[2..])] {
        feeds[at].0.append(&backend, events).unwrap();
        feeds[at].1.extend_from_slice(events);
    }
    backend.compact().unwrap();
    drop(backend);
    (disk.live(), feeds)
}

/// Requires of spoiled bytes an error, a finding, or that everything reads as it was recorded; tells which.
fn is_named(bytes: Vec<u8>, feeds: &[(TestFeed, Vec<Event>); 2], what: &str) -> bool {
    let backend = match Disk::with(bytes).open() {
        Ok(backend) => backend,
        Err(error) => {
            assert!(!error.location().is_empty(), "{what}: {error} names no place");
            return true;
        }
    };
    let mut is_named = false;
    if backend.check(&mut |_| is_named = true).is_err() || is_named {
        return true;
    }
    let ledger = Ledger::new(backend);
    let heads: Vec<_> = feeds.iter().map(|(feed, _)| *feed.heads.last().unwrap()).collect();
    // The feeds of the test begin with lines, which is said of a sound ledger too.
    let verified = verify(&ledger, &heads, &mut |finding| {
        is_named |= finding.severity > Severity::Note && finding.code != "writer-missing";
    });
    if verified.is_err() || is_named {
        return true;
    }
    for (feed, events) in feeds {
        let page = read_all(ledger.backend(), &feed.id(), Limit::default());
        let bodies: Vec<Body> = page.entries.into_iter().map(|entry| entry.body).collect();
        let expected: Vec<Body> = events.iter().map(Event::body).collect();
        assert_eq!(bodies, expected, "{what}: other bytes than were recorded, and nobody says so");
        assert_eq!(page.heads, feed.heads, "{what}");
    }
    false
}

fn flipped(sound: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = sound.to_vec();
    bytes[at] ^= 1 << (at % 8);
    bytes
}

/// What follows the rows of a page is free and means nothing, and neither does a page that nothing points to: after a run of
/// bytes that change nothing only a few of the rest are tried.
#[test]
fn a_flipped_bit_anywhere_is_named_or_changes_nothing() {
    let (sound, feeds) = small();
    assert!(!is_named(sound.clone(), &feeds, "sound"));
    let (mut named, mut used) = (0, 0);
    for page in (0..sound.len()).step_by(PAGE_BYTES) {
        let (mut at, mut harmless, named_before) = (page, 0, named);
        while at < page + PAGE_BYTES {
            let is_free = harmless > 24;
            if is_named(flipped(&sound, at), &feeds, &format!("byte {at}")) {
                named += 1;
                assert!(!is_free || page == 0, "byte {at} counts although bytes before it are free");
                harmless = 0;
            } else {
                harmless += 1;
            }
            at += if is_free { 211 } else { 3 };
        }
        used += usize::from(named > named_before);
    }
    assert!(used > 8 && named > 2000, "only {named} flipped bits in {used} pages were noticed");
}

#[test]
fn a_page_that_is_dropped_swapped_or_inserted_is_named_or_changes_nothing() {
    let (sound, feeds) = small();
    let pages: Vec<&[u8]> = sound.chunks(PAGE_BYTES).collect();
    let mut named = 0;
    for one in 0..pages.len() {
        let mut dropped = pages.clone();
        dropped.remove(one);
        assert!(is_named(dropped.concat(), &feeds, &format!("page {one} dropped")), "page {one} dropped");
        let mut inserted = pages.clone();
        inserted.insert(one, pages[one]);
        named += usize::from(is_named(inserted.concat(), &feeds, &format!("page {one} twice")));
        for two in one + 1..pages.len() {
            let mut swapped = pages.clone();
            swapped.swap(one, two);
            named +=
                usize::from(is_named(swapped.concat(), &feeds, &format!("pages {one} and {two} swapped")));
        }
    }
    assert!(named > 80, "only {named} of the edits were noticed");
}

#[test]
fn a_file_that_is_cut_is_named() {
    let (sound, feeds) = small();
    for length in (1..sound.len()).step_by(1021).chain((0..sound.len()).step_by(PAGE_BYTES).skip(1)) {
        assert!(is_named(sound[..length].to_vec(), &feeds, &format!("cut at {length}")), "cut at {length}");
    }
}
