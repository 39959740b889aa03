//! Names, bytes and lengths that nobody expects; and objects that are rewritten in place.

use crate::support::Host;
use burnlog_sources::Options;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

#[test]
fn trap_10_odd_names_stop_nothing() {
    let mut host = Host::new();
    let long = "x".repeat(240);
    for name in ["with space", "", &long, "quo\"te\\", "..jsonl", "üñ"] {
        host.write(&format!("{name}.jsonl"), "{}\n");
    }
    let not_text = host.path("").join(OsStr::from_bytes(b"\xff\xfe.jsonl"));
    host.write_at(&not_text, b"{}\n");
    let report = host.ingest();
    assert_eq!((report.total().new, report.failed.len()), (7, 0));
    let mut streams: Vec<_> = host.lines().into_iter().map(|event| event.stream).collect();
    let mut expected = vec!["", "%FF%FE", "..jsonl", "quo\"te\\", "with space", &long, "üñ"];
    streams.sort_unstable();
    expected.sort_unstable();
    assert_eq!(streams, expected);
    assert_eq!(host.ingest().total().unchanged, 7);
}

#[test]
fn trap_10_odd_ids_in_the_content_stop_nothing() {
    let mut host = Host::new();
    for (number, id) in ["a b", "../../etc", "", &"y".repeat(300), &"z".repeat(70_000)].iter().enumerate() {
        host.write(&format!("agent-{number}.jsonl"), format!("{{\"sessionId\":\"{id}\"}}\n"));
    }
    assert_eq!(host.ingest().total().new, 5);
    let streams: Vec<_> = host.lines().into_iter().map(|event| event.stream).collect();
    let long = format!("{}/subagents/agent-3", "y".repeat(300));
    assert_eq!(
        streams,
        ["..%2F..%2Fetc/subagents/agent-1", "a b/subagents/agent-0", "agent-2", "agent-4", &long]
    );
}

#[test]
fn trap_26_odd_bytes_are_records_and_counted() {
    let mut host = Host::new();
    host.write("s.jsonl", b"{\"a\":1}\r\n\n\r\n\0\0\0\n\xff\xfe\n{\"a\":1}{\"b\":2}\n[1]\n{\"a\":\"\xff\"}\n{\"a\":1,\"a\":1e400}\n");
    let counts = host.ingest().total();
    // Any JSON is read by the folds, and a text in it that is no UTF-8.
    assert_eq!((counts.records, counts.new, counts.unreadable), (9, 9, 3));
    host.close();
    assert_eq!(host.restored()[0].1, std::fs::read(host.path("s.jsonl")).unwrap());
    host.options.check_records = false;
    host.write("t.jsonl", b"x\n");
    assert_eq!(host.ingest().total().unreadable, 0);
}

#[test]
fn trap_26_a_line_of_two_megabytes_is_one_record() {
    let mut host = Host::new();
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(2 << 20));
    host.write("s.jsonl", format!("{{}}\n{long}\n{{\"b\":1}}\n{long}"));
    let counts = host.ingest().total();
    assert_eq!((counts.records, counts.new, counts.unreadable), (4, 4, 0));
    assert_eq!(host.events()[1].payload.len(), long.len());
}

#[test]
fn a_record_beyond_the_limit_goes_in_parts() {
    for (length, parts) in [(9, 0), (10, 0), (11, 2), (20, 2), (21, 3)] {
        let mut host = Host::new();
        host.options.record_bytes_max = 10;
        let record = format!("{{\"a\":{}}}", "1".repeat(length - 6));
        host.write("s.jsonl", format!("{{}}\n{record}\n{{}}"));
        let counts = host.ingest().total();
        assert_eq!((counts.records, counts.unreadable), (3, 0));
        let events = host.events();
        let found: Vec<_> = events.iter().filter(|event| event.seq == 1).collect();
        assert_eq!(found.iter().filter(|event| event.part.is_some()).count(), parts, "{length}");
        assert_eq!(
            found.iter().flat_map(|event| event.payload.clone()).collect::<Vec<u8>>(),
            record.as_bytes()
        );
        assert!(found.iter().rev().skip(1).all(|event| event.part.unwrap().1), "all but the last go on");
        assert!(found.last().unwrap().part.is_none_or(|(_, more)| !more));
        host.close();
        assert_eq!(host.contents("s"), [format!("{{}}\n{record}\n{{}}")]);
    }
}

#[test]
fn an_object_keeps_its_versions_and_its_extent_says_which() {
    let mut host = Host::new();
    let (name, stream) = ("S/subagents/agent-1.meta.json", "S/subagents/agent-1.meta");
    host.write(name, "{\n \"state\": 1\n}\n");
    assert_eq!(host.ingest().total().new, 1);
    host.write(name, "{\n \"state\"");
    let counts = host.ingest().total();
    assert_eq!((counts.new, counts.pending_records, counts.rewritten), (0, 1, 0));
    host.write(name, "{\n \"state\": 2\n}");
    assert_eq!(host.ingest().total().new, 1);
    host.write(name, "{\n \"state\": 1\n}\n");
    assert_eq!(host.close().total().present, 1);
    assert_eq!(host.contents(stream), ["{\n \"state\": 1\n}\n"]);
    host.remove(name);
    let size = host.feed_size();
    host.ingest();
    assert_eq!(host.feed_size(), size);
    assert!(host.lines().iter().all(|event| event.seq == 0));
}

#[test]
fn an_object_beyond_the_limit_goes_in_parts() {
    let mut host = Host::new();
    host.options = Options { record_bytes_max: 8, ..Options::default() };
    let name = "S/subagents/agent-1.meta.json";
    let content = "{\"a\":\n\"0123456789\"}";
    host.write(name, &content[..15]);
    assert_eq!(host.ingest().total().pending_bytes, 15);
    host.write(name, content);
    assert_eq!(host.ingest().total().new, 3);
    host.close();
    assert_eq!(host.contents("S/subagents/agent-1.meta"), [content]);
}

#[test]
fn an_object_that_stays_broken_is_a_tail() {
    let mut host = Host::new();
    host.write("S/subagents/agent-1.meta.json", "{\"half\n");
    host.ingest();
    host.close();
    assert_eq!(host.of_kind("tail").len(), 1);
    assert_eq!(host.contents("S/subagents/agent-1.meta"), ["{\"half\n"]);
}

#[test]
fn an_empty_file_says_nothing() {
    let mut host = Host::new();
    host.write("s.jsonl", "");
    host.close();
    host.remove("s.jsonl");
    host.ingest();
    assert_eq!(host.feed_size(), 0);
}
