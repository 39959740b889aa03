//! Appending: comparing a batch with the ledger, writing it, and the group commit by which one fsync serves all threads
//! that wait. The order is: lock, look, write, sync, publish, acknowledge.

use crate::commit::Commit;
use crate::encode::{Encoded, Written};
use crate::files::io_error;
use crate::index::{AddressRow, BatchRow, Counts, Failure, Place, Seen, fingerprint};
use crate::options::Durability;
use crate::pack::Packer;
use crate::refresh::TAIL_ROWS_MAX;
use crate::segment::{Extent, Part};
use crate::store::{State, Store};
use crate::turn::{Told, wait_for_turn};
use crate::writer::Writer;
use burnlog_log::{Address, Append, Error, ErrorKind, Result, failpoint};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, MutexGuard, PoisonError};

type Outcome<T> = std::result::Result<T, Failure>;

impl Store {
    /// Appends a batch; see [`burnlog_log::Backend::append`].
    pub(crate) fn append(&self, append: &Append<'_>) -> Result<()> {
        self.writable("append")?;
        let mut encoded = Encoded::new(append)?;
        self.encode(append, &mut encoded, true, &|_| true)?;
        let mut state = self.lock_state();
        let mut rebuilds = 0;
        loop {
            while state.must_settle_first() {
                state = self.wait(state);
            }
            state = self.take_lock(state)?;
            if state.must_settle_first() {
                continue;
            }
            match self.write_batch(&mut state, append, &mut encoded) {
                Ok(ticket) => return self.settle_batch(state, ticket, append),
                Err(Failure::Error(error)) => {
                    self.release_lock(&mut state);
                    return Err(error);
                }
                Err(Failure::Fault(fault)) => {
                    while state.group.is_busy() {
                        state = self.wait(state);
                    }
                    rebuilds += 1;
                    let rebuilt = if rebuilds > crate::store::REBUILDS_MAX {
                        Err(self.fault_error(&fault))
                    } else {
                        self.rebuild_after(&mut state, &fault)
                    };
                    self.release_lock(&mut state);
                    rebuilt?;
                }
            }
        }
    }

    /// Compares a batch with the ledger and writes it. Returns its ticket; it is not durable yet.
    fn write_batch(&self, state: &mut State, append: &Append<'_>, encoded: &mut Encoded) -> Outcome<u64> {
        self.refresh(state)?;
        if let Some(segment) = &state.gone {
            return Err(gone(segment).into());
        }
        // First, because it may bring to light what a process that crashed had written.
        self.adopt_segment(state)?;
        check_head(state, append)?;
        let (known, leans_on) = known_events(state, append)?;
        let missing = append.entries.iter().enumerate();
        let missing = missing.filter(|(ordinal, _)| !known[*ordinal] && !encoded.has_event(*ordinal));
        let missing: Vec<Address> = missing.map(|(_, address)| *address).collect();
        if !missing.is_empty() {
            return Err(Error::missing("append", missing).at(append.head.feed).into());
        }
        let may_pack = state.writer.as_ref().is_none_or(|writer| writer.takes_packs);
        let is_any_known =
            known.iter().enumerate().any(|(ordinal, known)| *known && encoded.has_event(ordinal));
        if is_any_known || (encoded.is_packed && !may_pack) {
            self.encode(append, encoded, may_pack, &|ordinal| !known[ordinal])?;
        }
        self.lean_on(state, &leans_on)?;
        self.write_lines(state, append, encoded)?;
        state.group.written += 1;
        Ok(state.group.written)
    }

    /// Writes the lines into memory: those of a large batch compressed at once, because they stay.
    fn encode(
        &self,
        append: &Append<'_>,
        encoded: &mut Encoded,
        may_pack: bool,
        is_new: &dyn Fn(usize) -> bool,
    ) -> Result<()> {
        if !may_pack || encoded.new_bytes(append, is_new) < self.options.pack_bytes_min {
            return encoded.write(append, Written::Plain, is_new);
        }
        let idle = self.packer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut packer = match idle {
            Some(packer) => packer,
            None => Packer::new(self.options.compression_level, self.options.seal_recomputes_hashes)
                .map_err(|error| io_error("append", "zstd", error))?,
        };
        encoded.write(append, Written::Packed(&mut packer, self.options.frame_bytes), is_new)?;
        *self.packer.lock().unwrap_or_else(PoisonError::into_inner) = Some(packer);
        Ok(())
    }

    /// Writes the lines and adds them to the tail, not yet durable.
    fn write_lines(&self, state: &mut State, append: &Append<'_>, encoded: &mut Encoded) -> Outcome<()> {
        if state.writer.is_none() {
            state.writer = Some(self.new_segment(state)?);
        }
        let Some(writer) = state.writer.as_mut() else { return Ok(()) };
        let header = self.header_for(writer);
        let commit = Commit {
            head: *append.head,
            entries: encoded.entries.len() as u32,
            first_slot: writer.written.slots,
            extent: Some((encoded.lines.len() as u64, encoded.crc)),
            frontier: append.frontier.to_vec(),
        };
        let line_bytes = encoded.lines.len() as u64;
        commit.push_active(&mut encoded.lines);
        if !header.is_empty() {
            encoded.lines.splice(..0, header.iter().copied());
        }
        failpoint("jsonl-append-unwritten");
        writer.write(&mut encoded.lines)?;
        failpoint("jsonl-append-written");
        let segment = state.numbers[&writer.name];
        let place = Place {
            segment,
            first_slot: commit.first_slot,
            count: commit.entries,
            offset: writer.written.bytes + header.len() as u64,
            bytes: line_bytes,
        };
        let events = encoded.entries.iter().filter(|entry| entry.has_event).count() as u64;
        let payload_bytes: u64 = encoded.entries.iter().map(|entry| u64::from(entry.payload_bytes)).sum();
        writer.written = Extent {
            slots: writer.written.slots + commit.entries,
            bytes: writer.written.bytes + encoded.lines.len() as u64,
            events: writer.written.events + events,
            payload_bytes: writer.written.payload_bytes + payload_bytes,
        };
        for entry in &encoded.entries {
            let fingerprint = fingerprint(&entry.address);
            let slot = commit.first_slot + entry.ordinal;
            let row = AddressRow::new(fingerprint, segment, slot, entry.has_event, entry.is_erased);
            state.index.tail.push_row(row);
        }
        state.index.tail.push_batch(BatchRow::new(append.head, place));
        state.version += 1;
        Ok(())
    }

    /// Waits until a batch is durable; one of those who wait syncs for all.
    fn settle_batch<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        ticket: u64,
        append: &Append<'_>,
    ) -> Result<()> {
        let failed = |why| Error::new(ErrorKind::Unavailable, "append", why).at(append.head.feed);
        if state.group.is_syncing {
            if state.group.is_gathering && state.group.is_gathered() {
                self.gathered.notify_one();
            }
            match wait_for_turn(state, ticket) {
                // Whoever synced gives the lock back, or the next one who does.
                Told::Settled(outcome) => return outcome.map_err(failed),
                Told::Sync => state = self.lock_state(),
            }
        }
        while state.group.settled < ticket {
            state = self.sync_group(state);
        }
        let outcome = state.group.outcome(ticket);
        let telling = state.group.hand_over();
        self.release_lock(&mut state);
        drop(state);
        telling.tell();
        outcome.map_err(failed)
    }

    /// Makes durable what is written so far.
    fn sync_group<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        if self.options.durability == Durability::Batch {
            state.group.is_syncing = true;
            state = self.gather(state);
            state.group.is_syncing = false;
        }
        let Some(writer) = state.writer.as_ref() else {
            state.group.fail("the segment was closed".to_owned());
            return state;
        };
        let (file, name, written) = (Arc::clone(&writer.file), Arc::clone(&writer.name), writer.written);
        let (target, counts) = (state.group.written, state.index.tail.counts());
        let is_synced = self.options.durability == Durability::Batch;
        let synced = if is_synced {
            state.group.is_syncing = true;
            drop(state);
            let synced = file.sync();
            failpoint("jsonl-append-synced");
            state = self.lock_state();
            state.group.is_syncing = false;
            synced
        } else {
            Ok(())
        };
        let failed = |error| io_error("append", format_args!("segments/{name}.jsonl"), error);
        // A file that was removed takes everything and gives nothing back.
        let place = Part::Active.path(&self.folder, &name);
        let is_there = synced.and_then(|()| file.is_at(&place)).map_err(failed);
        let published = is_there.and_then(|is_there| {
            if is_there {
                return self.publish(&mut state, written, is_synced);
            }
            state.gone = Some(place.clone());
            Err(gone(&place))
        });
        state.group.remember_company();
        match published {
            Ok(()) => {
                accept(&mut state, written, counts, target);
                failpoint("jsonl-append-accepted");
                if !state.group.is_busy() {
                    self.keep_house(&mut state);
                }
            }
            Err(error) => Self::fail_group(&mut state, &error),
        }
        self.tell_onlookers(&state);
        state
    }

    fn publish(&self, state: &mut State, extent: Extent, is_synced: bool) -> Result<()> {
        let Some(writer) = state.writer.as_mut() else { return Ok(()) };
        let before = writer.durable;
        writer.publish(extent, is_synced).map_err(|error| {
            writer.durable = before;
            io_error("append", format_args!("segments/{}.durable", writer.name), error)
        })?;
        failpoint("jsonl-append-published");
        match self.lock.count() {
            Ok(changes) => {
                state.changes = Some(changes);
                Ok(())
            }
            Err(error) => {
                // Others would not notice, so it must not be there.
                writer.durable = before;
                Err(error)
            }
        }
    }

    /// Takes back everything that is written but not durable.
    fn fail_group(state: &mut State, error: &Error) {
        state.group.fail(error.to_string());
        state.group.is_draining = false;
        state.index.tail.rollback();
        state.version += 1;
        if let Some(writer) = state.writer.as_mut() {
            // Where the cut fails as well the writer stays poisoned, and the next append tries again. Where it
            // succeeds the segment is reopened as if this process had just started.
            if writer.cut_back().is_ok() {
                state.writer = None;
            }
        }
    }

    /// Does what is due between groups: flushes a large tail, seals a large segment.
    fn keep_house(&self, state: &mut State) {
        state.group.is_draining = false;
        let is_large = state.writer.as_ref().is_some_and(|writer| writer.durable.bytes >= writer.seal_at);
        if is_large {
            self.seal_own(state);
        } else if state.index.tail.counts().rows >= TAIL_ROWS_MAX
            && let Err(failure) = self.flush(state)
        {
            self.forgive(state, failure);
        }
    }

    /// Goes on after a failure in something that nothing acknowledged depends on.
    pub(crate) fn forgive(&self, state: &mut State, failure: Failure) {
        match failure {
            Failure::Error(error) => {
                state.note("housekeeping-failed", error.location().to_owned(), error.to_string());
            }
            Failure::Fault(fault) => {
                if let Err(error) = self.rebuild_after(state, &fault) {
                    state.note("housekeeping-failed", fault.run, error.to_string());
                }
            }
        }
    }
}

impl State {
    /// Whether a new append has to wait until those under way are settled: the segment is to be sealed, or to be let go. What
    /// is written and not yet synced must not lose its segment.
    fn must_settle_first(&self) -> bool {
        let is_to_go = self.writer.as_ref().is_some_and(Writer::is_to_go);
        self.group.is_draining || (is_to_go && self.group.is_busy())
    }
}

/// Declares everything written up to here durable.
fn accept(state: &mut State, written: Extent, counts: Counts, target: u64) {
    state.index.tail.set_durable_to(counts);
    state.group.settled = target;
    state.version += 1;
    let Some(writer) = state.writer.as_ref() else { return };
    let number = state.numbers[&writer.name];
    state.segments[number as usize].known = written;
    // Without a pause in the appends the segment could never be sealed nor the tail be flushed.
    let is_due = written.bytes >= writer.seal_at || state.index.tail.counts().rows >= 2 * TAIL_ROWS_MAX;
    state.group.is_draining = is_due && state.group.is_busy();
}

/// Compares the size and root that an append expects with those of the feed.
fn check_head(state: &State, append: &Append<'_>) -> Outcome<()> {
    let newest = state.index.newest(&append.head.feed, Seen::Written)?;
    let size = newest.map_or(0, |row| row.size());
    if size != append.expected_size {
        let message = format!("the feed has {size} entries, {} were expected", append.expected_size);
        return Err(Error::new(ErrorKind::Conflict, "append", message).at(append.head.feed).into());
    }
    if let Some(row) = newest.filter(|row| row.root != append.expected_root) {
        let message =
            format!("at size {size} the feed has root {}, {} was expected", row.root, append.expected_root);
        return Err(Error::new(ErrorKind::Forked, "append", message).at(append.head.feed).into());
    }
    Ok(())
}

/// Tells for each entry whether its event is in the ledger, and in which segments; `Invalid` when one is in the feed already.
fn known_events(state: &State, append: &Append<'_>) -> Outcome<(Vec<bool>, BTreeSet<u32>)> {
    let mut segments = BTreeSet::new();
    let mut known = vec![false; append.entries.len()];
    let (version, absent) = &state.last_absent;
    let mut absent = if *version == state.version { absent.iter() } else { [].iter() };
    let mut batch = None;
    for (ordinal, address) in append.entries.iter().enumerate() {
        // What was just found absent, in the same order, need not be looked up again; a record that occurs twice in
        // what was asked for occurs once in the batch.
        let ahead = absent.as_slice().iter().take(4).position(|other| other == address);
        if let Some(ahead) = ahead {
            absent.nth(ahead);
            continue;
        }
        let mut rows = Vec::new();
        state.index.addresses(address, Seen::Written, &mut |row| rows.push(row))?;
        known[ordinal] = !rows.is_empty();
        for row in rows {
            segments.insert(row.segment);
            if feed_index(state, &row, &append.head.feed, Seen::Written, &mut batch)?.is_some() {
                let message = format!("{address} is in the feed already");
                return Err(Error::new(ErrorKind::Invalid, "append", message).at(append.head.feed).into());
            }
        }
    }
    Ok((known, segments))
}

/// Returns the index of an entry line in a feed, if it belongs to that feed. `batch` remembers the last batch looked at.
pub(crate) fn feed_index(
    state: &State,
    row: &AddressRow,
    feed: &burnlog_log::WriterId,
    seen: Seen,
    batch: &mut Option<crate::index::SlotRow>,
) -> Outcome<Option<u64>> {
    let holds =
        |batch: &crate::index::SlotRow| batch.place.segment == row.segment && batch.place.holds(row.slot());
    if !batch.as_ref().is_some_and(holds) {
        *batch = state.index.at_slot(row.segment, row.slot(), seen)?;
    }
    let Some(found) = batch.as_ref().filter(|batch| holds(batch)) else { return Ok(None) };
    let of_feed = found.feed.filter(|(owner, _)| owner == feed);
    Ok(of_feed.map(|(_, first)| first + u64::from(row.slot() - found.place.first_slot)))
}

/// What every append says from then on.
fn gone(segment: &Path) -> Error {
    let message = "the segment was removed, moved or replaced while this process appended to it; nothing of this batch is \
                   stored. Put it back, then open the ledger again";
    Error::new(ErrorKind::NotFound, "append", message).at(segment.display())
}
