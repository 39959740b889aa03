//! OpenCode: the traps of its objects, one test each; objects of the tree, of the database and of an export tell the same; and
//! the laws of a source that rewrites its objects in place.

use crate::laws::converges;
use burnlog_log::Kind;
use burnlog_projections::conformance::build::{Random, Record, append, catch_up, dumped, folded, ledger};
use burnlog_projections::{
    Call, Compaction, DumpOptions, Filter, MemoryProjections, Notice, Queries, RecordClass, Row, RowReader,
    Session, Stream, Tokens, ToolUse, Usage, UserTurn, diagnostics, dump, live, numbered_turns, records,
};
use proptest::prelude::*;

const START: i64 = 1_767_225_600_000;

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

fn object(stream: &str, payload: impl Into<Vec<u8>>) -> Record {
    let (stream, payload) = (stream.to_owned(), payload.into());
    Record { kind: Kind::Line, source: "opencode", stream, seq: 0, part: None, payload }
}

fn session(id: &str, updated: i64, title: &str, rest: &str) -> Record {
    let payload = format!(
        r#"{{"id":"{id}","version":"1.1.0","directory":"/work/demo","title":"{title}","time":{{"created":{START},"updated":{}}}{rest}}}"#,
        START + updated
    );
    object(&format!("session/{id}"), payload)
}

const TOKENS: &str = r#""tokens":{"input":100,"output":20,"reasoning":7,"cache":{"read":50,"write":5}}"#;
const NO_TOKENS: &str = r#""tokens":{"input":0,"output":0,"reasoning":0,"cache":{"read":0,"write":0}}"#;

fn answer_fields(created: i64, completed: Option<i64>, tokens: &str) -> String {
    let completed = completed.map_or(String::new(), |at| format!(r#","completed":{}"#, START + at));
    let finish = if completed.is_empty() { "" } else { r#","finish":"stop""# };
    format!(
        r#""role":"assistant","modelID":"model-a","agent":"build","path":{{"cwd":"/work/demo"}},"time":{{"created":{}{completed}}},{tokens}{finish}"#,
        START + created
    )
}

fn message(session: &str, id: &str, fields: &str) -> Record {
    object(&format!("message/{id}"), format!(r#"{{"id":"{id}","sessionID":"{session}",{fields}}}"#))
}

fn user(session: &str, id: &str, created: i64) -> Record {
    message(session, id, &format!(r#""role":"user","time":{{"created":{}}}"#, START + created))
}

fn part(session: &str, message: &str, id: &str, fields: &str) -> Record {
    let payload = format!(r#"{{"id":"{id}","sessionID":"{session}","messageID":"{message}",{fields}}}"#);
    object(&format!("part/{id}"), payload)
}

fn tool_fields(status: &str, rest: &str) -> String {
    format!(
        r#""type":"tool","callID":"c","tool":"edit","state":{{"status":"{status}","input":{{"filePath":"/a.rs"}}{rest}}}"#
    )
}

fn plain_session() -> Vec<Record> {
    vec![
        session("ses_1", 10, "a title", ""),
        user("ses_1", "msg_1", 1),
        part("ses_1", "msg_1", "prt_1", r#""type":"text","text":"hello""#),
        part("ses_1", "msg_1", "prt_2", r#""type":"text","text":"a reminder","synthetic":true"#),
        part("ses_1", "msg_1", "prt_3", r#""type":"file","mime":"image/png","url":"data:""#),
        message("ses_1", "msg_2", &answer_fields(2, Some(9), TOKENS)),
        part("ses_1", "msg_2", "prt_4", &format!(r#""type":"step-finish",{TOKENS}"#)),
        part(
            "ses_1",
            "msg_2",
            "prt_5",
            &tool_fields(
                "completed",
                &format!(r#","output":"four","time":{{"start":{START},"end":{}}}"#, START + 5),
            ),
        ),
        part("ses_1", "msg_2", "prt_6", r#""type":"reasoning","text":"hm""#),
    ]
}

#[test]
fn a_message_is_a_call_and_its_parts_say_the_rest() {
    let store = folded(&plain_session());
    let call: Call = only(&store);
    let numbers = [
        call.input_tokens,
        call.output_tokens,
        call.reasoning_tokens,
        call.cache_read_tokens,
        call.cache_write_5m_tokens,
    ];
    assert_eq!(numbers, [100, 20, 7, 50, 5].map(|number| Some(Tokens(number))));
    assert_eq!((&*call.call, call.complete, call.stop_reason.as_deref()), ("msg_2", true, Some("stop")));
    assert_eq!(
        (&*call.session, call.version.as_deref(), call.cwd.as_deref()),
        ("ses_1", Some("1.1.0"), Some("/work/demo"))
    );
    let turn: UserTurn = only(&store);
    assert_eq!((&*turn.class, turn.characters, turn.images), ("prompt", 5, 1));
    let tool: ToolUse = only(&store);
    assert_eq!(
        (tool.is_error, tool.result_bytes, tool.target.as_deref()),
        (Some(false), Some(4), Some("/a.rs"))
    );
    assert_eq!(tool.call.as_deref(), Some("msg_2"));
    let session: Session = only(&store);
    assert_eq!((session.calls, session.prompts, session.tool_uses, session.streams), (1, 1, 1, 9));
    assert_eq!((session.title.as_deref(), session.project.as_deref()), (Some("a title"), Some("/work/demo")));
    assert!(diagnostics(&store).unwrap().iter().all(|row| row.unknown == 0 && row.unreadable == 0));
}

/// Traps 4, 5 and 20: a message was read half-written; what it was then is not what it is.
#[test]
fn trap_04_05_and_20_a_message_read_half_written_is_what_it_became() {
    let half = message("ses_1", "msg_2", &answer_fields(2, None, NO_TOKENS));
    let store = folded(std::slice::from_ref(&half));
    let call: Call = only(&store);
    assert_eq!((call.complete, call.output_tokens), (false, None));
    assert_eq!(total(&store).incomplete_calls, 1);
    let (ledger, mut store) = (ledger(), MemoryProjections::new());
    for record in [half].iter().chain(&plain_session()) {
        append(&ledger, 1, std::slice::from_ref(record));
        catch_up(&mut store, &ledger);
    }
    assert_eq!(
        (total(&store).calls, total(&store).incomplete_calls, total(&store).output_tokens),
        (1, 0, Tokens(20))
    );
}

/// Traps 2 and 3: the steps of a message that never ended are a floor.
#[test]
fn trap_02_03_and_17_an_interrupted_message_keeps_what_its_steps_used() {
    let mut records = plain_session();
    records[5] = message("ses_1", "msg_2", &answer_fields(2, None, NO_TOKENS));
    records.push(part("ses_1", "msg_2", "prt_7", &format!(r#""type":"step-finish",{TOKENS}"#)));
    let store = folded(&records);
    let call: Call = only(&store);
    assert_eq!(
        (call.complete, call.output_tokens, call.cache_read_tokens),
        (false, Some(Tokens(40)), Some(Tokens(100)))
    );
}

/// Of two versions the later by the object's own clock counts, then the complete one, whatever came first.
#[test]
fn trap_11_the_version_that_counts_is_chosen_by_content() {
    let few = r#""tokens":{"input":1,"output":2,"reasoning":0,"cache":{"read":0,"write":0}}"#;
    let earlier = message("ses_1", "msg_2", &answer_fields(2, Some(8), TOKENS));
    let later = message("ses_1", "msg_2", &answer_fields(2, Some(9), few));
    for records in [[earlier.clone(), later.clone()], [later, earlier]] {
        assert_eq!(total(&folded(&records)).output_tokens, Tokens(2));
    }
}

/// Traps 6 and 21: a tool that failed has no output, and that it failed may come in a later ingest.
#[test]
fn trap_06_and_21_an_errored_tool_is_an_error_when_it_is_known() {
    let (ledger, mut store) = (ledger(), MemoryProjections::new());
    let running =
        part("ses_1", "msg_2", "prt_5", &tool_fields("running", &format!(r#","time":{{"start":{START}}}"#)));
    append(&ledger, 1, &[running]);
    catch_up(&mut store, &ledger);
    assert_eq!(only::<ToolUse>(&store).is_error, None);
    let rest = format!(r#","error":"no such file","time":{{"start":{START},"end":{}}}"#, START + 1);
    append(&ledger, 2, &[part("ses_1", "msg_2", "prt_5", &tool_fields("error", &rest))]);
    catch_up(&mut store, &ledger);
    let tool: ToolUse = only(&store);
    assert_eq!((tool.is_error, tool.result_bytes), (Some(true), Some(12)));
    assert_eq!(only::<Session>(&store).tool_errors, 1);
}

/// Trap 7: prompts are numbered as they stand, whatever came first.
#[test]
fn trap_07_prompts_are_numbered_as_they_stand_whenever_they_came() {
    let (ledger, mut store) = (ledger(), MemoryProjections::new());
    for (id, created) in [("msg_9", 9), ("msg_1", 1), ("msg_5", 5)] {
        let text = part("ses_1", id, &format!("prt_{created}"), r#""type":"text","text":"hello""#);
        append(&ledger, 1, &[user("ses_1", id, created), text]);
        catch_up(&mut store, &ledger);
    }
    let turns = numbered_turns(&store, "opencode", "ses_1").unwrap();
    let numbers: Vec<_> = turns.iter().map(|turn| (turn.ordinal, &*turn.turn.turn)).collect();
    assert_eq!(numbers, [(Some(1), "msg_1"), (Some(2), "msg_5"), (Some(3), "msg_9")]);
}

/// Traps 12 and 13: a child session has its own calls; what it was told is no prompt.
#[test]
fn trap_12_and_13_a_child_session_is_a_subagent() {
    let mut records = plain_session();
    records.push(user("ses_2", "msg_3", 3));
    records.push(message("ses_2", "msg_4", &answer_fields(4, Some(5), TOKENS)));
    let of_child = |store: &MemoryProjections| {
        let call = rows::<Call>(store).into_iter().find(|call| &*call.session == "ses_2").unwrap();
        let turn = rows::<UserTurn>(store).into_iter().find(|turn| &*turn.session == "ses_2").unwrap();
        (call.sidechain, call.agent.map(|agent| agent.to_string()), turn.class.to_string())
    };
    assert_eq!(of_child(&folded(&records)), (false, None, "prompt".to_owned()));
    records.push(session("ses_2", 6, "child", r#","parentID":"ses_1""#));
    let store = folded(&records);
    assert_eq!(of_child(&store), (true, Some("build".to_owned()), "delegated".to_owned()));
    assert_eq!(
        (total(&store).calls, rows::<Session>(&store).iter().map(|row| row.prompts).sum::<i64>()),
        (2, 1)
    );
}

/// A part names its message and not whose it is: what a model says has times.
#[test]
fn text_without_times_is_the_users() {
    let class = |fields: &str| {
        let store = folded(&[part("ses_1", "msg_1", "prt_1", fields)]);
        records(&store, "opencode", "part/prt_1", 0..1).unwrap()[0].class
    };
    let text = r#""type":"text","text":"hello""#;
    let timed = format!(r#"{text},"time":{{"start":{START}}}"#);
    assert_eq!(class(text), RecordClass::User);
    assert_eq!(class(&timed), RecordClass::Assistant);
    assert_eq!(class(&format!(r#"{timed},"synthetic":true"#)), RecordClass::User);
}

#[test]
fn a_compaction_is_no_prompt() {
    let mut records = plain_session();
    records.push(user("ses_1", "msg_5", 20));
    records.push(part("ses_1", "msg_5", "prt_9", r#""type":"compaction","auto":true"#));
    let store = folded(&records);
    assert_eq!(only::<Compaction>(&store).trigger.as_deref(), Some("auto"));
    assert_eq!((only::<Session>(&store).prompts, only::<Session>(&store).compactions), (1, 1));
}

#[test]
fn a_message_that_failed_is_a_notice_too() {
    let error = format!(
        r#"{},"error":{{"name":"APIError","data":{{"statusCode":529}}}}"#,
        answer_fields(2, Some(3), NO_TOKENS)
    );
    let store = folded(&[message("ses_1", "msg_2", &error)]);
    let notice: Notice = only(&store);
    assert_eq!((notice.error.as_deref(), notice.status), (Some("APIError"), Some(529)));
}

/// The same objects as rows of the database and as an export: one meaning, whichever of them were seen.
#[test]
fn the_tree_the_database_and_an_export_tell_the_same() {
    let tree = plain_session();
    let row = |table: &str, id: &str, ids: &str, data: &str| {
        let payload = format!(
            r#"{{"v":1,"table":"{table}","id":"{id}",{ids},"time_created":{START},"time_updated":{START},"data":{{{data}}}}}"#
        );
        object(&format!("{table}/{id}"), payload)
    };
    let rest = |record: &Record| {
        let text = std::str::from_utf8(&record.payload).unwrap();
        let at = text.find(if text.contains("messageID") { "\"type\"" } else { "\"role\"" }).unwrap();
        text[at..text.len() - 1].to_owned()
    };
    let mut database = vec![object(
        "session/ses_1",
        format!(
            r#"{{"v":1,"table":"session","id":"ses_1","project_id":"p","parent_id":null,"directory":"/work/demo","title":"a title","version":"1.1.0","time_created":{START},"time_updated":{}}}"#,
            START + 10
        ),
    )];
    let mut messages = String::new();
    for record in &tree[1..] {
        let (kind, id) = record.stream.split_once('/').unwrap();
        if kind == "message" {
            database.push(row(kind, id, r#""session_id":"ses_1""#, &rest(record)));
            let parts: Vec<_> = tree
                .iter()
                .map(|part| String::from_utf8(part.payload.clone()).unwrap())
                .filter(|part| part.contains(&format!("\"messageID\":\"{id}\"")))
                .collect();
            let info = std::str::from_utf8(&record.payload).unwrap();
            messages += &format!(r#"{{"info":{info},"parts":[{}]}},"#, parts.join(","));
        } else {
            let message = if rest(record).contains("text") && id < "prt_4" || id == "prt_3" {
                "msg_1"
            } else {
                "msg_2"
            };
            database.push(row(
                kind,
                id,
                &format!(r#""message_id":"{message}","session_id":"ses_1""#),
                &rest(record),
            ));
        }
    }
    let info = std::str::from_utf8(&tree[0].payload).unwrap();
    let export = vec![object(
        "export/ses_1",
        format!(r#"{{"info":{info},"messages":[{}]}}"#, messages.trim_end_matches(',')),
    )];
    let meaning = |records: &[Record]| {
        let store = folded(records);
        let call: Call = only(&store);
        let call = Call { place: burnlog_log::Address([0; 32]), payload_prefix: 0, ..call };
        let turn = UserTurn { place: burnlog_log::Address([0; 32]), ..only(&store) };
        let tool = ToolUse { place: None, result_place: None, ..only(&store) };
        let session: Session = only(&store);
        (
            call,
            turn,
            tool,
            (session.calls, session.prompts, session.title, session.project, session.output_tokens),
        )
    };
    let expected = meaning(&tree);
    assert_eq!(meaning(&database), expected);
    assert_eq!(meaning(&export), expected);
    assert_eq!(meaning(&[tree, database, export].concat()), expected);
}

/// Traps 9, 10, 26 and 28.
#[test]
fn trap_09_10_26_and_28_odd_objects_are_counted_and_stop_nothing() {
    let long = "y".repeat(300);
    let mut records = vec![
        object(
            "message/",
            "{\"id\":\"\",\"sessionID\":\"\",\"role\":\"assistant\",\"time\":{\"created\":-5}}",
        ),
        object("message/m", "{\"id\":\"m\",\"role\":\"assistant\",\"tokens\":{\"output\":1e400}}"),
        object("message/n", "{\"id\":\"n\",\"role\":\"robot\"}"),
        object("message/o", "{\"id\":\"o\",\"sessi"),
        object("part/p", "{\"id\":\"p\",\"sessionID\":\"ses_1\",\"type\":\"hologram\"}"),
        object("part/q", vec![0, 255, 0]),
        object("todo/ses_1", "[]"),
        object("novelty/x", "{\"id\":\"x\"}"),
        object("odd", "{}"),
    ];
    records.push(message(&long, &long, &answer_fields(i64::MAX / 2000, Some(i64::MAX / 2000), TOKENS)));
    let store = folded(&records);
    let rows_of = diagnostics(&store).unwrap();
    let sum = |count: fn(&burnlog_projections::Diagnostic) -> i64| rows_of.iter().map(count).sum::<i64>();
    assert_eq!((sum(|row| row.understood), sum(|row| row.unknown), sum(|row| row.unreadable)), (4, 4, 2));
    assert_eq!(total(&store).calls, 3);
    assert!(rows::<Call>(&store).iter().any(|call| call.clamped));
}

/// What depends on the events without their versions: all but which versions there are.
fn meaning(store: &MemoryProjections) -> String {
    let mut text = String::new();
    dump(store, &DumpOptions::default(), &mut |line| {
        let is_of_versions = ["records", "diagnostics"]
            .iter()
            .any(|name| line.contains(&format!("{{\"projection\":\"{name}\"")));
        if !is_of_versions {
            text.push_str(line);
            text.push('\n');
        }
        Ok(())
    })
    .unwrap();
    text
}

/// Made-up objects, each in several versions with a clock that goes on.
pub(crate) fn made_up(seed: u64, count: u32) -> Vec<Record> {
    let mut random = Random(seed);
    let mut records = Vec::new();
    for clock in 1..=i64::from(count) {
        let (ses, number) = (format!("ses_{}", random.below(3)), random.below(6));
        // A message is always of one session, a part of one message.
        let (msg, of) = (format!("msg_{number}"), format!("ses_{}", number % 3));
        let id = format!("prt_{}", number * 3 + random.below(3));
        records.push(match random.below(9) {
            0 => session(
                &ses,
                clock,
                &format!("title {clock}"),
                if ses == "ses_2" { r#","parentID":"ses_1""# } else { "" },
            ),
            1 => message(&of, &msg, &answer_fields(number as i64, None, NO_TOKENS)),
            2 | 3 => message(&of, &msg, &answer_fields(number as i64, Some(100 + clock), TOKENS)),
            4 => user(&of, &format!("msg_u{number}"), number as i64),
            5 => part(
                &of,
                &format!("msg_u{number}"),
                &format!("{id}t"),
                &format!(
                    r#""type":"text","text":"{}","time":{{"start":{START},"end":{}}}"#,
                    "x".repeat(clock as usize % 7),
                    START + clock
                ),
            ),
            6 => part(&of, &msg, &format!("{id}s"), &format!(r#""type":"step-finish",{TOKENS}"#)),
            7 => part(&of, &msg, &format!("{id}x"), r#""type":"what""#),
            _ => {
                let status = ["running", "completed", "error"][random.below(3) as usize];
                let rest = format!(r#","output":"four","time":{{"start":{START},"end":{}}}"#, START + clock);
                part(&of, &msg, &format!("{id}u"), &tool_fields(status, &rest))
            }
        });
    }
    records
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Laws 1, 3 and 4.
    #[test]
    fn a_dump_depends_on_the_objects_alone(seed: u64, count in 1u32..80, feeds in 1u8..4, piece in 1usize..40) {
        converges(&made_up(seed, count), seed, feeds, piece)?;
    }

    /// Law 2 for a source that rewrites: who saw every version knows the same as who saw the last ones alone.
    #[test]
    fn the_last_versions_alone_tell_the_same(seed: u64, count in 1u32..80) {
        // Versions without a clock of their own are told apart by their hash alone, which is no order of time.
        let is_clocked = |record: &Record| {
            !record.stream.ends_with('x') && !String::from_utf8_lossy(&record.payload).contains(NO_TOKENS)
        };
        let records: Vec<Record> = made_up(seed, count).into_iter().filter(is_clocked).collect();
        let mut last: Vec<Record> = Vec::new();
        for record in &records {
            last.retain(|other| other.stream != record.stream);
            last.push(record.clone());
        }
        prop_assume!(!last.is_empty());
        prop_assert_eq!(meaning(&folded(&records)), meaning(&folded(&last)));
    }
}

#[test]
fn a_later_version_replaces_title_and_folder() {
    let moved = session("ses_1", 20, "b title", "");
    let payload = String::from_utf8(moved.payload.clone()).unwrap().replace("/work/demo", "/a");
    let records = [plain_session(), vec![object("session/ses_1", payload)]].concat();
    let store = folded(&records);
    let session: Session = only(&store);
    assert_eq!((session.title.as_deref(), session.project.as_deref()), (Some("b title"), Some("/a")));
    assert_eq!(rows::<Stream>(&store).len(), 9);
    assert!(dumped(&store).contains("\"ses_1\""));
}
