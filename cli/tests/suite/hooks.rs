//! `hook`: what is installed into an agent's settings, what it does when the agent tells, and that the agent never suffers.

use crate::{Ended, Machine, assistant, text};
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

const SETTINGS: &str = "{\n  \"model\": \"opus\",\n  \"env\": { \"A\": \"1\" },\n  \"hooks\": {\n    \"Stop\": [ {\"hooks\": [ {\"type\": \"command\", \"command\": \"say done\"} ]} ]\n  }\n}\n";

/// Runs the hook as the agent does: an event on standard input.
fn event(machine: &Machine, event: &[u8]) -> Ended {
    let mut command = machine.command(&["hook", "event", "claude-code"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(event).unwrap();
    Ended::of(child.wait_with_output().unwrap())
}

fn told(name: &str, session: &str, path: impl AsRef<std::ffi::OsStr>) -> Vec<u8> {
    let event = json!({"session_id": session, "transcript_path": text(path), "cwd": "/work/demo", "hook_event_name": name});
    event.to_string().into_bytes()
}

#[track_caller]
fn is_silent(ended: &Ended) {
    assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.as_str()), (0, "", ""));
}

#[test]
fn installing_keeps_everything_and_uninstalling_gives_back_the_very_bytes() {
    let machine = Machine::new("one");
    let path = machine.path("home/.claude/settings.json");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, SETTINGS).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let shown = machine.ok(&["hook", "install", "claude-code", "--print"]);
    assert_eq!(fs::read_to_string(&path).unwrap(), SETTINGS, "--print writes nothing");
    assert_eq!(machine.json(&["hook", "install", "claude-code"])["changed"], true);
    assert_eq!(fs::read_to_string(&path).unwrap(), shown);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(machine.json(&["hook", "install", "claude-code"])["changed"], false);
    let installed: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(installed["hooks"]["Stop"][0]["hooks"][0]["command"], "say done");
    for place in ["/hooks/Stop/1/hooks/0/command", "/hooks/SessionEnd/0/hooks/0/command"] {
        let command = installed.pointer(place).unwrap().as_str().unwrap();
        assert!(command.ends_with(" hook event claude-code"), "{command}");
        // As the agent runs it: through a shell, wherever the program is.
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", command]).env_clear().env("RELAYBURN_HOME", machine.path("burn"));
        is_silent(&Ended::of(shell.stdin(Stdio::null()).output().unwrap()));
    }
    machine.ok(&["hook", "uninstall", "claude-code"]);
    assert_eq!(fs::read_to_string(&path).unwrap(), SETTINGS);
    assert_eq!(machine.json(&["hook", "uninstall", "claude-code"])["changed"], false);
}

#[test]
fn what_was_edited_since_stays_when_the_hooks_go() {
    let machine = Machine::new("one");
    let path = machine.path("home/.claude/settings.json");
    machine.ok(&["hook", "install", "claude-code"]);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen('{', "{\n  \"theme\": \"dark\",", 1)).unwrap();
    machine.ok(&["hook", "uninstall", "claude-code"]);
    let left: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(left, json!({"theme": "dark"}));
    // Where there was no file, and nothing else in it since, none is left.
    fs::remove_file(&path).unwrap();
    machine.ok(&["hook", "install", "claude-code"]);
    machine.ok(&["hook", "uninstall", "claude-code"]);
    assert!(!path.exists());
}

#[test]
fn settings_that_are_no_json_are_left_as_they_are_and_links_are_followed() {
    let machine = Machine::new("one");
    let path = machine.path("settings.json");
    for wrong in ["{ // mine\n}", "[]", "{\"hooks\": 1}", ""] {
        fs::write(&path, wrong).unwrap();
        for action in ["install", "uninstall"] {
            let ended = machine.run(&["hook", action, "claude-code", "--settings", "settings.json"]);
            assert_eq!(ended.code, 2);
            assert!(ended.stderr.contains("left as it is"), "{}", ended.stderr);
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), wrong);
    }
    fs::create_dir(machine.path("dotfiles")).unwrap();
    fs::rename(&path, machine.path("dotfiles/settings.json")).unwrap();
    fs::write(machine.path("dotfiles/settings.json"), "{}").unwrap();
    std::os::unix::fs::symlink("dotfiles/settings.json", &path).unwrap();
    machine.ok(&["hook", "install", "claude-code", "--settings", "settings.json"]);
    assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
    assert!(fs::read_to_string(machine.path("dotfiles/settings.json")).unwrap().contains("SessionEnd"));
    assert_eq!(machine.run(&["hook", "install", "claude-code", "--store", "file:x"]).code, 2);
}

#[test]
fn a_session_is_read_when_the_agent_stops_and_closed_when_it_ends() {
    let machine = Machine::new("one");
    let cut = "{\"type\":\"user\",\"cut";
    let path = machine.session("s", assistant("s", "m1", 2, Some("end_turn")) + cut);
    machine.session("other", assistant("other", "m9", 2, Some("end_turn")));
    let agents = machine.project().join("s/subagents");
    fs::create_dir_all(&agents).unwrap();
    fs::write(agents.join("agent-a1.jsonl"), assistant("s", "m2", 3, Some("end_turn"))).unwrap();
    is_silent(&event(&machine, &told("Stop", "s", &path)));
    let turns = machine.rows(&["turns"]);
    assert_eq!(turns.len(), 2, "the session and its subagent, and no other session");
    let pending = |machine: &Machine| machine.json(&["status"])["sources"][0]["pending_bytes"].clone();
    assert_eq!(pending(&machine), cut.len());
    is_silent(&event(&machine, &told("SessionEnd", "s", &path)));
    assert_eq!(machine.json(&["status"])["hook_errors"], Value::Null);
    fs::remove_file(&path).unwrap();
    let restored = machine.rows(&["restore", "s", "--to", "out"]);
    assert!(restored.iter().all(|stream| stream["exact"] == true), "{restored:?}");
    assert!(fs::read_to_string(machine.path("out/s.jsonl")).unwrap().ends_with(cut));
}

#[test]
fn an_agent_never_hears_of_what_goes_wrong_and_status_tells() {
    let machine = Machine::new("one");
    let path = machine.session("s", assistant("s", "m1", 2, Some("end_turn")));
    is_silent(&event(&machine, &told("Stop", "gone", machine.path("gone.jsonl"))));
    is_silent(&event(&machine, &told("Stop", "s", &path)));
    assert_eq!(machine.json(&["status"])["hook_errors"], Value::Null);
    is_silent(&event(&machine, b"not json"));
    is_silent(&event(&machine, b"{\"hook_event_name\":\"Stop\",\"transcript_path\":7}"));
    fs::rename(machine.ledger(), machine.path("kept")).unwrap();
    fs::write(machine.ledger(), "in the way").unwrap();
    is_silent(&event(&machine, &told("SessionEnd", "s", &path)));
    fs::remove_file(machine.ledger()).unwrap();
    fs::rename(machine.path("kept"), machine.ledger()).unwrap();
    let errors = machine.json(&["status"])["hook_errors"].clone();
    assert_eq!(errors["count"], 3);
    assert!(errors["last"].as_str().unwrap().contains("SessionEnd of s: "), "{errors}");
    assert!(machine.ok(&["status"]).contains("hooks: 3 errors, the last: "));
    // Not even where there is no home to write into.
    let mut command = machine.command(&["hook", "event", "claude-code"]);
    command.env_remove("HOME").env_remove("RELAYBURN_HOME").stdin(Stdio::null());
    is_silent(&Ended::of(command.output().unwrap()));
}
