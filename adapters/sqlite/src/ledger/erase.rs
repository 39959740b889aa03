//! Erasing payloads: the event's row forgets that there is one, and its block is written anew with zeros in its
//! place, in one transaction. Places in the block stay.

use super::block::Encoder;
use super::fault::{Fail, damage_of};
use super::read::read_block;
use super::rows::{BlockRow, EventRow, State, block_of, locate};
use burnlog_log::{Address, Error, ErrorKind};
use rusqlite::Connection;
use std::collections::BTreeMap;

/// Erases the payloads of `addresses` in the transaction that `connection` is in. `NotFound` for an absent one.
pub(crate) fn erase(connection: &Connection, addresses: &[Address], level: i32) -> Result<(), Fail> {
    // By number, each once.
    let mut events: BTreeMap<u64, EventRow> = BTreeMap::new();
    for address in addresses {
        let Some(event) = locate(connection, address)? else {
            return Err(Error::new(ErrorKind::NotFound, "erase", "no such event").at(address).into());
        };
        if event.payload_bytes.is_some() {
            events.insert(event.number, event);
        }
    }
    let mut state = State::read(connection)?;
    let mut rest: Vec<EventRow> = events.into_values().collect();
    let mut encoder = Encoder::new(level)?;
    while let Some(first) = rest.first() {
        let block = match block_of(connection, first.number) {
            Ok(block) => Some(block),
            Err(fail) => damage_of(fail).map(|_| None)?,
        };
        let end = block.map_or(first.number + 1, |block| block.end());
        let behind = rest.split_off(rest.partition_point(|event| event.number < end));
        if let Some(block) = block {
            blank(connection, &block, &rest, &mut state, &mut encoder)?;
        }
        for event in &rest {
            EventRow { payload_bytes: None, ..*event }.update(connection)?;
            state.payload_bytes = state.payload_bytes.saturating_sub(event.payload_bytes.unwrap_or(0));
        }
        rest = behind;
    }
    state.write(connection)
}

/// Writes a block anew with zeros for the payloads of `events`.
fn blank(
    connection: &Connection,
    block: &BlockRow,
    events: &[EventRow],
    state: &mut State,
    encoder: &mut Encoder,
) -> Result<(), Fail> {
    let mut raw = match read_block(connection, block) {
        Ok(raw) => raw,
        // A block that cannot be read shows nobody a payload; replacing it would hide the damage.
        Err(fail) => return damage_of(fail).map(drop),
    };
    for event in events {
        let start = usize::try_from(event.start + event.skeleton_bytes).unwrap_or(usize::MAX).min(raw.len());
        let bytes = usize::try_from(event.payload_bytes.unwrap_or(0)).unwrap_or(usize::MAX);
        let end = start.saturating_add(bytes).min(raw.len());
        raw[start..end].fill(0);
    }
    let bytes = encoder.encode(&raw)?;
    BlockRow::new(block.first, state.blocks, block.events, block.raw_bytes, &bytes)
        .insert(connection, &bytes)?;
    state.blocks += 1;
    Ok(())
}
