//! Lists of blocks: what a conversation consists of, page by page, each with its place in the log.

use crate::content::{ADDRESS_BYTES, Block, Content};
use crate::lookup::{for_each_within_pages, live, text};
use crate::queries::{Page, PageRequest, Queries, Resume};
use crate::records::{CHUNK_RECORDS, Chunk};
use crate::store::{Generation, RowReader};
use crate::table::{Row, Value};
use crate::text::Name;
use burnlog_log::{Address, Error, ErrorKind, Result, parse_hex, push_hex};
use std::collections::HashMap;

/// How many rows, of 200 records each, are read at once.
const PAGE_ROWS: usize = 64;

/// Which blocks are asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BlockFilter {
    /// The source.
    pub source: String,
    /// The session.
    pub session: String,
    /// Only of this stream.
    pub stream: Option<String>,
    /// Only of these kinds; of all when empty.
    pub kinds: Vec<String>,
}

/// A block and its place. The text is read from the payload of the event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockPlace {
    /// The stream.
    pub stream: Name,
    /// The record number in it.
    pub seq: u64,
    /// The event.
    pub address: Address,
    /// The number of the block in its record, from 0.
    pub ordinal: u32,
    /// `text`, `thinking`, `tool_use`, `tool_result`, `image` or whatever the source calls it.
    pub kind: String,
    /// Where in the payload the JSON value stands that holds the content, in bytes. Which value that is: [`Content`].
    pub start: u64,
    /// Its length in bytes.
    pub bytes: u64,
    /// The tool use that it belongs to.
    pub tool_use: Option<String>,
}

/// Where a list of blocks goes on.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
struct BlockKey {
    blocks_after: String,
    seq: u64,
    address: String,
    ordinal: u32,
}

impl BlockKey {
    fn of(place: &BlockPlace) -> Self {
        let (stream, address) = (place.stream.to_string(), place.address.to_string());
        Self { blocks_after: stream, seq: place.seq, address, ordinal: place.ordinal }
    }
}

/// Lists the blocks of a session by stream, record number, address and number in the record.
///
/// `Invalid` for a [`Resume`] of another list; else errors as [`live`].
pub fn blocks(queries: &dyn Queries, filter: &BlockFilter, page: &PageRequest) -> Result<Page<BlockPlace>> {
    let resume = page.after.as_ref().map(|Resume(text)| {
        serde_json::from_str::<BlockKey>(text).map_err(|_| {
            let message = "this does not tell where a list of blocks goes on";
            Error::new(ErrorKind::Invalid, "list", message)
        })
    });
    let after = resume.transpose()?;
    let generation = live(queries)?;
    let mut items: Vec<BlockPlace> = Vec::new();
    for stream in queries.streams(&filter.source, &filter.session)? {
        let is_asked_for = filter.stream.as_ref().is_none_or(|wanted| *wanted == *stream.stream);
        let is_behind = after.as_ref().is_some_and(|after| *stream.stream < *after.blocks_after);
        if !is_asked_for || is_behind || items.len() > page.limit {
            continue;
        }
        let first = after.as_ref().filter(|after| *after.blocks_after == *stream.stream);
        let first = first.map_or(0, |after| (after.seq / CHUNK_RECORDS) as i64);
        let prefix = [text(&stream.source), text(&stream.stream)];
        let start = vec![prefix[0].clone(), prefix[1].clone(), Value::Integer(first - 1)];
        for_each_within_pages::<Content>(
            queries,
            generation,
            &prefix,
            Some(start),
            PAGE_ROWS,
            &mut |content| {
                let wanted = |block: &Block<'_>| {
                    filter.kinds.is_empty() || filter.kinds.iter().any(|kind| *kind == block.kind)
                };
                for place in places(queries, generation, &content, wanted)? {
                    let is_new = after.as_ref().is_none_or(|after| BlockKey::of(&place) > *after);
                    if is_new && items.len() <= page.limit {
                        items.push(place);
                    }
                }
                Ok(items.len() <= page.limit)
            },
        )?;
    }
    let more = items.len() > page.limit;
    items.truncate(page.limit);
    let resume = |place: &BlockPlace| {
        Resume(serde_json::to_string(&BlockKey::of(place)).expect("strings and numbers are JSON"))
    };
    let next = items.last().filter(|_| more).map(resume);
    Ok(Page { items, next })
}

/// Returns the blocks of a row with the addresses in full. `Corrupt` when a record is not in `records`.
pub(crate) fn places(
    reader: &(impl RowReader + ?Sized),
    generation: Generation,
    content: &Content,
    wanted: impl Fn(&Block<'_>) -> bool,
) -> Result<Vec<BlockPlace>> {
    let key = [text(&content.source), text(&content.stream), Value::Integer(content.chunk)];
    let chunk = reader.get(generation, Chunk::TABLE, &key)?.map(Chunk::read).transpose()?;
    let mut addresses = HashMap::new();
    for place in chunk.iter().flat_map(Chunk::places) {
        let mut short = Vec::with_capacity(2 * ADDRESS_BYTES);
        push_hex(&mut short, &place.address.0[..ADDRESS_BYTES]);
        addresses.insert((place.seq, short), place.address);
    }
    let place = |block: Block<'_>| {
        let address = addresses.get(&(block.seq, block.address.as_bytes().to_vec())).copied();
        let address = address.ok_or_else(|| {
            let message = "a block is of a record that is not there; rebuild the projections from the log";
            Error::new(ErrorKind::Corrupt, "read content", message)
                .at(format_args!("{} record {}", content.stream, block.seq))
        })?;
        Ok(BlockPlace {
            stream: content.stream.clone(),
            seq: block.seq,
            address,
            ordinal: block.ordinal,
            kind: block.kind.into_owned(),
            start: block.start,
            bytes: block.bytes,
            tool_use: block.tool_use.map(std::borrow::Cow::into_owned),
        })
    };
    content.list().into_iter().filter(wanted).map(place).collect()
}

/// A block of a chunk, by the first bytes of its event's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BlockAt {
    pub(crate) seq: u64,
    pub(crate) address: [u8; ADDRESS_BYTES],
    pub(crate) ordinal: u32,
    pub(crate) kind: String,
    pub(crate) start: u64,
    pub(crate) bytes: u64,
}

/// Returns the blocks of one chunk of a stream, by record number and address.
pub(crate) fn blocks_of_chunk(
    reader: &(impl RowReader + ?Sized),
    generation: Generation,
    source: &str,
    stream: &str,
    chunk: i64,
) -> Result<Vec<BlockAt>> {
    let key = [text(source), text(stream), Value::Integer(chunk)];
    let row = reader.get(generation, Content::TABLE, &key)?.map(Content::read).transpose()?;
    let block = |block: Block<'_>| {
        let mut address = [0; ADDRESS_BYTES];
        parse_hex(block.address.as_bytes(), &mut address).then(|| BlockAt {
            seq: block.seq,
            address,
            ordinal: block.ordinal,
            kind: block.kind.into_owned(),
            start: block.start,
            bytes: block.bytes,
        })
    };
    Ok(row.iter().flat_map(Content::list).filter_map(block).collect())
}
