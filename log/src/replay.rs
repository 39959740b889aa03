//! Replay: brings every feed of one ledger into another, batch by batch, as it was signed. Cost follows the
//! difference: feeds at the same head cost nothing, and payloads that the other side has are not sent.
//! Stopping at any moment is safe; the next replay goes on from the destination's heads.

use crate::event::Body;
use crate::feed::{Frontier, VerifiedHead};
use crate::ledger::{Ready, SignedBatch, check_events};
use crate::limits::Limit;
use crate::{Address, BatchHead, Entry, Error, ErrorKind, Ledger, NewEvent, Presence, Result, Token};
use hashbrown::HashSet;
use std::sync::mpsc::sync_channel;

/// A tail of more entries is prepared on a thread of its own.
const AHEAD_ENTRIES: u64 = 1024;

/// About how many entries of a batch are asked for before all of it is.
const SAMPLE_ENTRIES: usize = 64;

/// What a replay did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplayReport {
    /// Feeds of the source.
    pub feeds: u64,
    /// Feeds among them that the destination had at the same head, or further.
    pub feeds_equal: u64,
    /// Batches appended to the destination.
    pub batches: u64,
    /// Entries in them.
    pub entries: u64,
    /// Events sent, because the destination lacked them.
    pub events_sent: u64,
    /// Bytes of skeletons and payloads of the events sent.
    pub bytes_sent: u64,
    /// Feeds that could not be brought to the same head.
    pub divergences: Vec<Divergence>,
}

/// A feed that is not the same on both sides after a replay, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Divergence {
    /// The newest head in the source.
    pub from: BatchHead,
    /// The newest head in the destination, if it has the feed.
    pub to: Option<BatchHead>,
    /// `forked`: the two sides hold different entries under one size; `damaged`: an entry of the source cannot be
    /// read; `refused`: the batch does not fit its signed head.
    pub code: &'static str,
    /// A sentence for a person.
    pub message: String,
}

/// Where a replay stands.
#[derive(Debug, Clone, Copy)]
pub struct ReplayProgress {
    /// Feeds looked at.
    pub feeds: u64,
    /// Entries appended.
    pub entries: u64,
    /// Bytes sent.
    pub bytes_sent: u64,
}

/// Copies what `to` lacks of `from`. Forked or damaged feeds are reported and the others go on; any other error
/// of a store ends the replay.
pub fn replay(from: &Ledger, to: &Ledger, progress: &mut dyn FnMut(ReplayProgress)) -> Result<ReplayReport> {
    replay_since(from, to, None, &mut |_, _| {}, progress).map(|(report, _)| report)
}

/// As [`replay`], for the feeds of `from` that moved since a token of an earlier replay; all of them without one. `reached` is
/// told each head that `to` has now, and whether something was sent for it. Returns the token for the next time as well: it may be used
/// where nothing diverged.
pub fn replay_since(
    from: &Ledger,
    to: &Ledger,
    since: Option<&Token>,
    reached: &mut dyn FnMut(&BatchHead, bool),
    progress: &mut dyn FnMut(ReplayProgress),
) -> Result<(ReplayReport, Token)> {
    let mut replay = Replay { from, to, report: ReplayReport::default(), progress };
    let token = from.for_each_feed(since, |head| {
        let (batches, diverged) = (replay.report.batches, replay.report.divergences.len());
        replay.feed(head)?;
        if replay.report.divergences.len() == diverged {
            reached(head, replay.report.batches > batches);
        }
        Ok(())
    })?;
    Ok((replay.report, token))
}

struct Replay<'a> {
    from: &'a Ledger,
    to: &'a Ledger,
    report: ReplayReport,
    progress: &'a mut dyn FnMut(ReplayProgress),
}

impl Replay<'_> {
    fn feed(&mut self, head: &BatchHead) -> Result<()> {
        self.report.feeds += 1;
        let (there, frontier) = self.to.checked_state(&head.feed)?;
        if there.is_some_and(|there| there.size == head.size && there.root == head.root) {
            self.report.feeds_equal += 1;
            return Ok(());
        }
        let result = self.check_prefix(head, there.as_ref()).and_then(|()| {
            if frontier.size() >= head.size { Ok(frontier.size()) } else { self.send_tail(head, frontier) }
        });
        let code = match &result {
            Ok(reached) if *reached > head.size => {
                self.report.feeds_equal += 1;
                return Ok(());
            }
            Ok(_) => return self.compare_end(head),
            Err(error) => match error.kind() {
                ErrorKind::Forked => "forked",
                ErrorKind::Corrupt => "damaged",
                ErrorKind::Invalid | ErrorKind::Denied => "refused",
                _ => return result.map(drop),
            },
        };
        self.diverges(head, code, result.err().map_or_else(String::new, |error| error.to_string()))
    }

    /// Checks that the shorter side's head is among the heads of the longer side.
    fn check_prefix(&self, head: &BatchHead, there: Option<&BatchHead>) -> Result<()> {
        let Some(there) = there else { return Ok(()) };
        let (shorter, longer) = if there.size <= head.size { (there, self.from) } else { (head, self.to) };
        let root = match longer.head_at(&shorter.feed, shorter.size)? {
            Some(kept) => kept.root,
            None => longer.frontier_at(&shorter.feed, shorter.size)?.root(),
        };
        if root == shorter.root {
            return Ok(());
        }
        let message = format!(
            "at size {} one ledger has root {root}, the other {}; both heads are signed by this writer's key",
            shorter.size, shorter.root
        );
        Err(Error::new(ErrorKind::Forked, "replay", message).at(shorter.feed))
    }

    /// Sends the entries behind `frontier`, batch by batch, and returns the size reached. Of a long tail the next batch is made ready
    /// while one is on its way; what is appended is appended in order, one batch after the other.
    fn send_tail(&mut self, head: &BatchHead, frontier: Frontier) -> Result<u64> {
        let tail = Tail { from: self.from, to: self.to, head };
        if head.size - frontier.size() <= AHEAD_ENTRIES {
            let mut reached = frontier.clone();
            tail.for_each_batch(frontier, &mut |batch| {
                reached = self.send_batch(&reached, batch)?;
                Ok(true)
            })?;
            return Ok(reached.size());
        }
        std::thread::scope(|scope| {
            // Without a queue: one batch that is prepared waits for the one that is being appended.
            let (send, batches) = sync_channel(0);
            let mut reached = frontier.clone();
            let preparing = scope.spawn(move || {
                // Nobody takes any more where an append failed: that is the error that is told.
                tail.for_each_batch(frontier, &mut |batch| Ok(send.send(batch).is_ok()))
            });
            for batch in batches {
                reached = self.send_batch(&reached, batch)?;
            }
            match preparing.join() {
                Ok(prepared) => prepared.map(|()| reached.size()),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    fn send_batch(&mut self, before: &Frontier, mut batch: Prepared) -> Result<Frontier> {
        // Once more where the destination lost, between asking and appending, what it said it had.
        for last_try in [false, true] {
            let ready = &mut batch.ready;
            let sent = with_signed(&batch.head, &batch.entries, &batch.lacking, |signed| {
                self.to.append_ready(before, signed, ready)?;
                self.count(signed);
                Ok(())
            });
            match sent {
                Ok(()) => break,
                Err(error) if error.kind() == ErrorKind::Missing && !last_try => {
                    batch.lacking.extend(error.missing_addresses());
                }
                // Somebody else brought this feed forward: whoever it was, the same signed batches.
                Err(error) if error.kind() == ErrorKind::Conflict => {
                    let kept = self.to.head_at(&batch.head.feed, batch.head.size)?;
                    if kept.is_none_or(|kept| kept.root != batch.head.root) {
                        return Err(error);
                    }
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(batch.ready.after)
    }

    fn count(&mut self, batch: &SignedBatch<'_>) {
        let bytes =
            |event: &NewEvent<'_>| (event.skeleton.len() + event.payload.map_or(0, <[u8]>::len)) as u64;
        self.report.batches += 1;
        self.report.entries += batch.addresses.len() as u64;
        self.report.events_sent += batch.events.len() as u64;
        self.report.bytes_sent += batch.events.iter().map(bytes).sum::<u64>();
        let ReplayReport { feeds, entries, bytes_sent, .. } = self.report;
        (self.progress)(ReplayProgress { feeds, entries, bytes_sent });
    }

    /// Compares size and root after the last batch: what was sent must be what is there.
    fn compare_end(&mut self, head: &BatchHead) -> Result<()> {
        let there = self.to.state(&head.feed)?.map(|state| state.head);
        if there.is_some_and(|there| there.size >= head.size) {
            return match self.to.head_at(&head.feed, head.size)? {
                Some(kept) if kept.root == head.root => Ok(()),
                _ => {
                    self.diverges(head, "forked", "the destination has another root at this size".to_owned())
                }
            };
        }
        self.diverges(head, "refused", "the destination does not show what it acknowledged".to_owned())
    }

    fn diverges(&mut self, head: &BatchHead, code: &'static str, message: String) -> Result<()> {
        let to = self.to.state(&head.feed)?.map(|state| state.head);
        self.report.divergences.push(Divergence { from: *head, to, code, message });
        Ok(())
    }
}

/// A batch that is ready to be sent.
struct Prepared {
    head: VerifiedHead,
    entries: Vec<Entry>,
    /// The addresses of the events to send along.
    lacking: HashSet<Address>,
    ready: Ready,
}

/// Lends a batch as it is appended, with the events that `lacking` names.
fn with_signed<T>(
    head: &VerifiedHead,
    entries: &[Entry],
    lacking: &HashSet<Address>,
    work: impl FnOnce(&SignedBatch<'_>) -> Result<T>,
) -> Result<T> {
    let addresses: Vec<Address> = entries.iter().map(|entry| entry.address).collect();
    let skeletons: Vec<&[u8]> = entries.iter().map(|entry| entry.body.skeleton()).collect::<Result<_>>()?;
    let events = new_events(entries, lacking);
    work(&SignedBatch { head, skeletons: &skeletons, addresses: &addresses, events: &events })
}

/// The part of a feed that the destination lacks.
struct Tail<'a> {
    from: &'a Ledger,
    to: &'a Ledger,
    head: &'a BatchHead,
}

impl Tail<'_> {
    /// Prepares the batches behind `frontier`, in order, until all are or `take` wants no more.
    fn for_each_batch(
        &self,
        mut frontier: Frontier,
        take: &mut dyn FnMut(Prepared) -> Result<bool>,
    ) -> Result<()> {
        let head = self.head;
        let mut batch: Vec<Entry> = Vec::new();
        while frontier.size() < head.size {
            let from = frontier.size() + batch.len() as u64;
            let page = self.from.read(&head.feed, from, Limit::default())?;
            if page.entries.is_empty() {
                let message = format!("the feed ends at {from} before its head at {}", head.size);
                return Err(Error::new(ErrorKind::Corrupt, "replay", message).at(head.feed));
            }
            let mut heads = page.heads.iter().skip_while(|head| head.size <= from).peekable();
            for (index, entry) in (from..).zip(page.entries) {
                entry.body.skeleton().map_err(|error| error.at(format_args!("{} at {index}", head.feed)))?;
                batch.push(entry);
                if let Some(batch_head) = heads.next_if(|head| head.size == index + 1) {
                    let prepared = self.prepared(&frontier, batch_head, std::mem::take(&mut batch))?;
                    frontier = prepared.ready.after.clone();
                    if !take(prepared)? {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// Checks a batch, asks for its events, and has it made ready: all that can be done before those in front of it are appended.
    fn prepared(&self, before: &Frontier, head: &BatchHead, entries: Vec<Entry>) -> Result<Prepared> {
        let head = head.verified()?;
        check_entries(&entries)?;
        let lacking = self.lacking(&entries)?;
        let ready = with_signed(&head, &entries, &lacking, |signed| self.to.make_ready(before, signed))?;
        Ok(Prepared { head, entries, lacking, ready })
    }

    /// Asks which events of a batch the destination lacks.
    ///
    /// An address is as dear to ask for as a fifth of a record is to send, and of a batch that is new the destination has
    /// nothing. So a part is asked for first, spread over the batch, and the rest where the destination has any of it: what is
    /// copied from other streams comes in runs. What is sent in vain is left as it is over there. Of an erased event only
    /// the address may be taken, so these are all asked for.
    fn lacking(&self, batch: &[Entry]) -> Result<HashSet<Address>> {
        let step = batch.len().div_ceil(SAMPLE_ENTRIES).max(1);
        let is_asked_first =
            |at: usize, entry: &Entry| at.is_multiple_of(step) || matches!(entry.body, Body::Erased { .. });
        let (first, rest): (Vec<_>, Vec<_>) =
            batch.iter().enumerate().partition(|(at, entry)| is_asked_first(*at, entry));
        let addresses = |part: Vec<(usize, &Entry)>| -> Vec<Address> {
            part.into_iter().map(|(_, entry)| entry.address).collect()
        };
        let (mut asked, rest) = (addresses(first), addresses(rest));
        let mut found = self.to.find(&self.head.feed, &asked)?;
        if found.iter().all(|found| found.presence == Presence::Absent) {
            return Ok(asked.into_iter().chain(rest).collect());
        }
        if !rest.is_empty() {
            found.extend(self.to.find(&self.head.feed, &rest)?);
            asked.extend(rest);
        }
        let absent = asked.into_iter().zip(found).filter(|(_, found)| found.presence == Presence::Absent);
        Ok(absent.map(|(address, _)| address).collect())
    }
}

/// Checks the entries of the source, but for those whose hashes were computed on reading.
fn check_entries(batch: &[Entry]) -> Result<()> {
    batch.iter().try_for_each(|entry| entry.body.skeleton().map(drop))?;
    let events: Vec<NewEvent<'_>> =
        batch.iter().filter(|entry| !entry.is_recomputed()).filter_map(new_event).collect();
    check_events(&events)
}

fn new_events<'b>(batch: &'b [Entry], lacking: &HashSet<Address>) -> Vec<NewEvent<'b>> {
    batch.iter().filter(|entry| lacking.contains(&entry.address)).filter_map(new_event).collect()
}

/// `None` for one that is damaged.
fn new_event(entry: &Entry) -> Option<NewEvent<'_>> {
    let address = entry.address;
    match &entry.body {
        Body::Present { skeleton, payload } => Some(NewEvent { address, skeleton, payload: Some(payload) }),
        Body::Erased { skeleton } => Some(NewEvent { address, skeleton, payload: None }),
        Body::Damaged { .. } => None,
    }
}
