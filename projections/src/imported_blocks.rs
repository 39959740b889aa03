//! Imported content beside the raw records that it was made of: which of its blocks those have as well, so that a list has
//! each block once. A tool use and its result are known by the id of the tool use, anything else by its message, if the raw
//! records of that came to their end.

use crate::blocks::BlockPlace;
use crate::content::Content;
use crate::lookup::{live, text};
use crate::queries::{Filter, PageRequest, Queries};
use crate::records::{Chunk, fingerprint};
use crate::relayburn::is_imported;
use crate::slice::SLICE_VALUES;
use crate::streams::Stream;
use crate::table::Row;
use crate::tool_uses::ToolUse;
use burnlog_log::{Address, Result};
use std::collections::{HashMap, HashSet};

/// How many calls are read at once.
const PAGE_ROWS: usize = 512;

/// What the raw records of a session tell of.
pub(crate) struct RawBlocks {
    /// The fingerprints of messages whose blocks the raw records have.
    messages: HashSet<[u8; 4]>,
}

impl RawBlocks {
    /// Looks for what the raw records of a session have; `None` where nothing was imported, or nothing else is there.
    pub(crate) fn beside_imported(
        queries: &dyn Queries,
        source: &str,
        session: &str,
        streams: &[Stream],
    ) -> Result<Option<Self>> {
        let imported = streams.iter().filter(|stream| is_imported(&stream.stream)).count();
        if imported == 0 || imported == streams.len() {
            return Ok(None);
        }
        let mut messages = HashSet::new();
        let (source, session) = (source.to_owned(), session.to_owned());
        for turn in queries.user_turns(&source, &session)? {
            if !is_imported(&turn.stream) {
                messages.insert(fingerprint(&turn.turn));
            }
        }
        let filter = Filter { source: Some(source), session: Some(session), ..Filter::default() };
        let mut page = PageRequest { after: None, limit: PAGE_ROWS };
        loop {
            let turns = queries.turns(&filter, &page)?;
            let calls = turns.items.iter().map(|turn| &turn.call);
            let whole = calls.filter(|call| call.complete && !is_imported(&call.stream));
            messages.extend(whole.map(|call| fingerprint(&call.call)));
            match turns.next {
                Some(next) => page.after = Some(next),
                None => return Ok(Some(Self { messages })),
            }
        }
    }

    /// Takes the blocks of imported records out that raw records have as well.
    pub(crate) fn retain_others(
        &self,
        queries: &dyn Queries,
        content: &Content,
        places: &mut Vec<BlockPlace>,
    ) -> Result<()> {
        if !is_imported(&content.stream) {
            return Ok(());
        }
        let key = [text(&content.source), text(&content.stream), crate::Value::Integer(content.chunk)];
        let chunk = queries.get(live(queries)?, Chunk::TABLE, &key)?.map(Chunk::read).transpose()?;
        let messages: HashMap<(u64, Address), [u8; 4]> = chunk
            .iter()
            .flat_map(Chunk::places)
            .map(|place| ((place.seq, place.address), place.fingerprint))
            .collect();
        let tools = raw_halves(queries, content, places)?;
        places.retain(|place| {
            let half = place.tool_use.as_ref().and_then(|id| tools.get(id));
            let of_tool = half.is_some_and(|(has_use, has_result)| match &*place.kind {
                "tool_use" => *has_use,
                "tool_result" => *has_result,
                _ => false,
            });
            let message = messages.get(&(place.seq, place.address)).filter(|message| **message != [0; 4]);
            !of_tool && !message.is_some_and(|message| self.messages.contains(message))
        });
        Ok(())
    }
}

/// Returns, for each tool use of the blocks, whether a raw record asks for it, and whether one has its result.
fn raw_halves(
    queries: &dyn Queries,
    content: &Content,
    places: &[BlockPlace],
) -> Result<HashMap<String, (bool, bool)>> {
    let mut ids: Vec<&String> = places.iter().filter_map(|place| place.tool_use.as_ref()).collect();
    ids.sort_unstable();
    ids.dedup();
    let mut halves = HashMap::with_capacity(ids.len());
    for ids in ids.chunks(SLICE_VALUES / ToolUse::TABLE.key) {
        let keys: Vec<_> = ids.iter().flat_map(|id| [text(&content.source), text(id)]).collect();
        let rows = queries.get_many(live(queries)?, ToolUse::TABLE, &keys)?;
        for (id, row) in ids.iter().zip(rows) {
            if let Some(row) = row.map(ToolUse::read).transpose()? {
                halves.insert((*id).clone(), (row.use_copied.is_some(), row.result_copied.is_some()));
            }
        }
    }
    Ok(halves)
}
