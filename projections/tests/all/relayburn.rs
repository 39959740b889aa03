//! Imported records: what they make where they are alone, that they count nothing twice beside what they were made of, and
//! that order and repetition change nothing.

use crate::laws::converges;
use burnlog_log::Kind;
use burnlog_projections::conformance::build::{
    Random, Record, answer, append, catch_up, dumped, folded, instant, ledger, line, made_up, prompt,
    session_line, tool_result, tool_use, uuid,
};
use burnlog_projections::{
    BlockFilter, Call, Compaction, Conflict, Content, Filter, MemoryProjections, PageRequest, Queries,
    Relationship, Row, RowReader, Session, Stream, Tokens, ToolUse, Usage, UserTurn, blocks, diagnostics,
    live,
};
use proptest::prelude::*;

fn rows<R: Row>(store: &MemoryProjections) -> Vec<R> {
    let rows = store.scan(live(store).unwrap(), R::TABLE, None, usize::MAX).unwrap();
    rows.into_iter().map(|row| R::read(row).unwrap()).collect()
}

fn only<R: Row>(store: &MemoryProjections) -> R {
    let mut rows = rows(store);
    assert_eq!(rows.len(), 1);
    rows.remove(0)
}

fn total(store: &MemoryProjections) -> Usage {
    store.usage(&Filter::default(), &[]).unwrap()[0].usage
}

fn event(source: &'static str, stream: &str, payload: impl Into<Vec<u8>>) -> Record {
    let (stream, payload) = (stream.to_owned(), payload.into());
    Record { kind: Kind::Record, source, stream, seq: 0, part: None, payload }
}

/// A record of a session, as a line of the ledger.
fn imported(source: &'static str, session: &str, kind: &str, fields: &str) -> Record {
    let payload = format!(
        r#"{{"v":1,"kind":"{kind}","record":{{"v":1,"source":"{source}","sessionId":"{session}",{fields}}}}}"#
    );
    event(source, &format!("relayburn/{session}"), payload)
}

fn turn(source: &'static str, session: &str, id: &str, second: u32, rest: &str) -> Record {
    let fields = format!(
        r#""messageId":"{id}","turnIndex":0,"ts":"{}","model":"model-a","project":"/work/demo","usage":{{"input":3,"output":20,"reasoning":0,"cacheRead":100,"cacheCreate5m":5,"cacheCreate1h":2}}{rest}"#,
        instant(second)
    );
    imported(source, session, "turn", &fields)
}

const TOOLS: &str =
    r#","toolCalls":[{"id":"t1","name":"Bash","target":"ls","argsHash":"ab","isError":true}]"#;

fn user_turn(session: &str, second: u32, blocks: &str) -> Record {
    let fields =
        format!(r#""userUuid":"{}","ts":"{}","blocks":[{blocks}]"#, uuid(session, second), instant(second));
    imported("claude-code", session, "user_turn", &fields)
}

fn tool_result_event(session: &str, id: &str, second: u32, status: &str) -> Record {
    let fields = format!(
        r#""toolUseId":"{id}","eventIndex":0,"ts":"{}","status":"{status}","eventSource":"tool_result","contentLength":4"#,
        instant(second)
    );
    imported("claude-code", session, "tool_result_event", &fields)
}

fn compaction(session: &str, second: u32) -> Record {
    let fields = format!(r#""ts":"{}","tokensBeforeCompact":90"#, instant(second));
    imported("claude-code", session, "compaction", &fields)
}

/// A session as relayburn tells it.
fn told() -> Vec<Record> {
    vec![
        user_turn("s1", 1, r#"{"kind":"text","byteLen":5,"approxTokens":2}"#),
        turn("claude-code", "s1", "m1", 2, r#","toolCalls":[],"stopReason":"tool-use""#),
        turn("claude-code", "s1", "m2", 3, &format!(r#"{TOOLS},"stopReason":"end_turn""#)),
        user_turn("s1", 4, r#"{"kind":"tool_result","toolUseId":"t1","byteLen":4,"approxTokens":1}"#),
        tool_result_event("s1", "t1", 4, "errored"),
        compaction("s1", 5),
        imported(
            "claude-code",
            "s1",
            "relationship",
            &format!(r#""relatedSessionId":"s0","relationshipType":"fork","ts":"{}""#, instant(1)),
        ),
        imported("claude-code", "s1", "relationship", r#""relationshipType":"root""#),
    ]
}

/// The same session as its own file tells it.
fn raw() -> Vec<Record> {
    let compacted = r#""subtype":"compact_boundary","compactMetadata":{"trigger":"auto","preTokens":91}"#;
    vec![
        line("s1", 0, prompt("s1", 1, "hello")),
        line("s1", 1, answer("s1", 2, "m1", 20, Some("tool_use"))),
        line("s1", 2, tool_use("s1", 3, "m2", "t1")),
        line("s1", 3, tool_result("s1", 4, "t1", true)),
        line("s1", 4, session_line("system", "s1", 5, compacted)),
    ]
}

#[test]
fn records_stand_in_for_a_session_that_is_gone() {
    let store = folded(&told());
    let calls: Vec<Call> = rows(&store);
    assert_eq!(calls.iter().map(|call| &*call.call).collect::<Vec<_>>(), ["m1", "m2"]);
    let call = &calls[0];
    let numbers = [
        call.input_tokens,
        call.output_tokens,
        call.cache_read_tokens,
        call.cache_write_5m_tokens,
        call.cache_write_1h_tokens,
    ];
    assert_eq!(numbers, [3, 20, 100, 5, 2].map(|number| Some(Tokens(number))));
    assert_eq!((call.reasoning_tokens, call.complete), (None, true));
    assert_eq!((call.stop_reason.as_deref(), call.cwd.as_deref()), (Some("tool_use"), Some("/work/demo")));
    assert_eq!((&*call.session, &*call.stream), ("s1", "relayburn/s1"));
    let tool: ToolUse = only(&store);
    assert_eq!((&*tool.tool_use, tool.tool.as_deref(), tool.is_error), ("t1", Some("Bash"), Some(true)));
    assert_eq!((tool.result_bytes, tool.call.as_deref()), (Some(4), Some("m2")));
    let user: UserTurn = only(&store);
    assert_eq!((&*user.class, user.characters, &*user.turn), ("imported", 5, &*uuid("s1", 1)));
    let compaction: Compaction = only(&store);
    assert_eq!((&*compaction.session, compaction.tokens_before), ("s1", Some(Tokens(90))));
    let relationship: Relationship = only(&store);
    assert_eq!((&*relationship.from_session, &*relationship.kind), ("s0", "fork"));
    let session: Session = only(&store);
    assert_eq!((session.calls, session.tool_uses, session.tool_errors, session.compactions), (2, 1, 1, 1));
    assert_eq!((session.project.as_deref(), session.streams, session.prompts), (Some("/work/demo"), 1, 0));
    assert_eq!(total(&store).calls, 2);
    let counts = diagnostics(&store).unwrap();
    assert_eq!(counts.iter().map(|row| row.understood).sum::<i64>(), told().len() as i64);
    assert!(counts.iter().all(|row| row.unknown + row.unreadable + row.other_kinds == 0));
}

/// An import beside the raw lines changes no row of what they tell, whichever came first.
#[test]
fn an_import_beside_the_lines_counts_once() {
    let alone = folded(&raw());
    for records in [[raw(), told()].concat(), [told(), raw()].concat()] {
        let (ledger, mut store) = (ledger(), MemoryProjections::new());
        for record in &records {
            append(&ledger, 1, std::slice::from_ref(record));
            catch_up(&mut store, &ledger);
        }
        assert_eq!(rows::<Call>(&store), rows::<Call>(&alone));
        assert_eq!(rows::<ToolUse>(&store), rows::<ToolUse>(&alone));
        assert_eq!(rows::<UserTurn>(&store), rows::<UserTurn>(&alone));
        assert_eq!(rows::<Compaction>(&store), rows::<Compaction>(&alone));
        assert_eq!(rows::<Conflict>(&store), []);
        assert_eq!(total(&store), total(&alone));
        let (with, without): (Session, Session) = (only(&store), only(&alone));
        assert_eq!((with.calls, with.compactions), (without.calls, without.compactions));
        assert_eq!(with.streams, without.streams + 1);
    }
}

/// Two versions of relayburn made different records of one call: it is one call, and no contradiction.
#[test]
fn several_records_of_one_call_are_one_call() {
    let other = turn("claude-code", "s1", "m1", 2, r#","toolCalls":[],"stopReason":"end-turn","retries":0"#);
    let mut records = told();
    records.push(other);
    let store = folded(&records);
    assert_eq!(total(&store).calls, 2);
    assert_eq!(rows::<Conflict>(&store), []);
}

/// What was told to be unknown is absent, not 0.
#[test]
fn numbers_that_were_not_told_are_absent() {
    let fidelity = r#","fidelity":{"granularity":"per-turn","coverage":{"hasInputTokens":true,"hasOutputTokens":true,"hasReasoningTokens":true,"hasCacheReadTokens":false,"hasCacheCreateTokens":false},"class":"partial"}"#;
    let payload = format!(
        r#""messageId":"m1","ts":"{}","model":"a","usage":{{"input":0,"output":1,"reasoning":0,"cacheRead":0,"cacheCreate5m":0,"cacheCreate1h":0}}{fidelity}"#,
        instant(1)
    );
    let call: Call = only(&folded(&[imported("claude-code", "s1", "turn", &payload)]));
    assert_eq!((call.input_tokens, call.reasoning_tokens), (Some(Tokens(0)), Some(Tokens(0))));
    assert_eq!((call.cache_read_tokens, call.cache_write_5m_tokens), (None, None));
    assert!(!call.complete);
}

const ROLLOUT: &str = "rollout-2026-01-01T00-00-00-019d6306-cf06-7193-b86e-12f73f94af8b";
const CODEX_SESSION: &str = "019d6306-cf06-7193-b86e-12f73f94af8b";

fn codex_line(seq: u64, kind: &str, payload: &str) -> Record {
    let payload = format!(r#"{{"timestamp":"{}","type":"{kind}","payload":{payload}}}"#, instant(seq as u32));
    Record {
        kind: Kind::Line,
        source: "codex",
        stream: ROLLOUT.to_owned(),
        seq,
        part: None,
        payload: payload.into_bytes(),
    }
}

fn codex_lines() -> Vec<Record> {
    vec![
        codex_line(0, "session_meta", &format!(r#"{{"id":"{CODEX_SESSION}","cwd":"/work/demo"}}"#)),
        codex_line(1, "event_msg", r#"{"type":"task_started","turn_id":"turn-1"}"#),
        codex_line(
            2,
            "event_msg",
            r#"{"type":"token_count","info":{"total_token_usage":{"input_tokens":10,"cached_input_tokens":4,"output_tokens":5,"total_tokens":15}}}"#,
        ),
        codex_line(
            3,
            "event_msg",
            r#"{"type":"token_count","info":{"total_token_usage":{"input_tokens":30,"cached_input_tokens":4,"output_tokens":9,"total_tokens":39}}}"#,
        ),
    ]
}

/// A turn of Codex is many calls. The record names the rollout, so its lines take the place of the turns that they tell.
#[test]
fn a_turn_of_codex_gives_way_to_the_lines_of_its_rollout() {
    let path = format!(r#","sessionPath":"/home/a/.codex/sessions/2026/01/01/{ROLLOUT}.jsonl"{TOOLS}"#);
    let told = |id: &str| turn("codex", CODEX_SESSION, id, 9, &path);
    let store = folded(&[told("turn-1"), told("turn-2")]);
    assert_eq!(total(&store).calls, 2);
    assert_eq!(rows::<ToolUse>(&store).len(), 1);
    let alone = folded(&codex_lines());
    assert_eq!(total(&alone).calls, 2);
    for records in
        [[codex_lines(), vec![told("turn-1")]].concat(), [vec![told("turn-1")], codex_lines()].concat()]
    {
        let (ledger, mut store) = (ledger(), MemoryProjections::new());
        for record in &records {
            append(&ledger, 1, std::slice::from_ref(record));
            catch_up(&mut store, &ledger);
        }
        assert_eq!(rows::<Call>(&store), rows::<Call>(&alone));
        assert_eq!(total(&store), total(&alone));
    }
    // A turn that the lines do not tell is still told.
    let more = folded(&[codex_lines(), vec![told("turn-1"), told("turn-2")]].concat());
    assert_eq!(total(&more).calls, 3);
}

/// Where a record does not name its rollout, the turn gives way to whichever rollout of its session tells it.
#[test]
fn a_turn_of_codex_without_a_path_gives_way_to_the_lines_of_its_session() {
    let told = |session: &str, id: &str| turn("codex", session, id, 9, "");
    let alone = folded(&codex_lines());
    for records in [
        [codex_lines(), vec![told(CODEX_SESSION, "turn-1")]].concat(),
        [vec![told(CODEX_SESSION, "turn-1")], codex_lines()].concat(),
    ] {
        let (ledger, mut store) = (ledger(), MemoryProjections::new());
        for record in &records {
            append(&ledger, 1, std::slice::from_ref(record));
            catch_up(&mut store, &ledger);
        }
        assert_eq!(rows::<Call>(&store), rows::<Call>(&alone));
    }
    // Another turn, or one of another session, is told by nothing else.
    for other in [told(CODEX_SESSION, "turn-2"), told("019b0000-03e8-7000-8000-00000000000b", "turn-1")] {
        assert_eq!(total(&folded(&[codex_lines(), vec![other]].concat())).calls, 3);
    }
}

fn object(id: &str, payload: &str) -> Record {
    Record {
        kind: Kind::Line,
        source: "opencode",
        stream: format!("message/{id}"),
        seq: 0,
        part: None,
        payload: payload.as_bytes().to_vec(),
    }
}

#[test]
fn a_message_of_opencode_gives_way_to_its_object() {
    let told = turn("opencode", "ses_1", "msg_1", 9, TOOLS);
    let store = folded(std::slice::from_ref(&told));
    assert_eq!((total(&store).calls, rows::<ToolUse>(&store).len()), (1, 1));
    let message = object(
        "msg_1",
        r#"{"id":"msg_1","sessionID":"ses_1","role":"assistant","modelID":"a","time":{"created":1767225600000,"completed":1767225601000},"tokens":{"input":1,"output":2,"reasoning":0,"cache":{"read":0,"write":0}}}"#,
    );
    let alone = folded(std::slice::from_ref(&message));
    for records in [[told.clone(), message.clone()], [message, told]] {
        let (ledger, mut store) = (ledger(), MemoryProjections::new());
        for record in &records {
            append(&ledger, 1, std::slice::from_ref(record));
            catch_up(&mut store, &ledger);
        }
        assert_eq!(rows::<Call>(&store), rows::<Call>(&alone));
        assert_eq!(rows::<ToolUse>(&store), []);
        assert_eq!(total(&store), total(&alone));
    }
}

#[test]
fn blocks_of_content_are_found_in_their_records() {
    let record = |rest: &str| {
        let payload = format!(
            r#"{{"v":1,"source":"claude-code","sessionId":"s1","messageId":"m1","ts":"{}","role":"assistant",{rest}}}"#,
            instant(1)
        );
        event("claude-code", "relayburn/s1", payload)
    };
    let records = [
        record(r#""kind":"text","text":"hello""#),
        record(r#""kind":"tool_use","toolUse":{"id":"t1","name":"Bash","input":{"command":"ls"}}"#),
        record(r#""kind":"tool_result","toolResult":{"toolUseId":"t1","content":[1,2],"isError":false}"#),
    ];
    let store = folded(&records);
    let content: Content = only(&store);
    assert_eq!((&*content.source, &*content.stream), ("claude-code", "relayburn/s1"));
    for (record, (kind, value, tool)) in records.iter().zip([
        ("text", "\"hello\"", ""),
        ("tool_use", r#"{"command":"ls"}"#, ",\"t1\""),
        ("tool_result", "[1,2]", ",\"t1\""),
    ]) {
        let payload = std::str::from_utf8(&record.payload).unwrap();
        let start = payload.find(value).unwrap();
        let block = format!(r#"["{kind}",{start},{}{tool}]"#, value.len());
        assert!(content.blocks.contains(&block), "{block} in {}", content.blocks);
    }
    let stream: Stream = only(&store);
    assert_eq!(&*stream.session, "s1");
}

/// The blocks of a session: the stream, kind and tool use of each.
fn listed(store: &MemoryProjections, source: &str, session: &str) -> Vec<(String, String, String)> {
    let filter =
        BlockFilter { source: source.to_owned(), session: session.to_owned(), ..BlockFilter::default() };
    // Two at a time, so that pages end between blocks that are left out.
    let (mut after, mut found) = (None, Vec::new());
    loop {
        let page = blocks(store, &filter, &PageRequest { after: after.take(), limit: 2 }).unwrap();
        found.extend(
            page.items.into_iter().map(|block| {
                (block.stream.to_string(), block.kind.clone(), block.tool_use.unwrap_or_default())
            }),
        );
        match page.next {
            Some(next) => after = Some(next),
            None => return found,
        }
    }
}

fn content(source: &'static str, session: &str, message: &str, rest: &str) -> Record {
    let payload = format!(
        r#"{{"v":1,"source":"{source}","sessionId":"{session}","messageId":"{message}","ts":"{}",{rest}}}"#,
        instant(1)
    );
    event(source, &format!("relayburn/{session}"), payload)
}

/// Imported content gives way to the raw records, whichever came first, and only where these have the same block.
#[test]
fn imported_blocks_beside_raw_ones_are_listed_once() {
    let text = r#""role":"assistant","kind":"text","text":"hello""#;
    let said = |id: &str| content("claude-code", "s1", id, text);
    let asked = |id: &str| {
        let rest = format!(
            r#""role":"assistant","kind":"tool_use","toolUse":{{"id":"{id}","name":"Bash","input":{{}}}}"#
        );
        content("claude-code", "s1", &format!("m_{id}"), &rest)
    };
    let gave = |id: &str| {
        let rest = format!(
            r#""role":"tool_result","kind":"tool_result","toolResult":{{"toolUseId":"{id}","content":"four"}}"#
        );
        content("claude-code", "s1", "", &rest)
    };
    let prompted =
        content("claude-code", "s1", &uuid("s1", 1), r#""role":"user","kind":"text","text":"what is asked""#);
    let told =
        [said("m1"), said("m2"), said("m9"), asked("t1"), asked("t9"), gave("t1"), gave("t9"), prompted];
    let raw = [
        line("s1", 0, prompt("s1", 1, "what is asked")),
        line("s1", 1, answer("s1", 2, "m1", 20, Some("end_turn"))),
        // Not at its end: what is missing of it, the import may have.
        line("s1", 2, answer("s1", 3, "m2", 20, None)),
        line("s1", 3, tool_use("s1", 4, "m3", "t1")),
    ];
    let alone = listed(&folded(&raw), "claude-code", "s1");
    assert_eq!(listed(&folded(&told), "claude-code", "s1").len(), told.len());
    let left = [("text", ""), ("text", ""), ("tool_use", "t9"), ("tool_result", "t1"), ("tool_result", "t9")];
    for parts in [[&told[..], &raw], [&raw, &told[..]]] {
        let (ledger, mut store) = (ledger(), MemoryProjections::new());
        for (feed, records) in (1..).zip(parts) {
            append(&ledger, feed, records);
            catch_up(&mut store, &ledger);
        }
        let (of_import, of_raw): (Vec<_>, Vec<_>) =
            listed(&store, "claude-code", "s1").into_iter().partition(|block| block.0 == "relayburn/s1");
        assert_eq!(of_raw, alone);
        let mut of_import: Vec<_> = of_import.iter().map(|(_, kind, tool)| (&**kind, &**tool)).collect();
        of_import.sort_unstable();
        let mut expected = left.to_vec();
        expected.sort_unstable();
        assert_eq!(of_import, expected);
        // The result came as well by now.
        append(&ledger, 3, &[line("s1", 4, tool_result("s1", 5, "t1", false))]);
        catch_up(&mut store, &ledger);
        assert!(!listed(&store, "claude-code", "s1").contains(&(
            "relayburn/s1".to_owned(),
            "tool_result".to_owned(),
            "t1".to_owned()
        )));
    }
}

#[test]
fn what_cannot_be_placed_or_read_is_counted() {
    let unplaced = |payload: &str| event("relayburn", "ledger.jsonl", payload);
    let store = folded(&[
        unplaced("{\"v\":1,\"kind\":\"turn\",\"rec"),
        unplaced("not JSON"),
        unplaced(
            r#"{"v":1,"kind":"relationship","record":{"source":"spawn-env","sessionId":"s1","relatedSessionId":"a"}}"#,
        ),
        unplaced(
            r#"{"v":1,"kind":"stamp","ts":"2026-01-01T00:00:00Z","selector":{"range":{}},"enrichment":{"a":"b"}}"#,
        ),
        imported("claude-code", "s1", "novelty", r#""a":1"#),
        imported("claude-code", "s1", "turn", r#""messageId":"""#),
        event("claude-code", "relayburn/s1", "{\"kind\":"),
    ]);
    let counts = diagnostics(&store).unwrap();
    let sum = |count: fn(&burnlog_projections::Diagnostic) -> i64| counts.iter().map(count).sum::<i64>();
    assert_eq!(sum(|row| row.unreadable), 3);
    assert_eq!(sum(|row| row.unknown), 3);
    assert_eq!(sum(|row| row.understood), 1);
    assert_eq!((rows::<Call>(&store).len(), rows::<Relationship>(&store).len()), (0, 0));
}

/// Raw lines, imports of the same and of other things, of all three sources.
pub(crate) fn mixed(seed: u64, lines: u32) -> Vec<Record> {
    let mut random = Random(seed);
    let mut records = [made_up(seed, lines), raw(), told(), codex_lines()].concat();
    let path = format!(r#","sessionPath":"x/{ROLLOUT}.jsonl"{TOOLS}"#);
    for number in 0..random.below(20) {
        let (id, second) = (format!("m{}", random.below(6)), random.below(9) as u32);
        let session = ["s1", "s2"][random.below(2) as usize];
        records.push(match random.below(8) {
            0 if number % 2 == 0 => {
                turn("codex", CODEX_SESSION, &format!("turn-{}", random.below(3)), second, "")
            }
            0 => turn("codex", CODEX_SESSION, &format!("turn-{}", random.below(3)), second, &path),
            1 => turn("opencode", "ses_1", &format!("msg_{}", random.below(3)), second, TOOLS),
            2 => object(
                "msg_1",
                &format!(
                    r#"{{"id":"msg_1","sessionID":"ses_1","role":"assistant","time":{{"created":{number}}}}}"#
                ),
            ),
            3 => user_turn(session, second, r#"{"kind":"text","byteLen":9}"#),
            4 => tool_result_event(session, "t1", second, "completed"),
            5 => compaction(session, second),
            _ => turn("claude-code", session, &id, second, TOOLS),
        });
    }
    records
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Laws 1 to 4, with imports between the lines.
    #[test]
    fn a_dump_with_imports_depends_on_the_events_alone(
        seed: u64, lines in 1u32..40, feeds in 1u8..4, piece in 1usize..30
    ) {
        converges(&mixed(seed, lines), seed, feeds, piece)?;
    }

    /// No bytes stop a fold of imports.
    #[test]
    fn any_imported_bytes_are_counted(payloads in proptest::collection::vec(any::<Vec<u8>>(), 1..12)) {
        let records: Vec<Record> =
            payloads.into_iter().map(|payload| event("claude-code", "relayburn/s1", payload)).collect();
        let one = dumped(&folded(&records));
        let twice = dumped(&folded(&[records.clone(), records].concat()));
        prop_assert_eq!(one, twice);
    }
}
