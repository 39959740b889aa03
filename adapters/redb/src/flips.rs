//! Law 8: flipped bits, cuts, swapped, dropped and inserted pages of a small ledger are named, or change nothing that can be read.

use crate::disk::{Disk, Trouble};
use burnlog_log::conformance::build::{Event, TestFeed, read_all};
use burnlog_log::{Backend, Body, Ledger, Limit, Severity, verify};
use std::sync::atomic::{AtomicUsize, Ordering};

const PAGE_BYTES: usize = 4096;

/// The feeds of a ledger and what was recorded in them.
type Recorded = Vec<(TestFeed, Vec<Event>)>;

/// A closed ledger of two feeds that share events: its bytes, and what was recorded.
fn small() -> (Vec<u8>, Recorded) {
    let disk = Disk::with_ledger();
    let backend = disk.open().unwrap();
    disk.trouble(Trouble::Nothing);
    let mut feeds: Recorded = (1..=2).map(|number| (TestFeed::new(number), Vec::new())).collect();
    let lines = Event::lines("s", 4);
    for (at, events) in [(0, &lines[..2]), (1, &lines[1..3]), (0, &lines[2..])] {
        feeds[at].0.append(&backend, events).unwrap();
        feeds[at].1.extend_from_slice(events);
    }
    backend.compact().unwrap();
    drop(backend);
    (disk.live(), feeds)
}

/// Switches a disk off when it goes out of scope: what closing would write is of no use, and takes longer than everything else.
struct Off(Disk);

impl Drop for Off {
    fn drop(&mut self) {
        self.0.trouble(Trouble::CrashAt(1));
    }
}

/// Requires of spoiled bytes an error, a finding, or that everything reads as it was recorded; tells which.
fn is_named(bytes: Vec<u8>, feeds: &Recorded, what: &str) -> bool {
    let disk = Disk::with(bytes);
    let ledger = match disk.open() {
        Ok(backend) => Ledger::new(backend),
        Err(error) => {
            assert!(!error.location().is_empty(), "{what}: {error} names no place");
            return true;
        }
    };
    let _off = Off(disk);
    let mut is_named = false;
    if ledger.backend().check(&mut |_| is_named = true).is_err() || is_named {
        return true;
    }
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

fn flipped(sound: &[u8], at: usize, bit: usize) -> Vec<u8> {
    let mut bytes = sound.to_vec();
    bytes[at] ^= 1 << bit;
    bytes
}

/// How many bytes of a page in a row change nothing where the rest of it is free.
const FREE_AFTER_BYTES: usize = 72;
/// Of the first bytes of such a row all bits are tried, of the others one.
const DOUBTFUL_BYTES: usize = 8;
/// Every so-manieth byte of what is free is tried.
const FREE_STEP_BYTES: usize = 211;

/// Flips every bit of every byte of a page that is used; returns how many flips were tried and how many named.
///
/// What follows the rows of a page is free and means nothing, and neither does a page that nothing points to: after a run of
/// bytes that change nothing only a few of the rest are tried.
fn tried_and_named(sound: &[u8], feeds: &Recorded, page: usize) -> (usize, usize) {
    let (mut at, mut harmless, mut tried, mut named) = (page, 0, 0, 0);
    let mut flip = |at: usize, bit: usize| {
        let is_named = is_named(flipped(sound, at, bit), feeds, &format!("bit {bit} of byte {at}"));
        tried += 1;
        named += usize::from(is_named);
        is_named
    };
    while at < page + PAGE_BYTES {
        let is_free = harmless > FREE_AFTER_BYTES;
        let first = at % 8;
        let mut is_used = flip(at, first);
        if is_used || harmless < DOUBTFUL_BYTES || (page == 0 && !is_free) {
            for bit in (0..8).filter(|bit| *bit != first) {
                is_used |= flip(at, bit);
            }
        }
        assert!(!is_used || !is_free || page == 0, "byte {at} counts although bytes before it are free");
        harmless = if is_used { 0 } else { harmless + 1 };
        at += if is_free { FREE_STEP_BYTES } else { 1 };
    }
    (tried, named)
}

#[test]
fn every_flipped_bit_is_named_or_changes_nothing() {
    let (sound, feeds) = small();
    assert!(!is_named(sound.clone(), &feeds, "sound"));
    let next = AtomicUsize::new(0);
    let work = || {
        let mut pages = Vec::new();
        loop {
            let page = next.fetch_add(PAGE_BYTES, Ordering::SeqCst);
            if page >= sound.len() {
                return pages;
            }
            pages.push(tried_and_named(&sound, &feeds, page));
        }
    };
    let (one, two) = std::thread::scope(|scope| {
        let other = scope.spawn(work);
        (work(), other.join().unwrap())
    });
    let pages = [one, two].concat();
    let named: usize = pages.iter().map(|page| page.1).sum();
    let used = pages.iter().filter(|page| page.1 > 0).count();
    assert!(used > 8 && named > 50_000, "only {named} flipped bits in {used} pages were noticed");
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
