//! Replay: brings every feed of one ledger into another, batch by batch, as it was signed. Cost follows the
//! difference: feeds at the same head cost nothing, and payloads that the other side has are not sent.
//! Stopping at any moment is safe; the next replay goes on from the destination's heads.

use crate::event::Body;
use crate::feed::Frontier;
use crate::ledger::{SignedBatch, check_events};
use crate::limits::Limit;
use crate::{Address, BatchHead, Entry, Error, ErrorKind, Ledger, NewEvent, Presence, Result, Token};
use hashbrown::HashSet;

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

    /// Sends the entries behind `frontier`, batch by batch, and returns the size reached.
    fn send_tail(&mut self, head: &BatchHead, mut frontier: Frontier) -> Result<u64> {
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
                    frontier = self.send_batch(frontier, batch_head, &batch)?;
                    batch.clear();
                }
            }
        }
        Ok(frontier.size())
    }

    fn send_batch(&mut self, before: Frontier, head: &BatchHead, batch: &[Entry]) -> Result<Frontier> {
        check_entries(batch)?;
        let addresses: Vec<Address> = batch.iter().map(|entry| entry.address).collect();
        let found = self.to.find(&head.feed, &addresses)?;
        let mut lacking: HashSet<Address> = addresses
            .iter()
            .zip(&found)
            .filter(|(_, found)| found.presence == Presence::Absent)
            .map(|(address, _)| *address)
            .collect();
        let skeletons: Vec<&[u8]> = batch.iter().map(|entry| entry.body.skeleton()).collect::<Result<_>>()?;
        // Once more where the destination lost, between asking and appending, what it said it had.
        for last_try in [false, true] {
            let events: Vec<NewEvent<'_>> = new_events(batch, &lacking);
            let signed = SignedBatch { head, skeletons: &skeletons, events: &events };
            match self.to.append_checked(&before, &signed, &addresses) {
                Ok(frontier) => {
                    self.count(batch.len() as u64, &events);
                    return Ok(frontier);
                }
                Err(error) if error.kind() == ErrorKind::Missing && !last_try => {
                    lacking.extend(error.missing_addresses());
                }
                // Somebody else brought this feed forward: whoever it was, the same signed batches.
                Err(error) if error.kind() == ErrorKind::Conflict => {
                    let kept = self.to.head_at(&head.feed, head.size)?;
                    if kept.is_some_and(|kept| kept.root == head.root) {
                        let mut after = before;
                        after.extend(skeletons.iter().map(|skeleton| crate::leaf(skeleton)));
                        return Ok(after);
                    }
                    return Err(error);
                }
                Err(error) => return Err(error),
            }
        }
        unreachable!("the second try returns")
    }

    fn count(&mut self, entries: u64, events: &[NewEvent<'_>]) {
        let bytes =
            |event: &NewEvent<'_>| (event.skeleton.len() + event.payload.map_or(0, <[u8]>::len)) as u64;
        self.report.batches += 1;
        self.report.entries += entries;
        self.report.events_sent += events.len() as u64;
        self.report.bytes_sent += events.iter().map(bytes).sum::<u64>();
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
