//! Claims about stamps and conflicts: the latest stamp counts, tags filter, and contradictions are kept.

use burnlog_projections::conformance::build::{
    Record, answer, append, catch_up, folded, ledger, line, prompt, stamp, tool_result, tool_use,
};
use burnlog_projections::{Filter, MemoryProjections, PageRequest, Queries, conflicts, stamps, tag};

const SOURCE: &str = "claude-code";

fn tagged(key: &str, value: &str) -> Filter {
    Filter { tags: vec![(key.to_owned(), value.to_owned())], ..Filter::default() }
}

fn calls(store: &MemoryProjections, filter: &Filter) -> Vec<String> {
    let page = store.turns(filter, &PageRequest { after: None, limit: 99 }).unwrap();
    let calls: Vec<String> = page.items.into_iter().map(|turn| turn.call.call).collect();
    assert_eq!(store.usage(filter, &[]).unwrap()[0].usage.calls, calls.len() as i64);
    calls
}

#[test]
fn a_call_has_the_tags_of_its_stream_and_session_unless_it_has_its_own() {
    let records = [
        line("s", 0, answer("s", 0, "m0", 1, None)),
        line("s", 1, answer("s", 1, "m1", 1, None)),
        line("s/subagents/agent-a", 0, answer("s", 2, "m2", 1, None)),
        line("t", 0, answer("t", 3, "m3", 1, None)),
        stamp(r#"{"session":"s"}"#, r#"{"team":"red"}"#, 1),
        stamp(r#"{"stream":"s/subagents/agent-a"}"#, r#"{"team":"blue"}"#, 1),
        stamp(r#"{"call":"m1","source":"claude-code"}"#, r#"{"team":"green"}"#, 1),
        stamp(r#"{"call":"m3","source":"codex"}"#, r#"{"team":"red"}"#, 1),
    ];
    let store = folded(&records);
    assert_eq!(calls(&store, &tagged("team", "red")), ["m0"]);
    assert_eq!(calls(&store, &tagged("team", "blue")), ["m2"]);
    assert_eq!(calls(&store, &tagged("team", "green")), ["m1"]);
    assert_eq!(calls(&store, &tagged("other", "red")), Vec::<String>::new());
    let page = PageRequest { after: None, limit: 9 };
    let sessions = store.sessions(&tagged("team", "red"), &page).unwrap().items;
    assert_eq!(sessions.iter().map(|row| &*row.session).collect::<Vec<_>>(), ["s"]);
}

#[test]
fn the_latest_stamp_counts_whenever_it_came() {
    let of = |set: &str, second: u32| stamp(r#"{"session":"s"}"#, set, second);
    let records = [
        of(r#"{"a":"late","b":"x"}"#, 9),
        of(r#"{"a":"early","c":"x","c":"y"}"#, 1),
        of(r#"{"b":null,"d":7}"#, 10),
        // For this source alone: it counts before that for any.
        stamp(r#"{"session":"s","source":"claude-code"}"#, r#"{"a":"own"}"#, 0),
    ];
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]] {
        let (ledger, mut store) = (ledger(), MemoryProjections::new());
        for at in order {
            append(&ledger, 1, std::slice::from_ref(&records[at]));
            catch_up(&mut store, &ledger);
        }
        let found = stamps(&store, "session", SOURCE, "s").unwrap();
        let values: Vec<_> = found.iter().map(|row| (&*row.stamp_key, row.value.as_deref())).collect();
        assert_eq!(values, [("a", Some("own")), ("a", Some("late")), ("b", None), ("c", Some("y"))]);
        let value = |source: &str, key: &str| tag(&store, &[("session", source, "s")], key).unwrap();
        assert_eq!(value(SOURCE, "a").as_deref(), Some("own"));
        assert_eq!(value("codex", "a").as_deref(), Some("late"));
        assert_eq!(value(SOURCE, "b"), None);
    }
}

#[test]
fn a_stamp_may_set_many_keys_on_several_things() {
    let set: Vec<String> = (0..20_000).map(|number| format!("\"k{number}\":\"v\"")).collect();
    let set = format!("{{{},\"k7\":5}}", set.join(","));
    let store = folded(&[stamp(r#"{"session":"s","call":"c"}"#, &set, 1)]);
    for (selects, target) in [("session", "s"), ("call", "c")] {
        assert_eq!(stamps(&store, selects, SOURCE, target).unwrap().len(), 19_999);
    }
}

#[test]
fn stamps_that_are_none_change_nothing() {
    let odd = [r#"{"selector":"s","set":{"a":"b"}}"#, "{", "[]", r#"{"selector":{"session":"s"},"set":[1]}"#];
    let records: Vec<Record> = odd
        .iter()
        .map(|payload| Record { payload: payload.as_bytes().to_vec(), ..stamp("{}", "{}", 0) })
        .collect();
    let store = folded(&records);
    assert_eq!(stamps(&store, "session", SOURCE, "s").unwrap(), []);
}

/// What contradicts itself, in any order and any commits: every form is shown, with the record that the row would keep.
#[test]
fn contradictions_are_kept_in_all_their_forms() {
    let records = [
        line("s", 0, answer("s", 1, "m1", 5, Some("end_turn"))),
        line("s", 1, answer("s", 2, "m1", 6, Some("end_turn"))),
        // The same end again, and one that is not final: no contradiction.
        line("s", 2, answer("s", 3, "m1", 5, Some("end_turn"))),
        line("s", 3, answer("s", 4, "m1", 1, None)),
        line("s", 4, tool_result("s", 5, "t1", true)),
        line("s", 5, tool_result("s", 6, "t1", false).replace("four", "three")),
        line("s", 6, tool_use("s", 7, "m2", "t2")),
        line("s", 7, tool_use("s", 8, "m2", "t2").replace("a.rs", "b.rs")),
        line("s", 8, prompt("s", 9, "one")),
        line("t", 8, prompt("s", 9, "two")),
        line("u", 8, prompt("s", 9, "one")),
        line("s", 9, prompt("s", 10, "same")),
        line("t", 9, prompt("s", 10, "same")),
    ];
    let expected = conflicts(&folded(&records)).unwrap();
    let shown: Vec<_> =
        expected.iter().map(|row| (&*row.kind, row.identity.as_str(), row.form.as_str())).collect();
    let turn = burnlog_projections::conformance::build::uuid("s", 9);
    assert_eq!(shown.len(), 8, "{shown:?}");
    assert_eq!(
        shown[0],
        ("call", "m1", "model-a, end_turn, input 3, output 5, cache read 100, cache write 5 and 2")
    );
    assert_eq!(shown[2].0, "tool_result");
    assert_eq!((shown[2].2, shown[3].2), ("4 bytes", "5 bytes"));
    assert_eq!((shown[4].2, shown[5].2), ("Edit /work/demo/a.rs", "Edit /work/demo/b.rs"));
    assert!(shown[6..].iter().all(|row| row.0 == "user_turn" && row.1 == turn));
    // Of the form with output 5 the later line is kept, as the call would.
    let later = burnlog_projections::conformance::build::batch(&records).event(2).address;
    assert_eq!(expected[0].place, later);
    for turn in 0..records.len() {
        let (ledger, mut store) = (ledger(), MemoryProjections::new());
        let mut order: Vec<usize> = (0..records.len()).collect();
        order.rotate_left(turn);
        if turn % 2 == 0 {
            order.reverse();
        }
        for at in order {
            append(&ledger, 1, std::slice::from_ref(&records[at]));
            catch_up(&mut store, &ledger);
        }
        assert_eq!(conflicts(&store).unwrap(), expected, "{turn}");
    }
}
