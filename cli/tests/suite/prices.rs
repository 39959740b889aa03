//! `usage --cost` with price tables of the user's own.

use crate::{Machine, assistant};

#[test]
fn a_table_of_ones_own_prices_what_the_built_in_one_does_not() {
    let machine = Machine::new("one");
    machine.session("s", assistant("s", "m1", 1_000_000, Some("end_turn")));
    machine.ok(&["ingest"]);
    let total = |arguments: &[&str]| machine.rows(arguments).pop().unwrap()["total"].clone();
    let unpriced = total(&["usage", "--cost"]);
    assert!(unpriced["cost_nanousd"].is_null(), "{unpriced}");
    assert_eq!(unpriced["unpriced_calls"], 1);
    assert_eq!(unpriced["output_tokens"], 1_000_000);

    let table = r#"{"format":1,"retrieved":"2026-01-01","prices":[{"models":["claude-test-1"],"input":1000000,"output":2000000000}]}"#;
    std::fs::write(machine.path("prices.json"), table).unwrap();
    let path = machine.path("prices.json");
    let priced = total(&["usage", "--prices", path.to_str().unwrap()]);
    // 10 tokens at 1 nano-dollar, a million at 2 dollars.
    assert_eq!(priced["cost_nanousd"], 2_000_000_010_u64);
    assert_eq!(priced["unpriced_calls"], 0);

    std::fs::rename(&path, machine.path("burn/host/prices.json")).unwrap();
    assert_eq!(total(&["usage"])["cost_nanousd"], 2_000_000_010_u64);
}

#[test]
fn a_table_that_makes_no_sense_is_named() {
    let machine = Machine::new("one");
    machine.session("s", assistant("s", "m1", 1, Some("end_turn")));
    machine.ok(&["ingest"]);
    std::fs::write(machine.path("prices.json"), "{\"format\":1}").unwrap();
    for (path, says) in [("prices.json", "retrieved"), ("nowhere.json", "cannot be read")] {
        let ended = machine.run(&["usage", "--prices", path]);
        assert_eq!(ended.code, 2);
        assert!(ended.stderr.contains(path) && ended.stderr.contains(says), "{}", ended.stderr);
    }
}
