//! The program as its users meet it: what it prints, how it ends, what it survives. Every test has a HOME of its
//! own; none reads the real one, the clock matters to none, nothing sleeps.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

mod backends;
mod bad_input;
mod bad_ledgers;
mod chapter;
mod crash;
mod erase;
#[cfg(feature = "failpoints")]
mod failpoints;
mod faulty;
mod flips;
mod golden;
mod hooks;
mod imports;
mod laws;
mod lifecycle;
mod many_hosts;
mod matrix;
mod postgres;
mod prices;
mod pushing;
mod remote;
mod restored;
mod running;
mod search;
mod served;
mod storm;
mod transcripts;
mod traps;
mod views;
mod watching;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

/// One machine: a HOME and what burnlog keeps there.
struct Machine {
    folder: TempDir,
    label: &'static str,
}

/// How a command ended.
struct Ended {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Machine {
    fn new(label: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("home")).unwrap();
        Self { folder, label }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    /// Where Claude Code of this machine keeps the sessions of one project.
    fn project(&self) -> PathBuf {
        let folder = self.path("home/.claude/projects/-work-demo");
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// Writes a session file.
    fn session(&self, id: &str, lines: impl AsRef<[u8]>) -> PathBuf {
        let path = self.project().join(format!("{id}.jsonl"));
        std::fs::write(&path, lines).unwrap();
        path
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_burnlog"));
        command.args(arguments).env_clear().current_dir(self.folder.path());
        command.env("HOME", self.path("home")).env("RELAYBURN_HOME", self.path("burn"));
        command.env("RELAYBURN_HOST_NAME", self.label);
        command
    }

    /// A command on which signals have their usual effect, also where whoever started the tests ignores some (`nohup`, a shell's `&`): the
    /// program goes on ignoring what it was told to ignore.
    fn signalled(&self, arguments: &[&str]) -> Command {
        let plain = self.command(arguments);
        let mut command = default_signals();
        command.arg(plain.get_program()).args(plain.get_args()).current_dir(self.folder.path()).env_clear();
        command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.env("PATH", env!("PATH"));
        command
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        Ended::of(self.command(arguments).output().unwrap())
    }

    /// Runs a command that must succeed and returns what it printed.
    #[track_caller]
    fn ok(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments);
        assert_eq!(ended.code, 0, "burnlog {arguments:?}\n{}{}", ended.stdout, ended.stderr);
        ended.stdout
    }

    /// Runs a command with `--json` that must succeed, and parses the one object that it prints.
    #[track_caller]
    fn json(&self, arguments: &[&str]) -> serde_json::Value {
        serde_json::from_str(&self.ok(&[arguments, &["--json"]].concat())).unwrap()
    }

    /// The same for lists: one object a line.
    #[track_caller]
    fn rows(&self, arguments: &[&str]) -> Vec<serde_json::Value> {
        let text = self.ok(&[arguments, &["--json"]].concat());
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[track_caller]
    fn dump(&self) -> String {
        self.ok(&["project", "dump"])
    }

    fn ledger(&self) -> PathBuf {
        self.path("burn/ledger")
    }
}

impl Ended {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// Runs what follows in its place with the usual effect of signals.
fn default_signals() -> Command {
    let mut command = Command::new("env");
    command.arg("--default-signal=HUP,INT,QUIT,TERM");
    command
}

/// The folder of the fixtures.
fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures")
}

/// The HOME of the Claude Code fixtures, as an argument.
fn claude_fixtures() -> String {
    fixtures().join("sessions/claude-code").canonicalize().unwrap().to_str().unwrap().to_owned()
}

/// Copies a folder with all that is in it.
fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Lists the files below a folder, sorted.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}

/// An assistant line of Claude Code.
fn assistant(session: &str, message: &str, output: u64, stop: Option<&str>) -> String {
    let stop = stop.map_or("null".to_owned(), |stop| format!("{stop:?}"));
    format!(
        "{{\"type\":\"assistant\",\"uuid\":\"u-{message}-{output}\",\"sessionId\":\"{session}\",\"timestamp\":\"2026-03-01T10:00:00.000Z\",\
         \"cwd\":\"/work/demo\",\"version\":\"2.1.0\",\"message\":{{\"id\":\"{message}\",\"role\":\"assistant\",\
         \"model\":\"claude-test-1\",\"content\":[{{\"type\":\"text\",\"text\":\"hi\"}}],\"stop_reason\":{stop},\
         \"usage\":{{\"input_tokens\":10,\"output_tokens\":{output}}}}}}}\n"
    )
}

/// Makes sure that a path is text; test folders always are.
fn text(path: impl AsRef<OsStr>) -> String {
    path.as_ref().to_str().unwrap().to_owned()
}
