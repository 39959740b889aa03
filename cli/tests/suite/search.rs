//! The life of a search index on real commands: made when first asked for, kept up by ingest, apart from all else.

use crate::{Machine, assistant, claude_fixtures, text};
use std::path::PathBuf;

fn says(session: &str, number: u32, said: &str) -> String {
    assistant(session, &format!("m{number}"), 5, Some("end_turn")).replace("\"hi\"", &format!("{said:?}"))
}

fn index(machine: &Machine) -> Option<PathBuf> {
    let files = std::fs::read_dir(machine.path("burn/projections")).unwrap();
    files.map(|file| file.unwrap().path()).find(|path| text(path).ends_with(".search.sqlite"))
}

#[test]
fn the_index_is_made_by_the_first_search_and_kept_up_by_ingest() {
    let machine = Machine::new("one");
    machine.session("s", says("s", 1, "a needle"));
    machine.ok(&["ingest"]);
    assert!(index(&machine).is_none());
    let hits = machine.rows(&["search", "needle"]);
    assert_eq!(
        (hits.len(), hits[0]["session"].as_str(), hits[0]["kind"].as_str()),
        (1, Some("s"), Some("text"))
    );
    assert_eq!(hits[0]["snippet"], "a needle");
    assert_eq!(hits[0]["matches"], serde_json::json!([[2, 6]]));
    let dump = machine.dump();
    machine.session("t", says("t", 2, "another needle"));
    machine.ok(&["ingest"]);
    // What the ingest added is there without the file of the projections being asked again.
    let path = index(&machine).unwrap();
    let words: u64 = std::fs::metadata(&path).unwrap().len();
    assert!(words > 0);
    assert_eq!(machine.rows(&["search", "needle"]).len(), 2);
    assert_ne!(machine.dump(), dump);
    let dump = machine.dump();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(machine.dump(), dump);
    assert_eq!(machine.rows(&["search", "needle"]).len(), 2);
    assert_eq!(machine.dump(), dump);
}

#[test]
fn a_damaged_index_is_built_anew_and_said_so() {
    let machine = Machine::new("one");
    machine.ok(&["ingest", "--root", &claude_fixtures()]);
    let before = machine.ok(&["search", "table"]);
    let path = index(&machine).unwrap();
    let sound = std::fs::read(&path).unwrap();
    let mut torn = sound.clone();
    torn.truncate(sound.len() / 2);
    for damaged in [b"no database at all, whatever it is called".repeat(100), torn] {
        std::fs::write(&path, damaged).unwrap();
        let ended = machine.run(&["search", "table"]);
        assert_eq!((ended.code, ended.stdout.as_str()), (0, before.as_str()), "{}", ended.stderr);
        assert!(ended.stderr.contains("built anew"), "{}", ended.stderr);
        assert_eq!(machine.run(&["search", "table"]).stderr, "");
    }
}

#[test]
fn options_behind_the_words_are_options_and_dashes_in_a_query_exclude() {
    let machine = Machine::new("one");
    machine.session("s", says("s", 1, "git push now") + &says("s", 2, "git push --force"));
    machine.ok(&["ingest"]);
    assert_eq!(machine.rows(&["search", "push"]).len(), 2);
    assert_eq!(machine.rows(&["search", "push -force", "--limit", "5"])[0]["snippet"], "git push now");
    assert_eq!(machine.rows(&["search", "push --force"])[0]["snippet"], "git push --force");
    assert_eq!(machine.ok(&["search", "push", "--", "-force"]).lines().count(), 2);
    let ended = machine.run(&["search", "--", "-force"]);
    assert!(ended.code == 2 && ended.stderr.contains("add a word"), "{}", ended.stderr);
    assert_eq!(machine.run(&["search"]).code, 2);
}

#[test]
fn a_search_before_any_ingest_says_what_to_do() {
    let machine = Machine::new("one");
    let ended = machine.run(&["search", "needle"]);
    assert!(ended.code == 2 && ended.stderr.contains("ingest"), "{}", ended.stderr);
    assert_eq!(ended.stdout, "");
}
