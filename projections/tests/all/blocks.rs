//! Content of the sources other than Claude Code: every block is found, its place in the payload holds exactly it, and what is
//! said twice is one block.

use burnlog_log::Kind;
use burnlog_projections::conformance::build::{Record, append, batch, catch_up, folded, ledger};
use burnlog_projections::{BlockFilter, MemoryProjections, PageRequest, blocks};
use std::path::Path;

type Found = (String, String, Option<String>);

/// The kind, the bytes at the place, and the tool use of each block of a session.
fn read(records: &[Record], session: &str) -> Vec<Found> {
    read_from(&folded(records), records, session)
}

fn read_from(store: &MemoryProjections, records: &[Record], session: &str) -> Vec<Found> {
    let batch = batch(records);
    let source = records[0].source.to_owned();
    let filter = BlockFilter { source, session: session.to_owned(), ..BlockFilter::default() };
    let page = PageRequest { after: None, limit: 1000 };
    let listed = blocks(store, &filter, &page).unwrap().items;
    let read = listed.into_iter().map(|place| {
        let event = batch.events().find(|event| event.address == place.address).unwrap();
        let (start, end) = (place.start as usize, (place.start + place.bytes) as usize);
        let text = String::from_utf8_lossy(&event.payload[start..end]).into_owned();
        (place.kind, text, place.tool_use)
    });
    read.collect()
}

fn expect(found: &[Found], expected: &[(&str, &str, Option<&str>)]) {
    let found: Vec<_> = found.iter().map(|(k, v, t)| (k.as_str(), v.as_str(), t.as_deref())).collect();
    assert_eq!(found, expected);
}

fn record(source: &'static str, stream: &str, seq: u64, payload: impl Into<Vec<u8>>) -> Record {
    let (stream, payload) = (stream.to_owned(), payload.into());
    Record { kind: Kind::Line, source, stream, seq, part: None, payload }
}

fn rollout(lines: &[(&str, &str)]) -> Vec<Record> {
    let line = |(kind, payload): &(&str, &str)| format!(r#"{{"type":"{kind}","payload":{{{payload}}}}}"#);
    (0..).zip(lines).map(|(seq, of)| record("codex", "s", seq, line(of))).collect()
}

#[test]
fn blocks_of_a_rollout_are_the_items_of_its_conversation() {
    let item = "response_item";
    let records = rollout(&[
        (item, r#""type":"message","role":"developer","content":[{"type":"input_text","text":"rules"}]"#),
        (
            item,
            r#""type":"message","role":"user","content":[{"type":"input_text","text":"what \"now\"?"},{"type":"input_image","image_url":"data:"}]"#,
        ),
        ("event_msg", r#""type":"user_message","message":"what \"now\"?""#),
        (
            item,
            r#""type":"reasoning","summary":[{"type":"summary_text","text":"hm"}],"content":[{"type":"reasoning_text","text":"héh"}],"encrypted_content":"gAAA""#,
        ),
        ("event_msg", r#""type":"agent_reasoning","text":"hm""#),
        (item, r#""type":"reasoning","summary":[],"content":null,"encrypted_content":"gAAA""#),
        (item, r#""type":"function_call","name":"shell","arguments":"{\"command\":\"ls\"}","call_id":"c1""#),
        ("event_msg", r#""type":"exec_command_end","call_id":"c1","stdout":"a","exit_code":0"#),
        (item, r#""type":"function_call_output","call_id":"c1","output":"a\n""#),
        (
            item,
            r#""type":"message","role":"assistant","content":[{"type":"output_text","text":"done"},{"type":"refusal","refusal":"no"}]"#,
        ),
        ("event_msg", r#""type":"agent_message","message":"done""#),
        ("event_msg", r#""type":"error","message":"limit""#),
        (
            "compacted",
            r#""message":"so far","replacement_history":[{"type":"message","role":"user","content":[{"type":"input_text","text":"x"}]}]"#,
        ),
    ]);
    let expected = [
        ("system", r#""rules""#, None),
        ("text", r#""what \"now\"?""#, None),
        ("image", r#"{"type":"input_image","image_url":"data:"}"#, None),
        ("thinking", r#""hm""#, None),
        ("thinking", r#""héh""#, None),
        ("tool_use", r#""{\"command\":\"ls\"}""#, Some("c1")),
        ("tool_result", r#""a\n""#, Some("c1")),
        ("text", r#""done""#, None),
        ("refusal", r#"{"type":"refusal","refusal":"no"}"#, None),
        ("system", r#""limit""#, None),
        ("summary", r#""so far""#, None),
    ];
    expect(&read(&records, "s"), &expected);
}

/// Trap 19 among them: each tool has its input elsewhere, and what it gave back comes in four forms.
#[test]
fn trap_19_every_tool_of_a_rollout_has_its_input_and_result() {
    let item = "response_item";
    let records = rollout(&[
        (item, r#""type":"custom_tool_call","name":"apply_patch","call_id":"a","input":"*** Begin""#),
        (
            item,
            r#""type":"custom_tool_call_output","call_id":"a","output":{"content":"fine","success":true}"#,
        ),
        (
            item,
            r#""type":"local_shell_call","call_id":null,"id":"b","action":{"type":"exec","command":["ls"]}"#,
        ),
        (item, r#""type":"web_search_call","status":"completed""#),
        (item, r#""type":"web_search_call","action":{"type":"search","query":"q"}"#),
        (item, r#""type":"tool_search_call","call_id":"c","arguments":{"query":"q"}"#),
        (item, r#""type":"tool_search_output","call_id":"c","tools":[]"#),
        (
            item,
            r#""type":"function_call_output","call_id":"d","output":[{"type":"input_text","text":"x"},{"type":"input_image","image_url":"data:"}]"#,
        ),
        (item, r#""type":"function_call_output","call_id":"e","output":{"changed":true}"#),
        (item, r#""type":"function_call_output","call_id":"f""#),
        (item, r#""type":"image_generation_call","id":"g","revised_prompt":"a cat","result":"AAAA""#),
    ]);
    let expected = [
        ("tool_use", r#""*** Begin""#, Some("a")),
        ("tool_result", r#""fine""#, Some("a")),
        ("tool_use", r#"{"type":"exec","command":["ls"]}"#, Some("b")),
        ("tool_use", r#"{"type":"web_search_call","status":"completed"}"#, None),
        ("tool_use", r#"{"type":"search","query":"q"}"#, None),
        ("tool_use", r#"{"query":"q"}"#, Some("c")),
        ("tool_result", "[]", Some("c")),
        (
            "tool_result",
            r#"[{"type":"input_text","text":"x"},{"type":"input_image","image_url":"data:"}]"#,
            Some("d"),
        ),
        ("image", r#"{"type":"input_image","image_url":"data:"}"#, Some("d")),
        ("tool_result", r#"{"changed":true}"#, Some("e")),
        ("tool_result", r#"{"type":"function_call_output","call_id":"f"}"#, Some("f")),
        ("tool_use", r#""a cat""#, Some("g")),
        (
            "image",
            r#"{"type":"image_generation_call","id":"g","revised_prompt":"a cat","result":"AAAA"}"#,
            Some("g"),
        ),
    ];
    expect(&read(&records, "s"), &expected);
}

/// Trap 26: odd lines have the blocks that can be read of them, at the right bytes.
#[test]
fn trap_26_odd_lines_of_a_rollout_keep_their_places() {
    let mut odd = b"{\"x\":\"\xff\xf0\x9f\",\"type\":\"response_item\",\"payload\":{\"type\":\"message\",\"role\":\"user\",\"content\":[{\"text\":\"no\",\"text\":\"a\xfeb\"},7,{\"type\":3}]}}".to_vec();
    odd.splice(0..0, *b"\xef\xbb\xbf");
    let records =
        [record("codex", "s", 0, odd), record("codex", "s", 1, vec![0, 0]), record("codex", "s", 2, "[]")];
    let expected =
        [("text", "\"a\u{fffd}b\"", None), ("unknown", "7", None), ("unknown", r#"{"type":3}"#, None)];
    expect(&read(&records, "s"), &expected);
}

fn part(id: &str, fields: &str) -> Record {
    let payload = format!(r#"{{"id":"{id}","sessionID":"ses","messageID":"msg",{fields}}}"#);
    record("opencode", &format!("part/{id}"), 0, payload)
}

#[test]
fn every_part_of_a_message_has_its_blocks() {
    let message = r#"{"id":"msg","sessionID":"ses","role":"assistant","error":{"name":"APIError","data":{"message":"over"}}}"#;
    let records = [
        record("opencode", "message/msg", 0, message),
        part("p1", r#""type":"text","text":"hello""#),
        part("p2", r#""type":"text","text":"a reminder","synthetic":true"#),
        part("p3", r#""type":"reasoning","text":"hm""#),
        part(
            "p4",
            r#""type":"tool","callID":"c","state":{"status":"completed","input":{"filePath":"/a"},"output":"four","attachments":[{"mime":"image/png","url":"data:"}]}"#,
        ),
        part(
            "p5",
            r#""type":"tool","callID":"c","state":{"status":"error","input":{},"error":"no such file"}"#,
        ),
        part("p6", r#""type":"file","mime":"text/plain","url":"data:""#),
        part("p7", r#""type":"step-start""#),
        part("p8", r#""type":"hologram""#),
    ];
    let whole = |at: usize| String::from_utf8(records[at].payload.clone()).unwrap();
    let expected = [
        ("system", "\"over\"", None),
        ("text", "\"hello\"", None),
        ("system", "\"a reminder\"", None),
        ("thinking", "\"hm\"", None),
        ("tool_use", r#"{"filePath":"/a"}"#, Some("p4")),
        ("tool_result", "\"four\"", Some("p4")),
        ("image", r#"{"mime":"image/png","url":"data:"}"#, Some("p4")),
        ("tool_use", "{}", Some("p5")),
        ("tool_result", "\"no such file\"", Some("p5")),
        ("file", &whole(6), None),
        ("hologram", &whole(8), None),
    ];
    expect(&read(&records, "ses"), &expected);
}

/// A row of the database and an export have the same blocks as the tree, each at its own place.
#[test]
fn the_form_of_an_object_moves_its_blocks_alone() {
    let text = r#""type":"text","text":"hi""#;
    let patch = r#""type":"patch","hash":"h""#;
    let row = |id: &str, data: &str| {
        let payload = format!(
            r#"{{"v":1,"table":"part","id":"{id}","message_id":"msg","session_id":"ses","time_created":1,"time_updated":1,"data":{{{data}}}}}"#
        );
        record("opencode", &format!("part/{id}"), 0, payload)
    };
    let expected = [("text", "\"hi\"", None), ("patch", r#"{"type":"patch","hash":"h"}"#, None)];
    expect(&read(&[row("a", text), row("b", patch)], "ses"), &expected);
    let info = r#"{"id":"msg","sessionID":"ses","role":"user"}"#;
    let export = format!(
        r#"{{"info":{{"id":"ses"}},"messages":[{{"info":{info},"parts":[{{"id":"a",{text}}},{{{patch}}}]}}]}}"#
    );
    expect(&read(&[record("opencode", "export/ses", 0, export)], "ses"), &expected);
}

/// Traps 5 and 20: of an object that was read several times only the version that counts has blocks, whatever came first,
/// in one commit or in many; also where that version has none.
#[test]
fn trap_20_blocks_of_older_versions_are_gone() {
    let tool = |status: &str, rest: &str, end: u32| {
        let time = format!(r#""time":{{"start":1,"end":{end}}}"#);
        part("p", &format!(r#""type":"tool","state":{{"status":"{status}","input":{{}},{time}{rest}}}"#))
    };
    let failed = |at: u32, error: &str| {
        let payload = format!(
            r#"{{"id":"msg","sessionID":"ses","role":"assistant","time":{{"created":{at}}}{error}}}"#
        );
        record("opencode", "message/msg", 0, payload)
    };
    let mut records = vec![
        tool("running", "", 1),
        tool("completed", r#","output":"part""#, 5),
        tool("completed", r#","output":"all of it""#, 9),
        failed(1, r#","error":{"data":{"message":"gone again"}}"#),
        failed(2, ""),
    ];
    let expected = [("tool_use", "{}", Some("p")), ("tool_result", "\"all of it\"", Some("p"))];
    for _ in 0..records.len() {
        records.rotate_left(1);
        expect(&read(&records, "ses"), &expected);
        let (ledger, mut store) = (ledger(), MemoryProjections::new());
        for record in &records {
            append(&ledger, 1, std::slice::from_ref(record));
            catch_up(&mut store, &ledger);
        }
        expect(&read_from(&store, &records, "ses"), &expected);
    }
}

#[test]
fn every_message_of_gemini_has_its_blocks() {
    let answer = r#"{"id":"g","type":"gemini","thoughts":[{"subject":"plan","description":"look first"}],"content":"done","toolCalls":[{"id":"t","args":{"path":"/a"},"result":[{"functionResponse":{"id":"t","response":{"output":"x"},"parts":[{"inlineData":{"mimeType":"image/png"}}]}}]},{"id":"u","args":{},"resultDisplay":"shown"},{"id":"v"}]}"#;
    let user = r#"{"id":"u","type":"user","content":[{"text":"hello"},"and",{"inlineData":{"mimeType":"image/png","data":"AA"}},{"functionResponse":{"response":{"output":1}}},{}]}"#;
    let records = [
        record("gemini-cli", "s", 0, r#"{"sessionId":"s","summary":"about"}"#),
        record("gemini-cli", "s", 1, user),
        record("gemini-cli", "s", 2, answer),
        record("gemini-cli", "s", 3, r#"{"id":"e","type":"error","content":"quota"}"#),
    ];
    let result = r#"[{"functionResponse":{"id":"t","response":{"output":"x"},"parts":[{"inlineData":{"mimeType":"image/png"}}]}}]"#;
    let expected = [
        ("summary", "\"about\"", None),
        ("text", "\"hello\"", None),
        ("text", "\"and\"", None),
        ("image", r#"{"inlineData":{"mimeType":"image/png","data":"AA"}}"#, None),
        ("tool_result", r#"{"output":1}"#, None),
        ("unknown", "{}", None),
        ("thinking", "\"plan\"", None),
        ("thinking", "\"look first\"", None),
        ("text", "\"done\"", None),
        ("tool_use", r#"{"path":"/a"}"#, Some("g/t")),
        ("tool_result", result, Some("g/t")),
        ("image", r#"{"inlineData":{"mimeType":"image/png"}}"#, Some("g/t")),
        ("tool_use", "{}", Some("g/u")),
        ("tool_result", "\"shown\"", Some("g/u")),
        ("system", "\"quota\"", None),
    ];
    expect(&read(&records, "s"), &expected);
    // One object of all that, written twice: the later version alone.
    let object = |updated: u32, messages: &str| {
        let payload = format!(
            r#"{{"sessionId":"s","lastUpdated":"2026-01-01T00:00:0{updated}Z","messages":[{messages}]}}"#
        );
        record("gemini-cli", "s", 0, payload)
    };
    let records = [object(7, &format!("{user},{answer}")), object(3, user)];
    expect(&read(&records, "s"), &expected[1..14]);
}

/// The records of a fixture: each file of a folder, cut as its source cuts it.
fn fixture(source: &'static str, path: &str, stream: &str, is_lines: bool) -> Vec<Record> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/sessions");
    let bytes = std::fs::read(folder.join(path)).unwrap();
    if !is_lines {
        return vec![record(source, stream, 0, bytes)];
    }
    let lines = bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec);
    (0..).zip(lines).map(|(seq, line)| record(source, stream, seq, line)).collect()
}

fn kinds(found: &[Found]) -> Vec<(&str, &str)> {
    found.iter().map(|(kind, text, _)| (kind.as_str(), text.as_str())).collect()
}

#[test]
fn the_fixtures_have_the_blocks_that_they_show() {
    let codex = |path: &str| fixture("codex", &format!("codex/.codex/{path}.jsonl"), "s", true);
    let found = read(
        &codex("sessions/2026/01/12/rollout-2026-01-12T10-00-00-019bb000-0000-7000-8000-0000000000a1"),
        "s",
    );
    let count = |kind: &str| found.iter().filter(|(found, ..)| found == kind).count();
    assert_eq!((count("text"), count("tool_use"), count("tool_result"), found.len()), (5, 2, 2, 9));
    assert_eq!(found[3].1, r#""{\"cmd\":\"ls\"}""#);
    let spawned = "sessions/2026/01/14/rollout-2026-01-14T09-00-20-019bb100-4e20-7000-8000-0000000000c3";
    let found = read(&codex(spawned), "s");
    assert_eq!(kinds(&found), [("text", "\"Look around\""), ("summary", "\"so far\"")]);
    let odd = "sessions/2026/01/16/rollout-2026-01-16T00-00-00-019bb300-0000-7000-8000-0000000000e5";
    assert_eq!(kinds(&read(&codex(odd), "s")), [("text", "\"caf\u{fffd}\"")]);
    let storage = "opencode/.local/share/opencode/storage/part";
    let records: Vec<Record> = ["msg_u1/prt_01", "msg_u1/prt_02", "msg_a1/prt_03", "msg_a1/prt_05"]
        .iter()
        .flat_map(|path| {
            let stream = format!("part/{}", path.split_once('/').unwrap().1);
            fixture("opencode", &format!("{storage}/{path}.json"), &stream, false)
        })
        .collect();
    let found = read(&records, "ses_demo1");
    let texts = [
        ("text", "\"List the files\""),
        ("system", "\"a reminder\""),
        ("tool_use", "{\n      \"filePath\": \"/work/demo/a.rs\"\n    }"),
        ("tool_result", "\"no such file\""),
    ];
    assert_eq!(kinds(&found), texts);
    let object = "gemini-cli/.gemini/tmp/0a1b/chats/session-2026-03-01T10-00-5a4b0000.json";
    let found = read(&fixture("gemini-cli", object, "s", false), "s");
    let args = "{\n            \"absolute_path\": \"/work/demo/a.rs\"\n          }";
    let said =
        [("summary", "\"A session\""), ("text", "\"Hello\""), ("text", "\"done\""), ("tool_use", args)];
    let rest = [("text", "\"done\""), ("system", "\"x\""), ("system", "\"quota\"")];
    assert_eq!(kinds(&found), [&said[..], &rest[..]].concat());
}
