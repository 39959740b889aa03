//! Claims about rows whose meaning other records change later: copies of calls under new names, and which call asked for a
//! tool. Whatever came first, every store has the rows that any other has.

#![allow(missing_docs)] // the names of the cases are the claims

use super::Fixture;
use super::build::{Random, Record, append, catch_up, dumped, expected_dump, instant, ledger};
use crate::{Filter, relationships};
use burnlog_log::Kind;

const START: i64 = 1_767_225_600_000;

fn record(source: &'static str, stream: String, seq: u64, payload: String) -> Record {
    Record { kind: Kind::Line, source, stream, seq, part: None, payload: payload.into_bytes() }
}

/// An answer that began and ended at fixed times, under an id that was made `made` milliseconds after [`START`].
fn answer(session: &str, made: i64, number: i64) -> Record {
    let id = format!("msg_{:012x}abcdefghijKLMN", ((START + made) * 4096 + number) & ((1 << 48) - 1));
    let began = START + number * 1000;
    let payload = format!(
        r#"{{"id":"{id}","sessionID":"{session}","role":"assistant","modelID":"m","providerID":"p","tokens":{{"input":3,"output":{number},"reasoning":0,"cache":{{"read":0,"write":0}}}},"time":{{"created":{began},"completed":{}}}}}"#,
        began + 500
    );
    record("opencode", format!("message/{id}"), 0, payload)
}

/// Four answers; a fork that copies three of them and has one of its own; a fork of that.
fn forks() -> Vec<Record> {
    let mut records: Vec<Record> = (1..5).map(|number| answer("ses_z", number * 1000, number)).collect();
    records.extend((1..4).map(|number| answer("ses_a", 60_000, number)));
    records.push(answer("ses_a", 70_000, 70));
    records.extend([1, 2, 3, 70].map(|number| answer("ses_b", 90_000, number)));
    records
}

/// A rollout of three calls, each of which asked for tools, and a fork of it.
fn rollouts() -> Vec<Record> {
    let id = |last: char| format!("019b0000-0000-4000-8000-00000000000{last}");
    let line = |second: u32, kind: &str, rest: String| {
        format!(r#"{{"timestamp":"{}","type":"{kind}","payload":{{{rest}}}}}"#, instant(second))
    };
    let mut lines = Vec::new();
    for step in 1..4 {
        for tool in 0..2 {
            let rest = format!(r#""type":"function_call","name":"x","call_id":"c{step}{tool}""#);
            lines.push(line(step * 3, "response_item", rest));
        }
        let used = format!(r#"{{"input_tokens":{},"output_tokens":{step}}}"#, step * 10);
        let rest = format!(r#""type":"token_count","info":{{"total_token_usage":{used}}}"#);
        lines.push(line(step * 3 + 1, "event_msg", rest));
    }
    let mut records = Vec::new();
    for (session, from) in [(id('a'), None), (id('b'), Some(id('a')))] {
        let from = from.map_or(String::new(), |from| format!(r#","forked_from_id":"{from}""#));
        let meta = line(0, "session_meta", format!(r#""id":"{session}","cwd":"/work"{from}"#));
        for (seq, payload) in (0..).zip([&meta].into_iter().chain(&lines)) {
            let stream = format!("rollout-2026-01-01T00-00-00-{session}");
            records.push(record("codex", stream, seq, payload.clone()));
        }
    }
    records
}

/// Folds records in pieces, shuffled, through two feeds, with the store opened anew in between.
fn is_resolved_alike(fixture: &impl Fixture, records: &[Record]) {
    let (ledger, mut random) = (ledger(), Random(7));
    let mut shuffled = records.to_vec();
    random.shuffle(&mut shuffled);
    for (number, piece) in (0u8..).zip(shuffled.chunks(4)) {
        append(&ledger, number % 2 + 1, piece);
        catch_up(fixture.open().folds(), &ledger);
    }
    assert_eq!(dumped(&*fixture.open()), expected_dump(records));
}

pub fn copies_of_calls_are_one_call_in_any_order(fixture: &impl Fixture) {
    is_resolved_alike(fixture, &forks());
    let store = fixture.open();
    assert_eq!(store.usage(&Filter::default(), &[]).unwrap()[0].usage.calls, 5);
    let links = relationships(&*store, "opencode", "ses_a").unwrap().links;
    let copied: Vec<_> = links.iter().filter_map(|link| link.copied).map(|copied| copied.records).collect();
    assert_eq!(copied, [3, 4]);
}

pub fn tool_uses_name_their_calls_in_any_order(fixture: &impl Fixture) {
    is_resolved_alike(fixture, &rollouts());
    let dump = dumped(&*fixture.open());
    let tools = dump.lines().filter(|line| line.starts_with(r#"{"projection":"tool_uses""#));
    let named = tools.filter(|line| !line.contains("\"call\":null"));
    assert_eq!(named.count(), 6);
}
