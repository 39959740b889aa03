//! The search index over files: what is found and what is not, and that the way to an index leaves no trace in it.

use burnlog_log::{Error, ErrorKind, Kind, Ledger, LedgerId};
use burnlog_projections::conformance::build::{
    Record, append, catch_up, ledger, line, made_up, prompt, tool_result, tool_use,
};
use burnlog_projections::{
    CHUNK_RECORDS, MemoryProjections, RANKED_BLOCKS_MAX, RunBlock, RunRecord, SEARCH_VERSION, SearchBatch,
    SearchCaughtUp, SearchHits, SearchIdentity, SearchIndex, SearchIndexer, SearchKind, SearchOrder,
    SearchQuery, SearchRequest, SearchRun, search,
};
use burnlog_sqlite::SqliteSearch;
use proptest::prelude::*;
use rusqlite::Connection;
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;

/// A ledger, its projections, and an index of it.
struct Archive {
    folder: TempDir,
    ledger: Ledger,
    rows: MemoryProjections,
}

impl Archive {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), ledger: ledger(), rows: MemoryProjections::new() }
    }

    fn of(records: &[Record]) -> Self {
        let mut archive = Self::new();
        archive.add(1, records);
        archive
    }

    fn add(&mut self, host: u8, records: &[Record]) {
        append(&self.ledger, host, records);
        catch_up(&mut self.rows, &self.ledger);
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("x.search.sqlite")
    }

    fn open(&self) -> SqliteSearch {
        SqliteSearch::open(&self.path(), Duration::from_secs(10)).unwrap()
    }

    fn update(&self) -> SearchCaughtUp {
        let mut index = self.open();
        let mut indexer = SearchIndexer::new(&mut index, &self.rows, &self.ledger).unwrap();
        indexer.catch_up(&mut |_| {}).unwrap()
    }

    fn hits(&self, query: &str, request: &SearchRequest) -> SearchHits {
        let query = SearchQuery::parse(query).unwrap();
        search(&self.open(), &self.rows, &self.ledger, &query, request).unwrap()
    }

    /// The snippets of what is found, in order.
    fn found(&self, query: &str) -> Vec<String> {
        let hits = self.hits(query, &request()).hits;
        hits.into_iter().map(|hit| hit.snippet.text).collect()
    }

    /// What is found wherever it is, without what depends on the way: all but the order among equals.
    fn all(&self) -> Vec<String> {
        let mut all = Vec::new();
        for word in ["hello", "demo", "prompt OR work", "a*"] {
            for hit in self.hits(word, &SearchRequest { limit: 10_000, ..request() }).hits {
                let block = hit.block;
                all.push(format!("{} {} {} {}", block.stream, block.seq, block.ordinal, hit.address));
            }
        }
        all.sort();
        all
    }
}

fn request() -> SearchRequest {
    SearchRequest { limit: 50, ..SearchRequest::default() }
}

/// A session in which these texts are said, a second apart.
fn talk(session: &str, texts: &[&str]) -> Vec<Record> {
    let record =
        |(second, text): (u32, &&str)| line(session, u64::from(second), prompt(session, second, text));
    (0..).zip(texts).map(record).collect()
}

#[test]
fn words_phrases_prefixes_alternatives_and_exclusions_are_found() {
    let archive = Archive::of(&talk(
        "s",
        &[
            "The parser eats commas",
            "the Pârser of lists",
            "lists of parsers",
            "fn next_token() in src/lexer.rs",
        ],
    ));
    archive.update();
    let mut found = archive.found("parser");
    found.sort();
    assert_eq!(found, ["The parser eats commas", "the Pârser of lists"]);
    assert_eq!(archive.found("\"of lists\""), ["the Pârser of lists"]);
    assert_eq!(archive.found("parser*").len(), 3);
    assert_eq!(archive.found("commas OR token").len(), 2);
    assert_eq!(archive.found("lists -parsers"), ["the Pârser of lists"]);
    for query in ["next_token", "token", "src/lexer.rs", "lexer", "\"token() in\"", "next_tok*"] {
        assert_eq!(archive.found(query), ["fn next_token() in src/lexer.rs"], "{query}");
    }
    assert_eq!(archive.found("token_next"), [""; 0]);
    assert_eq!(archive.found("nothing"), [""; 0]);
}

#[test]
fn all_kinds_of_blocks_are_found_and_asked_for() {
    let records = [
        line("s", 0, tool_use("s", 1, "m1", "t1")),
        line("s", 1, tool_result("s", 2, "t1", false)),
        line("s", 2, prompt("s", 3, "a.rs is said")),
    ];
    let archive = Archive::of(&records);
    archive.update();
    let kinds = |kinds: Vec<SearchKind>| {
        let hits = archive.hits("a.rs", &SearchRequest { kinds, ..request() }).hits;
        hits.into_iter().map(|hit| hit.block.kind).collect::<Vec<_>>()
    };
    assert_eq!(kinds(vec![SearchKind::ToolUse]), [SearchKind::ToolUse]);
    assert_eq!(kinds(vec![SearchKind::Text]), [SearchKind::Text]);
    assert_eq!(kinds(vec![]).len(), 2);
    assert_eq!(kinds(vec![SearchKind::Summary]), []);
}

#[test]
fn hits_say_when_where_and_are_narrowed_by_it() {
    let mut records = talk("one", &["needle first", "needle second"]);
    records.extend(talk("two", &["needle third"]));
    let archive = Archive::of(&records);
    archive.update();
    let all = archive.hits("needle", &SearchRequest { order: SearchOrder::Time, ..request() }).hits;
    let instants: Vec<_> = all.iter().map(|hit| hit.block.timestamp.unwrap()).collect();
    assert!(instants.is_sorted_by(|a, b| a >= b) && instants.len() == 3, "{instants:?}");
    assert_eq!(all[0].project.as_deref(), Some("/work/demo"));
    assert_eq!(all[0].snippet.matches, std::slice::from_ref(&(0..6)));
    let later = SearchRequest { since: Some(instants[0]), ..request() };
    assert_eq!(archive.hits("needle", &later).hits.len(), 1);
    let earlier = SearchRequest { until: Some(instants[0]), ..request() };
    assert_eq!(archive.hits("needle", &earlier).hits.len(), 2);
    let key = ("claude-code".to_owned(), "two".to_owned());
    let session = SearchRequest { sessions: Some([key].into()), ..request() };
    let hits = archive.hits("needle", &session).hits;
    assert_eq!(hits.iter().map(|hit| hit.block.session.as_str()).collect::<Vec<_>>(), ["two"]);
    let nowhere = SearchRequest { sessions: Some([].into()), ..request() };
    assert!(archive.hits("needle", &nowhere).hits.is_empty());
    assert_eq!(archive.hits("needle", &SearchRequest { limit: 2, ..request() }).hits.len(), 2);
}

#[test]
fn the_better_match_comes_first_and_of_equals_the_latest() {
    let archive = Archive::of(&talk(
        "s",
        &[
            "straw needle",
            "a needle in much other straw that goes on and on",
            "straw needle",
            "needle needle",
        ],
    ));
    archive.update();
    let hits = archive.hits("needle", &request()).hits;
    let seqs: Vec<u64> = hits.iter().map(|hit| hit.block.seq).collect();
    assert_eq!(seqs, [3, 2, 0, 1]);
    assert!(hits.iter().is_sorted_by(|a, b| a.block.score >= b.block.score));
}

#[test]
fn of_more_blocks_than_are_ranked_the_oldest_is_found_only_where_a_filter_leaves_room() {
    let archive = Archive::new();
    let mut index = archive.open();
    let identity = SearchIdentity { ledger: LedgerId([7; 16]), version: SEARCH_VERSION, folds: 1 };
    index.clear(identity).unwrap();
    let mut add = |chunk: i64, kind: SearchKind, texts: &[&str]| {
        let block = RunBlock { kind: Some(kind), ordinal: 0, start: 0, bytes: 1 };
        let record = |seq| RunRecord { seq, address: [0; 6], timestamp: None, blocks: vec![block] };
        let mut run = SearchRun { source: "claude-code".into(), stream: "s".into(), ..SearchRun::default() };
        run.chunk = chunk;
        run.records = (0..).take(texts.len()).map(|at| record(chunk as u64 * CHUNK_RECORDS + at)).collect();
        for text in texts {
            run.texts.push_str(text);
            run.ends.push(run.texts.len());
        }
        let revision = index.state().unwrap().revision;
        index.append(revision, &SearchBatch { runs: vec![run], cursors: Vec::new() }).unwrap();
    };
    let found = |request: &SearchRequest| {
        let found = archive.open().find(&SearchQuery::parse("needle").unwrap(), request).unwrap();
        (found.blocks.iter().map(|block| block.seq).next(), found.capped)
    };
    // The best match is the one that was indexed first.
    add(0, SearchKind::Summary, &["needle"]);
    add(1, SearchKind::Text, &vec!["needle in much straw"; RANKED_BLOCKS_MAX - 1]);
    assert_eq!(found(&request()), (Some(0), false));
    add(1000, SearchKind::Text, &["needle in other straw"]);
    assert_eq!(found(&request()), (Some(1000 * CHUNK_RECORDS), true));
    let summaries = SearchRequest { kinds: vec![SearchKind::Summary], ..request() };
    assert_eq!(found(&summaries), (Some(0), false));
    let texts = SearchRequest { kinds: vec![SearchKind::Text], ..request() };
    assert_eq!(found(&texts), (Some(1000 * CHUNK_RECORDS), false));
}

#[test]
fn a_record_that_was_copied_is_one_hit_in_the_session_that_began_first() {
    let copy = prompt("old", 7, "shared needle");
    let mut archive = Archive::new();
    archive.add(1, &[line("new", 0, copy.clone()), line("new", 1, prompt("new", 900, "more"))]);
    archive.update();
    assert_eq!(archive.hits("needle", &request()).hits[0].block.session, "new");
    archive.add(2, &[line("old", 0, prompt("old", 1, "before")), line("old", 1, copy)]);
    archive.update();
    let hits = archive.hits("needle", &request()).hits;
    assert_eq!(hits.iter().map(|hit| hit.block.session.as_str()).collect::<Vec<_>>(), ["old"]);
    // It is found in the other session as well, where that is asked for.
    let key = ("claude-code".to_owned(), "new".to_owned());
    let session = SearchRequest { sessions: Some([key].into()), ..request() };
    assert_eq!(archive.hits("needle", &session).hits[0].block.session, "new");
}

#[test]
fn copies_among_the_best_leave_no_gap() {
    let shared = prompt("s00", 1, "needle");
    let mut records: Vec<_> = (0..30).map(|file| line(&format!("s{file:02}"), 0, shared.clone())).collect();
    let others = (0..12).map(|number| format!("a needle in straw, the {number} of some"));
    records.extend((0..).zip(others).map(|(seq, text)| line("z", seq, prompt("z", 100 + seq as u32, &text))));
    let archive = Archive::of(&records);
    archive.update();
    for limit in [2, 10, 13, 50] {
        let hits = archive.hits("needle", &SearchRequest { limit, ..request() }).hits;
        assert_eq!(hits.len(), limit.min(13));
        assert_eq!((&*hits[0].block.session, &*hits[0].snippet.text), ("s00", "needle"));
        assert!(hits[1..].iter().all(|hit| hit.block.session == "z"), "{limit}");
    }
}

#[test]
fn what_came_since_is_found_by_whoever_looked_before() {
    let mut archive = Archive::of(&talk("s", &["one needle"]));
    archive.update();
    let (index, query) = (archive.open(), SearchQuery::parse("needle").unwrap());
    let found = |index: &SqliteSearch| index.find(&query, &request()).unwrap().blocks.len();
    assert_eq!((found(&index), found(&index)), (1, 1));
    archive.add(1, &talk("t", &["another needle"]));
    archive.update();
    assert_eq!(found(&index), 2);
}

#[test]
fn an_event_in_several_feeds_is_indexed_once() {
    let records = talk("s", &["one needle", "two needles"]);
    let mut archive = Archive::of(&records);
    assert_eq!(archive.update().blocks, 2);
    for host in 2..5 {
        archive.add(host, &records);
        let again = archive.update();
        assert_eq!((again.entries >= 2, again.blocks), (true, 0));
    }
    assert_eq!(archive.found("needle").len(), 1);
    assert_eq!(archive.open().state().unwrap().blocks, 2);
    assert_eq!(archive.update(), SearchCaughtUp::default());
}

#[test]
fn little_by_little_finds_what_at_once_finds() {
    let records = made_up(31, 400);
    let whole = Archive::of(&records);
    whole.update();
    assert!(whole.all().len() > 50);
    let mut parts = Archive::new();
    for (host, part) in (1..).zip(records.chunks(37)) {
        parts.add(host % 3 + 1, part);
        parts.update();
    }
    assert_eq!(parts.all(), whole.all());
    let mut backwards = Archive::new();
    for part in records.chunks(50).rev() {
        backwards.add(1, part);
        backwards.add(2, &records[..100]);
        backwards.update();
    }
    assert_eq!(backwards.all(), whole.all());
    std::fs::remove_file(backwards.path()).unwrap();
    backwards.update();
    assert_eq!(backwards.all(), whole.all());
}

#[test]
fn what_was_erased_is_no_hit_and_leaves_no_word_in_the_file() {
    let archive = Archive::of(&talk("s", &["a secretword here", "another word here"]));
    archive.update();
    let address = archive.hits("secretword", &request()).hits[0].address;
    let word_in_files = || {
        let files = std::fs::read_dir(archive.folder.path()).unwrap();
        files
            .map(|file| std::fs::read(file.unwrap().path()).unwrap())
            .any(|bytes| bytes.windows(8).any(|window| window == b"cretword"))
    };
    assert!(word_in_files());
    archive.ledger.erase(&[address]).unwrap();
    // At once: the text comes from the log.
    let hits = archive.hits("secretword", &request());
    assert_eq!((hits.hits.len(), hits.unreadable, hits.erased.len()), (0, 1, 1));
    assert_eq!(archive.open().forget(&hits.erased).unwrap(), 1);
    assert_eq!(archive.open().forget(&hits.erased).unwrap(), 0);
    let hits = archive.hits("secretword", &request());
    assert_eq!((hits.hits.len(), hits.unreadable), (0, 0));
    assert!(!word_in_files());
    assert_eq!(archive.found("here"), ["another word here"]);
    assert_eq!(archive.open().state().unwrap().blocks, 1);
    // Another host's feed with the same event does not bring it back.
    assert_eq!(archive.update().blocks, 0);
}

#[test]
fn a_receipt_of_an_erasure_makes_the_next_update_forget() {
    let mut archive = Archive::of(&talk("s", &["a secretword here", "another word here"]));
    archive.update();
    let address = archive.hits("secretword", &request()).hits[0].address;
    archive.ledger.erase(&[address]).unwrap();
    let receipt = Record {
        kind: burnlog_log::Kind::Erase,
        source: "burnlog",
        stream: "erasures".to_owned(),
        seq: 0,
        part: None,
        payload: b"{}".to_vec(),
    };
    archive.add(1, &[receipt]);
    assert_eq!(archive.update().forgotten, 1);
    assert_eq!(archive.hits("secretword", &request()).unreadable, 0);
}

#[test]
fn an_index_of_another_version_or_ledger_is_built_anew_and_one_of_a_newer_refused() {
    let archive = Archive::of(&talk("s", &["one needle"]));
    archive.update();
    let identity = archive.open().state().unwrap().identity.unwrap();
    let others = [
        SearchIdentity { version: SEARCH_VERSION - 1, ..identity },
        SearchIdentity { folds: identity.folds + 1, ..identity },
        SearchIdentity { ledger: LedgerId([9; 16]), ..identity },
    ];
    for other in others {
        archive.open().clear(other).unwrap();
        assert_eq!(archive.found("needle").len(), 0);
        let done = archive.update();
        assert!(done.restarted.is_some() && done.blocks == 1, "{done:?}");
        assert_eq!(archive.found("needle").len(), 1);
    }
    archive.open().clear(SearchIdentity { version: SEARCH_VERSION + 1, ..identity }).unwrap();
    let mut index = archive.open();
    let refused = SearchIndexer::new(&mut index, &archive.rows, &archive.ledger).map(drop).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
}

#[test]
fn a_ledger_that_went_back_is_indexed_anew() {
    let archive = Archive::of(&talk("s", &["one needle", "two needle"]));
    archive.update();
    let restored = Archive { folder: archive.folder, ..Archive::of(&talk("s", &["one needle"])) };
    let done = restored.update();
    assert!(done.restarted.is_some());
    assert_eq!(restored.found("needle"), ["one needle"]);
}

#[test]
fn who_lost_a_race_adds_nothing() {
    let archive = Archive::of(&talk("s", &["one needle"]));
    archive.update();
    let mut index = archive.open();
    let revision = index.state().unwrap().revision;
    let cursor = index.cursors().unwrap()[0];
    for (expected, from) in [(revision + 1, cursor.next), (revision, cursor.next + 1)] {
        let batch = SearchBatch { runs: Vec::new(), cursors: vec![(cursor.feed, from, from + 5)] };
        assert_eq!(index.append(expected, &batch).unwrap_err().kind(), ErrorKind::Conflict);
    }
    assert_eq!(index.cursors().unwrap(), [cursor]);
    assert_eq!(index.state().unwrap().revision, revision);
}

#[test]
fn what_is_no_index_is_said_so() {
    let archive = Archive::new();
    let open = || SqliteSearch::open(&archive.path(), Duration::ZERO).map(drop).unwrap_err();
    let to_read = SqliteSearch::open_to_read(&archive.path(), Duration::ZERO).map(drop).unwrap_err();
    assert_eq!((to_read.kind(), archive.path().exists()), (ErrorKind::NotFound, false));
    std::fs::write(archive.path(), vec![b'x'; 10_000]).unwrap();
    assert_eq!(open().kind(), ErrorKind::Corrupt);
    std::fs::remove_file(archive.path()).unwrap();
    Connection::open(archive.path()).unwrap().execute_batch("CREATE TABLE precious (x)").unwrap();
    assert_eq!(open().kind(), ErrorKind::Corrupt);
    std::fs::remove_file(archive.path()).unwrap();
    archive.open();
    let newer = "UPDATE search_meta SET value = 99 WHERE name = 'file_version'";
    Connection::open(archive.path()).unwrap().execute_batch(newer).unwrap();
    assert_eq!(open().kind(), ErrorKind::Unsupported);
    std::fs::remove_file(archive.path()).unwrap();
    std::fs::create_dir(archive.path()).unwrap();
    assert_eq!(open().kind(), ErrorKind::Invalid);
}

/// Every page of the file may be damaged: the index says so or answers, and never panics.
#[test]
fn damage_anywhere_is_an_error_or_no_harm() {
    let archive = Archive::of(&made_up(21, 200));
    archive.update();
    Connection::open(archive.path()).unwrap().execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    let sound = std::fs::read(archive.path()).unwrap();
    let query = SearchQuery::parse("hello OR a*").unwrap();
    let mut refused = 0;
    for start in (0..sound.len()).step_by(4096) {
        let mut bytes = sound.clone();
        let end = (start + 1024).min(bytes.len());
        bytes[start..end].fill(0xa5);
        std::fs::write(archive.path(), &bytes).unwrap();
        let read = || -> Result<(), Error> {
            let mut index = SqliteSearch::open(&archive.path(), Duration::from_secs(1))?;
            SearchIndexer::new(&mut index, &archive.rows, &archive.ledger)?.catch_up(&mut |_| {})?;
            search(&index, &archive.rows, &archive.ledger, &query, &request()).map(drop)
        };
        if let Err(error) = read() {
            assert!([ErrorKind::Corrupt, ErrorKind::Unsupported].contains(&error.kind()), "{error}");
            assert!(error.location().ends_with("x.search.sqlite"), "{error}");
            refused += 1;
        }
    }
    assert!(refused > 2, "most damage is noticed: {refused}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_query_is_an_error_of_the_database(
        text in prop_oneof![
            any::<String>(),
            "[a-c\"*()^+:{}., -]{0,20}",
            "((a|b|OR|AND|NOT|NEAR|NEAR\\(a b\\)|text|\"|\\*|-|\\^|\u{0}|é|\u{301}|①)[ :]?){0,9}",
        ],
        said in "[a-c é\"]{0,20}",
    ) {
        let index = SqliteSearch::open(":memory:".as_ref(), Duration::ZERO).unwrap();
        if let Ok(query) = SearchQuery::parse(&text) {
            let found = index.find(&query, &request()).map(|found| found.blocks.len());
            prop_assert_eq!(found.map_err(|error| error.to_string()), Ok(0));
            let matches = index.matches(&query, std::slice::from_ref(&said));
            let matches = matches.map_err(|error| TestCaseError::fail(error.to_string()))?;
            for range in &matches[0] {
                prop_assert!(said.get(range.clone()).is_some(), "{range:?} of {said:?}");
            }
        }
    }
}

#[test]
fn the_longest_query_is_none_too_long() {
    let index = SqliteSearch::open(":memory:".as_ref(), Duration::ZERO).unwrap();
    for query in
        ["a* ".repeat(64), "a ".to_owned() + &"-b ".repeat(63), vec!["a"; 64].join(" OR "), "a_".repeat(2000)]
    {
        index.find(&SearchQuery::parse(&query).unwrap(), &request()).unwrap();
    }
}

/// An object that is rewritten in place is found by what it holds now, also where the index knows what it held before.
#[test]
fn what_an_older_version_held_is_not_found() {
    let part = |text: &str, end: u32| {
        let payload = format!(
            r#"{{"id":"p","sessionID":"s","messageID":"m","type":"text","text":"{text}","time":{{"start":1,"end":{end}}}}}"#
        );
        let stream = "part/p".to_owned();
        Record { kind: Kind::Line, source: "opencode", stream, seq: 0, part: None, payload: payload.into() }
    };
    let mut archive = Archive::of(&[part("half of an answer", 2)]);
    archive.update();
    assert_eq!(archive.found("half").len(), 1);
    archive.add(1, &[part("all of an answer", 3)]);
    assert_eq!(archive.found("half").len(), 0);
    archive.update();
    assert_eq!((archive.found("half").len(), archive.found("answer").len()), (0, 1));
}
