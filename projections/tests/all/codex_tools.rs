//! Codex: which call asked for a tool. It is the one that the first snapshot behind the tool use tells of, in the same turn.

use crate::codex::{A, B, TURN_OF_A, TURN_OF_B, line, meta, prompt, rollout, turn, usage};
use burnlog_projections::conformance::build::{
    Record, append, catch_up, dumped, expected_dump, folded, ledger,
};
use burnlog_projections::{Call, MemoryProjections, Row, RowReader, ToolUse, live};

fn rows<R: Row>(store: &MemoryProjections) -> Vec<R> {
    let rows = store.scan(live(store).unwrap(), R::TABLE, None, usize::MAX).unwrap();
    rows.into_iter().map(|row| R::read(row).unwrap()).collect()
}

fn tool(second: u32, id: &str) -> String {
    let payload = format!(r#""type":"function_call","name":"shell","call_id":"{id}","arguments":"{{}}""#);
    line(second, "response_item", &payload)
}

fn result(second: u32, id: &str) -> String {
    let payload = format!(r#""type":"function_call_output","call_id":"{id}","output":"four""#);
    line(second, "response_item", &payload)
}

/// Each tool use with the output of the call that its row names; -1 where it names none.
fn asked_by(store: &MemoryProjections) -> Vec<(String, i64)> {
    let calls: Vec<Call> = rows(store);
    let output = |key: &Option<String>| {
        let Some(key) = key else { return -1 };
        let call = calls.iter().find(|call| call.call == *key).expect("a row names a call that is there");
        call.output_tokens.unwrap().0
    };
    rows::<ToolUse>(store).iter().map(|row| (row.tool_use.clone(), output(&row.call))).collect()
}

fn expect(store: &MemoryProjections, expected: &[(&str, i64)]) {
    let expected: Vec<_> = expected.iter().map(|(id, output)| ((*id).to_owned(), *output)).collect();
    assert_eq!(asked_by(store), expected);
}

/// Two requests: the first asks for two tools, of which one gives back before the snapshot; the second snapshot is
/// repeated before anything moves.
fn session() -> Vec<Record> {
    let item =
        |kind: &str, id: &str| line(5, "response_item", &format!(r#""type":"{kind}","call_id":"{id}""#));
    let lines = [
        meta(0, A, ""),
        turn(1, TURN_OF_A, "m"),
        prompt(2, "go on"),
        tool(3, "c1"),
        result(3, "c1"),
        item("local_shell_call", "c2"),
        usage(4, (100, 0, 10)),
        result(5, "c2"),
        item("custom_tool_call", "c3"),
        usage(6, (100, 0, 10)),
        usage(7, (200, 0, 30)),
        result(8, "c3"),
    ];
    rollout(A, &lines)
}

#[test]
fn a_tool_use_names_the_call_whose_snapshot_follows_it() {
    expect(&folded(&session()), &[("c1", 10), ("c2", 10), ("c3", 20)]);
}

/// Whatever came first, and however often; a call that comes between changes what was named before.
#[test]
fn a_tool_use_names_its_call_in_any_order_of_arrival() {
    let records = session();
    let expected = expected_dump(&records);
    let mut backwards = records.clone();
    backwards.reverse();
    for records in [backwards, records.iter().skip(6).chain(&records).cloned().collect()] {
        let (ledger, mut store) = (ledger(), MemoryProjections::new());
        for record in &records {
            append(&ledger, 1, std::slice::from_ref(record));
            catch_up(&mut store, &ledger);
        }
        assert_eq!(dumped(&store), expected);
    }
    let (ledger, mut store) = (ledger(), MemoryProjections::new());
    let (late, others): (Vec<Record>, Vec<Record>) = records.into_iter().partition(|record| record.seq == 6);
    append(&ledger, 1, &others);
    catch_up(&mut store, &ledger);
    // Without the snapshot at 10 the repeated one is the call.
    expect(&store, &[("c1", 10), ("c2", 10), ("c3", 10)]);
    append(&ledger, 1, &late);
    catch_up(&mut store, &ledger);
    expect(&store, &[("c1", 10), ("c2", 10), ("c3", 20)]);
}

/// A file that was cut, or a turn that was aborted, tells of no call: the next turn's is not taken for it.
#[test]
fn a_tool_use_without_a_snapshot_names_no_call() {
    let records = session();
    expect(&folded(&records[..6]), &[("c1", -1), ("c2", -1)]);
    let mut lines: Vec<String> =
        records[..6].iter().map(|record| String::from_utf8(record.payload.clone()).unwrap()).collect();
    lines.extend([turn(20, TURN_OF_B, "m"), tool(21, "c4"), usage(22, (100, 0, 10))]);
    expect(&folded(&rollout(A, &lines)), &[("c1", -1), ("c2", -1), ("c4", 10)]);
    // Older versions do not name turns.
    let unnamed = [meta(0, A, ""), tool(1, "c1"), prompt(2, "again"), tool(3, "c2"), usage(4, (100, 0, 10))];
    expect(&folded(&rollout(A, &unnamed)), &[("c1", -1), ("c2", 10)]);
}

/// A fork has the tool uses again: each is one row, and names the one call that both files tell of.
#[test]
fn a_copied_tool_use_names_the_call_of_its_original() {
    let text = |record: &Record| String::from_utf8(record.payload.clone()).unwrap();
    let mut fork = vec![meta(50, B, &format!(r#","forked_from_id":"{A}""#))];
    fork.extend(session().iter().map(text));
    fork.extend([turn(60, TURN_OF_B, "m"), tool(61, "c9"), usage(62, (300, 0, 60))]);
    let expected = [("c1", 10), ("c2", 10), ("c3", 20), ("c9", 30)];
    let fork = rollout(B, &fork);
    for records in [[session(), fork.clone()].concat(), [fork.clone(), session()].concat(), fork] {
        let (ledger, mut store) = (ledger(), MemoryProjections::new());
        for piece in records.chunks(3) {
            append(&ledger, 1, piece);
            catch_up(&mut store, &ledger);
        }
        expect(&store, &expected);
        assert_eq!(dumped(&store), expected_dump(&records));
    }
}

/// A rewritten file has its lines twice, at other numbers.
#[test]
fn a_rewritten_rollout_names_the_same_calls() {
    let mut records = session();
    records.extend(session().into_iter().map(|record| Record { seq: record.seq + 1, ..record }));
    expect(&folded(&records), &[("c1", 10), ("c2", 10), ("c3", 20)]);
}
