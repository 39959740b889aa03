//! Finding in the index: a query becomes an FTS5 expression that is valid whatever the user wrote, the words are matched
//! and ranked by SQLite, and what else is asked for is looked up in the runs.

use crate::search::{SqliteSearch, TOKENIZER, revision, unpacked};
use burnlog_projections::{
    FoundBlock, FoundBlocks, RANKED_BLOCKS_MAX, RunBlock, RunRecord, SearchOrder, SearchQuery, SearchRequest,
    SearchTerm,
};
use rusqlite::functions::FunctionFlags;
use rusqlite::{Connection, OptionalExtension};
use std::collections::HashSet;
use std::ops::Range;

/// Around what matches in the answer of FTS5; neither is left in a text that it is asked about.
const MATCH_BEGINS: char = '\u{1}';
const MATCH_ENDS: char = '\u{2}';
/// The most blocks of one score among which the latest are chosen.
const EQUALS_MAX: usize = 1024;

/// Writes a query in the language of FTS5: nothing but quoted strings, stars, parentheses and its three operators.
pub(crate) fn expression(query: &SearchQuery) -> String {
    let term = |term: &SearchTerm| {
        format!("\"{}\"{}", term.text.replace('"', "\"\""), if term.prefix { " *" } else { "" })
    };
    let either =
        |terms: &Vec<SearchTerm>| format!("({})", terms.iter().map(term).collect::<Vec<_>>().join(" OR "));
    let wanted: Vec<String> = query.wanted.iter().map(either).collect();
    let wanted = format!("({})", wanted.join(" AND "));
    if query.unwanted.is_empty() { wanted } else { format!("{wanted} NOT {}", either(&query.unwanted)) }
}

/// What was scored last: whoever looks at more of it, because there are copies among the best, asks again.
#[derive(Debug)]
pub(crate) struct Scored {
    expression: String,
    /// That of the index, which every change raises.
    revision: u64,
    blocks: Vec<(i64, f64)>,
    capped: bool,
}

/// A run in memory while its blocks are looked up.
struct OpenRun {
    first: i64,
    source: String,
    stream: String,
    session: String,
    /// For each block the record and the block in it.
    places: Vec<(u32, u32)>,
    records: Vec<RunRecord>,
    /// Whether it is of a session that is asked for.
    wanted: bool,
}

impl OpenRun {
    fn block(&self, block: i64) -> Option<(&RunRecord, &RunBlock)> {
        let at = usize::try_from(block - self.first).ok()?;
        let (record, place) = self.places.get(at)?;
        let record = &self.records[*record as usize];
        Some((record, &record.blocks[*place as usize]))
    }
}

impl SqliteSearch {
    pub(crate) fn found(
        &self,
        query: &SearchQuery,
        request: &SearchRequest,
    ) -> rusqlite::Result<FoundBlocks> {
        let expression = expression(query);
        // Of one moment; and each statement on its own would take and give back the lock of a reader.
        let _moment = self.connection.unchecked_transaction()?;
        let mut looked_up = LookedUp { index: self, request, open: None };
        let (mut chosen, capped) = if looked_up.is_choosy() || request.order == SearchOrder::Time {
            let (candidates, capped) = self.candidates(&expression, &mut looked_up)?;
            let scored = match request.order {
                SearchOrder::Time => candidates.into_iter().map(|block| (block, 0.0)).collect(),
                SearchOrder::Score => best(self.scored(&expression, candidates)?, request.limit),
            };
            (scored, capped)
        } else {
            let revision = revision(&self.connection)?;
            let mut kept = self.kept.borrow_mut();
            let is_current = |kept: &mut Scored| kept.revision == revision && kept.expression == expression;
            let scored = match kept.take_if(|kept| is_current(kept)) {
                Some(scored) => scored,
                None => self.latest_scored(expression, revision)?,
            };
            let scored = kept.insert(scored);
            (best(scored.blocks.clone(), request.limit), scored.capped)
        };
        // Run by run, so that each is read once.
        chosen.sort_unstable_by_key(|(block, _)| *block);
        let mut blocks = Vec::with_capacity(chosen.len());
        for (block, score) in chosen {
            if let Some(found) = looked_up.found(block, score)? {
                blocks.push((block, found));
            }
        }
        // Of equals the latest, and of those the one indexed last.
        blocks.sort_by(|(one, a), (two, b)| {
            b.score.total_cmp(&a.score).then(b.timestamp.cmp(&a.timestamp)).then(two.cmp(one))
        });
        blocks.truncate(request.limit);
        Ok(FoundBlocks { blocks: blocks.into_iter().map(|(_, found)| found).collect(), capped })
    }

    /// Returns the blocks that match and pass, those indexed last first, and whether there are more than are ranked.
    fn candidates(
        &self,
        expression: &str,
        looked_up: &mut LookedUp<'_>,
    ) -> rusqlite::Result<(Vec<i64>, bool)> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT rowid FROM texts WHERE texts MATCH ?1 ORDER BY rowid DESC")?;
        let mut rows = statement.query([expression])?;
        let mut candidates = Vec::new();
        while let Some(row) = rows.next()? {
            let block = row.get(0)?;
            if !looked_up.passes(block)? {
                continue;
            }
            if candidates.len() == RANKED_BLOCKS_MAX {
                return Ok((candidates, true));
            }
            candidates.push(block);
        }
        Ok((candidates, false))
    }

    /// Returns the blocks indexed last with their scores, and whether more match than are ranked: one walk where nothing but words
    /// is asked for.
    fn latest_scored(&self, expression: String, revision: u64) -> rusqlite::Result<Scored> {
        let mut statement = self.connection.prepare_cached(
            "SELECT rowid, -bm25(texts) FROM texts WHERE texts MATCH ?1 ORDER BY rowid DESC LIMIT ?2",
        )?;
        let limit = RANKED_BLOCKS_MAX as i64 + 1;
        let rows = statement
            .query_map(rusqlite::params![expression, limit], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let mut scored = rows.collect::<rusqlite::Result<Vec<_>>>()?;
        let capped = scored.len() > RANKED_BLOCKS_MAX;
        scored.truncate(RANKED_BLOCKS_MAX);
        Ok(Scored { expression, revision, blocks: scored, capped })
    }

    /// Returns the scores of blocks; of those that match and are no candidates none is computed.
    fn scored(&self, expression: &str, candidates: Vec<i64>) -> rusqlite::Result<Vec<(i64, f64)>> {
        let (Some(newest), Some(oldest)) = (candidates.first().copied(), candidates.last().copied()) else {
            return Ok(Vec::new());
        };
        let wanted: HashSet<i64> = candidates.into_iter().collect();
        let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
        self.connection.create_scalar_function("is_wanted", 1, flags, move |context| {
            Ok(wanted.contains(&context.get::<i64>(0)?))
        })?;
        // Never cached: the function is another one each time.
        let mut statement = self.connection.prepare(
            "SELECT rowid, -bm25(texts) FROM texts
             WHERE texts MATCH ?1 AND rowid BETWEEN ?2 AND ?3 AND is_wanted(rowid)",
        )?;
        statement
            .query_map(rusqlite::params![expression, oldest, newest], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect()
    }
}

/// Leaves the best, and of those as good as the last of them as many as may hold the latest.
fn best(mut scored: Vec<(i64, f64)>, limit: usize) -> Vec<(i64, f64)> {
    scored.sort_unstable_by(|one, two| two.1.total_cmp(&one.1).then(two.0.cmp(&one.0)));
    if let Some(last) = scored.get(limit.saturating_sub(1)).map(|(_, score)| *score) {
        let behind = scored.partition_point(|(_, score)| score.total_cmp(&last).is_ge());
        scored.truncate(behind.min(limit.saturating_add(EQUALS_MAX)));
    }
    scored
}

/// What a search asks of blocks beside their words.
struct LookedUp<'a> {
    index: &'a SqliteSearch,
    request: &'a SearchRequest,
    open: Option<OpenRun>,
}

impl LookedUp<'_> {
    /// Whether anything is asked.
    fn is_choosy(&self) -> bool {
        let SearchRequest { sessions, since, until, kinds, .. } = self.request;
        sessions.is_some() || since.is_some() || until.is_some() || !kinds.is_empty()
    }

    fn passes(&mut self, block: i64) -> rusqlite::Result<bool> {
        if !self.is_choosy() {
            return Ok(true);
        }
        let request = self.request;
        let Some(run) = self.run(block)? else { return Ok(false) };
        let Some((record, place)) = run.block(block).filter(|_| run.wanted) else { return Ok(false) };
        let in_time = |instant| {
            request.since.is_none_or(|since| instant >= since)
                && request.until.is_none_or(|until| instant < until)
        };
        let is_timeless = request.since.is_none() && request.until.is_none();
        Ok(place.kind.is_some_and(|kind| request.kinds.is_empty() || request.kinds.contains(&kind))
            && (is_timeless || record.timestamp.is_some_and(in_time)))
    }

    fn found(&mut self, block: i64, score: f64) -> rusqlite::Result<Option<FoundBlock>> {
        let Some(run) = self.run(block)? else { return Ok(None) };
        let Some((record, place)) = run.block(block) else { return Ok(None) };
        Ok(place.kind.map(|kind| FoundBlock {
            source: run.source.clone(),
            stream: run.stream.clone(),
            session: run.session.clone(),
            seq: record.seq,
            address: record.address,
            ordinal: place.ordinal,
            kind,
            start: place.start,
            bytes: place.bytes,
            timestamp: record.timestamp,
            score,
        }))
    }

    /// Returns the run that a block belongs to. Blocks are mostly asked for run by run.
    fn run(&mut self, block: i64) -> rusqlite::Result<Option<&OpenRun>> {
        let is_open = self.open.as_ref().is_some_and(|open| open.block(block).is_some());
        if !is_open {
            self.open = self.read_run(block)?;
        }
        Ok(self.open.as_ref())
    }

    fn read_run(&self, block: i64) -> rusqlite::Result<Option<OpenRun>> {
        let mut statement = self.index.connection.prepare_cached(
            "SELECT r.first, r.records, s.source, s.stream, s.session
             FROM (SELECT * FROM search_runs WHERE first <= ?1 ORDER BY first DESC LIMIT 1) r
             JOIN search_streams s ON s.number = r.stream",
        )?;
        let sessions = self.request.sessions.as_ref();
        let read = |row: &rusqlite::Row<'_>| {
            let records = unpacked(row, 1)?;
            let mut places = Vec::new();
            for (record, at) in records.iter().zip(0..) {
                places.extend((0..record.blocks.len() as u32).map(|place| (at, place)));
            }
            let (source, session): (String, String) = (row.get(2)?, row.get(4)?);
            let key = (source, session);
            let wanted = sessions.is_none_or(|sessions| sessions.contains(&key));
            let (source, session) = key;
            Ok(OpenRun { first: row.get(0)?, source, stream: row.get(3)?, session, places, records, wanted })
        };
        statement.query_row([block], read).optional()
    }
}

/// Asks FTS5 itself where a query matches in texts: in a table in memory, with the tokenizer of the index.
pub(crate) fn matches(query: &SearchQuery, texts: &[String]) -> rusqlite::Result<Vec<Vec<Range<usize>>>> {
    let mut found = vec![Vec::new(); texts.len()];
    let connection = Connection::open_in_memory()?;
    connection.execute_batch(&format!(
        "CREATE VIRTUAL TABLE texts USING fts5(text, columnsize=0, tokenize=\"{TOKENIZER}\"); BEGIN"
    ))?;
    let mut insert = connection.prepare("INSERT INTO texts (rowid, text) VALUES (?1, ?2)")?;
    for (text, number) in texts.iter().zip(0i64..) {
        // As long in bytes as what it stands for, so that places stay what they are; neither is ever part of a word.
        insert.execute(rusqlite::params![number, text.replace([MATCH_BEGINS, MATCH_ENDS], " ")])?;
    }
    let mut statement = connection.prepare(&format!(
        "SELECT rowid, highlight(texts, 0, char({}), char({})) FROM texts WHERE texts MATCH ?1",
        MATCH_BEGINS as u32, MATCH_ENDS as u32
    ))?;
    let mut rows = statement.query([expression(query)])?;
    while let Some(row) = rows.next()? {
        let number: i64 = row.get(0)?;
        if let Some(ranges) = usize::try_from(number).ok().and_then(|number| found.get_mut(number)) {
            *ranges = marked(row.get_ref(1)?.as_str()?);
        }
    }
    Ok(found)
}

/// Reads the places of the marks out of a text, as they are without the marks.
fn marked(text: &str) -> Vec<Range<usize>> {
    let (mut ranges, mut marks, mut begin) = (Vec::new(), 0, 0);
    for (at, mark) in text.match_indices([MATCH_BEGINS, MATCH_ENDS]) {
        if mark.starts_with(MATCH_BEGINS) {
            begin = at - marks;
        } else {
            ranges.push(begin..at - marks);
        }
        marks += mark.len();
    }
    ranges
}
