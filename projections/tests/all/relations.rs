//! Claims about relationships: what records state, what copied history shows, and where each chain begins.

use burnlog_projections::conformance::build::{
    Record, answer, append, catch_up, folded, forked, ledger, line, prompt, session_line, stamp,
    started_agent, tool_use, uuid,
};
use burnlog_projections::{
    Link, MemoryProjections, Relationship, SessionLinks, numbered_turns, relationships,
};

const SOURCE: &str = "claude-code";

fn of(store: &MemoryProjections, session: &str) -> SessionLinks {
    relationships(store, SOURCE, session).unwrap()
}

fn short(link: &Link) -> (&str, &str, &str) {
    (&link.kind, link.from_session.as_deref().unwrap_or_default(), &link.to_session)
}

fn links(found: &SessionLinks) -> Vec<(&str, &str, &str)> {
    found.links.iter().map(short).collect()
}

fn copy_of(session: &str, payload: &str, to: &str) -> String {
    payload.replace(&format!(r#""sessionId":"{session}""#), &format!(r#""sessionId":"{to}""#))
}

/// Trap 8: copied history is found by what both files begin with, and where it ends is told.
#[test]
fn trap_08_copied_history_ends_where_the_files_part() {
    let shared: Vec<String> = (0..5).map(|second| prompt("a", second, "shared")).collect();
    let mut records: Vec<Record> = Vec::new();
    for (seq, payload) in shared.iter().enumerate() {
        records.push(line("a", seq as u64, payload.clone()));
        // The copies have another line in front, which has no id.
        records.push(line("b", seq as u64 + 1, copy_of("a", payload, "b")));
        if seq < 3 {
            records.push(line("c", seq as u64 + 1, copy_of("a", payload, "c")));
        }
    }
    records.push(line("b", 0, r#"{"type":"mode"}"#));
    records.push(line("b", 6, prompt("b", 60, "own of b")));
    records.push(line("c", 4, prompt("c", 90, "own of c")));
    let store = folded(&records);
    let found = of(&store, "b");
    assert_eq!(links(&found), [("copy", "a", "b")]);
    let copied = found.links[0].copied.unwrap();
    assert_eq!((copied.records, copied.end.seq), (5, 5));
    assert_eq!(found.links[0].from_stream.as_deref(), Some("a"));
    // c has as much of a as of b: the one that ended first is where it came from.
    assert_eq!(links(&of(&store, "a")), [("copy", "a", "b"), ("copy", "a", "c")]);
    assert_eq!((&*of(&store, "c").root, &*found.root, &*of(&store, "a").root), ("a", "a", "a"));
}

#[test]
fn a_fork_that_says_so_needs_no_guess_and_its_copy_is_measured() {
    let mut records = vec![line("z", 0, prompt("z", 5, "one")), line("z", 1, prompt("z", 6, "two"))];
    records.push(line(
        "a",
        0,
        prompt("z", 5, "one").replace("\"type\"", r#""forkedFrom":{"sessionId":"z"},"type""#),
    ));
    records.push(line("a", 1, forked("a", 1, "z")));
    let found = of(&folded(&records), "a");
    assert_eq!(links(&found), [("fork", "z", "a")]);
    let link = &found.links[0];
    assert_eq!(link.copied.unwrap().records, 1);
    assert_eq!((link.record.as_deref(), &*found.root), (Some("u"), "z"));
}

#[test]
fn a_copy_that_keeps_the_session_id_names_where_it_came_from() {
    let records = [line("new", 0, prompt("old", 1, "x")), line("old", 0, prompt("old", 1, "x"))];
    assert_eq!(links(&of(&folded(&records), "new")), [("fork", "old", "new")]);
}

#[test]
fn circles_and_cut_chains_have_a_root_too() {
    let continued = |session: &str, from: &str| {
        line(
            session,
            0,
            session_line(
                "user",
                session,
                1,
                &format!(r#""continuedFromSessionId":"{from}","message":{{"content":"x"}}"#),
            ),
        )
    };
    let store = folded(&[
        continued("b", "c"),
        continued("c", "d"),
        continued("d", "b"),
        continued("entry", "d"),
        continued("x", "never seen"),
        continued("self", "self"),
    ]);
    for session in ["b", "c", "d", "entry"] {
        assert_eq!(&*of(&store, session).root, "b", "{session}");
    }
    assert_eq!(&*of(&store, "x").root, "never seen");
    assert_eq!(of(&store, "self").links, []);
}

#[test]
fn subagents_are_linked_with_the_tool_use_that_started_them_and_with_their_streams() {
    let records = [
        line("s", 0, tool_use("s", 1, "m1", "t1")),
        line("s", 1, started_agent("s", 9, "t1", "a1")),
        line("s/subagents/agent-a1", 0, answer("s", 2, "m2", 1, None)),
        line("s/subagents/agent-a1.meta", 0, "{}"),
        line("s/subagents/agent-a2", 0, answer("s", 3, "m3", 1, None)),
        line(
            "s",
            2,
            session_line(
                "progress",
                "s",
                10,
                r#""parentToolUseID":"t3","data":{"type":"agent_progress","agentId":"a3","message":{"type":"user"}}"#,
            ),
        ),
    ];
    let found = of(&folded(&records), "s");
    let agents: Vec<_> = found
        .links
        .iter()
        .map(|link| (link.agent.as_deref().unwrap(), link.to_stream.as_deref(), link.tool_use.as_deref()))
        .collect();
    let expected = [
        ("a3", None, Some("t3")),
        ("a1", Some("s/subagents/agent-a1"), Some("t1")),
        ("a2", Some("s/subagents/agent-a2"), None),
    ];
    assert_eq!(agents, expected);
    assert!(found.links.iter().all(|link| short(link) == ("subagent", "s", "s")));
    assert_eq!((&*found.root, found.streams.len()), ("s", 4));
}

#[test]
fn a_file_that_goes_on_from_a_record_of_another_is_linked_with_it() {
    let follows = |session: &str, parent: &str| {
        session_line(
            "user",
            session,
            50,
            &format!(r#""logicalParentUuid":"{parent}","message":{{"content":"x"}}"#),
        )
    };
    let records = [
        line("a", 0, prompt("a", 1, "x")),
        line("b", 0, follows("b", &uuid("a", 1))),
        line("c", 0, follows("c", "nobody")),
    ];
    let store = folded(&records);
    let found = of(&store, "b");
    assert_eq!(links(&found), [("parent", "a", "b")]);
    assert!(found.links[0].place.is_some());
    assert_eq!(&*found.root, "a");
    let cut = of(&store, "c");
    assert_eq!((links(&cut), &*cut.root), (vec![("parent", "", "c")], "c"));
}

/// The latest stamp for the key tells who started a session; an older one leaves nothing behind.
#[test]
fn a_stamp_tells_who_started_a_session() {
    let parent = |value: &str, second: u32| {
        stamp(r#"{"session":"child"}"#, &format!(r#"{{"parentAgentId":{value}}}"#), second)
    };
    let child = line("child", 0, prompt("child", 1, "x"));
    let (ledger, mut store) = (ledger(), MemoryProjections::new());
    for (number, record) in
        [child, parent("\"early\"", 1), parent("\"late\"", 3), parent("\"middle\"", 2)].iter().enumerate()
    {
        append(&ledger, number as u8 + 1, std::slice::from_ref(record));
        catch_up(&mut store, &ledger);
    }
    assert_eq!(links(&of(&store, "child")), [("spawn-env", "late", "child")]);
    assert_eq!(links(&of(&store, "late")), [("spawn-env", "late", "child")]);
    assert_eq!(links(&of(&store, "early")), []);
    assert_eq!(&*of(&store, "child").root, "late");
    append(&ledger, 1, &[parent("null", 4)]);
    catch_up(&mut store, &ledger);
    assert_eq!(of(&store, "child").links, []);
}

/// Trap 7.
#[test]
fn trap_07_prompts_are_numbered_as_they_stand_whenever_they_came() {
    let (ledger, mut store) = (ledger(), MemoryProjections::new());
    let at = |second: u32, text: &str| line("s", u64::from(second), prompt("s", second, text));
    append(&ledger, 1, &[at(5, "third"), at(1, "first"), at(2, "[Request interrupted by user]")]);
    catch_up(&mut store, &ledger);
    append(&ledger, 1, &[at(3, "second")]);
    catch_up(&mut store, &ledger);
    let turns = numbered_turns(&store, SOURCE, "s").unwrap();
    let numbers: Vec<_> = turns.iter().map(|turn| (turn.ordinal, turn.turn.characters)).collect();
    assert_eq!(numbers, [(Some(1), 5), (None, 29), (Some(2), 6), (Some(3), 5)]);
}

#[test]
fn of_several_records_that_state_a_relationship_the_earliest_is_kept() {
    use burnlog_projections::{Row, RowReader, live};
    let records = [line("a", 0, forked("a", 9, "z")), line("a", 1, forked("a", 2, "z"))];
    let store = folded(&records);
    let rows = store.scan(live(&store).unwrap(), Relationship::TABLE, None, 9).unwrap();
    let rows: Vec<_> = rows.into_iter().map(|row| Relationship::read(row).unwrap()).collect();
    let first = burnlog_projections::conformance::build::batch(&records).event(1).address;
    assert_eq!((rows.len(), rows[0].place), (1, first));
}
