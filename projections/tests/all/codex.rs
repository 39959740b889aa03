//! Codex: the traps of its rollouts, one test each, with small made-up lines; and the law that order, repetition and cuts change
//! nothing although a call depends on the line before it.

use crate::laws::converges;
use burnlog_log::{Kind, Timestamp};
use burnlog_projections::conformance::build::{
    Random, Record, append, batch, catch_up, dumped, expected_dump, folded, instant, ledger,
};
use burnlog_projections::{
    Call, CallSession, Compaction, Filter, MemoryProjections, Notice, Queries, Row, RowReader, Session,
    Stream, Tokens, ToolUse, Usage, UserTurn, diagnostics, live, numbered_turns, relationships,
};
use proptest::prelude::*;

/// UUIDs of version 7: each session is made a second after the one before.
pub(crate) const A: &str = "019b0000-0000-7000-8000-00000000000a";
pub(crate) const B: &str = "019b0000-03e8-7000-8000-00000000000b";
const C: &str = "019b0000-07d0-7000-8000-00000000000c";
/// Turns that began after A, B and C were made.
pub(crate) const TURN_OF_A: &str = "019b0000-01f4-7000-8000-000000000001";
pub(crate) const TURN_OF_B: &str = "019b0000-05dc-7000-8000-000000000001";
const TURN_OF_C: &str = "019b0000-0bb8-7000-8000-000000000001";

fn rows<R: Row>(store: &MemoryProjections) -> Vec<R> {
    let rows = store.scan(live(store).unwrap(), R::TABLE, None, usize::MAX).unwrap();
    rows.into_iter().map(|row| R::read(row).unwrap()).collect()
}

fn total(store: &MemoryProjections) -> Usage {
    store.usage(&Filter::default(), &[]).unwrap()[0].usage
}

fn session(store: &MemoryProjections, id: &str) -> Session {
    rows::<Session>(store).into_iter().find(|row| &*row.session == id).unwrap()
}

pub(crate) fn record(session: &str, seq: u64, payload: &str) -> Record {
    let stream = format!("rollout-2026-01-01T00-00-00-{session}");
    Record { kind: Kind::Line, source: "codex", stream, seq, part: None, payload: payload.into() }
}

pub(crate) fn rollout(session: &str, lines: &[String]) -> Vec<Record> {
    (0..).zip(lines).map(|(seq, line)| record(session, seq, line)).collect()
}

pub(crate) fn line(second: u32, kind: &str, payload: &str) -> String {
    format!(r#"{{"timestamp":"{}","type":"{kind}","payload":{{{payload}}}}}"#, instant(second))
}

pub(crate) fn meta(second: u32, id: &str, rest: &str) -> String {
    line(
        second,
        "session_meta",
        &format!(r#""id":"{id}","cwd":"/work/{}","cli_version":"0.142.0","source":"cli"{rest}"#, &id[35..]),
    )
}

pub(crate) fn turn(second: u32, id: &str, model: &str) -> String {
    line(second, "turn_context", &format!(r#""turn_id":"{id}","cwd":"/work/demo","model":"{model}""#))
}

/// A snapshot: input, of which cached, and output so far.
pub(crate) fn usage(second: u32, (input, cached, output): (i64, i64, i64)) -> String {
    let usage = format!(
        r#"{{"input_tokens":{input},"cached_input_tokens":{cached},"output_tokens":{output},"reasoning_output_tokens":0,"total_tokens":{}}}"#,
        input + output
    );
    line(
        second,
        "event_msg",
        &format!(r#""type":"token_count","info":{{"total_token_usage":{usage},"last_token_usage":{usage}}}"#),
    )
}

pub(crate) fn prompt(second: u32, text: &str) -> String {
    line(second, "event_msg", &format!(r#""type":"user_message","message":"{text}""#))
}

fn plain_session() -> Vec<String> {
    vec![
        meta(0, A, ""),
        turn(1, TURN_OF_A, "model-a"),
        prompt(2, "go on"),
        usage(3, (100, 0, 10)),
        usage(4, (300, 80, 15)),
    ]
}

/// Trap 18, and what a call used is the difference to the snapshot before.
#[test]
fn trap_18_each_request_of_a_turn_is_a_call() {
    let store = folded(&rollout(A, &plain_session()));
    let calls: Vec<Call> = rows(&store);
    assert_eq!(calls.len(), 2);
    let used: Vec<_> =
        calls.iter().map(|call| (call.input_tokens, call.cache_read_tokens, call.output_tokens)).collect();
    let tokens = |number| Some(Tokens(number));
    assert_eq!(used, [(tokens(100), tokens(0), tokens(10)), (tokens(120), tokens(80), tokens(5))]);
    assert_eq!((calls[0].model.as_deref(), calls[0].cwd.as_deref()), (Some("model-a"), Some("/work/demo")));
    assert_eq!((&*calls[0].session, calls[0].complete), (A, true));
    let session = session(&store, A);
    assert_eq!((session.calls, session.prompts, session.project.as_deref()), (2, 1, Some("/work/a")));
    assert_eq!(rows::<Stream>(&store)[0].version.as_deref(), Some("0.142.0"));
}

/// Traps 4 and 5: the snapshot before came in an earlier ingest, or in a later one, and is read again.
#[test]
fn trap_04_and_05_a_snapshot_finds_the_one_before_whenever_it_comes() {
    let records = rollout(A, &plain_session());
    let expected = expected_dump(&records);
    for order in [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [4, 0, 3, 1, 2]] {
        let (ledger, mut store) = (ledger(), MemoryProjections::new());
        for at in order {
            append(&ledger, 1, &records[at..=at]);
            catch_up(&mut store, &ledger);
        }
        append(&ledger, 2, &records);
        catch_up(&mut store, &ledger);
        assert_eq!(dumped(&store), expected, "{order:?}");
    }
}

#[test]
fn a_snapshot_that_does_not_move_or_says_nothing_is_no_call() {
    let mut lines = plain_session();
    lines.push(usage(5, (300, 80, 15)));
    lines.push(line(6, "event_msg", r#""type":"token_count","info":null"#));
    lines.push(usage(7, (0, 0, 0)));
    assert_eq!(total(&folded(&rollout(A, &lines))).calls, 2);
}

/// Trap 15: what was used after the counter began anew counts from nothing, also where the numbers come again.
#[test]
fn trap_15_a_counter_that_begins_anew_is_counted_from_nothing() {
    let mut lines = plain_session();
    lines.extend([usage(5, (100, 0, 10)), usage(6, (300, 80, 15))]);
    let usage = total(&folded(&rollout(A, &lines)));
    assert_eq!((usage.calls, usage.input_tokens, usage.cache_read_tokens), (4, Tokens(440), Tokens(160)));
    assert_eq!(usage.output_tokens, Tokens(30));
}

/// A lost line is not lost usage.
#[test]
fn the_next_snapshot_holds_what_a_lost_one_said() {
    let mut lines = plain_session();
    lines.remove(3);
    let usage = total(&folded(&rollout(A, &lines)));
    assert_eq!((usage.calls, usage.output_tokens), (1, Tokens(15)));
}

/// The fork of A: its own meta, then A's lines with the time of the fork, then its own turn.
fn fork() -> Vec<String> {
    vec![
        meta(50, B, &format!(r#","forked_from_id":"{A}""#)),
        meta(50, A, ""),
        turn(50, TURN_OF_A, "model-a"),
        prompt(50, "go on"),
        usage(50, (100, 0, 10)),
        usage(50, (300, 80, 15)),
        turn(60, TURN_OF_B, "model-b"),
        prompt(60, "go on"),
        usage(61, (400, 80, 20)),
    ]
}

/// Traps 8, 13, 14 and 22: copies are the parent's calls, the rest is the child's, and the child keeps its own id.
#[test]
fn trap_08_13_14_and_22_a_fork_counts_what_it_adds() {
    let records = [rollout(A, &plain_session()), rollout(B, &fork())].concat();
    let store = folded(&records);
    assert_eq!((total(&store).calls, total(&store).output_tokens), (3, Tokens(20)));
    let (parent, child) = (session(&store, A), session(&store, B));
    assert_eq!((parent.calls, parent.prompts, parent.copied_calls), (2, 1, 0));
    assert_eq!((child.calls, child.prompts, child.copied_calls), (1, 1, 2));
    let own: Vec<Call> = rows::<Call>(&store).into_iter().filter(|call| &*call.session == B).collect();
    assert_eq!((own[0].model.as_deref(), own[0].input_tokens), (Some("model-b"), Some(Tokens(100))));
    assert_eq!(rows::<CallSession>(&store).len(), 2);
}

/// The copy alone, its parent's file being gone before anybody read it: nothing is lost, and nothing is doubled when it turns up.
#[test]
fn a_copy_counts_where_the_original_is_missing() {
    let (ledger, mut store) = (ledger(), MemoryProjections::new());
    append(&ledger, 1, &rollout(B, &fork()));
    catch_up(&mut store, &ledger);
    assert_eq!((total(&store).calls, session(&store, B).calls), (3, 3));
    append(&ledger, 1, &rollout(A, &plain_session()));
    catch_up(&mut store, &ledger);
    assert_eq!((total(&store).calls, session(&store, B).calls, session(&store, A).calls), (3, 1, 2));
}

/// Two children that were spawned with the same words may use the same numbers.
#[test]
fn trap_09_and_12_calls_of_siblings_that_look_alike_stay_apart() {
    let child = |id: &str, turn_id: &str| {
        let spawn = format!(
            r#","source":{{"subagent":{{"thread_spawn":{{"parent_thread_id":"{A}","depth":1,"agent_nickname":"Ada"}}}}}}"#
        );
        let meta = meta(70, id, "").replace(r#","source":"cli""#, &spawn);
        rollout(id, &[meta, turn(71, turn_id, "model-a"), prompt(72, "look"), usage(73, (50, 0, 5))])
    };
    let store = folded(&[rollout(A, &plain_session()), child(B, TURN_OF_B), child(C, TURN_OF_C)].concat());
    assert_eq!(total(&store).calls, 4);
    let call = rows::<Call>(&store).into_iter().find(|call| &*call.session == C).unwrap();
    assert_eq!((call.sidechain, call.agent.as_deref()), (true, Some("Ada")));
    let classes: Vec<_> = rows::<UserTurn>(&store).iter().map(|turn| turn.class.to_string()).collect();
    assert_eq!(classes, ["prompt", "delegated", "delegated"]);
    assert_eq!(session(&store, B).prompts, 0);
}

/// Trap 7: prompts have numbers of their own session, and the same whatever part of the file came first.
#[test]
fn trap_07_prompts_are_numbered_as_they_stand_whenever_they_came() {
    let mut lines = plain_session();
    lines.extend([prompt(5, "second"), prompt(6, "third")]);
    let records = rollout(A, &lines);
    let (ledger, mut store) = (ledger(), MemoryProjections::new());
    for piece in [&records[5..], &records[..3], &records[3..5]] {
        append(&ledger, 1, piece);
        catch_up(&mut store, &ledger);
    }
    let turns = numbered_turns(&store, "codex", A).unwrap();
    let numbers: Vec<_> = turns.iter().map(|turn| (turn.ordinal, turn.turn.turn.clone())).collect();
    let name = |turn: &str| format!("{A}/{turn}");
    let expected = [(Some(1), name("user-1-5")), (Some(2), name("user-2-6")), (Some(3), name("user-3-5"))];
    assert_eq!(numbers, expected);
}

/// Trap 21: a command that failed and gave nothing back.
#[test]
fn trap_21_a_failed_command_without_output_is_an_error() {
    let call =
        line(5, "response_item", r#""type":"function_call","name":"shell","call_id":"c1","arguments":"{}""#);
    let end = line(6, "event_msg", r#""type":"exec_command_end","call_id":"c1","exit_code":1"#);
    let store = folded(&rollout(A, &[call, end]));
    let tool = rows::<ToolUse>(&store).remove(0);
    assert_eq!((tool.is_error, tool.result_bytes), (Some(true), None));
    assert_eq!(session(&store, A).tool_errors, 1);
}

/// Trap 16: older versions do not name their turns, and forks of theirs count what they add all the same.
#[test]
fn trap_16_turns_without_names_are_counted() {
    let without = |lines: Vec<String>| -> Vec<String> {
        lines.into_iter().map(|line| line.replace("\"turn_id\"", "\"other\"")).collect()
    };
    let records = [rollout(A, &without(plain_session())), rollout(B, &without(fork()))].concat();
    let store = folded(&records);
    assert_eq!((total(&store).calls, total(&store).output_tokens), (3, Tokens(20)));
    assert_eq!(session(&store, A).calls, 2);
}

/// Traps 2 and 17: an aborted turn keeps what it used, and what follows counts.
#[test]
fn trap_02_and_17_an_aborted_turn_hides_nothing() {
    let mut lines = plain_session();
    lines.push(line(5, "event_msg", r#""type":"turn_aborted","reason":"interrupted""#));
    lines.push(line(5, "response_item", r#""type":"message","role":"user","content":[{"type":"input_text","text":"<turn_aborted>\nThe user interrupted"}]"#));
    lines.push(prompt(6, "again"));
    lines.push(usage(7, (400, 80, 20)));
    let store = folded(&rollout(A, &lines));
    assert_eq!((total(&store).calls, session(&store, A).prompts), (3, 2));
    assert!(rows::<UserTurn>(&store).iter().any(|turn| &*turn.class == "interruption"));
}

/// Traps 6 and 19: a command may be a list, and that it failed may be told in another record, before or after.
#[test]
fn trap_06_and_19_a_failed_command_is_an_error_in_any_order() {
    let call = line(
        5,
        "response_item",
        r#""type":"local_shell_call","call_id":"c1","action":{"command":["bash","-lc","false"]}"#,
    );
    let arguments = line(
        5,
        "response_item",
        r#""type":"function_call","name":"shell","call_id":"c2","arguments":"{\"command\":[\"ls\"]}""#,
    );
    let end =
        line(6, "event_msg", r#""type":"exec_command_end","call_id":"c1","command":["bash"],"exit_code":1"#);
    let output = line(7, "response_item", r#""type":"function_call_output","call_id":"c1","output":"four""#);
    let records = rollout(A, &[call, arguments, end, output]);
    let mut backwards = records.clone();
    backwards.reverse();
    let store = folded(&records);
    let tools: Vec<ToolUse> = rows(&store);
    assert_eq!(
        (tools[0].is_error, tools[0].result_bytes, tools[0].tool.as_deref()),
        (Some(true), Some(4), Some("local_shell"))
    );
    assert_eq!((tools[1].is_error, tools[1].tool.as_deref()), (None, Some("shell")));
    let session = session(&store, A);
    assert_eq!((session.tool_uses, session.tool_errors), (2, 1));
    assert_eq!(expected_dump(&backwards), expected_dump(&records));
}

#[test]
fn what_a_tool_says_of_itself_is_an_error_too() {
    let tool = |id: &str| {
        line(
            1,
            "response_item",
            &format!(
                r#""type":"custom_tool_call","call_id":"{id}","name":"apply_patch","input":"*** Begin Patch\n*** Update File: src/a.rs\n@@""#
            ),
        )
    };
    let output = |id: &str, output: &str| {
        line(
            2,
            "response_item",
            &format!(r#""type":"custom_tool_call_output","call_id":"{id}","output":{output}"#),
        )
    };
    let lines = [
        tool("a"),
        output("a", r#""Exit code: 1\nWall time: 0\nOutput:\nno""#),
        tool("b"),
        output("b", r#"{"content":"fine","success":true}"#),
        tool("c"),
        output("c", r#"[{"type":"input_text","text":"abc"},{"type":"input_image"}]"#),
        tool("d"),
        line(3, "event_msg", r#""type":"mcp_tool_call_end","call_id":"d","result":{"Ok":{"isError":true}}"#),
        line(3, "event_msg", r#""type":"patch_apply_end","call_id":"b","success":false"#),
    ];
    let tools: Vec<ToolUse> = rows(&folded(&rollout(A, &lines)));
    let seen: Vec<_> = tools.iter().map(|tool| (tool.is_error, tool.result_bytes)).collect();
    assert_eq!(
        seen,
        [(Some(true), Some(36)), (Some(true), Some(4)), (Some(false), Some(3)), (Some(true), None)]
    );
    assert_eq!(tools[0].target.as_deref(), Some("src/a.rs"));
}

/// Boilerplate is no prompt; a prompt stands in the file twice and counts once; older files have the item alone.
#[test]
fn what_stands_in_the_place_of_the_user_is_told_apart() {
    let item = |second, text: &str| {
        line(
            second,
            "response_item",
            &format!(r#""type":"message","role":"user","content":[{{"type":"input_text","text":"{text}"}}]"#),
        )
    };
    let mut lines = vec![
        meta(0, A, ""),
        item(1, "<environment_context>\\n<cwd>/x</cwd>"),
        item(1, "# AGENTS.md instructions for /x"),
        item(2, "hello"),
        prompt(2, "hello"),
    ];
    let classes = |lines: &[String]| {
        let store = folded(&rollout(A, lines));
        let mut classes: Vec<_> =
            rows::<UserTurn>(&store).iter().map(|turn| turn.class.to_string()).collect();
        classes.sort();
        classes
    };
    assert_eq!(classes(&lines), ["meta", "meta", "prompt"]);
    lines.pop();
    assert_eq!(classes(&lines), ["meta", "meta", "prompt"]);
}

/// The event says that a person sent it; the item before it has the blocks.
#[test]
fn a_prompt_is_where_its_blocks_are() {
    let item = line(
        2,
        "response_item",
        r#""type":"message","role":"user","content":[{"type":"input_text","text":"hello"}]"#,
    );
    let lines = [meta(0, A, ""), item, prompt(2, "hello"), prompt(3, "alone")];
    let records = rollout(A, &lines);
    let batch = batch(&records);
    let mut places: Vec<_> = rows::<UserTurn>(&folded(&records)).iter().map(|turn| turn.place).collect();
    places.sort_unstable();
    let mut expected = [batch.event(1).address, batch.event(3).address];
    expected.sort_unstable();
    assert_eq!(places, expected);
}

/// Trap 8: what a fork copied is measured, also where only the history itself tells that there was a copy.
#[test]
fn trap_08_copied_history_of_a_rollout_is_measured() {
    let tool = |second, call: &str| {
        line(second, "response_item", &format!(r#""type":"function_call","name":"x","call_id":"{call}""#))
    };
    let parent = [meta(0, A, ""), tool(1, "c1"), tool(2, "c2"), tool(9, "c3")];
    for (rest, kind) in [(format!(r#","forked_from_id":"{A}""#), "fork"), (String::new(), "copy")] {
        let child = [meta(50, B, &rest), meta(50, A, ""), tool(50, "c1"), tool(50, "c2"), tool(60, "c9")];
        let store = folded(&[rollout(A, &parent), rollout(B, &child)].concat());
        let found = relationships(&store, "codex", B).unwrap();
        assert_eq!(found.links.len(), 1, "{:?}", found.links);
        let link = &found.links[0];
        assert_eq!((&*link.kind, link.from_session.as_deref(), &*found.root), (kind, Some(A), A));
        assert_eq!(link.copied.map(|copied| (copied.records, copied.end.seq)), Some((2, 3)));
    }
}

/// Trap 11: the file was written anew with a line before all others; nothing counts twice.
#[test]
fn trap_11_a_rewritten_rollout_counts_once() {
    let lines = plain_session();
    let mut longer = lines.clone();
    longer.insert(0, line(0, "event_msg", r#""type":"warning","message":"x""#));
    let store = folded(&[rollout(A, &lines), rollout(A, &longer)].concat());
    assert_eq!((total(&store).calls, total(&store).output_tokens), (2, Tokens(15)));
    assert_eq!(session(&store, A).prompts, 1);
}

/// Traps 9, 10 and 28: odd names, equal numbers in different sessions, clocks that are wrong, and lines without an instant.
#[test]
fn trap_09_10_and_28_odd_names_and_clocks_stop_nothing() {
    let long = "x".repeat(300);
    let mut records = Vec::new();
    for stream in ["", "a b/c", "rollout-ä", &long, &format!("rollout-2026-01-01T00-00-00-{A}")] {
        for (seq, line) in (0..).zip([usage(1, (5, 0, 1)), usage(2, (9, 0, 2)).replace("2026-", "1969-")]) {
            let (stream, payload) = (stream.to_owned(), line.into_bytes());
            records.push(Record { kind: Kind::Line, source: "codex", stream, seq, part: None, payload });
        }
        let payload = usage(3, (10, 0, 3)).replace("\"timestamp\"", "\"when\"").into_bytes();
        let stream = stream.to_owned();
        records.push(Record { kind: Kind::Line, source: "codex", stream, seq: 2, part: None, payload });
    }
    let store = folded(&records);
    assert_eq!((total(&store).calls, total(&store).output_tokens), (15, Tokens(15)));
    assert!(
        rows::<Call>(&store).iter().any(|call| call.timestamp < Timestamp::parse("1970-01-01T00:00:00Z"))
    );
}

/// Trap 26, and an unknown type is counted under the version of its session, whenever that becomes known.
#[test]
fn trap_26_odd_bytes_and_unknown_types_are_counted() {
    let mut records = rollout(
        A,
        &[
            line(1, "event_msg", r#""type":"from_the_future""#),
            line(2, "tomorrow", ""),
            "\u{0}\u{0}".to_owned(),
            "[]".to_owned(),
            "{\"type\":\"event_msg\",\"payload\":{\"type\":\"token_count\",\"info\":{\"total_token_usage\":{\"input_tokens\":9007199254740993,\"output_tokens\":1,\"output_tokens\":2}}}}".to_owned(),
            "{\"type\":\"response_item\",\"payload\":{\"type\":\"message\",\"role\":\"user\",\"content\":[{\"text\":\"\\ud800\"}]}}".to_owned(),
        ],
    );
    records.push(record(A, 6, ""));
    records.last_mut().unwrap().payload =
        b"{\"type\":\"compacted\",\"payload\":{\"message\":\"\xff\"}}".to_vec();
    let (ledger, mut store) = (ledger(), MemoryProjections::new());
    append(&ledger, 1, &records);
    catch_up(&mut store, &ledger);
    append(&ledger, 1, &[record(A, 0, &meta(0, A, ""))]);
    catch_up(&mut store, &ledger);
    let rows_of = diagnostics(&store).unwrap();
    let unknown: Vec<_> = rows_of
        .iter()
        .filter(|row| row.unknown != 0)
        .map(|row| (row.version.to_string(), row.record_type.to_string(), row.unknown))
        .collect();
    let told = |version: &str, kind: &str| (version.to_owned(), kind.to_owned(), 1);
    assert_eq!(
        unknown,
        [told("0.142.0", ""), told("0.142.0", "event_msg/from_the_future"), told("0.142.0", "tomorrow")]
    );
    let counted: i64 = rows_of.iter().map(|row| row.understood + row.unknown + row.unreadable).sum();
    assert_eq!(counted, 8);
    assert_eq!(
        (total(&store).input_tokens, total(&store).output_tokens),
        (Tokens(9_007_199_254_740_993), Tokens(2))
    );
    assert_eq!(rows::<Compaction>(&store).len(), 1);
}

#[test]
fn errors_that_the_program_reports_are_notices() {
    let lines = [
        meta(0, A, ""),
        line(1, "event_msg", r#""type":"error","message":"usage limit","codex_error_info":"x""#),
    ];
    let store = folded(&rollout(A, &lines));
    assert_eq!(rows::<Notice>(&store)[0].error.as_deref(), Some("usage limit"));
    assert_eq!(session(&store, A).notices, 1);
}

/// Made-up rollouts: a session, a fork of it and another one, resets, repeats, two versions of a record, odd lines.
pub(crate) fn made_up(seed: u64, lines: u32) -> Vec<Record> {
    let mut random = Random(seed);
    let mut records = Vec::new();
    for second in 0..lines {
        let (id, turn_id) = [(A, TURN_OF_A), (B, TURN_OF_B), (C, TURN_OF_C)][random.below(3) as usize];
        let (small, call) = (random.below(4) as i64, format!("c{}", random.below(5)));
        let payload = match random.below(14) {
            0..4 => usage(second, (100 * small, 10 * small, small + random.below(2) as i64)),
            4 => turn(second, turn_id, ["m1", "m2"][random.below(2) as usize]),
            5 => turn(second, TURN_OF_A, "m1"),
            6 => meta(
                second,
                id,
                if id == B { r#","forked_from_id":"019b0000-0000-7000-8000-00000000000a""# } else { "" },
            ),
            7 => meta(second, A, ""),
            8 => prompt(second, &"x".repeat(small as usize)),
            9 => line(second, "compacted", r#""message":"""#),
            10 => line(
                second,
                "event_msg",
                &format!(r#""type":"exec_command_end","call_id":"{call}","exit_code":{small}"#),
            ),
            11 => line(
                second,
                "response_item",
                &format!(r#""type":"function_call","name":"x","call_id":"{call}""#),
            ),
            12 => line(second, "event_msg", r#""type":"error","message":"limit""#),
            _ => line(second, "what", ""),
        };
        let seq = random.below(40);
        if random.below(3) == 0 {
            records.push(record(B, random.below(40), &payload));
        }
        records.push(record(id, seq, &payload));
    }
    records
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Laws 1 to 4 for a source whose calls depend on the lines before them.
    #[test]
    fn a_dump_depends_on_the_lines_alone(seed: u64, lines in 1u32..80, feeds in 1u8..4, piece in 1usize..40) {
        converges(&made_up(seed, lines), seed, feeds, piece)?;
    }
}
