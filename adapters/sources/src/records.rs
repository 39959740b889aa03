//! The records of one file: which go out as they are, which in parts, which wait; and the tail and the extent that
//! close a stream. From where a file is read is decided in `reading`.

use crate::compressed;
use crate::cursor::Cursor;
use crate::ingest::Engine;
use crate::json;
use crate::lines::{Lines, LongEnd, Next};
use crate::outbox::Outbox;
use crate::reading::{Trouble, continues};
use crate::run::Role;
use crate::source::Shape;
use burnlog_log::limits::PAYLOAD_BYTES_MAX;
use burnlog_log::{Kind, Part, PayloadHash, Result};
use std::io;
use std::ops::Range;

impl Engine<'_> {
    /// Sends what is behind the cursor, line by line.
    pub(crate) fn lines(&mut self, lines: &mut Lines<'_>) -> Result<(), Trouble> {
        let bytes_max = self.out.options.record_bytes_max;
        while !self.out.current().doomed {
            match lines.next(bytes_max)? {
                Next::Line(range, hash) => self.record(lines, range, Some(hash), true)?,
                Next::Rest(range) => {
                    let text = lines.bytes(range.clone());
                    let cursor = &mut self.out.current().cursor;
                    if !json::is_complete_record(text, cursor.ends_with_return) {
                        cursor.set_pending(text.len() as u64, text);
                        return Ok(());
                    }
                    lines.pass(range.len() as u64)?;
                    return self.record(lines, range, None, false);
                }
                Next::Long => {
                    let end = lines.long_end(true)?;
                    let is_unasked = end.terminated && !self.out.options.check_records;
                    let is_object =
                        is_unasked || lines.ahead(end.bytes, |text| json::is_object_stream(text))?;
                    let is_whole = end.terminated || (is_object && end.last == b'}');
                    if !is_whole {
                        self.out.current().cursor.set_pending(end.bytes, b"");
                        return Ok(());
                    }
                    self.long_record(lines, &end, is_object)?;
                }
                Next::End => return Ok(()),
            }
        }
        Ok(())
    }

    /// Sends one record that is in the buffer and passed; `hash` is its hash, if it is known.
    fn record(
        &mut self,
        lines: &mut Lines<'_>,
        range: Range<usize>,
        hash: Option<PayloadHash>,
        newline: bool,
    ) -> Result<(), Trouble> {
        let out = &mut self.out;
        if out.is_full_for(range.len()) {
            let cursor = &mut out.current().cursor;
            if let Some(prefix) = lines.prefix_at(cursor.offset) {
                cursor.prefix = prefix;
            }
            out.flush()?;
            if out.current().doomed {
                return Ok(());
            }
        }
        let payload = lines.bytes(range);
        let seq = out.current().cursor.records;
        let hash = hash.unwrap_or_else(|| PayloadHash::of(payload));
        out.push_hashed(&Kind::Line, seq, None, (payload, hash), Role::Record)?;
        let cursor = &mut out.current().cursor;
        cursor.add_event(seq, hash, false);
        cursor.end_record(lines.position(), newline, payload.last());
        out.count_record(payload, payload.len() as u64 + u64::from(newline));
        Ok(())
    }

    fn long_record(&mut self, lines: &mut Lines<'_>, end: &LongEnd, readable: bool) -> Result<(), Trouble> {
        let Some(hashes) = self.push_long(lines, (&Kind::Line, Role::Part), end)? else { return Ok(()) };
        let cursor = &mut self.out.current().cursor;
        let seq = cursor.records;
        for hash in &hashes {
            cursor.add_event(seq, *hash, true);
        }
        cursor.end_record(lines.position(), end.terminated, Some(&end.last));
        self.out.count_long_record(readable, end.bytes + u64::from(end.terminated));
        Ok(())
    }

    /// Sends the parts of a record that is too long to hold, and passes it; `None` when the run is doomed meanwhile.
    /// The cursor still stands before the record.
    pub(crate) fn push_long(
        &mut self,
        lines: &mut Lines<'_>,
        (kind, role): (&Kind<'_>, Role),
        end: &LongEnd,
    ) -> Result<Option<Vec<PayloadHash>>, Trouble> {
        let changed = || io::Error::other("the file changed while it was read");
        let bytes_max = self.out.options.record_bytes_max as u64;
        let cursor = &mut self.out.current().cursor;
        let seq = cursor.records;
        if let Some(prefix) = lines.prefix_at(cursor.offset) {
            cursor.prefix = prefix;
        }
        let mut hashes = Vec::new();
        let mut left = end.bytes;
        while left > 0 {
            let length = left.min(bytes_max);
            let range = lines.peek(length as usize)?;
            if range.len() as u64 != length {
                return Err(changed().into());
            }
            if self.out.is_full_for(range.len()) {
                self.out.flush()?;
                if self.out.current().doomed {
                    return Ok(None);
                }
            }
            let part = Part { number: hashes.len() as u32, more: left > length };
            hashes.push(self.out.push(kind, seq, Some(part), lines.bytes(range), role)?);
            lines.pass(length)?;
            left -= length;
        }
        if end.terminated {
            let range = lines.peek(1)?;
            if lines.bytes(range) != b"\n" {
                return Err(changed().into());
            }
            lines.pass(1)?;
        }
        Ok(Some(hashes))
    }

    /// Sends a file that is one record, if it is complete.
    pub(crate) fn object(&mut self, lines: &mut Lines<'_>) -> Result<(), Trouble> {
        let bytes_max = self.out.options.record_bytes_max;
        let range = lines.peek(bytes_max + 1)?;
        let cursor = &mut self.out.current().cursor;
        if range.len() > bytes_max {
            let end = lines.long_end(false)?;
            if lines.ahead(end.bytes, |text| json::is_object_stream(text))? {
                return self.long_record(lines, &end, true);
            }
            cursor.set_pending(end.bytes, b"");
            return Ok(());
        }
        let text = lines.bytes(range.clone());
        if !json::is_object(text) {
            cursor.set_pending(text.len() as u64, text);
            return Ok(());
        }
        let newline = text.ends_with(b"\n");
        lines.pass(range.len() as u64)?;
        let record = range.start..range.end - usize::from(newline);
        self.record(lines, record, None, newline)
    }

    /// Sends the unterminated last record of a planned file whose cursor does not keep it, as a part of its closing.
    pub(crate) fn read_tail(&mut self, index: usize) -> Result<(Vec<PayloadHash>, u64), Trouble> {
        let file = &self.plan.files[index];
        let handle = compressed::open(self.files, &file.path)
            .map_err(|error| Trouble::File("open session file", error))?;
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut lines = Lines::new(handle, &mut buffer);
        let cursor = self.out.current().cursor.clone();
        let changed = || io::Error::other("the file changed before it was closed");
        if !continues(&mut lines, &cursor)? {
            return Err(changed().into());
        }
        let to_newline = file.identity.shape == Shape::Lines;
        let bytes_max = self.out.options.record_bytes_max;
        let range = lines.peek(bytes_max + 1)?;
        let text = lines.bytes(range);
        if text.len() <= bytes_max {
            if text.is_empty() || (to_newline && memchr::memchr(b'\n', text).is_some()) {
                return Err(changed().into());
            }
            let bytes = text.len() as u64;
            let hashes = self.out.push_tail(&tail_kind(text), cursor.records, text)?;
            self.out.count_record(text, bytes);
            return Ok((hashes, bytes));
        }
        let end = lines.long_end(to_newline)?;
        if end.terminated {
            return Err(changed().into());
        }
        let hashes = self.push_long(&mut lines, (&Kind::Tail, Role::Tail), &end)?.ok_or_else(changed)?;
        self.out.count_long_record(false, end.bytes);
        Ok((hashes, end.bytes))
    }
}

/// An unterminated record at the end of a closed stream: a line if it is one whole object after all.
fn tail_kind(text: &[u8]) -> Kind<'static> {
    let whole = json::is_complete_record(text, false) || json::is_complete_record(text, true);
    if whole { Kind::Line } else { Kind::Tail }
}

/// Sends the unterminated last record of `state`, if there is one, and counts it in.
pub(crate) fn push_tail(out: &mut Outbox<'_>, state: &mut Cursor, pending: &[u8]) -> Result<()> {
    if pending.is_empty() {
        return Ok(());
    }
    let hashes = out.push_tail(&tail_kind(pending), state.records, pending)?;
    state.add_tail(&hashes, pending.len() as u64);
    out.count_record(pending, pending.len() as u64);
    Ok(())
}

/// Sends the extent of `state`. Never in parts: nothing would say which parts belong together.
pub(crate) fn push_extent(out: &mut Outbox<'_>, state: &Cursor, role: Role) -> Result<()> {
    let mut extent = state.extent();
    let mut payload = Vec::new();
    extent.encode(&mut payload);
    if payload.len() > PAYLOAD_BYTES_MAX {
        // Some 400,000 records of a file whose cursor was lost. The ones known to be ambiguous must do.
        extent.chosen.retain(|(seq, _)| state.is_ambiguous(*seq));
        payload.clear();
        extent.encode(&mut payload);
    }
    out.make_room(payload.len())?;
    out.push(&Kind::Extent, 0, None, &payload, role)?;
    Ok(())
}
