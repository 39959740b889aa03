//! `burnlog content`: what conversations consist of, block by block, with the text and its place in the log.

use super::Context;
use crate::args::Content;
use crate::filter;
use crate::output::{Column, Cut, Printer, count};
use crate::transcript::{Fetched, PayloadReader, block_text, one_line};
use burnlog_log::{Address, Result};
use burnlog_projections::{
    BlockFilter, BlockPlace, PageRequest, Queries, RecordClass, Resume, Session, blocks, records,
};
use std::collections::HashMap;
use std::process::ExitCode;

/// How many blocks are read at once.
const PAGE_BLOCKS: usize = 512;
/// How much of a text a table shows, in characters.
const TABLE_CHARACTERS: usize = 200;

/// The fields of `content --json`.
#[derive(serde::Serialize)]
pub(super) struct Line {
    pub(super) source: String,
    pub(super) session: String,
    pub(super) stream: String,
    pub(super) seq: u64,
    /// What kind of record it stands in: `assistant`, `user`, `system` ….
    pub(super) role: Option<&'static str>,
    pub(super) kind: String,
    pub(super) tool_use: Option<String>,
    pub(super) address: Address,
    /// Where in the payload the JSON value stands.
    pub(super) start: u64,
    pub(super) bytes: u64,
    /// `present`, `erased`, `damaged` or `missing`.
    pub(super) state: &'static str,
    /// Of an image, and of what cannot be read, absent.
    pub(super) text: Option<String>,
}

const COLUMNS: &[Column<Line>] = &[
    Column::shrinking("session", Cut::End, |line: &Line| line.session.clone()).told_by(9),
    Column::shrinking("stream", Cut::Start, |line: &Line| line.stream.clone()).spare(),
    Column::number("seq", |line| line.seq.to_string()),
    Column::text("role", |line| line.role.unwrap_or_default().to_owned()),
    Column::text("kind", |line| line.kind.clone()),
    Column::text("address", |line: &Line| line.address.to_string()[..15].to_owned()).spare(),
    Column::number("start", |line: &Line| count(line.start)).spare(),
    Column::number("bytes", |line| count(line.bytes)),
    Column::shrinking("text", Cut::End, |line: &Line| match &line.text {
        Some(text) => one_line(text, TABLE_CHARACTERS),
        None if line.state == "present" => String::new(),
        None => format!("[{}]", line.state),
    })
    .told_by(24),
];

pub(super) fn run(context: &Context, arguments: &Content) -> anyhow::Result<ExitCode> {
    let global = &context.global;
    let (ledger, store) = context.ledger_and_queries()?;
    let filter = filter::of_arguments(&arguments.filter, &*store)?;
    let payloads = PayloadReader::new(&ledger);
    let mut printer = Printer::new(global, COLUMNS);
    let mut left = arguments.filter.limit.unwrap_or(usize::MAX);
    filter::for_each(
        None,
        |page| store.sessions(&filter, page),
        |session| {
            if left > 0 {
                let blocks = BlocksOf { session: &session, kinds: &arguments.kind };
                for_each_block(&*store, &payloads, &blocks, None, &mut left, &mut |line| {
                    printer.row(&line).map(|()| true)
                })?;
            }
            Ok(())
        },
    )?;
    printer.finish()?;
    Ok(ExitCode::SUCCESS)
}

/// The blocks of a session, all of them or those of some kinds.
pub(super) struct BlocksOf<'a> {
    pub(super) session: &'a Session,
    pub(super) kinds: &'a [String],
}

/// Calls `each` with blocks of a session behind `after`, up to `left`, which is counted down, and until it wants no more of
/// them for now. Returns where they go on; `None` behind the last.
pub(super) fn for_each_block(
    store: &dyn Queries,
    payloads: &PayloadReader<'_>,
    of: &BlocksOf<'_>,
    mut after: Option<Resume>,
    left: &mut usize,
    each: &mut dyn FnMut(Line) -> anyhow::Result<bool>,
) -> anyhow::Result<Option<Resume>> {
    let session = of.session;
    let filter = BlockFilter {
        source: session.source.to_string(),
        session: session.session.to_string(),
        stream: None,
        kinds: of.kinds.to_vec(),
    };
    loop {
        let limit = PAGE_BLOCKS.min(*left);
        let page = blocks(store, &filter, &PageRequest { after: after.take(), limit })?;
        *left -= page.items.len();
        let roles = roles(store, &session.source, &page.items)?;
        let mut wants_more = true;
        for line in lines(payloads, session, page.items, &roles)? {
            wants_more = each(line)?;
        }
        match page.next {
            Some(next) if wants_more && *left > 0 => after = Some(next),
            next => return Ok(next),
        }
    }
}

/// The class of the record of each block.
fn roles(store: &dyn Queries, source: &str, blocks: &[BlockPlace]) -> Result<HashMap<Address, RecordClass>> {
    let mut roles = HashMap::new();
    for run in blocks.chunk_by(|one, other| one.stream == other.stream) {
        let (first, last) = (&run[0], &run[run.len() - 1]);
        let places = records(store, source, &first.stream, first.seq..last.seq.saturating_add(1))?;
        roles.extend(places.into_iter().map(|place| (place.address, place.class)));
    }
    Ok(roles)
}

/// Reads the texts of some blocks; each event is read once.
fn lines(
    payloads: &PayloadReader<'_>,
    session: &Session,
    blocks: Vec<BlockPlace>,
    roles: &HashMap<Address, RecordClass>,
) -> Result<Vec<Line>> {
    let mut addresses: Vec<Address> = blocks.iter().map(|block| block.address).collect();
    addresses.dedup();
    let mut texts: HashMap<(Address, u32), (&'static str, Option<String>)> = HashMap::new();
    let mut at = 0;
    payloads.for_each(&addresses, &mut |address, fetched| {
        while let Some(block) = blocks.get(at).filter(|block| block.address == *address) {
            texts.insert((*address, block.ordinal), state_and_text(block, &fetched));
            at += 1;
        }
        Ok(())
    })?;
    let line = |block: BlockPlace| {
        let read = texts.remove(&(block.address, block.ordinal));
        let (state, text) = read.unwrap_or(("missing", None));
        Line {
            source: session.source.to_string(),
            session: session.session.to_string(),
            stream: block.stream.to_string(),
            seq: block.seq,
            role: roles.get(&block.address).map(|class| class.name()),
            kind: block.kind,
            tool_use: block.tool_use,
            address: block.address,
            start: block.start,
            bytes: block.bytes,
            state,
            text,
        }
    };
    Ok(blocks.into_iter().map(line).collect())
}

fn state_and_text(block: &BlockPlace, fetched: &Fetched) -> (&'static str, Option<String>) {
    let payload = match fetched {
        Fetched::Present(payload) => payload,
        Fetched::Erased => return ("erased", None),
        Fetched::Damaged(_) => return ("damaged", None),
        Fetched::Missing => return ("missing", None),
    };
    let range = block.start as usize..block.start.saturating_add(block.bytes) as usize;
    match payload.get(range) {
        None => ("damaged", None),
        Some(_) if block.kind == "image" => ("present", None),
        Some(raw) => ("present", Some(block_text(&block.kind, raw))),
    }
}
