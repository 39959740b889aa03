//! `burnlog search`: words in what was said, thought, asked of tools and given back by them. Brings the index up to date
//! first; the snippets come from the records in the ledger.

use super::Context;
use crate::args::{self, BlockKind, Sort};
use crate::filter;
use crate::folding;
use crate::open::{self, Access, StoreUrl};
use crate::output::{Printer, counted, minute, say};
use crate::progress::Progress;
use burnlog_log::{Error, ErrorKind, Ledger, Result, Timestamp};
use burnlog_projections::{
    Filter, PageRequest, Queries, SearchHit, SearchHits, SearchIndex, SearchIndexer, SearchKind, SearchOrder,
    SearchQuery, SearchRequest, Session, search,
};
use burnlog_sqlite::SqliteSearch;
use std::collections::HashSet;
use std::io::{BufWriter, IsTerminal, Write, stdout};
use std::ops::Range;
use std::path::Path;
use std::process::ExitCode;

/// How many hits are shown unless `--limit` says otherwise: what a terminal of 24 lines shows of them. Most of a search is
/// decompressing the records of its hits.
const HITS: usize = 10;
/// How many sessions are asked for at once.
const SESSIONS: usize = 1024;

/// The fields of `search --json`.
#[derive(serde::Serialize, serde::Deserialize)]
pub(super) struct Line {
    source: String,
    session: String,
    stream: String,
    seq: u64,
    address: String,
    kind: String,
    timestamp: Option<Timestamp>,
    project: Option<String>,
    score: f64,
    snippet: String,
    /// Where the matches stand in the snippet: start and length in bytes.
    matches: Vec<[usize; 2]>,
}

/// The fields of `search --csv`: no lists; the matches are marked in the snippet.
#[derive(serde::Serialize)]
struct FlatLine {
    source: String,
    session: String,
    stream: String,
    seq: u64,
    address: String,
    kind: String,
    timestamp: Option<Timestamp>,
    project: Option<String>,
    score: f64,
    snippet: String,
}

pub(super) fn run(context: &Context, arguments: &args::Search) -> anyhow::Result<ExitCode> {
    let Context { global, environment } = context;
    let ledger = open::ledger(&StoreUrl::choose(global, environment)?, Access::Read, global)?;
    let (lines, notes) = if open::is_remote(&ledger) {
        ask(&ledger, arguments)?
    } else {
        let store = open::queries(&ledger, environment, global)?;
        folding::tell_behind(&ledger, &*store, global, global.store.is_some());
        let found = hits(context, &ledger, &*store, arguments)?;
        let notes = Notes::of(&found);
        (found.hits.into_iter().map(line).collect(), notes)
    };
    if notes.capped {
        say(
            global,
            "burnlog: more than 5,000 blocks match; those indexed last were ranked. Add a word or a filter.",
        );
    }
    if notes.unreadable > 0 {
        let blocks = counted(notes.unreadable, "block");
        say(global, &format!("burnlog: {blocks} that match cannot be read any more; run burnlog verify"));
    }
    print(context, lines)?;
    Ok(ExitCode::SUCCESS)
}

/// What is to be said beside the hits.
#[derive(Debug, Clone, Copy, Default, serde::Serialize, serde::Deserialize)]
pub(super) struct Notes {
    /// Whether only the blocks indexed last were ranked.
    capped: bool,
    /// Blocks that match and cannot be read, those that were erased not counted.
    unreadable: u64,
}

impl Notes {
    pub(super) fn of(found: &SearchHits) -> Self {
        Self { capped: found.capped, unreadable: found.unreadable - found.erased.len() as u64 }
    }

    pub(super) fn is_empty(self) -> bool {
        !self.capped && self.unreadable == 0
    }
}

/// Asks the server that keeps the ledger.
fn ask(ledger: &Ledger, arguments: &args::Search) -> Result<(Vec<Line>, Notes)> {
    #[derive(serde::Deserialize)]
    struct Told {
        notes: Notes,
    }
    // A query that makes no sense is refused here, before anybody is asked.
    SearchQuery::parse(&arguments.query.join(" "))?;
    let sort = if arguments.sort == Sort::Time { "time" } else { "score" };
    let mut parameters = vec![("q", arguments.query.join(" ")), ("sort", sort.to_owned())];
    parameters.extend(arguments.kind.iter().map(|kind| ("kind", kind_of(*kind).name().to_owned())));
    let args::Filter { since, until, project, session, source, model, host, tag, limit } = &arguments.filter;
    let flags = [("since", since), ("until", until), ("project", project), ("session", session)];
    let flags = flags.into_iter().chain([("source", source), ("model", model), ("host", host)]);
    parameters.extend(flags.filter_map(|(name, value)| Some((name, value.clone()?))));
    parameters.extend(tag.iter().map(|tag| ("tag", tag.clone())));
    parameters.push(("limit", limit.unwrap_or(HITS).to_string()));
    let (mut lines, mut notes) = (Vec::new(), Notes::default());
    for text in open::remote_list(ledger, burnlog_http::Operation::Search, &parameters)? {
        match serde_json::from_str::<Line>(&text) {
            Ok(line) => lines.push(line),
            Err(error) => {
                let told = serde_json::from_str::<Told>(&text).map_err(|_| {
                    let message = "the server's answer is of another version; upgrade the older of the two";
                    Error::new(ErrorKind::Unsupported, "search", message).caused_by(error)
                })?;
                notes = told.notes;
            }
        }
    }
    Ok((lines, notes))
}

/// Brings the index of this host up to date and searches it.
pub(super) fn hits(
    context: &Context,
    ledger: &Ledger,
    store: &dyn Queries,
    arguments: &args::Search,
) -> Result<SearchHits> {
    let query = SearchQuery::parse(&arguments.query.join(" "))?;
    let Context { global, environment } = context;
    let request = request(arguments, store)?;
    let path = environment.home.search(ledger.location().id);
    match find(context, &path, ledger, store, &query, &request) {
        Err(error)
            if error.kind() == ErrorKind::Corrupt && error.location() == path.display().to_string() =>
        {
            open::drop_search_index(&path, &error, global)?;
            find(context, &path, ledger, store, &query, &request)
        }
        result => result,
    }
}

/// Brings the index up to date and searches it.
fn find(
    context: &Context,
    path: &Path,
    ledger: &Ledger,
    store: &dyn Queries,
    query: &SearchQuery,
    request: &SearchRequest,
) -> Result<SearchHits> {
    let mut index = open::search_index(path, &context.environment, &context.global)?;
    match update(context, &mut index, ledger, store) {
        Err(error) if matches!(error.kind(), ErrorKind::Denied | ErrorKind::InUse) => {
            say(&context.global, &format!("burnlog: searching what was indexed before: {error}"));
        }
        result => result?,
    }
    let found = search(&index, store, ledger, query, request)?;
    if !found.erased.is_empty() {
        match index.forget(&found.erased) {
            // None of them was shown, and none will be: the next search tries again.
            Err(error) if matches!(error.kind(), ErrorKind::Denied | ErrorKind::InUse) => {}
            result => drop(result?),
        }
    }
    Ok(found)
}

fn update(context: &Context, index: &mut SqliteSearch, ledger: &Ledger, store: &dyn Queries) -> Result<()> {
    let mut bar = Progress::start("indexing", context.global.quiet);
    let done = SearchIndexer::new(index, store, ledger)?.catch_up(&mut |at| {
        bar.show_items(at.entries, at.entries_total, "records");
    });
    bar.finish();
    let done = done?;
    if let Some(why) = done.restarted {
        say(&context.global, &format!("burnlog: the search index was built anew: {why}"));
    }
    if done.damaged > 0 {
        let records = counted(done.damaged, "record");
        say(
            &context.global,
            &format!("burnlog: {records} could not be read and cannot be found; run burnlog verify"),
        );
    }
    Ok(())
}

/// Adds what an ingest brought, where there is an index. A failure is said and fails nothing: the next search tries again.
pub(super) fn add_new(context: &Context, ledger: &Ledger) {
    let path = context.environment.home.search(ledger.location().id);
    if !path.exists() {
        return;
    }
    let add = || {
        let store = open::queries(ledger, &context.environment, &context.global)?;
        let mut index = open::search_index(&path, &context.environment, &context.global)?;
        update(context, &mut index, ledger, &*store)
    };
    if let Err(error) = add() {
        say(&context.global, &format!("burnlog: the search index was not brought up to date: {error}"));
    }
}

/// What is asked for beside the words. All that is said of sessions is asked of the projections.
fn request(arguments: &args::Search, store: &dyn Queries) -> Result<SearchRequest> {
    let filter = filter::of_arguments(&arguments.filter, store)?;
    let Filter { since, until, .. } = filter;
    // Records have instants of their own: sessions are not asked for theirs.
    let filter = Filter { since: None, until: None, ..filter };
    Ok(SearchRequest {
        sessions: if filter == Filter::default() { None } else { Some(sessions(&filter, store)?) },
        since,
        until,
        kinds: arguments.kind.iter().map(|kind| kind_of(*kind)).collect(),
        order: match arguments.sort {
            Sort::Score => SearchOrder::Score,
            Sort::Time => SearchOrder::Time,
        },
        limit: arguments.filter.limit.unwrap_or(HITS),
    })
}

/// Returns the sessions that fit.
fn sessions(filter: &Filter, store: &dyn Queries) -> Result<HashSet<(String, String)>> {
    let mut found = HashSet::new();
    let mut after = None;
    loop {
        let page = store.sessions(filter, &PageRequest { after, limit: SESSIONS })?;
        let names = |session: Session| (session.source.to_string(), session.session.to_string());
        found.extend(page.items.into_iter().map(names));
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(found),
        }
    }
}

fn kind_of(kind: BlockKind) -> SearchKind {
    match kind {
        BlockKind::Text => SearchKind::Text,
        BlockKind::Thinking => SearchKind::Thinking,
        BlockKind::ToolUse => SearchKind::ToolUse,
        BlockKind::ToolResult => SearchKind::ToolResult,
        BlockKind::Summary => SearchKind::Summary,
        BlockKind::System => SearchKind::System,
    }
}

fn print(context: &Context, hits: Vec<Line>) -> anyhow::Result<()> {
    let global = &context.global;
    if global.csv {
        let mut printer = Printer::new(global, &[]);
        hits.into_iter().try_for_each(|hit| printer.row(&flat(hit)))?;
        printer.finish()?;
    } else if global.json {
        let mut printer = Printer::new(global, &[]);
        hits.into_iter().try_for_each(|hit| printer.row(&hit))?;
        printer.finish()?;
    } else if hits.is_empty() {
        say(global, "burnlog: nothing matches");
    } else {
        print_text(hits)?;
    }
    Ok(())
}

/// Makes the line of a hit.
pub(super) fn line(hit: SearchHit) -> Line {
    let SearchHit { block, address, project, snippet } = hit;
    Line {
        source: block.source,
        session: block.session,
        stream: block.stream,
        seq: block.seq,
        address: address.to_string(),
        kind: block.kind.name().to_owned(),
        timestamp: block.timestamp,
        project: project.map(|name| name.to_string()),
        // Six digits: scores are for comparing, and the last bits differ between machines.
        score: (block.score * 1e6).round() / 1e6,
        matches: snippet.matches.iter().map(|range| [range.start, range.len()]).collect(),
        snippet: snippet.text,
    }
}

fn ranges(matches: &[[usize; 2]]) -> Vec<Range<usize>> {
    matches.iter().map(|[start, bytes]| *start..start + bytes).collect()
}

fn flat(line: Line) -> FlatLine {
    let snippet = marked(&line.snippet, &ranges(&line.matches), ("«", "»"));
    let Line { source, session, stream, seq, address, kind, timestamp, project, score, .. } = line;
    FlatLine { source, session, stream, seq, address, kind, timestamp, project, score, snippet }
}

/// Two lines a hit: where it is, and the snippet.
fn print_text(hits: Vec<Line>) -> anyhow::Result<()> {
    let colours = stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let marks = if colours { ("\u{1b}[1;33m", "\u{1b}[0m") } else { ("«", "»") };
    let mut out = BufWriter::new(stdout().lock());
    for hit in hits {
        let snippet = marked(&hit.snippet, &ranges(&hit.matches), marks);
        let Line { session, kind, timestamp, project, seq, .. } = hit;
        let place = [minute(timestamp), session, project.unwrap_or_default(), format!("{kind} at {seq}")];
        let place: Vec<&str> = place.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
        let place = place.join("  ").replace(char::is_control, "\u{fffd}");
        writeln!(out, "{place}\n    {snippet}")?;
    }
    out.flush()?;
    Ok(())
}

/// Puts marks around the matches of a snippet, which has no control characters of its own.
fn marked(text: &str, matches: &[Range<usize>], (begin, end): (&str, &str)) -> String {
    let mut out = String::with_capacity(text.len() + 16 * matches.len());
    let mut at = 0;
    for range in matches {
        out.extend([&text[at..range.start], begin, &text[range.clone()], end]);
        at = range.end;
    }
    out.push_str(&text[at..]);
    out
}
