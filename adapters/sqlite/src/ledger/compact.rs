//! Compacting: merges small blocks, leaves out what was erased, gives free pages back, and empties the log of
//! changes. Event numbers stay, so nothing that refers to an event changes.

use super::backend::write;
use super::block::Encoder;
use super::fault::{Fail, damage_of};
use super::place::pragma;
use super::plan::Packing;
use super::read::read_block;
use super::rows::{BlockRow, EventRow, State};
use burnlog_log::{Error, ErrorKind};
use rusqlite::Connection;

/// Compacts; each merge is a transaction of its own, so that writers get their turn.
pub(crate) fn compact(connection: &mut Connection, packing: Packing) -> Result<(), Fail> {
    let mut next = Some(0);
    let mut encoder = Encoder::new(packing.level)?;
    while let Some(from) = next {
        next = write(connection, |connection| merge(connection, from, packing, &mut encoder))?;
    }
    pragma(connection, "incremental_vacuum")?;
    let busy: bool = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    if busy {
        let message = "another process reads or writes, and so pages of before stay in the log of changes: \
                       try again when it is done";
        return Err(Error::new(ErrorKind::InUse, "compact", message).into());
    }
    Ok(())
}

/// Merges the first small blocks at or after event `from` that fit together; returns where to go on.
fn merge(
    connection: &Connection,
    from: u64,
    packing: Packing,
    encoder: &mut Encoder,
) -> Result<Option<u64>, Fail> {
    let room = packing.block_bytes as u64 * 5 / 4;
    let sql = format!("SELECT {} FROM ledger_blocks WHERE first >= ?1 ORDER BY first", BlockRow::COLUMNS);
    let (mut group, mut filled): (Vec<BlockRow>, u64) = (Vec::new(), 0);
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([from])?;
    while let Some(row) = rows.next()? {
        let block = BlockRow::take(row)?;
        let follows = group.last().is_none_or(|last| last.end() == block.first);
        if follows && filled.saturating_add(block.raw_bytes) <= room {
            filled += block.raw_bytes;
            group.push(block);
            continue;
        }
        if group.len() > 1 {
            break;
        }
        // Nothing to merge with: the search goes on here.
        (group, filled) = (vec![block], block.raw_bytes);
    }
    drop(rows);
    let Some(last) = group.last().filter(|_| group.len() > 1) else { return Ok(None) };
    match Merged::of(connection, &group) {
        Ok(merged) => merged.write(connection, &group, encoder)?,
        // Damage is for `verify` to name; what cannot be read stays as it is.
        Err(fail) => drop(damage_of(fail)?),
    }
    Ok(Some(last.end()))
}

/// Blocks in memory, joined.
struct Merged {
    events: Vec<EventRow>,
    raw: Vec<u8>,
}

impl Merged {
    /// Reads the blocks. Erased payloads, which are zeros, are left out.
    fn of(connection: &Connection, group: &[BlockRow]) -> Result<Self, Fail> {
        let mut merged = Self { events: Vec::new(), raw: Vec::new() };
        let sql = format!(
            "SELECT {} FROM ledger_events WHERE number >= ?1 AND number < ?2 ORDER BY number",
            EventRow::COLUMNS
        );
        let mut statement = connection.prepare_cached(&sql)?;
        for block in group {
            let raw = read_block(connection, block)?;
            let mut rows = statement.query((block.first, block.end()))?;
            for number in block.first..block.end() {
                let Some(row) = rows.next()? else { return Err(Fail::damaged("an event is not there")) };
                let event = EventRow::take(row)?;
                let range = event.start as usize..event.start.saturating_add(event.bytes()) as usize;
                let Some(bytes) = raw.get(range).filter(|_| event.number == number) else {
                    return Err(Fail::damaged("an event lies beyond its block"));
                };
                merged.events.push(EventRow { start: merged.raw.len() as u64, ..event });
                merged.raw.extend_from_slice(bytes);
            }
        }
        Ok(merged)
    }

    /// Puts the joined block in the place of the group.
    fn write(&self, connection: &Connection, group: &[BlockRow], encoder: &mut Encoder) -> Result<(), Fail> {
        let mut state = State::read(connection)?;
        let bytes = encoder.encode(&self.raw)?;
        let events = self.events.len() as u64;
        let mut delete = connection.prepare_cached("DELETE FROM ledger_blocks WHERE first = ?1")?;
        for block in group {
            delete.execute([block.first])?;
        }
        let row = BlockRow::new(group[0].first, state.blocks, events, self.raw.len() as u64, &bytes);
        row.insert(connection, &bytes)?;
        for event in &self.events {
            event.update(connection)?;
        }
        state.blocks += 1;
        state.write(connection)
    }
}
