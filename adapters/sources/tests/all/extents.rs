//! Tails and extents: what is said when a stream ends or is not any more what it was, and law 6 over it.

use crate::support::Host;
use burnlog_sources::Extent;
use std::fs;

const TWO: &str = "{\"a\":1}\n{\"b\":2}\n";

#[test]
fn a_file_that_is_gone_leaves_its_tail_and_extent() {
    let mut host = Host::new();
    host.write("s.jsonl", format!("{TWO}{{\"half"));
    host.ingest();
    host.remove("s.jsonl");
    let counts = host.ingest().total();
    assert_eq!((counts.closed, counts.extents, counts.records, counts.new), (1, 1, 1, 1));
    let tails = host.of_kind("tail");
    assert_eq!((tails.len(), tails[0].seq, tails[0].payload.as_slice()), (1, 2, b"{\"half".as_slice()));
    assert_eq!(host.contents("s"), [format!("{TWO}{{\"half")]);
    let size = host.feed_size();
    assert_eq!(host.ingest().total().closed, 0);
    assert_eq!(host.feed_size(), size);
}

#[test]
fn a_folder_of_sessions_that_is_gone_closes_them_all() {
    let mut host = Host::new();
    host.write("s.jsonl", TWO);
    host.write("t/subagents/agent-1.jsonl", TWO);
    host.ingest();
    fs::remove_dir_all(host.home().join(".claude")).unwrap();
    assert_eq!(host.ingest().total().closed, 2);
    assert_eq!(host.restored().len(), 2);
}

#[test]
fn what_lies_outside_the_roots_is_not_closed() {
    let mut host = Host::new();
    host.write("s.jsonl", TWO);
    host.ingest();
    host.remove("s.jsonl");
    let elsewhere = host.home().join("elsewhere/projects");
    fs::create_dir_all(&elsewhere).unwrap();
    assert_eq!(host.ingest_from(&[elsewhere]).total().closed, 0);
}

#[test]
fn closing_twice_writes_nothing_new() {
    let mut host = Host::new();
    host.write("s.jsonl", format!("{TWO}{{\"half"));
    let counts = host.close().total();
    assert_eq!((counts.closed, counts.pending_records), (1, 0));
    let size = host.feed_size();
    let counts = host.close().total();
    assert_eq!((counts.closed, counts.unchanged, counts.extents), (0, 1, 0));
    host.touch(&host.path("s.jsonl"));
    host.close();
    assert_eq!(host.feed_size(), size);
}

#[test]
fn a_closed_stream_may_go_on() {
    let mut host = Host::new();
    host.write("s.jsonl", format!("{TWO}{{\"c\""));
    host.close();
    host.append("s.jsonl", ":3}\n{\"d\":4}\n");
    let counts = host.close().total();
    assert_eq!((counts.new, counts.rewritten, counts.closed), (2, 0, 1));
    assert_eq!(host.contents("s"), [format!("{TWO}{{\"c\""), format!("{TWO}{{\"c\":3}}\n{{\"d\":4}}\n")]);
}

#[test]
fn a_resurrected_file_goes_on_where_it_was() {
    let mut host = Host::new();
    host.write("s.jsonl", TWO);
    host.ingest();
    host.remove("s.jsonl");
    host.ingest();
    let size = host.feed_size();
    host.write("s.jsonl", TWO);
    assert_eq!(host.ingest().total().rewritten, 0);
    assert_eq!(host.feed_size(), size);
    host.append("s.jsonl", "{\"c\":3}\n");
    assert_eq!(host.close().total().new, 1);
    assert_eq!(host.contents("s"), [TWO.to_owned(), format!("{TWO}{{\"c\":3}}\n")]);
}

#[test]
fn trap_11_a_file_rewritten_in_place_to_a_larger_one_keeps_both() {
    let mut host = Host::new();
    host.write("s.jsonl", TWO);
    host.ingest();
    let after = "{\"a\":1}\n{\"b\":\"rewritten\"}\n{\"c\":3}\n";
    host.write("s.jsonl", after);
    let counts = host.ingest().total();
    assert_eq!((counts.rewritten, counts.extents, counts.new, counts.present), (1, 1, 2, 1));
    host.close();
    assert_eq!(host.contents("s"), [TWO, after]);
    let last = host.of_kind("extent").pop().unwrap();
    let chosen = Extent::parse(&last.payload).unwrap().chosen;
    assert_eq!(chosen.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), [1]);
}

#[test]
fn a_truncated_file_keeps_what_it_was() {
    let mut host = Host::new();
    host.write("s.jsonl", format!("{TWO}{{\"c\":3}}\n{{\"hal"));
    host.ingest();
    host.write("s.jsonl", "{\"a\":1}\n");
    assert_eq!(host.ingest().total().rewritten, 1);
    host.append("s.jsonl", "{\"other\":2}\n");
    host.ingest();
    host.append("s.jsonl", "{\"c\":3}\n");
    host.close();
    let last = "{\"a\":1}\n{\"other\":2}\n{\"c\":3}\n";
    assert_eq!(host.contents("s"), [format!("{TWO}{{\"c\":3}}\n{{\"hal"), last.to_owned()]);
    host.write("s.jsonl", "");
    host.close();
    host.write("s.jsonl", TWO);
    host.close();
    assert_eq!(host.contents("s").pop().unwrap(), TWO);
}

#[test]
fn a_file_that_goes_back_and_forth_restores_each_time() {
    let mut host = Host::new();
    let versions = ["{\"a\":1}\n{\"b\":1}\n", "{\"a\":2}\n{\"b\":1}\n{\"c\":1}\n", "{\"a\":3}\n"];
    for round in 0..9 {
        let content = versions[(round * round + round / 2) % 3];
        host.write("s.jsonl", content);
        host.ingest();
        if round % 2 == 0 {
            host.close();
            assert!(host.contents("s").iter().any(|restored| restored == content), "round {round}");
        }
    }
}

#[test]
fn pending_bytes_that_were_overwritten_are_kept() {
    let mut host = Host::new();
    host.write("s.jsonl", format!("{TWO}{{\"draft"));
    host.ingest();
    host.write("s.jsonl", format!("{TWO}{{\"other\":1}}\n"));
    assert_eq!(host.ingest().total().rewritten, 1);
    host.close();
    assert_eq!(host.contents("s"), [format!("{TWO}{{\"draft"), format!("{TWO}{{\"other\":1}}\n")]);
}

#[test]
fn lost_cursors_cost_nothing_but_longer_extents() {
    let mut host = Host::new();
    host.write("s.jsonl", TWO);
    host.ingest();
    host.write("s.jsonl", "{\"a\":1}\n{\"b\":\"rewritten\"}\n");
    host.ingest();
    fs::remove_file(host.cursor_path()).unwrap();
    host.append("s.jsonl", "{\"c\":3}\n");
    let counts = host.ingest().total();
    assert_eq!((counts.records, counts.new, counts.present), (3, 1, 2));
    host.close();
    let last = host.of_kind("extent").pop().unwrap();
    assert_eq!(Extent::parse(&last.payload).unwrap().chosen.len(), 3);
    assert_eq!(host.contents("s").pop().unwrap(), "{\"a\":1}\n{\"b\":\"rewritten\"}\n{\"c\":3}\n");
}

#[test]
fn an_answer_that_was_lost_in_the_middle_of_a_rewrite_is_made_up_for() {
    let rewritten = ["{\"a\":1}\n{\"b\":\"rewritten\"}\n", "{\"a\":1}\n{\"b\":\"rewritten\"}\n{\"c\":3}\n"];
    let failing = [(1 << 20, 0), (1, 0), (1, 1), (1, 2)];
    for (content, (batch_bytes, batches)) in
        rewritten.iter().flat_map(|content| failing.map(|at| (content, at)))
    {
        let mut host = Host::new();
        host.options.batch_bytes = batch_bytes;
        host.write("s.jsonl", TWO);
        host.ingest();
        host.write("s.jsonl", content);
        host.crash_after = Some(batches);
        host.try_ingest_from(&[host.home()]).unwrap_err();
        host.ingest();
        // Back to what it was: both versions are in the feed already, and the newest is not the one.
        host.write("s.jsonl", TWO);
        host.close();
        assert_eq!(host.contents("s").last().unwrap(), TWO, "batch {batches} of {batch_bytes}");
    }
}

#[test]
fn trap_29_the_same_session_in_two_homes_restores_from_either() {
    let mut host = Host::new();
    let other = host.home().join("other/projects/-work/s.jsonl");
    let homes = [host.home(), host.home().join("other")];
    host.write("s.jsonl", TWO);
    host.ingest_from(&homes);
    let theirs = "{\"a\":1}\n{\"b\":\"theirs\"}\n{\"c\":3}\n";
    host.write_at(&other, theirs.as_bytes());
    let counts = host.ingest_from(&homes).total();
    assert_eq!((counts.files, counts.new, counts.present), (2, 2, 1));
    let mine = format!("{TWO}{{\"mine\":3}}\n");
    host.append("s.jsonl", "{\"mine\":3}\n");
    host.options.close = true;
    host.ingest_from(&homes);
    let contents = host.contents("s");
    for content in [TWO, theirs, &mine] {
        assert!(contents.iter().any(|restored| restored == content), "{content} is not in {contents:?}");
    }
    let size = host.feed_size();
    host.ingest_from(&homes);
    assert_eq!(host.feed_size(), size);
}

/// Each file is ingested alone, so that what the others are is told by cursors that are not looked at.
#[test]
fn trap_29_the_same_session_in_two_homes_that_are_ingested_one_by_one_restores_from_either() {
    for loose_bytes_min in [None, Some(0), Some(600)] {
        let mut host = Host::new();
        host.loose_bytes_min = loose_bytes_min;
        let (one, other) = (host.path("s.jsonl"), host.home().join("other/projects/-work/s.jsonl"));
        for name in ["r.jsonl", "t.jsonl"] {
            host.write(name, TWO);
            host.ingest_from(&[host.path(name)]);
        }
        host.write("s.jsonl", TWO);
        host.ingest_from(std::slice::from_ref(&one));
        let theirs = "{\"a\":1}\n{\"b\":\"theirs\"}\n{\"c\":3}\n";
        host.write_at(&other, theirs.as_bytes());
        let counts = host.ingest_from(std::slice::from_ref(&other)).total();
        assert_eq!((counts.files, counts.new, counts.present), (1, 2, 1));
        let mine = format!("{TWO}{{\"mine\":3}}\n");
        host.append("s.jsonl", "{\"mine\":3}\n");
        host.options.close = true;
        host.ingest_from(std::slice::from_ref(&one));
        host.ingest_from(std::slice::from_ref(&other));
        let contents = host.contents("s");
        for content in [TWO, theirs, &mine] {
            assert!(contents.iter().any(|restored| restored == content), "{content} is not in {contents:?}");
        }
    }
}

#[test]
fn trap_29_the_same_session_in_two_homes_that_come_at_once_restores_from_either() {
    let mut host = Host::new();
    host.options.batch_bytes = 1 << 20;
    let homes = [host.home(), host.home().join("other")];
    let theirs = "{\"a\":1}\n{\"b\":\"theirs\"}\n{\"c\":3}\n";
    host.write("s.jsonl", TWO);
    host.write_at(&host.home().join("other/projects/-work/s.jsonl"), theirs.as_bytes());
    host.options.close = true;
    host.ingest_from(&homes);
    let contents = host.contents("s");
    for content in [TWO, theirs] {
        assert!(contents.iter().any(|restored| restored == content), "{content} is not in {contents:?}");
    }
}

#[test]
fn two_hosts_write_the_same_extent_for_the_same_file() {
    let payload = |cuts: &[usize]| {
        let mut host = Host::new();
        for cut in cuts {
            host.write("s.jsonl", &TWO[..*cut]);
            host.ingest();
        }
        host.close();
        host.of_kind("extent").pop().unwrap().payload
    };
    assert_eq!(payload(&[TWO.len()]), payload(&[3, 9, TWO.len()]));
}

#[test]
fn a_long_unterminated_record_is_a_tail_in_parts() {
    let mut host = Host::new();
    host.options.record_bytes_max = 10;
    let content = format!("{TWO}{{\"never ends\":\"0123456789");
    host.write("s.jsonl", &content);
    assert_eq!(host.ingest().total().pending_bytes, 25);
    host.close();
    let parts: Vec<_> = host.of_kind("tail").into_iter().map(|event| event.part).collect();
    assert_eq!(parts, [Some((0, true)), Some((1, true)), Some((2, false))]);
    assert_eq!(host.contents("s"), [content]);
}

#[test]
fn a_pending_record_too_long_to_keep_is_read_when_the_stream_is_closed() {
    let mut host = Host::new();
    let content = format!("{TWO}{{\"long\":\"{}", "x".repeat(2 << 20));
    host.write("s.jsonl", &content);
    host.ingest();
    assert!(fs::metadata(host.cursor_path()).unwrap().len() < 2000);
    host.close();
    assert_eq!(host.contents("s"), [content]);
}
