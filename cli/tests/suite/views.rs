//! Lists and drawings over the rows, stamps, and exports.

use crate::golden::{machine, printed, settings};
use crate::{Machine, assistant, text};
use std::collections::{BTreeSet, HashMap};

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
    content: ["content", "--session", "5555", "--limit", "6"],
    content_json: ["content", "--session", "aaaa", "--json", "--kind", "image", "--kind", "tool_result"],
    relationships: ["relationships", "1111"],
    relationships_json: ["relationships", "4444", "--json"],
    relationships_tree: ["relationships", "--tree"],
    relationships_dot: ["relationships", "1111", "--dot"],
    relationships_mermaid: ["relationships", "5555", "--mermaid"],
    export_usage: ["export", "--table", "usage_daily", "--format", "csv"],
    export_records: ["export", "--table", "user_turns"],
    help_show: ["show", "--help"],
    help_stamp: ["stamp", "--help"],
}

#[test]
fn conflicts_show_every_form() {
    let machine = Machine::new("laptop");
    let ends = [assistant("s1", "m1", 5, Some("end_turn")), assistant("s1", "m1", 9, Some("end_turn"))];
    machine.session("s1", ends.concat());
    machine.ok(&["ingest"]);
    let rows = machine.rows(&["conflicts"]);
    assert_eq!(rows.len(), 2);
    assert!(
        rows.iter().all(|row| row["kind"] == "call" && row["identity"] == "m1" && row["session"].is_null())
    );
    assert_ne!(rows[0]["form"], rows[1]["form"]);
    let quiet = Machine::new("laptop");
    quiet.session("s1", assistant("s1", "m1", 5, Some("end_turn")));
    quiet.ok(&["ingest"]);
    let ended = quiet.run(&["conflicts"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (0, ""));
}

#[test]
fn conflicts_and_relationships_are_those_of_the_sessions_that_a_filter_chooses() {
    let machine = Machine::new("laptop");
    for (session, call) in [("s1", "m1"), ("s2", "m2")] {
        let ends =
            [assistant(session, call, 5, Some("end_turn")), assistant(session, call, 9, Some("end_turn"))];
        machine.session(session, ends.concat());
    }
    machine.ok(&["ingest"]);
    machine.ok(&["ingest", "--root", &crate::claude_fixtures()]);
    let identities = |arguments: &[&str]| -> Vec<String> {
        let rows = machine.rows(&[&["conflicts"], arguments].concat());
        rows.iter().map(|row| row["identity"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(identities(&["--session", "s1"]), ["m1", "m1"]);
    assert_eq!(identities(&["--session", "s2", "--limit", "1"]), ["m2"]);
    assert!(identities(&["--source", "codex"]).is_empty());
    let all = machine.rows(&["relationships"]);
    let of_session = machine.rows(&["relationships", "--session", "1111"]);
    let has = |row: &&serde_json::Value| {
        let ends = [&row["from_session"], &row["to_session"]];
        ends.iter().any(|end| end.as_str().is_some_and(|end| end.starts_with("1111")))
    };
    let expected: Vec<&serde_json::Value> = all.iter().filter(has).collect();
    assert!(!expected.is_empty() && expected.len() < all.len());
    assert_eq!(of_session.iter().collect::<Vec<_>>(), expected);
    assert_eq!(machine.rows(&["relationships", "--limit", "2"]), all[..2]);
    assert!(machine.rows(&["relationships", "--since", "2150-01-01"]).is_empty());
    let exported = machine.ok(&["export", "--table", "relationships", "--session", "1111"]);
    assert_eq!(exported.lines().count(), of_session.len());
    let turns = machine.ok(&["export", "--table", "turns", "--session", "s1", "--limit", "5"]);
    assert_eq!(turns, machine.ok(&["turns", "--session", "s1", "--json"]));
}

/// The rows of an export of JSON lines.
fn exported(machine: &Machine, table: &str, filter: &[&str]) -> Vec<serde_json::Value> {
    let printed = machine.ok(&[&["export", "--table", table], filter].concat());
    printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Whatever the table, a filter and its complement are the whole, and what is let through is of the sessions asked for.
#[test]
fn every_table_that_names_sessions_is_exported_through_the_filters() {
    let machine = machine();
    machine.ok(&["ingest", "--root", &text(crate::fixtures().join("sessions/codex"))]);
    let listed = machine.rows(&["sessions"]);
    let names = |row: &serde_json::Value| [row["source"].clone(), row["session"].clone()];
    let of_streams: HashMap<_, _> = exported(&machine, "streams", &[])
        .iter()
        .map(|row| ([row["source"].clone(), row["stream"].clone()], row["session"].clone()))
        .collect();
    for table in ["user_turns", "streams", "notices", "compactions", "records", "stream_feeds", "extents"] {
        let all = exported(&machine, table, &[]);
        let mut found = 0;
        for session in &listed {
            let rows = exported(&machine, table, &["--session", session["session"].as_str().unwrap()]);
            let of_session = |row: &serde_json::Value| {
                let stream = [row["source"].clone(), row["stream"].clone()];
                let known = row.get("session").unwrap_or_else(|| &of_streams[&stream]);
                [row["source"].clone(), known.clone()] == names(session)
            };
            let expected: Vec<_> = all.iter().filter(|row| of_session(row)).cloned().collect();
            assert_eq!(rows, expected, "{table} of {session}");
            found += rows.len();
        }
        assert_eq!(found, all.len(), "{table}: {listed:?}");
        let of_codex: Vec<_> = all.iter().filter(|row| row["source"] == "codex").cloned().collect();
        assert_eq!(exported(&machine, table, &["--source", "codex"]), of_codex, "{table}");
        assert_eq!(exported(&machine, table, &["--limit", "1"]), all[..all.len().min(1)], "{table}");
        assert!(exported(&machine, table, &["--since", "2150-01-01"]).is_empty(), "{table}");
    }
    // What other rows are made of tells no time.
    let refused = machine.run(&["export", "--table", "fact_groups", "--since", "1d"]);
    assert_eq!((refused.code, refused.stdout.as_str()), (2, ""));
    assert!(
        refused.stderr.contains("nothing that --since could choose by; leave it out"),
        "{}",
        refused.stderr
    );
    assert!(!exported(&machine, "fact_groups", &["--source", "codex"]).is_empty());
}

/// Calls are those of `turns`, sums those of `usage`, forms those of `conflicts`, whatever is asked for.
#[test]
fn exported_calls_and_sums_are_those_of_the_lists() {
    let machine = machine();
    machine.ok(&["ingest", "--root", &text(crate::fixtures().join("sessions/codex"))]);
    for (session, call) in [("s1", "m1"), ("s2", "m2")] {
        let ends =
            [assistant(session, call, 5, Some("end_turn")), assistant(session, call, 9, Some("end_turn"))];
        machine.session(session, ends.concat());
    }
    machine.ok(&["ingest"]);
    machine.ok(&["stamp", "--session", "1111", "team=core"]);
    let model = machine.rows(&["turns", "--limit", "1"])[0]["model"].as_str().unwrap().to_owned();
    let host = machine.rows(&["usage", "--by", "host"])[0]["host"].as_str().unwrap().to_owned();
    let filters: [&[&str]; 12] = [
        &[],
        &["--session", "1111"],
        &["--source", "codex"],
        &["--model", &model],
        &["--since", "2026-03-01"],
        &["--until", "2026-03-01"],
        &["--host", &host],
        &["--tag", "team=core"],
        // Not whole days, and what only calls tell.
        &["--since", "2026-03-02T08:00:01Z"],
        &["--host", &host, "--until", "2026-03-02T08:00:01Z", "--source", "claude-code"],
        &["--tag", "team=core", "--since", "2026-03-02"],
        &["--tag", "team=none"],
    ];
    for filter in filters {
        let listed = machine.rows(&[&["turns"], filter].concat());
        let name = |row: &serde_json::Value| [row["source"].to_string(), row["call"].to_string()];
        let expected: BTreeSet<_> = listed.iter().map(name).collect();
        let calls: BTreeSet<_> = exported(&machine, "calls", filter).iter().map(name).collect();
        assert_eq!(calls, expected, "{filter:?}");
        let forms = exported(&machine, "conflicts", filter);
        let identities = |rows: &[serde_json::Value]| -> BTreeSet<String> {
            rows.iter().map(|row| format!("{} {}", row["identity"], row["form"])).collect()
        };
        let listed = machine.rows(&[&["conflicts"], filter].concat());
        assert_eq!(identities(&forms), identities(&listed), "{filter:?}");
        let days = exported(&machine, "usage_daily", filter);
        let total = &machine.rows(&[&["usage"], filter].concat()).pop().unwrap()["total"];
        for field in ["calls", "input_tokens", "output_tokens"] {
            let sum: i64 = days.iter().map(|row| row[field].as_i64().unwrap()).sum();
            assert_eq!(Some(sum), total[field].as_i64(), "{field} {filter:?}");
        }
        // By day as `usage` has it, and the key of each row once.
        for row in machine.rows(&[&["usage", "--by", "day"], filter].concat()) {
            let Some(day) = row.get("day") else { continue };
            let of_day = days.iter().filter(|row| row["day"] == day.as_str().unwrap_or_default());
            let sum: i64 = of_day.map(|row| row["output_tokens"].as_i64().unwrap()).sum();
            assert_eq!(Some(sum), row["output_tokens"].as_i64(), "{day} {filter:?}");
        }
        let columns = ["day", "source", "model", "session", "price_class", "branch"];
        let keys = days.iter().map(|row| columns.map(|column| row[column].as_str().unwrap().to_owned()));
        assert!(keys.collect::<Vec<_>>().is_sorted_by(|one, two| one < two), "{filter:?}");
        assert_eq!(
            exported(&machine, "usage_daily", &[filter, &["--limit", "1"]].concat()),
            days[..days.len().min(1)]
        );
    }
    // Rows that are made of calls are those that are kept, where both can tell.
    let all = exported(&machine, "usage_daily", &[]);
    assert!(all.len() > 3);
    let timed: Vec<_> = all.iter().filter(|row| row["day"] != "").cloned().collect();
    assert_eq!(exported(&machine, "usage_daily", &["--since", "1900-01-01T00:00:01Z"]), timed);
}

/// A stamp reaches sessions by itself, by one of their files or by a call that they contain.
#[test]
fn exported_stamps_are_those_that_reach_the_sessions_asked_for() {
    let machine = Machine::new("laptop");
    for (session, call) in [("s1", "m1"), ("s2", "m2"), ("s3", "m1")] {
        machine.session(session, assistant(session, call, 5, Some("end_turn")));
    }
    machine.ok(&["ingest"]);
    for target in [
        &["--session", "s1", "team=a"][..],
        &["--session", "s2", "--source", "claude-code", "team=b"],
        &["--stream", "s2", "file=yes"],
        // A call that two sessions contain.
        &["--call", "m1", "--source", "claude-code", "ticket=7"],
        &["--session", "to-come", "team=c"],
        &["--session", "to-come", "--source", "codex", "team=d"],
    ] {
        machine.ok(&[&["stamp"], target].concat());
    }
    let told = |filter: &[&str]| -> Vec<String> {
        let rows = exported(&machine, "stamps", filter);
        rows.iter().map(|row| format!("{} {}", row["target"], row["value"]).replace('"', "")).collect()
    };
    assert_eq!(told(&[]).len(), 6);
    assert_eq!(told(&["--session", "s1"]), ["m1 7", "s1 a"]);
    assert_eq!(told(&["--session", "s2"]), ["s2 b", "s2 yes"]);
    assert_eq!(told(&["--session", "s3"]), ["m1 7"]);
    assert_eq!(told(&["--tag", "team=a"]), ["m1 7", "s1 a"]);
    assert_eq!(told(&["--host", "laptop"]), told(&["--since", "2026-02-01"]));
    assert_eq!(told(&["--source", "claude-code"]), ["m1 7", "s1 a", "s2 b", "s2 yes"]);
    assert_eq!(told(&["--source", "codex"]), ["to-come d"]);
    assert_eq!(told(&["--session", "s2", "--limit", "1"]), ["s2 b"]);
    assert!(told(&["--model", "no such model"]).is_empty());
}

#[test]
fn a_stamp_is_stored_folded_and_taken_away_again() {
    let machine = machine();
    let stamped = machine.json(&["stamp", "--session", "1111", "team=core", "ticket=7"]);
    assert_eq!(stamped["selector"]["session"], "11111111-1111-4111-8111-111111111111");
    assert_eq!(stamped["set"], serde_json::json!({"team": "core", "ticket": "7"}));
    let tagged = || machine.rows(&["sessions", "--tag", "team=core"]).len();
    assert_eq!(tagged(), 1);
    let exported = machine.ok(&["export", "--table", "stamps"]);
    assert!(exported.contains(stamped["address"].as_str().unwrap()), "{exported}");
    machine.ok(&["verify"]);
    let before = machine.dump();
    machine.ok(&["project", "rebuild"]);
    assert_eq!(machine.dump(), before);
    assert!(machine.ok(&["stamp", "--session", "1111", "team="]).contains("team taken away"));
    assert_eq!(tagged(), 0);
    // The feed goes on where ingest left it: nothing is read again.
    let again = machine.json(&["ingest", "--root", &crate::claude_fixtures()]);
    assert_eq!(again["new"], 0);
}

#[test]
fn a_stamp_may_come_before_its_session() {
    let machine = machine();
    let ended =
        machine.run(&["stamp", "--session", "child-1", "--source", "claude-code", "parentAgentId=boss"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stderr.contains("once it is there"), "{}", ended.stderr);
    let rows = machine.rows(&["relationships"]);
    let row = rows.iter().find(|row| row["kind"] == "spawn-env").unwrap();
    assert_eq!((row["from_session"].as_str(), row["to_session"].as_str()), (Some("boss"), Some("child-1")));
}

#[test]
fn exports_have_the_rows_and_names_of_the_lists() {
    let machine = machine();
    for (table, list) in [
        ("turns", &["turns"][..]),
        ("sessions", &["sessions"]),
        ("content", &["content"]),
        ("relationships", &["relationships"]),
    ] {
        let listed = machine.ok(&[list, &["--json"]].concat());
        assert_eq!(machine.ok(&["export", "--table", table]), listed, "{table}");
        let csv = machine.ok(&["export", "--table", table, "--format", "csv"]);
        let first: serde_json::Value = serde_json::from_str(listed.lines().next().unwrap()).unwrap();
        let mut names: Vec<&str> = csv.lines().next().unwrap().split(',').collect();
        names.sort_unstable();
        assert!(first.as_object().unwrap().keys().eq(names.iter()), "{table}");
    }
}

#[test]
fn an_export_is_there_whole_or_not_at_all() {
    let machine = machine();
    let path = machine.path("turns.csv");
    machine.ok(&["export", "--table", "turns", "--format", "csv", "--to", &text(&path)]);
    assert_eq!(
        std::fs::read_to_string(&path).unwrap(),
        machine.ok(&["export", "--table", "turns", "--format", "csv"])
    );
    let folder = machine.path("taken");
    std::fs::create_dir_all(folder.join("something")).unwrap();
    let ended = machine.run(&["export", "--table", "turns", "--to", &text(&folder)]);
    assert_eq!(ended.code, 2);
    assert!(ended.stderr.contains("--to"), "{}", ended.stderr);
    assert!(!machine.path("taken.part").exists());
}

#[test]
fn a_limit_that_is_no_number_of_rows_is_named() {
    let machine = machine();
    for command in
        [&["turns"][..], &["sessions"], &["usage"], &["search", "x"], &["export", "--table", "calls"]]
    {
        let refused = machine.run(&[command, &["--limit", "-1"]].concat());
        assert_eq!((refused.code, refused.stdout.as_str()), (2, ""), "{command:?}");
        let told = &refused.stderr;
        assert!(told.contains("invalid value '-1' for '--limit <N>': a limit is a whole number"), "{told}");
    }
    assert!(machine.rows(&["turns", "--limit", "0"]).is_empty());
}

#[test]
fn commands_that_make_no_sense_are_refused_with_code_two() {
    let machine = machine();
    for arguments in [
        &["stamp", "team=core"][..],
        &["stamp", "--session", "1111"],
        &["stamp", "--session", "1111", "team"],
        &["stamp", "--session", "1111", "--call", "x", "a=b"],
        &["export", "--table", "nothing"],
        &["export", "--table", "turns", "--json"],
        &["relationships", "--tree", "--dot"],
        &["relationships", "--tree", "--json"],
        &["relationships", "nothing"],
        &["content", "--session", "nothing"],
    ] {
        let ended = machine.run(arguments);
        assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{arguments:?}");
    }
}

/// `--tz` changes what people are shown and nothing that a program reads.
#[test]
fn times_are_shown_in_the_zone_that_was_asked_for() {
    let machine = Machine::new("laptop");
    machine.session("s", crate::assistant("s", "m1", 2, Some("end_turn")));
    machine.ok(&["ingest"]);
    for arguments in [&["sessions"][..], &["turns"], &["show", "s"]] {
        let shown = |zone: &str| machine.ok(&[arguments, &["--tz", zone]].concat());
        assert!(machine.ok(arguments).contains("2026-03-01 10:00"), "{arguments:?}");
        assert!(shown("+14").contains("2026-03-02 00:00"), "{arguments:?}");
        assert!(shown("-11:30").contains("2026-02-28 22:30"), "{arguments:?}");
        let json = |more: &[&str]| machine.ok(&[arguments, &["--json"], more].concat());
        assert_eq!(json(&["--tz", "+14"]), json(&[]), "{arguments:?}");
    }
    let csv = |more: &[&str]| machine.ok(&[&["turns", "--csv"], more].concat());
    assert_eq!(csv(&["--tz", "+14"]), csv(&[]));
    let days = |more: &[&str]| machine.ok(&[&["usage", "--by", "day"], more].concat());
    assert_eq!(days(&["--tz", "+14"]), days(&[]), "days are in UTC");
    let refused = machine.run(&["sessions", "--tz", "Nowhere/At_All"]);
    assert_eq!((refused.code, refused.stdout.as_str()), (2, ""));
    assert!(refused.stderr.contains("local"), "{}", refused.stderr);
}

/// The counts of chosen sessions are those of a ledger that has nothing else: of all sessions together the counts that are kept.
#[test]
fn diagnostics_are_those_of_the_records_that_a_filter_chooses() {
    let machine = Machine::new("laptop");
    for harness in ["claude-code", "codex", "gemini-cli", "opencode"] {
        machine.ok(&["ingest", "--root", &text(crate::fixtures().join("sessions").join(harness))]);
    }
    machine.ok(&["stamp", "--session", "1111", "team=core"]);
    let all = machine.rows(&["diagnostics"]);
    let of_codex = machine.rows(&["diagnostics", "--source", "codex"]);
    assert!(!of_codex.is_empty() && of_codex.len() < all.len());
    let expected: Vec<_> = all.iter().filter(|row| row["source"] == "codex").cloned().collect();
    assert_eq!(of_codex, expected);
    assert_eq!(machine.rows(&["diagnostics", "--limit", "2"]), all[..2]);
    // Every session has been on this host; what is counted anew is what was counted when it came.
    assert_eq!(machine.rows(&["diagnostics", "--host", "laptop"]), all);
    assert_eq!(machine.rows(&["diagnostics", "--host", "laptop", "--limit", "2"]), all[..2]);
    assert_eq!(machine.rows(&["diagnostics", "--host", "laptop", "--source", "codex"]), of_codex);
    for counts in ["unknown", "unreadable"] {
        assert!(all.iter().any(|row| row[counts].as_i64() > Some(0)), "{counts}");
    }
    let numbers = |row: &serde_json::Value| -> i64 {
        row.as_object().unwrap().values().filter_map(serde_json::Value::as_i64).sum()
    };
    let model = machine.rows(&["turns", "--limit", "1"])[0]["model"].as_str().unwrap().to_owned();
    let sessions = machine.rows(&["sessions"]);
    let mut filters: Vec<Vec<&str>> = vec![
        vec!["--since", "2026-03-02"],
        vec!["--until", "2026-03-02T12:00:00Z"],
        vec!["--project", "/work/demo"],
        vec!["--model", &model],
        vec!["--tag", "team=core"],
        vec!["--tag", "team=core", "--until", "2000-01-01"],
    ];
    filters.extend(sessions.iter().map(|row| vec!["--session", row["session"].as_str().unwrap()]));
    let mut of_sessions = 0;
    for filter in &filters {
        let rows = machine.rows(&[&["diagnostics"], &filter[..]].concat());
        let records = exported(&machine, "records", filter).len() as i64;
        assert_eq!(rows.iter().map(numbers).sum::<i64>(), records, "{filter:?}");
        let exported: BTreeSet<_> =
            exported(&machine, "diagnostics", filter).iter().map(ToString::to_string).collect();
        assert_eq!(exported.len(), rows.len());
        of_sessions += if filter[0] == "--session" { records } else { 0 };
    }
    assert_eq!(of_sessions, all.iter().map(numbers).sum::<i64>());
    let tagged = machine.rows(&["diagnostics", "--tag", "team=core"]);
    assert_eq!(tagged, machine.rows(&["diagnostics", "--session", "1111"]));
    assert!(!tagged.is_empty() && tagged.len() < all.len());
}

/// Erased records count as such, of a session as of all.
#[test]
fn diagnostics_of_a_session_count_what_was_erased() {
    let machine = Machine::new("laptop");
    machine.ok(&["ingest", "--root", &crate::claude_fixtures()]);
    machine.ok(&["erase", "2222", "--yes"]);
    let rows = machine.rows(&["diagnostics", "--host", "laptop"]);
    assert_eq!(rows, machine.rows(&["diagnostics"]));
    assert!(rows.iter().any(|row| row["erased"].as_i64() > Some(0)), "{rows:?}");
}

/// Copied history of a fork whose messages are objects: it begins and ends where the copies do.
#[test]
fn a_fork_of_objects_shows_where_what_it_copied_ends() {
    let machine = Machine::new("laptop");
    machine.ok(&["ingest", "--root", &text(crate::fixtures().join("sessions/opencode"))]);
    let shown = machine.ok(&["show", "ses_fork1"]);
    let places = ["copied from session ses_demo1", "List the files", "end of what was copied", "Another way"];
    let places: Vec<_> = places.iter().map(|words| shown.find(words)).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{shown}");
    let own = machine.ok(&["show", "ses_fork1", "--no-copied"]);
    assert!(!own.contains("List the files") && own.contains("Another way"), "{own}");
    let links = machine.rows(&["relationships", "ses_demo1"]);
    let fork = links.iter().find(|link| link["kind"] == "fork").unwrap();
    assert_eq!((&fork["from_session"], &fork["to_session"]), (&"ses_demo1".into(), &"ses_fork1".into()));
    assert_eq!(fork["copied_records"], 1);
}

/// Whoever reads an empty table sees that nothing failed; scripts read nothing at all.
#[test]
fn a_list_without_rows_says_so_beside_it() {
    let machine = machine();
    let commands: [&[&str]; 6] = [
        &["sessions", "--project", "nowhere"],
        &["turns", "--project", "nowhere"],
        &["content", "--project", "nowhere"],
        &["relationships", "--project", "nowhere"],
        &["conflicts", "--project", "nowhere"],
        &["search", "nobody", "ever", "wrote", "this"],
    ];
    for command in commands {
        let ended = machine.run(command);
        assert_eq!((ended.code, ended.stdout.as_str()), (0, ""), "{command:?}");
        assert!(ended.stderr.starts_with("burnlog: nothing "), "{command:?}: {}", ended.stderr);
        for silent in ["--quiet", "--json", "--csv"] {
            let ended = machine.run(&[command, &[silent]].concat());
            let printed = (ended.code, ended.stdout.as_str(), ended.stderr.as_str());
            assert_eq!(printed, (0, "", ""), "{command:?} {silent}");
        }
    }
    // Of sums that are not shown it is said that the total has them.
    let sums = machine.run(&["usage", "--by", "day,model", "--limit", "1"]);
    assert!(sums.stderr.contains("more in the total than --limit shows"), "{}", sums.stderr);
    assert_eq!(machine.run(&["usage", "--by", "day,model"]).stderr, "");
}
