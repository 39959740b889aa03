//! Claims about content: every block is found, and its place in the payload holds exactly it.

use burnlog_projections::conformance::build::{Record, append, batch, catch_up, folded, ledger, line};
use burnlog_projections::{
    BlockFilter, BlockPlace, DumpOptions, MemoryProjections, PageRequest, blocks, dump,
};

fn listed(store: &MemoryProjections, session: &str) -> Vec<BlockPlace> {
    let filter = BlockFilter {
        source: "claude-code".to_owned(),
        session: session.to_owned(),
        ..BlockFilter::default()
    };
    blocks(store, &filter, &PageRequest { after: None, limit: 1000 }).unwrap().items
}

/// The kind, the bytes at the place, and the tool use of each block.
fn read(records: &[Record], session: &str) -> Vec<(String, String, Option<String>)> {
    let batch = batch(records);
    let payload = |place: &BlockPlace| {
        let event = batch.events().find(|event| event.address == place.address).unwrap();
        let (start, end) = (place.start as usize, (place.start + place.bytes) as usize);
        String::from_utf8_lossy(&event.payload[start..end]).into_owned()
    };
    let store = folded(records);
    listed(&store, session)
        .into_iter()
        .map(|place| (place.kind.clone(), payload(&place), place.tool_use))
        .collect()
}

fn expect(found: &[(String, String, Option<String>)], expected: &[(&str, &str, Option<&str>)]) {
    let found: Vec<_> = found.iter().map(|(k, v, t)| (k.as_str(), v.as_str(), t.as_deref())).collect();
    assert_eq!(found, expected);
}

#[test]
fn the_place_of_each_block_holds_its_content() {
    let records = [
        line("s", 0, r#"{"type":"user","message":{"role":"user","content": "what \"now\"?" }}"#),
        line(
            "s",
            1,
            r#"{"type":"assistant","message":{"id":"m","content":[{"type":"thinking","thinking":"hm","signature":"x"},{"type":"text","text":"héllo"},{"type":"tool_use","id":"t1","name":"Edit","input":{"file_path":"/a"}},{"type":"redacted_thinking","data":"x"}]}}"#,
        ),
        line(
            "s",
            2,
            r#"{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"t1","content":[{"type":"text","text":"x"},{"type":"image","source":{"data":"AAAA"}}]},{"type":"image","source":{}},{"type":"tool_result","tool_use_id":"t \" 2"}]}}"#,
        ),
        line("s", 3, r#"{"type":"system","subtype":"compact_boundary","content":"Conversation compacted"}"#),
        line("s", 4, r#"{"type":"summary","summary":"A title","leafUuid":"u"}"#),
        line("s", 5, r#"{"type":"system","content":["no text"]}"#),
    ];
    let expected = [
        ("text", r#""what \"now\"?""#, None),
        ("thinking", r#""hm""#, None),
        ("text", r#""héllo""#, None),
        ("tool_use", r#"{"file_path":"/a"}"#, Some("t1")),
        ("redacted_thinking", r#"{"type":"redacted_thinking","data":"x"}"#, None),
        (
            "tool_result",
            r#"[{"type":"text","text":"x"},{"type":"image","source":{"data":"AAAA"}}]"#,
            Some("t1"),
        ),
        ("image", r#"{"type":"image","source":{"data":"AAAA"}}"#, Some("t1")),
        ("image", r#"{"type":"image","source":{}}"#, None),
        ("tool_result", r#"{"type":"tool_result","tool_use_id":"t \" 2"}"#, Some("t \" 2")),
        ("system", r#""Conversation compacted""#, None),
        ("summary", r#""A title""#, None),
    ];
    expect(&read(&records, "s"), &expected);
}

#[test]
fn blocks_inside_progress_lines_are_blocks() {
    let payload = r#"{"type":"progress","data":{"type":"agent_progress","agentId":"a","message":{"type":"assistant","message":{"id":"m","content":[{"type":"text","text":"inner"}]}}}}"#;
    expect(&read(&[line("s", 0, payload)], "s"), &[("text", "\"inner\"", None)]);
}

/// Trap 26: what stands before a block and is not UTF-8 does not move its place, nor does a byte order mark.
#[test]
fn trap_26_places_are_in_the_payload_and_not_in_what_was_read_of_it() {
    let odd: &[u8] = b"{\"type\":\"user\",\"x\":\"\xff\xf0\x9f\xff..\xc3\",\"message\":{\"content\":\"a\xfeb\"},\"y\":\"\xff\"}";
    let marked = [b"\xef\xbb\xbf", odd].concat();
    let plain = b"\xef\xbb\xbf{\"type\":\"user\",\"message\":{\"content\":\"ok\"}}".to_vec();
    let records = [line("s", 0, odd), line("s", 1, marked), line("s", 2, plain)];
    let expected =
        [("text", "\"a\u{fffd}b\"", None), ("text", "\"a\u{fffd}b\"", None), ("text", "\"ok\"", None)];
    expect(&read(&records, "s"), &expected);
}

#[test]
fn versions_of_a_record_keep_their_blocks_apart_and_commits_join() {
    let text = |text: &str| format!(r#"{{"type":"user","message":{{"content":"{text}"}}}}"#);
    let records: Vec<Record> = (0..300u64)
        .flat_map(|seq| {
            [line("s", seq, text(&format!("one {seq}"))), line("s", seq, text(&format!("two {seq}")))]
        })
        .collect();
    let whole = listed(&folded(&records), "s");
    assert_eq!(whole.len(), 600);
    assert!(whole.is_sorted_by_key(|place| (place.seq, place.address)));
    let (ledger, mut store) = (ledger(), MemoryProjections::new());
    for piece in records.rchunks(70) {
        append(&ledger, 1, piece);
        catch_up(&mut store, &ledger);
    }
    assert_eq!(listed(&store, "s"), whole);
}

#[test]
fn a_dump_has_a_line_for_each_block() {
    let payload = r#"{"type":"assistant","message":{"id":"m","content":[{"type":"text","text":"a"},{"type":"tool_use","id":"t","input":{}}]}}"#;
    let records = [line("s", 3, payload)];
    let address = batch(&records).event(0).address;
    let mut lines = Vec::new();
    let options = DumpOptions { projection: Some("content".to_owned()), hosts: false };
    dump(&folded(&records), &options, &mut |line| {
        lines.push(line.to_owned());
        Ok(())
    })
    .unwrap();
    let line = |number: u32, bytes: u32, kind: &str, start: usize, tool: &str| {
        format!(
            r#"{{"projection":"content","key":["claude-code","s",3,"{address}",{number}],"row":{{"bytes":{bytes},"kind":"{kind}","start":{start},"tool_use":{tool}}}}}"#
        )
    };
    let text = payload.find(r#""a""#).unwrap();
    let input = payload.find("{}").unwrap();
    assert_eq!(lines, [line(0, 3, "text", text, "null"), line(1, 2, "tool_use", input, "\"t\"")]);
}
