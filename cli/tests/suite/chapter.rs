//! The chapter `docs/ephemeral-hosts.md`: its shell blocks run, its YAML and units are read, every command in it exists.

use crate::{Machine, assistant, fixtures, text};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// What stands in the chapter for a database that every host reaches.
const DATABASE: &str = "postgres://burnlog@db.internal/burnlog";

/// The code blocks in a language.
fn blocks(language: &str) -> Vec<String> {
    let chapter = fs::read_to_string(fixtures().join("../docs/ephemeral-hosts.md")).unwrap();
    let (mut blocks, mut block) = (Vec::new(), None::<String>);
    for line in chapter.lines() {
        match (&mut block, line.strip_prefix("```")) {
            (None, Some(opened)) => block = Some(format!("{opened}\n")),
            (Some(text), None) => *text += &(line.to_owned() + "\n"),
            (Some(_), Some(_)) => blocks.extend(block.take()),
            (None, None) => {}
        }
    }
    let of_language = blocks.iter().filter_map(|block| block.strip_prefix(&format!("{language}\n")));
    let found: Vec<String> = of_language.map(str::to_owned).collect();
    assert!(!found.is_empty(), "no block in {language}");
    found
}

/// A machine with `burnlog` and an agent named `claude` on its PATH; the agent writes one session.
fn machine() -> (Machine, String) {
    let machine = Machine::new("one");
    let programs = machine.path("bin");
    fs::create_dir(&programs).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_burnlog"), programs.join("burnlog")).unwrap();
    fs::write(machine.path("said"), assistant("s", "m1", 2, Some("end_turn"))).unwrap();
    let project = machine.project();
    let script = format!("#!/bin/sh\ncat '{}' >> '{}/s.jsonl'\n", text(machine.path("said")), text(project));
    fs::write(programs.join("claude"), script).unwrap();
    fs::set_permissions(programs.join("claude"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", text(programs), std::env::var("PATH").unwrap());
    (machine, path)
}

#[test]
fn the_shell_blocks_run_one_after_another() {
    let (machine, path) = machine();
    let central = format!("file:{}", text(machine.path("central")));
    // One shell for all, as somebody would who follows the chapter.
    let script = format!("set -e\n{}", blocks("sh").concat().replace(DATABASE, &central));
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]).env_clear().env("PATH", path).env("HOME", machine.path("home"));
    let output =
        shell.env("RELAYBURN_HOME", machine.path("burn")).current_dir(machine.path("")).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{script}\n{said}");
    assert!(said.contains(&format!("pushed to {central}: everything")), "{said}");
    assert!(!machine.path("home/.claude/settings.json").exists());
    machine.ok(&["project", "update", "--store", &central]);
    assert_eq!(machine.rows(&["turns", "--store", &central]).len(), 1);
}

#[test]
fn the_yaml_is_what_it_says() {
    let documents: Vec<Value> =
        blocks("yaml").iter().map(|text| serde_yaml_ng::from_str(text).unwrap()).collect();
    let [job, pod, workflow, offline] = &documents[..] else { panic!("{} documents", documents.len()) };
    assert_eq!((&job["kind"], &pod["kind"]), (&"Job".into(), &"Pod".into()));
    let template = &job["spec"]["template"]["spec"];
    for (spec, container) in
        [(template, &template["containers"][0]), (&pod["spec"], &pod["spec"]["initContainers"][0])]
    {
        let words: Vec<&str> =
            container["command"].as_array().unwrap().iter().map(|w| w.as_str().unwrap()).collect();
        let timeout =
            words.iter().position(|word| *word == "--push-timeout").map(|at| words[at + 1]).unwrap();
        let grace = spec["terminationGracePeriodSeconds"].as_u64().unwrap();
        assert!(timeout.parse::<u64>().unwrap() < grace, "the push must fit into the grace period");
        // Every volume that is mounted is there.
        let names = |list: &Value| -> Vec<String> {
            list.as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap().to_owned()).collect()
        };
        let volumes = names(&spec["volumes"]);
        assert!(names(&container["volumeMounts"]).iter().all(|mount| volumes.contains(mount)));
        assert!(names(&container["env"]).iter().all(|name| name.starts_with("RELAYBURN_")));
    }
    for workflow in [workflow, offline] {
        for step in workflow["jobs"]["agent"]["steps"].as_array().unwrap() {
            assert!(step["run"].is_string() ^ step["uses"].is_string(), "{step}");
        }
    }
}

#[test]
fn the_units_are_understood() {
    let folder = tempfile::tempdir().unwrap();
    let mut paths = Vec::new();
    for unit in blocks("ini") {
        let name = unit.lines().next().unwrap().strip_prefix("# ").unwrap();
        let program = env!("CARGO_BIN_EXE_burnlog");
        fs::write(folder.path().join(name), unit.replace("%h/.cargo/bin/burnlog", program)).unwrap();
        paths.push(folder.path().join(name));
        for line in unit.lines().skip(1).filter(|line| !line.is_empty()) {
            assert!(
                line.starts_with('[') || line.split_once('=').is_some_and(|(key, _)| !key.is_empty()),
                "{line}"
            );
        }
    }
    assert_eq!(paths.len(), 3);
    // Where systemd is it says more than we can: keys that it does not know, programs that are not there.
    if Path::new("/usr/bin/systemd-analyze").exists() {
        let mut verify = Command::new("/usr/bin/systemd-analyze");
        let output =
            verify.args(["--user", "--man=no", "verify"]).args(&paths).env("XDG_RUNTIME_DIR", folder.path());
        let output = output.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let ours: Vec<&str> = said.lines().filter(|line| line.contains("burnlog")).collect();
        assert!(output.status.success() && ours.is_empty(), "{said}");
    }
}

#[test]
fn every_command_and_option_in_the_chapter_exists() {
    let machine = Machine::new("one");
    let mut commands = 0;
    for language in ["sh", "yaml", "ini"] {
        for line in blocks(language).concat().lines() {
            let words = line.replace(['[', ']', '"', ','], " ");
            let mut words = words.split_whitespace().skip_while(|word| !is_program(word));
            if words.next().is_none() || line.trim_start().starts_with(['#', '-']) && !line.contains("run:") {
                continue;
            }
            // A command line with --help at its end is parsed up to there: an unknown word fails.
            let words: Vec<&str> = words.take_while(|word| *word != "--").chain(["--help"]).collect();
            let ended = machine.run(&words);
            assert_eq!(ended.code, 0, "{line}\n{}", ended.stderr);
            commands += 1;
        }
    }
    assert!(commands >= 14, "only {commands} commands were found");
}

fn is_program(word: &str) -> bool {
    word == "burnlog" || word.ends_with("/burnlog")
}

#[test]
fn the_sidecar_reads_to_the_end_and_pushes_when_it_is_told_to_stop() {
    let (machine, path) = machine();
    let central = format!("file:{}", text(machine.path("central")));
    let root = text(machine.path("home"));
    let mut command = machine.command(&[
        "run",
        "--to",
        &central,
        "--root",
        &root,
        "--",
        "sh",
        "-c",
        "echo up; exec sleep infinity",
    ]);
    let mut child = command.env("PATH", &path).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    assert_eq!(lines.next().unwrap().unwrap(), "up");
    assert!(Command::new(machine.path("bin/claude")).status().unwrap().success());
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(143));
    machine.ok(&["project", "update", "--store", &central]);
    assert_eq!(machine.rows(&["turns", "--store", &central]).len(), 1);
}
