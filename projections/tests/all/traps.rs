//! The traps that readers of these files have fallen into, one test each, with small made-up lines.

use burnlog_log::Timestamp;
use burnlog_projections::conformance::build::{
    Record, answer, append, begun, catch_up, folded, instant, ledger, line, prompt, session_line,
    tool_result, tool_use,
};
use burnlog_projections::{
    Call, CallSession, Compaction, Diagnostic, Filter, MemoryProjections, Notice, PageRequest, Queries, Row,
    RowReader, Session, Stream, Tokens, ToolUse, Usage, UserTurn, diagnostics, live,
};

fn rows<R: Row>(store: &MemoryProjections) -> Vec<R> {
    let rows = store.scan(live(store).unwrap(), R::TABLE, None, usize::MAX).unwrap();
    rows.into_iter().map(|row| R::read(row).unwrap()).collect()
}

fn only<R: Row>(store: &MemoryProjections) -> R {
    let mut rows = rows(store);
    assert_eq!(rows.len(), 1);
    rows.remove(0)
}

fn lines(session: &str, payloads: &[String]) -> Vec<Record> {
    payloads.iter().enumerate().map(|(seq, payload)| line(session, seq as u64, payload.as_str())).collect()
}

fn total(store: &MemoryProjections) -> Usage {
    store.usage(&Filter::default(), &[]).unwrap()[0].usage
}

#[test]
fn one_call_in_several_lines_is_counted_once_by_its_last_line() {
    let payloads = [
        answer("s", 1, "m1", 2, None),
        answer("s", 2, "m1", 2, None),
        answer("s", 3, "m1", 80, Some("end_turn")),
    ];
    let store = folded(&lines("s", &payloads));
    let call: Call = only(&store);
    assert_eq!((call.output_tokens, call.complete), (Some(Tokens(80)), true));
    assert_eq!(call.timestamp, Timestamp::parse(&instant(1)));
    assert_eq!(call.kept_at, Timestamp::parse(&instant(3)));
    let usage = total(&store);
    assert_eq!((usage.calls, usage.incomplete_calls), (1, 0));
    assert_eq!((usage.input_tokens, usage.output_tokens), (Tokens(3), Tokens(80)));
    assert_eq!((usage.cache_write_5m_tokens, usage.cache_write_1h_tokens), (Tokens(5), Tokens(2)));
}

/// Trap 2: a call that was interrupted never gets its last line; what comes behind it counts, now and in later ingests.
#[test]
fn trap_02_an_interrupted_call_hides_nothing() {
    let payloads = [
        answer("s", 1, "m1", 2, None),
        prompt("s", 2, "[Request interrupted by user]"),
        prompt("s", 3, "again"),
        answer("s", 4, "m2", 7, Some("end_turn")),
    ];
    let (ledger, mut store) = (ledger(), MemoryProjections::new());
    for record in lines("s", &payloads) {
        append(&ledger, 1, &[record]);
        catch_up(&mut store, &ledger);
    }
    let usage = total(&store);
    assert_eq!((usage.calls, usage.incomplete_calls, usage.output_tokens), (2, 1, Tokens(9)));
    assert_eq!(only::<Session>(&store).prompts, 1);
}

/// Trap 3.
#[test]
fn trap_03_a_stop_reason_that_is_null_everywhere_still_makes_calls() {
    let payloads: Vec<String> =
        (0..4).map(|number| answer("s", number, &format!("m{number}"), 10 + number, None)).collect();
    let usage = total(&folded(&lines("s", &payloads)));
    assert_eq!((usage.calls, usage.incomplete_calls, usage.output_tokens), (4, 4, Tokens(46)));
}

/// Trap 4.
#[test]
fn trap_04_a_call_split_over_two_ingests_is_one_call() {
    let payloads = [answer("s", 1, "m1", 2, None), answer("s", 2, "m1", 80, Some("end_turn"))];
    let (ledger, records) = (ledger(), lines("s", &payloads));
    let mut store = MemoryProjections::new();
    for record in &records {
        append(&ledger, 1, std::slice::from_ref(record));
        catch_up(&mut store, &ledger);
    }
    assert_eq!((total(&store).calls, total(&store).output_tokens), (1, Tokens(80)));
    assert_eq!(total(&store).incomplete_calls, 0);
}

/// Trap 5: the file is read again from its beginning, by the same host or another.
#[test]
fn trap_05_a_stream_read_again_changes_nothing() {
    let records =
        lines("s", &[answer("s", 1, "m1", 2, None), prompt("s", 2, "go on"), tool_use("s", 3, "m2", "t1")]);
    let ledger = ledger();
    let mut store = MemoryProjections::new();
    append(&ledger, 1, &records[..2]);
    catch_up(&mut store, &ledger);
    append(&ledger, 1, &records);
    append(&ledger, 2, &records);
    catch_up(&mut store, &ledger);
    assert_eq!(total(&store).calls, 2);
    assert_eq!(rows::<Diagnostic>(&store).iter().map(|row| row.understood).sum::<i64>(), 3);
    assert_eq!(only::<Session>(&store).prompts, 1);
}

/// Trap 6.
#[test]
fn trap_06_an_error_that_comes_in_a_later_ingest_finds_its_tool_use() {
    let ledger = ledger();
    let mut store = MemoryProjections::new();
    append(&ledger, 1, &[line("s", 0, tool_use("s", 1, "m1", "t1"))]);
    catch_up(&mut store, &ledger);
    assert_eq!(only::<ToolUse>(&store).is_error, None);
    append(&ledger, 2, &[line("s", 1, tool_result("s", 90_000, "t1", true))]);
    catch_up(&mut store, &ledger);
    let tool: ToolUse = only(&store);
    assert_eq!((tool.is_error, tool.result_bytes), (Some(true), Some(4)));
    assert_eq!((tool.tool.as_deref(), tool.target.as_deref()), (Some("Edit"), Some("/work/demo/a.rs")));
    let session: Session = only(&store);
    assert_eq!((session.tool_uses, session.tool_errors), (1, 1));
}

/// Trap 21: a result that is an error and nothing else.
#[test]
fn trap_21_an_error_without_output_is_an_error() {
    let result =
        r#""message":{"role":"user","content":[{"type":"tool_result","tool_use_id":"t1","is_error":true}]}"#;
    let payloads = [tool_use("s", 1, "m1", "t1"), session_line("user", "s", 2, result)];
    let store = folded(&lines("s", &payloads));
    let tool: ToolUse = only(&store);
    assert_eq!((tool.is_error, tool.result_bytes), (Some(true), Some(0)));
    assert_eq!(only::<Session>(&store).tool_errors, 1);
}

#[test]
fn a_result_may_come_before_its_tool_use() {
    let ledger = ledger();
    let mut store = MemoryProjections::new();
    for payload in [tool_result("s", 5, "t1", false), tool_use("s", 1, "m1", "t1")] {
        append(&ledger, 1, &[line("s", payload.len() as u64, payload)]);
        catch_up(&mut store, &ledger);
    }
    let tool: ToolUse = only(&store);
    assert_eq!((tool.is_error, tool.call.as_deref()), (Some(false), Some("m1")));
}

/// Trap 8, the copy rewrites the session id: the order is by time, then by session.
#[test]
fn trap_08_a_fork_that_rewrites_the_session_id_shares_its_calls() {
    let mut records = lines("b", &[answer("b", 1, "m1", 5, Some("end_turn"))]);
    records.extend(lines(
        "a",
        &[answer("a", 1, "m1", 5, Some("end_turn")), answer("a", 9, "m2", 7, Some("end_turn"))],
    ));
    let store = folded(&records);
    assert_eq!(total(&store).calls, 2);
    let calls: Vec<Call> = rows(&store);
    assert_eq!(&*calls[0].session, "a", "of the same instant the smaller session is the home");
    let shared: CallSession = only(&store);
    assert_eq!((&*shared.call, &*shared.session), ("m1", "b"));
    let sessions: Vec<Session> = rows(&store);
    assert_eq!(sessions.iter().map(|s| (s.calls, s.copied_calls)).collect::<Vec<_>>(), [(2, 0), (0, 1)]);
    let page = PageRequest { after: None, limit: 9 };
    let of_fork = Filter { session: Some("b".to_owned()), ..Filter::default() };
    assert_eq!(store.turns(&of_fork, &page).unwrap().items.len(), 1, "the session lists what it contains");
}

/// A chain of files, each begun at a second of its own with the history of the one before it, whose session id is rewritten.
fn chain_of_copies() -> Vec<Record> {
    let mut records = Vec::new();
    let mut history: Vec<String> = Vec::new();
    // The names say nothing: neither the first nor the last session has the smallest.
    for (began, session) in [(100, "c"), (200, "a"), (300, "b")] {
        let copied = history.iter().map(|payload| in_session(payload, session));
        let own = [
            prompt(session, began - 1, "what now?"),
            tool_use(session, began + 1, &format!("m{began}"), &format!("t{began}")),
            tool_result(session, began + 2, &format!("t{began}"), true),
        ];
        let first = [r#"{"type":"mode"}"#.to_owned(), begun(session, began), begun(session, began)];
        let payloads: Vec<String> = first.into_iter().chain(copied).chain(own.clone()).collect();
        records.extend(lines(session, &payloads));
        history.extend(own);
    }
    records
}

/// A record as a copy in another session's file has it, with another folder and branch.
fn in_session(payload: &str, session: &str) -> String {
    let mut value: serde_json::Value = serde_json::from_str(payload).unwrap();
    for (field, new) in [("sessionId", session), ("cwd", "/work/other"), ("gitBranch", "topic")] {
        value[field] = new.into();
    }
    value.to_string()
}

/// Trap 8, the copy rewrites the session id and says when it was made: what is older is not its own.
#[test]
fn trap_08_what_is_older_than_its_file_is_a_copy() {
    let mut records = chain_of_copies();
    for turn in 0..2 {
        let store = folded(&records);
        let sessions: Vec<Session> = rows(&store);
        let counts = sessions.iter().map(|row| {
            let uses = (row.tool_uses, row.tool_errors);
            (&*row.session, row.calls, row.copied_calls, row.prompts, uses, row.first_at)
        });
        let at = |second: u32| Timestamp::parse(&instant(second));
        let expected = [
            ("a", 1, 1, 1, (1, 1), at(199)),
            ("b", 1, 2, 1, (1, 1), at(299)),
            ("c", 1, 0, 1, (1, 1), at(99)),
        ];
        assert_eq!(counts.collect::<Vec<_>>(), expected, "turn {turn}");
        let calls: Vec<Call> = rows(&store);
        let homes = calls.iter().map(|call| (&*call.session, call.copied, call.cwd.as_deref().unwrap()));
        let folder = "/work/demo";
        let expected = [("c", false, folder), ("a", false, folder), ("b", false, folder)];
        assert_eq!(homes.collect::<Vec<_>>(), expected);
        // As the records of a file never come; what is told by those in front is told then.
        records.reverse();
    }
}

/// Trap 8: of a history whose own file was never recorded the first copy stands in for it.
#[test]
fn trap_08_a_copy_without_its_original_is_still_told() {
    let mut records = chain_of_copies();
    records.retain(|record| record.stream != "c");
    let calls: Vec<Call> = rows(&folded(&records));
    let homes: Vec<_> = calls.iter().map(|call| (&*call.call, &*call.session, call.copied)).collect();
    assert_eq!(homes, [("m100", "a", true), ("m200", "a", false), ("m300", "b", false)]);
}

/// Trap 8, the copy keeps the session id: the file that it stands in is not its home.
#[test]
fn trap_08_a_fork_that_keeps_the_session_id_is_a_copy() {
    for (copy, original) in [("a", "z"), ("z", "a")] {
        let mut records = lines(copy, &[answer(original, 1, "m1", 5, Some("end_turn"))]);
        records.extend(lines(original, &[answer(original, 1, "m1", 5, Some("end_turn"))]));
        let call: Call = only(&folded(&records));
        assert_eq!((&*call.session, call.copied), (original, false));
        let alone: Call = only(&folded(&records[..1]));
        assert_eq!((&*alone.session, alone.copied), (copy, true));
    }
}

#[test]
fn a_home_that_turns_up_later_takes_the_call_over() {
    let ledger = ledger();
    let mut store = MemoryProjections::new();
    append(&ledger, 1, &lines("z", &[answer("z", 5, "m1", 5, Some("end_turn"))]));
    catch_up(&mut store, &ledger);
    append(&ledger, 2, &lines("a", &[answer("a", 1, "m1", 5, Some("end_turn"))]));
    catch_up(&mut store, &ledger);
    let sessions: Vec<Session> = rows(&store);
    let counts: Vec<_> =
        sessions.iter().map(|s| (&*s.session, s.calls, s.copied_calls, s.output_tokens)).collect();
    assert_eq!(counts, [("a", 1, 0, 5), ("z", 0, 1, 0)]);
}

/// Trap 9.
#[test]
fn trap_09_calls_and_notices_that_look_alike_stay_apart() {
    let notice = |second: u32| {
        session_line(
            "assistant",
            "s",
            second,
            r#""error":"rate_limit","apiErrorStatus":429,"message":{"id":"same","model":"<synthetic>","usage":{"output_tokens":0}}"#,
        )
    };
    let payloads = [
        notice(1),
        notice(2),
        answer("s", 3, "m1", 5, Some("end_turn")),
        answer("s", 3, "m2", 5, Some("end_turn")),
    ];
    let store = folded(&lines("s", &payloads));
    assert_eq!(total(&store).calls, 2);
    let notices: Vec<Notice> = rows(&store);
    assert_eq!(
        (notices.len(), notices[0].error.as_deref(), notices[0].status),
        (2, Some("rate_limit"), Some(429))
    );
    assert_eq!(rows::<Session>(&store)[0].notices, 2);
}

/// Trap 10.
#[test]
fn trap_10_odd_session_ids_stop_nothing() {
    let long = "x".repeat(300);
    let mut records = Vec::new();
    for (number, name) in ["", "a b", "\u{0}nul", "ünï", long.as_str(), "'; --"].iter().enumerate() {
        let payload = r#"{"type":"assistant","message":{"id":"ID","usage":{"output_tokens":1}}}"#;
        records.push(line(name, 0, payload.replace("ID", &format!("m{number}"))));
    }
    let store = folded(&records);
    assert_eq!(total(&store).calls, 6);
    assert_eq!(rows::<Stream>(&store).len(), 6);
    assert_eq!(burnlog_projections::records(&store, "claude-code", &long, 0..1).unwrap().len(), 1);
}

/// Trap 11: the file was rewritten; both versions of a record are kept, and what they say is counted by its identity.
#[test]
fn trap_11_both_versions_of_a_rewritten_record_are_kept() {
    let mut records = lines("s", &[answer("s", 1, "m1", 5, Some("end_turn")), prompt("s", 2, "old")]);
    records.extend(lines("s", &[prompt("s", 9, "before all"), answer("s", 1, "m1", 5, Some("end_turn"))]));
    let store = folded(&records);
    assert_eq!(burnlog_projections::records(&store, "claude-code", "s", 0..2).unwrap().len(), 4);
    assert_eq!(total(&store).calls, 1);
    assert_eq!(only::<Stream>(&store).records, 2);
}

/// Trap 12, both layouts come with the same stream name.
#[test]
fn trap_12_calls_of_subagent_files_belong_to_their_session() {
    let mut records = lines("s", &[answer("s", 1, "m1", 5, Some("end_turn"))]);
    records.extend(lines("s/subagents/agent-a1", &[prompt("s", 2, "do it"), answer("s", 3, "m2", 6, None)]));
    let meta = line("s/subagents/agent-a1.meta", 0, r#"{"agentType":"explore"}"#);
    records.push(meta);
    let store = folded(&records);
    let calls: Vec<Call> = rows(&store);
    assert_eq!((calls.len(), &*calls[1].session, calls[1].agent.as_deref()), (2, "s", Some("a1")));
    assert!(calls[1].sidechain && !calls[1].copied);
    let session: Session = only(&store);
    assert_eq!((session.calls, session.streams, session.prompts), (2, 3, 0));
    assert_eq!(&*only::<UserTurn>(&store).class, "delegated");
    assert!(diagnostics(&store).unwrap().iter().all(|row| row.unknown == 0));
}

/// Trap 12: calls that exist in progress lines alone.
#[test]
fn trap_12_calls_inside_progress_lines_are_calls() {
    let inner = |kind: &str, message: &str| {
        let at = instant(7);
        session_line(
            "progress",
            "s",
            8,
            &format!(
                r#""data":{{"type":"agent_progress","agentId":"a7","message":{{"type":"{kind}","timestamp":"{at}","requestId":"r","message":{message}}}}}"#
            ),
        )
    };
    let use_message = r#"{"id":"m9","model":"model-b","content":[{"type":"tool_use","id":"t9","name":"Read","input":{"file_path":"/a"}}],"usage":{"input_tokens":1,"output_tokens":4}}"#;
    let result = r#"{"role":"user","content":[{"type":"tool_result","tool_use_id":"t9","content":[{"type":"text","text":"abc"}],"is_error":true}]}"#;
    let other = session_line("progress", "s", 9, r#""data":{"type":"bash_progress","output":"x"}"#);
    let store = folded(&lines("s", &[inner("assistant", use_message), inner("user", result), other]));
    let call: Call = only(&store);
    assert_eq!(
        (call.agent.as_deref(), call.sidechain, call.output_tokens),
        (Some("a7"), true, Some(Tokens(4)))
    );
    assert_eq!(call.timestamp, Timestamp::parse(&instant(7)));
    let tool: ToolUse = only(&store);
    assert_eq!((tool.is_error, tool.result_bytes), (Some(true), Some(3)));
    assert_eq!(rows::<UserTurn>(&store), []);
}

/// Trap 26.
#[test]
fn trap_26_odd_bytes_are_counted_and_what_is_understood_is_taken() {
    let two_megabytes = prompt("s", 1, &"x".repeat(2 << 20));
    let payloads: Vec<Vec<u8>> = vec![
        vec![0; 4096],
        b"{\"type\":\"user\"".to_vec(),
        b"{\"type\":\"user\"}{\"type\":\"user\"}".to_vec(),
        b"".to_vec(),
        b"\r".to_vec(),
        two_megabytes.into_bytes(),
        b"{\"type\":\"assistant\",\"x\":\"\xff\xfe\",\"message\":{\"id\":\"bytes\",\"usage\":{\"output_tokens\":1}}}".to_vec(),
        br#"{"type":"assistant","gitBranch":"\ud800x","message":{"id":"surrogate","usage":{"output_tokens":1}}}"#.to_vec(),
        br#"{"type":"assistant","type":"assistant","message":{"id":"first"},"message":{"id":"twice","usage":{"output_tokens":1,"output_tokens":2}}}"#.to_vec(),
        br#"{"type":"assistant","message":{"id":"huge","usage":{"input_tokens":1e999,"output_tokens":9007199254740993}}}"#.to_vec(),
        br#"{"type":"assistant","message":{"id":"wrong","model":5,"content":"text","usage":{"input_tokens":"many","output_tokens":3,"cache_creation":[]}}}"#.to_vec(),
        br#"{"type":"assistant","message":"none"}"#.to_vec(),
        format!("{{\"type\":\"user\",\"deep\":{}{}}}", "[".repeat(5000), "]".repeat(5000)).into_bytes(),
        b"[1,2]".to_vec(),
    ];
    let records: Vec<Record> =
        payloads.into_iter().enumerate().map(|(seq, payload)| line("s", seq as u64, payload)).collect();
    let store = folded(&records);
    let counts = diagnostics(&store).unwrap();
    let sum = |count: fn(&Diagnostic) -> i64| counts.iter().map(count).sum::<i64>();
    assert_eq!((sum(|row| row.unreadable), sum(|row| row.unknown)), (3, 1));
    assert_eq!(sum(|row| row.understood), 10);
    let calls: Vec<Call> = rows(&store);
    let call = |name: &str| calls.iter().find(|call| call.call == name).unwrap();
    assert_eq!(calls.len(), 5);
    assert_eq!(call("surrogate").branch.as_deref(), Some("\u{fffd}x"));
    assert_eq!(call("twice").output_tokens, Some(Tokens(2)));
    assert_eq!(call("huge").output_tokens, Some(Tokens(9_007_199_254_740_993)));
    assert_eq!((call("huge").input_tokens, call("huge").clamped), (Some(Tokens(i64::MAX)), true));
    assert_eq!((call("wrong").input_tokens, call("wrong").output_tokens), (None, Some(Tokens(3))));
    assert_eq!(call("bytes").output_tokens, Some(Tokens(1)));
}

/// Trap 28.
#[test]
fn trap_28_clocks_that_are_wrong_are_taken_at_their_word() {
    let at = |instant: &str, id: &str| {
        format!(
            r#"{{"type":"assistant","timestamp":"{instant}","message":{{"id":"{id}","usage":{{"output_tokens":1}}}}}}"#
        )
    };
    let payloads = [
        at("1969-12-31T23:59:59Z", "before"),
        at("2099-01-01T00:00:00+02:00", "after"),
        at("yesterday", "never"),
        at("2026-02-12T09:37:40.665Z", "now"),
    ];
    let store = folded(&lines("s", &payloads));
    let days = store.usage(&Filter::default(), &[burnlog_projections::UsageBy::Day]).unwrap();
    let days: Vec<_> = days.into_iter().map(|group| (group.key[0].clone(), group.usage.calls)).collect();
    let expected = [("", 1), ("1969-12-31", 1), ("2026-02-12", 1), ("2098-12-31", 1)];
    assert_eq!(days, expected.map(|(day, calls)| (day.to_owned(), calls)));
}

#[test]
fn usage_may_stand_on_one_line_alone_and_absent_is_not_zero() {
    let bare = |second: u32, stop: &str| {
        session_line(
            "assistant",
            "s",
            second,
            &format!(r#""message":{{"id":"m1","model":"model-a","stop_reason":{stop}}}"#),
        )
    };
    let with_usage = session_line(
        "assistant",
        "s",
        2,
        r#""message":{"id":"m1","model":"model-a","usage":{"output_tokens":6}}"#,
    );
    let call: Call = only(&folded(&lines("s", &[bare(1, "null"), with_usage, bare(3, "\"end_turn\"")])));
    assert_eq!(
        (call.output_tokens, call.input_tokens, call.cache_write_1h_tokens),
        (Some(Tokens(6)), None, None)
    );
}

#[test]
fn tokens_written_to_a_cache_are_for_five_minutes_where_the_split_is_missing() {
    let call = |usage: &str| -> Call {
        let message = format!(r#""message":{{"id":"m1","usage":{usage}}}"#);
        only(&folded(&lines("s", &[session_line("assistant", "s", 1, &message)])))
    };
    let total = call(r#"{"cache_creation_input_tokens":9}"#);
    assert_eq!((total.cache_write_5m_tokens, total.cache_write_1h_tokens), (Some(Tokens(9)), None));
    let split = call(r#"{"cache_creation_input_tokens":9,"cache_creation":{"ephemeral_1h_input_tokens":9}}"#);
    assert_eq!((split.cache_write_5m_tokens, split.cache_write_1h_tokens), (None, Some(Tokens(9))));
}

#[test]
fn what_stands_in_the_place_of_the_user_is_told_by_purpose_and_shape() {
    let typed = |second: u32, text: &str, more: &str| {
        let text = serde_json::to_string(text).unwrap();
        session_line("user", "s", second, &format!(r#"{more}"message":{{"role":"user","content":{text}}}"#))
    };
    let command = "<command-name>/clear</command-name>\n<command-message>clear</command-message>\n<command-args></command-args>";
    let notification = "<task-notification>\n<task-id>x</task-id>\n</task-notification>";
    let payloads = [
        typed(0, "what now?", ""),
        typed(1, command, ""),
        typed(2, command, r#""origin":{"kind":"human"},"#),
        typed(3, "<local-command-stdout>done</local-command-stdout>", ""),
        typed(4, notification, ""),
        typed(5, "Caveat: …", r#""isMeta":true,"#),
        typed(6, "This session is being continued", r#""isCompactSummary":true,"#),
        typed(7, "[Request interrupted by user]", ""),
        typed(8, "<command-name> is a tag, is it?", ""),
        session_line(
            "user",
            "s",
            9,
            r#""message":{"role":"user","content":[{"type":"image","source":{}},{"type":"text","text":"see"}]}"#,
        ),
        tool_result("s", 10, "t1", false),
    ];
    let store = folded(&lines("s", &payloads));
    let mut turns: Vec<UserTurn> = rows(&store);
    turns.sort_by_key(|turn| turn.timestamp);
    let classes: Vec<&str> = turns.iter().map(|turn| &*turn.class).collect();
    let expected = [
        "prompt",
        "command",
        "prompt",
        "command_output",
        "notification",
        "meta",
        "compact_summary",
        "interruption",
        "prompt",
        "prompt",
    ];
    assert_eq!(classes, expected);
    assert_eq!((turns[9].images, turns[9].characters, turns[0].characters), (1, 3, 9));
    assert_eq!(only::<Session>(&store).prompts, 4);
}

/// A prompt that waited while the agent worked stands in an attachment alone.
#[test]
fn a_prompt_that_waited_is_a_turn() {
    let queued = |second: u32, rest: &str| {
        session_line(
            "attachment",
            "s",
            second,
            &format!(r#""attachment":{{"type":"queued_command",{rest}}}"#),
        )
    };
    let payloads = [
        prompt("s", 1, "begin"),
        r#"{"type":"queue-operation","operation":"enqueue","sessionId":"s","content":"and the tests"}"#
            .to_owned(),
        queued(2, r#""prompt":"and the tests","commandMode":"prompt","origin":{"kind":"human"}"#),
        queued(
            3,
            r#""prompt":"<task-notification>\n<task-id>a</task-id>\n</task-notification>","commandMode":"task-notification""#,
        ),
        queued(
            4,
            r#""prompt":[{"type":"text","text":"look"},{"type":"image","source":{}}],"commandMode":"prompt""#,
        ),
        session_line("attachment", "s", 5, r#""attachment":{"type":"todo","content":[]}"#),
    ];
    let store = folded(&lines("s", &payloads));
    let turns: Vec<UserTurn> = rows(&store);
    let mut turns: Vec<_> =
        turns.iter().map(|turn| (turn.timestamp, &*turn.class, turn.characters, turn.images)).collect();
    turns.sort_unstable();
    let turns: Vec<_> =
        turns.into_iter().map(|(_, class, characters, images)| (class, characters, images)).collect();
    assert_eq!(turns, [("prompt", 5, 0), ("prompt", 13, 0), ("notification", 61, 0), ("prompt", 4, 1)]);
    assert_eq!(only::<Session>(&store).prompts, 3);
    assert!(diagnostics(&store).unwrap().iter().all(|row| row.unknown == 0));
}

#[test]
fn compactions_and_titles_are_kept() {
    let boundary = session_line(
        "system",
        "s",
        4,
        r#""subtype":"compact_boundary","compactMetadata":{"trigger":"manual","preTokens":297190}"#,
    );
    let title = |kind: &str, key: &str, text: &str| {
        format!(r#"{{"type":"{kind}","{key}":"{text}","sessionId":"s"}}"#)
    };
    let payloads = [
        title("custom-title", "customTitle", "first"),
        title("custom-title", "customTitle", "second"),
        title("summary", "summary", "weaker"),
        boundary,
    ];
    let store = folded(&lines("s", &payloads));
    let compaction: Compaction = only(&store);
    assert_eq!(
        (compaction.trigger.as_deref(), compaction.tokens_before),
        (Some("manual"), Some(Tokens(297_190)))
    );
    let session: Session = only(&store);
    assert_eq!((session.title.as_deref(), session.compactions), (Some("second"), 1));
    assert_eq!(session.project.as_deref(), Some("/work/demo"));
}

#[test]
fn the_project_is_the_folder_of_the_first_record_that_names_one() {
    let in_folder = |folder: &str| format!(r#"{{"type":"system","cwd":"{folder}"}}"#);
    let mut records = vec![line("s", 7, in_folder("/late")), line("s", 3, in_folder("/early"))];
    records.insert(0, line("s/subagents/agent-x", 0, in_folder("/sub")));
    let store = folded(&records);
    assert_eq!(only::<Session>(&store).project.as_deref(), Some("/early"));
    let store = folded(&records[..1]);
    assert_eq!(only::<Session>(&store).project.as_deref(), Some("/sub"));
}
