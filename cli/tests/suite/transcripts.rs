//! `show`: one story with everything in it, in every form; what was erased or damaged; how it ends.

use crate::golden::{command, printed, settings};
use crate::{Ended, Machine, text};
use burnlog_jsonl::{JsonlBackend, JsonlOptions};
use burnlog_log::{Address, Ledger};
use std::io::Read;
use std::process::Stdio;

const SESSION: &str = "5e551011-0000-4000-8000-00000000beef";
const FORK: &str = "f0f0f0f0-0000-4000-8000-00000000f00d";

/// A line of a session with an id whose last digits differ, as those of real records do.
fn line(session: &str, number: u32, second: u32, rest: &str) -> String {
    let id = number.wrapping_mul(0x9e37_79b9);
    format!(
        "{{\"uuid\":\"0badcafe-0000-4000-8000-0000{id:08x}\",\"sessionId\":\"{session}\",\"cwd\":\"/work/demo\",\
         \"version\":\"2.1.50\",\"timestamp\":\"2026-03-01T10:00:{second:02}Z\",{rest}}}\n"
    )
}

fn user(content: &str) -> String {
    format!("\"type\":\"user\",\"message\":{{\"role\":\"user\",\"content\":{content}}}")
}

fn answer(id: &str, content: &str, stop: &str, output: u32) -> String {
    format!(
        "\"type\":\"assistant\",\"message\":{{\"id\":\"{id}\",\"role\":\"assistant\",\"model\":\"claude-test-1\",\"content\":[{content}],\
         \"stop_reason\":{stop},\"usage\":{{\"input_tokens\":4,\"cache_read_input_tokens\":1000,\"output_tokens\":{output}}}}}"
    )
}

fn result(tool: &str, is_error: bool, content: &str) -> String {
    user(&format!(
        "[{{\"type\":\"tool_result\",\"tool_use_id\":\"{tool}\",\"is_error\":{is_error},\"content\":{content}}}]"
    ))
}

/// The lines that the fork has as well.
fn beginning(session: &str) -> String {
    let image =
        r#"{"type":"image","source":{"type":"base64","media_type":"image/png","data":"iVBORw0KGgo="}}"#;
    [
        line(session, 1, 1, &user(&format!(r#"[{{"type":"text","text":"Why is it red?\n<script>alert(1)</script>\u001b[31m"}},{image}]"#))),
        line(session, 2, 2, &answer("msg_1", r#"{"type":"thinking","thinking":"Look at the log."}"#, "null", 1)),
        line(session, 3, 3, &answer("msg_1", r#"{"type":"text","text":"I look.\n```sh\nls"}"#, "null", 2)),
        line(session, 4, 4, &answer("msg_1", r#"{"type":"tool_use","id":"toolu_1","name":"Bash","input":{"command":"cargo test","description":"Test"}}"#, "\"tool_use\"", 30)),
        line(session, 5, 9, &result("toolu_1", true, r#""error: it is red\nline 2""#)),
    ]
    .concat()
}

/// A machine with the story: a session with an error, a subagent, a notice, a compaction and odd lines, and its fork.
fn machine() -> Machine {
    let machine = Machine::new("laptop");
    let long = (1..=40).map(|number| format!("row {number}\\n")).collect::<Vec<_>>().concat();
    let story = [
        beginning(SESSION),
        line(SESSION, 6, 10, &answer("msg_2", r#"{"type":"tool_use","id":"toolu_2","name":"Task","input":{"description":"find the cause","prompt":"Find it."}}"#, "\"tool_use\"", 20)),
        line(SESSION, 7, 20, &format!("\"toolUseResult\":{{\"agentId\":\"a9e57\"}},{}", result("toolu_2", false, r#"[{"type":"text","text":"A typo."}]"#))),
        line(SESSION, 8, 21, &answer("msg_3", &format!(r#"{{"type":"tool_use","id":"toolu_3","name":"Read","input":{{"file_path":"/work/{}"}}}}"#, "x".repeat(300)), "\"tool_use\"", 5)),
        line(SESSION, 9, 22, &result("toolu_3", false, &format!("\"{long}\""))),
        line(SESSION, 10, 23, "\"type\":\"assistant\",\"error\":\"rate_limit\",\"message\":{\"id\":\"n1\",\"model\":\"<synthetic>\",\"content\":[{\"type\":\"text\",\"text\":\"Limit reached.\"}]}"),
        line(SESSION, 11, 24, r#""type":"system","subtype":"compact_boundary","content":"Conversation compacted","compactMetadata":{"trigger":"auto","preTokens":150000}"#),
        line(SESSION, 12, 25, &format!("\"isCompactSummary\":true,{}", user("\"It was red because of a typo.\""))),
        line(SESSION, 13, 26, "\"type\":\"next-month\",\"what\":\"<b>\""),
        "not json at all\n".to_owned(),
        line(SESSION, 14, 27, &user("\"Fix it.\"")),
        line(SESSION, 15, 28, &answer("msg_4", r#"{"type":"text","text":"Fixed. </details>"}"#, "\"end_turn\"", 7)),
        line(SESSION, 15, 28, &answer("msg_4", r#"{"type":"text","text":"Fixed. </details>"}"#, "\"end_turn\"", 7)),
    ]
    .concat();
    machine.session(SESSION, story);
    let agents = machine.project().join(SESSION).join("subagents");
    std::fs::create_dir_all(&agents).unwrap();
    let agent = [
        line(
            SESSION,
            101,
            11,
            &format!("\"isSidechain\":true,\"agentId\":\"a9e57\",{}", user("\"Find it.\"")),
        ),
        line(
            SESSION,
            102,
            12,
            &format!(
                "\"isSidechain\":true,\"agentId\":\"a9e57\",{}",
                answer("msg_a1", r#"{"type":"text","text":"A typo."}"#, "\"end_turn\"", 3)
            ),
        ),
    ]
    .concat();
    std::fs::write(agents.join("agent-a9e57.jsonl"), agent).unwrap();
    let fork = [
        beginning(FORK),
        line(FORK, 201, 40, &user("\"Try another way.\"")),
        line(
            FORK,
            202,
            41,
            &answer("msg_f1", r#"{"type":"text","text":"Another way it is."}"#, "\"end_turn\"", 6),
        ),
    ]
    .concat();
    machine.session(FORK, fork);
    let ended = Ended::of(command(&machine, &["ingest", "--quiet"]).output().unwrap());
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    machine
}

#[track_caller]
fn golden(name: &str, arguments: &[&str]) {
    let machine = machine();
    settings().bind(|| insta::assert_snapshot!(name, printed(&machine, arguments)));
}

#[test]
fn show_text() {
    golden("show_text", &["show", SESSION]);
}

#[test]
fn show_full() {
    golden("show_full", &["show", SESSION, "--full"]);
}

#[test]
fn show_markdown() {
    golden("show_markdown", &["show", SESSION, "--format", "markdown"]);
}

#[test]
fn show_html() {
    golden("show_html", &["show", SESSION, "--format", "html"]);
}

#[test]
fn show_json() {
    golden("show_json", &["show", SESSION, "--json"]);
}

#[test]
fn show_fork() {
    golden("show_fork", &["show", FORK]);
}

#[test]
fn show_fork_without_its_copied_history() {
    golden("show_fork_no_copied", &["show", FORK, "--no-copied"]);
}

#[test]
fn no_form_lets_a_control_character_out() {
    let machine = machine();
    for format in ["text", "markdown", "html", "json"] {
        for arguments in
            [&["show", SESSION, "--format", format][..], &["show", SESSION, "--full", "--format", format]]
        {
            let shown = machine.ok(arguments);
            assert!(shown.contains("Why is it red?"), "{format}");
            let bad = shown.chars().find(|it| it.is_control() && !matches!(it, '\n' | '\t'));
            assert_eq!(bad, None, "{format}");
        }
    }
}

#[test]
fn json_is_one_object_and_subagents_are_nested_in_it() {
    let shown = machine().json(&["show", SESSION]);
    let items = shown["items"].as_array().unwrap();
    let of = |kind: &str| items.iter().filter(|item| item["type"] == kind).collect::<Vec<_>>();
    assert_eq!(shown["session"]["session"], SESSION);
    assert_eq!(of("turn").iter().filter(|turn| turn["class"] == "prompt").count(), 2);
    assert_eq!(of("agent")[0]["items"].as_array().unwrap().len(), 4);
    assert_eq!(of("tool_use")[0]["input"]["command"], "cargo test");
    assert_eq!(of("tool_result")[0]["error"], true);
    assert_eq!(of("tool_result").len(), 3);
    assert_eq!(of("lost").len(), 2);
    assert_eq!(shown["left_out"]["repeated_records"], 1);
}

#[test]
fn an_erased_record_leaves_a_tombstone_in_its_place() {
    let machine = machine();
    let rows = machine.rows(&["content", "--session", SESSION, "--kind", "thinking"]);
    let address = Address::parse(rows[0]["address"].as_str().unwrap().as_bytes()).unwrap();
    {
        let backend = JsonlBackend::open(&machine.ledger(), JsonlOptions::default()).unwrap();
        Ledger::new(backend).erase(&[address]).unwrap();
    }
    for format in ["text", "markdown", "html", "json"] {
        let shown = machine.ok(&["show", SESSION, "--format", format]);
        assert!(!shown.contains("Look at the log."), "{format}");
        assert!(shown.contains("its payload was erased"), "{format}");
        assert!(shown.contains("I look."), "{format}");
    }
    let rows = machine.rows(&["content", "--session", SESSION, "--kind", "thinking"]);
    assert_eq!((rows[0]["state"].as_str(), rows[0]["text"].as_str()), (Some("erased"), None));
}

#[test]
fn a_damaged_record_is_named_and_the_rest_is_shown() {
    let machine = machine();
    let segment = crate::files_below(&machine.ledger().join("segments"))
        .into_iter()
        .find(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
        .unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes.windows(16).position(|window| window == b"Look at the log.").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let shown = machine.ok(&["show", SESSION]);
    assert!(shown.contains("run burnlog verify"), "{shown}");
    assert!(shown.contains("I look.") && shown.contains("Fixed."), "{shown}");
}

#[test]
fn what_makes_no_sense_is_refused_with_code_two() {
    let machine = machine();
    for arguments in [
        &["show", "nothing"][..],
        &["show", SESSION, "--csv"],
        &["show"],
        &["show", SESSION, "--format", "pdf"],
    ] {
        let ended = machine.run(arguments);
        assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{arguments:?}");
        assert!(!ended.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let machine = machine();
    let mut child = command(&machine, &["show", SESSION, "--full"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!((child.wait().unwrap().code(), stderr.as_str()), (Some(0), ""));
}

#[test]
fn the_pager_is_for_terminals_alone() {
    let machine = machine();
    let marked = text(machine.path("paged"));
    let ended = Ended::of(
        command(&machine, &["show", SESSION]).env("PAGER", format!("touch {marked}; cat")).output().unwrap(),
    );
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(!machine.path("paged").exists());
    assert!(!ended.stdout.contains('\u{1b}'));
}

#[test]
fn every_session_of_the_fixtures_is_shown_in_every_form() {
    let machine = Machine::new("laptop");
    for source in ["claude-code", "codex", "opencode", "gemini-cli"] {
        let root = crate::fixtures().join("sessions").join(source);
        machine.ok(&["ingest", "--quiet", "--root", &text(root)]);
    }
    let sessions = machine.rows(&["sessions"]);
    assert!(sessions.len() > 20, "{}", sessions.len());
    for row in sessions {
        let session = row["session"].as_str().unwrap();
        for format in ["text", "markdown", "html", "json"] {
            let shown = machine.ok(&["show", "--format", format, "--", session]);
            let bad = shown.chars().find(|it| it.is_control() && !matches!(it, '\n' | '\t'));
            assert_eq!(bad, None, "{session} {format}");
            if format == "json" {
                let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
                assert_eq!(shown["session"], row, "{session}");
            }
        }
    }
}

/// Sources whose subagents are sessions of their own: each names the other.
#[test]
fn a_session_names_those_that_it_began_and_the_one_that_began_it() {
    let machine = Machine::new("laptop");
    machine.ok(&["ingest", "--root", &text(crate::fixtures().join("sessions/opencode"))]);
    let (parent, child) = ("ses_demo1", "ses_demo2");
    for format in ["text", "markdown", "html"] {
        let shown = |session: &str| machine.ok(&["show", session, "--format", format]);
        assert!(
            shown(parent).contains(
                &format!("subagent: session {child}")
                    .replace('_', if format == "markdown" { "\\_" } else { "_" })
            ),
            "{}",
            shown(parent)
        );
        assert!(
            shown(child).contains(
                &format!("subagent of session {parent}")
                    .replace('_', if format == "markdown" { "\\_" } else { "_" })
            ),
            "{}",
            shown(child)
        );
    }
    let items = |session: &str| machine.json(&["show", session])["items"].as_array().unwrap().clone();
    let last = items(parent).pop().unwrap();
    assert_eq!((&last["type"], &last["session"]), (&"began".into(), &child.into()));
    let first = items(child).remove(0);
    assert_eq!((&first["type"], &first["session"]), (&"begun_by".into(), &parent.into()));
}

/// Codex tells of a call behind what it said: its heading stands above that all the same, and instructions take one line.
#[test]
fn a_call_of_codex_stands_above_what_it_said() {
    let machine = Machine::new("laptop");
    let long = "Do as you are told. ".repeat(40);
    let line = |second: u32, kind: &str, payload: &str| {
        format!(
            "{{\"timestamp\":\"2026-03-01T10:00:{second:02}Z\",\"type\":\"{kind}\",\"payload\":{payload}}}\n"
        )
    };
    let said = |second: u32, role: &str, text: &str| {
        let payload = format!(
            r#"{{"type":"message","role":"{role}","content":[{{"type":"output_text","text":"{text}"}}]}}"#
        );
        line(second, "response_item", &payload)
    };
    let used = |second: u32, output: u32| {
        let usage =
            format!(r#"{{"input_tokens":10,"output_tokens":{output},"total_tokens":{}}}"#, 10 + output);
        line(
            second,
            "event_msg",
            &format!(r#"{{"type":"token_count","info":{{"total_token_usage":{usage}}}}}"#),
        )
    };
    let lines = [
        line(0, "session_meta", r#"{"id":"s","cwd":"/work"}"#),
        line(1, "turn_context", r#"{"turn_id":"t","model":"model-a"}"#),
        said(2, "developer", &long),
        line(3, "event_msg", r#"{"type":"user_message","message":"go"}"#),
        said(4, "assistant", "the first answer"),
        used(5, 3),
        said(6, "assistant", "the second answer"),
        used(7, 8),
        said(8, "assistant", "cut off"),
    ]
    .concat();
    let folder = machine.path("home/.codex/sessions");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("rollout-a.jsonl"), lines).unwrap();
    machine.ok(&["ingest"]);
    let shown = machine.ok(&["show", "rollout-a"]);
    let place = |what: &str| shown.find(what).unwrap_or_else(|| panic!("{what} in {shown}"));
    let order = ["3 out", "the first answer", "5 out", "the second answer", "── assistant", "cut off"];
    assert!(order.map(place).is_sorted(), "{shown}");
    assert_eq!(shown.matches("model-a").count(), 2);
    let instruction = shown.lines().find(|line| line.contains("Do as you are told")).unwrap();
    assert!(instruction.contains("bytes more") && instruction.len() < 300, "{instruction}");
    assert!(machine.ok(&["show", "rollout-a", "--full"]).contains(long.trim_end()));
}
