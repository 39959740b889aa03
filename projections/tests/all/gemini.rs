//! Gemini CLI: a session as one object that is rewritten, and as lines; one reader, one file.

use crate::laws::converges;
use burnlog_log::Kind;
use burnlog_projections::conformance::build::{Random, Record, append, catch_up, folded, instant, ledger};
use burnlog_projections::{
    Call, Filter, MemoryProjections, Queries, Relationship, Row, RowReader, Session, Tokens, ToolUse, Usage,
    diagnostics, live, numbered_turns, relationships,
};
use proptest::prelude::*;

fn rows<R: Row>(store: &MemoryProjections) -> Vec<R> {
    let rows = store.scan(live(store).unwrap(), R::TABLE, None, usize::MAX).unwrap();
    rows.into_iter().map(|row| R::read(row).unwrap()).collect()
}

fn total(store: &MemoryProjections) -> Usage {
    store.usage(&Filter::default(), &[]).unwrap()[0].usage
}

fn record(stream: &str, seq: u64, payload: impl Into<Vec<u8>>) -> Record {
    let (stream, payload) = (stream.to_owned(), payload.into());
    Record { kind: Kind::Line, source: "gemini-cli", stream, seq, part: None, payload }
}

fn user(id: &str, second: u32) -> String {
    format!(
        r#"{{"id":"{id}","timestamp":"{}","type":"user","content":[{{"text":"hello"}}]}}"#,
        instant(second)
    )
}

fn answer(id: &str, second: u32, tokens: &str, status: &str) -> String {
    format!(
        r#"{{"id":"{id}","timestamp":"{}","type":"gemini","content":"x","model":"gemini-a","tokens":{tokens},"toolCalls":[{{"id":"t","name":"read_file","args":{{"absolute_path":"/a.rs"}},"status":"{status}","timestamp":"{}"}}]}}"#,
        instant(second),
        instant(second)
    )
}

const TOKENS: &str = r#"{"input":100,"output":20,"cached":60,"thoughts":7,"tool":3,"total":130}"#;

fn object(updated: u32, messages: &[String]) -> String {
    format!(
        r#"{{"sessionId":"5a4b","projectHash":"h","startTime":"{}","lastUpdated":"{}","summary":"title {updated}","messages":[{}]}}"#,
        instant(0),
        instant(updated),
        messages.join(",")
    )
}

#[test]
fn an_object_and_lines_tell_the_same() {
    let messages = [user("u1", 1), answer("g1", 2, TOKENS, "success")];
    let header = object(3, &[]);
    let as_object = folded(&[record("session-1", 0, object(3, &messages))]);
    let as_lines = folded(&[
        record("session-1", 0, header),
        record("session-1", 1, messages[0].as_str()),
        record("session-1", 2, answer("g1", 2, "null", "executing")),
        record("session-1", 3, messages[1].as_str()),
        record("session-1", 4, r#"{"$set":{"lastUpdated":"2026-01-01T00:00:09Z"}}"#),
        record("session-1", 5, r#"{"$rewindTo":"u1"}"#),
    ]);
    for store in [&as_object, &as_lines] {
        let call = rows::<Call>(store).remove(0);
        let numbers = [call.input_tokens, call.output_tokens, call.cache_read_tokens, call.reasoning_tokens];
        assert_eq!(numbers, [43, 20, 60, 7].map(|number| Some(Tokens(number))));
        assert_eq!(
            (call.complete, call.model.as_deref(), &*call.session),
            (true, Some("gemini-a"), "session-1")
        );
        let session = rows::<Session>(store).remove(0);
        assert_eq!((session.calls, session.prompts, session.tool_uses), (1, 1, 1));
        assert_eq!(session.title.as_deref(), Some("title 3"));
        assert_eq!(rows::<ToolUse>(store)[0].is_error, Some(false));
        assert!(diagnostics(store).unwrap().iter().all(|row| row.unknown == 0));
    }
}

/// Traps 4, 11 and 20: each version holds all messages again.
#[test]
fn trap_04_05_11_and_20_a_rewritten_object_counts_each_message_once() {
    let (ledger, mut store) = (ledger(), MemoryProjections::new());
    let first = object(2, &[user("u1", 1), answer("g1", 2, "null", "executing")]);
    let second =
        object(9, &[user("u1", 1), answer("g1", 2, TOKENS, "error"), answer("g2", 8, TOKENS, "success")]);
    for payload in [&first, &second, &first] {
        append(&ledger, 1, &[record("session-1", 0, payload.as_str())]);
        catch_up(&mut store, &ledger);
    }
    assert_eq!(
        (total(&store).calls, total(&store).incomplete_calls, total(&store).output_tokens),
        (2, 0, Tokens(40))
    );
    let session = rows::<Session>(&store).remove(0);
    assert_eq!((session.prompts, session.tool_errors, session.title.as_deref()), (1, 1, Some("title 9")));
}

/// Traps 10, 12 and 26.
#[test]
fn trap_10_12_and_26_subagents_and_odd_records_are_counted() {
    let store = folded(&[
        record("5a4b/c3", 0, user("u", 1)),
        record("5a4b/c3", 1, answer("g", 2, TOKENS, "success")),
        record("", 0, "{\"type\":\"novelty\"}"),
        record("session-x y", 0, vec![0, 1, 255]),
        record("session-x y", 1, "[]"),
        record("session-x y", 2, ""),
    ]);
    let call = rows::<Call>(&store).remove(0);
    assert_eq!((call.sidechain, call.agent.as_deref()), (true, Some("c3")));
    assert_eq!(rows::<Session>(&store).iter().map(|session| session.prompts).sum::<i64>(), 0);
    let counted: Vec<_> = diagnostics(&store).unwrap();
    let sum = |count: fn(&burnlog_projections::Diagnostic) -> i64| counted.iter().map(count).sum::<i64>();
    assert_eq!((sum(|row| row.understood), sum(|row| row.unknown), sum(|row| row.unreadable)), (3, 2, 1));
}

/// Trap 13: a subagent is of the session whose full id names its folder, whichever file came first.
#[test]
fn trap_13_a_subagent_has_the_session_that_began_it() {
    let header = |id: &str| format!(r#"{{"sessionId":"{id}","startTime":"{}"}}"#, instant(0));
    let records = [
        record("session-2026-01-01T00-00-5a4b0000", 0, header("5a4b0000-1111")),
        record("5a4b0000-1111/c3", 0, header("c3")),
        // Eight digits are no id.
        record("5a4b0000-2222/d4", 0, header("d4")),
        record("session-2026-01-02T00-00-77770000", 0, header("77770000-1111")),
    ];
    for order in [[0, 1, 2, 3], [3, 2, 1, 0]] {
        let (ledger, mut store) = (ledger(), MemoryProjections::new());
        for at in order {
            append(&ledger, 1, std::slice::from_ref(&records[at]));
            catch_up(&mut store, &ledger);
        }
        let stated = rows::<Relationship>(&store);
        assert_eq!(stated.len(), 1);
        let found = relationships(&store, "gemini-cli", "5a4b0000-1111/c3").unwrap();
        assert_eq!(&*found.root, "session-2026-01-01T00-00-5a4b0000");
        let links: Vec<_> = found.links.iter().map(|link| (&*link.kind, link.agent.as_deref())).collect();
        assert_eq!(links, [("subagent", Some("c3"))]);
        assert_eq!(relationships(&store, "gemini-cli", &found.root).unwrap().links.len(), 1);
        assert_eq!(
            &*relationships(&store, "gemini-cli", "5a4b0000-2222/d4").unwrap().root,
            "5a4b0000-2222/d4"
        );
    }
}

/// Trap 2: a call without tokens, which was interrupted, hides nothing behind it.
#[test]
fn trap_02_an_interrupted_call_hides_nothing() {
    let store = folded(&[
        record("session-1", 0, answer("g1", 1, "null", "executing")),
        record("session-1", 1, answer("g2", 2, TOKENS, "success")),
    ]);
    let usage = total(&store);
    assert_eq!((usage.calls, usage.incomplete_calls, usage.output_tokens), (2, 1, Tokens(20)));
}

/// Traps 6 and 21: that a tool failed comes in a later ingest, without a result.
#[test]
fn trap_06_and_21_a_tool_that_fails_later_without_a_result_is_an_error() {
    let (ledger, mut store) = (ledger(), MemoryProjections::new());
    for (seq, status) in [(0, "executing"), (1, "error")] {
        append(&ledger, 1, &[record("session-1", seq, answer("g1", 1, TOKENS, status))]);
        catch_up(&mut store, &ledger);
        let expected = (status == "error").then_some(true);
        assert_eq!(rows::<ToolUse>(&store)[0].is_error, expected);
    }
    assert_eq!(rows::<Session>(&store)[0].tool_errors, 1);
}

/// Trap 7: prompts are numbered as they stand, whatever came first.
#[test]
fn trap_07_prompts_are_numbered_as_they_stand_whenever_they_came() {
    let (ledger, mut store) = (ledger(), MemoryProjections::new());
    for (seq, id, second) in [(2, "u3", 9), (0, "u1", 1), (1, "u2", 5)] {
        append(&ledger, 1, &[record("session-1", seq, user(id, second))]);
        catch_up(&mut store, &ledger);
    }
    let turns = numbered_turns(&store, "gemini-cli", "session-1").unwrap();
    let numbers: Vec<_> = turns.iter().map(|turn| (turn.ordinal, &*turn.turn.turn)).collect();
    assert_eq!(numbers, [(Some(1), "u1"), (Some(2), "u2"), (Some(3), "u3")]);
}

/// Traps 9 and 28: messages that say the same at the same time are two, and clocks are taken at their word.
#[test]
fn trap_09_and_28_calls_that_look_alike_stay_apart_whatever_the_clock_says() {
    let store = folded(&[
        record("session-1", 0, answer("g1", 1, TOKENS, "success")),
        record("session-1", 1, answer("g2", 1, TOKENS, "success")),
        record(
            "session-1",
            2,
            answer("g3", 1, TOKENS, "success").replace(&instant(1), "1969-12-31T23:59:59Z"),
        ),
        record(
            "session-1",
            3,
            answer("g4", 1, TOKENS, "success").replace(&instant(1), "2093-05-05T05:05:05Z"),
        ),
        record("session-1", 4, answer("g5", 1, TOKENS, "success").replace(&instant(1), "soon")),
    ]);
    let days = store.usage(&Filter::default(), &[burnlog_projections::UsageBy::Day]).unwrap();
    let days: Vec<_> = days.into_iter().map(|group| (group.key[0].clone(), group.usage.calls)).collect();
    let expected = [("", 1), ("1969-12-31", 1), ("2026-01-01", 2), ("2093-05-05", 1)];
    assert_eq!(days, expected.map(|(day, calls)| (day.to_owned(), calls)));
}

pub(crate) fn made_up(seed: u64, count: u32) -> Vec<Record> {
    let mut random = Random(seed);
    let mut records = Vec::new();
    for second in 0..count {
        let message = |random: &mut Random| {
            let tokens = if random.below(2) == 0 { "null" } else { TOKENS };
            let status = ["executing", "success", "error"][random.below(3) as usize];
            answer(&format!("g{}", random.below(5)), random.below(9) as u32, tokens, status)
        };
        let payload = match random.below(4) {
            0 => object(second, &[user("u1", 1), message(&mut random), message(&mut random)]),
            1 => user(&format!("u{}", random.below(3)), second),
            _ => message(&mut random),
        };
        records.push(record(&format!("session-{}", random.below(3)), random.below(20), payload));
    }
    records
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]

    /// Laws 1 to 4.
    #[test]
    fn a_dump_depends_on_the_records_alone(seed: u64, count in 1u32..60, feeds in 1u8..4, piece in 1usize..40) {
        converges(&made_up(seed, count), seed, feeds, piece)?;
    }
}
