//! Appending one batch in one transaction. Everything that can be refused is refused before the first write.

use super::fault::Fail;
use super::plan::{Packed, Plan, refused};
use super::rows::{BatchRow, BlockRow, EventRow, FeedRow, PlaceRow, State, locate, place_in};
use burnlog_log::{Error, ErrorKind};
use rusqlite::Connection;

/// Appends the batch in the transaction that `connection` is in. `packed` was made on the guess that every event sent
/// is new; where the guess was wrong it is made anew.
pub(crate) fn apply(connection: &Connection, plan: &Plan<'_>, mut packed: Packed) -> Result<(), Fail> {
    let append = plan.append;
    let mut state = State::read(connection)?;
    let feed = FeedRow::find(connection, &append.head.feed)?;
    check_head(plan, feed.as_ref())?;
    let number = match &feed {
        Some(row) => row.number,
        None => connection
            .prepare_cached("SELECT coalesce(max(number), 0) + 1 FROM ledger_feeds")?
            .query_row([], |row| row.get(0))?,
    };
    let (known, new) = settle(connection, plan, number)?;
    if new != packed.new {
        packed = plan.pack(new)?;
    }
    let mut numbers = vec![0; append.entries.len()];
    for (number, position) in (state.events..).zip(&packed.new) {
        numbers[*position] = number;
    }
    for (position, event) in known {
        numbers[position] = event;
        PlaceRow { feed: number, event, entry: append.expected_size + position as u64 }.insert(connection)?;
    }
    write_events(connection, plan, &packed, &mut state, number)?;
    BatchRow::insert(connection, number, append.head, &numbers)?;
    state.clock += 1;
    FeedRow { number, head: *append.head, frontier: append.frontier.to_vec(), moved: state.clock }
        .write(connection)?;
    state.write(connection)
}

fn check_head(plan: &Plan<'_>, feed: Option<&FeedRow>) -> Result<(), Error> {
    let append = plan.append;
    let size = feed.map_or(0, |row| row.head.size);
    if size != append.expected_size {
        let message = format!("the feed has {size} entries, {} were expected", append.expected_size);
        return Err(refused(ErrorKind::Conflict, message, append));
    }
    match feed {
        Some(row) if row.head.root != append.expected_root => {
            let message = format!(
                "at size {size} the feed has root {}, {} was expected: somebody else wrote with this key",
                row.head.root, append.expected_root
            );
            Err(refused(ErrorKind::Forked, message, append))
        }
        _ => Ok(()),
    }
}

/// Entries whose events the ledger has, with the numbers of these; and those whose events are new.
type Settled = (Vec<(usize, u64)>, Vec<usize>);

/// Tells known from new events. Refuses what is in the feed already and what is missing.
fn settle(connection: &Connection, plan: &Plan<'_>, feed: u64) -> Result<Settled, Fail> {
    let (mut known, mut new, mut missing) = (Vec::new(), Vec::new(), Vec::new());
    for (position, address) in plan.append.entries.iter().enumerate() {
        match locate(connection, address)? {
            Some(event) if place_in(connection, feed, &event)?.is_some() => {
                let message = format!("{address} is in the feed already");
                return Err(refused(ErrorKind::Invalid, message, plan.append).into());
            }
            Some(event) => known.push((position, event.number)),
            None if plan.sent[position].is_some() => new.push(position),
            None => missing.push(*address),
        }
    }
    if missing.is_empty() {
        return Ok((known, new));
    }
    Err(Error::missing("append", missing).at(plan.append.head.feed).into())
}

fn write_events(
    connection: &Connection,
    plan: &Plan<'_>,
    packed: &Packed,
    state: &mut State,
    feed: u64,
) -> Result<(), Fail> {
    for block in &packed.blocks {
        let first = state.events;
        let mut start = 0;
        for position in &packed.new[block.events.clone()] {
            let sent = plan.event(*position);
            let event = EventRow {
                number: state.events,
                address: sent.address,
                start,
                skeleton_bytes: sent.skeleton.len() as u64,
                payload_bytes: sent.payload.map(|payload| payload.len() as u64),
                feed,
                entry: plan.append.expected_size + *position as u64,
            };
            event.insert(connection)?;
            start += event.bytes();
            state.events += 1;
            state.payload_bytes += event.payload_bytes.unwrap_or(0);
        }
        let row = BlockRow::new(first, state.blocks, state.events - first, block.raw_bytes, &block.bytes);
        row.insert(connection, &block.bytes)?;
        state.blocks += 1;
    }
    Ok(())
}
