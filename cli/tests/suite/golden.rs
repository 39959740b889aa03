//! What commands print, held as snapshots. Scripts read the JSON and people the tables: a change here is a change
//! for both. Times, sizes on disk, folders and random ids are replaced before the comparison.

use crate::{Ended, Machine, claude_fixtures};
use std::process::Command;

const KEY: &str = "0101010101010101010101010101010101010101010101010101010101010101";

/// A machine that has ingested the fixtures with a fixed writer key.
pub(crate) fn machine() -> Machine {
    let machine = Machine::new("laptop");
    let ended = Ended::of(command(&machine, &["ingest", "--root", &claude_fixtures()]).output().unwrap());
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    machine
}

pub(crate) fn command(machine: &Machine, arguments: &[&str]) -> Command {
    let mut command = machine.command(arguments);
    command.env("RELAYBURN_WRITER_KEY", KEY).env("COLUMNS", "140");
    command
}

pub(crate) fn printed(machine: &Machine, arguments: &[&str]) -> String {
    let ended = Ended::of(command(machine, arguments).output().unwrap());
    let folder = machine.folder.path().to_str().unwrap();
    let text = format!("exit {}\n--- stdout\n{}--- stderr\n{}", ended.code, ended.stdout, ended.stderr);
    text.replace(folder, "/tmp/machine").replace(&claude_fixtures(), "/tmp/fixtures")
}

pub(crate) fn settings() -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.add_filter(r#""elapsed_ms":\d+"#, "\"elapsed_ms\":0");
    settings.add_filter(r#""bytes_on_disk":\d+"#, "\"bytes_on_disk\":0");
    settings.add_filter(r#""id":"[0-9a-f]{32}""#, "\"id\":\"<id>\"");
    settings.add_filter(r"id [0-9a-f]{32}", "id <id>");
    settings.add_filter(r"[0-9.]+ k?B on disk", "<size> on disk");
    settings.add_filter(r"time: [0-9.]+ s", "time: <time> s");
    settings.add_filter(r"; [0-9,]+ ms\n", "; <time> ms\n");
    settings.add_filter(r"in [0-9.]+ s\n", "in <time> s\n");
    settings.add_filter(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", "<now>");
    settings
}

macro_rules! golden {
    ($($name:ident: $arguments:expr,)*) => {
        $(
            #[test]
            fn $name() {
                let machine = machine();
                settings().bind(|| insta::assert_snapshot!(stringify!($name), printed(&machine, &$arguments)));
            }
        )*
    };
}

golden! {
    ingest_again: ["ingest", "--root", &claude_fixtures()],
    ingest_again_json: ["ingest", "--json", "--root", &claude_fixtures()],
    status: ["status"],
    status_json: ["status", "--json"],
    sessions: ["sessions"],
    sessions_json: ["sessions", "--json"],
    sessions_csv: ["sessions", "--csv", "--limit", "3"],
    turns: ["turns"],
    turns_json: ["turns", "--json"],
    usage: ["usage", "--cost"],
    usage_by_day_json: ["usage", "--json", "--by", "day,model"],
    usage_by_project_csv: ["usage", "--csv", "--by", "project,source", "--cost"],
    usage_of_nothing: ["usage", "--json", "--since", "2200-01-01"],
    usage_by_host: ["usage", "--by", "host"],
    usage_help: ["usage", "--help"],
    search: ["search", "table", "width"],
    search_json: ["search", "--json", "\"last column\"", "OR", "colum*", "--limit", "3"],
    search_csv: ["search", "table -last", "--csv", "--limit", "2"],
    search_by_time: ["search", "table", "--sort", "time", "--kind", "tool_use,tool_result", "--since", "2026-03-02"],
    search_in_a_session: ["search", "table", "--session", "4444", "--project", "/work/demo"],
    search_for_nothing_there: ["search", "zebra"],
    search_unclosed: ["search", "--json", "table \"last"],
    help_search: ["search", "--help"],
    diagnostics: ["diagnostics"],
    verify: ["verify"],
    verify_json: ["verify", "--json"],
    project_status: ["project", "status"],
    dump_of_calls: ["project", "dump", "--projection", "calls"],
    help: ["--help"],
    help_ingest: ["ingest", "--help"],
    help_push: ["push", "--help"],
    help_run: ["run", "--help"],
    help_hook_install: ["hook", "install", "--help"],
    push: ["push", "--to", "file:central"],
    push_json: ["push", "--json", "--to", "file:central"],
    push_to_nowhere_json: ["push", "--json"],
    unknown_session: ["turns", "--session", "nothing"],
    unknown_session_json: ["turns", "--json", "--session", "nothing"],
}

#[test]
fn first_ingest() {
    let machine = Machine::new("laptop");
    settings().bind(|| {
        insta::assert_snapshot!("first_ingest", printed(&machine, &["ingest", "--root", &claude_fixtures()]));
    });
}

#[test]
fn no_sessions() {
    let machine = Machine::new("laptop");
    settings().bind(|| insta::assert_snapshot!("no_sessions", printed(&machine, &["ingest"])));
}
