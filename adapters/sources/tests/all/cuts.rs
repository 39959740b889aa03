//! Law 2: however a growing file is cut into ingests, the same `line` events come out.

use crate::support::{Host, in_one_shot};
use burnlog_sources::Options;

/// Ingests `content` cut at each of `cuts`, and returns the host.
fn ingest_cut(name: &str, content: &[u8], cuts: &[usize], options: &Options) -> Host {
    let mut host = Host::new();
    host.options = options.clone();
    for cut in cuts.iter().chain([&content.len()]) {
        host.write(name, &content[..*cut]);
        host.ingest();
    }
    host
}

fn every_cut_gives_the_same(name: &str, content: &[u8], options: &Options) {
    let expected = in_one_shot(name, content, options);
    for cut in 0..=content.len() {
        let host = ingest_cut(name, content, &[cut], options);
        assert_eq!(host.lines(), expected, "cut at {cut}");
        assert!(host.of_kind("extent").is_empty(), "cut at {cut} was taken for a rewrite");
    }
    let every: Vec<usize> = (0..content.len()).collect();
    assert_eq!(ingest_cut(name, content, &every, options).lines(), expected);
}

#[test]
fn every_cut_of_a_file() {
    let content = b"{\"a\":1}\n\n{\"b\":{\"c\":[\"}\"]}}\nno json\n\0\0\0\n{\"\xff\":1}\n[]\n{\"d\":\"\xc3\xa9\"}\n{\"e\":2}";
    every_cut_gives_the_same("s.jsonl", content, &Options { batch_bytes: 50, ..Options::default() });
}

#[test]
fn every_cut_of_a_file_with_carriage_returns() {
    // The first record alone cannot tell that a carriage return will follow.
    let content = b"x\r\n{\"a\":1}\r\n\r\n{\"b\":2}\r\n{\"c\":3}\r\n";
    every_cut_gives_the_same("s.jsonl", content, &Options::default());
}

#[test]
fn every_cut_of_a_file_with_long_records() {
    let content = b"{\"long\":\"0123456789\"}\n{}\n0123456789012345678901\n\n{\"a\":\"01234567\"}\n{\"last\":\"01234567890\"}";
    for record_bytes_max in [7, 8, 16, 22] {
        let options = Options { record_bytes_max, ..Options::default() };
        every_cut_gives_the_same("s.jsonl", content, &options);
    }
}

#[test]
fn every_cut_of_an_old_subagent_file() {
    let content = b"{\"sessionId\":\"S\",\"n\":1}\n{\"sessionId\":\"S\",\"n\":2}\n";
    every_cut_gives_the_same("agent-1.jsonl", content, &Options::default());
    assert_eq!(
        in_one_shot("agent-1.jsonl", content, &Options::default()).first().unwrap().stream,
        "S/subagents/agent-1"
    );
}

#[test]
fn a_carriage_return_after_a_first_record_is_a_second_version_of_it() {
    let host = ingest_cut("s.jsonl", b"{\"a\":1}\r\n", &[7], &Options::default());
    let payloads: Vec<_> = host.lines().into_iter().map(|event| event.payload).collect();
    assert_eq!(payloads, [b"{\"a\":1}".to_vec(), b"{\"a\":1}\r".to_vec()]);
    assert_eq!(host.contents("s"), ["{\"a\":1}"]);
}

#[test]
fn what_goes_on_behind_a_complete_object_is_a_second_version_of_it() {
    let mut host = Host::new();
    host.write("s.jsonl", "{\"a\":1}\n{\"b\":2}");
    host.ingest();
    host.append("s.jsonl", "{\"c\":3}\n{\"d\":4}\n");
    let report = host.ingest().total();
    assert_eq!((report.rewritten, report.new, report.present), (1, 2, 1));
    host.close();
    let spliced = "{\"a\":1}\n{\"b\":2}{\"c\":3}\n{\"d\":4}\n";
    assert_eq!(host.contents("s"), ["{\"a\":1}\n{\"b\":2}", spliced]);
    assert_eq!(
        in_one_shot("s.jsonl", spliced.as_bytes(), &Options::default()).difference(&host.lines()).count(),
        0
    );
}

#[test]
fn trap_24_an_unterminated_record_is_pending_until_it_is_an_object() {
    let mut host = Host::new();
    host.write("s.jsonl", "{\"a\":1}\n{\"b\":");
    let counts = host.ingest().total();
    assert_eq!((counts.records, counts.new, counts.pending_records, counts.pending_bytes), (1, 1, 1, 5));
    let counts = host.ingest().total();
    assert_eq!((counts.unchanged, counts.records, counts.pending_bytes), (1, 0, 5));
    host.append("s.jsonl", "2}");
    let counts = host.ingest().total();
    assert_eq!((counts.records, counts.new, counts.pending_bytes), (1, 1, 0));
    host.append("s.jsonl", "\n");
    let counts = host.ingest().total();
    assert_eq!((counts.records, counts.rewritten, counts.bytes_in, counts.unchanged), (0, 0, 1, 0));
    assert_eq!(host.events().len(), 2);
}
