//! Content of the sources other than Claude Code: every block is found, its place in the payload holds exactly it, and what is
//! said twice is one block.

use burnlog_log::Kind;
use burnlog_projections::conformance::build::{Record, batch, folded};
use burnlog_projections::{BlockFilter, PageRequest, blocks};

type Found = (String, String, Option<String>);

/// The kind, the bytes at the place, and the tool use of each block of a session.
fn read(records: &[Record], session: &str) -> Vec<Found> {
    let batch = batch(records);
    let source = records[0].source.to_owned();
    let filter = BlockFilter { source, session: session.to_owned(), ..BlockFilter::default() };
    let page = PageRequest { after: None, limit: 1000 };
    let listed = blocks(&folded(records), &filter, &page).unwrap().items;
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
fn every_tool_of_a_rollout_has_its_input_and_result() {
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
fn odd_lines_of_a_rollout_keep_their_places() {
    let mut odd = b"{\"x\":\"\xff\xf0\x9f\",\"type\":\"response_item\",\"payload\":{\"type\":\"message\",\"role\":\"user\",\"content\":[{\"text\":\"no\",\"text\":\"a\xfeb\"},7,{\"type\":3}]}}".to_vec();
    odd.splice(0..0, *b"\xef\xbb\xbf");
    let records =
        [record("codex", "s", 0, odd), record("codex", "s", 1, vec![0, 0]), record("codex", "s", 2, "[]")];
    let expected =
        [("text", "\"a\u{fffd}b\"", None), ("unknown", "7", None), ("unknown", r#"{"type":3}"#, None)];
    expect(&read(&records, "s"), &expected);
}
