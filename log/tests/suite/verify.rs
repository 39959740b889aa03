//! Verify over a backend that returns spoiled bytes: everything that is spoiled is named, nothing else is.

use crate::{append, ledger};
use burnlog_log::{
    Address, Append, Backend, BatchHead, Body, Compacted, Damage, FeedsPage, Found, Ledger, Limit, Location,
    Page, Result, Stat, Timestamp, Token, WriterId, WriterKey, verify,
};
use proptest::prelude::*;
use std::sync::Arc;

/// Passes everything on and spoils the pages that are read.
struct Spoiled<F>(Ledger, F);

impl<F: Fn(u64, &mut Page) + Send + Sync> Backend for Spoiled<F> {
    fn location(&self) -> Location {
        self.0.location()
    }
    fn stat(&self) -> Result<Stat> {
        self.0.stat()
    }
    fn feeds(&self, after: Option<&WriterId>, since: Option<&Token>, limit: usize) -> Result<FeedsPage> {
        self.0.backend().feeds(after, since, limit)
    }
    fn append(&self, append: &Append<'_>) -> Result<()> {
        self.0.backend().append(append)
    }
    fn read(&self, feed: &WriterId, from: u64, limit: Limit) -> Result<Page> {
        let mut page = self.0.read(feed, from, limit)?;
        (self.1)(from, &mut page);
        Ok(page)
    }
    fn find(&self, feed: &WriterId, addresses: &[Address]) -> Result<Vec<Found>> {
        self.0.find(feed, addresses)
    }
    fn get(&self, addresses: &[Address], limit: Limit) -> Result<Vec<Option<Body>>> {
        self.0.get(addresses, limit)
    }
    fn erase(&self, addresses: &[Address]) -> Result<()> {
        self.0.erase(addresses)
    }
    fn compact(&self) -> Result<Compacted> {
        self.0.compact()
    }
    fn check(&self, report: &mut dyn FnMut(Damage)) -> Result<()> {
        self.0.backend().check(report)
    }
}

fn sound() -> Ledger {
    let ledger = ledger(1);
    append(&ledger, 1, "a", 0..5);
    append(&ledger, 1, "a", 5..9);
    append(&ledger, 1, "b", 0..1);
    ledger
}

fn codes(ledger: &Ledger, remembered: &[BatchHead]) -> Vec<(&'static str, Option<u64>)> {
    let mut codes = Vec::new();
    verify(ledger, remembered, &mut |finding| codes.push((finding.code, finding.index))).unwrap();
    codes
}

fn spoiled(spoil: impl Fn(u64, &mut Page) + Send + Sync + 'static) -> Vec<(&'static str, Option<u64>)> {
    let ledger = sound();
    let heads = ledger.feeds().unwrap();
    codes(&Ledger::from_arc(Arc::new(Spoiled(ledger, spoil))), &heads)
}

#[test]
fn a_sound_ledger_has_no_findings() {
    let ledger = sound();
    let heads = ledger.feeds().unwrap();
    assert_eq!(codes(&ledger, &heads), []);
    let mut count = 0;
    let verified = verify(&ledger, &heads, &mut |_| count += 1).unwrap();
    assert_eq!((verified.feeds, verified.entries, verified.heads, count), (1, 11, 3, 0));
}

#[test]
fn without_a_remembered_head_the_end_is_unanchored() {
    assert_eq!(codes(&sound(), &[]), [("unanchored", None)]);
}

#[test]
fn a_cut_at_a_batch_boundary_is_named_given_a_remembered_head() {
    let longer = sound();
    let remembered = longer.feeds().unwrap();
    let cut = ledger(2);
    append(&cut, 1, "a", 0..5);
    assert_eq!(codes(&cut, &remembered), [("feed-cut", Some(6))]);
    assert_eq!(codes(&ledger(3), &remembered), [("feed-lost", None)]);
}

#[test]
fn another_history_under_a_remembered_head_is_named() {
    let remembered = sound().feeds().unwrap();
    let other = ledger(2);
    append(&other, 1, "x", 0..10);
    assert_eq!(codes(&other, &remembered), [("head-changed", Some(10))]);
}

#[test]
fn dropped_swapped_and_inserted_entries_are_named() {
    assert_ne!(
        spoiled(|from, page| if from == 0 {
            drop(page.entries.remove(3));
        }),
        []
    );
    assert_ne!(
        spoiled(|_, page| if page.entries.len() > 4 {
            page.entries.swap(2, 3);
        }),
        []
    );
    let inserted = |_, page: &mut Page| {
        if let Some(first) = page.entries.first().cloned() {
            page.entries.insert(1, first);
        }
    };
    assert_ne!(spoiled(inserted), []);
}

#[test]
fn an_unreadable_entry_is_named_and_the_rest_is_still_checked() {
    let findings = spoiled(|from, page| {
        if from == 0 {
            page.entries[3].body = Body::Damaged { place: "here".into(), reason: "gone".into() };
            let Body::Present { payload, .. } = &mut page.entries[7].body else { panic!("present") };
            *payload = b"other".as_slice().into();
        }
    });
    assert_eq!(findings, [("unreadable-event", Some(3)), ("payload-mismatch", Some(7))]);
}

#[test]
fn a_head_signed_by_another_key_is_named() {
    let findings = spoiled(|_, page| {
        if let Some(head) = page.heads.get_mut(1) {
            let frontier = burnlog_log::Frontier::default();
            head.signature =
                WriterKey::from_secret([9; 32]).sign_head(&frontier, Timestamp::default()).signature;
        }
    });
    assert_eq!(findings, [("signature-invalid", Some(9))]);
}

#[test]
fn entries_without_a_head_and_heads_of_another_feed_are_named() {
    let missing = spoiled(|_, page| page.heads.clear());
    assert!(missing.iter().any(|(code, _)| *code == "head-missing"), "{missing:?}");
    let foreign = spoiled(|_, page| {
        if let Some(head) = page.heads.first_mut() {
            head.feed = WriterId([9; 32]);
        }
    });
    assert!(foreign.iter().any(|(code, _)| *code == "head-order"), "{foreign:?}");
}

#[test]
fn a_stale_frontier_is_only_a_warning() {
    let findings = spoiled(|_, page| page.state.as_mut().unwrap().frontier.reverse());
    assert_eq!(findings, [("frontier-mismatch", None)]);
}

proptest! {
    /// Law 8 at the seam: any flipped bit of any byte that a page returns is named.
    #[test]
    fn every_flipped_bit_of_a_page_is_named(which in 0usize..11, part in 0u8..3, at in 0usize..10_000, bit in 0u8..8) {
        let findings = spoiled(move |from, page| {
            if from > 0 {
                return;
            }
            let flip = |bytes: &bytes::Bytes| {
                let mut bytes = bytes.to_vec();
                let at = at % bytes.len();
                bytes[at] ^= 1 << bit;
                bytes::Bytes::from(bytes)
            };
            let entry = &mut page.entries[which];
            match (&mut entry.body, part) {
                (Body::Present { skeleton, .. }, 0) => *skeleton = flip(skeleton),
                (Body::Present { payload, .. }, 1) => *payload = flip(payload),
                _ => entry.address.0[at % 32] ^= 1 << bit,
            }
        });
        prop_assert_ne!(findings, []);
    }

    /// The same for batch heads.
    #[test]
    fn every_flipped_bit_of_a_head_is_named(which in 0usize..3, part in 0u8..3, at in 0usize..64, bit in 0u8..8) {
        let findings = spoiled(move |from, page| {
            if from > 0 {
                return;
            }
            let head = &mut page.heads[which];
            match part {
                0 => head.root.0[at % 32] ^= 1 << bit,
                1 => head.signature.0[at] ^= 1 << bit,
                _ => head.recorded_at = Timestamp::from_micros(head.recorded_at.as_micros() ^ (1 << (at % 50))),
            }
        });
        prop_assert_ne!(findings, []);
    }
}
