//! `run`: the agent is as it is without it, and its sessions are in the ledger and pushed when it has ended.

use crate::{Ended, Machine, assistant, default_signals, text};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

/// Writes a shell script that plays an agent with one session, two records, the last one cut short; it says what it does.
fn agent(machine: &Machine, end: &str) -> String {
    let session = machine.project().join("s.jsonl");
    machine.session("source", assistant("s", "m1", 2, Some("end_turn")) + "{\"type\":\"user\",\"cut");
    let source = machine.path("source.jsonl");
    std::fs::rename(machine.project().join("source.jsonl"), &source).unwrap();
    format!("printf 'out\\n'; printf 'err' >&2; cat '{}' > '{}'; {end}", text(source), text(session))
}

#[test]
fn what_the_agent_prints_and_its_exit_code_pass_through_and_its_session_is_kept_and_pushed() {
    let machine = Machine::new("one");
    let to = format!("sqlite:{}", text(machine.path("central.sqlite")));
    let ended = machine.run(&["run", "--to", &to, "--", "sh", "-c", &agent(&machine, "exit 7")]);
    assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.as_str()), (7, "out\n", "err"));
    assert_eq!(machine.rows(&["turns"]).len(), 1);
    assert_eq!(machine.json(&["status"])["unpushed"]["records"], 0);
    machine.ok(&["project", "update", "--store", &to]);
    assert_eq!(machine.ok(&["project", "dump", "--store", &to]), machine.dump());
    // The process has ended, so the stream is closed: the record cut short is there as it is.
    std::fs::remove_dir_all(machine.path("home/.claude")).unwrap();
    let restored = machine.rows(&["restore", "s", "--to", &text(machine.path("out"))]);
    assert_eq!((&restored[0]["exact"], &restored[0]["records"]), (&true.into(), &2.into()));
    let again = std::fs::read(machine.path("out/s.jsonl")).unwrap();
    assert_eq!(again, std::fs::read(machine.path("source.jsonl")).unwrap());
}

#[test]
fn what_was_there_before_the_agent_is_read_and_not_closed() {
    let machine = Machine::new("one");
    let old =
        machine.session("old", assistant("old", "m0", 1, Some("end_turn")) + "{\"type\":\"user\",\"cut");
    let long_ago = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
    std::fs::File::options().write(true).open(&old).unwrap().set_modified(long_ago).unwrap();
    assert_eq!(machine.run(&["run", "--", "sh", "-c", &agent(&machine, "exit 0")]).code, 0);
    assert_eq!(machine.rows(&["turns"]).len(), 2);
    let status = machine.json(&["status"]);
    let claude = status["sources"].as_array().unwrap().iter().find(|line| line["source"] == "claude-code");
    assert_eq!(claude.unwrap()["pending_bytes"], "{\"type\":\"user\",\"cut".len());
    assert_eq!(status["unpushed"], serde_json::Value::Null, "nobody asked for a push");
}

#[test]
fn an_agent_that_cannot_be_started_is_126_or_127_as_in_a_shell() {
    let machine = Machine::new("one");
    let missing = machine.run(&["run", "--", "/nowhere/agent"]);
    assert_eq!((missing.code, missing.stderr.lines().count()), (127, 1), "{}", missing.stderr);
    let path = machine.path("not-executable");
    std::fs::write(&path, "text").unwrap();
    assert_eq!(machine.run(&["run", "--", &text(&path)]).code, 126);
    assert_eq!(machine.run(&["run", "agent"]).code, 2, "the agent stands behind --");
    assert!(!machine.ledger().exists());
}

#[test]
fn a_signal_to_us_reaches_the_agent_once_and_its_own_end_by_a_signal_is_128_and_that() {
    let machine = Machine::new("one");
    for (number, name) in [(1, "HUP"), (2, "INT"), (3, "QUIT"), (15, "TERM")] {
        // The shell runs a trap as soon as `read` is interrupted. It has no child: one that it killed before it was a program of its own
        // could live on and keep our pipe open.
        let script =
            format!("trap 'echo got {name}; exit $((40 + {number}))' {name}; echo ready; read line; echo no");
        let mut command = machine.signalled(&["run", "--", "sh", "-c", &script]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let keys = child.stdin.take();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "ready");
        let kill =
            Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().unwrap();
        assert!(kill.success());
        let rest: Vec<String> = lines.map(Result::unwrap).collect();
        assert_eq!(rest, [format!("got {name}")]);
        drop(keys);
        assert_eq!(child.wait().unwrap().code(), Some(40 + number));
    }
    let killed = machine.run(&["run", "--", "sh", "-c", "kill -KILL $$"]);
    assert_eq!(killed.code, 137);
}

#[test]
fn the_terminals_interrupt_reaches_the_agent_once() {
    let machine = Machine::new("one");
    let script =
        "trap 'echo got; count=$((count + 1))' INT; echo ready; read line; read line; echo \"ended $count\"";
    std::fs::write(machine.path("agent.sh"), script).unwrap();
    let burnlog = env!("CARGO_BIN_EXE_burnlog");
    let run = format!("exec '{burnlog}' run -- bash '{}'", text(machine.path("agent.sh")));
    let mut command = default_signals();
    command.args(["script", "-qec", &run, "/dev/null"]).env("HOME", machine.path("home"));
    command.env("RELAYBURN_HOME", machine.path("burn")).env("SHELL", "/bin/sh");
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let (mut keys, shown) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut seen = String::new();
    for line in BufReader::new(shown).lines() {
        let line = line.unwrap();
        match line.trim() {
            "ready" => keys.write_all(b"\x03").unwrap(),
            shown if shown.ends_with("got") => keys.write_all(b"a\nb\n").unwrap(),
            _ => {}
        }
        seen.push_str(&line);
    }
    assert!(seen.contains("ended 1"), "{seen}");
    drop(keys);
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(0), "{seen}");
}

#[test]
fn a_destination_or_a_ledger_that_fails_is_one_line_and_fails_nothing_of_the_agents() {
    let machine = Machine::new("one");
    std::fs::write(machine.path("file"), "in the way").unwrap();
    let nowhere = format!("file:{}/ledger", text(machine.path("file")));
    let script = agent(&machine, "exit 5");
    let away = machine.run(&["run", "--to", &nowhere, "--", "sh", "-c", &script]);
    assert_eq!((away.code, away.stdout.as_str()), (5, "out\n"));
    assert_eq!(away.stderr.lines().count(), 1, "{}", away.stderr);
    assert!(away.stderr.starts_with("errburnlog: not pushed, the local ledger has it"), "{}", away.stderr);
    let to = format!("file:{}", text(machine.path("central")));
    assert!(machine.json(&["push", "--to", &to])["entries"].as_u64().unwrap() >= 3);
    let mut homeless = machine.command(&["run", "--", "sh", "-c", "exit 6"]);
    let ended = Ended::of(homeless.env_remove("HOME").env_remove("RELAYBURN_HOME").output().unwrap());
    assert_eq!(ended.code, 6);
    assert!(ended.stderr.contains("RELAYBURN_HOME"), "{}", ended.stderr);
    let broken = machine.run(&["run", "--store", &nowhere, "--", "sh", "-c", &script]);
    assert_eq!((broken.code, broken.stdout.as_str()), (5, "out\n"));
    assert!(
        broken.stderr.contains("not all was ingested") && broken.stderr.lines().count() == 1,
        "{}",
        broken.stderr
    );
}

#[test]
fn with_json_what_fails_beside_an_agent_is_an_object() {
    let machine = Machine::new("one");
    std::fs::write(machine.path("file"), "in the way").unwrap();
    let nowhere = format!("file:{}/ledger", text(machine.path("file")));
    let object = |ended: &Ended| {
        let lines: Vec<&str> = ended.stderr.lines().collect();
        let [line] = lines[..] else { panic!("one line: {}", ended.stderr) };
        let error: serde_json::Value = serde_json::from_str(line).unwrap();
        error["error"].clone()
    };
    let away = machine.run(&["--json", "run", "--to", &nowhere, "--", "sh", "-c", "exit 5"]);
    assert_eq!(away.code, 5);
    assert!(object(&away)["location"].as_str().unwrap().contains("file"), "{}", away.stderr);
    let broken = machine.run(&["--json", "run", "--store", &nowhere, "--", "sh", "-c", "exit 5"]);
    assert_eq!(broken.code, 5);
    assert!(object(&broken)["kind"].is_string(), "{}", broken.stderr);
    let missing = machine.run(&["--json", "run", "--", "/nowhere/agent"]);
    assert_eq!((missing.code, object(&missing)["location"].as_str()), (127, Some("/nowhere/agent")));
    let mut homeless = machine.command(&["--json", "run", "--", "sh", "-c", "exit 6"]);
    let ended = Ended::of(homeless.env_remove("HOME").env_remove("RELAYBURN_HOME").output().unwrap());
    assert_eq!(ended.code, 6);
    assert!(object(&ended)["message"].as_str().unwrap().contains("RELAYBURN_HOME"), "{}", ended.stderr);
}

#[test]
fn an_ingest_that_is_running_anyway_is_left_to_it() {
    let machine = Machine::new("one");
    let mut watching = machine.command(&["ingest", "--watch", "--json"]);
    let mut watching = watching.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    lines.next().unwrap().unwrap();
    let script = agent(&machine, "exit 0");
    let mut command = machine.command(&["run", "--wait", "0", "--", "sh", "-c", &script]);
    let ended = Ended::of(command.output().unwrap());
    assert_eq!(ended.code, 0);
    assert!(ended.stderr.contains(&format!("process {}", watching.id())), "{}", ended.stderr);
    assert!(lines.next().unwrap().unwrap().contains("\"records\":1"));
    watching.kill().unwrap();
    watching.wait().unwrap();
    assert_eq!(machine.rows(&["turns"]).len(), 1);
}
