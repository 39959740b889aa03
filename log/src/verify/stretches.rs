//! Stretches of feeds: each is read, looked up and hashed on its own, so that several threads can share the work. What needs
//! the entries before it (roots, heads, ends) is left to the one who puts the pieces in order.

use super::{Finding, Severity};
use crate::backend::{Entry, FeedState, Found, Page};
use crate::event::{Body, Kind, Skeleton};
use crate::feed::leaf;
use crate::limits::Limit;
use crate::{
    Address, BatchHead, ErrorKind, Ledger, PayloadHash, Presence, Result, Root, SKELETON_VERSION,
    SkeletonFrozen, WriterId, check_payload,
};
use std::sync::mpsc::SyncSender;

/// How many threads share the work.
pub(super) const THREADS: usize = 2;
/// Entries of a stretch: so many that what two neighbours both read matters little, so few that every thread has work.
const STRETCH_ENTRIES: std::ops::RangeInclusive<u64> = 4096..=65_536;
/// How many stretches each thread should have at least, where there are entries enough.
const STRETCHES_A_THREAD: u64 = 4;

/// Some entries of a feed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stretch {
    /// The position of the feed in the listing.
    pub(super) feed: usize,
    from: u64,
    to: u64,
}

/// Cuts all feeds into stretches, in order; a feed without entries has one.
pub(super) fn stretches(heads: &[BatchHead]) -> impl Iterator<Item = Stretch> {
    let all: u64 = heads.iter().fold(0, |sum, head| sum.saturating_add(head.size));
    let entries =
        (all / (THREADS as u64 * STRETCHES_A_THREAD)).clamp(*STRETCH_ENTRIES.start(), *STRETCH_ENTRIES.end());
    heads.iter().enumerate().flat_map(move |(feed, head)| {
        let count = head.size.div_ceil(entries).max(1);
        (0..count).map(move |number| {
            let from = number * entries;
            Stretch { feed, from, to: (from + entries).min(head.size) }
        })
    })
}

/// What one page of a stretch comes to.
#[derive(Debug, Default)]
pub(super) struct Piece {
    /// The index of the first leaf.
    pub(super) from: u64,
    /// The leaf of each entry; `None` where it cannot be read.
    pub(super) leaves: Vec<Option<Root>>,
    /// Ascending by index.
    pub(super) findings: Vec<Finding>,
    pub(super) heads: Vec<BatchHead>,
    pub(super) state: Option<FeedState>,
    pub(super) counts: Counts,
    /// Whether the stretch ends here.
    pub(super) is_last: bool,
}

/// What was looked at.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Counts {
    pub(super) entries: u64,
    pub(super) payload_bytes: u64,
    pub(super) erased: u64,
}

/// Reads every `THREADS`-th stretch and sends its pieces; stops after an error and when nobody listens any more.
pub(super) fn read_stretches(
    ledger: &Ledger,
    heads: &[BatchHead],
    thread: usize,
    send: &SyncSender<Result<Piece>>,
) {
    for stretch in stretches(heads).skip(thread).step_by(THREADS) {
        let mut from = stretch.from;
        loop {
            let limit = Limit { entries: (stretch.to - from).max(1) as usize, ..Limit::default() };
            let piece = read_piece(ledger, &heads[stretch.feed].feed, from, limit);
            let piece = piece.map(|mut piece| {
                from += piece.leaves.len() as u64;
                piece.is_last = piece.leaves.is_empty() || from >= stretch.to;
                piece
            });
            let is_last = piece.as_ref().map_or(true, |piece| piece.is_last);
            let failed = piece.is_err();
            if send.send(piece).is_err() || failed {
                return;
            }
            if is_last {
                break;
            }
        }
    }
}

fn read_piece(ledger: &Ledger, feed: &WriterId, from: u64, limit: Limit) -> Result<Piece> {
    let Page { state, entries, heads } = ledger.read(feed, from, limit)?;
    let addresses: Vec<Address> = entries.iter().map(|entry| entry.address).collect();
    let found = ledger.find(feed, &addresses)?;
    let mut checker = EntryChecker { feed: *feed, findings: Vec::new(), counts: Counts::default() };
    let leaves = (from..)
        .zip(entries.iter().zip(found))
        .map(|(index, (entry, found))| checker.entry(index, entry, found))
        .collect();
    let EntryChecker { findings, counts, .. } = checker;
    Ok(Piece { from, leaves, findings, heads, state, counts, is_last: false })
}

/// Looks at entries one by one.
struct EntryChecker {
    feed: WriterId,
    findings: Vec<Finding>,
    counts: Counts,
}

impl EntryChecker {
    fn find(&mut self, code: &'static str, severity: Severity, index: u64, message: String) {
        let (feed, index) = (Some(self.feed), Some(index));
        self.findings.push(Finding { code, severity, feed, index, place: String::new(), message });
    }

    /// Checks everything about an entry that needs no other; returns its leaf.
    fn entry(&mut self, index: u64, entry: &Entry, found: Found) -> Option<Root> {
        self.counts.entries += 1;
        let skeleton = match &entry.body {
            Body::Damaged { place, reason } => {
                self.find("unreadable-event", Severity::Damage, index, reason.clone());
                let finding = self.findings.last_mut().expect("it was pushed just now");
                finding.place.clone_from(place);
                return None;
            }
            Body::Present { skeleton, .. } | Body::Erased { skeleton } => skeleton,
        };
        if found.index != Some(index) || found.presence == Presence::Absent {
            let finds = match found.index {
                Some(other) => format!("finds it at {other}"),
                None => "does not find it there".to_owned(),
            };
            let message = format!("{} stands at {index} and the store {finds}", entry.address);
            self.find("index-mismatch", Severity::Damage, index, message);
        }
        if !entry.is_recomputed() {
            let actual = Address::of(skeleton);
            if actual != entry.address {
                let message = format!("the skeleton hashes to {actual}, the entry says {}", entry.address);
                self.find("address-mismatch", Severity::Damage, index, message);
            }
        }
        self.bodies(index, entry, skeleton);
        Some(leaf(skeleton))
    }

    fn bodies(&mut self, index: u64, entry: &Entry, skeleton: &[u8]) {
        let parsed = Skeleton::parse(skeleton);
        if let Body::Present { payload, .. } = &entry.body {
            self.counts.payload_bytes += payload.len() as u64;
            let fits = match &parsed {
                Ok(parsed) => {
                    let (payload_hash, bytes) = (parsed.payload, parsed.bytes);
                    // A canonical skeleton has one place for the hash, so that is where a computed one went.
                    let actual = if entry.is_recomputed() { payload_hash } else { PayloadHash::of(payload) };
                    SkeletonFrozen { version: SKELETON_VERSION, payload: payload_hash, bytes }
                        .check_length(payload)
                        .map_err(|error| error.message().to_owned())
                        .and_then(|()| {
                            (actual == payload_hash).then_some(()).ok_or_else(|| {
                                format!("the skeleton says {payload_hash}, the payload hashes to {actual}")
                            })
                        })
                }
                Err(_) => check_payload(skeleton, payload).map_err(|error| error.message().to_owned()),
            };
            if let Err(message) = fits {
                self.find("payload-mismatch", Severity::Damage, index, message);
            }
        } else {
            self.counts.erased += 1;
        }
        match parsed {
            Ok(parsed) if index == 0 && parsed.position.kind != Kind::Writer => {
                let message = format!("the first event is of kind {}, not writer", parsed.position.kind);
                self.find("writer-missing", Severity::Warning, 0, message);
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                let version =
                    SkeletonFrozen::parse(skeleton).map_or(SKELETON_VERSION, |frozen| frozen.version);
                let message =
                    format!("skeleton version {version} of a newer program: only its hashes were checked");
                self.find("newer-skeleton", Severity::Note, index, message);
            }
            Err(error) => {
                self.find("skeleton-invalid", Severity::Damage, index, error.message().to_owned());
            }
        }
    }
}
